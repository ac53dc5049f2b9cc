//! What a request takes of one budget, and why it may be refused.

use super::caller::RETRY_SOON;
use super::wanted::{OUTPUT_MIN, Taken, Wanted, share};
use crate::error::{Fault, FaultKind};
use crate::plan::BudgetRow;
use crate::policy::limits::budget::{Money, Reservation, Spent, Standing, Unit};
use crate::sync::Ordering;

/// Takes what a request may cost of one budget.
pub(super) fn take_budget(
    row: &BudgetRow,
    cells: &Spent,
    wanted: &Wanted,
    unix_ms: u64,
) -> Result<(Reservation, Taken), Fault> {
    let BudgetRow { budget, .. } = row;
    let cost = wanted.cost(budget).ok_or_else(|| unpriced(row))?;
    if budget.shadow {
        let held = cells.take(budget, cost.all, unix_ms).unwrap_or_else(|_| {
            cells.would_refuse.fetch_add(1, Ordering::Relaxed);
            cells.take_anyway(budget, cost.all, unix_ms)
        });
        return Ok((held, Taken { amount: cost.all, is_slice: false, output_cap: None }));
    }
    if cost.text > budget.most {
        return Err(never_fits(row, wanted.text));
    }
    if cells.growing.is_anybody_waiting() {
        return Err(all_reserved(row, 0));
    }
    let standing = cells.standing(&budget.window, unix_ms);
    let left = budget.most.saturating_sub(standing.used.saturating_add(standing.away));
    if cost.is_slice && !wanted.is_stream && left < cost.model_max && cost.least <= budget.most {
        let mut held = cells.take(budget, 0, unix_ms).map_err(|standing| used_up(row, 0, &standing))?;
        cells.grow(budget, &mut held, |left| share(left, cost.prompt, cost.slice), unix_ms);
        let taken = wanted.rest(budget.unit, held.amount());
        // Where output costs nothing, the prompt has to be there all the same.
        let is_enough = held.amount() >= cost.least && taken.output_cap.is_some_and(|cap| cap >= OUTPUT_MIN);
        if is_enough {
            return Ok((held, taken));
        }
        held.settle(0);
        return Err(used_up(row, cost.least, &cells.standing(&budget.window, unix_ms)));
    }
    let held = cells.take(budget, cost.all, unix_ms).map_err(|standing| used_up(row, cost.all, &standing))?;
    Ok((held, Taken { amount: cost.all, is_slice: cost.is_slice, output_cap: None }))
}

/// The refusal of a request that a budget has no room for: for good if what is settled leaves none, for now if requests that run
/// have taken the rest.
#[cold]
pub(super) fn used_up(row: &BudgetRow, cost: u64, standing: &Standing) -> Fault {
    let BudgetRow { name, budget } = row;
    let amount = |count: u64| match budget.unit {
        Unit::Tokens => count.to_string(),
        Unit::Money => Money(count).to_string(),
    };
    let (holder, used) = (&name.holder, standing.used.saturating_sub(standing.reserved));
    if used.saturating_add(cost) <= budget.most {
        return all_reserved(row, standing.away);
    }
    let note = format!(
        "budget exceeded: {holder} has used {} of {budget}, and this request may use {}; it resets at {}",
        amount(used),
        amount(cost),
        budget.window.instant(standing.reset_ms)
    );
    Fault::new(FaultKind::BudgetExceeded, note)
}

/// The refusal of a request while those that run have taken, or wait for, the rest.
#[cold]
pub(super) fn all_reserved(row: &BudgetRow, away: u64) -> Fault {
    let (holder, budget) = (&row.name.holder, &row.budget);
    let who = if away > 0 { "requests in flight, or other gateways," } else { "requests in flight" };
    let note = format!("{who} have taken the rest of the budget of {holder}: {budget}");
    Fault::new(FaultKind::BudgetReserved, note).retry_after(RETRY_SOON)
}

#[cold]
fn never_fits(row: &BudgetRow, tokens: u64) -> Fault {
    let (holder, budget) = (&row.name.holder, &row.budget);
    let note = format!(
        "the text of the request is about {tokens} tokens, more than the whole budget of {holder}: {budget}"
    );
    Fault::new(FaultKind::TokensNeverFit, note)
}

/// `config` refuses such a plan.
#[cold]
pub(super) fn unpriced(row: &BudgetRow) -> Fault {
    let note = format!("the model has no price, which the budget of {} needs", row.name.holder);
    Fault::new(FaultKind::BudgetExceeded, note)
}
