//! The body of a request: read whole, out of its framing and its content coding, in the client's inbox.

use std::future::poll_fn;
use std::task::Poll;

use super::client::{Client, READ_BYTES};
use super::decode::dechunk;
use super::exchange::Exchange;
use crate::error::{Fault, FaultKind};
use crate::units::{Nanos, Span};
use crate::wire::chunked::{self, Chunked};
use crate::wire::coding::{self, BadCoding, ContentCoding, Decoding};
use crate::wire::framing;
use crate::wire::head::RequestHead;

/// A request body that has been read whole.
pub(super) struct Body {
    /// Where in the inbox; chunks have been put together there, and a compressed body is decoded there.
    pub(super) span: Span,
    /// Bytes of the inbox that belong to this request.
    end: usize,
    /// Bytes received for it, head and framing included.
    received: usize,
}

impl Body {
    /// Of a request that was kept.
    pub(super) fn kept(span: Span) -> Self {
        Self { span, end: span.end, received: span.end }
    }

    /// The payload; `inbox` is the client's.
    pub(super) fn of<'a>(&'a self, inbox: &'a [u8]) -> &'a [u8] {
        self.span.of(inbox)
    }

    /// Puts another payload in its place, in the request that is sent to backends.
    pub(super) fn replace(&mut self, client: &mut Client, head: &RequestHead, payload: &[u8]) {
        let request = [&client.inbox()[..head.len], payload].concat();
        let end = request.len();
        client.replace_request(self.end, request);
        *self = Self { span: Span::new(head.len, end), end, received: self.received };
    }
}

/// Reads the body of a request to its end and decodes it.
///
/// # Errors
/// The client left, is too slow, sends more than the limit, breaks the framing, or uses a coding that is not read.
pub(super) async fn read(
    client: &mut Client,
    exchange: &mut Exchange,
    head: &RequestHead,
) -> Result<Body, Fault> {
    exchange.is_request_read = false;
    // While a read fills the inbox, its bytes are not here to be removed. A body that is not read ends the connection.
    client.start_request(0);
    let mut body = receive(client, head).await?;
    client.start_request(body.end);
    exchange.is_request_read = true;
    exchange.request_bytes = body.received as u64;
    if head.content_encoding.is_some() {
        decode(client, head, &mut body).await?;
    }
    client.keep_request(body.end);
    Ok(body)
}

/// Receives the body, at a pace of at least a kibibyte a second.
async fn receive(client: &mut Client, head: &RequestHead) -> Result<Body, Fault> {
    if head.expect_continue && client.inbox().len() == head.len && head.framing != framing::Request::None {
        let ask = CONTINUE.to_vec();
        let end = ask.len();
        client.write(ask, 0..end).await.map_err(|interrupt| {
            Fault::new(interrupt.client_fault(), "the client left before it sent its body")
        })?;
    }
    let started = client.deadline.now();
    match head.framing {
        framing::Request::None => {
            Ok(Body { span: Span::new(head.len, head.len), end: head.len, received: head.len })
        }
        framing::Request::Length(length) => {
            let end = head.len + length as usize; // phases bounded it
            while client.inbox().len() < end {
                let missing = end - client.inbox().len();
                fill(client, missing, started, client.inbox().len() - head.len).await?;
            }
            Ok(Body { span: Span::new(head.len, end), end, received: end })
        }
        framing::Request::Chunked => read_chunks(client, head, started).await,
    }
}

/// The payload is moved together in place, read by read: framing and payload are never both in memory.
async fn read_chunks(client: &mut Client, head: &RequestHead, started: Nanos) -> Result<Body, Fault> {
    let most = client.shard.plan.limits.body_bytes;
    let mut chunks = Chunked::new(chunked::Limits::default());
    let mut end = head.len;
    let mut received = head.len;
    loop {
        let from = end;
        let (decoded, read) = dechunk(&mut chunks, client.inbox_mut(), from);
        end = decoded;
        if (end - head.len) as u64 > most {
            let note = format!("the body has more than the limit of {most} bytes");
            return Err(Fault::new(FaultKind::BodyTooLarge, note));
        }
        match read {
            Ok(Some(next)) => {
                client.inbox_mut().drain(end..next);
                received += next - from;
                return Ok(Body { span: Span::new(head.len, end), end, received });
            }
            Ok(None) => {
                received += client.inbox().len() - from;
                client.inbox_mut().truncate(end);
            }
            Err(bad) => {
                let note = format!("chunked body: {}", bad.reason);
                return Err(Fault::new(FaultKind::BodyMalformed, note));
            }
        }
        // Half as much again: what framing there is beside the payload has no more than that.
        fill(client, (end / 2).max(READ_BYTES), started, end - head.len).await?;
    }
}

/// Replaces a compressed body by what it decodes to. Other tasks of the shard run between two pieces.
///
/// # Errors
/// The coding is not known or broken, or more comes out of it than the limits allow.
async fn decode(client: &mut Client, head: &RequestHead, body: &mut Body) -> Result<(), Fault> {
    let Some(coding) = coding(head, client.inbox())? else { return Ok(()) };
    let most = client.shard.plan.limits.body_bytes;
    let bytes_max = usize::try_from(most).unwrap_or(usize::MAX);
    let mut out = client.shard.buffers.large();
    out.extend_from_slice(&client.inbox()[..head.len]);
    let mut decoding = Box::new(Decoding::new(coding, body.of(client.inbox()), bytes_max));
    while !decoding.step(&mut out).map_err(|bad| undecoded(bad, most))? {
        yield_to_others().await;
    }
    drop(decoding);
    let end = out.len();
    out.extend_from_slice(&client.inbox()[body.end..]);
    std::mem::swap(client.inbox_mut(), &mut out);
    client.shard.buffers.put(out);
    *body = Body { span: Span::new(head.len, end), end, received: body.received };
    Ok(())
}

/// Ready when the shard comes back to this task.
async fn yield_to_others() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn fill(client: &mut Client, wanted: usize, started: Nanos, received: usize) -> Result<(), Fault> {
    // A second more for each kibibyte that came: slow is allowed, dripping is not.
    let earned = Nanos(received as u64 * (1_000_000_000 / 1024));
    client.deadline.set_at(started.plus(client.shard.plan.timeouts.body).plus(earned));
    match client.fill(wanted).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Fault::new(FaultKind::ClientGone, "the client left in the middle of its body")),
        Err(_) => Err(Fault::new(FaultKind::BodyTimeout, "the request body did not arrive in time")),
    }
}

/// How the body is compressed.
///
/// # Errors
/// In a coding that is not read.
pub(super) fn coding(head: &RequestHead, bytes: &[u8]) -> Result<Option<ContentCoding>, Fault> {
    let Some(value) = head.content_encoding else { return Ok(None) };
    coding::content_coding(value.of(bytes)).map_err(|bad| undecoded(bad, 0))
}

/// The refusal of a body that cannot be decoded.
fn undecoded(bad: BadCoding, bytes_max: u64) -> Fault {
    match bad {
        BadCoding::Corrupt(why) => {
            Fault::new(FaultKind::BodyMalformed, format!("the body cannot be decoded: {why}"))
        }
        BadCoding::TooLarge => Fault::new(
            FaultKind::BodyTooLarge,
            format!("the decoded body has more than the limit of {bytes_max} bytes"),
        ),
        BadCoding::TooDense => Fault::new(
            FaultKind::BodyTooLarge,
            format!("the body grows more than {} times when it is decoded", coding::RATIO_MAX),
        ),
        BadCoding::Unknown => Fault::new(
            FaultKind::MediaUnsupported,
            "content-encoding: one of zstd, gzip and deflate is read, or no coding at all",
        ),
    }
}

/// The interim response that asks for the body (RFC 9110 section 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
