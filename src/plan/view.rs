//! What a choice among the members of a pool looks at: the load of each, from the cells of its backend and its deployment.

use super::{Member, Plan};
use crate::policy::routing::balance::View;
use crate::units::Nanos;

impl Plan {
    /// A member of a pool as it stands. What of a prompt it has in its cache is not in it.
    ///
    /// Its load is what this gateway has sent, and what its metrics showed beyond that. A report that is too old counts for
    /// nothing.
    pub fn view(&self, member: &Member, eligible: bool, now: Nanos) -> View {
        let ewma = self.deployments.cells(member.deployment).ewma.get(now);
        let cells = self.backends.cells(member.backend);
        let mut view = View {
            eligible,
            weight: member.weight,
            kv_capacity: self.kv_capacity(member.backend),
            ratio: ewma.ratio,
            samples: ewma.samples,
            ..View::default()
        };
        for load in cells.loads() {
            view.in_flight += load.in_flight();
            view.pending_tokens += load.pending_tokens();
            view.kv_tokens += load.kv_tokens();
        }
        if let Some(report) = cells.signals.get(now, self.report_age_max()) {
            view.in_flight += report.foreign;
            view.pending_tokens += report.foreign_waiting * FOREIGN_PROMPT_TOKENS;
            let reported = report.kv_usage.unwrap_or(0.0) as f64 * view.kv_capacity as f64;
            view.kv_tokens = view.kv_tokens.max(reported as u64);
        }
        view
    }

    /// The age at which a report of an engine no longer counts.
    pub fn report_age_max(&self) -> Nanos {
        Nanos(self.scrape_every.0.saturating_mul(PERIODS_KEPT))
    }
}

/// Intervals for which a report counts. Chosen, not measured: one that is lost does not matter.
pub const PERIODS_KEPT: u64 = 3;
/// Tokens of a waiting prompt that somebody else sent. Chosen, not measured.
const FOREIGN_PROMPT_TOKENS: u64 = 1_000;
