//! A whole response for a client, folded from events.

use super::{head, input, stop, usage};
use crate::dialect::neutral::{Context, Event, FinishReason, HeldTooMuch, PartKind, Text};
use crate::dialect::usage::Usage;

/// What a response has said so far; texts as they stand in JSON strings.
#[derive(Clone, Debug)]
pub struct Body {
    context: Context,
    id: Vec<u8>,
    model: Vec<u8>,
    blocks: Vec<Block>,
    finish: FinishReason,
    stop_sequence: Option<Vec<u8>>,
    usage: Usage,
    ended: bool,
    held_bytes: usize,
}

#[derive(Clone, Debug)]
struct Block {
    part: usize,
    kind: PartKind<'static>,
    text: Vec<u8>,
    signature: Vec<u8>,
}

/// What a block costs beside its text, for the bound on what is held.
const BLOCK_BYTES: usize = 128;

impl Body {
    /// A response of which nothing has come.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            id: Vec::new(),
            model: Vec::new(),
            blocks: Vec::new(),
            finish: FinishReason::Stop,
            stop_sequence: None,
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
            Event::Open { part, kind } => {
                let kind = owned(kind);
                self.hold(
                    BLOCK_BYTES + if let PartKind::Redacted(data) = &kind { data.inside().len() } else { 0 },
                )?;
                self.blocks.push(Block { part: *part, kind, text: Vec::new(), signature: Vec::new() });
            }
            Event::Delta { part, text } => {
                self.hold(text.inside().len())?;
                if let Some(block) = self.block(*part) {
                    block.text.extend_from_slice(text.inside());
                }
            }
            Event::Signature { part, text } => {
                self.hold(text.inside().len())?;
                if let Some(block) = self.block(*part) {
                    block.signature.extend_from_slice(text.inside());
                }
            }
            Event::Finish { reason, stop_sequence } => {
                self.finish = *reason;
                let sequence = stop_sequence.as_ref().filter(|sequence| !sequence.is_empty());
                self.stop_sequence = sequence.map(|sequence| sequence.inside().to_vec());
            }
            Event::Usage(newer) => self.usage.merge(*newer),
            Event::End => self.ended = true,
            Event::Close { .. } | Event::Ping | Event::Fault(_) => {}
        }
        Ok(())
    }

    fn hold(&mut self, bytes: usize) -> Result<(), HeldTooMuch> {
        self.held_bytes += bytes;
        if self.held_bytes > self.context.held_bytes_max { Err(HeldTooMuch) } else { Ok(()) }
    }

    fn block(&mut self, part: usize) -> Option<&mut Block> {
        self.blocks.iter_mut().rev().find(|block| block.part == part)
    }

    /// Appends the response; false, and nothing is appended, if it has not come to its end.
    pub fn finish(self, out: &mut Vec<u8>) -> bool {
        if !self.ended {
            return false;
        }
        out.push(b'{');
        head(&self.context, &self.id, &self.model, out);
        out.extend_from_slice(b",\"content\":[");
        let mut is_first = true;
        for block in self.blocks.iter().filter(|block| !block.is_empty()) {
            if !std::mem::take(&mut is_first) {
                out.push(b',');
            }
            block.write(out);
        }
        out.extend_from_slice(b"],");
        let has_calls = self.blocks.iter().any(|block| matches!(block.kind, PartKind::ToolCall { .. }));
        stop(self.finish, self.stop_sequence.as_deref(), has_calls, out);
        out.extend_from_slice(b",\"usage\":");
        usage(&self.usage, out);
        out.push(b'}');
        true
    }
}

impl Block {
    /// Whether it says nothing that the client could read.
    fn is_empty(&self) -> bool {
        match self.kind {
            PartKind::Text | PartKind::Refusal => self.text.is_empty(),
            PartKind::Thinking => self.text.is_empty() && self.signature.is_empty(),
            PartKind::Redacted(_) | PartKind::ToolCall { .. } => false,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match &self.kind {
            PartKind::Text | PartKind::Refusal => {
                out.extend_from_slice(b"{\"type\":\"text\",\"text\":");
                Text::escaped(&self.text).quote(out);
            }
            PartKind::Thinking => {
                out.extend_from_slice(b"{\"type\":\"thinking\",\"thinking\":");
                Text::escaped(&self.text).quote(out);
                out.extend_from_slice(b",\"signature\":");
                Text::escaped(&self.signature).quote(out);
            }
            PartKind::Redacted(data) => {
                out.extend_from_slice(b"{\"type\":\"redacted_thinking\",\"data\":");
                data.quote(out);
            }
            PartKind::ToolCall { id, name, is_custom } => {
                out.extend_from_slice(b"{\"type\":\"tool_use\",\"id\":");
                id.quote(out);
                out.extend_from_slice(b",\"name\":");
                name.quote(out);
                out.extend_from_slice(b",\"input\":");
                input(&self.text, *is_custom, out);
            }
        }
        out.push(b'}');
    }
}

fn owned(kind: &PartKind<'_>) -> PartKind<'static> {
    match kind {
        PartKind::Text => PartKind::Text,
        PartKind::Refusal => PartKind::Refusal,
        PartKind::Thinking => PartKind::Thinking,
        PartKind::Redacted(data) => PartKind::Redacted(data.clone().into_owned()),
        PartKind::ToolCall { id, name, is_custom } => PartKind::ToolCall {
            id: id.clone().into_owned(),
            name: name.clone().into_owned(),
            is_custom: *is_custom,
        },
    }
}
