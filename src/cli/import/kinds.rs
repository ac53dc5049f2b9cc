//! LiteLLM's providers, by the prefix of a model's name, and the kinds of backends that they are.

/// Prefixes of `litellm_params.model` (LiteLLM's page of providers).
const KINDS: [(&str, &str); 40] = [
    ("openai", "openai"),
    ("text-completion-openai", "openai"),
    ("custom_openai", "openai-compatible"),
    ("openai_like", "openai-compatible"),
    ("azure", "azure"),
    ("anthropic", "anthropic"),
    ("bedrock", "bedrock"),
    ("bedrock_converse", "bedrock"),
    ("gemini", "gemini"),
    ("hosted_vllm", "vllm"),
    ("vllm", "vllm"),
    ("sglang", "sglang"),
    ("triton", "triton"),
    ("ollama", "ollama"),
    ("ollama_chat", "ollama"),
    ("lm_studio", "lm_studio"),
    ("llamafile", "llama_cpp"),
    ("litellm_proxy", "litellm"),
    ("mistral", "mistral"),
    ("codestral", "mistral"),
    ("groq", "groq"),
    ("deepseek", "deepseek"),
    ("xai", "xai"),
    ("openrouter", "openrouter"),
    ("together_ai", "together"),
    ("fireworks_ai", "fireworks"),
    ("perplexity", "perplexity"),
    ("cerebras", "cerebras"),
    ("nvidia_nim", "nvidia"),
    ("huggingface", "huggingface"),
    ("github", "github"),
    ("moonshot", "moonshot"),
    ("zai", "zai"),
    ("dashscope", "dashscope"),
    ("sambanova", "sambanova"),
    ("cloudflare", "cloudflare"),
    ("databricks", "databricks"),
    ("watsonx", "watsonx"),
    ("cohere", "cohere"),
    ("cohere_chat", "cohere"),
];

/// Kinds whose address is that of a server, not the base URL of an API.
const ENGINES: [&str; 7] = ["vllm", "sglang", "triton", "ollama", "lm_studio", "llama_cpp", "litellm"];

/// The kind and the provider's own name of a model; `None` for a provider that this gateway does not call.
pub(super) fn of(model: &str) -> Option<(&'static str, &str)> {
    if let Some((prefix, rest)) = model.split_once('/')
        && let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == prefix)
    {
        let rest = if *kind == "bedrock" { rest.trim_start_matches("converse/") } else { rest };
        return Some((kind, rest));
    }
    // Without a prefix LiteLLM knows a model by its name.
    let starts = |names: &[&str]| names.iter().any(|name| model.starts_with(name));
    match model {
        _ if model.contains('/') => None,
        _ if starts(&["claude"]) => Some(("anthropic", model)),
        _ if starts(&["gpt", "o1", "o3", "o4", "chatgpt", "text-embedding", "davinci", "babbage"]) => {
            Some(("openai", model))
        }
        _ if starts(&["gemini"]) => Some(("gemini", model)),
        _ if starts(&["command"]) => Some(("cohere", model)),
        _ if starts(&["mistral"]) => Some(("mistral", model)),
        _ if starts(&["deepseek"]) => Some(("deepseek", model)),
        _ => None,
    }
}

/// Whether the address of this kind is that of a server.
pub(super) fn is_engine(kind: &str) -> bool {
    ENGINES.contains(&kind)
}
