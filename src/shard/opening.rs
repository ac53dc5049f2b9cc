//! Whether a 200 is a response: what its beginning says before anything of it has gone to the client.

use super::convert::{self, JSON, Retold};
use super::response::{Fallback, HOLD_BYTES_MAX, Response};
use super::state::Shard;
use crate::dialect::opening::{self, Verdict};
use crate::dialect::stream::Meter;
use crate::dialect::{Api, error_status, translate};
use crate::error::{Fault, FaultKind};
use crate::plan::Limits;
use crate::units::{Nanos, Span};
use crate::wire::records::RecordForm;
use crate::wire::{event_stream, sse};

/// What the events that have come amount to, in the order in which they may come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Opening {
    /// No event that a client can use.
    Nothing,
    /// Comments, pings, roles: no content yet. The events with data among them.
    Preamble { events: u32 },
    /// Content, or the end of a response without any.
    Content,
    /// An error before any content, or a first event that is none of this API.
    Failed { note: &'static str, event: Span, status: Option<u16> },
}

/// How much of a response has come, for who waits to pass it on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Readiness {
    /// Too little to say what it is.
    Unclear,
    /// A stream whose first events carry nothing. An error may follow, which another backend need not have.
    Preamble { events: u32 },
    /// Enough to begin with.
    Open,
}

/// How long the first events of a stream are held that carry nothing. The bounds are chosen, not measured: a comment that keeps
/// a connection alive, or content of a kind that is not known here, must not wait for long.
#[derive(Clone, Copy, Default)]
pub(super) struct Hold {
    until: Option<Nanos>,
    reads: u32,
}

impl Hold {
    /// Whether a stream with so many first events is held for another read.
    pub(super) fn goes_on(&mut self, events: u32, now: Nanos) -> bool {
        self.reads += 1;
        let until = *self.until.get_or_insert(now.plus(HOLD_MAX));
        now < until && self.reads <= HOLD_READS_MAX && events <= HOLD_EVENTS_MAX
    }
}

/// From the first of them.
const HOLD_MAX: Nanos = Nanos(5_000_000_000);
const HOLD_READS_MAX: u32 = 32;
/// With data. A response of Responses has four to six before its first text.
const HOLD_EVENTS_MAX: u32 = 8;

impl Response {
    /// How a 200 fails before its first content, if it does.
    pub(super) fn failure(&self, api: Api) -> Option<Fault> {
        let note = match self.head.event_stream {
            _ if !self.is_judged(api) => return None,
            false => match opening::body(api, self.payload(), self.decoded.ended) {
                Verdict::Failed(note) => note,
                Verdict::Sound | Verdict::Unclear => return None,
            },
            true => match self.opening(api) {
                Opening::Failed { note, .. } => note,
                _ => return None,
            },
        };
        Some(Fault::new(FaultKind::BackendFailed, note))
    }

    /// Gives a 200 that is an error the status that the error names, and its JSON for a body: from here on it is what it would
    /// have been without the 200.
    pub(super) fn restate(&mut self, shard: &Shard, api: Api) {
        if self.head.status == 400 && error_status::denies_credential(self.payload()) {
            self.head.status = 401;
            return;
        }
        if !matches!(self.head.status, 200..=203) || self.failure(api).is_none() {
            return;
        }
        let (error, named) = match self.head.event_stream {
            true => match self.opening(api) {
                Opening::Failed { event, status, .. } => {
                    (error_data(api.stream().records(), event.of(self.payload())), status)
                }
                _ => return,
            },
            false => (self.payload().to_vec(), None),
        };
        let error = error.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&error); // no JSON has one
        let Some(status) = error_status::of(error).or(named) else { return };
        if convert::retell(
            shard,
            self,
            &Retold { status, label: JSON, length: Some(error.len() as u64), body: error },
        ) {
            self.head.keep_alive &= self.decoded.ended; // what may still come of it is not waited for
            self.decoded.ended = true;
        }
    }

    /// Whether what has come is enough to begin with: of a stream the first content, and of a body the first member, either of
    /// which may be an error; of an error, or a body that will be converted, all of it. With a fallback, of every body all of
    /// it: while the client has nothing, another model can still respond. What is longer than the limits is passed as it is.
    pub(super) fn readiness(
        &self,
        api: Api,
        converts: bool,
        fallback: Fallback,
        limits: &Limits,
    ) -> Readiness {
        let payload = &self.buffer[self.head.len..];
        let is_open = match self.head.event_stream {
            _ if self.decoded.ended || self.is_coded() => true,
            _ if self.is_error() => payload.len() > HOLD_BYTES_MAX,
            true if payload.len() > limits.event_bytes => true,
            true => return self.stream_readiness(api),
            false if converts => payload.len() as u64 > limits.body_bytes,
            false => payload.len() > HOLD_BYTES_MAX || fallback == Fallback::None && !self.is_unclear(api),
        };
        if is_open { Readiness::Open } else { Readiness::Unclear }
    }

    /// How much of a stream has come.
    pub(super) fn stream_readiness(&self, api: Api) -> Readiness {
        match self.opening(api) {
            Opening::Nothing => Readiness::Unclear,
            Opening::Preamble { events } => Readiness::Preamble { events },
            Opening::Content | Opening::Failed { .. } => Readiness::Open,
        }
    }

    /// The same of a stream that is not of server-sent events, by the decoder of its API.
    fn begun(&self, api: Api) -> Opening {
        let ended = self.decoded.ended;
        let begun = translate::begun(api, self.payload(), ended);
        let (event, status) = (begun.failed.unwrap_or_default(), begun.status);
        let failed = |note| Opening::Failed { note, event, status };
        match begun {
            _ if begun.failed.is_some() => failed("the backend's stream began with an error"),
            _ if begun.has_content => Opening::Content,
            _ if ended && begun.records > 0 => failed("the backend's stream ended before any content"),
            _ if ended => failed("the backend's stream ended before its first event"),
            _ if begun.records > 0 => Opening::Preamble { events: begun.records },
            _ => Opening::Nothing,
        }
    }

    /// Whether too little of a body has come to say that it is a response, or what it says of its error.
    pub(super) fn is_unclear(&self, api: Api) -> bool {
        let ended = self.decoded.ended;
        self.is_judged(api)
            && match opening::body(api, self.payload(), ended) {
                Verdict::Unclear => true,
                Verdict::Failed(_) => !ended && opening::may_be_object(self.payload()),
                Verdict::Sound => false,
            }
    }

    /// Whether the beginning can be read, and is of an API whose responses have a known form.
    fn is_judged(&self, api: Api) -> bool {
        let is_binary = self.head.content_type.is_some_and(|span| {
            let value = span.of(&self.buffer);
            let starts =
                |kind: &&[u8]| value.len() >= kind.len() && value[..kind.len()].eq_ignore_ascii_case(kind);
            BINARY.iter().any(starts)
        });
        opening::is_judged(api) && matches!(self.head.status, 200..=203) && !self.is_coded() && !is_binary
    }

    fn payload(&self) -> &[u8] {
        &self.buffer[self.head.len..]
    }

    fn opening(&self, api: Api) -> Opening {
        if api.stream().records() != RecordForm::Sse {
            return self.begun(api);
        }
        let payload = self.payload();
        let mut meter = Meter::new(api, 1, false);
        let mut reached = Opening::Nothing;
        let mut count = 0;
        // At the end of the body, the last event may lack its blank line.
        let rest = match self.decoded.ended {
            true => Some(Span::new(sse::last_boundary(payload), payload.len())),
            false => None,
        };
        for span in sse::events(payload).chain(rest) {
            let event = span.of(payload);
            let found = meter.events(event);
            if meter.errored() {
                let note = "the backend's stream began with an error";
                return Opening::Failed { note, event: span, status: None };
            }
            match opening::event(api, event) {
                Some(Verdict::Failed(_)) if count == 0 && self.is_judged(api) => {
                    let note = "the backend's stream began with no event of this API";
                    return Opening::Failed { note, event: span, status: None };
                }
                Some(_) => {
                    count += 1;
                    reached = Opening::Preamble { events: count };
                }
                None if sse::event(event).comment_only => reached = Opening::Preamble { events: count },
                None => {}
            }
            if found.first_token || meter.done() {
                return Opening::Content;
            }
        }
        let (event, status) = (Span::default(), None);
        match reached {
            Opening::Nothing if self.decoded.ended => {
                Opening::Failed { note: "the backend's stream ended before its first event", event, status }
            }
            Opening::Preamble { .. } if self.decoded.ended && meter.is_cut() => {
                Opening::Failed { note: "the backend's stream ended before any content", event, status }
            }
            reached => reached,
        }
    }
}

/// The JSON of the record in which a stream fails.
fn error_data(form: RecordForm, record: &[u8]) -> Vec<u8> {
    match form {
        RecordForm::Sse => {
            let mut data = Vec::new();
            sse::join_data(record, &mut data);
            data
        }
        RecordForm::Ndjson => record.trim_ascii().to_vec(),
        RecordForm::EventStream => {
            event_stream::message(record).map(|message| message.payload.to_vec()).unwrap_or_default()
        }
    }
}

/// Labels of bodies that are no text: vectors may come as bytes.
const BINARY: [&[u8]; 4] = [b"application/octet-stream", b"audio/", b"image/", b"video/"];
