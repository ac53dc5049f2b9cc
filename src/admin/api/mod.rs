//! REST under `/api/v1`: what the dashboard, `ringway top` and scripts ask. A page computes nothing but layout.
//!
//! Every response is JSON of at most 256 KiB with the same form of error: `{"error": {"code", "message"}}`. Lists are paged by a
//! cursor. Reads cost the coordinator's thread, never a shard.

mod backends;
mod budgets;
mod change;
mod explain;
mod keys;
mod ledger;
mod litellm;
mod live;
mod openapi;
pub(super) mod overview;
mod playground;
mod policies;
pub(super) mod requests;
mod roster;
mod route;
mod session;
mod views;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use schemars::JsonSchema;
use serde::Serialize;

pub(super) use self::live::{Live, tick};
pub(super) use self::playground::TRIES_MAX;
pub(super) use self::session::open as sign_in;
use super::reload::Asked;
use super::roles::{needs, refusal};
use super::{Caller, Shared};
use crate::coordinator::lock;

/// Bytes of a request's body.
pub(super) const BODY_BYTES_MAX: usize = 256 * 1024;

/// The routes, all of which need an operator. `openapi` lists them: the document tells of each, since there is no other way to
/// add one.
pub(super) fn routes() -> Router<Shared> {
    let routes = openapi::operations().into_iter();
    routes
        .fold(Router::new(), |router, operation| {
            router.route(operation.path, needs(operation.need, operation.handler))
        })
        .route("/api/v1/openapi.json", get(async || json(&openapi::document())))
        .route("/api/v1/{*path}", get(unknown).post(unknown).put(unknown).patch(unknown).delete(unknown))
}

async fn unknown() -> Problem {
    Problem::not_found("no such path under /api/v1")
}

/// What went wrong, for programs and for people.
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": { "code": self.code, "message": self.message } });
        with_status(self.status, &body)
    }
}

/// A role that may not.
pub(super) fn forbidden(caller: &Caller) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", refusal(caller))
}

pub(super) fn json<T: Serialize>(body: &T) -> Response {
    with_status(StatusCode::OK, body)
}

pub(super) fn with_status<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let (status, text) = match serde_json::to_vec(body) {
        Ok(text) => (status, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The body of a write: a renamed member must be refused, so every type denies unknown ones.
pub(super) fn body<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::invalid(format!("the body: {error}")))
}

/// The past quarter of an hour, for charts.
#[derive(JsonSchema, Serialize)]
pub(super) struct Past {
    /// One array per member of a second, oldest first: shorter than an array of objects.
    seconds: serde_json::Map<String, serde_json::Value>,
    #[serde(flatten)]
    charts: super::history::Charts,
}

pub(super) fn past(shared: &Shared) -> Past {
    let history = lock(&shared.history);
    let mut seconds = serde_json::Map::new();
    for second in history.seconds() {
        let Ok(serde_json::Value::Object(members)) = serde_json::to_value(second) else { continue };
        for (name, value) in members {
            let column = seconds.entry(name).or_insert_with(|| serde_json::Value::Array(Vec::new()));
            if let serde_json::Value::Array(column) = column {
                column.push(value);
            }
        }
    }
    Past { seconds, charts: history.charts(SERIES_MAX) }
}

/// Lines of a chart; the rest is one.
pub(super) const SERIES_MAX: usize = 8;

async fn history(State(shared): State<Shared>) -> Response {
    json(&past(&shared))
}

async fn reload(State(shared): State<Shared>, caller: Caller) -> Response {
    let asked = shared.reloader.reload().await;
    let outcome = match &asked {
        Asked::Done(told) => format!("plan {} is active", told.generation),
        Asked::Refused(reason) => format!("refused: {reason}"),
        Asked::Ending => "the gateway is ending".to_owned(),
    };
    shared.audit.note(&caller, "reload", "configuration", outcome);
    match asked {
        Asked::Done(told) => json(&serde_json::json!({ "generation": told.generation, "notes": told.notes })),
        Asked::Refused(reason) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "configuration_refused", reason).into_response()
        }
        Asked::Ending => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ending", "the gateway is ending").into_response()
        }
    }
}

#[cfg(test)]
mod tests;
