//! One connection of the driver and one exchange on it.

use super::answer::{Answer, Seen};
use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    /// Whether an exchange ended well on it before.
    used: bool,
}

/// How an exchange failed. The text of each is the name under which it is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Connect(io::ErrorKind),
    /// The connection ended before a byte of the answer.
    NoAnswer,
    /// Not HTTP/1.1.
    Malformed(&'static str),
    /// An answer with this status.
    Status(u16),
    /// The body ended before its framing said so, or a stream ended without a finish reason.
    Cut,
    /// An error record inside the answer.
    ErrorRecord,
    /// It took too long.
    Timeout,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(kind) => write!(f, "connect: {kind}"),
            Self::NoAnswer => f.write_str("closed before an answer"),
            Self::Malformed(why) => write!(f, "malformed answer: {why}"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Cut => f.write_str("cut"),
            Self::ErrorRecord => f.write_str("error record"),
            Self::Timeout => f.write_str("timeout"),
        }
    }
}

/// What an exchange showed, whether it went well or not.
#[derive(Debug)]
pub struct Outcome {
    /// When its last byte came, or it failed.
    pub end: Instant,
    /// When the first token of a stream came.
    pub first: Option<Instant>,
    /// What the body showed.
    pub seen: Seen,
    /// Whether the answer was a stream.
    pub is_stream: bool,
    /// How it failed.
    pub failure: Option<Failure>,
    /// Whether a kept connection turned out to be closed, so that the request was sent again on a fresh one.
    pub resent: bool,
}

/// Connections kept between exchanges; the one used last is used first.
#[derive(Debug, Default)]
pub struct Idle {
    kept: RefCell<Vec<Connection>>,
}

impl Connection {
    /// Connects, from `source` if one is given.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn open(address: SocketAddr, source: Option<IpAddr>) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let socket = socket.connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, used: false })
    }

    /// Sends `request` and reads the answer. `token` is called for each token with the time it was read.
    /// `answer` tells what came, also after a failure.
    async fn exchange(
        &mut self,
        request: &[u8],
        answer: &mut Answer,
        mut token: impl FnMut(Instant),
    ) -> Result<(), Failure> {
        let mut rest = request;
        let mut can_write = true;
        loop {
            while can_write && !rest.is_empty() {
                match self.socket.try_write(rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // A server may answer and close before it has read all; what it said is still to be read.
                    Err(_) => can_write = false,
                }
            }
            let waits_to_write = can_write && !rest.is_empty();
            tokio::select! {
                biased;
                ready = self.socket.readable() => ready.map_err(|_| lost(answer))?,
                _ = self.socket.writable(), if waits_to_write => continue,
            }
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let count = self.socket.try_read(scratch)?;
                let now = Instant::now();
                Ok((count, answer.take(&scratch[..count], || token(now))))
            });
            match read {
                Ok((0, _)) if answer.ends_by_close() => return Ok(()),
                Ok((0, _)) => return Err(lost(answer)),
                Ok((_, Err(malformed))) => return Err(Failure::Malformed(malformed.0)),
                Ok((_, Ok(()))) if answer.is_done() => return Ok(()),
                Ok((_, Ok(()))) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err::<_, io::Error>(_) => return Err(lost(answer)),
            }
        }
    }
}

impl Idle {
    /// One request and its answer, on a kept connection or a fresh one, within `limit`.
    ///
    /// A kept connection that turns out to be closed is replaced once, as every client does. `tokens` is called for
    /// each token with the time it was read.
    pub async fn exchange(
        &self,
        address: SocketAddr,
        source: Option<IpAddr>,
        request: &[u8],
        limit: Duration,
        mut tokens: impl FnMut(Instant),
    ) -> Outcome {
        let mut answer = Answer::default();
        let mut first = None;
        let mut resent = false;
        let mut connection = None;
        let work = async {
            loop {
                let kept = if resent { None } else { self.kept.borrow_mut().pop() };
                let mut open = match kept {
                    Some(kept) => kept,
                    None => {
                        let open = Connection::open(address, source).await;
                        open.map_err(|error| Failure::Connect(error.kind()))?
                    }
                };
                let done = open
                    .exchange(request, &mut answer, |now| {
                        first.get_or_insert(now);
                        tokens(now);
                    })
                    .await;
                if done == Err(Failure::NoAnswer) && open.used {
                    resent = true;
                    continue;
                }
                connection = Some(open);
                return done;
            }
        };
        let done = tokio::time::timeout(limit, work).await.unwrap_or(Err(Failure::Timeout));
        let end = Instant::now();
        let seen = answer.seen();
        let failure = done.err().or_else(|| verdict(&answer, seen));
        if let Some(mut connection) = connection
            && answer.is_done()
            && answer.keep_alive
        {
            connection.used = true;
            self.kept.borrow_mut().push(connection);
        }
        Outcome { end, first, seen, is_stream: answer.is_stream, failure, resent }
    }
}

/// What is wrong with an answer whose framing is whole.
fn verdict(answer: &Answer, seen: Seen) -> Option<Failure> {
    if answer.status != 200 {
        return Some(Failure::Status(answer.status));
    }
    if seen.error {
        return Some(Failure::ErrorRecord);
    }
    (answer.is_stream && !seen.finish).then_some(Failure::Cut)
}

fn lost(answer: &Answer) -> Failure {
    if answer.has_begun() { Failure::Cut } else { Failure::NoAnswer }
}

thread_local! {
    /// Read buffer of all connections of a thread: bytes are looked at as they come and not kept.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}
