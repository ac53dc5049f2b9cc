//! The request target and the authority, by a grammar of our own (RFC 9112 section 3.2, RFC 3986 section 3).

use super::Method;
use crate::units::Span;

/// The parts of an accepted target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    /// Starts with `/`, or is `*`.
    pub(super) path: Span,
    /// Without its `?`; empty if there is none.
    pub(super) query: Span,
    /// `host[:port]` of an absolute target.
    pub(super) authority: Option<Span>,
}

/// Reads `target`, a span of `bytes`. The error names the part that is wrong.
pub(super) fn read(bytes: &[u8], target: Span, method: Method) -> Result<Target, &'static str> {
    let text = target.of(bytes);
    match text {
        [b'/', ..] => path_and_query(bytes, target, None),
        b"*" if method == Method::Options => {
            Ok(Target { path: target, query: Span::new(target.end, target.end), authority: None })
        }
        _ => absolute(bytes, target),
    }
}

/// `http://host[:port][/path][?query]` or the same with `https`. A missing path is `/`, taken from the scheme's
/// own slashes so that it still is a span of the buffer.
fn absolute(bytes: &[u8], target: Span) -> Result<Target, &'static str> {
    let text = target.of(bytes);
    let scheme =
        |known: &[u8]| text.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known));
    let skip = match () {
        () if scheme(b"http://") => 7,
        () if scheme(b"https://") => 8,
        () => return Err("the request target is neither a path nor an http URL"),
    };
    let start = target.start + skip;
    let length =
        text[skip..].iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(text.len() - skip);
    let authority = Span::new(start, start + length);
    if !is_authority(authority.of(bytes)) {
        return Err("the request target's authority is not host[:port]");
    }
    let rest = Span::new(authority.end, target.end);
    if rest.of(bytes).first() == Some(&b'/') {
        return path_and_query(bytes, rest, Some(authority));
    }
    let query = Span::new((rest.start + 1).min(rest.end), rest.end);
    check_query(query.of(bytes))?;
    Ok(Target { path: Span::new(start - 1, start), query, authority: Some(authority) })
}

fn path_and_query(bytes: &[u8], target: Span, authority: Option<Span>) -> Result<Target, &'static str> {
    let text = target.of(bytes);
    let length = check_path(text)?;
    let path = Span::new(target.start, target.start + length);
    let query = Span::new((path.end + 1).min(target.end), target.end);
    check_query(query.of(bytes))?;
    Ok(Target { path, query, authority })
}

/// The length of the path at the start of `text`, up to `?` or the end.
///
/// Refuses what a backend might resolve to another path than the one that was routed: dot segments (also with
/// parameters), empty segments, and the encodings of `.`, `/`, `\`, control bytes and of overlong UTF-8. The one
/// exception is `%2F` in the name of a model: it is looked up in the plan and never resolved or sent on, and client
/// libraries write the slash of `org/name` so.
fn check_path(text: &[u8]) -> Result<usize, &'static str> {
    let named = MODEL_PATHS.iter().any(|start| text.starts_with(start));
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            _ if PCHAR[byte as usize] => at += 1,
            b'?' => break,
            b'/' => {
                check_segment(&text[at + 1..])?;
                at += 1;
            }
            b'%' => {
                let hidden = decode(&text[at..])?;
                let slash = hidden == b'/' && !named;
                if slash || hidden < b' ' || matches!(hidden, b'.' | b'\\' | 0x7f | 0xc0 | 0xc1) {
                    return Err("the path holds an encoded dot, slash or control byte");
                }
                at += 3;
            }
            _ => return Err("the path holds a byte that must be percent-encoded"),
        }
    }
    Ok(at)
}

/// Paths whose rest is the name of a model. A backend is never called on one of them.
const MODEL_PATHS: [&[u8]; 2] = [b"/v1/models/", b"/models/"];

/// Checks the segment at the start of `rest`, just behind a slash.
fn check_segment(rest: &[u8]) -> Result<(), &'static str> {
    match rest {
        [b'/', ..] => Err("the path holds an empty segment"),
        [b'.', tail @ ..] => {
            let tail = tail.strip_prefix(b".").unwrap_or(tail);
            match tail.first() {
                None | Some(b'/' | b';' | b'?') => Err("the path holds a dot segment"),
                Some(_) => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Any well-formed query passes, also one with encoded control bytes: it travels as it is.
fn check_query(query: &[u8]) -> Result<(), &'static str> {
    let mut at = 0;
    while let Some(&byte) = query.get(at) {
        match byte {
            b'%' => {
                decode(&query[at..])?;
                at += 3;
            }
            b'/' | b'?' => at += 1,
            _ if PCHAR[byte as usize] => at += 1,
            _ => return Err("the query holds a byte that must be percent-encoded"),
        }
    }
    Ok(())
}

/// The byte that the `%XX` at the start of `text` stands for.
fn decode(text: &[u8]) -> Result<u8, &'static str> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    match text {
        [b'%', high, low, ..] => match (digit(*high), digit(*low)) {
            (Some(high), Some(low)) => Ok((high * 16 + low) as u8),
            _ => Err("the request target holds a broken percent-encoding"),
        },
        _ => Err("the request target holds a broken percent-encoding"),
    }
}

/// Whether `text` is `host[:port]`: a name of letters, digits, `-`, `.`, `_`, or an IPv6 literal in brackets; a
/// port from 1 to 65535. Narrower than `uri-host` of RFC 3986 on purpose: no name a resolver knows needs more.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let port = match text {
        [b'[', rest @ ..] => {
            let Some(close) = rest.iter().position(|&byte| byte == b']') else {
                return false;
            };
            let literal = std::str::from_utf8(&rest[..close]).ok();
            if literal.and_then(|text| text.parse::<std::net::Ipv6Addr>().ok()).is_none() {
                return false;
            }
            &rest[close + 1..]
        }
        _ => {
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            let name = text.iter().position(|byte| !plain(byte)).unwrap_or(text.len());
            if name == 0 {
                return false;
            }
            &text[name..]
        }
    };
    match port {
        [] => true,
        [b':', digits @ ..] => {
            (1..=5).contains(&digits.len())
                && digits.iter().all(u8::is_ascii_digit)
                && (1..=65_535)
                    .contains(&digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
        }
        _ => false,
    }
}

/// By byte: may it stand in a path segment as it is (RFC 3986 section 3.3)?
static PCHAR: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"-._~!$&'()*+,;=:@";
    let mut index = 0;
    while index < marks.len() {
        table[marks[index] as usize] = true;
        index += 1;
    }
    table
};
