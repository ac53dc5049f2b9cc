//! The bucket of a limit that several gateways share: what the coordinator moves in and out.
//!
//! Amounts are [`PARTS`] of a unit, so that a part of the last unit can be moved too. A move is one compare-exchange on the cell that
//! shards take from: it takes what a request could have taken, and puts in what was taken elsewhere.

use super::{Bucket, Rate};
use crate::sync::Ordering;
use crate::units::Nanos;

/// A unit of a rate limit in these parts.
pub const PARTS: u64 = 1_000_000;

impl Rate {
    /// What all gateways together may have, in parts.
    pub fn most_parts(&self) -> u64 {
        self.burst.saturating_mul(PARTS)
    }

    /// What this gateway begins with and keeps when it is alone, in parts.
    pub fn share_parts(&self) -> u64 {
        self.most_parts() / u64::from(self.gateways)
    }

    fn parts(&self, time: u128) -> u64 {
        // A burst has at most 10^10 units, and a minute 6 * 10^10 nanoseconds.
        let whole = time.checked_mul(u128::from(self.per_minute) * u128::from(PARTS));
        whole.map_or(u64::MAX, |parts| u64::try_from(parts / self.minute()).unwrap_or(u64::MAX))
    }

    /// The time in which so many parts are regained, rounded down.
    fn time(&self, parts: u64) -> u64 {
        let time = u128::from(parts) * self.minute() / (u128::from(self.per_minute) * u128::from(PARTS));
        u64::try_from(time).unwrap_or(u64::MAX)
    }
}

impl Bucket {
    /// A bucket that nobody has used begins with the share of one gateway.
    pub fn begin(&self, rate: &Rate, now: Nanos) {
        if rate.gateways < 2 || rate.per_minute == 0 {
            return;
        }
        let arrival = now.0.saturating_add(rate.time(rate.most_parts() - rate.share_parts()));
        let _ = self.arrival.compare_exchange(0, arrival.max(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What could be taken now.
    pub fn held(&self, rate: &Rate, now: Nanos) -> u64 {
        let used = u128::from(self.arrival.load(Ordering::Relaxed).saturating_sub(now.0));
        rate.parts(rate.depth().saturating_sub(used))
    }

    /// Takes up to so many parts out; how many.
    pub fn withdraw(&self, rate: &Rate, parts: u64, now: Nanos) -> u64 {
        let mut seen = self.arrival.load(Ordering::Relaxed);
        loop {
            let used = u128::from(seen.saturating_sub(now.0));
            let parts = parts.min(rate.parts(rate.depth().saturating_sub(used)));
            if parts == 0 {
                return 0;
            }
            // Rounded up: what arrives elsewhere is never more than what has left.
            let next = seen.max(now.0).saturating_add(rate.time(parts).saturating_add(1));
            match self.arrival.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return parts,
                Err(newer) => seen = newer,
            }
        }
    }

    /// Puts so many parts in. The bucket gets no fuller than full.
    pub fn deposit(&self, rate: &Rate, parts: u64, now: Nanos) {
        if rate.per_minute == 0 {
            return;
        }
        let time = rate.time(parts);
        let moved = |arrival: u64| (arrival > now.0).then(|| arrival.saturating_sub(time).max(now.0));
        let _ = self.arrival.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved);
    }

    /// Leaves nothing, and regains nothing, for `time`.
    pub fn close(&self, rate: &Rate, now: Nanos, time: Nanos) {
        let depth = u64::try_from(rate.depth()).unwrap_or(u64::MAX);
        let until = now.0.saturating_add(depth).saturating_add(time.0);
        self.arrival.fetch_max(until, Ordering::Relaxed);
    }

    /// The most that a take wanted in vain since the last look, in parts.
    pub fn take_missed(&self) -> u64 {
        match self.missed.load(Ordering::Relaxed) {
            0 => 0, // nearly always: no write to a line that shards read
            _ => self.missed.swap(0, Ordering::Relaxed).saturating_mul(PARTS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_minute: 60, burst: 60, gateways: 2 };
    const NOW: Nanos = Nanos(1_000_000_000_000);
    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_shared_bucket_begins_with_its_share_and_regains_its_part() {
        let bucket = Bucket::default();
        bucket.begin(&RATE, NOW);
        let passed = (0..100).filter(|_| bucket.take(&RATE, 1, NOW).is_ok()).count();
        assert_eq!(passed, 30);
        assert_eq!(bucket.take_missed(), PARTS);
        let later = Nanos(NOW.0 + 10 * SECOND);
        let passed = (0..100).filter(|_| bucket.take(&RATE, 1, later).is_ok()).count();
        assert_eq!(passed, 5, "half of the ten of all gateways");
        bucket.begin(&RATE, later);
        assert_eq!(bucket.held(&RATE, later), 0, "it begins once");
    }

    #[test]
    fn what_is_withdrawn_here_can_be_taken_where_it_is_put_and_is_never_more() {
        let [here, there] = [Bucket::default(), Bucket::default()];
        [&here, &there].iter().for_each(|bucket| bucket.begin(&RATE, NOW));
        let moved = here.withdraw(&RATE, 20 * PARTS, NOW);
        there.deposit(&RATE, moved, NOW);
        assert_eq!(moved, 20 * PARTS);
        let count = |bucket: &Bucket| (0..100).filter(|_| bucket.take(&RATE, 1, NOW).is_ok()).count();
        let counts = [count(&here), count(&there)];
        assert!(counts[1] == 50 && (9..=10).contains(&counts[0]), "{counts:?}");
        assert_eq!(here.withdraw(&RATE, u64::MAX, NOW) / PARTS, 0);
    }

    #[test]
    fn a_closed_bucket_lets_nothing_pass_until_it_opens() {
        let bucket = Bucket::default();
        bucket.close(&RATE, NOW, Nanos(SECOND));
        assert!(bucket.take(&RATE, 1, Nanos(NOW.0 + SECOND)).is_err());
        assert!(bucket.take(&RATE, 1, Nanos(NOW.0 + 4 * SECOND)).is_ok());
    }

    #[test]
    fn a_request_larger_than_the_share_fits_once_the_rest_was_moved_here() {
        let bucket = Bucket::default();
        bucket.begin(&RATE, NOW);
        assert!(matches!(bucket.take(&RATE, 50, NOW), Err(super::super::Wait::For(_))));
        assert_eq!(bucket.take_missed(), 50 * PARTS);
        bucket.deposit(&RATE, 20 * PARTS, NOW);
        assert!(bucket.take(&RATE, 50, NOW).is_ok());
    }
}
