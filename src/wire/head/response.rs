//! Heads of responses from a backend, which is trusted half: the same strictness, and every flaw is its fault.

use httparse::Header;
use memchr::memchr;

use super::{
    Flaw, HeadLimits, Method, Version, end, field_of, malformed, once, span_of, version, with_headers,
};
use crate::error::{Fault, FaultKind};
use crate::units::Span;
use crate::wire::Step;
use crate::wire::fields::{self, Dropped, Field};
use crate::wire::framing::{self, Coding};
use crate::wire::records::RecordForm;

/// An accepted head of a response. All spans are of the buffer it was read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResponseHead {
    /// Bytes up to and including the blank line.
    pub len: usize,
    /// The header lines, from the first to before the blank line; see `fields::lines`.
    pub fields: Span,
    /// 100 to 599, never 101. Below 200 it is an interim head: the real one follows at `len`.
    pub status: u16,
    /// The backend's version.
    pub version: Version,
    /// Where the body ends.
    pub framing: framing::Response,
    /// Whether the connection may be kept once the body is complete and nothing follows it.
    pub keep_alive: bool,
    /// Seconds the backend says it keeps an idle connection (`Keep-Alive: timeout=`).
    pub keep_alive_timeout: Option<u64>,
    /// Value of the first `Content-Type` line.
    pub content_type: Option<Span>,
    /// Value of the first `Content-Encoding` line.
    pub content_encoding: Option<Span>,
    /// Value of the first `Retry-After` line.
    pub retry_after: Option<Span>,
    /// Whether there is a `Date` line; if not, the gateway adds one.
    pub date: bool,
    /// The form of the stream that the body is by its media type.
    pub records: Option<RecordForm>,
    /// Whether the body is a stream of the form that the API has: by the head alone, of server-sent events.
    pub event_stream: bool,
    /// Whether `Connection` names fields that would otherwise travel; `fields::pass` asks.
    pub connection_named: bool,
    /// The lines that do not travel as they are, whatever `Connection` names.
    pub dropped: Dropped,
    /// The `Access-Control-*` lines, which travel unless the gateway speaks to web pages itself.
    pub access_control: Dropped,
    /// Whether the backend gave the response an id of its own (`X-Request-Id` or `request-id`).
    pub has_id: bool,
}

impl ResponseHead {
    /// Whether the body is in a content coding, which nobody asked for: it cannot be looked into. `buffer`: what was parsed.
    pub fn is_coded(&self, buffer: &[u8]) -> bool {
        let coding = self.content_encoding.map(|span| span.of(buffer));
        coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"))
    }
}

/// Reads the head at the start of `bytes` of a response to a request with method `to`.
///
/// `scanned` as for [`super::request()`]. Interim heads (status below 200) are returned too, with no body: the caller
/// passes over them, a bounded number of times. `limits.target_bytes` is not used.
///
/// Errors: always `FaultKind::BackendMalformed`; the connection must close.
pub fn response(
    bytes: &[u8],
    scanned: &mut usize,
    limits: &HeadLimits,
    to: Method,
) -> Result<Step<ResponseHead>, Fault> {
    match read(bytes, scanned, limits, to) {
        Ok(None) => Ok(Step::More),
        Ok(Some(head)) => {
            *scanned = 0;
            Ok(Step::Done(head))
        }
        Err(Flaw { note, .. }) => Err(Fault::new(FaultKind::BackendMalformed, note)),
    }
}

fn read(
    bytes: &[u8],
    scanned: &mut usize,
    limits: &HeadLimits,
    to: Method,
) -> Result<Option<ResponseHead>, Flaw> {
    let window = &bytes[..bytes.len().min(limits.bytes)];
    let Some(len) = end(window, scanned, limits, false)? else {
        return Ok(None);
    };
    let line_end = memchr(b'\r', &bytes[..len]).unwrap_or(0);
    let (version, status) = status_line(&bytes[..line_end])?;
    let fields = Span::new(line_end + 2, len - 2);

    let mut seen = Seen::default();
    with_headers(&bytes[fields.start..len], limits.lines, |headers| {
        headers.iter().enumerate().try_for_each(|(index, header)| seen.note(bytes, index, header))
    })?;

    let framing = seen.framing(version)?;
    let bodiless = to == Method::Head || status < 200 || matches!(status, 204 | 304);
    let stays = match version {
        Version::Http11 => !seen.close,
        Version::Http10 => seen.keep_alive && !seen.close,
    };
    // Both fields at once: the coding decides, and the connection is spoilt (RFC 9112 section 6.3). A response that
    // must not have a coding (section 6.1) spoils it as well.
    let doubtful = seen.coding.is_some() && (seen.length.is_some() || (bodiless && to != Method::Head));
    let open_end = !bodiless && framing == framing::Response::Close;
    let records = seen.content_type.and_then(|value| RecordForm::of_media_type(value.of(bytes)));
    Ok(Some(ResponseHead {
        len,
        fields,
        status,
        version,
        framing: if bodiless { framing::Response::None } else { framing },
        keep_alive: stays && !doubtful && !open_end,
        keep_alive_timeout: seen.keep_alive_timeout,
        content_type: seen.content_type,
        content_encoding: seen.content_encoding,
        retry_after: seen.retry_after,
        date: seen.date,
        records,
        event_stream: records == Some(RecordForm::Sse),
        connection_named: seen.connection_named,
        dropped: seen.dropped,
        access_control: seen.access_control,
        has_id: seen.has_id,
    }))
}

/// `HTTP-version SP 3DIGIT [ SP reason ]`. The blank in front of an empty reason may be missing, as it often is.
fn status_line(line: &[u8]) -> Result<(Version, u16), Flaw> {
    let (Some(name), Some(rest)) = (line.get(..8), line.get(8..)) else {
        return Err(malformed("the response does not start with an HTTP/1 status line"));
    };
    let version = version(name)?;
    let (digits, reason) = match rest {
        [b' ', a, b, c] => ([a, b, c], &[][..]),
        [b' ', a, b, c, b' ', reason @ ..] => ([a, b, c], reason),
        _ => return Err(malformed("the status is not three digits")),
    };
    if !digits.iter().all(|digit| digit.is_ascii_digit()) {
        return Err(malformed("the status is not three digits"));
    }
    let status = digits.iter().fold(0, |sum, &&digit| sum * 10 + u16::from(digit - b'0'));
    if reason.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
        return Err(malformed("the reason phrase holds a control byte"));
    }
    match status {
        101 => Err(malformed("the backend switches protocols unasked")),
        100..=599 => Ok((version, status)),
        _ => Err(malformed("the status is not between 100 and 599")),
    }
}

/// What the header lines of a response said.
#[derive(Default)]
struct Seen {
    length: Option<u64>,
    coding: Option<Coding>,
    close: bool,
    keep_alive: bool,
    connection_named: bool,
    keep_alive_timeout: Option<u64>,
    content_type: Option<Span>,
    content_encoding: Option<Span>,
    retry_after: Option<Span>,
    date: bool,
    dropped: Dropped,
    access_control: Dropped,
    has_id: bool,
}

impl Seen {
    /// Takes one line in. Two lines are refused where they frame the body; elsewhere the first counts.
    fn note(&mut self, bytes: &[u8], index: usize, header: &Header<'_>) -> Result<(), Flaw> {
        let value = header.value;
        let span = span_of(value, bytes);
        let field = field_of(bytes, header);
        if !fields::to_client(field) {
            self.dropped.add(index);
        }
        match field {
            Field::ContentLength => {
                let length =
                    framing::length(value).ok_or_else(|| malformed("the Content-Length is not a number"))?;
                once(&mut self.length, length, "two Content-Length lines")?;
            }
            Field::TransferEncoding => {
                once(&mut self.coding, framing::coding(value), "two Transfer-Encoding lines")?;
            }
            Field::Connection => self.connection(value),
            Field::KeepAlive => self.keep_alive_timeout = timeout(value),
            Field::ContentType => _ = self.content_type.get_or_insert(span),
            Field::ContentEncoding => _ = self.content_encoding.get_or_insert(span),
            Field::RetryAfter => _ = self.retry_after.get_or_insert(span),
            Field::Date => self.date = true,
            Field::AccessControl => self.access_control.add(index),
            Field::XRequestId | Field::RequestId => self.has_id = true,
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for element in fields::elements(value) {
            match () {
                () if element.eq_ignore_ascii_case(b"close") => self.close = true,
                () if element.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                () => self.connection_named |= fields::to_client(fields::classify(element)),
            }
        }
    }

    /// RFC 9112 section 6.3, for a response that may have a body. A coding we did not ask for is refused: its label
    /// goes from hop to hop only, so the next reader of the body would take it for plain.
    fn framing(&self, version: Version) -> Result<framing::Response, Flaw> {
        match (self.coding, self.length) {
            (Some(_), _) if version == Version::Http10 => Err(malformed("Transfer-Encoding in HTTP/1.0")),
            (Some(Coding::Chunked), _) => Ok(framing::Response::Chunked),
            (Some(Coding::Foreign | Coding::Misplaced | Coding::Wrapped), _) => {
                Err(malformed("a transfer coding that was not asked for"))
            }
            (Some(Coding::Malformed), _) => Err(malformed("the Transfer-Encoding is not a list of codings")),
            (None, Some(length)) => Ok(framing::Response::Length(length)),
            (None, None) => Ok(framing::Response::Close),
        }
    }
}

/// `timeout=N` among the elements of a `Keep-Alive` value, in seconds.
fn timeout(value: &[u8]) -> Option<u64> {
    fields::elements(value).find_map(|element| {
        let (name, seconds) = element.split_at_checked(8)?;
        if name.eq_ignore_ascii_case(b"timeout=") { framing::length(seconds) } else { None }
    })
}
