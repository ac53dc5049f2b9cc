//! A gateway without sockets: clients, backends and two shards on a clock of their own, all of it from one seed.
//!
//! What decides is the gateway's own code: [`RetryState`](crate::policy::routing::retry_state::RetryState), `choose`, the queues, the cells of a
//! plan that was compiled from a configuration. What only moves bytes is played: a table of faults says what becomes of an
//! attempt. After every event a [`judge`] that knows the rules by itself compares what was done with what may be done.
//!
//! `RINGWAY_SEED=N cargo test --lib simulation -- --nocapture` plays one seed and prints what happened;
//! `RINGWAY_CAMPAIGN=1` plays 100,000 of them.
//!
//! Seen caught, put into the gateway's code one at a time: a member asked twice, retries that draw nothing, an attempt too
//! many, a slot that is not given back, a second probe, a client's leaving taken for a failure, a `Retry-After` that is
//! ignored, a backend asked although it is down.
#![allow(clippy::print_stdout)] // stories

mod judge;
mod setting;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use world::{Totals, World};

use super::dispatch::choose::{Pool, Wanted};
use crate::dialect::Api;
use crate::policy::routing::balance::View;
use crate::policy::routing::breaker::{Admission, Settings};
use crate::policy::routing::choice::Request;
use crate::policy::routing::retry_state::Tried;
use crate::units::Nanos;

/// What of a story is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Voice {
    Silent,
    /// Its last events, kept to be printed.
    Last,
    /// All of it, as it happens.
    Aloud,
}

/// SplitMix64, by its seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number of `from..=to`.
    fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from + 1)
    }

    /// True once in so many times.
    fn once_in(&mut self, count: u64) -> bool {
        self.next().is_multiple_of(count)
    }
}

/// Plays one seed to its end; a broken rule prints the seed and the last events.
fn play(seed: u64, voice: Voice) -> Totals {
    let mut world = World::new(seed, voice);
    match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(()) => world.totals(),
        Err(panic) => {
            println!("seed {seed}: RINGWAY_SEED={seed} cargo test --lib simulation -- --nocapture");
            if voice == Voice::Silent {
                let mut again = World::new(seed, Voice::Last);
                let _ = catch_unwind(AssertUnwindSafe(|| again.run()));
                again.print_last();
            }
            resume_unwind(panic)
        }
    }
}

#[test]
fn every_seed_keeps_the_rules() {
    if let Ok(seed) = std::env::var("RINGWAY_SEED") {
        println!("{:?}", play(seed.parse().expect("RINGWAY_SEED: a number"), Voice::Aloud));
        return;
    }
    let seeds = if std::env::var_os("RINGWAY_CAMPAIGN").is_some() { 100_000 } else { 300 };
    let mut all = Totals::default();
    (0..seeds).for_each(|seed| all.add(&play(seed, Voice::Silent)));
    println!("{seeds} seeds: {all:?}");
    for (what, count) in all.counts() {
        assert!(count > 0, "no seed of {seeds} brought {what}");
    }
}

#[test]
fn the_same_seed_is_the_same_story() {
    let stories: Vec<u64> = (0..10).map(|seed| play(seed, Voice::Silent).story).collect();
    assert!((0..10).all(|seed| play(seed, Voice::Silent).story == stories[seed as usize]));
    assert!(stories.windows(2).all(|pair| pair[0] != pair[1]));
}

/// What a chat asks of a backend.
fn chat(prompt_tokens: u64, kv_tokens: u64) -> Wanted {
    Wanted { api: Api::Chat, is_last_model: true, prompt_tokens, kv_tokens, bound: None, name: 0 }
}

/// What a choice is made for where nothing is known of the prompt but its length.
fn blind(wanted: &Wanted, random: u64) -> impl FnOnce(&mut [View]) -> Request {
    let request = Request { prompt_tokens: wanted.prompt_tokens, affinity: random, random, turn: random };
    move |_| request
}

/// A half-open backend that has no slot free keeps its probe for the next request.
#[test]
fn a_probe_without_a_slot_is_there_for_the_next() {
    let plan = setting::plan(&mut Chance(1));
    let model = &plan.models[1]; // one backend
    let (backend, deployment) = (model.pool[0].backend, model.pool[0].deployment);
    let breakers = [&plan.backends.cells(backend).breaker, &plan.deployments.cells(deployment).breaker];
    let wanted = chat(1, 2);
    let mut now = Nanos(1_000_000_000);
    let settings = Settings { threshold: 5, open_for: Nanos(1_000_000_000), open_max: Nanos(1_000_000_000) };
    let pick = |slots: Option<()>, now| {
        let pool = Pool { plan: &plan, model, wanted: &wanted, now };
        let picked = pool.pick(&Tried::default(), blind(&wanted, 0), |_, _| slots);
        picked.map(|picked| picked.probes.any())
    };
    for breaker in breakers {
        (0..5).for_each(|_| _ = breaker.failure(now, &settings, 0));
        assert_eq!(pick(Some(()), now), None, "it is open");
        now = now.plus(Nanos(5_000_000_000));
        assert_eq!(pick(None, now), None, "no slot is free");
        assert_eq!(breaker.peek(now), Admission::Probe, "the probe is gone");
        assert_eq!(pick(Some(()), now), Some(true));
        assert_eq!(pick(Some(()), now), Some(false), "who is alone is asked beside its probe");
        breaker.success(now);
    }
}
