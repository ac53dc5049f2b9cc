//! A backend's errors: whole bodies, and those inside a stream.

use crate::dialect::neutral::{FaultRecord, Json, Object, Text};

/// Decodes the body of an error.
pub fn fault(status: u16, body: &[u8]) -> FaultRecord<'_> {
    let object = Object::read(body).ok();
    let error = object.as_ref().and_then(|object| object.get("error"));
    FaultRecord { status: Some(status), ..record(error.unwrap_or(body)) }
}

/// What an error says: an object, or as some servers have it a string.
pub(super) fn record(error: Json<'_>) -> FaultRecord<'_> {
    if let Some(message) = Text::of(error) {
        return FaultRecord { message, ..FaultRecord::default() };
    }
    let Ok(object) = Object::read(error) else { return FaultRecord::default() };
    let message = ["message", "detail"].iter().find_map(|name| object.text(name)).unwrap_or_default();
    let details = object.object("details").ok().flatten();
    let code = details.and_then(|details| details.text("error_code")).or_else(|| object.text("code"));
    let kind = object.text("type");
    FaultRecord {
        status: kind.as_ref().and_then(status_of),
        code: code.or_else(|| too_long(&message).then(|| Text::escaped(b"context_length_exceeded"))),
        param: None,
        message,
        kind,
    }
}

/// The status that goes with a type of error.
fn status_of(kind: &Text<'_>) -> Option<u16> {
    Some(match kind.inside() {
        b"invalid_request_error" => 400,
        b"authentication_error" => 401,
        b"billing_error" => 402,
        b"permission_error" => 403,
        b"not_found_error" => 404,
        b"conflict_error" => 409,
        b"request_too_large" => 413,
        b"rate_limit_error" => 429,
        b"api_error" => 500,
        b"timeout_error" => 504,
        b"overloaded_error" => 529,
        _ => return None,
    })
}

/// Whether a message says that the prompt does not fit the model.
fn too_long(message: &Text<'_>) -> bool {
    let words = String::from_utf8_lossy(message.inside()).to_ascii_lowercase();
    words.contains("prompt is too long") || words.contains("exceed context limit")
}
