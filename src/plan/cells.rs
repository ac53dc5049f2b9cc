//! The cells of each kind of row, which change while a plan is in use: shared by all shards and the coordinator, atomic, never
//! locked.
//!
//! Who writes what: buckets and in-flight gauges of callers (`limits::caller`), any shard; loads, the owning shard only; breakers, any
//! shard and the probe; health, the coordinator only.

use crossbeam_utils::CachePadded;

use super::pattern::{NamedBreakers, STAR};
use super::placements::Prefixes;
use super::unreached::Unreached;
use super::{Backend, Deployment, Table};
use crate::policy::limits::inflight::Gauge;
use crate::policy::limits::ratio::TextRatio;
use crate::policy::routing::breaker::Breaker;
use crate::policy::routing::load::{Ewma, Load};
use crate::policy::routing::signals::Signals;
use crate::policy::routing::speed::Speed;
use crate::sync::{AtomicU8, AtomicU64, Ordering};
use crate::units::{BackendId, ShardId};

/// The waiting room of one model, and where its prompts went.
#[derive(Default)]
pub struct ModelCells {
    /// Requests that wait for a slot of its backends, over all shards.
    pub waiting: Gauge,
    /// Requests for it that its rules sent to another model.
    pub routed: AtomicU64,
    /// Which member of its pool has which prompts in its cache: written by the coordinator.
    pub prefixes: Prefixes,
}

/// What is known of one backend.
pub struct BackendCells {
    /// Failures of the transport, and pauses that apply to all its deployments.
    pub breaker: Breaker,
    /// Exchanges in flight over all shards.
    pub in_flight: Gauge,
    /// Why it could not be reached.
    pub unreached: Unreached,
    /// What it last reported of itself.
    pub signals: Signals,
    health: AtomicU8,
    /// By `ShardId`: each cell written by that shard only.
    loads: Box<[CachePadded<Load>]>,
}

/// What the responses of one deployment say of it.
#[derive(Default)]
pub struct DeploymentCells {
    /// Failures, and pauses that it asked for.
    pub breaker: Breaker,
    /// Observed over predicted time to the first token.
    pub ewma: Ewma,
    /// How fast it prefills.
    pub speed: Speed,
    /// Bytes of text in one of its tokens.
    pub text: TextRatio,
    /// The failures of each name, where clients choose the names.
    named: Option<Box<NamedBreakers>>,
}

impl DeploymentCells {
    /// Fresh cells of a deployment.
    pub fn new(row: &Deployment) -> Self {
        let named = row.model.contains(STAR).then(Box::default);
        Self { named, ..Self::default() }
    }

    /// The breaker of a name, by its hash (`pattern::hash`); of all names together for 0.
    pub fn breaker_of(&self, name: u64) -> &Breaker {
        match &self.named {
            Some(named) if name != 0 => named.of(name),
            _ => &self.breaker,
        }
    }
}

/// One attempt's share of a backend's load. It has to be given back.
#[must_use = "a share taken has to be given back"]
pub struct Share {
    /// Of whose load.
    pub backend: BackendId,
    prompt_tokens: u64,
    kv_tokens: u64,
    /// The first output has not come.
    pending: bool,
}

/// What active probing says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Health {
    /// Not probed yet, or probing is off: use it.
    Unknown = 0,
    /// Answers its probe.
    Up = 1,
    /// Does not.
    Down = 2,
}

impl Table<BackendId, Backend> {
    /// Takes a slot of the backend for `shard`: `prompt_tokens` wait for their prefill, `kv_tokens` (prompt and expected output)
    /// will be held. `None` if all slots are taken.
    pub fn take(
        &self,
        shard: ShardId,
        backend: BackendId,
        prompt_tokens: u64,
        kv_tokens: u64,
    ) -> Option<Share> {
        let share = Share { backend, prompt_tokens, kv_tokens, pending: true };
        self.cells(backend).take(shard, self.row(backend).in_flight_max, share)
    }

    /// The prompt of a share that `shard` took is prefilled: its first output has come. True the first time.
    pub fn first_token(&self, shard: ShardId, share: &mut Share) -> bool {
        self.cells(share.backend).first_token(shard, share)
    }

    /// Gives back a share that `shard` took.
    pub fn give_back(&self, shard: ShardId, share: Share) {
        self.cells(share.backend).give_back(shard, share);
    }
}

/// The bit of a backend's health byte that an operator sets.
const DRAINED: u8 = 0x80;

impl BackendCells {
    /// Fresh cells, for so many shards.
    pub fn new(shards: usize) -> Self {
        Self {
            breaker: Breaker::default(),
            in_flight: Gauge::default(),
            unreached: Unreached::default(),
            signals: Signals::default(),
            health: AtomicU8::default(),
            loads: (0..shards).map(|_| CachePadded::default()).collect(),
        }
    }

    /// The load one shard has put on it.
    pub fn load(&self, shard: ShardId) -> &Load {
        &self.loads[shard.index()]
    }

    /// The loads of all shards.
    pub fn loads(&self) -> impl Iterator<Item = &Load> {
        self.loads.iter().map(|load| &**load)
    }

    /// The share, if one of `in_flight_max` slots is free.
    fn take(&self, shard: ShardId, in_flight_max: u32, share: Share) -> Option<Share> {
        if !self.in_flight.try_enter(in_flight_max) {
            return None;
        }
        self.load(shard).begin(share.prompt_tokens, share.kv_tokens);
        Some(share)
    }

    fn first_token(&self, shard: ShardId, share: &mut Share) -> bool {
        let first = std::mem::take(&mut share.pending);
        if first {
            self.load(shard).first_token(share.prompt_tokens);
        }
        first
    }

    fn give_back(&self, shard: ShardId, share: Share) {
        let still_pending = if share.pending { share.prompt_tokens } else { 0 };
        self.load(shard).end(share.kv_tokens, still_pending);
        self.in_flight.leave();
    }

    /// What new requests should go by: what active probing said last, and down while an operator drains it. One load, as
    /// shards ask it for every request.
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Unknown,
            1 => Health::Up,
            _ => Health::Down,
        }
    }

    /// What active probing said last, whatever an operator says.
    pub fn probed(&self) -> Health {
        match self.health.load(Ordering::Relaxed) & !DRAINED {
            0 => Health::Unknown,
            1 => Health::Up,
            _ => Health::Down,
        }
    }

    /// Written by the control plane's thread only.
    pub fn set_health(&self, health: Health) {
        let drained = self.health.load(Ordering::Relaxed) & DRAINED;
        self.health.store(health as u8 | drained, Ordering::Relaxed);
    }

    /// Whether an operator has taken it out of service: it gets no new requests, those in flight end as they would.
    pub fn is_drained(&self) -> bool {
        self.health.load(Ordering::Relaxed) & DRAINED != 0
    }

    /// Takes it out of service, or puts it back. Written by the control plane's thread only.
    pub fn drain(&self, drained: bool) {
        let health = self.health.load(Ordering::Relaxed) & !DRAINED;
        self.health.store(health | if drained { DRAINED } else { 0 }, Ordering::Relaxed);
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drained_backend_is_down_whatever_its_probe_says_until_it_is_put_back() {
        let cells = BackendCells::new(1);
        for health in [Health::Unknown, Health::Up, Health::Down] {
            cells.set_health(health);
            cells.drain(true);
            assert_eq!((cells.health(), cells.probed(), cells.is_drained()), (Health::Down, health, true));
            cells.set_health(Health::Up);
            assert_eq!((cells.health(), cells.probed()), (Health::Down, Health::Up));
            cells.drain(false);
            assert_eq!((cells.health(), cells.is_drained()), (Health::Up, false));
        }
    }
}
