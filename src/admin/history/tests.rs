use super::*;
use crate::coordinator::fixture;
use crate::observe::Record;
use crate::observe::record::tests::sample;
use crate::units::Nanos;

#[test]
fn a_second_is_what_was_counted_in_it() {
    let (mut outbox, inbox) = fixture::shard(Some(16));
    let watch = fixture::watch(fixture::plan(&[fixture::tcp("192.0.2.1", 8000)]), vec![inbox]);
    let mut history = History::default();
    outbox.settle(&sample());
    history.read(&watch, 100);
    assert_eq!(history.seconds().len(), 0, "nothing to compare with yet");
    outbox.settle(&sample());
    outbox.settle(&Record { status: 429, fault: Some(FaultKind::TokensExceeded), ..sample() });
    outbox.settle(&Record { status: 502, fault: Some(FaultKind::BackendCut), ..sample() });
    outbox.flush();
    watch.merge();
    history.read(&watch, 101);
    let second = history.newest().unwrap();
    assert_eq!((second.requests, second.refused, second.backend_errors), (3, 1, 1));
    assert_eq!((second.input_tokens, second.cached_tokens, second.output_tokens), (300, 192, 33));
    let first = second.ttft_p50.unwrap();
    assert!((0.085..0.115).contains(&first), "100 ms within its band: {first}");
    assert_eq!(requests(&history.total().usage), 4);
}

#[test]
fn rates_of_a_model_are_those_of_the_last_minute() {
    let (mut outbox, inbox) = fixture::shard(Some(16));
    let watch = fixture::watch(fixture::plan(&[fixture::tcp("192.0.2.1", 8000)]), vec![inbox]);
    let mut history = History::default();
    for at in 0..=200 {
        if at <= 100 {
            outbox.settle(&sample());
            outbox.flush();
            watch.merge();
        }
        history.read(&watch, at);
        if at == 100 {
            let rates = history.model("llama");
            assert_eq!((rates.requests, rates.output_tokens), (1.0, 11.0));
            assert_eq!((rates.error_share, rates.cached_share), (Some(0.0), Some(0.64)));
            assert!(rates.ttft.is_some_and(|[p50, p99]| p50 > 0.08 && p99 < 0.12));
            assert_eq!(history.backend("gpu-0").requests, 1.0);
        }
    }
    let rates = history.model("llama");
    assert_eq!((rates.requests, rates.error_share, rates.ttft), (0.0, None, None), "unknown is not zero");
}

#[test]
fn what_is_kept_is_bounded() {
    let (mut outbox, inbox) = fixture::shard(Some(16));
    let watch = fixture::watch(fixture::plan(&[fixture::tcp("192.0.2.1", 8000)]), vec![inbox]);
    let mut history = History::default();
    for at in 0..3 * SECONDS_MAX as u64 {
        outbox.settle(&sample());
        history.read(&watch, at);
    }
    assert_eq!(history.seconds().len(), SECONDS_MAX);
    let charts = history.charts(8);
    assert_eq!(charts.columns.len(), STEPS_MAX);
    assert_eq!(charts.models[0].values, vec![1.0; STEPS_MAX]);
    assert!(serde_json::to_string(&charts).unwrap().len() < 256 * 1024);
}

#[test]
fn models_beyond_the_series_are_summed_as_one() {
    let mut history = History::default();
    for index in 0..12_u64 {
        let mut row = Row::default();
        for step in 0..4 {
            let usage = Usage { requests: [step * 5 * (index + 1), 0, 0, 0, 0], ..Usage::default() };
            row.push(RowSums { usage, bands: Bands::default() });
        }
        history.models.insert(format!("m{index:02}").into(), row);
    }
    let series = history.by_model(8);
    assert_eq!(series.len(), 8);
    assert_eq!((series[0].name.as_str(), &series[0].values), ("m11", &vec![12.0; 3]));
    assert_eq!((series[7].name.as_str(), &series[7].values), ("other (5)", &vec![15.0; 3]));
}

#[test]
fn a_quantile_lies_in_the_band_of_its_rank() {
    let edges = band_edges();
    let mut bands = Bands::default();
    assert_eq!(quantile(&bands, 0.5), None);
    (bands.0[10], bands.0[20]) = (98, 2);
    let p50 = quantile(&bands, 0.5).unwrap();
    assert!(p50 > edges[9] && p50 <= edges[10], "{p50}");
    let p99 = quantile(&bands, 0.99).unwrap();
    assert!(p99 > edges[19] && p99 <= edges[20], "{p99}");
}

#[test]
fn a_time_beyond_the_last_band_counts_in_it() {
    let (mut outbox, inbox) = fixture::shard(Some(16));
    let watch = fixture::watch(fixture::plan(&[fixture::tcp("192.0.2.1", 8000)]), vec![inbox]);
    outbox.settle(&Record { time_to_first_token: Some(Nanos(500_000_000_000)), ..sample() });
    outbox.flush();
    watch.merge();
    assert_eq!(sums(&watch).bands.0[BANDS - 1], 1);
}
