//! What the coordinator knows, and the ticks that gather it from the shards.

use std::convert::Infallible;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::time::{MissedTickBehavior, interval};

use super::Settings;
use super::access::Access;
use super::lock;
use super::log::{Log, LogNumbers};
use super::recent::Recent;
use super::roster::Roster;
use crate::clock;
use crate::config::LogLevel;
use crate::dialect::Api;
use crate::observe::{Before, ShardInbox, ShardOutbox, Totals, Usage};
use crate::plan::availability::Demand;
use crate::plan::cells::Health;
use crate::plan::{Control, Model, Plan, Target, pattern};
use crate::provider::EngineLoad;
use crate::units::{KeyId, Nanos, ShardId};

/// What is watched now. A reload replaces it whole; whoever looks loads it anew each time.
pub type Current = Arc<ArcSwap<Watch>>;

/// Everything the duties share, under one plan. One thread uses it, so its locks are never waited for.
pub struct Watch {
    pub(crate) plan: Arc<Plan>,
    pub(crate) settings: Arc<Settings>,
    /// By position, not by `ShardId`: tests may leave some out.
    pub(crate) shards: Vec<Arc<ShardInbox>>,
    /// What shards may still say under plans before this one.
    older: Mutex<Vec<Older>>,
    pub(crate) control: Arc<Control>,
    /// `None` with the access log off.
    pub(crate) log: Option<Arc<LogNumbers>>,
    /// The newest finished exchanges.
    pub(crate) recent: Arc<Recent>,
    /// By `BackendId`.
    pub(crate) probes: Box<[Arc<ProbeReport>]>,
    /// By `BackendId`.
    pub(crate) scrapes: Box<[Arc<ScrapeReport>]>,
    /// Lookups of backend names that failed; the last good response was kept.
    pub(crate) resolve_failures: Arc<AtomicU64>,
    pub(crate) reloads: Arc<ReloadNumbers>,
    pub(crate) access: Arc<Access>,
    /// Teams, keys and admin tokens of the store, as the plan has them.
    pub(crate) roster: Arc<ArcSwap<Roster>>,
    pub(crate) started: Nanos,
    pub(crate) started_unix_ms: u64,
    /// The least serious that is said.
    level: LogLevel,
    totals: Mutex<Totals>,
}

/// The end of one shard under a plan that is not in force any more: exchanges that began under it may still run.
struct Older {
    plan: Arc<Plan>,
    inbox: Arc<ShardInbox>,
}

/// What probing a backend has shown.
#[derive(Default)]
pub(crate) struct ProbeReport {
    pub(crate) successes: AtomicU64,
    pub(crate) failures: AtomicU64,
    /// Why the last failed probe failed.
    pub(crate) last_failure: Mutex<Option<String>>,
}

/// Time between two readings of the log queues: with room for 8,192 records a shard may settle 400,000 a second.
const LOG_TICK: Duration = Duration::from_millis(20);

/// The same with the log off, when the records are for people only.
const RECENT_TICK: Duration = Duration::from_millis(50);

/// Time between two readings of the histograms.
const MERGE_TICK: Duration = Duration::from_secs(1);

impl Watch {
    pub(crate) fn new(
        plan: Arc<Plan>,
        settings: Settings,
        shards: Vec<ShardInbox>,
        control: Arc<Control>,
        log: Option<Arc<LogNumbers>>,
    ) -> Self {
        let started_unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        Self {
            totals: Mutex::new(Totals::new(plan.models.len())),
            older: Mutex::default(),
            probes: plan.backends.iter().map(|_| Arc::default()).collect(),
            scrapes: plan.backends.iter().map(|_| Arc::default()).collect(),
            recent: Arc::default(),
            resolve_failures: Arc::default(),
            reloads: Arc::default(),
            access: Arc::new(Access::new(settings.admin_token, &settings.admin_hosts)),
            roster: Arc::default(),
            started: clock::now(),
            started_unix_ms,
            level: settings.log,
            plan,
            settings: Arc::new(settings),
            shards: shards.into_iter().map(Arc::new).collect(),
            control,
            log,
        }
    }

    /// What is watched once `plan` is in force, and each shard's end of it, in the order of `shards`. `level`: the least
    /// serious that is said from then on.
    pub(crate) fn next(&self, plan: Arc<Plan>, level: LogLevel) -> (Self, Vec<ShardOutbox>) {
        let before = before(&self.plan, &plan);
        let (outboxes, shards) =
            self.shards.iter().map(|inbox| inbox.next(&before)).unzip::<_, _, Vec<_>, Vec<_>>();
        self.merge();
        self.forget(); // also between two ticks: reloads may come faster
        let mut older = std::mem::take(&mut *lock(&self.older));
        older.extend(self.shards.iter().map(|inbox| Older { plan: self.plan.clone(), inbox: inbox.clone() }));
        let probes = before.backends.iter().map(|id| match id {
            Some(id) => self.probes[id.index()].clone(),
            None => Arc::default(),
        });
        let scrapes = before.backends.iter().map(|id| match id {
            Some(id) => self.scrapes[id.index()].clone(),
            None => Arc::default(),
        });
        let next = Self {
            totals: Mutex::new(self.totals().next(&before)),
            older: Mutex::new(older),
            probes: probes.collect(),
            scrapes: scrapes.collect(),
            recent: self.recent.clone(),
            resolve_failures: self.resolve_failures.clone(),
            reloads: self.reloads.clone(),
            access: self.access.clone(),
            roster: self.roster.clone(),
            started: self.started,
            started_unix_ms: self.started_unix_ms,
            level,
            plan,
            settings: self.settings.clone(),
            shards: shards.into_iter().map(Arc::new).collect(),
            control: self.control.clone(),
            log: self.log.clone(),
        };
        (next, outboxes)
    }

    /// Shows a roster, and lets in the operators that it has.
    pub(crate) fn show(&self, roster: &Arc<Roster>) {
        self.access.operators.store(Arc::new(roster.operators()));
        self.roster.store(Arc::clone(roster));
    }

    /// Tells an operator, if that is serious enough.
    pub(crate) fn say(&self, level: LogLevel, words: &str) {
        if level <= self.level {
            (self.settings.say)(words);
        }
    }

    /// Tells an operator why backends cannot be reached; what does not fit now is told at the next tick.
    fn say_unreached(&self) {
        let now = clock::now();
        for backend in &self.plan.backends {
            let unreached = &self.plan.backends.cells(backend.id).unreached;
            if let Some((reason, count)) = unreached.untold(now) {
                let times = if count == 1 { String::new() } else { format!(" ({count} times)") };
                let name = &backend.name;
                let via = backend.proxy.as_ref().map_or(String::new(), |proxy| format!(" via proxy {proxy}"));
                self.say(
                    LogLevel::Warn,
                    &format!("backend {name} cannot be reached{via}: {}{times}", reason.words()),
                );
            }
        }
    }

    /// Takes in the histograms that shards have handed over.
    pub(crate) fn merge(&self) {
        let mut totals = self.totals();
        for shard in &self.shards {
            shard.merge_into(&mut totals, Some);
        }
        for Older { plan, inbox } in lock(&self.older).iter() {
            inbox.merge_into(&mut totals, |id| {
                self.plan.models.named(&plan.models.row(id).name).map(|row| row.id)
            });
        }
    }

    /// The plans that something is still served by, or that a record still names rows of; the one in force comes first.
    pub(crate) fn plans(&self) -> Vec<Arc<Plan>> {
        let mut plans = vec![self.plan.clone()];
        plans.extend(lock(&self.older).iter().rev().map(|older| older.plan.clone()));
        plans.dedup_by_key(|plan| plan.generation);
        plans
    }

    /// Lets go of the ends that have nothing more to say.
    fn forget(&self) {
        lock(&self.older).retain(|older| !older.inbox.is_over());
    }

    /// Everything measured so far, as of the last merge.
    pub(crate) fn totals(&self) -> MutexGuard<'_, Totals> {
        lock(&self.totals)
    }

    /// A row of usage, summed over the shards.
    pub(crate) fn usage(&self, row: impl Fn(&ShardInbox) -> Usage) -> Usage {
        let mut sum = Usage::default();
        for shard in &self.shards {
            sum += row(shard);
        }
        sum
    }

    /// The numbers of one shard.
    pub(crate) fn shard(&self, shard: ShardId) -> Option<&ShardInbox> {
        self.shards.iter().map(|inbox| &**inbox).find(|inbox| inbox.shard == shard)
    }

    /// Whether a request for this model could be sent to some backend now, as far as is known.
    pub(crate) fn usable(&self, model: &Model, now: Nanos) -> bool {
        let alone = model.pool.len() == 1 && model.fallbacks.is_empty();
        model.pool.iter().any(|member| {
            let row = self.plan.backends.row(member.backend);
            let reachable = matches!(row.target, Target::Unix(_)) || !row.addresses.load().is_empty();
            reachable
                && self.plan.backends.cells(member.backend).health() != Health::Down
                && self.plan.failure_state(member.deployment, alone).blocked(now).is_none()
        })
    }

    /// Whether a backend of a model, or of a fallback that the key may use, can be called now. `asked`: the model as the client names
    /// it.
    pub(crate) fn takes(&self, model: &Model, key: Option<KeyId>, asked: &str, api: Api, now: Nanos) -> bool {
        let plan = &self.plan;
        let name = if model.prefix.is_some() { pattern::hash(asked) } else { 0 };
        let fallbacks = model.fallbacks.iter().map(|id| plan.model(*id));
        let allowed = fallbacks
            .filter(|other| plan.may_use(key, other.id) && plan.allows_fallback(key, model, other, b"{}"));
        let models: Vec<&Model> = std::iter::once(model).chain(allowed).collect();
        models.iter().enumerate().any(|(index, model)| {
            let demand = Demand { api, is_last_model: index + 1 == models.len(), bound: None, name };
            let alone = plan.has_one_choice(model, &demand);
            model.pool.iter().any(|member| {
                let row = plan.backends.row(member.backend);
                let has_address = matches!(row.target, Target::Unix(_)) || !row.addresses.load().is_empty();
                has_address && plan.unavailable(member, &demand, alone, now).is_none()
            })
        })
    }

    /// Whether clients should be sent here, or why not.
    pub(crate) fn ready(&self) -> Result<(), &'static str> {
        if self.control.is_draining() {
            return Err("draining");
        }
        if !self.control.all_started() {
            return Err("shards are starting");
        }
        if self.control.running() == 0 {
            return Err("no shard is running");
        }
        let now = clock::now();
        if !self.plan.models.iter().any(|model| self.usable(model, now)) {
            return Err("no model has a usable backend");
        }
        Ok(())
    }
}

/// What reading the metrics of one backend has shown.
#[derive(Default)]
pub(crate) struct ScrapeReport {
    pub(crate) successes: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) last: Mutex<Last>,
}

/// See [`ScrapeReport`].
#[derive(Clone, Default)]
pub(crate) struct Last {
    /// What the last page said, and when it came.
    pub(crate) page: Option<(EngineLoad, Nanos)>,
    /// Why the last page that did not come did not.
    pub(crate) failure: Option<String>,
}

/// How reloads have fared.
#[derive(Default)]
pub(crate) struct ReloadNumbers {
    pub(crate) done: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Unix milliseconds of the last one, whatever became of it; 0 before the first.
    pub(crate) last_unix_ms: AtomicU64,
    /// Why the last one was refused; `None` after one that was not.
    pub(crate) last_error: Mutex<Option<String>>,
}

/// Which rows of `old` mean the same as those of `new`.
fn before(old: &Plan, new: &Plan) -> Before {
    Before {
        keys: new.keys.iter().map(|row| old.key_named(&row.name).map(|row| row.id)).collect(),
        models: new.models.iter().map(|row| old.model_named(&row.name).map(|row| row.id)).collect(),
        backends: new.backends.iter().map(|row| old.backend_named(&row.name).map(|row| row.id)).collect(),
    }
}

/// Gathers for as long as the process runs.
pub(super) async fn run(current: &Current, mut log: Option<&mut Log>) -> Infallible {
    let mut merges = interval(MERGE_TICK);
    merges.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pumps = interval(if log.is_some() { LOG_TICK } else { RECENT_TICK });
    pumps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = merges.tick() => {
                let watch = current.load();
                watch.merge();
                watch.forget();
                watch.say_unreached();
            }
            _ = pumps.tick() => {
                let watch = current.load();
                match log.as_mut() {
                    // Not everything: the next tick goes on.
                    Some(log) => _ = log.pump(&watch.shards, &watch.plans()),
                    None => watch.recent.pump(&watch.shards, &watch.plans()),
                }
                watch.forget(); // now, while the queues are empty
            }
        }
    }
}
