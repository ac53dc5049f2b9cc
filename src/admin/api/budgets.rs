//! Budgets of keys and teams: how much of each is used, and setting one.

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::change::write;
use super::{Problem, Shared, body, json};
use crate::admin::Caller;
use crate::clock;
use crate::coordinator::Watch;
use crate::coordinator::roster::Change;
use crate::plan::{BudgetRow, Holder};
use crate::policy::limits::budget::{MONEY, Unit};
use crate::store::AccessKind;
use crate::units::BudgetId;

/// Rows of one response.
const ROWS_MAX: usize = 500;

/// One budget, as it stands now.
#[derive(JsonSchema, Serialize, Clone)]
pub(super) struct Budget {
    /// `key` or `team`.
    of: &'static str,
    /// Whose it is.
    name: String,
    /// `tokens` or `money`.
    pub(super) unit: &'static str,
    /// `minute`, `hour`, `day`, `week` or `month`.
    pub(super) per: &'static str,
    /// The zone of its calendar; absent for a rolling window.
    zone: Option<String>,
    pub(super) max: f64,
    /// Settled.
    pub(super) used: f64,
    /// Held by requests in flight.
    reserved: f64,
    start_unix_ms: u64,
    /// When its window ends.
    pub(super) reset_unix_ms: u64,
}

#[derive(JsonSchema, Serialize)]
pub(super) struct Budgets {
    total: usize,
    budgets: Vec<Budget>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Of {
    key: Option<String>,
    team: Option<String>,
}

pub(super) async fn list(State(shared): State<Shared>, caller: Caller, of: Query<Of>) -> Response {
    let watch = shared.current.load_full();
    let plan = &watch.plan;
    let is_seen = |row: &BudgetRow| match (&row.name.holder, caller.team()) {
        (Holder::Team(name), Some(team)) => **name == *team,
        (Holder::Key(name), Some(team)) => {
            plan.key_named(name).and_then(|key| key.team).is_some_and(|of| *plan.teams.row(of).name == *team)
        }
        (Holder::EndUser, _) => false, // one for each, none of them to be listed
        (_, None) => true,
    };
    let is_meant = |row: &BudgetRow| match &row.name.holder {
        Holder::Key(name) => of.team.is_none() && of.key.as_deref().is_none_or(|key| key == &**name),
        Holder::EndUser => false,
        Holder::Team(name) => of.key.is_none() && of.team.as_deref().is_none_or(|team| team == &**name),
    };
    let ids: Vec<BudgetId> = plan
        .budgets
        .ids()
        .filter(|id| is_seen(plan.budgets.row(*id)) && is_meant(plan.budgets.row(*id)))
        .collect();
    let budgets = ids.iter().take(ROWS_MAX).map(|id| budget(&watch, *id)).collect();
    json(&Budgets { total: ids.len(), budgets })
}

/// The budgets of one holder.
pub(super) fn of_holder(watch: &Watch, holder: &Holder) -> Vec<Budget> {
    let plan = &watch.plan;
    let start = plan.budgets.partition_point(|row| row.name.holder < *holder);
    let ids = (start..plan.budgets.len()).take_while(|index| plan.budgets[*index].name.holder == *holder);
    ids.map(|index| budget(watch, BudgetId::new(index))).collect()
}

fn budget(watch: &Watch, id: BudgetId) -> Budget {
    let row = watch.plan.budgets.row(id);
    let window = &row.budget.window;
    let standing = watch.plan.budgets.cells(id).standing(window, clock::unix_ms());
    let (unit, scale) = match row.budget.unit {
        Unit::Tokens => ("tokens", 1.0),
        Unit::Money => ("money", MONEY as f64),
    };
    let amount = |count: u64| count as f64 / scale;
    let (of, name) = match &row.name.holder {
        Holder::Key(name) => ("key", name.to_string()),
        Holder::Team(name) => ("team", name.to_string()),
        Holder::EndUser => ("end_user", String::new()),
    };
    Budget {
        of,
        name,
        unit,
        per: window.per().name(),
        zone: window.zone().map(str::to_owned),
        max: amount(row.budget.most),
        used: amount(standing.used.saturating_sub(standing.reserved)),
        reserved: amount(standing.reserved),
        start_unix_ms: standing.start_ms,
        reset_unix_ms: standing.reset_ms,
    }
}

/// `PUT /api/v1/budgets`: `key` or `team`, and the budget as in the configuration.
pub(super) async fn set(
    State(shared): State<Shared>,
    caller: Caller,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let (kind, name, budget) = of_body(&bytes)?;
    let change = Change::SetBudget { kind, name: name.clone(), budget };
    done(&shared, &caller, kind, &name, change).await
}

/// `DELETE /api/v1/budgets`, with the same body; its amount does not matter.
pub(super) async fn remove(
    State(shared): State<Shared>,
    caller: Caller,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let (kind, name, budget) = of_body(&bytes)?;
    let change = Change::RemoveBudget { kind, name: name.clone(), budget };
    done(&shared, &caller, kind, &name, change).await
}

async fn done(
    shared: &Shared,
    caller: &Caller,
    kind: AccessKind,
    name: &str,
    change: Change,
) -> Result<Response, Problem> {
    write(shared, caller, change).await?;
    let holder = match kind {
        AccessKind::Team => Holder::Team(name.into()),
        _ => Holder::Key(name.into()),
    };
    let budgets = of_holder(&shared.current.load(), &holder);
    Ok(json(&Budgets { total: budgets.len(), budgets }))
}

fn of_body(bytes: &[u8]) -> Result<(AccessKind, String, Map<String, Value>), Problem> {
    let mut members: Map<String, Value> = body(bytes)?;
    match (members.remove("key"), members.remove("team")) {
        (Some(Value::String(name)), None) => Ok((AccessKind::Key, name, members)),
        (None, Some(Value::String(name))) => Ok((AccessKind::Team, name, members)),
        _ => Err(Problem::invalid("expected either key or team, with the name of one")),
    }
}
