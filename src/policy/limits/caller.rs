//! The limits of one caller: a key, or a team of keys.

use super::bucket::{Bucket, Rate};
use super::inflight::Gauge;
use super::running::Running;
use crate::sync::AtomicU64;

/// How much a caller may use.
#[derive(Clone, PartialEq, Debug)]
pub struct CallerLimits {
    /// Requests per minute.
    pub requests: Option<Rate>,
    /// Tokens per minute, of prompts and responses.
    pub tokens: Option<Rate>,
    /// Requests in flight at once over all shards, `u32::MAX` for no bound.
    pub in_flight_max: u32,
    /// Which of them refuse nothing, and count what they would have refused.
    pub shadow: Shadow,
}

/// Limits that refuse nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shadow {
    /// Requests per minute.
    pub requests: bool,
    /// Tokens per minute.
    pub tokens: bool,
    /// Requests in flight.
    pub in_flight: bool,
}

impl Default for CallerLimits {
    fn default() -> Self {
        Self { requests: None, tokens: None, in_flight_max: u32::MAX, shadow: Shadow::default() }
    }
}

/// How much it uses now: one atomic cell per limit, shared by all shards.
#[derive(Default)]
pub struct CallerCells {
    /// Requests per minute.
    pub requests: Bucket,
    /// Tokens per minute.
    pub tokens: Bucket,
    /// Responses that take more of them while they run.
    pub growing: Running,
    /// Requests in flight.
    pub in_flight: Gauge,
    /// Requests that limits in the shadow would have refused: by requests, tokens, in flight.
    pub would_refuse: [AtomicU64; 3],
}

impl CallerCells {
    /// As if nothing had been used. Nothing may be in flight.
    pub(super) fn reset(&self) {
        self.requests.reset();
        self.tokens.reset();
        self.in_flight.reset();
    }
}
