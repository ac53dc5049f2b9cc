use std::sync::Arc;

use super::*;
use crate::sync::interleavings::{check, spawn};
use crate::sync::{AtomicU64, Ordering};

#[test]
fn each_plan_is_taken_or_comes_back_once_and_the_newest_is_taken_last() {
    check(|| {
        let mailbox = Arc::new(Mailbox::default());
        let other = Arc::clone(&mailbox);
        let coordinator = spawn(move || [1, 2].map(|plan| other.put(plan)));
        let mut taken: Vec<u32> = mailbox.take().into_iter().collect();
        let back = coordinator.join().unwrap();
        taken.extend(mailbox.take());
        assert_eq!(taken.last(), Some(&2));
        assert_eq!(mailbox.take(), None);
        let mut all: Vec<u32> = back.into_iter().flatten().chain(taken).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
    });
}

#[test]
fn a_shard_that_takes_a_plan_sees_the_cells_as_they_were_when_it_was_put() {
    check(|| {
        let (mailbox, cell) = (Arc::new(Mailbox::default()), Arc::new(AtomicU64::new(0)));
        let (other, written) = (Arc::clone(&mailbox), Arc::clone(&cell));
        let coordinator = spawn(move || {
            written.store(1, Ordering::Relaxed);
            other.put(());
        });
        if mailbox.take().is_some() {
            assert_eq!(cell.load(Ordering::Relaxed), 1);
        }
        coordinator.join().unwrap();
    });
}
