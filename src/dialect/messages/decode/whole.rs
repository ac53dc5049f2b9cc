//! A backend's whole response, and its errors.

use super::events::is_empty;
use super::finish_reason;
use crate::dialect::Unfit;
use crate::dialect::neutral::{Context, Event, FaultRecord, Json, Object, PartKind, Text};
use crate::dialect::usage::Usage;
use crate::wire::json::{self, ValueKind};

/// Decodes a whole response into the events of its stream.
///
/// # Errors
/// It is no message with content.
pub fn body(context: &Context, body: &[u8], sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Unfit> {
    let message = Object::read(body)?;
    if message.get("error").is_some() || message.says("type", "error") {
        return Err(Unfit("the body is an error"));
    }
    let content = message.of_kind("content", ValueKind::Array).ok_or(Unfit("there is no list 'content'"))?;
    let mut blocks = Vec::new();
    for element in json::elements(content) {
        blocks.push(Object::read(element?.0.of(content))?);
    }
    let text = |name: &str| message.text(name).unwrap_or_default();
    sink(Event::Start { id: text("id"), model: text("model") });
    let mut teller = Teller { context, parts: 0, calls: 0, scratch: Vec::new() };
    blocks.iter().for_each(|block| teller.tell(block, sink));
    let reason = finish_reason(&text("stop_reason"), teller.calls > 0);
    sink(Event::Finish { reason, stop_sequence: message.text("stop_sequence") });
    if let Some(Ok(Some(usage))) = message.of_kind("usage", ValueKind::Object).map(Usage::read) {
        sink(Event::Usage(usage));
    }
    sink(Event::End);
    Ok(())
}

/// Tells the blocks of a message.
struct Teller<'c> {
    context: &'c Context,
    parts: usize,
    calls: usize,
    scratch: Vec<u8>,
}

impl Teller<'_> {
    fn tell(&mut self, block: &Object<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let text = |name: &str| block.text(name).unwrap_or_default();
        let part = self.parts;
        let (kind, said, seal) = match text("type").inside() {
            b"text" => (PartKind::Text, text("text"), Text::default()),
            b"thinking" => (PartKind::Thinking, text("thinking"), text("signature")),
            b"redacted_thinking" => (PartKind::Redacted(text("data")), Text::default(), Text::default()),
            b"tool_use" => {
                self.calls += 1;
                let id = Some(text("id")).filter(|id| !id.is_empty()).unwrap_or_else(|| {
                    Text::plain(&format!("toolu_{}_{}", self.context.request_id, self.calls))
                });
                self.scratch.clear();
                if let Some(input) = block.get("input").filter(|input| !is_empty(input)) {
                    json::escape_bytes(&mut self.scratch, input);
                }
                let kind = PartKind::ToolCall { id, name: text("name"), is_custom: false };
                (kind, Text::escaped(&self.scratch), Text::default())
            }
            _ => return,
        };
        self.parts += 1;
        sink(Event::Open { part, kind });
        if !said.is_empty() {
            sink(Event::Delta { part, text: said });
        }
        if !seal.is_empty() {
            sink(Event::Signature { part, text: seal });
        }
        sink(Event::Close { part });
    }
}

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
