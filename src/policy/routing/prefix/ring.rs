//! What a shard tells the coordinator of its placements: a ring of words with one writer and one reader.

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// What happened to the blocks of a note.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum NoteKind {
    /// They are being sent to the member.
    Placed = 0,
    /// They were, and did not get there.
    Dropped = 1,
    /// The member's cache is empty: its server was restarted.
    Restarted = 2,
}

/// One note: blocks of one table and one of its members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note {
    /// What happened.
    pub kind: NoteKind,
    /// Which table, by its number.
    pub table: u32,
    /// Which member of its pool.
    pub member: u8,
}

impl Note {
    fn header(self, blocks: usize) -> u64 {
        (self.kind as u64) << 56
            | u64::from(self.member) << 48
            | (blocks as u64) << 32
            | u64::from(self.table)
    }

    fn of(header: u64) -> (Self, usize) {
        let kind = match header >> 56 {
            0 => NoteKind::Placed,
            1 => NoteKind::Dropped,
            _ => NoteKind::Restarted,
        };
        let note = Self { kind, table: header as u32, member: (header >> 48) as u8 };
        (note, (header >> 32) as usize & 0xffff)
    }
}

/// Notes on their way from one shard to the coordinator.
///
/// `words: [AtomicU64; capacity]`, a power of two; `read` and `written` count words for ever, and `written - read` is
/// at most the capacity. A note is its header and its blocks.
#[derive(Debug)]
pub struct Ring {
    words: Box<[AtomicU64]>,
    read: CachePadded<AtomicUsize>,
    written: CachePadded<AtomicUsize>,
}

impl Ring {
    /// Room for `words` words, rounded up to a power of two.
    pub fn new(words: usize) -> Self {
        let words = words.next_power_of_two();
        Self {
            words: std::iter::repeat_with(|| AtomicU64::new(0)).take(words).collect(),
            read: CachePadded::new(AtomicUsize::new(0)),
            written: CachePadded::new(AtomicUsize::new(0)),
        }
    }

    /// Appends a note; false if there is no room: what it says is lost, and a match is missed later. For one thread.
    #[must_use]
    pub fn append(&self, note: Note, blocks: &[u64]) -> bool {
        let start = self.written.load(Ordering::Relaxed);
        let used = start.wrapping_sub(self.read.load(Ordering::Acquire));
        let blocks = &blocks[..blocks.len().min(0xffff)];
        if used + 1 + blocks.len() > self.words.len() {
            return false;
        }
        self.word(start).store(note.header(blocks.len()), Ordering::Relaxed);
        for (offset, block) in blocks.iter().enumerate() {
            self.word(start.wrapping_add(1 + offset)).store(*block, Ordering::Relaxed);
        }
        self.written.store(start.wrapping_add(1 + blocks.len()), Ordering::Release);
        true
    }

    /// Hands over every note that is complete, with `scratch` for its blocks. For one thread.
    pub fn take(&self, scratch: &mut Vec<u64>, mut each: impl FnMut(Note, &[u64])) {
        let mut at = self.read.load(Ordering::Relaxed);
        let end = self.written.load(Ordering::Acquire);
        while at != end {
            let (note, count) = Note::of(self.word(at).load(Ordering::Relaxed));
            scratch.clear();
            scratch
                .extend((1..=count).map(|offset| self.word(at.wrapping_add(offset)).load(Ordering::Relaxed)));
            at = at.wrapping_add(1 + count);
            self.read.store(at, Ordering::Release);
            each(note, scratch);
        }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words[at & (self.words.len() - 1)]
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: Note = Note { kind: NoteKind::Placed, table: 7, member: 63 };

    fn taken(ring: &Ring) -> Vec<(Note, Vec<u64>)> {
        let mut notes = Vec::new();
        ring.take(&mut Vec::new(), |note, blocks| notes.push((note, blocks.to_vec())));
        notes
    }

    #[test]
    fn notes_come_out_as_they_went_in_also_around_the_end() {
        let ring = Ring::new(16);
        for round in 0..100u64 {
            let dropped = Note { kind: NoteKind::Dropped, ..NOTE };
            let restarted = Note { kind: NoteKind::Restarted, table: u32::MAX, member: 0 };
            assert!(ring.append(NOTE, &[round, 2, 3]) && ring.append(dropped, &[u64::MAX]));
            assert!(ring.append(restarted, &[]));
            let expected = [(NOTE, vec![round, 2, 3]), (dropped, vec![u64::MAX]), (restarted, Vec::new())];
            assert_eq!(taken(&ring), expected);
        }
        assert!(taken(&ring).is_empty());
    }

    #[test]
    fn a_full_ring_refuses_a_note_whole_and_takes_it_later() {
        let ring = Ring::new(8);
        assert!(ring.append(NOTE, &[1; 5]));
        assert!(!ring.append(NOTE, &[2; 5]));
        assert!(ring.append(NOTE, &[3]), "two words are left");
        assert_eq!(taken(&ring).len(), 2);
        assert!(ring.append(NOTE, &[2; 5]));
        assert!(!ring.append(NOTE, &[0; 100]), "larger than the ring");
    }
}
