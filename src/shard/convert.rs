//! Answers that are not in the shape that was asked for: read whole, told anew. Rare, so dear is fine; what cannot be
//! converted passes as it came. A stream under the label of something else gets its own.

use super::answer::Answer;
use super::respond::number;
use super::settle::Settle;
use super::{Shard, rename};
use crate::dialect::request::Peek;
use crate::dialect::{Api, embeddings, one_shot, opening};
use crate::net::blocks::Block;
use crate::observe::counters::Counter;
use crate::wire::Step;
use crate::wire::fields::{self, Field};
use crate::wire::head::{self, HeadLimits, Method};

/// What an answer lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Conversion {
    /// A stream was asked for, a whole body came.
    ToStream,
    /// Vectors in base64 were asked for, arrays of numbers may have come.
    ToBase64,
    /// A response whose ids lead nowhere.
    ToOurIds,
}

/// The conversion that this answer may need, by its head alone.
pub(super) fn wanted(settle: &Settle, answer: &Answer, peek: &Peek) -> Option<Conversion> {
    if answer.translation.is_some() {
        return None;
    }
    let is_plain =
        answer.head.status == 200 && !answer.head.event_stream && !answer.is_coded() && answer.is_json();
    match peek.api {
        Api::Embeddings if is_plain && peek.base64 => Some(Conversion::ToBase64),
        Api::Chat | Api::Completions | Api::Responses | Api::Messages if is_plain && peek.stream => {
            Some(Conversion::ToStream)
        }
        _ if is_plain && settle.renames => Some(Conversion::ToOurIds),
        _ => None,
    }
}

/// Converts the answer if it should be, and if all of it has come. Its block then holds a head and a body as a backend
/// would have sent them that does what it is asked.
pub(super) fn apply(settle: &mut Settle, answer: &mut Answer, peek: &Peek) {
    let shard = &settle.shard.clone();
    let Some(conversion) = wanted(settle, answer, peek) else { return };
    if !answer.decoded.ended {
        shard.numbers.add(Counter::IdsUnchanged, settle.renames.into());
        return;
    }
    let payload = &answer.block[answer.head.len..];
    let mut body = shard.blocks.with_room(2 * payload.len());
    if settle.renames && rename::body(settle, answer.lease.backend(), payload, &mut body) {
        let length = Some(body.len() as u64);
        retell(shard, answer, &Retold { status: 200, label: b"", length, body: &body });
        body.clear();
    }
    settle.renames = false; // done: a stream that is made of it has them already
    let payload = &answer.block[answer.head.len..];
    let converted = match conversion {
        Conversion::ToOurIds => false,
        // The chunk with the usage is dropped on its way if the client did not ask for it, as in any stream.
        Conversion::ToStream => {
            let usage = peek.usage_asked || answer.asks_usage;
            one_shot::stream(peek.api, payload, usage, &mut body).is_ok()
        }
        Conversion::ToBase64 => embeddings::floats_to_base64(payload, &mut body).unwrap_or(false),
    };
    let label = match conversion {
        Conversion::ToStream => EVENT_STREAM,
        Conversion::ToBase64 | Conversion::ToOurIds => JSON,
    };
    let retold = Retold { status: 200, label, length: Some(body.len() as u64), body: &body };
    if converted && retell(shard, answer, &retold) {
        shard.numbers.inc(Counter::AnswersConverted);
    }
    shard.blocks.put(body);
}

/// Labels a stream as one that was asked for and comes under another label, or under none. False if too little has come to
/// say whether it is one.
pub(super) fn label(shard: &Shard, answer: &mut Answer, peek: &Peek) -> bool {
    let is_other = peek.stream && peek.api.streams() && answer.head.status == 200;
    if !is_other || answer.head.event_stream || answer.is_coded() {
        return true;
    }
    match opening::is_stream(&answer.block[answer.head.len..]) {
        Some(true) => {
            let payload = answer.block[answer.head.len..].to_vec();
            let retold = Retold { status: 200, label: EVENT_STREAM, length: None, body: &payload };
            if retell(shard, answer, &retold) {
                shard.numbers.inc(Counter::AnswersConverted);
            }
            true
        }
        Some(false) => true,
        None => answer.decoded.ended || answer.block.len() - answer.head.len > opening::FRONT_BYTES_MAX,
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
pub(super) fn retell(shard: &Shard, answer: &mut Answer, retold: &Retold<'_>) -> bool {
    let Retold { status, label, length, body } = *retold;
    let mut told = shard.blocks.with_room(answer.head.len + HEAD_ROOM + body.len());
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
    for line in fields::lines(answer.head.fields.of(&answer.block)) {
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
        shard.blocks.put(told);
        return false;
    };
    told.extend_from_slice(body);
    // Its version decided too what its `Connection` line means.
    let (keep_alive, keep_alive_timeout) = (answer.head.keep_alive, answer.head.keep_alive_timeout);
    answer.head = head;
    (answer.head.keep_alive, answer.head.keep_alive_timeout) = (keep_alive, keep_alive_timeout);
    let block: Block = std::mem::replace(&mut answer.block, told);
    shard.blocks.put(block);
    true
}

pub(super) const EVENT_STREAM: &[u8] = b"text/event-stream; charset=utf-8";
/// The media type of everything else.
pub(super) const JSON: &[u8] = b"application/json";

/// Room for the lines of our own.
const HEAD_ROOM: usize = 256;
