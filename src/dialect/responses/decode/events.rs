//! A backend's stream.

use super::record::{Item, Record, Response, inside, status_of};
use super::whole::{Teller, call_id};
use crate::dialect::neutral::{Context, Event, FaultRecord, Json, PartKind, Text, unreadable};
use crate::dialect::usage::Usage;
use crate::wire::json;

/// Decoder of one stream.
///
/// What a response says comes up to three times: in deltas, in the `done` events of a part and an item, and in the final
/// response. Each part is told from the first of them that has it. The stream is whole with a final response only.
#[derive(Clone, Debug)]
pub struct Events {
    request_id: String,
    started: bool,
    /// Parts of items that are not done.
    open: Vec<Open>,
    /// Items that are done, by what tells them apart: some servers say so twice.
    done: Vec<Vec<u8>>,
    parts: usize,
    calls: usize,
    /// Nothing more counts: the end, or a fault.
    over: bool,
    whole: bool,
}

#[derive(Clone, Debug)]
struct Open {
    output_index: Option<u64>,
    item_id: Vec<u8>,
    inner_index: u64,
    kind: OpenKind,
    part: usize,
    /// Whether a delta came; of thoughts, for the part of the item with this number.
    told: Option<u64>,
    is_closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum OpenKind {
    Text,
    Refusal,
    /// Thoughts come as they are or as a summary; of an item that has both, the first kind counts.
    Thinking {
        is_summary: bool,
    },
    Call,
}

/// Most parts and items that are kept track of. Chosen, not measured: a response has some tens at most.
const OPEN_MAX: usize = 4096;

impl Events {
    /// The decoder of a stream that begins.
    pub fn new(context: &Context) -> Self {
        Self {
            request_id: context.request_id.clone(),
            started: false,
            open: Vec::new(),
            done: Vec::new(),
            parts: 0,
            calls: 0,
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
            if name.is_some_and(|name| name.starts_with(b"response.")) {
                self.fail("the backend sent a record that is not sound JSON", sink);
            } else if let Some(record) = unreadable(name, data) {
                self.over = true;
                sink(Event::Fault(record));
            }
            return;
        };
        if record.kind.is_empty() {
            record.kind = name.unwrap_or_default();
        }
        self.told(&record, sink);
        if self.open.len() > OPEN_MAX || self.done.len() > OPEN_MAX {
            self.fail("the backend's response has too many parts", sink);
        }
    }

    fn told(&mut self, record: &Record<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let thinking = |is_summary| OpenKind::Thinking { is_summary };
        match record.kind {
            b"response.created" | b"response.in_progress" | b"response.queued" => {
                self.start(record.response, sink);
            }
            b"response.output_text.delta" => self.delta(record, OpenKind::Text, sink),
            b"response.refusal.delta" => self.delta(record, OpenKind::Refusal, sink),
            b"response.reasoning_text.delta" => self.thought(record, thinking(false), &record.delta, sink),
            b"response.reasoning_summary_text.delta" => {
                self.thought(record, thinking(true), &record.delta, sink)
            }
            b"response.function_call_arguments.delta" | b"response.custom_tool_call_input.delta" => {
                self.arguments(record, &record.delta, sink);
            }
            b"response.output_text.done" => self.text_done(record, OpenKind::Text, &record.text, sink),
            b"response.refusal.done" => self.text_done(record, OpenKind::Refusal, &record.text, sink),
            b"response.reasoning_text.done" => self.thought_done(record, thinking(false), sink),
            b"response.reasoning_summary_text.done" => self.thought_done(record, thinking(true), sink),
            b"response.function_call_arguments.done" | b"response.custom_tool_call_input.done" => {
                let is_told =
                    self.find(record, OpenKind::Call).is_some_and(|at| self.open[at].told.is_some());
                if !is_told {
                    self.arguments(record, &record.text, sink);
                }
            }
            b"response.output_item.added" => self.added(record, sink),
            b"response.output_item.done" => self.item_done(record, sink),
            b"response.completed" | b"response.incomplete" | b"response.done" => self.finish(record, sink),
            b"response.failed" | b"response.cancelled" | b"error" => self.failed(record, sink),
            _ => {}
        }
    }

    /// The body ended. What is owed was told with the final response; without it the response was cut.
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

    fn fail(&mut self, message: &'static str, sink: &mut dyn FnMut(Event<'_>)) {
        self.over = true;
        let message = Text::escaped(message.as_bytes());
        sink(Event::Fault(FaultRecord { message, status: Some(502), ..FaultRecord::default() }));
    }

    fn start(&mut self, response: Json<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        if !std::mem::replace(&mut self.started, true) {
            let response = Response::read(response);
            sink(Event::Start { id: response.id, model: response.model });
        }
    }

    /// The part that a record is about. Servers differ in what tells items apart: some number all of them 0, some change
    /// their ids from event to event.
    fn find(&self, record: &Record<'_>, kind: OpenKind) -> Option<usize> {
        let is_inner = matches!(kind, OpenKind::Text | OpenKind::Refusal);
        let fits = |open: &Open| {
            open.kind == kind
                && (record.output_index.is_none() || open.output_index == record.output_index)
                && (!is_inner || open.inner_index == record.inner_index)
        };
        let same = |open: &Open| open.item_id == record.item_id.inside();
        let by_id = self.open.iter().rposition(|open| fits(open) && same(open));
        by_id.or_else(|| self.open.iter().rposition(fits))
    }

    fn open(
        &mut self,
        record: &Record<'_>,
        item_id: &Text<'_>,
        kind: OpenKind,
        part_kind: PartKind<'_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> usize {
        self.start(b"", sink);
        if kind != OpenKind::Call {
            // Texts and thoughts follow each other.
            for open in self.open.iter_mut().filter(|open| open.kind != OpenKind::Call) {
                close(open, sink);
            }
        }
        let part = self.parts;
        self.parts += 1;
        sink(Event::Open { part, kind: part_kind });
        self.open.push(Open {
            output_index: record.output_index,
            item_id: item_id.inside().to_vec(),
            inner_index: record.inner_index,
            kind,
            part,
            told: None,
            is_closed: false,
        });
        self.open.len() - 1
    }

    fn delta(&mut self, record: &Record<'_>, kind: OpenKind, sink: &mut dyn FnMut(Event<'_>)) {
        if record.delta.is_empty() {
            return;
        }
        let found = self.find(record, kind).filter(|at| !self.open[*at].is_closed);
        let at = found.unwrap_or_else(|| {
            let part = if kind == OpenKind::Text { PartKind::Text } else { PartKind::Refusal };
            self.open(record, &record.item_id, kind, part, sink)
        });
        let open = &mut self.open[at];
        open.told = Some(record.inner_index);
        sink(Event::Delta { part: open.part, text: record.delta.clone() });
    }

    fn text_done(
        &mut self,
        record: &Record<'_>,
        kind: OpenKind,
        text: &Text<'_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        match self.find(record, kind) {
            Some(at) => close(&mut self.open[at], sink),
            None if text.is_empty() => {}
            None => {
                let part = if kind == OpenKind::Text { PartKind::Text } else { PartKind::Refusal };
                let at = self.open(record, &record.item_id, kind, part, sink);
                sink(Event::Delta { part: self.open[at].part, text: text.clone() });
                close(&mut self.open[at], sink);
            }
        }
    }

    /// The thought of an item, of whichever kind.
    fn find_thought(&self, record: &Record<'_>) -> Option<usize> {
        let summary = self.find(record, OpenKind::Thinking { is_summary: true });
        summary.or_else(|| self.find(record, OpenKind::Thinking { is_summary: false }))
    }

    fn thought(
        &mut self,
        record: &Record<'_>,
        kind: OpenKind,
        text: &Text<'_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        if text.is_empty() {
            return;
        }
        let found = self.find_thought(record).filter(|at| !self.open[*at].is_closed);
        let at = found.unwrap_or_else(|| self.open(record, &record.item_id, kind, PartKind::Thinking, sink));
        let open = &mut self.open[at];
        if open.kind != kind {
            return;
        }
        let part = open.part;
        if open.told.replace(record.inner_index).is_some_and(|told| told != record.inner_index) {
            sink(Event::Delta { part, text: Text::escaped(b"\\n\\n") });
        }
        sink(Event::Delta { part, text: text.clone() });
    }

    fn thought_done(&mut self, record: &Record<'_>, kind: OpenKind, sink: &mut dyn FnMut(Event<'_>)) {
        let told = self.find_thought(record).and_then(|at| self.open[at].told);
        if told.is_none_or(|told| told < record.inner_index) {
            self.thought(record, kind, &record.text, sink);
        }
    }

    /// More of a call's arguments. A call whose beginning was left out comes whole when it is done.
    fn arguments(&mut self, record: &Record<'_>, text: &Text<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(at) = self.find(record, OpenKind::Call).filter(|_| !text.is_empty()) else { return };
        let open = &mut self.open[at];
        if !open.is_closed {
            open.told = Some(0);
            sink(Event::Delta { part: open.part, text: text.clone() });
        }
    }

    fn added(&mut self, record: &Record<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let item = Item::read(record.item);
        if let Some(is_custom) = item.call().filter(|_| !item.name.is_empty()) {
            self.call(record, &item, is_custom, sink);
        }
    }

    fn call(
        &mut self,
        record: &Record<'_>,
        item: &Item<'_>,
        is_custom: bool,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> usize {
        self.calls += 1;
        let id = call_id(item, &self.request_id, self.calls);
        let kind = PartKind::ToolCall { id, name: item.name.clone(), is_custom };
        self.open(record, &item.id, OpenKind::Call, kind, sink)
    }

    /// An item is done: what of it was not told is told now.
    fn item_done(&mut self, record: &Record<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let item = Item::read(record.item);
        let identity = item.identity();
        if !identity.is_empty() {
            if self.done.iter().any(|done| done == identity) {
                return;
            }
            self.done.push(identity.to_vec());
        }
        // The item's own id is the one that its events named.
        let record =
            Record { output_index: record.output_index, item_id: item.id.clone(), ..Record::default() };
        match item.kind {
            b"function_call" | b"custom_tool_call" => {
                let at = self.find(&record, OpenKind::Call).filter(|at| !self.open[*at].is_closed);
                let is_custom = item.kind == b"custom_tool_call";
                let at = at.unwrap_or_else(|| self.call(&record, &item, is_custom, sink));
                let open = &mut self.open[at];
                if open.told.is_none() && !item.arguments.is_empty() {
                    sink(Event::Delta { part: open.part, text: item.arguments.clone() });
                }
                close(open, sink);
            }
            b"reasoning" => self.reasoning_done(&record, &item, sink),
            b"message" => self.message_done(&record, &item, sink),
            _ => return,
        }
        let is_over = |open: &Open| {
            open.is_closed
                && open.output_index == record.output_index
                && open.item_id == record.item_id.inside()
        };
        self.open.retain(|open| !is_over(open));
    }

    fn reasoning_done(&mut self, record: &Record<'_>, item: &Item<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let found = self.find_thought(record);
        if found.is_some_and(|at| self.open[at].is_closed) {
            return; // the next item began before this one was done: its seal comes too late
        }
        let thought = if found.is_some() { Text::default() } else { item.thought() };
        if found.is_none() && thought.is_empty() && item.signature.is_empty() {
            return;
        }
        let kind = OpenKind::Thinking { is_summary: true };
        let at = found.unwrap_or_else(|| self.open(record, &item.id, kind, PartKind::Thinking, sink));
        let open = &mut self.open[at];
        if !thought.is_empty() {
            sink(Event::Delta { part: open.part, text: thought });
        }
        if !item.signature.is_empty() {
            sink(Event::Signature { part: open.part, text: item.signature.clone() });
        }
        close(open, sink);
    }

    fn message_done(&mut self, record: &Record<'_>, item: &Item<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        for (index, (span, _)) in json::elements(item.content).map_while(Result::ok).enumerate() {
            let part = span.of(item.content);
            let (mut kind, mut text) = (&b""[..], Text::default());
            for member in json::members(part).map_while(Result::ok) {
                let value = member.value.of(part);
                match member.key.of(part) {
                    b"\"type\"" => kind = inside(value),
                    b"\"text\"" | b"\"refusal\"" => text = Text::of(value).unwrap_or(text),
                    _ => {}
                }
            }
            let kind = match kind {
                b"output_text" | b"text" => OpenKind::Text,
                b"refusal" => OpenKind::Refusal,
                _ => continue,
            };
            let record = Record {
                output_index: record.output_index,
                item_id: record.item_id.clone(),
                inner_index: index as u64,
                ..Record::default()
            };
            self.text_done(&record, kind, &text, sink);
        }
    }

    /// The final response. What it repeats is only told if nothing was before.
    fn finish(&mut self, record: &Record<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let mut response = Response::read(record.response);
        if response.status == b"failed" || response.fault.is_some() && response.status != b"completed" {
            return self.failed(record, sink);
        }
        if record.kind == b"response.incomplete" {
            response.status = b"incomplete";
        }
        self.start(record.response, sink);
        if self.parts == 0 {
            let mut teller = Teller { request_id: &self.request_id, parts: 0, calls: 0 };
            teller.output(response.output, sink);
            self.calls = teller.calls;
        }
        self.open.iter_mut().for_each(|open| close(open, sink));
        sink(Event::Finish { reason: response.finish_reason(self.calls > 0), stop_sequence: None });
        if let Ok(Some(usage)) = Usage::read(response.usage) {
            sink(Event::Usage(usage));
        }
        self.over = true;
        self.whole = true;
        sink(Event::End);
    }

    fn failed(&mut self, record: &Record<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        self.over = true;
        let response = Response::read(record.response);
        let mut fault = response.fault.unwrap_or_else(|| record.fault.clone());
        fault.status = fault.status.or_else(|| fault.code.as_ref().and_then(status_of));
        sink(Event::Fault(fault));
    }
}

fn close(open: &mut Open, sink: &mut dyn FnMut(Event<'_>)) {
    if !std::mem::replace(&mut open.is_closed, true) {
        sink(Event::Close { part: open.part });
    }
}
