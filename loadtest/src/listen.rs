//! Listening sockets as the simulators want them: a deep backlog, and shared ports for many threads.

use crate::address::Address;
use crate::gpusim::wire::Socket as StreamSocket;
use socket2::{Domain, Socket, Type};
use std::io;

/// A listening socket of either kind, non-blocking.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// Unix.
    Unix(std::os::unix::net::UnixListener),
}

/// Listens on `address`; with `shared`, other sockets may listen on the same port and the kernel spreads the
/// connections. Returns the address with the port that was chosen.
///
/// # Errors
/// The kernel's refusal.
pub fn listen(address: &Address, shared: bool) -> io::Result<(Listener, Address)> {
    match address {
        Address::Tcp(address) => {
            let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            if shared {
                socket.set_reuse_port(true)?;
            }
            socket.set_nonblocking(true)?;
            socket.bind(&(*address).into())?;
            socket.listen(BACKLOG)?;
            let listener = std::net::TcpListener::from(socket);
            let address = listener.local_addr()?;
            Ok((Listener::Tcp(listener), Address::Tcp(address)))
        }
        Address::Unix(path) => {
            if std::os::unix::net::UnixStream::connect(path).is_err() {
                // Nobody answers there: a socket file left by an earlier run, or none at all.
                let _ = std::fs::remove_file(path);
            }
            let listener = std::os::unix::net::UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            Ok((Listener::Unix(listener), address.clone()))
        }
    }
}

/// A listener inside the runtime.
#[derive(Debug)]
pub enum AsyncListener {
    /// TCP.
    Tcp(tokio::net::TcpListener),
    /// Unix.
    Unix(tokio::net::UnixListener),
}

impl Listener {
    /// Hands the socket to the runtime of the calling thread.
    ///
    /// # Errors
    /// The runtime's refusal.
    pub fn into_tokio(self) -> io::Result<AsyncListener> {
        Ok(match self {
            Self::Tcp(listener) => AsyncListener::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Self::Unix(listener) => AsyncListener::Unix(tokio::net::UnixListener::from_std(listener)?),
        })
    }
}

impl AsyncListener {
    /// The next connection, with NODELAY where there is such a thing.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn accept(&self) -> io::Result<StreamSocket> {
        match self {
            Self::Tcp(listener) => {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                Ok(StreamSocket::Tcp(socket))
            }
            Self::Unix(listener) => Ok(StreamSocket::Unix(listener.accept().await?.0)),
        }
    }
}

/// Connections waiting to be accepted; the kernel caps it at its own limit.
const BACKLOG: i32 = 8192;
