//! The stage between read and write where a backend speaks another dialect than its client.
//!
//! It stands right behind the transport: what a read brought is replaced by what it says in the client's dialect, and
//! everything after it (metering, limits, ends, heartbeats) sees a stream or a body of the client's own API.

use super::Shard;
use super::convert::{self, EVENT_STREAM, JSON, Retold};
use super::response::Response;
use super::settle::Settle;
use crate::dialect::neutral::{Context, HeldTooMuch};
use crate::dialect::request::Peek;
use crate::dialect::stream;
use crate::dialect::translate::{self, Call, Translated, Translator};
use crate::error::{Fault, FaultKind};
use crate::net::buffers::Buffer;
use crate::observe::counters::Counter;
use crate::wire::sse;

/// The response of one call on its way into the client's dialect.
pub(super) struct Translation {
    pub(super) call: Call,
    translator: Translator,
    /// The client asked for a stream.
    streams: bool,
    request_id: String,
    /// The beginning of a record whose rest has not come.
    rest: Vec<u8>,
    /// What a read says in the client's dialect, kept for its capacity.
    out: Vec<u8>,
    rest_bytes_max: usize,
}

impl Translation {
    /// The translation of the response to a translated request.
    pub(super) fn new(settle: &Settle, call: Call, translated: Translated, peek: &Peek) -> Self {
        let shard = &settle.shard;
        let request_id = String::from_utf8_lossy(settle.record.request_id.as_bytes()).into_owned();
        let name = |model| {
            let model = shard.plan.model(model);
            let asked = settle.naming.as_ref().filter(|_| model.prefix.is_some());
            asked.map_or(&model.name, |naming| &naming.asked).to_string()
        };
        let model = settle.record.model.map(name);
        let held_bytes_max = shard.plan.limits.held_bytes;
        let context = Context {
            request_id: request_id.clone(),
            model: model.unwrap_or_default(),
            custom_tools: translated.custom_tools,
            created: shard.unix_ms.get() / 1000,
            // The relay counts by it, and drops it for a client that did not ask.
            include_usage: true,
            held_bytes_max,
        };
        Self {
            call,
            translator: Translator::new(call, context),
            streams: peek.stream,
            request_id,
            rest: Vec::new(),
            out: Vec::new(),
            rest_bytes_max: held_bytes_max,
        }
    }

    /// Replaces a piece of the backend's stream, which is in `buffer` from `from` on, by whole records for the client.
    /// `ended`: the transport came to its proper end.
    ///
    /// # Errors
    /// A record, or what has to wait for another one, is longer than may be held.
    pub(super) fn records(&mut self, buffer: &mut Buffer, from: usize, ended: bool) -> Result<(), Fault> {
        self.out.clear();
        let translated = match self.rest.is_empty() {
            true => {
                let piece = &buffer[from..];
                let whole = if ended { piece.len() } else { sse::last_boundary(piece) };
                self.rest.extend_from_slice(&piece[whole..]);
                self.translator.records(&piece[..whole], &mut self.out)
            }
            false => {
                self.rest.extend_from_slice(&buffer[from..]);
                let whole = if ended { self.rest.len() } else { sse::last_boundary(&self.rest) };
                let translated = self.translator.records(&self.rest[..whole], &mut self.out);
                self.rest.drain(..whole);
                translated
            }
        };
        let translated = translated.and_then(|()| match ended {
            true => self.translator.end(&mut self.out),
            false => Ok(()),
        });
        buffer.truncate(from);
        buffer.extend_from_slice(&self.out);
        let is_short = self.rest.len() <= self.rest_bytes_max;
        translated.and(if is_short { Ok(()) } else { Err(HeldTooMuch) }).map_err(|HeldTooMuch| {
            let note = "the backend's stream holds more than can be translated ([limits] held)";
            Fault::new(FaultKind::BackendMalformed, note)
        })
    }

    /// Whether a stream that ends by a close may end here: its own sign of an end has come, or is in what was held.
    pub(super) fn may_end(&self) -> bool {
        let rest = &self.rest;
        self.translator.may_end() && stream::is_whole_event(rest)
            || !rest.is_empty() && stream::ends(self.call.backend, rest)
    }
}

/// Puts a whole response, or an error, into the client's dialect. A stream is left to the relay.
///
/// # Errors
/// The response is none that can be translated: it must not pass as it is.
pub(super) fn apply(shard: &Shard, response: &mut Response) -> Result<(), Fault> {
    let Some(mut translation) = response.translation.take() else { return Ok(()) };
    let is_error = response.is_error();
    if response.head.event_stream && !is_error && !response.is_coded() {
        let (from, ended) = (response.head.len, response.decoded.ended);
        translation.records(&mut response.buffer, from, ended)?;
        response.translation = Some(translation);
        return Ok(());
    }
    let payload = &response.buffer[response.head.len..];
    let mut body = shard.buffers.with_room(2 * payload.len());
    let status = response.head.status;
    let retold = match (is_error, response.decoded.ended && !response.is_coded()) {
        (true, is_readable) => {
            let said: &[u8] = if is_readable { payload } else { b"" };
            translate::fault(translation.call, status, said, &translation.request_id, &mut body);
            Ok((status, JSON))
        }
        (false, true) => {
            let streams = translation.streams;
            let whole = translation.translator.whole(payload, streams, &mut body);
            whole.map(|()| (200, if streams { EVENT_STREAM } else { JSON })).map_err(|unfit| unfit.0)
        }
        (false, false) => Err("it is too long or in a content coding"),
    };
    let done = match retold {
        Ok((status, label)) => {
            let retold = Retold { status, label, length: Some(body.len() as u64), body: &body };
            match convert::retell(shard, response, &retold) {
                true => {
                    shard.numbers.inc(Counter::ResponsesConverted);
                    Ok(())
                }
                false => Err("its head is too long"),
            }
        }
        Err(reason) => Err(reason),
    };
    shard.buffers.put(body);
    done.map_err(|reason| {
        let note = format!("the backend's response could not be translated: {reason}");
        Fault::new(FaultKind::BackendMalformed, note)
    })
}

/// The lines of a client's request that speak of its dialect: they go with the members that they belong to.
pub(super) fn is_of_dialect(name: &[u8]) -> bool {
    [&b"anthropic-"[..], b"openai-", b"x-stainless-", b"x-goog-"]
        .iter()
        .any(|prefix| name.len() >= prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix))
}
