//! What the shards and the coordinator share of the prompts that were placed: a table for each model, a ring for each shard.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_utils::CachePadded;

use super::{Member, Plan};
use crate::policy::routing::prefix::{self, MEMBERS_MAX, Note, Ring, Table};
use crate::units::{BackendId, ModelId, ShardId};

/// The prompt prefixes of one model's pool, from the first plan on in which the pool has more than one member.
#[derive(Default)]
pub struct Prefixes {
    cell: OnceLock<Shared>,
}

/// See [`Prefixes`].
pub struct Shared {
    /// Names it in a [`Note`]: no two of a process are the same.
    pub number: u32,
    /// Told apart by number, so that one shard can remember blocks of several models in one place.
    pub salt: u64,
    /// Who has which block; the bits are [`Member::slot`]s.
    pub table: Table,
}

impl Prefixes {
    /// Makes the table, with room for so many blocks, unless there is one.
    pub fn open(&self, blocks: usize) {
        self.cell.get_or_init(|| {
            let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
            let salt = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) << 1;
            Shared { number, salt, table: Table::new(blocks.clamp(1 << 12, BLOCKS_MAX)) }
        });
    }

    /// The table, if the pool ever had more than one member.
    pub fn get(&self) -> Option<&Shared> {
        self.cell.get()
    }
}

/// The rings on which shards tell the coordinator what they placed, by `ShardId`.
pub struct Placements(Box<[CachePadded<Ring>]>);

impl Placements {
    /// One ring for each shard.
    pub fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| CachePadded::new(Ring::new(RING_WORDS))).collect())
    }

    /// Appends to the ring of `shard`, which is the caller's own; false if there is no room.
    #[must_use]
    pub fn append(&self, shard: ShardId, note: Note, blocks: &[u64]) -> bool {
        self.0[shard.index()].append(note, blocks)
    }

    /// Hands over what the shards have appended. For the coordinator.
    pub fn take(&self, scratch: &mut Vec<u64>, mut each: impl FnMut(Note, &[u64])) {
        self.0.iter().for_each(|ring| ring.take(scratch, &mut each));
    }
}

impl Plan {
    /// Tokens that the KV cache of a backend holds: as configured, else as it reported; 0 if unknown.
    pub fn kv_capacity(&self, id: BackendId) -> u64 {
        match self.backend(id).kv_tokens {
            0 => self.backends.cells(id).signals.kv_capacity(),
            tokens => tokens,
        }
    }

    /// Blocks of prompt text that the cache of a backend is taken to hold.
    pub fn kv_blocks(&self, id: BackendId) -> usize {
        let tokens = Some(self.kv_capacity(id)).filter(|tokens| *tokens > 0).unwrap_or(KV_TOKENS_SUPPOSED);
        let blocks = tokens.saturating_mul(self.estimate.bytes_per_token) / prefix::BLOCK_BYTES as u64;
        usize::try_from(blocks).unwrap_or(usize::MAX)
    }

    /// Makes the tables of prompt prefixes that this plan has use for.
    pub fn open_prefixes(&self) {
        let blocks = |member: &Member| self.kv_blocks(member.backend);
        for model in self.models.iter().filter(|model| model.pool.len() > 1) {
            let prefixes = &self.models.cells(model.id).prefixes;
            prefixes.open(model.pool.iter().map(blocks).sum());
        }
    }
}

/// Members of a pool that were there in the plan before keep their bits. `models`: the ids of a model here and there.
pub(super) fn keep_slots(plan: &mut Plan, old: &Plan, models: &[(ModelId, ModelId)]) {
    for &(id, before) in models {
        let old_pool = &old.model(before).pool;
        let used = old_pool.iter().fold(0, |used, member| used | prefix::bit(member.slot.into()));
        let slot = |member: &Member| {
            let same = plan.deployment(member.deployment).before(&plan.backends, old)?;
            old_pool.iter().find(|old| old.deployment == same).map(|old| old.slot)
        };
        let slots: Vec<_> = plan.model(id).pool.iter().map(slot).collect();
        assign(&mut plan.models[id.index()].pool, &slots, used);
    }
}

/// Gives each member of a pool its bit in the table. `before`: the bit of the same deployment in the plan before, if it was
/// there. New members get bits that nobody had there, as far as there are any: what the table says of those is of no use.
fn assign(pool: &mut [Member], before: &[Option<u8>], used: u64) {
    let mut taken = used;
    for (member, slot) in pool.iter_mut().zip(before) {
        member.slot = match slot {
            Some(slot) => *slot,
            None => {
                let free = (!taken).trailing_zeros() as u8;
                if usize::from(free) < MEMBERS_MAX { free } else { NO_SLOT }
            }
        };
        taken |= 1_u64.checked_shl(member.slot.into()).unwrap_or(0);
    }
}

/// A member that is not in the table: the pool has too many.
pub const NO_SLOT: u8 = u8::MAX;

static NUMBERS: AtomicU32 = AtomicU32::new(1);
/// KV cache of a backend that nothing is known of: that of a model of 8 to 70 billion parameters on a large GPU. Chosen, not
/// measured.
const KV_TOKENS_SUPPOSED: u64 = 500_000;
/// Words of a shard's ring: the coordinator reads it 50 times a second, and a long prompt has 512. Chosen, not measured.
const RING_WORDS: usize = 1 << 15;
/// Most blocks that one table has room for: 64 MiB. Chosen, not measured.
const BLOCKS_MAX: usize = 1 << 21;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::DeploymentId;

    fn slots(before: &[Option<u8>], used: u64) -> Vec<u8> {
        let member = |_| Member {
            backend: BackendId::new(0),
            deployment: DeploymentId::new(0),
            model_json: None,
            weight: 1,
            template: None,
            price: None,
            slot: 0,
        };
        let mut pool: Vec<Member> = before.iter().map(member).collect();
        assign(&mut pool, before, used);
        pool.iter().map(|member| member.slot).collect()
    }

    #[test]
    fn members_keep_their_bits_and_new_ones_get_bits_that_nobody_had() {
        assert_eq!(slots(&[None; 3], 0), [0, 1, 2]);
        assert_eq!(slots(&[Some(2), None, Some(0), None], 0b111), [2, 3, 0, 4]);
    }

    #[test]
    fn a_pool_of_more_members_than_bits_leaves_the_last_ones_out() {
        let slots = slots(&[None; 66], 0);
        assert_eq!((slots[63], slots[64], slots[65]), (63, NO_SLOT, NO_SLOT));
    }

    #[test]
    fn a_table_is_made_once() {
        let prefixes = Prefixes::default();
        assert!(prefixes.get().is_none());
        prefixes.open(10);
        let number = prefixes.get().map(|shared| shared.number);
        prefixes.open(1 << 20);
        assert!(number.is_some() && prefixes.get().map(|shared| shared.number) == number);
    }
}
