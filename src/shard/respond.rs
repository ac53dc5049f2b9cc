//! What we say to a client in our own words: heads of responses, refusals, local answers.

use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use super::Shard;
use super::connection::Client;
use super::exchange::{Asked, Next};
use super::settle::Settle;
use super::watch::Interrupt;
use crate::clock;
use crate::dialect::{Dialect, refusal};
use crate::error::{Fault, FaultKind};
use crate::net::buffers::Buffer;
use crate::observe::Counter;
use crate::plan::admission::Left;
use crate::policy::auth::origin::{PageGrant, Pages};
use crate::wire::fields::{self, Field};
use crate::wire::head::{RequestHead, ResponseHead, Version};

/// Length of an IMF-fixdate (RFC 9110 section 5.6.7).
pub(super) const DATE_BYTES: usize = 29;

/// How the body of a response travels to the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    /// Exactly this many bytes.
    Length(u64),
    /// In chunks, ended by the last one.
    Chunked,
    /// Until the connection closes: HTTP/1.0 clients.
    Close,
    /// There is none, and nothing may be said of it: 204, 304 (RFC 9110 section 8.6, RFC 9112 section 6.1).
    None,
}

/// The value of `Date`.
pub(super) fn date(unix_ms: u64) -> [u8; DATE_BYTES] {
    let mut text = [0; DATE_BYTES];
    let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_millis(unix_ms));
    write!(&mut text[..], "{date}").expect("an IMF-fixdate has 29 bytes");
    text
}

/// Pushes a decimal number.
pub(super) fn number(out: &mut Buffer, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Pushes the head of a backend's response as the client gets it: the backend's end-to-end lines, then our own.
pub(super) fn response_head(
    out: &mut Buffer,
    settle: &Settle,
    asked: &Asked,
    head: &ResponseHead,
    bytes: &[u8],
    framing: Framing,
    keep_alive: bool,
) {
    status_line(out, head.status);
    let lines = head.fields.of(bytes);
    let dropped = match settle.shard.plan.pages {
        Some(_) => head.dropped.or(head.access_control), // ours take their place
        None => head.dropped,
    };
    fields::pass(lines, dropped, head.connection_named, out);
    if head.has_id {
        backend_ids(out, lines);
    }
    if !head.date {
        date_line(out, &settle.shard);
    }
    own_lines(out, settle, asked.dialect);
    framing_lines(out, asked.version, framing, keep_alive);
}

/// The backend's own ids of the response, under a name that is not ours.
fn backend_ids(out: &mut Buffer, lines: &[u8]) {
    for line in fields::lines(lines) {
        if let Field::XRequestId | Field::RequestId = fields::classify(line.name) {
            out.extend_from_slice(b"x-backend-request-id: ");
            out.extend_from_slice(line.value);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Pushes the head of a stream that no backend has answered yet. `lines`: what [`identity_lines`] pushed.
pub(super) fn early_head(
    out: &mut Buffer,
    shard: &Shard,
    lines: &[u8],
    version: Version,
    framing: Framing,
    keep_alive: bool,
) {
    status_line(out, 200);
    out.extend_from_slice(b"content-type: text/event-stream\r\n");
    date_line(out, shard);
    out.extend_from_slice(lines);
    framing_lines(out, version, framing, keep_alive);
}

/// Pushes whole records of our own into a stream.
pub(super) fn piece(out: &mut Buffer, framing: Framing, records: &[u8]) {
    if framing == Framing::Chunked {
        out.extend_from_slice(chunk_size(records.len(), &mut [0; SIZE_BYTES]));
    }
    out.extend_from_slice(records);
    if framing == Framing::Chunked {
        out.extend_from_slice(b"\r\n");
    }
}

/// Ends a stream with an error record, which is all that tells it from a whole one. `next`: what becomes of the connection
/// once it is written.
pub(super) async fn last_record(
    client: &mut Client,
    settle: &mut Settle,
    framing: Framing,
    record: &[u8],
    next: Next,
) -> Next {
    let mut out = client.shard.buffers.large();
    piece(&mut out, framing, record);
    if framing == Framing::Chunked {
        out.extend_from_slice(b"0\r\n\r\n");
    }
    let end = out.len();
    settle.release(clock::now());
    settle.record.response_bytes += end as u64;
    match client.write(out, 0..end).await {
        Ok(out) => {
            client.shard.buffers.put(out);
            next
        }
        Err(_) => Next::Close,
    }
}

/// Answers with a body of our own making; the request has been read.
pub(super) async fn local(
    client: &mut Client,
    settle: &mut Settle,
    asked: &Asked,
    status: u16,
    body: Buffer,
) -> Next {
    settle.done(status);
    let keep_alive = asked.keep_alive && !client.shard.is_draining();
    let mut out = client.shard.buffers.with_room(HEAD_ROOM + body.len());
    status_line(&mut out, status);
    out.extend_from_slice(b"content-type: application/json\r\n");
    date_line(&mut out, &settle.shard);
    own_lines(&mut out, settle, asked.dialect);
    framing_lines(&mut out, asked.version, Framing::Length(body.len() as u64), keep_alive);
    if !asked.head_only {
        out.extend_from_slice(&body);
    }
    client.shard.buffers.put(body); // a slow reader holds one of them, not both
    send(client, settle, out, if keep_alive { Next::Head } else { Next::Finish }).await
}

/// Tells a browser that the page may send what it wants to send.
pub(super) async fn preflight(
    client: &mut Client,
    settle: &mut Settle,
    asked: &Asked,
    head: &RequestHead,
) -> Next {
    settle.done(204);
    let keep_alive = asked.keep_alive && !client.shard.is_draining();
    let mut out = client.shard.buffers.with_room(HEAD_ROOM);
    status_line(&mut out, 204);
    date_line(&mut out, &settle.shard);
    own_lines(&mut out, settle, asked.dialect);
    out.extend_from_slice(PREFLIGHT_LINES);
    // The names that are asked for are allowed: what counts among them is the key, which has to be right.
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_, \t".contains(byte);
    let named = fields::lines(head.fields.of(client.inbox()))
        .find(|line| line.name.eq_ignore_ascii_case(b"access-control-request-headers"))
        .filter(|line| line.value.len() <= REQUESTED_BYTES_MAX && line.value.iter().all(is_name));
    if let Some(named) = named {
        out.extend_from_slice(b"access-control-allow-headers: ");
        out.extend_from_slice(named.value);
        out.extend_from_slice(b"\r\n");
    }
    framing_lines(&mut out, asked.version, Framing::None, keep_alive);
    send(client, settle, out, if keep_alive { Next::Head } else { Next::Finish }).await
}

/// Tells the client why not. The connection goes on only if the request has been read to its end.
pub(super) async fn refuse(
    client: &mut Client,
    settle: &mut Settle,
    asked: &Asked,
    fault: &Fault,
    request_read: bool,
) -> Next {
    let dialect = asked.dialect;
    let status = refusal::status(dialect, fault);
    settle.failed(fault.kind, status);
    let keep_alive = asked.keep_alive && request_read && !client.shard.is_draining();
    let mut out = client.shard.buffers.large();
    status_line(&mut out, status);
    out.extend_from_slice(b"content-type: application/json\r\n");
    date_line(&mut out, &settle.shard);
    refusal::lines(fault, asked.allow, &mut out);
    own_lines(&mut out, settle, dialect);
    let mut body = client.shard.buffers.large();
    refusal::render(dialect, fault, settle.record.request_id.as_bytes(), &mut body);
    framing_lines(&mut out, asked.version, Framing::Length(body.len() as u64), keep_alive);
    if !asked.head_only {
        out.extend_from_slice(&body);
    }
    client.shard.buffers.put(body);
    let next = match (keep_alive, request_read) {
        (true, _) => Next::Head,
        (false, true) => Next::Finish,
        (false, false) => Next::Linger,
    };
    send(client, settle, out, next).await
}

/// Refuses a head that could not be read; nothing is known about who sent it.
pub(super) async fn unread(client: &mut Client, fault: &Fault) {
    let mut settle = Settle::new(&client.shard, client.address.ip());
    let asked = Asked::unreadable();
    refuse(client, &mut settle, &asked, fault, false).await;
}

async fn send(client: &mut Client, settle: &mut Settle, out: Buffer, next: Next) -> Next {
    let end = out.len();
    settle.release(clock::now());
    settle.record.response_bytes += end as u64;
    settle.shard.numbers.add(Counter::BytesToClients, end as u64);
    match client.write(out, 0..end).await {
        Ok(out) => {
            client.shard.buffers.put(out);
            next
        }
        Err(interrupt) => {
            settle.failed(gone(interrupt), settle.record.status);
            Next::Close
        }
    }
}

/// The fault of a write to, or a wait for, a client that was interrupted.
pub(super) fn gone(interrupt: Interrupt) -> FaultKind {
    match interrupt {
        Interrupt::ClientGone => FaultKind::ClientGone,
        Interrupt::Due | Interrupt::ClientStalled => FaultKind::ClientStalled,
        Interrupt::Stopping => FaultKind::Draining,
        Interrupt::KeyRevoked => FaultKind::KeyRevoked,
    }
}

fn status_line(out: &mut Buffer, status: u16) {
    if status == 200 {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, status.into());
    out.push(b' '); // kept even without a reason (RFC 9112 section 4)
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    out.extend_from_slice(reason.unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn date_line(out: &mut Buffer, shard: &Shard) {
    out.extend_from_slice(b"date: ");
    out.extend_from_slice(&*shard.date.borrow());
    out.extend_from_slice(b"\r\n");
}

/// The lines on every response: its id, what is left of the key's limits, and how it was served.
fn own_lines(out: &mut Buffer, settle: &Settle, dialect: Dialect) {
    identity_lines(out, settle, dialect);
    if let Some(dropped) = &settle.dropped {
        out.extend_from_slice(b"x-ringway-dropped: ");
        out.extend_from_slice(dropped.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if settle.shard.plan.debug_headers {
        debug_lines(out, settle);
    }
}

/// Those of them that are known before a backend is: its id, and what is left of the key's limits.
pub(super) fn identity_lines(out: &mut Buffer, settle: &Settle, dialect: Dialect) {
    let id = settle.record.request_id.as_bytes();
    out.extend_from_slice(b"x-request-id: ");
    out.extend_from_slice(id);
    out.extend_from_slice(b"\r\n");
    if dialect == Dialect::Anthropic {
        out.extend_from_slice(b"request-id: ");
        out.extend_from_slice(id);
        out.extend_from_slice(b"\r\n");
    }
    let plan = &settle.shard.plan;
    if let Some(pages) = &plan.pages {
        page_lines(out, pages, settle.page);
    }
    for (names, left) in [(&REQUEST_LIMITS, &settle.requests_left), (&TOKEN_LIMITS, &settle.tokens_left)] {
        if let Some(left) = left {
            limit_lines(out, names, left);
        }
    }
}

/// What the browser may show the page that asks: also of a refusal, or the page could not tell why.
fn page_lines(out: &mut Buffer, pages: &Pages, page: PageGrant) {
    out.extend_from_slice(b"vary: Origin\r\n");
    match page {
        PageGrant::Listed(row) => {
            out.extend_from_slice(b"access-control-allow-origin: ");
            out.extend_from_slice(pages.origins[usize::from(row)].as_bytes());
            out.extend_from_slice(b"\r\naccess-control-allow-credentials: true\r\n");
        }
        // Of a head that could not be read, too: with "*" there is nothing to compare.
        _ if pages.any => out.extend_from_slice(b"access-control-allow-origin: *\r\n"),
        _ => return,
    }
    out.extend_from_slice(EXPOSED_LINE);
}

fn limit_lines(out: &mut Buffer, names: &[&[u8]; 3], left: &Left) {
    let values = [left.per_minute, left.room.remaining, left.room.reset.0.div_ceil(1_000_000)];
    for (name, value) in names.iter().zip(values) {
        out.extend_from_slice(name);
        number(out, value);
    }
    out.extend_from_slice(b"ms\r\n");
}

fn debug_lines(out: &mut Buffer, settle: &Settle) {
    out.extend_from_slice(b"x-ringway-overhead-us: ");
    number(out, settle.record.overhead.micros());
    if let Some(backend) = settle.record.backend {
        out.extend_from_slice(b"\r\nx-ringway-backend: ");
        out.extend_from_slice(settle.shard.plan.backend(backend).name.as_bytes());
    }
    if let (Some(_), Some(model)) = (settle.record.fallback_for, settle.record.model) {
        out.extend_from_slice(b"\r\nx-ringway-fallback: ");
        out.extend_from_slice(settle.shard.plan.model(model).name.as_bytes());
    }
    out.extend_from_slice(b"\r\nx-ringway-attempts: ");
    number(out, settle.record.attempts.into());
    out.extend_from_slice(b"\r\n");
}

fn framing_lines(out: &mut Buffer, version: Version, framing: Framing, keep_alive: bool) {
    match framing {
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Close | Framing::None => {}
    }
    match (keep_alive, version) {
        (false, _) => out.extend_from_slice(b"connection: close\r\n\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"connection: keep-alive\r\n\r\n"),
        (true, Version::Http11) => out.extend_from_slice(b"\r\n"),
    }
}

/// The size line of a chunk (RFC 9112 section 7.1), written into the end of `digits`.
pub(super) fn chunk_size(bytes: usize, digits: &mut [u8; SIZE_BYTES]) -> &[u8] {
    let mut at = SIZE_BYTES - 2;
    digits[at..].copy_from_slice(b"\r\n");
    let mut rest = bytes;
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[rest % 16];
        rest /= 16;
        if rest == 0 {
            return &digits[at..];
        }
    }
}

/// The names of a limit, of what is left of it, and of the time until it is whole again.
const REQUEST_LIMITS: [&[u8]; 3] = [
    b"x-ratelimit-limit-requests: ",
    b"\r\nx-ratelimit-remaining-requests: ",
    b"\r\nx-ratelimit-reset-requests: ",
];
const TOKEN_LIMITS: [&[u8]; 3] =
    [b"x-ratelimit-limit-tokens: ", b"\r\nx-ratelimit-remaining-tokens: ", b"\r\nx-ratelimit-reset-tokens: "];
/// The names of our own lines, and of a backend's id, which a page may read.
const EXPOSED_LINE: &[u8] = b"access-control-expose-headers: x-request-id, request-id, x-backend-request-id, retry-after, \
    retry-after-ms, x-should-retry, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, \
    x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, x-ringway-backend, x-ringway-attempts, \
    x-ringway-fallback, x-ringway-overhead-us, x-ringway-dropped\r\n";
/// What is the same in every preflight response. Ten minutes: browsers keep it for two hours at most.
const PREFLIGHT_LINES: &[u8] = b"vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n\
    access-control-allow-methods: GET, HEAD, POST, PUT, PATCH, DELETE\r\naccess-control-max-age: 600\r\n";
/// Names of header lines that a preflight may ask for, in bytes.
const REQUESTED_BYTES_MAX: usize = 4 * 1024;
/// The interim response that asks for the body (RFC 9110 section 15.2.1).
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// A head of ours fits.
const HEAD_ROOM: usize = 2048;
/// Sixteen digits and CRLF, rounded up.
pub(super) const SIZE_BYTES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_lower_case_hex() {
        for (bytes, line) in
            [(1, "1\r\n"), (16, "10\r\n"), (255, "ff\r\n"), (usize::MAX, "ffffffffffffffff\r\n")]
        {
            assert_eq!(chunk_size(bytes, &mut [0; SIZE_BYTES]), line.as_bytes());
        }
    }
}
