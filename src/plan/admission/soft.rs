//! What happens to a request before a budget refuses it: a warning, a wait, another model.

use super::held::{BudgetAt, Held, budget_at};
use super::wanted::At;
use crate::plan::Plan;
use crate::policy::limits::budget::SoftAction;
use crate::units::{ModelId, Nanos};

/// What the soft limits of one request ask for.
#[derive(Debug, Default)]
pub struct Softened {
    /// What the client is told.
    pub warning: String,
    /// How long the request waits before it is sent.
    pub wait: Nanos,
    /// The models that may be called in place of its own, the one of the fullest budget last.
    pub models: Vec<ModelId>,
}

impl Held {
    /// What the soft limits of the budgets ask for that the exchange takes from. `None` if none is reached.
    pub fn soften(&self, plan: &Plan, at: At) -> Option<Softened> {
        let mut softened: Option<Softened> = None;
        for place in self.budget_places(plan) {
            let (row, cells) = budget_at(plan, self.user.as_ref(), place);
            if row.budget.soft.is_empty() {
                continue;
            }
            let used = cells.standing(&row.budget.window, at.unix_ms).used;
            let Some(soft) = row.budget.soft_at(used) else { continue };
            let out = softened.get_or_insert_default();
            let word = match soft.action {
                SoftAction::Warn => "warning",
                SoftAction::Throttle(wait) => {
                    out.wait = out.wait.max(wait);
                    "throttled"
                }
                SoftAction::Downgrade(model) => {
                    out.models.push(model);
                    "downgraded"
                }
            };
            let share = u128::from(used) * 100 / u128::from(row.budget.most.max(1));
            let separator = if out.warning.is_empty() { "" } else { "; " };
            out.warning +=
                &format!("{separator}{word}: {} has used {share}% of {}", row.name.holder, row.budget);
        }
        softened
    }

    /// The budgets that it takes from, or would.
    pub(super) fn budget_places<'a>(&self, plan: &'a Plan) -> impl Iterator<Item = BudgetAt> + use<'a> {
        let own = self.key.map(|key| &plan.key(key).grant.budgets[..]).unwrap_or_default();
        let of_user =
            plan.users.as_ref().filter(|_| self.user.is_some()).map_or(0, |rules| rules.budgets.len());
        own.iter().map(|id| BudgetAt::Plan(*id)).chain((0..of_user).map(BudgetAt::User))
    }
}
