//! The tokens that were verified before: a table with a bound and one owner, found by the SHA-256 of the whole token.
//!
//! A token is believed again until its own end, as long as neither the configuration nor the issuer's key set has changed since.

use crate::policy::auth::credential::Digest;
use crate::units::{IssuerId, KeyId};

/// A token that was verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// Who issued it.
    pub issuer: IssuerId,
    /// The row whose limits its caller has.
    pub key: KeyId,
    /// Whom it is for.
    pub user: Box<str>,
    /// Unix seconds from which it is refused.
    pub ends: u64,
    /// What it was verified under.
    pub under: Under,
}

/// The plan and the key set under which a token was verified: its ids mean nothing under another plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Under {
    /// The generation of the plan.
    pub plan: u64,
    /// The number of the key set.
    pub keys: u64,
}

/// The table. Empty, and without memory, until the first token is put in.
#[derive(Default)]
pub struct Memory {
    /// `slots: [digest and token; SETS of WAYS]`, by the first bytes of the digest, which is uniform.
    slots: Box<[Option<(Digest, Known)>]>,
}

/// Places for one digest.
const WAYS: usize = 4;
/// Sets: 4,096 tokens a shard, in about a MiB with their users. Chosen, not measured.
const SETS: usize = 1024;

impl Memory {
    /// The token of this digest, whatever it was verified under.
    pub fn find(&self, digest: &Digest) -> Option<&Known> {
        let set = self.slots.get(set(digest))?;
        set.iter().flatten().find(|(known, _)| known == digest).map(|(_, token)| token)
    }

    /// Remembers a token, in the place of itself, of nothing, or else of the one of its set that ends first.
    pub fn put(&mut self, digest: Digest, token: Known) {
        if self.slots.is_empty() {
            self.slots = vec![None; SETS * WAYS].into();
        }
        let set = &mut self.slots[set(&digest)];
        let rank = |slot: &Option<(Digest, Known)>| match slot {
            Some((known, _)) if *known == digest => (0, 0),
            None => (1, 0),
            Some((_, token)) => (2, token.ends),
        };
        let way = (0..WAYS).min_by_key(|way| rank(&set[*way])).unwrap_or(0);
        set[way] = Some((digest, token));
    }
}

/// The places of a digest.
fn set(digest: &Digest) -> std::ops::Range<usize> {
    let [a, b, ..] = *digest;
    let first = usize::from(u16::from_le_bytes([a, b])) % SETS * WAYS;
    first..first + WAYS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(ends: u64) -> Known {
        let under = Under { plan: 1, keys: 1 };
        Known { issuer: IssuerId::new(0), key: KeyId::new(0), user: "u".into(), ends, under }
    }

    #[test]
    fn a_token_is_found_by_its_whole_digest_and_the_table_has_a_bound() {
        let mut memory = Memory::default();
        let digest = |last: u8| {
            let mut digest = [7; 32];
            digest[31] = last;
            digest
        };
        assert_eq!(memory.find(&digest(0)), None);
        for last in 0..4 {
            memory.put(digest(last), token(100 + u64::from(last)));
        }
        memory.put(digest(3), token(50));
        assert_eq!((memory.find(&digest(3)), memory.find(&digest(9))), (Some(&token(50)), None));
        // The one that ends first makes room.
        memory.put(digest(4), token(200));
        assert_eq!(memory.find(&digest(3)), None);
        assert!((0..3).chain([4]).all(|last| memory.find(&digest(last)).is_some()));
        assert_eq!(memory.slots.len(), SETS * WAYS);
    }
}
