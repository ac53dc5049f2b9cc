//! Whose budgets there are, and what of them the ledger says was used.

use std::fmt;

use super::{Plan, Row};
use crate::policy::limits::budget::{Budget, Per, Spent, Unit};
use crate::policy::limits::price::{Charge, Price};
use crate::units::{BackendId, ModelId};

/// One budget of a key or a team.
pub struct BudgetRow {
    /// What it is known by.
    pub name: BudgetName,
    /// How much, and when.
    pub budget: Budget,
}

/// What a budget is known by: with another amount it is the same one, with another window it is not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BudgetName {
    /// Whose it is.
    pub holder: Holder,
    /// What it counts.
    pub unit: Unit,
    /// How long its window is.
    pub per: Per,
    /// The zone of its calendar; `None` for a rolling window.
    pub zone: Option<Box<str>>,
}

/// Who has a budget, by name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Holder {
    /// A key.
    Key(Box<str>),
    /// A team: all its keys together.
    Team(Box<str>),
    /// Each end user by itself.
    EndUser,
}

impl fmt::Display for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(name) => write!(out, "key '{name}'"),
            Self::Team(name) => write!(out, "team '{name}'"),
            Self::EndUser => out.write_str("this end user"),
        }
    }
}

impl Row for BudgetRow {
    type Name = BudgetName;
    type Cells = Spent;

    fn name(&self) -> &BudgetName {
        &self.name
    }
}

/// Tokens that the ledger has of one holder, by model and backend.
pub struct Used {
    /// The public model.
    pub model: Box<str>,
    /// The backend.
    pub backend: Box<str>,
    /// The tokens.
    pub charge: Charge,
}

impl Plan {
    /// What a token of this model costs at this backend, or at the dearest of its backends.
    pub fn price(&self, model: ModelId, backend: Option<BackendId>) -> Option<&Price> {
        let model = self.model(model);
        let member = model.pool.iter().find(|member| Some(member.backend) == backend);
        member.and_then(|member| member.price.as_ref()).or(model.price.as_ref())
    }

    /// What these tokens count for in this unit, by the prices of today. Models that have no price any more cost nothing.
    pub fn amount(&self, unit: Unit, used: &[Used]) -> u64 {
        let amount = |used: &Used| match unit {
            Unit::Tokens => used.charge.tokens(),
            Unit::Money => {
                let backend = self.backend_named(&used.backend).map(|backend| backend.id);
                let price = self.names.get(&used.model).and_then(|model| self.price(*model, backend));
                price.map_or(0, |price| price.cost(&used.charge))
            }
        };
        used.iter().map(amount).fold(0, u64::saturating_add)
    }
}
