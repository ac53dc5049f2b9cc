//! A stream of events for a client.

use std::collections::VecDeque;

use super::{head, input, stop, usage};
use crate::dialect::neutral::{Context, Event, FinishReason, HeldTooMuch, PartKind, Text};
use crate::dialect::number;
use crate::dialect::usage::Usage;
use crate::wire::json;

/// Encoder of one stream.
///
/// Blocks are told one after the other, numbered from 0 without gaps: what another part says meanwhile is held back.
/// Text and thoughts get a block with their first byte, so that there are no empty ones. Why the model stopped is told at the
/// end, as usage may come after it and belongs into the same event.
#[derive(Clone, Debug)]
pub struct Events {
    context: Context,
    started: bool,
    /// The end, or a fault: nothing is told any more.
    over: bool,
    /// The blocks that are open for the backend or not told yet; the first one is open for the client.
    blocks: VecDeque<Block>,
    /// The number of the next block.
    index: usize,
    held_bytes: usize,
    has_calls: bool,
    finish: FinishReason,
    stop_sequence: Option<Vec<u8>>,
    usage: Usage,
}

/// One block. Its texts stand as they do between the quotes of a JSON string.
#[derive(Clone, Debug)]
struct Block {
    part: usize,
    kind: BlockKind,
    /// Whether the client knows of it.
    is_started: bool,
    /// The backend is done with it.
    is_closed: bool,
    /// What it said and was not told.
    held: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Clone, Debug)]
enum BlockKind {
    Text,
    Thinking,
    Redacted(Vec<u8>),
    Call {
        id: Vec<u8>,
        name: Vec<u8>,
        is_custom: bool,
        /// Whether its arguments are an object as far as seen, so that they can be told as they come.
        is_object: bool,
    },
}

/// What a block costs beside its text, for the bound on what is held.
const BLOCK_BYTES: usize = 128;

impl Events {
    /// The encoder of a stream that begins.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            started: false,
            over: false,
            blocks: VecDeque::new(),
            index: 0,
            held_bytes: 0,
            has_calls: false,
            finish: FinishReason::Stop,
            stop_sequence: None,
            usage: Usage::default(),
        }
    }

    /// Appends what a client is to hear of an event, whole records only.
    ///
    /// # Errors
    /// What has to be held back is more than may be.
    pub fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        if self.over {
            return Ok(());
        }
        match event {
            Event::Start { id, model } => self.start(id.inside(), model.inside(), out),
            Event::Open { part, kind } => self.open(*part, kind, out)?,
            Event::Delta { part, text } => self.delta(*part, text.inside(), out)?,
            Event::Signature { part, text } => self.signature(*part, text.inside(), out)?,
            Event::Close { part } => self.close(*part, out),
            Event::Finish { reason, stop_sequence } => {
                self.finish = *reason;
                let sequence = stop_sequence.as_ref().filter(|sequence| !sequence.is_empty());
                self.stop_sequence = sequence.map(|sequence| sequence.inside().to_vec());
            }
            Event::Usage(newer) => self.usage.merge(*newer),
            Event::Ping => self.keep_alive(out),
            Event::Fault(record) => {
                self.over = true;
                out.extend_from_slice(b"event: error\ndata: ");
                let status = record.status.unwrap_or(500);
                super::fault(record, status, &self.context.request_id, out);
                out.extend_from_slice(b"\n\n");
            }
            Event::End => self.end(out),
        }
        Ok(())
    }

    /// Appends a record that says only that the stream lives. Clients take it at any time, before the message starts too.
    pub fn keep_alive(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
    }

    fn start(&mut self, id: &[u8], model: &[u8], out: &mut Vec<u8>) {
        if self.started {
            return;
        }
        self.started = true;
        out.extend_from_slice(b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{");
        head(&self.context, id, model, out);
        out.extend_from_slice(b",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":");
        usage(&self.usage, out);
        out.extend_from_slice(b"}}\n\n");
    }

    fn open(&mut self, part: usize, kind: &PartKind<'_>, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        self.start(b"", b"", out);
        let mut size = BLOCK_BYTES;
        let kind = match kind {
            PartKind::Text | PartKind::Refusal => BlockKind::Text,
            PartKind::Thinking => BlockKind::Thinking,
            PartKind::Redacted(data) => {
                size += data.inside().len();
                BlockKind::Redacted(data.inside().to_vec())
            }
            PartKind::ToolCall { id, name, is_custom } => {
                self.has_calls = true;
                size += id.inside().len() + name.inside().len();
                let (id, name) = (id.inside().to_vec(), name.inside().to_vec());
                BlockKind::Call { id, name, is_custom: *is_custom, is_object: false }
            }
        };
        if !self.blocks.is_empty() {
            self.hold(size)?;
        }
        let (held, signature) = (Vec::new(), Vec::new());
        self.blocks.push_back(Block { part, kind, is_started: false, is_closed: false, held, signature });
        if self.blocks.len() == 1 {
            self.begin(out);
        }
        Ok(())
    }

    fn hold(&mut self, bytes: usize) -> Result<(), HeldTooMuch> {
        self.held_bytes += bytes;
        if self.held_bytes > self.context.held_bytes_max { Err(HeldTooMuch) } else { Ok(()) }
    }

    fn delta(&mut self, part: usize, text: &[u8], out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        if text.is_empty() {
            return Ok(());
        }
        let Some(at) = self.blocks.iter().position(|block| block.part == part && !block.is_closed) else {
            return Ok(());
        };
        if at == 0 && self.tell(text, out) {
            return Ok(());
        }
        self.blocks[at].held.extend_from_slice(text);
        self.hold(text.len())
    }

    /// Tells a text of the first block; false if it has to be held.
    fn tell(&mut self, text: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(block) = self.blocks.front_mut() else { return true };
        match &mut block.kind {
            BlockKind::Redacted(_) => return true,
            BlockKind::Call { is_custom: true, .. } => return false,
            BlockKind::Call { is_object, .. } if !*is_object => {
                // Blanks in front change nothing; anything but an object has to be seen whole.
                match first_byte(if block.held.is_empty() { text } else { &block.held }) {
                    Some(b'{') => *is_object = true,
                    None if first_byte(text) == Some(b'{') => *is_object = true,
                    _ => return false,
                }
                block.held.clear();
            }
            _ => {}
        }
        self.begin_block(out);
        let Some(block) = self.blocks.front() else { return true };
        let (kind, member) = match block.kind {
            BlockKind::Text => ("text_delta", "text"),
            BlockKind::Thinking => ("thinking_delta", "thinking"),
            _ => ("input_json_delta", "partial_json"),
        };
        self.write_delta(kind, member, out, |out| out.extend_from_slice(text));
        true
    }

    fn write_delta(&self, kind: &str, member: &str, out: &mut Vec<u8>, text: impl FnOnce(&mut Vec<u8>)) {
        out.extend_from_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
        );
        number(out, self.index as u64);
        for word in [",\"delta\":{\"type\":\"", kind, "\",\"", member, "\":\""] {
            out.extend_from_slice(word.as_bytes());
        }
        text(out);
        out.extend_from_slice(b"\"}}\n\n");
    }

    fn signature(&mut self, part: usize, text: &[u8], out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        let at = self.blocks.iter().position(|block| {
            block.part == part && !block.is_closed && matches!(block.kind, BlockKind::Thinking)
        });
        match at {
            Some(0) if !text.is_empty() => {
                self.begin_block(out);
                self.write_delta("signature_delta", "signature", out, |out| out.extend_from_slice(text));
                Ok(())
            }
            Some(at) => {
                self.blocks[at].signature.extend_from_slice(text);
                self.hold(text.len())
            }
            None => Ok(()),
        }
    }

    fn close(&mut self, part: usize, out: &mut Vec<u8>) {
        let block = self.blocks.iter_mut().find(|block| block.part == part && !block.is_closed);
        let Some(block) = block else { return };
        block.is_closed = true;
        self.advance(out);
    }

    /// Ends the first block and those behind it as far as they are closed; the next one becomes the client's.
    fn advance(&mut self, out: &mut Vec<u8>) {
        while self.blocks.front().is_some_and(|block| block.is_closed) {
            self.finish_call(out);
            let Some(block) = self.blocks.pop_front() else { return };
            if block.is_started {
                out.extend_from_slice(
                    b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":",
                );
                number(out, self.index as u64);
                out.extend_from_slice(b"}\n\n");
                self.index += 1;
            }
            self.begin(out);
            if self.blocks.len() <= 1 && self.blocks.front().is_none_or(|block| block.held.is_empty()) {
                self.held_bytes = 0;
            }
        }
    }

    /// What is left of a call's arguments: those that do not begin like an object.
    fn finish_call(&mut self, out: &mut Vec<u8>) {
        let Some(block) = self.blocks.front_mut() else { return };
        let BlockKind::Call { is_custom, .. } = block.kind else { return };
        let held = std::mem::take(&mut block.held);
        if held.is_empty() && !is_custom {
            return;
        }
        let mut object = Vec::with_capacity(held.len() + 16);
        input(&held, is_custom, &mut object);
        if object != b"{}" {
            self.write_delta("input_json_delta", "partial_json", out, |out| json::escape_bytes(out, &object));
        }
    }

    /// Tells what the block that is now the first one has said so far.
    fn begin(&mut self, out: &mut Vec<u8>) {
        let Some(block) = self.blocks.front_mut() else { return };
        let (held, signature) = (std::mem::take(&mut block.held), std::mem::take(&mut block.signature));
        if matches!(block.kind, BlockKind::Call { .. } | BlockKind::Redacted(_)) {
            self.begin_block(out);
        }
        if !held.is_empty()
            && !self.tell(&held, out)
            && let Some(block) = self.blocks.front_mut()
        {
            block.held = held;
        }
        if !signature.is_empty() {
            self.begin_block(out);
            self.write_delta("signature_delta", "signature", out, |out| out.extend_from_slice(&signature));
        }
    }

    /// Makes the first block known, if it is not.
    fn begin_block(&mut self, out: &mut Vec<u8>) {
        let Some(block) = self.blocks.front_mut() else { return };
        if std::mem::replace(&mut block.is_started, true) {
            return;
        }
        out.extend_from_slice(
            b"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":",
        );
        number(out, self.index as u64);
        out.extend_from_slice(b",\"content_block\":");
        match &block.kind {
            BlockKind::Text => out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"\"}"),
            BlockKind::Thinking => {
                out.extend_from_slice(b"{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}");
            }
            BlockKind::Redacted(data) => {
                out.extend_from_slice(b"{\"type\":\"redacted_thinking\",\"data\":");
                Text::escaped(data).quote(out);
                out.push(b'}');
            }
            BlockKind::Call { id, name, .. } => {
                out.extend_from_slice(b"{\"type\":\"tool_use\",\"id\":");
                Text::escaped(id).quote(out);
                out.extend_from_slice(b",\"name\":");
                Text::escaped(name).quote(out);
                out.extend_from_slice(b",\"input\":{}}");
            }
        }
        out.extend_from_slice(b"}\n\n");
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.start(b"", b"", out);
        self.blocks.iter_mut().for_each(|block| block.is_closed = true);
        self.advance(out);
        self.over = true;
        out.extend_from_slice(b"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{");
        stop(self.finish, self.stop_sequence.as_deref(), self.has_calls, out);
        out.extend_from_slice(b"},\"usage\":");
        usage(&self.usage, out);
        out.extend_from_slice(b"}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }
}

/// The first byte of a text in escapes that is no blank.
fn first_byte(text: &[u8]) -> Option<u8> {
    let mut rest = text;
    loop {
        rest = match rest {
            [b' ', rest @ ..] | [b'\\', b'n' | b'r' | b't', rest @ ..] => rest,
            [first, ..] => return Some(*first),
            [] => return None,
        };
    }
}
