//! `trtllm-serve` of TensorRT-LLM.

use super::{Credential, OPENAI_CORE, Provider, ProviderKind};
use crate::dialect::Api;

pub(super) const PROVIDER: Provider = Provider {
    kind: ProviderKind::TensorRtLlm,
    serves: OPENAI_CORE.with(Api::Responses),
    takes_stream_options: true,
    hosted: false,
    health_path: Some("/health"),
    credential: Credential::Bearer,
};
