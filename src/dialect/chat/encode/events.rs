//! A stream of chunks for a client.

use super::{finish_reason, usage};
use crate::dialect::neutral::{Context, Event, FinishReason, HeldTooMuch, PartKind, Text, custom};
use crate::dialect::number;
use crate::dialect::usage::Usage;

/// Encoder of one stream.
///
/// Each chunk is `head`, the delta's members, `tail`. Thoughts go out as `reasoning_content`; a thought with a seal is
/// repeated whole in `thinking_blocks`, so that a client that sends the message back as it was received sends the seal too.
#[derive(Clone, Debug)]
pub struct Events {
    context: Context,
    /// A chunk up to the members of its delta; empty until the response starts.
    head: Vec<u8>,
    /// By the number of the part.
    parts: Vec<Open>,
    calls: usize,
    thoughts: usize,
    /// The thought that is open, kept for its seal.
    thought: Vec<u8>,
    /// Calls of tools for free text that the backend called as functions: their arguments so far, by part.
    wrapped: Vec<(usize, Vec<u8>)>,
    usage: Usage,
}

/// A part that was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Open {
    Text,
    Refusal,
    Thinking,
    Redacted,
    Call { index: usize, is_custom: bool, is_empty: bool },
}

impl Events {
    /// The encoder of a stream that begins.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            head: Vec::new(),
            parts: Vec::new(),
            calls: 0,
            thoughts: 0,
            thought: Vec::new(),
            wrapped: Vec::new(),
            usage: Usage::default(),
        }
    }

    /// Appends what a client is to hear of an event, whole records only.
    ///
    /// # Errors
    /// A thought that has to be kept for its seal is longer than may be held.
    pub fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        match event {
            Event::Start { id, model } => self.start(id, model, out),
            Event::Open { part, kind } => self.open(*part, kind, out),
            Event::Delta { part, text } => self.delta(*part, text, out)?,
            Event::Signature { part, text } => self.signature(*part, text, out),
            Event::Close { part } => self.close(*part, out),
            Event::Finish { reason, .. } => self.finish(*reason, out),
            Event::Usage(usage) => self.usage.merge(*usage),
            Event::Ping => out.extend_from_slice(b": ping\n\n"),
            Event::Fault(record) => {
                out.extend_from_slice(b"data: ");
                super::fault(record, record.status.unwrap_or(502), &self.context.request_id, out);
                out.extend_from_slice(b"\n\n");
            }
            Event::End => self.end(out),
        }
        Ok(())
    }

    fn start(&mut self, id: &Text<'_>, model: &Text<'_>, out: &mut Vec<u8>) {
        self.head.extend_from_slice(b"data: ");
        head(&self.context, "chat.completion.chunk", id, model, &mut self.head);
        self.head.extend_from_slice(b",\"choices\":[");
        self.delta_open(out);
        out.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\"");
        delta_close(out);
    }

    /// Begins a chunk, up to the members of its delta.
    fn delta_open(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":0,\"delta\":{");
    }

    fn open(&mut self, part: usize, kind: &PartKind<'_>, out: &mut Vec<u8>) {
        let open = match kind {
            PartKind::Text => Open::Text,
            PartKind::Refusal => Open::Refusal,
            PartKind::Thinking => {
                self.thought.clear();
                Open::Thinking
            }
            PartKind::Redacted(data) => {
                self.block(out, |out| {
                    out.extend_from_slice(b",\"type\":\"redacted_thinking\",\"data\":");
                    data.quote(out);
                });
                Open::Redacted
            }
            PartKind::ToolCall { id, name, is_custom } => {
                let index = self.calls;
                self.calls += 1;
                let is_wrapped = !is_custom && self.context.custom_tools.contains(name);
                if is_wrapped {
                    self.wrapped.push((part, Vec::new()));
                }
                let is_custom = *is_custom || is_wrapped;
                self.call(index, out, |out| {
                    out.extend_from_slice(b",\"id\":");
                    id.quote(out);
                    let (kind, input) = call_words(is_custom);
                    for word in [",\"type\":\"", kind, "\",\"", kind, "\":{\"name\":"] {
                        out.extend_from_slice(word.as_bytes());
                    }
                    name.quote(out);
                    for word in [",\"", input, "\":\"\"}"] {
                        out.extend_from_slice(word.as_bytes());
                    }
                });
                Open::Call { index, is_custom, is_empty: true }
            }
        };
        if self.parts.len() <= part {
            self.parts.resize(part + 1, Open::Text);
        }
        self.parts[part] = open;
    }

    fn delta(&mut self, part: usize, text: &Text<'_>, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        if text.is_empty() {
            return Ok(());
        }
        let name: &[u8] = match self.parts.get(part) {
            Some(Open::Text) => b"\"content\":",
            Some(Open::Refusal) => b"\"refusal\":",
            Some(Open::Thinking) => {
                if self.thought.len() + text.inside().len() > self.context.held_bytes_max {
                    return Err(HeldTooMuch);
                }
                self.thought.extend_from_slice(text.inside());
                b"\"reasoning_content\":"
            }
            Some(&Open::Call { index, is_custom, .. }) => {
                self.parts[part] = Open::Call { index, is_custom, is_empty: false };
                if let Some((_, held)) = self.wrapped.iter_mut().find(|(wrapped, _)| *wrapped == part) {
                    if held.len() + text.inside().len() > self.context.held_bytes_max {
                        return Err(HeldTooMuch);
                    }
                    held.extend_from_slice(text.inside());
                    return Ok(());
                }
                self.arguments(index, is_custom, text.inside(), out);
                return Ok(());
            }
            Some(Open::Redacted) | None => return Ok(()),
        };
        self.delta_open(out);
        out.extend_from_slice(name);
        text.quote(out);
        delta_close(out);
        Ok(())
    }

    fn signature(&mut self, part: usize, signature: &Text<'_>, out: &mut Vec<u8>) {
        if self.parts.get(part) != Some(&Open::Thinking) || signature.is_empty() {
            return;
        }
        let thought = std::mem::take(&mut self.thought);
        self.block(out, |out| {
            out.extend_from_slice(b",\"type\":\"thinking\",\"thinking\":\"");
            out.extend_from_slice(&thought);
            out.extend_from_slice(b"\",\"signature\":");
            signature.quote(out);
        });
        self.thought = thought;
    }

    /// A call without arguments has the empty object; free text is told in one piece.
    fn close(&mut self, part: usize, out: &mut Vec<u8>) {
        if let Some(at) = self.wrapped.iter().position(|(wrapped, _)| *wrapped == part)
            && let Some(&Open::Call { index, .. }) = self.parts.get(part)
        {
            let (_, held) = self.wrapped.swap_remove(at);
            let text = custom::unwrap(&Text::escaped(&held));
            return self.arguments(index, true, text.inside(), out);
        }
        if let Some(&Open::Call { index, is_custom: false, is_empty: true }) = self.parts.get(part) {
            self.arguments(index, false, b"{}", out);
        }
    }

    fn finish(&mut self, reason: FinishReason, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":0,\"delta\":{},\"finish_reason\":\"");
        out.extend_from_slice(finish_reason(reason, self.calls > 0).as_bytes());
        out.extend_from_slice(b"\"}]}\n\n");
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.context.include_usage && self.usage.seen {
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"],\"usage\":");
            usage(&self.usage, out);
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn arguments(&self, index: usize, is_custom: bool, piece: &[u8], out: &mut Vec<u8>) {
        self.call(index, out, |out| {
            let (kind, input) = call_words(is_custom);
            for word in [",\"", kind, "\":{\"", input, "\":\""] {
                out.extend_from_slice(word.as_bytes());
            }
            out.extend_from_slice(piece);
            out.extend_from_slice(b"\"}");
        });
    }

    /// A chunk with one entry of `tool_calls`.
    fn call(&self, index: usize, out: &mut Vec<u8>, members: impl FnOnce(&mut Vec<u8>)) {
        self.delta_open(out);
        out.extend_from_slice(b"\"tool_calls\":[{\"index\":");
        number(out, index as u64);
        members(out);
        out.extend_from_slice(b"}]");
        delta_close(out);
    }

    /// A chunk with one entry of `thinking_blocks`.
    fn block(&mut self, out: &mut Vec<u8>, members: impl FnOnce(&mut Vec<u8>)) {
        self.delta_open(out);
        out.extend_from_slice(b"\"thinking_blocks\":[{\"index\":");
        number(out, self.thoughts as u64);
        members(out);
        out.extend_from_slice(b"}]");
        delta_close(out);
        self.thoughts += 1;
    }
}

/// Appends what every document of a response begins with, its brace included.
pub(super) fn head(context: &Context, object: &str, id: &Text<'_>, model: &Text<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":\"");
    if !id.inside().starts_with(b"chatcmpl-") {
        out.extend_from_slice(b"chatcmpl-");
    }
    match id.is_empty() {
        true => out.extend_from_slice(context.request_id.as_bytes()),
        false => out.extend_from_slice(id.inside()),
    }
    out.extend_from_slice(b"\",\"object\":\"");
    out.extend_from_slice(object.as_bytes());
    out.extend_from_slice(b"\",\"created\":");
    number(out, context.created);
    out.extend_from_slice(b",\"model\":");
    match model.is_empty() {
        true => Text::plain(&context.model).quote(out),
        false => model.quote(out),
    }
}

/// The type of a call, which is also the name of its object, and the member with what it is called with.
const fn call_words(is_custom: bool) -> (&'static str, &'static str) {
    if is_custom { ("custom", "input") } else { ("function", "arguments") }
}

fn delta_close(out: &mut Vec<u8>) {
    out.extend_from_slice(b"},\"finish_reason\":null}]}\n\n");
}
