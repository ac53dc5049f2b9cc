//! Rate limits: one atomic cell each (GCRA), exact across shards.

use std::sync::atomic::AtomicU64;

/// A limit per minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Units regained per minute.
    pub per_minute: u64,
    /// Units that may be taken at once.
    pub burst: u64,
}

/// The cell of one limit: the theoretical arrival time in nanoseconds.
#[derive(Default)]
pub struct Bucket {
    _arrival: AtomicU64,
}
