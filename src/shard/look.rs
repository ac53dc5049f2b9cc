//! What the relay learns from payload before it passes it on.

use crate::dialect::Api;
use crate::dialect::stream::{self, Meter};
use crate::dialect::usage::{BodyMeter, Usage};
use crate::units::Span;
use crate::wire::sse;

/// How the payload of an answer is looked into, and what has been seen so far.
pub(super) struct Look {
    /// The client holds the beginning of an event, not its end.
    mid_event: bool,
    api: Api,
    /// Longest beginning of an event that is held back.
    event_bytes_max: usize,
    events: u64,
    passed_unread: u64,
    meter: Kind,
}

enum Kind {
    /// Whole events, one by one or many at once.
    Events(Meter),
    /// A body, in any pieces.
    Body(BodyMeter),
    /// Bytes in a content coding that we did not ask for, so many so far.
    Coded(u64),
}

impl Look {
    pub(super) fn events(api: Api, meter: Meter, event_bytes_max: usize) -> Self {
        Self {
            mid_event: false,
            api: api.streams_as(),
            event_bytes_max,
            events: 0,
            passed_unread: 0,
            meter: Kind::Events(meter),
        }
    }

    pub(super) fn body(api: Api) -> Self {
        let meter = Kind::Body(BodyMeter::default());
        Self { mid_event: false, api, event_bytes_max: 0, events: 0, passed_unread: 0, meter }
    }

    pub(super) fn coded(api: Api) -> Self {
        Self { meter: Kind::Coded(0), ..Self::body(api) }
    }

    /// Looks into new payload: what to pass on, what to hold back.
    pub(super) fn take(&mut self, block: &[u8], payload: Span, ended: bool) -> Found {
        let meter = match &mut self.meter {
            Kind::Events(meter) => meter,
            Kind::Body(meter) => {
                meter.block(payload.of(block));
                return Found::all(payload, true);
            }
            Kind::Coded(bytes) => {
                *bytes += payload.len() as u64;
                return Found::all(payload, true);
            }
        };
        let mut start = payload.start;
        if self.mid_event {
            match sse::next_boundary(payload.of(block), 0) {
                Some(end) => start += end,
                None => return Found::all(payload, false),
            }
            self.mid_event = false;
        }
        if meter.done() {
            return Found::none(payload.start);
        }
        let boundary = start + sse::last_boundary(&block[start..payload.end]);
        // At the end of the body there is no rest to wait for: what is left is read as the event it is.
        let mut whole = if ended { payload.end } else { boundary };
        let events = meter.events(&block[start..whole]);
        if ended && meter.is_cut() {
            // The error record that follows must not be joined with an event that lacks its blank line.
            whole = boundary;
        }
        self.mid_event = boundary < whole;
        self.events += count_events(self.api, &block[start..whole]);
        let (whole, held_from) = match events.end {
            Some(end) => (start + end, payload.end),
            None if ended => (whole, payload.end),
            None => (whole, whole),
        };
        let pieces = match events.drop.filter(|drop| start + drop.end <= whole) {
            Some(drop) => [Span::new(payload.start, start + drop.start), Span::new(start + drop.end, whole)],
            None => [Span::new(payload.start, whole), Span::new(whole, whole)],
        };
        let held = Span::new(held_from, payload.end);
        let mut found = Found { pieces, held, first_token: events.first_token };
        if held.len() > self.event_bytes_max {
            self.passed_unread += 1;
            self.mid_event = true;
            found.pass_held();
        }
        found
    }

    /// Whether a body that ends here, by a close and with `rest` behind its last whole event, has come to its proper end.
    pub(super) fn may_end(&self, rest: &[u8]) -> bool {
        match &self.meter {
            Kind::Events(meter) => {
                meter.done() || meter.finished() && !self.mid_event && stream::is_whole_event(rest)
            }
            Kind::Body(_) | Kind::Coded(_) => true,
        }
    }

    /// Whether a body that has ended, and properly, is a stream that did not come to its own end.
    pub(super) fn is_cut(&self) -> bool {
        matches!(&self.meter, Kind::Events(meter) if self.passed_unread == 0 && meter.is_cut())
    }

    /// What a finished stream lacks because its server sends no `[DONE]`. A last event without its blank line gets that
    /// first, or the two would be read as one.
    pub(super) fn missing_end(&self) -> Option<&'static [u8]> {
        let Kind::Events(meter) = &self.meter else { return None };
        match !meter.is_cut() && !meter.errored() && !meter.done() && self.takes_done() {
            true if self.mid_event => Some(b"\n\ndata: [DONE]\n\n"),
            true => Some(b"data: [DONE]\n\n"),
            false => None,
        }
    }

    /// Whether a stream of this API ends with `[DONE]`.
    fn takes_done(&self) -> bool {
        matches!(self.api, Api::Chat | Api::Completions)
    }

    /// Whether the answer said itself that it failed.
    pub(super) fn errored(&self) -> bool {
        matches!(&self.meter, Kind::Events(meter) if meter.errored())
    }

    /// The sequence number of an event of our own, where one can be put in.
    pub(super) fn next_sequence(&self) -> Option<u64> {
        match &self.meter {
            Kind::Events(meter) if !self.mid_event => Some(meter.sequence()),
            _ => None,
        }
    }

    /// Whether a record of our own can be put in here without the client taking it for a part of an event, or for more
    /// than the stream's end.
    pub(super) fn is_between_events(&self) -> bool {
        let Kind::Events(meter) = &self.meter else { return false };
        let is_over = if self.takes_done() { meter.done() } else { meter.finished() };
        !self.mid_event && !is_over
    }

    /// What the backend reported so far; of a coded body nothing can be known.
    pub(super) fn usage(&self) -> Option<&Usage> {
        match &self.meter {
            Kind::Events(meter) => Some(meter.usage()),
            Kind::Body(meter) => Some(meter.usage()),
            Kind::Coded(_) => None,
        }
    }

    /// Events passed on.
    pub(super) fn event_count(&self) -> u64 {
        self.events
    }

    /// Output tokens, for when the backend's own count cannot be had.
    pub(super) fn output_estimate(&self) -> u64 {
        match self.meter {
            Kind::Coded(bytes) => bytes.div_ceil(CODED_BYTES_PER_TOKEN),
            _ => self.events,
        }
    }

    /// Events that were too long to be read whole.
    pub(super) fn unread_count(&self) -> u64 {
        self.passed_unread
    }
}

/// What a look into new payload decided.
pub(super) struct Found {
    /// What goes out now: one piece, or two around an event that is dropped.
    pub(super) pieces: [Span; 2],
    /// The beginning of an event whose rest has not come.
    pub(super) held: Span,
    pub(super) first_token: bool,
}

impl Found {
    fn all(payload: Span, first_token: bool) -> Self {
        let end = Span::new(payload.end, payload.end);
        Self { pieces: [payload, end], held: end, first_token }
    }

    /// Nothing for the client.
    fn none(at: usize) -> Self {
        let none = Span::new(at, at);
        Self { pieces: [none, none], held: none, first_token: false }
    }

    fn pass_held(&mut self) {
        self.pieces[1].end = self.held.end;
        self.held.start = self.held.end;
    }
}

/// Events in `bytes`, whole ones, from their line ends alone: an event is a line and a blank one, with its name on a
/// line of its own in the dialects that name events. Engines send about one token per event, so this is what a stream
/// without usage is taken to have cost.
fn count_events(api: Api, bytes: &[u8]) -> u64 {
    let lines = memchr::memchr_iter(b'\n', bytes).count() as u64;
    lines / if matches!(api, Api::Responses | Api::Messages) { 3 } else { 2 }
}

/// Of a stream whose writer flushes every event: about what one takes compressed. Taste, to the charged one's good.
const CODED_BYTES_PER_TOKEN: u64 = 32;
