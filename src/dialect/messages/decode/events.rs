//! A backend's stream.

use super::{fault, finish_reason};
use crate::dialect::neutral::{Context, Event, FaultRecord, Json, PartKind, Text, unreadable};
use crate::dialect::usage::Usage;
use crate::wire::json::{self, ValueKind};

/// Decoder of one stream.
///
/// Blocks may be open at the same time, though Anthropic's are not. Blocks of kinds that no client could use (the
/// provider's own tools and what they bring) are passed over. The stream is whole with `message_stop` only.
#[derive(Clone, Debug)]
pub struct Events {
    /// The exchange's id, for calls without one.
    request_id: String,
    started: bool,
    /// The blocks that are open.
    blocks: Vec<Block>,
    parts: usize,
    calls: usize,
    usage: Usage,
    finished: bool,
    /// Nothing more counts: the end, or a fault.
    over: bool,
    whole: bool,
}

#[derive(Clone, Debug)]
struct Block {
    index: u64,
    /// `None` for one that is passed over.
    part: Option<usize>,
    kind: BlockKind,
    /// Whether a delta came.
    is_told: bool,
    /// The input that stood in the block's start, as the inside of a JSON string; it counts if no delta comes.
    input: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum BlockKind {
    Text,
    Thinking,
    Call,
    Other,
}

/// Most blocks that may be open at once. Chosen, not measured: Anthropic has one.
const OPEN_MAX: usize = 256;

/// The members of a record that are looked at.
#[derive(Default)]
struct Record<'a> {
    kind: Json<'a>,
    index: u64,
    delta: Json<'a>,
    block: Json<'a>,
    message: Json<'a>,
    usage: Json<'a>,
    error: Json<'a>,
}

impl<'a> Record<'a> {
    /// `None`: the data is no sound object.
    fn read(data: Json<'a>) -> Option<Self> {
        let mut record = Self::default();
        for member in json::members(data) {
            let member = member.ok()?;
            let value = member.value.of(data);
            match member.key.of(data) {
                b"\"type\"" => record.kind = value,
                b"\"index\"" => record.index = json::unsigned(value).unwrap_or(0),
                b"\"delta\"" => record.delta = value,
                b"\"content_block\"" => record.block = value,
                b"\"message\"" => record.message = value,
                b"\"usage\"" => record.usage = value,
                b"\"error\"" => record.error = value,
                _ => {}
            }
        }
        Some(record)
    }
}

/// The members of a block's start or of a delta that are looked at; strings only, without their quotes.
#[derive(Default)]
struct Piece<'a> {
    kind: Json<'a>,
    id: Text<'a>,
    name: Text<'a>,
    text: Text<'a>,
    thinking: Text<'a>,
    signature: Text<'a>,
    data: Text<'a>,
    partial_json: Text<'a>,
    input: Json<'a>,
    stop_reason: Option<Text<'a>>,
    stop_sequence: Option<Text<'a>>,
}

impl<'a> Piece<'a> {
    fn read(object: Json<'a>) -> Self {
        let mut piece = Self::default();
        for member in json::members(object).map_while(Result::ok) {
            let value = member.value.of(object);
            let text = Text::of(value);
            match member.key.of(object) {
                b"\"type\"" => piece.kind = value,
                b"\"id\"" => piece.id = text.unwrap_or_default(),
                b"\"name\"" => piece.name = text.unwrap_or_default(),
                b"\"text\"" => piece.text = text.unwrap_or_default(),
                b"\"thinking\"" => piece.thinking = text.unwrap_or_default(),
                b"\"signature\"" => piece.signature = text.unwrap_or_default(),
                b"\"data\"" => piece.data = text.unwrap_or_default(),
                b"\"partial_json\"" => piece.partial_json = text.unwrap_or_default(),
                b"\"input\"" if member.kind == ValueKind::Object => piece.input = value,
                b"\"stop_reason\"" => piece.stop_reason = text,
                b"\"stop_sequence\"" => piece.stop_sequence = text,
                _ => {}
            }
        }
        piece
    }
}

impl Events {
    /// The decoder of a stream that begins.
    pub fn new(context: &Context) -> Self {
        Self {
            request_id: context.request_id.clone(),
            started: false,
            blocks: Vec::new(),
            parts: 0,
            calls: 0,
            usage: Usage::default(),
            finished: false,
            over: false,
            whole: false,
        }
    }

    /// Takes in one record. `name` is the word of its `event:` line, where `data` does not say its type.
    pub fn record(&mut self, name: Option<&[u8]>, data: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        if self.over {
            return;
        }
        let Some(mut record) = Record::read(data) else {
            // A client cannot see that text is lost: a record of a known kind that is broken ends the response.
            if name.is_some_and(|name| name.starts_with(b"content_block") || name.starts_with(b"message_")) {
                self.fault("the backend sent a record that is not sound JSON", sink);
            } else if let Some(record) = unreadable(name, data) {
                self.over = true;
                sink(Event::Fault(record));
            }
            return;
        };
        record.kind =
            record.kind.strip_prefix(b"\"").and_then(|kind| kind.strip_suffix(b"\"")).unwrap_or_default();
        if record.kind.is_empty() {
            record.kind = name.unwrap_or_default();
        }
        match record.kind {
            b"message_start" => self.start(record.message, sink),
            b"content_block_start" => self.open(record.index, &Piece::read(record.block), sink),
            b"content_block_delta" => self.delta(record.index, &Piece::read(record.delta), sink),
            b"content_block_stop" => self.close(record.index, sink),
            b"message_delta" => self.message_delta(&record, sink),
            b"message_stop" => self.stop(sink),
            b"ping" => sink(Event::Ping),
            b"error" => {
                self.over = true;
                sink(Event::Fault(fault::record(record.error)));
            }
            _ => {}
        }
    }

    /// The body ended. What is owed was told with `message_stop`; without it the response was cut.
    pub fn end(&mut self, _sink: &mut dyn FnMut(Event<'_>)) {
        self.over = true;
    }

    /// Whether the response came to its end.
    #[cfg(test)]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether the body may end here: this API's own sign of an end is never missing.
    pub fn is_finished(&self) -> bool {
        self.whole
    }

    fn fault(&mut self, message: &'static str, sink: &mut dyn FnMut(Event<'_>)) {
        self.over = true;
        let message = Text::escaped(message.as_bytes());
        sink(Event::Fault(FaultRecord { message, status: Some(502), ..FaultRecord::default() }));
    }

    fn start(&mut self, message: Json<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if self.started {
            return;
        }
        self.started = true;
        let (mut id, mut model, mut usage) = (Text::default(), Text::default(), &b""[..]);
        for member in json::members(message).map_while(Result::ok) {
            let value = member.value.of(message);
            match member.key.of(message) {
                b"\"id\"" => id = Text::of(value).unwrap_or_default(),
                b"\"model\"" => model = Text::of(value).unwrap_or_default(),
                b"\"usage\"" => usage = value,
                _ => {}
            }
        }
        sink(Event::Start { id, model });
        self.count(usage, sink);
    }

    /// Some servers leave `message_start` out.
    fn ensure_started(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if !self.started {
            self.start(b"", sink);
        }
    }

    fn count(&mut self, usage: Json<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if let Ok(Some(newer)) = Usage::read(usage) {
            self.usage.merge(newer);
            sink(Event::Usage(self.usage));
        }
    }

    fn open(&mut self, index: u64, start: &Piece<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        self.ensure_started(sink);
        if self.finished {
            return;
        }
        self.close(index, sink); // of two with one number the first was not closed
        if self.blocks.len() == OPEN_MAX {
            return self.fault("the backend opened too many blocks at once", sink);
        }
        let part = self.parts;
        let (kind, opened) = match start.kind {
            b"\"text\"" => (BlockKind::Text, Some(PartKind::Text)),
            b"\"thinking\"" => (BlockKind::Thinking, Some(PartKind::Thinking)),
            b"\"redacted_thinking\"" => (BlockKind::Other, Some(PartKind::Redacted(start.data.clone()))),
            b"\"tool_use\"" => {
                let id = self.call_id(&start.id);
                (BlockKind::Call, Some(PartKind::ToolCall { id, name: start.name.clone(), is_custom: false }))
            }
            _ => (BlockKind::Other, None),
        };
        let has_part = opened.is_some();
        let mut input = Vec::new();
        if kind == BlockKind::Call && !is_empty(start.input) {
            json::escape_bytes(&mut input, start.input);
        }
        self.blocks.push(Block { index, part: has_part.then_some(part), kind, is_told: false, input });
        let Some(opened) = opened else { return };
        self.parts += 1;
        sink(Event::Open { part, kind: opened });
        match kind {
            BlockKind::Text => delta(part, &start.text, sink),
            BlockKind::Thinking => {
                delta(part, &start.thinking, sink);
                signature(part, &start.signature, sink);
            }
            BlockKind::Call | BlockKind::Other => {}
        }
    }

    fn call_id<'a>(&mut self, id: &Text<'a>) -> Text<'a> {
        self.calls += 1;
        if id.is_empty() {
            return Text::plain(&format!("toolu_{}_{}", self.request_id, self.calls));
        }
        id.clone()
    }

    fn delta(&mut self, index: u64, piece: &Piece<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if self.finished {
            return;
        }
        if !self.blocks.iter().any(|block| block.index == index) {
            // A text whose start was left out is better told than lost.
            let kind: &[u8] = match piece.kind {
                b"\"text_delta\"" => b"\"text\"",
                b"\"thinking_delta\"" => b"\"thinking\"",
                _ => return,
            };
            self.open(index, &Piece { kind, ..Piece::default() }, sink);
        }
        let Some(block) = self.blocks.iter_mut().find(|block| block.index == index) else { return };
        let Some(part) = block.part else { return };
        match (block.kind, piece.kind) {
            (BlockKind::Text, b"\"text_delta\"") => delta(part, &piece.text, sink),
            (BlockKind::Thinking, b"\"thinking_delta\"") => delta(part, &piece.thinking, sink),
            (BlockKind::Thinking, b"\"signature_delta\"") => signature(part, &piece.signature, sink),
            (BlockKind::Call, b"\"input_json_delta\"") => {
                block.is_told |= !piece.partial_json.is_empty();
                delta(part, &piece.partial_json, sink);
            }
            _ => {}
        }
    }

    fn close(&mut self, index: u64, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(at) = self.blocks.iter().position(|block| block.index == index) else { return };
        let block = self.blocks.remove(at);
        let Some(part) = block.part else { return };
        if !block.is_told {
            delta(part, &Text::escaped(&block.input), sink);
        }
        sink(Event::Close { part });
    }

    fn message_delta(&mut self, record: &Record<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        self.ensure_started(sink);
        let piece = Piece::read(record.delta);
        if let Some(reason) = piece.stop_reason {
            self.finish(&reason, piece.stop_sequence, sink);
        }
        self.count(record.usage, sink);
    }

    fn finish(
        &mut self,
        reason: &Text<'_>,
        stop_sequence: Option<Text<'_>>,
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        if self.finished {
            return;
        }
        while let Some(block) = self.blocks.first() {
            self.close(block.index, sink);
        }
        self.finished = true;
        sink(Event::Finish { reason: finish_reason(reason, self.calls > 0), stop_sequence });
    }

    fn stop(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        self.ensure_started(sink);
        self.finish(&Text::default(), None, sink);
        self.over = true;
        self.whole = true;
        sink(Event::End);
    }
}

/// Whether an input says nothing.
pub(super) fn is_empty(input: Json<'_>) -> bool {
    json::members(input).next().is_none_or(|member| member.is_err())
}

fn delta(part: usize, text: &Text<'_>, sink: &mut dyn FnMut(Event<'_>)) {
    if !text.is_empty() {
        sink(Event::Delta { part, text: text.clone() });
    }
}

fn signature(part: usize, text: &Text<'_>, sink: &mut dyn FnMut(Event<'_>)) {
    if !text.is_empty() {
        sink(Event::Signature { part, text: text.clone() });
    }
}
