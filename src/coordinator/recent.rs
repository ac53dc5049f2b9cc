//! The newest finished exchanges, by name, for operators who ask what happened to one.
//!
//! Two rings: everything, and what failed, so that a flood of successes does not push a refusal out within a second. Above
//! what a person can read the rest is only counted. What is kept is metadata: no prompt, no response, no credential.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::lock;
use crate::clock;
use crate::error::FaultKind;
use crate::observe::{Record, RequestId, ShardInbox};
use crate::plan::Plan;
use crate::units::{ModelId, Nanos};

/// Exchanges in each ring: about half a megabyte when both are full.
const ROWS_MAX: usize = 1_000;

/// Exchanges of each ring kept per second. Chosen: more than a person can follow.
const ROWS_PER_SECOND: u32 = 200;

/// First tokens remembered per backend, for its percentiles.
const SAMPLES_MAX: usize = 512;

/// Records taken from one shard in one go, where no access log takes them.
const RECORDS_PER_PUMP: usize = 4_096;

/// One finished exchange. Times are in milliseconds.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Exchange {
    /// Grows by one with every exchange kept by this process.
    pub(crate) number: u64,
    pub(crate) at_unix_ms: u64,
    pub(crate) request_id: RequestId,
    pub(crate) shard: usize,
    pub(crate) client: Option<std::net::IpAddr>,
    pub(crate) api: &'static str,
    pub(crate) key: Option<Box<str>>,
    pub(crate) model: Option<Box<str>>,
    pub(crate) fallback_for: Option<Box<str>>,
    pub(crate) backend: Option<Box<str>>,
    pub(crate) status: u16,
    pub(crate) fault: Option<FaultKind>,
    pub(crate) stream: bool,
    pub(crate) attempts: u8,
    /// Input, cached, output, reasoning; `None` if the backend did not say.
    pub(crate) tokens: Option<[u64; 4]>,
    pub(crate) estimated: bool,
    pub(crate) bytes: [u64; 2],
    pub(crate) duration: Nanos,
    pub(crate) first_token: Option<Nanos>,
    pub(crate) overhead: Nanos,
}

impl Exchange {
    /// Whether it is of interest to a person who looks for what went wrong.
    pub(crate) fn has_failed(&self) -> bool {
        self.fault.is_some() || self.status >= 400
    }
}

/// A first token of one backend.
#[derive(Clone, Copy)]
struct Sample {
    at_unix_ms: u64,
    first_token: Nanos,
}

/// What is kept.
#[derive(Default)]
pub(crate) struct Recent {
    rings: Mutex<Rings>,
    /// Exchanges that were only counted, since more came than are kept.
    pub(crate) skipped: AtomicU64,
}

#[derive(Default)]
struct Rings {
    number: u64,
    all: VecDeque<Arc<Exchange>>,
    failed: VecDeque<Arc<Exchange>>,
    /// By the name of the backend, since rows move when the configuration changes.
    samples: std::collections::BTreeMap<Box<str>, VecDeque<Sample>>,
    /// The second that is being filled, and what it took of each ring.
    second: u64,
    taken: [u32; 2],
}

impl Recent {
    /// Keeps one exchange, if this second has room for it.
    pub(crate) fn push(&self, plan: &Plan, record: &Record) {
        let rings = &mut *lock(&self.rings);
        rings.sample(plan, record);
        let failed = record.fault.is_some() || record.status >= 400;
        let second = clock::unix_ms() / 1_000;
        if second != rings.second {
            (rings.second, rings.taken) = (second, [0; 2]);
        }
        let taken = &mut rings.taken[usize::from(failed)];
        if *taken >= ROWS_PER_SECOND {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        *taken += 1;
        rings.number += 1;
        let row = Arc::new(exchange(rings.number, plan, record));
        if failed {
            keep(&mut rings.failed, row.clone(), ROWS_MAX);
        }
        keep(&mut rings.all, row, ROWS_MAX);
    }

    /// Takes what shards have settled, where no access log does.
    pub(crate) fn pump(&self, shards: &[Arc<ShardInbox>], plans: &[Arc<Plan>]) {
        for shard in shards {
            for _ in 0..RECORDS_PER_PUMP {
                let Some(record) = shard.next_record() else { break };
                if let Some(plan) = plans.iter().find(|plan| plan.generation == record.plan) {
                    self.push(plan, &record);
                }
            }
        }
    }

    /// The newest first: what `matches`, older than `before` (0: from the newest on), at most `most`.
    pub(crate) fn find(
        &self,
        before: u64,
        most: usize,
        matches: impl Fn(&Exchange) -> bool,
    ) -> Vec<Arc<Exchange>> {
        let rings = lock(&self.rings);
        let oldest = rings.all.front().map_or(u64::MAX, |row| row.number);
        let older = rings.failed.iter().rev().filter(|row| row.number < oldest);
        let rows = rings.all.iter().rev().chain(older);
        rows.filter(|row| (before == 0 || row.number < before) && matches(row)).take(most).cloned().collect()
    }

    /// The newest after `number`, oldest first: at most `most`, and how many more there were.
    pub(crate) fn after(&self, number: u64, most: usize) -> (Vec<Arc<Exchange>>, u64) {
        let rings = lock(&self.rings);
        let mut rows: Vec<_> =
            rings.all.iter().rev().take_while(|row| row.number > number).take(most).cloned().collect();
        rows.reverse();
        let more = rings.number.saturating_sub(number).saturating_sub(rows.len() as u64);
        (rows, more)
    }

    /// The number of the newest.
    pub(crate) fn newest(&self) -> u64 {
        lock(&self.rings).number
    }

    /// Median and 99th percentile of the time to the first token of a backend since `since_unix_ms`, and of how many.
    pub(crate) fn first_tokens(&self, backend: &str, since_unix_ms: u64) -> Option<(Nanos, Nanos, usize)> {
        let rings = lock(&self.rings);
        let mut times: Vec<Nanos> = rings
            .samples
            .get(backend)?
            .iter()
            .filter(|sample| sample.at_unix_ms >= since_unix_ms)
            .map(|sample| sample.first_token)
            .collect();
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).or(times.last()).copied();
        Some((at(50)?, at(99)?, times.len()))
    }
}

impl Rings {
    fn sample(&mut self, plan: &Plan, record: &Record) {
        let Some(first_token) = record.time_to_first_token else { return };
        let Some(backend) = record.backend.and_then(|id| plan.backends.get(id.index())) else { return };
        let sample = Sample { at_unix_ms: record.at_unix_ms, first_token };
        match self.samples.get_mut(&*backend.name) {
            Some(samples) => keep(samples, sample, SAMPLES_MAX),
            None => {
                self.samples.retain(|name, _| plan.backends.named(name).is_some());
                self.samples.insert(backend.name.clone(), VecDeque::from([sample]));
            }
        }
    }
}

fn keep<T>(ring: &mut VecDeque<T>, row: T, most: usize) {
    if ring.len() >= most {
        ring.pop_front();
    }
    ring.push_back(row);
}

/// Names instead of rows: the plan may be gone before the exchange is looked at.
fn exchange(number: u64, plan: &Plan, record: &Record) -> Exchange {
    let model = |id: Option<ModelId>| Some(plan.models.get(id?.index())?.name.clone());
    let tokens = [record.input_tokens, record.cached_tokens, record.output_tokens, record.reasoning_tokens];
    Exchange {
        number,
        at_unix_ms: record.at_unix_ms,
        request_id: record.request_id,
        shard: record.shard.index(),
        client: record.client,
        api: record.api,
        key: record.key.and_then(|id| plan.keys.get(id.index())).map(|key| key.name.clone()),
        model: model(record.model),
        fallback_for: model(record.fallback_for),
        backend: record.backend.and_then(|id| plan.backends.get(id.index())).map(|row| row.name.clone()),
        status: record.status,
        fault: record.fault,
        stream: record.stream,
        attempts: record.attempts,
        tokens: record.usage_known.then_some(tokens),
        estimated: record.estimated,
        bytes: [record.request_bytes, record.response_bytes],
        duration: record.duration,
        first_token: record.time_to_first_token,
        overhead: record.overhead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::fixture;
    use crate::observe::record::tests::sample;

    fn plan() -> Plan {
        fixture::plan(&[fixture::tcp("192.0.2.1", 8000)])
    }

    #[test]
    fn a_failure_outlives_a_flood_of_successes() {
        let (recent, plan) = (Recent::default(), plan());
        recent.push(&plan, &Record { status: 429, fault: Some(FaultKind::TokensExceeded), ..sample() });
        for _ in 0..2 * ROWS_MAX {
            lock(&recent.rings).taken = [0; 2];
            recent.push(&plan, &sample());
        }
        let failed = recent.find(0, 10, Exchange::has_failed);
        assert_eq!(failed.len(), 1);
        assert_eq!((failed[0].number, failed[0].key.as_deref()), (1, Some("team \"blue\"\n")));
        assert_eq!(recent.find(0, usize::MAX, |_| true).len(), ROWS_MAX + 1);
    }

    #[test]
    fn a_second_keeps_so_many_and_counts_the_rest() {
        let (recent, plan) = (Recent::default(), plan());
        for _ in 0..3 * ROWS_PER_SECOND {
            recent.push(&plan, &sample());
        }
        let kept = recent.newest();
        // The clock may have moved on to the next second in between, once.
        assert!((u64::from(ROWS_PER_SECOND)..=2 * u64::from(ROWS_PER_SECOND)).contains(&kept), "{kept}");
        assert_eq!(recent.skipped.load(Ordering::Relaxed) + kept, 3 * u64::from(ROWS_PER_SECOND));
    }

    #[test]
    fn pages_go_on_where_the_last_one_ended() {
        let (recent, plan) = (Recent::default(), plan());
        for _ in 0..7 {
            recent.push(&plan, &sample());
        }
        let numbers = |rows: &[Arc<Exchange>]| rows.iter().map(|row| row.number).collect::<Vec<_>>();
        let first = recent.find(0, 3, |_| true);
        assert_eq!(numbers(&first), [7, 6, 5]);
        assert_eq!(numbers(&recent.find(5, 3, |_| true)), [4, 3, 2]);
        let (rows, more) = recent.after(2, 3);
        assert_eq!((numbers(&rows), more), (vec![5, 6, 7], 2));
    }

    #[test]
    fn percentiles_of_a_backend_are_those_of_its_first_tokens() {
        let (recent, plan) = (Recent::default(), plan());
        for count in 1..=100 {
            let first = Some(Nanos(count * 1_000_000));
            recent.push(&plan, &Record { time_to_first_token: first, ..sample() });
        }
        let found = recent.first_tokens("gpu-0", 0);
        assert_eq!(found, Some((Nanos(51_000_000), Nanos(100_000_000), 100)));
        assert_eq!(recent.first_tokens("gpu-0", u64::MAX), None);
        assert_eq!(recent.first_tokens("gpu-9", 0), None);
    }
}
