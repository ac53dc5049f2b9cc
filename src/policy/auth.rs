//! Which key is it?

use crate::units::KeyId;

/// Digests of all keys, looked up in constant time.
#[derive(Default)]
pub struct KeyTable {}

impl KeyTable {
    /// The table of these digests, by `KeyId`.
    pub fn new(_digests: &[[u8; 32]]) -> Self {
        Self {}
    }

    /// The key with this digest.
    pub fn find(&self, _digest: &[u8; 32]) -> Option<KeyId> {
        None
    }
}

/// SHA-256 of a presented key.
pub fn digest(_key: &[u8]) -> [u8; 32] {
    [0; 32]
}
