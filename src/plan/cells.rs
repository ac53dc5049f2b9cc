//! The cells that change while a plan lives: shared by all shards and the coordinator, atomic, never locked.
//!
//! Each row has an owner of its own, so that the next plan can go on with the rows that mean the same there, while
//! exchanges of this one still write to them.
//!
//! Who writes what: buckets and in-flight gauges of keys, any shard; loads, the owning shard only; breakers, any
//! shard and the probe; health, the coordinator only.

use std::iter::repeat_with;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::unreached::Unreached;
use crate::policy::limits::bucket::Bucket;
use crate::policy::limits::inflight::Gauge;
use crate::policy::routing::breaker::Breaker;
use crate::policy::routing::load::{Ewma, Load};
use crate::sync::{AtomicU8, Ordering};
use crate::units::{BackendId, DeploymentId, KeyId, ModelId, ShardId};

/// All shared cells of one plan.
pub struct Cells {
    /// By `KeyId`.
    keys: Box<[Arc<CachePadded<KeyCells>>]>,
    /// By `BackendId`.
    backends: Box<[Arc<CachePadded<BackendCells>>]>,
    /// By `DeploymentId`.
    deployments: Box<[Arc<CachePadded<DeploymentCells>>]>,
    /// By `ModelId`.
    models: Box<[Arc<CachePadded<ModelCells>>]>,
    /// By `BackendId`, then by `ShardId`: each cell written by that shard only.
    loads: Box<[Arc<[CachePadded<Load>]>]>,
}

/// The limits of one key.
#[derive(Default)]
pub struct KeyCells {
    /// Requests per minute.
    pub requests: Bucket,
    /// Tokens per minute.
    pub tokens: Bucket,
    /// Requests in flight.
    pub in_flight: Gauge,
}

/// The waiting room of one model.
#[derive(Default)]
pub struct ModelCells {
    /// Requests that wait for a slot of its backends, over all shards.
    pub waiting: Gauge,
}

/// What is known of one backend.
#[derive(Default)]
pub struct BackendCells {
    /// Failures of the transport, and pauses that apply to all its deployments.
    pub breaker: Breaker,
    /// Exchanges in flight over all shards.
    pub in_flight: Gauge,
    /// Why it could not be reached.
    pub unreached: Unreached,
    health: AtomicU8,
}

/// What the responses of one deployment say of it.
#[derive(Default)]
pub struct DeploymentCells {
    /// Failures, and pauses that it asked for.
    pub breaker: Breaker,
    /// Observed over predicted time to the first token.
    pub ewma: Ewma,
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

impl Cells {
    /// Fresh cells for tables of these lengths.
    pub fn new(shards: usize, backends: usize, deployments: usize, models: usize, keys: usize) -> Self {
        Self {
            deployments: repeat_with(Arc::default).take(deployments).collect(),
            models: repeat_with(Arc::default).take(models).collect(),
            keys: repeat_with(Arc::default).take(keys).collect(),
            backends: repeat_with(Arc::default).take(backends).collect(),
            loads: repeat_with(|| repeat_with(CachePadded::default).take(shards).collect())
                .take(backends)
                .collect(),
        }
    }

    /// Goes on with the cells of a key of another plan.
    pub(super) fn carry_key(&mut self, key: KeyId, from: &Self, id: KeyId) {
        self.keys[key.index()] = Arc::clone(&from.keys[id.index()]);
    }

    /// Goes on with the cells of a model of another plan.
    pub(super) fn carry_model(&mut self, model: ModelId, from: &Self, id: ModelId) {
        self.models[model.index()] = Arc::clone(&from.models[id.index()]);
    }

    /// Goes on with the cells of a backend of another plan, which has as many shards.
    pub(super) fn carry_backend(&mut self, backend: BackendId, from: &Self, id: BackendId) {
        self.backends[backend.index()] = Arc::clone(&from.backends[id.index()]);
        self.loads[backend.index()] = Arc::clone(&from.loads[id.index()]);
    }

    /// Goes on with the cells of a deployment of another plan.
    pub(super) fn carry_deployment(&mut self, deployment: DeploymentId, from: &Self, id: DeploymentId) {
        self.deployments[deployment.index()] = Arc::clone(&from.deployments[id.index()]);
    }

    /// The limits of one key.
    pub fn key(&self, key: KeyId) -> &KeyCells {
        &self.keys[key.index()]
    }

    /// The waiting room of one model.
    pub fn model(&self, model: ModelId) -> &ModelCells {
        &self.models[model.index()]
    }

    /// What is known of one backend.
    pub fn backend(&self, backend: BackendId) -> &BackendCells {
        &self.backends[backend.index()]
    }

    /// What the responses of one deployment say of it.
    pub fn deployment(&self, deployment: DeploymentId) -> &DeploymentCells {
        &self.deployments[deployment.index()]
    }

    /// The load one shard has put on one backend.
    pub fn load(&self, shard: ShardId, backend: BackendId) -> &Load {
        &self.loads[backend.index()][shard.index()]
    }

    /// The loads of one backend, one per shard.
    pub fn loads(&self, backend: BackendId) -> impl Iterator<Item = &Load> {
        self.loads[backend.index()].iter().map(|load| &**load)
    }

    /// Takes a slot of the backend for `shard`, of at most `in_flight_max`: `prompt_tokens` wait for their prefill,
    /// `kv_tokens` (prompt and expected output) will be held. `None` if all slots are taken.
    pub fn take(
        &self,
        shard: ShardId,
        backend: BackendId,
        in_flight_max: u32,
        prompt_tokens: u64,
        kv_tokens: u64,
    ) -> Option<Share> {
        if !self.backend(backend).in_flight.try_enter(in_flight_max) {
            return None;
        }
        self.load(shard, backend).begin(prompt_tokens, kv_tokens);
        Some(Share { backend, prompt_tokens, kv_tokens, pending: true })
    }

    /// The prompt of a share that `shard` took is prefilled: its first output has come. True the first time.
    pub fn first_token(&self, shard: ShardId, share: &mut Share) -> bool {
        let first = std::mem::take(&mut share.pending);
        if first {
            self.load(shard, share.backend).first_token(share.prompt_tokens);
        }
        first
    }

    /// Gives back a share that `shard` took.
    pub fn give_back(&self, shard: ShardId, share: Share) {
        let still_pending = if share.pending { share.prompt_tokens } else { 0 };
        self.load(shard, share.backend).end(share.kv_tokens, still_pending);
        self.backend(share.backend).in_flight.leave();
    }
}

impl BackendCells {
    /// What active probing said last.
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            1 => Health::Up,
            2 => Health::Down,
            _ => Health::Unknown,
        }
    }

    /// Written by the coordinator only.
    pub fn set_health(&self, health: Health) {
        self.health.store(health as u8, Ordering::Relaxed);
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;
