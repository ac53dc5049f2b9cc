use std::sync::Arc;

use super::*;
use crate::sync::interleavings::{CROWD, check, spawn};

/// A slot that is left when its exchange ends, in whatever way.
struct Slot<'a>(&'a Gauge);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[test]
fn no_two_are_inside_where_one_may_be_and_the_last_to_leave_leaves_nothing_behind() {
    check(|| {
        let shared = Arc::new((Gauge::default(), AtomicU32::new(0)));
        let exchange = |(gauge, inside): &(Gauge, AtomicU32)| {
            if gauge.try_enter(1) {
                let _slot = Slot(gauge);
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "somebody is inside");
                assert!(gauge.count() <= 1);
                inside.fetch_sub(1, Ordering::Relaxed);
            }
        };
        let shards: Vec<_> = (0..CROWD)
            .map(|_| {
                let shared = Arc::clone(&shared);
                spawn(move || exchange(&shared))
            })
            .collect();
        exchange(&shared);
        shards.into_iter().for_each(|shard| shard.join().unwrap());
        assert_eq!(shared.0.count(), 0);
    });
}

#[test]
fn a_slot_that_was_left_can_be_taken_while_the_others_stay_taken() {
    check(|| {
        let gauge = Arc::new(Gauge::default());
        assert!(gauge.try_enter(2));
        let other = Arc::clone(&gauge);
        let entered = spawn(move || other.try_enter(2));
        gauge.leave();
        assert!(entered.join().unwrap(), "at most one of two was taken");
        assert!(gauge.try_enter(2) && !gauge.try_enter(2));
        assert_eq!(gauge.count(), 2);
    });
}
