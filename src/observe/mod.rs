//! NUMBERS GO UP: what shards count, measure and record, and how it is written for Prometheus.
//!
//! One [`ShardOutbox`] per shard and plan, one [`ShardInbox`] for it in the coordinator. Three ways up, none of which
//! can make a shard wait or allocate per exchange:
//! - [`counters`] and [`tables`]: counters that only the shard writes (a relaxed load and a relaxed store,
//!   never a locked instruction) and anybody reads;
//! - [`histogram`]: histograms, handed over whole once a second and taken back empty;
//! - a bounded queue of [`Record`]s for the access log, full = dropped and counted.
//!
//! Pure but for the atomics: no clock, no thread, no socket. Rows are ids of the plan (`ModelId`, `KeyId`,
//! `BackendId`); names are joined to them by whoever writes text.

pub mod counters;
pub mod histogram;
pub mod journal;
pub mod outbox;
pub mod prometheus;
pub mod record;
pub mod tables;
pub mod usage;

pub use counters::Counter;
pub use histogram::Totals;
pub use journal::Journal;
pub use outbox::{ShardInbox, ShardOutbox, channel};
pub use record::{Record, RequestId};
pub use tables::{Before, Rows};
pub use usage::Usage;

use crate::sync::{AtomicU64, Ordering};

/// Adds as the cell's only writer. Wraps after 2^64.
fn bump(cell: &AtomicU64, count: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}
