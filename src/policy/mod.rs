//! MAY IT? WHERE? HOW MUCH?
//!
//! Pure: no clock, no socket, no thread; `now` and chance are arguments, and what shards share is one atomic cell
//! per question (see `plan::cells` for who writes which).
//!
//! - [`auth`]: who calls, and may that caller come in.
//! - [`cache`]: has this been asked before.
//! - [`glob`]: names by a pattern.
//! - [`guard`]: what a text may say.
//! - [`limits`]: how much a caller may use, per minute and at once.
//! - [`routing`]: which backend serves a request, and what follows a failure.

pub mod auth;
pub mod cache;
pub mod glob;
pub mod guard;
pub mod limits;
pub mod routing;
