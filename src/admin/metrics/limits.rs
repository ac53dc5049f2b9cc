//! The families about limits in the shadow and about end users. Never by an end user's name: their number has no bound that
//! Prometheus could bear.

use std::sync::atomic::Ordering;

use crate::coordinator::Watch;
use crate::observe::prometheus::Page;
use crate::policy::limits::caller::{CallerCells, CallerLimits};

/// One line for each limit that is in the shadow; nothing about end users where no key may name one.
pub(super) fn limits(page: &mut Page, watch: &Watch) {
    let shadows = shadows(watch);
    if !shadows.is_empty() {
        let mut family = page.counter(
            "ringway_limit_shadow_refusals_total",
            "Requests that a limit in the shadow would have refused.",
        );
        for (holder, limit, count) in shadows.into_iter().take(SHADOWS_MAX) {
            family.count(&[("holder", &holder), ("limit", &limit)], count);
        }
    }
    let Some(rules) = &watch.plan.users else { return };
    page.gauge("ringway_end_users", "End users whose use is kept in mind, of at most [end_users] kept.")
        .count(&[], rules.table.count() as u64);
    page.counter(
        "ringway_end_users_forgotten_total",
        "End users forgotten, with what they had used, to make room for others.",
    )
    .count(&[], rules.table.evicted());
}

/// Whose limit, which, and how often it would have refused.
fn shadows(watch: &Watch) -> Vec<(String, String, u64)> {
    let plan = &watch.plan;
    let mut list = Vec::new();
    for id in plan.keys.ids() {
        let row = plan.keys.row(id);
        of_caller(format!("key {}", row.name), &row.grant.limits, plan.keys.cells(id), &mut list);
    }
    for id in plan.teams.ids() {
        let row = plan.teams.row(id);
        of_caller(format!("team {}", row.name), &row.limits, plan.teams.cells(id), &mut list);
    }
    for id in plan.budgets.ids().filter(|id| plan.budgets.row(*id).budget.shadow) {
        let row = plan.budgets.row(id);
        let count = plan.budgets.cells(id).would_refuse.load(Ordering::Relaxed);
        list.push((row.name.holder.to_string().replace('\'', ""), row.budget.to_string(), count));
    }
    list
}

fn of_caller(
    holder: String,
    limits: &CallerLimits,
    cells: &CallerCells,
    list: &mut Vec<(String, String, u64)>,
) {
    let shadow = limits.shadow;
    for (is_shadow, name, cell) in [
        (shadow.requests, "requests_per_minute", &cells.would_refuse[0]),
        (shadow.tokens, "tokens_per_minute", &cells.would_refuse[1]),
        (shadow.in_flight, "in_flight_max", &cells.would_refuse[2]),
    ] {
        if is_shadow {
            list.push((holder.clone(), name.to_owned(), cell.load(Ordering::Relaxed)));
        }
    }
}

/// Lines of limits in the shadow: they are there to be tried out. Chosen, not measured.
const SHADOWS_MAX: usize = 200;
