//! Slots in flight.

/// A count with a bound.
#[derive(Default)]
pub struct Gauge {}
