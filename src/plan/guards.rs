//! Content rules as rows: whom each is for, and what each has done.

use std::sync::Arc;

use super::{Plan, Row};
use crate::policy::guard::rules::{Action, Guards};
use crate::sync::{AtomicU64, Ordering};
use crate::units::{GuardId, KeyId};

/// One `[guard.NAME]`.
pub struct Guard {
    /// The operator's name for it.
    pub name: Box<str>,
    /// By `KeyId`: whether it is for that key.
    pub keys: Box<[bool]>,
    /// Whether it is for requests without a key.
    pub keyless: bool,
}

/// The rules of one model, in the order of their precedence.
pub struct ModelGuards {
    /// What they search for.
    pub guards: Guards,
    /// By rule: its row.
    pub ids: Box<[GuardId]>,
}

/// What a rule has done since the process started. Written by all shards.
#[derive(Default)]
pub struct GuardCells {
    /// Matches.
    pub matches: AtomicU64,
    /// Of these in a rule that only counts.
    pub shadowed: AtomicU64,
    /// Masked matches.
    pub masked: AtomicU64,
    /// Requests that it refused.
    pub refused: AtomicU64,
    /// Responses that it stopped.
    pub stopped: AtomicU64,
    /// Requests that it sent to another model.
    pub routed: AtomicU64,
}

impl Row for Guard {
    type Name = str;
    type Cells = GuardCells;

    fn name(&self) -> &str {
        &self.name
    }
}

impl ModelGuards {
    /// Whether a rule is for a caller.
    pub fn applies(&self, plan: &Plan, rule: usize, key: Option<KeyId>) -> bool {
        let row = plan.guards.row(self.ids[rule]);
        key.map_or(row.keyless, |key| row.keys[key.index()])
    }

    /// Counts a match.
    pub fn count(&self, plan: &Plan, rule: usize) {
        let (cells, row) = (plan.guards.cells(self.ids[rule]), self.guards.rule(rule));
        cells.matches.fetch_add(1, Ordering::Relaxed);
        if row.is_shadow {
            cells.shadowed.fetch_add(1, Ordering::Relaxed);
        } else if row.action == Action::Mask {
            cells.masked.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The cells of a rule.
    pub fn cells<'a>(&self, plan: &'a Plan, rule: usize) -> &'a GuardCells {
        plan.guards.cells(self.ids[rule])
    }
}

/// The rules of a model, if there are any.
pub type Guarded = Option<Arc<ModelGuards>>;
