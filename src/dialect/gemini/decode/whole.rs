//! A backend's whole response.

use super::events::Events;
use super::pieces;
use crate::dialect::Unfit;
use crate::dialect::neutral::{Context, Event, Object};

/// Decodes a whole response, or the list of a stream's pieces, into the events of its stream.
///
/// # Errors
/// It has no candidate, and no word of a prompt that was blocked.
pub fn body(context: &Context, body: &[u8], sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Unfit> {
    let mut said = false;
    for response in pieces(body)? {
        let response = Object::read(response)?;
        if response.get("error").is_some() {
            return Err(Unfit("the body is an error"));
        }
        said |= response.elements("candidates").next().is_some_and(|candidate| candidate.is_ok())
            || response.get("promptFeedback").is_some();
    }
    if !said {
        return Err(Unfit("there is no candidate"));
    }
    let mut events = Events::new(context);
    events.record(None, body, sink);
    events.end_whole(sink);
    match events.is_whole() {
        true => Ok(()),
        false => Err(Unfit("the model's response could not be read by its provider, or is none of this API")),
    }
}
