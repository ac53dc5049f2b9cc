use std::sync::Arc;

use super::*;
use crate::policy::routing::breaker::Cause;
use crate::sync::interleavings::{check, spawn};
use crate::units::Nanos;

#[test]
fn shards_that_meet_a_new_name_at_once_agree_on_its_breaker_afterwards() {
    check(|| {
        let breakers = Arc::new(NamedBreakers::default());
        let place = |breaker: &Breaker| std::ptr::from_ref(breaker).addr();
        let other = Arc::clone(&breakers);
        let there = spawn(move || {
            let breaker = other.of(7);
            breaker.hold(Nanos(60_000_000_000), Cause::Failures);
            place(breaker)
        });
        let here = place(breakers.of(7));
        let there = there.join().unwrap();
        let last = breakers.of(7);
        assert!(place(last) == here || place(last) == there);
        if here == there {
            assert!(last.open(Nanos(1)).is_some(), "nobody has forgotten the failure");
        }
    });
}
