//! From the opening of a response to its last byte: read, decode in place, inspect, write, until both sides are done.
//!
//! Per read there is one write. A read's payload is moved together in its buffer (no move for the usual paced event),
//! looked into where it lies, and written from the same buffer under a chunk size of our own. That the client always
//! holds whole chunks, and of a stream whole events, is what makes an error record possible at any time: passing the
//! backend's chunk framing through would leave us owing it bytes. The tail of an event that was cut by a read waits
//! for its rest; it could not be used by the client before.

mod buffers;
mod end;
pub(super) mod inspect;
mod metering;
mod recording;
mod seam;
mod silence;
mod verdict;

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use super::client::Client;
use super::decode::Decoded;
use super::exchange::{AfterResponse, Exchange};
use super::frame::{Framing, SIZE_BYTES, Transfer, chunk_size};
use super::heads;
use super::interrupt::Interrupt;
use super::rename;
use super::response::Response;
use crate::clock;
use crate::error::{Fault, FaultKind};
use crate::net::buffers::Buffer;
use crate::net::stream::Completion;
use crate::policy::routing::speed::Sample;
use crate::units::{Nanos, Span};
use crate::wire::framing;
use crate::wire::head::Version;
use buffers::{HEADROOM, LARGE_FROM, empty_buffer, held_buffer, ready};
use inspect::{Found, Inspector};
use metering::{Metering, Place};

/// A response on its way to the client. Polled by hand, and laid out in the order of heat: this is where a stream spends
/// its life, and each event finds the caches cold. One takes the end of `inspect`, what follows it, and the response's front.
#[repr(C)]
pub(super) struct Relay<'a> {
    inspector: Inspector,
    waits_for: WaitsFor,
    /// After this write the response is over.
    last: bool,
    /// The chunked coding is broken, or a stream ended before its response or with an error: what was written is all there is.
    is_broken: bool,
    /// Everything was written.
    is_whole: bool,
    /// At `total` the time of a response that is no stream is over, not that of the exchange.
    is_response_late: bool,
    keep_alive: bool,
    /// The cache keeps what passes, or other requests wait for it.
    is_recorded: bool,
    framing: Framing,
    /// Where the next read will append.
    from: usize,
    /// The buffer of the next read, if it is not the one being written.
    next: Option<Buffer>,
    /// Bytes read from the backend, and written to the client, head and framing included.
    read_bytes: u64,
    written_bytes: u64,
    /// Output tokens of the backends that cut it, by estimate.
    output_before: u64,
    /// When the whole exchange is due, or a response that is no stream.
    total: Nanos,
    between: Nanos,
    heartbeat: Nanos,
    /// How long the backend may stay silent after the next heartbeat; zero if none comes before it is too long.
    patience: Nanos,
    write_stall: Nanos,
    /// Its text, where tokens are limited.
    metering: Option<Metering>,
    exchange: &'a mut Exchange,
    response: Response,
}

/// What is being waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    Read,
    Write,
    /// More of a limit, for events that are held back.
    Tokens,
    /// A write of our own, while the read goes on.
    Heartbeat,
    /// Guards in other processes, for the end of the stream.
    Verdict,
}

/// Why a response did not get to its end.
enum Broken {
    Client(Interrupt),
    Backend(Fault),
    /// A limit is used up.
    Stopped(Fault),
}

impl<'a> Relay<'a> {
    pub(super) fn new(client: &Client, exchange: &'a mut Exchange, response: Response) -> Self {
        let plan = &client.shard.plan;
        let own = exchange.model.map_or(&plan.timeouts, |model| &plan.model(model).timeouts);
        let api = exchange.api.unwrap_or_default();
        let is_stream = response.head.event_stream;
        let whole = if is_stream { Nanos::NEVER } else { response.sent.plus(own.response) };
        let inspector = Inspector::of(exchange, &response);
        let sent_head = exchange.sent_head;
        let framing = match (response.head.framing, is_stream, exchange.terms.version) {
            _ if let Some(sent) = sent_head => sent.framing,
            (framing::Response::None, ..) => Framing::None,
            (framing::Response::Length(length), false, _) => Framing::Length(length),
            (_, _, Version::Http11) => Framing::Chunked,
            (_, _, Version::Http10) => Framing::Close,
        };
        let keep_alive = match &sent_head {
            Some(sent) => sent.keep_alive,
            None => exchange.keeps_alive() && framing != Framing::Close,
        };
        let (between, total) = (own.between_events, exchange.total);
        if is_stream {
            exchange.starts_streaming();
        }
        Self {
            metering: Metering::of(exchange, &response),
            waits_for: WaitsFor::Write,
            last: false,
            is_broken: false,
            is_whole: false,
            framing,
            keep_alive,
            is_recorded: exchange.caching.is_some(),
            output_before: 0,
            from: 0,
            next: None,
            total: total.min(whole),
            is_response_late: whole < total,
            between,
            heartbeat: match is_stream && api.beats() {
                true => plan.timeouts.heartbeat,
                false => Nanos::NEVER,
            },
            patience: Nanos(0),
            write_stall: plan.timeouts.write_stall,
            read_bytes: 0,
            written_bytes: sent_head.map_or(0, |sent| sent.bytes),
            inspector,
            response,
            exchange,
        }
    }

    /// Relays the response to its last byte, or ends it as a cut one.
    pub(super) async fn run(&mut self, client: &mut Client) -> AfterResponse {
        self.record_head();
        self.open(client);
        loop {
            let broken = match poll_fn(|context| self.poll(client, context)).await {
                Ok(()) => {
                    self.is_whole = true;
                    return self.after();
                }
                Err(broken) => broken,
            };
            if self.response.resume.is_none() {
                return self.broken(client, broken).await;
            }
            // In a box: the memory of all other streams does not grow by what this one needs.
            if let Err(broken) = Box::pin(self.go_on(client, broken)).await {
                return self.broken(client, broken).await;
            }
        }
    }

    fn after(&self) -> AfterResponse {
        if self.keep_alive { AfterResponse::KeepAlive } else { AfterResponse::Finish }
    }

    /// Keeps the backend's connection for the next exchange if the response was read to its end.
    pub(super) fn close(self, client: &Client) {
        let shard = &client.shard;
        let idle_max = self.response.idle_max(shard.plan.timeouts.backend_idle);
        let Some(idle_max) = idle_max.filter(|_| self.is_whole) else { return };
        let Response { connection, lease, .. } = self.response;
        let (buffer, now) = (shard.buffers.large(), shard.deadlines.now());
        shard.idle.put(lease.backend(), connection, buffer, now, idle_max);
    }

    /// Per read one write, until the last.
    fn poll(&mut self, client: &mut Client, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            match self.waits_for {
                WaitsFor::Read => match self.response.connection.reader.poll_filled(context) {
                    Poll::Ready(filled) => {
                        if let Err(broken) = self.received(client, filled) {
                            return Poll::Ready(Err(broken));
                        }
                    }
                    Poll::Pending => match client.poll_interrupt(context) {
                        Poll::Ready(Interrupt::DeadlineExceeded) => match self.silent(client) {
                            Ok(true) => {}
                            Ok(false) => {
                                let interrupt = Interrupt::DeadlineExceeded;
                                return Poll::Ready(Err(self.interrupted(client, interrupt)));
                            }
                            Err(broken) => return Poll::Ready(Err(broken)),
                        },
                        Poll::Ready(interrupt) => {
                            return Poll::Ready(Err(self.interrupted(client, interrupt)));
                        }
                        Poll::Pending => match self.stopped() {
                            Some(fault) => return Poll::Ready(Err(Broken::Stopped(fault))),
                            None => return Poll::Pending,
                        },
                    },
                },
                WaitsFor::Tokens => match self.poll_tokens(client, context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                    Poll::Pending => return Poll::Pending,
                },
                WaitsFor::Verdict => match self.poll_verdict(client, context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                    Poll::Pending => return Poll::Pending,
                },
                WaitsFor::Write | WaitsFor::Heartbeat => match client.writer.poll_sent(context) {
                    Poll::Ready((Ok(()), buffer)) if self.waits_for == WaitsFor::Heartbeat => {
                        client.shard.buffers.put(buffer);
                        self.wait(client, self.patience);
                    }
                    Poll::Ready((Ok(()), buffer)) => {
                        if self.metering.as_ref().is_some_and(|metering| metering.is_holding()) {
                            client.shard.buffers.put(buffer);
                            client.deadline.set(Nanos(0)); // due at every tick
                            self.waits_for = WaitsFor::Tokens;
                            continue;
                        }
                        if self.response.has_failed {
                            return Poll::Ready(Err(seam::failed()));
                        }
                        if self.is_broken {
                            return Poll::Ready(Err(cut(self.response.decoded.broken_note())));
                        }
                        if self.last {
                            client.shard.buffers.put(buffer);
                            return Poll::Ready(Ok(()));
                        }
                        if self.awaits_verdict() {
                            client.shard.buffers.put(buffer);
                            self.ask();
                            continue;
                        }
                        self.read_on(client, buffer);
                    }
                    Poll::Ready((Err(_), _)) => {
                        return Poll::Ready(Err(Broken::Client(Interrupt::ClientGone)));
                    }
                    Poll::Pending if client.deadline.is_due(context) => {
                        return Poll::Ready(Err(Broken::Client(Interrupt::DeadlineExceeded)));
                    }
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    /// Starts to write the head with whatever payload came with it.
    fn open(&mut self, client: &mut Client) {
        let mut buffer = std::mem::take(&mut self.response.buffer);
        rename::events(self.exchange, &self.inspector, &self.response, &mut buffer, self.response.head.len);
        let ended = self.response.decoded.ended && !self.awaits_verdict();
        let found = self.inspector.take(&mut buffer, self.response.head.len, ended);
        self.is_broken = ended && self.inspector.is_cut();
        self.last = ended && !self.is_broken && !self.response.has_failed;
        let read_bytes = buffer.len();
        self.keep(client, found, &mut buffer, self.response.head.len);
        if !self.last && self.next.is_none() {
            self.next = Some(empty_buffer(client, read_bytes));
        }
        let now = clock::now();
        let ours = now.since(self.response.answered);
        self.exchange.overhead = self.exchange.overhead.plus(ours);

        let mut out = client.shard.buffers.with_room(HEAD_ROOM + buffer.len());
        if self.exchange.sent_head.is_none() {
            let version = self.exchange.terms.version;
            let transfer = Transfer { version, framing: self.framing, keep_alive: self.keep_alive };
            heads::response_head(&mut out, self.exchange, &self.response.head, &buffer, transfer);
        }
        let bytes = buffer.len() - self.response.head.len;
        self.framing.start(&mut out, bytes);
        out.extend_from_slice(&buffer[self.response.head.len..]);
        self.close_chunk(&mut out, bytes);
        client.shard.buffers.put(buffer);
        self.write(client, out, 0);
    }

    /// Takes what a read brought, and starts to write what of it is for the client.
    fn received(&mut self, client: &mut Client, (read, mut buffer): Completion<usize>) -> Result<(), Broken> {
        self.decode(read, &mut buffer)?;
        rename::events(self.exchange, &self.inspector, &self.response, &mut buffer, HEADROOM);
        let ended = self.response.decoded.ended && !self.awaits_verdict();
        let found = self.inspector.take(&mut buffer, HEADROOM, ended);
        self.is_broken |= ended && self.inspector.is_cut();
        self.last = ended && !self.is_broken && !self.response.has_failed;
        self.keep(client, found, &mut buffer, HEADROOM);
        self.send(client, buffer);
        Ok(())
    }

    /// Moves what of a read is for the client together behind `from`. What cannot be used yet waits in front of the next read, what
    /// no limit covers yet waits for more.
    fn keep(&mut self, client: &mut Client, found: Found, buffer: &mut Buffer, from: usize) {
        self.first(client, found.first_token);
        if !found.held.is_empty() {
            self.next = Some(held_buffer(client, found.held.of(buffer)));
        }
        found.close_gaps(buffer, from);
        self.record(buffer, &[Span::new(from, buffer.len())]);
        if let Some(metering) = &mut self.metering {
            let place = Place { ends: self.last, is_mid_event: found.is_mid_event };
            metering.pass(self.exchange, buffer, from, place);
            self.last &= !metering.is_holding();
        }
    }

    /// Waits for more of a limit: tries at every tick.
    fn poll_tokens(&mut self, client: &mut Client, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if let Some(fault) = self.stopped() {
            return Poll::Ready(Err(Broken::Stopped(fault)));
        }
        let mut buffer = ready(client.shard.buffers.large());
        if let Some(metering) = &mut self.metering {
            self.last = metering.resume(self.exchange, &mut buffer);
        }
        if buffer.len() > HEADROOM {
            self.send(client, buffer);
            return Poll::Ready(Ok(()));
        }
        client.shard.buffers.put(buffer);
        if let Some(fault) = self.stopped() {
            return Poll::Ready(Err(Broken::Stopped(fault)));
        }
        match client.poll_interrupt(context) {
            Poll::Ready(Interrupt::DeadlineExceeded) if client.deadline.now() < self.total => Poll::Pending,
            Poll::Ready(interrupt) => Poll::Ready(Err(self.interrupted(client, interrupt))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn stopped(&self) -> Option<Fault> {
        self.metering.as_ref()?.stopped(self.exchange)
    }

    /// Starts to write the payload of `buffer`, as a chunk where chunks are sent.
    fn send(&mut self, client: &mut Client, mut buffer: Buffer) {
        let bytes = buffer.len() - HEADROOM;
        let mut start = HEADROOM;
        if self.framing == Framing::Chunked && bytes > 0 {
            let mut digits = [0; SIZE_BYTES];
            let size = chunk_size(bytes, &mut digits);
            start -= size.len();
            buffer[start..HEADROOM].copy_from_slice(size);
        }
        self.close_chunk(&mut buffer, bytes);
        self.write(client, buffer, start);
    }

    /// Turns what a read brought into payload. What came before a broken chunk is the client's; then the response ends
    /// as cut.
    fn decode(&mut self, read: io::Result<usize>, buffer: &mut Buffer) -> Result<(), Broken> {
        let decoded = match read {
            Ok(bytes @ 1..) => {
                self.read_bytes += bytes as u64;
                self.response.decode.step(buffer, self.from)
            }
            Ok(0) if self.response.decode.ends_by_close() && self.may_end(buffer) => {
                Ok(Decoded { ended: true, extra: true })
            }
            _ => return Err(cut("the backend closed the connection in the middle of its response")),
        };
        self.is_broken = decoded.is_err();
        self.response.decoded = decoded.unwrap_or(Decoded { ended: false, extra: true });
        if let Some(resume) = &mut self.response.resume {
            self.response.has_failed = resume.events(buffer, self.from, self.response.decoded.ended);
            self.response.decoded.ended &= !self.response.has_failed;
        }
        let ended = self.response.decoded.ended;
        if let Some(translation) = &mut self.response.translation {
            translation.records(buffer, HEADROOM, ended).map_err(Broken::Backend)?;
        }
        match &mut self.response.guarding {
            Some(guarding) => guarding.records(buffer, HEADROOM, ended).map_err(Broken::Backend),
            None => Ok(()),
        }
    }

    /// Whether a body that ends by a close may end here.
    fn may_end(&self, buffer: &[u8]) -> bool {
        match (&self.response.translation, &self.response.guarding) {
            (Some(translation), _) => translation.may_end(),
            (None, Some(guarding)) => {
                guarding.may_end().unwrap_or_else(|| self.inspector.may_end(guarding.rest()))
            }
            (None, None) => match self.response.resume.as_ref().and_then(|resume| resume.rest()) {
                Some(rest) => self.inspector.may_end(rest),
                None => self.inspector.may_end(&buffer[HEADROOM..]),
            },
        }
    }

    /// Starts to write `buffer` from `start` on. An empty write is done at its first poll.
    fn write(&mut self, client: &mut Client, buffer: Buffer, start: usize) {
        let end = buffer.len();
        self.written_bytes += (end - start) as u64;
        if self.last {
            self.settle_whole();
        }
        client.deadline.set(self.write_stall);
        client.writer.start(buffer, start..end);
        self.waits_for = WaitsFor::Write;
    }

    /// Arms the next read: with the tail of an event if one was held, else with the buffer that was written.
    fn read_on(&mut self, client: &mut Client, written: Buffer) {
        let buffers = &client.shard.buffers;
        let buffer = match self.next.take() {
            Some(next) => {
                buffers.put(written);
                next
            }
            // A stream that comes in drops gives its large buffer back; one that comes in gulps gets one.
            None if buffers.is_large(&written) == (written.len() > LARGE_FROM) => ready(written),
            None => {
                let buffer = empty_buffer(client, written.len());
                buffers.put(written);
                buffer
            }
        };
        self.from = buffer.len();
        self.response.connection.reader.arm(buffer);
        self.wait(client, self.between);
    }

    /// Notes the first token: the prompt is prefilled, and this is how long it took.
    fn first(&mut self, client: &Client, first_token: bool) {
        let response = &mut self.response;
        if !first_token || !response.lease.first_token() || !self.exchange.wants_stream {
            return;
        }
        let now = clock::now();
        self.exchange.time_to_first_token.get_or_insert(now.since(self.exchange.started));
        let (seconds, expected) = (now.since(response.sent).seconds(), response.expected);
        let cells = client.shard.plan.deployments.cells(response.deployment);
        cells.ewma.observe((seconds / expected.seconds) as f32, now);
        cells.speed.note(Sample { tokens: expected.tokens, streams: expected.streams, seconds });
    }

    /// Ends a chunk of `bytes` bytes, and after the last one the body. A finished stream whose server sends no `[DONE]` gets
    /// one.
    fn close_chunk(&self, out: &mut Buffer, bytes: usize) {
        self.framing.end(out, bytes);
        if !self.last {
            return;
        }
        if let Some(event) = self.inspector.missing_end() {
            self.framing.records(out, event);
        }
        self.framing.finish(out);
    }
}

fn cut(note: &'static str) -> Broken {
    Broken::Backend(Fault::new(FaultKind::BackendCut, note))
}

/// Our head fits beside the backend's.
const HEAD_ROOM: usize = 1024;
