//! Moves records into the store, the audit log too, and deletes what is too old.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::refusals::Refusals;
use super::{CLOSING_PATIENCE, Ledger, lock};
use crate::clock;
use crate::config::Fsync;
use crate::observe::journal::SEGMENT_BYTES;
use crate::store::folder::{self, Run};
use crate::store::{AuditEntry, Recovery, Result, Store};

/// Time between two looks at journals that had nothing new: a query sees what is this old.
const LOOK: Duration = Duration::from_millis(200);
/// Pause after the store has refused.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Time between two looks for journals of processes that are gone: after an upgrade one has just gone.
const LEFT_OVER_LOOK: Duration = Duration::from_secs(5);
/// Time between two rounds of deleting what is too old, and the steps of a round: 20,000 rows, 0.2 seconds.
const RETENTION_LOOK: Duration = Duration::from_secs(60);
const RETENTION_STEPS: usize = 20;
/// Audit entries kept while the store is away.
const AUDIT_KEPT_MAX: usize = 4_096;

pub(super) struct Mover {
    ledger: Arc<Ledger>,
    run: Arc<Run>,
    entries: Receiver<AuditEntry>,
    say: fn(&str),
    /// Open while it works.
    store: Option<Opened>,
    /// What this process's journals have been moved up to, by shard.
    moved: Vec<u64>,
    /// Those of processes that are gone.
    recovery: Option<Recovery>,
    /// Entries for the audit log that the store does not have yet.
    audit: Vec<AuditEntry>,
    refusals: Refusals,
    next_try: Instant,
    next_left_over: Instant,
    next_retention: Instant,
}

/// The database, and which file it is.
struct Opened {
    store: Store,
    inode: Option<(u64, u64)>,
}

impl Mover {
    pub(super) fn new(
        ledger: Arc<Ledger>,
        run: Arc<Run>,
        entries: Receiver<AuditEntry>,
        say: fn(&str),
    ) -> Self {
        let now = Instant::now();
        Self {
            moved: vec![0; ledger.lanes.len()],
            ledger,
            run,
            entries,
            say,
            store: None,
            recovery: None,
            audit: Vec::new(),
            refusals: Refusals::default(),
            next_try: now,
            next_left_over: now,
            next_retention: now + RETENTION_LOOK,
        }
    }

    pub(super) fn run(mut self, stops: &Receiver<()>) {
        self.count_left_over();
        let mut pause = Duration::ZERO;
        while matches!(stops.recv_timeout(pause), Err(RecvTimeoutError::Timeout)) {
            pause = if self.turn() { Duration::ZERO } else { LOOK };
        }
        self.close();
    }

    /// What processes that are gone have left counts towards the bound.
    fn count_left_over(&self) {
        let runs = Run::left_over(&self.ledger.settings.directory).unwrap_or_default();
        let bytes: u64 = runs.iter().filter_map(|run| run.bytes().ok()).sum();
        self.ledger.numbers.journal_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Moves what is left, and leaves nothing behind if that works.
    fn close(mut self) {
        let deadline = Instant::now() + CLOSING_PATIENCE;
        self.refusals.flush_at(Instant::now());
        loop {
            let more = self.turn();
            let is_done = self.ledger.lanes.iter().zip(&self.moved).all(|(lane, &moved)| lane.end() <= moved);
            if is_done && self.audit.is_empty() && self.store.is_some() {
                if let Some(run) = Arc::into_inner(self.run) {
                    let _ = run.remove(); // an empty folder that stays is moved, and removed, by the next process
                }
                return;
            }
            if Instant::now() >= deadline {
                (self.say)(
                    "the store does not take the last records; they stay in the journal for the next start",
                );
                return;
            }
            if !more {
                std::thread::sleep(LOOK);
            }
        }
    }

    /// Everything once; whether there is more to do at once.
    fn turn(&mut self) -> bool {
        while let Ok(entry) = self.entries.try_recv() {
            self.keep(entry);
        }
        if !self.open() {
            return false;
        }
        match self.work() {
            Ok(more) => more,
            Err(error) => {
                self.failed(&error.to_string());
                false
            }
        }
    }

    fn keep(&mut self, entry: AuditEntry) {
        if self.audit.len() < AUDIT_KEPT_MAX {
            self.audit.push(entry);
        } else {
            self.ledger.numbers.audit_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the store if it is not open, or if its file is not the one that was opened; whether it is.
    fn open(&mut self) -> bool {
        let now = Instant::now();
        let path = &self.ledger.settings.database;
        if now < self.next_try {
            return self.store.is_some();
        }
        self.next_try = now + STORE_PAUSE;
        if self.store.as_ref().is_some_and(|opened| opened.inode == inode(path)) {
            return true;
        }
        let durable = self.ledger.settings.fsync != Fsync::Never;
        match Store::open(path, durable) {
            Ok(store) => {
                let was_away = lock(&self.ledger.numbers.store_error).take().is_some();
                if was_away {
                    (self.say)("the store works again");
                }
                self.store = Some(Opened { store, inode: inode(path) });
                true
            }
            Err(error) => {
                let words = format!("{} cannot be opened: {error}", path.display());
                self.failed(&words);
                false
            }
        }
    }

    /// The store does not work: it is opened anew after a pause. Said once.
    fn failed(&mut self, words: &str) {
        let numbers = &self.ledger.numbers;
        numbers.store_failures.fetch_add(1, Ordering::Relaxed);
        let before = lock(&numbers.store_error).replace(words.to_owned());
        if before.is_none() {
            (self.say)(&format!("the store does not work, usage waits in the journal: {words}"));
        }
        self.store = None;
        self.next_try = Instant::now() + STORE_PAUSE;
    }

    fn work(&mut self) -> Result<bool> {
        let mut more = false;
        for shard in 0..self.moved.len() {
            more |= self.move_shard(shard)?;
        }
        more |= self.recover()?;
        let now = Instant::now();
        if let Some(entries) = self.refusals.due(now) {
            entries.into_iter().for_each(|entry| self.keep(entry));
        }
        let Some(Opened { store, .. }) = &mut self.store else { return Ok(false) };
        if !self.audit.is_empty() {
            store.append_audit(&self.audit)?;
            self.audit.clear();
        }
        if now >= self.next_retention {
            self.next_retention = now + RETENTION_LOOK;
            retain(store, &self.ledger)?;
        }
        Ok(more)
    }

    /// Moves a stretch of a shard's journal; whether there is more.
    fn move_shard(&mut self, shard: usize) -> Result<bool> {
        let (position, end) = (self.moved[shard], self.ledger.lanes[shard].end());
        let Some(Opened { store, .. }) = &mut self.store else { return Ok(false) };
        if end <= position {
            return Ok(false);
        }
        let stretch = folder::read(self.run.path(), shard, position, Some(end))?;
        let moved = store.move_in(&self.run.journal(shard), stretch.end, &stretch.entries)?;
        self.moved[shard] = stretch.end;
        let numbers = &self.ledger.numbers;
        add(&numbers.rows, moved.rows);
        damaged(&self.ledger, self.say, stretch.damaged_bytes, stretch.unreadable);
        for (_, entry) in &stretch.entries {
            self.refusals.count(entry);
        }
        if stretch.end / SEGMENT_BYTES as u64 > position / SEGMENT_BYTES as u64 {
            let freed = self.run.remove_before(shard, stretch.end)?;
            numbers.journal_bytes.fetch_sub(freed, Ordering::Relaxed);
        }
        Ok(!stretch.is_last)
    }

    /// Moves a stretch of what processes that are gone have left; whether there is more.
    fn recover(&mut self) -> Result<bool> {
        let now = Instant::now();
        if self.recovery.is_none() && now >= self.next_left_over {
            self.next_left_over = now + LEFT_OVER_LOOK;
            let runs = Run::left_over(&self.ledger.settings.directory)?;
            // The others' turns come: their locks are let go of.
            self.recovery = runs.into_iter().next().map(Recovery::new).transpose()?;
        }
        let (Some(recovery), Some(Opened { store, .. })) = (&mut self.recovery, &mut self.store) else {
            return Ok(false);
        };
        match recovery.step(store) {
            Ok(Some(step)) => {
                add(&self.ledger.numbers.recovered_rows, step.moved.rows);
                damaged(&self.ledger, self.say, step.damaged_bytes, step.unreadable);
            }
            Ok(None) => {
                self.next_left_over = now;
                if let Some(recovery) = self.recovery.take() {
                    let freed = recovery.remove()?;
                    let numbers = &self.ledger.numbers.journal_bytes;
                    let _ = numbers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
                        Some(bytes.saturating_sub(freed))
                    });
                }
            }
            Err(error) => {
                self.recovery = None;
                return Err(error);
            }
        }
        Ok(true)
    }
}

fn add(cell: &AtomicU64, count: u64) {
    cell.fetch_add(count, Ordering::Relaxed);
}

/// Counts and says what a journal had in it that is no record.
fn damaged(ledger: &Ledger, say: fn(&str), bytes: u64, unreadable: u64) {
    if bytes > 0 {
        add(&ledger.numbers.damaged_bytes, bytes);
        say(&format!("{bytes} bytes of a journal hold no valid record and were passed over"));
    }
    if unreadable > 0 {
        add(&ledger.numbers.unreadable, unreadable);
        say(&format!("{unreadable} records of a journal are of a format that this program does not know"));
    }
}

/// A few steps towards what `[store] keep`, `keep_sums` and `size` say.
fn retain(store: &mut Store, ledger: &Ledger) -> Result<()> {
    let settings = &ledger.settings;
    let before = |keep: crate::units::Nanos| clock::unix_ms().saturating_sub(keep.0 / 1_000_000);
    for _ in 0..RETENTION_STEPS {
        let mut gone = store.fit(settings.size_max)?;
        if let Some(keep) = settings.keep {
            gone += store.forget_requests(before(keep))?;
        }
        if let Some(keep) = settings.keep_sums {
            gone += store.forget_hours(before(keep))?;
        }
        if gone == 0 {
            break;
        }
    }
    Ok(())
}

/// Which file lies at a path: one that was removed or replaced must not be written to any more.
fn inode(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
