//! One shard under one plan, and what all tasks of the shard share.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::clock;
use crate::net::buffers::BufferPool;
use crate::net::deadline::Deadlines;
use crate::net::listen::Spill;
use crate::observe::ShardOutbox;
use crate::observe::counters::{Counter, ShardNumbers};
use crate::plan::{Control, Plan, ShardTuning};
use crate::policy::auth::failures::Failures;
use crate::policy::auth::jwt::memory::Memory;
use crate::policy::guard::verdicts::Verdicts;
use crate::policy::routing::retry::RetryBudget;
use crate::units::{KeyId, ModelId, Nanos, ShardId};
use crate::wire::head::HeadLimits;

use super::caching::flight::Caches;
use super::idle::Idle;
use super::prompts::Prompts;
use super::queue::Queues;

/// One shard under one plan. An exchange keeps the plan it started with, so that its ids keep their meaning. What does
/// not depend on a plan is in [`Core`], which all plans of the shard share.
pub(crate) struct Shard {
    core: Rc<Core>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) idle: Idle,
    pub(crate) outbox: RefCell<ShardOutbox>,
}

/// What all tasks of one shard share, whichever plan they use.
pub(crate) struct Core {
    pub(crate) id: ShardId,
    pub(crate) buffers: BufferPool,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) numbers: Arc<ShardNumbers>,
    pub(crate) control: Arc<Control>,
    pub(crate) retries: RefCell<RetryBudget>,
    pub(crate) queues: Queues,
    pub(crate) prompts: Prompts,
    pub(crate) caches: Caches,
    pub(crate) verdicts: RefCell<Verdicts>,
    pub(crate) failures: RefCell<Failures>,
    pub(crate) tokens: RefCell<Memory>,
    /// `Date` field value, renewed by the tick.
    pub(crate) date: RefCell<[u8; DATE_BYTES]>,
    /// Milliseconds since 1970 at the last tick.
    pub(crate) unix_ms: Cell<u64>,
    /// The shard under the active plan.
    newest: RefCell<Weak<Shard>>,
    /// No new clients are accepted, and idle ones are closed.
    closing: Cell<bool>,
    /// Exchanges in flight are cut now.
    stopping: Cell<bool>,
    pub(super) spill: Arc<Spill>,
    random: Cell<u64>,
    pub(super) connections: Cell<usize>,
    /// Clients over the bound that are being sent a 503.
    pub(super) turning_away: Cell<usize>,
    /// Accept loops that may still accept a client.
    pub(super) accepting: Cell<usize>,
}

impl Deref for Shard {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Shard {
    pub(super) fn new(
        id: ShardId,
        plan: Arc<Plan>,
        spill: Arc<Spill>,
        outbox: ShardOutbox,
        control: Arc<Control>,
    ) -> Rc<Self> {
        let tuning = &plan.shards[id.index()];
        let (small, large) = (tuning.small_buffer_bytes, tuning.large_buffer_bytes);
        let deadlines = Rc::new(Deadlines::default());
        deadlines.tick(clock::now());
        let core = Rc::new(Core {
            id,
            buffers: BufferPool::new(small, large, tuning.buffers_kept),
            deadlines,
            numbers: Arc::clone(outbox.numbers()),
            control,
            retries: RefCell::default(),
            queues: Queues::default(),
            prompts: Prompts::default(),
            caches: Caches::default(),
            verdicts: RefCell::default(),
            failures: RefCell::new(Failures::new(seed(id))),
            tokens: RefCell::default(),
            date: RefCell::new(date(clock::unix_ms())),
            unix_ms: Cell::new(clock::unix_ms()),
            newest: RefCell::default(),
            closing: Cell::new(false),
            stopping: Cell::new(false),
            spill,
            random: Cell::new(seed(id)),
            connections: Cell::new(0),
            turning_away: Cell::new(0),
            accepting: Cell::new(0),
        });
        let addresses = plan.backends.iter().map(|backend| &*backend.addresses);
        let idle = Idle::new(addresses, tuning.idle_max, core.random());
        Self::activate(Self { core, plan, idle, outbox: RefCell::new(outbox) })
    }

    /// The same shard under the next plan, which is active from now on. Idle connections to backends that it keeps are
    /// taken over.
    pub(super) fn next(&self, plan: Arc<Plan>, outbox: ShardOutbox) -> Rc<Self> {
        let before = plan.backends.iter().map(|backend| {
            let old = self.plan.backend_named(&backend.name);
            (old.filter(|old| backend.keeps_connections(old)).map(|old| old.id), &*backend.addresses)
        });
        let idle = self.idle.next(before);
        Self::activate(Self { core: Rc::clone(&self.core), plan, idle, outbox: RefCell::new(outbox) })
    }

    fn activate(self) -> Rc<Self> {
        let shard = Rc::new(self);
        *shard.newest.borrow_mut() = Rc::downgrade(&shard);
        shard.numbers.set(Counter::PlanGeneration, shard.plan.generation);
        shard.deadlines.wake_all(); // exchanges on older plans re-check that their key is still valid
        shard
    }

    /// Whether a newer plan is active.
    pub(crate) fn is_outdated(&self) -> bool {
        !std::ptr::eq(self.newest.borrow().as_ptr(), self)
    }

    /// The bounds of a head, from either side.
    pub(crate) fn head_limits(&self) -> HeadLimits {
        let limits = &self.plan.limits;
        HeadLimits { bytes: limits.head_bytes, lines: limits.head_lines, target_bytes: limits.target_bytes }
    }

    /// What does not depend on the plan.
    pub(super) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    pub(crate) fn tuning(&self) -> &ShardTuning {
        &self.plan.shards[self.id.index()]
    }

    /// Whether a caller may use a model.
    pub(super) fn may_use(&self, key: Option<KeyId>, model: ModelId) -> bool {
        self.plan.may_use(key, model)
    }

    pub(super) fn tick(&self) {
        self.core.tick(|now| {
            self.outbox.borrow_mut().flush();
            self.idle.sweep(now, self.plan.backends.iter().map(|backend| &*backend.addresses));
            self.numbers.set(Counter::BackendIdle, self.idle.count() as u64);
            if let Some(cache) = &self.plan.cache {
                self.caches.sweep(now, cache.ttl);
                self.numbers.set(Counter::CacheBytes, self.caches.bytes() as u64);
            }
        });
    }
}

impl Core {
    /// The shard under the active plan; `None` once the shard has ended.
    pub(crate) fn newest(&self) -> Option<Rc<Shard>> {
        self.newest.borrow().upgrade()
    }

    /// The next random word (xorshift64*): ids, jitter, choices; never a secret.
    pub(crate) fn random(&self) -> u64 {
        let mut word = self.random.get();
        word ^= word >> 12;
        word ^= word << 25;
        word ^= word >> 27;
        self.random.set(word);
        word.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Whether responses should ask their client to reconnect, to another process.
    pub(crate) fn is_draining(&self) -> bool {
        self.control.is_draining() || self.closing.get()
    }

    /// Whether clients without a request in flight are to be closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether exchanges in flight are to be cut.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Whether the shard is drained: it holds no client, and no client can still be handed to it.
    pub(super) fn is_drained(&self) -> bool {
        self.closing.get()
            && self.accepting.get() == 0
            && self.connections.get() == 0
            && receives_no_clients(self.id, &self.control, &self.spill)
    }

    /// Advances the shard's time; runs `each_second` about once a second.
    fn tick(&self, each_second: impl FnOnce(Nanos)) {
        let now = clock::now();
        self.deadlines.tick(now);
        if self.control.stop_accepting() && !self.closing.replace(true) {
            self.deadlines.wake_all();
        }
        if self.control.cut_at() <= now && !self.stopping.replace(true) {
            self.deadlines.wake_all();
        }
        self.numbers.inc(Counter::Ticks);
        self.queues.call();
        while let Some(row) = self.control.next_stopped(self.id) {
            self.deadlines.wake(row as usize);
        }
        let unix_ms = clock::unix_ms();
        if unix_ms / 1000 != self.unix_ms.replace(unix_ms) / 1000 {
            *self.date.borrow_mut() = date(unix_ms);
            self.numbers.add(Counter::BuffersAllocated, self.buffers.take_allocated());
            each_second(now);
        }
    }
}

/// Whether no client is being handed to this shard, and none can be any more.
fn receives_no_clients(id: ShardId, control: &Control, spill: &Spill) -> bool {
    control.all_closing() && !spill.is_waiting(id.index()) // in this order: a shard hands its last client over before it closes
}

/// The value of `Date`.
fn date(unix_ms: u64) -> [u8; DATE_BYTES] {
    let mut text = [0; DATE_BYTES];
    let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_millis(unix_ms));
    write!(&mut text[..], "{date}").expect("an IMF-fixdate has 29 bytes");
    text
}

/// Length of an IMF-fixdate (RFC 9110 section 5.6.7).
const DATE_BYTES: usize = 29;

fn seed(id: ShardId) -> u64 {
    let mut word = [0; 8];
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut word);
    u64::from_ne_bytes(word) | 1 << (id.index() % 63)
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;
