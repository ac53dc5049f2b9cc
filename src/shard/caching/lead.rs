//! What an exchange knows of the cache, and what it records while its response passes.

use std::rc::Rc;

use super::flight::{Flight, Opened};
use crate::observe::counters::Counter;
use crate::policy::cache::Key;
use crate::shard::state::Shard;

/// How the cache took part in an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Part {
    /// A backend was called; the response may be kept.
    Miss,
    /// The response was kept.
    Hit,
    /// The response is that of another request, which came while it was on its way.
    Shared,
}

impl Part {
    /// As the value of `x-ringway-cache`.
    pub(in crate::shard) const fn name(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Hit => "hit",
            Self::Shared => "shared",
        }
    }
}

/// The cache's part in an exchange.
pub(in crate::shard) struct Caching {
    pub(in crate::shard) part: Part,
    /// Seconds since the response was made, if it was kept.
    pub(in crate::shard) age_seconds: Option<u64>,
    /// What is recorded; absent where nothing is, or not any more.
    lead: Option<Lead>,
}

/// A response that is recorded. If it is dropped unfinished, those who wait for it are told that it failed.
struct Lead {
    shard: Rc<Shard>,
    key: Key,
    flight: Rc<Flight>,
    /// Bytes that count among those that the shard records.
    bytes: usize,
    /// More was being recorded than the cache may hold.
    is_given_up: bool,
}

impl Caching {
    /// Of an exchange that gets a response from the cache, or from another.
    pub(super) fn served(part: Part, age_seconds: Option<u64>) -> Box<Self> {
        Box::new(Self { part, age_seconds, lead: None })
    }

    /// Of an exchange that calls a backend, and whose response may be kept.
    pub(super) fn miss(shard: &Rc<Shard>, key: Key, flight: Rc<Flight>) -> Box<Self> {
        let lead = Some(Lead { shard: Rc::clone(shard), key, flight, bytes: 0, is_given_up: false });
        Box::new(Self { part: Part::Miss, age_seconds: None, lead })
    }

    /// The response was opened.
    pub(in crate::shard) fn open(&self, media_type: &[u8], dropped: Option<&str>, is_stream: bool) {
        if let Some(lead) = &self.lead {
            lead.flight.open(Opened {
                media_type: media_type.into(),
                dropped: dropped.map(Into::into),
                is_stream,
            });
        }
    }

    /// The client gets this piece of it. `sequence`: of an event of our own that could follow.
    pub(in crate::shard) fn append(&mut self, piece: &[u8], sequence: Option<u64>) {
        let Some(lead) = self.lead.as_mut().filter(|_| !piece.is_empty()) else { return };
        let recorded = &lead.shard.caches.recorded;
        let bytes_max = lead.shard.plan.cache.as_ref().map_or(0, |rules| rules.shard_bytes);
        if !lead.is_given_up && recorded.get() + piece.len() <= bytes_max {
            lead.bytes += piece.len();
            recorded.set(recorded.get() + piece.len());
        } else if !std::mem::replace(&mut lead.is_given_up, true) {
            lead.flight.give_up();
        }
        lead.flight.append(piece, sequence);
    }

    /// The response has come to its proper end, and cost so many tokens: it is kept.
    pub(in crate::shard) fn finish(&mut self, tokens: u64) {
        let Some(lead) = self.lead.take() else { return };
        let (Some(entry), Some(rules)) = (lead.flight.finish(tokens), &lead.shard.plan.cache) else { return };
        let (shard, now) = (&lead.shard, lead.shard.deadlines.now());
        let evicted = shard.caches.store.borrow_mut().put(lead.key, entry, now, rules.shard_bytes);
        shard.numbers.inc(Counter::CacheStored);
        shard.numbers.add(Counter::CacheEvicted, evicted);
        shard.numbers.set(Counter::CacheBytes, shard.caches.bytes() as u64);
    }

    /// The exchange ends, or its response cannot be shared.
    pub(in crate::shard) fn end(&mut self) {
        self.lead = None;
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.flight.fail(); // nothing, if it has ended properly
        let recorded = &self.shard.caches.recorded;
        recorded.set(recorded.get() - self.bytes);
        let mut flights = self.shard.caches.flights.borrow_mut();
        if flights.get(&self.key).is_some_and(|flight| Rc::ptr_eq(flight, &self.flight)) {
            flights.remove(&self.key);
        }
    }
}
