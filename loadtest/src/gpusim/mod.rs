//! A GPU inference server, simulated: vLLM's HTTP surface over a step model of the engine.
//!
//! Walk of a request: [`wire`] reads it, [`api`] routes it and submits a job, [`ticker`] lets the [`engine`] run in
//! real time, a [`voice`] says each token in the API's shape, [`reply`] writes it with the asked [`quirk`]s and
//! [`fault`]s.

pub mod api;
pub mod blocks;
pub mod engine;
pub mod fault;
pub mod metrics;
pub mod quirk;
pub mod reply;
pub mod text;
pub mod ticker;
pub mod voice;
pub mod wire;

use crate::address::Address;
use crate::chance::Chance;
use crate::listen::{Listener, listen};
use api::{Length, Server};
use engine::Speed;
use fault::Fault;
use quirk::{Quirk, Quirks};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;
use ticker::Ticker;
use tokio::sync::oneshot;
use wire::{Socket, Wire};

/// What a simulator is like.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Names of the models served; the first is the default.
    #[arg(long = "model", value_name = "NAME", default_value = "mock-model")]
    pub models: Vec<String>,
    /// Fixes all chance.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Prompt tokens computed per second.
    #[arg(long, default_value_t = 20_000.0)]
    pub prefill_rate: f64,
    /// Fixed time of a step, in ms.
    #[arg(long, default_value_t = 10.0)]
    pub step_ms: f64,
    /// Time that each decoding stream adds to a step, in us.
    #[arg(long, default_value_t = 50.0)]
    pub stream_step_us: f64,
    /// KV memory, in tokens.
    #[arg(long, default_value_t = 400_000)]
    pub kv_tokens: usize,
    /// Tokens computed in one step at most (chunked prefill).
    #[arg(long, default_value_t = 8192)]
    pub max_batch_tokens: usize,
    /// Requests in the batch at most; more wait.
    #[arg(long, default_value_t = 256)]
    pub max_running: usize,
    /// Keep no prefixes.
    #[arg(long)]
    pub no_prefix_cache: bool,
    /// Mean of the tokens generated when the request does not force a number; its own limit still holds.
    #[arg(long, default_value_t = 128.0)]
    pub output_tokens: f64,
    /// Share of the mean by which the tokens generated may differ from it, 0 for always the mean.
    #[arg(long, default_value_t = 0.5)]
    pub output_spread: f64,
    /// Habits of a server, comma separated: no-done, usage-in-finish, ignore-stream-options, models-500,
    /// model-suffix, mixed-case-headers, crlf-events, no-space, keepalive-comments, split-writes, separate-head,
    /// close-idle:SECONDS.
    #[arg(long = "quirk", value_delimiter = ',')]
    pub quirks: Vec<Quirk>,
    /// A fault for requests that name none (see the `x-sim-fault` header).
    #[arg(long)]
    pub fault: Option<Fault>,
    /// Share of the requests that `--fault` strikes.
    #[arg(long, default_value_t = 1.0)]
    pub fault_share: f64,
}

impl Default for Options {
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        <Line as clap::Parser>::parse_from(["gpusim"]).options
    }
}

/// A simulator running on its own thread; dropping it stops it and closes its connections.
#[derive(Debug)]
pub struct Running {
    /// Where it listens, with the port the kernel chose.
    pub address: Address,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// The base URL of a simulator that listens on TCP.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has printed itself; nothing is left to do with it here.
            let _ = thread.join();
        }
    }
}

/// Starts a simulator; it answers as soon as this returns.
///
/// # Errors
/// The address cannot be listened on.
pub fn start(address: &Address, options: Options) -> io::Result<Running> {
    let (listener, address) = listen(address, false)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("gpusim".to_owned()).spawn(move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            tokio::select! {
                () = serve(listener, options) => {}
                _ = stopped => {}
            }
        });
    })?;
    Ok(Running { address, stop: Some(stop), thread: Some(thread) })
}

/// Accepts connections until the task is dropped.
async fn serve(listener: Listener, options: Options) {
    let micros = |us: f64| Duration::try_from_secs_f64(us / 1e6).unwrap_or_default();
    let ticker = Ticker::new(Speed {
        prefill_rate: options.prefill_rate.max(1e-3),
        step: micros(options.step_ms * 1e3),
        stream_step: micros(options.stream_step_us),
        kv_tokens: options.kv_tokens,
        batch_tokens_max: options.max_batch_tokens,
        running_max: options.max_running,
        prefix_cache: !options.no_prefix_cache,
    });
    let server = Rc::new(Server {
        ticker: ticker.clone(),
        counts: metrics::Counts::default(),
        chance: RefCell::new(Chance::new(options.seed)),
        answers: Cell::new(0),
        models: options.models,
        length: Length { mean: options.output_tokens, spread: options.output_spread },
        seed: options.seed,
        quirks: Quirks(options.quirks),
        fault: options.fault,
        fault_share: options.fault_share,
    });
    tokio::task::spawn_local(async move { ticker.run().await });
    let listener = match listener.into_tokio() {
        Ok(listener) => listener,
        Err(_) => return,
    };
    loop {
        match listener.accept().await {
            Ok(socket) => {
                let server = server.clone();
                tokio::task::spawn_local(async move { connection(socket, &server).await });
            }
            // Out of descriptors: wait for some to close rather than spin.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(socket: Socket, server: &Rc<Server>) {
    metrics::add(&server.counts.connections, 1);
    metrics::add(&server.counts.connections_open, 1);
    let mut wire = Wire::new(socket);
    server.converse(&mut wire).await;
    server.counts.connections_open.set(server.counts.connections_open.get() - 1);
}
