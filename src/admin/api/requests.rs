//! Recent requests: what happened to this one, and why was it refused?

use std::sync::atomic::Ordering;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::explain::{self, Explain};
use super::{Problem, Shared, json};
use crate::coordinator::recent::Exchange;
use crate::error::Side;
use crate::units::Nanos;

/// Rows of one page, and the most that may be asked for.
const PAGE: usize = 50;
const PAGE_MAX: usize = 200;

/// Filters; all that are given have to match.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Filter {
    /// Rows older than this number.
    before: u64,
    limit: Option<usize>,
    /// `200`, `4xx`, `failed`.
    status: Option<String>,
    key: Option<String>,
    model: Option<String>,
    backend: Option<String>,
    reason: Option<String>,
    api: Option<String>,
    /// The beginning of a request's id.
    id: Option<String>,
}

/// One page.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Requests")]
pub(super) struct Rows {
    requests: Vec<Row>,
    /// `before` of the next page; absent on the last.
    next: Option<u64>,
    /// Exchanges that were counted but not kept, since too many came at once.
    skipped: u64,
}

/// One finished exchange. Times in seconds.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Request")]
pub(in crate::admin) struct Row {
    pub(in crate::admin) number: u64,
    pub(in crate::admin) at_unix_ms: u64,
    pub(in crate::admin) id: String,
    pub(in crate::admin) key: Option<String>,
    pub(in crate::admin) model: Option<String>,
    fallback_for: Option<String>,
    pub(in crate::admin) backend: Option<String>,
    api: &'static str,
    pub(in crate::admin) status: u16,
    /// The code of what failed.
    pub(in crate::admin) reason: Option<&'static str>,
    /// `client`, `backend` or `gateway`.
    side: Option<&'static str>,
    stream: bool,
    attempts: u8,
    input_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    output_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    estimated: bool,
    ttft: Option<f64>,
    duration: f64,
}

/// One exchange with all that is known of it.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "RequestDetail")]
pub(super) struct Detail {
    #[serde(flatten)]
    row: Row,
    client: Option<String>,
    shard: usize,
    request_bytes: u64,
    response_bytes: u64,
    /// The gateway's own part, in seconds.
    overhead: f64,
    /// What happened, in one sentence, and what to do about it.
    explain: Option<Explain>,
}

impl Filter {
    fn matches(&self, row: &Exchange) -> bool {
        let same = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| glob(wanted, found.unwrap_or("-")))
        };
        let status = self.status.as_deref().is_none_or(|wanted| match wanted {
            "failed" => row.has_failed(),
            wanted => match wanted.strip_suffix("xx") {
                Some(class) => class.parse() == Ok(row.status / 100),
                None => wanted.parse() == Ok(row.status),
            },
        });
        status
            && same(&self.key, row.key.as_deref())
            && same(&self.model, row.model.as_deref())
            && same(&self.backend, row.backend.as_deref())
            && same(&self.reason, row.fault.map(|kind| kind.code()))
            && same(&self.api, Some(row.api))
            && self.id.as_deref().is_none_or(|id| row.request_id.as_bytes().starts_with(id.as_bytes()))
    }
}

/// `*` for any run of characters, once or more often; a `!` before it asks for all others.
fn glob(pattern: &str, text: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix('!') {
        return !glob(rest, text);
    }
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// `GET /api/v1/requests`.
pub(super) async fn list(State(shared): State<Shared>, filter: Query<Filter>) -> Response {
    let most = filter.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let recent = &shared.current.load().recent;
    let rows = recent.find(filter.before, most, |row| filter.matches(row));
    let next = (rows.len() == most).then(|| rows.last().map_or(0, |row| row.number));
    let requests = rows.iter().map(|row| self::row(row)).collect();
    json(&Rows { requests, next, skipped: recent.skipped.load(Ordering::Relaxed) })
}

/// `GET /api/v1/requests/{id}`: by its request id, the newest of that name, or by its number.
pub(super) async fn one(State(shared): State<Shared>, Path(id): Path<String>) -> Result<Response, Problem> {
    let watch = shared.current.load_full();
    let number = id.parse::<u64>().ok();
    let is_it = |row: &Exchange| Some(row.number) == number || row.request_id.as_bytes() == id.as_bytes();
    let found = watch.recent.find(0, 1, is_it);
    let Some(row) = found.first() else {
        return Err(Problem::not_found("no such request among the recent ones; older ones are not kept"));
    };
    Ok(json(&Detail {
        row: self::row(row),
        client: row.client.map(|client| client.to_string()),
        shard: row.shard,
        request_bytes: row.bytes[0],
        response_bytes: row.bytes[1],
        overhead: row.overhead.seconds(),
        explain: explain::exchange(&watch, row),
    }))
}

pub(in crate::admin) fn row(row: &Exchange) -> Row {
    let tokens = |kind: usize| row.tokens.map(|tokens| tokens[kind]);
    let text = |name: &Option<Box<str>>| name.as_deref().map(str::to_owned);
    Row {
        number: row.number,
        at_unix_ms: row.at_unix_ms,
        id: row.request_id.to_string(),
        key: text(&row.key),
        model: text(&row.model),
        fallback_for: text(&row.fallback_for),
        backend: text(&row.backend),
        api: row.api,
        status: row.status,
        reason: row.fault.map(|kind| kind.code()),
        side: row.fault.map(|kind| match kind.side() {
            Side::Client => "client",
            Side::Backend => "backend",
            Side::Gateway => "gateway",
        }),
        stream: row.stream,
        attempts: row.attempts,
        input_tokens: tokens(0),
        cached_tokens: tokens(1),
        output_tokens: tokens(2),
        reasoning_tokens: tokens(3),
        estimated: row.estimated,
        ttft: row.first_token.map(Nanos::seconds),
        duration: row.duration.seconds(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        for (pattern, text, matches) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("!a*", "b", true),
            ("!a*", "ab", false),
            ("<b>", "<b>", true),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }
}
