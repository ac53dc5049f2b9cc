//! A kept or shared response on its way to the client.

use std::future::poll_fn;

use super::find::Kept;
use super::flight::{Following, More, Opened};
use crate::clock;
use crate::dialect::refusal;
use crate::error::{Fault, FaultKind};
use crate::net::buffers::Buffer;
use crate::observe::counters::Counter;
use crate::policy::cache::store::Entry;
use crate::shard::client::Client;
use crate::shard::exchange::{AfterResponse, Exchange};
use crate::shard::frame::{Framing, Transfer};
use crate::shard::heads;
use crate::shard::respond::{self, Ending, RecordEnd};
use crate::shard::settle::{Outcome, settle};
use crate::wire::head::Version;

/// Responds with what the cache has. The exchange costs no tokens.
pub(in crate::shard) async fn respond(
    client: &mut Client,
    exchange: &mut Exchange,
    kept: Kept,
) -> AfterResponse {
    if let Err(fault) = client.end_heartbeats(exchange).await {
        return respond::finish(client, exchange, Ending::Fault(fault)).await;
    }
    exchange.usage.seen = true; // none were used
    match kept {
        Kept::Whole(entry) => whole(client, exchange, &entry).await,
        Kept::Stream(following, opened) => stream(client, exchange, &following, &opened).await,
    }
}

/// Writes a response that is there.
async fn whole(client: &mut Client, exchange: &mut Exchange, entry: &Entry) -> AfterResponse {
    let opened = Opened {
        media_type: entry.media_type.clone(),
        dropped: entry.dropped.clone(),
        is_stream: entry.is_stream,
    };
    let mut out = client.shard.buffers.with_room(HEAD_ROOM + entry.body.len());
    let (framing, keep_alive) = head(exchange, &opened, entry.body.len(), &mut out);
    framing.records(&mut out, &entry.body);
    framing.finish(&mut out);
    if entry.is_stream {
        exchange.time_to_first_token = Some(clock::now().since(exchange.started));
    }
    let end = out.len();
    count(exchange, end);
    let mut start = 0;
    while end - start > WRITE_BYTES {
        match client.write(out, start..start + WRITE_BYTES).await {
            Ok(buffer) => out = buffer,
            Err(interrupt) => {
                settle(exchange, Outcome::failed(interrupt.client_fault(), 200));
                return AfterResponse::Close;
            }
        }
        start += WRITE_BYTES;
    }
    settle(exchange, Outcome::served(200));
    last(client, out, start, keep_alive).await
}

/// Writes a stream as it comes to the one who asked for it first.
async fn stream(
    client: &mut Client,
    exchange: &mut Exchange,
    following: &Following,
    opened: &Opened,
) -> AfterResponse {
    let mut out = client.shard.buffers.large();
    let (framing, keep_alive) = head(exchange, opened, 0, &mut out);
    let mut piece = client.shard.buffers.large();
    exchange.starts_streaming();
    loop {
        piece.clear();
        client.deadline.set_at(exchange.total);
        let more = poll_fn(|context| following.poll_more(WRITE_BYTES, &mut piece, context));
        let more = match client.wait(more).await {
            Ok(more) => more,
            Err(interrupt) => {
                let late = || Fault::new(FaultKind::TotalTimeout, "the response took too long");
                let fault = interrupt.fault(late);
                return cut(client, exchange, fault, framing, None).await;
            }
        };
        if exchange.time_to_first_token.is_none() {
            exchange.time_to_first_token = Some(clock::now().since(exchange.started));
        }
        framing.records(&mut out, &piece);
        match more {
            More::Bytes => {}
            More::End => {
                framing.finish(&mut out);
                count(exchange, out.len());
                settle(exchange, Outcome::served(200));
                client.shard.buffers.put(piece);
                return last(client, out, 0, keep_alive).await;
            }
            More::Failed(sequence) => {
                let note = "the shared response of the backend ended before its end";
                let fault = Fault::new(FaultKind::BackendCut, note);
                let end = sequence.map(|sequence| (sequence, after(keep_alive)));
                return cut(client, exchange, fault, framing, end).await;
            }
        }
        let end = out.len();
        count(exchange, end);
        match client.write(out, 0..end).await {
            Ok(buffer) => out = buffer,
            Err(interrupt) => {
                settle(exchange, Outcome::failed(interrupt.client_fault(), 200));
                return AfterResponse::Close;
            }
        }
        out.clear();
    }
}

/// Appends the head, unless the client has one. Back comes how the body travels.
fn head(exchange: &Exchange, opened: &Opened, length: usize, out: &mut Buffer) -> (Framing, bool) {
    if let Some(sent) = exchange.sent_head {
        return (sent.framing, sent.keep_alive);
    }
    let framing = match (opened.is_stream, exchange.terms.version) {
        (false, _) => Framing::Length(length as u64),
        (true, Version::Http11) => Framing::Chunked,
        (true, Version::Http10) => Framing::Close,
    };
    let keep_alive = exchange.keeps_alive() && framing != Framing::Close;
    heads::status_line(out, 200);
    out.extend_from_slice(b"content-type: ");
    out.extend_from_slice(&opened.media_type);
    out.extend_from_slice(b"\r\n");
    heads::date_line(out, &exchange.shard);
    if let Some(dropped) = &opened.dropped {
        heads::dropped_line(out, dropped);
    }
    heads::own_lines(out, exchange);
    heads::framing_lines(out, Transfer { version: exchange.terms.version, framing, keep_alive });
    (framing, keep_alive)
}

fn count(exchange: &mut Exchange, bytes: usize) {
    exchange.response_bytes += bytes as u64;
    exchange.shard.numbers.add(Counter::BytesToClients, bytes as u64);
}

/// The last write of an exchange that is settled.
async fn last(client: &mut Client, out: Buffer, from: usize, keep_alive: bool) -> AfterResponse {
    let end = out.len();
    match client.write(out, from..end).await {
        Ok(out) => {
            client.shard.buffers.put(out);
            after(keep_alive)
        }
        Err(_) => AfterResponse::Close,
    }
}

const fn after(keep_alive: bool) -> AfterResponse {
    if keep_alive { AfterResponse::KeepAlive } else { AfterResponse::Finish }
}

/// Ends a stream that is cut: with an error record where one can be put in, else by breaking the connection.
async fn cut(
    client: &mut Client,
    exchange: &mut Exchange,
    fault: Fault,
    framing: Framing,
    end: Option<(u64, AfterResponse)>,
) -> AfterResponse {
    let outcome = Outcome::failed(fault.kind, 200);
    let Some((sequence, after)) = end else {
        settle(exchange, outcome);
        client.writer.reset_on_close();
        return AfterResponse::Close;
    };
    let mut record = client.shard.buffers.large();
    let api = exchange.api.unwrap_or_default();
    refusal::in_stream(api, &fault, exchange.request_id.as_bytes(), sequence, &mut record);
    respond::error_record(client, exchange, record, RecordEnd { framing, outcome, after }).await
}

/// Room for a head of our own.
const HEAD_ROOM: usize = 2048;
/// Bytes of one write: a client that reads slowly has the time of a write for so many.
const WRITE_BYTES: usize = 64 * 1024;
