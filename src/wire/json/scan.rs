//! The outer members of a JSON text that passes by in pieces, too long to be held.

use memchr::memchr2;

use super::{Nest, ValueKind};

/// Follows one JSON text, cut anywhere, and reports what stands in its outer `DEPTH_SEEN` levels.
///
/// Not strict: of a text that is no JSON, what comes before the first error is reported. Memory: a
/// few hundred bytes, whatever the text. Cost: a vector search in strings, a step per byte between them.
#[derive(Default)]
pub struct Scan {
    nest: Nest,
    state: State,
    /// In an object, before the colon.
    in_key: bool,
    /// Of each open level the key last read there.
    keys: [Text; DEPTH_SEEN],
    /// The token that is being read.
    text: Text,
}

/// Levels that are reported: those of `{"a":[{"b":1}]}`.
pub(super) const DEPTH_SEEN: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    /// Between tokens, before the text.
    #[default]
    Before,
    Between,
    String,
    /// Behind a backslash.
    Escape,
    /// A number or a literal.
    Word,
    /// The text is whole.
    Over,
    Broken,
}

/// A token, as far as it is kept: keys, kinds and reasons are short.
#[derive(Clone, Copy)]
struct Text {
    bytes: [u8; TEXT_BYTES_MAX],
    length: usize,
}

/// Bytes of a token that are kept. Chosen, not measured.
const TEXT_BYTES_MAX: usize = 64;

impl Default for Text {
    fn default() -> Self {
        Self { bytes: [0; TEXT_BYTES_MAX], length: 0 }
    }
}

impl Text {
    fn push(&mut self, bytes: &[u8]) {
        let taken = bytes.len().min(TEXT_BYTES_MAX - self.length);
        self.bytes[self.length..self.length + taken].copy_from_slice(&bytes[..taken]);
        self.length += taken;
    }

    fn get(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A value, or an end, in one of the outer levels.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// How many objects and arrays are open around it.
    pub depth: usize,
    /// The keys that lead to it, with their quotes, by level; that of an array is empty.
    keys: [&'a [u8]; DEPTH_SEEN],
    /// What it is.
    pub token: Token<'a>,
}

/// See [`Seen`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Token<'a> {
    /// An object or array begins.
    Opens(ValueKind),
    /// An object or array ends.
    Closes,
    /// A string with its quotes, a number or a literal; what is long is cut off at its end.
    Scalar(&'a [u8]),
}

impl Seen<'_> {
    /// The key at that level, the outermost is 0.
    pub fn key(&self, level: usize) -> &[u8] {
        self.keys.get(level).copied().unwrap_or_default()
    }
}

impl Scan {
    /// Takes in the next piece; `seen` is called for what ends in it.
    pub fn feed(&mut self, piece: &[u8], seen: &mut impl FnMut(Seen<'_>)) {
        let mut rest = piece;
        while let [byte, ..] = *rest {
            let taken = match self.state {
                State::Over | State::Broken => return,
                State::Escape => {
                    self.keep(&rest[..1]);
                    self.state = State::String;
                    1
                }
                State::String => {
                    let run = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                    let end = rest.len().min(run + 1);
                    self.keep(&rest[..end]);
                    match rest.get(run) {
                        Some(b'"') => self.end_token(true, seen),
                        Some(_) => self.state = State::Escape,
                        None => {}
                    }
                    end
                }
                State::Word => {
                    let is_end =
                        |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                    let run = rest.iter().position(is_end);
                    self.keep(&rest[..run.unwrap_or(rest.len())]);
                    if run.is_some() {
                        self.end_token(false, seen);
                    }
                    run.unwrap_or(rest.len())
                }
                State::Before | State::Between => {
                    self.structure(byte, seen);
                    usize::from(self.state != State::Word)
                }
            };
            rest = &rest[taken..];
        }
    }

    /// Whether the text was an object or an array that has come to its end.
    #[cfg(test)]
    pub fn is_whole(&self) -> bool {
        self.state == State::Over
    }

    /// One byte between tokens; that of a number or literal is not taken.
    fn structure(&mut self, byte: u8, seen: &mut impl FnMut(Seen<'_>)) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {}
            b'{' | b'[' => {
                let kind = if byte == b'{' { ValueKind::Object } else { ValueKind::Array };
                self.report(Token::Opens(kind), seen);
                if !self.nest.push(byte == b'{') {
                    self.state = State::Broken;
                    return;
                }
                if let Some(key) = self.keys.get_mut(self.nest.depth - 1) {
                    key.length = 0;
                }
                self.in_key = byte == b'{';
                self.state = State::Between;
            }
            _ if self.nest.depth == 0 => self.state = State::Broken, // the text is neither
            b'}' | b']' => {
                self.nest.pop();
                self.in_key = false;
                self.report(Token::Closes, seen);
                if self.nest.depth == 0 {
                    self.state = State::Over;
                }
            }
            b',' => self.in_key = self.nest.in_object(),
            b':' => self.in_key = false,
            b'"' => {
                self.text.length = 0;
                self.keep(b"\"");
                self.state = State::String;
            }
            _ => {
                self.text.length = 0;
                self.state = State::Word;
            }
        }
    }

    fn end_token(&mut self, is_string: bool, seen: &mut impl FnMut(Seen<'_>)) {
        self.state = State::Between;
        if is_string && self.in_key {
            if let Some(key) = self.keys.get_mut(self.nest.depth - 1) {
                *key = self.text;
            }
            return;
        }
        let text = self.text;
        self.report(Token::Scalar(text.get()), seen);
    }

    fn report(&self, token: Token<'_>, seen: &mut impl FnMut(Seen<'_>)) {
        let depth = self.nest.depth;
        if (1..=DEPTH_SEEN).contains(&depth) {
            seen(Seen { depth, keys: self.keys.each_ref().map(Text::get), token });
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.nest.depth <= DEPTH_SEEN {
            self.text.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let (mut scan, mut told) = (Scan::default(), Vec::new());
        for piece in pieces {
            scan.feed(piece, &mut |seen| {
                let key = String::from_utf8_lossy(seen.key(seen.depth - 1)).into_owned();
                told.push(match seen.token {
                    Token::Opens(kind) => format!("{} {key} {kind:?}", seen.depth),
                    Token::Closes => format!("{} {key} end", seen.depth),
                    Token::Scalar(text) => format!("{} {key} {}", seen.depth, String::from_utf8_lossy(text)),
                });
            });
        }
        (told, scan.is_whole())
    }

    const TEXT: &str =
        r#" {"a":1, "b" : [{"c":"x\"}","d":{"e":{"f":[1]}}},2,null],"g\"":{},"h":-1.5e3,"i":true} "#;

    #[test]
    fn the_outer_levels_are_reported() {
        let expected = [
            "1 \"a\" 1",
            "1 \"b\" Array",
            "2  Object",
            "3 \"c\" \"x\\\"}\"",
            "3 \"d\" Object",
            "3 \"d\" end",
            "2  end",
            "2  2",
            "2  null",
            "1 \"b\" end",
            "1 \"g\\\"\" Object",
            "1 \"g\\\"\" end",
            "1 \"h\" -1.5e3",
            "1 \"i\" true",
        ];
        let (seen, whole) = told(&[TEXT.as_bytes()]);
        assert_eq!(seen, expected);
        assert!(whole);
    }

    #[test]
    fn no_cut_changes_what_is_reported() {
        let whole = told(&[TEXT.as_bytes()]);
        for first in 0..=TEXT.len() {
            for second in [first, (first + 3).min(TEXT.len()), TEXT.len()] {
                let text = TEXT.as_bytes();
                assert_eq!(
                    told(&[&text[..first], &text[first..second], &text[second..]]),
                    whole,
                    "{first}, {second}"
                );
            }
        }
        let bytes: Vec<&[u8]> = TEXT.as_bytes().chunks(1).collect();
        assert_eq!(told(&bytes), whole);
    }

    #[test]
    fn what_is_no_json_is_not_whole_and_harms_nobody() {
        for text in
            ["", "null", "[", "{\"a\":", "}", "]]]", "{]", "\"a\"", "[DONE", "{\"a\":\"", "{\"a\":\"\\"]
        {
            let (_, whole) = told(&[text.as_bytes()]);
            assert!(!whole || text == "{]", "{text}");
        }
        let deep = "[".repeat(super::super::DEPTH_MAX + 9);
        assert!(!told(&[deep.as_bytes()]).1);
    }

    #[test]
    fn long_tokens_are_cut_off() {
        let (seen, whole) = told(&[format!("{{\"a\":\"{}\"}}", "x".repeat(1_000)).as_bytes()]);
        assert_eq!(seen[0].len(), "1 \"a\" ".len() + TEXT_BYTES_MAX);
        assert!(whole);
    }
}
