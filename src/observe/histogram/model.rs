use super::*;
use crate::observe::record::tests::sample;
use crate::sync::model::{check, spawn};

#[test]
fn intervals_go_round_and_what_they_measured_is_taken_once() {
    check(|| {
        let (mut recorder, intervals) = lane(1);
        let shard = spawn(move || {
            for _ in 0..3 {
                recorder.record(&sample());
                recorder.flush();
            }
        });
        let mut totals = Totals::new(1);
        let measured =
            |totals: &Totals| totals.model(ModelId::new(0)).map_or(0, |times| times.duration.count());
        intervals.merge_into(&mut totals, Some);
        let before = measured(&totals);
        intervals.merge_into(&mut totals, Some);
        assert!((before..=3).contains(&measured(&totals)));
        shard.join().unwrap();
        intervals.merge_into(&mut totals, Some);
        assert_eq!(measured(&totals), 3);
        assert!(intervals.has_left() && intervals.is_empty());
    });
}
