use super::*;
use crate::observe::record::tests::sample;

fn timing(nanos: &[u64]) -> Timing<u32> {
    let mut timing = Timing::of_exchanges();
    for time in nanos {
        timing.record(Nanos(*time));
    }
    timing
}

#[test]
fn bounds_are_those_the_conventions_advise() {
    assert_eq!(DURATION_BOUNDS.len(), 14);
    for (index, bound) in DURATION_BOUNDS.iter().enumerate() {
        assert!((bound - 0.01 * f64::from(1 << index)).abs() < 1e-12);
    }
    assert_eq!(FIRST_TOKEN_BOUNDS[..4], [0.001, 0.005, 0.01, 0.02]);
    assert_eq!(FIRST_TOKEN_BOUNDS[15..], [10.0, 15.0, 20.0, 30.0, 45.0, 60.0]);
    assert_eq!(PER_TOKEN_BOUNDS.len(), 13);
    assert_eq!((TOKEN_BOUNDS[0], TOKEN_BOUNDS[13]), (1, 67_108_864));
    assert!(TOKEN_BOUNDS.windows(2).all(|pair| pair[1] == 4 * pair[0]));
    for bounds in [DURATION_BOUNDS, FIRST_TOKEN_BOUNDS, PER_TOKEN_BOUNDS, OVERHEAD_BOUNDS] {
        assert!(bounds.is_sorted());
    }
}

#[test]
fn a_time_equal_to_a_bound_counts_in_it() {
    for (index, bound) in FIRST_TOKEN_BOUNDS.iter().enumerate() {
        let counts = timing(&[(bound * 1e9).round() as u64]).cumulative(FIRST_TOKEN_BOUNDS);
        assert_eq!(counts.iter().position(|count| *count == 1), Some(index), "{bound}");
        assert_eq!(counts.last(), Some(&1));
    }
}

#[test]
fn a_time_two_percent_above_a_bound_does_not_count_in_it() {
    for (index, bound) in DURATION_BOUNDS.iter().enumerate() {
        let counts = timing(&[(bound * 1.02e9) as u64]).cumulative(DURATION_BOUNDS);
        assert_eq!(counts[index], 0, "{bound}");
    }
}

#[test]
fn times_beyond_the_range_count_and_do_not_panic() {
    let timing = timing(&[0, 1, u64::MAX]);
    assert_eq!(timing.count(), 3);
    assert_eq!(timing.cumulative(&[1.0]), [2]);
}

#[test]
fn tokens_fall_into_powers_of_four() {
    let mut buckets = TokenBuckets::default();
    for tokens in [0, 1, 2, 4, 5, 67_108_864, 67_108_865] {
        buckets.record(tokens);
    }
    let counts = buckets.cumulative();
    assert_eq!(counts[..3], [2, 4, 5]);
    assert_eq!(counts[13], 6);
    assert_eq!(buckets.count(), 7);
}

#[test]
fn merging_keeps_counts_sums_and_quantiles() {
    let (mut first, first_end) = lane(1);
    let (mut second, second_end) = lane(1);
    let mut totals = Totals::new(1);
    for millis in 1..=100 {
        let recorder = if millis % 2 == 0 { &mut first } else { &mut second };
        recorder.record(&Record { duration: Nanos(millis * 1_000_000), ..sample() });
    }
    first.flush();
    second.flush();
    first_end.merge_into(&mut totals, Some);
    second_end.merge_into(&mut totals, Some);
    let model = totals.model(ModelId::new(0)).unwrap();
    assert_eq!(model.duration.count(), 100);
    assert!((model.duration.sum_seconds() - 5.05).abs() < 1e-9);
    let median = model.duration.quantile(0.5).seconds();
    assert!((median - 0.05).abs() < 0.05 * 0.02, "{median}");
    assert_eq!(model.input.sum(), 100 * 100);
    assert_eq!(model.output.count(), 100);
}

#[test]
fn a_coordinator_that_is_behind_loses_nothing() {
    let (mut recorder, end) = lane(1);
    for _ in 0..10 {
        recorder.record(&sample());
        recorder.flush();
    }
    let mut totals = Totals::new(1);
    end.merge_into(&mut totals, Some);
    recorder.flush();
    end.merge_into(&mut totals, Some);
    assert_eq!(totals.model(ModelId::new(0)).unwrap().duration.count(), 10);
    assert_eq!(totals.overhead.count(), 10);
}

#[test]
fn an_interval_comes_back_empty() {
    let (mut recorder, end) = lane(1);
    let mut totals = Totals::new(1);
    for round in 1..=4 {
        recorder.record(&sample());
        recorder.flush();
        end.merge_into(&mut totals, Some);
        assert_eq!(totals.model(ModelId::new(0)).unwrap().duration.count(), round);
    }
}

#[test]
fn a_refusal_is_not_measured() {
    let (mut recorder, end) = lane(1);
    recorder.record(&Record { backend: None, ..sample() });
    recorder.flush();
    let mut totals = Totals::new(1);
    end.merge_into(&mut totals, Some);
    assert!(totals.model(ModelId::new(0)).is_none());
    assert_eq!(totals.overhead.count(), 0);
}

#[test]
fn a_model_beyond_the_table_counts_as_overhead_only() {
    let (mut recorder, end) = lane(1);
    recorder.record(&Record { model: Some(ModelId::new(9)), ..sample() });
    recorder.flush();
    let mut totals = Totals::new(1);
    end.merge_into(&mut totals, Some);
    assert_eq!(totals.overhead.count(), 1);
}

#[test]
fn unknown_usage_is_not_measured() {
    let (mut recorder, end) = lane(1);
    recorder.record(&Record { usage_known: false, ..sample() });
    recorder.flush();
    let mut totals = Totals::new(1);
    end.merge_into(&mut totals, Some);
    assert_eq!(totals.model(ModelId::new(0)).unwrap().input.count(), 0);
}
