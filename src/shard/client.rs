//! The client's side of a connection: what it has sent, the read that stays armed, writes to it.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::exchange::Exchange;
use super::heartbeats::Heartbeats;
use super::interrupt::{self, FlagWaker, Interrupt};
use super::state::Shard;
use crate::dialect::request::Peek;
use crate::error::{Fault, FaultKind};
use crate::net::buffers::{Buffer, grow, room};
use crate::net::deadline::Deadline;
use crate::net::stream::{Reader, Writer};
use crate::observe::counters::Counter;
use crate::units::KeyId;

/// The client's side of every exchange on one connection.
pub(crate) struct Client {
    pub(crate) shard: Rc<Shard>,
    pub(crate) writer: Writer,
    pub(crate) deadline: Deadline,
    pub(crate) address: SocketAddr,
    reader: Reader,
    /// Bytes received and not yet consumed: the request in flight, then what the client sent ahead.
    inbox: Buffer,
    /// Bytes of the inbox that belong to the request in flight.
    request_bytes: usize,
    /// The request in flight if it is large: not in the inbox, so that it can be sent from where it lies.
    large: Option<Rc<Buffer>>,
    /// What the armed read fills: the inbox itself, or a buffer beside it.
    armed: Armed,
    /// Woken when the read beside the inbox has to be polled. Made at the first one.
    read_waker: Option<(Arc<FlagWaker>, Waker)>,
    /// The client sent FIN and may still be reading.
    half_closed: bool,
    /// What it is sent while it waits for a stream.
    heartbeats: Option<Box<Heartbeats>>,
    /// The key of the request in flight.
    pub(super) key: Option<KeyId>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Armed {
    Nothing,
    Inbox,
    Beside,
}

impl Client {
    pub(super) fn new(
        shard: Rc<Shard>,
        deadline: Deadline,
        address: SocketAddr,
        (reader, writer): (Reader, Writer),
    ) -> Self {
        Self {
            inbox: shard.buffers.small(),
            shard,
            writer,
            deadline,
            address,
            reader,
            request_bytes: 0,
            large: None,
            armed: Armed::Nothing,
            read_waker: None,
            half_closed: false,
            heartbeats: None,
            key: None,
        }
    }

    /// The bytes received and not consumed; the request in flight comes first.
    pub(crate) fn inbox(&self) -> &[u8] {
        self.large.as_deref().unwrap_or(&self.inbox)
    }

    /// The same while a request is read, to decode it in place.
    pub(super) fn inbox_mut(&mut self) -> &mut Buffer {
        &mut self.inbox
    }

    /// The request in flight, if it is so large that it is not copied to be sent.
    pub(super) fn large_request(&self) -> Option<&Rc<Buffer>> {
        self.large.as_ref()
    }

    /// Waits for more bytes in the inbox. There is room for `wanted` of them, but at most for as many as have come, or one
    /// read: a length is only a promise. False when the client sends no more.
    pub(crate) async fn fill(&mut self, wanted: usize) -> Result<bool, Interrupt> {
        if self.armed == Armed::Nothing {
            let mut buffer = std::mem::take(&mut self.inbox);
            if buffer.capacity() == 0 {
                buffer = self.shard.buffers.small();
            }
            let least = if buffer.len() < READ_BYTES { READ_BYTES } else { GROWTH_BYTES };
            let most = wanted.min(buffer.len().max(least));
            let wanted = match room(&buffer) {
                0 if wanted == 0 => buffer.len(),
                room if room >= wanted.min(READ_BYTES) => 0,
                _ => most,
            };
            grow(&mut buffer, wanted);
            self.reader.arm(buffer);
            self.armed = Armed::Inbox;
        }
        let (read, buffer) = interrupt::until(&self.deadline, self.reader.filled()).await?;
        Ok(matches!(self.received(read, buffer), Ok(1..)))
    }

    /// Keeps a read armed beside the inbox, so that a client that leaves is noticed.
    pub(crate) fn watch(&mut self) {
        if self.armed == Armed::Nothing && !self.half_closed {
            self.reader.arm(self.shard.buffers.small());
            self.armed = Armed::Beside;
            if let Some((flag, _)) = &self.read_waker {
                flag.mark();
            }
        }
    }

    /// Why a wait for something else has to end, if it has to: shard stopping, key revoked, client disconnected, deadline
    /// exceeded.
    pub(crate) fn poll_interrupt(&mut self, context: &mut Context<'_>) -> Poll<Interrupt> {
        if self.shard.is_stopping() {
            return Poll::Ready(Interrupt::Stopping);
        }
        if self.shard.is_outdated() && self.key.is_some_and(|key| self.shard.plan.key(key).is_revoked()) {
            return Poll::Ready(Interrupt::KeyRevoked);
        }
        if self.poll_gone(context).is_ready() {
            return Poll::Ready(Interrupt::ClientGone);
        }
        if self.deadline.is_due(context) { Poll::Ready(Interrupt::DeadlineExceeded) } else { Poll::Pending }
    }

    /// Ready when the client has gone. What it sends ahead meanwhile is kept, up to a bound.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.armed != Armed::Nothing {
            let (flag, waker) = self.read_waker.get_or_insert_with(|| {
                let flag = FlagWaker::of(context);
                (Arc::clone(&flag), Waker::from(flag))
            });
            if !flag.take_woken() {
                return Poll::Pending;
            }
            let filled = self.reader.poll_filled(&mut Context::from_waker(waker));
            let Poll::Ready((read, buffer)) = filled else { return Poll::Pending };
            match self.received(read, buffer) {
                Ok(1..) if self.inbox.len() < self.ahead_max() => self.watch(),
                Ok(0) if !self.shard.plan.half_close_is_gone => self.half_closed = true,
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// The first `bytes` of the inbox are a head, whose body has not been read.
    pub(super) fn start_request(&mut self, bytes: usize) {
        self.request_bytes = bytes;
    }

    /// The first `bytes` of the inbox are the request in flight. A large one is moved out of the inbox, which is left to
    /// what the client sends ahead.
    pub(crate) fn keep_request(&mut self, bytes: usize) {
        if bytes > LARGE_REQUEST_BYTES {
            let ahead = self.inbox.split_off(bytes);
            let mut request = std::mem::replace(&mut self.inbox, ahead);
            if request.capacity() > bytes + GROWTH_BYTES {
                request.shrink_to_fit(); // pages that held framing
            }
            self.request_bytes = 0;
            self.large = Some(Rc::new(request));
        } else {
            self.request_bytes = bytes;
        }
    }

    /// Takes another request in the place of the one in flight, which was forgotten.
    pub(super) fn take_request(&mut self, request: Rc<Buffer>) {
        self.large = Some(request);
    }

    /// Puts another request in the place of the one in flight, which has `bytes`.
    pub(super) fn replace_request(&mut self, bytes: usize, request: Buffer) {
        if self.large.is_some() {
            self.large = Some(Rc::new(request));
            return;
        }
        let ahead = self.inbox.split_off(bytes);
        self.shard.buffers.put(std::mem::replace(&mut self.inbox, request));
        self.request_bytes = self.inbox.len();
        self.inbox.extend_from_slice(&ahead);
    }

    /// The request in flight is not needed any more: its bytes leave the inbox.
    pub(crate) fn forget_request(&mut self) {
        if self.large.take().is_some() {
            return;
        }
        let bytes = std::mem::take(&mut self.request_bytes);
        // A body that did not come to its end: its bytes are with the read that waits for more, and the connection ends.
        if self.armed != Armed::Inbox {
            self.consume(bytes);
        }
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        if bytes == self.inbox.len() {
            self.shard.buffers.put(std::mem::take(&mut self.inbox));
        } else {
            self.inbox.drain(..bytes);
        }
    }

    /// Writes `range` of `buffer`; the buffer comes back only from a write that was not interrupted.
    pub(crate) async fn write(
        &mut self,
        buffer: Buffer,
        range: std::ops::Range<usize>,
    ) -> Result<Buffer, Interrupt> {
        self.deadline.set(self.shard.plan.timeouts.write_stall);
        let (sent, buffer) = interrupt::until(&self.deadline, self.writer.write_all(buffer, range)).await?;
        sent.map(|()| buffer).map_err(|_| Interrupt::ClientGone)
    }

    fn received(&mut self, read: io::Result<usize>, buffer: Buffer) -> io::Result<usize> {
        let armed = std::mem::replace(&mut self.armed, Armed::Nothing);
        if let Ok(bytes) = read {
            self.shard.numbers.add(Counter::BytesFromClients, bytes as u64);
        }
        if armed == Armed::Inbox || self.inbox.is_empty() {
            self.shard.buffers.put(std::mem::replace(&mut self.inbox, buffer));
        } else {
            self.inbox.extend_from_slice(&buffer);
            self.shard.buffers.put(buffer);
        }
        read
    }

    fn ahead_max(&self) -> usize {
        self.shard.plan.limits.body_buffer_bytes + AHEAD_BYTES
    }

    /// Waits for `future`, as long as the client stays and the deadline is not exceeded. Meanwhile the client is sent its
    /// heartbeats.
    pub(super) async fn wait<F: Future>(&mut self, future: F) -> Result<F::Output, Interrupt> {
        let mut future = pin!(future);
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            match (self.poll_interrupt(context), &mut self.heartbeats) {
                (Poll::Pending, Some(heartbeats)) => {
                    let gone = heartbeats.poll(&self.shard, &mut self.writer, context);
                    gone.map_or(Poll::Pending, |gone| Poll::Ready(Err(gone)))
                }
                (polled, _) => polled.map(Err),
            }
        })
        .await
    }

    /// From now on the client waits for a backend: it is watched, and sent heartbeats where it asked for a stream.
    pub(super) fn start_waiting(&mut self, exchange: &Exchange, peek: &Peek) {
        self.watch();
        self.heartbeats = Heartbeats::new(exchange, peek);
    }

    /// The waiting is over: the exchange knows which head the client has, all of it written.
    ///
    /// # Errors
    /// The client has gone, or does not take what it is sent.
    pub(super) async fn end_heartbeats(&mut self, exchange: &mut Exchange) -> Result<(), Fault> {
        let Some(mut heartbeats) = self.heartbeats.take() else { return Ok(()) };
        exchange.sent_head = heartbeats.sent();
        let finished = heartbeats.finish(&self.shard, &mut self.writer).await;
        finished.map_err(|interrupt| interrupt.fault(|| Fault::new(FaultKind::ClientStalled, "")))
    }

    /// The waiting is over, and nothing more is written.
    pub(super) fn abandon_heartbeats(&mut self, exchange: &mut Exchange) {
        if let Some(heartbeats) = self.heartbeats.take() {
            exchange.sent_head = heartbeats.sent();
        }
    }

    /// Gives its buffers back.
    pub(super) fn close(&mut self) {
        self.shard.buffers.put(std::mem::take(&mut self.inbox));
    }

    /// Ends our side. Over TLS that is what tells a whole response from a cut one (RFC 9112 section 9.8).
    pub(super) async fn finish(&mut self) {
        self.deadline.set(self.shard.plan.timeouts.write_stall);
        let _ = interrupt::until(&self.deadline, self.writer.finish()).await; // a client that stalls is left
    }
}

/// Bytes a client may send ahead of its response, beside the request in flight.
const AHEAD_BYTES: usize = 64 * 1024;
/// Room for one read of a body.
pub(super) const READ_BYTES: usize = 16 * 1024;
/// The least that a body of which more than that has come is given room for, if it needs as much: few steps for large ones.
const GROWTH_BYTES: usize = 256 * 1024;
/// A request of more than this is kept once and sent from there, in several writes; a smaller one is copied behind its new
/// head and sent in one write. Chosen, not measured.
const LARGE_REQUEST_BYTES: usize = 64 * 1024;
