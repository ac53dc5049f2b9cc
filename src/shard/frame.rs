//! How the body of a response is framed on its way to the client.

use crate::net::buffers::Buffer;
use crate::wire::head::Version;

/// How the body of a response travels to the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    /// Exactly this many bytes.
    Length(u64),
    /// In chunks, ended by the last one.
    Chunked,
    /// Until the connection closes: HTTP/1.0 clients.
    Close,
    /// There is none, and nothing may be said of it: 204, 304 (RFC 9110 section 8.6, RFC 9112 section 6.1).
    None,
}

/// How a response travels to the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) version: Version,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
}

impl Framing {
    /// Appends whole records of our own to the body.
    pub(super) fn records(self, out: &mut Buffer, records: &[u8]) {
        self.start(out, records.len());
        out.extend_from_slice(records);
        self.end(out, records.len());
    }

    /// Appends what stands in front of a piece of `bytes` bytes.
    pub(super) fn start(self, out: &mut Buffer, bytes: usize) {
        if self == Self::Chunked && bytes > 0 {
            out.extend_from_slice(chunk_size(bytes, &mut [0; SIZE_BYTES]));
        }
    }

    /// Appends what stands behind a piece of `bytes` bytes.
    pub(super) fn end(self, out: &mut Buffer, bytes: usize) {
        if self == Self::Chunked && bytes > 0 {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Appends the end of the body.
    pub(super) fn finish(self, out: &mut Buffer) {
        if self == Self::Chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

/// The size line of a chunk (RFC 9112 section 7.1), at the end of `digits`.
pub(super) fn chunk_size(bytes: usize, digits: &mut [u8; SIZE_BYTES]) -> &[u8] {
    let mut at = SIZE_BYTES - 2;
    digits[at..].copy_from_slice(b"\r\n");
    let mut rest = bytes;
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[rest % 16];
        rest /= 16;
        if rest == 0 {
            return &digits[at..];
        }
    }
}

/// Sixteen digits and CRLF, rounded up.
pub(super) const SIZE_BYTES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_lower_case_hex() {
        for (bytes, line) in
            [(1, "1\r\n"), (16, "10\r\n"), (255, "ff\r\n"), (usize::MAX, "ffffffffffffffff\r\n")]
        {
            assert_eq!(chunk_size(bytes, &mut [0; SIZE_BYTES]), line.as_bytes());
        }
    }
}
