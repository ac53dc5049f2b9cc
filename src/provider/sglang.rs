//! SGLang's server or router.
//!
//! `/health` only says that the process lives; `/health_generate` runs a token through the engine and is too dear to
//! ask every second. Newer versions serve Messages too: the operator switches that on.

use super::{Credential, OPENAI_CORE, Provider, ProviderKind};
use crate::dialect::Api;

pub(super) const PROVIDER: Provider = Provider {
    kind: ProviderKind::Sglang,
    serves: OPENAI_CORE
        .with(Api::Responses)
        .with(Api::Rerank)
        .with(Api::Score)
        .with(Api::Classify)
        .with(Api::Tokenize)
        .with(Api::Detokenize),
    takes_stream_options: true,
    hosted: false,
    health_path: Some("/health"),
    credential: Credential::Bearer,
};
