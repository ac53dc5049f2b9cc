//! A whole response for a client, folded from events.

use super::{call, finish_reason, identity, redacted, said, sealed, usage};
use crate::dialect::neutral::{Context, Event, FinishReason, HeldTooMuch, PartKind, Text};
use crate::dialect::usage::Usage;

/// What a response has said so far; texts as they stand in JSON strings.
#[derive(Clone, Debug)]
pub struct Body {
    context: Context,
    id: Vec<u8>,
    model: Vec<u8>,
    parts: Vec<Part>,
    finish: FinishReason,
    usage: Usage,
    ended: bool,
    held_bytes: usize,
}

#[derive(Clone, Debug)]
struct Part {
    number: usize,
    kind: Kind,
    text: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Kind {
    Text,
    Thinking,
    Redacted,
    Call { id: Vec<u8>, name: Vec<u8>, is_custom: bool },
}

/// What a part costs beside its text, for the bound on what is held.
const PART_BYTES: usize = 128;

impl Body {
    /// A response of which nothing has come.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            id: Vec::new(),
            model: Vec::new(),
            parts: Vec::new(),
            finish: FinishReason::Stop,
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
                self.id = id.inside().to_vec();
                self.model = model.inside().to_vec();
            }
            Event::Open { part, kind } => self.open(*part, kind)?,
            Event::Delta { part, text } => {
                self.hold(text.inside().len())?;
                if let Some(part) = self.part(*part) {
                    part.text.extend_from_slice(text.inside());
                }
            }
            Event::Signature { part, text } => {
                self.hold(text.inside().len())?;
                if let Some(part) = self.part(*part) {
                    part.signature.extend_from_slice(text.inside());
                }
            }
            Event::Finish { reason, .. } => self.finish = *reason,
            Event::Usage(newer) => self.usage.merge(*newer),
            Event::End => self.ended = true,
            Event::Close { .. } | Event::Ping | Event::Fault(_) => {}
        }
        Ok(())
    }

    fn open(&mut self, number: usize, kind: &PartKind<'_>) -> Result<(), HeldTooMuch> {
        let mut text = Vec::new();
        let kind = match kind {
            PartKind::Text | PartKind::Refusal => Kind::Text,
            PartKind::Thinking => Kind::Thinking,
            PartKind::Redacted(data) => {
                text.extend_from_slice(data.inside());
                Kind::Redacted
            }
            PartKind::ToolCall { id, name, is_custom } => {
                let (id, name) = (id.inside().to_vec(), name.inside().to_vec());
                Kind::Call { id, name, is_custom: *is_custom }
            }
        };
        self.hold(PART_BYTES + text.len())?;
        self.parts.push(Part { number, kind, text, signature: Vec::new() });
        Ok(())
    }

    fn hold(&mut self, bytes: usize) -> Result<(), HeldTooMuch> {
        self.held_bytes += bytes;
        if self.held_bytes > self.context.held_bytes_max { Err(HeldTooMuch) } else { Ok(()) }
    }

    fn part(&mut self, number: usize) -> Option<&mut Part> {
        self.parts.iter_mut().rev().find(|part| part.number == number)
    }

    /// Appends the response; false, and nothing is appended, if it has not come to its end.
    pub fn finish(self, out: &mut Vec<u8>) -> bool {
        if !self.ended {
            return false;
        }
        out.extend_from_slice(b"{\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[");
        let start = out.len();
        for part in &self.parts {
            part.write(start, out);
        }
        out.extend_from_slice(b"]},\"finishReason\":\"");
        out.extend_from_slice(finish_reason(self.finish).as_bytes());
        out.extend_from_slice(b"\",\"index\":0}]");
        usage(&self.usage, out);
        identity(&self.context, &self.id, &self.model, out);
        out.push(b'}');
        true
    }
}

impl Part {
    /// Appends it, with a comma where it is not the first one; nothing for a part that says nothing.
    fn write(&self, start: usize, out: &mut Vec<u8>) {
        let comma = |out: &mut Vec<u8>| {
            if out.len() > start {
                out.push(b',');
            }
        };
        match &self.kind {
            Kind::Text | Kind::Thinking => {
                let is_thought = matches!(self.kind, Kind::Thinking);
                if !self.text.is_empty() {
                    comma(out);
                    said(&self.text, is_thought, out);
                }
                if !self.signature.is_empty() && is_thought {
                    comma(out);
                    sealed(&Text::escaped(&self.signature), out);
                }
            }
            Kind::Redacted => {
                comma(out);
                redacted(&Text::escaped(&self.text), out);
            }
            Kind::Call { id, name, is_custom } => {
                comma(out);
                call(id, name, &self.text, *is_custom, out);
            }
        }
    }
}
