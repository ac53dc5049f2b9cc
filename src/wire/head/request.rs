//! Heads of requests: the strictest of all, for what a client sends decides who pays and where it goes.

use httparse::Header;
use memchr::{memchr, memrchr};

use super::{
    Flaw, HeadLimits, Method, Version, end, field_of, malformed, once, scan, span_of, target, version,
    with_headers,
};
use crate::error::{Fault, FaultKind};
use crate::units::Span;
use crate::wire::Step;
use crate::wire::fields::{self, Dropped, Field};
use crate::wire::framing::{self, Coding};

/// An accepted request head. All spans are of the buffer it was read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestHead {
    /// Bytes up to and including the blank line, a tolerated empty line in front included.
    pub len: usize,
    /// The header lines, from the first to before the blank line; see `fields::lines`.
    pub fields: Span,
    /// What is asked.
    pub method: Method,
    /// The client's version.
    pub version: Version,
    /// The request target as sent.
    pub target: Span,
    /// Its path, starting with `/`; `*` for `OPTIONS *`. Free of dot segments, empty segments and their encodings.
    pub path: Span,
    /// Its query without the `?`; empty if there is none.
    pub query: Span,
    /// `host[:port]`: the `Host` line, or for HTTP/1.0 without one the target's authority, or empty.
    pub host: Span,
    /// Where the body ends.
    pub framing: framing::Request,
    /// Whether the client lets another request follow. Never for HTTP/1.0 (RFC 9112 section 9.3: a proxy must not).
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends its body.
    pub expect_continue: bool,
    /// Value of the `Authorization` line.
    pub authorization: Option<Span>,
    /// Values of the `x-api-key`, `api-key` and `x-goog-api-key` lines. If there are several credentials, the caller decides.
    pub api_keys: [Option<Span>; 3],
    /// Whether there is an `X-Forwarded-For` line.
    pub forwarded_for: bool,
    /// Value of the first `X-Request-Id` line.
    pub request_id: Option<Span>,
    /// Value of the `Origin` line: the web page that asks.
    pub origin: Option<Span>,
    /// Value of the `Content-Type` line.
    pub content_type: Option<Span>,
    /// Value of the `Content-Encoding` line.
    pub content_encoding: Option<Span>,
    /// Whether `Connection` names fields that would otherwise travel; `fields::pass` asks.
    pub connection_named: bool,
    /// The lines that do not travel, whatever `Connection` names.
    pub dropped: Dropped,
    /// Whether there is a `Via` line.
    pub via: bool,
}

/// Reads the request head at the start of `bytes`.
///
/// `scanned` belongs to the caller, who keeps it with the buffer: how far the search for the end has come. It starts
/// at 0, is set back to 0 with the head, and makes a dribbled head cost no more than a whole one.
///
/// Errors: a client's `Fault` with its status (400, 405, 414, 417, 431, 501, 505); the connection must close.
/// Cost: two passes over the head, no allocation; `bench/wire.rs` has the numbers.
pub fn request(bytes: &[u8], scanned: &mut usize, limits: &HeadLimits) -> Result<Step<RequestHead>, Fault> {
    match read_request(bytes, scanned, limits) {
        Ok(None) => Ok(Step::More),
        Ok(Some(head)) => {
            *scanned = 0;
            Ok(Step::Done(head))
        }
        Err(Flaw { kind, note }) => Err(Fault::new(kind, note)),
    }
}

fn read_request(bytes: &[u8], scanned: &mut usize, limits: &HeadLimits) -> Result<Option<RequestHead>, Flaw> {
    let Some(len) = end_of_request(bytes, scanned, limits)? else {
        return Ok(None);
    };
    let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let line_end = start + memchr(b'\r', &bytes[start..len]).unwrap_or(0);
    let line = RequestLine::read(bytes, Span::new(start, line_end))?;
    if line.target.len() > limits.target_bytes {
        return Err(target_too_long());
    }
    let method = method(line.method.of(bytes))?;
    let target = target::read(bytes, line.target, method).map_err(malformed)?;
    let fields = Span::new(line_end + 2, len - 2);

    let mut seen = Seen::default();
    with_headers(&bytes[fields.start..len], limits.lines, |headers| {
        headers.iter().enumerate().try_for_each(|(index, header)| seen.note(bytes, index, header))
    })?;

    let framing = seen.framing(line.version)?;
    let wants_continue = seen.expect(line.version)?;
    Ok(Some(RequestHead {
        len,
        fields,
        method,
        version: line.version,
        target: line.target,
        path: target.path,
        query: target.query,
        host: host(bytes, line.version, seen.host, target.authority)?,
        framing,
        keep_alive: line.version == Version::Http11 && !seen.close,
        expect_continue: wants_continue
            && !matches!(framing, framing::Request::None | framing::Request::Length(0)),
        authorization: seen.authorization,
        api_keys: seen.api_keys,
        forwarded_for: seen.forwarded_for,
        request_id: seen.request_id,
        origin: seen.origin,
        content_type: seen.content_type,
        content_encoding: seen.content_encoding,
        connection_named: seen.connection_named,
        dropped: seen.dropped,
        via: seen.via,
    }))
}

/// The end of a request head: one empty line in front is tolerated (RFC 9112 section 2.2), a second is not.
///
/// A first line that is too long for any allowed target is refused at that length, whatever follows, so that the
/// answer is the same for every cut.
fn end_of_request(bytes: &[u8], scanned: &mut usize, limits: &HeadLimits) -> Result<Option<usize>, Flaw> {
    let window = bytes.len().min(limits.bytes);
    let line_max = limits.target_bytes.saturating_add(LINE_EXTRA);
    if *scanned < line_max {
        if let Some(len) = scan(&bytes[..window], scanned, line_max, true)? {
            return Ok(Some(len));
        }
        if *scanned >= line_max && memchr(b'\r', &bytes[2..line_max]).is_none() {
            let method_ends = bytes[..LINE_EXTRA].contains(&b' ');
            return Err(if method_ends {
                target_too_long()
            } else {
                malformed("the request line has no target")
            });
        }
    }
    end(&bytes[..window], scanned, limits, true)
}

/// Bytes of a request line besides its target, at most: an empty line in front, the longest method, the version.
const LINE_EXTRA: usize = 32;

fn target_too_long() -> Flaw {
    Flaw { kind: FaultKind::TargetTooLong, note: "the request target is longer than the limit" }
}

/// `method SP request-target SP HTTP-version`, split and not yet judged except for the version.
struct RequestLine {
    method: Span,
    target: Span,
    version: Version,
}

impl RequestLine {
    fn read(bytes: &[u8], line: Span) -> Result<Self, Flaw> {
        let text = line.of(bytes);
        let (Some(first), Some(last)) = (memchr(b' ', text), memrchr(b' ', text)) else {
            return Err(malformed("the request line has no target"));
        };
        if first == last {
            return Err(malformed("the request line has no version"));
        }
        Ok(Self {
            method: Span::new(line.start, line.start + first),
            target: Span::new(line.start + first + 1, line.start + last),
            version: version(&text[last + 1..])?,
        })
    }
}

/// Methods are case-sensitive (RFC 9110 section 9.1).
fn method(name: &[u8]) -> Result<Method, Flaw> {
    Ok(match name {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"POST" => Method::Post,
        b"PUT" => Method::Put,
        b"PATCH" => Method::Patch,
        b"DELETE" => Method::Delete,
        b"OPTIONS" => Method::Options,
        b"TRACE" | b"CONNECT" => {
            return Err(Flaw {
                kind: FaultKind::MethodNotAllowed,
                note: "TRACE and CONNECT are not allowed",
            });
        }
        _ if !name.is_empty() && name.iter().all(|&byte| fields::is_token(byte)) => {
            return Err(Flaw { kind: FaultKind::NotImplemented, note: "the method is not implemented" });
        }
        _ => return Err(malformed("the method is not a token")),
    })
}

/// The one host of a request (RFC 9112 section 3.2): an absolute target must name the same as the `Host` line.
fn host(bytes: &[u8], version: Version, line: Option<Span>, authority: Option<Span>) -> Result<Span, Flaw> {
    match (line, authority) {
        (Some(line), _) if !target::is_authority(line.of(bytes)) => {
            Err(malformed("the Host is not host[:port]"))
        }
        (Some(line), Some(authority)) if !line.of(bytes).eq_ignore_ascii_case(authority.of(bytes)) => {
            Err(malformed("the request target and the Host differ"))
        }
        (Some(line), _) => Ok(line),
        (None, _) if version == Version::Http11 => Err(malformed("there is no Host")),
        (None, authority) => Ok(authority.unwrap_or_default()),
    }
}

/// What the header lines of a request said, each at most once.
#[derive(Default)]
struct Seen {
    host: Option<Span>,
    length: Option<u64>,
    coding: Option<Coding>,
    close: bool,
    connection_named: bool,
    expect: Option<bool>,
    authorization: Option<Span>,
    api_keys: [Option<Span>; 3],
    forwarded_for: bool,
    request_id: Option<Span>,
    origin: Option<Span>,
    content_type: Option<Span>,
    content_encoding: Option<Span>,
    dropped: Dropped,
    via: bool,
}

impl Seen {
    /// Takes one line in. A second line of a field that decides something is refused, even with an equal value
    /// (stricter than the RFC for `Content-Length`): which one counts must not depend on who reads.
    fn note(&mut self, bytes: &[u8], index: usize, header: &Header<'_>) -> Result<(), Flaw> {
        let (name, value) = (header.name.as_bytes(), header.value);
        let span = span_of(value, bytes);
        let field = field_of(bytes, header);
        if !fields::to_backend(field) {
            self.dropped.add(index);
        }
        match field {
            Field::Host => once(&mut self.host, span, "two Host lines"),
            Field::ContentLength => {
                let length =
                    framing::length(value).ok_or_else(|| malformed("the Content-Length is not a number"))?;
                once(&mut self.length, length, "two Content-Length lines")
            }
            Field::TransferEncoding => {
                once(&mut self.coding, framing::coding(value), "two Transfer-Encoding lines")
            }
            Field::Connection => self.connection(value),
            Field::Expect => {
                let known = value.eq_ignore_ascii_case(b"100-continue");
                self.expect = Some(known && self.expect.is_none());
                Ok(())
            }
            Field::Authorization => once(&mut self.authorization, span, "two Authorization lines"),
            Field::ApiKey => once(&mut self.api_keys[0], span, "two x-api-key lines"),
            Field::AzureApiKey => once(&mut self.api_keys[1], span, "two api-key lines"),
            Field::GoogleApiKey => once(&mut self.api_keys[2], span, "two x-goog-api-key lines"),
            Field::Origin => once(&mut self.origin, span, "two Origin lines"),
            Field::ContentType => once(&mut self.content_type, span, "two Content-Type lines"),
            Field::ContentEncoding => once(&mut self.content_encoding, span, "two Content-Encoding lines"),
            Field::XForwardedFor => {
                self.forwarded_for = true;
                Ok(())
            }
            Field::XRequestId => {
                self.request_id.get_or_insert(span);
                Ok(())
            }
            Field::Via => {
                self.via = true;
                Ok(())
            }
            Field::Other if is_framing_in_disguise(name) => {
                Err(malformed("a framing field is written with an underscore"))
            }
            _ => Ok(()),
        }
    }

    /// RFC 9112 section 9.6 and RFC 9110 section 7.6.1. What frames or routes the message cannot be taken away.
    fn connection(&mut self, value: &[u8]) -> Result<(), Flaw> {
        for element in fields::elements(value) {
            match fields::classify(element) {
                Field::TransferEncoding | Field::ContentLength | Field::Host => {
                    return Err(malformed("Connection names a field that frames or routes the message"));
                }
                _ if element.eq_ignore_ascii_case(b"close") => self.close = true,
                field => self.connection_named |= fields::to_backend(field),
            }
        }
        Ok(())
    }

    /// RFC 9112 section 6.3; both fields at once, or a coding in HTTP/1.0, are refused.
    fn framing(&self, version: Version) -> Result<framing::Request, Flaw> {
        match (self.coding, self.length) {
            (None, None) => Ok(framing::Request::None),
            (None, Some(length)) => Ok(framing::Request::Length(length)),
            (Some(_), Some(_)) => Err(malformed("both Content-Length and Transfer-Encoding")),
            (Some(_), None) if version == Version::Http10 => Err(malformed("Transfer-Encoding in HTTP/1.0")),
            (Some(Coding::Chunked), None) => Ok(framing::Request::Chunked),
            (Some(Coding::Foreign | Coding::Wrapped), None) => Err(Flaw {
                kind: FaultKind::NotImplemented,
                note: "the only transfer coding implemented is chunked",
            }),
            (Some(Coding::Misplaced), None) => Err(malformed("chunked is not the last transfer coding")),
            (Some(Coding::Malformed), None) => {
                Err(malformed("the Transfer-Encoding is not a list of codings"))
            }
        }
    }

    /// Whether the client waits for a 100; HTTP/1.0 cannot (RFC 9110 section 10.1.1).
    fn expect(&self, version: Version) -> Result<bool, Flaw> {
        match self.expect {
            _ if version == Version::Http10 => Ok(false),
            Some(false) => Err(Flaw {
                kind: FaultKind::ExpectationFailed,
                note: "the only expectation known is one 100-continue",
            }),
            Some(true) => Ok(true),
            None => Ok(false),
        }
    }
}

/// `Content_Length` and the like: some servers read `_` as `-`, so they are never passed on.
fn is_framing_in_disguise(name: &[u8]) -> bool {
    match name.len() {
        14 => fields::same_but_underscores(name, b"content-length"),
        17 => fields::same_but_underscores(name, b"transfer-encoding"),
        _ => false,
    }
}
