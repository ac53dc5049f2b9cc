//! A backend's errors: whole bodies, and those inside a stream.

use crate::dialect::neutral::{FaultRecord, Json, Object, Text};

/// Decodes the body of an error.
pub fn fault(status: u16, body: &[u8]) -> FaultRecord<'_> {
    let object = Object::read(body).ok();
    let inner = object.as_ref().and_then(|object| object.get("error"));
    FaultRecord { status: Some(status), ..record(inner.unwrap_or(body)) }
}

/// What an error says: a string, or as gateways in front of Ollama have it an object.
pub(super) fn record(error: Json<'_>) -> FaultRecord<'_> {
    if let Some(message) = Text::of(error) {
        return FaultRecord { message, ..FaultRecord::default() };
    }
    let Ok(object) = Object::read(error) else { return FaultRecord::default() };
    let words = ["message", "detail", "error"].iter().find_map(|name| object.text(name));
    FaultRecord {
        message: words.unwrap_or_default(),
        kind: object.text("type"),
        code: object.text("code"),
        param: object.text("param"),
        status: None,
    }
}
