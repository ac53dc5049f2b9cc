//! A stream of responses for a client, each a piece of the whole.

use super::{call, finish_reason, identity, redacted, said, sealed, usage};
use crate::dialect::neutral::{Context, Event, FinishReason, HeldTooMuch, PartKind};
use crate::dialect::usage::Usage;

/// Encoder of one stream.
///
/// Texts and thoughts go out as they come, calls when they are whole. Why the model stopped is told at the end with the
/// counts. Records are a line `data: ` each and nothing else: SDKs read no other line.
#[derive(Clone, Debug)]
pub struct Events {
    context: Context,
    /// What follows the part in a piece; empty until the response starts.
    tail: Vec<u8>,
    /// By the number of the part.
    parts: Vec<Open>,
    /// Calls that are not whole.
    calls: Vec<Call>,
    finish: FinishReason,
    usage: Usage,
    held_bytes: usize,
    /// The end, or a fault: nothing is told any more.
    over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Open {
    Text,
    Thinking,
    Other,
}

#[derive(Clone, Debug)]
struct Call {
    part: usize,
    id: Vec<u8>,
    name: Vec<u8>,
    is_custom: bool,
    arguments: Vec<u8>,
}

const HEAD: &[u8] = b"data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[";

impl Events {
    /// The encoder of a stream that begins.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            tail: Vec::new(),
            parts: Vec::new(),
            calls: Vec::new(),
            finish: FinishReason::Stop,
            usage: Usage::default(),
            held_bytes: 0,
            over: false,
        }
    }

    /// Appends what a client is to hear of an event, whole records only.
    ///
    /// # Errors
    /// The arguments of calls that are not whole are more than may be held.
    pub fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        if self.over {
            return Ok(());
        }
        match event {
            Event::Start { id, model } => self.start(id.inside(), model.inside()),
            Event::Open { part, kind } => self.open(*part, kind, out)?,
            Event::Delta { part, text } => self.delta(*part, text.inside(), out)?,
            Event::Signature { part, text } => {
                if self.parts.get(*part) == Some(&Open::Thinking) && !text.is_empty() {
                    self.piece(out, |out| sealed(text, out));
                }
            }
            Event::Close { part } => self.close(*part, out),
            Event::Finish { reason, .. } => self.finish = *reason,
            Event::Usage(newer) => self.usage.merge(*newer),
            Event::Ping => {}
            Event::Fault(record) => {
                self.over = true;
                out.extend_from_slice(b"data: ");
                super::fault(record, record.status.unwrap_or(502), &self.context.request_id, out);
                out.extend_from_slice(b"\n\n");
            }
            Event::End => self.end(out),
        }
        Ok(())
    }

    fn start(&mut self, id: &[u8], model: &[u8]) {
        if self.tail.is_empty() {
            identity(&self.context, id, model, &mut self.tail);
        }
    }

    /// Appends a record with one part.
    fn piece(&self, out: &mut Vec<u8>, part: impl FnOnce(&mut Vec<u8>)) {
        out.extend_from_slice(HEAD);
        part(out);
        out.extend_from_slice(b"]},\"index\":0}]");
        out.extend_from_slice(&self.tail);
        out.extend_from_slice(b"}\n\n");
    }

    fn open(&mut self, part: usize, kind: &PartKind<'_>, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        self.start(b"", b"");
        let open = match kind {
            PartKind::Text | PartKind::Refusal => Open::Text,
            PartKind::Thinking => Open::Thinking,
            PartKind::Redacted(data) => {
                self.piece(out, |out| redacted(data, out));
                Open::Other
            }
            PartKind::ToolCall { id, name, is_custom } => {
                let (id, name) = (id.inside().to_vec(), name.inside().to_vec());
                self.hold(id.len() + name.len() + CALL_BYTES)?;
                self.calls.push(Call { part, id, name, is_custom: *is_custom, arguments: Vec::new() });
                Open::Other
            }
        };
        if self.parts.len() <= part {
            self.parts.resize(part + 1, Open::Other);
        }
        self.parts[part] = open;
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
        match self.parts.get(part) {
            Some(Open::Text) => self.piece(out, |out| said(text, false, out)),
            Some(Open::Thinking) => self.piece(out, |out| said(text, true, out)),
            Some(Open::Other) => {
                self.hold(text.len())?;
                if let Some(call) = self.calls.iter_mut().find(|call| call.part == part) {
                    call.arguments.extend_from_slice(text);
                }
            }
            None => {}
        }
        Ok(())
    }

    /// A call that is whole goes out; calls keep the order of their opening.
    fn close(&mut self, part: usize, out: &mut Vec<u8>) {
        let Some(at) = self.calls.iter().position(|call| call.part == part) else { return };
        let whole = self.calls.remove(at);
        self.tell(&whole, out);
        if self.calls.is_empty() {
            self.held_bytes = 0;
        }
    }

    fn tell(&self, whole: &Call, out: &mut Vec<u8>) {
        self.piece(out, |out| call(&whole.id, &whole.name, &whole.arguments, whole.is_custom, out));
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.start(b"", b"");
        self.over = true;
        for whole in &self.calls {
            self.tell(whole, out);
        }
        out.extend_from_slice(HEAD);
        said(b"", false, out);
        out.extend_from_slice(b"]},\"finishReason\":\"");
        out.extend_from_slice(finish_reason(self.finish).as_bytes());
        out.extend_from_slice(b"\",\"index\":0}]");
        usage(&self.usage, out);
        out.extend_from_slice(&self.tail);
        out.extend_from_slice(b"}\n\n");
    }
}

/// What a call costs beside its texts, for the bound on what is held.
const CALL_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::neutral::Text;

    #[test]
    fn nothing_is_told_after_the_end() {
        let context = Context {
            request_id: "r".into(),
            model: "m".into(),
            custom_tools: Vec::new(),
            created: 0,
            include_usage: true,
            held_bytes_max: 64,
        };
        let mut events = Events::new(context);
        let mut out = Vec::new();
        events.event(&Event::End, &mut out).unwrap();
        let length = out.len();
        events.event(&Event::Open { part: 0, kind: PartKind::Text }, &mut out).unwrap();
        events.event(&Event::Delta { part: 0, text: Text::escaped(b"late") }, &mut out).unwrap();
        assert_eq!(out.len(), length);
    }
}
