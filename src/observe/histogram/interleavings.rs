use super::*;
use crate::observe::record::tests::sample;
use crate::sync::interleavings::{check, spawn};

#[test]
fn intervals_go_round_and_what_they_measured_is_taken_once() {
    check(|| {
        let (mut recorder, intervals) = lane(1);
        let measured =
            |totals: &Totals| totals.model(ModelId::new(0)).map_or(0, |times| times.duration.count());
        let coordinator = spawn(move || {
            let mut totals = Totals::new(1);
            intervals.merge_into(&mut totals, Some);
            (intervals, totals)
        });
        for _ in 0..2 {
            recorder.record(&sample());
            recorder.flush();
        }
        drop(recorder);
        let (intervals, mut totals) = coordinator.join().unwrap();
        assert!(intervals.has_left() && measured(&totals) <= 2);
        intervals.merge_into(&mut totals, Some);
        assert_eq!(measured(&totals), 2);
        assert!(intervals.is_empty());
    });
}
