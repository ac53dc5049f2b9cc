//! What a line of Ollama's, or a whole body, says at its top level, read in pieces cut anywhere.

use crate::dialect::usage::Usage;
use crate::wire::json::{self, Scan, Seen, Token};

/// Follows one JSON object. Memory: a few hundred bytes, whatever its length.
#[derive(Default)]
pub struct Counts {
    json: Scan,
    input: Option<u64>,
    output: Option<u64>,
    is_done: bool,
    has_error: bool,
    usage: Usage,
}

impl Counts {
    /// Takes in the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut json = std::mem::take(&mut self.json);
        json.feed(piece, &mut |seen| self.see(&seen));
        self.json = json;
    }

    fn see(&mut self, seen: &Seen<'_>) {
        if seen.depth != 1 {
            return;
        }
        match (seen.key(0), seen.token) {
            (b"\"prompt_eval_count\"", Token::Scalar(text)) => self.input = json::unsigned(text),
            (b"\"eval_count\"", Token::Scalar(text)) => self.output = json::unsigned(text),
            (b"\"done\"", Token::Scalar(text)) => self.is_done = text == b"true",
            (b"\"error\"", Token::Scalar(text)) => self.has_error = text != b"null",
            (b"\"error\"", Token::Opens(_)) => self.has_error = true,
            _ => return,
        }
        if self.input.is_some() || self.output.is_some() {
            self.usage = Usage::of_counts(self.input, self.output);
        }
    }

    /// What it says of tokens.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Whether it says that the response is done.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether it says that the response failed.
    pub fn has_error(&self) -> bool {
        self.has_error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_says_the_same_at_every_cut() {
        let body =
            br#"{"message":{"content":"\"done\":true","eval_count":7},"a":[{"done":true}],"error":null,
            "done" : true,"prompt_eval_count":26,"eval_count":298}"#;
        for cut in 0..body.len() {
            let mut counts = Counts::default();
            counts.feed(&body[..cut]);
            counts.feed(&body[cut..]);
            assert_eq!((counts.usage().input, counts.usage().output), (26, 298), "cut at {cut}");
            assert!(counts.is_done() && !counts.has_error(), "cut at {cut}");
        }
    }

    #[test]
    fn an_error_is_one_in_any_form() {
        for (body, is_error) in [
            (r#"{"error":"x"}"#, true),
            (r#"{"error":{"message":"x"}}"#, true),
            (r#"{"message":{"error":"x"}}"#, false),
        ] {
            let mut counts = Counts::default();
            counts.feed(body.as_bytes());
            assert_eq!(counts.has_error(), is_error, "{body}");
            assert!(!counts.usage().seen && !counts.is_done());
        }
    }
}
