//! The report of a run: plain numbers for JSON, a table for the terminal, and what the HTML page plots.

use super::Options;
use super::tally::{Slice, Tally};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Everything a run showed. Times are in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The endpoint.
    pub url: String,
    /// The kind of load, in words.
    pub load: String,
    /// Seconds measured.
    pub seconds: f64,
    /// Requests meant to be sent in that time.
    pub sent: u64,
    /// Of those, answered well: `sent = good + failed`.
    pub good: u64,
    /// Of those, not.
    pub failed: u64,
    /// Failures by kind.
    pub failures: BTreeMap<String, u64>,
    /// Streams cut before their end; also among the failures.
    pub cut: u64,
    /// Streams with a finish reason but without `[DONE]`; not failures.
    pub without_done: u64,
    /// Requests sent again because a kept connection was closed; not failures.
    pub resent: u64,
    /// Good requests per second.
    pub requests_per_second: f64,
    /// Share of all requests that were good and within both limits.
    pub goodput: f64,
    /// The limit on time to first token.
    pub ttft_limit_ms: f64,
    /// The limit on the mean time between tokens.
    pub itl_limit_ms: f64,
    /// Records received.
    pub events: u64,
    /// Records with text received.
    pub tokens: u64,
    /// Those per second.
    pub tokens_per_second: f64,
    /// Completion tokens by the server's count.
    pub completion_tokens: u64,
    /// Cached prompt tokens by the server's count.
    pub cached_tokens: u64,
    /// Time to first token, from the intended send time.
    pub ttft: Spread,
    /// Between tokens.
    pub inter_token: Spread,
    /// End to end, from the intended send time.
    pub end_to_end: Spread,
    /// How late the driver itself sent.
    pub send_delay: Spread,
    /// Streams held open, for `--hold`.
    pub held: Option<Held>,
    /// The window in slices.
    pub slices: Vec<SliceReport>,
}

/// A distribution of times in ms.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Spread {
    /// Samples.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Largest.
    pub max: f64,
    /// Percentile (0 to 100) and value, for plots.
    pub curve: Vec<(f64, f64)>,
}

/// How streams held open fared.
#[derive(Debug, Clone, Serialize)]
pub struct Held {
    /// Streams asked for.
    pub wanted: u64,
    /// Most open at once.
    pub open_max: u64,
    /// Open when the time was over.
    pub open_at_end: u64,
    /// Streams that did not end properly.
    pub dropped: u64,
    /// Streams that ended properly before the time was over and were opened again.
    pub renewed: u64,
}

/// One slice of the window.
#[derive(Debug, Clone, Serialize)]
pub struct SliceReport {
    /// Its start, in seconds from the start of the window.
    pub at: f64,
    /// Good requests per second.
    pub good_per_second: f64,
    /// Failed ones per second.
    pub failed_per_second: f64,
    /// Tokens per second.
    pub tokens_per_second: f64,
    /// Median time to first token; `None` when there was none.
    pub ttft_p50: Option<f64>,
    /// 99th percentile of it.
    pub ttft_p99: Option<f64>,
}

impl Report {
    /// The report of `tally` as it stands.
    pub fn of(options: &Options, tally: &Tally) -> Self {
        let seconds = tally.window.length.as_secs_f64().max(1e-9);
        let failed = tally.failures.values().sum();
        let slice_seconds = tally.slice.as_secs_f64();
        Self {
            url: options.url.clone(),
            load: load_words(options),
            seconds,
            sent: tally.sent,
            good: tally.good,
            failed,
            failures: tally.failures.clone(),
            cut: tally.failures.get("cut").copied().unwrap_or(0),
            without_done: tally.without_done,
            resent: tally.resent,
            requests_per_second: tally.good as f64 / seconds,
            goodput: if tally.sent == 0 { 0.0 } else { tally.within as f64 / tally.sent as f64 },
            ttft_limit_ms: tally.limits.ttft.as_secs_f64() * 1e3,
            itl_limit_ms: tally.limits.between.as_secs_f64() * 1e3,
            events: tally.events,
            tokens: tally.tokens,
            tokens_per_second: tally.tokens as f64 / seconds,
            completion_tokens: tally.completion_tokens,
            cached_tokens: tally.cached_tokens,
            ttft: Spread::of(&tally.ttft),
            inter_token: Spread::of(&tally.between),
            end_to_end: Spread::of(&tally.total),
            send_delay: Spread::of(&tally.late),
            held: None,
            slices: tally
                .slices
                .iter()
                .enumerate()
                .map(|(i, s)| SliceReport::of(i, s, slice_seconds))
                .collect(),
        }
    }

    /// The summary for a terminal.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let mut line = |label: &str, value: String| {
            let _ = writeln!(text, "  {label:<22} {value}");
        };
        line("endpoint", self.url.clone());
        line("load", format!("{}, {:.1} s measured", self.load, self.seconds));
        line("requests", format!("{} sent, {} good, {} failed", self.sent, self.good, self.failed));
        for (kind, count) in &self.failures {
            line("", format!("{count} x {kind}"));
        }
        if self.without_done + self.resent > 0 {
            line(
                "also",
                format!("{} without [DONE], {} resent on a fresh connection", self.without_done, self.resent),
            );
        }
        line(
            "rate",
            format!("{:.1} requests/s, {:.1} tokens/s", self.requests_per_second, self.tokens_per_second),
        );
        line("records", format!("{} received, {} with text", self.events, self.tokens));
        line(
            "server's count",
            format!("{} output tokens, {} cached", self.completion_tokens, self.cached_tokens),
        );
        let limits = format!("TTFT <= {} ms, mean ITL <= {} ms", self.ttft_limit_ms, self.itl_limit_ms);
        line("goodput", format!("{:.2} % ({limits})", self.goodput * 100.0));
        if let Some(held) = &self.held {
            let Held { wanted, open_max, open_at_end, dropped, renewed } = held;
            line("streams", format!("{wanted} wanted, {open_max} open at most, {open_at_end} at the end"));
            line("", format!("{dropped} dropped, {renewed} ended properly and opened again"));
        }
        let _ = writeln!(
            text,
            "\n  {:<22} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "ms", "mean", "p50", "p90", "p99", "p99.9", "max"
        );
        for (label, spread) in self.spreads() {
            if spread.count > 0 {
                let Spread { mean, p50, p90, p99, p999, max, .. } = spread;
                let _ = writeln!(
                    text,
                    "  {label:<22} {mean:>10.2} {p50:>10.2} {p90:>10.2} {p99:>10.2} {p999:>10.2} {max:>10.2}"
                );
            }
        }
        text
    }

    /// The distributions with their names.
    pub fn spreads(&self) -> [(&'static str, &Spread); 4] {
        [
            ("time to first token", &self.ttft),
            ("between tokens", &self.inter_token),
            ("end to end", &self.end_to_end),
            ("driver's own delay", &self.send_delay),
        ]
    }
}

impl Spread {
    fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let ms = |us: u64| us as f64 / 1e3;
        let at = |percentile: f64| ms(histogram.value_at_percentile(percentile));
        Self {
            count: histogram.len(),
            mean: histogram.mean() / 1e3,
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: ms(histogram.max()),
            curve: curve_percentiles(histogram.len())
                .map(|percentile| (percentile, at(percentile)))
                .collect(),
        }
    }
}

impl SliceReport {
    fn of(index: usize, slice: &Slice, seconds: f64) -> Self {
        let ttft = |percentile| {
            (!slice.ttft.is_empty()).then(|| slice.ttft.value_at_percentile(percentile) as f64 / 1e3)
        };
        Self {
            at: index as f64 * seconds,
            good_per_second: slice.good as f64 / seconds,
            failed_per_second: slice.failed as f64 / seconds,
            tokens_per_second: slice.tokens as f64 / seconds,
            ttft_p50: ttft(50.0),
            ttft_p99: ttft(99.0),
        }
    }
}

/// Percentiles of a plot: ten for each nine, as far as `count` samples can tell.
fn curve_percentiles(count: u64) -> impl Iterator<Item = f64> {
    let nines = (count.max(1) as f64).log10().min(5.0);
    (0..=50)
        .map(|step| f64::from(step) / 10.0)
        .take_while(move |n| *n <= nines)
        .map(|n| 100.0 * (1.0 - 10f64.powf(-n)))
}

fn load_words(options: &Options) -> String {
    let answers = if options.no_stream { "whole answers" } else { "streams" };
    if let Some(streams) = options.hold {
        format!("{streams} streams held open")
    } else if let Some(sessions) = options.sessions {
        format!("{sessions} sessions, {} s thinking, {answers}", options.think)
    } else if let Some(connections) = options.connections {
        format!("{connections} connections in a closed loop, {answers}")
    } else if let Some(trace) = &options.trace {
        format!("trace {} at {}x, {answers}", trace.display(), options.trace_speed)
    } else {
        let law = if options.constant { "constant" } else { "Poisson" };
        format!("{} requests/s, {law} arrivals, {answers}", options.rate.unwrap_or(1.0))
    }
}
