//! What the relay learns from payload before it passes it on.

use crate::dialect::Api;
use crate::dialect::stream::{self, Counts, Meter, Records};
use crate::dialect::usage::{BodyMeter, Usage};
use crate::shard::exchange::Exchange;
use crate::shard::response::Response;
use crate::units::Span;
use crate::wire::records::RecordForm;

/// How the payload of a response is looked into, and what has been seen so far.
pub(in crate::shard) struct Inspector {
    /// The client holds the beginning of an event, not its end.
    mid_event: bool,
    /// Ids of responses in it get other names.
    pub(in crate::shard) renames: bool,
    api: Api,
    form: RecordForm,
    /// Longest beginning of an event that is held back; a longer one is read as it passes.
    event_bytes_max: usize,
    events: u64,
    in_pieces: u64,
    meter: Metered,
    records: Records,
    has_begun: bool,
}

enum Metered {
    /// Whole events, one by one or many at once.
    Events(Meter),
    /// A body, in any pieces.
    Body(BodyMeter),
    /// A body whose counts stand at its top level, in any pieces.
    Counts(Box<Counts>),
    /// Bytes in a content coding that we did not ask for, so many so far.
    Coded(u64),
}

impl Inspector {
    pub(in crate::shard) fn events(api: Api, meter: Meter, event_bytes_max: usize, renames: bool) -> Self {
        Self {
            mid_event: false,
            renames,
            api,
            form: api.stream().records(),
            event_bytes_max,
            events: 0,
            in_pieces: 0,
            meter: Metered::Events(meter),
            records: Records::new(api),
            has_begun: false,
        }
    }

    pub(in crate::shard) fn body(api: Api) -> Self {
        let meter = match api.stream().records() {
            RecordForm::Ndjson => Metered::Counts(Box::default()),
            _ => Metered::Body(BodyMeter::default()),
        };
        let (records, has_begun) = (Records::new(api), true);
        Self {
            mid_event: false,
            renames: false,
            api,
            form: api.stream().records(),
            event_bytes_max: 0,
            events: 0,
            in_pieces: 0,
            meter,
            records,
            has_begun,
        }
    }

    /// For an opened response.
    pub(in crate::shard) fn of(exchange: &Exchange, response: &Response) -> Self {
        let api = exchange.api.unwrap_or_default();
        if response.is_coded() {
            return Self::coded(api);
        }
        if !response.head.event_stream {
            return Self::body(api);
        }
        let meter = Meter::new(api, response.choices, response.asks_usage);
        let renames = exchange.renames_ids && response.translation.is_none();
        Self::events(api, meter, exchange.shard.plan.limits.event_bytes, renames)
    }

    pub(in crate::shard) fn coded(api: Api) -> Self {
        Self { meter: Metered::Coded(0), ..Self::body(api) }
    }

    /// Whether the client holds the beginning of an event, not its end.
    pub(in crate::shard) fn is_mid_event(&self) -> bool {
        self.mid_event
    }

    /// Longest beginning of an event that is held back.
    pub(in crate::shard) fn event_bytes_max(&self) -> usize {
        self.event_bytes_max
    }

    /// Looks into new payload, from `from` to the end of the buffer: what to pass on, what to hold back. Events that are not
    /// for the client are dropped; if there are more of them than pieces can tell, those behind them move up in the buffer.
    pub(in crate::shard) fn take(&mut self, buffer: &mut [u8], from: usize, ended: bool) -> Found {
        let (mut payload, is_mid_event) = (Span::new(from, buffer.len()), self.mid_event);
        let meter = match &mut self.meter {
            Metered::Events(meter) => meter,
            Metered::Body(meter) => {
                meter.block(payload.of(buffer));
                return Found::all(payload, true);
            }
            Metered::Counts(counts) => {
                counts.feed(payload.of(buffer));
                return Found::all(payload, true);
            }
            Metered::Coded(bytes) => {
                *bytes += payload.len() as u64;
                return Found::all(payload, true);
            }
        };
        if !std::mem::replace(&mut self.has_begun, true) && payload.of(buffer).starts_with(b"\xef\xbb\xbf") {
            payload.start += 3; // a BOM, which costs SDKs the first event
        }
        let mut start = payload.start;
        if self.mid_event {
            match meter.piece(payload.of(buffer)) {
                Some(end) => start += end,
                None => {
                    if ended {
                        meter.end_piece();
                    }
                    return Found { is_mid_event, ..Found::all(payload, false) };
                }
            }
            self.mid_event = false;
            self.events += 1;
        }
        if meter.done() {
            return Found { is_mid_event, ..Found::up_to(payload.start, start) };
        }
        let boundary = start + self.form.last_boundary(&buffer[start..payload.end]);
        // At the end of the body there is no rest to wait for: what is left is read as the event it is.
        let mut whole = if ended { payload.end } else { boundary };
        let events = meter.events(&buffer[start..whole]);
        if ended && meter.is_cut() {
            // The error record that follows must not be joined with an event that lacks its blank line.
            whole = boundary;
        }
        self.mid_event = boundary < whole;
        let regular = self.records.count_regular(&buffer[start..whole]);
        self.events += regular.unwrap_or_else(|| self.api.stream().count(&buffer[start..whole]));
        let is_regular = regular.is_some() || self.records.take_all();
        let (whole, held_from) = match events.end {
            Some(end) => (start + end, payload.end),
            None if ended => (whole, payload.end),
            None => (whole, whole),
        };
        let pieces = match events.drop.filter(|drop| start + drop.end <= whole) {
            Some(drop) => [Span::new(payload.start, start + drop.start), Span::new(start + drop.end, whole)],
            None => [Span::new(payload.start, whole), Span::new(whole, whole)],
        };
        let pieces = match is_regular {
            true => pieces,
            false => {
                let drop = events.drop.map(|drop| drop.shifted(start));
                let end = tidied(self.form, &mut self.records, buffer, Span::new(start, whole), drop);
                self.mid_event &= end > start && !self.form.is_ended(&buffer[..end]);
                [Span::new(payload.start, end), Span::new(end, end)]
            }
        };
        let held = Span::new(held_from, payload.end);
        let mut found = Found { pieces, held, first_token: events.first_token, is_mid_event };
        if held.len() > self.event_bytes_max {
            self.in_pieces += 1;
            self.mid_event = true;
            meter.piece(held.of(buffer));
            found.pass_held();
        }
        found
    }

    /// Whether a body that ends here, by a close and with `rest` behind its last whole event, has come to its proper end.
    pub(in crate::shard) fn may_end(&self, rest: &[u8]) -> bool {
        match &self.meter {
            Metered::Events(meter) => {
                let is_whole = || !self.mid_event && stream::is_whole_event(self.form, rest);
                // The last line of a stream of lines may end with the body.
                let ends = || self.form == RecordForm::Ndjson && stream::ends(self.api, rest);
                meter.done() || is_whole() && (meter.finished() || ends())
            }
            Metered::Body(_) | Metered::Counts(_) | Metered::Coded(_) => true,
        }
    }

    /// Whether a body that has ended, and properly, is a stream that did not come to its own end.
    pub(in crate::shard) fn is_cut(&self) -> bool {
        matches!(&self.meter, Metered::Events(meter) if meter.is_cut())
    }

    /// What a finished stream lacks because its server sends no `[DONE]`. A last event without its blank line gets that
    /// first, or the two would be read as one.
    pub(in crate::shard) fn missing_end(&self) -> Option<&'static [u8]> {
        let Metered::Events(meter) = &self.meter else { return None };
        match !meter.is_cut() && !meter.errored() && !meter.done() && self.api.stream().takes_done() {
            true if self.mid_event => Some(b"\n\ndata: [DONE]\n\n"),
            true => Some(b"data: [DONE]\n\n"),
            false => None,
        }
    }

    /// Whether the response said itself that it failed.
    pub(in crate::shard) fn errored(&self) -> bool {
        matches!(&self.meter, Metered::Events(meter) if meter.errored())
    }

    /// Appends a record that tells the client nothing but that somebody is there. Where a blank line of its own would be taken
    /// for an event, it is a comment in front of the next one.
    pub(in crate::shard) fn heartbeat(&self, out: &mut Vec<u8>) {
        match self.records.has_id() && self.api.stream().beats_by_comment() {
            true => out.extend_from_slice(b": ping\n"),
            false => stream::heartbeat(self.api, self.next_sequence().unwrap_or_default(), out),
        }
    }

    /// The sequence number of an event of our own, where one can be put in.
    pub(in crate::shard) fn next_sequence(&self) -> Option<u64> {
        match &self.meter {
            Metered::Events(meter) if !self.mid_event => Some(meter.sequence()),
            _ => None,
        }
    }

    /// The same, wherever the stream is: for a client that has whole events only.
    pub(in crate::shard) fn sequence(&self) -> Option<u64> {
        match &self.meter {
            Metered::Events(meter) => Some(meter.sequence()),
            _ => None,
        }
    }

    /// Whether a record of our own can be put in here without the client taking it for a part of an event, or for more
    /// than the stream's end.
    pub(in crate::shard) fn is_between_events(&self) -> bool {
        let Metered::Events(meter) = &self.meter else { return false };
        let is_over = if self.api.stream().takes_done() { meter.done() } else { meter.finished() };
        !self.mid_event && !is_over
    }

    /// What the backend reported so far; of a coded body nothing can be known.
    pub(in crate::shard) fn usage(&self) -> Option<&Usage> {
        match &self.meter {
            Metered::Events(meter) => Some(meter.usage()),
            Metered::Body(meter) => Some(meter.usage()),
            Metered::Counts(counts) => Some(counts.usage()),
            Metered::Coded(_) => None,
        }
    }

    /// Events passed on.
    pub(in crate::shard) fn event_count(&self) -> u64 {
        self.events
    }

    /// Output tokens, for when the backend's own count cannot be had.
    pub(in crate::shard) fn output_estimate(&self) -> u64 {
        match self.meter {
            Metered::Coded(bytes) => bytes.div_ceil(CODED_BYTES_PER_TOKEN),
            _ => self.events,
        }
    }

    /// Events that were too long to be held.
    pub(in crate::shard) fn pieces_count(&self) -> u64 {
        self.in_pieces
    }
}

/// What a look into new payload decided.
pub(in crate::shard) struct Found {
    /// What goes out now: one piece, or two around an event that is dropped.
    pub(in crate::shard) pieces: [Span; 2],
    /// The beginning of an event whose rest has not come.
    pub(in crate::shard) held: Span,
    pub(in crate::shard) first_token: bool,
    /// It begins in the middle of an event whose beginning has been passed on.
    pub(in crate::shard) is_mid_event: bool,
}

impl Found {
    fn all(payload: Span, first_token: bool) -> Self {
        let end = Span::new(payload.end, payload.end);
        Self { pieces: [payload, end], held: end, first_token, is_mid_event: false }
    }

    /// What ends the last event; nothing behind it is for the client.
    fn up_to(start: usize, end: usize) -> Self {
        let none = Span::new(end, end);
        Self { pieces: [Span::new(start, end), none], held: none, first_token: false, is_mid_event: false }
    }

    /// Moves what goes out now together behind `from`, and drops the rest.
    pub(in crate::shard) fn close_gaps(&self, buffer: &mut Vec<u8>, from: usize) {
        let mut end = from;
        for piece in self.pieces {
            if piece.start != end {
                buffer.copy_within(piece.start..piece.end, end);
            }
            end += piece.len();
        }
        buffer.truncate(end);
    }

    fn pass_held(&mut self) {
        match self.pieces[1].is_empty() {
            true => self.pieces[1] = self.held,
            false => self.pieces[1].end = self.held.end, // right behind it
        }
        self.held.start = self.held.end;
    }
}

/// Moves the events of a part of the buffer together, without those that are not for the client; behind the last.
fn tidied(
    form: RecordForm,
    records: &mut Records,
    buffer: &mut [u8],
    part: Span,
    drop: Option<Span>,
) -> usize {
    let (mut at, mut kept) = (part.start, part.start);
    while at < part.end {
        let next = form.next_boundary(&buffer[..part.end], at).unwrap_or(part.end);
        let event = Span::new(at, next);
        if drop.is_none_or(|drop| drop.start != at) && !records.drops(event.of(buffer)) {
            buffer.copy_within(at..next, kept);
            kept += next - at;
        }
        at = next;
    }
    kept
}

/// Of a stream whose writer flushes every event: about what one takes compressed. Taste, to the charged one's good.
const CODED_BYTES_PER_TOKEN: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known at the end of a stream, and what was passed of it.
    #[derive(PartialEq, Debug)]
    struct Told {
        usage: Usage,
        cut: bool,
        errored: bool,
        done: bool,
        sequence: u64,
        passed: Vec<u8>,
    }

    /// Reads of `stream` that end where `cuts` say, with what is held in front of each as the relay puts it there.
    fn told(api: Api, stream: &[u8], cuts: &[usize], event_bytes_max: usize) -> Told {
        let mut inspector = Inspector::events(api, Meter::new(api, 1, false), event_bytes_max, false);
        let (mut passed, mut held, mut from) = (Vec::new(), Vec::new(), 0);
        for &cut in cuts.iter().chain([&stream.len()]) {
            let mut buffer = [&held[..], &stream[from..cut]].concat();
            from = cut;
            let found = inspector.take(&mut buffer, 0, cut == stream.len());
            found.pieces.iter().for_each(|piece| passed.extend_from_slice(piece.of(&buffer)));
            held = found.held.of(&buffer).to_vec();
        }
        let Metered::Events(meter) = &inspector.meter else { unreachable!("events were asked for") };
        let (usage, sequence) = (*meter.usage(), meter.sequence());
        Told {
            usage,
            cut: inspector.is_cut(),
            errored: inspector.errored(),
            done: meter.done(),
            sequence,
            passed,
        }
    }

    const RESPONSES: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0}\n\n\
        event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"error\":null,\"tools\":[{\"description\":\"a \\\"usage\\\":{\\\"input_tokens\\\":1}\",\"usage\":{}}],\"usage\":{\"input_tokens\":75000,\"output_tokens\":9,\"total_tokens\":75009},\"user\":null},\"sequence_number\":7}\n\n";
    const RESPONSES_LATE: &str = "data: {\"response\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":4,\"total_tokens\":7}},\"type\":\"response.failed\",\"sequence_number\":3}\r\n\r\n: bye\r\n\r\n";
    const CHAT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null},{\"index\":1,\"delta\":{\"content\":\"data: [DONE]\"},\"finish_reason\":null}]}\n\n\
        data: {\"choices\":[{\"index\":1,\"delta\":{\"tool_calls\":[{\"index\":2}]},\"finish_reason\":\"stop\"},{\"finish_reason\":\"length\",\"index\":0}],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}\n\ndata: [DONE]\n\n";
    const CHAT_OPEN: &str = "data: {\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":\"\"}]}\n\n\
        data: {\"choices\":\ndata: [{\"index\":1,\"text\":\"b\",\"finish_reason\":\"stop\"}]}\n\n";
    const CHAT_ERROR: &str =
        "data: {\"choices\":[],\"error\":{\"message\":\"x\"}}\r\rdata: {\"error\":null}\n\n";
    const MESSAGES: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":30,\"output_tokens\":1},\"stop_reason\":null}}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":12}}\n\n";
    const MESSAGES_STOP: &str = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    const MESSAGES_ERROR: &str =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";

    const OLLAMA: &str = "{\"model\":\"m\",\"message\":{\"content\":\"\\\"done\\\":true, \\\"error\\\"\"},\"done\":false}\n\
        {\"done\":true,\"message\":{\"eval_count\":1},\"prompt_eval_count\":26,\"eval_count\":9,\"context\":[1,2,3]}\n";
    const OLLAMA_ERROR: &str =
        "{\"message\":{\"content\":\"a\"},\"done\":false}\r\n{\"error\":{\"message\":\"x\"}}\n";

    #[test]
    fn lines_say_whether_they_are_whole_and_what_they_cost() {
        let whole = told(Api::OllamaChat, OLLAMA.as_bytes(), &[], usize::MAX);
        assert_eq!((whole.usage.input, whole.usage.output, whole.cut, whole.errored), (26, 9, false, false));
        let half = OLLAMA.split_inclusive('\n').next().unwrap();
        assert!(told(Api::OllamaChat, half.as_bytes(), &[], usize::MAX).cut);
        let failed = told(Api::OllamaChat, OLLAMA_ERROR.as_bytes(), &[], usize::MAX);
        assert!(failed.errored && !failed.cut, "an error is an end of its own");
    }

    #[test]
    fn an_event_of_any_length_says_the_same_at_every_cut() {
        for (api, stream) in [
            (Api::Responses, RESPONSES),
            (Api::Responses, RESPONSES_LATE),
            (Api::Chat, CHAT),
            (Api::Completions, CHAT_OPEN),
            (Api::Chat, CHAT_ERROR),
            (Api::Messages, MESSAGES),
            (Api::Messages, MESSAGES_STOP),
            (Api::Messages, MESSAGES_ERROR),
            (Api::OllamaChat, OLLAMA),
            (Api::OllamaGenerate, OLLAMA_ERROR),
        ] {
            let stream = stream.as_bytes();
            let whole = told(api, stream, &[], usize::MAX);
            assert_eq!(whole.passed, stream, "{}", stream.escape_ascii());
            for event_bytes_max in [0, 20, 90] {
                for first in 1..stream.len() {
                    for second in [first, (first + 9).min(stream.len() - 1)] {
                        let cut = told(api, stream, &[first, second], event_bytes_max);
                        assert_eq!(
                            cut,
                            whole,
                            "{first}, {second}, {event_bytes_max}: {}",
                            stream.escape_ascii()
                        );
                    }
                }
                let every: Vec<usize> = (1..stream.len()).collect();
                let bytes = told(api, stream, &every, event_bytes_max);
                assert_eq!(bytes, whole, "{event_bytes_max}: {}", stream.escape_ascii());
            }
        }
    }
}
