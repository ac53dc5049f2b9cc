use std::sync::Arc;

use super::*;
use crate::sync::interleavings::{CROWD, check, spawn};

const SECOND: u64 = 1_000_000_000;

/// One unit a second.
fn rate(burst: u64) -> Rate {
    Rate { per_minute: 60, burst, gateways: 1 }
}

#[test]
fn as_many_takes_are_granted_as_the_burst_allows_however_many_shards_ask() {
    check(|| {
        let bucket = Arc::new(Bucket::default());
        let ask = |bucket: &Bucket| usize::from(bucket.take(&rate(2), 1, Nanos(0)).is_ok());
        let shards: Vec<_> = (0..CROWD)
            .map(|_| {
                let bucket = Arc::clone(&bucket);
                spawn(move || ask(&bucket))
            })
            .collect();
        let mut granted = ask(&bucket);
        granted += shards.into_iter().map(|shard| shard.join().unwrap()).sum::<usize>();
        assert_eq!(granted, 2);
    });
}

#[test]
fn shards_whose_clocks_differ_are_granted_no_more_than_the_burst_and_the_refill() {
    check(|| {
        let bucket = Arc::new(Bucket::default());
        let ask_twice = |bucket: &Bucket, now: u64| {
            (0..2).filter(|_| bucket.take(&rate(1), 1, Nanos(now)).is_ok()).count()
        };
        let other = Arc::clone(&bucket);
        let ahead = spawn(move || ask_twice(&other, SECOND));
        let granted = ask_twice(&bucket, 0) + ahead.join().unwrap();
        assert!((1..=2).contains(&granted), "{granted} of a burst of one and a second's refill");
    });
}

#[test]
fn settling_neither_loses_nor_invents_a_unit() {
    check(|| {
        let bucket = Arc::new(Bucket::default());
        let exchange = |bucket: &Bucket, reserved: u64, actual: u64| {
            bucket.take(&rate(4), reserved, Nanos(0)).expect("room for both");
            bucket.settle(&rate(4), reserved, actual, Nanos(0));
        };
        let other = Arc::clone(&bucket);
        let charged = spawn(move || exchange(&other, 1, 2));
        exchange(&bucket, 2, 1);
        charged.join().unwrap();
        let left = Room { remaining: 1, reset: Nanos(3 * SECOND) };
        assert_eq!(bucket.peek(&rate(4), Nanos(0)), left);
    });
}
