//! Policy refusals for the audit log, counted by who was refused what: a client that asks ten thousand times makes one entry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::observe::journal::Entry;
use crate::store::AuditEntry;

/// Time over which refusals are counted into one entry.
const PERIOD: Duration = Duration::from_secs(10);
/// Kinds of refusals counted apart in one period; the rest is counted as one.
const KINDS_MAX: usize = 256;

/// Statuses of what a policy refuses, as opposed to what a client got wrong or a backend failed at: who it is, what it has
/// left, what it may do, how much of it.
const STATUSES: [u16; 4] = [401, 402, 403, 429];

/// What has been refused since the last entry.
#[derive(Default)]
pub(super) struct Refusals {
    counts: BTreeMap<Kind, Count>,
    due: Option<Instant>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    key: Arc<str>,
    code: Arc<str>,
    model: Arc<str>,
}

#[derive(Default)]
struct Count {
    count: u64,
    first_request_id: String,
}

impl Refusals {
    /// Counts an exchange, if a policy refused it.
    pub(super) fn count(&mut self, entry: &Entry) {
        let is_refusal = !entry.fault.is_empty() && STATUSES.contains(&entry.status);
        if !is_refusal || !entry.backend.is_empty() {
            return;
        }
        let mut kind = Kind { key: entry.key.clone(), code: entry.fault.clone(), model: entry.model.clone() };
        if self.counts.len() >= KINDS_MAX && !self.counts.contains_key(&kind) {
            kind = Kind { key: "(others)".into(), code: entry.fault.clone(), model: Arc::default() };
        }
        self.due.get_or_insert_with(|| Instant::now() + PERIOD);
        let count = self.counts.entry(kind).or_default();
        count.count += 1;
        if count.first_request_id.is_empty() {
            count.first_request_id.clone_from(&entry.request_id);
        }
    }

    /// Makes what was counted due at a moment.
    pub(super) fn flush_at(&mut self, moment: Instant) {
        self.due = self.due.map(|_| moment);
    }

    /// The entries, if their period is over.
    pub(super) fn due(&mut self, now: Instant) -> Option<Vec<AuditEntry>> {
        self.due.take_if(|due| *due <= now)?;
        let entries = std::mem::take(&mut self.counts).into_iter().map(|(kind, count)| AuditEntry {
            at_ms: clock::unix_ms(),
            actor: kind.key.to_string(),
            action: "refuse".to_owned(),
            subject: kind.model.to_string(),
            after: format!(
                "{} ({} times, first in request {})",
                kind.code, count.count, count.first_request_id
            ),
            ..AuditEntry::default()
        });
        Some(entries.collect())
    }
}
