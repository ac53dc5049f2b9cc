//! HAS THIS BEEN ASKED BEFORE?
//!
//! The exact response cache. Pure: bytes and the time come in, responses go out.
//!
//! - [`key`]: which requests are the same one. Who may share a response is a part of the key, so nothing else decides it.
//! - [`control`]: what a client's `cache-control` allows.
//! - [`store`]: responses by key, bounded in bytes, each with an age.
//! - [`tape`]: a response while it comes, for the requests that wait for the same one.

pub mod control;
pub mod key;
pub mod store;
pub mod tape;

pub use key::Key;

/// Who shares responses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Requests of one key; those without a key share with each other.
    Key,
    /// Requests of one team; a key without a team is on its own.
    Team,
    /// All that may use the model.
    All,
}

/// What is kept, for how long, and how much of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// How long a response is used.
    pub ttl: crate::units::Nanos,
    /// Memory for responses on one shard.
    pub shard_bytes: usize,
    /// The longest response.
    pub entry_bytes: usize,
    /// Who shares.
    pub scope: Scope,
    /// By `ModelId`: whether its responses are kept.
    pub models: Box<[bool]>,
    /// Only requests with `temperature = 0`, or with a seed.
    pub deterministic_only: bool,
    /// Whether requests wait for one that is in flight and the same.
    pub single_flight: bool,
}
