//! Ringway: an AI gateway.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod coordinator;
pub mod dialect;
pub mod error;
pub mod net;
pub mod observe;
pub mod plan;
pub mod policy;
pub mod provider;
pub mod shard;
pub mod units;
pub mod wire;

#[cfg(test)]
mod tidy;
