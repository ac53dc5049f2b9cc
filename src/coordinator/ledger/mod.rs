//! The ledger: from the shards' journals into the store.
//!
//! Two threads of their own. The `keeper` prepares segments for the shards and forces journals to the disk; it never
//! waits for the store. The `mover` moves records into the store, exactly once, also those that processes that are
//! gone have left, writes the audit log and deletes what is too old. With the store slow, full or gone the mover
//! waits, the journals grow to their bound, and the shards serve on: nothing that a request waits for ends here.

mod keeper;
mod mover;
mod refusals;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::lock;
use crate::clock;
use crate::config::StoreSettings;
use crate::observe::Journal;
use crate::observe::journal::{self, Lane, SEGMENT_BYTES};
use crate::store::AuditEntry;
use crate::store::folder::Run;

/// Audit entries that wait for the mover; an operator makes a few a minute.
const AUDIT_MAX: usize = 1_024;

/// How long the mover may take for what is left after the shards have ended. What it does not manage stays in the journals
/// for the next process.
const CLOSING_PATIENCE: Duration = Duration::from_secs(5);

/// How the ledger fares, and its mailbox for the audit log. Shared by everybody who shows or tells it something.
pub struct Ledger {
    /// Where it keeps things.
    pub settings: StoreSettings,
    /// One per shard.
    lanes: Box<[Lane]>,
    numbers: Numbers,
    audit: SyncSender<AuditEntry>,
}

/// What there is to show.
#[derive(Default)]
struct Numbers {
    /// Bytes of all segments, those of processes that are gone included.
    journal_bytes: AtomicU64,
    /// Whether the journals have reached their bound, or the disk refuses a segment.
    is_full: AtomicBool,
    rows: AtomicU64,
    recovered_rows: AtomicU64,
    damaged_bytes: AtomicU64,
    unreadable: AtomicU64,
    store_failures: AtomicU64,
    audit_lost: AtomicU64,
    /// Why the store cannot be written to; `None` while it can.
    store_error: Mutex<Option<String>>,
}

/// The numbers of the ledger at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LedgerStatus {
    /// Records that the shards have appended.
    pub records: u64,
    /// Records that they could not append.
    pub lost: u64,
    /// Rows moved into the store that this process's shards had appended.
    pub rows: u64,
    /// Rows moved that processes that are gone had left.
    pub recovered_rows: u64,
    /// Bytes of all segments.
    pub journal_bytes: u64,
    /// Whether no segment can be made.
    pub is_full: bool,
    /// Bytes of journals that held no valid record.
    pub damaged_bytes: u64,
    /// Valid records that this program could not read.
    pub unreadable: u64,
    /// Times that the store refused.
    pub store_failures: u64,
    /// Audit entries that were lost because the store was away for too long.
    pub audit_lost: u64,
    /// Why the store cannot be written to; `None` while it can.
    pub store_error: Option<String>,
}

impl Ledger {
    /// The numbers now.
    pub fn status(&self) -> LedgerStatus {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let numbers = &self.numbers;
        LedgerStatus {
            records: self.lanes.iter().map(Lane::records).sum(),
            lost: self.lanes.iter().map(Lane::lost).sum(),
            rows: read(&numbers.rows),
            recovered_rows: read(&numbers.recovered_rows),
            journal_bytes: read(&numbers.journal_bytes),
            is_full: numbers.is_full.load(Ordering::Relaxed),
            damaged_bytes: read(&numbers.damaged_bytes),
            unreadable: read(&numbers.unreadable),
            store_failures: read(&numbers.store_failures),
            audit_lost: read(&numbers.audit_lost),
            store_error: lock(&numbers.store_error).clone(),
        }
    }

    /// Appends to the audit log, soon; an entry that finds no room is counted as lost. Never blocks.
    pub fn audit(&self, entry: AuditEntry) {
        if self.audit.try_send(entry).is_err() {
            self.numbers.audit_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The same for something that was done to the process itself.
    pub fn note(&self, actor: &str, action: &str, after: &str) {
        self.audit(AuditEntry {
            at_ms: clock::unix_ms(),
            actor: actor.to_owned(),
            action: action.to_owned(),
            subject: "process".to_owned(),
            after: after.to_owned(),
            ..AuditEntry::default()
        });
    }

    /// The database, for queries; each thread opens its own [`crate::store::Store::read`].
    pub fn database(&self) -> &Path {
        &self.settings.database
    }
}

/// The ledger's threads.
pub struct Running {
    /// Shared with whoever shows it.
    pub ledger: Arc<Ledger>,
    stop_keeper: SyncSender<()>,
    stop_mover: SyncSender<()>,
    keeper: JoinHandle<()>,
    mover: JoinHandle<()>,
}

/// Opens the journals of so many shards, each with its first segments, and starts the threads. `say` tells an operator.
///
/// # Errors
/// The data directory cannot be written to, or the machine refuses a thread.
pub fn start(settings: StoreSettings, shards: usize, say: fn(&str)) -> io::Result<(Running, Vec<Journal>)> {
    let run = Arc::new(Run::new(&settings.directory)?);
    let (journals, lanes): (Vec<_>, Vec<_>) = (0..shards).map(|_| journal::channel()).unzip();
    let (audit, entries) = sync_channel(AUDIT_MAX);
    let numbers = Numbers::default();
    let ledger = Arc::new(Ledger { settings, lanes: lanes.into(), numbers, audit });
    ledger.note("process", "start", &format!("{} {}", env!("CARGO_PKG_VERSION"), std::process::id()));
    let mut keeper = keeper::Keeper::new(ledger.clone(), run.clone(), say);
    keeper.prepare_first()?;
    let (stop_keeper, keeper_stops) = sync_channel(1);
    let (stop_mover, mover_stops) = sync_channel(1);
    let mover = mover::Mover::new(ledger.clone(), run, entries, say);
    let keeper =
        thread::Builder::new().name("journal".to_owned()).spawn(move || keeper.run(&keeper_stops))?;
    let mover = thread::Builder::new().name("ledger".to_owned()).spawn(move || mover.run(&mover_stops))?;
    Ok((Running { ledger, stop_keeper, stop_mover, keeper, mover }, journals))
}

impl Running {
    /// Moves what is left once the shards have ended, for a few seconds at most, and ends the threads.
    pub fn close(self) {
        self.ledger.note("process", "stop", &std::process::id().to_string());
        let _ = self.stop_keeper.send(()); // it may have ended
        let _ = self.keeper.join();
        let _ = self.stop_mover.send(());
        let _ = self.mover.join();
    }
}

/// Segments that a span of a journal lies in, by their numbers: those from the one of `from` to the one of `to`.
fn segments(from: u64, to: u64) -> std::ops::RangeInclusive<u64> {
    let segment = SEGMENT_BYTES as u64;
    from / segment..=to.saturating_sub(1).max(from) / segment
}

#[cfg(test)]
mod tests;
