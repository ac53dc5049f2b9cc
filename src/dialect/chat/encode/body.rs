//! A whole response for a client, folded from events.

use super::events::head;
use super::{finish_reason, usage};
use crate::dialect::neutral::{Context, Event, FinishReason, HeldTooMuch, PartKind, Text, custom};
use crate::dialect::usage::Usage;

/// What a response has said so far; text as it stands in JSON strings.
#[derive(Clone, Debug)]
pub struct Body {
    context: Context,
    id: Vec<u8>,
    model: Vec<u8>,
    text: Option<Vec<u8>>,
    refusal: Option<Vec<u8>>,
    thinking: Vec<u8>,
    /// `thinking_blocks`, written out, with commas.
    blocks: Vec<u8>,
    /// By the number of the part.
    parts: Vec<Part>,
    finish: Option<FinishReason>,
    usage: Usage,
    ended: bool,
    held_bytes: usize,
}

#[derive(Clone, Debug)]
enum Part {
    Text,
    Refusal,
    /// From where on `thinking` is its own.
    Thinking(usize),
    Other,
    Call {
        id: Vec<u8>,
        name: Vec<u8>,
        arguments: Vec<u8>,
        is_custom: bool,
        is_wrapped: bool,
    },
}

impl Body {
    /// A response of which nothing has come.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            id: Vec::new(),
            model: Vec::new(),
            text: None,
            refusal: None,
            thinking: Vec::new(),
            blocks: Vec::new(),
            parts: Vec::new(),
            finish: None,
            usage: Usage::default(),
            ended: false,
            held_bytes: 0,
        }
    }

    /// Takes an event in. A fault is for the caller to tell: a response with one has no end.
    ///
    /// # Errors
    /// The response is longer than may be held.
    pub fn event(&mut self, event: &Event<'_>) -> Result<(), HeldTooMuch> {
        match event {
            Event::Start { id, model } => {
                self.id.extend_from_slice(id.inside());
                self.model.extend_from_slice(model.inside());
            }
            Event::Open { part, kind } => self.open(*part, kind),
            Event::Delta { part, text } => self.delta(*part, text)?,
            Event::Signature { part, text } => self.signature(*part, text),
            Event::Finish { reason, .. } => self.finish = Some(*reason),
            Event::Usage(usage) => self.usage.merge(*usage),
            Event::End => self.ended = true,
            Event::Close { .. } | Event::Ping | Event::Fault(_) => {}
        }
        Ok(())
    }

    fn open(&mut self, part: usize, kind: &PartKind<'_>) {
        let open = match kind {
            PartKind::Text => {
                self.text.get_or_insert_default();
                Part::Text
            }
            PartKind::Refusal => {
                self.refusal.get_or_insert_default();
                Part::Refusal
            }
            PartKind::Thinking => Part::Thinking(self.thinking.len()),
            PartKind::Redacted(data) => {
                self.comma();
                self.blocks.extend_from_slice(b"{\"type\":\"redacted_thinking\",\"data\":");
                data.quote(&mut self.blocks);
                self.blocks.push(b'}');
                Part::Other
            }
            PartKind::ToolCall { id, name, is_custom } => Part::Call {
                id: id.inside().to_vec(),
                name: name.inside().to_vec(),
                arguments: Vec::new(),
                is_custom: *is_custom,
                is_wrapped: !is_custom && self.context.custom_tools.contains(name),
            },
        };
        if self.parts.len() <= part {
            self.parts.resize(part + 1, Part::Other);
        }
        self.parts[part] = open;
    }

    fn delta(&mut self, part: usize, text: &Text<'_>) -> Result<(), HeldTooMuch> {
        self.held_bytes += text.inside().len();
        if self.held_bytes > self.context.held_bytes_max {
            return Err(HeldTooMuch);
        }
        let place = match self.parts.get_mut(part) {
            Some(Part::Text) => self.text.get_or_insert_default(),
            Some(Part::Refusal) => self.refusal.get_or_insert_default(),
            Some(Part::Thinking(_)) => &mut self.thinking,
            Some(Part::Call { arguments, .. }) => arguments,
            Some(Part::Other) | None => return Ok(()),
        };
        place.extend_from_slice(text.inside());
        Ok(())
    }

    fn signature(&mut self, part: usize, signature: &Text<'_>) {
        let Some(&Part::Thinking(from)) = self.parts.get(part) else { return };
        if signature.is_empty() {
            return;
        }
        self.comma();
        self.blocks.extend_from_slice(b"{\"type\":\"thinking\",\"thinking\":\"");
        self.blocks.extend_from_slice(&self.thinking[from..]);
        self.blocks.extend_from_slice(b"\",\"signature\":");
        signature.quote(&mut self.blocks);
        self.blocks.push(b'}');
    }

    fn comma(&mut self) {
        if !self.blocks.is_empty() {
            self.blocks.push(b',');
        }
    }

    /// Appends the response; false, and nothing is appended, if it has not come to its end.
    pub fn finish(self, out: &mut Vec<u8>) -> bool {
        if !self.ended {
            return false;
        }
        head(&self.context, "chat.completion", &Text::escaped(&self.id), &Text::escaped(&self.model), out);
        out.extend_from_slice(b",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
        string_or_null(self.text.as_deref(), out);
        out.extend_from_slice(b",\"refusal\":");
        string_or_null(self.refusal.as_deref(), out);
        if !self.thinking.is_empty() {
            out.extend_from_slice(b",\"reasoning_content\":");
            string_or_null(Some(&self.thinking), out);
        }
        if !self.blocks.is_empty() {
            out.extend_from_slice(b",\"thinking_blocks\":[");
            out.extend_from_slice(&self.blocks);
            out.push(b']');
        }
        let has_calls = calls(&self.parts, out);
        out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":\"");
        let reason = self.finish.unwrap_or(FinishReason::Stop);
        out.extend_from_slice(finish_reason(reason, has_calls).as_bytes());
        out.extend_from_slice(b"\"}]");
        if self.usage.seen {
            out.extend_from_slice(b",\"usage\":");
            usage(&self.usage, out);
        }
        out.push(b'}');
        true
    }
}

/// Appends the calls of tools as a member, if there are any.
fn calls(parts: &[Part], out: &mut Vec<u8>) -> bool {
    let mut has_calls = false;
    for part in parts {
        let Part::Call { id, name, arguments, is_custom, is_wrapped } = part else { continue };
        let is_custom = *is_custom || *is_wrapped;
        out.extend_from_slice(if has_calls { b",{\"id\":" } else { b",\"tool_calls\":[{\"id\":" });
        has_calls = true;
        Text::escaped(id).quote(out);
        let (kind, input) = if is_custom { ("custom", "input") } else { ("function", "arguments") };
        for word in [",\"type\":\"", kind, "\",\"", kind, "\":{\"name\":"] {
            out.extend_from_slice(word.as_bytes());
        }
        Text::escaped(name).quote(out);
        for word in [",\"", input, "\":"] {
            out.extend_from_slice(word.as_bytes());
        }
        let text = Text::escaped(arguments);
        match arguments.is_empty() && !is_custom {
            true => out.extend_from_slice(b"\"{}\""),
            false if *is_wrapped => custom::unwrap(&text).quote(out),
            false => text.quote(out),
        }
        out.extend_from_slice(b"}}");
    }
    if has_calls {
        out.push(b']');
    }
    has_calls
}

fn string_or_null(text: Option<&[u8]>, out: &mut Vec<u8>) {
    match text {
        Some(text) => Text::escaped(text).quote(out),
        None => out.extend_from_slice(b"null"),
    }
}
