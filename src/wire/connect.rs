//! What a proxy responds to CONNECT (RFC 9110 section 9.3.6).

use super::Step;

/// A proxy's response to CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Its final status, and the bytes up to the end of its head. After a 2xx everything behind them belongs to the tunnel:
    /// a length that such a head names means nothing.
    Status {
        /// 200 to 999.
        status: u16,
        /// Bytes of this head and of interim ones before it.
        end: usize,
    },
    /// No HTTP/1, or a head without end.
    NotHttp,
}

/// Reads a response from its start. Interim responses (1xx) are passed over. Lines may end in a bare LF, as some proxies
/// write them: nothing of the head is passed on, so no other reader can take it for a different message.
pub fn reply(bytes: &[u8]) -> Step<Reply> {
    let mut start = 0;
    loop {
        let head = &bytes[start..];
        let Some(status) = status(head) else { return Step::Done(Reply::NotHttp) };
        let Some((length, status)) = end(head).zip(status) else {
            return if bytes.len() < BYTES_MAX { Step::More } else { Step::Done(Reply::NotHttp) };
        };
        start += length;
        if !(100..200).contains(&status) || status == 101 {
            return Step::Done(Reply::Status { status, end: start });
        }
    }
}

/// The status of a head, `Some(None)` if it has not come yet, `None` if this is no HTTP/1.
fn status(head: &[u8]) -> Option<Option<u16>> {
    const FORM: &[u8] = b"HTTP/1.d sdd";
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'd' => byte.is_ascii_digit(),
        b's' => (b'1'..=b'9').contains(byte),
        _ => byte == form,
    };
    if !head.iter().zip(FORM).all(fits) {
        return None;
    }
    match head.get(FORM.len()) {
        None => Some(None),
        Some(b' ' | b'\r' | b'\n') => {
            let digits = head[9..FORM.len()].iter();
            Some(Some(digits.fold(0, |number, digit| number * 10 + u16::from(digit - b'0'))))
        }
        Some(_) => None,
    }
}

/// Bytes of a head, its blank line included.
fn end(head: &[u8]) -> Option<usize> {
    let lines = head.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    lines.map(|(at, _)| at + 1).find_map(|next| match &head[next..] {
        [b'\n', ..] => Some(next + 1),
        [b'\r', b'\n', ..] => Some(next + 2),
        _ => None,
    })
}

/// Bytes that are read for the end of the head. Chosen: far more than any proxy says.
pub const BYTES_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(text: &str) -> Option<(u16, &str)> {
        match reply(text.as_bytes()) {
            Step::Done(Reply::Status { status, end }) => Some((status, &text[end..])),
            _ => None,
        }
    }

    #[test]
    fn the_status_and_what_belongs_to_the_tunnel_are_told_apart() {
        for (text, status, behind) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", 200, ""),
            ("HTTP/1.0 200\r\n\r\nHTTP/1.1 408 Late\r\n\r\n", 200, "HTTP/1.1 408 Late\r\n\r\n"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\x16\x03", 200, "\x16\x03"),
            ("HTTP/1.1 200 OK\nVia: x\n\nrest", 200, "rest"),
            ("HTTP/1.1 204 \r\n\r\n", 204, ""),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\nz", 200, "z"),
            ("HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno", 407, "no"),
            ("HTTP/1.1 101 Switching\r\n\r\n", 101, ""),
        ] {
            assert_eq!(status_of(text), Some((status, behind)), "{text:?}");
            for cut in 0..text.len() - behind.len() {
                assert_eq!(reply(&text.as_bytes()[..cut]), Step::More, "{text:?} up to {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_http_1_is_known_at_its_first_wrong_byte() {
        for text in [
            "\x15",
            "S",
            "h",
            "\r",
            "HTTP/2",
            "HTTP/1.1 0",
            "HTTP/1.1 2000",
            "HTTP/1.1  ",
            "HTTP/1.1 100 x\r\n\r\nX",
        ] {
            assert_eq!(reply(text.as_bytes()), Step::Done(Reply::NotHttp), "{text:?}");
            assert_eq!(
                reply(&text.as_bytes()[..text.len() - 1]),
                Step::More,
                "{text:?} but for its last byte"
            );
        }
    }

    #[test]
    fn a_head_without_end_is_bounded() {
        let head = |bytes: usize| format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(bytes - 20));
        assert_eq!(reply(head(BYTES_MAX - 1).as_bytes()), Step::More);
        assert_eq!(reply(head(BYTES_MAX).as_bytes()), Step::Done(Reply::NotHttp));
        let interim = "HTTP/1.1 100 x\r\n\r\n".repeat(BYTES_MAX);
        assert_eq!(reply(&interim.as_bytes()[..BYTES_MAX]), Step::Done(Reply::NotHttp));
    }
}
