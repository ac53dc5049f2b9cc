//! HOW MUCH MAY A CALLER USE?
//!
//! - [`bucket`]: so much per minute.
//! - [`caller`]: all limits of one key or team.
//! - [`inflight`]: so many requests at once.

pub mod bucket;
pub mod caller;
pub mod inflight;
