//! A stream of lines for a client.

use super::{Call, end, head};
use crate::dialect::neutral::{Context, Event, FinishReason, HeldTooMuch, PartKind, Text};
use crate::dialect::ollama::Shape;
use crate::dialect::usage::Usage;

/// Encoder of one stream of `/api/chat`.
#[derive(Clone, Debug)]
pub struct Events(Lines);

impl Events {
    /// The encoder of a stream that begins.
    pub fn new(context: Context) -> Self {
        Self(Lines::new(context, Shape::Chat))
    }

    /// Appends what a client is to hear of an event, whole lines only.
    ///
    /// # Errors
    /// Arguments of a tool call, which are told in one piece, are longer than may be held.
    pub fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        self.0.event(event, out)
    }
}

/// The lines of either endpoint.
///
/// Each line is `head`, then where the text stands, then how far the response is. Calls of tools are held until they are
/// whole. Seals over thoughts have no place here.
#[derive(Clone, Debug)]
pub(in crate::dialect::ollama) struct Lines {
    context: Context,
    shape: Shape,
    /// A line up to where the text stands; empty until the response starts.
    head: Vec<u8>,
    /// By the number of the part.
    parts: Vec<Open>,
    /// Calls that are open, each with its part.
    calls: Vec<(usize, Call)>,
    calls_told: usize,
    held_bytes: usize,
    finish: Option<FinishReason>,
    usage: Usage,
}

/// A part that was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Open {
    Text,
    Thinking,
    Call,
    Silent,
}

impl Lines {
    pub(in crate::dialect::ollama) fn new(context: Context, shape: Shape) -> Self {
        Self {
            context,
            shape,
            head: Vec::new(),
            parts: Vec::new(),
            calls: Vec::new(),
            calls_told: 0,
            held_bytes: 0,
            finish: None,
            usage: Usage::default(),
        }
    }

    pub(in crate::dialect::ollama) fn event(
        &mut self,
        event: &Event<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), HeldTooMuch> {
        match event {
            Event::Start { model, .. } => head(&self.context, model.inside(), &mut self.head),
            Event::Open { part, kind } => self.open(*part, kind),
            Event::Delta { part, text } => self.delta(*part, text, out)?,
            Event::Close { part } => self.close(*part, out),
            Event::Finish { reason, .. } => self.finish = Some(*reason),
            Event::Usage(usage) => self.usage.merge(*usage),
            Event::Fault(record) => {
                super::fault(record, record.status.unwrap_or(502), &self.context.request_id, out);
                out.push(b'\n');
            }
            Event::End => self.end(out),
            Event::Signature { .. } | Event::Ping => {}
        }
        Ok(())
    }

    fn open(&mut self, part: usize, kind: &PartKind<'_>) {
        let open = match kind {
            PartKind::Text | PartKind::Refusal => Open::Text,
            PartKind::Thinking => Open::Thinking,
            PartKind::Redacted(_) => Open::Silent,
            PartKind::ToolCall { id, name, is_custom } => {
                let (id, name) = (id.inside().to_vec(), name.inside().to_vec());
                self.calls.push((part, Call { id, name, arguments: Vec::new(), is_custom: *is_custom }));
                Open::Call
            }
        };
        if self.parts.len() <= part {
            self.parts.resize(part + 1, Open::Silent);
        }
        self.parts[part] = open;
    }

    fn delta(&mut self, part: usize, text: &Text<'_>, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        let (before, behind): (&[u8], &[u8]) = match (self.parts.get(part), self.shape) {
            _ if text.is_empty() => return Ok(()),
            (Some(Open::Text), Shape::Chat) => (b",\"message\":{\"role\":\"assistant\",\"content\":", b"}"),
            (Some(Open::Text), Shape::Generate) => (b",\"response\":", b""),
            (Some(Open::Thinking), Shape::Chat) => {
                (b",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"thinking\":", b"}")
            }
            (Some(Open::Thinking), Shape::Generate) => (b",\"response\":\"\",\"thinking\":", b""),
            (Some(Open::Call), _) => {
                self.held_bytes += text.inside().len();
                if self.held_bytes > self.context.held_bytes_max {
                    return Err(HeldTooMuch);
                }
                let call = self.calls.iter_mut().find(|(open, _)| *open == part);
                call.into_iter().for_each(|(_, call)| call.arguments.extend_from_slice(text.inside()));
                return Ok(());
            }
            (Some(Open::Silent) | None, _) => return Ok(()),
        };
        out.extend_from_slice(&self.head);
        out.extend_from_slice(before);
        text.quote(out);
        out.extend_from_slice(behind);
        out.extend_from_slice(b",\"done\":false}\n");
        Ok(())
    }

    fn close(&mut self, part: usize, out: &mut Vec<u8>) {
        let Some(at) = self.calls.iter().position(|(open, _)| *open == part) else { return };
        let (_, call) = self.calls.remove(at);
        self.held_bytes -= call.arguments.len();
        out.extend_from_slice(&self.head);
        out.extend_from_slice(match self.shape {
            Shape::Chat => {
                b",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[".as_slice()
            }
            Shape::Generate => b",\"response\":\"\",\"tool_calls\":[",
        });
        call.write(self.calls_told, out);
        self.calls_told += 1;
        out.extend_from_slice(match self.shape {
            Shape::Chat => b"]},\"done\":false}\n".as_slice(),
            Shape::Generate => b"],\"done\":false}\n",
        });
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.head.is_empty() {
            head(&self.context, b"", &mut self.head);
        }
        out.extend_from_slice(&self.head);
        out.extend_from_slice(match self.shape {
            Shape::Chat => b",\"message\":{\"role\":\"assistant\",\"content\":\"\"}".as_slice(),
            Shape::Generate => b",\"response\":\"\"",
        });
        end(self.finish, &self.usage, out);
        if self.shape == Shape::Generate {
            out.extend_from_slice(super::NO_CONTEXT);
        }
        out.extend_from_slice(b"}\n");
    }
}
