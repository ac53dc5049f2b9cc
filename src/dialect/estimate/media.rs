//! What a part that is not text costs, by kind.
//!
//! | kind | tokens | source |
//! | --- | --- | --- |
//! | image, Messages | width x height / 750, the long side at most 1568 | Anthropic, "Vision": calculate image costs |
//! | image, others | 85, and 170 for each 512 x 512 tile after it was fitted into 2048 x 2048 and its short side into 768 | OpenAI, "Images and vision": calculating costs |
//! | image, `detail: low` | 85 | as above |
//! | image of unknown size | `[estimate] image_tokens` | six tiles: a landscape photograph |
//! | audio | 10 a second; seconds by the rate in a WAV head, else 16 kB each | OpenAI's audio input; a typical MP3 |
//! | video | 258 a second of 125 kB | Gemini's frame a second; a typical small film |
//! | document | 2,000 a page of 50 kB | Anthropic, "PDF support": 1,500 to 3,000 a page |
//! | text file | its bytes, as text | |
//!
//! Other models count otherwise by a factor of two or so either way; the backend's own count replaces all of this when it comes.

use super::super::{Api, Dialect};
use super::Rates;
use super::parts::{Part, PartKind};
use crate::wire::base64::decode_front;

/// Bytes of text, and tokens of the rest.
pub(super) fn weigh(api: Api, part: &Part<'_>, rates: &Rates) -> (u64, u64) {
    let bytes = part.payload.len() as u64 / 4 * 3;
    let tokens = match part.kind {
        PartKind::Text => return (bytes, 0),
        PartKind::Image if part.coarse && api.dialect() == Dialect::OpenAi => TILES_BASE,
        PartKind::Image => match size(part.payload) {
            Some(size) if api.dialect() == Dialect::Anthropic => by_area(size),
            Some(size) => by_tiles(size),
            None => rates.image_tokens,
        },
        PartKind::Audio => bytes.div_ceil(audio_rate(part.payload)).saturating_mul(AUDIO_SECOND_TOKENS),
        PartKind::Video => bytes.div_ceil(VIDEO_SECOND_BYTES).saturating_mul(VIDEO_SECOND_TOKENS),
        PartKind::Document => bytes.div_ceil(PAGE_BYTES).saturating_mul(PAGE_TOKENS),
    };
    (0, tokens)
}

/// Width and height in pixels, neither of them zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Size {
    width: u32,
    height: u32,
}

fn by_tiles(size: Size) -> u64 {
    let (width, height) = (f64::from(size.width), f64::from(size.height));
    let fit = (2048.0 / width.max(height)).min(1.0);
    let fit = fit * (768.0 / (width.min(height) * fit)).min(1.0);
    let tiles = |side: f64| (side * fit / 512.0).ceil().max(1.0) as u64;
    TILES_BASE + TILE_TOKENS * tiles(width) * tiles(height)
}

fn by_area(size: Size) -> u64 {
    let (width, height) = (f64::from(size.width), f64::from(size.height));
    let fit = (1568.0 / width.max(height)).min(1.0);
    ((width * height * fit * fit / 750.0).ceil() as u64).clamp(1, AREA_TOKENS_MAX)
}

/// The size that the head of an image names: PNG, GIF, WebP, JPEG.
fn size(base64: &[u8]) -> Option<Size> {
    let mut head = [0; 32];
    let known = decode_front(base64, &mut head);
    let head = &head[..known];
    let size = match head {
        [0x89, b'P', b'N', b'G', ..] => Size { width: big(head, 16)?, height: big(head, 20)? },
        [b'G', b'I', b'F', b'8', ..] => Size { width: little(head, 6, 2)?, height: little(head, 8, 2)? },
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp(head)?,
        [0xff, 0xd8, ..] => {
            // The frame comes behind the camera's notes and its own small picture.
            let mut front = vec![0; (base64.len() / 4 * 3).min(JPEG_HEAD_BYTES)];
            let known = decode_front(base64, &mut front);
            jpeg(&front[..known])?
        }
        _ => return None,
    };
    (size.width > 0 && size.height > 0).then_some(size)
}

/// The three forms of WebP (RFC 9649 section 2).
fn webp(head: &[u8]) -> Option<Size> {
    match head.get(12..16)? {
        b"VP8X" => Some(Size { width: little(head, 24, 3)? + 1, height: little(head, 27, 3)? + 1 }),
        b"VP8L" => {
            let bits = little(head, 21, 4)?;
            Some(Size { width: (bits & 0x3fff) + 1, height: (bits >> 14 & 0x3fff) + 1 })
        }
        b"VP8 " => Some(Size { width: little(head, 26, 2)? & 0x3fff, height: little(head, 28, 2)? & 0x3fff }),
        _ => None,
    }
}

/// The first frame header of a JPEG (ITU T.81 section B.2.2): marker, length, precision, height, width.
fn jpeg(bytes: &[u8]) -> Option<Size> {
    let mut at = 2;
    loop {
        let [0xff, marker] = *bytes.get(at..)?.first_chunk::<2>()? else { return None };
        match marker {
            0xff => at += 1, // filled up
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                let [height @ .., _, _] = *bytes.get(at + 5..)?.first_chunk::<4>()?;
                let [_, _, width @ ..] = *bytes.get(at + 5..)?.first_chunk::<4>()?;
                let side = |bytes| u32::from(u16::from_be_bytes(bytes));
                return Some(Size { width: side(width), height: side(height) });
            }
            0x01 | 0xd0..=0xd8 => at += 2, // without a length
            0xd9 | 0xda => return None,
            _ => {
                let length = u16::from_be_bytes(*bytes.get(at + 2..)?.first_chunk()?);
                at += 2 + usize::from(length);
            }
        }
    }
}

/// Bytes a second: what the head of a WAV says, else those of a typical MP3.
fn audio_rate(base64: &[u8]) -> u64 {
    let mut head = [0; 32];
    let known = decode_front(base64, &mut head);
    match &head[..known] {
        head @ [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => {
            // Eight bits of telephone sound at least; a head may say anything.
            little(head, 28, 4).map_or(AUDIO_SECOND_BYTES, |rate| u64::from(rate).max(8_000))
        }
        _ => AUDIO_SECOND_BYTES,
    }
}

fn big(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

fn little(bytes: &[u8], at: usize, length: usize) -> Option<u32> {
    let number = bytes.get(at..at + length)?;
    Some(number.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
}

const TILES_BASE: u64 = 85;
const TILE_TOKENS: u64 = 170;
/// What Anthropic scales larger images down to.
const AREA_TOKENS_MAX: u64 = 1_640;
const AUDIO_SECOND_TOKENS: u64 = 10;
const AUDIO_SECOND_BYTES: u64 = 16_000;
const VIDEO_SECOND_TOKENS: u64 = 258;
const VIDEO_SECOND_BYTES: u64 = 125_000;
const PAGE_TOKENS: u64 = 2_000;
const PAGE_BYTES: u64 = 50_000;
/// Where the frame of a JPEG is looked for: behind one full segment of a camera's notes.
const JPEG_HEAD_BYTES: usize = 80 * 1024;
