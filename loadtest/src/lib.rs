//! Load tools for Ringway.
//!
//! - [`gpusim`]: a GPU inference server simulated over vLLM's HTTP surface, with faults and quirks on demand.
//! - [`instant`]: a server with prebuilt answers, for measuring what stands before it.
//! - [`http`], [`chance`], [`address`]: what they share, none of it with the gateway.
#![forbid(unsafe_code)]

pub mod address;
pub mod chance;
pub mod gpusim;
pub mod http;
pub mod instant;
pub mod listen;
