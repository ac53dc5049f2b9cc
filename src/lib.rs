//! Ringway: an AI gateway. One LLM API in front of GPU inference servers and hosted providers.
//!
//! # Rooms
//!
//! | room | question | may use |
//! | --- | --- | --- |
//! | [`units`], [`error`], [`clock`], [`sync`] | quantities, ids; what can go wrong; the time; what threads share | nothing |
//! | [`wire`] | what do these bytes say? | units, error |
//! | [`dialect`] | what does this API mean? | wire |
//! | [`provider`] | who do we call, and how? | dialect |
//! | [`policy`] | may it? where? how much? | dialect |
//! | [`plan`] | what was decided at load time; the cells that shards share | policy, provider |
//! | [`config`] | what the operator wrote; compiles to a plan, the only step that fails | plan |
//! | [`net`] | sockets: the only room that knows the runtime's I/O | units, error |
//! | [`observe`] | numbers go up: counters, histograms, records | units, error |
//! | [`store`] | what must outlive the process: the ledger, its journals, the audit log | observe |
//! | [`shard`] | the walk of a request, one copy per core | plan, net, observe |
//! | [`coordinator`] | the control plane: health, names, log, reload, drain | config, observe, store |
//! | [`admin`] | the operator's door: metrics, status, the admin API | coordinator |
//! | [`cli`] | the commands | all |
//! | [`alloc`] | where memory comes from | nothing |
//!
//! `wire`, `dialect`, `provider` and `policy` are pure: no socket, clock, thread, file or environment. `shard` and
//! `coordinator` do not know each other; the plan goes down, numbers come up. The tests in `tidy` hold this table.
//!
//! # The walk
//!
//! `shard::accept` -> head (`shard::connection`, `wire::head`) -> `shard::walk`, the driver: `Exchange::open` ->
//! `phases::on_head` -> `body::read` -> `rules::on_body` -> `phases::on_body` -> `caching::find` -> `dispatch::run` (`choose`, `queue`,
//! `attempt`; the only place that retries) -> `relay` (read, translate, apply rules, inspect, write) -> `settle` (exactly once, before
//! the last write to the client; by `Drop` only after a panic).
//!
//! # What always holds
//!
//! - Bytes that are not understood pass untouched; only the model's name is replaced and usage asked for, and records of
//!   a stream that the API's SDKs raise on are dropped (`dialect::stream::Records`). A response in another shape
//!   than was asked for (`shard::convert`) is converted if all of it is understood, else it passes.
//! - A cut response never looks finished: an error record at an event boundary, or a broken transport.
//! - A limit holds at the limit, on every shard: one atomic cell each.
//! - A client that leaves closes its backend connection at once.
//! - An exchange keeps the plan that it started with; a new plan is applied atomically. Only the revocation of a key reaches
//!   exchanges that run.
//! - Nothing on a shard waits for the coordinator, takes a lock, or resolves a name.
//! - Every queue, buffer, loop and retry has a bound and a counter.
#![cfg_attr(not(feature = "rooms"), allow(unreachable_pub), deny(dead_code, unused_imports))]
#![deny(unsafe_code)] // `net::busy_poll`, `observe::journal::mapping` and `alloc` are the exceptions, each with its reason; `tidy` holds them

pub mod alloc;
pub mod cli;

// The rooms. The feature opens them to benches, to tests and to `loadtest sim`; without it the compiler finds what nobody uses.
#[cfg(not(feature = "rooms"))]
pub(crate) mod admin;
#[cfg(feature = "rooms")]
pub mod admin;
#[cfg(not(feature = "rooms"))]
pub(crate) mod clock;
#[cfg(feature = "rooms")]
pub mod clock;
#[cfg(not(feature = "rooms"))]
pub(crate) mod config;
#[cfg(feature = "rooms")]
pub mod config;
#[cfg(not(feature = "rooms"))]
pub(crate) mod coordinator;
#[cfg(feature = "rooms")]
pub mod coordinator;
#[cfg(not(feature = "rooms"))]
pub(crate) mod dialect;
#[cfg(feature = "rooms")]
pub mod dialect;
#[cfg(not(feature = "rooms"))]
pub(crate) mod error;
#[cfg(feature = "rooms")]
pub mod error;
#[cfg(not(feature = "rooms"))]
pub(crate) mod net;
#[cfg(feature = "rooms")]
pub mod net;
#[cfg(not(feature = "rooms"))]
pub(crate) mod observe;
#[cfg(feature = "rooms")]
pub mod observe;
#[cfg(not(feature = "rooms"))]
pub(crate) mod plan;
#[cfg(feature = "rooms")]
pub mod plan;
#[cfg(not(feature = "rooms"))]
pub(crate) mod policy;
#[cfg(feature = "rooms")]
pub mod policy;
#[cfg(not(feature = "rooms"))]
pub(crate) mod provider;
#[cfg(feature = "rooms")]
pub mod provider;
#[cfg(not(feature = "rooms"))]
pub(crate) mod shard;
#[cfg(feature = "rooms")]
pub mod shard;
#[cfg(not(feature = "rooms"))]
pub(crate) mod store;
#[cfg(feature = "rooms")]
pub mod store;
#[cfg(not(feature = "rooms"))]
pub(crate) mod sync;
#[cfg(feature = "rooms")]
pub mod sync;
#[cfg(not(feature = "rooms"))]
pub(crate) mod units;
#[cfg(feature = "rooms")]
pub mod units;
#[cfg(not(feature = "rooms"))]
pub(crate) mod wire;
#[cfg(feature = "rooms")]
pub mod wire;

#[cfg(test)]
mod tidy;
