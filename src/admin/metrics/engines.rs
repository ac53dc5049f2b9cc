//! What decides where requests go: the metrics of engines, as they were read last, and rules that lead to other models.

use std::sync::atomic::Ordering;

use super::rows::rows;
use crate::clock;
use crate::coordinator::ScrapeReport;
use crate::coordinator::{Watch, lock};
use crate::observe::prometheus::{Page, SERIES_MAX};
use crate::plan::Backend;
use crate::provider::EngineLoad;

/// Requests that rules sent to another model, of models that have rules.
pub(super) fn routed(page: &mut Page, watch: &Watch) {
    let models: Vec<_> = watch.plan.models.iter().filter(|model| !model.routes.is_empty()).collect();
    let mut family = page
        .counter("ringway_model_routed_total", "Requests for the model that its rules sent to another one.");
    let value = |row: usize| watch.plan.models.cells(models[row].id).routed.load(Ordering::Relaxed);
    let label = |row: usize| &*models[row].name;
    rows(models.len(), 1, label, value, |name, value| family.count(&[("model", name)], value));
}

/// Writes the families. An engine whose last page is too old to count has no series in the gauges.
pub(super) fn engines(page: &mut Page, watch: &Watch) {
    let plan = &watch.plan;
    let read: Vec<(&Backend, &ScrapeReport)> = plan
        .backends
        .iter()
        .map(|row| (row, &*watch.scrapes[row.id.index()]))
        .filter(|(_, report)| {
            report.successes.load(Ordering::Relaxed) + report.failures.load(Ordering::Relaxed) > 0
        })
        .collect();
    let (now, age_max) = (clock::now(), plan.report_age_max());
    let fresh: Vec<(&str, EngineLoad, u64)> = read
        .iter()
        .take(SERIES_MAX)
        .filter_map(|(row, report)| {
            let signals = plan.backends.cells(row.id).signals.get(now, age_max)?;
            let (load, _) = lock(&report.last).page?;
            Some((&*row.name, load, signals.foreign))
        })
        .collect();
    let mut gauge = |name, help, value: &dyn Fn(&EngineLoad, u64) -> Option<f64>| {
        let mut family = page.gauge(name, help);
        for (name, load, foreign) in &fresh {
            if let Some(value) = value(load, *foreign) {
                family.value(&[("backend", name)], value);
            }
        }
    };
    gauge("ringway_engine_running", "Requests in the engine's batch, by its own metrics.", &|load, _| {
        load.running.map(f64::from)
    });
    gauge("ringway_engine_waiting", "Requests in the engine's queue, by its own metrics.", &|load, _| {
        load.waiting.map(f64::from)
    });
    gauge(
        "ringway_engine_foreign",
        "Requests in the engine that this gateway did not send.",
        &|_, foreign| Some(foreign as f64),
    );
    gauge("ringway_engine_kv_usage", "Share of the engine's KV cache in use, 0 to 1.", &|load, _| {
        load.kv_usage.map(f64::from)
    });
    gauge("ringway_engine_kv_tokens", "Tokens that the engine's KV cache can hold.", &|load, _| {
        load.kv_tokens.map(|tokens| tokens as f64)
    });
    for (name, help, count) in [
        (
            "ringway_engine_scrapes_total",
            "Metrics pages of engines that were read.",
            (|report| report.successes.load(Ordering::Relaxed)) as fn(&ScrapeReport) -> u64,
        ),
        (
            "ringway_engine_scrape_failures_total",
            "Metrics pages of engines that did not arrive or said nothing of the load.",
            |report| report.failures.load(Ordering::Relaxed),
        ),
    ] {
        let mut family = page.counter(name, help);
        let (label, value) = (|row: usize| &*read[row].0.name, |row: usize| count(read[row].1));
        rows(read.len(), 1, label, value, |name, value| family.count(&[("backend", name)], value));
    }
}
