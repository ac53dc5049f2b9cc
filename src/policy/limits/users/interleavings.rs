use std::sync::Arc;

use super::*;
use crate::sync::interleavings::{check, spawn};

#[test]
fn two_shards_that_meet_a_new_name_at_once_find_the_same_place() {
    check(|| {
        let users = Arc::new(Users { sets: vec![Set::default()].into(), evicted: AtomicU64::new(0) });
        let other = Arc::clone(&users);
        let thread = spawn(move || other.pin(7, 1));
        let (own, theirs) = (users.pin(7, 1), thread.join().unwrap());
        if let (Some(own), Some(theirs)) = (own, theirs) {
            assert_eq!(own, theirs);
        }
        assert_eq!(users.count(), 1);
    });
}
