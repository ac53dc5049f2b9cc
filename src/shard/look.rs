//! What the relay learns from payload before it passes it on.

use crate::dialect::Api;
use crate::dialect::stream::Meter;
use crate::dialect::usage::BodyMeter;
use crate::units::Span;

/// How the payload is looked into.
pub(super) enum Look {
    /// Whole events, one by one or many at once.
    Events(Meter),
    /// A body, in any pieces.
    Body(BodyMeter),
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
    pub(super) fn all(payload: Span, first_token: bool) -> Self {
        let end = Span::new(payload.end, payload.end);
        Self { pieces: [payload, end], held: end, first_token }
    }

    /// Nothing for the client.
    pub(super) fn none(at: usize) -> Self {
        let none = Span::new(at, at);
        Self { pieces: [none, none], held: none, first_token: false }
    }

    pub(super) fn pass_held(&mut self) {
        self.pieces[1].end = self.held.end;
        self.held.start = self.held.end;
    }
}

/// Events in `bytes`, whole ones, from their line ends alone: an event is a line and a blank one, with its name on a
/// line of its own in the dialects that name events. Engines send about one token per event, so this is what a stream
/// without usage is taken to have cost.
pub(super) fn count_events(api: Option<Api>, bytes: &[u8]) -> u64 {
    let lines = memchr::memchr_iter(b'\n', bytes).count() as u64;
    lines / if matches!(api, Some(Api::Responses | Api::Messages)) { 3 } else { 2 }
}
