//! Is it fine, and if not, who is hurt and whose fault is it? The first screen, `ringway top`, and `/plain` show this.

use schemars::JsonSchema;
use serde::Serialize;

use super::views::{self, Backend, Limit, Model};
use crate::admin::Shared;
use crate::admin::history::{History, share};
use crate::clock;
use crate::coordinator::{Watch, lock};
use crate::observe::Counter;

/// Models and backends shown; `counts` says how many there are.
const ROWS_MAX: usize = 64;

/// Keys shown whose limits are nearest to used up.
const LIMITS_MAX: usize = 10;

/// The share of a limit from which it is shown.
const NEAR: f64 = 0.5;

/// Keys looked through for limits near their line.
const KEYS_MAX: usize = 20_000;

/// Reasons named in the sentence.
const NAMED_MAX: usize = 3;

/// The share of exchanges that backends fail from which that is worth a word, and the least number of them.
const ERRORS_NOTED: (f64, u64) = (0.01, 3);

#[derive(JsonSchema, Serialize)]
pub(in crate::admin) struct Overview {
    pub(in crate::admin) at_unix_ms: u64,
    node: String,
    pub(in crate::admin) version: &'static str,
    driver: String,
    pub(in crate::admin) uptime_seconds: f64,
    generation: u64,
    /// `ok`, `degraded`, `down`, `starting` or `draining`.
    pub(in crate::admin) state: &'static str,
    pub(in crate::admin) sentence: String,
    pub(in crate::admin) since_unix_ms: u64,
    /// What is wrong, worst first.
    reasons: Vec<Reason>,
    /// Over how many seconds rates and percentiles are taken; less than a minute after the start.
    window_seconds: usize,
    pub(in crate::admin) requests_per_second: f64,
    pub(in crate::admin) input_tokens_per_second: f64,
    cached_tokens_per_second: f64,
    pub(in crate::admin) output_tokens_per_second: f64,
    pub(in crate::admin) refused_share: Option<f64>,
    pub(in crate::admin) error_share: Option<f64>,
    errors: Errors,
    pub(in crate::admin) ttft_p50: Option<f64>,
    pub(in crate::admin) ttft_p99: Option<f64>,
    pub(in crate::admin) in_flight: u64,
    streams: u64,
    queued: u64,
    connections: u64,
    totals: Totals,
    counts: Counts,
    keys_required: bool,
    models: Vec<Model>,
    backends: Vec<Backend>,
    pub(in crate::admin) limits: Vec<NearLimit>,
}

/// Something that an operator should know.
#[derive(JsonSchema, Serialize, Clone, PartialEq, Debug)]
pub(in crate::admin) struct Reason {
    /// `bad` or `warn`.
    level: &'static str,
    code: &'static str,
    pub(in crate::admin) words: String,
}

/// Failed exchanges of the last minute, by side.
#[derive(JsonSchema, Serialize)]
struct Errors {
    client: u64,
    backend: u64,
    gateway: u64,
}

/// Since the process started.
#[derive(JsonSchema, Serialize)]
struct Totals {
    since_unix_ms: u64,
    requests: u64,
    input_tokens: u64,
    cached_tokens: u64,
    output_tokens: u64,
    refused: u64,
}

#[derive(JsonSchema, Serialize)]
struct Counts {
    models: usize,
    backends: usize,
    backends_ok: usize,
    keys: usize,
    shards: usize,
}

/// A limit of which at least half is used.
#[derive(JsonSchema, Serialize)]
pub(in crate::admin) struct NearLimit {
    /// `key` or `team`.
    kind: &'static str,
    /// The name of the key or the team.
    pub(in crate::admin) key: String,
    #[serde(flatten)]
    limit: Limit,
}

/// Reads everything now.
pub(in crate::admin) fn read(shared: &Shared) -> Overview {
    let watch = shared.current.load_full();
    let mut history = lock(&shared.history);
    let (minute, seconds) = history.minute();
    let reasons = reasons(&watch, &history);
    let (state, sentence) = verdict(&watch, &reasons);
    let since_unix_ms = shared.state_since(state);
    let history = &mut *history;
    let per_second = |count: u64| count as f64 / seconds.max(1) as f64;
    let rate = per_second(minute.requests);
    let plan = &watch.plan;
    let backends: Vec<Backend> =
        plan.backends.iter().take(ROWS_MAX).map(|row| views::backend(&watch, history, row, rate)).collect();
    let number = |counter| watch.shards.iter().map(|inbox| inbox.numbers.get(counter)).sum();
    let total = history.total();
    Overview {
        at_unix_ms: clock::unix_ms(),
        node: shared.node.clone(),
        version: watch.settings.version,
        driver: watch.settings.driver.clone(),
        uptime_seconds: clock::now().since(watch.started).seconds(),
        generation: plan.generation,
        state,
        sentence,
        since_unix_ms,
        reasons,
        window_seconds: seconds,
        requests_per_second: rate,
        input_tokens_per_second: per_second(minute.input_tokens),
        cached_tokens_per_second: per_second(minute.cached_tokens),
        output_tokens_per_second: per_second(minute.output_tokens),
        refused_share: share(minute.refused, minute.requests),
        error_share: share(minute.backend_errors + minute.gateway_errors, minute.requests),
        errors: Errors {
            client: minute.client_errors,
            backend: minute.backend_errors,
            gateway: minute.gateway_errors,
        },
        ttft_p50: minute.ttft_p50,
        ttft_p99: minute.ttft_p99,
        in_flight: number(Counter::ExchangesActive),
        streams: number(Counter::StreamsActive),
        queued: number(Counter::QueueWaiting),
        connections: number(Counter::ConnectionsActive),
        totals: Totals {
            since_unix_ms: watch.started_unix_ms,
            requests: crate::admin::history::requests(&total.usage),
            input_tokens: total.usage.tokens[0],
            cached_tokens: total.usage.tokens[1],
            output_tokens: total.usage.tokens[2],
            refused: total.refused,
        },
        counts: Counts {
            models: plan.models.len(),
            backends: plan.backends.len(),
            backends_ok: plan
                .backends
                .iter()
                .filter(|row| views::condition(&watch, row, clock::now()).state == "ok")
                .count(),
            keys: plan.keys.len(),
            shards: plan.shards.len(),
        },
        keys_required: plan.keys_required,
        models: plan.models.iter().take(ROWS_MAX).map(|row| views::model(&watch, history, row)).collect(),
        backends,
        limits: near(&watch),
    }
}

fn near(watch: &Watch) -> Vec<NearLimit> {
    let now = clock::now();
    let mut limits: Vec<NearLimit> = Vec::new();
    for key in watch.plan.keys.iter().take(KEYS_MAX) {
        let near = views::limits(watch, key, now).into_iter().filter(|limit| limit.share() >= NEAR);
        limits.extend(near.map(|limit| NearLimit { kind: "key", key: key.name.to_string(), limit }));
    }
    for team in watch.plan.teams.iter().take(KEYS_MAX) {
        let near = views::team_limits(watch, team, now).into_iter().filter(|limit| limit.share() >= NEAR);
        limits.extend(near.map(|limit| NearLimit { kind: "team", key: team.name.to_string(), limit }));
    }
    limits.sort_by(|a, b| b.limit.share().total_cmp(&a.limit.share()).then_with(|| a.key.cmp(&b.key)));
    limits.truncate(LIMITS_MAX);
    limits
}

fn verdict(watch: &Watch, reasons: &[Reason]) -> (&'static str, String) {
    let named = |reasons: &[Reason]| {
        let words: Vec<&str> = reasons.iter().take(NAMED_MAX).map(|reason| &*reason.words).collect();
        let more = reasons.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!("; {more} more") } else { String::new() };
        format!("{}{more}", words.join("; "))
    };
    match watch.ready() {
        Err("draining") => {
            ("draining", "This gateway is shutting down; requests in flight end first.".to_owned())
        }
        Err(reason @ ("shards are starting" | "no shard is running")) => {
            ("starting", format!("Not ready: {reason}."))
        }
        Err(reason) => (
            "down",
            format!(
                "No requests can be served: {}.",
                if reasons.is_empty() { reason.to_owned() } else { named(reasons) }
            ),
        ),
        Ok(()) if !reasons.is_empty() => ("degraded", format!("{}.", named(reasons))),
        Ok(()) => {
            let (backends, models) = (watch.plan.backends.len(), watch.plan.models.len());
            let plural =
                |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
            let all = if backends == 1 {
                "1 backend serves".to_owned()
            } else {
                format!("All {backends} backends serve")
            };
            ("ok", format!("{all} {}.", plural(models, "model")))
        }
    }
}

fn reasons(watch: &Watch, history: &History) -> Vec<Reason> {
    let (plan, now) = (&watch.plan, clock::now());
    let mut reasons = Vec::new();
    let mut tell = |level, code, words| reasons.push(Reason { level, code, words });
    for model in plan.models.iter().filter(|model| !watch.usable(model, now)) {
        tell("bad", "model_unusable", format!("model {} has no usable backend", model.name));
    }
    let total = plan.backends.len();
    let mut ill = Vec::new();
    for row in &plan.backends {
        let condition = views::condition(watch, row, now);
        if condition.state != "ok" && condition.state != "unknown" {
            ill.push(format!("{} {} ({})", row.name, condition.state, condition.why.unwrap_or_default()));
        }
    }
    if !ill.is_empty() {
        let more = ill.len().saturating_sub(NAMED_MAX);
        let count = ill.len();
        ill.truncate(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        tell("warn", "backends", format!("{count} of {total} backends out: {}{more}", ill.join(", ")));
    }
    let (minute, _) = history.minute();
    let (least_share, least_count) = ERRORS_NOTED;
    let errors = minute.backend_errors + minute.gateway_errors;
    if errors >= least_count && share(errors, minute.requests).is_some_and(|part| part >= least_share) {
        let percent = 100.0 * errors as f64 / minute.requests as f64;
        tell("warn", "errors", format!("{percent:.1} % of the last minute's requests failed"));
    }
    if watch.control.is_shedding() {
        tell("bad", "memory", "new requests are refused for want of memory".to_owned());
    }
    if lock(&watch.reloads.last_error).is_some() {
        tell(
            "warn",
            "reload",
            "the last reload was refused; the configuration before it is active".to_owned(),
        );
    }
    reasons
}
