//! The chunked transfer coding (RFC 9112 section 7.1), read strictly and never repaired.

use super::fields::is_token;
use crate::units::Span;

/// Bounds on what is in a chunked body besides its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of chunk extensions, all chunks of one body together. Size lines and line ends do not count: each
    /// carries at least one byte of data and they are bounded themselves.
    pub line_overhead_bytes: u32,
    /// Bytes of all trailer lines together.
    pub trailer_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line_overhead_bytes: 16 << 10, trailer_bytes: 16 << 10 }
    }
}

/// Incremental decoder for the chunked coding.
///
/// Input: any split of the byte stream. Output: spans of data in the slice just given. Extensions and trailers are
/// checked against their grammar and dropped. Stricter than the RFC on purpose: no whitespace anywhere in a size
/// line, at most 16 digits, sizes below 2^60.
///
/// Errors: [`BadChunk`] on anything another reader could take for a different body; the connection must close.
/// Cost: no allocation; one pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunked {
    /// Bytes left of the current chunk; while its size line is read, its size so far.
    left: u64,
    /// Digits of the current size line.
    digits: u8,
    /// Extension bytes so far.
    extension_bytes: u32,
    /// Trailer bytes so far.
    trailer_bytes: u32,
    limits: Limits,
    state: State,
}

/// What the decoder found in the bytes it used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Data of the body, never empty, in the slice given.
    Data(Span),
    /// All of the slice is used and the body goes on.
    More,
    /// The body is complete.
    End {
        /// Bytes of the slice that belong to the body; what follows is the next message.
        consumed: usize,
    },
}

/// The coding is broken: the end of the body is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadChunk {
    /// Which part is wrong.
    pub reason: &'static str,
}

/// What the next byte is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// First digit of a size: between two chunks.
    Start,
    /// A digit, `;` or CR.
    Size,
    /// First byte of an extension's name.
    ExtensionStart,
    ExtensionName,
    /// First byte of an extension's value.
    ValueStart,
    Value,
    Quoted,
    /// The byte after a backslash.
    QuotedPair,
    /// After the closing quote.
    QuotedEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// First byte of a trailer line, or the CR of the end.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

impl Chunked {
    /// A decoder at the first byte of a body.
    pub fn new(limits: Limits) -> Self {
        Self { left: 0, digits: 0, extension_bytes: 0, trailer_bytes: 0, limits, state: State::Start }
    }

    /// Reads on from the start of `bytes`, up to and including the next piece of data.
    ///
    /// Returns the piece and how many bytes of `bytes` are used up: call again with the rest. `More` and `End` use
    /// all that belongs to the body. After `End` it stays at the end; after an error the decoder is worthless.
    pub fn step(&mut self, bytes: &[u8]) -> Result<(Piece, usize), BadChunk> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            // What every chunk of every server looks like, a line at a time; the rest, and what is cut, byte by byte.
            let rest = &bytes[at..];
            if self.state == State::DataCr && rest.starts_with(b"\r\n") {
                self.state = State::Start;
                at += 2;
                continue;
            }
            if self.state == State::Start
                && let Some((size, length)) = plain_size(rest)
            {
                (self.left, self.state) = (size, State::Data);
                at += length;
                continue;
            }
            match self.state {
                State::Data => {
                    let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    self.left -= take as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok((Piece::Data(Span::new(at, at + take)), at + take));
                }
                State::Done => break,
                _ => self.state = self.after(byte)?,
            }
            at += 1;
        }
        match self.state {
            State::Done => Ok((Piece::End { consumed: at }, at)),
            _ => Ok((Piece::More, at)),
        }
    }

    /// Whether the bytes so far end exactly between two chunks (or before the first): the only place where a
    /// chunk of our own can be put in.
    #[cfg(any(test, feature = "rooms"))] // for fuzz targets
    pub fn at_boundary(&self) -> bool {
        self.state == State::Start
    }

    /// Whether the whole body has been read.
    #[cfg(any(test, feature = "rooms"))] // for fuzz targets
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The state behind `byte`, which is not data.
    fn after(&mut self, byte: u8) -> Result<State, BadChunk> {
        match (self.state, byte) {
            (State::Start | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte),
            (State::Size, b'\r') => Ok(State::SizeLf),
            (State::SizeLf, b'\n') => {
                self.digits = 0;
                Ok(if self.left == 0 { State::TrailerStart } else { State::Data })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Start),
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::EndLf, b'\n') => Ok(State::Done),
            (State::Start | State::SizeLf, _) => bad("chunk size"),
            (State::Size, b';') => Ok(State::ExtensionStart),
            (State::Size, _) => bad("chunk size"),
            (State::DataCr | State::DataLf, _) => bad("chunk data is not followed by CRLF"),
            (State::EndLf | State::TrailerLf, byte) if byte != b'\n' => bad("line end in trailers"),
            (State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf, _) => {
                self.trailer(byte)
            }
            _ => self.extension(byte),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<State, BadChunk> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        self.digits += 1;
        self.left = (self.left << 4) | u64::from(digit);
        if self.digits > 16 || self.left >= 1 << 60 {
            return bad("chunk size is too large");
        }
        Ok(State::Size)
    }

    /// `chunk-ext = *( ";" token [ "=" ( token / quoted-string ) ] )`, without the optional whitespace of RFC 9112
    /// section 7.1.1.
    fn extension(&mut self, byte: u8) -> Result<State, BadChunk> {
        self.extension_bytes += 1;
        if self.extension_bytes > self.limits.line_overhead_bytes {
            return bad("chunk extensions are too long");
        }
        match (self.state, byte) {
            (State::ExtensionStart | State::ExtensionName, _) if is_token(byte) => Ok(State::ExtensionName),
            (State::ExtensionName, b'=') => Ok(State::ValueStart),
            (State::ValueStart, b'"') => Ok(State::Quoted),
            (State::ValueStart | State::Value, _) if is_token(byte) => Ok(State::Value),
            (State::Quoted, b'"') => Ok(State::QuotedEnd),
            (State::Quoted, b'\\') => Ok(State::QuotedPair),
            (State::Quoted | State::QuotedPair, _) if is_text(byte) => Ok(State::Quoted),
            (State::ExtensionName | State::Value | State::QuotedEnd, b';') => Ok(State::ExtensionStart),
            (State::ExtensionName | State::Value | State::QuotedEnd, b'\r') => Ok(State::SizeLf),
            _ => bad("chunk extension"),
        }
    }

    /// `trailer-section = *( field-line CRLF )`; folded lines are refused because they start with a blank.
    fn trailer(&mut self, byte: u8) -> Result<State, BadChunk> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > self.limits.trailer_bytes {
            return bad("trailers are too long");
        }
        match (self.state, byte) {
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => Ok(State::TrailerName),
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_text(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, _) => Ok(State::TrailerStart),
            _ => bad("trailer line"),
        }
    }
}

/// The size of a chunk that is not the last, and the length of its line, if it is a few digits and CRLF.
fn plain_size(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut size = 0;
    for (at, &byte) in bytes.iter().take(PLAIN_DIGITS + 1).enumerate() {
        match char::from(byte).to_digit(16) {
            Some(digit) => size = size << 4 | u64::from(digit),
            None => return (size > 0 && bytes[at..].starts_with(b"\r\n")).then_some((size, at + 2)),
        }
    }
    None
}

/// Digits of a plain size; more are read byte by byte.
const PLAIN_DIGITS: usize = 8;

/// HTAB, SP, visible and obs-text bytes (RFC 9110 section 5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cold]
fn bad<T>(reason: &'static str) -> Result<T, BadChunk> {
    Err(BadChunk { reason })
}

#[cfg(test)]
mod tests;
