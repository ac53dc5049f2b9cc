//! Prepares segments for the shards, and forces what was written to the disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::{Ledger, segments};
use crate::config::Fsync;
use crate::observe::journal::SEGMENT_BYTES;
use crate::store::folder::Run;

/// Time between two looks at the shards' spare segments: `journal::SPARES` of them have to last as long.
const LOOK: Duration = Duration::from_millis(20);
/// Time between two rounds of fsync.
const SYNC: Duration = Duration::from_secs(1);

pub(super) struct Keeper {
    ledger: Arc<Ledger>,
    run: Arc<Run>,
    say: fn(&str),
    /// The number of the next segment, by shard.
    next: Vec<u64>,
    /// What is on the disk for certain, by shard: a position.
    synced: Vec<u64>,
    /// Whether an operator has been told that journals are full, and that the disk does not sync.
    told_full: bool,
    told_sync: bool,
}

impl Keeper {
    pub(super) fn new(ledger: Arc<Ledger>, run: Arc<Run>, say: fn(&str)) -> Self {
        let shards = ledger.lanes.len();
        Self {
            ledger,
            run,
            say,
            next: vec![0; shards],
            synced: vec![0; shards],
            told_full: false,
            told_sync: false,
        }
    }

    /// The first segments, without which no gateway that keeps usage should start.
    pub(super) fn prepare_first(&mut self) -> io::Result<()> {
        (0..self.next.len()).try_for_each(|shard| self.make(shard))
    }

    pub(super) fn run(mut self, stops: &Receiver<()>) {
        let mut next_sync = Instant::now() + SYNC;
        while matches!(stops.recv_timeout(LOOK), Err(RecvTimeoutError::Timeout)) {
            self.prepare();
            if Instant::now() >= next_sync {
                self.sync();
                next_sync = Instant::now() + SYNC;
            }
        }
        self.sync();
    }

    /// Gives every shard that wants one a segment, if there is room.
    fn prepare(&mut self) {
        let mut problem = None;
        for shard in 0..self.next.len() {
            while problem.is_none() && self.ledger.lanes[shard].wants_segment() {
                let bytes = self.ledger.numbers.journal_bytes.load(Ordering::Relaxed);
                let bound = self.ledger.settings.journal_bytes;
                if bytes + SEGMENT_BYTES as u64 > bound {
                    problem =
                        Some(format!("the journals have reached their {bound} bytes ([store] journal)"));
                } else if let Err(error) = self.make(shard) {
                    problem = Some(format!("no segment of a journal can be made: {error}"));
                }
            }
        }
        self.ledger.numbers.is_full.store(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(problem) if !self.told_full => {
                (self.say)(&format!("usage is not recorded once the segments in use are full: {problem}"));
                self.told_full = true;
            }
            None if self.told_full => {
                let lost = self.ledger.status().lost;
                (self.say)(&format!("usage is recorded again; {lost} exchanges were not"));
                self.told_full = false;
            }
            _ => {}
        }
    }

    fn make(&mut self, shard: usize) -> io::Result<()> {
        let segment = self.run.segment(shard, self.next[shard])?;
        self.next[shard] += 1;
        self.ledger.numbers.journal_bytes.fetch_add(SEGMENT_BYTES as u64, Ordering::Relaxed);
        // It was asked whether one is wanted, and nobody else gives any.
        let _ = self.ledger.lanes[shard].prepare(segment);
        Ok(())
    }

    fn sync(&mut self) {
        if self.ledger.settings.fsync == Fsync::Never {
            return;
        }
        for shard in 0..self.synced.len() {
            let (from, end) = (self.synced[shard], self.ledger.lanes[shard].end());
            if end == from {
                continue;
            }
            let synced = segments(from, end).try_for_each(|index| self.run.sync(shard, index));
            match synced {
                Ok(()) => self.synced[shard] = end,
                // Not tried again for what was written before: the kernel may have dropped it.
                Err(error) => {
                    self.synced[shard] = end;
                    if !std::mem::replace(&mut self.told_sync, true) {
                        (self.say)(&format!("the journal cannot be forced to the disk: {error}"));
                    }
                }
            }
        }
    }
}
