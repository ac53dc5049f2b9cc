use std::sync::Arc;

use super::*;
use crate::observe::record::tests::sample;
use crate::sync::interleavings::{check, spawn};

#[test]
fn sums_never_fall_and_no_exchange_is_lost_while_others_read() {
    check(|| {
        let cells = Arc::new(UsageCells::default());
        let own = Arc::clone(&cells);
        let shard = spawn(move || [(); 2].map(|()| own.settle(&sample())));
        let seen = [(); 2].map(|()| cells.read());
        let never_falls =
            |of: fn(&Usage) -> &[u64]| of(&seen[0]).iter().zip(of(&seen[1])).all(|(a, b)| a <= b);
        assert!(never_falls(|usage| &usage.requests) && never_falls(|usage| &usage.tokens), "{seen:?}");
        shard.join().unwrap();
        let one = UsageCells::default();
        one.settle(&sample());
        let mut two = one.read();
        two += one.read();
        assert_eq!(cells.read(), two);
    });
}
