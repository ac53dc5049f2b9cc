//! Keys with their limits, and what each has used.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::views::{self, Key};
use super::{Problem, Shared, json};
use crate::admin::Caller;
use crate::coordinator::Watch;
use crate::coordinator::roster::{Entry, Roster};
use crate::observe::Usage;
use crate::plan::{self, Plan};
use crate::store::AccessKind;

/// Rows of one page, and the most that may be asked for.
const PAGE: usize = 50;
const PAGE_MAX: usize = 200;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Page {
    /// The name after which the page begins.
    after: Option<String>,
    limit: Option<usize>,
    /// A part of the name.
    q: Option<String>,
    team: Option<String>,
}

#[derive(JsonSchema, Serialize)]
pub(super) struct Keys {
    /// Of all, whatever the filter.
    total: usize,
    /// False for an open gateway: requests need no key.
    required: bool,
    keys: Vec<Key>,
    /// `after` of the next page; absent on the last.
    next: Option<String>,
}

/// A key that serves, or one of the store that does not.
#[derive(Clone, Copy)]
enum Listed<'a> {
    Serving(&'a plan::Key),
    Gone(&'a Entry),
}

impl Listed<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Serving(key) => &key.name,
            Self::Gone(entry) => &entry.row.name,
        }
    }

    fn team<'a>(&'a self, plan: &'a Plan) -> Option<&'a str> {
        match self {
            Self::Serving(key) => key.team.map(|team| &*plan.teams.row(team).name),
            Self::Gone(entry) => entry.text("team"),
        }
    }

    fn view(&self, watch: &Watch) -> Key {
        match self {
            Self::Serving(key) => views::key(watch, key),
            Self::Gone(entry) => views::gone(watch, entry),
        }
    }
}

/// All keys in the order of their names.
fn all<'a>(plan: &'a Plan, roster: &'a Roster) -> Vec<Listed<'a>> {
    let gone = roster.of_kind(AccessKind::Key).filter(|entry| plan.key_named(&entry.row.name).is_none());
    let mut rows: Vec<Listed<'_>> =
        plan.keys.iter().map(Listed::Serving).chain(gone.map(Listed::Gone)).collect();
    rows.sort_by(|one, other| one.name().cmp(other.name()));
    rows
}

pub(super) async fn list(State(shared): State<Shared>, caller: Caller, page: Query<Page>) -> Response {
    let watch = shared.current.load_full();
    let (plan, roster) = (&watch.plan, watch.roster.load_full());
    let most = page.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let mut rows = all(plan, &roster);
    rows.retain(|row| caller.team().is_none_or(|team| row.team(plan) == Some(team)));
    let total = rows.len();
    let start = page.after.as_deref().map_or(0, |after| rows.partition_point(|row| row.name() <= after));
    let part = page.q.as_deref().unwrap_or_default().to_lowercase();
    let team = page.team.as_deref();
    let mut found = rows[start..].iter().filter(|row| {
        let in_team = team.is_none_or(|team| row.team(plan) == Some(team));
        in_team && (part.is_empty() || row.name().to_lowercase().contains(&part))
    });
    let keys: Vec<Key> = found.by_ref().take(most).map(|row| row.view(&watch)).collect();
    let next = found.next().and(keys.last()).map(|key| key.name.clone());
    json(&Keys { total, required: plan.keys_required, keys, next })
}

pub(super) async fn one(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let watch = shared.current.load_full();
    let found = views::any_key(&watch, &name).filter(|key| caller.team().is_none_or(|team| key.is_of(team)));
    match found {
        Some(key) => Ok(json(&key)),
        None => Err(Problem::not_found(format!("no key is named {name:?}"))),
    }
}

#[derive(JsonSchema, Serialize)]
pub(super) struct Teams {
    total: usize,
    teams: Vec<views::Team>,
}

/// `GET /api/v1/teams`.
pub(super) async fn teams(State(shared): State<Shared>, caller: Caller) -> Response {
    let watch = shared.current.load_full();
    let seen = |team: &&plan::Team| caller.team().is_none_or(|own| own == &*team.name);
    let total = watch.plan.teams.iter().filter(seen).count();
    let teams = watch.plan.teams.iter().filter(seen).take(PAGE_MAX).map(|team| views::team(&watch, team));
    json(&Teams { total, teams: teams.collect() })
}

/// `GET /api/v1/teams/{name}`.
pub(super) async fn team(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let watch = shared.current.load_full();
    let found = watch.plan.teams.named(&*name).filter(|_| caller.team().is_none_or(|own| own == name));
    match found {
        Some(team) => Ok(json(&views::team(&watch, team))),
        None => Err(Problem::not_found(format!("no team is named {name:?}"))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// `key`, `model` or `backend`.
    by: Option<String>,
}

/// What was used since the process started.
#[derive(JsonSchema, Serialize)]
pub(super) struct Used {
    by: String,
    since_unix_ms: u64,
    /// Every exchange, also those without a key, a model or a backend.
    total: Row,
    /// The most tokens first.
    rows: Vec<Row>,
    /// Of how many there is no row of their own: `rows` ends with their sum.
    others: usize,
}

#[derive(JsonSchema, Serialize, Clone)]
#[schemars(rename = "CounterRow")]
struct Row {
    name: Option<String>,
    requests: u64,
    failed: u64,
    input_tokens: u64,
    cached_tokens: u64,
    output_tokens: u64,
    reasoning_tokens: u64,
    estimated: u64,
}

/// Rows of a table of usage; the rest is summed.
const ROWS_MAX: usize = 500;

pub(super) async fn usage(State(shared): State<Shared>, group: Query<Group>) -> Result<Response, Problem> {
    let watch = shared.current.load_full();
    let plan = &watch.plan;
    let by = group.by.as_deref().unwrap_or("model");
    let mut rows: Vec<Row> = match by {
        "key" => {
            let usage = |id| watch.usage(|inbox| inbox.tables.key(id));
            plan.keys.iter().map(|row| used(Some(&row.name), &usage(row.id))).collect()
        }
        "model" => {
            let usage = |id| watch.usage(|inbox| inbox.tables.model(id));
            plan.models.iter().map(|row| used(Some(&row.name), &usage(row.id))).collect()
        }
        "backend" => {
            let usage = |id| watch.usage(|inbox| inbox.tables.backend(id));
            plan.backends.iter().map(|row| used(Some(&row.name), &usage(row.id))).collect()
        }
        other => {
            return Err(Problem::invalid(format!("by={other:?}: expected key, model or backend")));
        }
    };
    let total = used(None, &watch.usage(|inbox| inbox.numbers.all()));
    // What no row accounts for is shown, so that rows always add up to the total.
    let mut rest = total.clone();
    rows.iter().for_each(|row| rest.less(row));
    rows.retain(|row| row.requests > 0);
    rows.sort_by_key(|row| std::cmp::Reverse(row.input_tokens + row.output_tokens));
    let others = rows.len().saturating_sub(ROWS_MAX);
    if others > 0 {
        let tail = rows.split_off(ROWS_MAX);
        let mut sum = used(Some(&format!("other ({others})")), &Usage::default());
        tail.iter().for_each(|row| sum.add(row));
        rows.push(sum);
    }
    if rest.requests > 0 {
        rows.push(Row { name: None, ..rest });
    }
    Ok(json(&Used { by: by.to_owned(), since_unix_ms: watch.started_unix_ms, total, rows, others }))
}

fn used(name: Option<&str>, usage: &Usage) -> Row {
    let all = crate::admin::history::requests(usage);
    Row {
        name: name.map(str::to_owned),
        requests: all,
        failed: all.saturating_sub(usage.requests[0]),
        input_tokens: usage.tokens[0],
        cached_tokens: usage.tokens[1],
        output_tokens: usage.tokens[2],
        reasoning_tokens: usage.tokens[3],
        estimated: usage.estimated,
    }
}

impl Row {
    fn numbers(&mut self) -> [&mut u64; 7] {
        [
            &mut self.requests,
            &mut self.failed,
            &mut self.input_tokens,
            &mut self.cached_tokens,
            &mut self.output_tokens,
            &mut self.reasoning_tokens,
            &mut self.estimated,
        ]
    }

    fn add(&mut self, other: &Row) {
        let mut other = other.clone();
        self.numbers().into_iter().zip(other.numbers()).for_each(|(sum, part)| *sum += *part);
    }

    fn less(&mut self, other: &Row) {
        let mut other = other.clone();
        self.numbers()
            .into_iter()
            .zip(other.numbers())
            .for_each(|(rest, part)| *rest = rest.saturating_sub(*part));
    }
}
