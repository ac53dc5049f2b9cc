//! A whole response for a client, folded from events.

use super::{Call, end, head};
use crate::dialect::neutral::{Context, Event, FinishReason, HeldTooMuch, PartKind, Text};
use crate::dialect::ollama::Shape;
use crate::dialect::usage::Usage;

/// A whole response of `/api/chat`.
#[derive(Clone, Debug)]
pub struct Body(Whole);

impl Body {
    /// A response of which nothing has come.
    pub fn new(context: Context) -> Self {
        Self(Whole::new(context, Shape::Chat))
    }

    /// Takes an event in. A fault is for the caller to tell: a response with one has no end.
    ///
    /// # Errors
    /// The response is longer than may be held.
    pub fn event(&mut self, event: &Event<'_>) -> Result<(), HeldTooMuch> {
        self.0.event(event)
    }

    /// Appends the response; false, and nothing is appended, if it has not come to its end.
    pub fn finish(self, out: &mut Vec<u8>) -> bool {
        self.0.finish(out)
    }
}

/// What a response of either endpoint has said so far; text as it stands in JSON strings.
#[derive(Clone, Debug)]
pub(in crate::dialect::ollama) struct Whole {
    context: Context,
    shape: Shape,
    model: Vec<u8>,
    text: Vec<u8>,
    thinking: Vec<u8>,
    /// By the number of the part.
    parts: Vec<Part>,
    finish: Option<FinishReason>,
    usage: Usage,
    is_over: bool,
    held_bytes: usize,
}

#[derive(Clone, Debug)]
enum Part {
    Text,
    Thinking,
    Call(Call),
    Silent,
}

impl Whole {
    pub(in crate::dialect::ollama) fn new(context: Context, shape: Shape) -> Self {
        Self {
            context,
            shape,
            model: Vec::new(),
            text: Vec::new(),
            thinking: Vec::new(),
            parts: Vec::new(),
            finish: None,
            usage: Usage::default(),
            is_over: false,
            held_bytes: 0,
        }
    }

    pub(in crate::dialect::ollama) fn event(&mut self, event: &Event<'_>) -> Result<(), HeldTooMuch> {
        match event {
            Event::Start { model, .. } => self.model.extend_from_slice(model.inside()),
            Event::Open { part, kind } => self.open(*part, kind),
            Event::Delta { part, text } => self.delta(*part, text)?,
            Event::Finish { reason, .. } => self.finish = Some(*reason),
            Event::Usage(usage) => self.usage.merge(*usage),
            Event::End => self.is_over = true,
            Event::Signature { .. } | Event::Close { .. } | Event::Ping | Event::Fault(_) => {}
        }
        Ok(())
    }

    fn open(&mut self, part: usize, kind: &PartKind<'_>) {
        let open = match kind {
            PartKind::Text | PartKind::Refusal => Part::Text,
            PartKind::Thinking => Part::Thinking,
            PartKind::Redacted(_) => Part::Silent,
            PartKind::ToolCall { id, name, is_custom } => Part::Call(Call {
                id: id.inside().to_vec(),
                name: name.inside().to_vec(),
                arguments: Vec::new(),
                is_custom: *is_custom,
            }),
        };
        if self.parts.len() <= part {
            self.parts.resize(part + 1, Part::Silent);
        }
        self.parts[part] = open;
    }

    fn delta(&mut self, part: usize, text: &Text<'_>) -> Result<(), HeldTooMuch> {
        self.held_bytes += text.inside().len();
        if self.held_bytes > self.context.held_bytes_max {
            return Err(HeldTooMuch);
        }
        let place = match self.parts.get_mut(part) {
            Some(Part::Text) => &mut self.text,
            Some(Part::Thinking) => &mut self.thinking,
            Some(Part::Call(call)) => &mut call.arguments,
            Some(Part::Silent) | None => return Ok(()),
        };
        place.extend_from_slice(text.inside());
        Ok(())
    }

    pub(in crate::dialect::ollama) fn finish(self, out: &mut Vec<u8>) -> bool {
        if !self.is_over {
            return false;
        }
        head(&self.context, &self.model, out);
        out.extend_from_slice(match self.shape {
            Shape::Chat => b",\"message\":{\"role\":\"assistant\",\"content\":".as_slice(),
            Shape::Generate => b",\"response\":",
        });
        Text::escaped(&self.text).quote(out);
        if !self.thinking.is_empty() {
            out.extend_from_slice(b",\"thinking\":");
            Text::escaped(&self.thinking).quote(out);
        }
        let calls = self.parts.iter().filter_map(|part| match part {
            Part::Call(call) => Some(call),
            _ => None,
        });
        let mut count = 0;
        for call in calls {
            out.extend_from_slice(if count == 0 { b",\"tool_calls\":[" } else { b"," });
            call.write(count, out);
            count += 1;
        }
        if count > 0 {
            out.push(b']');
        }
        if self.shape == Shape::Chat {
            out.push(b'}');
        }
        end(self.finish, &self.usage, out);
        if self.shape == Shape::Generate {
            out.extend_from_slice(super::NO_CONTEXT);
        }
        out.push(b'}');
        true
    }
}
