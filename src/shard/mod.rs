//! THE WALK. One shard: a pinned thread with its own ring, connections, kept backend connections and buffers.
//!
//! accept (`mod`) -> head (`connection`) -> `exchange` -> `phases::on_head` -> body -> `phases::on_body` -> `dispatch`
//! (`choose`, `queue`, `attempt`) -> `relay` -> `settle`. A shard takes no lock, spawns no thread, waits for no coordinator.

mod attempt;
mod choose;
mod connection;
mod convert;
mod decode;
mod dial;
mod dispatch;
mod early;
mod encode;
mod exchange;
mod idle;
mod inspect;
#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;
mod naming;
mod opening;
mod patience;
mod phases;
mod prompt;
mod queue;
mod refer;
mod relay;
mod rename;
mod respond;
mod response;
mod settle;
#[cfg(test)]
mod simulation;
mod translation;
mod watch;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::TcpListener;
use std::ops::Deref;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::clock;
use crate::net::buffers::BufferPool;
use crate::net::deadline::Deadlines;
use crate::net::listen::{Accepted, Acceptor, Spill};
use crate::net::stream::Socket;
use crate::net::ticker::Ticker;
use crate::observe::ShardOutbox;
use crate::observe::counters::{Counter, ShardNumbers};
use crate::plan::control::Presence;
use crate::plan::{Control, Mailbox, Plan, ShardTuning};
use crate::policy::auth::failures::Failures;
use crate::policy::routing::retry::RetryBudget;
use crate::units::{Nanos, ShardId};
use crate::wire::head::HeadLimits;
use idle::Idle;
use queue::Queues;

/// What a shard thread is given.
pub struct Seat {
    /// Which shard this is.
    pub id: ShardId,
    /// The plan it starts with.
    pub plan: Arc<Plan>,
    /// Its own listeners, each with its row in the plan.
    pub listeners: Vec<(usize, TcpListener)>,
    /// How shards hand clients to each other.
    pub spill: Arc<Spill>,
    /// Rings when a client was handed over.
    pub bell: StdUnixStream,
    /// Numbers, histograms and records on their way to the coordinator.
    pub outbox: ShardOutbox,
    /// Where the plans after the first come from, each with an outbox of its own.
    pub mailbox: Arc<Mailbox<(Arc<Plan>, ShardOutbox)>>,
    /// When to stop.
    pub control: Arc<Control>,
}

/// A shard on its thread, ready to run.
pub struct Seated {
    shard: Rc<Shard>,
    presence: Presence,
    mailbox: Arc<Mailbox<(Arc<Plan>, ShardOutbox)>>,
    ticker: Ticker,
}

/// One shard under one plan. An exchange keeps the one it started with, so that its ids mean the same to its end; what
/// does not depend on a plan is the [`Core`]'s, and the same for all of them.
pub(crate) struct Shard {
    core: Rc<Core>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) idle: Idle,
    pub(crate) outbox: RefCell<ShardOutbox>,
}

/// Everything the tasks of one shard share, whichever plan they serve by.
pub(crate) struct Core {
    pub(crate) id: ShardId,
    pub(crate) buffers: BufferPool,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) numbers: Arc<ShardNumbers>,
    pub(crate) control: Arc<Control>,
    pub(crate) retries: RefCell<RetryBudget>,
    pub(crate) queues: Queues,
    pub(crate) prompts: prompt::Prompts,
    pub(crate) failures: RefCell<Failures>,
    /// `Date` field value, renewed by the tick.
    pub(crate) date: RefCell<[u8; respond::DATE_BYTES]>,
    /// Milliseconds since 1970 at the last tick.
    pub(crate) unix_ms: Cell<u64>,
    /// The shard under the plan in force.
    newest: RefCell<Weak<Shard>>,
    /// No new clients, and idle ones go.
    closing: Cell<bool>,
    /// Exchanges in flight end now.
    stopping: Cell<bool>,
    spill: Arc<Spill>,
    random: Cell<u64>,
    connections: Cell<usize>,
    turning_away: Cell<usize>, // clients that get a 503
    accepting: Cell<usize>,    // listeners that may still bring a client
}

impl Deref for Shard {
    type Target = Core;
    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Shard {
    fn new(
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
            prompts: prompt::Prompts::default(),
            failures: RefCell::new(Failures::new(seed(id))),
            date: RefCell::new(respond::date(clock::unix_ms())),
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
        let addresses = plan.backends.iter().map(|backend| &backend.addresses);
        let idle = Idle::new(addresses, tuning.idle_max, core.random());
        Self::put_in_force(Self { core, plan, idle, outbox: RefCell::new(outbox) })
    }

    /// The same shard under the next plan, in force from now on. Idle connections to backends that stay come along.
    fn next(&self, plan: Arc<Plan>, outbox: ShardOutbox) -> Rc<Self> {
        let before = plan.backends.iter().map(|backend| {
            let old = self.plan.backend_named(&backend.name);
            (old.filter(|old| backend.keeps_connections(old)).map(|old| old.id), &backend.addresses)
        });
        let idle = self.idle.next(before);
        Self::put_in_force(Self { core: Rc::clone(&self.core), plan, idle, outbox: RefCell::new(outbox) })
    }

    fn put_in_force(self) -> Rc<Self> {
        let shard = Rc::new(self);
        *shard.newest.borrow_mut() = Rc::downgrade(&shard);
        shard.numbers.set(Counter::PlanGeneration, shard.plan.generation);
        shard.deadlines.wake_all(); // so that what runs under older plans looks whether its key still holds
        shard
    }

    /// Whether a newer plan is in force.
    pub(crate) fn is_outdated(&self) -> bool {
        !std::ptr::eq(self.newest.borrow().as_ptr(), self)
    }

    /// The bounds of a head, from either side.
    pub(crate) fn head_limits(&self) -> HeadLimits {
        let limits = &self.plan.limits;
        HeadLimits { bytes: limits.head_bytes, lines: limits.head_lines, target_bytes: limits.target_bytes }
    }

    pub(crate) fn tuning(&self) -> &ShardTuning {
        &self.plan.shards[self.id.index()]
    }

    fn tick(&self) {
        self.core.tick(|now| {
            self.outbox.borrow_mut().flush();
            self.idle.sweep(now, self.plan.backends.iter().map(|backend| &backend.addresses));
            self.numbers.set(Counter::BackendIdle, self.idle.count() as u64);
        });
    }
}

impl Core {
    /// The shard under the plan in force; `None` once it has ended.
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

    /// Whether answers should ask their client to connect anew elsewhere.
    pub(crate) fn is_draining(&self) -> bool {
        self.control.is_draining() || self.closing.get()
    }

    /// Whether clients without a request in work should go.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether exchanges in flight must end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Whether it has nothing to do any more, and nobody can give it anything.
    fn is_over(&self) -> bool {
        self.closing.get()
            && self.accepting.get() == 0
            && self.connections.get() == 0
            && is_left_alone(self.id, &self.control, &self.spill)
    }

    /// Moves time on; `each_second` is done about once a second.
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
        let unix_ms = clock::unix_ms();
        if unix_ms / 1000 != self.unix_ms.replace(unix_ms) / 1000 {
            *self.date.borrow_mut() = respond::date(unix_ms);
            self.numbers.add(Counter::BuffersAllocated, self.buffers.take_allocated());
            each_second(now);
        }
    }
}

/// Whether no client waits at the door of a shard, and none ever will.
fn is_left_alone(id: ShardId, control: &Control, spill: &Spill) -> bool {
    control.all_closing() && !spill.is_waiting(id.index()) // in this order: the last one is handed over before it closes
}

fn seed(id: ShardId) -> u64 {
    let mut word = [0; 8];
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut word);
    u64::from_ne_bytes(word) | 1 << (id.index() % 63)
}

impl Seat {
    /// Takes the seat, within the runtime that will run the shard: from here on it listens, and what its first clients
    /// need is there.
    ///
    /// Errors: the runtime refuses a listener, or the machine a timer.
    pub fn take(self) -> std::io::Result<Seated> {
        let presence = self.control.enter();
        let shard = Shard::new(self.id, self.plan, self.spill, self.outbox, self.control);
        shard.buffers.stock();
        for (row, listener) in self.listeners {
            monoio::spawn(accept(Accepting::new(&shard.core), Acceptor::new(listener)?, row));
        }
        monoio::spawn(receive(Rc::clone(&shard.core), Socket::from_std(self.bell)?));
        Ok(Seated { shard, presence, mailbox: self.mailbox, ticker: Ticker::new(TICK)? })
    }
}

impl Seated {
    /// Runs the shard on this thread until it is told to stop and its last exchange is done.
    ///
    /// Errors: the timer fails.
    pub async fn run(self) -> std::io::Result<()> {
        let Self { mut shard, presence, mailbox, ticker } = self;
        while !shard.is_over() {
            if ticker.tick().await? > 1 {
                shard.numbers.add(Counter::TicksLate, 1);
            }
            shard.tick();
            if shard.is_closing() {
                presence.close();
            }
            if let Some((plan, outbox)) = mailbox.take() {
                shard = shard.next(plan, outbox);
            }
        }
        shard.idle.close();
        shard.outbox.borrow_mut().flush();
        ticker.tick().await?; // one more turn of the ring, so that queued closes are submitted
        drop(presence);
        Ok(())
    }
}

/// Accepts on one listener until the shard stops accepting.
async fn accept(accepting: Accepting, acceptor: Acceptor, listener: usize) {
    let core = &accepting.0;
    let deadline = core.deadlines.row();
    while !core.is_closing() {
        deadline.clear();
        let _ = watch::while_open(core, &deadline, acceptor.ready()).await; // the accept says what is wrong
        let Some(shard) = core.newest() else { return };
        for _ in 0..ACCEPT_BATCH {
            match acceptor.accept(listener) {
                Ok(Some(client)) => place(&shard, client),
                Ok(None) => break,
                Err(_) => {
                    // Out of descriptors: the queue keeps the client, a pause keeps the core.
                    shard.numbers.add(Counter::AcceptFailures, 1);
                    deadline.set(ACCEPT_PAUSE);
                    deadline.passed().await;
                    break;
                }
            }
        }
    }
}

/// Takes clients that other shards handed over.
async fn receive(core: Rc<Core>, bell: Socket) {
    use monoio::io::AsyncReadRent;
    let mut bell = bell;
    let mut rung: Vec<u8> = Vec::with_capacity(64);
    loop {
        let (read, buffer) = bell.read(rung).await;
        rung = buffer;
        let Some(shard) = core.newest() else { return };
        while let Some(client) = shard.spill.handed(shard.id.index()) {
            admit(&shard, client);
        }
        if !matches!(read, Ok(1..)) {
            return;
        }
    }
}

fn place(shard: &Rc<Shard>, client: Accepted) {
    shard.numbers.add(Counter::ConnectionsAccepted, 1);
    let own = shard.id.index();
    let best = shard.spill.place(own, shard.random());
    if best == own || shard.is_closing() {
        return admit(shard, client);
    }
    match shard.spill.hand_over(best, client) {
        Ok(()) => shard.numbers.add(Counter::ConnectionsSpilled, 1),
        Err(client) => admit(shard, client),
    }
}

fn admit(shard: &Rc<Shard>, client: Accepted) {
    if shard.connections.get() >= shard.tuning().connections_max {
        shard.numbers.add(Counter::ConnectionsRefused, 1);
        return turn_away(shard, client);
    }
    let held = Held::new(shard);
    let shard = Rc::clone(shard);
    monoio::spawn(async move {
        let numbers = Arc::clone(&shard.numbers);
        let _held = held;
        if Guarded(Box::pin(connection::serve(shard, client))).await.is_err() {
            numbers.add(Counter::Panics, 1);
        }
    });
}

/// Tells a client for whom there is no room so, if not too many are being told; else it is closed at once. A handshake of
/// TLS, or a proxy's header, is no work for a shard that is full.
#[cold]
fn turn_away(shard: &Rc<Shard>, client: Accepted) {
    let listener = &shard.plan.listeners[client.listener];
    let is_plain = listener.tls.is_none() && !listener.proxy_protocol;
    if !is_plain || shard.turning_away.get() >= TURNED_AWAY_MAX {
        return;
    }
    let told = Told::new(&shard.core);
    let shard = Rc::clone(shard);
    monoio::spawn(async move {
        let numbers = Arc::clone(&shard.numbers);
        let _told = told;
        if Guarded(Box::pin(connection::turn_away(shard, client))).await.is_err() {
            numbers.add(Counter::Panics, 1);
        }
    });
}

/// One client that is being turned away, until it is dropped.
struct Told(Rc<Core>);

impl Told {
    fn new(core: &Rc<Core>) -> Self {
        core.turning_away.set(core.turning_away.get() + 1);
        Self(Rc::clone(core))
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.0.turning_away.set(self.0.turning_away.get() - 1);
    }
}

/// One listener that may still bring a client, until its loop ends. A shard that closes may hear of it before the loop
/// does, which then accepts once more: over before that, it would drop whom it has just taken.
struct Accepting(Rc<Core>);

impl Accepting {
    fn new(core: &Rc<Core>) -> Self {
        core.accepting.set(core.accepting.get() + 1);
        Self(Rc::clone(core))
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.accepting.set(self.0.accepting.get() - 1);
    }
}

/// One client counted as held, until it is dropped. It outlives plans, so it holds none.
struct Held(Rc<Core>);

impl Held {
    fn new(shard: &Rc<Shard>) -> Self {
        shard.connections.set(shard.connections.get() + 1);
        shard.spill.enter(shard.id.index());
        shard.numbers.set(Counter::ConnectionsActive, shard.connections.get() as u64);
        Self(Rc::clone(&shard.core))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let core = &self.0;
        core.connections.set(core.connections.get() - 1);
        core.spill.leave(core.id.index());
        core.numbers.set(Counter::ConnectionsActive, core.connections.get() as u64);
        core.numbers.add(Counter::ConnectionsClosed, 1);
    }
}

/// Keeps a panic inside the connection it happened in: monoio would let it end the shard.
struct Guarded<F>(Pin<Box<F>>);

impl<F: Future> Future for Guarded<F> {
    type Output = Result<F::Output, ()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(Err(())),
        }
    }
}

/// Resolution of every deadline.
const TICK: Duration = Duration::from_millis(10);
/// Clients accepted before other tasks have their turn.
const ACCEPT_BATCH: usize = 64;
/// Clients over the bound that are told so at once; what is beyond is closed without a word (by taste).
const TURNED_AWAY_MAX: usize = 64;
/// Rest after a failed accept.
const ACCEPT_PAUSE: Nanos = Nanos(50_000_000);
