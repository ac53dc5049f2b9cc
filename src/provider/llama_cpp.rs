//! `llama-server` of llama.cpp.
//!
//! `/health` answers 503 while the model is loading. Older versions put usage on the last chunk that has a choice.

use super::{Credential, OPENAI_CORE, Provider, ProviderKind};
use crate::dialect::Api;

pub(super) const PROVIDER: Provider = Provider {
    kind: ProviderKind::LlamaCpp,
    serves: OPENAI_CORE.with(Api::Rerank).with(Api::Tokenize).with(Api::Detokenize),
    takes_stream_options: true,
    hosted: false,
    health_path: Some("/health"),
    credential: Credential::Bearer,
};
