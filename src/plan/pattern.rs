//! Models that clients name: `[model."openai/*"]`. What stands for the star goes to the backend, and what its responses say
//! counts for that name alone.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use crate::policy::routing::breaker::Breaker;
use crate::sync::{AtomicU64, Ordering};

/// The star of a pattern.
pub const STAR: char = '*';

/// A backend's own names for the models of a pattern: what stands before and behind what the client wrote for the star.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    before: Box<str>,
    behind: Box<str>,
}

impl Template {
    /// The template of a text with one star; `None` for one without, or with several.
    pub fn new(text: &str) -> Option<Self> {
        let (before, behind) = text.split_once(STAR)?;
        (!behind.contains(STAR)).then(|| Self { before: before.into(), behind: behind.into() })
    }

    /// The name, with `rest` for the star.
    pub fn name<'a>(&self, rest: &'a str) -> Cow<'a, str> {
        match self.before.is_empty() && self.behind.is_empty() {
            true => Cow::Borrowed(rest),
            false => Cow::Owned([&*self.before, rest, &*self.behind].concat()),
        }
    }
}

/// What tells the names of models apart in tables with a bound. Not to be foreseen by those who choose the names.
pub fn hash(name: &str) -> u64 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    HASHER.hash_one(name).clamp(1, TAKEN - 1)
}

/// The name of a place that a shard is about to give another name.
const TAKEN: u64 = u64::MAX;

const WAYS: usize = 4;
/// In models of what shards can do to each other one set is enough.
const SETS: usize = if cfg!(any(ringway_loom, ringway_shuttle)) { 1 } else { 256 };

/// The breakers of one deployment by name of the model, for at most 1,024 names: a name that is new takes the place of the
/// one of its set that has been asked for least recently, whose failures are then forgotten.
///
/// Shared by all shards. A name that is new to two of them in the same instant may be counted apart for that request.
pub struct NamedBreakers {
    /// `slots: [SETS of WAYS]`.
    slots: Box<[Slot]>,
    /// Counts look-ups.
    clock: AtomicU64,
    /// For a request whose name is being put in its place by another shard.
    spare: Breaker,
}

struct Slot {
    /// The hash of its name; 0 before the first.
    name: AtomicU64,
    used: AtomicU64,
    breaker: Breaker,
}

impl Default for NamedBreakers {
    fn default() -> Self {
        let slot = |_| Slot { name: AtomicU64::new(0), used: AtomicU64::new(0), breaker: Breaker::default() };
        Self {
            slots: (0..SETS * WAYS).map(slot).collect(),
            clock: AtomicU64::new(1),
            spare: Breaker::default(),
        }
    }
}

impl NamedBreakers {
    /// The breaker of a name, by its [`hash`].
    pub fn of(&self, name: u64) -> &Breaker {
        let start = name as usize % SETS * WAYS;
        let set = &self.slots[start..start + WAYS];
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let slot = set.iter().find(|slot| slot.name.load(Ordering::Acquire) == name);
        let Some(slot) = slot.or_else(|| Self::take(set, name)) else {
            self.spare.reset();
            return &self.spare;
        };
        slot.used.store(now, Ordering::Relaxed);
        &slot.breaker
    }

    /// Puts a name in the place of the one that was asked for least recently. `None`: others take places at this moment, and the
    /// name is known the next time.
    fn take(set: &[Slot], name: u64) -> Option<&Slot> {
        let is_there = |slot: &&Slot| slot.name.load(Ordering::Acquire) != TAKEN;
        let slot = set.iter().filter(is_there).min_by_key(|slot| slot.used.load(Ordering::Relaxed))?;
        let before = slot.name.load(Ordering::Acquire);
        if before == name {
            return Some(slot); // another shard has put it there in between
        }
        // Nobody finds the place before its breaker is a new one.
        let takes = before != TAKEN
            && slot.name.compare_exchange(before, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !takes {
            return set.iter().find(|slot| slot.name.load(Ordering::Acquire) == name);
        }
        slot.breaker.reset();
        slot.name.store(name, Ordering::Release);
        Some(slot)
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::routing::breaker::Cause;
    use crate::units::Nanos;

    #[test]
    fn a_template_has_one_star() {
        for (text, name) in [("*", "a/b"), ("accounts/x/*", "accounts/x/a/b"), ("*:free", "a/b:free")] {
            assert_eq!(Template::new(text).unwrap().name("a/b"), name);
        }
        assert!(Template::new("a").is_none() && Template::new("**").is_none());
    }

    #[test]
    fn each_name_has_its_own_failures_and_the_least_recent_are_forgotten() {
        let breakers = NamedBreakers::default();
        let now = Nanos(1_000_000_000);
        let fail = |name: u64| {
            breakers.of(name).hold(now.plus(Nanos(60_000_000_000)), Cause::Failures);
        };
        let is_blocked = |name: u64| breakers.of(name).open(now).is_some();
        fail(7);
        assert!(is_blocked(7) && !is_blocked(8) && !is_blocked(7 + SETS as u64));
        for other in 1..WAYS as u64 {
            assert!(is_blocked(7), "it was asked for in between");
            breakers.of(7 + other * SETS as u64);
        }
        assert!(is_blocked(7));
        for other in 1..=WAYS as u64 {
            breakers.of(7 + (10 + other) * SETS as u64);
        }
        assert!(!is_blocked(7), "as many others have been asked for since");
    }
}
