//! Which strings of a body are images, sound or documents, in every dialect.
//!
//! | dialect | where |
//! | --- | --- |
//! | chat | `image_url.url`, `input_audio.data`, `file.file_data`, `audio_url.url`, `video_url.url` |
//! | Responses | `image_url`, `file_data`, `input_audio.data` of a part; `result` of an `image_generation_call` |
//! | Messages | `source.data` with `type: base64`, of images and documents, tool results included |
//! | engines and tools | `image`, `audio`, `video` with a `data:` URL, also as a list of frames; `image_embeds`; `data` of a part of type `image`, `audio` or `video` (MCP), and of `inline_data` |
//! | Google | `inlineData.data`, `inline_data.data` |
//! | Ollama | `images`, a list |
//! | embeddings, rerank | as chat; `image`, `image_base64`, `images`; a `data:` URL as an `input` |
//!
//! What a tool was called with, or is described by, is text whatever its members are called.

use memchr::memchr2;

use crate::dialect::Api;
use crate::dialect::table::MediaMembers;
use crate::units::Span;

/// What a part is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PartKind {
    Image,
    Audio,
    Video,
    /// Text that travels as a file.
    Text,
    /// PDF and everything else.
    Document,
}

/// One part found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part<'a> {
    pub(super) kind: PartKind,
    /// Its base64, or what else stands there (a link), as it was written in JSON.
    pub(super) payload: &'a [u8],
    /// The client asked for a coarse look (`detail: low`).
    pub(super) coarse: bool,
}

/// Whether a run without a blank or quote is long enough to be a part. Reads [`WINDOW_BYTES`] in each [`STRIDE_BYTES`] at most,
/// of ordinary text a word.
pub(super) fn may_be_in(body: &[u8]) -> bool {
    let is_run = |at: usize| {
        let window = body.get(at..at + WINDOW_BYTES);
        window.is_some_and(|window| window.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'"'))
    };
    (0..body.len()).step_by(STRIDE_BYTES).any(is_run)
}

/// Calls `found` for each part of at least [`PART_BYTES_MIN`] bytes. `body` is sound JSON; of other bytes anything may be said,
/// but it ends.
///
/// Cost: one pass, no allocation.
pub(super) fn each<'a>(api: Api, body: &'a [u8], mut found: impl FnMut(Part<'a>)) {
    let mut walk = Walk { api, body, open: [Frame::default(); DEPTH_MAX], depth: 0 };
    let mut at = 0;
    while at < body.len() {
        match body[at] {
            b'"' => {
                let end = string_end(body, at);
                if let Some(part) = walk.string(Span::new(at + 1, end)) {
                    found(part);
                }
                at = end;
            }
            opener @ (b'{' | b'[') => walk.enter(opener == b'{'),
            b'}' | b']' => {
                if let Some(part) = walk.leave() {
                    found(part);
                }
            }
            b',' => walk.next(),
            _ => {}
        }
        at += 1;
    }
}

/// The offset of the quote that closes the string whose opening quote is at `open`, or the end of the body.
fn string_end(body: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while let Some(length) = body.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += length;
        if body[at] == b'"' {
            return at;
        }
        at += 2;
    }
    body.len()
}

/// One object or array that is open.
#[derive(Clone, Copy, Default)]
struct Frame {
    is_object: bool,
    /// The member it is the value of; an array passes the name on to what it holds.
    name: Span,
    /// The member whose value comes next, in an object.
    key: Option<Span>,
    /// Its members `type`, `media_type` and `detail`.
    kind: Span,
    media_type: Span,
    detail: Span,
    /// What is a part if its neighbours agree: the kind it is then.
    candidate: Option<Candidate>,
    /// Nothing in here is a part.
    is_text: bool,
}

/// A string that is a part unless its neighbours say otherwise.
#[derive(Clone, Copy)]
struct Candidate {
    span: Span,
    key: Span,
    kind: PartKind,
}

struct Walk<'a> {
    api: Api,
    body: &'a [u8],
    open: [Frame; DEPTH_MAX],
    /// May exceed [`DEPTH_MAX`]: what is nested deeper is not looked at.
    depth: usize,
}

impl<'a> Walk<'a> {
    fn top(&mut self) -> Option<&mut Frame> {
        let index = self.depth.checked_sub(1)?;
        self.open.get_mut(index)
    }

    fn enter(&mut self, is_object: bool) {
        let (api, body) = (self.api, self.body);
        let (name, is_text) = match self.top() {
            Some(frame) => {
                let name = frame.key.unwrap_or(frame.name);
                (name, frame.is_text || (frame.key.is_some() && is_opaque(api, name.of(body))))
            }
            None => (Span::default(), false),
        };
        self.depth += 1;
        if let Some(frame) = self.top() {
            *frame = Frame { is_object, name, is_text, ..Frame::default() };
        }
    }

    fn next(&mut self) {
        if let Some(frame) = self.top() {
            frame.key = None;
        }
    }

    fn leave(&mut self) -> Option<Part<'a>> {
        let body = self.body;
        let frame = self.top().copied();
        self.depth = self.depth.saturating_sub(1);
        let Frame { candidate, media_type, kind: type_of, detail, .. } = frame?;
        let Candidate { span, key, kind } = candidate?;
        let (text, type_of) = (span.of(body), type_of.of(body));
        // A document in plain text, and the result of something that made no image.
        let is_named = || IMAGE_PARTS.contains(&type_of);
        let is_part = match key.of(body) {
            b"result" => type_of == IMAGE_CALL,
            b"data" => kind != PartKind::Image || is_named(), // of a source, of sound; of tools that speak MCP
            _ => true,
        };
        if type_of == b"text" || !is_part {
            return None;
        }
        let (named, payload) = match data_url(text) {
            Some((media_type, payload)) => (kind_of(media_type), payload),
            None => (kind_of(media_type.of(body)), text),
        };
        Some(Part { kind: named.unwrap_or(kind), payload, coarse: detail.of(body) == b"low" })
    }

    /// A string without its quotes: a key, or a value that may be a part right away or with its neighbours.
    fn string(&mut self, span: Span) -> Option<Part<'a>> {
        let (api, body) = (self.api, self.body);
        let text = span.of(body);
        let frame = self.top()?;
        if frame.is_object && frame.key.is_none() {
            frame.key = Some(span);
            return None;
        }
        if frame.is_object && text.len() < PART_BYTES_MIN {
            match frame.key.unwrap_or_default().of(body) {
                b"type" => frame.kind = span,
                b"media_type" | b"mime_type" | b"mimeType" => frame.media_type = span,
                b"detail" => frame.detail = span,
                _ => {}
            }
        }
        if text.len() < PART_BYTES_MIN || frame.is_text {
            return None;
        }
        if frame.is_object && frame.candidate.is_none() {
            let key = frame.key.unwrap_or_default();
            let is_data = || data_url(text).is_some();
            if let Some(kind) = member_kind(api, frame.name.of(body), key.of(body), is_data) {
                frame.candidate = Some(Candidate { span, key, kind });
                return None;
            }
        }
        loose(api, frame.key.unwrap_or(frame.name).of(body), text)
    }
}

/// The kind of part that the member `key` of an object called `name` is. `is_data`: its value is a `data:` URL.
fn member_kind(api: Api, name: &[u8], key: &[u8], is_data: impl Fn() -> bool) -> Option<PartKind> {
    Some(match (name, key) {
        (b"image_url", b"url") | (_, b"image_url" | b"image_base64") => PartKind::Image,
        (b"audio_url", b"url") | (_, b"audio_url") | (b"input_audio", b"data") => PartKind::Audio,
        (b"video_url", b"url") | (_, b"video_url") => PartKind::Video,
        (_, b"file_data") | (b"source" | b"inline_data" | b"inlineData", b"data") => PartKind::Document,
        (_, b"image_embeds") => PartKind::Image,
        (_, b"result") if api.endpoint().media == MediaMembers::Results => PartKind::Image,
        (_, b"image") if api.endpoint().media == MediaMembers::Loose || is_data() => PartKind::Image,
        (_, b"audio") if is_data() => PartKind::Audio,
        (_, b"video") if is_data() => PartKind::Video,
        (_, b"data") => PartKind::Image, // if its type says so
        _ => return None,
    })
}

/// A part that stands in a list, or as a whole `input`: models of vectors take images so.
fn loose<'a>(api: Api, name: &[u8], text: &'a [u8]) -> Option<Part<'a>> {
    if matches!(name, b"video" | b"images")
        && let Some((media_type, payload)) = data_url(text)
    {
        return Some(Part { kind: kind_of(media_type)?, payload, coarse: false }); // frames, one after the other
    }
    if api.endpoint().media != MediaMembers::Loose {
        return None;
    }
    let part = |kind, payload| Some(Part { kind, payload, coarse: false });
    match (data_url(text), name) {
        (Some((media_type, payload)), b"input" | b"images" | b"documents" | b"query") => {
            part(kind_of(media_type)?, payload)
        }
        (None, b"images") => part(PartKind::Image, text),
        _ => None,
    }
}

/// Members whose value is text to a model, whatever it holds.
fn is_opaque(api: Api, name: &[u8]) -> bool {
    match name {
        b"tools" | b"functions" | b"arguments" | b"parameters" | b"input_schema" | b"metadata"
        | b"response_format" => true,
        b"input" => api.endpoint().media == MediaMembers::Blocks,
        _ => false,
    }
}

/// The media type of a `data:` URL, and what it carries.
fn data_url(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let front = &text[..text.len().min(DATA_URL_HEAD_BYTES)];
    let scheme = front.first_chunk::<5>()?;
    if !scheme.eq_ignore_ascii_case(b"data:") {
        return None;
    }
    let comma = memchr::memchr(b',', front)?;
    Some((&text[5..comma], &text[comma + 1..]))
}

/// By the first word of a media type: its slash may be written as `\/`.
fn kind_of(media_type: &[u8]) -> Option<PartKind> {
    let starts =
        |word: &[u8]| media_type.get(..word.len()).is_some_and(|front| front.eq_ignore_ascii_case(word));
    Some(match () {
        () if starts(b"image") => PartKind::Image,
        () if starts(b"audio") => PartKind::Audio,
        () if starts(b"video") => PartKind::Video,
        () if starts(b"text") => PartKind::Text,
        () if starts(b"application") => PartKind::Document,
        () => return None,
    })
}

/// The types of parts whose `data` is base64 beside a media type.
const IMAGE_PARTS: [&[u8]; 3] = [b"image", b"audio", b"video"];
/// The item of Responses whose `result` is an image.
const IMAGE_CALL: &[u8] = b"image_generation_call";
/// A shorter part is counted as text: 256 tokens at most.
const PART_BYTES_MIN: usize = 1024;
/// A part of that length has a whole window in it.
const STRIDE_BYTES: usize = PART_BYTES_MIN / 2;
/// Characters without a blank or quote by which a run is told from text. Chosen: few words are as long.
const WINDOW_BYTES: usize = 64;
/// The comma of a `data:` URL stands in front of this.
const DATA_URL_HEAD_BYTES: usize = 256;
/// Parts lie at most eleven deep (an image in a tool's result), in objects and arrays that all count.
const DEPTH_MAX: usize = 24;
