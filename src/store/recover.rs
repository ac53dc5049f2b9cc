//! What processes that are gone left in their journals, into the store.

use std::io;
use std::path::Path;

use super::folder::{self, Run};
use super::{Moved, Result, Store};

/// The journals of one process that is gone, on their way into the store: a segment at a time, so that whoever does it
/// can do other things between.
pub struct Recovery {
    run: Run,
    /// Shards whose journals are still to be moved, the next one last.
    shards: Vec<usize>,
    /// Where the journal of that one goes on; not yet asked for at its start.
    position: Option<u64>,
}

/// What one step has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Records.
    pub moved: Moved,
    /// Bytes that hold no valid record: the end of a record that a crash interrupted, or damage.
    pub damaged_bytes: u64,
    /// Valid records that this program cannot read.
    pub unreadable: u64,
}

impl Recovered {
    fn add(&mut self, other: Recovered) {
        self.moved.rows += other.moved.rows;
        self.moved.repeated += other.moved.repeated;
        self.damaged_bytes += other.damaged_bytes;
        self.unreadable += other.unreadable;
    }
}

impl Recovery {
    /// Nothing is moved yet.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn new(run: Run) -> io::Result<Self> {
        Ok(Self { shards: run.shards()?, run, position: None })
    }

    /// Moves the next segment; `None` once everything is in the store, which leaves only [`Self::remove`].
    ///
    /// # Errors
    /// The store cannot be written to, or a file not be read. The step may be tried again.
    pub fn step(&mut self, store: &mut Store) -> Result<Option<Recovered>> {
        let Some(&shard) = self.shards.last() else { return Ok(None) };
        let journal = self.run.journal(shard);
        let position = match self.position {
            Some(position) => position,
            None => store.moved_to(&journal)?,
        };
        let stretch = folder::read(self.run.path(), shard, position, None)?;
        let moved = store.move_in(&journal, stretch.end, &stretch.entries)?;
        self.position = Some(stretch.end);
        if stretch.is_last {
            self.shards.pop();
            self.position = None;
        }
        let (damaged_bytes, unreadable) = (stretch.damaged_bytes, stretch.unreadable);
        Ok(Some(Recovered { moved, damaged_bytes, unreadable }))
    }

    /// Removes the files; the bytes that this frees.
    ///
    /// # Errors
    /// The data directory cannot be written to.
    pub fn remove(self) -> io::Result<u64> {
        let bytes = self.run.bytes()?;
        self.run.remove()?;
        Ok(bytes)
    }
}

/// Moves everything that processes that are gone have left in a data directory.
///
/// # Errors
/// The store cannot be written to, or the directory not be read.
pub fn all(directory: &Path, store: &mut Store) -> Result<Recovered> {
    let mut sum = Recovered::default();
    for run in Run::left_over(directory)? {
        let mut recovery = Recovery::new(run)?;
        while let Some(step) = recovery.step(store)? {
            sum.add(step);
        }
        recovery.remove()?;
    }
    Ok(sum)
}
