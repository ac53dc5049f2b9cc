//! The step model: what a GPU engine with continuous batching does with its time and its KV memory.
//!
//! Pure: no clock, no threads. A caller asks for one [`Engine::step`] after another and lets each take its time.
//! The model, per step:
//! - running jobs get tokens to compute first, in order of admission, then waiting ones are admitted first come first
//!   served while the step's token budget, the batch size and KV memory allow (chunked prefill);
//! - the step takes `step + stream_step * decoding jobs + prefill tokens / prefill rate`;
//! - a job whose whole context is computed yields one token.
//!
//! KV memory for the whole prompt is reserved at admission and grows by a block while decoding; when it cannot grow,
//! the youngest running job is preempted: it loses its KV memory and waits at the front to be computed again.

use super::blocks::Blocks;
use std::collections::VecDeque;
use std::time::Duration;

/// How fast and how large the simulated engine is.
#[derive(Debug, Clone)]
pub struct Speed {
    /// Prompt tokens computed per second.
    pub prefill_rate: f64,
    /// Fixed part of every step.
    pub step: Duration,
    /// Added to a step for each job that decodes in it.
    pub stream_step: Duration,
    /// KV memory in tokens.
    pub kv_tokens: usize,
    /// Tokens computed in one step at most, prefill and decode together.
    pub batch_tokens_max: usize,
    /// Jobs running at once at most.
    pub running_max: usize,
    /// Whether prefixes are kept and reused.
    pub prefix_cache: bool,
}

/// One request as the engine sees it.
#[derive(Debug, Clone)]
pub struct Job {
    /// Hash of all prompt text up to the end of each full block of [`BLOCK_TOKENS`] tokens.
    pub block_hashes: Vec<u64>,
    /// Length of the prompt.
    pub prompt_tokens: usize,
    /// Tokens to generate; 0 for work that only reads, such as embeddings.
    pub output_tokens: usize,
}

/// Names a job from [`Engine::add`] to its last progress or its abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(u64);

/// A job's prompt does not fit the KV memory even alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// What one job got out of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Whose.
    pub job: JobId,
    /// Tokens generated so far; 0 only for a job without output.
    pub generated: usize,
    /// Prompt tokens that came from the prefix cache when the job was first admitted.
    pub cached_tokens: usize,
    /// Whether the job is over.
    pub last: bool,
}

/// One step: how long it takes, and what is ready at its end.
#[derive(Debug, Default)]
pub struct Step {
    /// Time from start to end.
    pub duration: Duration,
    /// Progress at its end, in order of admission.
    pub progress: Vec<Progress>,
}

/// Totals since start, for the metrics page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_queries: u64,
    /// Of those, found.
    pub prefix_hits: u64,
    /// Prompt tokens of admitted jobs.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Jobs that lost their KV memory while running.
    pub preemptions: u64,
}

/// A simulated engine.
#[derive(Debug)]
pub struct Engine {
    speed: Speed,
    blocks: Blocks,
    waiting: VecDeque<Live>,
    running: Vec<Live>,
    next_id: u64,
    totals: Totals,
}

#[derive(Debug)]
struct Live {
    id: JobId,
    job: Job,
    generated: usize,
    /// Context tokens whose KV is in memory.
    computed: usize,
    cached_tokens: Option<usize>,
    /// Prefix blocks that are cached and pinned: the first `pinned` of `job.block_hashes`.
    pinned: usize,
    private: usize,
    over: bool,
}

impl Live {
    fn context(&self) -> usize {
        self.job.prompt_tokens + self.generated
    }

    fn held_tokens(&self) -> usize {
        (self.pinned + self.private) * BLOCK_TOKENS
    }

    fn progress(&self) -> Progress {
        Progress {
            job: self.id,
            generated: self.generated,
            cached_tokens: self.cached_tokens.unwrap_or(0),
            last: self.over,
        }
    }

    /// Gives the KV memory back, the end of the prefix first, so that it is given up before its start.
    fn free(&self, blocks: &mut Blocks) {
        blocks.give_back(self.private);
        for hash in self.job.block_hashes[..self.pinned].iter().rev() {
            blocks.unpin(*hash);
        }
    }
}

impl Engine {
    /// An idle engine.
    pub fn new(speed: Speed) -> Self {
        let blocks = Blocks::new(speed.kv_tokens / BLOCK_TOKENS);
        let totals = Totals::default();
        Self { speed, blocks, waiting: VecDeque::new(), running: Vec::new(), next_id: 0, totals }
    }

    /// Queues a job.
    ///
    /// # Errors
    /// [`TooLong`] when the prompt and one token more exceed the KV memory.
    pub fn add(&mut self, job: Job) -> Result<JobId, TooLong> {
        if (job.prompt_tokens + 1).div_ceil(BLOCK_TOKENS) > self.blocks.capacity() {
            return Err(TooLong);
        }
        let id = JobId(self.next_id);
        self.next_id += 1;
        self.waiting.push_back(Live {
            id,
            job,
            generated: 0,
            computed: 0,
            cached_tokens: None,
            pinned: 0,
            private: 0,
            over: false,
        });
        Ok(id)
    }

    /// Drops a job and frees its KV memory; false when it was over already.
    pub fn abort(&mut self, id: JobId) -> bool {
        if let Some(at) = self.waiting.iter().position(|live| live.id == id) {
            self.waiting.remove(at);
            return true;
        }
        let Some(at) = self.running.iter().position(|live| live.id == id) else {
            return false;
        };
        let live = self.running.remove(at);
        live.free(&mut self.blocks);
        true
    }

    /// Whether a step would do anything.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Jobs in the batch.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Jobs queued.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Share of KV memory held by running jobs, 0 to 1.
    pub fn kv_usage(&self) -> f64 {
        self.blocks.used() as f64 / self.blocks.capacity().max(1) as f64
    }

    /// Prompt tokens of all jobs that are not computed yet.
    pub fn pending_tokens(&self) -> usize {
        let jobs = self.waiting.iter().chain(&self.running).filter(|live| live.generated == 0);
        jobs.map(|live| live.context() - live.computed.min(live.context())).sum()
    }

    /// Full blocks at the start of a prompt that are cached now.
    pub fn cached_blocks(&self, hashes: &[u64]) -> usize {
        self.blocks.cached_prefix(hashes)
    }

    /// Longest context a job can have, prompt and output together.
    pub fn context_max(&self) -> usize {
        self.blocks.capacity() * BLOCK_TOKENS
    }

    /// Totals since start.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Computes one step.
    pub fn step(&mut self) -> Step {
        let mut work = Work { budget: self.speed.batch_tokens_max.max(1), ..Work::default() };
        let mut at = 0;
        while at < self.running.len() && work.budget > 0 {
            if self.grow(at, &mut work) {
                self.compute(at, &mut work);
            }
            at += 1;
        }
        while work.budget > 0 && self.admit() {
            self.compute(self.running.len() - 1, &mut work);
        }
        let prefill = Duration::from_secs_f64(work.prefill_tokens as f64 / self.speed.prefill_rate);
        let decode = self.speed.stream_step.saturating_mul(u32::try_from(work.decoding).unwrap_or(u32::MAX));
        for live in self.running.extract_if(.., |live| live.over) {
            live.free(&mut self.blocks);
        }
        Step { duration: self.speed.step + decode + prefill, progress: work.progress }
    }

    /// Moves the first waiting job into the batch if there is room.
    fn admit(&mut self) -> bool {
        let Some(live) = self.waiting.front() else {
            return false;
        };
        if self.running.len() >= self.speed.running_max {
            return false;
        }
        // The last prompt token is always computed, as its result is the first output token.
        let shared_max = live.job.prompt_tokens.saturating_sub(1) / BLOCK_TOKENS;
        let hashes = &live.job.block_hashes[..live.job.block_hashes.len().min(shared_max)];
        let shared = if self.speed.prefix_cache { self.blocks.cached_prefix(hashes) } else { 0 };
        let private = (live.context() + 1).div_ceil(BLOCK_TOKENS) - shared;
        if !self.blocks.has_room(hashes, shared, private) {
            return false;
        }
        for hash in &hashes[..shared] {
            self.blocks.pin(*hash);
        }
        let Some(mut live) = self.waiting.pop_front() else {
            return false;
        };
        let taken = self.blocks.take(private);
        debug_assert!(taken, "has_room said so");
        live.pinned = shared;
        live.private = private;
        live.computed = shared * BLOCK_TOKENS;
        if live.cached_tokens.is_none() {
            live.cached_tokens = Some(live.computed);
            self.totals.prompt_tokens += live.job.prompt_tokens as u64;
            self.totals.prefix_queries += live.job.prompt_tokens as u64;
            self.totals.prefix_hits += live.computed as u64;
        }
        self.running.push(live);
        true
    }

    /// Makes room for the next token of running job `at`; false when it leaves the batch instead.
    fn grow(&mut self, at: usize, work: &mut Work) -> bool {
        while self.running[at].held_tokens() < self.running[at].context() {
            if self.blocks.take(1) {
                self.running[at].private += 1;
                continue;
            }
            if let [live] = &mut self.running[..] {
                // Alone and still too large: it ends here, as an engine ends it at its context limit.
                live.over = true;
                work.progress.push(live.progress());
                return false;
            }
            let Some(mut youngest) = self.running.pop() else {
                return false;
            };
            youngest.free(&mut self.blocks);
            youngest.pinned = 0;
            youngest.private = 0;
            youngest.computed = 0;
            self.totals.preemptions += 1;
            self.waiting.push_front(youngest);
            if at == self.running.len() {
                return false;
            }
        }
        true
    }

    /// Gives running job `at` its share of this step.
    fn compute(&mut self, at: usize, work: &mut Work) {
        let live = &mut self.running[at];
        let need = live.context() - live.computed;
        let scheduled = need.min(work.budget);
        work.budget -= scheduled;
        if live.generated > 0 && need == 1 {
            work.decoding += 1;
        } else {
            work.prefill_tokens += scheduled;
        }
        live.computed += scheduled;
        if self.speed.prefix_cache {
            let full = (live.computed / BLOCK_TOKENS).min(live.job.block_hashes.len());
            while live.pinned < full
                && live.private > 0
                && self.blocks.publish(live.job.block_hashes[live.pinned])
            {
                live.pinned += 1;
                live.private -= 1;
            }
        }
        if live.computed < live.context() {
            return;
        }
        if live.generated < live.job.output_tokens {
            live.generated += 1;
            self.totals.generated_tokens += 1;
        }
        live.over = live.generated >= live.job.output_tokens;
        work.progress.push(live.progress());
    }
}

#[derive(Default)]
struct Work {
    budget: usize,
    prefill_tokens: usize,
    decoding: usize,
    progress: Vec<Progress>,
}

/// Tokens in one KV block, and so the grain of the prefix cache.
pub const BLOCK_TOKENS: usize = 64;

#[cfg(test)]
mod tests;
