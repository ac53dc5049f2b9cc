//! What the limits of a key would say to a small request now, with nothing taken and nothing counted.

use super::budget::{all_reserved, unpriced, used_up};
use super::caller::{Caller, RETRY_SOON, callers};
use super::wanted::{At, OUTPUT_MIN, Wanted};
use crate::error::{Fault, FaultKind};
use crate::plan::{BudgetRow, Plan};
use crate::policy::limits::bucket::Wait;
use crate::policy::limits::budget::Spent;
use crate::units::{KeyId, ModelId, Nanos};

/// Why the smallest request that a key can send would be refused: one of a token, for a response of a few. `model`: the one that
/// it asks for, where that is known; without one, budgets of money only have to have something left.
///
/// Limits in the shadow refuse nothing. Limits of end users are not looked at: they are those of a request.
pub fn foresee(plan: &Plan, key: KeyId, model: Option<ModelId>, at: At) -> Option<Fault> {
    let wanted = Wanted {
        text: 1,
        prompt: 1,
        output_max: Some(OUTPUT_MIN),
        choices: 1,
        slice: OUTPUT_MIN,
        price: model.and_then(|model| plan.price(model, None)).copied(),
        is_stream: false,
        model_max: OUTPUT_MIN,
        home: 0,
    };
    let entered = callers(plan, key, None).find_map(|caller| caller.foresee_entry(at.now));
    let tokens = || callers(plan, key, None).find_map(|caller| caller.foresee_tokens(&wanted, at.now));
    let budgets = || {
        plan.key(key).grant.budgets.iter().find_map(|id| {
            let (row, cells) = (plan.budgets.row(*id), plan.budgets.cells(*id));
            budget(row, cells, &wanted, model.is_some(), at.unix_ms)
        })
    };
    entered.or_else(tokens).or_else(budgets)
}

impl Caller<'_> {
    fn foresee_entry(&self, now: Nanos) -> Option<Fault> {
        let most = self.limits.in_flight_max;
        if !self.limits.shadow.in_flight && self.cells.in_flight.count() >= most {
            return Some(self.too_many_in_flight());
        }
        let rate = self.limits.requests.as_ref().filter(|_| !self.limits.shadow.requests)?;
        let is_empty = self.cells.requests.peek(rate, now).remaining == 0;
        is_empty.then(|| self.exceeded(Wait::For(RETRY_SOON), FaultKind::RequestsExceeded, rate, "requests"))
    }

    fn foresee_tokens(&self, wanted: &Wanted, now: Nanos) -> Option<Fault> {
        let rate = self.limits.tokens.as_ref().filter(|_| !self.limits.shadow.tokens)?;
        let is_short = self.cells.growing.is_anybody_waiting()
            || self.cells.tokens.peek(rate, now).remaining < wanted.tokens(rate.burst).0;
        is_short.then(|| self.exceeded(Wait::For(RETRY_SOON), FaultKind::TokensExceeded, rate, "tokens"))
    }
}

fn budget(row: &BudgetRow, cells: &Spent, wanted: &Wanted, has_model: bool, unix_ms: u64) -> Option<Fault> {
    let BudgetRow { budget, .. } = row;
    let cost = match wanted.cost(budget) {
        Some(cost) => cost.all,
        None if has_model => return Some(unpriced(row)),
        None => 1,
    };
    let standing = cells.standing(&budget.window, unix_ms);
    if budget.shadow {
        return None;
    }
    if cells.growing.is_anybody_waiting() {
        return Some(all_reserved(row, 0));
    }
    (standing.used.saturating_add(standing.away).saturating_add(cost) > budget.most)
        .then(|| used_up(row, cost, &standing))
}
