//! KV memory of a simulated engine: blocks of tokens, shared prefixes kept while there is room.

use std::collections::{BTreeMap, HashMap};

/// Which KV blocks are taken, which are shared prefixes, and which of those may be given up.
///
/// A block is either private (belongs to one job, contents not shared) or cached (named by the hash of all text up
/// to its end). A cached block without users stays until room is needed; the least recently used goes first.
/// Invariant: `private + cached.len() <= capacity`.
#[derive(Debug)]
pub struct Blocks {
    capacity: usize,
    private: usize,
    cached: HashMap<u64, Cached>,
    /// Cached blocks without users: by the tick of their last use, so the first is the least recently used.
    idle: BTreeMap<u64, u64>,
    tick: u64,
}

#[derive(Debug)]
struct Cached {
    users: usize,
    idle_since: u64,
}

impl Blocks {
    /// An empty memory of `capacity` blocks.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, private: 0, cached: HashMap::new(), idle: BTreeMap::new(), tick: 0 }
    }

    /// How many blocks there are.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Blocks held by running jobs; idle cached ones do not count, as they can be given up.
    pub fn used(&self) -> usize {
        self.private + self.cached.len() - self.idle.len()
    }

    /// How many blocks at the start of `hashes` are cached.
    pub fn cached_prefix(&self, hashes: &[u64]) -> usize {
        hashes.iter().take_while(|hash| self.cached.contains_key(hash)).count()
    }

    /// Whether a job could pin the first `shared` of `hashes`, all cached, and take `count` private blocks more.
    pub fn has_room(&self, hashes: &[u64], shared: usize, count: usize) -> bool {
        let woken = hashes[..shared]
            .iter()
            .filter(|hash| self.cached.get(hash).is_some_and(|c| c.users == 0))
            .count();
        self.used() + woken + count <= self.capacity
    }

    /// One more user of a cached block.
    pub fn pin(&mut self, hash: u64) {
        if let Some(block) = self.cached.get_mut(&hash) {
            if block.users == 0 {
                self.idle.remove(&block.idle_since);
            }
            block.users += 1;
        }
    }

    /// One user fewer of a cached block; the last one leaves it idle.
    pub fn unpin(&mut self, hash: u64) {
        if let Some(block) = self.cached.get_mut(&hash) {
            block.users -= 1;
            if block.users == 0 {
                self.tick += 1;
                block.idle_since = self.tick;
                self.idle.insert(self.tick, hash);
            }
        }
    }

    /// Takes `count` private blocks, giving up idle cached ones as needed; takes none when there is no room.
    pub fn take(&mut self, count: usize) -> bool {
        if self.used() + count > self.capacity {
            return false;
        }
        while self.private + self.cached.len() + count > self.capacity {
            let Some((_, hash)) = self.idle.pop_first() else {
                return false;
            };
            self.cached.remove(&hash);
        }
        self.private += count;
        true
    }

    /// Gives `count` private blocks back.
    pub fn give_back(&mut self, count: usize) {
        self.private -= count;
    }

    /// Turns a private block into a cached one with one user. False when another job cached the same text first:
    /// the caller keeps its private block.
    pub fn publish(&mut self, hash: u64) -> bool {
        if self.cached.contains_key(&hash) {
            return false;
        }
        self.private -= 1;
        self.cached.insert(hash, Cached { users: 1, idle_since: 0 });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(blocks: &mut Blocks, hashes: &[u64]) {
        assert!(blocks.take(hashes.len()));
        for hash in hashes {
            assert!(blocks.publish(*hash));
        }
        for hash in hashes.iter().rev() {
            blocks.unpin(*hash);
        }
    }

    #[test]
    fn least_recently_used_block_goes_first() {
        let mut blocks = Blocks::new(4);
        cache(&mut blocks, &[1, 2]);
        cache(&mut blocks, &[3, 4]);
        blocks.pin(2);
        blocks.unpin(2);
        assert!(blocks.take(1), "one idle block makes room");
        assert_eq!(blocks.cached_prefix(&[1]), 0, "1 was used longest ago once 2 was used again");
        assert_eq!(blocks.cached_prefix(&[2]), 1);
    }

    #[test]
    fn tail_of_a_prefix_goes_before_its_head() {
        let mut blocks = Blocks::new(3);
        cache(&mut blocks, &[1, 2, 3]);
        assert!(blocks.take(1));
        assert_eq!(blocks.cached_prefix(&[1, 2, 3]), 2);
    }

    #[test]
    fn pinned_blocks_are_never_given_up() {
        let mut blocks = Blocks::new(2);
        cache(&mut blocks, &[1, 2]);
        blocks.pin(1);
        assert!(blocks.take(1));
        assert!(!blocks.take(1));
        assert_eq!((blocks.used(), blocks.cached_prefix(&[1])), (2, 1));
    }
}
