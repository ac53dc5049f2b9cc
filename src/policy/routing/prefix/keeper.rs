//! The writer's side of a table: what each member's cache holds, by the order of use.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::{MEMBERS_MAX, Table, bit};

/// Keeps a [`Table`] true, always the same one: adds what is placed, and takes out what a member's cache will have evicted.
///
/// An engine evicts the least recently used block, the end of a prompt before its beginning; so does this, for each
/// member within its capacity. One thread; may allocate.
#[derive(Debug, Default)]
pub struct Keeper {
    members: Vec<Lru>,
}

impl Keeper {
    /// The blocks that a member's cache holds at most; 0 evicts all.
    pub fn set_capacity(&mut self, table: &Table, member: usize, blocks: usize) {
        let Some(lru) = lru(&mut self.members, member) else { return };
        lru.capacity = blocks;
        while lru.nodes_used > lru.capacity {
            let Some(evicted) = lru.pop() else { break };
            remove(table, evicted, member);
        }
    }

    /// A prompt is being sent to a member: its blocks are used, and those that it has not yet will be there.
    pub fn place(&mut self, table: &Table, member: usize, blocks: &[u64]) {
        let Some(lru) = lru(&mut self.members, member) else { return };
        for block in blocks[..blocks.len().min(lru.capacity)].iter().rev() {
            if lru.touch(*block) {
                continue;
            }
            if lru.nodes_used >= lru.capacity
                && let Some(evicted) = lru.pop()
            {
                remove(table, evicted, member);
            }
            lru.insert(*block);
            table.set(*block, table.get(*block) | bit(member));
        }
    }

    /// Blocks did not get to a member.
    pub fn drop_blocks(&mut self, table: &Table, member: usize, blocks: &[u64]) {
        let Some(lru) = lru(&mut self.members, member) else { return };
        for block in blocks {
            if lru.remove(*block) {
                remove(table, *block, member);
            }
        }
    }

    /// A member's cache is empty.
    pub fn clear(&mut self, table: &Table, member: usize) {
        let Some(lru) = lru(&mut self.members, member) else { return };
        while let Some(block) = lru.pop() {
            remove(table, block, member);
        }
    }

    /// Blocks that a member is taken to have.
    #[cfg(test)]
    pub fn len(&self, member: usize) -> usize {
        self.members.get(member).map_or(0, |lru| lru.nodes_used)
    }

    /// Whether no member has any block.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.members.iter().all(|lru| lru.nodes_used == 0)
    }
}

fn lru(members: &mut Vec<Lru>, member: usize) -> Option<&mut Lru> {
    if member >= MEMBERS_MAX {
        return None;
    }
    if members.len() <= member {
        members.resize_with(member + 1, Lru::default);
    }
    members.get_mut(member)
}

fn remove(table: &Table, block: u64, member: usize) {
    table.set(block, table.get(block) & !bit(member));
}

/// Blocks in the order of their last use: a list within `nodes`, whose first is the most recent.
#[derive(Debug)]
struct Lru {
    by_block: HashMap<u64, u32, BuildHasherDefault<Identity>>,
    nodes: Vec<Node>,
    /// Nodes that hold nothing.
    free: Vec<u32>,
    first: u32,
    last: u32,
    nodes_used: usize,
    capacity: usize,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    block: u64,
    before: u32,
    after: u32,
}

/// No node.
const NONE: u32 = u32::MAX;

impl Default for Lru {
    fn default() -> Self {
        Self {
            by_block: HashMap::default(),
            nodes: Vec::new(),
            free: Vec::new(),
            first: NONE,
            last: NONE,
            nodes_used: 0,
            capacity: usize::MAX,
        }
    }
}

impl Lru {
    /// Makes a block the most recent; false if it is not here.
    fn touch(&mut self, block: u64) -> bool {
        let Some(&node) = self.by_block.get(&block) else { return false };
        if node != self.first {
            self.unlink(node);
            self.link_first(node);
        }
        true
    }

    fn insert(&mut self, block: u64) {
        let node = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node { block, before: NONE, after: NONE });
            (self.nodes.len() - 1) as u32
        });
        self.nodes[node as usize].block = block;
        self.link_first(node);
        self.by_block.insert(block, node);
        self.nodes_used += 1;
    }

    /// Takes out the least recently used.
    fn pop(&mut self) -> Option<u64> {
        let block = self.nodes.get(self.last as usize)?.block;
        self.remove(block);
        Some(block)
    }

    fn remove(&mut self, block: u64) -> bool {
        let Some(node) = self.by_block.remove(&block) else { return false };
        self.unlink(node);
        self.free.push(node);
        self.nodes_used -= 1;
        true
    }

    fn link_first(&mut self, node: u32) {
        let first = self.first;
        (self.nodes[node as usize].before, self.nodes[node as usize].after) = (NONE, first);
        match self.nodes.get_mut(first as usize) {
            Some(next) => next.before = node,
            None => self.last = node,
        }
        self.first = node;
    }

    fn unlink(&mut self, node: u32) {
        let Node { before, after, .. } = self.nodes[node as usize];
        match self.nodes.get_mut(before as usize) {
            Some(node) => node.after = after,
            None => self.first = after,
        }
        match self.nodes.get_mut(after as usize) {
            Some(node) => node.before = before,
            None => self.last = before,
        }
    }
}

/// Blocks are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(seed: u64, count: u64) -> Vec<u64> {
        (0..count).map(|index| (seed << 32 | index).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1).collect()
    }

    fn reach(table: &Table, blocks: &[u64], member: usize) -> usize {
        let mut reach = 0;
        super::super::lengths(
            blocks,
            |block| table.get(block),
            |found, count| {
                if found == member {
                    reach = count;
                }
            },
        );
        reach
    }

    fn keeper(capacity: usize) -> (Table, Keeper) {
        let (table, mut keeper) = (Table::new(1_000), Keeper::default());
        (0..3).for_each(|member| keeper.set_capacity(&table, member, capacity));
        (table, keeper)
    }

    #[test]
    fn placed_prompts_are_found_for_their_member_only() {
        let (table, mut keeper) = keeper(100);
        let prompt = chain(1, 20);
        keeper.place(&table, 1, &prompt);
        keeper.place(&table, 2, &prompt[..5]);
        assert_eq!([0, 1, 2].map(|member| reach(&table, &prompt, member)), [0, 20, 5]);
    }

    #[test]
    fn a_full_cache_loses_the_end_of_the_oldest_prompt_first() {
        let (table, mut keeper) = keeper(10);
        let (old, new) = (chain(1, 6), chain(2, 6));
        keeper.place(&table, 0, &old);
        keeper.place(&table, 0, &new);
        assert_eq!((reach(&table, &old, 0), reach(&table, &new, 0)), (4, 6));
        keeper.place(&table, 0, &old);
        assert_eq!((reach(&table, &old, 0), reach(&table, &new, 0)), (6, 4));
        assert_eq!(keeper.len(0), 10);
    }

    #[test]
    fn a_prompt_larger_than_the_cache_keeps_its_beginning() {
        let (table, mut keeper) = keeper(10);
        let prompt = chain(1, 30);
        keeper.place(&table, 0, &prompt);
        assert_eq!(reach(&table, &prompt, 0), 10);
    }

    #[test]
    fn a_restart_empties_one_member_and_a_drop_only_its_blocks() {
        let (table, mut keeper) = keeper(100);
        let prompt = chain(1, 20);
        keeper.place(&table, 0, &prompt);
        keeper.place(&table, 1, &prompt);
        keeper.drop_blocks(&table, 0, &prompt[8..]);
        assert_eq!((reach(&table, &prompt, 0), reach(&table, &prompt, 1)), (8, 20));
        keeper.clear(&table, 1);
        assert_eq!((reach(&table, &prompt, 0), reach(&table, &prompt, 1)), (8, 0));
        keeper.clear(&table, 0);
        assert!(keeper.is_empty());
    }

    #[test]
    fn a_smaller_capacity_evicts_at_once() {
        let (table, mut keeper) = keeper(100);
        let prompt = chain(1, 20);
        keeper.place(&table, 0, &prompt);
        keeper.set_capacity(&table, 0, 5);
        assert_eq!((reach(&table, &prompt, 0), keeper.len(0)), (5, 5));
        keeper.set_capacity(&table, 0, 0);
        keeper.place(&table, 0, &prompt);
        assert_eq!(keeper.len(0), 0);
    }

    #[test]
    fn members_beyond_the_bound_are_ignored() {
        let (table, mut keeper) = keeper(100);
        keeper.place(&table, MEMBERS_MAX, &chain(1, 3));
        assert_eq!(table.get(chain(1, 3)[0]), 0);
    }
}
