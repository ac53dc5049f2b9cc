//! Strings: their escapes read, compared and written.

use std::borrow::Cow;

use memchr::memchr;

/// The text of a string value given with its quotes, as the scanner found it.
///
/// `None` for what no two readers agree on: invalid UTF-8 and lone surrogates.
pub fn string(raw: &[u8]) -> Option<Cow<'_, str>> {
    let inner = inner(raw)?;
    if memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    let mut text = String::with_capacity(inner.len());
    let sound = pieces(inner, |piece| {
        text.push_str(piece);
        true
    });
    sound.then_some(Cow::Owned(text))
}

/// Whether a key given with its quotes reads `name` once its escapes are resolved (`"mod\u0065l"` is `model`).
pub fn key_is(raw: &[u8], name: &str) -> bool {
    let Some(inner) = inner(raw) else { return false };
    if memchr(b'\\', inner).is_none() {
        return inner == name.as_bytes();
    }
    let mut rest = name;
    let same = |piece: &str| match rest.strip_prefix(piece) {
        Some(behind) => {
            rest = behind;
            true
        }
        None => false,
    };
    pieces(inner, same) && rest.is_empty()
}

/// Whether a key given with its quotes reads `name` to a reader that takes no notice of case.
///
/// Such readers fold U+017F to `s` and U+212A to `k` as well (Go's `encoding/json` does), and so does this.
/// `name` is ASCII.
pub fn key_is_caseless(raw: &[u8], name: &str) -> bool {
    let Some(inner) = inner(raw) else { return false };
    if inner.len() < name.len() {
        return false;
    }
    if inner.eq_ignore_ascii_case(name.as_bytes()) {
        return true;
    }
    let mut rest = name.bytes();
    let same = |piece: &str| {
        piece.chars().all(|char| {
            let next = rest.next().map(|byte| byte.to_ascii_lowercase());
            next.is_some() && next == fold(char) // what folds to nothing is not the end of the name
        })
    };
    pieces(inner, same) && rest.next().is_none()
}

/// A key given with its quotes as its most lenient reader takes it: escapes resolved, letters small (as
/// [`key_is_caseless`] folds them), and without underscores, so that `toolUse`, `tool_use` and `Tool\u005fUse` are one.
/// Empty for a key that is longer than any that is known, or not sound.
pub fn folded<'a>(raw: &'a [u8], room: &'a mut [u8; FOLDED_BYTES_MAX]) -> &'a [u8] {
    let inner = inner(raw).unwrap_or_default();
    if inner.iter().all(u8::is_ascii_lowercase) {
        return if inner.len() <= FOLDED_BYTES_MAX { inner } else { &[] };
    }
    let mut length = 0;
    let mut push = |byte: u8| {
        if byte == b'_' {
            return true;
        }
        let Some(place) = room.get_mut(length) else { return false };
        *place = byte;
        length += 1;
        true
    };
    let fits = match inner.iter().all(|byte| byte.is_ascii() && *byte != b'\\') {
        true => inner.iter().all(|byte| push(byte.to_ascii_lowercase())),
        false => pieces(inner, |piece| piece.chars().all(|char| fold(char).is_some_and(&mut push))),
    };
    if fits { &room[..length] } else { &[] }
}

/// The longest key that [`folded`] gives. Longer ones are not known to anybody here.
pub const FOLDED_BYTES_MAX: usize = 32;

/// The lower-case ASCII letter or mark that a caseless reader takes `char` for.
fn fold(char: char) -> Option<u8> {
    match char {
        '\u{17f}' => Some(b's'),
        '\u{212a}' => Some(b'k'),
        _ => u8::try_from(char).ok().filter(u8::is_ascii).map(|byte| byte.to_ascii_lowercase()),
    }
}

/// What is between the quotes.
fn inner(raw: &[u8]) -> Option<&[u8]> {
    raw.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Hands the text of a string to `each`, piece by piece, until it returns false. False if it did, or if the string
/// is not sound.
fn pieces(inner: &[u8], mut each: impl FnMut(&str) -> bool) -> bool {
    let mut rest = inner;
    while !rest.is_empty() {
        let length = memchr(b'\\', rest).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(length);
        let Ok(run) = std::str::from_utf8(run) else {
            return false;
        };
        if !run.is_empty() && !each(run) {
            return false;
        }
        rest = behind;
        if rest.is_empty() {
            break;
        }
        let Some((char, length)) = escaped(rest) else {
            return false;
        };
        if !each(char.encode_utf8(&mut [0; 4])) {
            return false;
        }
        rest = &rest[length..];
    }
    true
}

/// The character that the escape at the start of `text` stands for, and the length of the escape; two escapes if
/// they are a pair of surrogates.
fn escaped(text: &[u8]) -> Option<(char, usize)> {
    let char = match text.get(1)? {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        &byte @ (b'"' | b'\\' | b'/') => byte as char,
        b'u' => {
            let first = unit(text)?;
            if !(0xd800..0xdc00).contains(&first) {
                return Some((char::from_u32(first)?, 6));
            }
            let second = unit(text.get(6..)?).filter(|unit| (0xdc00..0xe000).contains(unit))?;
            return Some((char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))?, 12));
        }
        _ => return None,
    };
    Some((char, 2))
}

/// The code unit of `\uXXXX` at the start of `text`.
fn unit(text: &[u8]) -> Option<u32> {
    text.strip_prefix(b"\\u")?
        .get(..4)?
        .iter()
        .try_fold(0, |unit, &digit| Some(unit * 16 + (digit as char).to_digit(16)?))
}

/// Appends to `out` what the inside of a JSON string stands for. Where no two readers agree (a lone surrogate, a broken
/// escape) the replacement character takes its place.
pub fn unescape(inside: &[u8], out: &mut Vec<u8>) {
    let mut rest = inside;
    while let Some(at) = memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let (char, length) =
            escaped(rest).unwrap_or_else(|| (char::REPLACEMENT_CHARACTER, broken_length(rest)));
        out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &rest[length..];
    }
    out.extend_from_slice(rest);
}

/// Length of an escape that stands for nothing.
fn broken_length(rest: &[u8]) -> usize {
    let length = if rest.get(1) == Some(&b'u') { 6 } else { 2 };
    length.min(rest.len())
}

/// Where bytes of the text stand in the inside of a JSON string: `range` counts the bytes that [`unescape`] appends. An
/// escape that stands for several bytes belongs to the range as soon as one of them does.
pub fn inside_range(inside: &[u8], range: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let (mut at, mut plain) = (0, 0);
    let (mut start, mut end) = (inside.len(), inside.len());
    while at < inside.len() {
        let (length, bytes) = match inside[at] {
            b'\\' => match escaped(&inside[at..]) {
                Some((char, length)) => (length, char.len_utf8()),
                None => (broken_length(&inside[at..]), char::REPLACEMENT_CHARACTER.len_utf8()),
            },
            _ => (1, 1),
        };
        if plain + bytes > range.start && start == inside.len() {
            start = at;
        }
        if plain >= range.end {
            end = at;
            break;
        }
        at += length;
        plain += bytes;
    }
    start.min(end)..end
}

/// Appends `text` to `out` as the inside of a JSON string.
pub fn escape(out: &mut Vec<u8>, text: &str) {
    escape_bytes(out, text.as_bytes());
}

/// Appends bytes of a text to `out` as the inside of a JSON string; they may begin and end within a character.
pub fn escape_bytes(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => {
                let digits = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends `text` to `out` as a JSON string with its quotes.
pub fn quote(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escape(out, text);
    out.push(b'"');
}
