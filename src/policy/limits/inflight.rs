//! Slots in flight: how many at once.

use crate::sync::{AtomicU32, Ordering};

/// A count with a bound, shared by all shards and exact under contention.
///
/// Every successful [`Gauge::try_enter`] is paid back by exactly one [`Gauge::leave`]; nothing resets it.
#[derive(Default)]
pub struct Gauge {
    count: AtomicU32,
}

impl Gauge {
    /// Takes a slot if fewer than `max` are taken.
    #[must_use = "a slot taken has to be left"]
    pub fn try_enter(&self, max: u32) -> bool {
        self.count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < max).then(|| count + 1))
            .is_ok()
    }

    /// Gives a slot back. One that was never taken is a broken invariant of ours and leaves the count at zero.
    pub fn leave(&self) {
        let left = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1))
            .is_ok();
        debug_assert!(left, "a slot was given back that nobody took");
    }

    /// None is taken. For a gauge that nobody uses.
    pub(super) fn reset(&self) {
        self.count.store(0, Ordering::Relaxed);
    }

    /// Slots taken now.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn the_bound_holds_and_a_slot_left_can_be_taken_again() {
        let gauge = Gauge::default();
        assert!(!gauge.try_enter(0));
        assert!(gauge.try_enter(2) && gauge.try_enter(2) && !gauge.try_enter(2));
        gauge.leave();
        assert!(gauge.try_enter(2) && !gauge.try_enter(2));
        assert_eq!(gauge.count(), 2);
    }

    #[test]
    fn a_bound_lowered_below_the_count_admits_nobody() {
        let gauge = Gauge::default();
        assert!(gauge.try_enter(2) && gauge.try_enter(2));
        assert!(!gauge.try_enter(1));
        assert_eq!(gauge.count(), 2);
    }

    #[test]
    fn the_full_range_does_not_wrap() {
        let gauge = Gauge { count: AtomicU32::new(u32::MAX) };
        assert!(!gauge.try_enter(u32::MAX));
        assert_eq!(gauge.count(), u32::MAX);
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "nobody took"))]
    fn leaving_an_empty_gauge_stays_at_zero() {
        let gauge = Gauge::default();
        gauge.leave();
        assert_eq!(gauge.count(), 0);
    }

    #[test]
    fn many_threads_never_exceed_the_bound_and_end_at_zero() {
        let (gauge, barrier) = (Gauge::default(), Barrier::new(16));
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    barrier.wait();
                    for _ in 0..2_000 {
                        if gauge.try_enter(3) {
                            assert!(gauge.count() <= 3);
                            gauge.leave();
                        }
                    }
                });
            }
        });
        assert_eq!(gauge.count(), 0);
    }
}
