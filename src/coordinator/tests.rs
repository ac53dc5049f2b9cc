//! The coordinator as a whole.

use serde_json::Value;

use super::fixture::house;
use super::*;
use crate::config::AccessLog;
use crate::observe::record::tests::sample;
use crate::units::Nanos;

#[test]
fn draining_waits_for_the_shards_and_a_second_stop_cuts() {
    let house = house(|_, _| {});
    let presence = house.enter();
    house.coordinator.stop();
    fixture::until_blocking("listeners close", || house.control.stop_accepting());
    let limit = house.control.cut_at();
    assert!(limit < Nanos::NEVER);
    house.coordinator.stop();
    fixture::until_blocking("the end comes closer", || house.control.cut_at() < limit);
    assert_eq!(house.end(presence), Ended::Drained);
}

#[test]
fn shards_that_do_not_end_are_left_after_the_limit() {
    let house = house(|plan, _| plan.timeouts.drain = Nanos(0));
    let _presence = house.enter();
    house.coordinator.stop();
    assert_eq!(house.coordinator.join(), Ended::Stuck(1));
}

#[test]
fn shards_that_end_unasked_are_a_fault() {
    let house = house(|_, _| {});
    drop(house.enter());
    assert_eq!(house.coordinator.join(), Ended::ShardsGone);
}

#[test]
fn the_last_records_reach_the_log() {
    let path = fixture::scratch("last.jsonl");
    let log = path.clone();
    let mut house = house(|_, settings| settings.access_log = AccessLog::File(log));
    let presence = house.enter();
    for _ in 0..10 {
        house.outbox.settle(&sample());
    }
    assert_eq!(house.end(presence), Ended::Drained);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(text.lines().count(), 10);
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}
