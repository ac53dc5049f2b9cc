//! How many tokens a prompt is, before any backend has counted it.
//!
//! Text is counted by its length. Pictures, sound and documents travel in JSON as base64, a thousand times longer than
//! what a model makes of them, so they are counted by kind (`media`). Which strings of a body are such parts is decided
//! in `parts` alone: by the member they are the value of, never by how they look. A text that looks like base64 is text.

mod media;
mod parts;

use super::{Api, Dialect, number};

/// What is assumed about all prompts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates {
    /// Bytes of a body taken as one token of text.
    pub bytes_per_token: u64,
    /// Tokens of an image whose size in pixels cannot be read.
    pub image_tokens: u64,
}

/// An estimate of a prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prompt {
    /// Tokens of what is text.
    pub text: u64,
    /// Tokens of images, sound, video and documents.
    pub media: u64,
}

impl Prompt {
    /// All of it.
    pub fn tokens(self) -> u64 {
        self.text.saturating_add(self.media)
    }
}

/// Estimates the prompt of a request to `api`. `body` is sound JSON: `request::peek` has been through it.
///
/// Cost: constant for a body below `MEDIA_BODY_BYTES`, and a few bytes per half KiB for a longer one without a long run of
/// unbroken characters. Only a body with one takes another pass, and each image a look at its first bytes.
pub fn prompt(api: Api, body: &[u8], rates: &Rates) -> Prompt {
    let (mut bytes, mut media) = (body.len() as u64, 0_u64);
    if body.len() >= MEDIA_BODY_BYTES && parts::may_be_in(body) {
        parts::each(api, body, |part| {
            let taken = part.payload.len() as u64;
            let (text_bytes, tokens) = media::weigh(api, &part, rates);
            bytes = bytes.saturating_sub(taken).saturating_add(text_bytes);
            media = media.saturating_add(tokens);
        });
    }
    Prompt { text: bytes / rates.bytes_per_token.max(1) + 1, media }
}

/// Appends the response to a request for the tokens of a prompt, where the gateway counts itself.
pub fn count(api: Api, tokens: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(match api.dialect() {
        Dialect::Anthropic => b"{\"input_tokens\":".as_slice(),
        Dialect::Google => b"{\"totalTokens\":",
        Dialect::OpenAi | Dialect::Ollama => b"{\"object\":\"response.input_tokens\",\"input_tokens\":",
    });
    number(out, tokens);
    out.push(b'}');
}

/// A body shorter than this is text as a whole: an image that fits is not worth the search. Chosen, not measured.
const MEDIA_BODY_BYTES: usize = 4 * 1024;

#[cfg(test)]
mod tests;
