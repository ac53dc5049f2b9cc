//! The responses that grow on one limit while they run, by age: who goes on and who is stopped when nothing is left.
//!
//! Places are claimed at admission and left at settle, by any shard. The first place takes memory for `PLACES` of them, kept for
//! good; a limit that no response without a cap has ever used has none. A response that finds no place is not known to the others:
//! it stops itself where they would wait.

use std::sync::OnceLock;

use crate::sync::{AtomicU64, Ordering};

/// The responses of one limit.
#[derive(Default)]
pub struct Running {
    places: OnceLock<Box<Places>>,
    /// Age of the one that entered last; the first has 1.
    newest: AtomicU64,
    /// How many wait for more.
    waiting: AtomicU64,
}

/// [`PLACES`] places, and those behind them.
struct Places {
    list: [Slot; PLACES],
    next: OnceLock<Box<Places>>,
}

#[derive(Default)]
struct Slot {
    /// 0 for a free one, [`CLAIMED`] for one that is being filled, else the age and its [`WAITS`] and [`STOPPED`] bits.
    state: AtomicU64,
    /// Where the response runs: not read here.
    home: AtomicU64,
}

/// A claimed place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    index: u32,
    age: u64,
}

/// What came of a wish to stop the youngest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stopped {
    /// It is the one that asked.
    Own,
    /// It was told so now; where it runs.
    Other(u64),
    /// One was told before, and has not left yet.
    Before,
}

/// Places that are claimed from the allocator at once.
const PLACES: usize = 32;
/// Most responses of one limit that know of each other. Chosen, not measured.
const PLACES_MAX: usize = 128 * PLACES;
const CLAIMED: u64 = u64::MAX;
const WAITS: u64 = 1;
const STOPPED: u64 = 2;
const AGE_SHIFT: u32 = 2;

impl Running {
    /// Claims a place for a response that runs at `home`. `None` if as many run as may.
    ///
    /// Cost: one compare-exchange, and a look at each place before the free one.
    pub fn enter(&self, home: u64) -> Option<Place> {
        let age = self.newest.fetch_add(1, Ordering::Relaxed) + 1;
        let mut places = self.places.get_or_init(Box::default);
        let mut first = 0;
        loop {
            let claim = |slot: &Slot| {
                slot.state.load(Ordering::Relaxed) == 0
                    && slot.state.compare_exchange(0, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok()
            };
            if let Some(at) = places.list.iter().position(claim) {
                places.list[at].home.store(home, Ordering::Relaxed);
                places.list[at].state.store(age << AGE_SHIFT, Ordering::Release);
                return Some(Place { index: (first + at) as u32, age });
            }
            first += PLACES;
            if first >= PLACES_MAX {
                return None;
            }
            places = places.next.get_or_init(Box::default);
        }
    }

    /// The response has ended.
    pub fn leave(&self, place: Place) {
        let Some(slot) = self.slot(place) else { return };
        if slot.state.swap(0, Ordering::AcqRel) & WAITS != 0 {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Whether any response waits for more: nothing new is admitted then.
    pub fn is_anybody_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Whether an older one waits for more, which comes first.
    pub fn is_older_waiting(&self, place: Place) -> bool {
        self.is_anybody_waiting()
            && self.states().any(|(state, _)| state & WAITS != 0 && state >> AGE_SHIFT < place.age)
    }

    /// The response waits for more.
    pub fn wait(&self, place: Place) {
        let Some(slot) = self.slot(place) else { return };
        if slot.state.fetch_or(WAITS, Ordering::AcqRel) & WAITS == 0 {
            self.waiting.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The response has what it waited for.
    pub fn go_on(&self, place: Place) {
        let Some(slot) = self.slot(place) else { return };
        if slot.state.fetch_and(!WAITS, Ordering::AcqRel) & WAITS != 0 {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Whether the response was told to stop.
    pub fn is_stopped(&self, place: Place) -> bool {
        self.slot(place).is_some_and(|slot| slot.state.load(Ordering::Acquire) & STOPPED != 0)
    }

    /// Tells the youngest response to stop, unless one that was told before is still there.
    ///
    /// Cost: a look at every place, again for each response that came or went meanwhile.
    pub fn stop_youngest(&self, own: Place) -> Stopped {
        for _ in 0..TRIES_MAX {
            let mut youngest = None;
            for (state, slot) in self.states() {
                if state & STOPPED != 0 {
                    return if state >> AGE_SHIFT == own.age { Stopped::Own } else { Stopped::Before };
                }
                if youngest.is_none_or(|(other, _)| state > other) {
                    youngest = Some((state, slot));
                }
            }
            let Some((state, slot)) = youngest else { break };
            let home = slot.home.load(Ordering::Relaxed);
            let told =
                slot.state.compare_exchange(state, state | STOPPED, Ordering::AcqRel, Ordering::Relaxed);
            if told.is_ok() {
                return if state >> AGE_SHIFT == own.age { Stopped::Own } else { Stopped::Other(home) };
            }
        }
        Stopped::Before // others are at it
    }

    fn slot(&self, place: Place) -> Option<&Slot> {
        let index = place.index as usize;
        let mut places = self.places.get()?;
        for _ in 0..index / PLACES {
            places = places.next.get()?;
        }
        Some(&places.list[index % PLACES])
    }

    /// Those that run, with their state now.
    fn states(&self) -> impl Iterator<Item = (u64, &Slot)> {
        std::iter::successors(self.places.get(), |places| places.next.get())
            .flat_map(|places| &places.list)
            .map(|slot| (slot.state.load(Ordering::Acquire), slot))
            .filter(|(state, _)| *state != 0 && *state != CLAIMED)
    }
}

/// Looks at all places before it is left to the others. Chosen, not measured.
const TRIES_MAX: usize = 64;

impl Default for Places {
    fn default() -> Self {
        Self { list: std::array::from_fn(|_| Slot::default()), next: OnceLock::new() }
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_is_stopped_one_at_a_time() {
        let running = Running::default();
        let [old, middle, young] = [10, 20, 30].map(|home| running.enter(home).unwrap());
        assert_eq!(running.stop_youngest(old), Stopped::Other(30));
        assert_eq!(running.stop_youngest(old), Stopped::Before);
        assert!(running.is_stopped(young) && !running.is_stopped(middle));
        running.leave(young);
        assert_eq!(running.stop_youngest(middle), Stopped::Own);
        running.leave(middle);
        assert_eq!(running.stop_youngest(old), Stopped::Own);
    }

    #[test]
    fn the_older_of_two_that_wait_comes_first() {
        let running = Running::default();
        let [old, young] = [1, 2].map(|home| running.enter(home).unwrap());
        assert!(!running.is_anybody_waiting());
        running.wait(old);
        running.wait(old);
        running.wait(young);
        assert!(running.is_older_waiting(young) && !running.is_older_waiting(old));
        running.go_on(old);
        assert!(!running.is_older_waiting(young) && running.is_anybody_waiting());
        running.leave(young);
        assert!(!running.is_anybody_waiting(), "who leaves waits no more");
    }

    #[test]
    fn places_are_used_again_and_have_a_bound() {
        let running = Running::default();
        let places: Vec<_> = (0..PLACES_MAX).map(|_| running.enter(0).unwrap()).collect();
        assert_eq!(running.enter(0), None);
        running.leave(places[77]);
        let again = running.enter(5).unwrap();
        assert_eq!((again.index, running.stop_youngest(places[0])), (77, Stopped::Other(5)));
    }
}
