//! What a key may do and where its limits stand: the document of `GET /v1/key`.

use std::fmt::Write as _;

use super::admission::At;
use super::{BudgetRow, Holder, Plan};
use crate::policy::limits::bucket::{Bucket, Rate};
use crate::policy::limits::budget::{Money, Standing, Unit};
use crate::policy::limits::caller::{CallerCells, CallerLimits};
use crate::units::{KeyId, Nanos};
use crate::wire::json::quote;

/// Appends the document: the key's limits and its team's, what is used of each, and when it is there again. Of other keys it says
/// nothing but what their team has used.
pub fn render(plan: &Plan, key: KeyId, at: At, out: &mut Vec<u8>) {
    let row = plan.key(key);
    let mut text = format!("{{\"object\":\"key\",\"name\":{}", quoted(&row.name));
    if let Some(team) = row.team {
        let _ = write!(text, ",\"team\":{}", quoted(&plan.teams.row(team).name));
    }
    if let Some(expires) = &row.credential.expires {
        let _ = write!(text, ",\"expires\":{}", quoted(&expires.written));
    }
    list(&mut text, "tags", row.tags.iter().map(|tag| quoted(tag)));
    let usable = plan.models.iter().filter(|model| row.grant.models[model.id.index()]);
    list(&mut text, "models", usable.map(|model| quoted(&model.name)));
    let apis = row.grant.apis.iter().filter(|api| api.is_for_clients());
    list(&mut text, "apis", apis.map(|api| quoted(api.name())));
    let team =
        row.team.map(|team| limits("team", &plan.teams.row(team).limits, plan.teams.cells(team), at.now));
    let own = limits("key", &row.grant.limits, plan.keys.cells(key), at.now);
    list(&mut text, "limits", own.into_iter().chain(team.into_iter().flatten()));
    let budgets = row.grant.budgets.iter();
    list(
        &mut text,
        "budgets",
        budgets.map(|id| {
            let row = plan.budgets.row(*id);
            budget(row, plan.budgets.cells(*id).standing(&row.budget.window, at.unix_ms))
        }),
    );
    text.push('}');
    out.extend_from_slice(text.as_bytes());
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    quote(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

fn list(text: &mut String, name: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.collect();
    let _ = write!(text, ",\"{name}\":[{}]", items.join(","));
}

/// One object for each limit that there is.
fn limits(of: &str, limits: &CallerLimits, cells: &CallerCells, now: Nanos) -> Vec<String> {
    let rate = |name: &str, rate: &Option<Rate>, bucket: &Bucket| {
        let rate = rate.as_ref()?;
        let room = bucket.peek(rate, now);
        Some(format!(
            "{{\"of\":\"{of}\",\"limit\":\"{name}\",\"most\":{},\"at_once\":{},\"remaining\":{},\"reset_ms\":{}}}",
            rate.per_minute,
            rate.burst,
            room.remaining,
            room.reset.millis()
        ))
    };
    let in_flight = (limits.in_flight_max != u32::MAX).then(|| {
        let (most, used) = (limits.in_flight_max, cells.in_flight.count());
        let remaining = most.saturating_sub(used);
        format!("{{\"of\":\"{of}\",\"limit\":\"in_flight_max\",\"most\":{most},\"used\":{used},\"remaining\":{remaining}}}")
    });
    [
        rate("requests_per_minute", &limits.requests, &cells.requests),
        rate("tokens_per_minute", &limits.tokens, &cells.tokens),
        in_flight,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Amounts of money are numbers with a fraction; every window has its start and its end.
fn budget(row: &BudgetRow, standing: Standing) -> String {
    let BudgetRow { name, budget } = row;
    let amount = |count: u64| match budget.unit {
        Unit::Tokens => count.to_string(),
        Unit::Money => Money(count).to_string(),
    };
    let (of, unit) = (
        if matches!(name.holder, Holder::Key(_)) { "key" } else { "team" },
        if budget.unit == Unit::Tokens { "tokens" } else { "money" },
    );
    let zone = budget
        .window
        .zone()
        .map_or("\"rolling\":true".to_owned(), |zone| format!("\"zone\":{}", quoted(zone)));
    format!(
        "{{\"of\":\"{of}\",\"limit\":\"{unit}\",\"per\":\"{}\",{zone},\"most\":{},\"used\":{},\"reserved\":{},\"remaining\":{},\
         \"start\":\"{}\",\"reset\":\"{}\"}}",
        budget.window.per().name(),
        amount(budget.most),
        amount(standing.used.saturating_sub(standing.reserved)),
        amount(standing.reserved),
        amount(budget.most.saturating_sub(standing.used)),
        budget.window.instant(standing.start_ms),
        budget.window.instant(standing.reset_ms)
    )
}
