//! Heads of requests and responses (RFC 9112): what they ask for, where they and their bodies end.
//!
//! Two passes. The first looks for the end of the head over the new bytes only, and refuses bare CR, bare LF and
//! NUL on the way. The second runs once, over the complete head: first line and target by grammars of our own,
//! header tokens by `httparse`, then the fields that decide framing, routing and identity.
//!
//! `httparse` alone would accept bare LF, any number of empty lines in front, most bytes in a target, and any
//! mix of lengths; hence the rest of this file.

mod request;
mod response;
mod target;

use httparse::Header;
use memchr::memchr3;

use super::fields::{self, Field};
use crate::error::FaultKind;
use crate::units::Span;
pub use request::{RequestHead, request};
pub use response::{ResponseHead, response};

/// Sizes beyond which a head is refused, enforced before it is complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadLimits {
    /// Bytes of the head, blank line included. A head that fills them without an end is refused.
    pub bytes: usize,
    /// Header lines; never more than [`LINES_MAX`]. Counted when the head is complete.
    pub lines: usize,
    /// Bytes of the request target.
    pub target_bytes: usize,
}

/// The most header lines any limit can allow: the size of the table on the stack; a bit each in `fields::Dropped`.
pub const LINES_MAX: usize = 100;

/// What the client wants done: the closed set of methods the gateway implements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
    /// `OPTIONS`.
    Options,
}

impl Method {
    /// As on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

/// The version of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// Why a head is refused; `response` makes every one of them the backend's fault.
struct Flaw {
    kind: FaultKind,
    note: &'static str,
}

/// The head breaks its grammar, or says two things at once.
#[cold]
fn malformed(note: &'static str) -> Flaw {
    Flaw { kind: FaultKind::HeadMalformed, note }
}

#[cold]
fn too_large(note: &'static str) -> Flaw {
    Flaw { kind: FaultKind::HeadTooLarge, note }
}

/// The end of a head within `bytes`, which hold no more than the limit.
fn end(
    bytes: &[u8],
    scanned: &mut usize,
    limits: &HeadLimits,
    empty_line: bool,
) -> Result<Option<usize>, Flaw> {
    match scan(bytes, scanned, bytes.len(), empty_line)? {
        None if bytes.len() >= limits.bytes => Err(too_large("the head is longer than the limit")),
        end => Ok(end),
    }
}

/// Moves `scanned` on to `stop` or the end of `bytes`, and returns the length of the head if its blank line is there.
///
/// Every CR must be followed by LF and every LF preceded by CR. `scanned` never passes a CR whose LF is not there
/// yet, so a CR right behind an LF is an empty line: no state is needed but `scanned`.
fn scan(bytes: &[u8], scanned: &mut usize, stop: usize, empty_line: bool) -> Result<Option<usize>, Flaw> {
    let stop = stop.min(bytes.len());
    while *scanned < stop {
        let Some(hit) = memchr3(b'\r', b'\n', 0, &bytes[*scanned..stop]) else {
            *scanned = stop;
            break;
        };
        let at = *scanned + hit;
        *scanned = at;
        match (bytes[at], bytes.get(at + 1)) {
            (b'\r', None) => break,
            (b'\r', Some(b'\n')) => {}
            (b'\r', Some(_)) => return Err(malformed("a CR without LF")),
            (b'\n', _) => return Err(malformed("an LF without CR")),
            _ => return Err(malformed("a NUL byte in the head")),
        }
        match at {
            0 if !empty_line => return Err(malformed("an empty line in front of the head")),
            0 => {}
            2 if bytes[1] == b'\n' => return Err(malformed("empty lines in front of the head")),
            _ if bytes[at - 1] == b'\n' => return Ok(Some(at + 2)),
            _ => {}
        }
        *scanned = at + 2;
    }
    Ok(None)
}

/// `HTTP/` and one digit on each side of a dot (RFC 9112 section 2.3).
fn version(text: &[u8]) -> Result<Version, Flaw> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Flaw {
            kind: FaultKind::VersionUnsupported,
            note: "the version is neither HTTP/1.0 nor HTTP/1.1",
        }),
        _ => Err(malformed("the version is not HTTP/1.0 or HTTP/1.1")),
    }
}

fn once<T>(slot: &mut Option<T>, value: T, twice: &'static str) -> Result<(), Flaw> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed(twice)),
    }
}

/// Parses `lines` (header lines and the blank line behind them) and hands them to `each`.
///
/// The small table serves nearly all heads; filling the large one would cost more than parsing them.
fn with_headers(
    lines: &[u8],
    lines_max: usize,
    each: impl FnOnce(&[Header<'_>]) -> Result<(), Flaw>,
) -> Result<(), Flaw> {
    let mut few = [httparse::EMPTY_HEADER; 24];
    let mut many;
    let parsed = match httparse::parse_headers(lines, &mut few) {
        Err(httparse::Error::TooManyHeaders) => {
            many = [httparse::EMPTY_HEADER; LINES_MAX];
            httparse::parse_headers(lines, &mut many)
        }
        parsed => parsed,
    };
    match parsed {
        Ok(httparse::Status::Complete((len, headers))) if len == lines.len() => {
            if headers.len() > lines_max {
                return Err(too_large("the head has more lines than the limit"));
            }
            each(headers)
        }
        Err(httparse::Error::TooManyHeaders) => Err(too_large("the head has more lines than the limit")),
        Err(httparse::Error::HeaderName) => {
            Err(malformed("a field name is not a token right before its colon"))
        }
        Err(httparse::Error::HeaderValue) => Err(malformed("a field value holds a control byte")),
        _ => Err(malformed("a header line is malformed")),
    }
}

/// Which field a line of the head at the start of `bytes` has.
fn field_of(bytes: &[u8], header: &Header<'_>) -> Field {
    let name = span_of(header.name.as_bytes(), bytes);
    fields::classify_line(&bytes[name.start..], name.len())
}

/// Where `part`, a slice of `whole`, lies in it; an empty part may come from anywhere and lies at 0.
fn span_of(part: &[u8], whole: &[u8]) -> Span {
    if part.is_empty() {
        return Span::default();
    }
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    Span::new(start, start + part.len())
}

#[cfg(test)]
mod tests;
