//! Histograms: filled by a shard for about a second, handed over whole, merged by the coordinator.
//!
//! Times are nanoseconds in HDR cells of 1 % width (0.1 % for our own overhead), their sums exact. Fixed bounds
//! are applied only when text is written, so quantiles need no bounds at all.

use std::sync::Arc;

use hdrhistogram::{Counter as Cell, Histogram};

use super::record::Record;
use super::tables::Before;
use crate::sync::{ArrayQueue, AtomicBool, Ordering};
use crate::units::{ModelId, Nanos};

/// Bounds of request duration, seconds (OTel GenAI, `gen_ai.server.request.duration`).
pub const DURATION_BOUNDS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// Bounds of time to first token, seconds: the OTel advice up to 10, then our own, for GPUs with a queue.
pub const FIRST_TOKEN_BOUNDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0,
    30.0, 45.0, 60.0,
];

/// Bounds of time per output token, seconds (OTel GenAI).
pub const PER_TOKEN_BOUNDS: &[f64] =
    &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];

/// Bounds of our own overhead, seconds; ours, not a convention.
pub const OVERHEAD_BOUNDS: &[f64] =
    &[0.000005, 0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01];

/// Bounds of tokens per exchange (OTel GenAI, `gen_ai.client.token.usage`): powers of four.
pub const TOKEN_BOUNDS: [u64; 14] =
    [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864];

/// Times in HDR cells with their exact sum; a time beyond the range counts as its end.
pub struct Timing<C: Cell> {
    cells: Histogram<C>,
    sum_ns: u64,
}

impl<C: Cell> Timing<C> {
    /// For exchanges: 1 us to one hour, two digits, about 13 KB with `u32` cells.
    fn of_exchanges() -> Self {
        Self::new(1_000, 3_600_000_000_000, 2)
    }

    /// For our own part of an exchange: 16 ns to one second, three digits.
    fn of_overhead() -> Self {
        Self::new(16, 1_000_000_000, 3)
    }

    fn new(low_ns: u64, high_ns: u64, digits: u8) -> Self {
        let cells = Histogram::new_with_bounds(low_ns, high_ns, digits).expect("constant bounds are valid");
        Self { cells, sum_ns: 0 }
    }

    fn record(&mut self, time: Nanos) {
        self.cells.saturating_record(time.0);
        self.sum_ns = self.sum_ns.saturating_add(time.0);
    }

    fn clear(&mut self) {
        self.cells.reset();
        self.sum_ns = 0;
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.cells.len()
    }

    /// Their sum in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// The time below or at which this share of them lies, zero if there are none.
    pub fn quantile(&self, share: f64) -> Nanos {
        Nanos(self.cells.value_at_quantile(share))
    }

    /// How many lie at or below each of `bounds` (seconds, ascending).
    ///
    /// A time equal to a bound counts in it; one less than a cell's width above it may, too.
    pub fn cumulative(&self, bounds: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len()];
        for cell in self.cells.iter_recorded() {
            let lowest = self.cells.lowest_equivalent(cell.value_iterated_to());
            let bucket = bounds.partition_point(|bound| ((bound * 1e9).round() as u64) < lowest);
            if let Some(count) = counts.get_mut(bucket) {
                *count += cell.count_at_value().as_u64();
            }
        }
        accumulate(&mut counts);
        counts
    }
}

impl Timing<u64> {
    fn absorb(&mut self, interval: &Timing<u32>) {
        for cell in interval.cells.iter_recorded() {
            self.cells.saturating_record_n(cell.value_iterated_to(), u64::from(cell.count_at_value()));
        }
        self.sum_ns = self.sum_ns.saturating_add(interval.sum_ns);
    }
}

/// Tokens per exchange, in the fixed buckets of [`TOKEN_BOUNDS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TokenBuckets {
    counts: [u64; TOKEN_BOUNDS.len()],
    beyond: u64,
    sum: u64,
}

impl TokenBuckets {
    fn record(&mut self, tokens: u64) {
        let bucket = TOKEN_BOUNDS.partition_point(|bound| *bound < tokens);
        *self.counts.get_mut(bucket).unwrap_or(&mut self.beyond) += 1;
        self.sum = self.sum.saturating_add(tokens);
    }

    fn absorb(&mut self, other: &TokenBuckets) {
        for (count, part) in self.counts.iter_mut().zip(other.counts) {
            *count += part;
        }
        self.beyond += other.beyond;
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many exchanges were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.beyond
    }

    /// Tokens of all of them.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// How many had at most each of [`TOKEN_BOUNDS`].
    pub fn cumulative(&self) -> Vec<u64> {
        let mut counts = self.counts.to_vec();
        accumulate(&mut counts);
        counts
    }
}

fn accumulate(counts: &mut [u64]) {
    let mut below = 0;
    for count in counts {
        below += *count;
        *count = below;
    }
}

/// What is measured of one model.
pub struct ModelTimes<C: Cell> {
    /// First byte of the request to last byte of the response; exchanges that reached a backend.
    pub duration: Timing<C>,
    /// First byte of the request to the first token.
    pub first_token: Timing<C>,
    /// Between two tokens, on average over an exchange.
    pub per_token: Timing<C>,
    /// Input tokens per exchange, cached ones included.
    pub input: TokenBuckets,
    /// Output tokens per exchange, reasoning included.
    pub output: TokenBuckets,
}

impl<C: Cell> ModelTimes<C> {
    fn new() -> Self {
        Self {
            duration: Timing::of_exchanges(),
            first_token: Timing::of_exchanges(),
            per_token: Timing::of_exchanges(),
            input: TokenBuckets::default(),
            output: TokenBuckets::default(),
        }
    }

    fn record(&mut self, record: &Record) {
        self.duration.record(record.duration);
        if let Some(time) = record.time_to_first_token {
            self.first_token.record(time);
        }
        if let Some(time) = record.time_per_output_token() {
            self.per_token.record(time);
        }
        if record.usage_known {
            self.input.record(record.input_tokens);
            self.output.record(record.output_tokens);
        }
    }

    fn clear(&mut self) {
        self.duration.clear();
        self.first_token.clear();
        self.per_token.clear();
        self.input = TokenBuckets::default();
        self.output = TokenBuckets::default();
    }
}

impl ModelTimes<u64> {
    fn absorb(&mut self, interval: &ModelTimes<u32>) {
        self.duration.absorb(&interval.duration);
        self.first_token.absorb(&interval.first_token);
        self.per_token.absorb(&interval.per_token);
        self.input.absorb(&interval.input);
        self.output.absorb(&interval.output);
    }
}

/// What one shard measured since the last hand-over.
struct Interval {
    /// By `ModelId`; a model costs memory once it has been called.
    models: Box<[Option<Box<ModelTimes<u32>>>]>,
    overhead: Timing<u32>,
}

impl Interval {
    fn new(models: usize) -> Box<Self> {
        let models = std::iter::repeat_with(|| None).take(models).collect();
        Box::new(Self { models, overhead: Timing::of_overhead() })
    }

    /// Every exchange that is measured at all is in `overhead`.
    fn is_empty(&self) -> bool {
        self.overhead.count() == 0
    }

    fn clear(&mut self) {
        self.overhead.clear();
        for times in self.models.iter_mut().flatten() {
            if times.duration.count() > 0 {
                times.clear();
            }
        }
    }
}

/// The two intervals of a shard travel in circles: filled up, emptied down.
struct Lane {
    filled: ArrayQueue<Box<Interval>>,
    emptied: ArrayQueue<Box<Interval>>,
    /// Set by a shard that leaves, once its last interval is in `filled`. Not read off the count of the `Arc`: that one
    /// does not order what was handed over before it.
    left: AtomicBool,
}

/// Both ends of the histograms of one shard.
pub(super) fn lane(models: usize) -> (Recorder, Intervals) {
    let lane = Arc::new(Lane {
        filled: ArrayQueue::new(2),
        emptied: ArrayQueue::new(2),
        left: AtomicBool::new(false),
    });
    // The queue was made with room for both.
    let _ = lane.emptied.push(Interval::new(models));
    (Recorder { filling: Interval::new(models), lane: lane.clone() }, Intervals { lane })
}

/// The shard's end: measures exchanges.
pub struct Recorder {
    filling: Box<Interval>,
    lane: Arc<Lane>,
}

impl Recorder {
    /// Measures one exchange that reached a backend; others are only counted, since a refusal that took a
    /// microsecond says nothing about a model.
    pub fn record(&mut self, record: &Record) {
        if record.backend.is_none() {
            return;
        }
        self.filling.overhead.record(record.overhead);
        let Some(model) = record.model else { return };
        if let Some(row) = self.filling.models.get_mut(model.index()) {
            row.get_or_insert_with(|| Box::new(ModelTimes::new())).record(record);
        }
    }

    /// Hands over what was measured. If the coordinator has not given the other interval back yet, this one goes
    /// on being filled: nothing is lost, nothing waits.
    pub fn flush(&mut self) {
        if self.filling.is_empty() {
            return;
        }
        let Some(empty) = self.lane.emptied.pop() else {
            return;
        };
        let filled = std::mem::replace(&mut self.filling, empty);
        if let Err(filled) = self.lane.filled.push(filled) {
            debug_assert!(false, "two intervals fit a queue of two");
            self.filling = filled;
        }
    }
}

/// A shard that leaves hands over what it has: both intervals may wait then.
impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.filling.is_empty() {
            let last = std::mem::replace(&mut self.filling, Interval::new(0));
            // The queue has room for both; a third does not exist.
            let _ = self.lane.filled.push(last);
        }
        self.lane.left.store(true, Ordering::Release);
    }
}

/// The coordinator's end.
pub(super) struct Intervals {
    lane: Arc<Lane>,
}

impl Intervals {
    pub(super) fn merge_into(&self, totals: &mut Totals, row: impl Fn(ModelId) -> Option<ModelId>) {
        while let Some(mut interval) = self.lane.filled.pop() {
            totals.absorb(&interval, &row);
            interval.clear();
            if self.lane.emptied.push(interval).is_err() {
                debug_assert!(false, "two intervals fit a queue of two");
            }
        }
    }

    /// Whether the shard's end is gone. Who sees that sees all that it sent.
    pub(super) fn has_left(&self) -> bool {
        self.lane.left.load(Ordering::Acquire)
    }

    /// Whether all that was handed over has been taken.
    pub(super) fn is_empty(&self) -> bool {
        self.lane.filled.is_empty()
    }
}

/// Everything measured since the process started, all shards together.
pub struct Totals {
    /// By `ModelId`.
    models: Box<[Option<Box<ModelTimes<u64>>>]>,
    /// Our own part of every exchange that reached a backend.
    pub overhead: Timing<u64>,
}

impl Totals {
    /// Nothing measured yet, for so many models.
    pub fn new(models: usize) -> Self {
        let models = std::iter::repeat_with(|| None).take(models).collect();
        Self { models, overhead: Timing::of_overhead() }
    }

    /// What was measured of a model, `None` before its first exchange.
    pub fn model(&self, model: ModelId) -> Option<&ModelTimes<u64>> {
        self.models.get(model.index())?.as_deref()
    }

    /// The totals of the next plan: models that stay keep what was measured.
    pub fn next(&mut self, before: &Before) -> Self {
        let mut take = |id: &Option<ModelId>| id.and_then(|id| self.models.get_mut(id.index())?.take());
        let models = before.models.iter().map(&mut take).collect();
        Self { models, overhead: std::mem::replace(&mut self.overhead, Timing::of_overhead()) }
    }

    fn absorb(&mut self, interval: &Interval, row: &impl Fn(ModelId) -> Option<ModelId>) {
        self.overhead.absorb(&interval.overhead);
        for (index, times) in interval.models.iter().enumerate() {
            let total = row(ModelId::new(index)).and_then(|id| self.models.get_mut(id.index()));
            if let (Some(total), Some(times)) = (total, times)
                && times.duration.count() > 0
            {
                total.get_or_insert_with(|| Box::new(ModelTimes::new())).absorb(times);
            }
        }
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests;
