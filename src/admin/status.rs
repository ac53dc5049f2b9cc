//! `/status`: the plan and the state of its parts, by name. Never a digest, a credential or a key.

use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::clock;
use crate::coordinator::ReloadNumbers;
use crate::coordinator::{Watch, lock};
use crate::observe::histogram::Timing;
use crate::observe::{Counter, Usage};
use crate::plan::cells::Health;
use crate::plan::{self, Target};
use crate::policy::limits::bucket::{Bucket, Rate};
use crate::policy::routing::breaker::{Admission, Breaker};
use crate::units::{BackendId, DeploymentId, Nanos, ShardId};

/// Keys listed; `keys_total` tells how many there are.
const KEYS_MAX: usize = 1_000;

/// Deployments listed; `deployments_total` tells how many there are.
const DEPLOYMENTS_MAX: usize = 1_000;

/// The whole page.
#[derive(Serialize)]
pub(crate) struct Status<'a> {
    version: &'static str,
    driver: &'a str,
    uptime_seconds: f64,
    ready: bool,
    /// Why not, if not.
    not_ready: Option<&'static str>,
    draining: bool,
    generation: u64,
    reload: Reload,
    listeners: Vec<Listener>,
    shards: Vec<Shard>,
    models: Vec<Model<'a>>,
    backends: Vec<Backend<'a>>,
    deployments_total: usize,
    deployments: Vec<Deployment<'a>>,
    keys_required: bool,
    keys_total: usize,
    keys: Vec<Key<'a>>,
    /// Issuers of JSON Web Tokens.
    issuers: Vec<Issuer<'a>>,
    overhead: Times,
    /// Absent with limits that are not shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<Shared>,
}

/// Limits shared with other gateways.
#[derive(Serialize)]
struct Shared {
    name: String,
    up: bool,
    /// Leases have ended: Redis has been away for too long.
    alone: bool,
    gateways: u64,
    gateways_configured: u32,
    turns: u64,
    failures: u64,
    last_error: Option<String>,
}

#[derive(Serialize)]
struct Reload {
    done: u64,
    refused: u64,
    /// Unix milliseconds; absent before the first.
    last_unix_ms: Option<u64>,
    /// Why the last one was refused.
    last_error: Option<String>,
}

#[derive(Serialize)]
struct Listener {
    address: String,
    tls: bool,
}

#[derive(Serialize)]
struct Shard {
    shard: usize,
    core: Option<usize>,
    connections: u64,
    exchanges: u64,
    streams: u64,
    accepted: u64,
    requests: u64,
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    aliases: Vec<&'a str>,
    pool: Vec<&'a str>,
    usable: bool,
    requests: u64,
    input_tokens: u64,
    output_tokens: u64,
    duration: Option<Times>,
    time_to_first_token: Option<Times>,
    time_per_output_token: Option<Times>,
}

#[derive(Serialize)]
struct Backend<'a> {
    name: &'a str,
    provider: &'static str,
    hosted: bool,
    target: String,
    tls: bool,
    /// Absent without TLS; false is worth a look.
    certificate_verified: Option<bool>,
    /// Host and port of the proxy whose tunnel leads there.
    proxy: Option<String>,
    /// Those of the proxy, if there is one.
    addresses: Vec<String>,
    health: &'static str,
    /// Whether an operator has taken it out of service.
    drained: bool,
    last_probe_failure: Option<String>,
    /// Why it could not be reached the last time that it could not, by a request or a probe.
    last_unreachable: Option<Unreached>,
    breaker: &'static str,
    in_flight: u32,
    in_flight_max: Option<u32>,
    pending_tokens: u64,
    /// What its metrics said last; absent if they are not read.
    engine: Option<Engine>,
    requests: u64,
}

/// What the metrics of an engine said last. What a page does not say is null.
#[derive(Serialize)]
struct Engine {
    running: Option<u32>,
    waiting: Option<u32>,
    /// Requests in it that this gateway did not send.
    foreign: Option<u64>,
    kv_usage: Option<f32>,
    kv_tokens: Option<u64>,
    /// Absent before the first page.
    seconds_ago: Option<f64>,
    /// Too old to count in the choice of a backend.
    stale: bool,
    last_failure: Option<String>,
}

/// A backend serving a model under the backend's own name for it.
#[derive(Serialize)]
pub(super) struct Deployment<'a> {
    backend: &'a str,
    pub(super) model: &'a str,
    pub(super) breaker: &'static str,
    /// Why it gets no requests now: failures, limit (429) or unavailable (503).
    pub(super) blocked_by: Option<&'static str>,
    /// For how long.
    pub(super) blocked_seconds: Option<f64>,
    /// Seconds per token of prefill, learned from its first tokens; null before there are enough of them.
    prefill_seconds_per_token: Option<f32>,
    /// How many times slower than the pool's usual member it prefills.
    prefill_factor: f32,
}

#[derive(Serialize)]
struct Unreached {
    reason: &'static str,
    message: &'static str,
    seconds_ago: f64,
}

#[derive(Serialize)]
struct Key<'a> {
    name: &'a str,
    in_flight: u32,
    in_flight_max: Option<u32>,
    requests: Option<Room>,
    tokens: Option<Room>,
    input_tokens_used: u64,
    output_tokens_used: u64,
}

#[derive(Serialize)]
struct Issuer<'a> {
    name: &'a str,
    issuer: &'a str,
    /// Whether its tokens can be verified: its keys were read, and not too long ago.
    usable: bool,
    keys: usize,
    keys_age_seconds: Option<f64>,
    reads: u64,
    read_failures: u64,
    /// Why the last reading failed, if it did.
    last_failure: Option<String>,
}

/// What is left of a rate limit.
#[derive(Serialize)]
struct Room {
    per_minute: u64,
    burst: u64,
    remaining: u64,
    full_in_seconds: f64,
}

/// Times since the process started, in seconds.
#[derive(Serialize)]
struct Times {
    count: u64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
}

/// Reads everything now.
pub(crate) fn read(watch: &Watch) -> Status<'_> {
    let plan = &*watch.plan;
    let now = clock::now();
    let ready = watch.ready();
    let overhead = times(&watch.totals().overhead);
    Status {
        version: watch.settings.version,
        driver: &watch.settings.driver,
        uptime_seconds: now.since(watch.started).seconds(),
        ready: ready.is_ok(),
        not_ready: ready.err(),
        draining: watch.control.is_draining(),
        generation: plan.generation,
        reload: reload(&watch.reloads),
        listeners: plan
            .listeners
            .iter()
            .map(|row| Listener { address: row.address.to_string(), tls: row.tls.is_some() })
            .collect(),
        shards: (0..plan.shards.len()).map(|index| shard(watch, index)).collect(),
        models: plan.models.iter().map(|row| model(watch, row, now)).collect(),
        backends: plan.backends.iter().map(|row| backend(watch, row, now)).collect(),
        deployments_total: plan.deployments.len(),
        deployments: (0..plan.deployments.len().min(DEPLOYMENTS_MAX))
            .map(|row| deployment(watch, row, now))
            .collect(),
        keys_required: plan.keys_required,
        keys_total: plan.keys.len(),
        keys: plan.keys.iter().take(KEYS_MAX).map(|row| key(watch, row, now)).collect(),
        issuers: plan.issuers.iter().map(|row| issuer(watch, row, now)).collect(),
        overhead,
        shared: watch.settings.shared.as_deref().map(shared),
    }
}

fn shared(shared: &crate::coordinator::shared::Shared) -> Shared {
    let status = shared.status();
    Shared {
        name: shared.name.clone(),
        up: status.is_up,
        alone: status.is_alone,
        gateways: status.gateways,
        gateways_configured: shared.settings.gateways,
        turns: status.turns,
        failures: status.failures,
        last_error: status.error,
    }
}

fn issuer<'a>(watch: &Watch, row: &'a plan::Issuer, now: Nanos) -> Issuer<'a> {
    let cells = watch.plan.issuers.cells(row.id);
    let keys = cells.keys.load();
    Issuer {
        name: &row.name,
        issuer: &row.expected.issuer,
        usable: keys.is_some() && cells.is_fresh(row.age_max, now),
        keys: keys.as_ref().map_or(0, |keys| keys.1.count()),
        keys_age_seconds: keys.as_ref().map(|_| cells.age(now).seconds()),
        reads: cells.reads[0].load(Ordering::Relaxed),
        read_failures: cells.reads[1].load(Ordering::Relaxed),
        last_failure: cells.failure.load().as_deref().cloned(),
    }
}

fn reload(numbers: &ReloadNumbers) -> Reload {
    let last = numbers.last_unix_ms.load(Ordering::Relaxed);
    Reload {
        done: numbers.done.load(Ordering::Relaxed),
        refused: numbers.refused.load(Ordering::Relaxed),
        last_unix_ms: (last != 0).then_some(last),
        last_error: lock(&numbers.last_error).clone(),
    }
}

fn shard(watch: &Watch, index: usize) -> Shard {
    let inbox = watch.shard(ShardId::new(index));
    let number = |counter| inbox.map_or(0, |inbox| inbox.numbers.get(counter));
    Shard {
        shard: index,
        core: watch.plan.shards[index].core,
        connections: number(Counter::ConnectionsActive),
        exchanges: number(Counter::ExchangesActive),
        streams: number(Counter::StreamsActive),
        accepted: number(Counter::ConnectionsAccepted),
        requests: inbox.map_or(0, |inbox| requests(&inbox.numbers.all())),
    }
}

fn model<'a>(watch: &'a Watch, row: &'a plan::Model, now: Nanos) -> Model<'a> {
    let usage = watch.usage(|inbox| inbox.tables.model(row.id));
    let totals = watch.totals();
    let measured = totals.model(row.id);
    Model {
        name: &row.name,
        aliases: row.aliases.iter().map(|alias| &**alias).collect(),
        pool: row.pool.iter().map(|member| &*watch.plan.backends.row(member.backend).name).collect(),
        usable: watch.usable(row, now),
        requests: requests(&usage),
        input_tokens: usage.tokens[0],
        output_tokens: usage.tokens[2],
        duration: measured.map(|model| times(&model.duration)),
        time_to_first_token: measured.map(|model| times(&model.first_token)),
        time_per_output_token: measured.map(|model| times(&model.per_token)),
    }
}

fn backend<'a>(watch: &Watch, row: &'a plan::Backend, now: Nanos) -> Backend<'a> {
    let cells = watch.plan.backends.cells(row.id);
    Backend {
        name: &row.name,
        provider: row.provider.kind.name(),
        hosted: row.provider.hosted,
        target: match &row.target {
            Target::Tcp { host, port } => format!("{host}:{port}"),
            Target::Unix(path) => format!("unix:{}", path.display()),
        },
        tls: row.tls.is_some(),
        certificate_verified: row.tls.as_ref().map(|tls| tls.verified),
        proxy: row.proxy.as_ref().map(ToString::to_string),
        addresses: row.addresses.load().iter().map(ToString::to_string).collect(),
        drained: cells.is_drained(),
        health: match cells.probed() {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        },
        last_unreachable: cells.unreached.last().map(|(reason, at)| Unreached {
            reason: reason.label(),
            message: reason.words(),
            seconds_ago: now.since(at).seconds(),
        }),
        last_probe_failure: lock(&watch.probes[row.id.index()].last_failure).clone(),
        breaker: breaker(&cells.breaker, now),
        in_flight: cells.in_flight.count(),
        in_flight_max: bounded(row.in_flight_max),
        pending_tokens: watch.plan.backends.cells(row.id).loads().map(|load| load.pending_tokens()).sum(),
        engine: engine(watch, row, now),
        requests: requests(&watch.usage(|inbox| inbox.tables.backend(row.id))),
    }
}

fn engine(watch: &Watch, row: &plan::Backend, now: Nanos) -> Option<Engine> {
    let last = lock(&watch.scrapes[row.id.index()].last).clone();
    if last.page.is_none() && last.failure.is_none() {
        return None;
    }
    let load = last.page.map(|(load, _)| load).unwrap_or_default();
    let counts = watch.plan.backends.cells(row.id).signals.get(now, watch.plan.report_age_max());
    Some(Engine {
        running: load.running,
        waiting: load.waiting,
        foreign: counts.map(|report| report.foreign),
        kv_usage: load.kv_usage,
        kv_tokens: load.kv_tokens,
        seconds_ago: last.page.map(|(_, at)| now.since(at).seconds()),
        stale: counts.is_none(),
        last_failure: last.failure,
    })
}

fn deployment<'a>(watch: &'a Watch, row: usize, now: Nanos) -> Deployment<'a> {
    let (plan, id) = (&watch.plan, DeploymentId::new(row));
    let blocked = plan.failure_state(id, false).blocked(now);
    Deployment {
        backend: &plan.backends.row(plan.deployments.row(id).backend).name,
        model: &plan.deployments.row(id).model,
        breaker: breaker(&plan.deployments.cells(id).breaker, now),
        blocked_by: blocked.map(|(cause, _)| cause.name()),
        blocked_seconds: blocked.map(|(_, until)| until.since(now).seconds()),
        prefill_seconds_per_token: plan.deployments.cells(id).speed.seconds(),
        prefill_factor: plan.deployments.cells(id).speed.factor(),
    }
}

/// Those of one backend.
pub(super) fn deployments_of(watch: &Watch, id: BackendId) -> impl Iterator<Item = Deployment<'_>> {
    let now = clock::now();
    let rows = (0..watch.plan.deployments.len())
        .filter(move |row| watch.plan.deployments.row(DeploymentId::new(*row)).backend == id);
    rows.take(DEPLOYMENTS_MAX).map(move |row| deployment(watch, row, now))
}

fn breaker(breaker: &Breaker, now: Nanos) -> &'static str {
    match breaker.peek(now) {
        Admission::Closed => "closed",
        Admission::Probe => "half_open",
        Admission::Open { .. } => "open",
    }
}

fn key<'a>(watch: &Watch, row: &'a plan::Key, now: Nanos) -> Key<'a> {
    let (limits, cells) = (&row.grant.limits, watch.plan.keys.cells(row.id));
    let usage = watch.usage(|inbox| inbox.tables.key(row.id));
    Key {
        name: &row.name,
        in_flight: cells.in_flight.count(),
        in_flight_max: bounded(limits.in_flight_max),
        requests: room(limits.requests, &cells.requests, now),
        tokens: room(limits.tokens, &cells.tokens, now),
        input_tokens_used: usage.tokens[0],
        output_tokens_used: usage.tokens[2],
    }
}

fn room(rate: Option<Rate>, bucket: &Bucket, now: Nanos) -> Option<Room> {
    let rate = rate?;
    let room = bucket.peek(&rate, now);
    Some(Room {
        per_minute: rate.per_minute,
        burst: rate.burst,
        remaining: room.remaining,
        full_in_seconds: room.reset.seconds(),
    })
}

fn requests(usage: &Usage) -> u64 {
    usage.requests.iter().sum()
}

/// The largest number stands for no bound.
fn bounded(max: u32) -> Option<u32> {
    (max != u32::MAX).then_some(max)
}

fn times(timing: &Timing<u64>) -> Times {
    let at = |share| timing.quantile(share).seconds();
    Times { count: timing.count(), p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999) }
}
