//! The load driver: open-loop arrivals, sessions, closed loops, traces, and streams held open.
//!
//! Latency counts from the moment a request was meant to be sent, so a stall delays everything planned during it and
//! is not forgotten (no coordinated omission). Memory is flat: a request keeps its connection's buffers and nothing
//! of its answer.

pub mod answer;
pub mod client;
pub mod hold;
pub mod html;
pub mod prompt;
pub mod report;
pub mod tally;
pub mod target;
pub mod trace;

use crate::chance::Chance;
use client::Idle;
use prompt::Shape;
use report::Report;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tally::{Limits, Tally, Tokens, Window};
use target::Target;
use tokio::task::LocalSet;
use tokio::time::Instant;
use trace::{Trace, TraceRequest};

/// What is driven and how.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Options {
    /// The endpoint: http://HOST:PORT, with or without /v1.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// API key, sent as a bearer token.
    #[arg(long, env = "RINGWAY_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Model to ask for.
    #[arg(long, default_value = "mock-model")]
    pub model: String,
    /// Another header for each request, as `name: value`.
    #[arg(long = "header", value_name = "FIELD")]
    pub headers: Vec<String>,
    /// Ask for whole answers rather than streams.
    #[arg(long)]
    pub no_stream: bool,

    /// Open loop: requests per second, whatever the answers do.
    #[arg(long, group = "mode")]
    pub rate: Option<f64>,
    /// With --rate: equal gaps rather than a Poisson process.
    #[arg(long, requires = "rate")]
    pub constant: bool,
    /// Users in conversations: each waits for its answer, thinks, and asks again with the conversation so far.
    #[arg(long, group = "mode")]
    pub sessions: Option<usize>,
    /// Mean of a user's thinking time, in seconds.
    #[arg(long, default_value_t = 5.0)]
    pub think: f64,
    /// Turns of a conversation before the user starts a new one.
    #[arg(long, default_value_t = 8)]
    pub turns: u32,
    /// Closed loop: so many connections, each sending as soon as its answer is there.
    #[arg(long, group = "mode")]
    pub connections: Option<usize>,
    /// Open loop from a JSONL trace (timestamp, input_length, output_length, hash_ids).
    #[arg(long, group = "mode", value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// How many times faster than recorded a trace is replayed.
    #[arg(long, default_value_t = 1.0)]
    pub trace_speed: f64,
    /// Keep so many streams open all the time, and report the ones that drop.
    #[arg(long, group = "mode")]
    pub hold: Option<usize>,
    /// With --hold: seconds over which the streams are opened.
    #[arg(long, default_value_t = 5.0)]
    pub ramp: f64,
    /// With --hold: source addresses 127.0.0.2 and up to spread over; 0 for as many as the ports ask for.
    #[arg(long, default_value_t = 0)]
    pub sources: u8,

    /// Prompt length, at four bytes a token.
    #[arg(long, default_value_t = 32)]
    pub prompt_tokens: usize,
    /// Tokens asked for (`max_tokens`).
    #[arg(long, default_value_t = 64)]
    pub output_tokens: u64,
    /// Make the server generate exactly that many (`ignore_eos`; vLLM, SGLang and the simulator know it).
    #[arg(long)]
    pub ignore_eos: bool,
    /// Prompt tokens that requests with the same prefix share.
    #[arg(long, default_value_t = 0)]
    pub shared_prefix_tokens: usize,
    /// How many such prefixes there are.
    #[arg(long, default_value_t = 16)]
    pub prefixes: u64,

    /// Seconds that are measured.
    #[arg(long, default_value_t = 10.0)]
    pub duration: f64,
    /// Seconds of load before that.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Seconds to wait for answers after the last request.
    #[arg(long, default_value_t = 30.0)]
    pub drain: f64,
    /// Seconds that one answer may take.
    #[arg(long, default_value_t = 600.0)]
    pub timeout: f64,
    /// Requests in flight at most; one more is counted as failed, not sent later.
    #[arg(long, default_value_t = 20_000)]
    pub inflight_max: usize,
    /// Fixes arrivals, thinking times and prompts.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Goodput: time to the first token in ms at most.
    #[arg(long, default_value_t = 1000.0)]
    pub ttft_limit_ms: f64,
    /// Goodput: mean time between the tokens of a request in ms at most.
    #[arg(long, default_value_t = 100.0)]
    pub itl_limit_ms: f64,
}

impl Default for Options {
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        <Line as clap::Parser>::parse_from(["drive"]).options
    }
}

/// How a run is going, for a progress bar.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Share of the planned time that is over.
    pub share: f64,
    /// Requests that ended well.
    pub good: u64,
    /// Requests that failed.
    pub failed: u64,
    /// In flight now.
    pub inflight: usize,
}

/// Drives the endpoint and reports. `progress` is called a few times a second.
///
/// # Errors
/// Options that make no sense, or a trace that cannot be read.
pub fn run(options: &Options, progress: impl FnMut(Progress)) -> Result<Report, String> {
    let target = Target::new(&options.url, options.key.as_deref(), &options.headers)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    LocalSet::new().block_on(&runtime, async {
        match options.hold {
            Some(streams) => hold::run(options, target, streams, progress).await,
            None => drive(options, target, progress).await,
        }
    })
}

/// What the tasks of a run share.
struct Driver {
    options: Options,
    target: Target,
    shape: Shape,
    tally: RefCell<Tally>,
    idle: Idle,
    inflight: Cell<usize>,
    /// Measured requests in flight.
    measured: Cell<u64>,
    failed: Cell<u64>,
    next_index: Cell<u64>,
    /// Plans count from here, so that one seed gives one plan.
    begin: Instant,
    end: Instant,
    timeout: Duration,
}

async fn drive(
    options: &Options,
    target: Target,
    mut progress: impl FnMut(Progress),
) -> Result<Report, String> {
    let begin = Instant::now();
    let start = begin + seconds("--warmup", options.warmup)?;
    let length = seconds("--duration", options.duration)?;
    let limits = Limits {
        ttft: seconds("--ttft-limit-ms", options.ttft_limit_ms / 1e3)?,
        between: seconds("--itl-limit-ms", options.itl_limit_ms / 1e3)?,
    };
    let driver = Rc::new(Driver {
        options: options.clone(),
        target,
        shape: Shape {
            model: options.model.clone(),
            stream: !options.no_stream,
            ignore_eos: options.ignore_eos,
            seed: options.seed,
        },
        tally: RefCell::new(Tally::new(Window { start, length }, limits)),
        idle: Idle::default(),
        inflight: Cell::new(0),
        measured: Cell::new(0),
        failed: Cell::new(0),
        next_index: Cell::new(0),
        begin,
        end: start + length,
        timeout: seconds("--timeout", options.timeout)?,
    });
    seconds("--think", options.think)?;
    let load: std::pin::Pin<Box<dyn Future<Output = Result<(), String>>>> =
        if let Some(sessions) = options.sessions {
            Box::pin(driver.clone().closed(sessions, true))
        } else if let Some(connections) = options.connections {
            Box::pin(driver.clone().closed(connections, false))
        } else if let Some(path) = &options.trace {
            let trace = Trace::open(path)?;
            Box::pin(driver.clone().replay(trace))
        } else {
            let rate = options.rate.unwrap_or(1.0);
            if !(rate.is_finite() && rate > 0.0) {
                return Err("--rate is not a number above 0".to_owned());
            }
            Box::pin(driver.clone().arrivals(rate))
        };
    let drained = driver.end + seconds("--drain", options.drain)?;
    let mut load = tokio::task::spawn_local(load);
    let mut beat = tokio::time::interval(Duration::from_millis(200));
    let mut loading = true;
    while loading || (driver.inflight.get() > 0 && Instant::now() < drained) {
        tokio::select! {
            done = &mut load, if loading => {
                done.map_err(|error| format!("the load stopped: {error}"))??;
                loading = false;
            }
            _ = beat.tick() => {}
        }
        let now = Instant::now();
        let share = (now - begin).as_secs_f64() / (driver.end - begin).as_secs_f64();
        let good = driver.tally.borrow().good;
        let inflight = driver.inflight.get();
        progress(Progress { share: share.min(1.0), good, failed: driver.failed.get(), inflight });
        if loading && now >= drained {
            load.abort();
            loading = false;
        }
    }
    let mut tally = driver.tally.borrow_mut();
    tally.unfinished(driver.measured.get());
    Ok(Report::of(options, &tally))
}

impl Driver {
    /// Open loop at a rate.
    async fn arrivals(self: Rc<Self>, rate: f64) -> Result<(), String> {
        let mut chance = Chance::new(self.options.seed);
        let mut meant = self.begin;
        loop {
            let gap = if self.options.constant { 1.0 / rate } else { chance.exponential(1.0 / rate) };
            meant += Duration::from_secs_f64(gap);
            if meant >= self.end {
                return Ok(());
            }
            until(meant).await;
            let (text, output) = self.plain();
            self.clone().launch(meant, text, output);
        }
    }

    /// Open loop from a trace.
    async fn replay(self: Rc<Self>, trace: Trace) -> Result<(), String> {
        let speed = self.options.trace_speed.max(1e-6);
        for request in trace {
            let TraceRequest { timestamp, input_length, output_length, hash_ids } = request?;
            let offset = Duration::try_from_secs_f64(timestamp / 1e3 / speed).map_err(|e| e.to_string())?;
            let meant = self.begin + offset;
            if meant >= self.end {
                return Ok(());
            }
            until(meant).await;
            let text = self.shape.trace_text(input_length, &hash_ids);
            self.clone().launch(meant, text, output_length.max(1));
        }
        Ok(())
    }

    /// Users that wait for their answers: in conversations with pauses, or at once.
    async fn closed(self: Rc<Self>, users: usize, talk: bool) -> Result<(), String> {
        let mut tasks = tokio::task::JoinSet::new();
        for user in 0..users {
            let driver = self.clone();
            tasks.spawn_local(async move {
                if talk { driver.session(user as u64).await } else { driver.back_to_back().await }
            });
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    async fn back_to_back(&self) {
        while Instant::now() < self.end {
            let (text, output) = self.plain();
            let failed = self.request(Instant::now(), text, output).await;
            if failed {
                // A refused connection must not become a busy loop.
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }

    async fn session(&self, user: u64) {
        let mut chance = Chance::for_item(self.options.seed, user);
        // Users do not all come at once: the first turn of each is somewhere in one thinking time.
        let mut meant = self.begin + Duration::from_secs_f64(self.options.think * chance.share());
        let mut conversation = 0;
        loop {
            let (shared, prefixes) = (self.options.shared_prefix_tokens, self.options.prefixes);
            let prefix = chance.below(prefixes.max(1));
            for turn in 0..self.options.turns.max(1) {
                if meant >= self.end {
                    return;
                }
                until(meant).await;
                // The conversation so far: each turn brought a prompt and an answer.
                let turn_tokens = self.options.prompt_tokens + self.options.output_tokens as usize;
                let tokens = self.options.prompt_tokens + turn as usize * turn_tokens;
                let index = user << 32 | conversation;
                let text = self.shape.text(tokens.max(shared), shared, prefix, index);
                if self.request(meant, text, self.options.output_tokens).await {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                meant = Instant::now() + Duration::from_secs_f64(chance.exponential(self.options.think));
            }
            conversation += 1;
        }
    }

    fn plain(&self) -> (String, u64) {
        let index = self.next_index.get();
        self.next_index.set(index + 1);
        let options = &self.options;
        let prefix = Chance::for_item(options.seed, index).below(options.prefixes.max(1));
        let text = self.shape.text(options.prompt_tokens, options.shared_prefix_tokens, prefix, index);
        (text, options.output_tokens)
    }

    fn launch(self: Rc<Self>, meant: Instant, text: String, output: u64) {
        if self.inflight.get() >= self.options.inflight_max {
            self.failed.set(self.failed.get() + 1);
            let mut tally = self.tally.borrow_mut();
            if tally.window.has(meant) {
                tally.refused(Instant::now());
            }
            return;
        }
        tokio::task::spawn_local(async move { self.request(meant, text, output).await });
    }

    /// One request from when it is meant to be sent to its end; whether it failed.
    async fn request(&self, meant: Instant, text: String, output: u64) -> bool {
        let measured = self.tally.borrow().window.has(meant);
        self.inflight.set(self.inflight.get() + 1);
        self.measured.set(self.measured.get() + u64::from(measured));
        let request = self.target.request(&self.shape.body(&text, output));
        drop(text);
        let sent = Instant::now();
        let mut tokens = Tokens::default();
        let token = |now| {
            let gap = tokens.came(now);
            if measured {
                self.tally.borrow_mut().token(now, gap);
            }
        };
        let outcome = self.idle.exchange(self.target.address, None, &request, self.timeout, token).await;
        self.inflight.set(self.inflight.get() - 1);
        let failed = outcome.failure.is_some();
        self.failed.set(self.failed.get() + u64::from(failed));
        if measured {
            self.measured.set(self.measured.get() - 1);
            self.tally.borrow_mut().ended(meant, sent, &tokens, &outcome);
        }
        failed
    }
}

/// Waits for `time`, if it has not come.
async fn until(time: Instant) {
    if time > Instant::now() {
        tokio::time::sleep_until(time).await;
    }
}

fn seconds(name: &str, value: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(value).map_err(|error| format!("{name}: {error}"))
}

/// Pause of a closed loop after a failure, by taste.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
