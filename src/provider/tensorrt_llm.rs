//! `trtllm-serve` of TensorRT-LLM.

use super::{Credential, Kind, OPENAI_CORE, Provider};
use crate::dialect::Api;

pub(super) const PROVIDER: Provider = Provider {
    kind: Kind::TensorRtLlm,
    serves: OPENAI_CORE.with(Api::Responses),
    takes_stream_options: true,
    hosted: false,
    health_path: Some("/health"),
    credential: Credential::Bearer,
};
