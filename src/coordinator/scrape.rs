//! Reads the metrics of engines: the requests that this gateway did not send, and what their caches hold.
//!
//! Only engines of a pool with more than one member are read: what is learned serves the choice among them. A page that does
//! not arrive or says nothing is ignored, and the last one counts for `PERIODS_KEPT` intervals.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::aggregate::{ScrapeReport, Watch};
use super::fetch::{self, Fetch};
use super::lock;
use crate::clock;
use crate::plan::cells::BackendCells;
use crate::plan::{Backend, MetricsPage};
use crate::policy::routing::signals::Report;
use crate::provider::EngineLoad;
use crate::units::BackendId;

impl ScrapeReport {
    /// `own`: requests in flight that this gateway has sent.
    fn take(&self, page: Result<EngineLoad, String>, cells: &BackendCells, own: u32) {
        let now = clock::now();
        let mut last = lock(&self.last);
        match page {
            Ok(load) => {
                self.successes.fetch_add(1, Ordering::Relaxed);
                cells.signals.set(report(&load, own), load.kv_tokens, now);
                last.page = Some((load, now));
            }
            Err(reason) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                last.failure = Some(reason);
            }
        }
    }
}

/// Reads the pages of every engine of a pool, the first time at once.
pub(super) fn spawn(watch: &Arc<Watch>, duties: &mut JoinSet<()>) {
    let every = watch.plan.scrape_every;
    if every.0 == 0 {
        return;
    }
    let pools = watch.plan.models.iter().filter(|model| model.pool.len() > 1);
    let chosen_among: BTreeSet<BackendId> =
        pools.flat_map(|model| model.pool.iter().map(|member| member.backend)).collect();
    for id in chosen_among {
        let Some(metrics) = watch.plan.backend(id).metrics.clone() else { continue };
        let watch = Arc::clone(watch);
        duties.spawn(async move {
            let mut ticks = interval(Duration::from_nanos(every.0));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let cells = watch.plan.backends.cells(id);
                let before = cells.in_flight.count();
                let page = read(watch.plan.backend(id), &metrics).await;
                // The page was made between these two counts: the larger one mistakes none of our requests for another's.
                let own = before.max(cells.in_flight.count());
                watch.scrapes[id.index()].take(page, cells, own);
            }
        });
    }
}

/// What a page says.
///
/// # Errors
/// It did not arrive, or says nothing of the load.
async fn read(backend: &Backend, metrics: &MetricsPage) -> Result<EngineLoad, String> {
    let fetch =
        Fetch { path: &metrics.path, port: metrics.port, bytes_max: PAGE_BYTES_MAX, purpose: "metrics" };
    let patience = Duration::from_nanos(backend.health.timeout.0);
    let body = fetch::get(backend, &fetch, patience).await.map_err(|failure| failure.words)?;
    let load = metrics.names.read(&String::from_utf8_lossy(&body));
    match load == EngineLoad::default() {
        true => Err(format!("{} has none of the metrics of this kind", metrics.path)),
        false => Ok(load),
    }
}

/// What of a page a shard cannot know. A page without the running requests says nothing of foreign ones.
fn report(load: &EngineLoad, own: u32) -> Report {
    let waiting = load.waiting.unwrap_or(0);
    let foreign = load.running.map_or(0, |running| running.saturating_add(waiting).saturating_sub(own));
    Report { foreign: foreign.into(), foreign_waiting: foreign.min(waiting).into(), kv_usage: load.kv_usage }
}

/// Bytes of a page that are read. Chosen, not measured: vLLM's has about 60 KiB.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_gateway_did_not_send_is_foreign() {
        let load = EngineLoad { running: Some(10), waiting: Some(4), ..EngineLoad::default() };
        let of = |own| (report(&load, own).foreign, report(&load, own).foreign_waiting);
        assert_eq!([of(0), of(9), of(12), of(14), of(99)], [(14, 4), (5, 4), (2, 2), (0, 0), (0, 0)]);
        let silent = EngineLoad { running: None, waiting: Some(4), ..EngineLoad::default() };
        assert_eq!(report(&silent, 0), Report::default());
    }
}
