//! One connection's bytes: a socket of either kind, and requests read from it.

use crate::http::{Chunked, Framing, Head, Malformed};
use std::cell::Cell;
use std::io;
use tokio::net::{TcpStream, UnixStream};

/// A stream socket. Reads and writes take `&self`, so that a writer can watch for the client's end meanwhile.
#[derive(Debug)]
pub enum Socket {
    /// TCP, with NODELAY set by whoever accepted it.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

impl Socket {
    /// Reads what is there onto the end of `buffer`, at least a byte; 0 at the end. Holds no memory while it waits.
    pub async fn read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            match self {
                Self::Tcp(socket) => socket.readable().await?,
                Self::Unix(socket) => socket.readable().await?,
            }
            buffer.reserve(READ_BYTES);
            let done = match self {
                Self::Tcp(socket) => socket.try_read_buf(buffer),
                Self::Unix(socket) => socket.try_read_buf(buffer),
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    /// Writes all of `bytes`, in one write while the socket takes them.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let done = match self {
                Self::Tcp(socket) => socket.try_write(bytes),
                Self::Unix(socket) => socket.try_write(bytes),
            };
            match done {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self {
                    Self::Tcp(socket) => socket.writable().await?,
                    Self::Unix(socket) => socket.writable().await?,
                },
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes the coming close a reset. A Unix socket has none: it closes.
    pub fn reset_on_close(&self) {
        if let Self::Tcp(socket) = self {
            // Refused only on a socket that is already dead.
            let _ = socket.set_zero_linger();
        }
    }
}

/// A request as a simulator needs it.
#[derive(Debug)]
pub struct Request {
    /// GET, POST, ...
    pub method: String,
    /// Target without its query.
    pub path: String,
    /// Field `x-sim-fault`.
    pub fault: Option<String>,
    /// Whether the connection outlives the exchange.
    pub keep_alive: bool,
    /// The body, decoded.
    pub body: Vec<u8>,
}

/// Why no request came.
#[derive(Debug)]
pub enum NoRequest {
    /// The client closed, properly or not.
    Closed,
    /// What it sent is not HTTP/1.1, or too large.
    Malformed(Malformed),
}

/// A connection: its socket and the bytes read ahead.
#[derive(Debug)]
pub struct Wire {
    /// The socket.
    pub socket: Socket,
    ahead: Vec<u8>,
    /// Bytes written so far.
    pub written: Cell<u64>,
}

impl Wire {
    /// A fresh connection.
    pub fn new(socket: Socket) -> Self {
        Self { socket, ahead: Vec::new(), written: Cell::new(0) }
    }

    /// Reads the next request.
    ///
    /// # Errors
    /// See [`NoRequest`].
    pub async fn request(&mut self) -> Result<Request, NoRequest> {
        let (mut request, framing) = loop {
            match Head::find(&self.ahead).map_err(NoRequest::Malformed)? {
                Some(head) => {
                    let framing = head.framing().map_err(NoRequest::Malformed)?;
                    let target = head.word(1);
                    let request = Request {
                        method: head.word(0).to_owned(),
                        path: target.split('?').next().unwrap_or(target).to_owned(),
                        fault: head.field("x-sim-fault").map(str::to_owned),
                        keep_alive: head.keeps_alive(),
                        body: Vec::new(),
                    };
                    let expects =
                        head.field("expect").is_some_and(|e| e.eq_ignore_ascii_case("100-continue"));
                    let size = head.size;
                    self.ahead.drain(..size);
                    if expects && self.ahead.is_empty() {
                        self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await.map_err(|_| NoRequest::Closed)?;
                    }
                    break (request, framing);
                }
                None => self.read_ahead().await?,
            }
        };
        match framing {
            Framing::Absent => {}
            Framing::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > BODY_BYTES_MAX {
                    return Err(NoRequest::Malformed(Malformed("body too large")));
                }
                while self.ahead.len() < length {
                    self.read_ahead().await?;
                }
                request.body = self.ahead.drain(..length).collect();
            }
            Framing::Chunked => {
                let mut chunked = Chunked::default();
                loop {
                    let taken = chunked.take(&self.ahead, |data| request.body.extend_from_slice(data));
                    self.ahead.drain(..taken.map_err(NoRequest::Malformed)?);
                    if chunked.is_done() {
                        break;
                    }
                    if request.body.len() > BODY_BYTES_MAX {
                        return Err(NoRequest::Malformed(Malformed("body too large")));
                    }
                    self.read_ahead().await?;
                }
            }
        }
        Ok(request)
    }

    async fn read_ahead(&mut self) -> Result<(), NoRequest> {
        match self.socket.read(&mut self.ahead).await {
            Ok(0) | Err(_) => Err(NoRequest::Closed),
            Ok(_) => Ok(()),
        }
    }

    /// Completes when the client has closed. Bytes that come meanwhile are kept for the next request.
    pub async fn gone(&mut self) {
        while self.ahead.len() < AHEAD_BYTES_MAX {
            if self.read_ahead().await.is_err() {
                return;
            }
        }
        std::future::pending().await
    }

    /// Awaits `work`; `None` when the client closes first.
    pub async fn unless_gone<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.gone() => None,
        }
    }

    /// Writes all of `bytes` and counts them.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await?;
        self.written.set(self.written.get() + bytes.len() as u64);
        Ok(())
    }
}

/// Largest request body taken: above any prompt of a million tokens.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of coming requests held while one is answered; more of them stop the watch for the client's end.
const AHEAD_BYTES_MAX: usize = 256 * 1024;
/// Room offered to one read; small, as ten thousand connections each keep what they grew to.
const READ_BYTES: usize = 4 * 1024;
