//! Governance: keys, limits, the queue, reloads, secrets and the admin listener.

mod admin;
mod limits;
mod limits_tokens;
mod queue;
mod reload;
mod secrets;
