//! The families about issuers of JSON Web Tokens.

use std::sync::atomic::Ordering;

use crate::clock;
use crate::coordinator::Watch;
use crate::observe::prometheus::Page;

/// Nothing where none is configured.
pub(super) fn issuers(page: &mut Page, watch: &Watch) {
    let (issuers, now) = (&watch.plan.issuers, clock::now());
    if issuers.is_empty() {
        return;
    }
    let all = || issuers.iter().map(|row| (&*row.name, issuers.cells(row.id)));
    let mut family = page.counter("ringway_issuer_reads_total", "Readings of the issuer's keys, by outcome.");
    for (name, cells) in all() {
        for (outcome, count) in ["read", "failed"].into_iter().zip(&cells.reads) {
            family.count(&[("issuer", name), ("outcome", outcome)], count.load(Ordering::Relaxed));
        }
    }
    let mut family = page.gauge("ringway_issuer_keys", "Keys of the issuer in use; 0 before they were read.");
    for (name, cells) in all() {
        let count = cells.keys.load().as_ref().map_or(0, |keys| keys.1.count());
        family.count(&[("issuer", name)], count as u64);
    }
    let mut family = page
        .gauge("ringway_issuer_keys_age_seconds", "Time since the issuer's keys were read, once they were.");
    for (name, cells) in all().filter(|(_, cells)| cells.keys.load().is_some()) {
        family.value(&[("issuer", name)], cells.age(now).seconds());
    }
}
