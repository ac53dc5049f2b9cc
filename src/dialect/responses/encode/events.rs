//! A stream of events for a client.

use super::fault::{code, message};
use super::item::{Item, ItemKind, first_byte};
use super::words;
use crate::dialect::neutral::{
    Context, Event, FaultRecord, FinishReason, HeldTooMuch, PartKind, Text, custom,
};
use crate::dialect::number;
use crate::dialect::usage::Usage;
use crate::wire::json;

/// Encoder of one stream.
///
/// Each part is an item of its own, numbered in the order in which the client hears of them; items may be open at the same
/// time. The events at an item's end and the final response repeat all of it, so that the whole output is kept.
#[derive(Clone, Debug)]
pub struct Events {
    context: Context,
    started: bool,
    /// The end, or a fault: nothing is told any more.
    over: bool,
    pub(super) ended: bool,
    id: Vec<u8>,
    model: Vec<u8>,
    sequence: u64,
    /// By the order of their opening for the backend.
    items: Vec<Item>,
    /// How many of them the client knows of.
    count: usize,
    held_bytes: usize,
    finish: FinishReason,
    usage: Usage,
}

/// What an item costs beside its text, for the bound on what is held.
const ITEM_BYTES: usize = 192;

impl Events {
    /// The encoder of a stream that begins.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            started: false,
            over: false,
            ended: false,
            id: Vec::new(),
            model: Vec::new(),
            sequence: 0,
            items: Vec::new(),
            count: 0,
            held_bytes: 0,
            finish: FinishReason::Stop,
            usage: Usage::default(),
        }
    }

    /// Appends what a client is to hear of an event, whole records only.
    ///
    /// # Errors
    /// The response is longer than may be held.
    pub fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        if self.over {
            return Ok(());
        }
        match event {
            Event::Start { id, model } => self.start(id.inside(), model.inside(), out),
            Event::Open { part, kind } => self.open(*part, kind, out)?,
            Event::Delta { part, text } => self.delta(*part, text.inside(), out)?,
            Event::Signature { part, text } => self.signature(*part, text.inside(), out)?,
            Event::Close { part } => {
                if let Some(at) = self.at(*part) {
                    self.close(at, out);
                }
            }
            Event::Finish { reason, .. } => self.finish = *reason,
            Event::Usage(newer) => self.usage.merge(*newer),
            Event::Ping => self.keep_alive(out),
            Event::Fault(record) => self.fault(record, out),
            Event::End => self.end(out),
        }
        Ok(())
    }

    /// Appends a record that says only that the stream lives: an event that clients know, as some do not count comments; a
    /// comment before the response has started.
    pub fn keep_alive(&mut self, out: &mut Vec<u8>) {
        if !self.started {
            out.extend_from_slice(b": ping\n\n");
            return;
        }
        self.state("response.in_progress", "in_progress", false, None, out);
    }

    fn start(&mut self, id: &[u8], model: &[u8], out: &mut Vec<u8>) {
        if self.started {
            return;
        }
        self.started = true;
        self.id.extend_from_slice(id);
        self.model.extend_from_slice(model);
        self.state("response.created", "in_progress", false, None, out);
        self.state("response.in_progress", "in_progress", false, None, out);
    }

    /// Begins an event.
    fn begin(&mut self, name: &str, out: &mut Vec<u8>) {
        words(&["event: ", name, "\ndata: {\"type\":\"", name, "\",\"sequence_number\":"], out);
        number(out, self.sequence);
        self.sequence += 1;
    }

    /// Begins an event about an item.
    fn begin_at(&mut self, at: usize, name: &str, out: &mut Vec<u8>) {
        self.begin(name, out);
        let item = &self.items[at];
        out.extend_from_slice(b",\"item_id\":");
        item.id(&self.context.request_id, out);
        out.extend_from_slice(b",\"output_index\":");
        number(out, item.index.unwrap_or(0) as u64);
        match item.kind {
            ItemKind::Text | ItemKind::Refusal => out.extend_from_slice(b",\"content_index\":0"),
            ItemKind::Thinking | ItemKind::Redacted => out.extend_from_slice(b",\"summary_index\":0"),
            ItemKind::Call { .. } | ItemKind::Custom { .. } => {}
        }
    }

    /// An event with the whole response.
    fn state(
        &mut self,
        name: &str,
        status: &str,
        has_output: bool,
        error: Option<(&str, &Text<'_>)>,
        out: &mut Vec<u8>,
    ) {
        self.begin(name, out);
        out.extend_from_slice(b",\"response\":");
        self.response(status, has_output, error, out);
        out.extend_from_slice(b"}\n\n");
    }

    fn at(&self, part: usize) -> Option<usize> {
        self.items.iter().rposition(|item| item.part == part && !item.is_done)
    }

    fn hold(&mut self, bytes: usize) -> Result<(), HeldTooMuch> {
        self.held_bytes += bytes;
        if self.held_bytes > self.context.held_bytes_max { Err(HeldTooMuch) } else { Ok(()) }
    }

    fn open(&mut self, part: usize, kind: &PartKind<'_>, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        self.start(b"", b"", out);
        let item = Item::new(part, kind, &self.context.custom_tools);
        self.hold(ITEM_BYTES + item.signature.len())?;
        let is_known = matches!(kind, PartKind::ToolCall { .. } | PartKind::Redacted(_));
        self.items.push(item);
        if is_known {
            self.add(self.items.len() - 1, out);
        }
        Ok(())
    }

    /// Tells the client of an item, if it does not know of it. Text and thoughts are told with their first byte, so that there
    /// are no empty ones.
    fn add(&mut self, at: usize, out: &mut Vec<u8>) {
        if self.items[at].index.is_some() {
            return;
        }
        self.items[at].index = Some(self.count);
        self.count += 1;
        self.item("response.output_item.added", at, false, out);
    }

    fn item(&mut self, name: &str, at: usize, is_done: bool, out: &mut Vec<u8>) {
        self.begin(name, out);
        out.extend_from_slice(b",\"output_index\":");
        number(out, self.items[at].index.unwrap_or(0) as u64);
        out.extend_from_slice(b",\"item\":");
        self.items[at].write(&self.context.request_id, is_done, out);
        out.extend_from_slice(b"}\n\n");
    }

    fn delta(&mut self, part: usize, text: &[u8], out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        let Some(at) = self.at(part).filter(|_| !text.is_empty()) else { return Ok(()) };
        if matches!(self.items[at].kind, ItemKind::Redacted) {
            return Ok(());
        }
        self.hold(text.len())?;
        self.items[at].text.extend_from_slice(text);
        if self.items[at].is_tellable() {
            self.tell(at, out);
        }
        Ok(())
    }

    /// Tells what of an item's text was not told.
    fn tell(&mut self, at: usize, out: &mut Vec<u8>) {
        let told = self.items[at].told;
        if told == self.items[at].text.len() {
            return;
        }
        self.add(at, out);
        if told == 0 {
            self.part("added", at, out);
        }
        let names = self.items[at].names();
        self.begin_at(at, names.delta, out);
        let item = &mut self.items[at];
        item.told = item.text.len();
        out.extend_from_slice(b",\"delta\":");
        Text::escaped(&item.text[told..]).quote(out);
        if matches!(item.kind, ItemKind::Text) {
            out.extend_from_slice(b",\"logprobs\":[]");
        }
        out.extend_from_slice(b"}\n\n");
    }

    /// The part of a message or of a summary begins or ends; calls have none.
    fn part(&mut self, what: &str, at: usize, out: &mut Vec<u8>) {
        let is_done = what == "done";
        let name = match (&self.items[at].kind, is_done) {
            (ItemKind::Text | ItemKind::Refusal, false) => "response.content_part.added",
            (ItemKind::Text | ItemKind::Refusal, true) => "response.content_part.done",
            (ItemKind::Thinking, false) => "response.reasoning_summary_part.added",
            (ItemKind::Thinking, true) => "response.reasoning_summary_part.done",
            _ => return,
        };
        self.begin_at(at, name, out);
        out.extend_from_slice(b",\"part\":");
        let item = &self.items[at];
        item.part(if is_done { &item.text } else { b"" }, out);
        out.extend_from_slice(b"}\n\n");
    }

    fn signature(&mut self, part: usize, text: &[u8], out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        let at = self.at(part).filter(|at| matches!(self.items[*at].kind, ItemKind::Thinking));
        let Some(at) = at.filter(|_| !text.is_empty()) else { return Ok(()) };
        self.hold(text.len())?;
        self.items[at].signature.extend_from_slice(text);
        self.add(at, out);
        Ok(())
    }

    /// Ends an item: what it owes, then all of it again.
    fn close(&mut self, at: usize, out: &mut Vec<u8>) {
        let item = &mut self.items[at];
        item.is_done = true;
        match &item.kind {
            ItemKind::Call { .. }
                if first_byte(&item.text).is_none() || item.text.trim_ascii() == b"null" =>
            {
                item.text = b"{}".to_vec();
            }
            ItemKind::Custom { is_wrapped: true, .. } => {
                item.text = custom::unwrap(&Text::escaped(&item.text)).inside().to_vec();
            }
            _ => {}
        }
        self.tell(at, out);
        if self.items[at].index.is_none() {
            return;
        }
        let is_call = matches!(self.items[at].kind, ItemKind::Call { .. } | ItemKind::Custom { .. });
        if is_call || !self.items[at].text.is_empty() {
            let names = self.items[at].names();
            self.begin_at(at, names.done, out);
            let item = &self.items[at];
            words(&[",\"", names.member, "\":"], out);
            Text::escaped(&item.text).quote(out);
            match &item.kind {
                ItemKind::Text => out.extend_from_slice(b",\"logprobs\":[]"),
                ItemKind::Call { name, .. } => {
                    out.extend_from_slice(b",\"name\":");
                    Text::escaped(name).quote(out);
                }
                _ => {}
            }
            out.extend_from_slice(b"}\n\n");
            self.part("done", at, out);
        }
        self.item("response.output_item.done", at, true, out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.start(b"", b"", out);
        for at in 0..self.items.len() {
            if !self.items[at].is_done {
                self.close(at, out);
            }
        }
        self.over = true;
        self.ended = true;
        let status = self.status();
        let name = if status == "completed" { "response.completed" } else { "response.incomplete" };
        self.state(name, status, true, None, out);
    }

    fn status(&self) -> &'static str {
        match self.finish {
            FinishReason::Stop | FinishReason::ToolCalls => "completed",
            FinishReason::Length | FinishReason::ContentFilter => "incomplete",
        }
    }

    /// Some clients read the event `error`, others only `response.failed`.
    fn fault(&mut self, record: &FaultRecord<'_>, out: &mut Vec<u8>) {
        self.start(b"", b"", out);
        self.over = true;
        let status = record.status.unwrap_or(500);
        let (code, message) = (code(record, status), message(record, status));
        self.begin("error", out);
        out.extend_from_slice(b",\"code\":");
        json::quote(out, code);
        out.extend_from_slice(b",\"message\":");
        message.quote(out);
        out.extend_from_slice(b",\"param\":null}\n\n");
        self.state("response.failed", "failed", true, Some((code, &message)), out);
    }

    /// Appends the final response.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.response(self.status(), true, None, out);
    }

    fn response(&self, status: &str, has_output: bool, error: Option<(&str, &Text<'_>)>, out: &mut Vec<u8>) {
        let is_named = self.id.starts_with(b"resp_");
        words(&["{\"id\":\"", if is_named { "" } else { "resp_" }], out);
        out.extend_from_slice(if self.id.is_empty() { self.context.request_id.as_bytes() } else { &self.id });
        out.extend_from_slice(b"\",\"object\":\"response\",\"created_at\":");
        number(out, self.context.created);
        words(&[",\"status\":\"", status, "\",\"background\":false,\"error\":"], out);
        match error {
            Some((code, message)) => {
                out.extend_from_slice(b"{\"code\":");
                json::quote(out, code);
                out.extend_from_slice(b",\"message\":");
                message.quote(out);
                out.push(b'}');
            }
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"incomplete_details\":");
        out.extend_from_slice(match (status, self.finish) {
            ("incomplete", FinishReason::ContentFilter) => b"{\"reason\":\"content_filter\"}",
            ("incomplete", _) => &b"{\"reason\":\"max_output_tokens\"}"[..],
            _ => b"null",
        });
        out.extend_from_slice(
            b",\"instructions\":null,\"max_output_tokens\":null,\"metadata\":{},\"model\":",
        );
        match self.model.is_empty() {
            true => json::quote(out, &self.context.model),
            false => Text::escaped(&self.model).quote(out),
        }
        out.extend_from_slice(b",\"output\":[");
        if has_output {
            self.output(out);
        }
        out.extend_from_slice(
            b"],\"parallel_tool_calls\":true,\"previous_response_id\":null,\"reasoning\":{\"effort\":null,\"summary\":null},\
              \"store\":false,\"temperature\":null,\"text\":{\"format\":{\"type\":\"text\"}},\"tool_choice\":\"auto\",\"tools\":[],\
              \"top_p\":null,\"truncation\":\"disabled\",\"usage\":",
        );
        match self.usage.seen && status != "in_progress" {
            true => usage(&self.usage, out),
            false => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"user\":null}");
    }

    /// What was told, in the order in which it was.
    fn output(&self, out: &mut Vec<u8>) {
        let mut items: Vec<&Item> = self.items.iter().filter(|item| item.index.is_some()).collect();
        items.sort_by_key(|item| item.index);
        for (position, item) in items.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            item.write(&self.context.request_id, true, out);
        }
    }
}

/// Appends the usage object. Here the input includes what came from a cache, and the output the reasoning.
fn usage(usage: &Usage, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"input_tokens\":");
    number(out, usage.input);
    out.extend_from_slice(b",\"input_tokens_details\":{\"cached_tokens\":");
    number(out, usage.cached);
    out.extend_from_slice(b",\"cache_write_tokens\":");
    number(out, usage.cache_write);
    out.extend_from_slice(b"},\"output_tokens\":");
    number(out, usage.output);
    out.extend_from_slice(b",\"output_tokens_details\":{\"reasoning_tokens\":");
    number(out, usage.reasoning);
    out.extend_from_slice(b"},\"total_tokens\":");
    number(out, usage.input + usage.output);
    out.push(b'}');
}
