//! One item of the output: its id, its events, and how it stands in the response.

use super::words;
use crate::dialect::neutral::{PartKind, Text};

/// One item; its texts stand as they do between the quotes of a JSON string.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) part: usize,
    pub(super) kind: ItemKind,
    /// Its place in the output, once the client knows of it.
    pub(super) index: Option<usize>,
    pub(super) text: Vec<u8>,
    /// How much of the text was told.
    pub(super) told: usize,
    /// The seal over a thought, or a thought that only its provider can read.
    pub(super) signature: Vec<u8>,
    pub(super) is_done: bool,
}

#[derive(Clone, Debug)]
pub(super) enum ItemKind {
    Text,
    Refusal,
    Thinking,
    Redacted,
    Call {
        id: Vec<u8>,
        name: Vec<u8>,
    },
    /// A call of a free-text tool.
    Custom {
        id: Vec<u8>,
        name: Vec<u8>,
        /// Whether the backend calls it as a function, with the text as an argument.
        is_wrapped: bool,
    },
}

/// How the events of a text are named, and the member that has it.
pub(super) struct Names {
    pub(super) delta: &'static str,
    pub(super) done: &'static str,
    pub(super) member: &'static str,
}

impl Item {
    pub(super) fn new(part: usize, kind: &PartKind<'_>, custom_tools: &[Text<'static>]) -> Self {
        let mut signature = Vec::new();
        let kind = match kind {
            PartKind::Text => ItemKind::Text,
            PartKind::Refusal => ItemKind::Refusal,
            PartKind::Thinking => ItemKind::Thinking,
            PartKind::Redacted(data) => {
                signature.extend_from_slice(data.inside());
                ItemKind::Redacted
            }
            PartKind::ToolCall { id, name, is_custom } => {
                let is_wrapped = !is_custom && custom_tools.iter().any(|tool| tool.inside() == name.inside());
                let (id, name) = (id.inside().to_vec(), name.inside().to_vec());
                if *is_custom || is_wrapped {
                    ItemKind::Custom { id, name, is_wrapped }
                } else {
                    ItemKind::Call { id, name }
                }
            }
        };
        Self { part, kind, index: None, text: Vec::new(), told: 0, signature, is_done: false }
    }

    pub(super) fn names(&self) -> Names {
        let (delta, done, member) = match self.kind {
            ItemKind::Text => ("response.output_text.delta", "response.output_text.done", "text"),
            ItemKind::Refusal => ("response.refusal.delta", "response.refusal.done", "refusal"),
            ItemKind::Thinking | ItemKind::Redacted => {
                ("response.reasoning_summary_text.delta", "response.reasoning_summary_text.done", "text")
            }
            ItemKind::Call { .. } => (
                "response.function_call_arguments.delta",
                "response.function_call_arguments.done",
                "arguments",
            ),
            ItemKind::Custom { .. } => {
                ("response.custom_tool_call_input.delta", "response.custom_tool_call_input.done", "input")
            }
        };
        Names { delta, done, member }
    }

    /// Whether what it says can be told as it comes.
    pub(super) fn is_tellable(&self) -> bool {
        match self.kind {
            ItemKind::Custom { is_wrapped, .. } => !is_wrapped,
            // Blanks and null are no arguments; which it is, their first byte says.
            ItemKind::Call { .. } => self.told > 0 || first_byte(&self.text) == Some(b'{'),
            _ => true,
        }
    }

    /// Appends its id, in quotes. It is the same in all events and in the response.
    pub(super) fn id(&self, request_id: &str, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(match self.kind {
            ItemKind::Text | ItemKind::Refusal => b"msg_",
            ItemKind::Thinking => b"rs_",
            ItemKind::Redacted => super::REDACTED,
            ItemKind::Call { .. } => b"fc_",
            ItemKind::Custom { .. } => b"ctc_",
        });
        out.extend_from_slice(request_id.as_bytes());
        out.push(b'_');
        crate::dialect::number(out, self.index.unwrap_or(0) as u64);
        out.push(b'"');
    }

    /// Appends the item: as it begins, without what it says, or with all of it.
    pub(super) fn write(&self, request_id: &str, is_done: bool, out: &mut Vec<u8>) {
        let status = match (is_done, self.is_done) {
            (false, _) => "in_progress",
            (true, true) => "completed",
            (true, false) => "incomplete", // the response failed before
        };
        out.extend_from_slice(b"{\"id\":");
        self.id(request_id, out);
        let text: &[u8] = if is_done { &self.text } else { b"" };
        match &self.kind {
            ItemKind::Text | ItemKind::Refusal => {
                words(
                    &[
                        ",\"type\":\"message\",\"status\":\"",
                        status,
                        "\",\"role\":\"assistant\",\"content\":[",
                    ],
                    out,
                );
                if is_done {
                    self.part(text, out);
                }
                out.push(b']');
            }
            ItemKind::Thinking | ItemKind::Redacted => {
                // Clients drop an item without a summary; it may be empty.
                out.extend_from_slice(b",\"type\":\"reasoning\",\"summary\":[");
                if !text.is_empty() {
                    self.part(text, out);
                }
                out.push(b']');
                if is_done && !self.signature.is_empty() {
                    out.extend_from_slice(b",\"encrypted_content\":");
                    Text::escaped(&self.signature).quote(out);
                }
            }
            ItemKind::Call { id, name } | ItemKind::Custom { id, name, .. } => {
                let kind = if matches!(self.kind, ItemKind::Call { .. }) {
                    "function_call"
                } else {
                    "custom_tool_call"
                };
                words(&[",\"type\":\"", kind, "\",\"status\":\"", status, "\",\"call_id\":"], out);
                Text::escaped(id).quote(out);
                out.extend_from_slice(b",\"name\":");
                Text::escaped(name).quote(out);
                words(&[",\"", self.names().member, "\":"], out);
                Text::escaped(text).quote(out);
            }
        }
        out.push(b'}');
    }

    /// Appends the one part of a message or of a summary, with this text.
    pub(super) fn part(&self, text: &[u8], out: &mut Vec<u8>) {
        let (open, close) = match self.kind {
            ItemKind::Text => ("{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":", "}"),
            ItemKind::Refusal => ("{\"type\":\"refusal\",\"refusal\":", "}"),
            _ => ("{\"type\":\"summary_text\",\"text\":", "}"),
        };
        words(&[open], out);
        Text::escaped(text).quote(out);
        words(&[close], out);
    }
}

/// The first byte of a text in escapes that is no blank.
pub(super) fn first_byte(text: &[u8]) -> Option<u8> {
    let mut rest = text;
    loop {
        rest = match rest {
            [b' ', rest @ ..] | [b'\\', b'n' | b'r' | b't', rest @ ..] => rest,
            [first, ..] => return Some(*first),
            [] => return None,
        };
    }
}
