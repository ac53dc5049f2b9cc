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
#![deny(unsafe_code)] // `net::busy_poll`, `observe::journal::mapping` and `alloc` are the exceptions, each with its reason; `tidy` holds them

pub mod admin;
pub mod alloc;
pub mod cli;
pub mod clock;
pub mod config;
pub mod coordinator;
pub mod dialect;
pub mod error;
pub mod net;
pub mod observe;
pub mod plan;
pub mod policy;
pub mod provider;
pub mod shard;
pub mod store;
pub mod sync;
pub mod units;
pub mod wire;

#[cfg(test)]
mod tidy;
