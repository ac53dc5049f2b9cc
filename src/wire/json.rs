//! JSON (RFC 8259) as bytes to be looked through: where the members are, which range to replace, nothing more.
//!
//! The scanner checks structure, numbers, escapes and raw control bytes strictly, so that what it accepts any
//! parser can read. It leaves two things to the caller that decodes a value: UTF-8 and lone surrogates pass inside strings,
//! because skipped bytes travel untouched; [`string`] refuses both.
//!
//! No recursion (nesting is a bit stack of [`DEPTH_MAX`]), no allocation, linear in the bytes.

mod find;
mod front;
mod scan;
mod text;
mod visit;

use memchr::memchr2;

use super::framing;
use crate::units::Span;
pub use find::{Finder, ObjectSearch, find_object};
pub use front::front;
pub use scan::{Scan, Seen, Token};
pub use text::{
    FOLDED_BYTES_MAX, escape, escape_bytes, folded, inside_range, key_is, key_is_caseless, quote, string,
    unescape,
};
pub use visit::{Visit, visit};

/// The deepest nesting accepted.
pub const DEPTH_MAX: usize = 512;

/// What a value is, by its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueKind {
    /// `{...}`.
    Object,
    /// `[...]`.
    Array,
    /// `"..."`.
    String,
    /// A number.
    Number,
    /// `true`.
    True,
    /// `false`.
    False,
    /// `null`.
    Null,
}

/// The text is not JSON, or not the kind of value that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadJson {
    /// Offset of the offending byte; the length of the text if it ends too early.
    pub at: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

/// One member of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// The key with its quotes, escapes and all; see [`key_is`].
    pub key: Span,
    /// The value, without blanks around it.
    pub value: Span,
    /// What the value is.
    pub kind: ValueKind,
}

/// The members of the one object that `bytes` must hold, blanks around it allowed.
///
/// Duplicate keys are all reported. After an error, and after the last member, there is nothing more; only a text
/// whose iteration ended without an error is sound to its last byte.
pub fn members(bytes: &[u8]) -> Members<'_> {
    Members { walk: Walk::new(bytes, b'{') }
}

/// The members of the object at the start of `bytes`, as [`members`] does; what follows the object is not looked at.
pub fn leading_members(bytes: &[u8]) -> Members<'_> {
    Members { walk: Walk { leading: true, ..Walk::new(bytes, b'{') } }
}

/// Iterator over the members of an object, see [`members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    walk: Walk<'a>,
}

impl Members<'_> {
    /// Offset of the opening brace, once the first member was asked for.
    #[cfg(any(test, feature = "rooms"))] // for fuzz targets
    pub fn open(&self) -> Option<usize> {
        self.walk.open
    }

    /// Offset of the closing brace, once the iteration has come to it.
    pub fn close(&self) -> Option<usize> {
        self.walk.close
    }

    /// Whether no member has been seen: once the iteration is over, the object is empty.
    pub fn is_empty(&self) -> bool {
        self.walk.count == 0
    }
}

impl Iterator for Members<'_> {
    type Item = Result<Member, BadJson>;

    fn next(&mut self) -> Option<Self::Item> {
        self.walk.next()
    }
}

/// The elements of the one array that `bytes` must hold, as [`members`] does for an object.
pub fn elements(bytes: &[u8]) -> Elements<'_> {
    Elements { walk: Walk::new(bytes, b'[') }
}

/// Iterator over the elements of an array, see [`elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    walk: Walk<'a>,
}

impl Iterator for Elements<'_> {
    type Item = Result<(Span, ValueKind), BadJson>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.walk.next()?;
        Some(item.map(|item| (item.value, item.kind)))
    }
}

/// Whether `bytes` hold exactly one object, sound to the last byte.
pub fn is_object(bytes: &[u8]) -> bool {
    members(bytes).all(|member| member.is_ok())
}

/// A plain non-negative integer below 2^64: no sign, fraction, exponent or leading zero.
pub fn unsigned(raw: &[u8]) -> Option<u64> {
    framing::length(raw)
}

/// Appends `body` to `out` with byte ranges replaced. `edits` are in order and do not overlap; an empty range
/// inserts. Panics if they are not.
pub fn splice(out: &mut Vec<u8>, body: &[u8], edits: &[(Span, &[u8])]) {
    let mut at = 0;
    out.reserve(body.len() + edits.iter().map(|(_, new)| new.len()).sum::<usize>());
    for &(span, new) in edits {
        out.extend_from_slice(&body[at..span.start]);
        out.extend_from_slice(new);
        at = span.end;
    }
    out.extend_from_slice(&body[at..]);
}

/// Steps over the items of one object or array that is the whole text.
#[derive(Clone, Debug)]
struct Walk<'a> {
    bytes: &'a [u8],
    /// Everything before is read.
    at: usize,
    /// `{` or `[`.
    opener: u8,
    /// Something may follow.
    leading: bool,
    open: Option<usize>,
    close: Option<usize>,
    count: usize,
    over: bool,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8], opener: u8) -> Self {
        Self { bytes, at: 0, opener, leading: false, open: None, close: None, count: 0, over: false }
    }

    /// The next item; its key is empty in arrays.
    fn next(&mut self) -> Option<Result<Member, BadJson>> {
        if self.over {
            return None;
        }
        let item = self.step().transpose();
        self.over = !matches!(item, Some(Ok(_)));
        item
    }

    fn step(&mut self) -> Result<Option<Member>, BadJson> {
        let bytes = self.bytes;
        let mut at = blanks(bytes, self.at);
        let closer = self.opener + 2; // in ASCII, for both
        if self.open.is_none() {
            match next_byte(bytes, at)? {
                byte if byte == self.opener => self.open = Some(at),
                _ if self.opener == b'{' => return bad(at, "the text is not an object"),
                _ => return bad(at, "the text is not an array"),
            }
            at = blanks(bytes, at + 1);
            if next_byte(bytes, at)? == closer {
                return self.finish(at);
            }
        } else {
            match next_byte(bytes, at)? {
                b',' => at = blanks(bytes, at + 1),
                byte if byte == closer => return self.finish(at),
                _ => return bad(at, "a comma or the end is missing"),
            }
        }
        let mut key = Span::new(at, at);
        if self.opener == b'{' {
            (key, at) = self::key(bytes, at)?;
        }
        let (value, kind) = value(bytes, at)?;
        self.at = value.end;
        self.count += 1;
        Ok(Some(Member { key, value, kind }))
    }

    fn finish(&mut self, close: usize) -> Result<Option<Member>, BadJson> {
        if !self.leading {
            let end = blanks(self.bytes, close + 1);
            if end < self.bytes.len() {
                return bad(end, "there is more behind the end of the text");
            }
        }
        self.close = Some(close);
        Ok(None)
    }
}

/// The value that starts at `at`, no blanks in front. Shared by everything here.
fn value(bytes: &[u8], at: usize) -> Result<(Span, ValueKind), BadJson> {
    let (end, kind) = match next_byte(bytes, at)? {
        b'{' => (container(bytes, at)?, ValueKind::Object),
        b'[' => (container(bytes, at)?, ValueKind::Array),
        _ => scalar(bytes, at)?,
    };
    Ok((Span::new(at, end), kind))
}

/// The end of the object or array that starts at `at`.
fn container(bytes: &[u8], mut at: usize) -> Result<usize, BadJson> {
    let mut nest = Nest::default();
    'value: loop {
        match next_byte(bytes, at)? {
            open @ (b'{' | b'[') => {
                if !nest.push(open == b'{') {
                    return bad(at, "the text is nested too deeply");
                }
                at = blanks(bytes, at + 1);
                if next_byte(bytes, at)? != open + 2 {
                    if nest.in_object() {
                        (_, at) = key(bytes, at)?;
                    }
                    continue 'value;
                }
            }
            _ => (at, _) = scalar(bytes, at)?,
        }
        loop {
            at = blanks(bytes, at);
            match next_byte(bytes, at)? {
                b',' => {
                    at = blanks(bytes, at + 1);
                    if nest.in_object() {
                        (_, at) = key(bytes, at)?;
                    }
                    continue 'value;
                }
                b'}' if nest.in_object() => at += 1,
                b']' if !nest.in_object() => at += 1,
                _ => return bad(at, "a comma or the end is missing"),
            }
            if nest.pop() == 0 {
                return Ok(at);
            }
        }
    }
}

/// Which containers are open, one bit each: 1 for an object.
#[derive(Default)]
struct Nest {
    bits: [u64; DEPTH_MAX / 64],
    depth: usize,
}

impl Nest {
    /// False if it is full.
    fn push(&mut self, object: bool) -> bool {
        let Some(word) = self.bits.get_mut(self.depth / 64) else {
            return false;
        };
        let bit = 1 << (self.depth % 64);
        *word = if object { *word | bit } else { *word & !bit };
        self.depth += 1;
        true
    }

    /// Returns how many stay open.
    fn pop(&mut self) -> usize {
        self.depth -= 1;
        self.depth
    }

    fn in_object(&self) -> bool {
        let top = self.depth - 1;
        self.bits[top / 64] >> (top % 64) & 1 == 1
    }
}

/// The key at `at` with its quotes, and where its value starts.
fn key(bytes: &[u8], at: usize) -> Result<(Span, usize), BadJson> {
    if next_byte(bytes, at)? != b'"' {
        return bad(at, "a key in quotes is missing");
    }
    let end = skip_string(bytes, at)?;
    let colon = blanks(bytes, end);
    if next_byte(bytes, colon)? != b':' {
        return bad(colon, "a colon is missing");
    }
    Ok((Span::new(at, end), blanks(bytes, colon + 1)))
}

/// The end and kind of the string, number or literal at `at`.
#[inline(always)] // into the two loops that have just looked at the first byte
fn scalar(bytes: &[u8], at: usize) -> Result<(usize, ValueKind), BadJson> {
    match next_byte(bytes, at)? {
        b'"' => Ok((skip_string(bytes, at)?, ValueKind::String)),
        b'-' | b'0'..=b'9' => Ok((number(bytes, at)?, ValueKind::Number)),
        b't' => Ok((literal(bytes, at, b"true")?, ValueKind::True)),
        b'f' => Ok((literal(bytes, at, b"false")?, ValueKind::False)),
        b'n' => Ok((literal(bytes, at, b"null")?, ValueKind::Null)),
        _ => bad(at, "this starts no value"),
    }
}

/// The end of the string whose quote is at `open`, its closing quote included.
///
/// A word at a time while it is short and plain, as keys and most values are; from its first escape, or when it turns out
/// long, run by run with a vector search, which costs more to set up. `json_members` in `bench/wire.rs` times the whole scan.
#[inline]
fn skip_string(bytes: &[u8], open: usize) -> Result<usize, BadJson> {
    let mut at = open + 1;
    for _ in 0..NEAR_WORDS {
        let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) else { break };
        let stops = stops(u64::from_le_bytes(*word));
        if stops != 0 {
            at += stops.trailing_zeros() as usize / 8;
            if bytes.get(at) == Some(&b'"') {
                return Ok(at + 1);
            }
            break;
        }
        at += 8;
    }
    skip_rest(bytes, at)
}

/// Words of a string that are looked at one by one. Chosen, not measured: keys and most short values fit.
const NEAR_WORDS: usize = 6;

/// The end of a string of which everything before `at` is read.
#[inline(never)]
fn skip_rest(bytes: &[u8], mut at: usize) -> Result<usize, BadJson> {
    loop {
        at = next_stop(bytes, at);
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = skip_escape(bytes, at)?,
            Some(_) => return bad(at, "a control byte in a string"),
            None => return cut(bytes),
        }
    }
}

/// The first quote, backslash or control byte from `at` on, or the end.
fn next_stop(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let length = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
    let run = &rest[..length];
    // Without a branch per byte; the position is only needed for the error.
    if run.iter().fold(false, |seen, &byte| seen | (byte < b' ')) {
        return at + run.iter().position(|&byte| byte < b' ').unwrap_or(length);
    }
    at + length
}

/// The high bit of each byte of a word that is a quote, a backslash or a control byte. Exact up to the lowest one, which
/// is all that is asked for (the classic test for a zero byte, with its borrow into the bytes above).
fn stops(word: u64) -> u64 {
    const LOW: u64 = u64::from_ne_bytes([1; 8]);
    let zeros = |word: u64| word.wrapping_sub(LOW) & !word;
    let below_blank = word.wrapping_sub(LOW * 0x20) & !word;
    (zeros(word ^ (LOW * u64::from(b'"'))) | zeros(word ^ (LOW * u64::from(b'\\'))) | below_blank)
        & (LOW << 7)
}

/// The end of the escape whose backslash is at `at`.
fn skip_escape(bytes: &[u8], at: usize) -> Result<usize, BadJson> {
    match next_byte(bytes, at + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
        b'u' => {
            let digits = &bytes[at + 2..bytes.len().min(at + 6)];
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return bad(at, "an escape needs four hex digits");
            }
            if digits.len() < 4 { cut(bytes) } else { Ok(at + 6) }
        }
        _ => bad(at, "no such escape"),
    }
}

/// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
fn number(bytes: &[u8], start: usize) -> Result<usize, BadJson> {
    let mut at = start + usize::from(bytes[start] == b'-');
    at = match next_byte(bytes, at)? {
        b'0' => at + 1,
        _ => digits(bytes, at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        let signed = matches!(bytes.get(at + 1), Some(b'+' | b'-'));
        at = digits(bytes, at + 1 + usize::from(signed))?;
    }
    Ok(at)
}

/// The end of the digits at `at`, of which there is at least one.
fn digits(bytes: &[u8], at: usize) -> Result<usize, BadJson> {
    if !next_byte(bytes, at)?.is_ascii_digit() {
        return bad(at, "a number needs a digit here");
    }
    let length = bytes[at..].iter().position(|byte| !byte.is_ascii_digit());
    Ok(length.map_or(bytes.len(), |length| at + length))
}

fn literal(bytes: &[u8], at: usize, word: &[u8]) -> Result<usize, BadJson> {
    let rest = &bytes[at..];
    match () {
        () if rest.starts_with(word) => Ok(at + word.len()),
        () if word.starts_with(rest) => cut(bytes),
        () => bad(at, "this starts no value"),
    }
}

/// The first byte from `at` on that is not a blank, or the end.
fn blanks(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

fn next_byte(bytes: &[u8], at: usize) -> Result<u8, BadJson> {
    bytes.get(at).copied().map_or_else(|| cut(bytes), Ok)
}

#[cold]
fn cut<T>(bytes: &[u8]) -> Result<T, BadJson> {
    bad(bytes.len(), "the text ends too early")
}

#[cold]
fn bad<T>(at: usize, reason: &'static str) -> Result<T, BadJson> {
    Err(BadJson { at, reason })
}

#[cfg(test)]
mod tests;
