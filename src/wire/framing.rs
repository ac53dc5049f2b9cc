//! Where a message's body ends (RFC 9112 section 6): the decision itself is `head`'s, the grammar of the two field
//! values is here.

use super::fields::{is_token, trim};

/// How a request's body is delimited. A request has no body unless its head says so (RFC 9112 section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// No body.
    None,
    /// This many bytes; may be 0.
    Length(u64),
    /// Chunked coding, until its last chunk.
    Chunked,
}

/// How a response's body is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Response {
    /// No body, whatever the fields say: a response to `HEAD`, 1xx, 204, 304.
    None,
    /// This many bytes; may be 0.
    Length(u64),
    /// Chunked coding, until its last chunk.
    Chunked,
    /// Until the backend closes: a cut cannot be told from an end, except by what the dialect knows.
    Close,
}

/// The value of a `Content-Length` line in bytes, whitespace around it already gone.
///
/// `None` for anything but plain decimal digits below 2^64. Stricter than RFC 9112 section 6.3 on purpose: no list
/// of equal values, and no leading zeros, which some readers take for octal.
pub fn length(value: &[u8]) -> Option<u64> {
    match value {
        [] => None,
        [b'0', _, ..] => None,
        digits => digits.iter().try_fold(0u64, |sum, &byte| {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 { None } else { sum.checked_mul(10)?.checked_add(u64::from(digit)) }
        }),
    }
}

/// What the value of one `Transfer-Encoding` line comes to (RFC 9112 section 6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Coding {
    /// Exactly `chunked`.
    Chunked,
    /// Other codings, and `chunked` as the last.
    Wrapped,
    /// Well-formed, and `chunked` is not among them.
    Foreign,
    /// `chunked` with something behind it: only the end of the connection ends this body.
    Misplaced,
    /// Not a list of plain tokens, or `chunked` twice. Empty elements and parameters are refused too, stricter
    /// than the RFC.
    Malformed,
}

/// Reads the value of a `Transfer-Encoding` line. Only SP and HTAB count as whitespace.
pub(super) fn coding(value: &[u8]) -> Coding {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Coding::Chunked;
    }
    let (mut chunked, mut last) = (0, false);
    for element in value.split(|&byte| byte == b',') {
        let element = trim(element);
        if element.is_empty() || !element.iter().all(|&byte| is_token(byte)) {
            return Coding::Malformed;
        }
        last = element.eq_ignore_ascii_case(b"chunked");
        chunked += usize::from(last);
    }
    match (chunked, last) {
        (0, _) => Coding::Foreign,
        (1, true) => Coding::Wrapped,
        (1, false) => Coding::Misplaced,
        _ => Coding::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_plain_decimal_digits() {
        for (value, bytes) in [("0", 0), ("5", 5), ("27", 27), ("18446744073709551615", u64::MAX)] {
            assert_eq!(length(value.as_bytes()), Some(bytes), "{value}");
        }
        for value in [
            "",
            "+5",
            "-1",
            "-0",
            "-48",
            "0x5",
            "0o5",
            "1_0",
            "1 0",
            "5 5",
            "5.0",
            "5e0",
            "5Z",
            ",",
            ",5",
            "5,",
            "5, 5",
            "5, 5, 5",
            "5, 10",
            "005",
            "00",
            "0200",
            "18446744073709551616",
            "99999999999999999999",
            "\u{ff15}",
            " 5",
            "5 ",
            "\u{0}",
        ] {
            assert_eq!(length(value.as_bytes()), None, "{value:?}");
        }
    }

    #[test]
    fn only_chunked_alone_is_chunked() {
        for (value, verdict) in [
            (&b"chunked"[..], Coding::Chunked),
            (b"Chunked", Coding::Chunked),
            (b"CHUNKED", Coding::Chunked),
            (b"gzip, chunked", Coding::Wrapped),
            (b"identity, chunked", Coding::Wrapped),
            (b"identity", Coding::Foreign),
            (b"xchunked", Coding::Foreign),
            (b"chunkedx", Coding::Foreign),
            (b"gzip", Coding::Foreign),
            (b"chunked, gzip", Coding::Misplaced),
            (b"chunked, identity", Coding::Misplaced),
            (b"identity, chunked, identity", Coding::Misplaced),
            (b"chunked, chunked", Coding::Malformed),
            (b"chunked, gzip, chunked", Coding::Malformed),
            (b"", Coding::Malformed),
            (b",chunked", Coding::Malformed),
            (b"chunked,", Coding::Malformed),
            (b", chunked", Coding::Malformed),
            (b"\"chunked\"", Coding::Malformed),
            (b"chunked;q=1", Coding::Malformed),
            (b"\xa0chunked", Coding::Malformed),
            (b"chunked\xff", Coding::Malformed),
            (b"\x0bchunked", Coding::Malformed),
            (b"chun ked", Coding::Malformed),
        ] {
            assert_eq!(coding(value), verdict, "{:?}", value.escape_ascii().to_string());
        }
    }
}
