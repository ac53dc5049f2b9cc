//! Content codings of a request's body (RFC 9110 section 8.4.1): what came compressed is read as what it was.
//!
//! A few bytes can stand for very many, so the caller bounds what comes out, piece by piece, and gets its turn between them.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

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
    Gzip(GzDecoder<Portion<'a>>),
    Deflate(Decompress, &'a [u8]),
    Zstd(Box<FrameDecoder>, &'a [u8]),
    /// Between two parts: what is left.
    Next(ContentCoding, &'a [u8]),
}

/// Bytes of which so many may be read now: blocks that hold nothing must not be gone through all at once.
struct Portion<'a> {
    bytes: &'a [u8],
    allowed: usize,
}

impl Read for Portion<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Portion<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.allowed {
            0 if !self.bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            allowed => Ok(&self.bytes[..self.bytes.len().min(allowed)]),
        }
    }

    fn consume(&mut self, count: usize) {
        self.bytes = &self.bytes[count..];
        self.allowed -= count;
    }
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
        if let Reader::Gzip(decoder) = &mut self.reader {
            decoder.get_mut().allowed = STEP_BYTES;
        }
        while out.len() < until {
            let Some(length) = self.read(&mut piece)? else { return Ok(false) };
            if length == 0 && self.is_over()? {
                return Ok(true);
            }
            self.left = self.left.checked_sub(length).ok_or(self.over)?;
            out.extend_from_slice(&piece[..length]);
        }
        Ok(false)
    }

    /// The next bytes of the part that was begun: zero at its end. `None`: nothing has come of much work; others have their
    /// turn first.
    fn read(&mut self, piece: &mut [u8]) -> Result<Option<usize>, BadCoding> {
        const CORRUPT: BadCoding =
            BadCoding::Corrupt("it is not what its content-encoding says, or it ends too early");
        match &mut self.reader {
            Reader::Next(..) => Ok(Some(0)),
            Reader::Gzip(decoder) => match decoder.read(piece) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                read => read.map(Some).map_err(|_| CORRUPT),
            },
            Reader::Zstd(frame, rest) => {
                for _ in 0..EMPTY_BLOCKS_MAX {
                    if frame.can_collect() > 0 || frame.is_finished() {
                        return frame.read(piece).map(Some).map_err(|_| CORRUPT);
                    }
                    let one = BlockDecodingStrategy::UptoBlocks(1);
                    frame.decode_blocks(&mut *rest, one).map_err(|_| CORRUPT)?;
                }
                Ok(None)
            }
            Reader::Deflate(state, rest) => {
                let (read, made) = (state.total_in(), state.total_out());
                let portion = &rest[..rest.len().min(STEP_BYTES)];
                let status = state.decompress(portion, piece, FlushDecompress::None).map_err(|_| CORRUPT)?;
                let (read, made) = ((state.total_in() - read) as usize, (state.total_out() - made) as usize);
                *rest = &rest[read..];
                match status {
                    _ if made > 0 => Ok(Some(made)),
                    Status::StreamEnd => Ok(Some(0)),
                    _ if read == 0 => Err(CORRUPT),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Whether that was the last part; begins the next one if not.
    fn is_over(&mut self) -> Result<bool, BadCoding> {
        let gone = (ContentCoding::Gzip, &[][..]);
        let (coding, mut rest) = match std::mem::replace(&mut self.reader, Reader::Next(gone.0, gone.1)) {
            Reader::Next(coding, rest) => (coding, rest),
            Reader::Gzip(decoder) => (ContentCoding::Gzip, decoder.into_inner().bytes),
            Reader::Deflate(_, []) => return Ok(true),
            Reader::Deflate(..) => return Err(BadCoding::Corrupt("more follows its end")),
            Reader::Zstd(frame, rest) => {
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
            ContentCoding::Gzip => Reader::Gzip(GzDecoder::new(Portion { bytes: rest, allowed: STEP_BYTES })),
            ContentCoding::Deflate => Reader::Deflate(Decompress::new(has_zlib_head(rest)), rest),
            ContentCoding::Zstd => {
                let mut frame = Box::new(FrameDecoder::new());
                frame.set_max_window_size(ZSTD_WINDOW_MAX);
                let bad = "it is no zstd frame, or has a window of more than 8 MiB";
                frame.init(&mut rest).map_err(|_| BadCoding::Corrupt(bad))?;
                Reader::Zstd(frame, rest)
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
/// Blocks of zstd without content between two turns of others; each takes some 50 ns.
const EMPTY_BLOCKS_MAX: usize = 4096;
const PIECE_BYTES: usize = 16 * 1024;
/// Bytes that come out, or that go in and bring nothing, between two turns of others. Chosen: a fraction of a millisecond.
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

    /// Blocks that hold nothing are cheap to send and not to read: others have their turn between them.
    #[test]
    fn empty_blocks_are_read_in_turns() {
        const BLOCKS: usize = 500_000;
        let gzip_head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
        let stored = [0, 0, 0, 0xff, 0xff].repeat(BLOCKS);
        let last = [1, 0, 0, 0xff, 0xff];
        let zstd_head = [0x28, 0xb5, 0x2f, 0xfd, 0, 0x58];
        let bodies = [
            (ContentCoding::Gzip, [&gzip_head[..], &stored, &last, &[0; 8]].concat()),
            (ContentCoding::Deflate, [&stored[..], &last].concat()),
            (ContentCoding::Zstd, [&zstd_head[..], &[0, 0, 0].repeat(BLOCKS), &[1, 0, 0]].concat()),
        ];
        for (coding, bytes) in bodies {
            let (mut decoding, mut out, mut turns) = (Decoding::new(coding, &bytes, 100), Vec::new(), 0);
            while !decoding.step(&mut out).unwrap_or_else(|bad| panic!("{coding:?}: {bad:?}")) {
                turns += 1;
            }
            assert!(out.is_empty() && turns >= 5, "{coding:?}: {turns} turns");
        }
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
