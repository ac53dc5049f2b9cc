//! What an engine last reported of itself: the load that this gateway did not send, and its cache.
//!
//! The gateway counts what it sends at once and exactly. A report adds what it cannot count: requests of another gateway or
//! of a client that calls the engine directly, and the size of the cache. A report that is too old is ignored: it then says
//! neither that the engine is idle nor that it is full.

use crate::sync::{AtomicU64, Ordering};
use crate::units::Nanos;

/// The last report of one engine. Written by the coordinator only, read by every shard.
///
/// Two words, each sound on its own. `load`: a flag that there is one, the time in tenths of a second (28 bits), foreign
/// requests and those of them that wait (16 bits each). `cache`: usage in thousandths plus one (16 bits, 0: unknown), and
/// capacity in tokens (48 bits, 0: unknown).
#[derive(Debug, Default)]
pub struct Signals {
    load: AtomicU64,
    cache: AtomicU64,
}

/// A report.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Report {
    /// Requests of others in the engine.
    pub foreign: u64,
    /// Those of them that wait.
    pub foreign_waiting: u64,
    /// Share of the KV cache in use, 0 to 1; unknown if the engine does not say.
    pub kv_usage: Option<f32>,
}

impl Signals {
    /// Notes a report.
    pub fn set(&self, report: Report, kv_tokens: Option<u64>, now: Nanos) {
        let [foreign, waiting] = [report.foreign, report.foreign_waiting].map(|count| count.min(COUNT_MAX));
        let usage = report.kv_usage.map_or(0, |share| (share.clamp(0.0, 1.0) * 1_000.0) as u64 + 1);
        let capacity = kv_tokens.unwrap_or(self.kv_capacity()).min(CAPACITY_MAX);
        self.cache.store(usage << 48 | capacity, Ordering::Relaxed);
        self.load.store(PRESENT | tenths(now) << 32 | foreign << 16 | waiting, Ordering::Relaxed);
    }

    /// The last report, unless it is older than `age_max`.
    pub fn get(&self, now: Nanos, age_max: Nanos) -> Option<Report> {
        let word = self.load.load(Ordering::Relaxed);
        if word & PRESENT == 0 || age(word, now) * TENTH > age_max.0 {
            return None;
        }
        let usage = self.cache.load(Ordering::Relaxed) >> 48;
        Some(Report {
            foreign: word >> 16 & COUNT_MAX,
            foreign_waiting: word & COUNT_MAX,
            kv_usage: usage.checked_sub(1).map(|thousandths| thousandths as f32 / 1_000.0),
        })
    }

    /// Tokens that the engine said its cache holds, at whatever age; 0 if it never did.
    pub fn kv_capacity(&self) -> u64 {
        self.cache.load(Ordering::Relaxed) & CAPACITY_MAX
    }
}

const PRESENT: u64 = 1 << 63;
const COUNT_MAX: u64 = 0xffff;
const CAPACITY_MAX: u64 = (1 << 48) - 1;
const TENTH: u64 = 100_000_000;
const TENTHS_MASK: u64 = (1 << 28) - 1;

fn tenths(now: Nanos) -> u64 {
    (now.0 / TENTH) & TENTHS_MASK
}

/// Tenths of a second since the report; 0 if this thread's clock is behind the writer's.
fn age(word: u64, now: Nanos) -> u64 {
    let age = tenths(now).wrapping_sub(word >> 32) & TENTHS_MASK;
    if age > TENTHS_MASK / 2 { 0 } else { age }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Nanos {
        Nanos(seconds * SECOND)
    }

    #[test]
    fn a_report_counts_until_it_is_stale_and_its_capacity_for_longer() {
        let signals = Signals::default();
        assert_eq!((signals.get(at(1), at(3)), signals.kv_capacity()), (None, 0));
        let report = Report { foreign: 12, foreign_waiting: 5, kv_usage: Some(0.25) };
        signals.set(report, Some(400_000), at(10));
        assert_eq!(signals.get(at(10), at(3)), Some(report));
        assert_eq!(signals.get(at(13), at(3)), Some(report));
        assert_eq!(signals.get(at(14), at(3)), None);
        assert_eq!(signals.get(at(9), at(3)), Some(report), "a clock that is behind");
        assert_eq!(signals.kv_capacity(), 400_000);
        signals.set(Report { kv_usage: None, ..report }, None, at(20));
        assert_eq!(signals.get(at(20), at(3)).unwrap().kv_usage, None);
        assert_eq!(signals.kv_capacity(), 400_000, "a page without it does not make it unknown");
    }

    #[test]
    fn counts_and_shares_beyond_the_words_are_cut() {
        let signals = Signals::default();
        let wild = Report { foreign: u64::MAX, foreign_waiting: u64::MAX, kv_usage: Some(7.0) };
        signals.set(wild, Some(u64::MAX), at(1));
        let cut = Report { foreign: COUNT_MAX, foreign_waiting: COUNT_MAX, kv_usage: Some(1.0) };
        assert_eq!(signals.get(at(1), at(1)), Some(cut));
        assert_eq!(signals.kv_capacity(), CAPACITY_MAX);
    }
}
