//! How a shard starts, accepts clients, shares them with the other shards, and ends.

use std::future::Future;
use std::net::TcpListener;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::connection;
use super::interrupt;
use super::state::{Core, Shard};
use crate::net::listen::{Accepted, Acceptor, Spill};
use crate::net::stream::Socket;
use crate::net::ticker::Ticker;
use crate::observe::ShardOutbox;
use crate::observe::counters::Counter;
use crate::plan::control::Presence;
use crate::plan::{Control, Mailbox, Plan};
use crate::units::{Nanos, ShardId};

/// What a shard is made of, before it runs.
pub struct ShardParts {
    /// Its id.
    pub id: ShardId,
    /// The plan it starts with.
    pub plan: Arc<Plan>,
    /// Its own listeners, each with its row in the plan.
    pub listeners: Vec<(usize, TcpListener)>,
    /// Where shards hand clients to each other.
    pub spill: Arc<Spill>,
    /// Readable when a client was handed over to this shard.
    pub wakeup: StdUnixStream,
    /// Numbers, histograms and records on their way to the coordinator.
    pub outbox: ShardOutbox,
    /// Where later plans come from, each with an outbox of its own.
    pub mailbox: Arc<Mailbox<(Arc<Plan>, ShardOutbox)>>,
    /// When to stop.
    pub control: Arc<Control>,
}

/// A shard that listens and is ready to run on this thread.
pub struct ListeningShard {
    shard: Rc<Shard>,
    presence: Presence,
    mailbox: Arc<Mailbox<(Arc<Plan>, ShardOutbox)>>,
    ticker: Ticker,
}
impl ShardParts {
    /// Starts to listen. Called within the runtime that will run the shard; the buffers for the first clients are allocated.
    ///
    /// # Errors
    /// The runtime refuses a listener, or the machine a timer.
    pub fn listen(self) -> std::io::Result<ListeningShard> {
        let presence = self.control.enter();
        let shard = Shard::new(self.id, self.plan, self.spill, self.outbox, self.control);
        shard.buffers.stock();
        for (row, listener) in self.listeners {
            monoio::spawn(accept(AcceptGuard::new(shard.core()), Acceptor::new(listener)?, row));
        }
        monoio::spawn(receive(Rc::clone(shard.core()), Socket::from_std(self.wakeup)?));
        Ok(ListeningShard { shard, presence, mailbox: self.mailbox, ticker: Ticker::new(TICK)? })
    }
}

impl ListeningShard {
    /// Runs the shard on this thread until it is told to stop and its last exchange has ended.
    ///
    /// # Errors
    /// The timer fails.
    pub async fn run(self) -> std::io::Result<()> {
        let Self { mut shard, presence, mailbox, ticker } = self;
        while !shard.is_drained() {
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
async fn accept(accepting: AcceptGuard, acceptor: Acceptor, listener: usize) {
    let core = &accepting.0;
    let deadline = core.deadlines.row();
    while !core.is_closing() {
        deadline.clear();
        let _ = interrupt::while_open(core, &deadline, acceptor.ready()).await; // the accept says what is wrong
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
async fn receive(core: Rc<Core>, wakeup: Socket) {
    use monoio::io::AsyncReadRent;
    let mut wakeup = wakeup;
    let mut bytes: Vec<u8> = Vec::with_capacity(64);
    loop {
        let (read, buffer) = wakeup.read(bytes).await;
        bytes = buffer;
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
    let held = ConnectionGuard::new(shard);
    let shard = Rc::clone(shard);
    monoio::spawn(async move {
        let numbers = Arc::clone(&shard.numbers);
        let _held = held;
        if Guarded(Box::pin(connection::serve(shard, client))).await.is_err() {
            numbers.add(Counter::Panics, 1);
        }
    });
}

/// Refuses a client over the bound with a 503, if not too many are being refused at the moment; else it is closed at once. A
/// full shard spends no work on a TLS handshake or a proxy's header.
#[cold]
fn turn_away(shard: &Rc<Shard>, client: Accepted) {
    let listener = &shard.plan.listeners[client.listener];
    let is_plain = listener.tls.is_none() && !listener.proxy_protocol;
    if !is_plain || shard.turning_away.get() >= TURNED_AWAY_MAX {
        return;
    }
    let guard = TurnAwayGuard::new(shard.core());
    let shard = Rc::clone(shard);
    monoio::spawn(async move {
        let numbers = Arc::clone(&shard.numbers);
        let _guard = guard;
        if Guarded(Box::pin(connection::turn_away(shard, client))).await.is_err() {
            numbers.add(Counter::Panics, 1);
        }
    });
}

/// Counts one client that is being turned away, until it is dropped.
struct TurnAwayGuard(Rc<Core>);

impl TurnAwayGuard {
    fn new(core: &Rc<Core>) -> Self {
        core.turning_away.set(core.turning_away.get() + 1);
        Self(Rc::clone(core))
    }
}

impl Drop for TurnAwayGuard {
    fn drop(&mut self) {
        self.0.turning_away.set(self.0.turning_away.get() - 1);
    }
}

/// Counts one accept loop, until it ends. A shard may close before its accept loop notices, which then accepts once more:
/// were the shard over by then, it would drop that client.
struct AcceptGuard(Rc<Core>);

impl AcceptGuard {
    fn new(core: &Rc<Core>) -> Self {
        core.accepting.set(core.accepting.get() + 1);
        Self(Rc::clone(core))
    }
}

impl Drop for AcceptGuard {
    fn drop(&mut self) {
        self.0.accepting.set(self.0.accepting.get() - 1);
    }
}

/// Counts one client connection, until it is dropped. It outlives plans, so it holds none.
struct ConnectionGuard(Rc<Core>);

impl ConnectionGuard {
    fn new(shard: &Rc<Shard>) -> Self {
        shard.connections.set(shard.connections.get() + 1);
        shard.spill.enter(shard.id.index());
        shard.numbers.set(Counter::ConnectionsActive, shard.connections.get() as u64);
        Self(Rc::clone(shard.core()))
    }
}

impl Drop for ConnectionGuard {
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
/// Clients accepted before other tasks run.
const ACCEPT_BATCH: usize = 64;
/// Clients over the bound that are refused with a 503 at a time; further ones are closed without a response. Chosen, not
/// measured.
const TURNED_AWAY_MAX: usize = 64;
/// Pause after a failed accept.
const ACCEPT_PAUSE: Nanos = Nanos(50_000_000);
