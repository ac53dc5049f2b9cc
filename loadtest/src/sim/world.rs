//! Virtual time: sessions, a router and engines, one event after another.

use super::router::{Placed, Router, Rule};
use super::workload::{Session, Workload};
use crate::chance::{Chance, mix};
use crate::gpusim::engine::{Engine, Job, JobId, Progress, Speed};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Whose traffic.
    pub workload: Workload,
    /// Who chooses.
    pub rule: Rule,
    /// Engines.
    pub engines: usize,
    /// Shards of the gateway.
    pub shards: usize,
    /// Speed of an engine.
    pub speed: Speed,
    /// Sessions that arrive in a second.
    pub session_rate: f64,
    /// Seconds that are simulated, and those at the start that are not measured.
    pub seconds: f64,
    /// See `seconds`.
    pub warm_up: f64,
    /// The first so many engines run at half speed, and the last one stalls for 15 s in the middle.
    pub slow: usize,
    /// Fixes all chance.
    pub seed: u64,
}

/// What was measured, in seconds.
#[derive(Debug, Default)]
pub struct Measured {
    /// Time to first token of each turn that began after the warm-up.
    pub first_token: Vec<f64>,
    /// Mean time per output token after the first, of each such turn.
    pub per_token: Vec<f64>,
    /// Prompt tokens, and those that came from a cache.
    pub prompt_tokens: u64,
    /// See `prompt_tokens`.
    pub cached_tokens: u64,
    /// Turns that ended.
    pub completed: u64,
    /// Turns that did not get a first token before the end.
    pub starved: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A session arrives.
    Arrival,
    /// A session sends its next turn.
    Turn { session: usize },
    /// A step of an engine ends.
    Step { engine: usize },
}

struct Client {
    session: Session,
    next: usize,
    /// Responses that its present turn waits for.
    open: usize,
}

struct Live {
    client: usize,
    turn: usize,
    placed: Placed,
    started: f64,
    first: Option<f64>,
}

/// The state between two events.
pub struct World<'a> {
    scene: &'a Scene,
    now: f64,
    order: u64,
    due: BinaryHeap<Reverse<(u64, u64, Event)>>,
    engines: Vec<Engine>,
    /// The step that runs on each engine; what is ready at its end.
    steps: Vec<Option<Vec<Progress>>>,
    router: Router,
    clients: Vec<Client>,
    live: HashMap<(usize, JobId), Live>,
    arrivals: Chance,
    stall: Option<f64>,
    measured: Measured,
}

/// Runs a scene to its end.
pub fn run(scene: &Scene) -> Measured {
    let kv_blocks = scene.speed.kv_tokens / crate::gpusim::engine::BLOCK_TOKENS;
    let engine = |index: usize| {
        let mut speed = scene.speed.clone();
        if index < scene.slow {
            speed.prefill_rate /= 2.0;
            speed.step *= 2;
        }
        Engine::new(speed)
    };
    let mut world = World {
        scene,
        now: 0.0,
        order: 0,
        due: BinaryHeap::new(),
        engines: (0..scene.engines).map(engine).collect(),
        steps: (0..scene.engines).map(|_| None).collect(),
        router: Router::new(scene.rule, scene.engines, kv_blocks, scene.shards, scene.seed),
        clients: Vec::new(),
        live: HashMap::new(),
        arrivals: Chance::new(mix(scene.seed)),
        stall: (scene.slow > 0).then_some(scene.warm_up + (scene.seconds - scene.warm_up) / 2.0),
        measured: Measured::default(),
    };
    world.at(0.0, Event::Arrival);
    world.run();
    world.measured
}

impl World<'_> {
    fn run(&mut self) {
        while let Some(Reverse((at, _, event))) = self.due.pop() {
            self.now = at as f64 / 1e9;
            if self.now > self.scene.seconds {
                break;
            }
            match event {
                Event::Arrival => self.arrive(),
                Event::Turn { session } => self.send(session),
                Event::Step { engine } => self.stepped(engine),
            }
        }
        let measures = |live: &&Live| live.started >= self.scene.warm_up && live.first.is_none();
        self.measured.starved = self.live.values().filter(measures).count() as u64;
        // Starved turns have waited at least until now: leaving them out would flatter an overloaded rule.
        let waited = self.live.values().filter(measures).map(|live| self.scene.seconds - live.started);
        self.measured.first_token.extend(waited);
        for live in std::mem::take(&mut self.live).into_values() {
            self.router.end(live.placed);
        }
        assert!(self.router.is_empty(), "every count returns to zero");
    }

    fn at(&mut self, seconds: f64, event: Event) {
        self.order += 1;
        self.due.push(Reverse(((seconds * 1e9) as u64, self.order, event)));
    }

    fn arrive(&mut self) {
        let session = self.scene.workload.session(self.scene.seed, self.clients.len() as u64);
        let index = self.clients.len();
        self.clients.push(Client { session, next: 0, open: 0 });
        self.send(index);
        let gap = self.arrivals.exponential(1.0 / self.scene.session_rate);
        self.at(self.now + gap, Event::Arrival);
    }

    fn send(&mut self, index: usize) {
        let turn = self.clients[index].next;
        let siblings = if turn == 0 { self.clients[index].session.siblings } else { 0 };
        self.clients[index].next += 1;
        self.clients[index].open = siblings + 1;
        for sibling in 0..=siblings {
            self.dispatch(index, turn, sibling);
        }
    }

    fn dispatch(&mut self, index: usize, turn: usize, sibling: usize) {
        let session = &self.clients[index].session;
        let (blocks, prompt_tokens) = (session.blocks(turn, sibling), session.prompt_tokens(turn));
        let output_tokens = session.turns[turn].output_tokens;
        // A connection stays on its shard, but agents and SDKs open several.
        let shard = (mix(index as u64 * 64 + turn as u64 + sibling as u64) % self.scene.shards.max(1) as u64)
            as usize;
        let placed = self.router.place(&self.engines, shard, &blocks, prompt_tokens, output_tokens, self.now);
        let engine = placed.engine;
        let job = Job { block_hashes: blocks, prompt_tokens, output_tokens };
        match self.engines[engine].add(job) {
            Ok(id) => {
                let live = Live { client: index, turn, placed, started: self.now, first: None };
                self.live.insert((engine, id), live);
            }
            Err(_) => {
                self.router.end(placed);
                return;
            }
        }
        if self.steps[engine].is_none() {
            self.step(engine);
        }
    }

    fn step(&mut self, engine: usize) {
        let step = self.engines[engine].step();
        let mut end = self.now + step.duration.max(Duration::from_micros(1)).as_secs_f64();
        if let Some(stall) = self.stall.filter(|stall| engine + 1 == self.engines.len() && *stall <= self.now)
        {
            end = end.max(stall + 15.0);
            self.stall = None;
        }
        self.steps[engine] = Some(step.progress);
        self.at(end, Event::Step { engine });
    }

    fn stepped(&mut self, engine: usize) {
        for progress in self.steps[engine].take().unwrap_or_default() {
            self.progress(engine, progress);
        }
        if !self.engines[engine].is_idle() {
            self.step(engine);
        }
    }

    fn progress(&mut self, engine: usize, progress: Progress) {
        let key = (engine, progress.job);
        let (now, warm_up) = (self.now, self.scene.warm_up);
        let Some(live) = self.live.get_mut(&key) else { return };
        if live.first.is_none() {
            live.first = Some(now);
            self.router.first_token(&mut live.placed, now);
            if live.started >= warm_up {
                let prompt_tokens = self.clients[live.client].session.prompt_tokens(live.turn);
                self.measured.first_token.push(now - live.started);
                self.measured.prompt_tokens += prompt_tokens as u64;
                self.measured.cached_tokens += progress.cached_tokens as u64;
            }
        }
        if !progress.last {
            return;
        }
        let Some(live) = self.live.remove(&key) else { return };
        self.router.end(live.placed);
        if live.started >= warm_up {
            self.measured.completed += 1;
            if let Some(first) = live.first.filter(|_| progress.generated > 1) {
                self.measured.per_token.push((now - first) / (progress.generated - 1) as f64);
            }
        }
        let client = &mut self.clients[live.client];
        client.open -= 1;
        if client.open == 0
            && let Some(turn) = client.session.turns.get(client.next)
        {
            let at = now + turn.think;
            self.at(at, Event::Turn { session: live.client });
        }
    }
}
