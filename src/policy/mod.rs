//! MAY IT? WHERE? HOW MUCH?
//!
//! Pure: no clock, no socket, no thread; `now` and chance are arguments, and what shards share is one atomic cell
//! per question (see `plan::cells` for who writes which).
//!
//! - Who: [`forwarded`] (which client behind a proxy), [`origin`] (which web page).
//! - May it: [`auth`] (which key), [`failures`] (who has none too often), [`bucket`] (how many per minute), [`inflight`]
//!   (how many at once).
//! - Where: [`balance`] scores the backends of a pool from their [`load`]; [`failure_state`] says whom a failure
//!   takes out of service, with two [`breaker`]s each; [`addresses`] says
//!   which address of a backend is next.
//! - Whose is it, and who made it: [`ids`].
//! - When: [`queue`] says whose turn it is where all of them have enough to do.
//! - How often: [`status`] says what a backend's status means, [`retry`] whether a failed attempt may be made again,
//!   [`course`] what comes after it.

pub mod addresses;
pub mod auth;
pub mod balance;
pub mod breaker;
pub mod bucket;
pub mod course;
pub mod failure_state;
pub mod failures;
pub mod forwarded;
pub mod ids;
pub mod inflight;
pub mod load;
pub mod origin;
pub mod queue;
pub mod retry;
pub mod status;
