//! The last quarter of an hour, second by second, from the counters and histograms that `/metrics` shows.
//!
//! Kept in memory and bounded: it works with every other part gone, and costs the same with any number of requests. Rows of
//! models and backends are kept by name, since a reload moves them.

use std::collections::{BTreeMap, VecDeque};

use schemars::JsonSchema;
use serde::Serialize;

use crate::coordinator::Watch;
use crate::error::{FaultKind, Side};
use crate::observe::histogram::Timing;
use crate::observe::{Counter, Usage};

/// Seconds kept.
pub(super) const SECONDS_MAX: usize = 900;

/// Seconds in a column of the heat map and a step of the chart by model.
pub(super) const STEP: u64 = 5;
const STEPS_MAX: usize = SECONDS_MAX / STEP as usize;

/// Seconds over which rates and percentiles are taken.
pub(super) const WINDOW: usize = 60;

/// Models and backends whose own history is kept; of the rest there are only totals.
const ROWS_MAX: usize = 256;

/// Bands of a time to first token: eight per decade from 1 ms to 100 s.
pub(super) const BANDS: usize = 40;

/// The upper edges of the bands, in seconds.
pub(super) fn band_edges() -> [f64; BANDS] {
    std::array::from_fn(|band| 1e-3 * 10_f64.powf((band + 1) as f64 / 8.0))
}

/// How many first tokens came in each band.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Bands([u64; BANDS]);

impl Default for Bands {
    fn default() -> Self {
        Self([0; BANDS])
    }
}

impl Bands {
    fn add(&mut self, other: &Bands) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
}

/// What one second brought.
#[derive(Clone, Copy, Default, JsonSchema, Serialize, Debug, PartialEq)]
pub(super) struct Second {
    /// Unix seconds at its end.
    pub(super) at: u64,
    /// Settled exchanges.
    pub(super) requests: u64,
    /// Of those, refused by a policy: credential, permission, limit.
    pub(super) refused: u64,
    /// Of those, failed through the client, a backend, or the gateway.
    pub(super) client_errors: u64,
    pub(super) backend_errors: u64,
    pub(super) gateway_errors: u64,
    pub(super) input_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) output_tokens: u64,
    /// Requests in flight at its end.
    pub(super) in_flight: u64,
    /// Time to first token in seconds; `None` if no first token came.
    pub(super) ttft_p50: Option<f64>,
    pub(super) ttft_p99: Option<f64>,
}

/// Sums since the process started.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) usage: Usage,
    pub(super) refused: u64,
    pub(super) errors: [u64; 3],
    bands: Bands,
}

/// Sums of one model or backend.
#[derive(Clone, Copy, Default)]
struct RowSums {
    usage: Usage,
    bands: Bands,
}

/// What a model or a backend did in the last minute.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub(super) struct Rates {
    pub(super) requests: f64,
    pub(super) input_tokens: f64,
    pub(super) output_tokens: f64,
    /// The share of exchanges that failed (5xx); `None` without any. What a client did wrong is no error of a backend.
    pub(super) error_share: Option<f64>,
    /// Prompt tokens out of a cache, of all prompt tokens.
    pub(super) cached_share: Option<f64>,
    pub(super) ttft: Option<[f64; 2]>,
}

/// A model's or a backend's own past.
#[derive(Default)]
struct Row {
    /// Newest last, one per step.
    sums: VecDeque<RowSums>,
    /// Requests per step, newest last: the chart.
    steps: VecDeque<u64>,
}

/// Everything kept.
#[derive(Default)]
pub(super) struct History {
    last: Option<Sums>,
    seconds: VecDeque<Second>,
    columns: VecDeque<Bands>,
    column: Bands,
    /// Unix seconds at which the newest column ends.
    column_at: u64,
    models: BTreeMap<Box<str>, Row>,
    backends: BTreeMap<Box<str>, Row>,
    /// The bands of the last minute, newest last.
    minute: VecDeque<Bands>,
}

/// The heat map and the chart by model.
#[derive(JsonSchema, Serialize)]
pub(super) struct Charts {
    pub(super) step_seconds: u64,
    /// Unix seconds at the end of the newest column.
    pub(super) at: u64,
    /// Upper edges of the bands, in seconds.
    pub(super) bands: Vec<f64>,
    /// Newest last; each by band.
    pub(super) columns: Vec<Vec<u64>>,
    pub(super) models: Vec<Series>,
}

/// One line of a chart.
#[derive(JsonSchema, Serialize, Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) name: String,
    /// Per second, newest last.
    pub(super) values: Vec<f64>,
}

impl History {
    /// Takes one second's reading.
    pub(super) fn read(&mut self, watch: &Watch, at: u64) {
        let sums = sums(watch);
        let step_ends = at.is_multiple_of(STEP);
        if let Some(last) = self.last {
            let second = second(&last, &sums, at, in_flight(watch));
            push(&mut self.seconds, second, SECONDS_MAX);
            let bands = less(&sums.bands, &last.bands);
            self.column.add(&bands);
            push(&mut self.minute, bands, WINDOW);
        }
        self.last = Some(sums);
        if step_ends {
            push(&mut self.columns, std::mem::take(&mut self.column), STEPS_MAX);
            self.column_at = at;
            self.read_rows(watch);
        }
    }

    fn read_rows(&mut self, watch: &Watch) {
        let plan = &watch.plan;
        self.models.retain(|name, _| plan.models.named(name).is_some());
        self.backends.retain(|name, _| plan.backends.named(name).is_some());
        let edges = band_edges();
        let totals = watch.totals();
        for model in plan.models.iter().take(ROWS_MAX) {
            let usage = watch.usage(|inbox| inbox.tables.model(model.id));
            let bands =
                totals.model(model.id).map(|times| bands_of(&times.first_token, &edges)).unwrap_or_default();
            self.models.entry(model.name.clone()).or_default().push(RowSums { usage, bands });
        }
        for backend in plan.backends.iter().take(ROWS_MAX) {
            let usage = watch.usage(|inbox| inbox.tables.backend(backend.id));
            self.backends
                .entry(backend.name.clone())
                .or_default()
                .push(RowSums { usage, bands: Bands::default() });
        }
    }

    /// The seconds kept, oldest first.
    pub(super) fn seconds(&self) -> impl ExactSizeIterator<Item = &Second> {
        self.seconds.iter()
    }

    /// The newest second.
    pub(super) fn newest(&self) -> Option<&Second> {
        self.seconds.back()
    }

    /// The last minute as a whole; also how many seconds of it there are.
    pub(super) fn minute(&self) -> (Second, usize) {
        let mut sum = Second::default();
        let rows = self.seconds.iter().rev().take(WINDOW);
        let count = rows.len();
        for second in rows {
            sum.requests += second.requests;
            sum.refused += second.refused;
            sum.client_errors += second.client_errors;
            sum.backend_errors += second.backend_errors;
            sum.gateway_errors += second.gateway_errors;
            sum.input_tokens += second.input_tokens;
            sum.cached_tokens += second.cached_tokens;
            sum.output_tokens += second.output_tokens;
        }
        let mut bands = Bands::default();
        self.minute.iter().for_each(|second| bands.add(second));
        (Second { ttft_p50: quantile(&bands, 0.5), ttft_p99: quantile(&bands, 0.99), ..sum }, count)
    }

    /// Settled exchanges, and so on, since the process started.
    pub(super) fn total(&self) -> Sums {
        self.last.unwrap_or_default()
    }

    pub(super) fn model(&self, name: &str) -> Rates {
        self.models.get(name).map(Row::rates).unwrap_or_default()
    }

    pub(super) fn backend(&self, name: &str) -> Rates {
        self.backends.get(name).map(Row::rates).unwrap_or_default()
    }

    /// Requests per second of one backend, one value a step.
    pub(super) fn backend_steps(&self, name: &str) -> Vec<f64> {
        self.backends.get(name).map(Row::per_second).unwrap_or_default()
    }

    /// The heat map, and requests by model: the busiest `series_max` and the rest as one.
    pub(super) fn charts(&self, series_max: usize) -> Charts {
        Charts {
            step_seconds: STEP,
            at: self.column_at,
            bands: band_edges().to_vec(),
            columns: self.columns.iter().map(|column| column.0.to_vec()).collect(),
            models: self.by_model(series_max),
        }
    }

    fn by_model(&self, series_max: usize) -> Vec<Series> {
        let mut rows: Vec<(&str, u64, &Row)> =
            self.models.iter().map(|(name, row)| (&**name, row.steps.iter().sum(), row)).collect();
        rows.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let rest = if rows.len() > series_max { rows.split_off(series_max - 1) } else { Vec::new() };
        let series = |(name, _, row): &(&str, u64, &Row)| Series {
            name: (*name).to_owned(),
            values: row.per_second(),
        };
        let mut all: Vec<Series> = rows.iter().map(series).collect();
        if !rest.is_empty() {
            let length = rest.iter().map(|(_, _, row)| row.steps.len()).max().unwrap_or(0);
            let mut values = vec![0.0; length];
            for (_, _, row) in &rest {
                let part = row.per_second();
                let from = length - part.len();
                values[from..].iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
            }
            all.push(Series { name: format!("other ({})", rest.len()), values });
        }
        all
    }
}

impl Row {
    fn push(&mut self, sums: RowSums) {
        let before = self.sums.back().copied();
        if let Some(before) = before {
            push(&mut self.steps, requests(&sums.usage).saturating_sub(requests(&before.usage)), STEPS_MAX);
        }
        push(&mut self.sums, sums, WINDOW / STEP as usize + 1);
    }

    fn rates(&self) -> Rates {
        let (Some(first), Some(last)) = (self.sums.front(), self.sums.back()) else {
            return Rates::default();
        };
        let seconds = (self.sums.len() as u64 - 1) * STEP;
        if seconds == 0 {
            return Rates::default();
        }
        let per_second = |new: u64, old: u64| new.saturating_sub(old) as f64 / seconds as f64;
        let (new, old) = (&last.usage, &first.usage);
        let all = requests(new).saturating_sub(requests(old));
        let failed = new.requests[3].saturating_sub(old.requests[3]);
        let input = new.tokens[0].saturating_sub(old.tokens[0]);
        let cached = new.tokens[1].saturating_sub(old.tokens[1]);
        let bands = less(&last.bands, &first.bands);
        let ttft = quantile(&bands, 0.5).zip(quantile(&bands, 0.99)).map(|(p50, p99)| [p50, p99]);
        Rates {
            requests: per_second(requests(new), requests(old)),
            input_tokens: per_second(new.tokens[0], old.tokens[0]),
            output_tokens: per_second(new.tokens[2], old.tokens[2]),
            error_share: share(failed, all),
            cached_share: share(cached, input),
            ttft,
        }
    }

    fn per_second(&self) -> Vec<f64> {
        self.steps.iter().map(|count| *count as f64 / STEP as f64).collect()
    }
}

/// `part` of `all`; unknown where there is nothing.
pub(super) fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// Exchanges of all classes.
pub(super) fn requests(usage: &Usage) -> u64 {
    usage.requests.iter().sum()
}

fn push<T>(ring: &mut VecDeque<T>, row: T, most: usize) {
    if ring.len() >= most {
        ring.pop_front();
    }
    ring.push_back(row);
}

fn less(new: &Bands, old: &Bands) -> Bands {
    Bands(std::array::from_fn(|band| new.0[band].saturating_sub(old.0[band])))
}

fn bands_of(times: &Timing<u64>, edges: &[f64; BANDS]) -> Bands {
    let mut cumulative = times.cumulative(edges);
    // What took longer than the last edge belongs to the last band.
    if let Some(last) = cumulative.last_mut() {
        *last = times.count();
    }
    let mut below = 0;
    Bands(std::array::from_fn(|band| {
        let count = cumulative[band].saturating_sub(below);
        below = cumulative[band];
        count
    }))
}

/// Between the edges of the band in which this share of the times ends, as if they lay evenly on its logarithm: within 15 % of
/// the truth by the width of a band. `None` without any.
pub(super) fn quantile(bands: &Bands, at: f64) -> Option<f64> {
    let all: u64 = bands.0.iter().sum();
    if all == 0 {
        return None;
    }
    let rank = (at * all as f64).max(1.0);
    let mut below = 0.0;
    for (band, count) in bands.0.iter().enumerate() {
        let count = *count as f64;
        if below + count >= rank {
            let part = (rank - below) / count;
            return Some(1e-3 * 10_f64.powf((band as f64 + part) / 8.0));
        }
        below += count;
    }
    None
}

fn in_flight(watch: &Watch) -> u64 {
    watch.shards.iter().map(|inbox| inbox.numbers.get(Counter::ExchangesActive)).sum()
}

fn sums(watch: &Watch) -> Sums {
    let edges = band_edges();
    let mut sums = Sums { usage: watch.usage(|inbox| inbox.numbers.all()), ..Sums::default() };
    for kind in FaultKind::ALL {
        let count: u64 = watch.shards.iter().map(|inbox| inbox.numbers.faults(*kind)).sum();
        match kind.side() {
            Side::Client if is_refusal(*kind) => sums.refused += count,
            Side::Client => sums.errors[0] += count,
            Side::Backend => sums.errors[1] += count,
            Side::Gateway => sums.errors[2] += count,
        }
    }
    let totals = watch.totals();
    for model in &watch.plan.models {
        if let Some(times) = totals.model(model.id) {
            let bands = bands_of(&times.first_token, &edges);
            sums.bands.add(&bands);
        }
    }
    sums
}

/// Whether a policy refused the request: it may be asked for once the policy, or the caller, changes.
pub(super) fn is_refusal(kind: FaultKind) -> bool {
    kind.side() == Side::Client && matches!(kind.status(), 401 | 402 | 403 | 429)
}

fn second(old: &Sums, new: &Sums, at: u64, in_flight: u64) -> Second {
    let tokens = |kind: usize| new.usage.tokens[kind].saturating_sub(old.usage.tokens[kind]);
    let errors = |side: usize| new.errors[side].saturating_sub(old.errors[side]);
    let bands = less(&new.bands, &old.bands);
    Second {
        at,
        requests: requests(&new.usage).saturating_sub(requests(&old.usage)),
        refused: new.refused.saturating_sub(old.refused),
        client_errors: errors(0),
        backend_errors: errors(1),
        gateway_errors: errors(2),
        input_tokens: tokens(0),
        cached_tokens: tokens(1),
        output_tokens: tokens(2),
        in_flight,
        ttft_p50: quantile(&bands, 0.5),
        ttft_p99: quantile(&bands, 0.99),
    }
}

#[cfg(test)]
mod tests;
