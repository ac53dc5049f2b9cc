//! What a key, a model or a backend has used: a row of cells written by one shard, and its plain sum.

use std::ops::AddAssign;

use super::bump;
use super::record::Record;
use crate::sync::{AtomicU64, Ordering};

/// The status classes of [`Usage::requests`], as label values.
pub const CLASSES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "other"];

/// The token types of [`Usage::tokens`], as label values: `input` includes `cached_input`, `output` includes
/// `reasoning`.
pub const TOKEN_TYPES: [&str; 4] = ["input", "cached_input", "output", "reasoning"];

/// Sums since the process started; add rows of several shards to get a total.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Settled exchanges, by [`CLASSES`].
    pub requests: [u64; CLASSES.len()],
    /// Tokens, by [`TOKEN_TYPES`].
    pub tokens: [u64; TOKEN_TYPES.len()],
    /// Settled exchanges whose tokens are our estimate.
    pub estimated: u64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        for (sum, part) in self.requests.iter_mut().zip(other.requests) {
            *sum += part;
        }
        for (sum, part) in self.tokens.iter_mut().zip(other.tokens) {
            *sum += part;
        }
        self.estimated += other.estimated;
    }
}

/// The row of one key, model or backend in one shard: 80 bytes, one writer.
#[derive(Default)]
pub(super) struct UsageCells {
    requests: [AtomicU64; CLASSES.len()],
    tokens: [AtomicU64; TOKEN_TYPES.len()],
    estimated: AtomicU64,
}

impl UsageCells {
    /// Adds one exchange; called by the owning shard only.
    pub(super) fn settle(&self, record: &Record) {
        bump(&self.requests[class(record.status)], 1);
        if !record.usage_known {
            return;
        }
        let tokens =
            [record.input_tokens, record.cached_tokens, record.output_tokens, record.reasoning_tokens];
        for (cell, count) in self.tokens.iter().zip(tokens) {
            bump(cell, count);
        }
        if record.estimated {
            bump(&self.estimated, 1);
        }
    }

    /// The sums so far. Cells are read one by one: an exchange settled meanwhile may show in some only.
    pub(super) fn read(&self) -> Usage {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Usage {
            requests: self.requests.each_ref().map(read),
            tokens: self.tokens.each_ref().map(read),
            estimated: read(&self.estimated),
        }
    }
}

/// Index into [`CLASSES`].
fn class(status: u16) -> usize {
    match status / 100 {
        hundreds @ 2..=5 => hundreds as usize - 2,
        _ => 4,
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::record::tests::sample;

    #[test]
    fn a_settled_exchange_adds_its_class_and_tokens() {
        let cells = UsageCells::default();
        cells.settle(&sample());
        cells.settle(&Record { status: 429, usage_known: false, input_tokens: 7, ..sample() });
        cells.settle(&Record { status: 0, estimated: true, ..sample() });
        let usage = cells.read();
        assert_eq!(usage.requests, [1, 0, 1, 0, 1]);
        assert_eq!(usage.tokens, [200, 128, 22, 10]);
        assert_eq!(usage.estimated, 1);
    }

    #[test]
    fn every_status_has_a_class() {
        for (status, label) in [
            (200, "2xx"),
            (299, "2xx"),
            (304, "3xx"),
            (499, "4xx"),
            (504, "5xx"),
            (0, "other"),
            (101, "other"),
            (999, "other"),
            (u16::MAX, "other"),
        ] {
            assert_eq!(CLASSES[class(status)], label, "{status}");
        }
    }

    #[test]
    fn sums_of_two_shards_add_up() {
        let mut sum = Usage { requests: [1, 2, 3, 4, 5], tokens: [1, 2, 3, 4], estimated: 9 };
        sum += sum;
        assert_eq!(sum, Usage { requests: [2, 4, 6, 8, 10], tokens: [2, 4, 6, 8], estimated: 18 });
    }
}
