//! Every kind of backend. A kind without habits of its own is one line: its name, where it is, what it serves, and what of
//! that differs from OpenAI. Base URLs are the published ones as far as they are known; `ringway check` prints every URL before
//! anything is sent, and an operator's `url`, `api_base` and `serves` override a row.
//!
//! What a kind serves is what every server of the kind serves; an operator who knows better says so (`serves`).

use super::engine_page::{self, EnginePage};
use super::{ProviderKind, anthropic, azure, bedrock, gemini, ollama};
use crate::dialect::{Api, ApiSet};

/// The kinds in the order in which they are shown: engines, providers, and what is neither.
pub(super) static LIST: &[ProviderKind] = &[
    // `stream_options: {}` means `include_usage: true` to vLLM. A client that disconnects aborts its request in the engine.
    engine("vllm", "/health", COPY.with(Api::Pooling).with(Api::Messages).with(Api::CountTokens))
        .measured_by(&engine_page::VLLM),
    // `/health` says only that the process is alive; `/health_generate` runs a token through the engine, which costs too much
    // to ask every second. Beside `/v1/classify` there is a `/classify` with a body of its own.
    engine("sglang", "/health", COPY)
        .with_path(&[(Api::Classify, "/v1/classify")])
        .measured_by(&engine_page::SGLANG),
    engine("tensorrt_llm", "/health", CORE.with(Api::Responses))
        .also("tensorrt-llm")
        .measured_by(&engine_page::TENSOR_RT_LLM),
    // The OpenAI frontend. The metrics of the server itself are on a port of its own (`metrics = { port = 8002 }`).
    engine("triton", "/health/ready", CORE).measured_by(&engine_page::TRITON),
    engine("tgi", "/health", TEXT).measured_by(&engine_page::TGI),
    // `/health` responds 503 while the model is loading. Older versions put usage on the last chunk that has a choice.
    engine("llama_cpp", "/health", CORE.with(Api::Rerank).with(Api::Tokenize).with(Api::Detokenize))
        .also("llama.cpp")
        .measured_by(&engine_page::LLAMA_CPP),
    engine("lm_studio", "", CORE.with(Api::Responses)).at("http://127.0.0.1:1234/v1"),
    ollama::KIND,
    engine("litellm", "/health/liveliness", CORE.with(Api::Responses).with(Api::Rerank).with(Api::Messages)),
    hosted("openai", "https://api.openai.com/v1", CORE.union(STATEFUL)).capped_by("max_completion_tokens"),
    anthropic::KIND,
    azure::KIND,
    gemini::KIND,
    bedrock::KIND,
    hosted("mistral", "https://api.mistral.ai/v1", CHAT.with(Api::Embeddings)).without_stream_options(),
    hosted("groq", "https://api.groq.com/openai/v1", CHAT.with(Api::Responses)),
    hosted("deepseek", "https://api.deepseek.com", CHAT),
    hosted("xai", "https://api.x.ai/v1", CHAT.with(Api::Responses)),
    hosted("openrouter", "https://openrouter.ai/api/v1", CORE.with(Api::Responses).with(Api::Messages)),
    hosted("together", "https://api.together.xyz/v1", CORE.with(Api::Rerank)),
    hosted("fireworks", "https://api.fireworks.ai/inference/v1", CORE.with(Api::Responses).with(Api::Rerank)),
    hosted("perplexity", "https://api.perplexity.ai", CHAT).without_stream_options(),
    hosted("cerebras", "https://api.cerebras.ai/v1", TEXT).capped_by("max_completion_tokens"),
    hosted("nvidia", "https://integrate.api.nvidia.com/v1", CORE),
    hosted("huggingface", "https://router.huggingface.co/v1", CHAT.with(Api::Responses)),
    hosted("github", "https://models.github.ai/inference", CHAT.with(Api::Embeddings)),
    hosted("moonshot", "https://api.moonshot.ai/v1", CHAT),
    hosted("zai", "https://api.z.ai/api/paas/v4", CHAT),
    hosted("dashscope", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", CHAT.with(Api::Embeddings)),
    // Its copy of OpenAI's chat and embeddings; rerank is in its own API only (docs/providers.md).
    hosted("cohere", "https://api.cohere.ai/compatibility/v1", CHAT.with(Api::Embeddings))
        .without_stream_options(),
    hosted("sambanova", "https://api.sambanova.ai/v1", CHAT.with(Api::Embeddings)),
    placed(
        "cloudflare",
        "https://api.cloudflare.com/client/v4/accounts/ACCOUNT/ai/v1",
        CHAT.with(Api::Embeddings).with(Api::Responses),
    ),
    placed("databricks", "https://WORKSPACE/serving-endpoints", CORE).without_stream_options(),
    placed("watsonx", "https://REGION.ml.cloud.ibm.com/ml/gateway/v1", CORE),
    // Anything else that copies OpenAI's endpoints. Old ones reject `stream_options`: the operator switches it off, and
    // usage is then estimated.
    engine("openai-compatible", "", COPY.with(Api::Pooling).union(STATEFUL)),
];

const CHAT: ApiSet = ApiSet::of(&[Api::Chat]);
const TEXT: ApiSet = CHAT.with(Api::Completions);
/// What every full copy of OpenAI's server has.
const CORE: ApiSet = TEXT.with(Api::Embeddings);
/// What engines have beside it.
const COPY: ApiSet = CORE
    .with(Api::Responses)
    .with(Api::Rerank)
    .with(Api::Score)
    .with(Api::Classify)
    .with(Api::Tokenize)
    .with(Api::Detokenize);
/// Responses, with what only those who keep them have.
const STATEFUL: ApiSet = ApiSet::of(&[Api::Responses, Api::ResponsesCompact, Api::ResponsesInputTokens]);

/// A provider in one place. Every endpoint costs a credential, so there is no probe. An abandoned request may be billed to
/// its end.
const fn hosted(name: &'static str, base: &'static str, serves: ApiSet) -> ProviderKind {
    ProviderKind { name, base: Some(base), example: base, serves, hosted: true, ..ProviderKind::COPY }
}

/// A provider whose base URL names the customer, the region or the like.
const fn placed(name: &'static str, example: &'static str, serves: ApiSet) -> ProviderKind {
    ProviderKind { base: None, ..hosted(name, example, serves) }
}

/// A server that the operator runs. `health`: the path of its probe, empty for none that costs nothing.
const fn engine(name: &'static str, health: &'static str, serves: ApiSet) -> ProviderKind {
    let health_path = if health.is_empty() { None } else { Some(health) };
    ProviderKind { name, health_path, serves, ..ProviderKind::COPY }
}

impl ProviderKind {
    /// It rejects `stream_options`. Those that do report usage without being asked.
    const fn without_stream_options(self) -> Self {
        Self { takes_stream_options: false, ..self }
    }

    /// The member that bounds its output.
    const fn capped_by(self, output_cap_member: &'static str) -> Self {
        Self { output_cap_member, ..self }
    }

    /// Endpoints that are not where others have them.
    const fn with_path(self, paths: &'static [(Api, &'static str)]) -> Self {
        Self { paths, ..self }
    }

    /// Its metrics say how busy it is.
    const fn measured_by(self, metrics: &'static EnginePage) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Another name that configurations may have for it.
    const fn also(self, also: &'static str) -> Self {
        Self { also, ..self }
    }

    /// Where it is unless the operator says otherwise.
    const fn at(self, base: &'static str) -> Self {
        Self { base: Some(base), example: base, ..self }
    }
}
