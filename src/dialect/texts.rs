//! Where text lies in a request, in an event and in a body: what content rules read.
//!
//! One walk for all dialects. It knows which members are not text (identifiers, types, binary data) and takes every other
//! string for text, so that a part which no dialect has yet is read rather than missed. Keys count as the most lenient reader
//! takes them ([`json::folded`]): escaped, in capitals, in either spelling of two words. Only what is left out has to be spelt
//! exactly.

use std::borrow::Cow;

use crate::units::Span;
use crate::wire::json::{self, ValueKind};

/// What a text is to the conversation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Place {
    /// System and developer messages.
    System,
    /// The rest of a request: what users said, and the history.
    Input,
    /// What the model says.
    Output,
    /// Arguments of tool calls and what the calls brought.
    Tools,
    /// The model's thoughts.
    Thinking,
}

impl Place {
    /// All of them, each with its name in the configuration.
    pub const ALL: [(&'static str, Self); 5] = [
        ("system", Self::System),
        ("input", Self::Input),
        ("output", Self::Output),
        ("tools", Self::Tools),
        ("thinking", Self::Thinking),
    ];
}

/// A text, or the end of texts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Located {
    /// A text that is whole.
    Whole {
        /// What it is.
        place: Place,
        /// The inside of its JSON string.
        inside: Span,
    },
    /// A piece of a text that other events continue.
    Piece {
        /// What it is.
        place: Place,
        /// The inside of its JSON string.
        inside: Span,
        /// Which text: pieces of one text have one channel.
        channel: Channel,
    },
    /// The texts of a group, or all of them, end here.
    End {
        /// The group; all if absent.
        group: Option<u64>,
    },
}

/// One of the texts of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Channel {
    /// A choice, a content block or an output item.
    pub group: u64,
    /// The text in it.
    pub text: u64,
}

/// Reports the texts of a request. What is not JSON has none.
pub fn request(body: &[u8], sink: &mut dyn FnMut(Located)) {
    for member in json::members(body).map_while(Result::ok) {
        let mut room = [0; json::FOLDED_BYTES_MAX];
        let place = match json::folded(member.key.of(body), &mut room) {
            b"system" | b"instructions" | b"systeminstruction" => Place::System,
            b"messages"
            | b"input"
            | b"prompt"
            | b"suffix"
            | b"contents"
            | b"query"
            | b"documents"
            | b"texts"
            | b"text"
            | b"text1"
            | b"text2"
            | b"instruction"
            | b"content"
            | b"requests"
            | b"generatecontentrequest" => Place::Input,
            _ => continue,
        };
        let mut walk = Walk { bytes: body, sink, stream: None };
        walk.value(member.value, member.kind, &Spot::new(place));
    }
}

/// Reports the texts of a whole response.
pub fn body(body: &[u8], sink: &mut dyn FnMut(Located)) {
    let mut walk = Walk { bytes: body, sink, stream: None };
    // Google's stream is a list of responses for a client that does not ask for events.
    let is_list = body.trim_ascii_start().first() == Some(&b'[');
    let kind = if is_list { ValueKind::Array } else { ValueKind::Object };
    walk.value(Span::new(0, body.len()), kind, &Spot::new(Place::Output));
}

/// Reports the texts of an event of a stream, whose data lie at `data` in `bytes`.
pub fn event(bytes: &[u8], data: Span, sink: &mut dyn FnMut(Located)) {
    if data.of(bytes) == b"[DONE]" {
        return sink(Located::End { group: None });
    }
    let mut walk = Walk { bytes, sink, stream: Some(Stream::default()) };
    walk.value(data, ValueKind::Object, &Spot::new(Place::Output));
    match walk.stream.map(|stream| stream.ends) {
        Some(Ends::All) => sink(Located::End { group: None }),
        Some(Ends::Group(group)) => sink(Located::End { group: Some(group) }),
        _ => {}
    }
}

/// What the walk knows of the place where it is.
#[derive(Clone, Copy)]
struct Spot {
    place: Place,
    /// Everything below is text, whatever its key: the arguments of a tool call.
    is_free: bool,
    /// Everything below repeats what was streamed.
    is_whole: bool,
    group: u64,
    text: u64,
    depth: u8,
}

impl Spot {
    const fn new(place: Place) -> Self {
        Self { place, is_free: false, is_whole: false, group: 0, text: 0, depth: 0 }
    }
}

#[derive(Clone, Copy, Default)]
struct Stream {
    ends: Ends,
}

#[derive(Clone, Copy, Default)]
enum Ends {
    #[default]
    Nothing,
    Group(u64),
    All,
}

struct Walk<'a, 'b> {
    bytes: &'a [u8],
    sink: &'b mut dyn FnMut(Located),
    stream: Option<Stream>,
}

impl Walk<'_, '_> {
    fn value(&mut self, span: Span, kind: ValueKind, spot: &Spot) {
        match kind {
            ValueKind::String => self.text(Span::new(span.start + 1, span.end - 1), spot),
            ValueKind::Array if spot.depth < DEPTH_MAX => {
                let spot = Spot { depth: spot.depth + 1, ..*spot };
                for element in json::elements(span.of(self.bytes)).map_while(Result::ok) {
                    self.value(shift(element.0, span.start), element.1, &spot);
                }
            }
            ValueKind::Object if spot.depth < DEPTH_MAX => self.object(span, spot),
            _ => {}
        }
    }

    fn text(&mut self, inside: Span, spot: &Spot) {
        if inside.start == inside.end {
            return;
        }
        let place = spot.place;
        (self.sink)(match self.stream {
            Some(_) if !spot.is_whole => {
                let channel = Channel { group: spot.group, text: mix(spot.text, place as u64) };
                Located::Piece { place, inside, channel }
            }
            _ => Located::Whole { place, inside },
        });
    }

    fn object(&mut self, span: Span, spot: &Spot) {
        let mut spot = Spot { depth: spot.depth + 1, ..*spot };
        if !spot.is_free {
            self.read_signs(span, &mut spot);
        }
        for member in json::members(span.of(self.bytes)).map_while(Result::ok) {
            let key = shift(member.key, span.start).of(self.bytes);
            let value = shift(member.value, span.start);
            if spot.is_free {
                self.value(value, member.kind, &spot);
            } else if !is_no_text(key) {
                let below = self.below(key, member.kind, &spot);
                self.value(value, member.kind, &below);
            }
        }
    }

    /// What the members of an object say about their neighbours.
    fn read_signs(&mut self, span: Span, spot: &mut Spot) {
        let (mut group, mut text, mut ended) = (None, None, false);
        for member in json::members(span.of(self.bytes)).map_while(Result::ok) {
            let key = shift(member.key, span.start).of(self.bytes);
            let value = shift(member.value, span.start).of(self.bytes);
            let mut room = [0; json::FOLDED_BYTES_MAX];
            match json::folded(key, &mut room) {
                b"role" => match word(value).as_bytes() {
                    b"system" | b"developer" => spot.place = Place::System,
                    b"tool" | b"function" => spot.place = Place::Tools,
                    _ => {}
                },
                b"type" => self.read_type(word(value).as_bytes(), spot),
                b"thought" if value == b"true" => spot.place = Place::Thinking,
                b"index" | b"outputindex" => group = Some(hash(value)),
                b"contentindex" | b"summaryindex" => text = Some(hash(value)),
                b"finishreason" | b"donereason" => ended = member.kind == ValueKind::String,
                _ => {}
            }
        }
        spot.group = group.map_or(spot.group, |group| mix(spot.group, group));
        spot.text = text.map_or(spot.text, |text| mix(spot.text, text));
        if let Some(stream) = &mut self.stream {
            match stream.ends {
                Ends::Group(_) if spot.depth == 1 => stream.ends = Ends::Group(spot.group),
                Ends::Nothing if ended => stream.ends = Ends::Group(spot.group),
                Ends::Group(_) if ended => stream.ends = Ends::All,
                _ => {}
            }
        }
    }

    fn read_type(&mut self, name: &[u8], spot: &mut Spot) {
        match name {
            b"tool_use"
            | b"tool_result"
            | b"server_tool_use"
            | b"function_call"
            | b"function_call_output"
            | b"custom_tool_call"
            | b"custom_tool_call_output"
            | b"mcp_call"
            | b"local_shell_call"
            | b"input_json_delta" => {
                spot.place = Place::Tools;
            }
            b"thinking" | b"reasoning" | b"thinking_delta" | b"reasoning_text" | b"summary_text" => {
                spot.place = Place::Thinking;
            }
            _ if spot.depth > 1 => {}
            _ => self.read_event_type(name, spot),
        }
    }

    /// The type of an event of Anthropic's and of the Responses API.
    fn read_event_type(&mut self, name: &[u8], spot: &mut Spot) {
        if name.starts_with(b"response.reasoning") {
            spot.place = Place::Thinking;
        } else if name.windows(8).any(|window| window == b"_call_ar" || window == b"ool_call") {
            spot.place = Place::Tools;
        }
        spot.is_whole = name.ends_with(b".done");
        let Some(stream) = &mut self.stream else { return };
        match name {
            b"message_stop" | b"response.completed" | b"response.incomplete" | b"response.failed" => {
                stream.ends = Ends::All
            }
            b"content_block_stop" => stream.ends = Ends::Group(spot.group),
            _ if spot.is_whole => stream.ends = Ends::Group(spot.group),
            _ => {}
        }
    }

    /// The place of a member's value. `key`: with its quotes.
    fn below(&self, key: &[u8], kind: ValueKind, spot: &Spot) -> Spot {
        let (mut below, mut room) = (*spot, [0; json::FOLDED_BYTES_MAX]);
        let key = json::folded(key, &mut room);
        match key {
            b"system" | b"instructions" => below.place = Place::System,
            b"thinking" | b"reasoning" | b"reasoningcontent" | b"summary" => below.place = Place::Thinking,
            b"toolcalls" | b"functioncall" | b"functionresponse" | b"tooluse" | b"toolresult"
            | b"partialjson" | b"arguments" => below.place = Place::Tools,
            b"item" | b"part" | b"response" if self.stream.is_some() && kind == ValueKind::Object => {
                below.is_whole = true
            }
            _ => {}
        }
        let is_call = below.place == Place::Tools && kind != ValueKind::String;
        below.is_free = is_call
            && matches!(key, b"input" | b"args" | b"arguments" | b"response" | b"parameters" | b"action");
        // A refusal is a text beside the content. All other keys of one place continue one text.
        below.text = if key == b"refusal" { mix(below.text, 1) } else { below.text };
        below
    }
}

/// The text of a short string value; empty for any other value.
fn word(value: &[u8]) -> Cow<'_, str> {
    json::string(value).unwrap_or_default()
}

/// Whether a member holds no text. `key`: with its quotes.
fn is_no_text(key: &[u8]) -> bool {
    match memchr::memchr(b'\\', key) {
        None => NO_TEXT.iter().any(|name| name.as_bytes() == &key[1..key.len() - 1]),
        Some(_) => NO_TEXT.iter().any(|name| json::key_is(key, name)),
    }
}

fn shift(span: Span, by: usize) -> Span {
    Span::new(span.start + by, span.end + by)
}

/// FNV-1a (RFC draft-eastlake-fnv): a handful of short keys, nobody attacks their own stream with collisions.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn mix(one: u64, other: u64) -> u64 {
    hash(&(one.rotate_left(17) ^ other).to_le_bytes())
}

/// Members that hold no text: identifiers, types, binary data, and what repeats the request.
const NO_TEXT: &[&str] = &[
    "id",
    "object",
    "model",
    "type",
    "role",
    "name",
    "tool_name",
    "status",
    "format",
    "detail",
    "index",
    "item_id",
    "call_id",
    "tool_call_id",
    "tool_use_id",
    "toolUseId",
    "response_id",
    "previous_response_id",
    "system_fingerprint",
    "finish_reason",
    "finishReason",
    "stop_reason",
    "stop_sequence",
    "done_reason",
    "service_tier",
    "signature",
    "thoughtSignature",
    "thought_signature",
    "encrypted_content",
    "data",
    "image_url",
    "imageUrl",
    "url",
    "file_data",
    "fileData",
    "inlineData",
    "inline_data",
    "file_id",
    "file_url",
    "input_audio",
    "audio",
    "images",
    "b64_json",
    "bytes",
    "media_type",
    "mime_type",
    "mimeType",
    "cache_control",
    "logprobs",
    "top_logprobs",
    "usage",
    "usageMetadata",
    "modelVersion",
    "responseId",
    "tools",
    "tool_choice",
    "metadata",
    "error",
    "incomplete_details",
    "created_at",
    "obfuscation",
    "embedding",
];

/// Deeper values are not looked at; a request has ten levels at most.
const DEPTH_MAX: u8 = 64;

#[cfg(test)]
mod tests;
