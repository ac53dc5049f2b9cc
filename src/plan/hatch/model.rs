use std::sync::Arc;

use super::*;
use crate::sync::model::{check, spawn};
use crate::sync::{AtomicU64, Ordering};

#[test]
fn each_plan_is_taken_or_comes_back_once_and_the_newest_is_taken_last() {
    check(|| {
        let hatch = Arc::new(Hatch::default());
        let other = Arc::clone(&hatch);
        let coordinator = spawn(move || [1, 2].map(|plan| other.put(plan)));
        let mut taken: Vec<u32> = hatch.take().into_iter().collect();
        let back = coordinator.join().unwrap();
        taken.extend(hatch.take());
        assert_eq!(taken.last(), Some(&2));
        assert_eq!(hatch.take(), None);
        let mut all: Vec<u32> = back.into_iter().flatten().chain(taken).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
    });
}

#[test]
fn a_shard_that_takes_a_plan_sees_the_cells_as_they_were_when_it_was_put() {
    check(|| {
        let (hatch, cell) = (Arc::new(Hatch::default()), Arc::new(AtomicU64::new(0)));
        let (other, written) = (Arc::clone(&hatch), Arc::clone(&cell));
        let coordinator = spawn(move || {
            written.store(1, Ordering::Relaxed);
            other.put(());
        });
        if hatch.take().is_some() {
            assert_eq!(cell.load(Ordering::Relaxed), 1);
        }
        coordinator.join().unwrap();
    });
}
