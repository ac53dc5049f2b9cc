//! api.openai.com.
//!
//! Every endpoint costs a credential, so there is no probe; failures are noticed in passing. An abandoned request may
//! be billed to its end.

use super::{Credential, OPENAI_CORE, Provider, ProviderKind};
use crate::dialect::Api;

pub(super) const PROVIDER: Provider = Provider {
    kind: ProviderKind::OpenAi,
    serves: OPENAI_CORE.with(Api::Responses).with(Api::ResponsesCompact).with(Api::ResponsesInputTokens),
    takes_stream_options: true,
    hosted: true,
    health_path: None,
    credential: Credential::Bearer,
};
