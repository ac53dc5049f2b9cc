//! Prompts in, words out: token counts, block hashes and generated text without a tokenizer.
//!
//! Four bytes of prompt text count as one token; a prompt given as token ids counts each id as one.

use super::engine::BLOCK_TOKENS;
use crate::chance::{Chance, mix};
use serde_json::Value;

/// A prompt flattened to bytes, four for each token.
#[derive(Debug, Default)]
pub struct Prompt {
    bytes: Vec<u8>,
}

impl Prompt {
    /// Everything in `body` that a server would put into the context, in the order of `members`.
    pub fn of(body: &Value, members: &[&str]) -> Self {
        let mut prompt = Self::default();
        for member in members {
            if let Some(value) = body.get(*member) {
                prompt.flatten(value);
            }
        }
        prompt
    }

    /// A prompt of one value, such as one item of an embeddings input.
    pub fn of_value(value: &Value) -> Self {
        let mut prompt = Self::default();
        prompt.flatten(value);
        prompt
    }

    fn flatten(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.bytes.extend_from_slice(text.as_bytes()),
            Value::Number(id) => {
                let id = id.as_u64().unwrap_or_default() as u32;
                self.bytes.extend_from_slice(&id.to_le_bytes());
            }
            Value::Array(items) => items.iter().for_each(|item| self.flatten(item)),
            Value::Object(members) => members.values().for_each(|member| self.flatten(member)),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// Length in tokens, at least one.
    pub fn tokens(&self) -> usize {
        self.bytes.len().div_ceil(TOKEN_BYTES).max(1)
    }

    /// For each full block, the hash of the text from the start to the block's end.
    pub fn block_hashes(&self) -> Vec<u64> {
        let mut hash = 0x5eed;
        let blocks = self.bytes.chunks_exact(BLOCK_TOKENS * TOKEN_BYTES);
        blocks
            .map(|block| {
                for word in block.chunks_exact(8) {
                    let word = word.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
                    hash = mix(hash ^ word).wrapping_add(word);
                }
                hash
            })
            .collect()
    }

    /// A number fixed by the text, for answers that depend on it (embeddings, scores).
    pub fn fingerprint(&self) -> u64 {
        self.bytes.iter().fold(0xfeed, |hash, byte| mix(hash ^ u64::from(*byte)))
    }
}

/// One generated token's text: a space and a word, without anything JSON would escape.
pub fn word(chance: &mut Chance) -> &'static str {
    WORDS[chance.below(WORDS.len() as u64) as usize]
}

const TOKEN_BYTES: usize = 4;

const WORDS: [&str; 48] = [
    " the", " ring", " way", " carries", " light", " from", " one", " side", " of", " town", " to",
    " another", " and", " no", " car", " waits", " at", " its", " gates", " while", " lamps", " turn",
    " green", " across", " seven", " bridges", " a", " quiet", " engine", " hums", " below", " every",
    " street", " keeps", " time", " with", " rain", " on", " glass", " so", " each", " word", " arrives",
    " in", " order", " without", " hurry", ".",
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shared_text_gives_shared_blocks_and_then_differs() {
        let text = |tail: &str| json!({"messages": [{"role": "user", "content": "a".repeat(600) + tail}]});
        let hashes = |tail| Prompt::of(&text(tail), &["messages"]).block_hashes();
        let (one, two) = (hashes(&"b".repeat(300)), hashes(&"c".repeat(300)));
        assert_eq!(one.len(), 3);
        assert_eq!(one[..2], two[..2]);
        assert_ne!(one[2], two[2]);
    }

    #[test]
    fn token_ids_count_one_each() {
        assert_eq!(Prompt::of_value(&json!([1, 2, 3])).tokens(), 3);
        assert_eq!(Prompt::of_value(&json!("abcdefghi")).tokens(), 3);
    }
}
