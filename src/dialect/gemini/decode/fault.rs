//! A backend's errors: whole bodies, and those inside a stream.

use super::pieces;
use crate::dialect::neutral::{FaultRecord, Json, Object, Text};

/// Decodes the body of an error, which may be a list of one.
pub fn fault(status: u16, body: &[u8]) -> FaultRecord<'_> {
    let first = pieces(body).ok().and_then(|pieces| pieces.first().copied()).unwrap_or(body);
    let object = Object::read(first).ok();
    let error = object.as_ref().and_then(|object| object.get("error"));
    FaultRecord { status: Some(status), ..record(error.unwrap_or(first)) }
}

/// What an error says: `google.rpc.Status`, or as some servers have it a string.
pub(super) fn record(error: Json<'_>) -> FaultRecord<'_> {
    if let Some(message) = Text::of(error) {
        return FaultRecord { message, ..FaultRecord::default() };
    }
    let Ok(object) = Object::read(error) else { return FaultRecord::default() };
    let message = ["message", "detail"].iter().find_map(|name| object.text(name)).unwrap_or_default();
    let kind = object.text("status");
    let number = object.unsigned("code").and_then(|code| u16::try_from(code).ok());
    let reason =
        object.elements("details").find_map(|detail| Object::read(detail.ok()?.0).ok()?.text("reason"));
    let code = reason.or_else(|| object.text("code")).or_else(|| kind.clone());
    FaultRecord {
        status: number.filter(|status| (400..600).contains(status)).or_else(|| status_of(kind.as_ref()?)),
        code: if too_long(&message) { Some(Text::escaped(b"context_length_exceeded")) } else { code },
        param: None,
        message,
        kind,
    }
}

/// The status that goes with a word of `google.rpc.Code`.
fn status_of(word: &Text<'_>) -> Option<u16> {
    Some(match word.inside() {
        b"INVALID_ARGUMENT" | b"FAILED_PRECONDITION" | b"OUT_OF_RANGE" => 400,
        b"UNAUTHENTICATED" => 401,
        b"PERMISSION_DENIED" => 403,
        b"NOT_FOUND" => 404,
        b"ABORTED" | b"ALREADY_EXISTS" => 409,
        b"RESOURCE_EXHAUSTED" => 429,
        b"INTERNAL" | b"UNKNOWN" | b"DATA_LOSS" => 500,
        b"UNIMPLEMENTED" => 501,
        b"UNAVAILABLE" => 503,
        b"DEADLINE_EXCEEDED" => 504,
        _ => return None,
    })
}

/// Whether a message says that the prompt does not fit the model.
fn too_long(message: &Text<'_>) -> bool {
    String::from_utf8_lossy(message.inside()).contains("exceeds the maximum number of tokens")
}
