//! What operators did since the process started: newest first, bounded, in memory. The ledger, where there is one, keeps it for
//! good.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use schemars::JsonSchema;
use serde::Serialize;

use super::Caller;
use crate::clock;
use crate::coordinator::ledger::Ledger;
use crate::coordinator::lock;
use crate::store::AuditEntry;

/// Actions kept.
const ACTIONS_MAX: usize = 500;

pub(super) struct Audit {
    ledger: Option<Arc<Ledger>>,
    actions: Mutex<(u64, VecDeque<Action>)>,
}

/// One action of an operator.
#[derive(JsonSchema, Serialize, Clone)]
pub(super) struct Action {
    number: u64,
    at_unix_ms: u64,
    /// How the operator was recognised: `token`, `session`, `loopback`, or `token:NAME` for one of the store.
    who: String,
    from: String,
    action: &'static str,
    object: String,
    outcome: String,
}

/// What is told of them.
#[derive(JsonSchema, Serialize)]
pub(super) struct Actions {
    actions: Vec<Action>,
    /// `process`: they are gone after a restart.
    kept_for: &'static str,
}

impl Audit {
    pub(super) fn new(ledger: Option<Arc<Ledger>>) -> Self {
        Self { ledger, actions: Mutex::default() }
    }

    pub(super) fn note(
        &self,
        caller: &Caller,
        action: &'static str,
        object: &str,
        outcome: impl Into<String>,
    ) {
        let outcome = outcome.into();
        if let Some(ledger) = &self.ledger {
            ledger.audit(AuditEntry {
                at_ms: clock::unix_ms(),
                actor: caller.name(),
                origin: caller.from.to_string(),
                action: action.to_owned(),
                subject: object.to_owned(),
                before: String::new(),
                after: outcome.clone(),
            });
        }
        self.remember(caller, action, object, outcome);
    }

    /// Notes what the ledger has already.
    pub(super) fn remember(&self, caller: &Caller, action: &'static str, object: &str, outcome: String) {
        let (number, actions) = &mut *lock(&self.actions);
        *number += 1;
        if actions.len() >= ACTIONS_MAX {
            actions.pop_front();
        }
        actions.push_back(Action {
            number: *number,
            at_unix_ms: clock::unix_ms(),
            who: caller.name(),
            from: caller.from.to_string(),
            action,
            object: object.to_owned(),
            outcome,
        });
    }

    pub(super) fn list(&self) -> Actions {
        let (_, actions) = &*lock(&self.actions);
        Actions { actions: actions.iter().rev().cloned().collect(), kept_for: "process" }
    }
}
