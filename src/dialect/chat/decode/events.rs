//! A backend's stream of chunks.

use crate::dialect::neutral::{Context, Event, FaultRecord, FinishReason, Json, PartKind, Text, unreadable};
use crate::dialect::usage::Usage;
use crate::wire::json::{self, ValueKind};

/// Decoder of one stream. Only the choice of index 0 counts: a translated request asks for one.
///
/// Invariant: at most one of text, refusal and thinking is open at a time; calls may be open beside each other. What
/// cannot be told yet is held: the arguments of a call whose name has not come.
#[derive(Clone, Debug)]
pub struct Events {
    request_id: String,
    started: bool,
    /// The part that is open and no call.
    open: Option<(usize, Plain)>,
    /// Parts opened so far.
    parts: usize,
    calls: Vec<Call>,
    finished: bool,
    ended: bool,
    held_bytes_max: usize,
}

/// Parts that follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Plain {
    Text,
    Refusal,
    Thinking,
}

/// One call of a tool.
#[derive(Clone, Debug)]
struct Call {
    /// By which the backend names it.
    index: u64,
    id: Vec<u8>,
    name: Vec<u8>,
    is_custom: bool,
    /// Arguments that came before the name.
    held: Vec<u8>,
    /// Its number among the parts, once it is open.
    part: Option<usize>,
}

/// Most calls in one response. Chosen, not measured: far above what models do.
const CALLS_MAX: usize = 1024;

/// The members of a chunk that count.
#[derive(Default)]
struct Chunk<'a> {
    id: Text<'a>,
    model: Text<'a>,
    choices: Option<Json<'a>>,
    usage: Option<Json<'a>>,
    error: Option<Json<'a>>,
}

/// The members of a choice's delta that count.
#[derive(Default)]
struct Delta<'a> {
    thinking: Option<Text<'a>>,
    text: Option<Text<'a>>,
    refusal: Option<Text<'a>>,
    calls: Option<Json<'a>>,
}

impl Events {
    /// The decoder of a stream that begins.
    pub fn new(context: &Context) -> Self {
        Self {
            request_id: context.request_id.clone(),
            started: false,
            open: None,
            parts: 0,
            calls: Vec::new(),
            finished: false,
            ended: false,
            held_bytes_max: context.held_bytes_max,
        }
    }

    /// Takes one record: its event name, and its data with the lines joined. What is not JSON is a failure.
    pub fn record(&mut self, name: Option<&[u8]>, data: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        if self.ended {
            return;
        }
        if data.trim_ascii() == b"[DONE]" {
            return self.end(sink);
        }
        let Some(chunk) = Chunk::read(data) else {
            return unreadable(name, data).into_iter().for_each(|record| self.fail(sink, record));
        };
        if let Some(error) = chunk.error {
            return self.fail(sink, super::fault::record(error));
        }
        if name == Some(b"error") {
            return self.fail(sink, super::fault::record(data));
        }
        let choice = chunk.choices.and_then(first_choice);
        let usage = chunk.usage.and_then(|usage| Usage::read(usage).ok().flatten());
        if !self.started && (choice.is_some() || usage.is_some()) {
            self.started = true;
            sink(Event::Start { id: chunk.id, model: chunk.model });
        }
        if let Some(choice) = choice.filter(|_| !self.finished) {
            self.choice(choice, sink);
        }
        if let Some(usage) = usage {
            sink(Event::Usage(usage));
        }
    }

    /// The body ended. A finish reason is the sign of an end; `[DONE]` may be missing.
    pub fn end(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if self.finished && !self.ended {
            self.ended = true;
            sink(Event::End);
        }
    }

    /// Whether the finish reason has come.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the response came to its proper end.
    pub fn is_whole(&self) -> bool {
        self.ended
    }

    fn fail(&mut self, sink: &mut dyn FnMut(Event<'_>), record: FaultRecord<'_>) {
        self.ended = true;
        sink(Event::Fault(record));
    }

    /// Everything a choice says, in the order thought, text, calls, end: all of it may share a chunk.
    fn choice(&mut self, choice: Json<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let (mut delta, mut finish, mut stop) = (None, None, None);
        for member in json::members(choice).map_while(Result::ok) {
            let value = member.value.of(choice);
            match member.key.of(choice) {
                b"\"delta\"" | b"\"message\"" if member.kind == ValueKind::Object => delta = Some(value),
                b"\"finish_reason\"" => finish = Text::of(value).filter(|reason| !reason.is_empty()),
                b"\"stop_reason\"" => stop = Text::of(value), // vLLM: the sequence that was hit
                _ => {}
            }
        }
        if let Some(delta) = delta {
            self.delta(&Delta::read(delta), sink);
        }
        if let Some(reason) = finish.filter(|_| !self.ended) {
            self.close_all(sink);
            self.finished = true;
            sink(Event::Finish { reason: finish_reason(&reason), stop_sequence: stop });
        }
    }

    fn delta(&mut self, delta: &Delta<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        for (text, kind) in
            [(&delta.thinking, Plain::Thinking), (&delta.text, Plain::Text), (&delta.refusal, Plain::Refusal)]
        {
            if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
                let part = self.plain(kind, sink);
                sink(Event::Delta { part, text: text.clone() });
            }
        }
        let Some(calls) = delta.calls else { return };
        for (position, element) in json::elements(calls).map_while(Result::ok).enumerate() {
            let call = element.0.of(calls);
            if element.1 == ValueKind::Object && !self.ended {
                self.call(call, position as u64, sink);
            }
        }
    }

    /// The number of the open part of this kind; another one is closed, and this one opened.
    fn plain(&mut self, kind: Plain, sink: &mut dyn FnMut(Event<'_>)) -> usize {
        match self.open {
            Some((part, open)) if open == kind => return part,
            Some(_) => self.close_plain(sink),
            None => self.close_calls(sink),
        }
        let part = self.next_part();
        self.open = Some((part, kind));
        let kind = match kind {
            Plain::Text => PartKind::Text,
            Plain::Refusal => PartKind::Refusal,
            Plain::Thinking => PartKind::Thinking,
        };
        sink(Event::Open { part, kind });
        part
    }

    /// A piece of a call. An index that is missing is its place in the list.
    fn call(&mut self, piece: Json<'_>, position: u64, sink: &mut dyn FnMut(Event<'_>)) {
        let piece = CallPiece::read(piece, position);
        let known = self.calls.iter().position(|call| call.index == piece.index);
        let at = match known {
            Some(at) if !self.is_another(at, &piece) => at,
            _ if self.calls.len() == CALLS_MAX => return,
            _ => {
                // A number that is used again for another call: the earlier one is over.
                if let Some(at) = known {
                    self.close_call(at, sink);
                    self.calls[at].index = u64::MAX;
                }
                self.calls.push(Call {
                    index: piece.index,
                    id: Vec::new(),
                    name: Vec::new(),
                    is_custom: piece.is_custom,
                    held: Vec::new(),
                    part: None,
                });
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[at];
        // An id or a name that repeats is the same call.
        if call.id.is_empty() {
            call.id.extend_from_slice(piece.id.inside());
        }
        if call.name.is_empty() {
            call.name.extend_from_slice(piece.name.inside());
        }
        if call.part.is_none() && !call.name.is_empty() {
            self.open_call(at, sink);
        }
        let call = &mut self.calls[at];
        match call.part {
            Some(part) if !piece.arguments.is_empty() => sink(Event::Delta { part, text: piece.arguments }),
            Some(_) => {}
            None if call.held.len() + piece.arguments.inside().len() > self.held_bytes_max => {
                let message = Text::escaped(b"the backend sent a tool call without a name");
                self.fail(sink, FaultRecord { message, ..FaultRecord::default() });
            }
            None => call.held.extend_from_slice(piece.arguments.inside()),
        }
    }

    /// Whether a piece with a known number begins another call: some servers give all calls the number 0.
    fn is_another(&self, at: usize, piece: &CallPiece<'_>) -> bool {
        let call = &self.calls[at];
        !piece.id.is_empty() && !call.id.is_empty() && piece.id.inside() != call.id
    }

    fn open_call(&mut self, at: usize, sink: &mut dyn FnMut(Event<'_>)) {
        self.close_plain(sink);
        let part = self.next_part();
        if self.calls[at].id.is_empty() {
            let id = format!("call_{}{part}", self.request_id);
            self.calls[at].id = id.into_bytes();
        }
        let call = &mut self.calls[at];
        call.part = Some(part);
        let (id, name) = (Text::escaped(&call.id), Text::escaped(&call.name));
        sink(Event::Open { part, kind: PartKind::ToolCall { id, name, is_custom: call.is_custom } });
        if !call.held.is_empty() {
            sink(Event::Delta { part, text: Text::escaped(&call.held) });
            call.held.clear();
        }
    }

    fn next_part(&mut self) -> usize {
        self.parts += 1;
        self.parts - 1
    }

    fn close_plain(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if let Some((part, _)) = self.open.take() {
            sink(Event::Close { part });
        }
    }

    /// Closes a call: it is kept without a number, so that its id is known.
    fn close_call(&mut self, at: usize, sink: &mut dyn FnMut(Event<'_>)) {
        if let Some(part) = self.calls[at].part.take() {
            sink(Event::Close { part });
        }
    }

    fn close_calls(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        for at in 0..self.calls.len() {
            self.close_call(at, sink);
        }
        self.calls.clear();
    }

    fn close_all(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        self.close_plain(sink);
        self.close_calls(sink);
    }
}

impl<'a> Chunk<'a> {
    /// `None` for what is no object.
    fn read(data: &'a [u8]) -> Option<Self> {
        let mut chunk = Self::default();
        for member in json::members(data) {
            let member = member.ok()?;
            let value = Some(member.value.of(data)).filter(|_| member.kind != ValueKind::Null);
            match member.key.of(data) {
                b"\"id\"" => chunk.id = value.and_then(Text::of).unwrap_or_default(),
                b"\"model\"" => chunk.model = value.and_then(Text::of).unwrap_or_default(),
                b"\"choices\"" => chunk.choices = value,
                b"\"usage\"" => chunk.usage = value,
                b"\"error\"" => chunk.error = value,
                _ => {}
            }
        }
        Some(chunk)
    }
}

impl<'a> Delta<'a> {
    fn read(delta: Json<'a>) -> Self {
        let mut read = Self::default();
        for member in json::members(delta).map_while(Result::ok) {
            let value = member.value.of(delta);
            match member.key.of(delta) {
                b"\"reasoning_content\"" | b"\"reasoning\"" => {
                    // Some servers send both, one of them empty, or both with the same words.
                    read.thinking = read.thinking.filter(|text| !text.is_empty()).or_else(|| Text::of(value));
                }
                b"\"content\"" => read.text = Text::of(value),
                b"\"refusal\"" => read.refusal = Text::of(value),
                b"\"tool_calls\"" if member.kind == ValueKind::Array => read.calls = Some(value),
                _ => {}
            }
        }
        read
    }
}

/// What one piece of a call says.
struct CallPiece<'a> {
    index: u64,
    id: Text<'a>,
    name: Text<'a>,
    arguments: Text<'a>,
    is_custom: bool,
}

impl<'a> CallPiece<'a> {
    fn read(piece: Json<'a>, position: u64) -> Self {
        let mut read = Self {
            index: position,
            id: Text::default(),
            name: Text::default(),
            arguments: Text::default(),
            is_custom: false,
        };
        for member in json::members(piece).map_while(Result::ok) {
            let value = member.value.of(piece);
            match member.key.of(piece) {
                b"\"index\"" => read.index = json::unsigned(value).unwrap_or(position),
                b"\"id\"" => read.id = Text::of(value).unwrap_or_default(),
                b"\"function\"" if member.kind == ValueKind::Object => read.function(value),
                b"\"custom\"" if member.kind == ValueKind::Object => {
                    read.is_custom = true;
                    read.function(value);
                }
                _ => {}
            }
        }
        read
    }

    fn function(&mut self, function: Json<'a>) {
        for member in json::members(function).map_while(Result::ok) {
            let value = member.value.of(function);
            match member.key.of(function) {
                b"\"name\"" => self.name = Text::of(value).unwrap_or_default(),
                b"\"arguments\"" | b"\"input\"" => {
                    self.arguments = Text::of(value).unwrap_or_else(|| match member.kind {
                        ValueKind::Object => value_as_text(value),
                        _ => Text::default(),
                    });
                }
                _ => {}
            }
        }
    }
}

/// Arguments that a server wrote as an object although the API wants a string.
fn value_as_text(value: Json<'_>) -> Text<'static> {
    let mut inside = Vec::with_capacity(value.len() + value.len() / 4);
    json::escape_bytes(&mut inside, value);
    Text::owned(inside)
}

/// The choice of index 0, which is also one without an index.
fn first_choice(choices: Json<'_>) -> Option<Json<'_>> {
    let objects =
        json::elements(choices).map_while(Result::ok).filter(|(_, kind)| *kind == ValueKind::Object);
    let mut objects = objects.map(|(span, _)| span.of(choices));
    objects.find(|choice| {
        let index =
            json::members(choice).map_while(Result::ok).find(|member| member.key.of(choice) == b"\"index\"");
        index.is_none_or(|index| index.value.of(choice) == b"0")
    })
}

/// The reason in the neutral form; an unknown one is an ordinary stop.
pub(super) fn finish_reason(reason: &Text<'_>) -> FinishReason {
    match reason.inside() {
        b"length" | b"max_tokens" | b"model_length" => FinishReason::Length,
        b"tool_calls" | b"function_call" | b"tool_use" => FinishReason::ToolCalls,
        b"content_filter" | b"refusal" => FinishReason::ContentFilter,
        _ => FinishReason::Stop,
    }
}
