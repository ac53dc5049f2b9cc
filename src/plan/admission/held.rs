//! What one exchange has taken of its limits, until it is settled.

use super::caller::{CALLERS_MAX, EndUser};
use super::wanted::Wanted;
use crate::plan::{BudgetRow, Plan};
use crate::policy::limits::budget::{Reservation, Spent};
use crate::policy::limits::price::Price;
use crate::policy::limits::running::{Place, Running};
use crate::units::{BudgetId, KeyId};

/// Where a budget is.
#[derive(Clone, Copy)]
pub(super) enum BudgetAt {
    /// Of a key or a team.
    Plan(BudgetId),
    /// Of the exchange's end user, by its place in the configuration.
    User(usize),
}

/// What one exchange has taken of the limits of its key and team, and of its end user.
#[derive(Default)]
pub struct Held {
    pub(super) key: Option<KeyId>,
    /// A request of every caller's minute, which a refusal gives back.
    pub(super) has_request: bool,
    /// Tokens taken in advance, by caller.
    pub(super) tokens: [Option<u64>; CALLERS_MAX],
    /// Taken in advance of budgets. Empty, and so without memory of its own, for a key without any.
    pub(super) budgets: Vec<(BudgetAt, Reservation)>,
    /// Whom the client names as its end user, where such have limits of their own.
    pub(super) user: Option<EndUser>,
    /// Limits of which more is taken while the response runs; `None` for one whose cap was taken, or that has no limits.
    pub(super) growth: Option<Box<Growth>>,
    /// Tokens of output that a response may have which cannot be stopped while it runs.
    pub(super) output_cap: Option<u64>,
}

/// The limits on which one exchange grows.
pub(super) struct Growth {
    pub(super) prompt: u64,
    pub(super) price: Option<Price>,
    pub(super) slice: u64,
    pub(super) limits: Vec<Growing>,
}

pub(super) struct Growing {
    pub(super) of: Of,
    /// `None` if as many run as may know of each other: it stops itself at the line.
    pub(super) place: Option<Place>,
}

/// Which limit: by its place among the callers, or among the budgets that the exchange has taken from.
#[derive(Clone, Copy)]
pub(super) enum Of {
    Caller(usize),
    Budget(usize),
}

impl Growth {
    pub(super) fn new(wanted: &Wanted) -> Box<Self> {
        Box::new(Self { prompt: wanted.prompt, price: wanted.price, slice: wanted.slice, limits: Vec::new() })
    }

    /// The exchange grows on this limit, and runs at `home`.
    pub(super) fn add(&mut self, of: Of, running: &Running, home: u64) {
        self.limits.push(Growing { of, place: running.enter(home) });
    }
}

/// A budget, and what is used of it.
pub(super) fn budget_at<'a>(
    plan: &'a Plan,
    user: Option<&EndUser>,
    at: BudgetAt,
) -> (&'a BudgetRow, &'a Spent) {
    match (at, plan.users.as_ref().zip(user)) {
        (BudgetAt::Plan(id), _) => (plan.budgets.row(id), plan.budgets.cells(id)),
        (BudgetAt::User(index), Some((rules, user))) => {
            (&rules.budgets[index], &rules.table.cells(user.pin).budgets[index])
        }
        (BudgetAt::User(_), None) => {
            unreachable!("only an exchange with an end user takes from such a budget")
        }
    }
}
