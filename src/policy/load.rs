//! What one shard has put on one backend.

/// One padded slot per shard and backend.
#[derive(Default)]
pub struct Load {}

/// Observed over predicted time to first token.
#[derive(Default)]
pub struct Ewma {}
