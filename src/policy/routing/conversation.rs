//! What of a request decides which backend has its beginning in the cache: the text of its conversation, and its session.

use super::prefix::Chain;
use crate::dialect::estimate::Rates;
use crate::dialect::prompt::{self, Piece};
use crate::dialect::request::Peek;

/// One prompt, hashed.
#[derive(Debug, Default)]
pub struct Conversation {
    chain: Chain,
    /// By the length of what was hashed.
    tokens: u64,
    /// Stays the same within a conversation, where the client says what belongs to it.
    session: Option<u64>,
}

/// The request that a conversation is read from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Of `body`.
    pub peek: &'a Peek,
    /// The client's.
    pub body: &'a [u8],
    /// The pool serves several models, each by a name that the client chose: what one has cached is of no use to another.
    pub is_pattern: bool,
    /// How tokens are estimated.
    pub rates: Rates,
    /// What a header line calls the session, if one does.
    pub session: Option<&'a [u8]>,
}

impl Conversation {
    /// Hashes a prompt, with a chain that may have been used before.
    pub fn read(mut chain: Chain, source: &Source<'_>) -> Self {
        let Source { peek, body, rates, .. } = *source;
        let name = if source.is_pattern { word(peek.model.of(body)) } else { 0 };
        let seed = word(peek.cache_salt.of(body)) ^ name.rotate_left(32);
        chain.restart(seed);
        let (mut bytes, mut media) = (0, 0);
        prompt::pieces(peek, body, |piece| match piece {
            Piece::Text(text) => {
                bytes += text.len() as u64;
                chain.push(text);
            }
            Piece::Media(content) => {
                media += 1;
                chain.push_digest(content);
            }
        });
        let tokens = bytes / rates.bytes_per_token.max(1) + media * rates.image_tokens;
        let key = peek.cache_key.of(body);
        let session = Some(key).filter(|key| !key.is_empty()).or(source.session);
        // Odd, as every key of the table is, and apart from the blocks of text by its seed.
        let session = session.map(|key| word(key) ^ seed.rotate_left(17) | 1);
        Self { chain, tokens, session }
    }

    /// The chain, for another conversation.
    pub fn into_chain(self) -> Chain {
        self.chain
    }

    /// Its blocks, in order.
    pub fn blocks(&self) -> &[u64] {
        self.chain.blocks()
    }

    /// Tokens of the prompt by estimate.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// What its session is known by in the table of prompts, where the client names it.
    pub fn session(&self) -> Option<u64> {
        self.session
    }

    /// The same word for requests that belong together: the client's own, or the first block that no member has (the best
    /// match ends after `matched` blocks), so that siblings meet; `random` for a prompt that is too short to have one.
    pub fn affinity(&self, matched: usize, random: u64) -> u64 {
        let blocks = self.blocks();
        self.session.or(blocks.get(matched).or(blocks.last()).copied()).unwrap_or(random)
    }

    /// The same word for a whole conversation.
    pub fn word(&self, random: u64) -> u64 {
        let blocks = self.blocks();
        self.session.or(blocks.get(CONVERSATION_BLOCK).or(blocks.last()).copied()).unwrap_or(random)
    }
}

/// A word for a client's own words; zero for none.
fn word(words: &[u8]) -> u64 {
    words.iter().fold(0, |hash: u64, byte| {
        (hash.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x517c_c1b7_2722_0a95)
    })
}

/// The block that stands for a conversation: behind the start of a system prompt that others share. Chosen, not measured.
const CONVERSATION_BLOCK: usize = 3;
