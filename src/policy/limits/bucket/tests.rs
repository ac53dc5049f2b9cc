use std::sync::Barrier;
use std::sync::atomic::AtomicU32;
use std::thread;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// A seeded sequence (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[test]
fn a_burst_fits_exactly_and_then_one_per_interval() {
    for (per_minute, burst) in [(60, 1), (60, 10), (7, 10), (7_000, 1_000), (999_983, 77), (1, 3)] {
        let (rate, bucket) = (Rate { per_minute, burst, gateways: 1 }, Bucket::default());
        let mut now = Nanos(5 * SECOND);
        for left in (0..burst).rev() {
            assert_eq!(bucket.take(&rate, 1, now).unwrap().remaining, left, "{rate:?}");
        }
        for _ in 0..3 {
            let Err(Wait::For(wait)) = bucket.take(&rate, 1, now) else { panic!("{rate:?}") };
            assert!(wait.0 > 0 && wait.0 <= 60 * SECOND / per_minute + 1, "{rate:?} {wait}");
            assert!(bucket.take(&rate, 1, Nanos(now.0 + wait.0 - 1)).is_err());
            now = now.plus(wait);
            assert!(bucket.take(&rate, 1, now).is_ok());
        }
    }
}

#[test]
fn a_cost_above_the_burst_never_fits_and_a_dead_rate_grants_nothing() {
    let bucket = Bucket::default();
    let rate = Rate { per_minute: 60, burst: 10, gateways: 1 };
    assert_eq!(bucket.take(&rate, 11, Nanos(0)), Err(Wait::Never));
    assert_eq!(bucket.take(&rate, u64::MAX, Nanos(u64::MAX)), Err(Wait::Never));
    let dead = Rate { per_minute: 0, burst: 10, gateways: 1 };
    assert_eq!(bucket.take(&dead, 1, Nanos(0)), Err(Wait::Never));
    assert_eq!(bucket.take(&Rate { per_minute: 60, burst: 0, gateways: 1 }, 1, Nanos(0)), Err(Wait::Never));
    assert_eq!(bucket.peek(&rate, Nanos(0)).remaining, 10);
}

#[test]
fn reset_says_when_it_is_full() {
    let (rate, bucket) = (Rate { per_minute: 60, burst: 10, gateways: 1 }, Bucket::default());
    let room = bucket.take(&rate, 4, Nanos(SECOND)).unwrap();
    assert_eq!(room, Room { remaining: 6, reset: Nanos(4 * SECOND) });
    assert_eq!(bucket.peek(&rate, Nanos(3 * SECOND)), Room { remaining: 8, reset: Nanos(2 * SECOND) });
    assert_eq!(bucket.peek(&rate, Nanos(90 * SECOND)), Room { remaining: 10, reset: Nanos(0) });
}

#[test]
fn an_hour_of_silence_is_worth_one_burst() {
    let (rate, bucket) = (Rate { per_minute: 600, burst: 5, gateways: 1 }, Bucket::default());
    assert!(bucket.take(&rate, 5, Nanos(0)).is_ok());
    let later = Nanos(3600 * SECOND);
    assert!(bucket.take(&rate, 5, later).is_ok());
    assert!(bucket.take(&rate, 1, later).is_err());
}

#[test]
fn a_clock_that_steps_back_grants_nothing_extra() {
    let (rate, bucket) = (Rate { per_minute: 60, burst: 2, gateways: 1 }, Bucket::default());
    assert!(bucket.take(&rate, 2, Nanos(100 * SECOND)).is_ok());
    assert!(bucket.take(&rate, 1, Nanos(50 * SECOND)).is_err());
    assert!(bucket.take(&rate, 1, Nanos(101 * SECOND)).is_ok());
}

#[test]
fn a_refund_restores_what_was_reserved_and_no_more_than_full() {
    let rate = Rate { per_minute: 60, burst: 10, gateways: 1 };
    let bucket = Bucket::default();
    assert!(bucket.take(&rate, 10, Nanos(0)).is_ok());
    bucket.settle(&rate, 10, 4, Nanos(0));
    assert_eq!(bucket.peek(&rate, Nanos(0)).remaining, 6);
    bucket.settle(&rate, 1_000, 0, Nanos(SECOND));
    assert_eq!(bucket.peek(&rate, Nanos(SECOND)), Room { remaining: 10, reset: Nanos(0) });
    // Full since long: a late refund leaves no credit behind.
    bucket.settle(&rate, u64::MAX, 0, Nanos(500 * SECOND));
    assert!(bucket.take(&rate, 10, Nanos(500 * SECOND)).is_ok());
    assert!(bucket.take(&rate, 1, Nanos(500 * SECOND)).is_err());
}

#[test]
fn what_costs_nothing_always_fits_and_moves_nothing() {
    let (rate, bucket) = (Rate { per_minute: 60, burst: 2, gateways: 1 }, Bucket::default());
    assert!(bucket.take(&rate, 2, Nanos(0)).is_ok());
    assert_eq!(bucket.take(&rate, 0, Nanos(0)), Ok(Room { remaining: 0, reset: Nanos(2 * SECOND) }));
    bucket.settle(&rate, 2, 2, Nanos(0));
    assert_eq!(bucket.peek(&rate, Nanos(0)).reset, Nanos(2 * SECOND));
    assert!(Bucket::default().take(&Rate { per_minute: 0, burst: 0, gateways: 1 }, 0, Nanos(0)).is_ok());
}

#[test]
fn a_refund_to_a_full_bucket_moves_nothing() {
    let (rate, bucket) = (Rate { per_minute: 60, burst: 2, gateways: 1 }, Bucket::default());
    assert!(bucket.take(&rate, 1, Nanos(0)).is_ok());
    bucket.settle(&rate, 1, 0, Nanos(9 * SECOND));
    assert_eq!(bucket.arrival.load(Ordering::Relaxed), SECOND);
}

#[test]
fn a_charge_begins_now_and_ends_at_the_end_of_the_clock() {
    let (rate, bucket) = (Rate { per_minute: 60, burst: 2, gateways: 1 }, Bucket::default());
    bucket.settle(&rate, 0, 1, Nanos(7 * SECOND));
    assert_eq!(bucket.arrival.load(Ordering::Relaxed), 8 * SECOND);
    bucket.settle(&rate, 0, 1, Nanos(u64::MAX - 1));
    assert_eq!(bucket.arrival.load(Ordering::Relaxed), u64::MAX);
    assert_eq!(bucket.take(&rate, 1, Nanos(u64::MAX)), Err(Wait::For(Nanos(SECOND))));
}

#[test]
fn an_extra_charge_goes_into_bounded_debt() {
    let (rate, bucket) = (Rate { per_minute: 60, burst: 10, gateways: 1 }, Bucket::default());
    assert!(bucket.take(&rate, 1, Nanos(0)).is_ok());
    bucket.settle(&rate, 1, 31, Nanos(0));
    assert_eq!(bucket.peek(&rate, Nanos(0)), Room { remaining: 0, reset: Nanos(31 * SECOND) });
    assert_eq!(bucket.take(&rate, 1, Nanos(0)), Err(Wait::For(Nanos(22 * SECOND))));
    bucket.settle(&rate, 0, u64::MAX, Nanos(0));
    assert_eq!(bucket.peek(&rate, Nanos(0)).reset, Nanos(10 * SECOND + DEBT_MAX.0));
    // Already deeper than the bound would let it go: a further charge does not pull it back.
    let shallow = Rate { per_minute: 60_000, burst: 1, gateways: 1 };
    bucket.settle(&shallow, 0, 1, Nanos(0));
    assert_eq!(bucket.peek(&rate, Nanos(0)).reset, Nanos(10 * SECOND + DEBT_MAX.0));
}

#[test]
fn no_value_overflows() {
    let extremes = [0, 1, 2, 59, 60, 1 << 32, u64::MAX - 1, u64::MAX];
    for per_minute in extremes {
        for burst in extremes {
            let (rate, bucket) = (Rate { per_minute, burst, gateways: 1 }, Bucket::default());
            for cost in extremes {
                for now in extremes.map(Nanos) {
                    let _ = bucket.take(&rate, cost, now);
                    bucket.settle(&rate, cost, burst, now);
                    bucket.settle(&rate, burst, cost, now);
                    assert!(bucket.peek(&rate, now).remaining <= burst);
                }
            }
        }
    }
}

#[test]
fn of_512_threads_exactly_one_takes_the_last_unit() {
    for round in 0..4 {
        let (bucket, barrier, passed) = (Bucket::default(), Barrier::new(512), AtomicU32::new(0));
        let rate = Rate { per_minute: 60, burst: 1, gateways: 1 };
        thread::scope(|scope| {
            for _ in 0..512 {
                scope.spawn(|| {
                    barrier.wait();
                    if bucket.take(&rate, 1, Nanos(round * SECOND)).is_ok() {
                        passed.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 1);
    }
}

#[test]
fn takes_and_undone_takes_of_many_threads_leave_exactly_the_difference() {
    let (bucket, barrier) = (Bucket::default(), Barrier::new(8));
    let rate = Rate { per_minute: 60, burst: 100_000, gateways: 1 };
    thread::scope(|scope| {
        for seed in 0..8 {
            let (bucket, barrier, rate) = (&bucket, &barrier, &rate);
            scope.spawn(move || {
                let mut chance = Chance(seed);
                barrier.wait();
                for _ in 0..1_000 {
                    let (reserved, actual) = (1 + chance.below(20), chance.below(20));
                    bucket.take(rate, reserved, Nanos(0)).unwrap();
                    bucket.settle(rate, reserved, actual, Nanos(0));
                    bucket.settle(rate, actual, 2, Nanos(0));
                }
            });
        }
    });
    assert_eq!(bucket.peek(&rate, Nanos(0)).remaining, 100_000 - 16_000);
}

#[test]
fn nobody_gets_more_than_burst_plus_refill_in_any_order() {
    for seed in 0..200 {
        let mut chance = Chance(seed);
        let rate =
            Rate { per_minute: 1 + chance.below(100_000), burst: 1 + chance.below(1_000), gateways: 1 };
        let bucket = Bucket::default();
        let (mut now, mut kept, mut calls, mut open) = (0, 0u128, 0u128, Vec::new());
        for _ in 0..2_000 {
            calls += 1;
            match chance.below(4) {
                0 => now += chance.below(SECOND),
                1 | 2 => {
                    let cost = 1 + chance.below(rate.burst);
                    match bucket.take(&rate, cost, Nanos(now)) {
                        Ok(room) => open.push((cost, room.remaining)),
                        Err(Wait::For(wait)) => {
                            assert!(
                                bucket.take(&rate, cost, Nanos(now + wait.0 - 1)).is_err(),
                                "seed {seed}"
                            );
                        }
                        Err(Wait::Never) => panic!("seed {seed}: {cost} fits {rate:?}"),
                    }
                }
                _ => {
                    let Some((reserved, _)) = open.pop() else { continue };
                    let actual = chance.below(2 * reserved);
                    bucket.settle(&rate, reserved, actual, Nanos(now));
                    kept += u128::from(actual);
                }
            }
            let debt = bucket.peek(&rate, Nanos(now)).reset.0.saturating_sub(rate.depth() as u64);
            let taken = kept + open.iter().map(|(cost, _)| u128::from(*cost)).sum::<u128>();
            // Each call may gain the refill of one nanosecond by rounding.
            let refilled = u128::from(rate.per_minute) * (u128::from(now) + u128::from(debt) + calls);
            assert!(
                taken * MINUTE <= u128::from(rate.burst) * MINUTE + refilled + MINUTE,
                "seed {seed}: {taken} taken of {rate:?} after {now} ns"
            );
        }
    }
}
