//! Request bodies: prompts of a wanted length, with prefixes shared as the workload says.

use crate::chance::{Chance, mix};
use std::fmt::Write;

/// What every body of a run has in common.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The model asked for.
    pub model: String,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// Whether the server is told to generate exactly the wanted number of tokens (`ignore_eos`, vLLM and SGLang).
    pub ignore_eos: bool,
    /// Fixes all text.
    pub seed: u64,
}

impl Shape {
    /// The body of a request with `text` as its only message; `text` has nothing that JSON escapes.
    pub fn body(&self, text: &str, output_tokens: u64) -> String {
        let mut body = String::with_capacity(text.len() + 256);
        let model = serde_json::Value::from(self.model.as_str());
        // Writing to a string cannot fail.
        let _ = write!(
            body,
            r#"{{"model":{model},"messages":[{{"role":"user","content":"{text}"}}],"max_tokens":{output_tokens}"#
        );
        if self.ignore_eos {
            body.push_str(r#","ignore_eos":true"#);
        }
        if self.stream {
            body.push_str(r#","stream":true,"stream_options":{"include_usage":true}"#);
        }
        body.push('}');
        body
    }

    /// Text of `tokens` tokens whose first `shared_tokens` are those of prefix number `prefix`, and whose rest is
    /// request `index`'s own.
    pub fn text(&self, tokens: usize, shared_tokens: usize, prefix: u64, index: u64) -> String {
        let mut text = String::with_capacity(tokens * TOKEN_BYTES);
        let shared = shared_tokens.min(tokens);
        fill(&mut text, shared * TOKEN_BYTES, mix(self.seed ^ mix(prefix)));
        fill(&mut text, tokens * TOKEN_BYTES, mix(self.seed ^ mix(!index)));
        text
    }

    /// Text of a trace's request: [`TRACE_BLOCK_TOKENS`] tokens for each of its blocks, cut to `tokens`.
    pub fn trace_text(&self, tokens: usize, hash_ids: &[u64]) -> String {
        let mut text = String::with_capacity(tokens * TOKEN_BYTES);
        for (index, id) in hash_ids.iter().enumerate() {
            let end = tokens.min((index + 1) * TRACE_BLOCK_TOKENS) * TOKEN_BYTES;
            fill(&mut text, end, mix(self.seed ^ mix(*id)));
        }
        fill(&mut text, tokens * TOKEN_BYTES, mix(self.seed ^ hash_ids.last().copied().unwrap_or(0)));
        text
    }
}

/// Fills `text` up to `size` bytes with words fixed by `seed`.
fn fill(text: &mut String, size: usize, seed: u64) {
    let mut chance = Chance::new(seed);
    while text.len() < size {
        let word = chance.word();
        for part in 0..4 {
            // Three letters and a space: about what a token of English is.
            for letter in 0..3 {
                text.push(char::from(b'a' + ((word >> (part * 16 + letter * 5)) & 31) as u8 % 26));
            }
            text.push(' ');
        }
    }
    text.truncate(size);
}

/// Bytes of text that count as a token, an average for English.
const TOKEN_BYTES: usize = 4;
/// Tokens that one hash of a Mooncake trace stands for.
const TRACE_BLOCK_TOKENS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape { model: "m\"x".to_owned(), stream: true, ignore_eos: true, seed: 1 }
    }

    #[test]
    fn body_is_json_and_text_has_the_asked_length() {
        let text = shape().text(100, 40, 3, 9);
        let body: serde_json::Value = serde_json::from_str(&shape().body(&text, 7)).unwrap();
        assert_eq!(body["messages"][0]["content"].as_str().map(str::len), Some(400));
        assert_eq!((&body["model"], &body["max_tokens"]), (&"m\"x".into(), &7.into()));
    }

    #[test]
    fn prefix_is_shared_and_the_rest_is_not() {
        let (one, two) = (shape().text(100, 40, 3, 1), shape().text(100, 40, 3, 2));
        assert_eq!(one[..160], two[..160]);
        assert_ne!(one[160..], two[160..]);
        let (one, two) = (shape().trace_text(1000, &[1, 2]), shape().trace_text(900, &[1, 3]));
        assert_eq!((one.len(), two.len()), (4000, 3600));
        assert_eq!(one[..2048], two[..2048]);
        assert_ne!(one[2048..3600], two[2048..]);
    }
}
