//! A raw client: exact bytes in chosen pieces, answers read by the strict reader.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::strict::{self, Message, Step};
use crate::{PATIENCE, eventually};

/// How the other side ended the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// FIN.
    Fin,
    /// RST.
    Reset,
    /// It did not, in the time given.
    Open,
}

/// One connection to the gateway.
pub struct Client {
    /// The socket, for what the methods here do not do.
    pub stream: TcpStream,
    /// What has been read and not yet taken.
    pub buffer: Vec<u8>,
    end: End,
}

/// Everything that came until the connection ended.
#[derive(Debug)]
pub struct Outcome {
    /// Final answers, whole ones.
    pub answers: Vec<Message>,
    /// Interim answers (1xx).
    pub interim: Vec<Message>,
    /// A last answer that is not whole.
    pub cut: Option<Message>,
    /// What the strict reader did not understand.
    pub error: Option<String>,
    /// How it ended.
    pub end: End,
}

impl Client {
    /// Connects to a loopback port.
    pub fn connect(port: u16) -> Self {
        Self::try_connect(port).expect("the port takes connections")
    }

    /// Connects, if the port takes connections.
    pub fn try_connect(port: u16) -> std::io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new(), end: End::Open })
    }

    /// Connects with a small receive buffer, so that the other side feels a slow reader early.
    pub fn connect_narrow(port: u16) -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).expect("connects");
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Self { stream, buffer: Vec::new(), end: End::Open }
    }

    /// Writes; false if the other side has closed.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Writes one byte per segment; false if the other side closed on the way.
    pub fn send_bytewise(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| self.send(std::slice::from_ref(byte)))
    }

    /// No more bytes from us, but we still read.
    pub fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Gone, with a RST.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Reads once, for at most `patience`; false if nothing came or the connection has ended.
    pub fn read_some(&mut self, patience: Duration) -> bool {
        if self.end != End::Open {
            return false;
        }
        let _ = self.stream.set_read_timeout(Some(patience.max(Duration::from_millis(1))));
        let mut block = [0; 16 << 10];
        match self.stream.read(&mut block) {
            Ok(0) => self.end = End::Fin,
            Ok(count) => {
                self.buffer.extend_from_slice(&block[..count]);
                return true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            Err(_) => self.end = End::Reset,
        }
        false
    }

    /// How the other side has ended the connection, as far as we have read.
    pub fn end(&self) -> End {
        self.end
    }

    /// The next final answer; interim ones are skipped.
    pub fn answer(&mut self) -> Result<Message, String> {
        self.answer_to(false, PATIENCE)
    }

    /// The next final answer within `patience`.
    pub fn answer_to(&mut self, to_head: bool, patience: Duration) -> Result<Message, String> {
        let until = Instant::now() + patience;
        loop {
            match strict::answer(&self.buffer, to_head, self.end == End::Fin)? {
                Step::Done(message, taken) => {
                    self.buffer.drain(..taken);
                    if message.status() >= 200 {
                        return Ok(message);
                    }
                }
                step => {
                    let left = until.saturating_duration_since(Instant::now());
                    if (!left.is_zero() && self.read_some(left)) || self.just_ended(&step) {
                        continue;
                    }
                    return Err(format!("no whole answer ({:?}): {step:?}", self.end));
                }
            }
        }
    }

    /// Whether the end that has just been seen can complete the message (a body that lasts until the end).
    fn just_ended(&self, step: &Step) -> bool {
        let close = matches!(step, Step::Body(message) if message.framing == strict::Framing::Close);
        close
            && self.end == End::Fin
            && !matches!(strict::answer(&self.buffer, false, true), Ok(Step::Body(_)))
    }

    /// The decoded body so far of the answer that is being received, and its head.
    pub fn partial(&self) -> Option<Message> {
        match strict::answer(&self.buffer, false, false) {
            Ok(Step::Body(message) | Step::Done(message, _)) => Some(message),
            _ => None,
        }
    }

    /// Reads until the body so far holds `text`; the test fails if it never does.
    pub fn read_until(&mut self, text: &str) -> Message {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(message) = self.partial()
                && message.text().contains(text)
            {
                return message;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.read_some(left) {
                panic!("{text:?} never came ({:?}): {}", self.end, self.buffer.escape_ascii());
            }
        }
    }

    /// Reads until the other side ends the connection or `patience` is over.
    pub fn drain(&mut self, patience: Duration) -> End {
        let until = Instant::now() + patience;
        eventually(patience, || {
            while self.read_some(until.saturating_duration_since(Instant::now())) {}
            self.end != End::Open
        });
        self.end
    }

    /// Reads until the end, and takes everything apart. `heads` says which answers are to HEAD.
    pub fn finish(mut self, heads: &[bool], patience: Duration) -> Outcome {
        let end = self.drain(patience);
        let mut outcome = Outcome { answers: Vec::new(), interim: Vec::new(), cut: None, error: None, end };
        while !self.buffer.is_empty() {
            let to_head = heads.get(outcome.answers.len()).copied().unwrap_or(false);
            match strict::answer(&self.buffer, to_head, end == End::Fin) {
                Ok(Step::Done(message, taken)) => {
                    self.buffer.drain(..taken);
                    let interim = message.status() < 200;
                    (if interim { &mut outcome.interim } else { &mut outcome.answers }).push(message);
                }
                Ok(Step::Body(message)) => {
                    outcome.cut = Some(message);
                    break;
                }
                Ok(Step::Head) => {
                    outcome.error = Some(format!("half a head: {}", self.buffer.escape_ascii()));
                    break;
                }
                Err(error) => {
                    outcome.error = Some(format!("{error} in {}", self.buffer.escape_ascii()));
                    break;
                }
            }
        }
        outcome
    }
}
