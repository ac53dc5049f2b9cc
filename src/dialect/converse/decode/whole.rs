//! A backend's whole response.

use super::events::Events;
use crate::dialect::Unfit;
use crate::dialect::neutral::{Context, Event, Object};
use crate::wire::json::ValueKind;

/// Decodes a whole response into the events of its stream.
///
/// # Errors
/// It has no message: it is an error, or another API's response; or it holds what cannot be told.
pub fn body(context: &Context, body: &[u8], sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Unfit> {
    let object = Object::read(body)?;
    let message = object.object("output")?.and_then(|output| output.object("message").ok().flatten());
    let message = message.ok_or(Unfit("there is no output with a message"))?;
    let reason = object.text("stopReason").ok_or(Unfit("there is no reason for the stop"))?;
    let mut events = Events::new(context);
    events.start(sink);
    for element in message.elements("content") {
        let (block, kind) = element?;
        if kind == ValueKind::Object && !events.is_over() {
            events.block(&Object::read(block)?, sink);
        }
    }
    if !events.is_over() {
        events.stop(&reason, sink);
    }
    if let Some(usage) = object.get("usage").filter(|_| !events.is_over()) {
        events.usage(usage, sink);
    }
    events.end(sink);
    match events.is_whole() {
        true => Ok(()),
        false => Err(Unfit("a call has no name")),
    }
}
