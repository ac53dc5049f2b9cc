//! End users.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rows::{Budget, RateLimit};

/// End users: whom clients act for. Only keys with names_users = true may name them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EndUsers {
    /// The header that names the end user, for example "x-end-user". It goes before the members of the body. Default: none.
    pub header: Option<String>,
    /// End users whose use is kept in mind; of more, those that were seen last the longest ago are forgotten, with what they had
    /// used.
    pub kept: usize,
    /// Requests per minute of each. Default: unlimited.
    pub requests_per_minute: Option<u64>,
    /// Requests at once. Default: a minute's worth.
    pub requests_burst: Option<u64>,
    /// Tokens per minute of each, of prompts and responses. Default: unlimited.
    pub tokens_per_minute: Option<u64>,
    /// Tokens that may be taken at once. Default: a minute's worth.
    pub tokens_burst: Option<u64>,
    /// Requests in flight at once of each, over all shards. Default: unlimited.
    pub in_flight_max: Option<u32>,
    /// Of these limits none refuses: what they would have refused is counted. Default: none.
    pub shadow: Vec<RateLimit>,
    /// Budgets of each, kept in memory: they begin at zero with the process. Default: none.
    pub budgets: Vec<Budget>,
}

impl Default for EndUsers {
    fn default() -> Self {
        Self {
            header: None,
            kept: 10_000,
            requests_per_minute: None,
            requests_burst: None,
            tokens_per_minute: None,
            tokens_burst: None,
            in_flight_max: None,
            shadow: Vec::new(),
            budgets: Vec::new(),
        }
    }
}
