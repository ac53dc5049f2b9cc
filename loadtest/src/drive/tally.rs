//! The numbers of a run, in flat memory: histograms, counts, and a bounded number of time slices.

use super::client::{Failure, Outcome};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Limits that a good request keeps.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time to the first token.
    pub ttft: Duration,
    /// Mean time between tokens of one request.
    pub between: Duration,
}

/// The part of a run that is measured.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Its start.
    pub start: Instant,
    /// Its length.
    pub length: Duration,
}

impl Window {
    /// Whether a request meant to be sent at `time` is measured.
    pub fn has(&self, time: Instant) -> bool {
        time >= self.start && time < self.start + self.length
    }
}

/// Numbers so far. A request counts when the moment it was meant to be sent lies in the window.
#[derive(Debug)]
pub struct Tally {
    /// What is measured.
    pub window: Window,
    /// Limits for goodput.
    pub limits: Limits,
    /// From the intended send time to the first token.
    pub ttft: Histogram<u64>,
    /// Between tokens.
    pub between: Histogram<u64>,
    /// From the intended send time to the end.
    pub total: Histogram<u64>,
    /// From the intended to the true send time: how late the driver itself was.
    pub late: Histogram<u64>,
    /// Requests meant to be sent in the window.
    pub sent: u64,
    /// Of those, answered well.
    pub good: u64,
    /// Of those, within both limits.
    pub within: u64,
    /// Failures by name.
    pub failures: BTreeMap<String, u64>,
    /// Streams that ended with a finish reason but without `[DONE]`.
    pub without_done: u64,
    /// Requests sent a second time because a kept connection was closed.
    pub resent: u64,
    /// Records received.
    pub events: u64,
    /// Records with text received.
    pub tokens: u64,
    /// Completion tokens by the server's count.
    pub completion_tokens: u64,
    /// Cached prompt tokens by the server's count.
    pub cached_tokens: u64,
    /// The window in slices.
    pub slices: Vec<Slice>,
    /// Length of a slice.
    pub slice: Duration,
}

/// One slice of the window, by the time a request ended or a token came.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Requests that ended well.
    pub good: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Tokens.
    pub tokens: u64,
    /// Time to first token of requests whose first token came in it.
    pub ttft: Histogram<u64>,
}

impl Tally {
    /// Nothing yet.
    pub fn new(window: Window, limits: Limits) -> Self {
        let seconds = window.length.as_secs_f64();
        let slice = Duration::from_secs_f64((seconds / SLICES_MAX).max(1.0).ceil());
        let count = (seconds / slice.as_secs_f64()).ceil().max(1.0) as usize;
        let empty = Slice { good: 0, failed: 0, tokens: 0, ttft: histogram(2) };
        Self {
            window,
            limits,
            ttft: histogram(3),
            between: histogram(3),
            total: histogram(3),
            late: histogram(3),
            sent: 0,
            good: 0,
            within: 0,
            failures: BTreeMap::new(),
            without_done: 0,
            resent: 0,
            events: 0,
            tokens: 0,
            completion_tokens: 0,
            cached_tokens: 0,
            slices: vec![empty; count],
            slice,
        }
    }

    /// A token of a measured request came at `now`, `gap` after the one before.
    pub fn token(&mut self, now: Instant, gap: Option<Duration>) {
        self.tokens += 1;
        if let Some(gap) = gap {
            record(&mut self.between, gap);
        }
        if let Some(slice) = self.slice_at(now) {
            slice.tokens += 1;
        }
    }

    /// A measured request ended. `meant` is when it should have been sent, `sent` when it was.
    pub fn ended(&mut self, meant: Instant, sent: Instant, tokens: &Tokens, outcome: &Outcome) {
        self.sent += 1;
        self.events += outcome.seen.events;
        self.completion_tokens += outcome.seen.completion_tokens.unwrap_or(0);
        self.cached_tokens += outcome.seen.cached_tokens.unwrap_or(0);
        self.resent += u64::from(outcome.resent);
        record(&mut self.late, sent - meant);
        if let Some(first) = outcome.first {
            record(&mut self.ttft, first - meant);
            if let Some(slice) = self.slice_at(first) {
                record(&mut slice.ttft, first - meant);
            }
        }
        if let Some(failure) = &outcome.failure {
            self.failed(outcome.end, failure);
            return;
        }
        self.good += 1;
        record(&mut self.total, outcome.end - meant);
        self.without_done += u64::from(outcome.is_stream && !outcome.seen.done);
        // All of an answer without a stream is its first token.
        let first_is_soon = outcome.first.unwrap_or(outcome.end) - meant <= self.limits.ttft;
        if first_is_soon && tokens.mean_gap() <= self.limits.between {
            self.within += 1;
        }
        if let Some(slice) = self.slice_at(outcome.end) {
            slice.good += 1;
        }
    }

    fn failed(&mut self, now: Instant, failure: &Failure) {
        *self.failures.entry(failure.to_string()).or_default() += 1;
        if let Some(slice) = self.slice_at(now) {
            slice.failed += 1;
        }
    }

    /// A measured request was not sent: too many were in flight already.
    pub fn refused(&mut self, now: Instant) {
        self.sent += 1;
        *self.failures.entry("not sent: in-flight limit of the driver".to_owned()).or_default() += 1;
        if let Some(slice) = self.slice_at(now) {
            slice.failed += 1;
        }
    }

    /// `count` measured requests had not ended when the run did.
    pub fn unfinished(&mut self, count: u64) {
        if count > 0 {
            self.sent += count;
            *self.failures.entry("unfinished at the end of the run".to_owned()).or_default() += count;
        }
    }

    fn slice_at(&mut self, now: Instant) -> Option<&mut Slice> {
        let since = now.checked_duration_since(self.window.start)?;
        self.slices.get_mut((since.as_secs_f64() / self.slice.as_secs_f64()) as usize)
    }
}

/// The tokens of one request as they come.
#[derive(Debug, Default)]
pub struct Tokens {
    first: Option<Instant>,
    last: Option<Instant>,
    count: u32,
}

impl Tokens {
    /// A token came; returns the time since the one before.
    pub fn came(&mut self, now: Instant) -> Option<Duration> {
        self.count += 1;
        self.first.get_or_insert(now);
        self.last.replace(now).map(|last| now - last)
    }

    /// Mean time between tokens, zero for fewer than two.
    pub fn mean_gap(&self) -> Duration {
        match (self.first, self.last) {
            (Some(first), Some(last)) if self.count > 1 => (last - first) / (self.count - 1),
            _ => Duration::ZERO,
        }
    }
}

/// Adds a time, in microseconds.
pub fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
}

/// An empty histogram of microseconds from 1 to an hour with so many significant digits.
pub fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, digits)
        .expect("the bounds are valid for any digits we ask for")
}

/// Slices of a window at most; a longer run has longer ones.
const SLICES_MAX: f64 = 300.0;
