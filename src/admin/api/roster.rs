//! Teams, keys, budgets and admin tokens, created and changed while the gateway runs. Those of the configuration file are
//! changed there.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::change::write;
use super::{Problem, Shared, body, json, views, with_status};
use crate::admin::Caller;
use crate::clock;
use crate::coordinator::Watch;
use crate::coordinator::roster::{Change, Changed, Entry, Roster};
use crate::store::AccessKind;

/// What became of a write, once every shard serves by it.
#[derive(JsonSchema, Serialize)]
pub(super) struct Written<T> {
    /// The row as it is now; absent once a team is removed.
    #[serde(flatten)]
    row: Option<T>,
    /// The secret, shown in this response and kept nowhere; of a key that was created or rotated, and of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// The number of the plan that has it.
    generation: u64,
}

/// An admin token: what there is to know of it.
#[derive(JsonSchema, Serialize)]
pub(super) struct AdminToken {
    name: String,
    public_id: String,
    role: String,
    team: Option<String>,
    expires: Option<String>,
    created_unix_ms: u64,
    /// The token that made it, with which it ends; absent if that was the one of the configuration.
    made_by: Option<String>,
    /// valid, expired or revoked; the latter also if the token that made it is.
    state: &'static str,
    /// Absent unless it was revoked itself.
    revoked_unix_ms: Option<u64>,
}

#[derive(JsonSchema, Serialize)]
pub(super) struct AdminTokens {
    tokens: Vec<AdminToken>,
}

/// Tokens of one response: operators are few.
const TOKENS_MAX: usize = 500;

pub(super) async fn create_key(
    State(shared): State<Shared>,
    caller: Caller,
    bytes: Bytes,
) -> Result<Response, Problem> {
    create(&shared, &caller, AccessKind::Key, &bytes, key).await
}

pub(super) async fn update_key(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    caller: Caller,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let change = Change::Update { kind: AccessKind::Key, name, patch: body(&bytes)? };
    make(&shared, &caller, StatusCode::OK, change, key).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// How long the secret before stays valid. 0 ends it now, with its streams.
    #[serde(default = "day")]
    overlap_seconds: u64,
}

const fn day() -> u64 {
    86_400
}

/// The longest overlap: two valid secrets are one too many.
const OVERLAP_SECONDS_MAX: u64 = 30 * 86_400;

pub(super) async fn rotate_key(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    caller: Caller,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    let Rotation { overlap_seconds } = body(text)?;
    if overlap_seconds > OVERLAP_SECONDS_MAX {
        let message = format!("overlap_seconds: is {overlap_seconds}; expected 0 to {OVERLAP_SECONDS_MAX}");
        return Err(Problem::invalid(message));
    }
    let change = Change::Rotate { name, overlap_ms: overlap_seconds * 1_000 };
    make(&shared, &caller, StatusCode::OK, change, key).await
}

pub(super) async fn revoke_key(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    caller: Caller,
) -> Result<Response, Problem> {
    make(&shared, &caller, StatusCode::OK, Change::Revoke { kind: AccessKind::Key, name }, key).await
}

fn key(watch: &Watch, name: &str) -> Option<views::Key> {
    views::any_key(watch, name)
}

pub(super) async fn create_team(
    State(shared): State<Shared>,
    caller: Caller,
    bytes: Bytes,
) -> Result<Response, Problem> {
    create(&shared, &caller, AccessKind::Team, &bytes, team).await
}

pub(super) async fn update_team(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    caller: Caller,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let change = Change::Update { kind: AccessKind::Team, name, patch: body(&bytes)? };
    make(&shared, &caller, StatusCode::OK, change, team).await
}

pub(super) async fn remove_team(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    caller: Caller,
) -> Result<Response, Problem> {
    make(&shared, &caller, StatusCode::OK, Change::Revoke { kind: AccessKind::Team, name }, team).await
}

fn team(watch: &Watch, name: &str) -> Option<views::Team> {
    watch.plan.teams.named(name).map(|row| views::team(watch, row))
}

pub(super) async fn tokens(State(shared): State<Shared>) -> Response {
    let roster = shared.current.load().roster.load_full();
    json(&AdminTokens {
        tokens: roster
            .of_kind(AccessKind::AdminToken)
            .take(TOKENS_MAX)
            .map(|entry| token(&roster, entry))
            .collect(),
    })
}

pub(super) async fn create_token(
    State(shared): State<Shared>,
    caller: Caller,
    bytes: Bytes,
) -> Result<Response, Problem> {
    create(&shared, &caller, AccessKind::AdminToken, &bytes, any_token).await
}

pub(super) async fn revoke_token(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    caller: Caller,
) -> Result<Response, Problem> {
    make(&shared, &caller, StatusCode::OK, Change::Revoke { kind: AccessKind::AdminToken, name }, any_token)
        .await
}

fn any_token(watch: &Watch, name: &str) -> Option<AdminToken> {
    let roster = watch.roster.load();
    roster.find(AccessKind::AdminToken, name).map(|entry| token(&roster, entry))
}

fn token(roster: &Roster, entry: &Entry) -> AdminToken {
    let text = |member: &str| entry.text(member).map(str::to_owned);
    let state = match entry.token_ends() {
        _ if !roster.is_in_force(&entry.row.name) => "revoked",
        Some(end) if end <= clock::unix_ms() => "expired",
        _ => "valid",
    };
    AdminToken {
        name: entry.row.name.clone(),
        public_id: entry.row.public_id.clone(),
        role: text("role").unwrap_or_default(),
        team: text("team"),
        expires: text("expires"),
        created_unix_ms: entry.row.created_ms,
        made_by: text("made_by"),
        state,
        revoked_unix_ms: entry.row.revoked_ms,
    }
}

/// The name in a body, and its other members.
fn named(bytes: &[u8]) -> Result<(String, Map<String, Value>), Problem> {
    let mut members: Map<String, Value> = body(bytes)?;
    match members.remove("name") {
        Some(Value::String(name)) => Ok((name, members)),
        Some(_) => Err(Problem::invalid("name: expected a text")),
        None => Err(Problem::invalid("name: is missing; expected 1 to 128 of a-z, A-Z, 0-9 and - _ .")),
    }
}

/// Makes a new row of a body's members.
async fn create<T: Serialize>(
    shared: &Shared,
    caller: &Caller,
    kind: AccessKind,
    bytes: &[u8],
    row: impl FnOnce(&Watch, &str) -> Option<T>,
) -> Result<Response, Problem> {
    let (name, members) = named(bytes)?;
    make(shared, caller, StatusCode::CREATED, Change::Create { kind, name, members }, row).await
}

/// Makes a change, and responds with its row as it is then.
async fn make<T: Serialize>(
    shared: &Shared,
    caller: &Caller,
    status: StatusCode,
    change: Change,
    row: impl FnOnce(&Watch, &str) -> Option<T>,
) -> Result<Response, Problem> {
    let name = change.row().1.to_owned();
    let Changed { secret, generation } = write(shared, caller, change).await?;
    Ok(with_status(status, &Written { row: row(&shared.current.load(), &name), secret, generation }))
}
