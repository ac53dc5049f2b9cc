//! The clock, the clients, the backends, and the walk of each request between them.

mod walk;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use super::judge::{About, Passive, Taken, about};
use super::setting::plan;
use super::{Chance, Voice};
use crate::error::FaultKind;
use crate::plan::cells::{Health, Share};
use crate::plan::{Member, Model, Plan};
use crate::policy::routing::failure_state::{Probes, Report};
use crate::policy::routing::retry::{self, RetryBudget, Sent};
use crate::policy::routing::retry_state::{Failure, Nobody, Reason, RetryState, Rules, Tried};
use crate::shard::dispatch::choose::{Picked, Pool};
use crate::shard::queue::{Queues, Ticket};
use crate::units::{BackendId, DeploymentId, KeyId, Nanos, ShardId};

/// How often the things happened that the rules are about, and the story as one number.
#[derive(Clone, Default, Debug)]
pub(super) struct Totals {
    pub(super) story: u64,
    counts: [u64; WHAT.len()],
}

const WHAT: [&str; 13] = [
    "a request",
    "a response",
    "a failover",
    "a stale connection",
    "a wait",
    "a fallback",
    "a cut answer",
    "a client that left",
    "a place in a queue",
    "a probe",
    "a limit",
    "a retry over budget",
    "a refusal",
];

impl Totals {
    pub(super) fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, count)| *sum += count);
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        WHAT.into_iter().zip(self.counts)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Event {
    Send {
        lane: usize,
    },
    /// What was drawn for a stage of a request; void if the request has gone on since.
    Next {
        request: u64,
        stage: u32,
    },
    Leave {
        request: u64,
    },
    Tick {
        shard: usize,
    },
    Mood {
        backend: usize,
    },
    Probe {
        backend: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Mood {
    Well,
    Refuses,
    Busy,
    Fails,
    Slow,
    Cuts,
    Closes,
    Denies,
    TooLong,
    NoSockets,
}

enum Stage {
    Deciding,
    Queued {
        ticket: Rc<Ticket>,
        ahead: u64,
        served: u64,
        until: Nanos,
    },
    Waiting,
    Asking {
        share: Share,
        attempt: Attempt,
        outcome: Outcome,
        expected: f64,
    },
    Relaying {
        share: Share,
        attempt: Attempt,
        left: u64,
        cut: bool,
        prefilled: bool,
        expected: f64,
        since: Nanos,
    },
}

/// An attempt by its number, and whom it asks.
#[derive(Clone, Copy)]
struct Attempt {
    number: u64,
    deployment: DeploymentId,
    /// There is nobody else to ask.
    alone: bool,
}

#[derive(Clone, Copy)]
enum Outcome {
    Responses { cut: bool },
    Fails(Failure),
}

struct Request {
    lane: usize,
    started: Nanos,
    model: usize,
    retry_state: RetryState,
    /// Members of which model, since the last wait.
    asked: Vec<(usize, usize)>,
    attempts: u32,
    prompt: u64,
    output: u64,
    reserved: Option<u64>,
    /// A backend may have begun the work.
    worked: bool,
    /// The client has content.
    given: bool,
    stage: Stage,
    number: u32,
}

#[derive(Default)]
struct Server {
    mood: Option<Mood>,
    /// What its transport says.
    transport: Passive,
    /// Attempts in flight, and their prompt tokens without a first token.
    in_flight: u64,
    pending: u64,
    /// When it last became free for more.
    freed: Nanos,
    asked_late: u64,
    probes: (u32, u32),
}

#[derive(Default)]
struct Side {
    budget: RetryBudget,
    queues: Queues,
    /// By backend: kept connections, and whether each is alive.
    kept: [Vec<bool>; 3],
    requests: u64,
    retries: u64,
    served: u64,
    ticking: bool,
}

pub(super) struct World {
    now: Nanos,
    voice: Voice,
    chance: Chance,
    random: RefCell<Chance>,
    plan: Rc<Plan>,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    numbers: u64,
    requests: BTreeMap<u64, Request>,
    servers: [Server; 3],
    /// By `DeploymentId`: what their responses say.
    responses: Vec<Passive>,
    sides: [Side; 2],
    taken: [Taken; 2],
    entered: u32,
    totals: Totals,
    hasher: DefaultHasher,
    last: VecDeque<String>,
}

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;
pub(super) const TICK: u64 = 10 * MILLI;
/// No fault after this.
const CALM: Nanos = Nanos(30 * SECOND);
/// From here every backend is asked within [`LATE`]: one that was slow is passed over until its reading is old (30 s).
const SOUND: Nanos = Nanos(CALM.0 + 75 * SECOND);
const LATE: u64 = 45 * SECOND;

impl World {
    pub(super) fn new(seed: u64, voice: Voice) -> Self {
        let mut chance = Chance(seed);
        let plan = Rc::new(plan(&mut chance));
        let responses = plan.deployments.iter().map(|_| Passive::default()).collect();
        let lanes = 3 * chance.within(1, 3) as usize;
        let mut world = Self {
            now: Nanos(SECOND),
            voice,
            random: RefCell::new(Chance(!seed)),
            plan,
            events: BinaryHeap::new(),
            numbers: 0,
            requests: BTreeMap::new(),
            servers: Default::default(),
            responses,
            sides: Default::default(),
            taken: Default::default(),
            entered: 0,
            totals: Totals::default(),
            hasher: DefaultHasher::new(),
            last: VecDeque::new(),
            chance,
        };
        for lane in 0..lanes {
            world.after(lane as u64 * MILLI, Event::Send { lane });
        }
        for backend in 0..3 {
            world.after(0, Event::Mood { backend });
            world.after(0, Event::Probe { backend });
        }
        world
    }

    pub(super) fn totals(mut self) -> Totals {
        self.totals.story = self.hasher.finish();
        self.totals
    }

    pub(super) fn print_last(&self) {
        self.last.iter().for_each(|line| println!("{line}"));
    }

    fn tell(&mut self, what: impl Hash + std::fmt::Debug) {
        (self.now, &what).hash(&mut self.hasher);
        match self.voice {
            Voice::Silent => {}
            Voice::Last => {
                self.last.push_back(format!("{:>14} {what:?}", self.now.to_string()));
                if self.last.len() > 60 {
                    self.last.pop_front();
                }
            }
            Voice::Aloud => println!("{:>14} {what:?}", self.now.to_string()),
        }
    }

    fn count(&mut self, what: &str) {
        let index = WHAT.iter().position(|name| *name == what).expect("a known name");
        self.totals.counts[index] += 1;
    }

    fn after(&mut self, wait: u64, event: Event) {
        self.numbers += 1;
        self.events.push(Reverse((self.now.plus(Nanos(wait)), self.numbers, event)));
    }

    /// A deadline comes with the tick after it.
    fn due(&mut self, at: Nanos, event: Event) {
        self.after(at.since(self.now).0.next_multiple_of(TICK), event);
    }

    /// The time of a shard's last tick.
    fn tick(&self, shard: usize) -> Nanos {
        Nanos(self.now.0 - (self.now.0 + shard as u64 * 3 * MILLI) % TICK)
    }

    fn shard(&self, id: u64) -> usize {
        self.requests[&id].lane % 2
    }

    pub(super) fn run(&mut self) {
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            self.now = at;
            match event {
                Event::Send { lane } => self.send(lane),
                Event::Next { request, stage } => self.next(request, stage),
                Event::Leave { request } => self.leave(request),
                Event::Tick { shard } => self.ticks(shard),
                Event::Mood { backend } => self.mood(backend),
                Event::Probe { backend } => self.probe(backend),
            }
            self.turns();
            self.check();
        }
        assert!(self.requests.is_empty(), "every request ends");
        assert_eq!(self.entered, 0, "every slot of a key is left");
        for (backend, server) in self.servers.iter().enumerate() {
            assert_eq!((server.in_flight, server.pending), (0, 0));
            assert!(server.asked_late > 0, "backend {backend} is not asked again");
        }
    }

    fn check(&mut self) {
        let now = self.now;
        for (index, server) in self.servers.iter().enumerate() {
            let id = BackendId::new(index);
            let cells = self.plan.backends.cells(id);
            server.transport.check(&cells.breaker, now);
            let loads = || self.plan.backends.cells(id).loads();
            assert_eq!(loads().map(|load| load.in_flight()).sum::<u64>(), server.in_flight);
            assert_eq!(loads().map(|load| load.pending_tokens()).sum::<u64>(), server.pending);
            assert_eq!(u64::from(cells.in_flight.count()), server.in_flight);
            assert!(server.in_flight <= u64::from(self.plan.backend(id).in_flight_max), "too many in flight");
        }
        for (index, passive) in self.responses.iter().enumerate() {
            passive.check(&self.plan.deployments.cells(DeploymentId::new(index)).breaker, now);
        }
        assert_eq!(self.plan.keys.cells(KeyId::new(2)).in_flight.count(), self.entered);
        assert!(self.entered <= 2);
        for side in &self.sides {
            let free = 20 * (side.requests / 100 + 1); // first failovers
            assert!(side.retries <= 10 + side.requests / 10 + free, "more retries than the budget has");
        }
    }

    fn mood(&mut self, backend: usize) {
        use Mood::*;
        const BAD: [Mood; 9] = [Refuses, Busy, Fails, Slow, Cuts, Closes, Denies, TooLong, NoSockets];
        let well = self.now >= CALM || self.chance.once_in(3);
        let mood = if well { Well } else { BAD[self.chance.within(0, 8) as usize] };
        self.servers[backend].mood = Some(mood);
        for side in &mut self.sides {
            side.kept[backend].iter_mut().for_each(|alive| *alive = false);
        }
        self.tell(("mood", backend, mood));
        if self.now < CALM {
            let wait = self.chance.within(SECOND / 2, 6 * SECOND);
            let wait = wait.min(CALM.since(self.now).0);
            self.after(wait, Event::Mood { backend });
        }
    }

    fn probe(&mut self, backend: usize) {
        let cells = self.plan.backends.cells(BackendId::new(backend));
        let server = &mut self.servers[backend];
        let (good, bad) = match server.mood {
            Some(Mood::Refuses | Mood::Closes) => (0, server.probes.1 + 1),
            _ => (server.probes.0 + 1, 0),
        };
        server.probes = (good, bad);
        if bad == 3 {
            cells.set_health(Health::Down);
        } else if good == 2 {
            cells.set_health(Health::Up);
            server.freed = self.now;
        }
        if self.now < SOUND {
            self.after(SECOND, Event::Probe { backend });
        }
    }

    fn send(&mut self, lane: usize) {
        if self.now >= SOUND.plus(Nanos(LATE)) {
            return;
        }
        self.numbers += 1;
        let id = self.numbers;
        self.count("a request");
        let (key, shard) = (KeyId::new(lane % 3), lane % 2);
        let (prompt, output) = (self.chance.within(1, 2_000), self.chance.within(1, 1_000));
        let plan = Rc::clone(&self.plan);
        let row = &plan.key(key).grant.limits;
        self.tell(("send", id, lane, prompt));
        if !plan.keys.cells(key).in_flight.try_enter(row.in_flight_max) {
            assert_eq!((key.index(), self.entered), (2, 2), "refused although it may have more in flight");
            return self.limited(lane);
        }
        self.entered += u32::from(key.index() == 2);
        if let Some(rate) = &row.requests {
            let used_up = self.taken[0].is_used_up(rate, self.now);
            let took = plan.keys.cells(key).requests.take(rate, 1, self.now).is_ok();
            assert!(took || used_up, "refused although there was one left");
            if !took {
                plan.keys.cells(key).in_flight.leave();
                return self.limited(lane);
            }
            self.taken[0].add(1, self.now);
            self.taken[0].check(rate, self.now);
        }
        let mut reserved = None;
        if let Some(rate) = &row.tokens {
            if plan.keys.cells(key).tokens.take(rate, prompt + output, self.now).is_err() {
                plan.keys.cells(key).in_flight.leave();
                self.entered -= 1;
                return self.limited(lane);
            }
            self.taken[1].add(i128::from(prompt + output), self.now);
            self.taken[1].check(rate, self.now);
            reserved = Some(prompt + output);
        }
        let request = Request {
            lane,
            started: self.now,
            model: plan.model_named("m").expect("a model").id.index(),
            asked: Vec::new(),
            retry_state: self.retry_state(),
            attempts: 0,
            prompt,
            output,
            reserved,
            worked: false,
            given: false,
            stage: Stage::Deciding,
            number: 0,
        };
        self.requests.insert(id, request);
        self.sides[shard].requests += 1;
        self.sides[shard].budget.earn();
        if self.now < CALM && self.chance.once_in(6) {
            let wait = self.chance.within(0, 2 * SECOND);
            self.after(wait, Event::Leave { request: id });
        }
        self.go_on(id);
    }

    fn retry_state(&self) -> RetryState {
        let retry_wait = self.plan.models[0].timeouts.retry_wait;
        RetryState::new(Rules { attempts_max: self.plan.limits.attempts, retry_wait, resumes: false })
    }

    fn limited(&mut self, lane: usize) {
        self.count("a limit");
        self.think(lane);
    }

    fn think(&mut self, lane: usize) {
        let most = if self.now < CALM || self.now >= SOUND { SECOND / 2 } else { 4 * SECOND };
        let wait = self.chance.within(SECOND / 20, most);
        self.after(wait, Event::Send { lane });
    }

    fn model(&self, id: u64) -> &Model {
        &self.plan.models[self.requests[&id].model]
    }

    fn holds(&self, id: u64) -> bool {
        !self.model(id).fallbacks.is_empty()
    }

    fn set(&mut self, id: u64, stage: Stage) -> Stage {
        let request = self.requests.get_mut(&id).expect("it runs");
        request.number += 1;
        std::mem::replace(&mut request.stage, stage)
    }

    fn next_after(&mut self, id: u64, wait: u64) {
        let stage = self.requests[&id].number;
        self.after(wait, Event::Next { request: id, stage });
    }
}
