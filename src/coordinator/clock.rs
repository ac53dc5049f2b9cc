//! The coordinator's reading of the process clock.

use std::sync::OnceLock;
use std::time::Instant;

use crate::units::Nanos;

/// Nanoseconds since the first reading of this process.
pub(super) fn now() -> Nanos {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    Nanos::from(EPOCH.get_or_init(Instant::now).elapsed())
}
