//! The journal: a shard's append-only file of settled exchanges, the durable copy of what was used until the store has it.
//!
//! The shard's end is [`Journal`]: an append encodes the record, copies it into a file that is mapped shared, and stores
//! one length word. It takes no lock, allocates nothing and makes no system call; what was appended survives SIGKILL,
//! since the pages belong to the file and not to the process. A full segment is replaced by one that was prepared
//! elsewhere ([`Lane::prepare`]); if none is ready, because the disk is full or the journal has reached its bound, the
//! record is counted as lost and the exchange goes on.
//!
//! The other end is [`Lane`]: how far the shard has written, and what it lost.

pub mod codec;
mod mapping;

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::sync::Arc;

use super::record::Record;
use crate::sync::{ArrayQueue, AtomicU64, Ordering};
pub use codec::{Entry, Frames, HEADER_BYTES, MARKS_BYTES_MAX, Names, SEGMENT_BYTES};
use codec::{FRAME_HEAD_BYTES, Scratch, encode, frame_bytes};
use mapping::Mapping;

/// Segments that wait to be written: enough for 20 ms of a shard that settles 500,000 exchanges a second.
pub const SPARES: usize = 2;

/// A segment's file, mapped. Its bytes are all zero but for the header.
pub struct Segment {
    mapping: Mapping,
    /// Of its first byte in the journal.
    position: u64,
}

impl Segment {
    /// Maps a file of [`SEGMENT_BYTES`] allocated bytes as the segment at `position`.
    ///
    /// # Errors
    /// The kernel refuses the mapping.
    pub fn new(file: &File, position: u64) -> io::Result<Self> {
        Ok(Self { mapping: Mapping::new(file, SEGMENT_BYTES)?, position })
    }
}

/// What both ends share. One writer each: the shard.
#[derive(Default)]
struct Progress {
    /// Behind the last record, from the start of the journal.
    end: AtomicU64,
    records: AtomicU64,
    lost: AtomicU64,
}

/// The shard's end.
pub struct Journal {
    current: Option<Segment>,
    /// Offset in `current` of the next frame.
    at: usize,
    spares: Arc<ArrayQueue<Segment>>,
    progress: Arc<Progress>,
    scratch: Box<Scratch>,
}

/// The other end.
pub struct Lane {
    spares: Arc<ArrayQueue<Segment>>,
    progress: Arc<Progress>,
}

/// Both ends of a journal that has nothing in it.
pub fn channel() -> (Journal, Lane) {
    let (spares, progress) = (Arc::new(ArrayQueue::new(SPARES)), Arc::<Progress>::default());
    let journal = Journal {
        current: None,
        at: 0,
        spares: spares.clone(),
        progress: progress.clone(),
        scratch: Box::new([0; size_of::<Scratch>()]),
    };
    (journal, Lane { spares, progress })
}

thread_local! {
    /// The journal of the shard that runs on this thread.
    static JOURNAL: RefCell<Option<Journal>> = const { RefCell::new(None) };
}

/// Appends one settled exchange to the journal of the shard on this thread; nothing happens without one.
pub fn append(record: &Record, names: &Names<'_>) {
    JOURNAL.with_borrow_mut(|journal| {
        if let Some(journal) = journal {
            journal.append(record, names); // a record that is lost has been counted
        }
    });
}

impl Journal {
    /// Makes it the journal of the shard that runs on this thread.
    pub fn install(self) {
        JOURNAL.set(Some(self));
    }

    /// Appends one settled exchange; false if it is lost, since no segment is ready.
    ///
    /// Cost: no system call but for the change of segments, once in several thousand records, which unmaps the full one.
    pub fn append(&mut self, record: &Record, names: &Names<'_>) -> bool {
        loop {
            if let Some(segment) = &mut self.current {
                let position = segment.position + self.at as u64;
                let body = encode(&mut self.scratch, position, record, names);
                let end = self.at + frame_bytes(body);
                if end <= SEGMENT_BYTES {
                    let bytes = &self.scratch[4..FRAME_HEAD_BYTES + body];
                    segment.mapping.store(self.at + 4, bytes, body as u32);
                    self.at = end;
                    bump(&self.progress.records);
                    self.progress.end.store(segment.position + end as u64, Ordering::Release);
                    return true;
                }
            }
            // The full one stays as it is until there is another: it only costs its mapping.
            let Some(next) = self.spares.pop() else {
                bump(&self.progress.lost);
                return false;
            };
            self.current = Some(next);
            self.at = HEADER_BYTES;
        }
    }
}

impl Lane {
    /// Hands the shard a segment to go on with; gives it back if enough are waiting.
    ///
    /// # Errors
    /// As many wait as may.
    pub fn prepare(&self, segment: Segment) -> Result<(), Segment> {
        self.spares.push(segment)
    }

    /// Whether another segment would be taken.
    pub fn wants_segment(&self) -> bool {
        !self.spares.is_full()
    }

    /// The position behind the last record: everything before it can be read from the files.
    pub fn end(&self) -> u64 {
        self.progress.end.load(Ordering::Acquire)
    }

    /// Records appended.
    pub fn records(&self) -> u64 {
        self.progress.records.load(Ordering::Relaxed)
    }

    /// Records that were lost for want of a segment.
    pub fn lost(&self) -> u64 {
        self.progress.lost.load(Ordering::Relaxed)
    }
}

/// Adds one to a cell that only the calling thread writes.
fn bump(cell: &AtomicU64) {
    cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;
#[cfg(test)]
mod tests;
