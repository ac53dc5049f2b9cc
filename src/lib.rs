//! Ringway: an AI gateway.
#![forbid(unsafe_code)]

pub mod config;
pub mod dialect;
pub mod error;
pub mod plan;
pub mod policy;
pub mod provider;
pub mod units;
