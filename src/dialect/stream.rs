//! What an answer that streams says about itself: usage, its end, errors, its first token.
//!
//! Fed with whole events, as many as there are, after the bytes are known to pass on. Nothing is parsed per event: a
//! few vector searches per block look for words that stand in almost no event, and only an event in which one is found
//! is read. Inside JSON strings the quotes of those words are escaped, so generated text does not match.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::Api;
use super::usage::{self, Usage};
use crate::units::Span;
use crate::wire::{json, sse};

/// Follows one event stream of an endpoint.
///
/// Cost: `bench/dialect.rs`. Events are not counted: finding each boundary would cost as much as everything else.
#[derive(Clone, Debug)]
pub struct Meter {
    api: Api,
    /// Usage was asked for by the gateway, not by the client.
    asks_usage: bool,
    choices: u64,
    /// Ends to be seen before the answer is complete.
    ends_missing: u64,
    usage: Usage,
    done: bool,
    errored: bool,
    /// Bytes left to look for a first token in; 0 once it was found.
    first_token_bytes: usize,
    /// Responses only: the last `sequence_number` and one.
    sequence: u64,
}

/// What a block of events holds that the relay has to act on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// The event that answers our own question for usage, with its blank line: not for the client. At most one per
    /// block; a backend that sends two is passed the second.
    pub drop: Option<Span>,
    /// The first output is in this block.
    pub first_token: bool,
}

/// Bytes after which output counts as begun, whatever the events look like. Bounds the dearer search for its first.
const FIRST_TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Bytes at the end of a block that hold the end of an answer, if the block does: a finish chunk, usage, `[DONE]`.
const ENDING_BYTES: usize = 4 * 1024;

impl Meter {
    /// The meter of a stream. `choices`: answers asked for (`Peek::choices`). `asks_usage`: `Edits::asks_usage`.
    pub fn new(api: Api, choices: u64, asks_usage: bool) -> Self {
        Self {
            api,
            asks_usage,
            choices,
            ends_missing: match api {
                Api::Chat | Api::Completions => choices.max(1),
                _ => 1,
            },
            usage: Usage::default(),
            done: false,
            errored: false,
            first_token_bytes: FIRST_TOKEN_BYTES_MAX,
            sequence: 0,
        }
    }

    /// Takes in whole events: `events` begins and ends at event boundaries.
    pub fn events(&mut self, events: &[u8]) -> Found {
        let words = &*WORDS;
        let mut found = Found::default();
        each(events, &words.counts, |event| self.see_usage(event, events, &mut found));
        match self.api {
            Api::Responses => {
                each(events, &words.status, |event| self.see_response_end(event.of(events)));
                self.see_sequence(events);
            }
            Api::Messages => each(events, &words.message_stop, |event| {
                let event = Said::of(event.of(events));
                if event.name() == Some(b"message_stop") {
                    self.ends_missing = 0;
                }
            }),
            _ => {
                let looked = self.may_end_in(events);
                for finder in [&words.finish, &words.finish_spaced] {
                    // An empty reason, which some backends send on every chunk, ends nothing.
                    let ends = finder
                        .find_iter(looked)
                        .filter(|at| looked.get(at + finder.needle().len()) != Some(&b'"'));
                    self.ends_missing = self.ends_missing.saturating_sub(ends.count() as u64);
                }
                let last = events.trim_ascii_end();
                if last.ends_with(b"[DONE]") {
                    self.done |= sse::is_done(&events[sse::last_boundary(last)..]);
                }
            }
        }
        if !self.errored {
            self.errored = has_error(self.may_end_in(events));
        }
        found.first_token = self.see_first_token(events);
        found
    }

    /// The counts reported last.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Whether the answer came to a proper end: a finish reason for each choice, or the dialect's last event.
    pub fn finished(&self) -> bool {
        self.ends_missing == 0
    }

    /// Whether `[DONE]` came.
    pub fn done(&self) -> bool {
        self.done
    }

    /// Whether an error came inside the stream.
    pub fn errored(&self) -> bool {
        self.errored
    }

    /// The next `sequence_number` of a Responses stream, for an event of our own.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The part of a block in which an answer may end. One answer ends with its stream: little follows its last event,
    /// and a block of many events need not be searched whole. Of several, each ends where it likes.
    fn may_end_in<'b>(&self, events: &'b [u8]) -> &'b [u8] {
        let from = if self.choices > 1 { 0 } else { events.len().saturating_sub(ENDING_BYTES) };
        &events[from..]
    }

    fn see_usage(&mut self, event: Span, events: &[u8], found: &mut Found) {
        let said = Said::of(event.of(events));
        let (Some(usage), _) = usage::last_in(&said.data) else {
            return;
        };
        self.usage.merge(usage);
        if self.asks_usage && found.drop.is_none() && is_usage_only(&said.data) {
            found.drop = Some(event);
        }
    }

    fn see_response_end(&mut self, event: &[u8]) {
        match Said::of(event).name() {
            Some(b"response.completed" | b"response.incomplete") => self.ends_missing = 0,
            Some(b"response.failed") => (self.ends_missing, self.errored) = (0, true),
            _ => {}
        }
    }

    fn see_sequence(&mut self, events: &[u8]) {
        // The last event is enough: the numbers grow.
        let end = events.trim_ascii_end().len();
        let last = &events[sse::last_boundary(&events[..end])..];
        let Some(at) = WORDS.sequence.find(last) else {
            return;
        };
        let digits = last[at + WORDS.sequence.needle().len()..].trim_ascii_start();
        let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if let Some(number) = json::unsigned(&digits[..length]) {
            self.sequence = number.saturating_add(1);
        }
    }

    /// Whether output begins in this block. True once.
    ///
    /// Output is a delta that carries something: chat and completions, a non-empty string under one of the names that
    /// hold text, or a tool call; Responses and Messages, an event of the delta kinds. Role-only chunks, comments,
    /// pings and preambles do not count. The end of an answer does, so that none is without.
    fn see_first_token(&mut self, events: &[u8]) -> bool {
        if self.first_token_bytes == 0 {
            return false;
        }
        let words = &*WORDS;
        let begun = self.finished()
            || match self.api {
                Api::Responses => words.response_delta.find(events).is_some(),
                Api::Messages => words.message_delta.find(events).is_some(),
                _ => words.text.iter().any(|name| {
                    name.find_iter(events).any(|at| is_filled(&events[at + name.needle().len()..]))
                }),
            };
        self.first_token_bytes = match begun {
            true => 0,
            false => self.first_token_bytes.saturating_sub(events.len()),
        };
        self.first_token_bytes == 0
    }
}

/// The words that are searched for, prepared once per process.
struct Words {
    /// In every usage object of every dialect, and in hardly anything else.
    counts: Finder<'static>,
    /// A finish reason that is a string, as compact writers put it, and as those with a blank do.
    finish: Finder<'static>,
    finish_spaced: Finder<'static>,
    error: Finder<'static>,
    /// Responses: in no delta event.
    status: Finder<'static>,
    sequence: Finder<'static>,
    response_delta: Finder<'static>,
    message_stop: Finder<'static>,
    message_delta: Finder<'static>,
    /// Names of delta members that hold output.
    text: [Finder<'static>; 7],
}

static WORDS: LazyLock<Words> = LazyLock::new(|| Words {
    counts: Finder::new("_tokens\""),
    finish: Finder::new("finish_reason\":\""),
    finish_spaced: Finder::new("finish_reason\": \""),
    error: Finder::new("error"),
    status: Finder::new("\"status\""),
    sequence: Finder::new("\"sequence_number\":"),
    response_delta: Finder::new(".delta"),
    message_stop: Finder::new("message_stop"),
    message_delta: Finder::new("content_block_delta"),
    text: ["content", "text", "tool_calls", "reasoning_content", "reasoning", "function_call", "refusal"]
        .map(|name| Finder::new(&format!("\"{name}\"")).into_owned()),
});

/// Calls `see` for each event in which `word` is found.
fn each(events: &[u8], word: &Finder<'_>, mut see: impl FnMut(Span)) {
    let mut from = 0;
    while let Some(at) = word.find(&events[from..]) {
        let event = around(events, from + at);
        see(event);
        from = event.end;
    }
}

/// The event that the byte at `at` belongs to.
fn around(events: &[u8], at: usize) -> Span {
    let start = sse::last_boundary(&events[..at]);
    Span::new(start, sse::next_boundary(events, start).unwrap_or(events.len()))
}

/// Whether one of the events is an error. An event is read where the word is a JSON string (in generated text its
/// quotes are escaped) or the value of an `event` line, and once at most.
fn has_error(events: &[u8]) -> bool {
    let mut read_to = 0;
    WORDS.error.find_iter(events).any(|at| {
        let (before, after) = (&events[..at], &events[at + WORDS.error.needle().len()..]);
        let quoted = before.ends_with(b"\"") && after.starts_with(b"\"");
        let line = before.strip_suffix(b" ").unwrap_or(before).ends_with(b"event:");
        if at < read_to || !(quoted || line) {
            return false;
        }
        let event = around(events, at);
        read_to = event.end;
        Said::of(event.of(events)).is_error()
    })
}

/// One event, read.
struct Said<'a> {
    name: Option<&'a [u8]>,
    data: Cow<'a, [u8]>,
}

impl<'a> Said<'a> {
    fn of(event: &'a [u8]) -> Self {
        let lines = sse::event(event);
        let data = match (lines.data_lines, lines.data) {
            (1, Some(data)) => Cow::Borrowed(data),
            (0, _) => Cow::Borrowed(&[][..]),
            _ => {
                let mut data = Vec::new();
                sse::join_data(event, &mut data);
                Cow::Owned(data)
            }
        };
        Self { name: lines.name, data }
    }

    /// Its `event` line, or what its data says of its type.
    fn name(&self) -> Option<&[u8]> {
        self.name.or_else(|| {
            let value = member(&self.data, "type")?.value.of(&self.data);
            value.strip_prefix(b"\"")?.strip_suffix(b"\"")
        })
    }

    fn is_error(&self) -> bool {
        matches!(self.name(), Some(b"error" | b"response.failed"))
            || member(&self.data, "error").is_some_and(|error| error.kind != json::Kind::Null)
    }
}

fn member(object: &[u8], name: &str) -> Option<json::Member> {
    json::members(object).map_while(Result::ok).find(|member| json::key_is(member.key.of(object), name))
}

/// Whether a chunk exists for its usage only: a usage object, and no choices or an empty list of them. A chunk with
/// neither choices nor usage (the content filter's first one) is not.
fn is_usage_only(data: &[u8]) -> bool {
    let mut has_usage = false;
    for member in json::members(data).map_while(Result::ok) {
        let value = member.value.of(data);
        match member.key.of(data) {
            b"\"choices\"" => match value.strip_prefix(b"[").and_then(|list| list.strip_suffix(b"]")) {
                Some(list) if list.trim_ascii().is_empty() => {}
                _ => return false,
            },
            b"\"error\"" if member.kind != json::Kind::Null => return false,
            b"\"usage\"" => has_usage = member.kind == json::Kind::Object,
            _ => {}
        }
    }
    has_usage
}

/// Whether what follows a key is a string, list or object with something in it.
fn is_filled(after_key: &[u8]) -> bool {
    let Some(value) = after_key.trim_ascii_start().strip_prefix(b":") else {
        return false;
    };
    match value.trim_ascii_start() {
        [b'"', first, ..] => *first != b'"',
        [b'[', rest @ ..] => rest.trim_ascii_start().first().is_some_and(|&first| first != b']'),
        [b'{', rest @ ..] => rest.trim_ascii_start().first().is_some_and(|&first| first != b'}'),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
