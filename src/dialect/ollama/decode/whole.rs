//! A backend's whole response, and its errors.

use super::events::Events;
use crate::dialect::Unfit;
use crate::dialect::neutral::{Context, Event, FaultRecord, Json, Object, Text};
use crate::wire::json::ValueKind;

/// Decodes a whole response into the events of its stream: it is the one line of a stream that has one.
///
/// # Errors
/// It has no text: it is an error, or another API's response.
pub fn body(context: &Context, body: &[u8], sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Unfit> {
    let object = Object::read(body)?;
    if object.get("error").is_some() {
        return Err(Unfit("the body is an error"));
    }
    let has_text = object.of_kind("message", ValueKind::Object).is_some()
        || object.of_kind("response", ValueKind::String).is_some();
    if !has_text {
        return Err(Unfit("there is neither a message nor a response"));
    }
    let mut events = Events::new(context);
    events.record(None, body, sink);
    match events.is_whole() {
        true => Ok(()),
        false => Err(Unfit("the response is not done")),
    }
}

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
