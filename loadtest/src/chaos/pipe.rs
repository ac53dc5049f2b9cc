//! One direction of a connection: a reader that stops where it is told, a queue, a writer that paces and cuts.
//!
//! Bytes wait in the queue for their latency, so that reading goes on meanwhile. Nothing is read before the queue has
//! room: a slow receiver slows the sender.

use super::draw::{Line, Stop, Turn};
use super::fault::Span;
use crate::chance::Chance;
use socket2::SockRef;
use std::cell::Cell;
use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

/// Bytes of one direction so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) read: Cell<u64>,
    /// Those sent twice count twice.
    pub(super) written: Cell<u64>,
}

/// How a direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The sender's FIN was passed on, or the receiver had one of ours and the sender then ended.
    Finished,
    /// As drawn.
    Cut,
    /// As drawn.
    Reset,
    /// The sender's socket failed.
    SenderGone,
    /// The receiver's socket failed.
    ReceiverGone,
}

/// Passes bytes on until the direction is over.
pub(super) async fn run(from: &TcpStream, to: &TcpStream, line: Line, tally: &Tally) -> Over {
    let Line { latency, rate, slice, early_fin, stops, turns, mut chance } = line;
    let (jitters, sizes) = (Chance::new(chance.word()), Chance::new(chance.word()));
    let room = Semaphore::new(if latency.is_some() { QUEUE } else { PIECE });
    let (pieces, queue) = unbounded_channel();
    let reader = Reader { from, tally, room: &room, latency, early_fin, stops, chance: jitters };
    let memory_max = turns.iter().map(|(_, turn)| if let Turn::Again(size) = turn { *size } else { 0 }).max();
    let writer = Writer {
        to,
        tally,
        room: &room,
        rate,
        slice,
        turns,
        chance: sizes,
        position: 0,
        free_at: Instant::now(),
        memory: Vec::new(),
        memory_max: memory_max.unwrap_or(0),
    };
    let mut writing = pin!(writer.run(queue));
    let turned = tokio::select! {
        biased;
        ended = &mut writing => ended,
        read = reader.run(pieces) => match read {
            Read::All => writing.await,
            Read::EarlyFin => Err(Turned::HalfClose),
            Read::Gone => return Over::SenderGone,
            Read::Frozen => return Over::Reset,
        },
    };
    match turned {
        Ok(over) => over,
        Err(Turned::Cut) => Over::Cut,
        Err(Turned::Reset) => Over::Reset,
        Err(Turned::ReceiverGone) => Over::ReceiverGone,
        Err(Turned::HalfClose) => {
            finish(to);
            match discard(from, tally).await {
                Ok(()) => Over::Finished,
                Err(_) => Over::SenderGone,
            }
        }
    }
}

/// Sends a FIN. One on a socket that is already dead is no error: its reader sees that.
pub(super) fn finish(to: &TcpStream) {
    let _ = SockRef::from(to).shutdown(Shutdown::Write);
}

/// Reads to the end for nothing.
pub(super) async fn discard(from: &TcpStream, tally: &Tally) -> io::Result<()> {
    while !receive(from, u64::MAX, tally).await?.is_empty() {}
    Ok(())
}

/// Waits until the peer has reset the connection; sees it without reading.
pub(super) async fn gone(socket: &TcpStream) {
    while socket.ready(Interest::ERROR).await.is_ok_and(|ready| !ready.is_error()) {}
}

/// What was read at once.
struct Piece {
    /// When it may be passed on.
    due: Instant,
    /// Empty for the FIN.
    bytes: Vec<u8>,
}

impl Piece {
    /// Bytes of memory it takes in the queue.
    fn cost(&self) -> usize {
        self.bytes.len() + (PIECE - READ)
    }
}

struct Reader<'a> {
    from: &'a TcpStream,
    tally: &'a Tally,
    /// What the queue may still hold, as pieces cost.
    room: &'a Semaphore,
    latency: Option<(Duration, Duration)>,
    early_fin: Option<u64>,
    stops: Vec<(u64, Stop)>,
    chance: Chance,
}

/// How reading ended.
enum Read {
    /// The end is in the queue, or the queue ends without one because the sender's socket failed.
    All,
    EarlyFin,
    /// The sender's socket failed while nothing could be read.
    Gone,
    Frozen,
}

impl Reader<'_> {
    async fn run(mut self, pieces: UnboundedSender<Piece>) -> Read {
        let mut last = Instant::now();
        loop {
            if let Some(ended) = self.stop().await {
                return ended;
            }
            tokio::select! {
                biased;
                room = self.room.acquire_many(PIECE as u32) => match room {
                    Ok(room) => room.forget(),
                    // Never closed.
                    Err(_) => return Read::All,
                },
                () = self.given_up() => return Read::Gone,
            }
            let next = self.stops.last().map_or(u64::MAX, |(at, _)| at - self.tally.read.get());
            let Ok(bytes) = receive(self.from, next, self.tally).await else {
                return Read::All;
            };
            if self.early_fin.is_some_and(|at| self.tally.read.get() > at) {
                return Read::EarlyFin;
            }
            // Never before what was read earlier.
            last = last.max(Instant::now() + self.delay());
            let ended = bytes.is_empty();
            let piece = Piece { due: last, bytes };
            self.room.add_permits(PIECE - piece.cost());
            // A writer that is gone has said why.
            if pieces.send(piece).is_err() || ended {
                return Read::All;
            }
        }
    }

    /// Stands still where it is due.
    async fn stop(&mut self) -> Option<Read> {
        while let Some((at, stop)) = self.stops.last().copied()
            && at <= self.tally.read.get()
        {
            self.stops.pop();
            let (pause, ended) = match stop {
                Stop::Stall(pause) => (Some(pause), None),
                Stop::Freeze(until) => (until, Some(Read::Frozen)),
            };
            let wait = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = wait => if ended.is_some() { return ended },
                () = gone(self.from) => return Some(Read::Gone),
            }
        }
        None
    }

    /// The sender has reset the connection, and the queue has not moved for [`GRACE`].
    async fn given_up(&self) {
        gone(self.from).await;
        tokio::time::sleep(GRACE).await;
    }

    fn delay(&mut self) -> Duration {
        let (delay, jitter) = self.latency.unwrap_or_default();
        delay + jitter.mul_f64(self.chance.share())
    }
}

/// Up to `limit` bytes; none at the end.
async fn receive(from: &TcpStream, limit: u64, tally: &Tally) -> io::Result<Vec<u8>> {
    loop {
        from.readable().await?;
        match try_receive(from, limit) {
            Ok(bytes) => {
                tally.read.set(tally.read.get() + bytes.len() as u64);
                return Ok(bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads if there is something: a direction that waits holds no buffer.
fn try_receive(from: &TcpStream, limit: u64) -> io::Result<Vec<u8>> {
    let mut buffer = [0; READ];
    let count = from.try_read(&mut buffer[..limit.min(READ as u64) as usize])?;
    Ok(buffer[..count].to_vec())
}

struct Writer<'a> {
    to: &'a TcpStream,
    tally: &'a Tally,
    /// Given back what a piece has cost once it is passed on.
    room: &'a Semaphore,
    rate: Option<u64>,
    slice: Option<(Span, Duration)>,
    turns: Vec<(u64, Turn)>,
    chance: Chance,
    /// Bytes of the sender that were passed on.
    position: u64,
    /// When bandwidth and pauses allow the next write.
    free_at: Instant,
    /// The last bytes passed on, at least `memory_max` of them.
    memory: Vec<u8>,
    memory_max: usize,
}

/// Why the writer passes nothing on any more.
enum Turned {
    Reset,
    Cut,
    HalfClose,
    ReceiverGone,
}

impl Writer<'_> {
    async fn run(mut self, mut queue: UnboundedReceiver<Piece>) -> Result<Over, Turned> {
        loop {
            self.turn().await?;
            let Some(piece) = queue.recv().await else {
                return Ok(Over::SenderGone);
            };
            sleep_until(piece.due).await;
            if piece.bytes.is_empty() {
                finish(self.to);
                return Ok(Over::Finished);
            }
            let mut rest = &piece.bytes[..];
            while !rest.is_empty() {
                let next = self.turns.last().map_or(u64::MAX, |(at, _)| at - self.position);
                let (now, later) = rest.split_at((rest.len() as u64).min(next) as usize);
                self.send(now).await?;
                self.position += now.len() as u64;
                self.remember(now);
                self.turn().await?;
                rest = later;
            }
            self.room.add_permits(piece.cost());
        }
    }

    /// Does what is drawn for this position.
    async fn turn(&mut self) -> Result<(), Turned> {
        while let Some((at, turn)) = self.turns.last().copied()
            && at <= self.position
        {
            self.turns.pop();
            match turn {
                Turn::Reset => return Err(Turned::Reset),
                Turn::Cut => return Err(Turned::Cut),
                Turn::HalfClose => return Err(Turned::HalfClose),
                Turn::Again(size) => {
                    let again = self.memory[self.memory.len().saturating_sub(size)..].to_vec();
                    self.send(&again).await?;
                }
            }
        }
        Ok(())
    }

    /// Writes in the sizes and at the times that were drawn.
    async fn send(&mut self, bytes: &[u8]) -> Result<(), Turned> {
        let mut rest = bytes;
        while !rest.is_empty() {
            sleep_until(self.free_at).await;
            let mut size = rest.len() as u64;
            if let Some((sizes, _)) = self.slice {
                size = size.min(sizes.draw(&mut self.chance));
            }
            if let Some(rate) = self.rate {
                size = size.min((rate / WRITES_PER_SECOND).max(1));
            }
            let (now, later) = rest.split_at(size as usize);
            self.write(now).await.map_err(|_| Turned::ReceiverGone)?;
            rest = later;
            if self.rate.is_some() || self.slice.is_some() {
                self.free_at = self.free_at.max(Instant::now()) + self.cost(size);
            }
        }
        Ok(())
    }

    /// How long the direction is taken by a write of `size` bytes.
    fn cost(&self, size: u64) -> Duration {
        let wire =
            self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(size as f64 / rate as f64));
        wire.max(self.slice.map_or(Duration::ZERO, |(_, pause)| pause))
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.to.writable().await?;
            match self.to.try_write(bytes) {
                Ok(count) => {
                    self.tally.written.set(self.tally.written.get() + count as u64);
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn remember(&mut self, bytes: &[u8]) {
        if self.memory_max == 0 {
            return;
        }
        self.memory.extend_from_slice(bytes);
        // Shortened now and then, not for each write.
        if self.memory.len() > 4 * self.memory_max {
            self.memory.drain(..self.memory.len() - self.memory_max);
        }
    }
}

/// Bytes of one read at most.
const READ: usize = 16 * 1024;
/// What the largest piece costs: its bytes and its place in the queue.
const PIECE: usize = READ + 64;
/// What the pieces that wait for their latency may cost, in each direction of a connection. A higher product of
/// bandwidth and latency slows the sender.
const QUEUE: usize = 64 * PIECE;
/// How long a RST waits behind bytes that the receiver does not take; by taste.
const GRACE: Duration = Duration::from_secs(1);
/// Bandwidth comes in writes of this many a second, or of single bytes.
const WRITES_PER_SECOND: u64 = 50;
