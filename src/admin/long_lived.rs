//! Responses that go on for as long as a person looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by a handler whose response may take a long time.
#[derive(Clone, Default)]
pub(super) struct LongLived(Arc<AtomicBool>);

impl LongLived {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
