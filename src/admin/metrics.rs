//! The families of `/metrics`: what is measured, under which name, with which labels.
//!
//! One dimension per family (model, backend, key, shard, or deployment: a backend with its name for a model; never a
//! product of tables), so the page grows with the sum of the plan's tables. `gen_ai_*` are the OpenTelemetry GenAI metrics in Prometheus form; the rest is ours.

mod engines;
mod issuers;
mod ledger;
mod limits;
mod rows;
mod shared;

use std::ops::AddAssign;
use std::sync::atomic::Ordering;

use self::rows::rows;
use super::gate::Gate;
use crate::clock;
use crate::coordinator::{Watch, lock, process};
use crate::error::{FaultKind, Side, Unreachable};
use crate::observe::counters::Form;
use crate::observe::histogram::{
    DURATION_BOUNDS, FIRST_TOKEN_BOUNDS, ModelTimes, OVERHEAD_BOUNDS, PER_TOKEN_BOUNDS, TOKEN_BOUNDS, Timing,
};
use crate::observe::prometheus::{Family, Page, SERIES_MAX};
use crate::observe::usage::{CLASSES, TOKEN_TYPES};
use crate::observe::{Counter, Usage};
use crate::plan::cells::Health;
use crate::policy::routing::breaker::{Admission, Breaker};
use crate::units::{DeploymentId, GuardId, Nanos};

/// Bytes to start a page with.
const PAGE_BYTES: usize = 64 * 1024;

/// Writes the whole page from what has been merged so far.
pub(crate) fn page(watch: &Watch, gate: &Gate) -> String {
    let mut page = Page::with_capacity(PAGE_BYTES);
    build(&mut page, watch);
    refused(&mut page, gate);
    counters(&mut page, watch);
    faults(&mut page, watch);
    usage(&mut page, watch);
    times(&mut page, watch);
    backends(&mut page, watch);
    engines::engines(&mut page, watch);
    engines::routed(&mut page, watch);
    unreached(&mut page, watch);
    deployments(&mut page, watch);
    guards(&mut page, watch);
    log(&mut page, watch);
    ledger::ledger(&mut page, watch);
    limits::limits(&mut page, watch);
    issuers::issuers(&mut page, watch);
    shared::shared(&mut page, watch);
    process_numbers(&mut page, watch);
    page.finish()
}

fn build(page: &mut Page, watch: &Watch) {
    let settings = &watch.settings;
    page.gauge("ringway_build_info", "Version and driver of this process; always 1.")
        .count(&[("version", settings.version), ("driver", &settings.driver)], 1);
    page.gauge("ringway_shards_running", "Shards that accept connections.")
        .count(&[], watch.control.running() as u64);
    let draining = watch.control.is_draining();
    page.gauge("ringway_draining", "1 while the process drains before it stops.").count(&[], draining.into());
    page.gauge("ringway_plan_generation", "Number of the active configuration plan.")
        .count(&[], watch.plan.generation);
    page.gauge("ringway_plans_in_use", "Plans that some exchange still uses, including the active one.")
        .count(&[], watch.plans().len() as u64);
    page.gauge("ringway_shedding", "1 while new requests are refused because memory is short.")
        .count(&[], watch.control.is_shedding().into());
    page.counter("ringway_shard_stalls_total", "Times that a shard was found blocked for a second.")
        .count(&[], watch.control.stalls());
    let reloads = &watch.reloads;
    let mut family = page.counter("ringway_reloads_total", "Reloads of the configuration, by result.");
    for (result, count) in [("done", &reloads.done), ("refused", &reloads.refused)] {
        family.count(&[("result", result)], count.load(Ordering::Relaxed));
    }
    let refused = lock(&reloads.last_error).is_some();
    page.gauge(
        "ringway_reload_refused",
        "1 if the last reload was refused because of an error in the configuration.",
    )
    .count(&[], refused.into());
}

/// What content rules have done.
fn guards(page: &mut Page, watch: &Watch) {
    let mut family = page.counter(
        "ringway_guard_total",
        "What content rules did, by rule: matches found, those of rules in shadow mode, matches masked, requests refused, responses stopped, requests sent to another model; of guards in other processes, times asked and times without a verdict.",
    );
    let table = &watch.plan.guards;
    for (row, cells) in table.iter().zip((0..table.len()).map(|index| table.cells(GuardId::new(index)))) {
        for (result, count) in [
            ("matched", &cells.matches),
            ("shadowed", &cells.shadowed),
            ("masked", &cells.masked),
            ("refused", &cells.refused),
            ("stopped", &cells.stopped),
            ("routed", &cells.routed),
            ("asked", &cells.asked),
            ("failed", &cells.failed),
        ] {
            family.count(&[("guard", &row.name), ("result", result)], count.load(Ordering::Relaxed));
        }
    }
}

fn refused(page: &mut Page, gate: &Gate) {
    let mut family = page.counter(
        "ringway_admin_refused_total",
        "Requests refused on the admin listener, by status: invalid token (401), cross-site or unknown host (403), too many invalid tokens (429).",
    );
    for (status, count) in [("401", &gate.unauthorized), ("403", &gate.foreign), ("429", &gate.limited)] {
        family.count(&[("status", status)], count.load(Ordering::Relaxed));
    }
}

fn counters(page: &mut Page, watch: &Watch) {
    let names: Vec<String> = watch.shards.iter().map(|inbox| inbox.shard.index().to_string()).collect();
    for counter in Counter::ALL {
        let mut family = match counter.form() {
            Form::Count => page.counter(counter.metric(), counter.help()),
            Form::Gauge => page.gauge(counter.metric(), counter.help()),
        };
        let value = |row: usize| watch.shards[row].numbers.get(*counter);
        rows(
            names.len(),
            1,
            |row| &names[row],
            value,
            |shard, value| family.count(&[("shard", shard)], value),
        );
    }
}

/// Several kinds of one side may share a code; they are one series.
fn faults(page: &mut Page, watch: &Watch) {
    let mut family =
        page.counter("ringway_faults_total", "Failed exchanges and refused requests, by error code.");
    for (index, kind) in FaultKind::ALL.iter().enumerate() {
        let same = |other: &&FaultKind| (other.code(), other.side()) == (kind.code(), kind.side());
        if FaultKind::ALL[..index].iter().any(|earlier| same(&earlier)) {
            continue;
        }
        let count =
            |kind: &FaultKind| watch.shards.iter().map(|inbox| inbox.numbers.faults(*kind)).sum::<u64>();
        let total = FaultKind::ALL.iter().filter(same).map(count).sum();
        family.count(&[("code", kind.code()), ("side", side(kind.side()))], total);
    }
}

const fn side(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Backend => "backend",
        Side::Gateway => "gateway",
    }
}

/// Requests and tokens of one dimension.
struct Dimension<'a> {
    label: &'static str,
    names: Vec<&'a str>,
    usage: Vec<Usage>,
    requests: &'static str,
    tokens: &'static str,
    estimated: &'static str,
}

fn usage(page: &mut Page, watch: &Watch) {
    let plan = &watch.plan;
    let all = watch.usage(|inbox| inbox.numbers.all());
    let mut family = page.counter("ringway_requests_total", "Settled exchanges, by status class.");
    for (class, count) in CLASSES.iter().zip(all.requests) {
        family.count(&[("class", class)], count);
    }
    dimension(
        page,
        &Dimension {
            label: "model",
            names: plan.models.iter().map(|model| &*model.name).collect(),
            usage: plan.models.iter().map(|row| watch.usage(|inbox| inbox.tables.model(row.id))).collect(),
            requests: "ringway_model_requests_total",
            tokens: "ringway_model_tokens_total",
            estimated: "ringway_model_estimated_total",
        },
    );
    dimension(
        page,
        &Dimension {
            label: "backend",
            names: plan.backends.iter().map(|backend| &*backend.name).collect(),
            usage: plan
                .backends
                .iter()
                .map(|row| watch.usage(|inbox| inbox.tables.backend(row.id)))
                .collect(),
            requests: "ringway_backend_requests_total",
            tokens: "ringway_backend_tokens_total",
            estimated: "ringway_backend_estimated_total",
        },
    );
    dimension(
        page,
        &Dimension {
            label: "key",
            names: plan.keys.iter().map(|key| &*key.name).collect(),
            usage: plan.keys.iter().map(|row| watch.usage(|inbox| inbox.tables.key(row.id))).collect(),
            requests: "ringway_key_requests_total",
            tokens: "ringway_key_tokens_total",
            estimated: "ringway_key_estimated_total",
        },
    );
}

fn dimension(page: &mut Page, of: &Dimension<'_>) {
    let name = |row: usize| of.names[row];
    let usage = |row: usize| of.usage[row];
    let mut family = page.counter(of.requests, "Settled exchanges, by status class.");
    rows(of.names.len(), CLASSES.len(), name, usage, |name, usage| {
        for (class, count) in CLASSES.iter().zip(usage.requests) {
            family.count(&[(of.label, name), ("class", class)], count);
        }
    });
    let mut family =
        page.counter(of.tokens, "Tokens, by type. input includes cached_input, output includes reasoning.");
    rows(of.names.len(), TOKEN_TYPES.len(), name, usage, |name, usage| {
        for (kind, count) in TOKEN_TYPES.iter().zip(usage.tokens) {
            family.count(&[(of.label, name), ("type", kind)], count);
        }
    });
    let mut family = page.counter(of.estimated, "Settled exchanges whose token counts are estimates.");
    rows(of.names.len(), 1, name, usage, |name, usage| family.count(&[(of.label, name)], usage.estimated));
}

/// One label set of a histogram, which can be summed with others.
#[derive(Default)]
struct Buckets {
    cumulative: Vec<u64>,
    sum: f64,
    count: u64,
}

impl Buckets {
    fn of_times(times: &Timing<u64>, bounds: &[f64]) -> Self {
        Self { cumulative: times.cumulative(bounds), sum: times.sum_seconds(), count: times.count() }
    }
}

impl AddAssign for Buckets {
    fn add_assign(&mut self, other: Self) {
        self.cumulative.resize(self.cumulative.len().max(other.cumulative.len()), 0);
        for (sum, part) in self.cumulative.iter_mut().zip(other.cumulative) {
            *sum += part;
        }
        self.sum += other.sum;
        self.count += other.count;
    }
}

/// Histograms by model; a model that was never called has no series, as the client libraries do it.
fn times(page: &mut Page, watch: &Watch) {
    let totals = watch.totals();
    let called: Vec<(&str, &ModelTimes<u64>)> =
        watch.plan.models.iter().filter_map(|model| Some((&*model.name, totals.model(model.id)?))).collect();
    type Pick = fn(&ModelTimes<u64>) -> &Timing<u64>;
    let families: [(&'static str, &str, &[f64], Pick); 3] = [
        (
            "gen_ai_server_request_duration_seconds",
            "Seconds from the first byte of the request to the last byte of the response, for exchanges that reached a backend.",
            DURATION_BOUNDS,
            |times| &times.duration,
        ),
        (
            "gen_ai_server_time_to_first_token_seconds",
            "Seconds from the first byte of the request to the first token of the response.",
            FIRST_TOKEN_BOUNDS,
            |times| &times.first_token,
        ),
        (
            "gen_ai_server_time_per_output_token_seconds",
            "Seconds per token after the first one.",
            PER_TOKEN_BOUNDS,
            |times| &times.per_token,
        ),
    ];
    for (name, help, bounds, pick) in families {
        let mut family = page.histogram(name, help);
        let buckets = |row: usize| Buckets::of_times(pick(called[row].1), bounds);
        rows(
            called.len(),
            1,
            |row| called[row].0,
            buckets,
            |model, all| {
                family.histogram(&[(MODEL, model)], bounds, &all.cumulative, all.sum, all.count);
            },
        );
    }
    let mut family =
        page.histogram("gen_ai_client_token_usage", "Tokens per exchange, where the count is known.");
    token_usage(&mut family, &called);
    page.histogram("ringway_overhead_seconds", "Seconds from the end of a request's head until it was sent to the backend tried last, without waits in the queue and between attempts.").histogram(
        &[],
        OVERHEAD_BOUNDS,
        &totals.overhead.cumulative(OVERHEAD_BOUNDS),
        totals.overhead.sum_seconds(),
        totals.overhead.count(),
    );
}

/// The label under which the conventions put a model.
const MODEL: &str = "gen_ai_request_model";

fn token_usage(family: &mut Family<'_>, called: &[(&str, &ModelTimes<u64>)]) {
    for kind in ["input", "output"] {
        let buckets = |row: usize| {
            let times = called[row].1;
            let tokens = if kind == "input" { &times.input } else { &times.output };
            Buckets { cumulative: tokens.cumulative(), sum: tokens.sum() as f64, count: tokens.count() }
        };
        rows(
            called.len(),
            2,
            |row| called[row].0,
            buckets,
            |model, all| {
                let labels = [(MODEL, model), ("gen_ai_token_type", kind)];
                family.histogram(&labels, &TOKEN_BOUNDS, &all.cumulative, all.sum, all.count);
            },
        );
    }
}

fn backends(page: &mut Page, watch: &Watch) {
    let plan = &watch.plan;
    let now = clock::now();
    let mut gauge = |name, help, value: &dyn Fn(usize) -> u64| {
        let mut family = page.gauge(name, help);
        let label = |row: usize| &*plan.backends[row].name;
        rows(plan.backends.len(), 1, label, value, |name, value| family.count(&[("backend", name)], value));
    };
    let cells = |row: usize| plan.backends.cells(plan.backends[row].id);
    gauge(
        "ringway_backend_up",
        "0 if the backend fails its health probes, else 1; 1 if it is not probed.",
        &|row| u64::from(cells(row).probed() != Health::Down),
    );
    gauge("ringway_backend_drained", "1 while an operator has taken the backend out of service.", &|row| {
        u64::from(cells(row).is_drained())
    });
    gauge(
        "ringway_backend_breaker",
        "Breaker for failures to connect: 0 closed, 1 half open, 2 open for all deployments of the backend.",
        &|row| state(&cells(row).breaker, now),
    );
    gauge("ringway_backend_in_flight", "Exchanges in flight to the backend.", &|row| {
        u64::from(cells(row).in_flight.count())
    });
    gauge(
        "ringway_backend_pending_tokens",
        "Prompt tokens sent to the backend for which no output has arrived yet.",
        &|row| plan.backends.cells(plan.backends[row].id).loads().map(|load| load.pending_tokens()).sum(),
    );
    gauge(
        "ringway_backend_kv_tokens",
        "Tokens of prompts and of expected output of the exchanges in flight to the backend.",
        &|row| plan.backends.cells(plan.backends[row].id).loads().map(|load| load.kv_tokens()).sum(),
    );
    gauge("ringway_backend_addresses", "Addresses that the backend's name resolves to.", &|row| {
        plan.backends[row].addresses.load().len() as u64
    });
    let mut counter = |name, help, value: &dyn Fn(usize) -> u64| {
        let mut family = page.counter(name, help);
        let label = |row: usize| &*plan.backends[row].name;
        rows(plan.backends.len(), 1, label, value, |name, value| family.count(&[("backend", name)], value));
    };
    counter("ringway_backend_probes_total", "Health probes that succeeded.", &|row| {
        watch.probes[row].successes.load(Ordering::Relaxed)
    });
    counter("ringway_backend_probe_failures_total", "Health probes that failed.", &|row| {
        watch.probes[row].failures.load(Ordering::Relaxed)
    });
    page.counter(
        "ringway_resolve_failures_total",
        "Lookups of backend names that failed; the last addresses stay in use.",
    )
    .count(&[], watch.resolve_failures.load(Ordering::Relaxed));
}

fn deployments(page: &mut Page, watch: &Watch) {
    let (plan, now) = (&watch.plan, clock::now());
    let rows = || (0..plan.deployments.len().min(SERIES_MAX)).map(DeploymentId::new);
    let mut emit = |name, help, value: &dyn Fn(DeploymentId) -> f64| {
        let mut family = page.gauge(name, help);
        for id in rows() {
            let row = plan.deployments.row(id);
            let labels = [("backend", &*plan.backends.row(row.backend).name), ("model", &*row.model)];
            family.value(&labels, value(id));
        }
    };
    emit(
        "ringway_deployment_breaker",
        "Breaker for failed responses: 0 closed, 1 half open, 2 open. The model label is the backend's own name.",
        &|id| state(&plan.deployments.cells(id).breaker, now) as f64,
    );
    emit(
        "ringway_deployment_pause_seconds",
        "Seconds for which the deployment gets no requests, because of its own breaker or its backend's.",
        &|id| {
            let blocked = plan.failure_state(id, false).blocked(now);
            blocked.map_or(0.0, |(_, until)| until.since(now).seconds())
        },
    );
}

fn state(breaker: &Breaker, now: Nanos) -> u64 {
    match breaker.peek(now) {
        Admission::Closed => 0,
        Admission::Probe => 1,
        Admission::Open { .. } => 2,
    }
}

/// Counts by reason, which can be summed with others.
struct Reasons([u64; Unreachable::ALL.len()]);

impl Default for Reasons {
    fn default() -> Self {
        Self([0; Unreachable::ALL.len()])
    }
}

impl AddAssign for Reasons {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
}

/// Only reasons that there have been: most backends have none.
fn unreached(page: &mut Page, watch: &Watch) {
    let plan = &watch.plan;
    let counts = |row: usize| {
        let cells = plan.backends.cells(plan.backends[row].id);
        Reasons(std::array::from_fn(|index| cells.unreached.count(Unreachable::ALL[index])))
    };
    let mut family = page.counter(
        "ringway_backend_unreachable_total",
        "Failures of requests and health probes to reach the backend, by reason.",
    );
    let label = |row: usize| &*plan.backends[row].name;
    rows(plan.backends.len(), Unreachable::ALL.len(), label, counts, |name, counts| {
        for (reason, count) in Unreachable::ALL.iter().zip(counts.0).filter(|(_, count)| *count > 0) {
            family.count(&[("backend", name), ("reason", reason.label())], count);
        }
    });
}

fn log(page: &mut Page, watch: &Watch) {
    let Some(numbers) = &watch.log else { return };
    page.counter("ringway_log_lines_total", "Access log lines written.")
        .count(&[], numbers.lines.load(Ordering::Relaxed));
    page.counter("ringway_log_lines_lost_total", "Access log lines that could not be written.")
        .count(&[], numbers.lines_lost.load(Ordering::Relaxed));
}

fn process_numbers(page: &mut Page, watch: &Watch) {
    let process = process::read();
    page.gauge("process_start_time_seconds", "Start of the process, in Unix seconds.")
        .value(&[], watch.started_unix_ms as f64 / 1e3);
    if let Some(seconds) = process.cpu_seconds {
        page.counter("process_cpu_seconds_total", "User and system CPU time of all threads.")
            .value(&[], seconds);
    }
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory, in bytes.", process.resident_bytes),
        ("process_virtual_memory_bytes", "Virtual memory, in bytes.", process.virtual_bytes),
        ("process_threads", "Threads of the process.", process.threads),
        ("process_open_fds", "Open file descriptors.", process.open_fds),
        ("process_max_fds", "Limit of open file descriptors.", process.max_fds),
    ] {
        if let Some(value) = value {
            page.gauge(name, help).count(&[], value);
        }
    }
}
