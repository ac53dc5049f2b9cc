//! Limits that several gateways share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::choices::WhenGone;
use crate::config::secret::SecretSource;

/// Limits and budgets of keys and teams that hold over several gateways. Off without url.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shared {
    /// The Redis or Valkey server that they meet at: "redis://HOST:PORT/DATABASE", or "rediss://" over TLS.
    pub url: Option<String>,
    /// The user there. Default: the server's default user.
    pub username: Option<String>,
    /// Its password: { env = "NAME" } or { file = "/path" }.
    pub password: Option<SecretSource>,
    /// How many gateways share the limits. While Redis is away, each has limit / gateways.
    pub gateways: Option<u32>,
    /// What remains of a limit while Redis is away: "capped_local" (limit / gateways) or "fail_closed" (nothing).
    pub when_gone: WhenGone,
    /// The same for budgets. Default: as when_gone.
    pub budgets_when_gone: Option<WhenGone>,
    /// What the names of keys in Redis start with. Gateways that share limits have the same.
    pub prefix: String,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            url: None,
            username: None,
            password: None,
            gateways: None,
            when_gone: WhenGone::CappedLocal,
            budgets_when_gone: None,
            prefix: "ringway".to_owned(),
        }
    }
}
