//! Active health checks: one task per backend, so that a slow one delays no other.
//!
//! Up means 2xx to a plain GET of its health path; our credential goes along to hosted providers only, whose every
//! path asks for one. What passive failures say is the breaker's business; a probe
//! neither opens nor closes it, so a health path that lies cannot put a failing backend back into service.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::aggregate::{ProbeReport, Watch};
use super::fetch::{self, Failure, Fetch};
use super::lock;
use crate::clock;
use crate::config::LogLevel;
use crate::plan::cells::Health;
use crate::plan::{Backend, HealthProbe};
use crate::units::Nanos;

/// The shortest pause between two probes, whatever the plan says.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// Consecutive results, and what they make of a backend.
struct Verdict {
    health: Health,
    /// Results in a row that speak against `health`.
    contrary: u32,
}

/// Probes every backend that has a health path, the first time at once.
pub(super) fn spawn(watch: &Arc<Watch>, duties: &mut JoinSet<()>) {
    for backend in &watch.plan.backends {
        let Some(path) = backend.health.path.clone() else {
            continue;
        };
        let (watch, id) = (watch.clone(), backend.id);
        duties.spawn(async move {
            let backend = watch.plan.backends.row(id);
            let mut verdict = Verdict { health: watch.plan.backends.cells(id).probed(), contrary: 0 };
            let mut random = RandomState::new().hash_one(id) | 1;
            loop {
                let unreached = &watch.plan.backends.cells(id).unreached;
                let result = probe(backend, &path).await.map_err(|failure| {
                    if let Some(reason) = failure.reason {
                        unreached.note(reason, clock::now());
                    }
                    failure.words
                });
                let before = verdict.health;
                let health = verdict.after(result.is_ok(), &backend.health);
                watch.plan.backends.cells(id).set_health(health);
                if let Some((level, words)) = told(&backend.name, &result, before, health) {
                    watch.say(level, &words);
                }
                watch.probes[id.index()].tell(result);
                sleep(pause(backend.health.interval, &mut random)).await;
            }
        });
    }
}

impl Verdict {
    /// The first result decides about a backend nothing is known of, unless it is a failure: those are counted.
    fn after(&mut self, success: bool, rule: &HealthProbe) -> Health {
        let (found, needed) =
            if success { (Health::Up, rule.successes) } else { (Health::Down, rule.failures) };
        if found == self.health {
            self.contrary = 0;
            return self.health;
        }
        self.contrary = self.contrary.saturating_add(1);
        let first_success = success && self.health == Health::Unknown;
        if first_success || self.contrary >= needed {
            *self = Self { health: found, contrary: 0 };
        }
        self.health
    }
}

/// What an operator hears of a probe.
fn told(
    name: &str,
    result: &Result<(), String>,
    before: Health,
    after: Health,
) -> Option<(LogLevel, String)> {
    match (result, after) {
        (Err(reason), Health::Down) if before != after => {
            Some((LogLevel::Warn, format!("backend {name} is down: {reason}")))
        }
        (Err(reason), _) => Some((LogLevel::Debug, format!("backend {name} failed a probe: {reason}"))),
        (Ok(()), Health::Up) if before != after => Some((LogLevel::Info, format!("backend {name} is up"))),
        (Ok(()), _) => None,
    }
}

impl ProbeReport {
    fn tell(&self, result: Result<(), String>) {
        match result {
            Ok(()) => self.successes.fetch_add(1, Ordering::Relaxed),
            Err(reason) => {
                *lock(&self.last_failure) = Some(reason);
                self.failures.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

/// The interval, a fifth more or less, so that probes of many gateways do not fall together. `random` moves on
/// (xorshift; never zero).
fn pause(interval: Nanos, random: &mut u64) -> Duration {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let share = 0.8 + 0.4 * (*random >> 11) as f64 / (1_u64 << 53) as f64;
    Duration::from_nanos(interval.0).mul_f64(share).max(PAUSE_MIN)
}

/// Asks once.
async fn probe(backend: &Backend, path: &str) -> Result<(), Failure> {
    let patience = Duration::from_nanos(backend.health.timeout.0);
    fetch::get(backend, &Fetch { path, port: None, bytes_max: 0, purpose: "health" }, patience)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests;
