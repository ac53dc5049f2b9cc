//! Connecting to a backend, by address only: names are the coordinator's business.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket as RawSocket, TcpKeepalive, Type};

use super::busy_poll;
use super::stream::Socket;

/// Connects to a TCP address; `busy_poll_us` is for the socket, 0 for none. Dropping the future closes the socket.
///
/// Errors: refused, unreachable, out of descriptors; the caller bounds the time.
pub async fn tcp(address: SocketAddr, busy_poll_us: u32) -> io::Result<Socket> {
    let raw = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    tune(raw.as_fd(), busy_poll_us);
    connect(raw, &address.into()).await
}

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
