//! The stage between read and write where a backend speaks another dialect than its client.
//!
//! It stands right behind the transport: what a read brought is replaced by what it says in the client's dialect, and
//! everything after it (metering, limits, ends, heartbeats) sees a stream or a body of the client's own API.

use super::exchange::Exchange;
use crate::dialect::neutral::{Context, HeldTooMuch};
use crate::dialect::request::Peek;
use crate::dialect::stream;
use crate::dialect::translate::{Call, Translated, Translator};
use crate::error::{Fault, FaultKind};
use crate::net::buffers::Buffer;

/// The response of one call on its way into the client's dialect.
pub(super) struct Translation {
    pub(super) call: Call,
    pub(super) translator: Translator,
    /// The client asked for a stream.
    pub(super) streams: bool,
    /// The client wants a list of responses: one is asked for, and is the whole list.
    pub(super) list: bool,
    /// Vectors were asked for in base64.
    pub(super) base64: bool,
    pub(super) request_id: String,
    /// The beginning of a record whose rest has not come.
    rest: Vec<u8>,
    /// What a read says in the client's dialect, kept for its capacity.
    out: Vec<u8>,
    rest_bytes_max: usize,
}

impl Translation {
    /// The translation of the response to a translated request.
    pub(super) fn new(exchange: &Exchange, call: Call, translated: Translated, peek: &Peek) -> Self {
        let shard = &exchange.shard;
        let request_id = String::from_utf8_lossy(exchange.request_id.as_bytes()).into_owned();
        let name = |model| {
            let model = shard.plan.model(model);
            let asked = exchange.naming.as_ref().filter(|_| model.prefix.is_some());
            asked.map_or(&model.name, |naming| &naming.asked).to_string()
        };
        let model = exchange.model.map(name);
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
            streams: peek.stream && !peek.list,
            list: peek.list,
            base64: peek.base64,
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
        let form = self.call.backend.stream().records();
        let translated = match self.rest.is_empty() {
            true => {
                let piece = &buffer[from..];
                let whole = if ended { piece.len() } else { form.last_boundary(piece) };
                self.rest.extend_from_slice(&piece[whole..]);
                self.translator.records(&piece[..whole], ended, &mut self.out)
            }
            false => {
                self.rest.extend_from_slice(&buffer[from..]);
                let whole = if ended { self.rest.len() } else { form.last_boundary(&self.rest) };
                let translated = self.translator.records(&self.rest[..whole], ended, &mut self.out);
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

    /// The stream was cut, and goes on elsewhere: what had come of a record is dropped.
    pub(super) fn go_on(&mut self) {
        self.rest.clear();
    }

    /// Whether a stream that ends by a close may end here: its own sign of an end has come, or is in what was held.
    pub(super) fn may_end(&self) -> bool {
        let rest = &self.rest;
        self.translator.may_end() && stream::is_whole_event(self.call.backend.stream().records(), rest)
            || !rest.is_empty() && stream::ends(self.call.backend, rest)
    }
}

/// The lines of a client's request that speak of its dialect: they go with the members that they belong to.
pub(super) fn is_of_dialect(name: &[u8]) -> bool {
    [&b"anthropic-"[..], b"openai-", b"x-stainless-", b"x-goog-", b"x-amz-"]
        .iter()
        .any(|prefix| name.len() >= prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix))
}
