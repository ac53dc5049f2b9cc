//! Blocks and the members that have them, in cells that one thread writes and all read.

use crate::sync::{AtomicU64, Ordering};

/// A fixed hash table from block to set of members. One writer, any number of readers, no lock.
///
/// Each entry is two words, the members and the block's hash XORed with them. A reader that catches one word of the old
/// entry and one of the new finds a hash that is no block's, and so a miss: nothing is ordered, nothing is retried.
///
/// `cells: [Line; lines]`, `lines` a power of two; a block lies in one of the eight ways of its line and that line's
/// neighbour.
#[derive(Debug)]
pub struct Table {
    lines: Box<[Line]>,
}

/// One cache line: four entries, each its check word and its members.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([[AtomicU64; 2]; WAYS]);

const WAYS: usize = 4;

impl Table {
    /// Room for `entries` blocks, at most half filled. Panics at load time on more than memory can index.
    pub fn new(entries: usize) -> Self {
        let lines = (entries.max(WAYS) * 2 / WAYS).next_power_of_two().max(2);
        Self { lines: std::iter::repeat_with(Line::default).take(lines).collect() }
    }

    /// The members that have `block`; none if it is unknown.
    pub fn get(&self, block: u64) -> u64 {
        let line = self.line_of(block);
        self.entry(line, block).or_else(|| self.entry(line ^ 1, block)).map_or(0, |(_, members)| members)
    }

    /// Writes the members of `block`, an empty set to remove it. With all eight ways taken an old entry gives way.
    /// For one thread.
    pub fn set(&self, block: u64, members: u64) {
        let line = self.line_of(block);
        let known =
            [line, line ^ 1].into_iter().find_map(|line| self.entry(line, block).map(|(way, _)| (line, way)));
        let free = || {
            [line, line ^ 1].into_iter().find_map(|line| {
                let way =
                    self.lines[line].0.iter().position(|entry| entry[1].load(Ordering::Relaxed) == 0)?;
                Some((line, way))
            })
        };
        let (line, way) = match known {
            Some(found) => found,
            None if members == 0 => return,
            None => free().unwrap_or((line, (block >> 61) as usize % WAYS)),
        };
        let [check, set] = &self.lines[line].0[way];
        set.store(members, Ordering::Relaxed);
        check.store(block ^ members, Ordering::Relaxed);
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    fn line_of(&self, block: u64) -> usize {
        (block >> 1) as usize & (self.lines.len() - 1) // the lowest bit is always set
    }

    /// The way of `block` in a line, and its members.
    fn entry(&self, line: usize, block: u64) -> Option<(usize, u64)> {
        self.lines[line].0.iter().enumerate().find_map(|(way, [check, set])| {
            let members = set.load(Ordering::Relaxed);
            (members != 0 && check.load(Ordering::Relaxed) ^ members == block).then_some((way, members))
        })
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    fn block(index: u64) -> u64 {
        index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
    }

    #[test]
    fn what_is_set_is_found_until_it_is_removed() {
        let table = Table::new(1_000);
        for index in 0..1_000 {
            table.set(block(index), index + 1);
        }
        let found = (0..1_000).filter(|index| table.get(block(*index)) == index + 1).count();
        assert!(found > 990, "{found} of 1000 at half the ways");
        table.set(block(7), 0);
        assert_eq!(table.get(block(7)), 0);
        assert_eq!(table.get(block(5_000)), 0);
    }

    #[test]
    fn a_full_line_replaces_an_entry_and_stays_sound() {
        let table = Table::new(1);
        for index in 0..10_000 {
            table.set(block(index), 1);
            assert_eq!(table.get(block(index)), 1);
        }
        let left = (0..10_000).filter(|index| table.get(block(*index)) != 0).count();
        assert!(left <= 2 * WAYS);
    }

    #[test]
    fn setting_again_replaces_the_members() {
        let table = Table::new(10);
        table.set(block(1), 0b01);
        table.set(block(1), 0b11);
        assert_eq!(table.get(block(1)), 0b11);
    }
}
