//! How long may one attempt take? Which deadline applies, from the request sent to the opening of the response.
//!
//! Until the head has come the client's request decides: a stream has to begin within `first_token`, everything else has
//! to be complete within `response`. From the head on the response itself decides: one that is no stream has `response`
//! for all of it and `between_events` for each read, whatever was asked for. `first_byte` is for both, until the first
//! byte of the final head; interim heads (1xx) do not count.

use crate::error::{Fault, FaultKind};
use crate::plan::Timeouts;
use crate::shard::wording::RESPONSE_LATE;
use crate::units::Nanos;

/// The deadlines of one attempt, in the time of the shard's ticks.
#[derive(Clone, Copy)]
pub(super) struct Patience<'a> {
    timeouts: &'a Timeouts,
    /// The end of the whole exchange.
    total: Nanos,
    /// A stream was asked for.
    streams: bool,
    /// When the request was sent.
    sent: Nanos,
}

/// A deadline, and what it means if it comes.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    pub(super) at: Nanos,
    kind: FaultKind,
    note: &'static str,
}

impl<'a> Patience<'a> {
    /// For an attempt whose request is sent at `sent`.
    pub(super) fn new(timeouts: &'a Timeouts, total: Nanos, streams: bool, sent: Nanos) -> Self {
        Self { timeouts, total, streams, sent }
    }

    /// While the connection is being opened.
    pub(super) fn connect(&self) -> Limit {
        self.within(self.timeouts.connect, FaultKind::ConnectTimeout, "the backend did not accept in time")
    }

    /// Until the first byte of the head.
    pub(super) fn first_byte(&self) -> Limit {
        let late = "the backend did not begin to respond in time";
        self.head().or(self.within(self.timeouts.first_byte, FaultKind::FirstTokenTimeout, late))
    }

    /// Until the end of the head, and where a stream was asked for and comes, to its first event or content.
    pub(super) fn head(&self) -> Limit {
        match self.streams {
            true => self.within(
                self.timeouts.first_token,
                FaultKind::FirstTokenTimeout,
                "the backend did not answer in time",
            ),
            false => self.response(),
        }
    }

    /// One read of what follows the head at `now`. `None`: the deadline of the head goes on.
    pub(super) fn body(&self, event_stream: bool, now: Nanos) -> Option<Limit> {
        match event_stream {
            true if self.streams => None,
            true => Some(self.event(now)),
            false => Some(self.response().or(self.event(now))),
        }
    }

    /// One read of a stream that has begun.
    pub(super) fn event(&self, now: Nanos) -> Limit {
        let at = now.plus(self.timeouts.between_events);
        Limit { at, kind: FaultKind::EventTimeout, note: "the backend went silent" }.or(self.exchange())
    }

    /// The whole of a response that is no stream.
    fn response(&self) -> Limit {
        self.within(self.timeouts.response, FaultKind::FirstTokenTimeout, RESPONSE_LATE)
    }

    fn within(&self, after: Nanos, kind: FaultKind, note: &'static str) -> Limit {
        Limit { at: self.sent.plus(after), kind, note }.or(self.exchange())
    }

    fn exchange(&self) -> Limit {
        Limit { at: self.total, kind: FaultKind::TotalTimeout, note: "the exchange took too long" }
    }
}

impl Limit {
    /// Whichever comes first.
    fn or(self, other: Self) -> Self {
        if other.at <= self.at { other } else { self }
    }

    /// The fault of an attempt whose limit has come.
    pub(super) fn fault(&self) -> Fault {
        Fault::new(self.kind, self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Process, compile, read};

    const SECOND: u64 = 1_000_000_000;

    fn timeouts(text: &str) -> Timeouts {
        let text = format!(
            "[timeouts]\nconnect = \"1s\"\nfirst_token = \"3s\"\nresponse = \"20s\"\nbetween_events = \"5s\"\ntotal = \"30s\"\n\
             {text}\n[backend.a]\nurl = \"http://a\"\n[model.m]\nbackends = [\"a\"]"
        );
        let written = read(std::path::Path::new("/f.toml"), &text).expect("it can be read");
        compile(&written, &Process).unwrap_or_else(|bad| panic!("{bad}")).plan.timeouts
    }

    fn seconds(limit: Limit) -> (u64, FaultKind) {
        (limit.at.0 / SECOND, limit.kind)
    }

    fn patience(timeouts: &Timeouts, streams: bool) -> Patience<'_> {
        Patience::new(timeouts, Nanos(130 * SECOND), streams, Nanos(100 * SECOND))
    }

    #[test]
    fn only_who_asks_for_a_stream_is_bound_by_its_first_token() {
        let timeouts = timeouts("");
        assert_eq!(seconds(patience(&timeouts, true).first_byte()), (103, FaultKind::FirstTokenTimeout));
        assert_eq!(seconds(patience(&timeouts, false).first_byte()), (120, FaultKind::FirstTokenTimeout));
        assert_eq!(seconds(patience(&timeouts, false).connect()), (101, FaultKind::ConnectTimeout));
    }

    #[test]
    fn the_first_byte_ends_its_own_deadline_only() {
        for (streams, head) in [(true, 103), (false, 120)] {
            let timeouts = timeouts("first_byte = \"2s\"");
            let patience = patience(&timeouts, streams);
            assert_eq!(seconds(patience.first_byte()).0, 102);
            assert_eq!(seconds(patience.head()).0, head);
        }
    }

    #[test]
    fn a_body_has_a_deadline_for_each_read_and_one_for_all_of_it() {
        let timeouts = timeouts("");
        let at = |streams, event_stream, now| {
            patience(&timeouts, streams).body(event_stream, Nanos(now * SECOND)).map(seconds)
        };
        for asked in [true, false] {
            assert_eq!(at(asked, false, 110), Some((115, FaultKind::EventTimeout)));
            assert_eq!(at(asked, false, 118), Some((120, FaultKind::FirstTokenTimeout)));
        }
        assert_eq!(at(true, true, 101), None, "the first token of a stream that was asked for");
        assert_eq!(at(false, true, 118), Some((123, FaultKind::EventTimeout)));
        assert_eq!(at(false, true, 127), Some((130, FaultKind::TotalTimeout)));
    }
}
