//! HOW MUCH MAY A CALLER USE?
//!
//! - [`bucket`]: so much per minute.
//! - [`budget`]: so many tokens, or so much money, per day or month; [`price`]: what tokens cost.
//! - [`caller`]: all limits of one key or team.
//! - [`inflight`]: so many requests at once.
//! - [`lease`]: how several gateways share a limit.
//! - [`running`]: responses that grow while they run, by age. [`ratio`]: bytes of text in a token.
//! - [`users`]: end users, in a table with a bound.

pub mod bucket;
pub mod budget;
pub mod caller;
pub mod inflight;
pub mod lease;
pub mod price;
pub mod ratio;
pub mod running;
pub mod users;
