//! A connected stream as two halves that never borrow each other: a reader that stays armed, a writer that owns
//! what it writes.
//!
//! The reader keeps one boxed future for the life of the connection. A block goes in (`arm`), the read is submitted
//! at the next poll, and the block comes out with what the kernel appended; arming allocates nothing. An armed reader
//! may be polled or left alone: while a request waits for its backend it is the detector for a client that leaves,
//! and in an idle backend connection it finds a closed one without a system call.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use monoio::buf::{IoBuf, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::UnixStream;
use nix::sys::socket::{setsockopt, sockopt};

use super::blocks::{Block, room};
use super::tls::{TlsReader, TlsWriter};

/// A connected descriptor of either family.
pub type Socket = UnixStream;

/// The receiving half.
pub struct Reader {
    exchange: Rc<Exchange>,
    pump: Pin<Box<dyn Future<Output = ()>>>,
    armed: bool,
}

/// Where a reader's owner and its pump hand blocks over.
#[derive(Default)]
struct Exchange {
    given: Cell<Option<Block>>,
    filled: Cell<Option<(io::Result<usize>, Block)>>,
}

impl Reader {
    fn new<F, P>(pump: F) -> Self
    where
        F: FnOnce(Hatch) -> P,
        P: Future<Output = ()> + 'static,
    {
        let exchange = Rc::new(Exchange::default());
        let pump = Box::pin(pump(Hatch { exchange: Rc::clone(&exchange) }));
        Self { exchange, pump, armed: false }
    }

    /// Gives the block that the next read appends to; it must have room. Nothing is submitted before a poll.
    pub fn arm(&mut self, block: Block) {
        debug_assert!(!self.armed && room(&block) > 0);
        self.exchange.given.set(Some(block));
        self.armed = true;
    }

    /// Whether a block is with the kernel (or given and not yet submitted).
    pub fn is_armed(&self) -> bool {
        self.armed
    }

    /// Submits the read if it is not, and takes what came: how many bytes were appended (0: the peer has closed)
    /// and the block. Must be armed.
    pub fn poll_filled(&mut self, context: &mut Context<'_>) -> Poll<(io::Result<usize>, Block)> {
        debug_assert!(self.armed);
        let ended = self.pump.as_mut().poll(context).is_ready();
        debug_assert!(!ended, "a pump runs as long as its reader");
        match self.exchange.filled.take() {
            Some(filled) => {
                self.armed = false;
                Poll::Ready(filled)
            }
            None => Poll::Pending,
        }
    }

    /// Submits the read without anybody waiting for it; whether it is still pending.
    pub fn submit(&mut self) -> Poll<(io::Result<usize>, Block)> {
        self.poll_filled(&mut Context::from_waker(Waker::noop()))
    }

    /// Waits for the armed read.
    pub async fn filled(&mut self) -> (io::Result<usize>, Block) {
        std::future::poll_fn(|context| self.poll_filled(context)).await
    }
}

/// The pump's side of a reader.
pub(super) struct Hatch {
    exchange: Rc<Exchange>,
}

impl Hatch {
    /// The next block to fill.
    pub(super) async fn given(&self) -> Block {
        std::future::poll_fn(|_| match self.exchange.given.take() {
            Some(block) => Poll::Ready(block),
            None => Poll::Pending, // the owner polls again after it armed
        })
        .await
    }

    /// Hands a block back.
    pub(super) fn filled(&self, result: io::Result<usize>, block: Block) {
        self.exchange.filled.set(Some((result, block)));
    }
}

/// The sending half.
pub struct Writer {
    fd: RawFd,
    sink: Sink,
}

enum Sink {
    /// Bytes go out as they are.
    Plain(OwnedWriteHalf<Socket>),
    /// Bytes go out as TLS records.
    Tls(Box<TlsWriter>),
}

impl Writer {
    /// Writes `range` of `block`, all of it, and gives the block back.
    pub async fn write_all(&mut self, block: Block, range: Range<usize>) -> (io::Result<()>, Block) {
        match &mut self.sink {
            Sink::Plain(half) => write_all(half, block, range).await,
            Sink::Tls(tls) => tls.write_all(block, range).await,
        }
    }

    /// Ends our side: the peer reads what was written, then the end. TLS says so in a record of its own first.
    pub async fn finish(&mut self) {
        match &mut self.sink {
            Sink::Plain(half) => {
                let _ = half.shutdown().await;
            }
            Sink::Tls(tls) => tls.finish().await,
        }
    }

    /// Makes the close of this socket a reset, so that a body delimited by the close cannot look complete.
    pub fn reset_on_close(&self) {
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = setsockopt(self.fd, sockopt::Linger, &linger); // a socket already gone needs no reset
    }
}

/// Writes `range` of `block` to a socket, however many sends that takes.
pub(super) async fn write_all(
    half: &mut OwnedWriteHalf<Socket>,
    mut block: Block,
    range: Range<usize>,
) -> (io::Result<()>, Block) {
    let (mut start, end) = (range.start, range.end);
    while start < end {
        let (sent, slice) = half.write(block.slice(start..end)).await;
        block = slice.into_inner();
        match sent {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), block),
            Ok(sent) => start += sent,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (Err(error), block),
        }
    }
    (Ok(()), block)
}

/// Reads once, appending to `block`.
pub(super) async fn read_some(half: &mut OwnedReadHalf<Socket>, block: Block) -> (io::Result<usize>, Block) {
    let (start, end) = (block.len(), block.len() + room(&block));
    let (read, slice) = half.read(SliceMut::new(block, start, end)).await;
    let mut block = slice.into_inner();
    if read.is_err() {
        block.truncate(start);
    }
    (read, block)
}

/// The halves of a socket without TLS.
pub fn plain(socket: Socket) -> (Reader, Writer) {
    let fd = socket.as_raw_fd();
    let (mut read, write) = socket.into_split();
    let reader = Reader::new(|hatch| async move {
        loop {
            let block = hatch.given().await;
            let (result, block) = read_some(&mut read, block).await;
            hatch.filled(result, block);
        }
    });
    (reader, Writer { fd, sink: Sink::Plain(write) })
}

/// The halves of a socket whose TLS handshake is done.
pub(super) fn secured(fd: RawFd, mut read: TlsReader, write: TlsWriter) -> (Reader, Writer) {
    let reader = Reader::new(|hatch| async move {
        loop {
            let block = hatch.given().await;
            let (result, block) = read.read(block).await;
            hatch.filled(result, block);
        }
    });
    (reader, Writer { fd, sink: Sink::Tls(Box::new(write)) })
}
