//! One connection of the instant server: the request under way and the answer under way.

use super::answers::{Answer, Answers};
use crate::http::{Chunked, Framing, Head, Malformed};
use crate::skim;
use mio::{Interest, Registry, Token};
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one thread, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counts {
    pub(super) received: AtomicU64,
    pub(super) completed: AtomicU64,
    pub(super) aborted: AtomicU64,
    pub(super) streams: AtomicU64,
}

/// A stream socket of the event loop.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

impl Socket {
    pub(super) fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => registry.register(socket, token, interest),
            Self::Unix(socket) => registry.register(socket, token, interest),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            Self::Unix(socket) => socket.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
        }
    }
}

/// What a conversation wants from its loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// The next event of its socket or timer.
    Nothing,
    /// A tick after this many ms.
    Pacing(u32),
    /// To be closed.
    Close,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Conversation {
    socket: Option<Socket>,
    /// Bytes read and not yet answered.
    input: Vec<u8>,
    sending: Option<Sending>,
    /// Timers in the wheel that name this connection, 0 or 1; the loop adds, a tick takes away.
    pub(super) timers: u32,
}

#[derive(Debug)]
struct Sending {
    answer: Rc<Answer>,
    sent: usize,
    /// How far the answer may be sent by now.
    allowed: usize,
    cut: usize,
    pace_ms: u32,
    keep_alive: bool,
}

/// A request that is all here.
struct Asked {
    /// Bytes of it in the input.
    size: usize,
    keep_alive: bool,
    answer: Rc<Answer>,
    pace_ms: u32,
}

impl Conversation {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket: Some(socket), input: Vec::new(), sending: None, timers: 0 }
    }

    /// Closes the socket while the rest waits for its timer.
    pub(super) fn shut(&mut self) {
        self.socket = None;
    }

    /// Reads if there is something to read, and goes on with the answer under way or the next.
    pub(super) fn step(&mut self, readable: bool, answers: &mut Answers) -> Need {
        if readable && !self.read() {
            return self.give_up(answers);
        }
        let mut need = Need::Nothing;
        loop {
            match self.send(answers) {
                Ok(true) => {}
                Ok(false) => return need,
                Err(Over) => return self.give_up(answers),
            }
            match asked(&self.input, answers) {
                Ok(Some(asked)) => {
                    if let Some(pace) = self.start(asked, answers) {
                        need = pace;
                    }
                }
                Ok(None) => return need,
                Err(_) => return self.give_up(answers),
            }
        }
    }

    /// A timer of this conversation fired: one more event may be sent.
    pub(super) fn tick(&mut self, answers: &mut Answers) -> Need {
        self.timers -= 1;
        if self.socket.is_none() {
            return Need::Close;
        }
        let Some(sending) = &mut self.sending else {
            return Need::Nothing;
        };
        sending.cut += 1;
        sending.allowed = sending.answer.cuts[sending.cut];
        let more = sending.cut + 2 < sending.answer.cuts.len();
        let pace = sending.pace_ms;
        match self.send(answers) {
            Ok(_) if more => return Need::Pacing(pace),
            Ok(_) => {}
            Err(Over) => return self.give_up(answers),
        }
        // The last event is out: the end follows at once, in a write of its own.
        if let Some(sending) = &mut self.sending {
            sending.cut += 1;
            sending.allowed = sending.answer.bytes.len();
        }
        self.step(false, answers)
    }

    fn start(&mut self, asked: Asked, answers: &Answers) -> Option<Need> {
        answers.counts().received.fetch_add(1, Ordering::Relaxed);
        if asked.size == self.input.len() {
            self.input.clear();
        } else {
            self.input.drain(..asked.size);
        }
        let cuts = &asked.answer.cuts;
        let paced = asked.pace_ms > 0 && cuts.len() > 2;
        let (allowed, cut) = if paced { (cuts[0], 0) } else { (asked.answer.bytes.len(), cuts.len() - 1) };
        self.sending = Some(Sending {
            sent: 0,
            allowed,
            cut,
            pace_ms: asked.pace_ms,
            keep_alive: asked.keep_alive,
            answer: asked.answer,
        });
        if paced {
            return Some(Need::Pacing(asked.pace_ms));
        }
        None
    }

    /// Sends what may be sent. True when no answer is under way any more.
    fn send(&mut self, answers: &Answers) -> Result<bool, Over> {
        let (Some(sending), Some(socket)) = (&mut self.sending, &mut self.socket) else {
            return Ok(true);
        };
        while sending.sent < sending.allowed {
            match socket.write(&sending.answer.bytes[sending.sent..sending.allowed]) {
                Ok(count) => sending.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Over),
            }
        }
        if sending.sent < sending.answer.bytes.len() {
            return Ok(false);
        }
        answers.counts().completed.fetch_add(1, Ordering::Relaxed);
        let keep_alive = sending.keep_alive;
        self.sending = None;
        if keep_alive { Ok(true) } else { Err(Over) }
    }

    /// Reads until the socket has no more; false at its end.
    fn read(&mut self) -> bool {
        let Some(socket) = &mut self.socket else {
            return false;
        };
        let mut buffer = [0; READ_BYTES];
        loop {
            match socket.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    self.input.extend_from_slice(&buffer[..count]);
                    // A short read emptied the socket: the next bytes, or the end, raise an event of their own.
                    if count < READ_BYTES || self.input.len() > INPUT_BYTES_MAX {
                        return self.input.len() <= INPUT_BYTES_MAX;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn give_up(&mut self, answers: &Answers) -> Need {
        if self.sending.take().is_some() {
            answers.counts().aborted.fetch_add(1, Ordering::Relaxed);
        }
        Need::Close
    }
}

/// The connection is over.
struct Over;

/// Finds a whole request at the start of `input` and its answer.
fn asked(input: &[u8], answers: &mut Answers) -> Result<Option<Asked>, Malformed> {
    if input.is_empty() {
        return Ok(None);
    }
    let Some(head) = Head::find(input)? else {
        return Ok(None);
    };
    let (mut framing, mut keep_alive) = (Framing::Absent, true);
    let (mut pace_ms, mut events) = (answers.pace_ms, answers.events);
    for (name, value) in head.fields() {
        // By length first: one comparison for each field that matters, none for the others.
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => {
                keep_alive = !value.eq_ignore_ascii_case(b"close")
            }
            12 if name.eq_ignore_ascii_case(b"x-sim-events") => events = number(value)?,
            13 if name.eq_ignore_ascii_case(b"x-sim-pace-ms") => pace_ms = number(value)?,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                framing = Framing::Length(number(value)?.into())
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => framing = Framing::Chunked,
            _ => {}
        }
    }
    let rest = &input[head.size..];
    let mut decoded = Vec::new();
    let (body, taken) = match framing {
        Framing::Absent => (&rest[..0], 0),
        Framing::Length(length) => {
            let length = usize::try_from(length).map_err(|_| Malformed("body too large"))?;
            if rest.len() < length {
                return Ok(None);
            }
            (&rest[..length], length)
        }
        Framing::Chunked => {
            let mut chunked = Chunked::default();
            let taken = chunked.take(rest, |data| decoded.extend_from_slice(data))?;
            if !chunked.is_done() {
                return Ok(None);
            }
            (&decoded[..], taken)
        }
    };
    let target = head.word(1);
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let is_post = head.word(0) == "POST";
    let mut pace = 0;
    let answer = match (is_post, path) {
        (true, path) if path.ends_with("/embeddings") => answers.embedding(),
        (true, _) if skim::is_true(body, b"\"stream\"") => {
            answers.counts().streams.fetch_add(1, Ordering::Relaxed);
            pace = pace_ms;
            answers.stream(events, skim::is_true(body, b"\"include_usage\""))
        }
        (true, _) => answers.chat(),
        (false, "/health") => answers.health(),
        (false, "/v1/models") => answers.models(),
        (false, "/sim/state") => answers.state(),
        (false, _) => answers.not_found(),
    };
    Ok(Some(Asked { size: head.size + taken, keep_alive, answer, pace_ms: pace }))
}

fn number(value: &[u8]) -> Result<u32, Malformed> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Malformed("a field is no number"))
}

/// Room for one read: a request of ordinary size in one go.
const READ_BYTES: usize = 16 * 1024;
/// Largest request held, body included.
const INPUT_BYTES_MAX: usize = 64 * 1024 * 1024;
