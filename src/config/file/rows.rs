//! The tables that have a name of their own: backends, models, teams, keys.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BackendHealth, BackendMetrics, LimitScope, ModelTimeouts, OnLoss};
use crate::config::entry::{Entry, ProviderKind, ProxyChoice, RoutingPolicy};
use crate::config::quantity::Time;
use crate::config::secret::SecretSource;

/// One server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// The server: `http://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:/PATH`. A path may follow the port; `/v1` and the
    /// endpoint are added, `/v1` only where the path does not end in it. Either this or `api_base`; neither where its kind
    /// knows the URL (`ringway providers` shows which).
    #[serde(default)]
    pub url: Option<String>,
    /// Instead of `url`: the base URL of an API. The gateway adds only the endpoint's own part, for example
    /// /chat/completions or /messages. A query, for example ?api-version=2024-10-21, is sent with every request.
    #[serde(default)]
    pub api_base: Option<String>,
    /// What runs there; `ringway providers` lists all kinds.
    #[serde(default)]
    pub kind: ProviderKind,
    /// Endpoints it serves (chat, completions, embeddings, responses, responses_compact, responses_input_tokens, rerank,
    /// score, classify, pooling, tokenize, detokenize, messages, count_tokens); those of its kind if left out. Who serves
    /// responses is also asked for them by their ids.
    #[serde(default)]
    pub serves: Option<Vec<String>>,
    /// Whether it accepts `stream_options`. Default: as its kind. If not, usage of streams is estimated.
    #[serde(default)]
    pub stream_options: Option<bool>,
    /// Whether it is a service that bills by the token, even for requests that are cancelled. Default: as its kind.
    #[serde(default)]
    pub hosted: Option<bool>,
    /// The credential to send: { env = "NAME" } or { file = "/path" }.
    #[serde(default)]
    pub api_key: Option<SecretSource>,
    /// The header that carries it: "authorization" (as a bearer token), "x-api-key", "api-key" (Azure) or "x-goog-api-key". Default: as
    /// its kind.
    #[serde(default)]
    pub api_key_header: Option<String>,
    /// Bedrock: the region, which is also in its URL. Default: AWS_REGION in the environment.
    #[serde(default)]
    pub region: Option<String>,
    /// Bedrock without an api_key: the account's access key. Default: AWS_BEARER_TOKEN_BEDROCK, else AWS_ACCESS_KEY_ID with
    /// AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in the environment.
    #[serde(default)]
    pub access_key_id: Option<SecretSource>,
    /// The secret that belongs to access_key_id. Requests are signed with it; it is never sent.
    #[serde(default)]
    pub secret_access_key: Option<SecretSource>,
    /// The session's token, if access_key_id is a temporary one.
    #[serde(default)]
    pub session_token: Option<SecretSource>,
    /// Share of the traffic in every pool, relative to the other backends. Default: 1.
    #[serde(default)]
    pub weight: Option<u32>,
    /// Requests in flight at once, over all shards. Default: unlimited.
    #[serde(default)]
    pub in_flight_max: Option<u32>,
    /// Prompt tokens that may wait for their prefill there, over all shards. Beyond that further requests wait in the model's queue,
    /// in fair order between keys, and get the backend that is free first. Default: unlimited.
    #[serde(default)]
    pub pending_tokens_max: Option<u64>,
    /// What a 429 of this backend pauses: "model" the requested model, "backend" all of its models, for providers
    /// that limit the whole account.
    #[serde(default)]
    pub limit_scope: LimitScope,
    /// Size of the KV cache in tokens, used to balance load. Default: what its metrics say, else unknown.
    #[serde(default)]
    pub kv_tokens: Option<u64>,
    /// The only authorities that may sign its certificate (PEM), instead of the machine's; or its own certificate.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The client certificate for a server that requests one (PEM, with its chain).
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// The private key of cert_file (PEM).
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// false accepts any certificate. An attacker on the network can then read and change everything.
    #[serde(default)]
    pub tls_verify: Option<bool>,
    /// The proxy towards this backend, as in `[egress]`; true: that of `[egress]`; false: none. Default: that of
    /// `[egress]` if the backend is hosted and not in `no_proxy`. `no_proxy` does not apply to a proxy set here.
    #[serde(default)]
    pub proxy: Option<ProxyChoice>,
    /// USER:PASSWORD for this proxy: { env = "NAME" } or { file = "/path" }.
    #[serde(default)]
    pub proxy_credential: Option<SecretSource>,
    /// Values that differ from `[health]`.
    #[serde(default)]
    pub health: BackendHealth,
    /// Where its metrics are, if it is an engine.
    #[serde(default)]
    pub metrics: BackendMetrics,
}

/// One public model.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The backends that serve it: names, or { name, model, weight }. A model whose name ends in `*` is a pattern: what clients
    /// write for the star goes to the backend.
    pub backends: Vec<Entry<Member>>,
    /// Other names for it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Context length in tokens, prompt and output together. Clients read it in /v1/models.
    #[serde(default)]
    pub context_length: Option<u64>,
    /// Tokens of output that it makes at most. A response that is no stream gets a lower cap where less is left of a limit or a
    /// budget. Default: `context_length`, else 4096.
    #[serde(default)]
    pub output_max: Option<u64>,
    /// Models that respond in its place, in this order, until the first content has been sent: names or aliases.
    #[serde(default)]
    pub fallbacks: Vec<String>,
    /// How a backend is chosen: "cost" (the lowest expected time, by prompts in its cache, prompts that wait and running
    /// streams), "least_request", "p2c" (the less busy of two at random), "round_robin", "rendezvous" (the same conversation
    /// always to the same backend), "weighted" (at random, by weight) or "lmetric" (tokens to compute times streams).
    #[serde(default)]
    pub policy: RoutingPolicy,
    /// Ask a second backend for a stream if the first has not begun to respond in time; the one that begins first serves the
    /// request, the other's work is stopped. Draws on the retry budget. A hosted backend may bill both. Default: never.
    #[serde(default)]
    pub hedge: Option<Hedge>,
    /// Let a stream that its backend cuts go on at another backend, or at a fallback with `resume`: engines that are called by chat
    /// completions and know `continue_final_message` (vLLM, SGLang) or go on with an assistant's last message (llama.cpp). Default: off; the
    /// client gets an error record.
    #[serde(default)]
    pub resume: bool,
    /// Rules that send requests for it to another model, in this order: the first one that fits decides.
    #[serde(default)]
    pub route: Vec<Route>,
    /// What happens to a request with a member that the API of its backend cannot express, if it differs from `on_loss`.
    #[serde(default)]
    pub on_loss: Option<OnLoss>,
    /// Timeouts that differ from `[timeouts]`.
    #[serde(default)]
    pub timeouts: ModelTimeouts,
}

/// When a second backend is asked: after `factor` times the expected time to the first token, but not before `after`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hedge {
    /// At the earliest so long after the request was sent.
    pub after: Time,
    /// Times the expected time to the first token.
    pub factor: f64,
}

impl Default for Hedge {
    fn default() -> Self {
        Self { after: Time::seconds(1), factor: 4.0 }
    }
}

/// A rule that sends requests to another model. Every condition that is written has to hold. A rule to a model that the key may not use
/// is skipped.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The model or alias that serves the request. Its own rules are not applied.
    pub to: String,
    /// Prompts of at least so many tokens, by estimate.
    #[serde(default)]
    pub prompt_tokens_min: Option<u64>,
    /// Prompts of at most so many tokens, by estimate.
    #[serde(default)]
    pub prompt_tokens_max: Option<u64>,
    /// true: requests that define tools; false: those that do not.
    #[serde(default)]
    pub tools: Option<bool>,
    /// true: requests with an image; false: those without.
    #[serde(default)]
    pub images: Option<bool>,
    /// Requests with this header line: "name: value", or "name" for any value.
    #[serde(default)]
    pub header: Option<String>,
    /// Requests with these keys: names, `*` for any run of characters.
    #[serde(default)]
    pub keys: Option<Vec<String>>,
    /// Share of the requests that fit, in percent: a canary. The requests of a session stay together, where the client names
    /// it. Default: 100.
    #[serde(default)]
    pub percent: Option<f64>,
}

/// One backend of a model.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The backend.
    pub name: String,
    /// The backend's own name for the model; the public name if left out. Of a pattern: with a `*` for what clients write for
    /// the star, `*` alone if left out.
    #[serde(default)]
    pub model: Option<String>,
    /// Share of the traffic of this model, instead of the backend's weight.
    #[serde(default)]
    pub weight: Option<u32>,
}

impl From<String> for Member {
    fn from(name: String) -> Self {
        Self { name, model: None, weight: None }
    }
}

/// A team of keys. Its limits apply to all of its keys together.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Team {
    /// The models its keys may use: public names or aliases, `*` for any run of characters. Default: all.
    #[serde(default)]
    pub models: Option<Vec<String>>,
    /// The endpoints its keys may call, by the names that `serves` of a backend has. Default: all.
    #[serde(default)]
    pub apis: Option<Vec<String>>,
    /// Requests per minute. Default: unlimited.
    #[serde(default)]
    pub requests_per_minute: Option<u64>,
    /// Requests at once. Default: a minute's worth.
    #[serde(default)]
    pub requests_burst: Option<u64>,
    /// Tokens per minute, of prompts and responses. Default: unlimited.
    #[serde(default)]
    pub tokens_per_minute: Option<u64>,
    /// Tokens that may be taken at once. Default: a minute's worth.
    #[serde(default)]
    pub tokens_burst: Option<u64>,
    /// Requests in flight at once over all shards. Default: unlimited.
    #[serde(default)]
    pub in_flight_max: Option<u32>,
    /// Of these limits ("requests_per_minute", "tokens_per_minute", "in_flight_max") none refuses: what they would have refused is
    /// counted. Default: none.
    #[serde(default)]
    pub shadow: Vec<RateLimit>,
    /// Budgets: what its keys may use together, each in a window of its own. Default: none.
    #[serde(default)]
    pub budgets: Vec<Budget>,
}

/// One key of a client. It is limited by its own limits and by its team's.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// SHA-256 of the key in 64 hex digits. The key itself is not stored.
    pub sha256: String,
    /// The team it belongs to, a [team.NAME]. Default: none.
    #[serde(default)]
    pub team: Option<String>,
    /// When it expires, for example "2027-01-01T00:00:00Z". Default: never.
    #[serde(default)]
    pub expires: Option<String>,
    /// Labels for reports.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Notes that the admin API shows: at most 16 names with values of at most 256 characters.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The models it may use, of those that its team may: public names or aliases, `*` for any run of characters. Default: all.
    #[serde(default)]
    pub models: Option<Vec<String>>,
    /// Whether it may ask how its backend was chosen: a request with the header `x-ringway-trace` gets the answer in the header of
    /// the same name, beside `x-ringway-backend`. Default: only if debug_headers is on.
    #[serde(default)]
    pub trace: bool,
    /// The endpoints it may call, of those that its team may, by the names that `serves` of a backend has. Default: all.
    #[serde(default)]
    pub apis: Option<Vec<String>>,
    /// Requests per minute. Default: unlimited.
    #[serde(default)]
    pub requests_per_minute: Option<u64>,
    /// Requests at once. Default: a minute's worth.
    #[serde(default)]
    pub requests_burst: Option<u64>,
    /// Tokens per minute, of prompts and responses. Default: unlimited.
    #[serde(default)]
    pub tokens_per_minute: Option<u64>,
    /// Tokens that may be taken at once. A request with more text is refused for good. Default: a minute's worth.
    #[serde(default)]
    pub tokens_burst: Option<u64>,
    /// Requests in flight at once over all shards. Default: unlimited.
    #[serde(default)]
    pub in_flight_max: Option<u32>,
    /// Of these limits ("requests_per_minute", "tokens_per_minute", "in_flight_max") none refuses: what they would have refused is
    /// counted. Default: none.
    #[serde(default)]
    pub shadow: Vec<RateLimit>,
    /// Budgets: what it may use, each in a window of its own. Default: none.
    #[serde(default)]
    pub budgets: Vec<Budget>,
    /// Whether its requests may name the end users that it acts for: in the header of [end_users], in `safety_identifier`, `user` or
    /// `metadata.user_id`. Each has the limits of [end_users], and is kept in the record of usage.
    #[serde(default)]
    pub names_users: bool,
}

/// So many tokens, or so much money, in a window of time. Either `tokens` or `money`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Tokens of prompts and responses.
    #[serde(default)]
    pub tokens: Option<u64>,
    /// Money, in the unit of the prices.
    #[serde(default)]
    pub money: Option<f64>,
    /// How long the window is.
    pub per: Per,
    /// The zone of the calendar in which it begins, like "Europe/Berlin". Default: UTC.
    #[serde(default)]
    pub zone: Option<String>,
    /// true: the time up to now, as long as `per`, instead of the calendar's. A month has 30 days then.
    #[serde(default)]
    pub rolling: bool,
    /// true: it refuses nothing, and what it would have refused is counted.
    #[serde(default)]
    pub shadow: bool,
    /// What happens when a share of it is used, before it refuses. Of those that are reached the last one counts. Default: nothing.
    #[serde(default)]
    pub soft: Vec<SoftLimit>,
}

/// A limit that may be put in the shadow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateLimit {
    /// Requests per minute.
    RequestsPerMinute,
    /// Tokens per minute.
    TokensPerMinute,
    /// Requests in flight.
    InFlightMax,
}

/// What happens when a share of a budget is used.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SoftLimit {
    /// The share, for example 0.8.
    pub at: f64,
    /// "warn": the response has the header x-ringway-limit. "throttle": the request waits before it is sent. "downgrade": another
    /// model is called, if the key may use it. All of them set the header.
    pub action: SoftAction,
    /// How long a throttled request waits.
    #[serde(default)]
    pub wait: Option<Time>,
    /// The model that is called instead: a name or an alias.
    #[serde(default)]
    pub model: Option<String>,
}

/// What a soft limit does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SoftAction {
    /// The response says so.
    Warn,
    /// The request waits.
    Throttle,
    /// Another model is called.
    Downgrade,
}

/// How long the window of a budget is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day, from midnight.
    Day,
    /// A week, from Monday.
    Week,
    /// A month, from its first day.
    Month,
}

/// What the tokens of a model cost, in any unit of money.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// A million tokens of input.
    pub input_per_million: f64,
    /// A million tokens of output.
    pub output_per_million: f64,
    /// A million tokens of input read from a cache. Default: as other input.
    #[serde(default)]
    pub cached_per_million: Option<f64>,
    /// A million tokens of input written to a cache. Default: as other input.
    #[serde(default)]
    pub cache_write_per_million: Option<f64>,
    /// What differs at single backends: [price.MODEL.backend.NAME].
    #[serde(default)]
    pub backend: BTreeMap<String, BackendPrice>,
}

/// What the tokens of a model cost at one backend; a key that is left out is as in `[price.MODEL]`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackendPrice {
    /// As in [price.MODEL].
    pub input_per_million: Option<f64>,
    /// As in [price.MODEL].
    pub output_per_million: Option<f64>,
    /// As in [price.MODEL].
    pub cached_per_million: Option<f64>,
    /// As in [price.MODEL].
    pub cache_write_per_million: Option<f64>,
}

/// What Claude Code, Codex, OpenRouter's clients, OpenCode, Crush, Amp and other routers send. Not x-client-request-id, which
/// differs from request to request.
pub(super) fn session_headers() -> Vec<String> {
    let names = [
        "x-claude-code-session-id",
        "session-id",
        "session_id",
        "x-session-id",
        "x-session-affinity",
        "x-amp-thread-id",
        "x-smg-routing-key",
    ];
    names.map(str::to_owned).to_vec()
}
