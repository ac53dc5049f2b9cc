//! Passive failures of a backend.

/// Closed, open until, half open with one probe.
#[derive(Default)]
pub struct Breaker {}
