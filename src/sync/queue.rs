//! A bounded queue with the face of crossbeam's, for model checkers.
//!
//! It promises no more than the real one: who takes a thing sees what its giver did before, and `is_empty` may be late
//! for anybody who has not heard of the newest push in another way. The places themselves are behind a lock of std, which
//! no checker sees: it orders nothing in the model, and is never held across a step.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{AtomicUsize, Ordering};

/// First in, first out; at most `most` things.
#[derive(Debug)]
pub struct ArrayQueue<T> {
    most: usize,
    things: Mutex<VecDeque<T>>,
    /// Things ever given and ever taken.
    given: AtomicUsize,
    taken: AtomicUsize,
}

impl<T> ArrayQueue<T> {
    /// An empty queue with room for `most`.
    pub fn new(most: usize) -> Self {
        assert!(most > 0, "a queue has room for something");
        let (given, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { most, things: Mutex::default(), given, taken }
    }

    /// Gives one thing; back it comes if there is no room.
    pub fn push(&self, thing: T) -> Result<(), T> {
        let mut given = read(&self.given);
        loop {
            let taken = self.taken.load(Ordering::Acquire);
            if given >= taken + self.most {
                return Err(thing);
            }
            match self.given.compare_exchange(given, given + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    self.things().push_back(thing);
                    return Ok(());
                }
                Err(newer) => given = newer,
            }
        }
    }

    /// Gives one thing; back comes the oldest if there was no room for both.
    pub fn force_push(&self, mut thing: T) -> Option<T> {
        let mut oldest = None;
        loop {
            match self.push(thing) {
                Ok(()) => return oldest,
                Err(back) => thing = back,
            }
            oldest = self.pop().or(oldest);
        }
    }

    /// Whether a push would be refused now.
    pub fn is_full(&self) -> bool {
        self.given.load(Ordering::Acquire) >= self.taken.load(Ordering::Acquire) + self.most
    }

    /// Takes the oldest thing.
    pub fn pop(&self) -> Option<T> {
        let mut taken = read(&self.taken);
        loop {
            let given = self.given.load(Ordering::Acquire);
            if taken >= given {
                return None;
            }
            match self.taken.compare_exchange(taken, taken + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return self.things().pop_front(),
                Err(newer) => taken = newer,
            }
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        let taken = self.taken.load(Ordering::Acquire);
        taken >= self.given.load(Ordering::Acquire)
    }

    fn things(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A load that a checker takes for a write. loom tries another order from the last access before a write only: after a
/// plain load that is the same thread's own, and who saw an empty place just before never sees a full one.
fn read(count: &AtomicUsize) -> usize {
    count.fetch_add(0, Ordering::Relaxed)
}
