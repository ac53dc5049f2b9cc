//! What `[admin]` says of who may ask: kept for the process's life, so that a reload changes it under connections that are open.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::policy::auth::credential::Token;

/// The admin token and the names of the admin listener that are in force.
pub(crate) struct Access {
    /// What operators have to present; without one the listener is on loopback.
    pub(crate) token: ArcSwapOption<Token>,
    /// The names under which operators reach the listener, in lower case: `[admin] hosts`.
    pub(crate) hosts: ArcSwap<Box<[Box<str>]>>,
}

impl Access {
    pub(crate) fn new(token: Option<Token>, hosts: &[Box<str>]) -> Self {
        Self { token: ArcSwapOption::from_pointee(token), hosts: ArcSwap::from_pointee(hosts.into()) }
    }

    /// Asks for this token from now on, or may be reached under these names without one.
    pub(crate) fn change(&self, token: Option<Token>, hosts: &[Box<str>]) {
        self.hosts.store(Arc::new(hosts.into()));
        self.token.store(token.map(Arc::new));
    }
}
