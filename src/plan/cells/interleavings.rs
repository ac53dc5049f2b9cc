use std::sync::Arc;

use super::*;
use crate::sync::interleavings::{check, spawn};

#[test]
fn a_slot_that_two_shards_want_is_given_once_and_its_share_leaves_nothing_behind() {
    check(|| {
        let backend = BackendId::new(0);
        let shared = Arc::new((BackendCells::new(2), AtomicU8::new(0)));
        let exchange = move |(cells, inside): &(BackendCells, AtomicU8), shard: usize| {
            let shard = ShardId::new(shard);
            let Some(mut share) =
                cells.take(shard, 1, Share { backend, prompt_tokens: 7, kv_tokens: 9, pending: true })
            else {
                return false;
            };
            assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "two have the one slot");
            // What others have put on it may be seen late: a load is a hint, the gauge is the limit.
            assert_eq!(cells.load(shard).in_flight(), 1);
            assert!(cells.loads().all(|load| load.in_flight() <= 1));
            assert!(cells.first_token(shard, &mut share) && !cells.first_token(shard, &mut share));
            inside.fetch_sub(1, Ordering::Relaxed);
            cells.give_back(shard, share);
            true
        };
        let others = Arc::clone(&shared);
        let other = spawn(move || exchange(&others, 1));
        let own = exchange(&shared, 0);
        assert!(other.join().unwrap() || own, "nobody got the slot");
        let (cells, _) = &*shared;
        assert_eq!(cells.in_flight.count(), 0);
        for load in cells.loads() {
            assert_eq!((load.in_flight(), load.pending_tokens(), load.kv_tokens()), (0, 0, 0));
        }
    });
}

#[test]
fn health_is_never_seen_to_go_back() {
    check(|| {
        let cells = Arc::new(BackendCells::new(1));
        let probed = Arc::clone(&cells);
        let coordinator = spawn(move || [Health::Up, Health::Down].map(|health| probed.set_health(health)));
        let seen = [(); 2].map(|()| cells.health());
        assert!(seen[0] as u8 <= seen[1] as u8, "{seen:?}");
        coordinator.join().unwrap();
        assert_eq!(cells.health(), Health::Down);
    });
}
