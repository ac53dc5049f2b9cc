//! Routing policies under simulated load: the gateway's own decision code before the engine model of `gpusim`, in
//! virtual time, with the same sessions for every rule.
//!
//! This is the one part of the package that uses the gateway's code, and only its `policy` room: nothing here parses.

pub mod router;
pub mod sessions;
pub mod workload;
pub mod world;

use crate::gpusim::engine::Speed;
use router::{RULES, Rule};
use std::fmt::Write as _;
use std::time::Duration;
use workload::Workload;
use world::{Measured, Scene};

/// What to simulate.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Traffic.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "chat,agents,unshared")]
    pub workload: Vec<Workload>,
    /// Rules that choose an engine; all if left out.
    #[arg(long, value_delimiter = ',')]
    pub rule: Vec<String>,
    /// Load as a share of what the engines could compute if every prefix were computed once.
    #[arg(long, value_delimiter = ',', default_value = "0.6")]
    pub load: Vec<f64>,
    /// Engines.
    #[arg(long, default_value_t = 8)]
    pub engines: usize,
    /// Shards of the gateway.
    #[arg(long, default_value_t = 4)]
    pub shards: usize,
    /// Seeds: 1 up to this number; the median over them is shown.
    #[arg(long, default_value_t = 3)]
    pub seeds: u64,
    /// Simulated seconds.
    #[arg(long, default_value_t = 180.0)]
    pub seconds: f64,
    /// Of those, at the start, not measured.
    #[arg(long, default_value_t = 60.0)]
    pub warm_up: f64,
    /// Engines at half speed; with any, the last engine stalls for 15 s as well.
    #[arg(long, default_value_t = 0)]
    pub slow: usize,
    /// KV memory of an engine, in tokens.
    #[arg(long, default_value_t = 400_000)]
    pub kv_tokens: usize,
}

/// One line of the report: medians over the seeds.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Row {
    /// Traffic.
    pub workload: String,
    /// Load.
    pub load: f64,
    /// Rule.
    pub rule: String,
    /// Share of prompt tokens that came from a cache.
    pub hit_ratio: f64,
    /// Time to first token in milliseconds, at 50, 90 and 99 %.
    pub first_token_ms: [f64; 3],
    /// The 99 % value of each seed.
    pub first_token_p99_ms: Vec<f64>,
    /// Time per output token in milliseconds, at 50 and 99 %.
    pub per_token_ms: [f64; 2],
    /// Turns that ended, and turns that never got a token.
    pub completed: f64,
    /// See `completed`.
    pub starved: f64,
}

/// Runs everything that was asked for; `told` is given each row as it is known.
///
/// # Errors
/// A rule that there is not.
pub fn run(options: &Options, mut told: impl FnMut(&Row)) -> Result<Vec<Row>, String> {
    let rules = rules(&options.rule)?;
    let speed = Speed {
        prefill_rate: 20_000.0,
        step: Duration::from_millis(10),
        stream_step: Duration::from_micros(50),
        kv_tokens: options.kv_tokens,
        batch_tokens_max: 8192,
        running_max: 256,
        prefix_cache: true,
    };
    let mut rows = Vec::new();
    for workload in &options.workload {
        for load in &options.load {
            for (name, rule) in &rules {
                let measured: Vec<Measured> = (1..=options.seeds.max(1))
                    .map(|seed| {
                        let work =
                            workload.work_seconds(seed, speed.prefill_rate, speed.stream_step.as_secs_f64());
                        world::run(&Scene {
                            workload: *workload,
                            rule: *rule,
                            engines: options.engines,
                            shards: options.shards,
                            speed: speed.clone(),
                            session_rate: load * options.engines as f64 / work,
                            seconds: options.seconds,
                            warm_up: options.warm_up,
                            slow: options.slow,
                            seed,
                        })
                    })
                    .collect();
                let row = row(&format!("{workload:?}").to_lowercase(), *load, name, &measured);
                told(&row);
                rows.push(row);
            }
        }
    }
    Ok(rows)
}

fn rules(names: &[String]) -> Result<Vec<(&'static str, Rule)>, String> {
    if names.is_empty() {
        return Ok(RULES.to_vec());
    }
    let find = |name: &String| {
        let known = || RULES.map(|(name, _)| name).join(", ");
        let found = RULES.iter().find(|(known, _)| known == name).copied();
        found.ok_or_else(|| format!("there is no rule '{name}'; expected one of {}", known()))
    };
    names.iter().map(find).collect()
}

fn row(workload: &str, load: f64, rule: &str, seeds: &[Measured]) -> Row {
    let over = |value: &dyn Fn(&Measured) -> f64| median(seeds.iter().map(value).collect());
    let first = |share| over(&move |seed: &Measured| 1e3 * quantile(&seed.first_token, share));
    let each = |share| over(&move |seed: &Measured| 1e3 * quantile(&seed.per_token, share));
    Row {
        workload: workload.to_owned(),
        load,
        rule: rule.to_owned(),
        hit_ratio: over(&|seed| seed.cached_tokens as f64 / seed.prompt_tokens.max(1) as f64),
        first_token_ms: [first(0.5), first(0.9), first(0.99)],
        first_token_p99_ms: seeds.iter().map(|seed| 1e3 * quantile(&seed.first_token, 0.99)).collect(),
        per_token_ms: [each(0.5), each(0.99)],
        completed: over(&|seed| seed.completed as f64),
        starved: over(&|seed| seed.starved as f64),
    }
}

impl Row {
    /// The line over the rows.
    pub const HEADER: &str = "workload   load rule                 hit   TTFT ms p50    p90    p99 (seeds)   TPOT p50   p99  turns starved";

    /// One line of the table.
    pub fn line(&self) -> String {
        let [p50, p90, p99] = self.first_token_ms;
        let low = self.first_token_p99_ms.iter().copied().fold(f64::MAX, f64::min);
        let high = self.first_token_p99_ms.iter().copied().fold(0.0, f64::max);
        let [each50, each99] = self.per_token_ms;
        let mut line = String::new();
        let _ = write!(
            line,
            "{:10} {:.2} {:20} {:.3} {p50:10.0} {p90:6.0} {p99:6.0} ({low:.0}-{high:.0}) {each50:8.1} {each99:6.1} {:6.0} {:5.0}",
            self.workload, self.load, self.rule, self.hit_ratio, self.completed, self.starved
        );
        line
    }
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

fn median(values: Vec<f64>) -> f64 {
    quantile(&values, 0.5)
}

#[cfg(test)]
mod tests;
