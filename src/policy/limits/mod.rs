//! HOW MUCH MAY A CALLER USE?
//!
//! - [`bucket`]: so much per minute.
//! - [`inflight`]: so many requests at once.

pub mod bucket;
pub mod inflight;
