//! The secret under which the texts of matches are hashed.

use ring::hmac;

/// The secret of the hashes.
#[derive(Clone, Debug)]
pub struct Secret(hmac::Key);

impl Secret {
    /// From its bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The first half of the HMAC-SHA256 of a match.
    pub fn hash(&self, text: &[u8]) -> u128 {
        let tag = hmac::sign(&self.0, text);
        tag.as_ref().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes))
    }
}
