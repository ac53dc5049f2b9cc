//! The policies under test: the gateway's own code, and rules that other routers use.

use crate::chance::{Chance, mix};
use crate::gpusim::engine::{BLOCK_TOKENS, Engine};
use ringway::policy::routing::balance::View;
use ringway::policy::routing::choice::{self, Policy, Request};
use ringway::policy::routing::load::Ewma;
use ringway::policy::routing::prefix::{self, Keeper, Note, NoteKind, Recent, Table};
use ringway::units::Nanos;

/// A rule that chooses an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// One of the gateway's own.
    Own(Policy),
    /// The gateway's cost without the outlier guard.
    CostUnguarded,
    /// The gateway's cost before it knew prefixes: every prompt counts in full, and the guard is on.
    CostBlind,
    /// The same without the outlier guard.
    CostBlindUnguarded,
    /// sglang's cache_aware with the defaults of its command line.
    CacheAware,
    /// Consistent hashing of the first block with loads bounded by 1.25 times the mean.
    Chwbl,
    /// The endpoint picker of llm-d: queue 2, KV 2, prefix 3, scraped every 50 ms.
    EndpointPicker,
    /// Two random choices by raw EWMA of the time to first token times requests in flight.
    PeakEwma,
    /// The gateway's cost with the engines' true caches and queues.
    Oracle,
}

/// Every rule by its name.
pub const RULES: [(&str, Rule); 14] = [
    ("cost", Rule::Own(Policy::Cost)),
    ("cost-unguarded", Rule::CostUnguarded),
    ("cost-blind", Rule::CostBlind),
    ("cost-blind-unguarded", Rule::CostBlindUnguarded),
    ("lmetric", Rule::Own(Policy::Lmetric)),
    ("least_request", Rule::Own(Policy::LeastRequest)),
    ("p2c", Rule::Own(Policy::P2c)),
    ("round_robin", Rule::Own(Policy::RoundRobin)),
    ("rendezvous", Rule::Own(Policy::Rendezvous)),
    ("cache_aware", Rule::CacheAware),
    ("chwbl", Rule::Chwbl),
    ("endpoint-picker", Rule::EndpointPicker),
    ("peak-ewma", Rule::PeakEwma),
    ("oracle", Rule::Oracle),
];

/// What the router knows of one engine.
#[derive(Debug, Default)]
struct Known {
    in_flight: u64,
    pending_tokens: u64,
    kv_tokens: u64,
    ewma: Ewma,
    raw_seconds: f64,
    /// As scraped last: waiting, running, KV usage.
    scraped: (usize, usize, f64),
}

/// A request that was placed, to be given back.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    /// On which engine.
    pub engine: usize,
    pending_tokens: u64,
    kv_tokens: u64,
    expected_seconds: f64,
    at: f64,
    first_came: bool,
}

/// A gateway of several shards before some engines.
#[derive(Debug)]
pub struct Router {
    rule: Rule,
    known: Vec<Known>,
    table: Table,
    keeper: Keeper,
    recent: Vec<Recent>,
    /// Placements that the coordinator has not seen.
    notes: Vec<(Note, Vec<u64>)>,
    merge_due: f64,
    scrape_due: f64,
    turn: u64,
    chance: Chance,
}

/// Time between two merges of the shards' placements.
const MERGE_EVERY: f64 = 0.02;
/// Time between two scrapes, for the rules that use them.
const SCRAPE_EVERY: f64 = 0.05;

impl Router {
    /// A router that knows nothing yet. `kv_blocks`: capacity of each engine's cache.
    pub fn new(rule: Rule, engines: usize, kv_blocks: usize, shards: usize, seed: u64) -> Self {
        let capacity = if rule == Rule::CacheAware { kv_blocks * 64 } else { kv_blocks };
        let (table, mut keeper) = (Table::new(capacity.min(1 << 20) * engines), Keeper::default());
        (0..engines).for_each(|engine| keeper.set_capacity(&table, engine, capacity));
        Self {
            rule,
            known: std::iter::repeat_with(Known::default).take(engines).collect(),
            table,
            keeper,
            recent: vec![Recent::default(); shards.max(1)],
            notes: Vec::new(),
            merge_due: 0.0,
            scrape_due: 0.0,
            turn: 0,
            chance: Chance::new(mix(seed ^ 0x70_75_74)),
        }
    }

    /// Chooses an engine for a prompt and counts it there; `shard` is the one that took the request.
    pub fn place(
        &mut self,
        engines: &[Engine],
        shard: usize,
        blocks: &[u64],
        prompt_tokens: usize,
        output_tokens: usize,
        now: f64,
    ) -> Placed {
        self.tick(engines, now);
        let random = self.chance.word();
        let matched = self.matched(engines, shard, blocks, now);
        let prompt = prompt_tokens as u64;
        let views = self.views(engines, &matched, now);
        let request = Request {
            prompt_tokens: prompt,
            affinity: affinity(blocks, &matched, random),
            random,
            turn: self.turn,
        };
        self.turn += 1;
        let engine = match self.rule {
            Rule::Own(policy) => choice::pick(policy, &views, &request),
            Rule::CostUnguarded | Rule::CostBlind | Rule::CostBlindUnguarded | Rule::Oracle => {
                choice::pick(Policy::Cost, &views, &request)
            }
            Rule::CacheAware => Some(self.cache_aware(&matched, blocks.len())),
            Rule::Chwbl => Some(self.chwbl(blocks.get(1).copied().unwrap_or(random))),
            Rule::EndpointPicker => Some(self.endpoint_picker(&matched, blocks.len(), random)),
            Rule::PeakEwma => Some(self.peak_ewma(random)),
        }
        .unwrap_or(0);
        let blind = matches!(self.rule, Rule::CostBlind | Rule::CostBlindUnguarded);
        let cached = if blind { 0 } else { (matched[engine] * BLOCK_TOKENS) as u64 };
        let pending_tokens = prompt.saturating_sub(cached).max(1);
        // The gateway does not know how long a response will be: it takes 256 tokens.
        let kv_tokens = prompt + if self.rule == Rule::Oracle { output_tokens as u64 } else { 256 };
        let known = &mut self.known[engine];
        known.in_flight += 1;
        known.pending_tokens += pending_tokens;
        known.kv_tokens += kv_tokens;
        let at = nanos(now);
        blocks.iter().for_each(|block| self.recent[shard].add(*block, prefix::bit(engine), at));
        let note = Note { kind: NoteKind::Placed, table: 0, member: engine as u8 };
        self.notes.push((note, blocks.to_vec()));
        let expected_seconds = views[engine].first_token_seconds(prompt);
        Placed { engine, pending_tokens, kv_tokens, expected_seconds, at: now, first_came: false }
    }

    /// The first token of a request came.
    pub fn first_token(&mut self, placed: &mut Placed, now: f64) {
        let known = &mut self.known[placed.engine];
        known.pending_tokens -= placed.pending_tokens;
        placed.first_came = true;
        let seconds = now - placed.at;
        known.ewma.observe((seconds / placed.expected_seconds) as f32, nanos(now));
        known.raw_seconds = match known.raw_seconds {
            raw if seconds > raw => seconds,
            raw => raw + 0.1 * (seconds - raw),
        };
    }

    /// A request is over.
    pub fn end(&mut self, placed: Placed) {
        let known = &mut self.known[placed.engine];
        known.in_flight -= 1;
        known.kv_tokens -= placed.kv_tokens;
        known.pending_tokens -= if placed.first_came { 0 } else { placed.pending_tokens };
    }

    /// Whether every count is back at zero.
    pub fn is_empty(&self) -> bool {
        self.known.iter().all(|known| known.in_flight + known.pending_tokens + known.kv_tokens == 0)
    }

    fn tick(&mut self, engines: &[Engine], now: f64) {
        if now >= self.merge_due {
            self.merge_due = now + MERGE_EVERY;
            for (note, blocks) in self.notes.drain(..) {
                self.keeper.place(&self.table, note.member.into(), &blocks);
            }
        }
        if now >= self.scrape_due {
            self.scrape_due = now + SCRAPE_EVERY;
            for (known, engine) in self.known.iter_mut().zip(engines) {
                known.scraped = (engine.waiting(), engine.running(), engine.kv_usage());
            }
        }
    }

    /// Blocks that each engine has, as far as this rule may know.
    fn matched(&self, engines: &[Engine], shard: usize, blocks: &[u64], now: f64) -> Vec<usize> {
        let mut matched = vec![0; self.known.len()];
        match self.rule {
            Rule::Oracle => {
                matched
                    .iter_mut()
                    .zip(engines)
                    .for_each(|(count, engine)| *count = engine.cached_blocks(blocks));
            }
            Rule::CostBlind | Rule::CostBlindUnguarded => {}
            _ => {
                let (recent, at) = (&self.recent[shard], nanos(now));
                let members_of = |block| self.table.get(block) | recent.get(block, at);
                prefix::lengths(blocks, members_of, |member, count| {
                    if let Some(matched) = matched.get_mut(member) {
                        *matched = count;
                    }
                });
            }
        }
        matched
    }

    fn views(&self, engines: &[Engine], matched: &[usize], now: f64) -> Vec<View> {
        let view = |(index, known): (usize, &Known)| {
            let reading = known.ewma.get(nanos(now));
            let guarded = matches!(self.rule, Rule::Own(_) | Rule::CostBlind);
            let mut view = View {
                in_flight: known.in_flight,
                pending_tokens: known.pending_tokens,
                kv_tokens: known.kv_tokens,
                matched_tokens: (matched[index] * BLOCK_TOKENS) as u64,
                ratio: reading.ratio,
                samples: if guarded { reading.samples } else { 0 },
                ..View::default()
            };
            if self.rule == Rule::Oracle {
                view.pending_tokens = engines[index].pending_tokens() as u64;
            }
            view
        };
        self.known.iter().enumerate().map(view).collect()
    }

    fn least(&self, among: impl Fn(usize) -> bool) -> usize {
        let loads = self.known.iter().enumerate().filter(|(index, _)| among(*index));
        loads.min_by_key(|(_, known)| known.in_flight).map_or(0, |(index, _)| index)
    }

    fn cache_aware(&self, matched: &[usize], blocks: usize) -> usize {
        let loads = || self.known.iter().map(|known| known.in_flight);
        let (most, least) = (loads().max().unwrap_or(0), loads().min().unwrap_or(0));
        if most - least > 64 && most as f64 > 1.5 * least as f64 {
            return self.least(|_| true);
        }
        let best = matched.iter().copied().max().unwrap_or(0);
        if best as f64 > 0.3 * blocks.max(1) as f64 {
            return self.least(|engine| matched[engine] == best);
        }
        self.least(|_| true)
    }

    fn chwbl(&self, key: u64) -> usize {
        let total: u64 = self.known.iter().map(|known| known.in_flight).sum();
        let most = 1.25 * (total + 1) as f64 / self.known.len() as f64;
        let mut order: Vec<usize> = (0..self.known.len()).collect();
        order.sort_by_key(|engine| mix(key ^ mix(*engine as u64 + 1)));
        order.into_iter().find(|engine| self.known[*engine].in_flight as f64 <= most).unwrap_or(0)
    }

    fn endpoint_picker(&self, matched: &[usize], blocks: usize, random: u64) -> usize {
        const BLOCKS_SEEN: usize = 4_096 / BLOCK_TOKENS;
        let queues = || self.known.iter().map(|known| known.scraped.0 as f64);
        let (most, least) = (queues().fold(0.0, f64::max), queues().fold(f64::MAX, f64::min));
        let score = |engine: usize| {
            let (waiting, _, kv) = self.known[engine].scraped;
            let queue = if most > least { (most - waiting as f64) / (most - least) } else { 1.0 };
            let seen = blocks.clamp(1, BLOCKS_SEEN);
            2.0 * queue + 2.0 * (1.0 - kv) + 3.0 * matched[engine].min(seen) as f64 / seen as f64
        };
        let ranked = (0..self.known.len()).map(|engine| (score(engine), mix(random ^ engine as u64), engine));
        ranked
            .max_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)))
            .map_or(0, |best| best.2)
    }

    fn peak_ewma(&self, random: u64) -> usize {
        let count = self.known.len() as u64;
        let (one, other) = ((random % count) as usize, (mix(random) % count) as usize);
        let cost = |engine: usize| self.known[engine].raw_seconds * (self.known[engine].in_flight + 1) as f64;
        if cost(other) < cost(one) { other } else { one }
    }
}

/// What keeps requests together that belong together: the first block that no engine has, or the last of all.
fn affinity(blocks: &[u64], matched: &[usize], random: u64) -> u64 {
    let best = matched.iter().copied().max().unwrap_or(0);
    blocks.get(best).or(blocks.last()).copied().unwrap_or(random)
}

fn nanos(seconds: f64) -> Nanos {
    Nanos((seconds * 1e9) as u64)
}
