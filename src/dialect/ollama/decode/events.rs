//! A backend's stream of lines.

use super::fault;
use crate::dialect::neutral::{Context, Event, FaultRecord, FinishReason, Json, PartKind, Text, unreadable};
use crate::dialect::usage::Usage;
use crate::wire::json::{self, ValueKind};

/// Decoder of one stream. Calls of tools come whole, so none is open across two lines.
#[derive(Clone, Debug)]
pub struct Events {
    request_id: String,
    started: bool,
    /// The part that is open.
    open: Option<(usize, Plain)>,
    /// Parts opened so far.
    parts: usize,
    has_calls: bool,
    /// `done` has come, or an error.
    is_over: bool,
    is_whole: bool,
    /// Arguments of a call as the inside of a JSON string, kept for its capacity.
    arguments: Vec<u8>,
    /// The id of a call that came without one, kept for its capacity.
    id: Vec<u8>,
}

/// Parts that follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Plain {
    Text,
    Thinking,
}

/// The members of a line that count; those of `message` as if they stood in the line itself.
#[derive(Default)]
struct Line<'a> {
    model: Text<'a>,
    is_response: bool,
    text: Option<Text<'a>>,
    thinking: Option<Text<'a>>,
    calls: Option<Json<'a>>,
    is_done: bool,
    reason: Option<Text<'a>>,
    error: Option<Json<'a>>,
}

impl Events {
    /// The decoder of a stream that begins.
    pub fn new(context: &Context) -> Self {
        Self {
            request_id: context.request_id.clone(),
            started: false,
            open: None,
            parts: 0,
            has_calls: false,
            is_over: false,
            is_whole: false,
            arguments: Vec::new(),
            id: Vec::new(),
        }
    }

    /// Takes one line. What is not JSON is a failure.
    pub fn record(&mut self, _: Option<&[u8]>, data: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        if self.is_over {
            return;
        }
        let Some(line) = Line::read(data) else {
            return unreadable(None, data).into_iter().for_each(|record| self.fail(record, sink));
        };
        if let Some(error) = line.error {
            return self.fail(fault::record(error), sink);
        }
        if !self.started && (line.is_response || line.is_done) {
            self.started = true;
            sink(Event::Start { id: Text::default(), model: line.model });
        }
        for (text, kind) in [(line.thinking, Plain::Thinking), (line.text, Plain::Text)] {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                let part = self.plain(kind, sink);
                sink(Event::Delta { part, text });
            }
        }
        let calls = line.calls.unwrap_or(b"[]");
        for (span, kind) in json::elements(calls).map_while(Result::ok) {
            if kind == ValueKind::Object && !self.is_over {
                self.call(span.of(calls), sink);
            }
        }
        if line.is_done && !self.is_over {
            self.finish(data, line.reason.unwrap_or_default(), sink);
        }
    }

    /// The body ended. Only a line with `done` is the sign of an end.
    pub fn end(&mut self, _: &mut dyn FnMut(Event<'_>)) {}

    /// Whether the response may end here.
    pub fn is_finished(&self) -> bool {
        self.is_whole
    }

    /// Whether the response came to its proper end.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    fn fail(&mut self, record: FaultRecord<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        self.is_over = true;
        sink(Event::Fault(record));
    }

    fn finish(&mut self, data: &[u8], reason: Text<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        self.close(sink);
        let reason = match reason.inside() {
            b"length" => FinishReason::Length,
            _ if self.has_calls => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        };
        sink(Event::Finish { reason, stop_sequence: None });
        if let Ok(Some(usage)) = Usage::read(data) {
            sink(Event::Usage(usage));
        }
        (self.is_over, self.is_whole) = (true, true);
        sink(Event::End);
    }

    /// The number of the open part of this kind; another one is closed, and this one opened.
    fn plain(&mut self, kind: Plain, sink: &mut dyn FnMut(Event<'_>)) -> usize {
        if let Some((part, open)) = self.open {
            if open == kind {
                return part;
            }
            self.close(sink);
        }
        let part = self.next_part();
        self.open = Some((part, kind));
        let kind = match kind {
            Plain::Text => PartKind::Text,
            Plain::Thinking => PartKind::Thinking,
        };
        sink(Event::Open { part, kind });
        part
    }

    /// A call, which is whole: its arguments are an object, or as some servers have it a string.
    fn call(&mut self, call: Json<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let call = Call::read(call);
        if call.name.is_empty() {
            let message = Text::escaped(b"the backend sent a tool call without a name");
            return self.fail(FaultRecord { message, ..FaultRecord::default() }, sink);
        }
        self.close(sink);
        self.has_calls = true;
        let part = self.next_part();
        self.id.clear();
        match call.id.is_empty() {
            true => {
                self.id.extend_from_slice(b"call_");
                self.id.extend_from_slice(self.request_id.as_bytes());
                crate::dialect::number(&mut self.id, part as u64);
            }
            false => self.id.extend_from_slice(call.id.inside()),
        }
        let id = Text::escaped(&self.id);
        sink(Event::Open { part, kind: PartKind::ToolCall { id, name: call.name, is_custom: false } });
        self.arguments.clear();
        match call.arguments {
            None | Some(b"null") => {}
            Some(value) => match Text::of(value) {
                Some(text) => self.arguments.extend_from_slice(text.inside()),
                None => json::escape_bytes(&mut self.arguments, value),
            },
        }
        if !self.arguments.is_empty() {
            sink(Event::Delta { part, text: Text::escaped(&self.arguments) });
        }
        sink(Event::Close { part });
    }

    fn next_part(&mut self) -> usize {
        self.parts += 1;
        self.parts - 1
    }

    fn close(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if let Some((part, _)) = self.open.take() {
            sink(Event::Close { part });
        }
    }
}

impl<'a> Line<'a> {
    /// `None` for what is no object.
    fn read(data: &'a [u8]) -> Option<Self> {
        let mut line = Self::default();
        for member in json::members(data) {
            let member = member.ok()?;
            let value = member.value.of(data);
            match member.key.of(data) {
                b"\"model\"" => line.model = Text::of(value).unwrap_or_default(),
                b"\"message\"" if member.kind == ValueKind::Object => {
                    line.is_response = true;
                    line.message(value);
                }
                b"\"response\"" if member.kind == ValueKind::String => {
                    line.is_response = true;
                    line.text = Text::of(value);
                }
                b"\"thinking\"" => line.thinking = Text::of(value),
                b"\"tool_calls\"" if member.kind == ValueKind::Array => line.calls = Some(value),
                b"\"done\"" => line.is_done = member.kind == ValueKind::True,
                b"\"done_reason\"" => line.reason = Text::of(value),
                b"\"error\"" if member.kind != ValueKind::Null => line.error = Some(value),
                _ => {}
            }
        }
        Some(line)
    }

    fn message(&mut self, message: Json<'a>) {
        for member in json::members(message).map_while(Result::ok) {
            let value = member.value.of(message);
            match member.key.of(message) {
                b"\"content\"" => self.text = Text::of(value),
                b"\"thinking\"" => self.thinking = Text::of(value),
                b"\"tool_calls\"" if member.kind == ValueKind::Array => self.calls = Some(value),
                _ => {}
            }
        }
    }
}

/// What one call says.
#[derive(Default)]
struct Call<'a> {
    id: Text<'a>,
    name: Text<'a>,
    arguments: Option<Json<'a>>,
}

impl<'a> Call<'a> {
    fn read(call: Json<'a>) -> Self {
        let mut read = Self::default();
        for member in json::members(call).map_while(Result::ok) {
            let value = member.value.of(call);
            match member.key.of(call) {
                b"\"id\"" => read.id = Text::of(value).unwrap_or_default(),
                b"\"function\"" if member.kind == ValueKind::Object => {
                    for member in json::members(value).map_while(Result::ok) {
                        match member.key.of(value) {
                            b"\"name\"" => read.name = Text::of(member.value.of(value)).unwrap_or_default(),
                            b"\"arguments\"" => read.arguments = Some(member.value.of(value)),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        read
    }
}
