//! The ledger: what was used, by whom, for as long as it is kept, and what operators did. Read from the store on a thread that
//! may block; what shards settled a moment ago is there within a quarter of a second.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::{Problem, Shared, json};
use crate::admin::Caller;
use crate::store::audit::SealedEntry;
use crate::store::requests::Cursor;
use crate::store::{self, Group, Request, RequestFilter, Store, UsageFilter, UsageRow};

/// Rows of one page, and the most that may be asked for.
const PAGE: usize = 50;
const PAGE_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UsageQuery {
    /// `key`, `team`, `user`, `model`, `backend`, `api`, `hour`, `day` or `total`.
    by: Group,
    /// Unix milliseconds.
    #[serde(default)]
    since: u64,
    until: Option<u64>,
    key: Option<String>,
    team: Option<String>,
    user: Option<String>,
    model: Option<String>,
    backend: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestsQuery {
    /// `next` of the page before.
    after: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    since: u64,
    until: Option<u64>,
    key: Option<String>,
    team: Option<String>,
    model: Option<String>,
    backend: Option<String>,
    id: Option<String>,
    #[serde(default)]
    failed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// The sequence before which the page starts: the last one of the page before.
    before: Option<u64>,
    limit: Option<usize>,
    #[serde(default)]
    since: u64,
}

/// Sums of a group, one row for each model and backend in it: prices differ by those.
#[derive(Serialize)]
struct Usage {
    rows: Vec<UsageRow>,
}

#[derive(Serialize)]
struct Requests {
    requests: Vec<Request>,
    /// `after` of the next page; absent on the last.
    next: Option<String>,
}

#[derive(Serialize)]
struct Audit {
    entries: Vec<SealedEntry>,
}

pub(super) async fn usage(
    State(shared): State<Shared>,
    caller: Caller,
    query: Query<UsageQuery>,
) -> Result<Response, Problem> {
    let Query(mut query) = query;
    query.team = confined(&caller, query.team)?;
    let filter = UsageFilter {
        since_ms: query.since,
        until_ms: query.until,
        key: query.key,
        team: query.team,
        user: query.user,
        model: query.model,
        backend: query.backend,
    };
    let rows = read(&shared, move |store| store.usage(query.by, &filter)).await?;
    Ok(json(&Usage { rows }))
}

pub(super) async fn requests(
    State(shared): State<Shared>,
    caller: Caller,
    query: Query<RequestsQuery>,
) -> Result<Response, Problem> {
    let Query(mut query) = query;
    query.team = confined(&caller, query.team)?;
    let after = match query.after.as_deref().map(Cursor::parse) {
        Some(None) => return Err(Problem::invalid("after: expected `next` of another page")),
        after => after.flatten(),
    };
    let filter = RequestFilter {
        since_ms: query.since,
        until_ms: query.until,
        key: query.key,
        team: query.team,
        model: query.model,
        backend: query.backend,
        request_id: query.id,
        failed: query.failed,
        after,
    };
    let most = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let mut requests = read(&shared, move |store| store.requests(&filter, most + 1)).await?;
    let next = requests.len() > most;
    requests.truncate(most);
    let next = requests.last().filter(|_| next).map(|last| last.cursor.text());
    Ok(json(&Requests { requests, next }))
}

pub(super) async fn audit(
    State(shared): State<Shared>,
    query: Query<AuditQuery>,
) -> Result<Response, Problem> {
    let Query(query) = query;
    let most = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let entries = read(&shared, move |store| store.audit(query.since, query.before, most)).await?;
    Ok(json(&Audit { entries }))
}

/// The team that is asked for: a caller who is confined to one asks for that one.
pub(super) fn confined(caller: &Caller, team: Option<String>) -> Result<Option<String>, Problem> {
    match (caller.team(), team) {
        (None, team) => Ok(team),
        (Some(own), Some(other)) if own != other => Err(super::forbidden(caller)),
        (Some(own), _) => Ok(Some(own.to_owned())),
    }
}

/// Asks the store on a thread that may block.
pub(super) async fn read<T: Send + 'static>(
    shared: &Shared,
    query: impl FnOnce(&Store) -> store::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    let ledger = shared.current.load().settings.ledger.clone();
    let Some(ledger) = ledger else {
        return Err(Problem::not_found(
            "usage is not kept: [store] is off, or its directory cannot be written to",
        ));
    };
    let busy = |error: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", error);
    let asked = tokio::task::spawn_blocking(move || query(&Store::read(ledger.database())?)).await;
    asked.map_err(|error| busy(error.to_string()))?.map_err(|error| busy(error.to_string()))
}
