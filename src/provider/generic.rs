//! Anything else that copies OpenAI's endpoints.
//!
//! Old ones reject `stream_options`: the operator switches it off, and usage is then estimated.

use super::{Credential, OPENAI_CORE, Provider, ProviderKind};
use crate::dialect::Api;

pub(super) const PROVIDER: Provider = Provider {
    kind: ProviderKind::Generic,
    serves: OPENAI_CORE
        .with(Api::Responses)
        .with(Api::ResponsesCompact)
        .with(Api::ResponsesInputTokens)
        .with(Api::Rerank)
        .with(Api::Score)
        .with(Api::Classify)
        .with(Api::Pooling)
        .with(Api::Tokenize)
        .with(Api::Detokenize),
    takes_stream_options: true,
    hosted: false,
    health_path: None,
    credential: Credential::Bearer,
};
