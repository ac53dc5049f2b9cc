//! vLLM's server.
//!
//! Serves both dialects. `stream_options` may also carry `continuous_usage_stats`; `stream_options: {}` already means
//! `include_usage: true` there. `error.code` is the HTTP status as a number. A client that disconnects aborts its
//! request in the engine.

use super::{Credential, OPENAI_CORE, Provider, ProviderKind};
use crate::dialect::Api;

pub(super) const PROVIDER: Provider = Provider {
    kind: ProviderKind::Vllm,
    serves: OPENAI_CORE
        .with(Api::Responses)
        .with(Api::Rerank)
        .with(Api::Score)
        .with(Api::Classify)
        .with(Api::Pooling)
        .with(Api::Tokenize)
        .with(Api::Detokenize)
        .with(Api::Messages)
        .with(Api::CountTokens),
    takes_stream_options: true,
    hosted: false,
    health_path: Some("/health"),
    credential: Credential::Bearer,
};
