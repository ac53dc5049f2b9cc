//! Content rules as rows: whom each is for, and what each has done.

use std::sync::Arc;

use super::{Plan, Row};
use crate::dialect::texts::Place;
use crate::policy::guard::external::Form;
use crate::policy::guard::rules::{Action, Guards};
use crate::policy::routing::breaker::Breaker;
use crate::sync::{AtomicU64, Ordering};
use crate::units::{BackendId, GuardId, KeyId, Nanos};

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
#[derive(Default)]
pub struct ModelGuards {
    /// What they search for.
    pub guards: Guards,
    /// By rule: its row.
    pub ids: Box<[GuardId]>,
    /// Rules of guards in other processes, in the order of their precedence.
    pub externals: Box<[External]>,
}

/// A rule whose verdict another process gives.
#[derive(Clone, Debug)]
pub struct External {
    /// Its row.
    pub id: GuardId,
    /// Where its texts lie.
    pub places: Vec<Place>,
    /// A refused request is refused, and not only counted.
    pub enforces: bool,
    /// It is in shadow mode.
    pub is_shadow: bool,
    /// Who is asked.
    pub backend: BackendId,
    /// The path there.
    pub path: Box<[u8]>,
    /// How it is asked.
    pub form: Form,
    /// How long it is waited for.
    pub timeout: Nanos,
    /// Without a verdict the request passes.
    pub fails_open: bool,
    /// How long a verdict is used for the same texts; zero for not at all.
    pub keep: Nanos,
}

impl External {
    /// Whether it is asked about responses, too.
    pub fn reads_responses(&self) -> bool {
        self.places.contains(&Place::Output)
    }
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
    /// Times that a guard in another process was asked.
    pub asked: AtomicU64,
    /// Times that it gave no verdict.
    pub failed: AtomicU64,
    /// Whether it is asked at all.
    pub breaker: Breaker,
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
        plan.guards.row(self.ids[rule]).applies(key)
    }

    /// Whether all guards in other processes of another model are asked for this one, too.
    pub fn asks_all_of(&self, other: &Self) -> bool {
        other.externals.iter().all(|one| self.externals.iter().any(|own| own.id == one.id))
    }
}

impl Guard {
    /// Whether it is for a caller.
    pub fn applies(&self, key: Option<KeyId>) -> bool {
        key.map_or(self.keyless, |key| self.keys[key.index()])
    }
}

impl ModelGuards {
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
