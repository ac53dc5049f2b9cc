//! The end users of keys that may name them: a table with a bound, so that names which clients choose cost no more memory than that.
//!
//! A name is known by a hash of it and of whose it is. A place that no exchange uses is given to a new name, in its set of
//! `WAYS` the one that was used last the longest ago: what its end user had used is forgotten then.

use super::budget::Spent;
use super::caller::CallerCells;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The end users that are known now.
pub struct Users {
    sets: Box<[Set]>,
    evicted: AtomicU64,
}

#[derive(Default)]
struct Set {
    /// Odd while a name is being put in.
    version: AtomicU64,
    slots: [Slot; WAYS],
}

#[derive(Default)]
struct Slot {
    /// Of the name; 0 for none.
    hash: AtomicU64,
    /// Exchanges that use it, and [`LOCKED`].
    pins: AtomicU32,
    /// When it was used last, milliseconds.
    used_ms: AtomicU64,
    cells: UserCells,
}

/// How much one end user uses now.
#[derive(Default)]
pub struct UserCells {
    /// The limits per minute, and what is in flight.
    pub caller: CallerCells,
    /// The budgets, in the order of the configuration.
    pub budgets: Box<[Spent]>,
}

/// An end user that an exchange uses: it has to be given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a pin has to be given back"]
pub struct Pin(u32);

/// Places in which a name can be.
const WAYS: usize = 8;
const LOCKED: u32 = 1 << 31;
/// Looks at a set that others are changing. Chosen, not measured: a change takes less than a microsecond.
const TRIES_MAX: usize = if cfg!(any(ringway_loom, ringway_shuttle)) { 2 } else { 10_000 };

impl Users {
    /// Room for about so many, each with so many budgets.
    pub fn new(count: usize, budgets: usize) -> Self {
        let sets = count.div_ceil(WAYS).next_power_of_two();
        let cells = || UserCells {
            budgets: (0..budgets).map(|_| Spent::default()).collect(),
            ..UserCells::default()
        };
        let slot = |_| Slot { cells: cells(), ..Slot::default() };
        let set = |_| Set { version: AtomicU64::new(0), slots: std::array::from_fn(slot) };
        Self { sets: (0..sets).map(set).collect(), evicted: AtomicU64::new(0) }
    }

    /// How many there is room for.
    pub fn capacity(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// Names that had to make room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Names that are known now.
    pub fn count(&self) -> usize {
        let known = |slot: &&Slot| slot.hash.load(Ordering::Relaxed) != 0;
        self.sets.iter().map(|set| set.slots.iter().filter(known).count()).sum()
    }

    /// The end user of this hash, fresh if it is not known. `None` if every place that it could have is in use.
    pub fn pin(&self, hash: u64, now_ms: u64) -> Option<Pin> {
        let hash = hash.max(1);
        let at = (hash >> 32) as usize & (self.sets.len() - 1);
        let set = &self.sets[at];
        for _ in 0..TRIES_MAX {
            let version = set.version.load(Ordering::SeqCst);
            if let Some(way) = set.find(hash) {
                set.slots[way].used_ms.store(now_ms, Ordering::Relaxed);
                return Some(Pin((at * WAYS + way) as u32));
            }
            let begins =
                set.version.compare_exchange(version & !1, version | 1, Ordering::SeqCst, Ordering::SeqCst);
            if begins.is_err() {
                std::hint::spin_loop(); // another name is being put in, maybe this one
                continue;
            }
            let way = set.replace(hash, now_ms, &self.evicted);
            set.version.store((version | 1) + 1, Ordering::SeqCst);
            return way.map(|way| Pin((at * WAYS + way) as u32));
        }
        None
    }

    /// How much a pinned end user uses.
    pub fn cells(&self, pin: Pin) -> &UserCells {
        &self.slot(pin).cells
    }

    /// The exchange has ended.
    pub fn unpin(&self, pin: Pin) {
        self.slot(pin).pins.fetch_sub(1, Ordering::SeqCst);
    }

    fn slot(&self, Pin(index): Pin) -> &Slot {
        &self.sets[index as usize / WAYS].slots[index as usize % WAYS]
    }
}

impl Set {
    /// Pins the name if it is there.
    fn find(&self, hash: u64) -> Option<usize> {
        self.slots.iter().position(|slot| {
            if slot.hash.load(Ordering::SeqCst) != hash {
                return false;
            }
            // A pin keeps others from taking the place; one that is being taken is locked.
            let is_kept = slot.pins.fetch_add(1, Ordering::SeqCst) & LOCKED == 0
                && slot.hash.load(Ordering::SeqCst) == hash;
            if !is_kept {
                slot.pins.fetch_sub(1, Ordering::SeqCst);
            }
            is_kept
        })
    }

    /// Puts a name, pinned, in the place of the one that was used last the longest ago.
    fn replace(&self, hash: u64, now_ms: u64, evicted: &AtomicU64) -> Option<usize> {
        let mut order: [usize; WAYS] = std::array::from_fn(|way| way);
        order.sort_unstable_by_key(|way| {
            let slot = &self.slots[*way];
            (slot.hash.load(Ordering::Relaxed) != 0, slot.used_ms.load(Ordering::Relaxed))
        });
        let locks = |way: &usize| {
            self.slots[*way].pins.compare_exchange(0, LOCKED, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        let way = order.into_iter().find(locks)?;
        let slot = &self.slots[way];
        if slot.hash.swap(hash, Ordering::SeqCst) != 0 {
            evicted.fetch_add(1, Ordering::Relaxed);
        }
        slot.cells.caller.reset();
        slot.cells.budgets.iter().for_each(Spent::reset);
        slot.used_ms.store(now_ms, Ordering::Relaxed);
        slot.pins.fetch_sub(LOCKED - 1, Ordering::SeqCst); // one pin is left: ours
        Some(way)
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_again_and_its_place_is_not_taken_while_it_is_used() {
        let users = Users::new(WAYS, 1);
        let pins: Vec<_> = (1..=WAYS as u64).map(|hash| users.pin(hash, hash).unwrap()).collect();
        assert_eq!((users.capacity(), users.count(), users.evicted()), (WAYS, WAYS, 0));
        assert_eq!(users.pin(3, 9), Some(pins[2]));
        users.unpin(pins[2]);
        assert_eq!(users.pin(99, 9), None, "all are in use");
        pins.iter().for_each(|pin| users.unpin(*pin));
        assert!(users.cells(pins[0]).caller.in_flight.try_enter(1));
        // 1 was used last the longest ago.
        assert_eq!(users.pin(99, 10), Some(pins[0]));
        assert_eq!((users.count(), users.evicted()), (WAYS, 1));
        assert_eq!(users.cells(pins[0]).caller.in_flight.count(), 0, "nothing of its former name is left");
    }
}
