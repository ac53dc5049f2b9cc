//! The families about the journals and the store.

use crate::coordinator::Watch;
use crate::observe::prometheus::Page;

/// Nothing with usage not kept.
pub(super) fn ledger(page: &mut Page, watch: &Watch) {
    let Some(ledger) = &watch.settings.ledger else { return };
    let status = ledger.status();
    for (name, help, value) in [
        ("ringway_journal_records_total", "Settled exchanges appended to the journals.", status.records),
        (
            "ringway_journal_lost_total",
            "Settled exchanges not recorded because the journals had reached [store] journal, or the disk was full.",
            status.lost,
        ),
        (
            "ringway_journal_damaged_bytes_total",
            "Bytes of journals without a valid record.",
            status.damaged_bytes,
        ),
        (
            "ringway_journal_unreadable_total",
            "Records in a format that this version does not know.",
            status.unreadable,
        ),
        ("ringway_ledger_rows_total", "Exchanges of this process moved into the store.", status.rows),
        (
            "ringway_ledger_recovered_rows_total",
            "Exchanges moved into the store from the journals of earlier processes.",
            status.recovered_rows,
        ),
        ("ringway_ledger_store_failures_total", "Writes to the store that failed.", status.store_failures),
        (
            "ringway_audit_lost_total",
            "Audit entries lost because the store was unavailable and their buffer was full.",
            status.audit_lost,
        ),
    ] {
        page.counter(name, help).count(&[], value);
    }
    page.gauge("ringway_journal_bytes", "Size of the journals' segments, in bytes.")
        .count(&[], status.journal_bytes);
    page.gauge("ringway_journal_full", "1 while the journals are full and new exchanges are not recorded.")
        .count(&[], status.is_full.into());
    page.gauge("ringway_ledger_store_up", "1 if the store can be written to.")
        .count(&[], status.store_error.is_none().into());
}
