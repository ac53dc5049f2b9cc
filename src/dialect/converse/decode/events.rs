//! A backend's stream of messages.

use super::{fault, finish_reason, status_of};
use crate::dialect::converse::OUTPUT_TOOL;
use crate::dialect::neutral::{Context, Event, FaultRecord, Json, Object, PartKind, Text, unreadable};
use crate::dialect::usage::Usage;
use crate::wire::event_stream::BROKEN;
use crate::wire::json::{self, ValueKind};

/// Decoder of one stream. Blocks follow each other; a block of text has no start of its own.
#[derive(Clone, Debug)]
pub struct Events {
    request_id: String,
    started: bool,
    /// The part that is open: its number, the index of its block, and what it is.
    open: Option<(usize, u64, Kind)>,
    /// Parts opened so far.
    parts: usize,
    has_calls: bool,
    /// The reason for the stop has come; usage may follow.
    is_finished: bool,
    /// The end was told, or a failure.
    is_over: bool,
    is_whole: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Text,
    Thinking,
    Call,
    /// The call that is the output: its arguments are text.
    Output,
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
            is_finished: false,
            is_over: false,
            is_whole: false,
        }
    }

    /// Takes one message: its type, and its payload. What is not known has no effect.
    pub fn record(&mut self, name: Option<&[u8]>, data: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        if self.is_over {
            return;
        }
        let name = name.unwrap_or_default();
        match name {
            b"messageStart" => self.start(sink),
            b"contentBlockStart" => self.block_start(data, sink),
            b"contentBlockDelta" => self.block_delta(data, sink),
            b"contentBlockStop" => self.close(sink),
            b"messageStop" => {
                let reason = member(data, b"\"stopReason\"").and_then(|(value, _)| Text::of(value));
                if reason.is_none() {
                    self.lacks(data, sink);
                }
                if !self.is_over {
                    self.stop(&reason.unwrap_or_default(), sink);
                }
            }
            b"metadata" => {
                if let Some((usage, _)) = member(data, b"\"usage\"") {
                    self.usage(usage, sink);
                }
                self.end(sink);
            }
            BROKEN => {
                let message = Text::plain(&String::from_utf8_lossy(data));
                self.fail(FaultRecord { message, status: Some(502), ..FaultRecord::default() }, sink);
            }
            _ if name.ends_with(b"xception") || name.ends_with(b"rror") => self.failed(name, data, sink),
            _ => {}
        }
    }

    /// A message lacks what it is about: it says nothing, or cannot be read.
    fn lacks(&mut self, data: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        if !json::is_object(data) {
            unreadable(None, data).into_iter().for_each(|record| self.fail(record, sink));
        }
    }

    /// Takes a message that says of itself that it is a failure: its name or code, and its payload or words.
    pub fn failed(&mut self, name: &[u8], data: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        if self.is_over {
            return;
        }
        let kind = std::str::from_utf8(name).ok().map(Text::plain);
        let told = fault::record(data);
        let message = match told.message.is_empty() {
            true => Text::plain(&String::from_utf8_lossy(data)),
            false => told.message,
        };
        let status = status_of(name);
        self.fail(FaultRecord { message, kind, status, ..FaultRecord::default() }, sink);
    }

    /// The body ended. Usage may be missing; the reason for the stop may not.
    pub fn end(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if self.is_finished && !self.is_over {
            (self.is_over, self.is_whole) = (true, true);
            sink(Event::End);
        }
    }

    /// Whether the reason for the stop has come.
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Whether the response came to its proper end.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether nothing more counts: the end was told, or a failure.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    fn fail(&mut self, record: FaultRecord<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        self.is_over = true;
        sink(Event::Fault(record));
    }

    pub(super) fn start(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if !self.started {
            self.started = true;
            sink(Event::Start { id: Text::default(), model: Text::default() });
        }
    }

    pub(super) fn stop(&mut self, reason: &Text<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if self.is_finished {
            return;
        }
        self.start(sink);
        self.close(sink);
        self.is_finished = true;
        sink(Event::Finish { reason: finish_reason(reason, self.has_calls), stop_sequence: None });
    }

    pub(super) fn usage(&mut self, usage: Json<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if let Ok(Some(usage)) = Usage::read(usage) {
            sink(Event::Usage(usage));
        }
    }

    /// A block of a whole response.
    pub(super) fn block(&mut self, block: &Object<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let index = self.parts as u64;
        if let Some(text) = block.text("text") {
            self.piece(index, Kind::Text, &text, sink);
        }
        if let Ok(Some(call)) = block.object("toolUse") {
            let (id, name) =
                (call.text("toolUseId").unwrap_or_default(), call.text("name").unwrap_or_default());
            self.call(index, &id, &name, sink);
            let mut arguments = Vec::new();
            json::escape_bytes(&mut arguments, call.get("input").unwrap_or(b"{}"));
            self.piece(index, Kind::Call, &Text::escaped(&arguments), sink);
        }
        if let Ok(Some(thought)) = block.object("reasoningContent") {
            if let Some(data) = thought.text("redactedContent") {
                self.redacted(&data, sink);
            }
            if let Ok(Some(thought)) = thought.object("reasoningText") {
                self.piece(index, Kind::Thinking, &thought.text("text").unwrap_or_default(), sink);
                if let Some(seal) = thought.text("signature") {
                    self.seal(index, &seal, sink);
                }
            }
        }
        self.close(sink);
    }

    fn block_start(&mut self, data: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        self.start(sink);
        let Some((start, ValueKind::Object)) = member(data, b"\"start\"") else {
            return self.lacks(data, sink);
        };
        let Some((call, ValueKind::Object)) = member(start, b"\"toolUse\"") else { return };
        let text =
            |name: &[u8]| member(call, name).and_then(|(value, _)| Text::of(value)).unwrap_or_default();
        self.call(index(data), &text(b"\"toolUseId\""), &text(b"\"name\""), sink);
    }

    fn block_delta(&mut self, data: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        self.start(sink);
        let Some((delta, ValueKind::Object)) = member(data, b"\"delta\"") else {
            return self.lacks(data, sink);
        };
        let index = index(data);
        for found in json::members(delta).map_while(Result::ok) {
            let value = found.value.of(delta);
            match (found.key.of(delta), found.kind) {
                (b"\"text\"", ValueKind::String) => {
                    self.piece(index, Kind::Text, &Text::of(value).unwrap_or_default(), sink);
                }
                (b"\"toolUse\"", ValueKind::Object) => {
                    let input = member(value, b"\"input\"").and_then(|(input, _)| Text::of(input));
                    self.piece(index, Kind::Call, &input.unwrap_or_default(), sink);
                }
                (b"\"reasoningContent\"", ValueKind::Object) => self.thought(index, value, sink),
                _ => {}
            }
        }
    }

    fn thought(&mut self, index: u64, thought: Json<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        for found in json::members(thought).map_while(Result::ok) {
            let Some(text) = Text::of(found.value.of(thought)) else { continue };
            match found.key.of(thought) {
                b"\"text\"" => self.piece(index, Kind::Thinking, &text, sink),
                b"\"signature\"" => self.seal(index, &text, sink),
                b"\"redactedContent\"" => self.redacted(&text, sink),
                _ => {}
            }
        }
    }

    /// More of a block; one that has no start is opened. Arguments without their call have no effect.
    fn piece(&mut self, index: u64, kind: Kind, text: &Text<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if text.is_empty() || self.is_finished {
            return;
        }
        let part = match self.open {
            Some((part, open, own)) if open == index && is_of(own, kind) => part,
            _ if kind == Kind::Call => return,
            _ => self.open(index, kind, sink),
        };
        sink(Event::Delta { part, text: text.clone() });
    }

    /// The seal over a thought, which may have no text that is shown.
    fn seal(&mut self, index: u64, seal: &Text<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if seal.is_empty() || self.is_finished {
            return;
        }
        let part = match self.open {
            Some((part, open, Kind::Thinking)) if open == index => part,
            _ => self.open(index, Kind::Thinking, sink),
        };
        sink(Event::Signature { part, text: seal.clone() });
    }

    fn redacted(&mut self, data: &Text<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        self.close(sink);
        let part = self.next_part();
        sink(Event::Open { part, kind: PartKind::Redacted(data.clone()) });
        sink(Event::Close { part });
    }

    fn call(&mut self, index: u64, id: &Text<'_>, name: &Text<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if self.is_finished {
            return;
        }
        if name.is_empty() {
            let message = Text::escaped(b"the backend sent a tool call without a name");
            return self.fail(FaultRecord { message, ..FaultRecord::default() }, sink);
        }
        if name.is(OUTPUT_TOOL) {
            self.open(index, Kind::Output, sink);
            return;
        }
        self.close(sink);
        self.has_calls = true;
        let part = self.next_part();
        self.open = Some((part, index, Kind::Call));
        let made;
        let id = match id.is_empty() {
            true => {
                made = format!("call_{}{part}", self.request_id);
                Text::escaped(made.as_bytes())
            }
            false => id.clone(),
        };
        sink(Event::Open { part, kind: PartKind::ToolCall { id, name: name.clone(), is_custom: false } });
    }

    fn open(&mut self, index: u64, kind: Kind, sink: &mut dyn FnMut(Event<'_>)) -> usize {
        self.close(sink);
        let part = self.next_part();
        self.open = Some((part, index, kind));
        let kind = if kind == Kind::Thinking { PartKind::Thinking } else { PartKind::Text };
        sink(Event::Open { part, kind });
        part
    }

    fn next_part(&mut self) -> usize {
        self.parts += 1;
        self.parts - 1
    }

    fn close(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if let Some((part, ..)) = self.open.take() {
            sink(Event::Close { part });
        }
    }
}

/// Whether a piece of this kind goes on with an open part.
fn is_of(open: Kind, piece: Kind) -> bool {
    open == piece || open == Kind::Output && piece == Kind::Call
}

/// The index of the block that a message is of.
fn index(data: &[u8]) -> u64 {
    member(data, b"\"contentBlockIndex\"").and_then(|(value, _)| json::unsigned(value)).unwrap_or(0)
}

/// The member of an object, by its key with quotes.
fn member<'a>(object: &'a [u8], key: &[u8]) -> Option<(Json<'a>, ValueKind)> {
    let mut members = json::members(object).map_while(Result::ok);
    let found = members.find(|member| member.key.of(object) == key)?;
    Some((found.value.of(object), found.kind))
}
