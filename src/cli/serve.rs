//! `ringway serve`: opens what must be open before anything starts, starts shards and coordinator, says what runs,
//! and waits for the end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::notify;
use super::upgrade::{self, Sockets, Successor};
use crate::config::file;
use crate::config::{Compiled, Settings, StoreSettings};
use crate::coordinator::budgets::Refill;
use crate::coordinator::ledger::Running;
use crate::coordinator::reload::{Source, Turn};
use crate::coordinator::roster::Loaded;
use crate::coordinator::shared::{self, Shared};
use crate::coordinator::{self, Ended, log};
use crate::net::listen::{self, Spill};
use crate::net::runtime::{Driver, ShardRuntime};
use crate::observe::{self, Journal, Rows, ShardInbox};
use crate::plan::{Control, Listener, Mailbox, Plan, Target};
use crate::shard::ShardParts;
use crate::units::ShardId;

/// Serves the configuration that was read from `path` until told to stop. Prints what runs on standard output.
///
/// Errors: an address that is taken, too few descriptors, no driver, a thread that the machine refuses; nothing has been
/// served then. Or shards that did not end when they should, or did when they should not.
pub fn run(path: PathBuf, loaded: Loaded) -> io::Result<()> {
    let Loaded { compiled: Compiled { plan, settings, .. }, basis, files } = loaded;
    enough_descriptors(&plan)?;
    huge_pages(true);
    let started_with = settings.clone();
    for lost in coordinator::resolve::initial(&plan, RESOLVE_PATIENCE) {
        super::complain(&format!("note: {} cannot be resolved yet: {}", lost.host, lost.reason));
    }
    let mut sockets = upgrade::take_over()?;
    let plan = Arc::new(plan);
    let control = Arc::new(Control::new(plan.shards.len()));
    let mailboxes: Mailboxes = plan.shards.iter().map(|_| Arc::default()).collect();
    let listeners = listeners(&plan, &mut sockets)?;
    let admin = admin(settings.admin, &mut sockets)?;
    let successor = Arc::new(Successor::new(second_hold(&plan, &listeners, &admin)?)?);
    drop(sockets); // what no listener of this configuration is on
    let (running, journals) = ledger(settings.store.clone(), plan.shards.len())?;
    shared::begin(&plan);
    let refill = refill(&plan, running.as_ref());
    let folder = running.as_ref().map(|running| running.ledger.settings.directory.clone());
    let (shards, inboxes) =
        shards(&plan, &control, &mailboxes, listeners, log::records_max(&settings.access_log))?;
    let (threads, driver) = start(shards, journals, only(settings.driver))?;
    huge_pages(false);
    let Settings { admin_token, admin_hosts, access_log, log, shared: sharing, .. } = settings;
    let coordinator = coordinator::start(
        Arc::clone(&plan),
        coordinator::Settings {
            admin: Some(admin),
            door: crate::admin::door,
            admin_token,
            admin_hosts,
            access_log,
            version: env!("CARGO_PKG_VERSION"),
            driver: driver.clone(),
            ledger: running.as_ref().map(|running| Arc::clone(&running.ledger)),
            refill,
            shared: sharing.map(|settings| Arc::new(Shared::new(settings, folder.as_deref()))),
            say,
            log,
            handover: Some(successor),
            source: Some(Source { path, settings: started_with, mailboxes, basis, files }),
        },
        inboxes,
        control,
    )?;
    announce(&plan, coordinator.admin(), admin_token.is_some(), &driver);
    upgrade::tell_ready()?;
    if let Err(error) = notify::ready() {
        say(&format!("the service manager was not told that this process serves: {error}"));
    }
    let ended = coordinator.join();
    if let Some(running) = running {
        running.close();
    }
    match ended {
        Ended::Drained => threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("a shard panicked")),
        }),
        Ended::Stuck(shards) => Err(io::Error::other(format!("{shards} shards did not stop in time"))),
        Ended::ShardsGone => Err(io::Error::other("every shard has ended by itself")),
    }
}

/// Charges the budgets with what the store knows, before the first request.
fn refill(plan: &Arc<Plan>, running: Option<&Running>) -> Option<Refill> {
    let running = running?;
    let (refill, filled) = Refill::start(plan, running.ledger.database());
    if let Err(error) = filled {
        super::complain(&format!("note: budgets begin at zero until the store can be read: {error}"));
    }
    (!refill.is_empty()).then_some(refill)
}

/// The ledger and each shard's journal; none if usage is not kept, or nobody chose where and it cannot be kept here.
///
/// Errors: the directory that the configuration names cannot be written to.
fn ledger(settings: Option<StoreSettings>, shards: usize) -> io::Result<(Option<Running>, Vec<Journal>)> {
    let Some(settings) = settings else { return Ok((None, Vec::new())) };
    let (directory, is_chosen) = (settings.directory.clone(), settings.is_chosen);
    match coordinator::ledger::start(settings, shards, say) {
        Ok((running, journals)) => Ok((Some(running), journals)),
        Err(error) if is_chosen => {
            Err(io::Error::new(error.kind(), format!("[store] directory {}: {error}", directory.display())))
        }
        Err(error) => {
            super::complain(&format!(
                "note: usage is not kept: {} cannot be written to ({error}); choose another with [store] directory, or \
                 set [store] enabled = false",
                directory.display()
            ));
            Ok((None, Vec::new()))
        }
    }
}

/// One per shard: where it finds the plans after the first.
type Mailboxes = Vec<Arc<Mailbox<Turn>>>;

/// The parts of each shard, with its listeners open, and the coordinator's end of each.
fn shards(
    plan: &Arc<Plan>,
    control: &Arc<Control>,
    mailboxes: &Mailboxes,
    listeners: Vec<Vec<(usize, TcpListener)>>,
    records_max: Option<usize>,
) -> io::Result<(Vec<ShardParts>, Vec<ShardInbox>)> {
    let (spill, wakeups) = Spill::new(plan.shards.len())?;
    let rows = Rows { keys: plan.keys.len(), models: plan.models.len(), backends: plan.backends.len() };
    let mut shards = Vec::with_capacity(wakeups.len());
    let mut inboxes = Vec::with_capacity(wakeups.len());
    for ((index, wakeup), listeners) in wakeups.into_iter().enumerate().zip(listeners) {
        let id = ShardId::new(index);
        let (outbox, inbox) = observe::channel(id, rows, records_max);
        inboxes.push(inbox);
        let (plan, spill, control) = (Arc::clone(plan), Arc::clone(&spill), Arc::clone(control));
        let mailbox = Arc::clone(&mailboxes[index]);
        shards.push(ShardParts { id, plan, listeners, spill, wakeup, outbox, mailbox, control });
    }
    Ok((shards, inboxes))
}

/// Each shard's listeners, with their rows in the plan: those of the process before, else new ones. One that a larger
/// process left over goes to a shard too, since clients may wait in its queue.
fn listeners(plan: &Plan, sockets: &mut Sockets) -> io::Result<Vec<Vec<(usize, TcpListener)>>> {
    let mut shards: Vec<Vec<_>> = plan.shards.iter().map(|_| Vec::new()).collect();
    for (row, listener) in plan.listeners.iter().enumerate() {
        let mut old = sockets.remove(&listener.address).unwrap_or_default();
        for shard in &mut shards {
            let socket = match old.pop() {
                Some(socket) => socket,
                None => bind(listener)?,
            };
            shard.push((row, socket));
        }
        for (index, socket) in old.into_iter().enumerate() {
            let shard = index % shards.len().max(1);
            shards[shard].push((row, socket));
        }
    }
    Ok(shards)
}

fn bind(listener: &Listener) -> io::Result<TcpListener> {
    listen::bind(listener.address).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {}: {error}", listener.address))
    })
}

/// The operator's listener.
fn admin(address: SocketAddr, sockets: &mut Sockets) -> io::Result<TcpListener> {
    if let Some(socket) = sockets.remove(&address).and_then(|mut old| old.pop()) {
        return Ok(socket);
    }
    listen::bind_alone(address)
        .map_err(|error| io::Error::new(error.kind(), format!("admin address {address}: {error}")))
}

/// A second hold on every listening socket, for the next process.
fn second_hold(
    plan: &Plan,
    listeners: &[Vec<(usize, TcpListener)>],
    admin: &TcpListener,
) -> io::Result<Vec<(SocketAddr, TcpListener)>> {
    let data = listeners.iter().flatten().map(|(row, socket)| (plan.listeners[*row].address, socket));
    let all = data.chain([(admin.local_addr()?, admin)]);
    all.map(|(address, socket)| Ok((address, socket.try_clone()?))).collect()
}

type Threads = Vec<JoinHandle<io::Result<()>>>;

/// Starts a thread per shard, each with its journal if there are any; which driver they run on, and what was refused before
/// it.
fn start(
    shards: Vec<ShardParts>,
    journals: Vec<Journal>,
    only: Option<Driver>,
) -> io::Result<(Threads, String)> {
    let (started, starts) = mpsc::channel();
    let mut threads = Vec::with_capacity(shards.len());
    let mut journals = journals.into_iter();
    for parts in shards {
        let journal = journals.next();
        let started = started.clone();
        let thread = thread::Builder::new().name(format!("shard-{}", parts.id.index()));
        threads.push(thread.spawn(move || {
            if let Some(journal) = journal {
                journal.install();
            }
            let tuning = &parts.plan.shards[parts.id.index()];
            if let Some(core) = tuning.core {
                let _ = monoio::utils::bind_to_cpu_set([core]); // a core that is gone leaves the thread unpinned
            }
            let began = ShardRuntime::build(tuning.ring_entries, only).and_then(|(mut runtime, refused)| {
                let shard = runtime.run(async { parts.listen() })?;
                Ok((runtime, refused, shard))
            });
            let (mut runtime, refused, shard) = match began {
                Ok(began) => began,
                Err(error) => {
                    let _ = started.send(Err(error.to_string())); // the starter waits for every shard
                    return Err(error);
                }
            };
            let _ = started.send(Ok((runtime.driver(), refused)));
            drop(started);
            runtime.run(shard.run())
        })?);
    }
    drop(started);
    let mut driver = String::new();
    for start in starts {
        let (runs, refused) = start.map_err(io::Error::other)?;
        driver = match refused {
            None => runs.name().to_owned(),
            Some(refused) => format!("{} ({refused})", runs.name()),
        };
    }
    Ok((threads, driver))
}

fn only(driver: file::Driver) -> Option<Driver> {
    match driver {
        file::Driver::Auto => None,
        file::Driver::IoUring => Some(Driver::IoUring),
        file::Driver::Epoll => Some(Driver::Epoll),
    }
}

/// The start-up lines.
#[allow(clippy::print_stdout)] // the command's face
fn announce(plan: &Plan, admin: Option<SocketAddr>, has_token: bool, driver: &str) {
    println!("ringway {}", env!("CARGO_PKG_VERSION"));
    for listener in &plan.listeners {
        let scheme = if listener.tls.is_some() { "https" } else { "http" };
        println!("  listening  {scheme}://{}", listener.address);
    }
    if let Some(admin) = admin {
        let token = if has_token { ", with a token" } else { "" };
        println!("  admin      http://{admin}/ (metrics, status, healthz, readyz){token}");
    }
    let core = |core: Option<usize>| core.map_or_else(|| "any".to_owned(), |core| core.to_string());
    let cores: Vec<String> = plan.shards.iter().map(|shard| core(shard.core)).collect();
    println!("  shards     {}, on core {}", plan.shards.len(), cores.join(", "));
    println!("  driver     {driver}");
    for model in &plan.models {
        let pool: Vec<&str> = model.pool.iter().map(|member| &*plan.backend(member.backend).name).collect();
        println!("  model      {} on {}", model.name, pool.join(", "));
    }
    for backend in &plan.backends {
        let via = backend.proxy.as_ref().map_or(String::new(), |proxy| format!(" via proxy {proxy}"));
        match &backend.target {
            Target::Tcp { host, port } => println!("  backend    {} at {host}:{port}{via}", backend.name),
            Target::Unix(path) => println!("  backend    {} at unix:{}", backend.name, path.display()),
        }
    }
}

/// What the coordinator has to say while it runs.
fn say(words: &str) {
    super::complain(&format!("ringway: {words}"));
}

/// Allows as many descriptors as the machine does: two per stream. Error: too few even to start with.
fn enough_descriptors(plan: &Plan) -> io::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard); // what is there has to do
    let shards = plan.shards.len();
    let needed = descriptors(shards, plan.listeners.len());
    if hard < needed {
        return Err(io::Error::other(format!(
            "this process may open {hard} files and sockets; {shards} shards need {needed} to start with, and two more \
             for each stream: raise the limit (`ulimit -Hn`, LimitNOFILE of the service), or lower shards.count"
        )));
    }
    Ok(())
}

/// Descriptors to start with. Each stream needs two more.
pub(super) const fn descriptors(shards: usize, listeners: usize) -> u64 {
    (SHARED_DESCRIPTORS + shards * (SHARD_DESCRIPTORS + 2 * listeners)) as u64
}

/// Huge pages for the shards to begin with, and none once they have. What every request uses lies in those, and would
/// cost 1 to 4 % more of a core without. What is taken up later is for many connections, each of which uses little of
/// it: 15,000 slow ones took 2.7 times the memory, and a shard waited each time until two mebibytes were zeroed. A
/// process inherits the setting from the one it replaces (prctl(2), PR_SET_THP_DISABLE), so it is said both times.
fn huge_pages(allowed: bool) {
    let _ = rustix::thread::disable_transparent_huge_pages(!allowed); // a kernel without it serves as well
}

/// Descriptors of the control plane: its runtime, its listener, health probes, the access log, the standard streams.
const SHARED_DESCRIPTORS: usize = 64;
/// Descriptors of a shard beside its listeners, each of which is held twice: driver, wake-ups, tick.
const SHARD_DESCRIPTORS: usize = 6;
/// How long the start waits for names of backends; what is not known then is asked for again later.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_address_in_use_is_told_at_start() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = admin(taken.local_addr().unwrap(), &mut Sockets::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("admin address 127.0.0.1:"), "{error}");
    }
}
