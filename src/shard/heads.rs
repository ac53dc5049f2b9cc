//! The lines of response heads: a backend's as the client gets them, and the gateway's own.

use super::caching::lead::Caching;
use super::exchange::Exchange;
use super::frame::{Framing, Transfer};
use super::state::Shard;
use crate::dialect::Dialect;
use crate::net::buffers::Buffer;
use crate::plan::admission::Left;
use crate::policy::auth::origin::{PageGrant, Pages};
use crate::wire::fields::{self, Field};
use crate::wire::head::{ResponseHead, Version};

/// Appends a decimal number.
pub(super) fn number(out: &mut Buffer, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the head of a backend's response as the client gets it: the backend's end-to-end lines, then our own. `bytes`:
/// what the spans of `head` are of.
pub(super) fn response_head(
    out: &mut Buffer,
    exchange: &Exchange,
    head: &ResponseHead,
    bytes: &[u8],
    transfer: Transfer,
) {
    status_line(out, head.status);
    let lines = head.fields.of(bytes);
    let dropped = match exchange.shard.plan.pages {
        Some(_) => head.dropped.or(head.access_control), // our own replace them
        None => head.dropped,
    };
    fields::pass(lines, dropped, head.connection_named, out);
    if head.has_id {
        backend_ids(out, lines);
    }
    if !head.date {
        date_line(out, &exchange.shard);
    }
    own_lines(out, exchange);
    framing_lines(out, transfer);
}

/// Appends the backend's own ids of the response, under a name that is not ours.
fn backend_ids(out: &mut Buffer, lines: &[u8]) {
    for line in fields::lines(lines) {
        if let Field::XRequestId | Field::RequestId = fields::classify(line.name) {
            out.extend_from_slice(b"x-backend-request-id: ");
            out.extend_from_slice(line.value);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends the head of a stream to which no backend has responded yet. `lines`: what [`identity_lines`] appended.
pub(super) fn heartbeat_head(out: &mut Buffer, shard: &Shard, lines: &[u8], transfer: Transfer) {
    status_line(out, 200);
    out.extend_from_slice(b"content-type: text/event-stream\r\n");
    date_line(out, shard);
    out.extend_from_slice(lines);
    framing_lines(out, transfer);
}

pub(super) fn status_line(out: &mut Buffer, status: u16) {
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

pub(super) fn date_line(out: &mut Buffer, shard: &Shard) {
    out.extend_from_slice(b"date: ");
    out.extend_from_slice(&*shard.date.borrow());
    out.extend_from_slice(b"\r\n");
}

/// Appends the lines that every response has: its id, what is left of the key's limits, and how it was served.
pub(super) fn own_lines(out: &mut Buffer, exchange: &Exchange) {
    identity_lines(out, exchange);
    if let Some(dropped) = &exchange.dropped {
        dropped_line(out, dropped);
    }
    if let Some(caching) = &exchange.caching {
        cache_lines(out, caching);
    }
    if let Some(trace) = &exchange.trace {
        out.extend_from_slice(b"x-ringway-trace: ");
        out.extend_from_slice(trace.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if exchange.shard.plan.debug_headers || exchange.wants_trace {
        debug_lines(out, exchange);
    }
}

/// Appends the members of the request that its backend was not sent.
pub(super) fn dropped_line(out: &mut Buffer, dropped: &str) {
    out.extend_from_slice(b"x-ringway-dropped: ");
    out.extend_from_slice(dropped.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends what the response cache did.
fn cache_lines(out: &mut Buffer, caching: &Caching) {
    out.extend_from_slice(b"x-ringway-cache: ");
    out.extend_from_slice(caching.part.name().as_bytes());
    if let Some(age) = caching.age_seconds {
        out.extend_from_slice(b"\r\nage: ");
        number(out, age);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends those of them that are known before a backend is: its id, and what is left of the key's limits.
pub(super) fn identity_lines(out: &mut Buffer, exchange: &Exchange) {
    let id = exchange.request_id.as_bytes();
    out.extend_from_slice(b"x-request-id: ");
    out.extend_from_slice(id);
    out.extend_from_slice(b"\r\n");
    if exchange.terms.dialect == Dialect::Anthropic {
        out.extend_from_slice(b"request-id: ");
        out.extend_from_slice(id);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(warning) = &exchange.warning {
        out.extend_from_slice(b"x-ringway-limit: ");
        out.extend_from_slice(warning.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let plan = &exchange.shard.plan;
    if let Some(pages) = &plan.pages {
        page_lines(out, pages, exchange.page);
    }
    for (names, left) in [(&REQUEST_LIMITS, &exchange.requests_left), (&TOKEN_LIMITS, &exchange.tokens_left)]
    {
        if let Some(left) = left {
            limit_lines(out, names, left);
        }
    }
}

/// What the browser may show to the page that calls: of a refusal, too, or the page could not tell why it was refused.
fn page_lines(out: &mut Buffer, pages: &Pages, page: PageGrant) {
    out.extend_from_slice(b"vary: Origin\r\n");
    match page {
        PageGrant::Listed(row) => {
            out.extend_from_slice(b"access-control-allow-origin: ");
            out.extend_from_slice(pages.origins[usize::from(row)].as_bytes());
            out.extend_from_slice(b"\r\naccess-control-allow-credentials: true\r\n");
        }
        // Also for a head that could not be read: with "*" there is nothing to compare.
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

fn debug_lines(out: &mut Buffer, exchange: &Exchange) {
    out.extend_from_slice(b"x-ringway-overhead-us: ");
    number(out, exchange.overhead.micros());
    if let Some(backend) = exchange.backend {
        out.extend_from_slice(b"\r\nx-ringway-backend: ");
        out.extend_from_slice(exchange.shard.plan.backend(backend).name.as_bytes());
    }
    if let (Some(_), Some(model)) = (exchange.fallback_for, exchange.model) {
        out.extend_from_slice(b"\r\nx-ringway-fallback: ");
        out.extend_from_slice(exchange.shard.plan.model(model).name.as_bytes());
    }
    out.extend_from_slice(b"\r\nx-ringway-attempts: ");
    number(out, exchange.attempts.into());
    out.extend_from_slice(b"\r\n");
}

/// Appends what the body's framing and the connection's future add, and the end of the head.
pub(super) fn framing_lines(out: &mut Buffer, transfer: Transfer) {
    match transfer.framing {
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Close | Framing::None => {}
    }
    match (transfer.keep_alive, transfer.version) {
        (false, _) => out.extend_from_slice(b"connection: close\r\n\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"connection: keep-alive\r\n\r\n"),
        (true, Version::Http11) => out.extend_from_slice(b"\r\n"),
    }
}

/// The names of a limit, of what is left of it, and of the time until it is full again.
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
    x-ringway-fallback, x-ringway-overhead-us, x-ringway-dropped, x-ringway-cache, x-ringway-trace, x-ringway-limit\r\n";
