//! How an exchange ends without a response of a backend: a refusal in the client's dialect, an error record in a stream
//! whose head the client has, a response of the gateway's own. The exchange is settled before the last write.

use super::client::Client;
use super::exchange::{AfterResponse, Exchange};
use super::frame::{Framing, Transfer};
use super::heads;
use super::local::Local;
use super::response::Response;
use super::settle::{Outcome, settle};
use crate::dialect::{backend_error, overflow, refusal};
use crate::error::{Fault, FaultKind};
use crate::net::buffers::Buffer;
use crate::observe::Counter;
use crate::wire::framing;

/// Whether a client that has the head of a stream can have this response as the rest of it.
///
/// # Errors
/// It cannot: the record that tells the client so, in its own dialect.
pub(super) fn check_fit(exchange: &Exchange, response: &Response) -> Result<(), Ending> {
    let head = &response.head;
    let is_stream = head.status == 200
        && head.event_stream
        && !response.is_coded()
        && head.framing != framing::Response::None;
    if is_stream || exchange.sent_head.is_none() {
        return Ok(());
    }
    let (body, status) = (&response.buffer[head.len..], head.status);
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
    let (api, id) = (exchange.api.unwrap_or_default(), exchange.request_id);
    let mut record = exchange.shard.buffers.large();
    if !backend_error::in_stream(api, &fault, body, id.as_bytes(), &mut record) {
        refusal::in_stream(api, &fault, id.as_bytes(), 0, &mut record);
    }
    Err(Ending::Record(fault.kind, record))
}

/// Why no response of a backend is relayed.
pub(super) enum Ending {
    /// The gateway responds itself.
    Local(Local),
    /// The exchange failed.
    Fault(Fault),
    /// The exchange failed, and this record says so to a client that has the head of a stream.
    Record(FaultKind, Buffer),
}

impl From<Fault> for Ending {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Ends an exchange for which no response of a backend is relayed.
pub(super) async fn finish(client: &mut Client, exchange: &mut Exchange, ending: Ending) -> AfterResponse {
    match ending {
        Ending::Local(response) => local(client, exchange, response).await,
        Ending::Fault(fault) => failed(client, exchange, fault).await,
        Ending::Record(kind, record) => last_record(client, exchange, kind, record).await,
    }
}

/// Refuses, with an error record if a head has gone out; a client that has gone is only settled.
async fn failed(client: &mut Client, exchange: &mut Exchange, mut fault: Fault) -> AfterResponse {
    if !is_gone(fault.kind)
        && let Err(gone) = client.end_heartbeats(exchange).await
    {
        fault = gone;
    }
    if is_gone(fault.kind) {
        return abandon(client, exchange, fault.kind);
    }
    if exchange.sent_head.is_none() {
        return refuse(client, exchange, &fault).await;
    }
    let mut record = client.shard.buffers.large();
    let api = exchange.api.unwrap_or_default();
    refusal::in_stream(api, &fault, exchange.request_id.as_bytes(), 0, &mut record);
    last_record(client, exchange, fault.kind, record).await
}

/// Settles without a word: the client has gone, or takes nothing any more.
fn abandon(client: &mut Client, exchange: &mut Exchange, kind: FaultKind) -> AfterResponse {
    client.abandon_heartbeats(exchange);
    let status = exchange.sent_head.map_or(kind.status(), |_| 200);
    count_sent_head(exchange);
    settle(exchange, Outcome::failed(kind, status));
    AfterResponse::Close
}

/// Ends a stream whose head the client has with an error record, which is all that tells it from a whole one.
async fn last_record(
    client: &mut Client,
    exchange: &mut Exchange,
    kind: FaultKind,
    record: Buffer,
) -> AfterResponse {
    let Some(sent) = exchange.sent_head else { return abandon(client, exchange, kind) };
    count_sent_head(exchange);
    let after = if sent.keep_alive { AfterResponse::KeepAlive } else { AfterResponse::Finish };
    let end = RecordEnd { framing: sent.framing, outcome: Outcome::failed(kind, 200), after };
    error_record(client, exchange, record, end).await
}

fn count_sent_head(exchange: &mut Exchange) {
    if let Some(sent) = exchange.sent_head {
        exchange.response_bytes = sent.bytes;
        exchange.shard.numbers.add(Counter::BytesToClients, sent.bytes);
    }
}

/// Whether there is nobody left to respond to.
fn is_gone(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::ClientGone | FaultKind::ClientStalled)
}

/// How a stream ends with an error record.
pub(super) struct RecordEnd {
    pub(super) framing: Framing,
    pub(super) outcome: Outcome,
    /// If the record can be written.
    pub(super) after: AfterResponse,
}

/// Settles, and ends a stream with an error record.
pub(super) async fn error_record(
    client: &mut Client,
    exchange: &mut Exchange,
    record: Buffer,
    end: RecordEnd,
) -> AfterResponse {
    let mut out = client.shard.buffers.large();
    end.framing.records(&mut out, &record);
    end.framing.finish(&mut out);
    client.shard.buffers.put(record);
    let bytes = out.len();
    exchange.response_bytes += bytes as u64;
    exchange.shard.numbers.add(Counter::BytesToClients, bytes as u64);
    settle(exchange, end.outcome);
    match client.write(out, 0..bytes).await {
        Ok(out) => {
            client.shard.buffers.put(out);
            end.after
        }
        Err(_) => AfterResponse::Close,
    }
}

/// Responds with a document of the gateway's own; the request has been read.
async fn local(client: &mut Client, exchange: &mut Exchange, local: Local) -> AfterResponse {
    let (status, framing) = match &local {
        Local::Json(body) | Local::Text(body) | Local::Lines(body) => {
            (200, Framing::Length(body.len() as u64))
        }
        Local::Preflight(_) => (204, Framing::None),
    };
    let transfer = Transfer { version: exchange.terms.version, framing, keep_alive: exchange.keeps_alive() };
    let (Local::Json(bytes) | Local::Text(bytes) | Local::Lines(bytes) | Local::Preflight(bytes)) = &local;
    let mut out = client.shard.buffers.with_room(HEAD_ROOM + bytes.len());
    heads::status_line(&mut out, status);
    match local {
        Local::Json(_) => out.extend_from_slice(b"content-type: application/json\r\n"),
        Local::Text(_) => out.extend_from_slice(b"content-type: text/plain; charset=utf-8\r\n"),
        Local::Lines(_) => out.extend_from_slice(b"content-type: application/x-ndjson\r\n"),
        Local::Preflight(_) => {}
    }
    heads::date_line(&mut out, &exchange.shard);
    heads::own_lines(&mut out, exchange);
    if let Local::Preflight(lines) = &local {
        out.extend_from_slice(lines);
    }
    heads::framing_lines(&mut out, transfer);
    if let Local::Json(body) | Local::Text(body) | Local::Lines(body) = &local
        && !exchange.terms.head_only
    {
        out.extend_from_slice(body);
    }
    let (Local::Json(bytes) | Local::Text(bytes) | Local::Lines(bytes) | Local::Preflight(bytes)) = local;
    client.shard.buffers.put(bytes); // a slow reader holds one of them, not both
    let after = if transfer.keep_alive { AfterResponse::KeepAlive } else { AfterResponse::Finish };
    send(client, exchange, out, Outcome::served(status), after).await
}

/// Responds with the fault. The connection is used again only if the request has been read to its end.
async fn refuse(client: &mut Client, exchange: &mut Exchange, fault: &Fault) -> AfterResponse {
    let terms = exchange.terms;
    let status = refusal::status(terms.dialect, fault);
    // Of an address that sends too many invalid keys every request takes a connection.
    let is_read = exchange.is_request_read && fault.kind != FaultKind::KeysExceeded;
    let keep_alive = is_read && exchange.keeps_alive();
    let mut out = client.shard.buffers.large();
    heads::status_line(&mut out, status);
    out.extend_from_slice(b"content-type: application/json\r\n");
    heads::date_line(&mut out, &exchange.shard);
    refusal::lines(fault, terms.allow, &mut out);
    heads::own_lines(&mut out, exchange);
    let mut body = client.shard.buffers.large();
    refusal::render(terms.dialect, fault, exchange.request_id.as_bytes(), &mut body);
    let framing = Framing::Length(body.len() as u64);
    heads::framing_lines(&mut out, Transfer { version: terms.version, framing, keep_alive });
    if !terms.head_only {
        out.extend_from_slice(&body);
    }
    client.shard.buffers.put(body);
    let after = match (keep_alive, is_read) {
        (true, _) => AfterResponse::KeepAlive,
        (false, true) => AfterResponse::Finish,
        (false, false) => AfterResponse::Linger,
    };
    send(client, exchange, out, Outcome::failed(fault.kind, status), after).await
}

/// Settles, and writes a whole response.
async fn send(
    client: &mut Client,
    exchange: &mut Exchange,
    out: Buffer,
    outcome: Outcome,
    after: AfterResponse,
) -> AfterResponse {
    let end = out.len();
    exchange.response_bytes += end as u64;
    exchange.shard.numbers.add(Counter::BytesToClients, end as u64);
    settle(exchange, outcome);
    match client.write(out, 0..end).await {
        Ok(out) => {
            client.shard.buffers.put(out);
            after
        }
        Err(_) => AfterResponse::Close,
    }
}

/// Room for a head of our own.
const HEAD_ROOM: usize = 2048;
