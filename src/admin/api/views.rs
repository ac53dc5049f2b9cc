//! What the API says of a backend, a model and a key: one shape each, wherever it is shown.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::budgets::{self, Budget};
use crate::admin::history::{History, Rates, requests};
use crate::clock;
use crate::coordinator::roster::Entry;
use crate::coordinator::{Watch, lock};
use crate::observe::Usage;
use crate::plan::cells::Health;
use crate::plan::{self, Holder, Target};
use crate::policy::limits::bucket::{Bucket, Rate};
use crate::policy::limits::caller::{CallerCells, CallerLimits};
use crate::store::AccessKind;
use crate::units::{DeploymentId, Nanos};

/// One backend, as it is now.
#[derive(JsonSchema, Serialize)]
pub(super) struct Backend {
    pub(super) name: String,
    provider: &'static str,
    hosted: bool,
    target: String,
    proxy: Option<String>,
    tls: bool,
    certificate_verified: Option<bool>,
    addresses: Vec<String>,
    /// `ok`, `slow_start` (half open), `paused`, `down`, `drained` or `unknown`.
    pub(super) state: &'static str,
    /// Why, in words; absent if it is well.
    pub(super) why: Option<String>,
    /// For how long it gets no requests, if that is known.
    paused_seconds: Option<f64>,
    health: &'static str,
    last_probe_failure: Option<String>,
    in_flight: u32,
    in_flight_max: Option<u32>,
    pending_tokens: u64,
    models: Vec<String>,
    /// Since the process started.
    requests: u64,
    input_tokens: u64,
    cached_tokens: u64,
    output_tokens: u64,
    /// Of the last minute.
    requests_per_second: f64,
    output_tokens_per_second: f64,
    error_share: Option<f64>,
    cached_share: Option<f64>,
    ttft_p50: Option<f64>,
    ttft_p99: Option<f64>,
    /// Its part of the requests of all backends.
    traffic_share: Option<f64>,
}

/// One public model.
#[derive(JsonSchema, Serialize)]
pub(super) struct Model {
    pub(super) name: String,
    aliases: Vec<String>,
    pub(super) usable: bool,
    pool: Vec<String>,
    fallbacks: Vec<String>,
    context_length: Option<u64>,
    waiting: u32,
    requests: u64,
    input_tokens: u64,
    cached_tokens: u64,
    output_tokens: u64,
    estimated: u64,
    requests_per_second: f64,
    output_tokens_per_second: f64,
    error_share: Option<f64>,
    cached_share: Option<f64>,
    ttft_p50: Option<f64>,
    ttft_p99: Option<f64>,
}

/// One key, with what is left of its limits.
#[derive(JsonSchema, Serialize)]
pub(super) struct Key {
    pub(super) name: String,
    team: Option<String>,
    tags: Vec<String>,
    /// When it stops being valid, Unix milliseconds.
    expires_unix_ms: Option<u64>,
    /// `active`, `limited`, `expired`, `revoked`, `disabled` or `unused`.
    state: &'static str,
    /// Where it comes from, and so where it can be changed: `configuration` or `store`.
    source: &'static str,
    /// The part of its secret that may be shown; absent if it is not known here.
    public_id: Option<String>,
    created_unix_ms: Option<u64>,
    /// While it is being rotated: when the secret before stops being valid.
    previous_valid_until_unix_ms: Option<u64>,
    revoked_unix_ms: Option<u64>,
    /// Why a key of the store is out of force although nobody revoked it.
    disabled: Option<String>,
    metadata: BTreeMap<String, String>,
    /// What can be changed of it, as it was written; absent for a key of the configuration file.
    written: Option<serde_json::Map<String, serde_json::Value>>,
    /// Names of models; absent if it may use all of them.
    models: Option<Vec<String>>,
    pub(super) limits: Vec<Limit>,
    budgets: Vec<Budget>,
    in_flight: u32,
    requests: u64,
    failed: u64,
    input_tokens: u64,
    cached_tokens: u64,
    output_tokens: u64,
}

impl Key {
    /// Whether it is one of this team.
    pub(super) fn is_of(&self, team: &str) -> bool {
        self.team.as_deref() == Some(team)
    }
}

/// One limit of a key, and how much of it is used.
#[derive(JsonSchema, Serialize, Clone)]
pub(super) struct Limit {
    pub(super) name: &'static str,
    pub(super) used: u64,
    pub(super) max: u64,
    /// Until all of it is free again; absent for requests in flight.
    pub(super) free_in_seconds: Option<f64>,
}

impl Limit {
    /// 0 to 1.
    pub(super) fn share(&self) -> f64 {
        if self.max == 0 { 1.0 } else { self.used as f64 / self.max as f64 }
    }
}

pub(super) fn backend(watch: &Watch, history: &History, row: &plan::Backend, all_rate: f64) -> Backend {
    let (plan, now) = (&watch.plan, clock::now());
    let cells = plan.backends.cells(row.id);
    let usage = watch.usage(|inbox| inbox.tables.backend(row.id));
    let rates = history.backend(&row.name);
    let since = clock::unix_ms().saturating_sub(60_000);
    let times = watch.recent.first_tokens(&row.name, since);
    let Condition { state, why, paused } = condition(watch, row, now);
    Backend {
        name: row.name.to_string(),
        provider: row.provider.kind.name(),
        hosted: row.provider.hosted,
        target: match &row.target {
            Target::Tcp { host, port } => format!("{host}:{port}"),
            Target::Unix(path) => format!("unix:{}", path.display()),
        },
        proxy: row.proxy.as_ref().map(ToString::to_string),
        tls: row.tls.is_some(),
        certificate_verified: row.tls.as_ref().map(|tls| tls.verified),
        addresses: row.addresses.load().iter().map(ToString::to_string).collect(),
        state,
        why,
        paused_seconds: paused.map(Nanos::seconds),
        health: match cells.probed() {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        },
        last_probe_failure: lock(&watch.probes[row.id.index()].last_failure).clone(),
        in_flight: cells.in_flight.count(),
        in_flight_max: bounded(row.in_flight_max),
        pending_tokens: plan.backends.cells(row.id).loads().map(|load| load.pending_tokens()).sum(),
        models: plan
            .models
            .iter()
            .filter(|model| model.pool.iter().any(|member| member.backend == row.id))
            .map(|model| model.name.to_string())
            .take(LISTED_MAX)
            .collect(),
        requests: requests(&usage),
        input_tokens: usage.tokens[0],
        cached_tokens: usage.tokens[1],
        output_tokens: usage.tokens[2],
        requests_per_second: rates.requests,
        output_tokens_per_second: rates.output_tokens,
        error_share: rates.error_share,
        cached_share: rates.cached_share,
        ttft_p50: times.map(|(p50, _, _)| p50.seconds()),
        ttft_p99: times.map(|(_, p99, _)| p99.seconds()),
        traffic_share: (all_rate > 0.0).then(|| rates.requests / all_rate),
    }
}

/// Names listed within one row.
const LISTED_MAX: usize = 64;

/// How a backend is, and why.
pub(super) struct Condition {
    pub(super) state: &'static str,
    pub(super) why: Option<String>,
    pub(super) paused: Option<Nanos>,
}

/// The first of these that holds: drained, down by its probe, without an address, paused, half open.
pub(super) fn condition(watch: &Watch, row: &plan::Backend, now: Nanos) -> Condition {
    let cells = watch.plan.backends.cells(row.id);
    let is = |state, why: String, paused| Condition { state, why: Some(why), paused };
    if cells.is_drained() {
        return is("drained", "taken out of service by an operator".to_owned(), None);
    }
    let unreached =
        cells.unreached.last().filter(|(_, at)| now.since(*at) < RECENT).map(|(reason, _)| reason.words());
    if cells.probed() == Health::Down {
        let failure = lock(&watch.probes[row.id.index()].last_failure).clone();
        let why = unreached.map(str::to_owned).or(failure).unwrap_or_else(|| "it fails its probe".to_owned());
        return is("down", why, None);
    }
    if !matches!(row.target, Target::Unix(_)) && row.addresses.load().is_empty() {
        return is("down", "its name has no address".to_owned(), None);
    }
    let deployments = (0..watch.plan.deployments.len())
        .map(DeploymentId::new)
        .filter(|id| watch.plan.deployments.row(*id).backend == row.id);
    let mut paused = None;
    for id in deployments {
        if let Some((cause, until)) = watch.plan.failure_state(id, false).blocked(now) {
            let model = &watch.plan.deployments.row(id).model;
            let left = until.since(now);
            paused = paused.max(Some((left, cause.name(), model)));
        }
    }
    match paused {
        Some((left, "failures", model)) => {
            let reason = unreached.unwrap_or("it failed too often");
            is("paused", format!("{reason}; no requests for {model} until it is tried again"), Some(left))
        }
        Some((left, "limit", model)) => {
            is("paused", format!("it is at its own limit (429) for {model}"), Some(left))
        }
        Some((left, _, model)) => is("paused", format!("it is overloaded (503) for {model}"), Some(left)),
        None if cells.probed() == Health::Unknown && row.health.path.is_some() => {
            is("unknown", "its first probe has not ended yet".to_owned(), None)
        }
        None => Condition { state: "ok", why: None, paused: None },
    }
}

/// How long ago a failure may be to explain a state of now.
const RECENT: Nanos = Nanos(300_000_000_000);

pub(super) fn model(watch: &Watch, history: &History, row: &plan::Model) -> Model {
    let plan = &watch.plan;
    let usage = watch.usage(|inbox| inbox.tables.model(row.id));
    let Rates { requests: rate, output_tokens, error_share, cached_share, ttft, .. } =
        history.model(&row.name);
    Model {
        name: row.name.to_string(),
        aliases: row.aliases.iter().take(LISTED_MAX).map(ToString::to_string).collect(),
        usable: watch.usable(row, clock::now()),
        pool: row.pool.iter().map(|member| plan.backends.row(member.backend).name.to_string()).collect(),
        fallbacks: row.fallbacks.iter().map(|id| plan.models.row(*id).name.to_string()).collect(),
        context_length: row.context_length,
        waiting: plan.models.cells(row.id).waiting.count(),
        requests: requests(&usage),
        input_tokens: usage.tokens[0],
        cached_tokens: usage.tokens[1],
        output_tokens: usage.tokens[2],
        estimated: usage.estimated,
        requests_per_second: rate,
        output_tokens_per_second: output_tokens,
        error_share,
        cached_share,
        ttft_p50: ttft.map(|[p50, _]| p50),
        ttft_p99: ttft.map(|[_, p99]| p99),
    }
}

pub(super) fn key(watch: &Watch, row: &plan::Key) -> Key {
    let plan = &watch.plan;
    let usage = watch.usage(|inbox| inbox.tables.key(row.id));
    let limits = limits(watch, row, clock::now());
    let budgets = budgets::of_holder(watch, &Holder::Key(row.name.clone()));
    let roster = watch.roster.load();
    let entry = roster.find(AccessKind::Key, &row.name);
    let all = requests(&usage);
    let expires = row.credential.expires.as_ref().map(|end| end.unix_ms);
    let may_all = row.grant.models.iter().all(|may| *may);
    let allowed = || {
        plan.models
            .iter()
            .zip(&row.grant.models)
            .filter(|(_, may)| **may)
            .map(|(model, _)| model.name.to_string())
    };
    Key {
        name: row.name.to_string(),
        team: row.team.map(|id| plan.teams.row(id).name.to_string()),
        tags: row.tags.iter().take(LISTED_MAX).map(ToString::to_string).collect(),
        expires_unix_ms: expires,
        state: match () {
            () if row.is_revoked() => "revoked",
            () if expires.is_some_and(|end| end <= clock::unix_ms()) => "expired",
            () if limits.iter().any(|limit| limit.used >= limit.max) => "limited",
            () if budgets.iter().any(|budget| budget.used >= budget.max) => "limited",
            () if all == 0 => "unused",
            () => "active",
        },
        source: if entry.is_some() { "store" } else { "configuration" },
        public_id: entry.map(|entry| entry.row.public_id.clone()),
        created_unix_ms: entry.map(|entry| entry.row.created_ms),
        previous_valid_until_unix_ms: entry.and_then(|entry| entry.overlap_ends(clock::unix_ms())),
        revoked_unix_ms: None,
        disabled: None,
        metadata: row.metadata.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        written: entry.map(|entry| entry.members.clone()),
        budgets,
        models: (!may_all).then(|| allowed().take(LISTED_MAX).collect()),
        in_flight: plan.keys.cells(row.id).in_flight.count(),
        limits,
        requests: all,
        failed: all.saturating_sub(usage.requests[0]),
        input_tokens: usage.tokens[0],
        cached_tokens: usage.tokens[1],
        output_tokens: usage.tokens[2],
    }
}

/// The key of this name, whether it serves or not.
pub(super) fn any_key(watch: &Watch, name: &str) -> Option<Key> {
    let found = watch.plan.keys.named(name).map(|row| key(watch, row));
    found.or_else(|| watch.roster.load().find(AccessKind::Key, name).map(|entry| gone(watch, entry)))
}

/// A key of the store that does not serve: revoked, or disabled.
pub(super) fn gone(watch: &Watch, entry: &Entry) -> Key {
    let row = &entry.row;
    let disabled = watch.roster.load().disabled.get(&(row.kind, row.name.clone())).cloned();
    let texts = |member: &str| {
        let list = entry.members.get(member).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    Key {
        name: row.name.clone(),
        team: entry.text("team").map(str::to_owned),
        tags: texts("tags"),
        expires_unix_ms: None,
        state: if row.revoked_ms.is_some() { "revoked" } else { "disabled" },
        source: "store",
        public_id: Some(row.public_id.clone()),
        created_unix_ms: Some(row.created_ms),
        previous_valid_until_unix_ms: None,
        revoked_unix_ms: row.revoked_ms,
        disabled,
        metadata: BTreeMap::new(),
        written: Some(entry.members.clone()),
        models: entry.members.contains_key("models").then(|| texts("models")),
        limits: Vec::new(),
        budgets: Vec::new(),
        in_flight: 0,
        requests: 0,
        failed: 0,
        input_tokens: 0,
        cached_tokens: 0,
        output_tokens: 0,
    }
}

/// A team: what its keys use together.
#[derive(JsonSchema, Serialize)]
pub(super) struct Team {
    pub(super) name: String,
    keys: usize,
    /// Where it comes from, and so where it can be changed: `configuration` or `store`.
    source: &'static str,
    /// What can be changed of it, as it was written; absent for a team of the configuration file.
    written: Option<serde_json::Map<String, serde_json::Value>>,
    pub(super) limits: Vec<Limit>,
    budgets: Vec<Budget>,
    in_flight: u32,
    requests: u64,
    input_tokens: u64,
    output_tokens: u64,
}

pub(super) fn team(watch: &Watch, row: &plan::Team) -> Team {
    let plan = &watch.plan;
    let roster = watch.roster.load();
    let entry = roster.find(AccessKind::Team, &row.name);
    let mut usage = Usage::default();
    let mut keys = 0;
    for key in plan.keys.iter().filter(|key| key.team == Some(row.id)) {
        keys += 1;
        usage += watch.usage(|inbox| inbox.tables.key(key.id));
    }
    Team {
        name: row.name.to_string(),
        keys,
        source: if entry.is_some() { "store" } else { "configuration" },
        written: entry.map(|entry| entry.members.clone()),
        budgets: budgets::of_holder(watch, &Holder::Team(row.name.clone())),
        limits: team_limits(watch, row, clock::now()),
        in_flight: plan.teams.cells(row.id).in_flight.count(),
        requests: requests(&usage),
        input_tokens: usage.tokens[0],
        output_tokens: usage.tokens[2],
    }
}

/// The limits that a key has.
pub(super) fn limits(watch: &Watch, row: &plan::Key, now: Nanos) -> Vec<Limit> {
    of_caller(&row.grant.limits, watch.plan.keys.cells(row.id), now)
}

/// The limits that the keys of a team have together.
pub(super) fn team_limits(watch: &Watch, row: &plan::Team, now: Nanos) -> Vec<Limit> {
    of_caller(&row.limits, watch.plan.teams.cells(row.id), now)
}

fn of_caller(of: &CallerLimits, cells: &CallerCells, now: Nanos) -> Vec<Limit> {
    let mut limits = Vec::with_capacity(3);
    limits.extend(rate("requests_per_minute", of.requests, &cells.requests, now));
    limits.extend(rate("tokens_per_minute", of.tokens, &cells.tokens, now));
    if let Some(max) = bounded(of.in_flight_max) {
        let used = cells.in_flight.count().into();
        limits.push(Limit { name: "in_flight", used, max: max.into(), free_in_seconds: None });
    }
    limits
}

fn rate(name: &'static str, rate: Option<Rate>, bucket: &Bucket, now: Nanos) -> Option<Limit> {
    let rate = rate?;
    let room = bucket.peek(&rate, now);
    let used = rate.burst.saturating_sub(room.remaining);
    Some(Limit { name, used, max: rate.burst, free_in_seconds: Some(room.reset.seconds()) })
}

/// The largest number stands for no bound.
fn bounded(max: u32) -> Option<u32> {
    (max != u32::MAX).then_some(max)
}
