//! The cells that threads share: std's atomics and crossbeam's queue, or those of a model checker in their place.
//!
//! Under `--cfg ringway_loom` and `--cfg ringway_shuttle` (set by `scripts/models` only, for this crate alone) the same
//! code runs in a checker that chooses which thread takes the next step: loom tries every order that up to three
//! preemptions can make, and every value that the memory model lets a load return; shuttle draws orders at random, for
//! more threads, and takes every access as sequentially consistent. The tests in an `interleavings` stand beside each cell.
//!
//! Not seen into: `arc-swap` (addresses of a backend, the admin API's token and view; one pointer each, and nothing is
//! read through two of them together), the counts of `Arc`, the bells between the wakers and the task of one thread, and
//! the coordinator's own `Mutex`es and counters, which no shard touches. Of crossbeam's queue, a `queue` of the same
//! promises is checked, so what is proven is how the gateway uses it.

#[cfg(not(any(ringway_loom, ringway_shuttle)))]
pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(not(any(ringway_loom, ringway_shuttle)))]
pub use crossbeam_queue::ArrayQueue;

#[cfg(ringway_loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(all(ringway_shuttle, not(ringway_loom)))]
pub use shuttle::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(any(ringway_loom, ringway_shuttle))]
mod queue;
#[cfg(any(ringway_loom, ringway_shuttle))]
pub use queue::ArrayQueue;

/// What the tests named `interleavings` run in.
#[cfg(all(test, ringway_loom))]
pub(crate) mod interleavings {
    use super::{AtomicBool, Ordering};
    pub(crate) use loom::thread::yield_now;

    /// Threads of a test that may have more than loom can count through.
    pub(crate) const CROWD: usize = 2;

    /// Runs `body` once for every order of its threads' steps that [`PREEMPTIONS`] can make.
    pub(crate) fn check(body: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(PREEMPTIONS);
        builder.check(body);
    }

    /// Starts a thread. loom puts the first steps of a new thread before the next of its parent only where the two touch
    /// the same cell, so here they do, in a way that orders nothing.
    pub(crate) fn spawn<T: 'static>(body: impl FnOnce() -> T + 'static) -> loom::thread::JoinHandle<T> {
        let gate = std::sync::Arc::new(AtomicBool::new(false));
        let theirs = std::sync::Arc::clone(&gate);
        let thread = loom::thread::spawn(move || {
            theirs.load(Ordering::Relaxed);
            body()
        });
        gate.store(true, Ordering::Relaxed);
        thread
    }

    /// How often a thread is stopped in the middle of its work. Few bugs need more than two.
    const PREEMPTIONS: usize = 3;
}

/// What the tests named `interleavings` run in.
#[cfg(all(test, ringway_shuttle, not(ringway_loom)))]
pub(crate) mod interleavings {
    pub(crate) use shuttle::thread::{spawn, yield_now};

    /// Threads of a test that may have more than loom can count through.
    pub(crate) const CROWD: usize = 4;

    /// Runs `body` in as many random orders as `RINGWAY_SCHEDULES` says. One that fails is printed, for
    /// `shuttle::replay`.
    pub(crate) fn check(body: impl Fn() + Send + Sync + 'static) {
        let count =
            std::env::var("RINGWAY_SCHEDULES").map_or(SCHEDULES, |count| count.parse().expect("a number"));
        let mut config = shuttle::Config::new();
        config.stack_size = STACK_BYTES;
        shuttle::Runner::new(shuttle::scheduler::RandomScheduler::new(count), config).run(body);
    }

    /// Stack of a test's thread. Records pass by value, and code is not optimised here.
    const STACK_BYTES: usize = 256 << 10;

    /// Orders tried where nothing else is said.
    const SCHEDULES: usize = 1_000;
}
