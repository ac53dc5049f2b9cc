//! What shards see of a reload, without their sockets.

use std::sync::Arc;

use super::fixture;
use crate::plan::{Mailbox, Plan};
use crate::sync::interleavings::{check, spawn};

/// The successor of a plan, without the first plan's key or with it.
fn next(old: &Plan, knows_the_key: bool) -> Plan {
    let mut plan = fixture::plan(&[]);
    if !knows_the_key {
        plan.keys[0].credential.digest = [7; 32];
    }
    plan.follow(old);
    plan
}

#[test]
fn a_key_is_revoked_once_a_plan_without_it_waits_and_never_by_one_that_has_it() {
    for knows_the_key in [false, true] {
        check(move || {
            let (old, mailbox) = (Arc::new(fixture::plan(&[])), Arc::new(Mailbox::default()));
            let (before, door) = (Arc::clone(&old), Arc::clone(&mailbox));
            let coordinator = spawn(move || {
                let plan = Arc::new(next(&before, knows_the_key));
                door.put(Arc::clone(&plan));
                plan.revoke_missing(&before);
            });
            let key = &old.keys[0];
            if key.is_revoked() {
                assert!(!knows_the_key && mailbox.take().is_some(), "revoked by a plan that nobody can have");
            }
            coordinator.join().unwrap();
            assert_eq!(key.is_revoked(), !knows_the_key);
        });
    }
}
