//! Who fails to authenticate too often?
//!
//! A table of fixed size with one owner: no lock, and no allocation once it is made. It is asked after a failure only,
//! so a request with a good credential pays nothing for it, and is never refused by it: many clients may share one
//! address. What changes is the response to the ones that fail.

use std::net::IpAddr;

use crate::policy::limits::bucket::{Bucket, Rate, Wait};
use crate::units::Nanos;

/// The sources that failed last, each with a bucket of failures it may still have.
///
/// A source that finds its set taken by others takes the place of the one that is closest to being forgotten, so an
/// attacker with very many addresses is limited less, and nobody is limited for the failures of another.
pub struct Failures {
    /// `slots: [the sources of a set; SETS of WAYS]`, by `set`.
    slots: Box<[Slot]>,
    seed: u64,
}

#[derive(Default)]
struct Slot {
    source: u64,
    /// Full in a slot that was never used.
    bucket: Bucket,
}

/// Sources held per set. Taste.
const WAYS: usize = 4;
/// Sets: 1,024 sources in 16 KiB. Taste.
const SETS: usize = 256;

/// For how many seconds' worth of failures a source may fail at once.
const BURST_SECONDS: u64 = 10;

/// So many failures a minute; a sixth of them, at least one, may come at once.
pub fn rate(per_minute: u64) -> Rate {
    Rate { per_minute, burst: (per_minute * BURST_SECONDS / 60).max(1), gateways: 1 }
}

impl Failures {
    /// An empty table. `seed` is chance, so that nobody outside knows which sources share a set.
    pub fn new(seed: u64) -> Self {
        let slots: Vec<Slot> = std::iter::repeat_with(Slot::default).take(SETS * WAYS).collect();
        Self { slots: slots.into(), seed }
    }

    /// Takes one failure. `Some`: it is one too many, the next one is looked at after this wait.
    pub fn take(&mut self, address: IpAddr, rate: &Rate, now: Nanos) -> Option<Nanos> {
        let source = source(address);
        let first = self.set(source) * WAYS;
        let set = &mut self.slots[first..first + WAYS];
        let way = set.iter().position(|slot| slot.source == source).unwrap_or_else(|| {
            let forgotten_in = |way: &usize| set[*way].bucket.peek(rate, now).reset;
            let way = (0..WAYS).min_by_key(forgotten_in).unwrap_or(0);
            set[way] = Slot { source, bucket: Bucket::default() };
            way
        });
        match set[way].bucket.take(rate, 1, now) {
            Ok(_) => None,
            Err(Wait::For(wait)) => Some(wait),
            Err(Wait::Never) => None, // a rate of nothing limits nothing
        }
    }

    fn set(&self, source: u64) -> usize {
        // The finisher of SplitMix64: every bit of the source reaches every bit of the set.
        let mut word = source ^ self.seed;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ word >> 31) as usize % SETS
    }
}

/// What counts as one source: an address, or for IPv6 the 64 bits of a network, of which one host has every address.
fn source(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn v4(host: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + host).into()
    }

    #[test]
    fn a_burst_may_fail_and_then_one_for_each_that_is_regained() {
        let (mut failures, rate) = (Failures::new(7), rate(120));
        let start = Nanos(SECOND);
        for _ in 0..20 {
            assert_eq!(failures.take(v4(1), &rate, start), None);
        }
        assert_eq!(failures.take(v4(1), &rate, start), Some(Nanos(SECOND / 2)));
        assert_eq!(failures.take(v4(1), &rate, start.plus(Nanos(SECOND / 2))), None);
        assert!(failures.take(v4(1), &rate, start.plus(Nanos(SECOND / 2))).is_some());
        let calm = start.plus(Nanos(60 * SECOND));
        assert_eq!((0..21).filter(|_| failures.take(v4(1), &rate, calm).is_some()).count(), 1);
    }

    #[test]
    fn refused_failures_do_not_lengthen_the_wait() {
        let (mut failures, rate) = (Failures::new(7), rate(6));
        assert_eq!(failures.take(v4(1), &rate, Nanos(0)), None);
        for _ in 0..1_000 {
            assert_eq!(failures.take(v4(1), &rate, Nanos(0)), Some(Nanos(10 * SECOND)));
        }
    }

    #[test]
    fn a_source_is_not_limited_for_another() {
        let (mut failures, rate) = (Failures::new(7), rate(60));
        for _ in 0..100 {
            failures.take(v4(1), &rate, Nanos(0));
        }
        for host in 2..5_000 {
            assert_eq!(failures.take(v4(host), &rate, Nanos(0)), None, "{host}");
        }
    }

    #[test]
    fn the_one_that_fails_most_is_kept_among_many() {
        let rate = rate(60);
        for seed in 0..16 {
            let mut failures = Failures::new(seed);
            for _ in 0..11 {
                failures.take(v4(0), &rate, Nanos(0));
            }
            for host in 1..1_000 {
                failures.take(v4(host), &rate, Nanos(0));
            }
            assert!(failures.take(v4(0), &rate, Nanos(0)).is_some(), "seed {seed}");
        }
    }

    #[test]
    fn the_set_of_a_source_is_its_word_of_splitmix64_below_the_seed() {
        // What the generator gives from a state of 0 and from 1,234,567; its step is added here, not in `set`.
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        for (state, words) in [
            (0, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f, 0xf88b_b8a8_724c_81ec]),
            (
                1_234_567,
                [
                    6_457_827_717_110_365_317_u64,
                    3_203_168_211_198_807_973,
                    9_817_491_932_198_370_423,
                    4_593_380_528_125_082_431,
                ],
            ),
        ] {
            for (round, word) in (1..).zip(words) {
                let state = step.wrapping_mul(round).wrapping_add(state);
                for seed in [0, 7, u64::MAX] {
                    assert_eq!(Failures::new(seed).set(state ^ seed), word as usize % SETS, "{state} {seed}");
                }
            }
        }
    }

    #[test]
    fn every_set_has_four_places_of_its_own() {
        let (mut failures, rate) = (Failures::new(7), rate(6));
        let mut held = vec![0; SETS];
        let sources: Vec<_> = (0..20_000)
            .map(v4)
            .filter(|&address| {
                let set = failures.set(source(address));
                held[set] += 1;
                held[set] <= WAYS
            })
            .collect();
        assert_eq!(sources.len(), SETS * WAYS);
        assert!(sources.iter().all(|&address| failures.take(address, &rate, Nanos(0)).is_none()));
        assert!(sources.iter().all(|&address| failures.take(address, &rate, Nanos(0)).is_some()));
    }

    #[test]
    fn a_rate_has_ten_seconds_worth_at_once_and_at_least_one() {
        for (per_minute, burst) in [(0, 1), (1, 1), (6, 1), (11, 1), (12, 2), (60, 10), (120, 20)] {
            assert_eq!(rate(per_minute), Rate { per_minute, burst, gateways: 1 });
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_a_mapped_address_is_its_own() {
        let (mut failures, rate) = (Failures::new(7), rate(6));
        let v6 = |text: &str| IpAddr::from(text.parse::<Ipv6Addr>().unwrap());
        assert_eq!(failures.take(v6("2001:db8::1"), &rate, Nanos(0)), None);
        assert!(failures.take(v6("2001:db8::2"), &rate, Nanos(0)).is_some());
        assert_eq!(failures.take(v6("2001:db8:0:1::1"), &rate, Nanos(0)), None);
        assert_eq!(failures.take(v6("::ffff:10.0.0.1"), &rate, Nanos(0)), None);
        assert!(failures.take(v4(1), &rate, Nanos(0)).is_some());
    }

    #[test]
    fn a_rate_of_nothing_limits_nothing() {
        let mut failures = Failures::new(7);
        assert!((0..100).all(|_| failures.take(v4(1), &rate(0), Nanos(0)).is_none()));
    }
}
