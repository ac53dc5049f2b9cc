//! What does a decision cost? Nanoseconds per call of the functions that every exchange passes through.
//!
//! Shapes: a pool of 1, 4, 32 and 128 backends with uneven load and believed ratios; a table of 10,000 keys; one
//! bucket that always has room, alone and under four threads. Budget: a pick among 32 backends in 2 us.

use divan::{Bencher, black_box};
use ringway::policy::auth::credential::{Credentials, KeyTable, digest};
use ringway::policy::limits::bucket::{Bucket, Rate};
use ringway::policy::routing::balance::{View, pick};
use ringway::policy::routing::breaker::Breaker;
use ringway::units::Nanos;

fn main() {
    divan::main();
}

fn pool(backends: u64, busy: bool) -> Vec<View> {
    (0..backends)
        .map(|index| View {
            weight: 1 + index as u32 % 3,
            in_flight: if busy { index * 7 % 13 } else { 0 },
            pending_tokens: if busy { index * 911 % 4_000 } else { 0 },
            kv_tokens: index * 5_000 % 200_000,
            kv_capacity: 300_000,
            ratio: 1.0 + index as f32 / 20.0,
            samples: 15,
            ..View::default()
        })
        .collect()
}

#[divan::bench(args = [1, 4, 32, 128])]
fn pick_among_busy(bencher: Bencher<'_, '_>, backends: u64) {
    let (pool, mut random) = (pool(backends, true), 0u64);
    bencher.bench_local(|| {
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        pick(black_box(&pool), black_box(1_000), random)
    });
}

/// The dearest case: all tie, so each backend draws its rank.
#[divan::bench(args = [1, 4, 32, 128])]
fn pick_among_idle(bencher: Bencher<'_, '_>, backends: u64) {
    let (mut pool, mut random) = (pool(backends, false), 0u64);
    pool.iter_mut().for_each(|view| (view.kv_tokens, view.ratio) = (0, 1.0));
    bencher.bench_local(|| {
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        pick(black_box(&pool), black_box(1_000), random)
    });
}

#[divan::bench]
fn key_presented_digested_found(bencher: Bencher<'_, '_>) {
    let keys: Vec<_> = (0..10_000).map(|index| digest(format!("sk-{index:060}").as_bytes())).collect();
    let table = KeyTable::new(&keys);
    let line = format!("Bearer sk-{:060}", 4_711);
    bencher.bench_local(|| {
        let authorization = Some(black_box(line.as_bytes()));
        table.identify(&Credentials { authorization, ..Credentials::default() }).unwrap()
    });
}

#[divan::bench(threads = [1, 4])]
fn bucket_take_and_settle(bencher: Bencher<'_, '_>) {
    let (bucket, rate) = (Bucket::default(), Rate { per_minute: 1_000_000, burst: u64::MAX / 2 });
    bencher.bench(|| {
        let room = bucket.take(&rate, black_box(900), Nanos(1)).unwrap();
        bucket.settle(&rate, 900, black_box(700), Nanos(1));
        bucket.settle(&rate, 700, 0, Nanos(1));
        room
    });
}

#[divan::bench]
fn breaker_closed(bencher: Bencher<'_, '_>) {
    let breaker = Breaker::default();
    bencher.bench_local(|| {
        let admission = breaker.admit(black_box(Nanos(1)));
        breaker.success(Nanos(1));
        admission
    });
}
