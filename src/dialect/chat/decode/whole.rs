//! A backend's whole response.

use super::events::Events;
use crate::dialect::Unfit;
use crate::dialect::neutral::{Context, Event, Object};
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
