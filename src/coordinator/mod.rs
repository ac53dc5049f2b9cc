//! CONTROL PLANE: one thread that may block, beside the shards and never in their way.
//!
//! It keeps backend addresses fresh (`resolve`), asks backends whether they are up (`probe`), reads engines' metrics (`scrape`) and issuers' keys (`issuers`), gathers what shards
//! hand up (`aggregate`), writes the access log (`log`), puts new plans in force (`reload`), watches shards and memory (`watchdog`), shares limits with other gateways (`shared`) and ends the process in order (`drain`). One
//! tokio current-thread runtime; each duty is a task of its own, so
//! none waits for another. Shards are reached only through the plan's cells, its [`Control`] and their mailboxes; if this
//! thread hung for good, they would go on serving with what they last knew.

mod access;
mod aggregate;
pub mod budgets;
mod drain;
mod fetch;
mod issuers;
pub mod ledger;
pub mod log;
mod prefix;
mod probe;
pub(crate) mod process;
pub(crate) mod recent;
pub mod reload;
pub mod resolve;
pub mod roster;
mod scrape;
pub mod shared;
mod speed;
mod watchdog;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime;
use tokio::sync::mpsc;

use crate::config::{AccessLog, LogLevel};
use crate::observe::ShardInbox;
use crate::plan::{Control, Plan};
use crate::policy::auth::credential::Token;
pub(crate) use access::Access;
pub use aggregate::{Current, Watch};
pub(crate) use aggregate::{ReloadNumbers, ScrapeReport};
pub use drain::Ended;
use log::Log;
use reload::{Reloader, Replaced, Request, Signals};

/// A lock whose data stays sound if its holder panicked: every critical section leaves plain numbers or text.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the coordinator needs to know beyond the plan.
pub struct Settings {
    /// Where operators connect, not blocking; `None` opens no admin listener.
    pub admin: Option<TcpListener>,
    /// Serves operators there; `admin::door`.
    pub door: Door,
    /// What they have to present. Without one the listener is on loopback: `config` sees to it.
    pub admin_token: Option<Token>,
    /// The names under which they may reach it without one.
    pub admin_hosts: Box<[Box<str>]>,
    /// Where the access log goes.
    pub access_log: AccessLog,
    /// Version shown in `/status` and `ringway_build_info`.
    pub version: &'static str,
    /// The driver that runs and why, for `/status` and `ringway_build_info`.
    pub driver: String,
    /// Where usage is kept; `None` if it is not.
    pub ledger: Option<Arc<ledger::Ledger>>,
    /// Charges budgets with what earlier processes had used; `None` if there is nothing to charge.
    pub refill: Option<budgets::Refill>,
    /// Shares limits with other gateways; `None` if they are not shared.
    pub shared: Option<Arc<shared::Shared>>,
    /// Where to say what an operator should hear of.
    pub say: fn(&str),
    /// The least serious of it that is said; a reload may change it.
    pub log: LogLevel,
    /// How the next process takes this one's place; `None` if it cannot.
    pub handover: Option<Arc<dyn Handover>>,
    /// Where a new configuration comes from; `None` if there is none to be had.
    pub source: Option<reload::Source>,
}

/// Serves the admin listener for as long as the process runs: the room `admin`, which this one does not know.
pub type Door =
    fn(tokio::net::TcpListener, Current, mpsc::Sender<Request>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// The end of this process that the next one takes over.
pub trait Handover: Send + Sync {
    /// Starts the next process, gives it the listening sockets, and waits until it serves; its number. Blocks.
    ///
    /// # Errors
    /// It did not come to serve: it is gone, and everything is as before.
    fn hand_over(&self) -> io::Result<u32>;

    /// Lets go of the sockets: this process accepts no more.
    fn close(&self);
}

/// Why the process is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    /// It was asked to.
    Asked,
    /// It was asked to, by somebody who waits at a terminal.
    Interrupted,
    /// Another one serves in its place.
    Replaced,
}

/// A running coordinator.
pub struct Coordinator {
    thread: JoinHandle<Ended>,
    admin: Option<SocketAddr>,
    #[cfg_attr(not(test), expect(dead_code))] // signals stop it; tests have none
    stop: mpsc::Sender<Stop>,
}

/// Stop requests that wait to be seen; more say nothing new.
const STOPS_WAITING: usize = 4;

/// How long the access log may take to write its last batches after the shards have ended.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

/// Starts the control plane. Backends should have been given their first addresses by [`resolve::initial`].
///
/// # Errors
/// The log file cannot be opened, or the machine refuses a thread.
pub fn start(
    plan: Arc<Plan>,
    mut settings: Settings,
    shards: Vec<ShardInbox>,
    control: Arc<Control>,
) -> io::Result<Coordinator> {
    let source = settings.source.take();
    let refill = settings.refill.take().zip(settings.ledger.clone());
    let listener = settings.admin.take();
    let door = settings.door;
    let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let mut log = Log::open(&settings.access_log)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stops) = mpsc::channel(STOPS_WAITING);
    let (listener, signals) = {
        let _inside = runtime.enter();
        drain::on_signals(stop.clone())?;
        (listener.map(tokio::net::TcpListener::from_std).transpose()?, Signals::new()?)
    };
    let watch = Watch::new(plan, settings, shards, control, log.as_ref().map(Log::numbers));
    if let Some(log) = &mut log {
        log.recent = Some(watch.recent.clone());
    }
    let current = Arc::new(ArcSwap::from_pointee(watch));
    let told = stop.clone();
    let thread = thread::Builder::new().name("coordinator".to_owned()).spawn(move || {
        let ended = runtime.block_on(async {
            let (request, requests) = mpsc::channel(reload::REQUESTS_MAX);
            let admin = listener
                .map(|listener| tokio::spawn(door(listener, current.clone(), request)).abort_handle());
            let reloader = Reloader::new(&current, source, Replaced { stop: told, admin });
            tokio::spawn(reloader.run(signals, requests));
            tokio::spawn(watchdog::run(current.clone()));
            tokio::spawn(prefix::run(current.clone()));
            tokio::spawn(speed::run(current.clone()));
            shared::spawn(&current);
            if let Some((refill, ledger)) = refill {
                tokio::spawn(budgets::run(refill, ledger));
            }
            run(current, log, stops).await
        });
        // A name being looked up may hold a thread for as long as its resolver pleases; it is left behind.
        runtime.shutdown_background();
        ended
    })?;
    Ok(Coordinator { thread, admin: address, stop })
}

impl Coordinator {
    /// Where the admin API really listens (a port of 0 has become a number).
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Asks for the same orderly end as SIGTERM does; a second time, for an immediate one.
    #[cfg(test)]
    pub fn stop(&self) {
        // Full: that many requests are waiting to be seen already. Closed: it has ended.
        let _ = self.stop.try_send(Stop::Asked);
    }

    /// Waits until the shards have ended.
    ///
    /// # Panics
    /// If the coordinator's thread panicked.
    pub fn join(self) -> Ended {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Gathers until the shards have ended, then writes the rest of the log.
async fn run(current: Current, mut log: Option<Log>, stops: mpsc::Receiver<Stop>) -> Ended {
    let ended = tokio::select! {
        ended = drain::run(&current, stops) => ended,
        never = aggregate::run(&current, log.as_mut()) => match never {},
    };
    let watch = current.load();
    watch.merge();
    if let Some(log) = log {
        log.close(&watch.shards, &watch.plans(), LOG_PATIENCE);
    }
    ended
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;
#[cfg(test)]
mod tests;
