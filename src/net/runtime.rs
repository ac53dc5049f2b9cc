//! The runtime of one shard: io_uring if the machine allows it, epoll otherwise, and the reason for the choice.

use std::future::Future;
use std::io;

use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

/// Which driver moves the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Driver {
    /// Completion-based, one ring per shard.
    IoUring,
    /// Readiness-based fallback.
    Epoll,
}

impl Driver {
    /// The name in start-up lines and `/status`.
    pub const fn name(self) -> &'static str {
        match self {
            Driver::IoUring => "io_uring",
            Driver::Epoll => "epoll",
        }
    }
}

/// A built runtime; runs on the thread that built it.
pub enum ShardRuntime {
    /// On a ring.
    IoUring(Runtime<IoUringDriver>),
    /// On epoll.
    Epoll(Runtime<LegacyDriver>),
}

impl ShardRuntime {
    /// Builds a runtime with `entries` submission slots. A ring that is refused (seccomp, an old kernel, a memory
    /// limit) is asked for again with fewer entries and fewer flags, and only then replaced by epoll, unless `only`
    /// says otherwise; the text says what was refused.
    ///
    /// Errors: the last refusal, if no driver could be had.
    pub fn build(entries: u32, only: Option<Driver>) -> io::Result<(Self, Option<String>)> {
        let mut refused = None;
        if only != Some(Driver::Epoll) {
            for (entries, flags) in [
                (entries, Flags::Deferred),
                (entries, Flags::Cooperative),
                (entries, Flags::None),
                (256, Flags::None),
            ] {
                match ring(entries, flags) {
                    Ok(runtime) => return Ok((Self::IoUring(runtime), refused)),
                    Err(error) => {
                        refused =
                            Some(format!("io_uring with {entries} entries and flags {flags:?}: {error}"));
                    }
                }
            }
            if only == Some(Driver::IoUring) {
                return Err(io::Error::other(refused.unwrap_or_default()));
            }
        }
        let runtime = RuntimeBuilder::<LegacyDriver>::new().with_entries(entries).build()?;
        Ok((Self::Epoll(runtime), refused))
    }

    /// Which driver it runs on.
    pub fn driver(&self) -> Driver {
        match self {
            Self::IoUring(_) => Driver::IoUring,
            Self::Epoll(_) => Driver::Epoll,
        }
    }

    /// Runs `main` and everything it spawns until `main` is done.
    pub fn run<F: Future>(&mut self, main: F) -> F::Output {
        match self {
            Self::IoUring(runtime) => runtime.block_on(main),
            Self::Epoll(runtime) => runtime.block_on(main),
        }
    }
}

/// What the ring may assume about its user. `Deferred` is worth 15-25 % of CPU per request (bench/compare).
#[derive(Clone, Copy, Debug)]
enum Flags {
    Deferred,
    Cooperative,
    None,
}

fn ring(entries: u32, flags: Flags) -> io::Result<Runtime<IoUringDriver>> {
    let mut ring = io_uring::IoUring::builder();
    ring.setup_cqsize(entries.max(256) * 4).setup_clamp();
    match flags {
        Flags::Deferred => {
            ring.setup_single_issuer().setup_defer_taskrun();
        }
        Flags::Cooperative => {
            ring.setup_coop_taskrun();
        }
        Flags::None => {}
    }
    RuntimeBuilder::<IoUringDriver>::new().with_entries(entries).uring_builder(ring).build()
}
