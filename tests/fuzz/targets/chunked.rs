//! Chunked bodies: any split decodes as the whole, and the whole as a slow reader written from RFC 9112 section 7.1.
//!
//! Stricter than the RFC, in the reader too: no blanks in a size line, at most 16 digits, sizes below 2^60.

use ringway::wire::chunked::{Chunked, Limits, Piece};

/// How a body ends.
#[derive(PartialEq, Eq, Debug)]
enum End {
    /// Complete after so many bytes.
    Whole(usize),
    More,
    Bad,
}

/// Feeds the pieces one by one; the data, the end, the reason if it is bad, and whether it stands between chunks.
fn decode(pieces: &[&[u8]], limits: Limits) -> (Vec<u8>, End, &'static str, bool) {
    let mut decoder = Chunked::new(limits);
    let (mut data, mut before) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match decoder.step(rest) {
                Err(bad) => return (data, End::Bad, bad.reason, false),
                Ok((Piece::Data(span), used)) => {
                    assert!(!span.is_empty() && span.end == used, "data is used up with its piece");
                    data.extend_from_slice(span.of(rest));
                    rest = &rest[used..];
                }
                Ok((Piece::More, used)) => {
                    assert_eq!(used, rest.len(), "all is used");
                    break;
                }
                Ok((Piece::End { consumed }, used)) => {
                    assert!(consumed == used && decoder.is_done());
                    let at = before + piece.len() - rest.len() + consumed;
                    return (data, End::Whole(at), "", false);
                }
            }
        }
        before += piece.len();
    }
    (data, End::More, "", decoder.at_boundary())
}

pub(crate) fn run(data: &[u8]) {
    let tight = Limits { line_overhead_bytes: 6, trailer_bytes: 12 };
    for limits in [Limits::default(), tight] {
        let whole = decode(&[data], limits);
        let bytes: Vec<&[u8]> = data.chunks(1).collect();
        assert_eq!(decode(&bytes, limits), whole, "byte by byte");
        for cut in super::cuts(data.len()) {
            let (first, second) = data.split_at(cut);
            assert_eq!(decode(&[first, second], limits), whole, "cut at {cut}");
            let (second, third) = second.split_at(second.len() / 2);
            assert_eq!(decode(&[first, second, &[], third], limits), whole, "cut at {cut}, and again");
        }
    }

    let (body, end, reason, _) = decode(&[data], Limits::default());
    let mut reader = Reader { data, at: 0, body: Vec::new() };
    let expected = match reader.read() {
        Ok(()) => End::Whole(reader.at),
        Err(Stop::Early) => End::More,
        Err(Stop::Bad) => End::Bad,
    };
    let too_long = ["chunk extensions are too long", "trailers are too long"].contains(&reason);
    assert!(
        too_long || (end == expected && body == reader.body),
        "{end:?} ({reason}), expected {expected:?}"
    );

    // A chunk of our own, put in between two chunks, is read there and changes nothing else.
    if let End::Whole(length) = end {
        for cut in (0..length).step_by(length / 64 + 1) {
            let (before, _, _, at_boundary) = decode(&[&data[..cut]], Limits::default());
            if at_boundary {
                let with = [&data[..cut], b"3\r\nour\r\n", &data[cut..]].concat();
                let (told, end, ..) = decode(&[&with], Limits::default());
                assert_eq!(end, End::Whole(length + 8));
                assert_eq!(told, [&before[..], b"our", &body[before.len()..]].concat());
            }
        }
    }
}

/// Reads with the whole body at hand, one rule of the grammar at a time.
struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    body: Vec<u8>,
}

enum Stop {
    /// The bytes end.
    Early,
    Bad,
}

impl Reader<'_> {
    fn peek(&self) -> Result<u8, Stop> {
        self.data.get(self.at).copied().ok_or(Stop::Early)
    }

    fn expect(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        for &byte in bytes {
            if self.peek()? != byte {
                return Err(Stop::Bad);
            }
            self.at += 1;
        }
        Ok(())
    }

    /// One or more bytes of a kind.
    fn some(&mut self, is: impl Fn(u8) -> bool) -> Result<(), Stop> {
        if !is(self.peek()?) {
            return Err(Stop::Bad);
        }
        while is(self.peek()?) {
            self.at += 1;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Stop> {
        loop {
            let mut size = 0_u128;
            let start = self.at;
            while let Some(digit) = char::from(self.peek()?).to_digit(16) {
                size = size * 16 + u128::from(digit);
                self.at += 1;
                if self.at - start > 16 || size >= 1 << 60 {
                    return Err(Stop::Bad);
                }
            }
            if self.at == start {
                return Err(Stop::Bad);
            }
            self.extensions()?;
            self.expect(b"\r\n")?;
            if size == 0 {
                return self.trailers();
            }
            let left = self.data.len() - self.at;
            let take = usize::try_from(size).map_or(left, |size| size.min(left));
            self.body.extend_from_slice(&self.data[self.at..self.at + take]);
            self.at += take;
            if size > take as u128 {
                return Err(Stop::Early);
            }
            self.expect(b"\r\n")?;
        }
    }

    fn extensions(&mut self) -> Result<(), Stop> {
        while self.peek()? == b';' {
            self.at += 1;
            self.some(is_token)?;
            if self.peek()? != b'=' {
                continue;
            }
            self.at += 1;
            if self.peek()? != b'"' {
                self.some(is_token)?;
                continue;
            }
            self.at += 1;
            while self.peek()? != b'"' {
                if self.peek()? == b'\\' {
                    self.at += 1;
                }
                if super::is_control(self.peek()?) {
                    return Err(Stop::Bad);
                }
                self.at += 1;
            }
            self.at += 1;
        }
        Ok(())
    }

    fn trailers(&mut self) -> Result<(), Stop> {
        while self.peek()? != b'\r' {
            self.some(is_token)?;
            self.expect(b":")?;
            while !super::is_control(self.peek()?) {
                self.at += 1;
            }
            self.expect(b"\r\n")?;
        }
        self.expect(b"\r\n")
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
