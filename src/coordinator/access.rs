//! What `[admin]` says of who may ask: kept for the process's life, so that a reload changes it under connections that are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::roster::Operator;
use crate::policy::auth::credential::Token;

/// The admin token and the names of the admin listener that are in force.
pub(crate) struct Access {
    /// What operators have to present; without one the listener is on loopback.
    pub(crate) token: ArcSwapOption<Token>,
    /// The names under which operators reach the listener, in lower case: `[admin] hosts`.
    pub(crate) hosts: ArcSwap<Box<[Box<str>]>>,
    /// Grows whenever the token becomes another one: what was opened with the one before is closed.
    pub(crate) epoch: AtomicU64,
    /// Operators with tokens of their own, out of the store.
    pub(crate) operators: ArcSwap<Vec<Operator>>,
}

impl Access {
    pub(crate) fn new(token: Option<Token>, hosts: &[Box<str>]) -> Self {
        Self {
            token: ArcSwapOption::from_pointee(token),
            hosts: ArcSwap::from_pointee(hosts.into()),
            epoch: AtomicU64::new(0),
            operators: ArcSwap::default(),
        }
    }

    /// Asks for this token from now on, or may be reached under these names without one.
    pub(crate) fn change(&self, token: Option<Token>, hosts: &[Box<str>]) {
        self.hosts.store(Arc::new(hosts.into()));
        if self.token.load().as_deref() != token.as_ref() {
            self.epoch.fetch_add(1, Ordering::Relaxed);
        }
        self.token.store(token.map(Arc::new));
    }
}
