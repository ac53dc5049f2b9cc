//! Responses that are not in the shape that was asked for: read whole, told anew. Rare, so dear is fine; what cannot be
//! converted passes as it came. A stream under the label of something else gets its own.

use super::exchange::Exchange;
use super::heads::number;
use super::rename;
use super::response::Response;
use super::state::Shard;
use crate::dialect::request::Peek;
use crate::dialect::{embeddings, opening, translate as dialects, whole};
use crate::error::{Fault, FaultKind};
use crate::net::buffers::Buffer;
use crate::observe::counters::Counter;
use crate::wire::Step;
use crate::wire::fields::{self, Field};
use crate::wire::head::{self, HeadLimits, Method, ResponseHead};
use crate::wire::records::RecordForm;

/// What a response lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Conversion {
    /// A stream was asked for, a whole body came.
    ToStream,
    /// Vectors in base64 were asked for, arrays of numbers may have come.
    ToBase64,
    /// A response whose ids lead nowhere.
    ToOurIds,
}

/// The conversion that this response may need, by its head alone.
pub(super) fn wanted(exchange: &Exchange, response: &Response, peek: &Peek) -> Option<Conversion> {
    if response.translation.is_some() {
        return None;
    }
    let is_plain = response.head.status == 200
        && !response.head.event_stream
        && !response.is_coded()
        && response.is_json();
    match peek.api {
        _ if is_plain && peek.base64 => Some(Conversion::ToBase64),
        api if is_plain && peek.stream && !peek.list && api.makes_streams() => Some(Conversion::ToStream),
        _ if is_plain && exchange.renames_ids => Some(Conversion::ToOurIds),
        _ => None,
    }
}

/// Converts the response if it should be, and if all of it has come. Its buffer then holds a head and a body as a backend
/// would have sent them that does what it is asked.
pub(super) fn apply(exchange: &mut Exchange, response: &mut Response, peek: &Peek) {
    let shard = &exchange.shard.clone();
    let Some(conversion) = wanted(exchange, response, peek) else { return };
    if !response.decoded.ended {
        shard.numbers.add(Counter::IdsUnchanged, exchange.renames_ids.into());
        return;
    }
    let payload = &response.buffer[response.head.len..];
    let mut body = shard.buffers.with_room(2 * payload.len());
    if exchange.renames_ids && rename::body(exchange, response.lease.backend(), payload, &mut body) {
        let length = Some(body.len() as u64);
        retell(shard, response, &Retold { status: 200, label: b"", length, body: &body });
        body.clear();
    }
    exchange.renames_ids = false; // done: a stream that is made of it has them already
    let payload = &response.buffer[response.head.len..];
    let converted = match conversion {
        Conversion::ToOurIds => false,
        // The chunk with the usage is dropped on its way if the client did not ask for it, as in any stream.
        Conversion::ToStream => {
            let usage = peek.usage_asked || response.asks_usage;
            whole::stream(peek.api, payload, usage, &mut body).is_ok()
        }
        Conversion::ToBase64 => embeddings::floats_to_base64(payload, &mut body).unwrap_or(false),
    };
    let label = match conversion {
        Conversion::ToStream => peek.api.stream().records().media_type(),
        Conversion::ToBase64 | Conversion::ToOurIds => JSON,
    };
    let retold = Retold { status: 200, label, length: Some(body.len() as u64), body: &body };
    if converted && retell(shard, response, &retold) {
        shard.numbers.inc(Counter::ResponsesConverted);
    }
    shard.buffers.put(body);
}

/// Puts a whole response, or an error, into the client's dialect. A stream is left to the relay.
///
/// # Errors
/// The response is none that can be translated: it must not pass as it is.
pub(super) fn translate(shard: &Shard, response: &mut Response) -> Result<(), Fault> {
    let Some(mut translation) = response.translation.take() else { return Ok(()) };
    let is_error = response.is_error();
    if response.head.event_stream && !is_error && !response.is_coded() {
        let (from, ended) = (response.head.len, response.decoded.ended);
        translation.records(&mut response.buffer, from, ended)?;
        let form = translation.call.client.stream().records();
        let is_other = form != translation.call.backend.stream().records();
        response.translation = Some(translation);
        if is_other {
            let body = response.buffer[from..].to_vec();
            let retold = Retold { status: 200, label: form.media_type(), length: None, body: &body };
            if !retell(shard, response, &retold) {
                return Err(Fault::new(
                    FaultKind::BackendMalformed,
                    "the head of the backend's response is too long",
                ));
            }
        }
        return Ok(());
    }
    let payload = &response.buffer[response.head.len..];
    let mut body = shard.buffers.with_room(2 * payload.len());
    let status = response.head.status;
    let retold = match (is_error, response.decoded.ended && !response.is_coded()) {
        (true, is_readable) => {
            let said: &[u8] = if is_readable { payload } else { b"" };
            dialects::fault(translation.call, status, said, &translation.request_id, &mut body);
            Ok((status, JSON))
        }
        (false, true) => {
            let streams = translation.streams;
            let whole = translation.translator.whole(payload, streams, &mut body);
            if translation.base64 && whole.is_ok() {
                let numbers = body.to_vec();
                body.clear();
                if embeddings::floats_to_base64(&numbers, &mut body) != Ok(true) {
                    body.extend_from_slice(&numbers);
                }
            }
            if translation.list && whole.is_ok() {
                body.insert(0, b'[');
                body.push(b']');
            }
            let label = if streams { translation.call.client.stream().records().media_type() } else { JSON };
            whole.map(|()| (200, label)).map_err(|unfit| unfit.0)
        }
        (false, false) => Err("it is too long or in a content coding"),
    };
    let done = match retold {
        Ok((status, label)) => {
            let retold = Retold { status, label, length: Some(body.len() as u64), body: &body };
            match retell(shard, response, &retold) {
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

/// Labels a stream as one that was asked for and comes under another label, or under none. False if too little has come to
/// say whether it is one.
pub(super) fn label(shard: &Shard, response: &mut Response, peek: &Peek) -> bool {
    let is_sse = response.api(peek.api).stream().records() == RecordForm::Sse;
    let is_other = is_sse && peek.stream && peek.api.streams() && response.head.status == 200;
    if !is_other || response.head.event_stream || response.is_coded() {
        return true;
    }
    match opening::is_stream(&response.buffer[response.head.len..]) {
        Some(true) => {
            let payload = response.buffer[response.head.len..].to_vec();
            let retold = Retold { status: 200, label: EVENT_STREAM, length: None, body: &payload };
            if retell(shard, response, &retold) {
                shard.numbers.inc(Counter::ResponsesConverted);
            }
            true
        }
        Some(false) => true,
        None => {
            response.decoded.ended || response.buffer.len() - response.head.len > opening::FRONT_BYTES_MAX
        }
    }
}

/// What takes the place of a backend's body.
pub(super) struct Retold<'a> {
    pub(super) status: u16,
    /// Its media type; empty for a body that keeps the backend's.
    pub(super) label: &'static [u8],
    /// Absent for a body that is framed as the backend's was.
    pub(super) length: Option<u64>,
    pub(super) body: &'a [u8],
}

/// Puts a body behind a head that fits it. False if that head would be too long.
pub(super) fn retell(shard: &Shard, response: &mut Response, retold: &Retold<'_>) -> bool {
    let Retold { status, label, length, body } = *retold;
    let mut told = shard.buffers.with_room(response.head.len + HEAD_ROOM + body.len());
    told.extend_from_slice(b"HTTP/1.1 ");
    number(&mut told, status.into());
    told.extend_from_slice(b" OK\r\n");
    if !label.is_empty() {
        told.extend_from_slice(b"content-type: ");
        told.extend_from_slice(label);
        told.extend_from_slice(b"\r\n");
    }
    if let Some(length) = length {
        told.extend_from_slice(b"content-length: ");
        number(&mut told, length);
        told.extend_from_slice(b"\r\n");
    }
    for line in fields::lines(response.head.fields.of(&response.buffer)) {
        let is_ours = match fields::classify(line.name) {
            // A body of our own is in no coding, whatever the backend's was in.
            Field::ContentType | Field::ContentEncoding => !label.is_empty(),
            Field::ContentLength | Field::TransferEncoding => length.is_some(),
            _ => false,
        };
        if !is_ours {
            told.extend_from_slice(line.raw);
        }
    }
    told.extend_from_slice(b"\r\n");
    let limits = shard.head_limits();
    let limits = HeadLimits { bytes: limits.bytes + HEAD_ROOM, lines: limits.lines + 1, ..limits };
    let Ok(Step::Done(head)) = head::response(&told, &mut 0, &limits, Method::Post) else {
        shard.buffers.put(told);
        return false;
    };
    told.extend_from_slice(body);
    let is_stream = if label.is_empty() { response.head.event_stream } else { head.records.is_some() };
    // Its version decided too what its `Connection` line means.
    let (keep_alive, keep_alive_timeout) = (response.head.keep_alive, response.head.keep_alive_timeout);
    response.head = ResponseHead { event_stream: is_stream, ..head };
    (response.head.keep_alive, response.head.keep_alive_timeout) = (keep_alive, keep_alive_timeout);
    let buffer: Buffer = std::mem::replace(&mut response.buffer, told);
    shard.buffers.put(buffer);
    true
}

pub(super) const EVENT_STREAM: &[u8] = b"text/event-stream; charset=utf-8";
/// The media type of everything else.
pub(super) const JSON: &[u8] = b"application/json";

/// Room for the lines of our own.
const HEAD_ROOM: usize = 256;
