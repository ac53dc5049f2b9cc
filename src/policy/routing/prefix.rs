//! Which deployments have the beginning of this prompt in their caches?
//!
//! The text of a conversation is cut into blocks of [`BLOCK_BYTES`], and each block's hash covers all text before it
//! ([`Chain`]), so two conversations share hashes exactly as far as they share text. A [`Table`] maps a block to the
//! set of pool members that were sent it; [`lengths`] finds how far each member's set reaches.
//!
//! | part | written by | read by |
//! | --- | --- | --- |
//! | [`Table`] | the coordinator's [`Keeper`] | every shard, without a lock |
//! | [`Recent`] | one shard | that shard: what it placed since the table was last written |
//! | [`Ring`] | one shard | the coordinator, which puts its records into the [`Keeper`] |
//!
//! A wrong entry costs a cache miss at the backend, never a wrong response: nothing here has to be exact.

mod chain;
mod keeper;
mod recent;
mod ring;
mod table;

pub use chain::{BLOCK_BYTES, Chain};
pub use keeper::Keeper;
pub use recent::Recent;
pub use ring::{Note, NoteKind, Ring};
pub use table::Table;

/// Members of one pool that a [`Table`] tells apart: one bit each.
pub const MEMBERS_MAX: usize = 64;

/// The set of one pool member.
pub fn bit(member: usize) -> u64 {
    if member < MEMBERS_MAX { 1 << member } else { 0 }
}

/// For each member, how many blocks at the front of `blocks` it has: `found(member, count)` is called once for each
/// member that has the first one. `members_of` says who has a block.
///
/// A member that has a block is taken to have all blocks before it, which holds but for evictions in between. So the
/// ends are found by halving: two members whose caches end at the same block cost one search. Cost: about
/// `log2(blocks)` look-ups for each distinct end; one look-up if nobody has the first block.
pub fn lengths(blocks: &[u64], members_of: impl Fn(u64) -> u64, mut found: impl FnMut(usize, usize)) {
    let Some(first) = blocks.first() else { return };
    let first = members_of(*first);
    if first == 0 {
        return;
    }
    // Ranges whose ends differ: blocks `low` and `high` and who has them. Each split leaves at most two, and halves
    // the range, so the stack never holds more than one entry for each bit of an index.
    let mut open = [(0, 0, 0, 0); usize::BITS as usize];
    open[0] = (0, first, blocks.len(), 0);
    let mut count = 1;
    while count > 0 {
        count -= 1;
        let (low, has_low, high, has_high) = open[count];
        if high - low == 1 {
            let mut ends = has_low & !has_high;
            while ends != 0 {
                found(ends.trailing_zeros() as usize, low + 1);
                ends &= ends - 1;
            }
            continue;
        }
        let middle = low + (high - low) / 2;
        let has_middle = members_of(blocks[middle]) & has_low | has_high;
        if has_middle != has_high {
            open[count] = (middle, has_middle, high, has_high);
            count += 1;
        }
        if has_low != has_middle {
            open[count] = (low, has_low, middle, has_middle);
            count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(reach: &[usize], blocks: usize) -> Vec<usize> {
        let chain: Vec<u64> = (0..blocks as u64).collect();
        let members_of = |block: u64| {
            let has =
                |(member, reach): (usize, &usize)| if (block as usize) < *reach { bit(member) } else { 0 };
            reach.iter().enumerate().map(has).sum()
        };
        let mut lengths_found = vec![0; reach.len()];
        lengths(&chain, members_of, |member, count| lengths_found[member] = count);
        lengths_found
    }

    #[test]
    fn each_member_is_told_its_own_length() {
        let mut word = 1u64;
        for blocks in [1, 2, 3, 7, 64, 513, 4096] {
            for _ in 0..50 {
                let reach: Vec<usize> = (0..MEMBERS_MAX)
                    .map(|_| {
                        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (word >> 33) as usize % (blocks + 1)
                    })
                    .collect();
                assert_eq!(told(&reach, blocks), reach);
            }
        }
    }

    #[test]
    fn nothing_matches_an_empty_chain_or_an_unknown_one() {
        lengths(&[], |_| u64::MAX, |_, _| panic!("there is no block"));
        lengths(&[1, 2, 3], |_| 0, |_, _| panic!("nobody has the first block"));
    }

    #[test]
    fn one_cache_among_many_costs_few_look_ups() {
        let looked = std::cell::Cell::new(0);
        let chain: Vec<u64> = (0..512).collect();
        let members_of = |block| {
            looked.set(looked.get() + 1);
            if block < 8 { u32::MAX.into() } else { u64::from(block < 500) }
        };
        let mut ends = Vec::new();
        lengths(&chain, members_of, |member, count| ends.push((member, count)));
        assert!(ends.contains(&(0, 500)) && ends.contains(&(31, 8)) && ends.len() == 32);
        assert!(looked.get() <= 20, "{} look-ups", looked.get());
    }
}
