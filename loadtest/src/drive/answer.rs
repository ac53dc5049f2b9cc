//! Reading an answer as it arrives: head, body in any framing, and the records of a stream.

use crate::http::{Chunked, Framing, Head, Malformed};
use crate::skim;
use memchr::memchr;

/// One answer being read. Holds a head or a record at most, whatever the length of the answer.
#[derive(Debug, Default)]
pub struct Answer {
    state: State,
    /// Bytes of a head that is not whole yet.
    head: Vec<u8>,
    records: Records,
    /// Status code, once the head is whole.
    pub status: u16,
    /// Whether the body is an event stream.
    pub is_stream: bool,
    /// Whether the connection may be used again.
    pub keep_alive: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Done,
}

/// What the records so far have shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Records with data.
    pub events: u64,
    /// Of those, ones with text or a tool call's piece.
    pub tokens: u64,
    /// A finish reason came.
    pub finish: bool,
    /// `[DONE]` came.
    pub done: bool,
    /// An error record came.
    pub error: bool,
    /// Completion tokens by the server's own count.
    pub completion_tokens: Option<u64>,
    /// Prompt tokens that came from a prefix cache, by the server's own count.
    pub cached_tokens: Option<u64>,
}

impl Answer {
    /// Takes bytes as they came. Each record with text calls `token`.
    ///
    /// # Errors
    /// Bytes that are no HTTP/1.1 answer.
    pub fn take(&mut self, mut bytes: &[u8], mut token: impl FnMut()) -> Result<(), Malformed> {
        if matches!(self.state, State::Head) {
            self.head.extend_from_slice(bytes);
            let Some(head) = Head::find(&self.head)? else {
                return Ok(());
            };
            self.status = head.status().ok_or(Malformed("no status line"))?;
            let size = head.size;
            if (100..200).contains(&self.status) {
                let rest = self.head.split_off(size);
                self.head.clear();
                return self.take(&rest, token);
            }
            self.is_stream =
                head.field("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
            self.keep_alive = head.keeps_alive();
            self.state = match head.framing()? {
                Framing::Length(length) => State::Length(length),
                Framing::Chunked => State::Chunked(Chunked::default()),
                Framing::Absent => State::UntilClose,
            };
            let before = self.head.len() - bytes.len();
            bytes = &bytes[size.saturating_sub(before)..];
            self.head = Vec::new();
        }
        let (records, is_stream) = (&mut self.records, self.is_stream);
        let mut data = |run: &[u8]| {
            if is_stream { records.stream(run, &mut token) } else { records.whole(run) }
        };
        match &mut self.state {
            State::Length(left) => {
                let run = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                data(&bytes[..run]);
                *left -= run as u64;
                if run < bytes.len() {
                    return Err(Malformed("bytes after the end"));
                }
            }
            State::Chunked(chunked) => {
                if chunked.take(bytes, data)? < bytes.len() {
                    return Err(Malformed("bytes after the end"));
                }
            }
            State::UntilClose => data(bytes),
            State::Done if !bytes.is_empty() => return Err(Malformed("bytes after the end")),
            State::Head | State::Done => {}
        }
        let over = match &self.state {
            State::Length(left) => *left == 0,
            State::Chunked(chunked) => chunked.is_done(),
            _ => false,
        };
        if over {
            self.state = State::Done;
        }
        Ok(())
    }

    /// Whether the head is whole.
    pub fn has_head(&self) -> bool {
        !matches!(self.state, State::Head)
    }

    /// Whether any byte came.
    pub fn has_begun(&self) -> bool {
        self.has_head() || !self.head.is_empty()
    }

    /// Whether the body has ended by its own framing.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether closing the connection is this body's proper end.
    pub fn ends_by_close(&self) -> bool {
        matches!(self.state, State::UntilClose)
    }

    /// What the body has shown.
    pub fn seen(&self) -> Seen {
        let mut seen = self.records.seen;
        if !self.is_stream {
            seen.completion_tokens = skim::last_number(&self.records.line, b"\"completion_tokens\"");
            seen.cached_tokens = skim::last_number(&self.records.line, b"\"cached_tokens\"");
            seen.error =
                skim::after(&self.records.line, b"\"error\"").is_some_and(|value| value.starts_with(b"{"));
        }
        seen
    }
}

/// Splits a stream into lines and looks at the ones with data. A server may end lines with LF or CR LF; one `data:`
/// line is one record, as it is in every API we drive.
#[derive(Debug, Default)]
struct Records {
    /// Of a stream, a line that is not whole yet; of a whole answer, its end.
    line: Vec<u8>,
    seen: Seen,
}

impl Records {
    fn stream(&mut self, mut run: &[u8], token: &mut impl FnMut()) {
        while let Some(end) = memchr(b'\n', run) {
            if self.line.is_empty() {
                self.seen.line(&run[..end], token);
            } else {
                self.line.extend_from_slice(&run[..end]);
                self.seen.line(&self.line, token);
                self.line.clear();
            }
            run = &run[end + 1..];
        }
        self.line.extend_from_slice(run);
    }

    /// Keeps the end of a whole answer, where usage is.
    fn whole(&mut self, run: &[u8]) {
        self.line.extend_from_slice(run);
        if self.line.len() > 2 * WHOLE_KEPT_BYTES {
            self.line.drain(..self.line.len() - WHOLE_KEPT_BYTES);
        }
    }
}

impl Seen {
    fn line(&mut self, line: &[u8], token: &mut impl FnMut()) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(data) = line.strip_prefix(b"data:") else {
            return;
        };
        let data = data.strip_prefix(b" ").unwrap_or(data);
        if data == b"[DONE]" {
            self.done = true;
            return;
        }
        self.events += 1;
        if skim::all_after(data, b"\"finish_reason\"").any(|value| value.starts_with(b"\"")) {
            self.finish = true;
        }
        if skim::after(data, b"\"error\"")
            .is_some_and(|value| value.starts_with(b"{") || value.starts_with(b"\""))
        {
            self.error = true;
        }
        if let Some(count) = skim::last_number(data, b"\"completion_tokens\"") {
            self.completion_tokens = Some(count);
            self.cached_tokens = skim::last_number(data, b"\"cached_tokens\"").or(self.cached_tokens);
        }
        let speaks = TEXT_MEMBERS.iter().any(|member| {
            skim::all_after(data, member).any(|value| value.starts_with(b"\"") && !value.starts_with(b"\"\""))
        });
        if speaks {
            self.tokens += 1;
            token();
        }
    }
}

/// Members that carry generated text in a chunk; one that is not empty makes the chunk a token.
const TEXT_MEMBERS: [&[u8]; 4] = [b"\"content\"", b"\"text\"", b"\"reasoning_content\"", b"\"arguments\""];
/// Kept of a whole answer.
const WHOLE_KEPT_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn stream_wire() -> Vec<u8> {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut wire = head.as_bytes().to_vec();
        for chunk in [
            "data: {\"choices\":[{\"delta\":{\"content\":\"\"}}]",
            "}\n\n: ping\n\ndata: {\"cho",
            "ices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\r\n\r\n",
            "data:{\"choices\":[{\"finish_reason\": \"stop\"}]}\n\n",
            "data: [DONE]\n\n",
            "",
        ] {
            wire.extend_from_slice(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes());
        }
        wire
    }

    #[test]
    fn stream_reads_the_same_in_any_split() {
        let wire = stream_wire();
        let expected = Seen { events: 3, tokens: 1, finish: true, done: true, ..Seen::default() };
        for split in 0..=wire.len() {
            let (mut answer, mut tokens) = (Answer::default(), 0);
            answer.take(&wire[..split], || tokens += 1).unwrap();
            answer.take(&wire[split..], || tokens += 1).unwrap();
            assert_eq!((answer.seen(), answer.is_done(), tokens), (expected, true, 1), "split {split}");
        }
    }

    #[test]
    fn whole_answer_gives_usage_and_refuses_more_bytes() {
        let body =
            br#"{"choices":[],"usage":{"completion_tokens": 7,"prompt_tokens_details":{"cached_tokens":3}}}"#;
        let wire =
            [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat();
        let mut answer = Answer::default();
        answer.take(&wire, || {}).unwrap();
        assert!(answer.is_done());
        assert_eq!((answer.seen().completion_tokens, answer.seen().cached_tokens), (Some(7), Some(3)));
        assert!(answer.take(b"x", || {}).is_err());
    }

    #[test]
    fn interim_answer_is_skipped() {
        let mut answer = Answer::default();
        answer
            .take(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\ncontent-length: 0\r\n\r\n", || {})
            .unwrap();
        assert_eq!((answer.status, answer.is_done()), (204, true));
    }
}
