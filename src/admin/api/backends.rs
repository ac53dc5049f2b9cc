//! Backends and models: how each is, and taking a backend out of service.

use axum::extract::{Path, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::views::{self, Backend, Model};
use super::{Problem, Shared, json};
use crate::admin::Caller;
use crate::coordinator::{Watch, lock};
use crate::plan;

/// Rows of one response: 256 KiB hold more than that.
const ROWS_MAX: usize = 300;

#[derive(JsonSchema, Serialize)]
pub(super) struct Backends {
    total: usize,
    backends: Vec<Backend>,
}

#[derive(JsonSchema, Serialize)]
pub(super) struct Models {
    total: usize,
    models: Vec<Model>,
}

/// One backend with its own past.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "BackendDetail")]
pub(super) struct Detail {
    #[serde(flatten)]
    backend: Backend,
    step_seconds: u64,
    /// Requests per second, one value a step, newest last.
    requests_history: Vec<f64>,
    /// Each deployment with its own state.
    deployments: Vec<Deployment>,
}

#[derive(JsonSchema, Serialize)]
struct Deployment {
    model: String,
    breaker: &'static str,
    blocked_by: Option<&'static str>,
    blocked_seconds: Option<f64>,
}

fn rate(shared: &Shared) -> f64 {
    let (minute, seconds) = lock(&shared.history).minute();
    minute.requests as f64 / seconds.max(1) as f64
}

pub(super) async fn list(State(shared): State<Shared>) -> Response {
    let (watch, rate) = (shared.current.load_full(), rate(&shared));
    let history = lock(&shared.history);
    let rows = watch.plan.backends.iter().take(ROWS_MAX);
    let backends = rows.map(|row| views::backend(&watch, &history, row, rate)).collect();
    json(&Backends { total: watch.plan.backends.len(), backends })
}

pub(super) async fn models(State(shared): State<Shared>) -> Response {
    let watch = shared.current.load_full();
    let history = lock(&shared.history);
    let models =
        watch.plan.models.iter().take(ROWS_MAX).map(|row| views::model(&watch, &history, row)).collect();
    json(&Models { total: watch.plan.models.len(), models })
}

pub(super) async fn one(State(shared): State<Shared>, Path(name): Path<String>) -> Result<Response, Problem> {
    let watch = shared.current.load_full();
    let row = named(&watch, &name)?;
    Ok(json(&detail(&shared, &watch, row)))
}

fn detail(shared: &Shared, watch: &Watch, row: &plan::Backend) -> Detail {
    let rate = rate(shared);
    let history = lock(&shared.history);
    Detail {
        backend: views::backend(watch, &history, row, rate),
        step_seconds: crate::admin::history::STEP,
        requests_history: history.backend_steps(&row.name),
        deployments: crate::admin::status::deployments_of(watch, row.id)
            .map(|found| Deployment {
                model: found.model.to_owned(),
                breaker: found.breaker,
                blocked_by: found.blocked_by,
                blocked_seconds: found.blocked_seconds,
            })
            .collect(),
    }
}

fn named<'a>(watch: &'a Watch, name: &str) -> Result<&'a plan::Backend, Problem> {
    watch
        .plan
        .backend_named(name)
        .ok_or_else(|| Problem::not_found(format!("no backend is named {name:?} in the configuration")))
}

pub(super) async fn drain(
    state: State<Shared>,
    name: Path<String>,
    caller: Caller,
) -> Result<Response, Problem> {
    set(&state, &name, &caller, true)
}

pub(super) async fn undrain(
    state: State<Shared>,
    name: Path<String>,
    caller: Caller,
) -> Result<Response, Problem> {
    set(&state, &name, &caller, false)
}

/// Asked for twice, it is done once. Requests in flight end as they would; it lasts until it is undone or the process ends.
fn set(shared: &Shared, name: &str, caller: &Caller, drained: bool) -> Result<Response, Problem> {
    let watch = shared.current.load_full();
    let row = named(&watch, name)?;
    let cells = watch.plan.backends.cells(row.id);
    cells.drain(drained);
    let action = if drained { "drain" } else { "undrain" };
    shared.audit.note(caller, action, name, format!("{} requests in flight", cells.in_flight.count()));
    let words = format!("backend {name}: {action} asked for by {} from {}", caller.name(), caller.from);
    watch.say(crate::config::LogLevel::Info, &words);
    Ok(json(&detail(shared, &watch, row)))
}
