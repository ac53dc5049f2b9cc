//! MAY IT? WHERE? HOW MUCH? Pure: no clock, no socket; `now` and chance are arguments.

pub mod auth;
pub mod breaker;
pub mod bucket;
pub mod inflight;
pub mod load;
