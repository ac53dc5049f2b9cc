//! Header lines of a head that `head` has already accepted: which field is it, and may it travel?

use memchr::{memchr, memchr_iter};

/// One header line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line<'a> {
    /// Field name as sent, any case.
    pub name: &'a [u8],
    /// Field value without the SP and HTAB around it.
    pub value: &'a [u8],
    /// The whole line with its CRLF, to be passed on as it is.
    pub raw: &'a [u8],
}

/// The lines of `fields`, the `fields` span of an accepted head. Validates nothing; on other bytes the lines are
/// wrong, but it never panics and always ends.
pub fn lines(fields: &[u8]) -> Lines<'_> {
    Lines { rest: fields }
}

/// Iterator over header lines, see [`lines`].
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let end = memchr(b'\n', self.rest).map_or(self.rest.len(), |at| at + 1);
        let (raw, rest) = self.rest.split_at(end);
        self.rest = rest;
        let text = raw.strip_suffix(b"\r\n").unwrap_or(raw);
        let colon = memchr(b':', text).unwrap_or(text.len());
        let value = text.get(colon + 1..).unwrap_or_default();
        Some(Line { name: &text[..colon], value: trim(value), raw })
    }
}

/// The lines of a head that go no further, a bit by the index of the line; all of them fit (`head::LINES_MAX`).
///
/// Decided where the head is read, which has to know every field anyway: passing the rest on takes no second look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped(u128);

impl Dropped {
    /// Line `index` stays here.
    pub(super) fn add(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    /// What is in either.
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether line `index` stays here.
    fn contains(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }

    /// Appends all other lines.
    fn pass(self, fields: &[u8], out: &mut Vec<u8>) {
        let (mut bits, mut kept, mut start) = (self.0, 0, 0);
        for end in memchr_iter(b'\n', fields).map(|at| at + 1) {
            if bits == 0 {
                break;
            }
            if bits & 1 == 1 {
                out.extend_from_slice(&fields[kept..start]);
                kept = end;
            }
            bits >>= 1;
            start = end;
        }
        out.extend_from_slice(&fields[kept..]);
    }
}

/// The fields the gateway knows by name; everything else is `Other` and travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// `Connection`.
    Connection,
    /// `Close`, a name that is reserved, since `Connection: close` would mean it (RFC 9112 section 9.6).
    Close,
    /// `Keep-Alive`.
    KeepAlive,
    /// `Proxy-Connection`, never standardised, still sent.
    ProxyConnection,
    /// `Proxy-Authenticate`.
    ProxyAuthenticate,
    /// `Proxy-Authorization`.
    ProxyAuthorization,
    /// `TE`.
    Te,
    /// `Trailer`.
    Trailer,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Upgrade`.
    Upgrade,
    /// `HTTP2-Settings`.
    Http2Settings,
    /// `Content-Length`.
    ContentLength,
    /// `Host`.
    Host,
    /// `Authorization`.
    Authorization,
    /// `x-api-key` (Anthropic).
    ApiKey,
    /// `api-key` (Azure).
    AzureApiKey,
    /// `x-goog-api-key` (Google).
    GoogleApiKey,
    /// `Cookie`.
    Cookie,
    /// `Origin`: the web page that asks.
    Origin,
    /// `Access-Control-*`.
    AccessControl,
    /// `Expect`.
    Expect,
    /// `Accept-Encoding`.
    AcceptEncoding,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `X-Forwarded-Host`.
    XForwardedHost,
    /// `X-Forwarded-Proto`.
    XForwardedProto,
    /// Any other `X-Forwarded-*`.
    XForwarded,
    /// `Forwarded`.
    Forwarded,
    /// `X-Real-IP`.
    XRealIp,
    /// `X-Request-Id`.
    XRequestId,
    /// `Via`.
    Via,
    /// `Date`.
    Date,
    /// `Server`.
    Server,
    /// `Content-Type`.
    ContentType,
    /// `Content-Encoding`.
    ContentEncoding,
    /// `Set-Cookie`.
    SetCookie,
    /// `Alt-Svc`.
    AltSvc,
    /// `Strict-Transport-Security`.
    Hsts,
    /// `Retry-After`.
    RetryAfter,
    /// `x-ratelimit-*`, `anthropic-ratelimit-*`, `ratelimit`, `ratelimit-*`, `retry-after-ms`.
    RateLimit,
    /// `openai-organization`, `openai-project`, `anthropic-organization-id`: whose account it is.
    OpenAiOrganization,
    /// `cf-*`.
    CfRay,
    /// `x-ringway-*`, the gateway's own, also with `_` for any `-`.
    Ringway,
    /// `request-id` (Anthropic).
    RequestId,
    /// `x-should-retry`.
    ShouldRetry,
    /// Any other.
    Other,
}

/// Which field `name` is, in any case.
///
/// `_` counts as `-` only in the gateway's own `x-ringway-` prefix; `head` refuses the underscore spellings of the
/// framing fields.
pub fn classify(name: &[u8]) -> Field {
    let mut front = [0; KNOWN_BYTES];
    let start = name.len().min(KNOWN_BYTES);
    front[..start].copy_from_slice(&name[..start]);
    known(front, name.len())
}

/// The same for the first `length` bytes of `line`, which a colon follows: no copy of a length known only at run time.
pub(super) fn classify_line(line: &[u8], length: usize) -> Field {
    match line.first_chunk() {
        Some(front) => known(*front, length),
        None => classify(&line[..length]),
    }
}

/// Which field has a name of `length` bytes with this front. What stands in `front` behind the name begins with a zero
/// or a colon, which no known name holds.
fn known(front: [u8; KNOWN_BYTES], length: usize) -> Field {
    // Folded as a whole, so that each comparison is one of a known number of bytes.
    let lower = front.map(|byte| byte.to_ascii_lowercase());
    match length {
        2 if is(&lower, b"te") => Field::Te,
        3 if is(&lower, b"via") => Field::Via,
        4 if is(&lower, b"host") => Field::Host,
        4 if is(&lower, b"date") => Field::Date,
        5 if is(&lower, b"close") => Field::Close,
        6 if is(&lower, b"expect") => Field::Expect,
        6 if is(&lower, b"server") => Field::Server,
        6 if is(&lower, b"cookie") => Field::Cookie,
        6 if is(&lower, b"origin") => Field::Origin,
        7 if is(&lower, b"api-key") => Field::AzureApiKey,
        7 if is(&lower, b"upgrade") => Field::Upgrade,
        7 if is(&lower, b"trailer") => Field::Trailer,
        7 if is(&lower, b"alt-svc") => Field::AltSvc,
        9 if is(&lower, b"x-api-key") => Field::ApiKey,
        9 if is(&lower, b"forwarded") => Field::Forwarded,
        9 if is(&lower, b"x-real-ip") => Field::XRealIp,
        9 if is(&lower, b"ratelimit") => Field::RateLimit,
        10 if is(&lower, b"connection") => Field::Connection,
        10 if is(&lower, b"keep-alive") => Field::KeepAlive,
        10 if is(&lower, b"request-id") => Field::RequestId,
        10 if is(&lower, b"set-cookie") => Field::SetCookie,
        11 if is(&lower, b"retry-after") => Field::RetryAfter,
        12 if is(&lower, b"content-type") => Field::ContentType,
        12 if is(&lower, b"x-request-id") => Field::XRequestId,
        13 if is(&lower, b"authorization") => Field::Authorization,
        14 if is(&lower, b"content-length") => Field::ContentLength,
        14 if is(&lower, b"retry-after-ms") => Field::RateLimit,
        14 if is(&lower, b"x-should-retry") => Field::ShouldRetry,
        14 if is(&lower, b"x-goog-api-key") => Field::GoogleApiKey,
        14 if is(&lower, b"openai-project") => Field::OpenAiOrganization,
        14 if is(&lower, b"http2-settings") => Field::Http2Settings,
        15 if is(&lower, b"accept-encoding") => Field::AcceptEncoding,
        15 if is(&lower, b"x-forwarded-for") => Field::XForwardedFor,
        16 if is(&lower, b"content-encoding") => Field::ContentEncoding,
        16 if is(&lower, b"x-forwarded-host") => Field::XForwardedHost,
        16 if is(&lower, b"proxy-connection") => Field::ProxyConnection,
        17 if is(&lower, b"transfer-encoding") => Field::TransferEncoding,
        17 if is(&lower, b"x-forwarded-proto") => Field::XForwardedProto,
        18 if is(&lower, b"proxy-authenticate") => Field::ProxyAuthenticate,
        19 if is(&lower, b"openai-organization") => Field::OpenAiOrganization,
        19 if is(&lower, b"proxy-authorization") => Field::ProxyAuthorization,
        25 if is(&lower, b"strict-transport-security") => Field::Hsts,
        25 if is(&lower, b"anthropic-organization-id") => Field::OpenAiOrganization,
        _ => family(&lower),
    }
}

/// At least the length of the longest name that is known.
const KNOWN_BYTES: usize = 32;

fn is<const N: usize>(lower: &[u8; KNOWN_BYTES], known: &[u8; N]) -> bool {
    lower[..N] == known[..]
}

/// The fields known by their first letters, in lower case and filled up with zeros.
fn family(lower: &[u8; KNOWN_BYTES]) -> Field {
    match lower[0] {
        b'x' if is(lower, b"x-ratelimit-") => Field::RateLimit,
        b'x' if is(lower, b"x-forwarded-") => Field::XForwarded,
        b'x' if same_but_underscores(&lower[..10], b"x-ringway-") => Field::Ringway,
        b'a' if is(lower, b"anthropic-ratelimit-") => Field::RateLimit,
        b'a' if is(lower, b"access-control-") => Field::AccessControl,
        b'r' if is(lower, b"ratelimit-") => Field::RateLimit,
        b'c' if is(lower, b"cf-") => Field::CfRay,
        _ => Field::Other,
    }
}

/// Whether a client's line of this kind may travel to the backend.
///
/// Not the hop-by-hop ones (RFC 9110 section 7.6.1), nor what the gateway decides itself: framing, the body's coding, `Host`,
/// credentials and whose account they name, who the client is, which web page asks, the request's id. `Via` travels: the
/// gateway's own line comes after it.
pub fn to_backend(field: Field) -> bool {
    use Field::*;
    !hop_by_hop(field)
        && !matches!(
            field,
            ContentLength
                | Host
                | Authorization
                | ApiKey
                | AzureApiKey
                | GoogleApiKey
                | Cookie
                | Origin
                | AccessControl
                | OpenAiOrganization
                | ContentEncoding
                | Expect
                | AcceptEncoding
                | XForwardedFor
                | XForwardedHost
                | XForwardedProto
                | XForwarded
                | Forwarded
                | XRealIp
                | CfRay
                | XRequestId
                | RequestId
                | Ringway
        )
}

/// Whether a backend's line of this kind may travel to the client.
///
/// Not the hop-by-hop ones, framing, what would bind the client to the backend's origin (cookies, `Alt-Svc`,
/// HSTS), what names the operator's account or echoes a credential, the backend's rate limits (they are not the
/// client's), its ids (the caller renames them), and anything in the gateway's own name.
pub fn to_client(field: Field) -> bool {
    use Field::*;
    !hop_by_hop(field)
        && !matches!(
            field,
            ContentLength
                | Host
                | Authorization
                | ApiKey
                | AzureApiKey
                | GoogleApiKey
                | Cookie
                | SetCookie
                | AltSvc
                | Hsts
                | OpenAiOrganization
                | CfRay
                | XRequestId
                | RequestId
                | RateLimit
                | Ringway
        )
}

/// The fields that speak about one connection only, listed in `Connection` or not.
fn hop_by_hop(field: Field) -> bool {
    use Field::*;
    matches!(
        field,
        Connection
            | Close
            | KeepAlive
            | ProxyConnection
            | ProxyAuthenticate
            | ProxyAuthorization
            | Te
            | Trailer
            | TransferEncoding
            | Upgrade
            | Http2Settings
    )
}

/// Appends the lines that travel, byte for byte: `fields`, `dropped` and `connection_named` are those of one head.
pub fn pass(fields: &[u8], dropped: Dropped, connection_named: bool, out: &mut Vec<u8>) {
    match connection_named {
        false => dropped.pass(fields, out),
        true => pass_unnamed(dropped, fields, out),
    }
}

/// The same but for lines whose names are listed in the `Connection` lines: they go no further (RFC 9110 section
/// 7.6.1). Rare, so the cost may grow with the square of the lines.
fn pass_unnamed(dropped: Dropped, fields: &[u8], out: &mut Vec<u8>) {
    for (index, line) in lines(fields).enumerate() {
        if !dropped.contains(index) && !is_named(fields, line.name) {
            out.extend_from_slice(line.raw);
        }
    }
}

/// Whether a `Connection` line lists `name`, in any case.
fn is_named(fields: &[u8], name: &[u8]) -> bool {
    lines(fields)
        .filter(|line| line.name.eq_ignore_ascii_case(b"connection"))
        .any(|line| elements(line.value).any(|element| element.eq_ignore_ascii_case(name)))
}

/// The non-empty elements of a comma-separated value (RFC 9110 section 5.6.1).
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// Whether `name` is `known` (in lower case, with `-`) in any case and with `_` for any `-`.
pub(super) fn same_but_underscores(name: &[u8], known: &[u8]) -> bool {
    let dashed = |byte: u8| {
        if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
    };
    name.len() == known.len() && name.iter().zip(known).all(|(&byte, &known)| dashed(byte) == known)
}

/// Whether `byte` may stand in a token (RFC 9110 section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// By byte.
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut index = 0;
    while index < marks.len() {
        table[marks[index] as usize] = true;
        index += 1;
    }
    table
};

/// `bytes` without SP and HTAB at both ends (OWS, RFC 9110 section 5.6.3); no other byte counts as whitespace.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

#[cfg(test)]
mod tests;
