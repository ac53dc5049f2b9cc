//! What is enforced: deadlines, bounds and defaults of the active plan.

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Shared, json};
use crate::coordinator::lock;
use crate::plan::Plan;
use crate::units::{GuardId, Nanos};

#[derive(JsonSchema, Serialize)]
pub(super) struct Policies {
    generation: u64,
    keys_required: bool,
    last_reload_unix_ms: Option<u64>,
    last_reload_error: Option<String>,
    groups: Vec<Group>,
    /// Content rules, in the order of their names.
    guards: Vec<GuardRow>,
}

/// A content rule and what it has done since the process started.
#[derive(JsonSchema, Serialize)]
struct GuardRow {
    name: String,
    /// Models that it is for.
    models: usize,
    /// Keys that it is for; absent if it is for every request.
    keys: Option<usize>,
    /// It counts and changes nothing, for every model that it is for.
    shadow: bool,
    matched: u64,
    /// Of these in a rule that only counts: what it would have done.
    shadowed: u64,
    masked: u64,
    refused: u64,
    stopped: u64,
    routed: u64,
    /// Times that another process was asked for its verdict, and gave none.
    asked: u64,
    failed: u64,
}

/// Content rules of one response.
const GUARDS_MAX: usize = 500;

fn guards(plan: &Plan) -> Vec<GuardRow> {
    let ids = plan.guards.ids().take(GUARDS_MAX);
    ids.map(|id| guard(plan, id)).collect()
}

fn guard(plan: &Plan, id: GuardId) -> GuardRow {
    let (row, cells) = (plan.guards.row(id), plan.guards.cells(id));
    let all = plan.models.iter().filter_map(|model| model.guards.as_ref());
    // By model: whether the rule is in shadow mode there.
    let modes: Vec<bool> = all
        .filter_map(|guards| {
            let own = guards.ids.iter().position(|other| *other == id);
            let own = own.map(|index| guards.guards.rule(index).is_shadow);
            own.or_else(|| guards.externals.iter().find(|rule| rule.id == id).map(|rule| rule.is_shadow))
        })
        .collect();
    GuardRow {
        name: row.name.to_string(),
        models: modes.len(),
        keys: (!row.keyless).then(|| row.keys.iter().filter(|is_for| **is_for).count()),
        shadow: !modes.is_empty() && modes.iter().all(|is_shadow| *is_shadow),
        matched: cells.matches.load(Ordering::Relaxed),
        shadowed: cells.shadowed.load(Ordering::Relaxed),
        masked: cells.masked.load(Ordering::Relaxed),
        refused: cells.refused.load(Ordering::Relaxed),
        stopped: cells.stopped.load(Ordering::Relaxed),
        routed: cells.routed.load(Ordering::Relaxed),
        asked: cells.asked.load(Ordering::Relaxed),
        failed: cells.failed.load(Ordering::Relaxed),
    }
}

/// A table of the configuration.
#[derive(JsonSchema, Serialize)]
struct Group {
    name: &'static str,
    lines: Vec<Line>,
}

#[derive(JsonSchema, Serialize)]
struct Line {
    name: &'static str,
    value: String,
    meaning: &'static str,
}

pub(super) async fn list(State(shared): State<Shared>) -> Response {
    let watch = shared.current.load_full();
    let plan = &watch.plan;
    let line = |name, value: String, meaning| Line { name, value, meaning };
    let time = |name, value: Nanos, meaning| line(name, duration(value), meaning);
    let (times, limits) = (&plan.timeouts, &plan.limits);
    let timeouts = vec![
        time("head", times.head, "a whole request head"),
        time("connect", times.connect, "TCP and TLS to a backend"),
        time("first_token", times.first_token, "from the request sent to the first event of a stream"),
        time("between_events", times.between_events, "between two reads of a response"),
        time("response", times.response, "a response that is not streamed, to its last byte"),
        time("total", times.total, "the whole exchange"),
        time("queue_timeout", times.queue_timeout, "waiting for a free slot of a backend"),
        time("drain", times.drain, "requests in flight after a stop was asked for"),
    ];
    let bytes = |name, value: u64, meaning| line(name, size(value), meaning);
    let bounds = vec![
        bytes("body", limits.body_bytes, "a request body"),
        bytes("head", limits.head_bytes as u64, "a request or response head"),
        bytes("event", limits.event_bytes as u64, "a stream event held until it is complete"),
        line("attempts", limits.attempts.to_string(), "attempts for one exchange and model"),
        line("queue", limits.queue.to_string(), "requests that wait for one model's backends"),
        line(
            "memory",
            limits.memory_bytes.map_or_else(|| "the machine's".to_owned(), size),
            "memory of the process near which new requests are refused",
        ),
    ];
    let tokens = plan.output_tokens_default.to_string();
    let estimate = vec![line("output_tokens", tokens, "output tokens reserved when a request names no cap")];
    let last = watch.reloads.last_unix_ms.load(Ordering::Relaxed);
    json(&Policies {
        generation: plan.generation,
        keys_required: plan.keys_required,
        last_reload_unix_ms: (last != 0).then_some(last),
        last_reload_error: lock(&watch.reloads.last_error).clone(),
        groups: vec![
            Group { name: "timeouts", lines: timeouts },
            Group { name: "limits", lines: bounds },
            Group { name: "estimate", lines: estimate },
        ],
        guards: guards(plan),
    })
}

fn duration(time: Nanos) -> String {
    match time {
        Nanos::NEVER => "none".to_owned(),
        time => time.to_string(),
    }
}

fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) if bytes.is_multiple_of(unit) => format!("{} {name}", bytes / unit),
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}
