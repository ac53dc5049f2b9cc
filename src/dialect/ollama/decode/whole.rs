//! A backend's whole response.

use super::events::Events;
use crate::dialect::Unfit;
use crate::dialect::neutral::{Context, Event, Object};
use crate::wire::json::{self, ValueKind};
use crate::wire::ndjson;
use crate::wire::records::RecordForm;

/// Decodes a whole response into the events of its stream: it is the one line of a stream that has one. A server that streams
/// although nobody asked for that sends several.
///
/// # Errors
/// It has no text: it is an error, or another API's response.
pub fn body(context: &Context, body: &[u8], sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Unfit> {
    let first = ndjson::next_boundary(body, 0).unwrap_or(body.len());
    let is_several = || !body[first..].trim_ascii().is_empty() && json::is_object(&body[..first]);
    if first < body.len() && is_several() {
        return lines(context, body, sink);
    }
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

/// A stream as a body. One with an error in it is none.
fn lines(context: &Context, body: &[u8], sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Unfit> {
    let mut events = Events::new(context);
    for line in RecordForm::Ndjson.records(body, true) {
        events.record(None, line.of(body).trim_ascii(), sink);
    }
    match events.is_whole() {
        true => Ok(()),
        false => Err(Unfit("the response is not done")),
    }
}
