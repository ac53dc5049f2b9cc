//! The response cache.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::quantity::{Size, Time};

/// Responses that are kept, and used again for requests that are the same: endpoint, model, body, header lines and query.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Keep responses. A client can opt out with `cache-control: no-store`, or `no-cache` for a fresh response.
    pub enabled: bool,
    /// How long a response is used.
    pub ttl: Time,
    /// Memory for responses, in equal parts for all shards: each shard has a cache of its own.
    pub size: Size,
    /// The longest response that is kept; at most the part of `size` that one shard has.
    pub entry: Size,
    /// Who shares responses: "key" (requests of one key), "team" (all keys of a team), "all" (whoever may use the model).
    pub scope: CacheScope,
    /// The models whose responses are kept; `*` is any run of characters.
    pub models: Vec<String>,
    /// true: of requests that generate text, only those with temperature = 0 or a seed.
    pub deterministic_only: bool,
    /// A request that is the same as one in flight on its shard waits for that one's response and gets it as it comes.
    pub single_flight: bool,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            enabled: false,
            ttl: Time::minutes(10),
            size: Size::mib(256),
            entry: Size::mib(4),
            scope: CacheScope::Key,
            models: vec!["*".to_owned()],
            deterministic_only: false,
            single_flight: true,
        }
    }
}

/// Who shares responses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheScope {
    /// Requests of one key.
    Key,
    /// All keys of a team.
    Team,
    /// Whoever may use the model.
    All,
}
