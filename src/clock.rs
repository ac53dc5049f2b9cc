//! The one monotonic clock, and the wall clock. Every other room is told the time.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::units::Nanos;

/// Time since the first call in this process. One vDSO read, about 30 ns.
pub fn now() -> Nanos {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    Nanos::from(EPOCH.get_or_init(Instant::now).elapsed())
}

/// Milliseconds since 1970 by the wall clock, for records and `Date`; never for a timeout.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
