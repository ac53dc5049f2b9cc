use std::sync::Arc;

use super::*;
use crate::sync::interleavings::{check, spawn};

#[test]
fn a_count_never_falls_and_none_is_lost_while_others_read() {
    check(|| {
        let numbers = Arc::new(ShardNumbers::default());
        let own = Arc::clone(&numbers);
        let shard = spawn(move || {
            own.inc(Counter::BackendDials);
            own.add(Counter::BackendDials, 2);
        });
        let seen = [(); 2].map(|()| numbers.get(Counter::BackendDials));
        assert!(seen[0] <= seen[1] && seen.iter().all(|count| [0, 1, 3].contains(count)), "{seen:?}");
        shard.join().unwrap();
        assert_eq!(numbers.get(Counter::BackendDials), 3);
    });
}

#[test]
fn a_gauge_is_never_seen_outside_what_was_held() {
    check(|| {
        let numbers = Arc::new(ShardNumbers::default());
        let own = Arc::clone(&numbers);
        let shard = spawn(move || {
            own.inc(Counter::StreamsActive);
            own.dec(Counter::StreamsActive);
            own.inc(Counter::StreamsActive);
        });
        assert!(numbers.get(Counter::StreamsActive) <= 1);
        shard.join().unwrap();
        assert_eq!(numbers.get(Counter::StreamsActive), 1);
    });
}
