//! The families about end users. Never by name: their number has no bound that Prometheus could bear.

use crate::coordinator::Watch;
use crate::observe::prometheus::Page;

/// Nothing where no key may name an end user.
pub(super) fn users(page: &mut Page, watch: &Watch) {
    let Some(rules) = &watch.plan.users else { return };
    page.gauge("ringway_end_users", "End users whose use is kept in mind, of at most [end_users] kept.")
        .count(&[], rules.table.count() as u64);
    page.counter(
        "ringway_end_users_forgotten_total",
        "End users forgotten, with what they had used, to make room for others.",
    )
    .count(&[], rules.table.evicted());
}
