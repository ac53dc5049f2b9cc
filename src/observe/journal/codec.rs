//! How a settled exchange lies in a journal, and how it is found again after a crash.
//!
//! A journal is a sequence of bytes in segments of [`SEGMENT_BYTES`]; a position counts from the journal's start.
//! Each segment starts with a header and goes on with frames, each at a multiple of 8:
//!
//! ```text
//! header: "RWJOURN1", journal id u64, position of the segment u64, CRC-32 of all that u32, padding to 32 bytes
//! frame:  length of the body u32, CRC-32 of position and body u32, position u64, body, padding to 8
//! body:   version u8, flags u8, attempts u8, 0, status u16, ten numbers u64, texts: length u8 and bytes, one number u64,
//!         matches of content rules: length u16 and bytes
//! ```
//!
//! All numbers are little-endian. A segment is all zero before it is written, and the length is stored last: a frame that
//! a crash interrupted has the length 0, or (after a power cut) fails its CRC. Later versions only append to
//! the body and use free flags, so that an older reader finds what it knows.

use std::sync::Arc;

use crate::observe::record::Record;

/// Bytes of a segment: a few thousand exchanges, and what a shard that is busy keeps mapped.
pub const SEGMENT_BYTES: usize = 1 << 20;
/// Bytes of the header of a segment.
pub const HEADER_BYTES: usize = 32;
/// Bytes before the body of a frame.
pub const FRAME_HEAD_BYTES: usize = 16;
/// The longest body. Every text is cut to `TEXT_BYTES_MAX`.
pub const BODY_BYTES_MAX: usize = FIXED_BYTES + TEXTS * (1 + TEXT_BYTES_MAX) + 8 + 2 + MARKS_BYTES_MAX;
/// The longest text of matches of content rules.
pub const MARKS_BYTES_MAX: usize = 1024;
/// The longest text in a record; names of the configuration are shorter.
const TEXT_BYTES_MAX: usize = 255;
const MAGIC: &[u8; 8] = b"RWJOURN1";
const VERSION: u8 = 1;
const NUMBERS: usize = 10;
const FIXED_BYTES: usize = 6 + NUMBERS * 8;
const TEXTS: usize = 9;
const STREAM: u8 = 1;
const USAGE_KNOWN: u8 = 2;
const ESTIMATED: u8 = 4;
const FROM_CACHE: u8 = 8;
/// What `time_to_first_token` is if there was none.
const NONE: u64 = u64::MAX;

/// The names behind the ids of a [`Record`]; empty where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    /// Of the key.
    pub key: &'a str,
    /// Of the key's team.
    pub team: &'a str,
    /// The end user that the client named.
    pub user: &'a str,
    /// Of the model.
    pub model: &'a str,
    /// Of the model that was asked for, if `model` is its fallback.
    pub fallback_for: &'a str,
    /// Of the backend.
    pub backend: &'a str,
    /// Matches of content rules, as `policy::guard::evidence` writes them.
    pub marks: &'a str,
}

/// One settled exchange with the names it had when it was settled: a [`Record`] that needs no plan.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// As in [`Record`].
    pub at_unix_ms: u64,
    /// As in [`Record`].
    pub status: u16,
    /// As in [`Record`].
    pub attempts: u8,
    /// As in [`Record`].
    pub stream: bool,
    /// As in [`Record`].
    pub usage_known: bool,
    /// As in [`Record`].
    pub estimated: bool,
    /// As in [`Record`].
    pub input_tokens: u64,
    /// As in [`Record`].
    pub cached_tokens: u64,
    /// As in [`Record`].
    pub cache_write_tokens: u64,
    /// As in [`Record`].
    pub output_tokens: u64,
    /// As in [`Record`].
    pub reasoning_tokens: u64,
    /// As in [`Record`].
    pub request_bytes: u64,
    /// As in [`Record`].
    pub response_bytes: u64,
    /// Nanoseconds, as in [`Record`].
    pub duration_ns: u64,
    /// Nanoseconds, as in [`Record`].
    pub first_token_ns: Option<u64>,
    /// Nanoseconds, as in [`Record`].
    pub overhead_ns: u64,
    /// As in [`Record`].
    pub request_id: String,
    /// As in [`Record`].
    pub api: Arc<str>,
    /// The code of what failed; empty if nothing did.
    pub fault: Arc<str>,
    /// As in [`Names`].
    pub key: Arc<str>,
    /// As in [`Names`].
    pub team: Arc<str>,
    /// As in [`Names`].
    pub user: Arc<str>,
    /// As in [`Names`].
    pub model: Arc<str>,
    /// As in [`Names`].
    pub fallback_for: Arc<str>,
    /// As in [`Names`].
    pub backend: Arc<str>,
    /// As in [`Names`]; empty in records of older programs.
    pub marks: String,
    /// As in [`Record`].
    pub from_cache: bool,
}

/// Room for one frame without its length word, kept from record to record.
pub(super) type Scratch = [u8; FRAME_HEAD_BYTES + BODY_BYTES_MAX + 8];

/// Writes the frame of a record at `position` into `scratch`, but for the length word: the bytes of the body.
pub(super) fn encode(scratch: &mut Scratch, position: u64, record: &Record, names: &Names<'_>) -> usize {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(record.stream, STREAM)
        | flag(record.usage_known, USAGE_KNOWN)
        | flag(record.estimated, ESTIMATED)
        | flag(record.from_cache, FROM_CACHE);
    scratch[8..16].copy_from_slice(&position.to_le_bytes());
    let body = &mut scratch[FRAME_HEAD_BYTES..];
    body[..4].copy_from_slice(&[VERSION, flags, record.attempts, 0]);
    body[4..6].copy_from_slice(&record.status.to_le_bytes());
    let numbers: [u64; NUMBERS] = [
        record.at_unix_ms,
        record.input_tokens,
        record.cached_tokens,
        record.output_tokens,
        record.reasoning_tokens,
        record.request_bytes,
        record.response_bytes,
        record.duration.0,
        record.time_to_first_token.map_or(NONE, |time| time.0),
        record.overhead.0,
    ];
    for (eight, number) in body[6..FIXED_BYTES].as_chunks_mut().0.iter_mut().zip(numbers) {
        *eight = number.to_le_bytes();
    }
    let mut at = FIXED_BYTES;
    let texts: [&[u8]; TEXTS] = [
        record.request_id.as_bytes(),
        record.api.as_bytes(),
        record.fault.map_or("", crate::error::FaultKind::code).as_bytes(),
        names.key.as_bytes(),
        names.team.as_bytes(),
        names.user.as_bytes(),
        names.model.as_bytes(),
        names.fallback_for.as_bytes(),
        names.backend.as_bytes(),
    ];
    for text in texts {
        let text = &text[..text.len().min(TEXT_BYTES_MAX)];
        body[at] = text.len() as u8;
        body[at + 1..at + 1 + text.len()].copy_from_slice(text);
        at += 1 + text.len();
    }
    body[at..at + 8].copy_from_slice(&record.cache_write_tokens.to_le_bytes());
    at += 8;
    let marks = &names.marks.as_bytes()[..names.marks.len().min(MARKS_BYTES_MAX)];
    body[at..at + 2].copy_from_slice(&(marks.len() as u16).to_le_bytes());
    body[at + 2..at + 2 + marks.len()].copy_from_slice(marks);
    at += 2 + marks.len();
    let crc = crc32fast::hash(&scratch[8..FRAME_HEAD_BYTES + at]);
    scratch[4..8].copy_from_slice(&crc.to_le_bytes());
    at
}

/// The bytes that a frame takes up.
pub(super) const fn frame_bytes(body: usize) -> usize {
    (FRAME_HEAD_BYTES + body).next_multiple_of(8)
}

/// The header of the segment at `position` of a journal.
pub fn header(journal: u64, position: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&journal.to_le_bytes());
    header[16..24].copy_from_slice(&position.to_le_bytes());
    let crc = crc32fast::hash(&header[..24]);
    header[24..28].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What lies at a place of a segment.
enum Frame<'a> {
    /// A record, and where the next frame starts.
    Whole(&'a [u8], usize),
    /// No frame has been written there.
    Blank,
    /// Something that is no frame.
    Damaged,
}

/// The records of a segment, in order. What cannot be read is passed over, up to the next frame that says that it
/// belongs where it lies; [`Self::damaged_bytes`] tells how much that was.
pub struct Frames<'a> {
    /// From the segment's first byte on.
    bytes: &'a [u8],
    /// Of the segment.
    position: u64,
    at: usize,
    damaged: usize,
    /// The journal's writer may be at work behind the last whole frame.
    live: bool,
    /// The names of the record before, which the next one most likely shares.
    names: [Arc<str>; TEXTS - 1],
}

impl<'a> Frames<'a> {
    /// The records of `bytes`, which lie at `position` of a journal behind the header of a segment.
    pub fn behind_header(bytes: &'a [u8], position: u64) -> Self {
        Self { at: 0, ..Self::left_over(bytes, position, 0) }
    }

    /// The records from offset `from` of the segment at `position`, of a journal that is written to no more.
    pub fn left_over(bytes: &'a [u8], position: u64, from: usize) -> Self {
        Self {
            bytes,
            position,
            at: from.max(HEADER_BYTES),
            damaged: 0,
            live: false,
            names: Default::default(),
        }
    }

    /// The same of a journal that is being written: ends at the first frame that is not whole.
    pub fn live(bytes: &'a [u8], position: u64, from: usize) -> Self {
        Self { live: true, ..Self::left_over(bytes, position, from) }
    }

    /// The offset behind the last record that was returned.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Bytes that were passed over because they hold no valid record.
    pub fn damaged_bytes(&self) -> usize {
        self.damaged
    }

    fn frame(&self, at: usize) -> Frame<'a> {
        let Some(head) = self.bytes.get(at..at + FRAME_HEAD_BYTES) else { return Frame::Blank };
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let body = word(0) as usize;
        if body == 0 {
            return Frame::Blank;
        }
        let end = at + FRAME_HEAD_BYTES + body;
        if body > BODY_BYTES_MAX
            || head[8..16] != (self.position + at as u64).to_le_bytes()
            || self.bytes.get(at + 8..end).is_none_or(|bytes| crc32fast::hash(bytes) != word(4))
        {
            return Frame::Damaged;
        }
        Frame::Whole(&self.bytes[at + FRAME_HEAD_BYTES..end], at + frame_bytes(body))
    }

    /// The next offset from `at` on at which a whole frame lies.
    fn resume(&self, at: usize) -> Option<usize> {
        (at..self.bytes.len()).step_by(8).find(|&at| matches!(self.frame(at), Frame::Whole(..)))
    }
}

impl Iterator for Frames<'_> {
    /// The position of a record in its journal, and the record; `None` for one of a version that cannot be read.
    type Item = (u64, Option<Entry>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at = self.at;
            match self.frame(at) {
                Frame::Whole(body, next) => {
                    self.at = next;
                    return Some((self.position + at as u64, decode(body, &mut self.names)));
                }
                _ if self.live => return None,
                Frame::Blank
                    if self.bytes.get(at..).is_none_or(|rest| rest.iter().all(|&byte| byte == 0)) =>
                {
                    return None;
                }
                Frame::Blank | Frame::Damaged => match self.resume(at + 8) {
                    Some(next) => {
                        self.damaged += next - at;
                        self.at = next;
                    }
                    None => {
                        let last = self.bytes.iter().rposition(|&byte| byte != 0).map_or(at, |last| last + 1);
                        self.damaged += last.saturating_sub(at);
                        self.at = self.bytes.len();
                        return None;
                    }
                },
            }
        }
    }
}

fn decode(body: &[u8], names: &mut [Arc<str>; TEXTS - 1]) -> Option<Entry> {
    let fixed = body.get(..FIXED_BYTES)?;
    let numbers = fixed[6..].as_chunks().0;
    let number = |index: usize| u64::from_le_bytes(numbers[index]);
    let mut rest = &body[FIXED_BYTES..];
    let mut text = || {
        let (&length, after) = rest.split_first()?;
        let text = after.get(..usize::from(length))?;
        rest = &after[usize::from(length)..];
        Some(text)
    };
    let request_id = String::from_utf8_lossy(text()?).into_owned();
    for name in names.iter_mut() {
        let text = text()?;
        if name.as_bytes() != text {
            *name = String::from_utf8_lossy(text).into();
        }
    }
    let [api, fault, key, team, user, model, fallback_for, backend] = names.clone();
    let entry = Entry {
        request_id,
        api,
        fault,
        key,
        team,
        user,
        model,
        fallback_for,
        backend,
        cache_write_tokens: 0,
        marks: String::new(),
        from_cache: fixed[1] & FROM_CACHE != 0,
        stream: fixed[1] & STREAM != 0,
        usage_known: fixed[1] & USAGE_KNOWN != 0,
        estimated: fixed[1] & ESTIMATED != 0,
        attempts: fixed[2],
        status: u16::from_le_bytes([fixed[4], fixed[5]]),
        at_unix_ms: number(0),
        input_tokens: number(1),
        cached_tokens: number(2),
        output_tokens: number(3),
        reasoning_tokens: number(4),
        request_bytes: number(5),
        response_bytes: number(6),
        duration_ns: number(7),
        first_token_ns: Some(number(8)).filter(|&time| time != NONE),
        overhead_ns: number(9),
    };
    let cache_write_tokens = u64::from_le_bytes(*rest.first_chunk()?);
    Some(Entry { cache_write_tokens, marks: marks(&rest[8..])?, ..entry })
}

/// The matches of content rules; none in a record of an older program.
fn marks(rest: &[u8]) -> Option<String> {
    if rest.is_empty() {
        return Some(String::new());
    }
    let length = usize::from(u16::from_le_bytes(*rest.first_chunk()?));
    Some(String::from_utf8_lossy(rest.get(2..2 + length)?).into_owned())
}

#[cfg(test)]
mod tests;
