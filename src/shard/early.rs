//! Heartbeats for a client that waits for a stream of which nothing has come.
//!
//! Proxies and clients give up on a connection that stays silent. With `[timeouts] heartbeat`, a client that asked for
//! a stream and has waited that long gets a head of the gateway's own and heartbeats, whatever its request waits for: a
//! slot, a retry, a connection, a head, the first content. Nothing that a backend sent has gone out by then, so another
//! one may still be asked; the head of the backend that answers in the end is not passed on, and what fails is an error
//! record in the stream instead of a status.
//!
//! Every wait before the relay goes through [`watch::with_client`], which polls this. A write goes on in the client's
//! writer while the wait does, and [`end`] waits for what is left of it before anything else is written.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::connection::Client;
use super::exchange::{Asked, Next};
use super::respond::{self, Framing};
use super::response::Response;
use super::settle::Settle;
use super::watch::{self, Interrupt};
use crate::dialect::request::Peek;
use crate::dialect::stream;
use crate::dialect::{Api, backend_error, overflow, refusal};
use crate::error::{Fault, FaultKind};
use crate::net::deadline::Deadline;
use crate::observe::counters::Counter;
use crate::units::Nanos;
use crate::wire::framing;
use crate::wire::head::Version;

/// What a waiting client is sent, and when.
pub(super) struct Early {
    api: Api,
    version: Version,
    keep_alive: bool,
    every: Nanos,
    /// Header lines of the gateway's own, without those that depend on the time they are sent.
    lines: Vec<u8>,
    /// Due when the next heartbeat is, and in the middle of a write when the client has stalled.
    due: Deadline,
    writing: bool,
    begun: Option<Begun>,
}

/// A response whose head has gone out before that of a backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    /// Bytes sent.
    pub(super) bytes: u64,
}

/// From now on the client waits for the stream it asked for. Nothing without heartbeats, or for a client whose API has no
/// form for one; nor for one that fetches a stored response, whose next sequence number only the backend knows.
pub(super) fn arm(client: &mut Client, settle: &Settle, asked: &Asked, peek: &Peek) {
    let every = client.shard.plan.timeouts.heartbeat;
    if every == Nanos::NEVER || !peek.stream || !peek.api.makes_streams() {
        return;
    }
    let due = client.shard.deadlines.row();
    due.set(every);
    let mut lines = Vec::new();
    respond::identity_lines(&mut lines, settle, asked.dialect);
    let (version, keep_alive) = (asked.version, asked.keep_alive);
    let early = Early { api: peek.api, version, keep_alive, every, lines, due, writing: false, begun: None };
    client.early = Some(Box::new(early));
}

/// Sends what is due. `Some`: the client takes it no more.
#[cold] // only where heartbeats are on
pub(super) fn poll(client: &mut Client, context: &mut Context<'_>) -> Option<Interrupt> {
    let early = client.early.as_deref_mut()?;
    loop {
        if early.writing {
            match client.writer.poll_sent(context) {
                Poll::Ready((Ok(()), buffer)) => {
                    client.shard.buffers.put(buffer);
                    early.writing = false;
                    early.due.set(early.every);
                }
                Poll::Ready((Err(_), _)) => return Some(Interrupt::ClientGone),
                Poll::Pending => return early.due.is_due(context).then_some(Interrupt::ClientStalled),
            }
        }
        if !early.due.is_due(context) {
            return None;
        }
        let shard = &client.shard;
        let mut out = shard.buffers.small();
        let begun = *early.begun.get_or_insert_with(|| {
            let framing = match early.version {
                Version::Http11 => Framing::Chunked,
                Version::Http10 => Framing::Close,
            };
            let keep_alive = early.keep_alive && framing == Framing::Chunked && !shard.is_draining();
            respond::early_head(&mut out, shard, &early.lines, early.version, framing, keep_alive);
            Begun { framing, keep_alive, bytes: 0 }
        });
        let mut beat = shard.buffers.small();
        stream::heartbeat(early.api, 0, &mut beat);
        respond::piece(&mut out, begun.framing, &beat);
        shard.buffers.put(beat);
        shard.numbers.inc(Counter::Heartbeats);
        let end = out.len();
        early.begun = Some(Begun { bytes: begun.bytes + end as u64, ..begun });
        early.due.set(shard.plan.timeouts.write_stall);
        early.writing = true;
        client.writer.start(out, 0..end);
    }
}

/// The waiting is over: what the client has been sent, all of it written.
///
/// # Errors
/// The client has gone, or takes nothing any more: this becomes of its connection.
pub(super) async fn end(client: &mut Client, settle: &mut Settle) -> Result<Option<Begun>, Next> {
    let Some(early) = client.early.take() else { return Ok(None) };
    if early.writing {
        let kind = match watch::until(&early.due, poll_fn(|context| client.writer.poll_sent(context))).await {
            Ok((Ok(()), buffer)) => {
                client.shard.buffers.put(buffer);
                return Ok(early.begun);
            }
            Ok((Err(_), _)) => FaultKind::ClientGone,
            Err(_) => FaultKind::ClientStalled,
        };
        client.early = Some(early);
        abandon(client, settle, kind);
        return Err(Next::Close);
    }
    Ok(early.begun)
}

/// The client that waits has gone, or takes nothing any more.
pub(super) fn abandon(client: &mut Client, settle: &mut Settle, kind: FaultKind) {
    let begun = client.early.take().and_then(|early| early.begun);
    settle.failed(kind, begun.map_or(kind.status(), |_| 200));
    if let Some(begun) = begun {
        count(client, settle, &begun);
    }
}

fn count(client: &Client, settle: &mut Settle, begun: &Begun) {
    settle.record.response_bytes = begun.bytes;
    client.shard.numbers.add(Counter::BytesToClients, begun.bytes);
}

/// Whether the client that has the head of a stream can have this response as the rest of it.
pub(super) fn is_fit(response: &Response) -> bool {
    let head = &response.head;
    head.status == 200 && head.event_stream && !response.is_coded() && head.framing != framing::Response::None
}

/// Ends the stream of a client that has its head with the error that the backend answered, in the client's dialect.
pub(super) async fn told(
    client: &mut Client,
    settle: &mut Settle,
    api: Api,
    begun: &Begun,
    response: &Response,
) -> Next {
    let (body, status) = (&response.buffer[response.head.len..], response.head.status);
    let fault = match status {
        200..300 if response.is_coded() => {
            Fault::new(FaultKind::BackendMalformed, "the backend sent a content coding that nobody asked for")
        }
        200..300 => Fault::new(
            FaultKind::BackendMalformed,
            "the backend's response to a request for a stream is none, and cannot be made one",
        ),
        400 | 413 if overflow::is_context_overflow(body) => {
            Fault::new(FaultKind::ContextExceeded, "the prompt does not fit the model")
        }
        400..500 => Fault::new(FaultKind::RequestRejected, format!("the backend answered {status}")),
        _ => Fault::new(FaultKind::BackendFailed, format!("the backend answered {status}")),
    };
    let id = settle.record.request_id;
    let mut record = client.shard.buffers.large();
    if !backend_error::in_stream(api, &fault, body, id.as_bytes(), &mut record) {
        refusal::in_stream(api, &fault, id.as_bytes(), 0, &mut record);
    }
    last(client, settle, begun, fault.kind, &record).await
}

/// Ends the stream of a client that has its head with an error record.
pub(super) async fn failed(
    client: &mut Client,
    settle: &mut Settle,
    api: Api,
    begun: &Begun,
    fault: &Fault,
) -> Next {
    let id = settle.record.request_id;
    let mut record = client.shard.buffers.large();
    refusal::in_stream(api, fault, id.as_bytes(), 0, &mut record);
    last(client, settle, begun, fault.kind, &record).await
}

async fn last(
    client: &mut Client,
    settle: &mut Settle,
    begun: &Begun,
    kind: FaultKind,
    record: &[u8],
) -> Next {
    settle.failed(kind, 200);
    count(client, settle, begun);
    let next = if begun.keep_alive { Next::Head } else { Next::Finish };
    respond::last_record(client, settle, begun.framing, record, next).await
}
