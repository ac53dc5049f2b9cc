//! A backend's errors: whole bodies, and those inside a stream.

use crate::dialect::neutral::{FaultRecord, Json, Object, Text};

/// Decodes the body of an error.
pub fn fault(status: u16, body: &[u8]) -> FaultRecord<'_> {
    let object = Object::read(body).ok();
    let inner = object.as_ref().and_then(|object| object.get("error"));
    FaultRecord { status: Some(status), ..record(inner.unwrap_or(body)) }
}

/// What an error says: an object, or as some servers have it a string.
pub(super) fn record(error: Json<'_>) -> FaultRecord<'_> {
    if let Some(message) = Text::of(error) {
        return FaultRecord { message, ..FaultRecord::default() };
    }
    let Ok(object) = Object::read(error) else { return FaultRecord::default() };
    let words = ["message", "detail", "error"].iter().find_map(|name| object.text(name));
    let number = |name| object.unsigned(name).and_then(|code| u16::try_from(code).ok());
    FaultRecord {
        message: words.unwrap_or_default(),
        kind: object.text("type"),
        code: object.text("code"),
        param: object.text("param"),
        status: number("code").or_else(|| number("status")).filter(|status| (400..600).contains(status)),
    }
}
