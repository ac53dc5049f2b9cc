//! The text of a response against what was taken of the limits of its key: what may pass, and what waits for more.
//!
//! Only for keys and teams with limits on tokens or with budgets. Text is counted in bytes, by the ratio of its deployment; until the
//! bytes reach the line, which is what the limits cover, a read costs one search and one comparison. At the line more is taken; where
//! there is none, the events up to the line pass, and the others are held until more is there or the stream is stopped.

use crate::clock;
use crate::dialect::Task;
use crate::dialect::stream::TextMeter;
use crate::error::Fault;
use crate::net::buffers::Buffer;
use crate::observe::Counter;
use crate::plan::Home;
use crate::plan::admission::{At, Grown};
use crate::policy::limits::ratio;
use crate::shard::exchange::Exchange;
use crate::shard::response::Response;
use crate::wire::records::RecordForm;

/// The text of one response.
pub(super) struct Metering {
    text: TextMeter,
    /// How the stream is cut into events.
    form: RecordForm,
    /// Thousandths of a byte for each token.
    milli_bytes: u64,
    /// Bytes of text that have passed.
    bytes: u64,
    /// Bytes of text that may pass.
    line: u64,
    /// What the line has stopped.
    waiting: Option<Box<Waiting>>,
}

/// Where what a read brought lies in its response.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The response ends behind it.
    pub(super) ends: bool,
    /// It begins in the middle of an event whose beginning the client has.
    pub(super) is_mid_event: bool,
}

/// What waits at the line.
struct Waiting {
    /// Whole events.
    events: Vec<u8>,
    /// The response ends behind them.
    ends: bool,
    /// They begin in the middle of an event whose beginning the client has.
    is_mid_event: bool,
    /// Why the stream goes no further, if it does not.
    fault: Option<Fault>,
}

impl Metering {
    /// For a response of text to a request whose tokens are limited. One that is no stream is only counted.
    pub(super) fn of(exchange: &Exchange, response: &Response) -> Option<Self> {
        let api = exchange.api.unwrap_or_default();
        let is_text = matches!(api.task(), Task::Generate | Task::Complete) && response.head.status < 300;
        if !exchange.held.takes_tokens() || !is_text || response.is_coded() {
            return None;
        }
        let plan = &exchange.shard.plan;
        let ratio = &plan.deployments.cells(response.deployment).text;
        let milli_bytes = ratio.milli_bytes(plan.estimate.bytes_per_token);
        let is_stream = response.head.event_stream;
        let covered = if is_stream { exchange.held.covered(plan) } else { u64::MAX };
        Some(Self {
            text: if is_stream { TextMeter::of_stream(api) } else { TextMeter::of_body() },
            form: api.stream().records(),
            milli_bytes,
            bytes: 0,
            line: ratio::bytes(covered, milli_bytes),
            waiting: None,
        })
    }

    /// Counts what is in `buffer` from `from` on, and takes out of it what may not pass yet.
    pub(super) fn pass(&mut self, exchange: &mut Exchange, buffer: &mut Buffer, from: usize, place: Place) {
        let before = self.text;
        let text = self.text.count(&buffer[from..]);
        if self.bytes.saturating_add(text) <= self.line {
            self.bytes += text;
            return;
        }
        self.text = before;
        let (passes, fault) = self.up_to_the_line(exchange, &buffer[from..], text);
        let passes = from + passes;
        if passes < buffer.len() {
            if fault.is_none() {
                exchange.shard.numbers.inc(Counter::StreamsHeld);
            }
            let Place { ends, is_mid_event } = place;
            let (events, is_mid_event) = (buffer[passes..].to_vec(), is_mid_event && passes == from);
            self.waiting = Some(Box::new(Waiting { events, ends, is_mid_event, fault }));
            buffer.truncate(passes);
        }
    }

    /// Counts events that pass in any case: the few bytes that content rules let go. What follows them waits, if it has to.
    pub(super) fn note(&mut self, events: &[u8]) {
        self.bytes += self.text.count(events);
    }

    /// Whether what waits begins in the middle of an event.
    pub(super) fn is_mid_event(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.is_mid_event)
    }

    /// Whether events wait for more, or the stream stops.
    pub(super) fn is_holding(&self) -> bool {
        self.waiting.is_some()
    }

    /// Appends the events that may pass by now. True if the response ends with them.
    pub(super) fn resume(&mut self, exchange: &mut Exchange, buffer: &mut Buffer) -> bool {
        let Some(mut waiting) = self.waiting.take() else { return false };
        let mut text = self.text;
        let wanted = text.count(&waiting.events);
        let (passes, fault) = self.up_to_the_line(exchange, &waiting.events, wanted);
        waiting.is_mid_event &= passes == 0;
        buffer.extend(waiting.events.drain(..passes));
        if waiting.events.is_empty() {
            return waiting.ends;
        }
        waiting.fault = fault;
        self.waiting = Some(waiting);
        false
    }

    /// Why the stream has to stop, if it has to.
    pub(super) fn stopped(&self, exchange: &Exchange) -> Option<Fault> {
        let own = self.waiting.as_ref().and_then(|waiting| waiting.fault.clone());
        own.or_else(|| exchange.held.stopped(&exchange.shard.plan))
    }

    /// Tokens that have passed, by estimate.
    pub(super) fn tokens(&self) -> u64 {
        ratio::tokens(self.bytes, self.milli_bytes)
    }

    /// The deployment's own count of a whole response: the next one is counted by it.
    pub(super) fn learn(&self, exchange: &Exchange, response: &Response, output: u64) {
        exchange.shard.plan.deployments.cells(response.deployment).text.observe(self.bytes, output);
    }

    /// How many bytes of whole events may pass, of which all have `text` bytes of text, after more was taken if there was more; and why
    /// the stream stops behind them, if it does.
    #[cold]
    fn up_to_the_line(
        &mut self,
        exchange: &mut Exchange,
        events: &[u8],
        text: u64,
    ) -> (usize, Option<Fault>) {
        let wanted = ratio::tokens(self.bytes.saturating_add(text), self.milli_bytes);
        let fault = self.grow(exchange, wanted);
        let mut at = 0;
        while at < events.len() {
            let end = self.form.next_boundary(events, at).unwrap_or(events.len());
            let mut meter = self.text;
            let text = meter.count(&events[at..end]);
            if self.bytes.saturating_add(text) > self.line {
                break;
            }
            (self.text, self.bytes, at) = (meter, self.bytes + text, end);
        }
        (at, fault)
    }

    /// Takes more, so that `output` tokens are covered. Back comes why the stream stops, if it is the one that does.
    fn grow(&mut self, exchange: &mut Exchange, output: u64) -> Option<Fault> {
        let at = At { now: clock::now(), unix_ms: exchange.shard.unix_ms.get() };
        let shard = exchange.shard.clone();
        let mut fault = None;
        match exchange.held.grow(&shard.plan, output, at) {
            Grown::Covered => {}
            Grown::Stop(reached) => fault = Some(reached),
            Grown::Wait(stopped) => {
                if let Some(home) = stopped
                    && !shard.control.wake(Home(home))
                {
                    shard.numbers.inc(Counter::StopsLate);
                }
            }
        }
        self.line = ratio::bytes(exchange.held.covered(&shard.plan), self.milli_bytes);
        fault
    }
}
