//! Whether a 200 is a response: what its beginning says before anything of it has gone to the client.

use super::response::Response;
use crate::dialect::Api;
use crate::dialect::opening::{self, Verdict};
use crate::dialect::stream::Meter;
use crate::error::{Fault, FaultKind};
use crate::wire::sse;

/// What the events that have come amount to, in the order in which they may come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Opening {
    /// No event that a client can use.
    Nothing,
    /// Comments, pings, roles: no content yet.
    Preamble,
    /// Content, or the end of a response without any.
    Content,
    /// An error before any content, or a first event that is none of this API.
    Failed(&'static str),
}

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
                Opening::Failed(note) => note,
                _ => return None,
            },
        };
        Some(Fault::new(FaultKind::BackendFailed, note))
    }

    /// Whether enough of a stream has come to begin with: the first event, with `holds` the first content.
    pub(super) fn has_opened(&self, api: Api, holds: bool) -> bool {
        match self.opening(api) {
            Opening::Nothing => false,
            Opening::Preamble => !holds,
            Opening::Content | Opening::Failed(_) => true,
        }
    }

    /// Whether too little of a body has come to say that it is a response.
    pub(super) fn is_unclear(&self, api: Api) -> bool {
        let ended = self.decoded.ended;
        self.is_judged(api) && opening::body(api, self.payload(), ended) == Verdict::Unclear
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
        let payload = self.payload();
        let mut meter = Meter::new(api, 1, false);
        let mut reached = Opening::Nothing;
        let mut is_first = true;
        // At the end of the body, the last event may lack its blank line.
        let rest = match self.decoded.ended {
            true => Some(&payload[sse::last_boundary(payload)..]),
            false => None,
        };
        for event in sse::events(payload).map(|span| span.of(payload)).chain(rest) {
            let found = meter.events(event);
            if meter.errored() {
                return Opening::Failed("the backend's stream began with an error");
            }
            match opening::event(api, event) {
                Some(Verdict::Failed(_)) if is_first && self.is_judged(api) => {
                    return Opening::Failed("the backend's stream began with no event of this API");
                }
                Some(_) => (reached, is_first) = (Opening::Preamble, false),
                None if sse::event(event).comment_only => reached = Opening::Preamble,
                None => {}
            }
            if found.first_token || meter.done() {
                return Opening::Content;
            }
        }
        match reached {
            Opening::Nothing if self.decoded.ended => {
                Opening::Failed("the backend's stream ended before its first event")
            }
            Opening::Preamble if self.decoded.ended && meter.is_cut() => {
                Opening::Failed("the backend's stream ended before any content")
            }
            reached => reached,
        }
    }
}

/// Labels of bodies that are no text: vectors may come as bytes.
const BINARY: [&[u8]; 4] = [b"application/octet-stream", b"audio/", b"image/", b"video/"];
