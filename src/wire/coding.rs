//! Content codings of a request's body (RFC 9110 section 8.4.1): what came compressed is read as what it was.
//!
//! A few bytes can stand for very many, so the caller bounds what comes out, piece by piece, and gets its turn between them.

use std::io::Read;

use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::fields;

/// How a body is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContentCoding {
    /// `gzip` (RFC 1952), also `x-gzip`.
    Gzip,
    /// `deflate`: zlib (RFC 1950), or the bare format in it (RFC 1951), which some clients send.
    Deflate,
    /// `zstd` (RFC 8878), with a window of 8 MiB at most (RFC 9659).
    Zstd,
}

/// The codings that are read: the value of `Accept-Encoding` (RFC 9110 section 15.5.16).
pub const READ: &str = "zstd, gzip, deflate";

/// Why a body is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadCoding {
    /// It is not what its label says, or ends too early.
    Corrupt(&'static str),
    /// It is longer than the bound.
    TooLarge,
    /// It grew more than [`RATIO_MAX`] times.
    TooDense,
    /// A coding that is not read, or one on top of another.
    Unknown,
}

/// What the value of a `Content-Encoding` line says: `None` for no coding at all.
///
/// # Errors
/// [`BadCoding::Unknown`].
pub fn content_coding(value: &[u8]) -> Result<Option<ContentCoding>, BadCoding> {
    let mut coding = None;
    for element in fields::elements(value) {
        let is = |name: &[u8]| element.eq_ignore_ascii_case(name);
        let found = match () {
            () if is(b"identity") => continue,
            () if is(b"gzip") || is(b"x-gzip") => ContentCoding::Gzip,
            () if is(b"deflate") => ContentCoding::Deflate,
            () if is(b"zstd") => ContentCoding::Zstd,
            () => return Err(BadCoding::Unknown),
        };
        if coding.replace(found).is_some() {
            return Err(BadCoding::Unknown);
        }
    }
    Ok(coding)
}

/// A body on its way out of its coding. Large: boxed by who keeps it.
pub struct Decoding<'a> {
    reader: Reader<'a>,
    /// Parts that were begun: gzip members and zstd frames may follow each other.
    parts: usize,
    /// The most that may still come out, and whether that is for its length or for its growth.
    left: usize,
    over: BadCoding,
}

enum Reader<'a> {
    Gzip(GzDecoder<&'a [u8]>),
    Deflate(Decompress, &'a [u8]),
    Zstd(Box<StreamingDecoder<&'a [u8], FrameDecoder>>),
    /// Between two parts: what is left.
    Next(ContentCoding, &'a [u8]),
}

impl<'a> Decoding<'a> {
    /// Of `bytes`, of which at most `bytes_max` may come.
    pub fn new(coding: ContentCoding, bytes: &'a [u8], bytes_max: usize) -> Self {
        let grown = bytes.len().saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES);
        let over = if grown < bytes_max { BadCoding::TooDense } else { BadCoding::TooLarge };
        let reader = Reader::Next(coding, bytes);
        Self { reader, parts: 0, left: bytes_max.min(grown), over }
    }

    /// Appends the next bytes to `out`; true at the end.
    ///
    /// # Errors
    /// The body is not to be read; what was appended by then means nothing.
    pub fn step(&mut self, out: &mut Vec<u8>) -> Result<bool, BadCoding> {
        let mut piece = [0; PIECE_BYTES];
        let until = out.len() + STEP_BYTES;
        while out.len() < until {
            let length = self.read(&mut piece)?;
            if length == 0 && self.is_over()? {
                return Ok(true);
            }
            self.left = self.left.checked_sub(length).ok_or(self.over)?;
            out.extend_from_slice(&piece[..length]);
        }
        Ok(false)
    }

    /// The next bytes of the part that was begun; none at its end.
    fn read(&mut self, piece: &mut [u8]) -> Result<usize, BadCoding> {
        const CORRUPT: BadCoding =
            BadCoding::Corrupt("it is not what its content-encoding says, or it ends too early");
        match &mut self.reader {
            Reader::Next(..) => Ok(0),
            Reader::Gzip(decoder) => decoder.read(piece).map_err(|_| CORRUPT),
            Reader::Zstd(decoder) => decoder.read(piece).map_err(|_| CORRUPT),
            Reader::Deflate(state, rest) => loop {
                let (read, made) = (state.total_in(), state.total_out());
                let status = state.decompress(rest, piece, FlushDecompress::None).map_err(|_| CORRUPT)?;
                let (read, made) = ((state.total_in() - read) as usize, (state.total_out() - made) as usize);
                *rest = &rest[read..];
                match status {
                    _ if made > 0 => return Ok(made),
                    Status::StreamEnd => return Ok(0),
                    _ if read == 0 => return Err(CORRUPT),
                    _ => {}
                }
            },
        }
    }

    /// Whether that was the last part; begins the next one if not.
    fn is_over(&mut self) -> Result<bool, BadCoding> {
        let gone = (ContentCoding::Gzip, &[][..]);
        let (coding, mut rest) = match std::mem::replace(&mut self.reader, Reader::Next(gone.0, gone.1)) {
            Reader::Next(coding, rest) => (coding, rest),
            Reader::Gzip(decoder) => (ContentCoding::Gzip, decoder.into_inner()),
            Reader::Deflate(_, []) => return Ok(true),
            Reader::Deflate(..) => return Err(BadCoding::Corrupt("more follows its end")),
            Reader::Zstd(decoder) => {
                let (rest, frame) = decoder.into_parts();
                let sum = frame.get_checksum_from_data();
                if sum.is_some() && sum != frame.get_calculated_checksum() {
                    return Err(BadCoding::Corrupt("its checksum is wrong"));
                }
                (ContentCoding::Zstd, rest)
            }
        };
        if coding == ContentCoding::Zstd {
            rest = skippable(rest);
        }
        if rest.is_empty() {
            return Ok(true);
        }
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return Err(BadCoding::Corrupt("it has too many members or frames"));
        }
        self.reader = match coding {
            ContentCoding::Gzip => Reader::Gzip(GzDecoder::new(rest)),
            ContentCoding::Deflate => Reader::Deflate(Decompress::new(has_zlib_head(rest)), rest),
            ContentCoding::Zstd => {
                let decoder = StreamingDecoder::new_with_max_window_size(rest, ZSTD_WINDOW_MAX);
                let bad = "it is no zstd frame, or has a window of more than 8 MiB";
                Reader::Zstd(Box::new(decoder.map_err(|_| BadCoding::Corrupt(bad))?))
            }
        };
        Ok(false)
    }
}

/// What comes behind frames that carry nothing (RFC 8878 section 3.1.2).
fn skippable(mut bytes: &[u8]) -> &[u8] {
    while let [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        let Some(rest) = rest.get(length..) else { return bytes };
        bytes = rest;
    }
    bytes
}

/// RFC 1950 section 2.2: the method is 8, and the two bytes are a multiple of 31.
fn has_zlib_head(bytes: &[u8]) -> bool {
    matches!(bytes, [first, second, ..] if first & 0x0f == 8 && u16::from_be_bytes([*first, *second]) % 31 == 0)
}

/// How much a body may grow. JSON of chats grows five- to twentyfold; the limit of deflate is about 1,030. Chosen, not measured.
pub const RATIO_MAX: usize = 200;
/// A body may always grow to this: short ones of very even text do.
const RATIO_FREE_BYTES: usize = 1 << 20;
/// The largest window that a zstd content coding may have (RFC 9659 section 3).
const ZSTD_WINDOW_MAX: u64 = 8 << 20;
/// Members or frames of one body: each costs tables, however short it is.
const PARTS_MAX: usize = 256;
const PIECE_BYTES: usize = 16 * 1024;
/// Bytes between two turns of others. Chosen: a fraction of a millisecond.
const STEP_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn bare(text: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    fn decode(coding: ContentCoding, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, BadCoding> {
        let (mut decoding, mut out) = (Decoding::new(coding, bytes, bytes_max), Vec::new());
        while !decoding.step(&mut out)? {
            assert!(out.len() <= bytes_max);
        }
        Ok(out)
    }

    /// Each coding with the text in it.
    fn each(text: &[u8]) -> [(ContentCoding, Vec<u8>); 4] {
        [
            (ContentCoding::Gzip, gzip(text)),
            (ContentCoding::Deflate, zlib(text)),
            (ContentCoding::Deflate, bare(text)),
            (ContentCoding::Zstd, zstd(text)),
        ]
    }

    /// Text that compresses somewhat.
    fn text(bytes: usize) -> Vec<u8> {
        (0..bytes as u32).map(|index| b'a' + (index.wrapping_mul(2_654_435_761) >> 29) as u8).collect()
    }

    #[test]
    fn each_coding_gives_its_text_back() {
        for length in [0, 1, 1000, 300_000, 3_000_000] {
            let text = text(length);
            for (coding, bytes) in each(&text) {
                assert_eq!(decode(coding, &bytes, length.max(1)), Ok(text.clone()), "{coding:?} {length}");
            }
        }
    }

    #[test]
    fn parts_follow_each_other() {
        let twice = |encode: fn(&[u8]) -> Vec<u8>| [encode(b"one "), encode(b"two")].concat();
        assert_eq!(decode(ContentCoding::Gzip, &twice(gzip), 100), Ok(b"one two".to_vec()));
        assert_eq!(decode(ContentCoding::Zstd, &twice(zstd), 100), Ok(b"one two".to_vec()));
        let skip = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
        let framed = [&skip[..], &zstd(b"one"), skip, skip].concat();
        assert_eq!(decode(ContentCoding::Zstd, &framed, 100), Ok(b"one".to_vec()));
        let many = gzip(b"").repeat(PARTS_MAX + 1);
        assert!(matches!(decode(ContentCoding::Gzip, &many, 100), Err(BadCoding::Corrupt(_))));
    }

    #[test]
    fn what_is_cut_or_spoilt_is_refused() {
        for (coding, bytes) in each(&text(10_000)) {
            for cut in [1, bytes.len() / 2, bytes.len() - 1] {
                let cut = &bytes[..cut];
                assert!(
                    matches!(decode(coding, cut, 20_000), Err(BadCoding::Corrupt(_))),
                    "{coding:?} {}",
                    cut.len()
                );
            }
            let mut more = bytes.clone();
            more.extend_from_slice(b"more");
            assert!(matches!(decode(coding, &more, 20_000), Err(BadCoding::Corrupt(_))), "{coding:?}");
            assert!(
                matches!(decode(coding, b"{\"model\":\"m\"}", 20_000), Err(BadCoding::Corrupt(_))),
                "{coding:?}"
            );
        }
        let mut sum = gzip(b"a text");
        let last = sum.len() - 5;
        sum[last] ^= 1;
        assert!(matches!(decode(ContentCoding::Gzip, &sum, 100), Err(BadCoding::Corrupt(_))));
    }

    #[test]
    fn what_grows_too_much_is_refused_at_the_bound() {
        for (coding, bytes) in each(&text(10_000)) {
            assert_eq!(decode(coding, &bytes, 9_999), Err(BadCoding::TooLarge), "{coding:?}");
        }
        for (coding, bytes) in each(&vec![b' '; 20 << 20]) {
            assert_eq!(decode(coding, &bytes, 32 << 20), Err(BadCoding::TooDense), "{coding:?}");
            assert_eq!(decode(coding, &bytes, 1000), Err(BadCoding::TooLarge), "{coding:?}");
        }
        // A window of 16 MiB, announced in a frame's head.
        let frame = b"\x28\xb5\x2f\xfd\x00\x70\x01\x00\x00";
        assert!(matches!(decode(ContentCoding::Zstd, frame, 1000), Err(BadCoding::Corrupt(_))));
    }

    #[test]
    fn one_known_coding_is_read() {
        for (value, coding) in [
            ("", None),
            ("identity", None),
            ("gzip", Some(ContentCoding::Gzip)),
            ("X-GZIP", Some(ContentCoding::Gzip)),
            ("identity, deflate", Some(ContentCoding::Deflate)),
            (" zstd ", Some(ContentCoding::Zstd)),
        ] {
            assert_eq!(content_coding(value.as_bytes()), Ok(coding), "{value}");
        }
        for value in [
            "br",
            "compress",
            "gzip, gzip",
            "deflate, gzip",
            "chunked",
            "gzip;q=1",
            "zstd zstd",
            "aws-chunked",
        ] {
            assert_eq!(content_coding(value.as_bytes()), Err(BadCoding::Unknown), "{value}");
        }
    }
}
