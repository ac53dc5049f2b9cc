//! An event that is too long to be held, read as it passes by.

use memchr::{memchr, memchr2};

use super::choices::{self, Choices};
use crate::dialect::usage::{BodyMeter, Usage};
use crate::wire::json::{self, Scan, Seen, Token, ValueKind};

/// Follows one event in pieces cut anywhere, and knows at its end what a reader of the whole event would.
///
/// Memory: about a kibibyte, and a usage object while it is incomplete, whatever the length of the event.
#[derive(Default)]
pub(super) struct Long {
    /// What the current line is.
    line: Line,
    /// The name of its field, as far as it has come.
    field: Short,
    is_first_line: bool,
    is_line_empty: bool,
    /// The last line ended in a CR, which may be half of a CRLF.
    behind_cr: bool,
    /// So did the empty line that ends the event.
    ended_by_cr: bool,
    name: Short,
    kind: Short,
    /// The beginning of the data.
    data: Short,
    data_lines: usize,
    json: Scan,
    usage: BodyMeter,
    has_error: bool,
    /// Of `type` and `error` the first is what the event says.
    seen_error: bool,
    sequence: Option<u64>,
    has_stop_reason: bool,
    /// Index of the choice that is being read, and whether it finishes.
    choice: (u64, bool),
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Line {
    /// The name of a field, up to its colon.
    #[default]
    Field,
    /// Behind the colon: one blank there is not part of the value.
    Colon(Value),
    Value(Value),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Data,
    Name,
    Other,
}

/// Text of which the beginning is kept.
#[derive(Clone, Copy, Default)]
struct Short {
    bytes: [u8; 32],
    kept: usize,
    /// Of all of it.
    length: usize,
}

impl Short {
    fn push(&mut self, bytes: &[u8]) {
        let taken = bytes.len().min(self.bytes.len() - self.kept);
        self.bytes[self.kept..self.kept + taken].copy_from_slice(&bytes[..taken]);
        self.kept += taken;
        self.length = self.length.saturating_add(bytes.len());
    }

    /// The text, if it is short.
    fn get(&self) -> &[u8] {
        if self.kept == self.length { &self.bytes[..self.kept] } else { b"" }
    }
}

impl Long {
    pub(super) fn new() -> Self {
        Self { is_first_line: true, is_line_empty: true, ..Self::default() }
    }

    /// Takes in the next piece. Behind the end of the event, if it is in this piece.
    pub(super) fn feed(&mut self, piece: &[u8], choices: &mut Choices) -> Option<usize> {
        if self.ended_by_cr {
            return piece.first().map(|first| usize::from(*first == b'\n'));
        }
        let mut at = 0;
        while at < piece.len() {
            if std::mem::take(&mut self.behind_cr) && piece[at] == b'\n' {
                at += 1;
                continue;
            }
            let run = memchr2(b'\n', b'\r', &piece[at..]).unwrap_or(piece.len() - at);
            self.text(&piece[at..at + run], choices);
            at += run;
            let is_cr = *piece.get(at)? == b'\r';
            at += 1;
            if self.is_line_empty {
                match piece.get(at) {
                    Some(b'\n') if is_cr => at += 1,
                    None if is_cr => {
                        self.ended_by_cr = true;
                        return None;
                    }
                    _ => {}
                }
                return Some(at);
            }
            self.end_line(choices);
            self.behind_cr = is_cr;
        }
        None
    }

    /// Whether the event is of one of these names, by its `event` line or by the type in its data.
    pub(super) fn is_any_of(&self, names: &[&[u8]]) -> bool {
        let kind = self.kind.get().strip_prefix(b"\"").and_then(|kind| kind.strip_suffix(b"\""));
        names.contains(&self.name.get()) || kind.is_some_and(|kind| names.contains(&kind))
    }

    pub(super) fn has_error(&self) -> bool {
        self.has_error
    }

    pub(super) fn is_done(&self) -> bool {
        self.data_lines == 1 && self.data.get().trim_ascii() == b"[DONE]"
    }

    pub(super) fn has_stop_reason(&self) -> bool {
        self.has_stop_reason
    }

    pub(super) fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        Some(*self.usage.usage()).filter(|usage| usage.seen)
    }

    /// Part of a line, without its end.
    fn text(&mut self, mut text: &[u8], choices: &mut Choices) {
        self.is_line_empty &= text.is_empty();
        while let [first, ..] = *text {
            text = match self.line {
                Line::Field => match memchr(b':', text) {
                    None => {
                        self.field.push(text);
                        return;
                    }
                    Some(colon) => {
                        self.field.push(&text[..colon]);
                        self.line = Line::Colon(self.begin_value(choices));
                        &text[colon + 1..]
                    }
                },
                Line::Colon(value) => {
                    self.line = Line::Value(value);
                    &text[usize::from(first == b' ')..]
                }
                Line::Value(Value::Data) => {
                    self.data.push(text);
                    self.read(text, choices);
                    return;
                }
                Line::Value(Value::Name) => {
                    self.name.push(text);
                    return;
                }
                Line::Value(Value::Other) => return,
            };
        }
    }

    /// The field whose name has come to its end.
    fn begin_value(&mut self, choices: &mut Choices) -> Value {
        let field = self.field.get();
        let field =
            if self.is_first_line { field.strip_prefix(b"\xef\xbb\xbf").unwrap_or(field) } else { field };
        match field {
            b"data" => {
                if self.data_lines > 0 {
                    self.read(b"\n", choices);
                }
                self.data_lines += 1;
                Value::Data
            }
            b"event" => {
                self.name = Short::default();
                Value::Name
            }
            _ => Value::Other,
        }
    }

    fn end_line(&mut self, choices: &mut Choices) {
        if self.line == Line::Field {
            self.begin_value(choices); // a field without a colon has an empty value
        }
        self.line = Line::Field;
        self.field = Short::default();
        (self.is_first_line, self.is_line_empty) = (false, true);
    }

    fn read(&mut self, data: &[u8], choices: &mut Choices) {
        self.usage.block(data);
        let mut json = std::mem::take(&mut self.json);
        json.feed(data, &mut |seen| self.see(seen, choices));
        self.json = json;
    }

    fn see(&mut self, seen: Seen<'_>, choices: &mut Choices) {
        let in_choices = seen.key(0) == b"\"choices\"";
        match (seen.depth, seen.token) {
            (1, Token::Scalar(text)) => match seen.key(0) {
                b"\"type\"" if self.kind.length == 0 => self.kind.push(text),
                b"\"error\"" => self.error(text != b"null"),
                b"\"sequence_number\"" => self.sequence = json::unsigned(text),
                b"\"stop_reason\"" => self.has_stop_reason |= is_reason(text),
                _ => {}
            },
            (1, Token::Opens(_)) if seen.key(0) == b"\"error\"" => self.error(true),
            (2, Token::Scalar(text)) if seen.key(1) == b"\"stop_reason\"" => {
                self.has_stop_reason |= is_reason(text);
            }
            (2, Token::Scalar(text))
                if is(seen.key(0), b"promptFeedback") && is(seen.key(1), b"blockReason") =>
            {
                self.has_stop_reason |= is_reason(text);
            }
            (3, Token::Scalar(text))
                if is(seen.key(0), b"candidates") && is(seen.key(2), b"finishReason") =>
            {
                self.has_stop_reason |= is_reason(text);
            }
            (2, Token::Opens(ValueKind::Object)) if in_choices => self.choice = (0, false),
            (3, Token::Scalar(text)) if in_choices && seen.key(1).is_empty() => match seen.key(2) {
                b"\"index\"" => self.choice.0 = json::unsigned(text).unwrap_or(0),
                b"\"finish_reason\"" => self.choice.1 = is_reason(text),
                _ => {}
            },
            (2, Token::Closes) if in_choices && seen.key(1).is_empty() => {
                choices.mark(self.choice.0, self.choice.1)
            }
            _ => {}
        }
    }

    fn error(&mut self, is_one: bool) {
        self.has_error |= is_one && !self.seen_error;
        self.seen_error = true;
    }
}

/// Whether a key, which has its quotes, is this name.
fn is(key: &[u8], name: &[u8]) -> bool {
    key.strip_prefix(b"\"").and_then(|key| key.strip_suffix(b"\"")) == Some(name)
}

fn is_reason(text: &[u8]) -> bool {
    text.starts_with(b"\"") && choices::is_reason(text)
}
