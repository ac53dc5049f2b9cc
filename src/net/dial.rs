//! Connecting to a backend, by address only: names are the coordinator's business.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket as RawSocket, TcpKeepalive, Type};

use super::busy_poll;
use super::deadline::{Deadline, Deadlines};
use super::stream::Socket;
use crate::units::Nanos;

/// Connects to a TCP address; `busy_poll_us` is for the socket, 0 for none. Dropping the future closes the socket.
///
/// Errors: refused, unreachable, out of descriptors; the caller bounds the time.
pub async fn tcp(address: SocketAddr, busy_poll_us: u32) -> io::Result<Socket> {
    let raw = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    tune(raw.as_fd(), busy_poll_us);
    connect(raw, &address.into()).await
}

/// How addresses race for one connection.
pub struct Race<'a> {
    /// In the order in which they are tried.
    pub order: &'a [SocketAddr],
    /// As for [`tcp`].
    pub busy_poll_us: u32,
    /// How long one is waited for before the next is tried beside it.
    pub delay: Nanos,
    /// The shard's deadlines.
    pub deadlines: &'a Rc<Deadlines>,
}

impl Race<'_> {
    /// The first address that accepts (RFC 8305 section 5): the next one is tried as soon as one has failed, or has taken
    /// `delay`, while those before it go on. Connections that come second are closed, as they are when the future is
    /// dropped. `failed` hears of every address that failed, and of those that were left after `delay` or more, whose error
    /// is that they timed out.
    ///
    /// Errors: how the last address failed, if all did; or at once if this machine can open no socket.
    pub async fn run(
        self,
        mut failed: impl FnMut(SocketAddr, &io::Error),
    ) -> io::Result<(Socket, SocketAddr)> {
        match self.order {
            [] => Err(io::ErrorKind::HostUnreachable.into()), // a name that has no address yet
            [only] => match tcp(*only, self.busy_poll_us).await {
                Ok(socket) => Ok((socket, *only)),
                Err(error) => {
                    failed(*only, &error);
                    Err(error)
                }
            },
            _ => {
                let timer = self.deadlines.row();
                let mut field = Field { race: self, timer, next: 0, running: Vec::new(), failed };
                poll_fn(|context| field.poll(context)).await
            }
        }
    }
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Socket>>>>;

/// One address that is being tried.
struct Runner {
    address: SocketAddr,
    started: Nanos,
    connecting: Connecting,
}

/// A race that is under way.
struct Field<'a, F: FnMut(SocketAddr, &io::Error)> {
    race: Race<'a>,
    /// When the next one starts.
    timer: Deadline,
    /// How many of `order` have started.
    next: usize,
    running: Vec<Runner>,
    failed: F,
}

impl<F: FnMut(SocketAddr, &io::Error)> Field<'_, F> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(Socket, SocketAddr)>> {
        let mut last = None;
        loop {
            let mut at = 0;
            while let Some(runner) = self.running.get_mut(at) {
                let Poll::Ready(result) = runner.connecting.as_mut().poll(context) else {
                    at += 1;
                    continue;
                };
                let address = self.running.remove(at).address;
                match result {
                    Ok(socket) => return Poll::Ready(Ok((socket, address))),
                    Err(error) if is_out_of(&error) => return Poll::Ready(Err(error)),
                    Err(error) => {
                        (self.failed)(address, &error);
                        last = Some(error);
                    }
                }
            }
            let is_due = self.running.is_empty() || last.is_some() || self.timer.is_due(context);
            match self.race.order.get(self.next) {
                Some(address) if is_due && self.running.len() < RUNNERS_MAX => self.start(*address),
                Some(_) => return Poll::Pending,
                None if !self.running.is_empty() => {
                    self.timer.clear();
                    return Poll::Pending;
                }
                None => return Poll::Ready(Err(last.unwrap_or_else(|| io::ErrorKind::TimedOut.into()))),
            }
            last = last.filter(|_| self.next == self.race.order.len()); // one start for each failure
        }
    }

    fn start(&mut self, address: SocketAddr) {
        let connecting = Box::pin(tcp(address, self.race.busy_poll_us));
        self.running.push(Runner { address, started: self.timer.now(), connecting });
        self.next += 1;
        self.timer.set(self.race.delay);
    }
}

impl<F: FnMut(SocketAddr, &io::Error)> Drop for Field<'_, F> {
    fn drop(&mut self) {
        let now = self.timer.now();
        for runner in &self.running {
            if now.since(runner.started) >= self.race.delay {
                (self.failed)(runner.address, &io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Whether this machine has nothing left to open a socket with, whatever the address.
fn is_out_of(error: &io::Error) -> bool {
    use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM))
}

/// Addresses of one race that are tried at once.
const RUNNERS_MAX: usize = 16;

/// Connects to a socket file.
///
/// Errors: as for TCP.
pub async fn unix(path: &Path) -> io::Result<Socket> {
    let raw = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    connect(raw, &SockAddr::unix(path)?).await
}

/// Options of an accepted or dialled TCP socket. One that cannot be set is not worth a failed exchange.
pub fn tune(descriptor: BorrowedFd<'_>, busy_poll_us: u32) {
    let socket = SockRef::from(&descriptor);
    let _ = socket.set_tcp_nodelay(true); // a token held back for 40 ms is a bug users see
    let keepalive = TcpKeepalive::new()
        .with_time(std::time::Duration::from_secs(30))
        .with_interval(std::time::Duration::from_secs(10))
        .with_retries(3);
    let _ = socket.set_tcp_keepalive(&keepalive);
    if busy_poll_us > 0 {
        busy_poll::set(descriptor, busy_poll_us);
    }
}

/// Sends `head` and takes what comes back up to where `judge` finds its end, and no byte more: what follows belongs to whoever
/// reads next. `judge` is asked again with all that has come, `bytes_max` at most, by when it has to find an end.
///
/// Errors: the peer closes or resets first. The caller bounds the time.
pub async fn converse<T>(
    socket: &Socket,
    head: &[u8],
    bytes_max: usize,
    judge: impl Fn(&[u8]) -> Option<(T, usize)>,
) -> io::Result<T> {
    let fd = socket.as_raw_fd();
    let mut sent = 0;
    while sent < head.len() {
        match send(fd, &head[sent..], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
            Ok(count) => sent += count,
            Err(Errno::EAGAIN) => socket.writable(false).await?,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut seen = vec![0; bytes_max];
    let mut taken = 0;
    loop {
        // Looked at first, so that exactly the head can be taken out of the socket.
        let count = match recv(fd, &mut seen[taken..], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(Errno::EAGAIN) => {
                socket.readable(false).await?;
                continue;
            }
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let found = judge(&seen[..taken + count]);
        let end = found.as_ref().map_or(taken + count, |(_, end)| *end);
        while taken < end {
            taken += recv(fd, &mut seen[taken..end], MsgFlags::MSG_DONTWAIT)?; // it is there
        }
        if let Some((verdict, _)) = found {
            return Ok(verdict);
        }
    }
}

async fn connect(raw: RawSocket, address: &SockAddr) -> io::Result<Socket> {
    raw.set_nonblocking(true)?;
    let pending = match raw.connect(address) {
        Ok(()) => false,
        Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => true,
        Err(error) => return Err(error),
    };
    let probe = raw.try_clone()?;
    let socket = Socket::from_std(StdUnixStream::from(OwnedFd::from(raw)))?;
    if pending {
        socket.writable(false).await?;
        if let Some(error) = probe.take_error()? {
            return Err(error);
        }
    }
    Ok(socket)
}
