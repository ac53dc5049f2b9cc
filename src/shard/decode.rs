//! The payload of a response, out of whatever framing the backend used, in the buffer it was read into.

use crate::net::buffers::Buffer;
use crate::wire::chunked::{self, BadChunk, Chunked, Piece};
use crate::wire::framing;

/// Where in its body a response is.
pub(super) enum Decode {
    /// So many bytes to come.
    Length(u64),
    /// In chunks.
    Chunked(Chunked),
    /// Until the backend closes.
    Close,
}

/// What a read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Decoded {
    /// The body is complete.
    pub(super) ended: bool,
    /// Bytes followed the end: the connection cannot be trusted with another exchange.
    pub(super) extra: bool,
}

impl Decoded {
    /// What is wrong with a body whose payload has all been passed on.
    pub(super) fn broken_note(self) -> &'static str {
        match self.ended {
            true => "the backend's stream ended without a finish reason",
            false => "the backend's chunked coding is broken",
        }
    }
}

impl Decode {
    pub(super) fn new(framing: framing::Response) -> Self {
        match framing {
            framing::Response::None => Decode::Length(0),
            framing::Response::Length(bytes) => Decode::Length(bytes),
            framing::Response::Chunked => Decode::Chunked(Chunked::new(chunked::Limits::default())),
            framing::Response::Close => Decode::Close,
        }
    }

    /// Turns the raw bytes from `from` on into payload, moved together in place; a buffer with one chunk, the usual
    /// paced event, moves once by the length of its size line.
    ///
    /// Errors: the chunked coding is broken; what was decoded before the break is in the buffer.
    pub(super) fn step(&mut self, buffer: &mut Buffer, from: usize) -> Result<Decoded, BadChunk> {
        match self {
            Decode::Length(left) => {
                let here = (buffer.len() - from) as u64;
                let extra = here > *left;
                if extra {
                    buffer.truncate(from + *left as usize);
                }
                *left = left.saturating_sub(here);
                Ok(Decoded { ended: *left == 0, extra })
            }
            Decode::Chunked(chunks) => {
                let (kept, ended) = dechunk(chunks, buffer, from);
                let extra = matches!(ended, Ok(Some(end)) if end < buffer.len());
                buffer.truncate(kept);
                ended.map(|end| Decoded { ended: end.is_some(), extra })
            }
            Decode::Close => Ok(Decoded { ended: false, extra: false }),
        }
    }

    /// Whether the end of the connection is the end of the body.
    pub(super) fn ends_by_close(&self) -> bool {
        matches!(self, Decode::Close)
    }
}

/// Moves the payload of the chunks in `buffer` from `from` on together in place. Where the payload then ends, and where
/// the body ends if it does: what follows there is not of it.
pub(super) fn dechunk(
    chunks: &mut Chunked,
    buffer: &mut Buffer,
    from: usize,
) -> (usize, Result<Option<usize>, BadChunk>) {
    let (mut read, mut kept) = (from, from);
    let ended = loop {
        match chunks.step(&buffer[read..]) {
            Ok((Piece::Data(span), used)) => {
                buffer.copy_within(read + span.start..read + span.end, kept);
                kept += span.len();
                read += used;
            }
            Ok((Piece::More, _)) => break Ok(None),
            Ok((Piece::End { .. }, used)) => break Ok(Some(read + used)),
            Err(bad) => break Err(bad),
        }
    };
    (kept, ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(raw: &[u8], cut: usize) -> (Vec<u8>, Result<Decoded, &'static str>) {
        let mut decode = Decode::new(framing::Response::Chunked);
        let mut payload = b"head".to_vec();
        let mut last = Ok(Decoded { ended: false, extra: false });
        for part in [&raw[..cut], &raw[cut..]] {
            let from = payload.len();
            payload.extend_from_slice(part);
            last = decode.step(&mut payload, from).map_err(|bad| bad.reason);
        }
        (payload.split_off(4), last)
    }

    #[test]
    fn chunks_become_their_payload_at_every_cut() {
        let raw = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n";
        for cut in 0..raw.len() {
            let (payload, last) = all(raw, cut);
            assert_eq!(payload, b"hello world", "cut at {cut}");
            assert_eq!(last, Ok(Decoded { ended: true, extra: false }));
        }
    }

    #[test]
    fn payload_before_a_broken_chunk_is_kept() {
        let (payload, last) = all(b"5\r\nhello\r\nZZ\r\n", 3);
        assert_eq!(payload, b"hello");
        assert!(last.is_err());
    }

    #[test]
    fn bytes_after_the_end_are_cut_off_and_told() {
        let mut decode = Decode::Length(5);
        let mut buffer = b"helloHTTP/1.1 200 OK".to_vec();
        assert_eq!(decode.step(&mut buffer, 0).unwrap(), Decoded { ended: true, extra: true });
        assert_eq!(buffer, b"hello");
    }
}
