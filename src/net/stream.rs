//! A connected stream as two halves that never borrow each other: a reader that stays armed, a writer that owns
//! what it writes.
//!
//! Each half keeps one boxed future, its pump, for the life of the connection. A buffer goes in, the operation is
//! submitted at the next poll, and the buffer comes out with what became of it; neither arming nor writing allocates.
//! An armed reader may be polled or left alone: while a request waits for its backend it is the detector for a client
//! that leaves, and in an idle backend connection it finds a closed one without a system call.
//!
//! A write goes to the socket at once, by a plain `send`, and only what the socket has no room for goes through the
//! runtime. A write submitted to the ring is done at the next turn of the loop and wakes its task once more; done here
//! it costs the same in the kernel, half as many turns and wake-ups, and leaves earlier (`bench/compare`).

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use monoio::buf::{IoBuf, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::UnixStream;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send, setsockopt, sockopt};

use super::buffers::{Buffer, room};

/// A connected descriptor of either family.
pub type Socket = UnixStream;

/// What became of an operation, and the buffer it worked on.
pub type Completion<T> = (io::Result<T>, Buffer);

/// A future that runs as long as its half: orders go in one at a time, outcomes come out.
struct Pump<I, O> {
    handover: Rc<Handover<I, O>>,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

/// Where a half and its pump hand things over. With its count it fits a cache line.
pub(super) struct Handover<I, O>(Cell<Slot<I, O>>);

enum Slot<I, O> {
    /// Nothing is asked for.
    Idle,
    /// For the pump.
    Order(I),
    /// The pump works.
    Busy,
    /// For the owner.
    Completion(O),
}

impl<I, O> Pump<I, O> {
    fn new<F: Future<Output = ()> + 'static>(run: impl FnOnce(Rc<Handover<I, O>>) -> F) -> Self {
        let handover = Rc::new(Handover(Cell::new(Slot::Idle)));
        let future = Box::pin(run(Rc::clone(&handover)));
        Self { handover, future }
    }

    /// Gives an order; nothing is submitted before a poll.
    fn give(&mut self, order: I) {
        let before = self.handover.0.replace(Slot::Order(order));
        debug_assert!(matches!(before, Slot::Idle), "one order at a time");
    }

    fn is_idle(&self) -> bool {
        let slot = self.handover.0.replace(Slot::Idle);
        let idle = matches!(slot, Slot::Idle);
        self.handover.0.set(slot);
        idle
    }

    /// Works on the order given.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<O> {
        let ended = self.future.as_mut().poll(context).is_ready();
        debug_assert!(!ended, "a pump runs as long as its half");
        match self.handover.0.replace(Slot::Idle) {
            Slot::Completion(outcome) => Poll::Ready(outcome),
            working => {
                self.handover.0.set(working);
                Poll::Pending
            }
        }
    }
}

impl<I, O> Handover<I, O> {
    /// The next order.
    pub(super) async fn order(&self) -> I {
        poll_fn(|_| match self.0.replace(Slot::Busy) {
            Slot::Order(order) => Poll::Ready(order),
            none => {
                self.0.set(none);
                Poll::Pending // the owner polls again after it gave one
            }
        })
        .await
    }

    pub(super) fn put(&self, outcome: O) {
        self.0.set(Slot::Completion(outcome));
    }
}

/// The receiving half.
pub struct Reader(Pump<Buffer, Completion<usize>>);

impl Reader {
    /// A reader whose orders are done by `run`.
    pub(super) fn new<F: Future<Output = ()> + 'static>(
        run: impl FnOnce(Rc<Handover<Buffer, Completion<usize>>>) -> F,
    ) -> Self {
        Self(Pump::new(run))
    }

    /// Gives the buffer that the next read appends to; it must have room. Nothing is submitted before a poll.
    pub fn arm(&mut self, buffer: Buffer) {
        debug_assert!(room(&buffer) > 0);
        self.0.give(buffer);
    }

    /// Submits the read if it is not, and takes what came: how many bytes were appended (0: the peer has closed)
    /// and the buffer. Must be armed.
    pub fn poll_filled(&mut self, context: &mut Context<'_>) -> Poll<Completion<usize>> {
        self.0.poll(context)
    }

    /// Submits the read without anybody waiting for it; whether it is still pending.
    pub fn submit(&mut self) -> Poll<Completion<usize>> {
        self.poll_filled(&mut Context::from_waker(Waker::noop()))
    }

    /// Waits for the armed read.
    pub async fn filled(&mut self) -> Completion<usize> {
        poll_fn(|context| self.poll_filled(context)).await
    }
}

/// The sending half.
pub struct Writer {
    fd: RawFd,
    /// What is written is what the socket gets: there is no TLS.
    plain: bool,
    /// What was given and has not been tried.
    fresh: Option<(Buffer, Range<usize>)>,
    pump: Pump<Order, Completion<()>>,
}

/// What a writer is asked for.
pub(super) enum Order {
    /// A range of a buffer, all of it.
    Range(Buffer, Range<usize>),
    /// The same of a buffer that others hold too. It does not come back.
    Shared(Rc<Buffer>, Range<usize>),
    /// The end of our side.
    Finish,
}

impl Writer {
    /// A writer to the socket `fd`, whose orders are done by `run`. `plain`: there is no TLS.
    pub(super) fn new<F: Future<Output = ()> + 'static>(
        fd: RawFd,
        plain: bool,
        run: impl FnOnce(Rc<Handover<Order, Completion<()>>>) -> F,
    ) -> Self {
        Self { fd, plain, fresh: None, pump: Pump::new(run) }
    }

    /// Gives the buffer of which `range` is to be written, all of it. Nothing is sent before a poll, and the write
    /// goes on as long as somebody polls it.
    pub fn start(&mut self, buffer: Buffer, range: Range<usize>) {
        debug_assert!(self.fresh.is_none(), "one write at a time");
        self.fresh = Some((buffer, range));
    }

    /// Sends what the socket takes, and takes the buffer back once all of it is written.
    pub fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<Completion<()>> {
        if let Some((buffer, range)) = self.fresh.take() {
            let sent = if self.plain { send_now(self.fd, &buffer[range.clone()]) } else { Ok(0) };
            match sent {
                Ok(sent) if sent == range.len() => return Poll::Ready((Ok(()), buffer)),
                Ok(sent) => self.pump.give(Order::Range(buffer, range.start + sent..range.end)),
                Err(error) => return Poll::Ready((Err(error), buffer)),
            }
        }
        self.pump.poll(context)
    }

    /// Writes `range` of `buffer`, all of it, and gives the buffer back.
    pub async fn write_all(&mut self, buffer: Buffer, range: Range<usize>) -> Completion<()> {
        self.start(buffer, range);
        poll_fn(|context| self.poll_sent(context)).await
    }

    /// Writes `range` of a buffer that others hold too, all of it. A write that nobody waits for any more keeps its hold.
    pub async fn write_shared(&mut self, buffer: Rc<Buffer>, range: Range<usize>) -> io::Result<()> {
        debug_assert!(self.fresh.is_none(), "one write at a time");
        let sent = if self.plain { send_now(self.fd, &buffer[range.clone()])? } else { 0 };
        if sent == range.len() {
            return Ok(());
        }
        self.pump.give(Order::Shared(buffer, range.start + sent..range.end));
        poll_fn(|context| self.pump.poll(context)).await.0
    }

    /// Ends our side: the peer reads what was written, then the end. TLS says so in a record of its own first. Nothing
    /// happens if a write is still under way.
    pub async fn finish(&mut self) {
        if self.fresh.is_none() && self.pump.is_idle() {
            self.pump.give(Order::Finish);
            poll_fn(|context| self.pump.poll(context)).await.0.ok();
        }
    }

    /// Makes the close of this socket a reset, so that a body delimited by the close cannot look complete.
    pub fn reset_on_close(&self) {
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = setsockopt(self.fd, sockopt::Linger, &linger); // a socket already gone needs no reset
    }
}

/// Sends what the socket has room for, which may be nothing.
fn send_now(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match send(fd, bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
        sent => Ok(sent?),
    }
}

/// Writes `range` of `buffer` to the socket `fd`, whose half this is: at once what it takes, then the rest.
pub(super) async fn send_all(
    fd: RawFd,
    half: &mut OwnedWriteHalf<Socket>,
    buffer: Buffer,
    range: Range<usize>,
) -> Completion<()> {
    match send_now(fd, &buffer[range.clone()]) {
        Ok(sent) => write_all(half, buffer, range.start + sent..range.end).await,
        Err(error) => (Err(error), buffer),
    }
}

/// Writes `range` of `buffer` to a socket, however many sends that takes.
async fn write_all<B: IoBuf>(
    half: &mut OwnedWriteHalf<Socket>,
    mut buffer: B,
    range: Range<usize>,
) -> (io::Result<()>, B) {
    let (mut start, end) = (range.start, range.end);
    while start < end {
        let (sent, slice) = half.write(buffer.slice(start..end)).await;
        buffer = slice.into_inner();
        match sent_on(sent, start) {
            Ok(next) => start = next,
            Err(error) => return (Err(error), buffer),
        }
    }
    (Ok(()), buffer)
}

/// Where the next send starts after one from `start` on.
fn sent_on(sent: io::Result<usize>, start: usize) -> io::Result<usize> {
    match sent {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Ok(sent) => Ok(start + sent),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(start),
        Err(error) => Err(error),
    }
}

/// Reads once, appending to `buffer`.
pub(super) async fn read_some(half: &mut OwnedReadHalf<Socket>, buffer: Buffer) -> Completion<usize> {
    let start = buffer.len();
    let (count, slice) = half.read(room_of(buffer)).await;
    filled(count, slice, start)
}

/// The room behind what a buffer holds.
fn room_of(buffer: Buffer) -> SliceMut<Buffer> {
    let (start, end) = (buffer.len(), buffer.len() + room(&buffer));
    SliceMut::new(buffer, start, end)
}

/// A buffer after a read into its room, which began at `start`.
fn filled(count: io::Result<usize>, slice: SliceMut<Buffer>, start: usize) -> Completion<usize> {
    let mut buffer = slice.into_inner();
    if count.is_err() {
        buffer.truncate(start);
    }
    (count, buffer)
}

/// The halves of a socket without TLS. The reader's pump does itself what `read_some` does for TLS: a future less to go
/// through at every wait.
pub fn plain(socket: Socket) -> (Reader, Writer) {
    let fd = socket.as_raw_fd();
    let (mut read, mut write) = socket.into_split();
    let reader = Reader::new(|handover| async move {
        loop {
            let buffer = handover.order().await;
            let start = buffer.len();
            let (count, slice) = read.read(room_of(buffer)).await;
            handover.put(filled(count, slice, start));
        }
    });
    let writer = Writer::new(fd, true, |handover| async move {
        loop {
            let outcome = match handover.order().await {
                Order::Range(buffer, range) => write_all(&mut write, buffer, range).await,
                Order::Shared(buffer, range) => (write_all(&mut write, buffer, range).await.0, Buffer::new()),
                Order::Finish => (write.shutdown().await, Buffer::new()),
            };
            handover.put(outcome);
        }
    });
    (reader, writer)
}
