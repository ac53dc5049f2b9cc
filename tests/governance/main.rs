//! Governance: keys, limits, the ledger, the queue, reloads, secrets and the admin listener.

mod admin;
mod cache;
mod end_users;
mod explained;
mod external;
mod external_responses;
mod guard_matrix;
mod guards;
mod jwt;
mod keys;
mod ledger;
mod limits;
mod limits_tokens;
mod metering;
mod queue;
mod reload;
mod roles;
mod secrets;
mod shared;
mod soft_limits;
mod teams;
