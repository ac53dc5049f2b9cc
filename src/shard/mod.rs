//! THE WALK. One shard: a pinned thread with its own ring, client connections, idle backend connections and buffers.
//!
//! ```text
//! accept          a client is accepted, or handed over by another shard
//! connection      PROXY header, TLS, then one exchange after the other: a head is read
//! walk::run       one request, from its head to the end of its response:
//!   Exchange::open    route, dialect
//!   phases::on_head   caller, in-flight and request limits: what is refused here costs no body read
//!   body::read        framing and content coding undone
//!   phases::on_body   model, the response referred to, token reserve
//!   local::respond    models, token counts: no backend is needed
//!   caching::find     with [cache]: a kept response, or one on its way to another request
//!   external::check   rules whose verdict another process gives
//!   dispatch::run     pick, connect, encode, send, opening; the only place that retries
//!   Relay::run        per read one write, until the response has ended
//!   respond::finish   where no response of a backend is relayed: a refusal, an error record, our own response
//! ```
//!
//! `settle` runs exactly once per exchange, before the last write: `relay` and `respond` both call it there. What is known on
//! the way is in `exchange::Exchange`. The one policy that is awaited is `external::check`.
//!
//! A shard takes no lock, spawns no thread, and waits for no coordinator. The files of this room import each other without a
//! circle (`tidy`): `state` (the shard itself) is below everything, `walk` above everything but `connection` and `accept`.

mod accept;
mod body;
mod caching;
mod client;
mod connection;
mod convert;
mod decode;
mod dispatch;
mod ending;
mod exchange;
mod external;
mod frame;
mod guarding;
mod heads;
mod heartbeats;
mod idle;
mod interrupt;
mod lease;
mod local;
mod naming;
mod opening;
mod phases;
mod prompts;
mod queue;
mod refer;
mod relay;
mod rename;
mod request;
mod respond;
mod response;
mod resume;
mod routes;
mod rules;
mod settle;
#[cfg(test)]
mod simulation;
mod state;
mod tokens;
mod translation;
mod walk;
mod wording;

pub use accept::ShardParts;
