//! The one monotonic clock, and the wall clock. Every other room is told the time.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::units::Nanos;

/// Time since the machine started, without the time it was suspended (`CLOCK_MONOTONIC`). One vDSO read, about 30 ns.
pub fn now() -> Nanos {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    Nanos(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// Milliseconds since 1970 by the wall clock, for records and `Date`; never for a timeout.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
