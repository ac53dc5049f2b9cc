//! What one shard placed a moment ago, until the coordinator has put it into the table.

use crate::units::Nanos;

/// A small table of one shard's own placements: a burst of siblings finds the first of them at once.
///
/// Direct mapped: a newer block takes the place of an older one. Entries count for `KEPT`; by then the coordinator has
/// them. Keys of different tables are told apart by the table's salt.
#[derive(Clone, Debug)]
pub struct Recent {
    cells: Box<[Cell]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    block: u64,
    members: u64,
    at: Nanos,
}

/// How long a placement is remembered here. Many of the coordinator's periods. Chosen, not measured.
const KEPT: Nanos = Nanos(1_000_000_000);

/// Blocks remembered: a few long prompts. 192 KiB a shard. Chosen, not measured.
const CELLS: usize = 8192;

impl Default for Recent {
    fn default() -> Self {
        Self { cells: vec![Cell::default(); CELLS].into() }
    }
}

impl Recent {
    /// The members that `block` was sent to lately.
    pub fn get(&self, block: u64, now: Nanos) -> u64 {
        let cell = &self.cells[index(block)];
        if cell.block == block && now.since(cell.at) < KEPT { cell.members } else { 0 }
    }

    /// `block` is being sent to these members.
    pub fn add(&mut self, block: u64, members: u64, now: Nanos) {
        let members = members | self.get(block, now);
        self.cells[index(block)] = Cell { block, members, at: now };
    }

    /// `block` did not reach these members.
    pub fn remove(&mut self, block: u64, members: u64) {
        let cell = &mut self.cells[index(block)];
        if cell.block == block {
            cell.members &= !members;
        }
    }
}

fn index(block: u64) -> usize {
    (block >> 40) as usize % CELLS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_is_remembered_for_a_while_and_by_member() {
        let mut recent = Recent::default();
        recent.add(9, 0b01, Nanos(0));
        recent.add(9, 0b10, Nanos(KEPT.0 - 1));
        assert_eq!(recent.get(9, Nanos(KEPT.0 - 1)), 0b11);
        assert_eq!(recent.get(9, Nanos(2 * KEPT.0)), 0);
        recent.add(9, 0b100, Nanos(2 * KEPT.0));
        assert_eq!(recent.get(9, Nanos(2 * KEPT.0)), 0b100);
        recent.remove(9, 0b100);
        assert_eq!(recent.get(9, Nanos(2 * KEPT.0)), 0);
        assert_eq!(recent.get(11, Nanos(0)), 0);
    }

    #[test]
    fn a_newer_block_takes_the_place_of_an_older_one() {
        let mut recent = Recent::default();
        let (one, other) = (1, 3);
        recent.add(one, 1, Nanos(0));
        recent.add(other, 2, Nanos(0));
        assert_eq!((recent.get(one, Nanos(0)), recent.get(other, Nanos(0))), (0, 2));
        recent.remove(one, 2);
        assert_eq!(recent.get(other, Nanos(0)), 2);
    }
}
