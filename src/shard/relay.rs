//! From the opening of an answer to its last byte: read, decode in place, look, write, until both sides are done.
//!
//! Per read there is one write. A read's payload is moved together in its block (no move for the usual paced event),
//! looked into where it lies, and written from the same block under a chunk size of our own. That the client always
//! holds whole chunks, and of a stream whole events, is what makes an error record possible at any time: passing the
//! backend's chunk framing through would leave us owing it bytes. The tail of an event that was cut by a read waits
//! for its rest; it could not be used by the client before.

use super::connection::Client;
use super::decode::Decoded;
use super::dispatch::Answer;
use super::exchange::{Asked, Next};
use super::look::{Found, Look, count_events};
use super::respond::{self, Framing, SIZE_BYTES, chunk_size};
use super::settle::Settle;
use super::watch::{self, Interrupt};
use crate::clock;
use crate::dialect::request::Peek;
use crate::dialect::stream::Meter;
use crate::dialect::usage::BodyMeter;
use crate::dialect::{Api, refusal};
use crate::error::{Fault, Kind};
use crate::net::blocks::{Block, grow, room};
use crate::observe::counters::Counter;
use crate::units::{Nanos, Span};
use crate::wire::framing;
use crate::wire::head::Version;
use crate::wire::sse;

/// Relays an answer to its end and tells what becomes of the client's connection.
pub(super) async fn run(
    client: &mut Client,
    settle: &mut Settle,
    asked: &Asked,
    peek: &Peek,
    answer: Answer,
) -> Next {
    client.forget_request();
    let mut relay = Relay::new(client, settle, asked, peek, answer);
    match relay.run().await {
        Ok(()) => relay.ended(),
        Err(broken) => relay.broken(broken).await,
    }
}

struct Relay<'a> {
    client: &'a mut Client,
    settle: &'a mut Settle,
    asked: &'a Asked,
    answer: Answer,
    framing: Framing,
    keep_alive: bool,
    look: Look,
    /// When the whole exchange is due.
    total: Nanos,
    between: Nanos,
    /// The client holds the beginning of an event, not its end.
    mid_event: bool,
    /// Events passed on.
    events: u64,
    /// Bytes read from the backend.
    read_bytes: u64,
}

/// Why an answer did not get to its end.
enum Broken {
    Client(Interrupt),
    Backend(Fault),
}

impl<'a> Relay<'a> {
    fn new(
        client: &'a mut Client,
        settle: &'a mut Settle,
        asked: &'a Asked,
        peek: &Peek,
        answer: Answer,
    ) -> Self {
        let plan = &client.shard.plan;
        let timeouts = settle.record.model.map_or(plan.timeouts, |model| plan.model(model).timeouts);
        let api = asked.api.unwrap_or(Api::Chat);
        let look = if answer.head.event_stream {
            settle.streams();
            Look::Events(Meter::new(api, peek.choices, answer.asks_usage))
        } else {
            Look::Body(BodyMeter::default())
        };
        let framing = match (answer.head.framing, &look, asked.version) {
            (framing::Response::None, ..) => Framing::None,
            (framing::Response::Length(length), Look::Body(_), _) => Framing::Length(length),
            (_, _, Version::Http11) => Framing::Chunked,
            (_, _, Version::Http10) => Framing::Close,
        };
        let keep_alive = asked.keep_alive && framing != Framing::Close && !client.shard.is_draining();
        let total = settle.started.plus(timeouts.total);
        let between = timeouts.between_events;
        Self {
            client,
            settle,
            asked,
            answer,
            framing,
            keep_alive,
            look,
            total,
            between,
            mid_event: false,
            events: 0,
            read_bytes: 0,
        }
    }

    async fn run(&mut self) -> Result<(), Broken> {
        self.settle.record.status = self.answer.head.status;
        let mut block = self.open().await?;
        while !self.answer.decoded.ended {
            block = self.next(block).await?;
        }
        self.client.shard.blocks.put(block);
        Ok(())
    }

    /// Sends the head with whatever payload came with it, in one write.
    async fn open(&mut self) -> Result<Block, Broken> {
        let block = std::mem::take(&mut self.answer.block);
        let ended = self.answer.decoded.ended;
        let found = self.look(&block, Span::new(self.answer.head.len, block.len()), ended);
        self.first(found.first_token);
        self.release(ended);
        let ours = clock::now().since(self.answer.answered);
        self.settle.record.overhead = self.settle.record.overhead.plus(ours);

        let mut out = self.client.shard.blocks.with_room(HEAD_ROOM + block.len());
        let (asked, head) = (self.asked, &self.answer.head);
        respond::answer_head(&mut out, self.settle, asked, head, &block, self.framing, self.keep_alive);
        let bytes: usize = found.pieces.iter().map(|piece| piece.len()).sum();
        if self.framing == Framing::Chunked && bytes > 0 {
            out.extend_from_slice(chunk_size(bytes, &mut [0; SIZE_BYTES]));
        }
        for piece in found.pieces {
            out.extend_from_slice(piece.of(&block));
        }
        self.close_chunk(&mut out, bytes > 0, ended);
        let end = out.len();
        let out = self.write(out, 0, end).await?;
        self.client.shard.blocks.put(out);
        Ok(self.carry(block, found.held))
    }

    /// Reads once and writes once.
    async fn next(&mut self, block: Block) -> Result<Block, Broken> {
        let from = block.len();
        self.answer.connection.reader.arm(block);
        self.client.deadline.set_at(self.client.deadline.now().plus(self.between).min(self.total));
        let filled = watch::with_client(self.client, self.answer.connection.reader.filled()).await;
        let (read, mut block) = filled.map_err(|interrupt| self.interrupted(interrupt))?;
        let decoded = match read {
            Ok(bytes @ 1..) => {
                self.read_bytes += bytes as u64;
                self.answer.decode.step(&mut block, from)
            }
            Ok(0) if self.may_end_here() => Ok(Decoded { ended: true, extra: true }),
            _ => return Err(cut("the backend closed the connection in the middle of its answer")),
        };
        // What came before a broken chunk is the client's; then the answer ends as cut.
        let is_broken = decoded.is_err();
        self.answer.decoded = decoded.unwrap_or(Decoded { ended: false, extra: true });
        let ended = self.answer.decoded.ended;
        let found = self.look(&block, Span::new(HEADROOM, block.len()), ended);
        self.first(found.first_token);
        self.release(ended);
        let next = self.send_in_place(block, found, ended).await?;
        if is_broken { Err(cut("the backend's chunked coding is broken")) } else { Ok(next) }
    }

    /// Writes the payload from the block it was read into, and readies a block for the next read.
    async fn send_in_place(&mut self, mut block: Block, found: Found, ended: bool) -> Result<Block, Broken> {
        let next = (!found.held.is_empty()).then(|| self.held_block(found.held.of(&block)));
        let [first, second] = found.pieces;
        block.copy_within(second.start..second.end, first.end); // closes the gap of a dropped event
        block.truncate(first.end + second.len());
        let bytes = block.len() - HEADROOM;
        let mut start = HEADROOM;
        if self.framing == Framing::Chunked && bytes > 0 {
            let mut digits = [0; SIZE_BYTES];
            let size = chunk_size(bytes, &mut digits);
            start -= size.len();
            block[start..HEADROOM].copy_from_slice(size);
        }
        self.close_chunk(&mut block, bytes > 0, ended);
        let end = block.len();
        if end > start {
            block = self.write(block, start, end).await?;
        }
        let blocks = &self.client.shard.blocks;
        Ok(match next {
            Some(next) => {
                blocks.put(block);
                next
            }
            // A stream that comes in drops gives its large block back; one that comes in gulps gets one.
            None if blocks.is_large(&block) == (bytes > LARGE_FROM) => ready(block),
            None => {
                blocks.put(block);
                self.carry_block(bytes)
            }
        })
    }

    /// Looks into new payload: what to pass on, what to hold back.
    fn look(&mut self, block: &[u8], payload: Span, ended: bool) -> Found {
        let bytes = payload.of(block);
        match &mut self.look {
            Look::Body(meter) => {
                meter.block(bytes);
                Found::all(payload, true)
            }
            Look::Events(meter) => {
                let mut start = payload.start;
                if self.mid_event {
                    match sse::next_boundary(bytes, 0) {
                        Some(end) => start += end,
                        None => return Found::all(payload, false),
                    }
                    self.mid_event = false;
                }
                if meter.done() {
                    return Found::none(payload.start);
                }
                let boundary = start + sse::last_boundary(&block[start..payload.end]);
                // At the end of the body there is no rest to wait for: what is left is read as the event it is.
                let whole = if ended { payload.end } else { boundary };
                self.mid_event = boundary < whole;
                let events = meter.events(&block[start..whole]);
                self.events += count_events(self.asked.api, &block[start..whole]);
                let (whole, held_from) = match events.end {
                    Some(end) => (start + end, payload.end),
                    None => (whole, whole),
                };
                let mut found = match events.drop.filter(|drop| start + drop.end <= whole) {
                    Some(drop) => Found {
                        pieces: [
                            Span::new(payload.start, start + drop.start),
                            Span::new(start + drop.end, whole),
                        ],
                        held: Span::new(held_from, payload.end),
                        first_token: events.first_token,
                    },
                    None => Found {
                        pieces: [Span::new(payload.start, whole), Span::new(whole, whole)],
                        held: Span::new(held_from, payload.end),
                        first_token: events.first_token,
                    },
                };
                if found.held.len() > self.client.shard.plan.limits.event_bytes {
                    self.client.shard.numbers.inc(Counter::EventsPassedUnread);
                    self.mid_event = true;
                    found.pass_held();
                }
                found
            }
        }
    }

    /// Notes the first token: the prompt is prefilled, and this is how long it took.
    fn first(&mut self, first_token: bool) {
        let answer = &mut self.answer;
        if !first_token || !answer.lease.first_token() || !self.settle.record.stream {
            return;
        }
        let now = clock::now();
        self.settle.record.time_to_first_token = Some(now.since(self.settle.started));
        let ratio = now.since(answer.sent).seconds() / answer.expected_seconds;
        let cells = self.client.shard.plan.cells.backend(answer.lease.backend);
        cells.ewma.observe(ratio as f32, now);
    }

    /// Whether a close of the connection is a proper end of this answer.
    fn may_end_here(&self) -> bool {
        self.answer.decode.ends_by_close()
            && match &self.look {
                Look::Events(meter) => meter.finished() || meter.done(),
                Look::Body(_) => true,
            }
    }

    /// The last bytes are about to go out: what the exchange held of the key's limits goes first.
    fn release(&mut self, ended: bool) {
        if ended {
            self.see_usage();
            self.settle.release();
        }
    }

    /// Ends a chunk, and after the last one the body. A finished stream whose server sends no `[DONE]` gets one.
    fn close_chunk(&self, out: &mut Block, open: bool, ended: bool) {
        if self.framing == Framing::Chunked && open {
            out.extend_from_slice(b"\r\n");
        }
        if !ended {
            return;
        }
        if let Look::Events(meter) = &self.look
            && meter.finished()
            && !meter.done()
            && matches!(self.asked.api, Some(Api::Chat | Api::Completions))
        {
            // A last event without its blank line gets that first, or the two would be read as one.
            let event = if self.mid_event { &b"\n\ndata: [DONE]\n\n"[..] } else { b"data: [DONE]\n\n" };
            if self.framing == Framing::Chunked {
                out.extend_from_slice(chunk_size(event.len(), &mut [0; SIZE_BYTES]));
            }
            out.extend_from_slice(event);
            if self.framing == Framing::Chunked {
                out.extend_from_slice(b"\r\n");
            }
        }
        if self.framing == Framing::Chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }

    async fn write(&mut self, block: Block, start: usize, end: usize) -> Result<Block, Broken> {
        self.settle.record.answer_bytes += (end - start) as u64;
        self.client.write(block, start..end).await.map_err(Broken::Client)
    }

    /// A block for the next read, with the held tail of an event in front.
    fn carry(&self, block: Block, held: Span) -> Block {
        let next =
            if held.is_empty() { self.carry_block(block.len()) } else { self.held_block(held.of(&block)) };
        self.client.shard.blocks.put(block);
        next
    }

    fn carry_block(&self, last_bytes: usize) -> Block {
        let blocks = &self.client.shard.blocks;
        ready(if last_bytes > LARGE_FROM { blocks.large() } else { blocks.small() })
    }

    fn held_block(&self, held: &[u8]) -> Block {
        let mut block = ready(self.client.shard.blocks.large());
        block.extend_from_slice(held);
        let short = room(&block) < held.len();
        grow(&mut block, if short { held.len() } else { 1 });
        block
    }

    fn interrupted(&self, interrupt: Interrupt) -> Broken {
        match interrupt {
            Interrupt::ClientGone => Broken::Client(interrupt),
            Interrupt::Stopping => {
                Broken::Backend(Fault::new(Kind::Draining, "the gateway is shutting down"))
            }
            Interrupt::Due if self.client.deadline.at() >= self.total => {
                Broken::Backend(Fault::new(Kind::TotalTimeout, "the answer took too long"))
            }
            Interrupt::Due => Broken::Backend(Fault::new(Kind::EventTimeout, "the backend went silent")),
        }
    }

    /// Both sides are done: the true usage is known, the backend's connection may serve another exchange.
    fn ended(mut self) -> Next {
        self.count();
        self.answer.lease.first_token();
        let Answer { connection, lease, head, decode, decoded, .. } = self.answer;
        let shard = &self.client.shard;
        match &self.look {
            Look::Events(meter) if meter.errored() => self.settle.failed(Kind::BackendFailed, head.status),
            _ => self.settle.done(head.status),
        }
        if head.keep_alive && !decoded.extra && !decode.ends_by_close() {
            let most = shard.plan.timeouts.backend_idle;
            let theirs =
                head.keep_alive_timeout.map(|seconds| Nanos(seconds.saturating_sub(1) * 1_000_000_000));
            let idle = theirs.map_or(most, |theirs| theirs.min(most));
            shard.idle.put(lease.backend, connection, shard.blocks.large(), shard.deadlines.now(), idle);
        }
        if self.keep_alive { Next::Head } else { Next::Close }
    }

    /// The answer does not get to its end: the client must be able to tell, and pays for what it got.
    async fn broken(&mut self, broken: Broken) -> Next {
        self.count();
        let status = self.settle.record.status;
        let fault = match broken {
            Broken::Client(interrupt) => {
                self.settle.failed(respond::gone(interrupt), status);
                return Next::Close;
            }
            Broken::Backend(fault) => fault,
        };
        self.settle.failed(fault.kind, status);
        let backend = self.settle.record.backend;
        if let Some(backend) = backend {
            super::dispatch::report(&self.client.shard, backend, &fault);
        }
        let sequence = match &self.look {
            Look::Events(meter) if !self.mid_event => meter.sequence(),
            // No proper end exists: leave the body short, or where only the close ends it, break the connection.
            _ => {
                self.client.writer.reset_on_close();
                return Next::Close;
            }
        };
        let api = self.asked.api.unwrap_or(Api::Chat);
        let id = self.settle.record.request_id.hex();
        let mut record = self.client.shard.blocks.large();
        refusal::in_stream(api, &fault, &id, sequence, &mut record);
        let mut out = self.client.shard.blocks.large();
        if self.framing == Framing::Chunked {
            out.extend_from_slice(chunk_size(record.len(), &mut [0; SIZE_BYTES]));
        }
        out.extend_from_slice(&record);
        if self.framing == Framing::Chunked {
            out.extend_from_slice(b"\r\n0\r\n\r\n");
        }
        let end = out.len();
        let sent = self.write(out, 0, end).await;
        if sent.is_ok() && self.keep_alive { Next::Head } else { Next::Close }
    }

    /// Takes over what the meters counted.
    fn count(&mut self) {
        let numbers = &self.client.shard.numbers;
        numbers.add(Counter::BytesFromBackends, self.read_bytes);
        numbers.add(Counter::BytesToClients, self.settle.record.answer_bytes);
        numbers.add(Counter::EventsRelayed, self.events);
        self.see_usage();
    }

    /// Hands what the answer has used so far to the settlement.
    fn see_usage(&mut self) {
        match &mut self.look {
            Look::Events(meter) => {
                self.settle.usage = meter.usage();
                self.settle.output_estimate = self.events;
            }
            Look::Body(meter) => self.settle.usage = meter.usage(),
        }
    }
}

fn cut(note: &'static str) -> Broken {
    Broken::Backend(Fault::new(Kind::BackendCut, note))
}

/// An empty block with room for a chunk size in front of what will be read.
fn ready(mut block: Block) -> Block {
    block.clear();
    block.resize(HEADROOM, 0);
    block
}

/// Room in front of every read for the size line of its chunk.
const HEADROOM: usize = SIZE_BYTES;
/// Payload of a read from which the next one gets a large block (by taste: half of a small block's default).
const LARGE_FROM: usize = 2048;
/// Our head fits beside the backend's.
const HEAD_ROOM: usize = 1024;
