//! Listening: every shard opens every listener with SO_REUSEPORT, the kernel spreads connections by hash, and a
//! shard with too many hands new ones to a less loaded one before their first read.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use super::dial;
use super::stream::Socket;
use crate::sync::{ArrayQueue, AtomicUsize, Ordering};

/// Opens a listener that other shards may open too.
///
/// Errors: the address is taken by another program, or is not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let raw = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    raw.set_reuse_address(true)?;
    raw.set_reuse_port(true)?;
    raw.set_nonblocking(true)?;
    raw.bind(&address.into())?;
    raw.listen(BACKLOG)?;
    Ok(raw.into())
}

/// Opens a listener of which there is one in the process, not blocking.
///
/// Errors: the address is taken, or is not ours.
pub fn bind_alone(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A listener of one shard.
pub struct Acceptor {
    listener: TcpListener,
    /// The same descriptor, as something that can be awaited.
    readiness: Socket,
}

/// One accepted client.
pub struct Accepted {
    /// Not yet known to any ring.
    pub stream: TcpStream,
    /// Who connected.
    pub client: SocketAddr,
    /// Which of the plan's listeners.
    pub listener: usize,
}

impl Accepted {
    /// Waits for bytes and copies what has come without taking it; how many. Must run inside the shard's runtime.
    ///
    /// Errors: the client is gone.
    pub async fn peek(&self, room: &mut [u8]) -> io::Result<usize> {
        self.stream.set_nonblocking(true)?;
        let readiness = Socket::from_std(StdUnixStream::from(OwnedFd::from(self.stream.try_clone()?)))?;
        loop {
            readiness.readable(false).await?;
            match self.stream.peek(room) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                peeked => return peeked,
            }
        }
    }

    /// Takes bytes that were peeked at.
    pub fn take(&mut self, room: &mut [u8]) -> io::Result<()> {
        io::Read::read_exact(&mut self.stream, room)
    }

    /// The socket, known to this shard's ring from now on.
    pub fn into_socket(self, busy_poll_us: u32) -> io::Result<Socket> {
        self.stream.set_nonblocking(true)?; // epoll needs it, the ring does not mind
        dial::tune(self.stream.as_fd(), busy_poll_us);
        Socket::from_std(StdUnixStream::from(OwnedFd::from(self.stream)))
    }
}

impl Acceptor {
    /// Takes a listener over; must run inside the shard's runtime.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        let readiness = StdUnixStream::from(OwnedFd::from(listener.try_clone()?));
        Ok(Self { listener, readiness: Socket::from_std(readiness)? })
    }

    /// Waits until a client may be there. Dropping the future loses nothing.
    pub async fn ready(&self) -> io::Result<()> {
        self.readiness.readable(false).await
    }

    /// The next client, `None` when there is none at the moment.
    ///
    /// Errors: out of descriptors or memory; the caller must pause, or it spins.
    pub fn accept(&self, listener: usize) -> io::Result<Option<Accepted>> {
        loop {
            return match self.listener.accept() {
                Ok((stream, client)) => Ok(Some(Accepted { stream, client, listener })),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => Ok(None),
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                    _ => Err(error),
                },
            };
        }
    }
}

/// How shards hand clients to each other. One per process, shared.
pub struct Spill {
    doors: Box<[Door]>,
}

/// Where one shard receives clients.
struct Door {
    /// Clients held by this shard.
    held: CachePadded<AtomicUsize>,
    waiting: ArrayQueue<Accepted>,
    bell: StdUnixStream,
}

impl Spill {
    /// Doors for `shards` shards, and the end of each bell that the shard itself listens to.
    pub fn new(shards: usize) -> io::Result<(Arc<Self>, Vec<StdUnixStream>)> {
        let mut ends = Vec::with_capacity(shards);
        let mut doors = Vec::with_capacity(shards);
        for _ in 0..shards {
            let (bell, end) = StdUnixStream::pair()?;
            bell.set_nonblocking(true)?;
            end.set_nonblocking(true)?;
            ends.push(end);
            let waiting = ArrayQueue::new(WAITING_MAX);
            doors.push(Door { held: CachePadded::new(AtomicUsize::new(0)), waiting, bell });
        }
        Ok((Arc::new(Self { doors: doors.into() }), ends))
    }

    /// Counts a client that `shard` now holds.
    pub fn enter(&self, shard: usize) {
        self.doors[shard].held.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a client that `shard` no longer holds.
    pub fn leave(&self, shard: usize) {
        self.doors[shard].held.fetch_sub(1, Ordering::Relaxed);
    }

    /// Clients held by `shard`.
    pub fn held(&self, shard: usize) -> usize {
        self.doors[shard].held.load(Ordering::Relaxed)
    }

    /// Where a client accepted by `own` should live: on `own`, unless that holds clearly more than the mean, then
    /// on the less loaded of two shards drawn by `random`.
    pub fn place(&self, own: usize, random: u64) -> usize {
        let count = self.doors.len();
        if count == 1 {
            return own;
        }
        let held = self.held(own);
        let mean = self.doors.iter().map(|door| door.held.load(Ordering::Relaxed)).sum::<usize>() / count;
        if held <= mean + SLACK.max(mean / 8) {
            return own;
        }
        let (one, two) = (random as u32 as usize % count, (random >> 32) as usize % count);
        let best = if self.held(one) <= self.held(two) { one } else { two };
        if self.held(best) < held { best } else { own }
    }

    /// Hands a client to `shard`; gives it back if that door is full.
    pub fn hand_over(&self, shard: usize, client: Accepted) -> Result<(), Accepted> {
        let door = &self.doors[shard];
        door.waiting.push(client)?;
        let _ = io::Write::write(&mut &door.bell, &[1]); // a full pipe has rung already
        Ok(())
    }

    /// Whether clients wait at the door of `shard`.
    pub fn is_waiting(&self, shard: usize) -> bool {
        !self.doors[shard].waiting.is_empty()
    }

    /// The next client handed to `shard`.
    pub fn handed(&self, shard: usize) -> Option<Accepted> {
        self.doors[shard].waiting.pop()
    }
}

/// Connections the kernel holds for us until we accept.
const BACKLOG: i32 = 4096;
/// Clients a shard may have waiting at its door.
const WAITING_MAX: usize = 1024;
/// Clients above the mean that are not worth a move (by taste).
const SLACK: usize = 8;

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    fn spill(held: &[usize]) -> Arc<Spill> {
        let (spill, _ends) = Spill::new(held.len()).expect("socket pairs");
        for (shard, count) in held.iter().enumerate() {
            (0..*count).for_each(|_| spill.enter(shard));
        }
        spill
    }

    #[test]
    fn a_shard_near_the_mean_keeps_its_client() {
        assert_eq!(spill(&[12, 10, 8]).place(0, 1 | 2 << 32), 0);
    }

    #[test]
    fn a_shard_far_above_the_mean_gives_to_the_less_loaded_of_two() {
        assert_eq!(spill(&[100, 10, 20]).place(0, 1 | 2 << 32), 1);
    }

    #[test]
    fn a_client_never_moves_to_a_fuller_shard() {
        assert_eq!(spill(&[50, 60, 0]).place(0, 1 | 1 << 32), 0);
    }
}
