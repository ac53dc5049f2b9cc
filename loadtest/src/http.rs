//! The little HTTP/1.1 that both simulators and the driver need: a head and a body's end.
//!
//! It is ours and only ours on purpose: a load tool that shares a parser with the gateway cannot see that parser's
//! faults. It is strict where a gateway must be exact (chunk framing), and lazy elsewhere.

use memchr::memmem;

/// Why bytes cannot be HTTP/1.1 as we read it; the connection must close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// A head in the caller's buffer: its first line and its field lines, looked through on demand.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    line: &'a [u8],
    fields: &'a [u8],
    /// Bytes of the whole head with its empty line.
    pub size: usize,
}

impl<'a> Head<'a> {
    /// Finds a whole head at the start of `bytes`; `None` while its empty line has not come.
    ///
    /// # Errors
    /// A head longer than [`HEAD_BYTES_MAX`], or one without a first line.
    pub fn find(bytes: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
            return if bytes.len() > HEAD_BYTES_MAX { Err(Malformed("head too long")) } else { Ok(None) };
        };
        let head = &bytes[..end + 2];
        let line_end = memmem::find(head, b"\r\n").ok_or(Malformed("no first line"))?;
        if line_end == 0 {
            return Err(Malformed("empty first line"));
        }
        Ok(Some(Self { line: &head[..line_end], fields: &head[line_end + 2..], size: end + 4 }))
    }

    /// The `index`th word of the first line: method, target, version of a request.
    pub fn word(&self, index: usize) -> &'a str {
        let word = self.line.split(|b| *b == b' ').nth(index).unwrap_or_default();
        std::str::from_utf8(word).unwrap_or_default()
    }

    /// Status code of an answer's first line; `None` when it is not one.
    pub fn status(&self) -> Option<u16> {
        if !self.line.starts_with(b"HTTP/1.") {
            return None;
        }
        self.word(1).parse().ok()
    }

    /// Field lines as name and trimmed value, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.fields.split(|b| *b == b'\n').filter_map(|line| {
            let colon = line.iter().position(|b| *b == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }

    /// First value of a field, by name in any case.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.fields().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))?;
        std::str::from_utf8(value).ok()
    }

    /// How the body after this head ends, by its own fields.
    ///
    /// # Errors
    /// A length that is not a number, or a coding other than chunked.
    pub fn framing(&self) -> Result<Framing, Malformed> {
        let mut framing = Framing::Absent;
        for (name, value) in self.fields() {
            if name.eq_ignore_ascii_case(b"transfer-encoding") {
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed("transfer coding is not chunked"));
                }
                return Ok(Framing::Chunked);
            }
            if name.eq_ignore_ascii_case(b"content-length") {
                let digits =
                    std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
                let length =
                    digits.and_then(|d| d.parse().ok()).ok_or(Malformed("content-length is no number"))?;
                framing = Framing::Length(length);
            }
        }
        Ok(framing)
    }

    /// Whether the connection outlives the exchange (RFC 9112 section 9.3).
    pub fn keeps_alive(&self) -> bool {
        let connection = self.field("connection").unwrap_or_default();
        let old = self.word(2) == "HTTP/1.0" || self.word(0) == "HTTP/1.0";
        if old {
            connection.eq_ignore_ascii_case("keep-alive")
        } else {
            !connection.eq_ignore_ascii_case("close")
        }
    }
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Neither field is there: no body in a request, until close in an answer.
    Absent,
    /// `content-length`, in bytes.
    Length(u64),
    /// `transfer-encoding: chunked`.
    Chunked,
}

/// Incremental decoder of the chunked coding (RFC 9112 section 7.1). Input in any split; no allocation.
#[derive(Debug, Clone, Default)]
pub struct Chunked {
    state: ChunkState,
    left: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ChunkState {
    #[default]
    Size,
    Digits,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    EndLf,
    Done,
}

impl Chunked {
    /// Takes bytes from `input` until it is spent or the body ended, giving each run of data to `data`.
    /// Returns the bytes taken; what follows them belongs to the next message.
    ///
    /// # Errors
    /// Any byte that the grammar does not allow.
    pub fn take(&mut self, input: &[u8], mut data: impl FnMut(&[u8])) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < input.len() && self.state != ChunkState::Done {
            if self.state == ChunkState::Data {
                let run = (input.len() - at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                data(&input[at..at + run]);
                at += run;
                self.left -= run as u64;
                if self.left == 0 {
                    self.state = ChunkState::DataCr;
                }
                continue;
            }
            self.state = self.step(input[at])?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<ChunkState, Malformed> {
        use ChunkState as S;
        Ok(match (self.state, byte) {
            (S::Size | S::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if self.state == S::Size {
                    self.left = 0;
                }
                if self.left >> 56 != 0 {
                    return Err(Malformed("chunk size too large"));
                }
                self.left = self.left * 16 + u64::from((byte as char).to_digit(16).unwrap_or(0));
                S::Digits
            }
            (S::Digits, b';') => S::Extension,
            (S::Digits | S::Extension, b'\r') => S::SizeLf,
            (S::Extension, b) if b != b'\n' => S::Extension,
            (S::SizeLf, b'\n') if self.left == 0 => S::TrailerStart,
            (S::SizeLf, b'\n') => S::Data,
            (S::DataCr, b'\r') => S::DataLf,
            (S::DataLf, b'\n') => S::Size,
            (S::TrailerStart, b'\r') => S::EndLf,
            (S::TrailerStart | S::Trailer, b'\n') => S::TrailerStart,
            (S::TrailerStart | S::Trailer, _) => S::Trailer,
            (S::EndLf, b'\n') => S::Done,
            _ => return Err(Malformed("bad chunk framing")),
        })
    }

    /// Whether the last chunk and its trailer are behind us.
    pub fn is_done(&self) -> bool {
        self.state == ChunkState::Done
    }
}

/// Largest head read, by taste: far above any real request.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_gives_words_fields_and_framing() {
        let bytes = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length:  12 \r\n\r\nrest";
        let head = Head::find(bytes).unwrap().unwrap();
        assert_eq!((head.word(0), head.word(1), head.size), ("POST", "/v1/x", bytes.len() - 4));
        assert_eq!(head.field("HOST"), Some("a"));
        assert_eq!(head.framing(), Ok(Framing::Length(12)));
        assert!(head.keeps_alive());
        assert!(Head::find(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap().is_none());
    }

    #[test]
    fn chunked_decodes_in_any_split() {
        let wire = b"4;x=y\r\nWiki\r\n1\r\n!\r\n0\r\nT: 1\r\n\r\nNEXT";
        for split in 0..wire.len() {
            let (mut decoder, mut text) = (Chunked::default(), Vec::new());
            let mut taken = decoder.take(&wire[..split], |d| text.extend_from_slice(d)).unwrap();
            if taken == split {
                taken += decoder.take(&wire[split..], |d| text.extend_from_slice(d)).unwrap();
            }
            assert!(decoder.is_done());
            assert_eq!((&text[..], &wire[taken..]), (&b"Wiki!"[..], &b"NEXT"[..]), "split {split}");
        }
    }

    #[test]
    fn bad_chunks_are_refused() {
        for wire in [&b"\r\n"[..], b"g\r\n", b"1\r\nab", b"1\nx", b" 1\r\n", b"fffffffffffffffff\r\n"] {
            assert!(Chunked::default().take(wire, |_| {}).is_err(), "{wire:?}");
        }
    }
}
