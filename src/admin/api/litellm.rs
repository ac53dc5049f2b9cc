//! The calls of LiteLLM's proxy that scripts make most: `/key/generate`, `/key/info`, `/key/delete`, `/spend/logs`, `/model/info`. They
//! stand on the same rows and checks as `/api/v1`; a member that would limit something and has no counterpart here is refused.

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::change::write;
use super::ledger::{confined, read};
use super::{Problem, Shared, body, views};
use crate::admin::Caller;
use crate::clock;
use crate::config::quantity::Time;
use crate::coordinator::Watch;
use crate::coordinator::roster::Change;
use crate::plan::{Plan, Used};
use crate::policy::auth::credential;
use crate::policy::limits::budget::{MONEY, Unit};
use crate::policy::limits::price::Charge;
use crate::store::{AccessKind, Group, RequestFilter, UsageFilter};
use crate::units::hex;

/// Rows of `/spend/logs`.
const LOGS_MAX: usize = 200;
/// Keys of one `/key/delete`.
const DELETED_MAX: usize = 50;

/// `POST /key/generate`.
pub(super) async fn generate(
    State(shared): State<Shared>,
    caller: Caller,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let asked: Map<String, Value> = if bytes.is_empty() { Map::new() } else { body(&bytes)? };
    let (name, members) = members(&asked, clock::unix_ms())?;
    let change = Change::Create { kind: AccessKind::Key, name: name.clone(), members };
    let changed = write(&shared, &caller, change).await?;
    let secret = changed.secret.unwrap_or_default();
    let mut told = info(&shared.current.load(), &name).unwrap_or_default();
    told.insert("key".to_owned(), json!(secret));
    told.insert("token".to_owned(), json!(hex(&credential::digest(secret.as_bytes()))));
    Ok(super::json(&told))
}

/// The name, and the members of `[key.NAME]` that say the same.
fn members(asked: &Map<String, Value>, now_ms: u64) -> Result<(String, Map<String, Value>), Problem> {
    let mut members = Map::new();
    let mut metadata = Map::new();
    let mut name = format!("key-{now_ms}");
    let expected = |member: &str, what: &str| Problem::invalid(format!("{member}: expected {what}"));
    for (member, value) in asked {
        let is_empty = value.is_null()
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(Map::is_empty);
        if is_empty {
            continue;
        }
        let renamed = match member.as_str() {
            "models" | "tags" => member.as_str(),
            "team_id" => "team",
            "tpm_limit" => "tokens_per_minute",
            "rpm_limit" => "requests_per_minute",
            "max_parallel_requests" => "in_flight_max",
            "key_alias" => {
                name = value.as_str().ok_or_else(|| expected(member, "a text"))?.to_owned();
                continue;
            }
            "user_id" => {
                metadata.insert("user_id".to_owned(), value.clone());
                continue;
            }
            "metadata" => {
                let notes = value.as_object().ok_or_else(|| expected(member, "an object"))?;
                metadata.extend(notes.iter().map(|(name, note)| (name.clone(), text(note).into())));
                continue;
            }
            "duration" => {
                let span = value.as_str().and_then(Time::parse);
                let span = span.ok_or_else(|| expected(member, "a time like \"30d\" or \"12h\""))?;
                let end = (now_ms + span.0.0 / 1_000_000).min(i64::MAX as u64) as i64;
                let end = Timestamp::from_millisecond(end).map_err(|_| expected(member, "less time"))?;
                members.insert("expires".to_owned(), json!(end.to_string()));
                continue;
            }
            "max_budget" | "budget_duration" => continue,
            other => {
                let text =
                    format!("{other}: has no counterpart here; leave it out, or use POST /api/v1/keys");
                return Err(Problem::invalid(text));
            }
        };
        members.insert(renamed.to_owned(), value.clone());
    }
    if let Some(most) = asked.get("max_budget").filter(|most| !most.is_null()) {
        let per = match asked.get("budget_duration").and_then(Value::as_str) {
            Some("1h") => "hour",
            Some("1d" | "24h") => "day",
            Some("7d" | "1w") => "week",
            Some("30d" | "1mo") => "month",
            _ => {
                return Err(expected(
                    "budget_duration",
                    "\"1h\", \"1d\", \"7d\" or \"30d\" beside max_budget",
                ));
            }
        };
        members.insert("budgets".to_owned(), json!([{ "money": most, "per": per }]));
    }
    if !metadata.is_empty() {
        members.insert("metadata".to_owned(), metadata.into());
    }
    Ok((name, members))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[derive(Deserialize)]
pub(super) struct Which {
    /// The key itself, its SHA-256 in hex, or its name.
    key: Option<String>,
}

/// `GET /key/info`.
pub(super) async fn key_info(
    State(shared): State<Shared>,
    caller: Caller,
    which: Query<Which>,
) -> Result<Response, Problem> {
    let watch = shared.current.load_full();
    let Some(key) = which.key.as_deref() else { return Err(Problem::invalid("key: is missing")) };
    let name = named(&watch, key).filter(|name| {
        let found = views::any_key(&watch, name);
        found.is_some_and(|found| caller.team().is_none_or(|team| found.is_of(team)))
    });
    let Some(name) = name else { return Err(Problem::not_found("there is no such key")) };
    let mut told = info(&watch, &name).unwrap_or_default();
    told.insert("spend".to_owned(), spend(&shared, &watch, &name).await?);
    Ok(super::json(&json!({ "key": name, "info": told })))
}

/// The name of a key that is given as itself, by its digest or by its name.
fn named(watch: &Watch, key: &str) -> Option<String> {
    let of_digest =
        |digest: &[u8; 32]| watch.plan.key_table.find(digest).map(|id| watch.plan.key(id).name.to_string());
    let digest = (key.len() == 64).then(|| {
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(key.as_bytes().as_chunks::<2>().0) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(digest)
    });
    let found = of_digest(&credential::digest(key.as_bytes())).or_else(|| of_digest(&digest.flatten()?));
    found.or_else(|| views::any_key(watch, key).map(|_| key.to_owned()))
}

/// A key in LiteLLM's words.
fn info(watch: &Watch, name: &str) -> Option<Map<String, Value>> {
    let view = serde_json::to_value(views::any_key(watch, name)?).ok()?;
    let limit = |limit: &str| {
        let found = view["limits"].as_array()?.iter().find(|row| row["name"] == limit)?;
        Some(found["max"].clone())
    };
    let budget = view["budgets"].as_array().and_then(|all| all.iter().find(|row| row["unit"] == "money"));
    let time = |at: &Value| {
        at.as_u64().and_then(|at| Timestamp::from_millisecond(at as i64).ok()).map(|at| at.to_string())
    };
    let told = json!({
        "key_alias": name,
        "key_name": view["public_id"].as_str().map(|id| format!("sk-rw-{id}-...")),
        "team_id": view["team"],
        "models": view["models"].as_array().cloned().unwrap_or_default(),
        "expires": time(&view["expires_unix_ms"]),
        "created_at": time(&view["created_unix_ms"]),
        "blocked": view["state"] == "revoked",
        "tpm_limit": limit("tokens_per_minute"),
        "rpm_limit": limit("requests_per_minute"),
        "max_parallel_requests": limit("in_flight"),
        "max_budget": budget.map(|row| row["max"].clone()),
        "metadata": view["metadata"],
        "tags": view["tags"],
    });
    told.as_object().cloned()
}

/// What a key has cost, by the prices of now; null if nothing it used has a price.
async fn spend(shared: &Shared, watch: &Watch, name: &str) -> Result<Value, Problem> {
    let filter = UsageFilter { key: Some(name.to_owned()), ..UsageFilter::default() };
    let rows = read(shared, move |store| store.usage(Group::Total, &filter)).await?;
    let costs: Vec<Option<u64>> = rows
        .iter()
        .map(|row| {
            let sums = &row.sums;
            let charge = Charge::of_counts(
                sums.input_tokens,
                sums.cached_tokens,
                sums.cache_write_tokens,
                sums.output_tokens,
            );
            cost(&watch.plan, &row.model, &row.backend, charge)
        })
        .collect();
    let is_unpriced = !costs.is_empty() && costs.iter().all(Option::is_none);
    let sum: u64 = costs.into_iter().flatten().sum();
    Ok(if is_unpriced { Value::Null } else { json!(sum as f64 / MONEY as f64) })
}

/// In parts of [`MONEY`]; `None` without a price.
fn cost(plan: &Plan, model: &str, backend: &str, charge: Charge) -> Option<u64> {
    let id = plan.find_model(model)?;
    plan.price(id, plan.backends.find(backend))?;
    Some(plan.amount(Unit::Money, &[Used { model: model.into(), backend: backend.into(), charge }]))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deletion {
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    key_aliases: Vec<String>,
}

/// `POST /key/delete`: revokes them, one after the other; the first that cannot be ends it.
pub(super) async fn delete(
    State(shared): State<Shared>,
    caller: Caller,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let Deletion { keys, key_aliases } = body(&bytes)?;
    if keys.len() + key_aliases.len() > DELETED_MAX {
        return Err(Problem::invalid(format!("keys: expected at most {DELETED_MAX}")));
    }
    let mut deleted = Vec::new();
    for key in keys.iter().chain(&key_aliases) {
        let name = named(&shared.current.load(), key);
        let Some(name) = name else { return Err(Problem::not_found("there is no such key")) };
        write(&shared, &caller, Change::Revoke { kind: AccessKind::Key, name }).await?;
        deleted.push(key);
    }
    Ok(super::json(&json!({ "deleted_keys": deleted })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Logs {
    api_key: Option<String>,
    request_id: Option<String>,
    /// `2026-11-01`, UTC.
    start_date: Option<String>,
    end_date: Option<String>,
}

/// `GET /spend/logs`: the newest settled requests.
pub(super) async fn logs(
    State(shared): State<Shared>,
    caller: Caller,
    asked: Query<Logs>,
) -> Result<Response, Problem> {
    let Query(asked) = asked;
    let watch = shared.current.load_full();
    let date = |name: &str, text: Option<String>| {
        let at = text.map(|text| {
            format!("{text}T00:00:00Z").parse::<Timestamp>().map(|at| at.as_millisecond().max(0) as u64)
        });
        at.transpose().map_err(|_| Problem::invalid(format!("{name}: expected a date like 2026-11-01")))
    };
    let key = match asked.api_key.as_deref().map(|key| named(&watch, key)) {
        Some(None) => return Err(Problem::not_found("there is no such key")),
        key => key.flatten(),
    };
    let filter = RequestFilter {
        since_ms: date("start_date", asked.start_date)?.unwrap_or(0),
        until_ms: date("end_date", asked.end_date)?,
        key,
        team: confined(&caller, None)?,
        request_id: asked.request_id,
        ..RequestFilter::default()
    };
    let rows = read(&shared, move |store| store.requests(&filter, LOGS_MAX)).await?;
    let time = |ms: u64| Timestamp::from_millisecond(ms as i64).map(|at| at.to_string()).ok();
    let row = |row: &crate::store::Request| {
        let charge =
            Charge::of_counts(row.input_tokens, row.cached_tokens, row.cache_write_tokens, row.output_tokens);
        let cost = cost(&watch.plan, &row.model, &row.backend, charge);
        json!({
            "request_id": row.request_id,
            "api_key": row.key,
            "team_id": row.team,
            "model": row.model,
            "call_type": row.api,
            "spend": cost.map(|cost| cost as f64 / MONEY as f64),
            "prompt_tokens": row.input_tokens,
            "completion_tokens": row.output_tokens,
            "total_tokens": row.input_tokens + row.output_tokens,
            "startTime": time(row.at_ms),
            "endTime": time(row.at_ms + row.duration_us / 1_000),
            "status": if row.fault.is_empty() { "success" } else { "failure" },
        })
    };
    Ok(super::json(&rows.iter().map(row).collect::<Vec<_>>()))
}

/// `GET /model/info`.
pub(super) async fn models(State(shared): State<Shared>) -> Response {
    let watch = shared.current.load_full();
    let plan = &watch.plan;
    let price = |per_million: u64| per_million as f64 / MONEY as f64 / 1e6;
    let rows = plan.models.iter().flat_map(|model| model.pool.iter().map(move |member| (model, member)));
    let rows = rows.take(500).map(|(model, member)| {
        let backend = plan.backends.row(member.backend);
        json!({
            "model_name": &*model.name,
            "litellm_params": { "model": format!("{}/{}", backend.provider.kind.name(), plan.deployments.row(member.deployment).model) },
            "model_info": {
                "id": format!("{}@{}", model.name, backend.name),
                "max_input_tokens": model.context_length,
                "input_cost_per_token": member.price.as_ref().map(|cost| price(cost.input)),
                "output_cost_per_token": member.price.as_ref().map(|cost| price(cost.output)),
            },
        })
    });
    super::json(&json!({ "data": rows.collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<(String, Map<String, Value>), String> {
        members(&serde_json::from_str(text).unwrap(), 1_000).map_err(|problem| problem.message)
    }

    #[test]
    fn members_of_litellm_become_those_of_a_key() {
        let (name, members) = of(r#"{"key_alias":"ci","models":["llama"],"team_id":"a","rpm_limit":5,"tpm_limit":6,
            "max_parallel_requests":7,"duration":"1h","max_budget":2.5,"budget_duration":"30d","user_id":"u","metadata":{"n":1},
            "aliases":{},"permissions":{},"guardrails":null}"#)
        .unwrap();
        assert_eq!(name, "ci");
        let expected = json!({
            "models": ["llama"], "team": "a", "requests_per_minute": 5, "tokens_per_minute": 6, "in_flight_max": 7,
            "expires": "1970-01-01T01:00:01Z", "budgets": [{ "money": 2.5, "per": "month" }],
            "metadata": { "user_id": "u", "n": "1" },
        });
        assert_eq!(Value::Object(members), expected);
        assert_eq!(of("{}").unwrap().0, "key-1000");
    }

    #[test]
    fn what_would_limit_and_has_no_counterpart_is_refused() {
        for (text, part) in [
            (r#"{"model_max_budget":{"gpt-4o":1}}"#, "model_max_budget: has no counterpart"),
            (r#"{"soft_budget":5}"#, "soft_budget: has no counterpart"),
            (r#"{"max_budget":5}"#, "budget_duration: expected"),
            (r#"{"max_budget":5,"budget_duration":"3d"}"#, "budget_duration: expected"),
            (r#"{"duration":"soon"}"#, "duration: expected a time"),
            (r#"{"key_alias":5}"#, "key_alias: expected a text"),
        ] {
            let refused = of(text).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }
}
