//! Load tools for Ringway.
//!
//! - [`gpusim`]: a GPU inference server simulated over vLLM's HTTP surface, with faults and quirks on demand.
//! - [`instant`]: a server with prebuilt answers, for measuring what stands before it.
//! - [`drive`]: a load driver that does not forget the requests it could not send in time.
//! - [`chaos`]: a TCP proxy that delays, cuts, resets and freezes connections, the same ones for the same seed.
//! - [`sim`]: routing policies before simulated engines, in virtual time.
//! - [`http`], [`skim`], [`listen`], [`chance`], [`address`]: what they share, none of it with the gateway ([`sim`] runs the gateway's policies, which parse nothing).
#![forbid(unsafe_code)]

pub mod address;
pub mod chance;
pub mod chaos;
pub mod drive;
pub mod gpusim;
pub mod http;
pub mod instant;
pub mod listen;
pub mod sim;
pub mod skim;
