use std::sync::Arc;

use super::*;
use crate::sync::interleavings::{check, spawn};

#[test]
fn the_loads_of_two_shards_add_up_to_no_more_than_was_put_on_and_end_at_zero() {
    check(|| {
        let loads: Arc<[Load; 2]> = Arc::default();
        let exchange = |load: &Load| {
            load.begin(7, 9);
            load.first_token(7);
            load.end(9, 0);
        };
        let shards = [0, 1].map(|shard| {
            let loads = Arc::clone(&loads);
            spawn(move || exchange(&loads[shard]))
        });
        let sum = |what: fn(&Load) -> u64| loads.iter().map(what).sum::<u64>();
        assert!(sum(Load::in_flight) <= 2);
        assert!([0, 7, 14].contains(&sum(Load::pending_tokens)));
        shards.into_iter().for_each(|shard| shard.join().unwrap());
        assert_eq!((sum(Load::in_flight), sum(Load::pending_tokens), sum(Load::kv_tokens)), (0, 0, 0));
    });
}

#[test]
fn samples_of_two_shards_are_both_taken_in() {
    check(|| {
        let ewma = Arc::new(Ewma::default());
        let other = Arc::clone(&ewma);
        let observed = spawn(move || other.observe(1.0, Nanos(0)));
        ewma.observe(1.0, Nanos(0));
        observed.join().unwrap();
        assert_eq!(ewma.get(Nanos(0)), Reading { ratio: 1.0, samples: 2 });
    });
}
