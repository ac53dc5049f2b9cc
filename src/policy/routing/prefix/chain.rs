//! The text of a conversation as a chain of block hashes.

/// Bytes of text in one block: 64 tokens of four bytes, as engines keep them. Chosen, not measured.
pub const BLOCK_BYTES: usize = 256;

/// Blocks of one prompt that are hashed; a longer text is known by its first mebibyte.
pub(super) const BLOCKS_MAX: usize = 4096;

/// Hashes text as it is given, piece by piece, whatever the pieces.
///
/// The hash of a block depends on the seed and on all text before the block's end, so equal hashes mean equal
/// beginnings. Text that does not fill a block is left out. Reuse one by [`Chain::restart`]: it allocates nothing once
/// its longest prompt has been seen.
#[derive(Clone, Debug)]
pub struct Chain {
    blocks: Vec<u64>,
    /// The hash of the last full block, or the seed.
    hash: u64,
    /// The text of a block that is not full, `0..filled`.
    partial: [u8; BLOCK_BYTES],
    filled: usize,
}

impl Default for Chain {
    fn default() -> Self {
        Self { blocks: Vec::new(), hash: 0, partial: [0; BLOCK_BYTES], filled: 0 }
    }
}

impl Chain {
    /// Forgets the text. Chains of different seeds share nothing: what keeps callers apart goes into the seed.
    pub fn restart(&mut self, seed: u64) {
        self.blocks.clear();
        self.hash = mix(seed);
        self.filled = 0;
    }

    /// Appends text.
    pub fn push(&mut self, mut text: &[u8]) {
        if self.is_full() {
            return;
        }
        if self.filled > 0 {
            let taken = text.len().min(BLOCK_BYTES - self.filled);
            self.partial[self.filled..self.filled + taken].copy_from_slice(&text[..taken]);
            self.filled += taken;
            text = &text[taken..];
            if self.filled < BLOCK_BYTES {
                return;
            }
            let block = self.partial;
            self.append(&block);
        }
        let (blocks, rest) = text.as_chunks::<BLOCK_BYTES>();
        for block in blocks {
            if self.is_full() {
                return;
            }
            self.append(block);
        }
        self.partial[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    /// Appends something that is long and of which only equality matters, such as an image: it counts as one word.
    pub fn push_digest(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
        let mut digest = mix(bytes.len() as u64);
        for block in blocks {
            digest = hash(block, digest);
        }
        let mut last = [0; BLOCK_BYTES];
        last[..rest.len()].copy_from_slice(rest);
        self.push(&hash(&last, digest).to_le_bytes());
    }

    /// The hash of each full block, in order; never zero.
    pub fn blocks(&self) -> &[u64] {
        &self.blocks
    }

    /// Whether more text would change nothing.
    pub fn is_full(&self) -> bool {
        self.blocks.len() == BLOCKS_MAX
    }

    fn append(&mut self, block: &[u8; BLOCK_BYTES]) {
        self.hash = hash(block, self.hash);
        self.blocks.push(self.hash | 1);
        self.filled = 0;
    }
}

/// Four lanes of multiply and fold, which the processor runs side by side; `prefix_hash` in `bench/policy.rs` times it.
fn hash(block: &[u8; BLOCK_BYTES], seed: u64) -> u64 {
    let (words, _) = block.as_chunks::<8>();
    let mut lanes = [seed, seed ^ SECRETS[1], seed ^ SECRETS[2], seed ^ SECRETS[3]];
    for group in words.as_chunks::<8>().0 {
        for (lane, pair) in lanes.iter_mut().zip(group.as_chunks::<2>().0) {
            let [left, right] = pair.map(u64::from_le_bytes);
            *lane = fold(left ^ SECRETS[0], right ^ *lane);
        }
    }
    let [a, b, c, d] = lanes;
    fold(a ^ b.rotate_left(17), c.rotate_left(31) ^ d ^ SECRETS[1])
}

fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    product as u64 ^ (product >> 64) as u64
}

fn mix(word: u64) -> u64 {
    fold(word ^ SECRETS[2], SECRETS[3] ^ word.rotate_left(32))
}

/// Odd words with as many ones as zeros (digits of pi).
const SECRETS: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1, 0x082e_fa98_ec4e_6c89];

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(seed: u64, pieces: &[&[u8]]) -> Vec<u64> {
        let mut chain = Chain::default();
        chain.restart(seed);
        pieces.iter().for_each(|piece| chain.push(piece));
        chain.blocks().to_vec()
    }

    fn text(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at * 7 % 251) as u8).collect()
    }

    #[test]
    fn pieces_do_not_matter() {
        let text = text(2_000);
        let whole = blocks(1, &[&text]);
        assert_eq!(whole.len(), 7);
        for cut in [1, 255, 256, 257, 1_000, 1_999] {
            assert_eq!(blocks(1, &[&text[..cut], b"", &text[cut..]]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(blocks(1, &bytes), whole);
    }

    #[test]
    fn a_longer_text_finds_its_shorter_self() {
        let text = text(4_000);
        let long = blocks(1, &[&text]);
        assert_eq!(blocks(1, &[&text[..2_100]])[..], long[..8]);
    }

    #[test]
    fn one_byte_changes_its_block_and_all_after_it() {
        for at in [0, 8, 100, 511, 600] {
            let (one, mut other) = (text(1_024), text(1_024));
            other[at] ^= 1;
            let (one, other) = (blocks(1, &[&one]), blocks(1, &[&other]));
            for block in 0..4 {
                assert_eq!(one[block] == other[block], block < at / BLOCK_BYTES, "byte {at}, block {block}");
            }
        }
    }

    #[test]
    fn seeds_and_repeated_text_share_nothing() {
        let text = text(512);
        let (one, two) = (blocks(1, &[&text]), blocks(2, &[&text]));
        assert!(one.iter().all(|block| !two.contains(block)));
        let zeros = blocks(0, &[&[0; 1_024]]);
        assert_eq!(zeros.iter().collect::<std::collections::HashSet<_>>().len(), 4);
    }

    #[test]
    fn an_endless_text_stops_at_the_bound_and_a_restart_forgets_all() {
        let mut chain = Chain::default();
        chain.restart(1);
        for _ in 0..3 {
            chain.push(&vec![b'x'; 700 * 1024]);
        }
        assert_eq!(chain.blocks().len(), BLOCKS_MAX);
        chain.restart(1);
        chain.push(&[b'x'; 100]);
        assert!(chain.blocks().is_empty());
    }

    #[test]
    fn a_digest_is_one_word_that_tells_contents_apart() {
        let with = |image: &[u8]| {
            let mut chain = Chain::default();
            chain.restart(1);
            chain.push_digest(image);
            chain.push(&[b'x'; 256]);
            chain.blocks().to_vec()
        };
        let image = text(100_000);
        assert_eq!(with(&image).len(), 1);
        assert_eq!(with(&image), with(&image));
        assert_ne!(with(&image), with(&image[1..]));
        assert_ne!(with(&[0; 10]), with(&[0; 11]));
    }
}
