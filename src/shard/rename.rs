//! Ids of responses on their way to a client: the backend's own become those that lead back to it (`policy::auth::ids`).
//!
//! Only where a model has several backends to make them. A stream is searched for the few events that say one; they are
//! written anew, everything else stays as it is. Of an event that is too long to be held, the beginning is looked into.

use super::exchange::Exchange;
use super::refer;
use super::relay::inspect::Inspector;
use super::response::Response;
use crate::dialect::response_ids;
use crate::net::buffers::Buffer;
use crate::observe::counters::Counter;
use crate::units::{BackendId, Span};
use crate::wire::{json, sse};

/// Appends a whole response with its ids renamed; `false`, and nothing, if there is none to rename.
pub(super) fn body(exchange: &Exchange, backend: BackendId, body: &[u8], out: &mut Buffer) -> bool {
    let found = response_ids::in_body(body);
    let renamed = found.as_slice().iter().filter_map(|span| rename(exchange, backend, body, *span)).collect();
    splice(body, renamed, out)
}

/// Renames the ids in what has come of a stream, behind `start`: in whole events, and in what will be passed on of others.
#[inline]
pub(super) fn events(
    exchange: &Exchange,
    inspector: &Inspector,
    response: &Response,
    buffer: &mut Buffer,
    start: usize,
) {
    if inspector.renames {
        rename_events(exchange, inspector, response, buffer, start);
    }
}

fn rename_events(
    exchange: &Exchange,
    inspector: &Inspector,
    response: &Response,
    buffer: &mut Buffer,
    start: usize,
) {
    let payload = &buffer[start..];
    let mut at = 0;
    if inspector.is_mid_event() {
        let Some(end) = sse::next_boundary(payload, 0) else { return };
        at = end;
    }
    let boundary = at + sse::last_boundary(&payload[at..]);
    let is_passed = response.decoded.ended || payload.len() - boundary > inspector.event_bytes_max();
    let payload = if is_passed { payload } else { &payload[..boundary] };
    let mut renamed = Vec::new();
    while let Some(event) = response_ids::next_event(payload, at) {
        for span in response_ids::in_event(event.of(payload)).as_slice() {
            let span = span.shifted(start + event.start);
            renamed.extend(rename(exchange, response.lease.backend(), buffer, span));
        }
        at = event.end;
    }
    if renamed.is_empty() {
        return;
    }
    let mut out = exchange.shard.buffers.with_room(buffer.len() + renamed.len() * 256);
    splice(buffer, renamed, &mut out);
    exchange.shard.buffers.put(std::mem::replace(buffer, out));
}

/// The string to stand in the place of an id.
fn rename(exchange: &Exchange, backend: BackendId, bytes: &[u8], span: Span) -> Option<(Span, Vec<u8>)> {
    let shard = &exchange.shard;
    let maker = shard.plan.backend(backend).maker;
    let (ids, id) = (shard.plan.ids.as_ref()?, json::string(span.of(bytes))?);
    let mut text = b"\"".to_vec();
    if !ids.seal(maker, refer::owner(shard, exchange.key), id.as_bytes(), &mut text) {
        shard.numbers.inc(Counter::IdsUnchanged);
        return None;
    }
    text.push(b'"');
    Some((span, text))
}

fn splice(bytes: &[u8], renamed: Vec<(Span, Vec<u8>)>, out: &mut Buffer) -> bool {
    let edits: Vec<(Span, &[u8])> = renamed.iter().map(|(span, text)| (*span, text.as_slice())).collect();
    if !edits.is_empty() {
        json::splice(out, bytes, &edits);
    }
    !edits.is_empty()
}
