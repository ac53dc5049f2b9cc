//! Is this answer whole? Reads a response in any split and counts what came; shares no code with what it judges.

use std::borrow::Cow;

/// One response being read. `take` it every read; it ends by its own framing, never by a closed connection.
pub(crate) struct Answer {
    state: State,
    /// The head while it is incomplete, otherwise empty.
    head: Vec<u8>,
    chunked: bool,
    closes: bool,
    wants_events: bool,
    events: Events,
    body_bytes: u64,
    /// First and last byte of the body: a JSON object opens and closes.
    edges: (u8, u8),
}

/// What one read added.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Events completed by this read, `[DONE]` not counted.
    pub(crate) events: u32,
    /// The response has ended and is whole.
    pub(crate) done: bool,
    /// The sender will close this connection.
    pub(crate) closes: bool,
}

/// What a whole answer must look like.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    /// Events of a stream before `[DONE]`; `None`: any number above zero.
    pub(crate) events: Option<u32>,
    /// Smallest and largest body.
    pub(crate) body_bytes: (u64, u64),
}

impl Answer {
    pub(crate) fn new(wants_events: bool) -> Self {
        Self {
            state: State::Head,
            head: Vec::new(),
            chunked: false,
            closes: false,
            wants_events,
            events: Events::default(),
            body_bytes: 0,
            edges: (0, 0),
        }
    }

    /// Makes ready for the next answer.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.wants_events);
    }

    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    pub(crate) fn events(&self) -> u32 {
        self.events.count
    }

    /// Takes one read. An error is a word for what broke; the connection is of no further use.
    pub(crate) fn take(&mut self, mut bytes: &[u8], expected: &Expected) -> Result<Taken, &'static str> {
        let events_before = self.events.count;
        while matches!(self.state, State::Head) {
            let held = std::mem::take(&mut self.head);
            let joined = if held.is_empty() { Cow::Borrowed(bytes) } else { [&held, bytes].concat().into() };
            let Some(end) = memchr::memmem::find(&joined, b"\r\n\r\n") else {
                self.head = joined.into_owned();
                return if self.head.len() > HEAD_BYTES_MAX { Err("head") } else { Ok(Taken::default()) };
            };
            self.read_head(&joined[..end + 2])?;
            bytes = &bytes[end + 4 - held.len()..];
        }
        let rest = self.read_body(bytes)?;
        let done = matches!(self.state, State::End);
        if !rest.is_empty() {
            return Err("bytes behind the body");
        }
        if done {
            self.check(expected)?;
        }
        Ok(Taken { events: self.events.count - events_before, done, closes: self.closes })
    }

    /// Reads a head whose every line ends in CRLF; after an interim answer (1xx) the next head is awaited.
    fn read_head(&mut self, head: &[u8]) -> Result<(), &'static str> {
        let text = std::str::from_utf8(head).map_err(|_| "head")?;
        let mut lines = text.split_terminator("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or("head")?;
        if status.starts_with('1') {
            return Ok(());
        }
        if status != "200" {
            return Err(if status.starts_with('5') { "status 5xx" } else { "status not 200" });
        }
        let mut length = None;
        for line in lines {
            let (name, value) = line.split_once(':').ok_or("head")?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.parse().map_err(|_| "head")?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                self.chunked = value.eq_ignore_ascii_case("chunked");
            } else if name.eq_ignore_ascii_case("connection") {
                self.closes = value.eq_ignore_ascii_case("close");
            }
        }
        self.state = match (self.chunked, length) {
            (true, None) => State::Size { size: 0, digits: 0 },
            (false, Some(0)) => State::End,
            (false, Some(left)) => State::Data { left },
            _ => return Err("no framing, or two"),
        };
        Ok(())
    }

    /// Returns what lies behind the end.
    fn read_body<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], &'static str> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Data { left } => {
                    let (data, behind) =
                        bytes.split_at(bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX)));
                    *left -= data.len() as u64;
                    if *left == 0 {
                        self.state = if self.chunked { State::DataEnd } else { State::End };
                    }
                    self.payload(data)?;
                    bytes = behind;
                    continue;
                }
                State::Size { size, digits } => match (byte, char::from(byte).to_digit(16)) {
                    (_, Some(digit)) if *digits < 15 => {
                        *size = *size * 16 + u64::from(digit);
                        *digits += 1;
                    }
                    (b'\r', _) if *digits > 0 => {}
                    (b'\n', _) if *digits > 0 && *size > 0 => self.state = State::Data { left: *size },
                    (b'\n', _) if *digits > 0 => self.state = State::Trailer { line: 0 },
                    _ => return Err("chunk size"),
                },
                State::DataEnd => match byte {
                    b'\r' => {}
                    b'\n' => self.state = State::Size { size: 0, digits: 0 },
                    _ => return Err("chunk end"),
                },
                State::Trailer { line } => match byte {
                    b'\r' => {}
                    b'\n' if *line == 0 => self.state = State::End,
                    b'\n' => *line = 0,
                    _ => *line += 1,
                },
                State::Head | State::End => return Ok(bytes),
            }
            bytes = rest;
        }
        Ok(bytes)
    }

    fn payload(&mut self, data: &[u8]) -> Result<(), &'static str> {
        if let (Some(&first), Some(&last)) = (data.first(), data.last()) {
            if self.body_bytes == 0 {
                self.edges.0 = first;
            }
            self.edges.1 = last;
        }
        self.body_bytes += data.len() as u64;
        if self.wants_events { self.events.take(data) } else { Ok(()) }
    }

    fn check(&self, expected: &Expected) -> Result<(), &'static str> {
        let (least, most) = expected.body_bytes;
        if self.body_bytes < least || self.body_bytes > most {
            return Err("body length");
        }
        if !self.wants_events {
            return if self.edges == (b'{', b'}') { Ok(()) } else { Err("body is no JSON object") };
        }
        if !self.events.done {
            return Err("no [DONE]");
        }
        match expected.events {
            Some(count) if count != self.events.count => Err("number of events"),
            None if self.events.count == 0 => Err("number of events"),
            _ => Ok(()),
        }
    }
}

enum State {
    Head,
    Size { size: u64, digits: u8 },
    Data { left: u64 },
    DataEnd,
    Trailer { line: u32 },
    End,
}

/// Counts server-sent events: an empty line ends one that holds data.
#[derive(Default)]
struct Events {
    count: u32,
    done: bool,
    has_data: bool,
    /// The line being read: its first bytes and its length so far.
    line: [u8; LINE_BYTES_KEPT],
    line_bytes: usize,
}

impl Events {
    fn take(&mut self, mut data: &[u8]) -> Result<(), &'static str> {
        while let Some(end) = memchr::memchr(b'\n', data) {
            self.keep(&data[..end]);
            self.end_line()?;
            data = &data[end + 1..];
        }
        self.keep(data);
        Ok(())
    }

    fn keep(&mut self, part: &[u8]) {
        if self.line_bytes < LINE_BYTES_KEPT {
            let room = part.len().min(LINE_BYTES_KEPT - self.line_bytes);
            self.line[self.line_bytes..self.line_bytes + room].copy_from_slice(&part[..room]);
        }
        self.line_bytes += part.len();
    }

    fn end_line(&mut self) -> Result<(), &'static str> {
        let line = self.line[..self.line_bytes.min(LINE_BYTES_KEPT)].trim_ascii_end();
        self.line_bytes = 0;
        if line.is_empty() {
            self.count += u32::from(self.has_data);
            self.has_data = false;
        } else if let Some(data) = line.strip_prefix(b"data:") {
            let data = data.trim_ascii_start();
            if self.done {
                return Err("event behind [DONE]");
            } else if data == b"[DONE]" {
                self.done = true;
            } else if data.starts_with(b"{\"error\"") {
                return Err("error event");
            } else {
                self.has_data = true;
            }
        }
        Ok(())
    }
}

const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Enough to know `data: {"error"` and `data: [DONE]` by.
const LINE_BYTES_KEPT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        18\r\ndata: {\"a\":1}\n\ndata: {\"b\r\n6\r\n\":2}\n\n\r\n10\r\ndata: [DONE]\r\n\r\n\r\n0\r\n\r\n";
    const ANY: Expected = Expected { events: None, body_bytes: (1, u64::MAX) };

    #[test]
    fn stream_is_whole_whatever_the_split() {
        for split in 1..STREAM.len() {
            let mut answer = Answer::new(true);
            let first = answer.take(&STREAM[..split], &ANY).unwrap();
            let second = answer.take(&STREAM[split..], &ANY).unwrap();
            assert_eq!((first.done, second.done), (false, true), "split at {split}");
            assert_eq!(first.events + second.events, 2, "split at {split}");
        }
    }

    #[test]
    fn deviations_are_failures() {
        let one = |bytes: &[u8], stream: bool, expected: Expected| Answer::new(stream).take(bytes, &expected);
        let json = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert!(one(json, false, ANY).unwrap().done);
        assert_eq!(one(json, false, Expected { body_bytes: (3, 9), ..ANY }), Err("body length"));
        assert_eq!(one(b"HTTP/1.1 502 Bad\r\n\r\n", false, ANY), Err("status 5xx"));
        assert_eq!(
            one(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}", false, ANY),
            Err("bytes behind the body")
        );
        assert_eq!(one(STREAM, true, Expected { events: Some(3), ..ANY }), Err("number of events"));
        let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\ndata: {}\n\n";
        assert_eq!(one(cut, true, ANY), Err("no [DONE]"));
    }
}
