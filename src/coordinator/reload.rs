//! A new configuration while the old one serves: read and compiled whole, then put in force at once, or refused whole.
//!
//! The same for a new program (`upgrade`): SIGUSR2 or `POST /upgrade`.
//!
//! A reload is asked for by SIGHUP, by `POST /reload` on the admin listener, or by a change of one of the files that the
//! configuration was read from. Whatever becomes of it, the access log is opened anew. Exchanges that run keep the plan they began with; what the two plans have in common
//! (limits, breakers, loads, counts, idle connections, addresses) goes on. A key that is gone is told to what runs.
//!
//! A change of the [`super::roster`] makes a new plan of the same file (`changes`).

mod changes;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::aggregate::{Current, ReloadNumbers, Watch};
use super::roster::{self, Author, Basis, Change, ChangeError, Changed};
use super::{Stop, issuers, lock, probe, resolve, scrape};
use crate::clock;
use crate::config::{self, Compiled, LogLevel, Noting, Settings, Stamp};
use crate::observe::{Counter, ShardInbox, ShardOutbox};
use crate::plan::{Mailbox, Plan};

/// What a shard finds in its mailbox: the plan to serve by from now on, and where to count under it.
pub type Turn = (Arc<Plan>, ShardOutbox);

/// Where plans come from, and where they go.
pub struct Source {
    /// The configuration file.
    pub path: PathBuf,
    /// What the running process was started with.
    pub settings: Settings,
    /// One per shard, in the order of the shards.
    pub mailboxes: Vec<Arc<Mailbox<Turn>>>,
    /// What the plan in force was made of.
    pub basis: Basis,
    /// The files that it was read from, as they were then.
    pub files: Vec<(PathBuf, Option<Stamp>)>,
}

/// What operators may ask for; who asked hears what came of it, or why nothing has changed.
pub enum Request {
    /// Take up the configuration as it is now.
    Reload(oneshot::Sender<Result<Told, String>>),
    /// Give way to the program as it is now; its process number.
    Upgrade(oneshot::Sender<Result<u32, String>>),
    /// Change a team, a key or an admin token of the store.
    Change(Change, Author, oneshot::Sender<Result<Changed, ChangeError>>),
}

/// What becomes of this process once the next one serves.
pub(super) struct Replaced {
    pub(super) stop: mpsc::Sender<Stop>,
    /// The admin listener, which is the next one's then.
    pub(super) admin: Option<AbortHandle>,
}

/// SIGHUP and SIGUSR2.
pub(super) struct Signals {
    hangups: Signal,
    upgrades: Signal,
}

impl Signals {
    /// Called inside the runtime.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { hangups: signal(SignalKind::hangup())?, upgrades: signal(SignalKind::user_defined2())? })
    }
}

/// A reload that came into force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// The number of the plan.
    pub generation: u64,
    /// What is worth a look.
    pub notes: Vec<String>,
}

/// Time between two looks at the roster of the store, which another process may have changed, and at the ends of secrets.
const ROSTER_LOOK: Duration = Duration::from_millis(400);

/// Time between two looks at the files. A change is taken up once it has rested for one.
const LOOK: Duration = Duration::from_secs(1);

/// How long a reload waits for names of backends that are new; what is not known then is asked for again later.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(2);

/// Time between two looks whether shards have taken the plan, and how many there are: they take it at their next tick.
const TAKEN_LOOK: Duration = Duration::from_millis(2);
const TAKEN_LOOKS: u32 = 250;

/// How often it is looked whether the access log's file has been opened anew, with the same time between.
const REOPENED_LOOKS: u32 = 250;

/// Requests that wait to be seen.
pub(super) const REQUESTS_MAX: usize = 16;

/// The duty of reloading, and the duties that each plan has anew.
pub(super) struct Reloader {
    current: Current,
    source: Option<Source>,
    replaced: Replaced,
    numbers: Arc<ReloadNumbers>,
    /// Probes and lookups under the plan in force; dropped with it.
    duties: JoinSet<()>,
    /// The files that were read last, as they were then.
    read: Vec<(PathBuf, Option<Stamp>)>,
}

impl Reloader {
    /// With the duties of the first plan. Called inside the runtime.
    pub(super) fn new(current: &Current, source: Option<Source>, replaced: Replaced) -> Self {
        let watch = current.load_full();
        let mut reloader = Self {
            current: current.clone(),
            source,
            replaced,
            numbers: watch.reloads.clone(),
            duties: duties(&watch),
            read: Vec::new(),
        };
        if let Some(source) = &mut reloader.source {
            reloader.read = std::mem::take(&mut source.files);
            watch.show(&source.basis.roster);
        }
        reloader
    }

    /// Reloads whenever it is asked to.
    pub(super) async fn run(mut self, mut signals: Signals, mut requests: mpsc::Receiver<Request>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds = interval(ROSTER_LOOK);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            tokio::select! {
                // Said and counted; who asked may have left.
                Some(()) = signals.hangups.recv() => {
                    let told = self.reload().await;
                    self.audit("SIGHUP", "reload", told.map(|told| format!("plan {}", told.generation)));
                }
                Some(()) = signals.upgrades.recv() => {
                    let told = self.upgrade().await;
                    self.audit("SIGUSR2", "upgrade", told.map(|pid| format!("process {pid}")));
                }
                Some(request) = requests.recv() => match request {
                    Request::Reload(asked) => {
                        let _ = asked.send(self.reload().await);
                    }
                    Request::Upgrade(asked) => {
                        let _ = asked.send(self.upgrade().await);
                    }
                    Request::Change(change, author, asked) => {
                        let _ = asked.send(self.change(change, author).await);
                    }
                },
                _ = rounds.tick() => self.follow_roster().await,
                _ = looks.tick(), if self.watches() => {
                    let now = self.look().await;
                    let changed = now != self.read;
                    if changed && seen.as_ref() == Some(&now) {
                        let told = self.reload().await;
                        self.audit("file change", "reload", told.map(|told| format!("plan {}", told.generation)));
                        seen = None;
                    } else {
                        seen = changed.then_some(now);
                    }
                }
            }
        }
    }

    /// Notes what was done without a caller; what callers of the admin listener ask for is noted there.
    fn audit(&self, actor: &str, action: &str, told: Result<String, String>) {
        if let Some(ledger) = &self.current.load().settings.ledger {
            ledger.note(actor, action, &told.unwrap_or_else(|reason| format!("refused: {reason}")));
        }
    }

    fn watches(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.settings.watch)
    }

    /// The files that were read last, as they are now.
    async fn look(&self) -> Vec<(PathBuf, Option<Stamp>)> {
        let files: Vec<PathBuf> = self.read.iter().map(|(path, _)| path.clone()).collect();
        let looked = spawn_blocking(|| {
            let stamp = |path: PathBuf| {
                let stamp = Stamp::of(&path);
                (path, stamp)
            };
            files.into_iter().map(stamp).collect()
        });
        looked.await.unwrap_or_default()
    }

    /// Puts what the file says now in force. Counted and said, whatever becomes of it.
    async fn reload(&mut self) -> Result<Told, String> {
        let log = self.reopen_log().await;
        let mut response = self.attempt().await;
        match (&mut response, log) {
            (_, Ok(())) => {}
            (Ok(told), Err(reason)) => told.notes.push(reason),
            (Err(_), Err(reason)) => self.current.load().say(LogLevel::Warn, &format!("note: {reason}")),
        }
        let numbers = &self.numbers;
        let (count, level, words) = match &response {
            Ok(told) => {
                (&numbers.done, LogLevel::Info, format!("reloaded: plan {} is in force", told.generation))
            }
            Err(reason) => (
                &numbers.refused,
                LogLevel::Error,
                format!("not reloaded, the plan in force stays: {reason}"),
            ),
        };
        count.fetch_add(1, Ordering::Relaxed);
        numbers.last_unix_ms.store(clock::unix_ms(), Ordering::Relaxed);
        *lock(&numbers.last_error) = response.as_ref().err().cloned();
        let watch = self.current.load();
        watch.say(level, &words);
        for note in response.iter().flat_map(|told| &told.notes) {
            watch.say(LogLevel::Warn, &format!("note: {note}"));
        }
        response
    }

    /// Lets the access log's writer open its file anew: somebody may have renamed it.
    ///
    /// Errors: what an operator should hear of it.
    async fn reopen_log(&self) -> Result<(), String> {
        let watch = self.current.load_full();
        let Some(log) = &watch.log else { return Ok(()) };
        let number = log.reopening.ask();
        for _ in 0..REOPENED_LOOKS {
            if let Some(outcome) = log.reopening.outcome(number) {
                return outcome.map_err(|error| format!("{error}; what was open is written to as before"));
            }
            sleep(TAKEN_LOOK).await;
        }
        Err("the access log's writer is held up; it opens its file anew once it is not".to_owned())
    }

    async fn attempt(&mut self) -> Result<Told, String> {
        let Some(source) = &mut self.source else {
            return Err("there is no file to read a configuration from".to_owned());
        };
        let (path, mut roster) = (source.path.clone(), (*source.basis.roster).clone());
        let load = move || {
            let (noting, compiled_ms) = (Noting::default(), clock::unix_ms());
            let disabled = std::mem::take(&mut roster.disabled);
            let loaded = config::read_file(&path, &noting).and_then(|written| {
                let was_disabled = |row: &_| disabled.contains_key(row);
                let compiled = roster::compile(&written, &mut roster, &noting, None, was_disabled)?;
                Ok((compiled, Arc::new(written), Arc::new(roster)))
            });
            let files = noting.files();
            let recorded = Arc::new(noting.recorded());
            let basis =
                |(compiled, written, roster)| (compiled, Basis { written, recorded, roster, compiled_ms });
            (loaded.map(basis), files)
        };
        let (loaded, read) = spawn_blocking(load).await.map_err(|error| error.to_string())?;
        self.read = read;
        let (compiled, basis) = loaded.map_err(|problems| problems.to_string())?;
        let Compiled { mut plan, settings, mut notes } = compiled;
        let old = self.current.load_full();
        let fixed = fixed(&old.plan, &source.settings, &plan, &settings);
        if !fixed.is_empty() {
            return Err(format!("{} cannot change while the gateway runs; restart it", fixed.join(", ")));
        }
        plan.follow(&old.plan);
        let resolve = move || {
            let lost = resolve::initial(&plan, RESOLVE_PATIENCE);
            (plan, lost)
        };
        let (plan, lost) = spawn_blocking(resolve).await.map_err(|error| error.to_string())?;
        notes
            .extend(lost.iter().map(|lost| format!("{} cannot be resolved yet: {}", lost.host, lost.reason)));

        source.basis = basis;
        source.settings = settings;
        let next = put(&self.current, source, plan).await;
        self.duties = duties(&next);
        Ok(Told { generation: next.plan.generation, notes })
    }

    /// Lets the program as it is now take this process's place. What runs here runs to its end, or the drain limit.
    async fn upgrade(&mut self) -> Result<u32, String> {
        let watch = self.current.load_full();
        let Some(handover) = watch.settings.handover.clone() else {
            return Err("this process cannot be replaced".to_owned());
        };
        let handed = spawn_blocking(move || handover.hand_over()).await;
        match handed.map_err(io::Error::other).flatten() {
            Ok(pid) => {
                let words = format!("process {pid} serves from now on; this one ends what it has begun");
                watch.say(LogLevel::Info, &words);
                if let Some(admin) = &self.replaced.admin {
                    admin.abort();
                }
                let _ = self.replaced.stop.try_send(Stop::Replaced); // full of requests to stop: it stops
                Ok(pid)
            }
            Err(error) => {
                watch.say(LogLevel::Error, &format!("not replaced: {error}"));
                Err(error.to_string())
            }
        }
    }
}

/// Puts a plan in force that follows the one before, and waits until the shards serve by it.
async fn put(current: &Current, source: &Source, plan: Plan) -> Arc<Watch> {
    let (old, plan) = (current.load_full(), Arc::new(plan));
    plan.begin_shares(clock::now());
    let (next, outboxes) = old.next(plan.clone(), source.settings.log);
    let next = Arc::new(next);
    next.access.change(source.settings.admin_token, &source.settings.admin_hosts);
    next.show(&source.basis.roster);
    current.store(next.clone());
    for (mailbox, outbox) in source.mailboxes.iter().zip(outboxes) {
        mailbox.put((plan.clone(), outbox)); // one that was not taken has served nobody
    }
    plan.revoke_missing(&old.plan);
    taken(&next).await;
    next
}

/// Waits until every shard serves by the plan; one that stands still is not waited for long.
async fn taken(watch: &Watch) {
    let taken = |shard: &Arc<ShardInbox>| shard.numbers.get(Counter::PlanGeneration) >= watch.plan.generation;
    for _ in 0..TAKEN_LOOKS {
        if watch.shards.iter().all(taken) {
            return;
        }
        sleep(TAKEN_LOOK).await;
    }
}

/// What the process was started with and would have to be started anew for.
fn fixed(old: &Plan, was: &Settings, new: &Plan, is: &Settings) -> Vec<&'static str> {
    let places = |plan: &Plan| -> Vec<_> {
        plan.listeners.iter().map(|listener| (listener.address, listener.tls.is_some())).collect()
    };
    let all = [
        ("listen", places(old) != places(new)),
        ("shards", old.shards != new.shards),
        ("admin.listen", was.admin != is.admin),
        ("driver", was.driver != is.driver),
        ("access_log", was.access_log != is.access_log),
        ("store", was.store != is.store),
        ("shared", was.shared != is.shared),
    ];
    all.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}

fn duties(watch: &Arc<Watch>) -> JoinSet<()> {
    let mut duties = JoinSet::new();
    resolve::spawn(watch, &mut duties);
    probe::spawn(watch, &mut duties);
    scrape::spawn(watch, &mut duties);
    issuers::spawn(watch, &mut duties);
    duties
}
