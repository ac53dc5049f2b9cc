//! What a shard remembers of prompts (`dispatch::prompt`).

use std::cell::{Cell, RefCell};

use crate::policy::routing::prefix::{Chain, Recent};

/// What one shard remembers of prompts.
#[derive(Default)]
pub(crate) struct Prompts {
    pub(super) recent: RefCell<Option<Recent>>,
    /// Chains that no exchange uses.
    pub(super) spare: RefCell<Vec<Chain>>,
    /// Choices made.
    turn: Cell<u64>,
}

impl Prompts {
    /// The number of this choice.
    pub(super) fn turn(&self) -> u64 {
        self.turn.replace(self.turn.get().wrapping_add(1))
    }
}
