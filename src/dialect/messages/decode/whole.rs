//! A backend's whole response.

use super::events::is_empty;
use super::finish_reason;
use crate::dialect::Unfit;
use crate::dialect::neutral::{Context, Event, Object, PartKind, Text};
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
