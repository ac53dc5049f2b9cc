use std::sync::Arc;

use super::*;
use crate::sync::interleavings::{CROWD, check, spawn};

const SETTINGS: Settings =
    Settings { threshold: 2, open_for: Nanos(1_000_000_000), open_max: Nanos(8_000_000_000) };
const LATER: Nanos = Nanos(2_000_000_000);

/// Two failures at 0: open for a second.
fn open() -> Arc<Breaker> {
    let breaker = Arc::new(Breaker::default());
    assert!(!breaker.failure(Nanos(0), &SETTINGS, 0));
    assert!(breaker.failure(Nanos(0), &SETTINGS, 0));
    breaker
}

#[test]
fn half_open_lets_exactly_one_probe_through() {
    check(|| {
        let breaker = open();
        let shards: Vec<_> = (0..CROWD)
            .map(|_| {
                let breaker = Arc::clone(&breaker);
                spawn(move || breaker.admit(LATER))
            })
            .collect();
        let mut admitted = vec![breaker.admit(LATER)];
        admitted.extend(shards.into_iter().map(|shard| shard.join().unwrap()));
        let probes = admitted.iter().filter(|admission| **admission == Admission::Probe).count();
        assert_eq!(probes, 1, "{admitted:?}");
        assert!(!admitted.contains(&Admission::Closed));
    });
}

#[test]
fn failures_on_two_shards_both_count_and_one_of_them_opens() {
    check(|| {
        let breaker = Arc::new(Breaker::default());
        let other = Arc::clone(&breaker);
        let failed = spawn(move || other.failure(Nanos(0), &SETTINGS, 0));
        let opened = [breaker.failure(Nanos(0), &SETTINGS, 0), failed.join().unwrap()];
        assert!(opened[0] != opened[1], "{opened:?}");
        assert!(matches!(breaker.peek(Nanos(0)), Admission::Open { .. }));
    });
}

#[test]
fn a_probe_that_was_not_sent_is_there_for_the_next_shard() {
    check(|| {
        let breaker = open();
        let other = Arc::clone(&breaker);
        let sent = spawn(move || other.admit(LATER) == Admission::Probe);
        if breaker.admit(LATER) == Admission::Probe {
            breaker.abandon(LATER);
        }
        let is_sent = sent.join().unwrap();
        assert_eq!(breaker.admit(LATER) == Admission::Probe, !is_sent);
    });
}

#[test]
fn a_pause_that_the_backend_asked_for_is_not_undone_by_an_response_on_another_shard() {
    check(|| {
        let breaker = Arc::new(Breaker::default());
        breaker.failure(Nanos(0), &SETTINGS, 0); // so that the response has something to write
        let until = Nanos(10_000_000_000);
        let other = Arc::clone(&breaker);
        let held = spawn(move || other.hold(until, Cause::Limit));
        breaker.success(Nanos(0));
        held.join().unwrap();
        assert_eq!(breaker.peek(LATER), Admission::Open { until });
    });
}
