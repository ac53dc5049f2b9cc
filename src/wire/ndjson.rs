//! Newline-delimited JSON: one value per line, each line ended by LF. A CR before the LF is a blank of JSON.

use memchr::{memchr, memrchr};

/// The offset just behind the last complete line in `bytes`, 0 if none is complete.
pub fn last_boundary(bytes: &[u8]) -> usize {
    memrchr(b'\n', bytes).map_or(0, |at| at + 1)
}

/// The offset just behind the line that starts at `from`, or `None` if it is not complete.
pub fn next_boundary(bytes: &[u8], from: usize) -> Option<usize> {
    Some(from + memchr(b'\n', bytes.get(from..)?)? + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_lf_only() {
        for (bytes, last, first) in [
            (&b""[..], 0, None),
            (b"{}", 0, None),
            (b"{}\r", 0, None),
            (b"{}\n", 3, Some(3)),
            (b"{}\r\n{", 4, Some(4)),
            (b"\n\n{}\n", 5, Some(1)),
        ] {
            assert_eq!(last_boundary(bytes), last, "{}", bytes.escape_ascii());
            assert_eq!(next_boundary(bytes, 0), first, "{}", bytes.escape_ascii());
        }
        assert_eq!(next_boundary(b"{}", 9), None);
    }
}
