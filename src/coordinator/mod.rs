//! CONTROL PLANE: one thread that may block, beside the shards and never in their way.
//!
//! It keeps backend addresses fresh (`resolve`), asks backends whether they are up (`probe`), gathers what shards
//! hand up (`aggregate`), writes the access log (`log`), answers operators (`admin`, `metrics`, `status`) and
//! ends the process in order (`drain`). One tokio current-thread runtime; each duty is a task of its own, so
//! none waits for another. Shards are reached only through the plan's cells and its [`Control`]; if this
//! thread hung for good, they would go on serving with what they last knew.

mod admin;
mod aggregate;
mod drain;
pub mod log;
mod metrics;
mod probe;
mod process;
pub mod resolve;
mod status;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime;
use tokio::sync::mpsc;

use crate::config::AccessLog;
use crate::observe::ShardInbox;
use crate::plan::{Control, Plan};
use aggregate::Watch;
pub use drain::Ended;
use log::Log;

/// What the coordinator needs to know beyond the plan.
pub struct Settings {
    /// Where operators connect; `None` opens no admin listener. It asks for no key: loopback unless a firewall
    /// stands before it.
    pub admin: Option<SocketAddr>,
    /// Where the access log goes.
    pub access_log: AccessLog,
    /// Time between two resolutions of a backend's name.
    pub resolve_every: Duration,
    /// After SIGTERM: how long readiness fails before the listeners close, so that a balancer in front notices.
    pub drain_grace: Duration,
    /// Version shown in `/status` and `ringway_build_info`.
    pub version: &'static str,
    /// The driver that runs and why, for `/status` and `ringway_build_info`.
    pub driver: String,
}

/// A running coordinator.
pub struct Coordinator {
    thread: JoinHandle<Ended>,
    admin: Option<SocketAddr>,
    stop: mpsc::Sender<()>,
}

/// Stop requests that wait to be seen; more say nothing new.
const STOPS_WAITING: usize = 4;

/// How long the access log may take to write its last batches after the shards have ended.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

/// Starts the control plane. Backends should have been given their first addresses by [`resolve::initial`].
///
/// # Errors
/// The admin address cannot be bound, the log file cannot be opened, or the machine refuses a thread.
pub fn start(
    plan: Arc<Plan>,
    settings: Settings,
    shards: Vec<ShardInbox>,
    control: Arc<Control>,
) -> io::Result<Coordinator> {
    let listener = settings.admin.map(admin::bind).transpose()?;
    let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let log = Log::open(&settings.access_log)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stops) = mpsc::channel(STOPS_WAITING);
    let listener = {
        let _inside = runtime.enter();
        drain::on_signals(stop.clone())?;
        listener.map(tokio::net::TcpListener::from_std).transpose()?
    };
    let watch = Arc::new(Watch::new(plan, settings, shards, control, log.as_ref().map(Log::numbers)));
    let thread = thread::Builder::new().name("coordinator".to_owned()).spawn(move || {
        let ended = runtime.block_on(run(watch, listener, log, stops));
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
    pub fn stop(&self) {
        // Full: that many requests are waiting to be seen already. Closed: it has ended.
        let _ = self.stop.try_send(());
    }

    /// Waits until the shards have ended.
    ///
    /// # Panics
    /// If the coordinator's thread panicked.
    pub fn join(self) -> Ended {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Runs every duty until the shards have ended, then writes the rest of the log.
async fn run(
    watch: Arc<Watch>,
    listener: Option<tokio::net::TcpListener>,
    mut log: Option<Log>,
    stops: mpsc::Receiver<()>,
) -> Ended {
    if let Some(listener) = listener {
        tokio::spawn(admin::serve(listener, admin::router(watch.clone())));
    }
    resolve::spawn(&watch);
    probe::spawn(&watch);
    let ended = tokio::select! {
        ended = drain::run(&watch, stops) => ended,
        never = aggregate::run(&watch, log.as_mut()) => match never {},
    };
    watch.merge();
    if let Some(log) = log {
        log.close(&watch.plan, &watch.shards, LOG_PATIENCE);
    }
    ended
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
