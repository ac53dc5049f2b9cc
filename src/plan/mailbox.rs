//! The mailbox between the planes: what the coordinator puts in, the shard takes out at its next tick. Nobody waits.

use crate::sync::ArrayQueue;

/// Room for one thing; a newer one takes the place of one that was not taken yet.
#[derive(Debug)]
pub struct Mailbox<T>(ArrayQueue<T>);

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self(ArrayQueue::new(1))
    }
}

impl<T> Mailbox<T> {
    /// Puts one thing in; back comes what nobody had taken.
    pub fn put(&self, thing: T) -> Option<T> {
        self.0.force_push(thing)
    }

    /// Takes what is there.
    pub fn take(&self) -> Option<T> {
        self.0.pop()
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_taken_once() {
        let mailbox = Mailbox::default();
        assert_eq!(mailbox.take(), None);
        assert_eq!(mailbox.put(1), None);
        assert_eq!(mailbox.put(2), Some(1));
        assert_eq!((mailbox.take(), mailbox.take()), (Some(2), None));
    }
}
