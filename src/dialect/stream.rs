//! What a response that streams says about itself: usage, its end, errors, its first token.
//!
//! Fed with whole events, as many as there are, after the bytes are known to pass on. Nothing is parsed per event: one
//! vector search per block looks for words that stand in almost no event, and only an event in which one is found is
//! read. Inside JSON strings the quotes of those words are escaped, so generated text does not match.

mod choices;
mod counts;
pub mod form;
mod lines;
mod long;
mod records;
mod text;
mod words;

use std::borrow::Cow;

use self::choices::Choices;
pub use self::counts::Counts;
use self::form::{Heartbeat, StreamEnd, StreamForm};
use self::long::Long;
pub use self::records::Records;
pub use self::text::TextMeter;
use self::words::{WORDS, Word};

use memchr::memmem::Finder;

use super::usage::{self, Usage};
use super::{Api, number};
use crate::units::Span;
use crate::wire::records::RecordForm;
use crate::wire::{json, sse};

/// Follows one event stream of an endpoint.
///
/// Cost: `bench/dialect.rs`. Events are not counted: finding each boundary would cost as much as everything else.
pub struct Meter {
    form: &'static StreamForm,
    /// Usage was asked for by the gateway, not by the client.
    asks_usage: bool,
    /// The dialect's last event came (Responses, Messages).
    ended: bool,
    /// Chat and completions; of Messages the one that a stop reason finishes.
    choices: Choices,
    usage: Usage,
    done: bool,
    errored: bool,
    /// Bytes left to look for a first token in; 0 once it was found.
    first_token_bytes: usize,
    /// Responses only: the last `sequence_number` and one.
    sequence: u64,
    /// The event that passes in pieces because it is too long to be held.
    long: Option<Box<Long>>,
    /// The same of a line.
    line: Option<Box<Counts>>,
}

/// What a block of events holds that the relay has to act on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Signals {
    /// The event with the usage that the gateway asked for, with its blank line: not for the client. At most one per
    /// block; a backend that sends two is passed the second.
    pub drop: Option<Span>,
    /// Behind `[DONE]`, if it is in this block: whatever follows is dropped.
    pub end: Option<usize>,
    /// The first output is in this block.
    pub first_token: bool,
}

/// Appends a whole record that tells a client only that the gateway is there.
///
/// `sequence`: the next `sequence_number` of a Responses stream. It stays the next one: the backend's events pass as they
/// are, with their own numbers, which may not go down and by which a client may ask for the rest of its stream.
pub fn heartbeat(api: Api, sequence: u64, out: &mut Vec<u8>) {
    match api.stream().heartbeat {
        Heartbeat::Ping => out.extend_from_slice(b"event: ping\ndata: {\"type\": \"ping\"}\n\n"),
        Heartbeat::Keepalive => {
            out.extend_from_slice(b"event: keepalive\ndata: {\"type\":\"keepalive\",\"sequence_number\":");
            number(out, sequence);
            out.extend_from_slice(b"}\n\n");
        }
        Heartbeat::Comment => out.extend_from_slice(b": ping\n\n"),
        Heartbeat::None => {}
    }
}

/// Bytes after which output counts as begun, whatever the events look like. Bounds the dearer search for its first.
const FIRST_TOKEN_BYTES_MAX: usize = 64 * 1024;

impl Meter {
    /// The meter of a stream. `choices`: as many were asked for (`Peek::choices`). `asks_usage`: `Edits::asks_usage`.
    pub fn new(api: Api, choices: u64, asks_usage: bool) -> Self {
        Self {
            form: api.stream(),
            asks_usage,
            ended: false,
            choices: Choices::new(choices),
            usage: Usage::default(),
            done: false,
            errored: false,
            first_token_bytes: FIRST_TOKEN_BYTES_MAX,
            sequence: 0,
            long: None,
            line: None,
        }
    }

    /// Takes in whole events: `events` begins and ends at event boundaries.
    pub fn events(&mut self, events: &[u8]) -> Signals {
        match self.form.records {
            RecordForm::Sse => {}
            RecordForm::Ndjson => return self.lines(events),
            RecordForm::EventStream => return Signals::default(), // never passes as it is
        }
        let mut found = Signals::default();
        // Behind the event in which a word was last found: each is read once for it.
        let mut seen_to = [0; Word::COUNT];
        // From here on every event is read for its choices.
        let mut several_from = self.choices.are_several().then_some(0);
        for (word, span) in self.form.words.find_iter(events) {
            if span.start < seen_to[word as usize] || !self.is_worth_reading(word, events, span) {
                continue;
            }
            let event = around(events, span.start);
            seen_to[word as usize] = event.end;
            match word {
                Word::Count => self.see_usage(event, events, &mut found),
                Word::Error => self.errored |= Said::of(event.of(events)).is_error(),
                Word::Last => self.see_response_end(event.of(events)),
                Word::MessageStop => {
                    self.ended |= Said::of(event.of(events)).is_any_of(&[b"message_stop"]);
                }
                Word::Finish if self.form.end != StreamEnd::Choices => self.choices.mark(0, true),
                Word::Blocked if is_blocked(&Said::of(event.of(events)).data) => self.choices.mark(0, true),
                Word::Finish if several_from.is_none() && is_first_choice(event.of(events)) => {
                    self.choices.mark(0, true);
                }
                Word::Finish | Word::Index if several_from.is_none() => {
                    if !self.choices.read(&Said::of(event.of(events)).data) && word == Word::Finish {
                        self.choices.mark(0, true);
                    }
                    several_from = self.choices.are_several().then_some(event.end);
                }
                Word::Done if sse::is_done(event.of(events)) => {
                    self.done = true;
                    found.end = Some(event.end);
                    break;
                }
                Word::Done | Word::Finish | Word::Index | Word::Blocked | Word::Text => {}
            }
        }
        if let Some(from) = several_from {
            self.see_choices(&events[from..found.end.unwrap_or(events.len())]);
        }
        if self.form.is_numbered {
            self.see_sequence(events);
        }
        found.first_token = self.see_first_token(events);
        found
    }

    /// Takes in a piece of an event that is too long to be held: from its first byte on, up to the call that returns where
    /// it ends. What it says counts from its end on. In pieces no event is dropped.
    pub fn piece(&mut self, piece: &[u8]) -> Option<usize> {
        if self.form.records != RecordForm::Sse {
            return self.piece_of_line(piece);
        }
        let long = self.long.get_or_insert_with(|| Box::new(Long::new()));
        let end = long.feed(piece, &mut self.choices)?;
        self.end_piece();
        Some(end)
    }

    /// The body has ended: what has come of a long event is all of it.
    pub fn end_piece(&mut self) {
        if let Some(line) = self.line.take() {
            return self.see_line(&line);
        }
        let Some(long) = self.long.take() else { return };
        if let Some(usage) = long.usage() {
            self.usage.merge(usage);
        }
        self.errored |= long.has_error() || long.is_any_of(&[b"error", b"response.failed"]);
        match self.form.end {
            StreamEnd::Response => {
                self.ended |= long.is_any_of(&LAST) || long.is_any_of(&[b"response.failed"]);
                self.sequence = long.sequence().map_or(self.sequence, |number| number.saturating_add(1));
            }
            StreamEnd::Message => {
                self.ended |= long.is_any_of(&[b"message_stop"]);
                if long.has_stop_reason() {
                    self.choices.mark(0, true);
                }
            }
            StreamEnd::Candidates => {
                if long.has_stop_reason() {
                    self.choices.mark(0, true);
                }
            }
            StreamEnd::Choices | StreamEnd::Body | StreamEnd::Line => self.done |= long.is_done(),
        }
    }

    /// The counts reported last.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Whether the response came to a proper end: a finish reason for each choice, or the dialect's last event.
    pub fn finished(&self) -> bool {
        match self.form.end {
            StreamEnd::Choices => self.choices.all_finished(),
            StreamEnd::Candidates => self.choices.none_is_open(),
            StreamEnd::Message | StreamEnd::Response | StreamEnd::Line | StreamEnd::Body => self.ended,
        }
    }

    /// Whether a body that ends here, and properly, ends before its response does: a choice has begun and has no finish
    /// reason, or the dialect's last event has not come. `[DONE]` is an end where it belongs to the dialect, and an error
    /// is one of its own. Fewer choices than were asked for are the backend's fault.
    pub fn is_cut(&self) -> bool {
        let is_complete = match self.form.end {
            StreamEnd::Choices => self.done || self.choices.none_is_open(),
            StreamEnd::Message => self.ended || self.choices.none_is_open(),
            StreamEnd::Candidates => self.choices.none_is_open(),
            StreamEnd::Response | StreamEnd::Line => self.ended,
            StreamEnd::Body => true,
        };
        !is_complete && !self.errored
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

    fn see_usage(&mut self, event: Span, events: &[u8], found: &mut Signals) {
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
        let said = Said::of(event);
        if said.is_any_of(&LAST) {
            self.ended = true;
        } else if said.is_any_of(&[b"response.failed"]) {
            (self.ended, self.errored) = (true, true);
        }
    }

    /// Whether an event may say what its word stands for; only then it is read.
    fn is_worth_reading(&self, word: Word, events: &[u8], span: Span) -> bool {
        match word {
            Word::Error => may_be_error(events, span),
            Word::Finish if self.form.end == StreamEnd::Message => {
                ends_a_choice(events, span, b"\"stop_reaso")
            }
            Word::Finish if self.form.end == StreamEnd::Candidates => {
                ends_a_choice(events, span, b"\"finishReaso")
            }
            Word::Finish => ends_a_choice(events, span, b"\"finish_reaso"),
            Word::Index => events[..span.start].ends_with(b"\"inde"),
            _ => true,
        }
    }

    fn see_choices(&mut self, events: &[u8]) {
        let rest = &events[sse::last_boundary(events)..];
        for event in sse::events(events).map(|span| span.of(events)).chain([rest]) {
            self.choices.read(&Said::of(event).data);
        }
    }

    /// The numbers grow: that of the last event is enough, or of the last that has one.
    fn see_sequence(&mut self, mut events: &[u8]) {
        while !events.is_empty() {
            let end = events.trim_ascii_end().len();
            let (before, last) = events.split_at(sse::last_boundary(&events[..end]));
            if let Some(number) = sequence_number(last) {
                self.sequence = number.saturating_add(1);
                return;
            }
            events = before;
        }
    }

    /// Whether output begins in this block. True once.
    ///
    /// Output is a delta that carries something: chat and completions, a non-empty string under one of the names that
    /// hold text, or a tool call; Responses and Messages, an event of the delta kinds. Role-only chunks, comments,
    /// pings and preambles do not count. The end of a response does, so that none is without.
    fn see_first_token(&mut self, events: &[u8]) -> bool {
        if self.first_token_bytes == 0 {
            return false;
        }
        let words = &*WORDS;
        let at = match self.form.end {
            StreamEnd::Response => words.response_delta.find(events),
            StreamEnd::Message => words.message_delta.find(events),
            StreamEnd::Candidates => {
                first_text(events, &words.text).or_else(|| words.function_call.find(events))
            }
            StreamEnd::Choices | StreamEnd::Body => first_text(events, &words.text),
            StreamEnd::Line => first_text(events, &words.line_text),
        };
        if let Some(at) = at
            && self.form.end == StreamEnd::Choices
        {
            // Should another choice come, this one has begun.
            let event = around(events, at).of(events);
            match is_first_choice(event) {
                true => self.choices.mark(0, false),
                false => _ = self.choices.read(&Said::of(event).data),
            }
        }
        let begun = at.is_some() || self.finished();
        self.first_token_bytes = match begun {
            true => 0,
            false => self.first_token_bytes.saturating_sub(events.len()),
        };
        self.first_token_bytes == 0
    }
}

/// Where the first output of a stream is whose text stands under one of these names. Each name is searched for up to where another one was found:
/// a burst is not gone through once per name.
fn first_text(events: &[u8], names: &[Finder<'static>]) -> Option<usize> {
    let mut first = None;
    for name in names {
        let length = name.needle().len();
        let before = &events[..first.map_or(events.len(), |at: usize| (at + length).min(events.len()))];
        first = name.find_iter(before).find(|at| is_filled(&events[at + length..])).or(first);
    }
    first
}

/// Whether an event names no choice but the first; one that writes its index in any other way is read.
fn is_first_choice(event: &[u8]) -> bool {
    let name = &WORDS.index;
    name.find_iter(event).all(|at| matches!(event[at + name.needle().len()..], [b'0', b',' | b'}', ..]))
}

/// The last events of a Responses stream, but for the one that is an error.
const LAST: [&[u8]; 3] = [b"response.completed", b"response.incomplete", b"response.cancelled"];

/// Whether what is left when a body ends by a close is nothing, or a record that lacks its last line end only: one that is
/// cut makes the whole response a cut one, whatever it had said before.
pub fn is_whole_event(form: RecordForm, rest: &[u8]) -> bool {
    let is_silent = rest.trim_ascii().is_empty();
    match form {
        RecordForm::Sse => {
            let is_comment = || rest.starts_with(b":");
            is_silent || is_comment() || sse::is_done(rest) || json::is_object(&Said::of(rest).data)
        }
        RecordForm::Ndjson => is_silent || json::is_object(rest),
        RecordForm::EventStream => rest.is_empty(), // a message says how long it is
    }
}

/// Whether a record that lacks its last line end only is the one that ends a response of this API.
pub fn ends(api: Api, rest: &[u8]) -> bool {
    let mut meter = Meter::new(api, 1, false);
    meter.events(rest);
    (meter.finished() || meter.done()) && is_whole_event(api.stream().records(), rest)
}

/// The event that the byte at `at` belongs to, which is no part of a line's end.
fn around(events: &[u8], at: usize) -> Span {
    // With the byte itself: a CR right before it is not half of a CRLF.
    let start = sse::last_boundary(&events[..=at]);
    Span::new(start, sse::next_boundary(events, start).unwrap_or(events.len()))
}

fn sequence_number(event: &[u8]) -> Option<u64> {
    let digits = event[WORDS.sequence.find(event)? + WORDS.sequence.needle().len()..].trim_ascii_start();
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    json::unsigned(&digits[..length])
}

/// Whether a key's end belongs to this key, and the value behind it is a finish reason. An empty reason, which some backends
/// send on every chunk, ends nothing.
fn ends_a_choice(events: &[u8], span: Span, key: &[u8]) -> bool {
    let begun = events[..span.start].strip_suffix(key);
    let value = after_blanks(&events[span.start + "n\"".len()..]).strip_prefix(b":").map(after_blanks);
    // A quote behind a backslash opens nothing: it is a part of some other key's name.
    begun.is_some_and(|before| !before.ends_with(b"\\"))
        && value.is_some_and(|value| value.starts_with(b"\"") && choices::is_reason(value))
}

/// Whether the word is a JSON string (in generated text its quotes are escaped) or the value of an `event` line: only
/// then its event is worth reading.
fn may_be_error(events: &[u8], span: Span) -> bool {
    let (before, after) = (&events[..span.start], &events[span.end..]);
    let quoted = before.ends_with(b"\"") && after.starts_with(b"\"");
    quoted || before.strip_suffix(b" ").unwrap_or(before).ends_with(b"event:")
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

    /// Whether its `event` line, or what its data says of its type, is one of these.
    fn is_any_of(&self, names: &[&[u8]]) -> bool {
        let is_type = || {
            let value = member(&self.data, "type")?.value.of(&self.data);
            Some(names.contains(&value.strip_prefix(b"\"")?.strip_suffix(b"\"")?))
        };
        self.name.is_some_and(|name| names.contains(&name)) || is_type() == Some(true)
    }

    fn is_error(&self) -> bool {
        self.is_any_of(&[b"error", b"response.failed"])
            || member(&self.data, "error").is_some_and(|error| error.kind != json::ValueKind::Null)
    }
}

fn member(object: &[u8], name: &str) -> Option<json::Member> {
    json::members(object).map_while(Result::ok).find(|member| json::key_is(member.key.of(object), name))
}

/// Whether the prompt was blocked, so that there are no candidates.
fn is_blocked(data: &[u8]) -> bool {
    let Some(feedback) = member(data, "promptFeedback") else { return false };
    member(feedback.value.of(data), "blockReason")
        .is_some_and(|reason| reason.kind == json::ValueKind::String)
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
            b"\"error\"" if member.kind != json::ValueKind::Null => return false,
            b"\"usage\"" => has_usage = member.kind == json::ValueKind::Object,
            _ => {}
        }
    }
    has_usage
}

/// Whether what follows a key is a string, list or object with something in it. Only its own line counts: behind that
/// may be another event.
fn is_filled(after_key: &[u8]) -> bool {
    let Some(value) = after_blanks(after_key).strip_prefix(b":") else {
        return false;
    };
    match after_blanks(value) {
        [b'"', first, ..] => *first != b'"',
        [b'[', rest @ ..] => after_blanks(rest).first().is_some_and(|&first| first != b']'),
        [b'{', rest @ ..] => after_blanks(rest).first().is_some_and(|&first| first != b'}'),
        _ => false,
    }
}

fn after_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &line[blanks..]
}

#[cfg(test)]
mod tests;
