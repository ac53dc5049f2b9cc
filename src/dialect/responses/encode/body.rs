//! A whole response for a client, folded from events.

use super::events::Events;
use crate::dialect::neutral::{Context, Event, HeldTooMuch};

/// What a response has said so far. A stream keeps all of it for its final event, which is the response.
#[derive(Clone, Debug)]
pub struct Body {
    events: Events,
    /// The records of the stream, which are not sent.
    unread: Vec<u8>,
}

impl Body {
    /// A response of which nothing has come.
    pub fn new(context: Context) -> Self {
        Self { events: Events::new(context), unread: Vec::new() }
    }

    /// Takes an event in. A fault is for the caller to tell: a response with one has no end.
    ///
    /// # Errors
    /// The response is longer than may be held.
    pub fn event(&mut self, event: &Event<'_>) -> Result<(), HeldTooMuch> {
        self.unread.clear();
        self.events.event(event, &mut self.unread)
    }

    /// Appends the response; false, and nothing is appended, if it has not come to its end.
    pub fn finish(self, out: &mut Vec<u8>) -> bool {
        if self.events.ended {
            self.events.write(out);
        }
        self.events.ended
    }
}
