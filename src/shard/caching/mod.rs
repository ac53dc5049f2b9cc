//! The response cache at its places in the walk.
//!
//! - [`flight`]: what all requests of a shard share: responses that are kept, and those that are on their way.
//! - [`lead`]: what an exchange records while its response passes, for the cache and for the requests that wait for the same.
//! - [`find`]: between the decided request and its dispatch: a kept response, one on its way, or none.
//! - [`serve`]: a kept or shared response on its way to the client.
//!
//! Each shard has a cache of its own, with its part of `[cache] size`: nothing is shared between threads, and a hit takes no lock.

pub(super) mod find;
pub(super) mod flight;
pub(super) mod lead;
pub(super) mod serve;
