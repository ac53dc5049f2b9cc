//! A backend's whole response, and its errors.

use super::events::Events;
use crate::dialect::Unfit;
use crate::dialect::neutral::{Context, Event, FaultRecord, Json, Object, Text};
use crate::wire::json::ValueKind;

/// Decodes a whole response into the events of its stream.
///
/// # Errors
/// It has no choice with a message: it is an error, or another API's response.
pub fn body(context: &Context, body: &[u8], sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Unfit> {
    let object = Object::read(body)?;
    if object.get("error").is_some() {
        return Err(Unfit("the body is an error"));
    }
    let has_message = object.elements("choices").next().is_some_and(|choice| {
        let choice = choice.ok().and_then(|(choice, _)| Object::read(choice).ok());
        choice.is_some_and(|choice| choice.of_kind("message", ValueKind::Object).is_some())
    });
    if !has_message {
        return Err(Unfit("there is no choice with a message"));
    }
    // A message says in one piece what the deltas of a stream say in many.
    let mut events = Events::new(context);
    events.record(None, body, sink);
    events.end(sink);
    match events.is_whole() {
        true => Ok(()),
        false => Err(Unfit("the choice has no finish reason")),
    }
}

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
