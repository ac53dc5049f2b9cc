use super::*;

/// What a request to each endpoint that a kind serves looks like: target and credential, at the base that it knows or at
/// the one that it shows as an example.
fn shown(kind: &'static ProviderKind) -> String {
    let provider = Provider::new(kind);
    let (scheme, rest) = kind.example.split_once("://").unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_api = kind.base.is_some() || kind.hosted;
    let base = kind.base_of(path, "", is_api);
    let mut out = Vec::new();
    for api in provider.serves.iter() {
        out.extend_from_slice(format!("{} {scheme}://{host}", api.method()).as_bytes());
        provider.target(&Place { api, model: b"m", id: b"", streams: false }, &base, b"", &mut out);
        out.push(b'\n');
    }
    out.extend_from_slice(&provider.credential_line(b"SECRET").unwrap());
    String::from_utf8(out).unwrap()
}

/// One test per kind: how it is called, word for word; and the list of all that are tested.
macro_rules! golden {
    ($($test:ident $name:literal: [$($path:literal)*] $credential:literal;)*) => {
        const TESTED: &[&str] = &[$($name,)*];
        $(#[test]
        fn $test() {
            let kind = ProviderKind::named($name).unwrap();
            let mut expected: Vec<String> = vec![$(format!("POST {}", $path),)*];
            expected.push(concat!($credential, "SECRET").to_owned());
            assert_eq!(shown(kind).lines().collect::<Vec<_>>(), expected);
        })*
    };
}

golden! {
    openai "openai": [
        "https://api.openai.com/v1/chat/completions"
        "https://api.openai.com/v1/completions"
        "https://api.openai.com/v1/embeddings"
        "https://api.openai.com/v1/responses"
        "https://api.openai.com/v1/responses/compact"
        "https://api.openai.com/v1/responses/input_tokens"
    ] "authorization: Bearer ";
    anthropic "anthropic": [
        "https://api.anthropic.com/v1/messages"
        "https://api.anthropic.com/v1/messages/count_tokens"
    ] "x-api-key: ";
    gemini "gemini": [
        "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent"
        "https://generativelanguage.googleapis.com/v1beta/models/m:countTokens"
        "https://generativelanguage.googleapis.com/v1beta/models/m:embedContent"
        "https://generativelanguage.googleapis.com/v1beta/models/m:batchEmbedContents"
    ] "x-goog-api-key: ";
    bedrock "bedrock": [
        "https://bedrock-runtime.REGION.amazonaws.com/model/m/converse"
    ] "authorization: Bearer ";
    azure "azure": [
        "https://NAME.openai.azure.com/openai/v1/chat/completions"
        "https://NAME.openai.azure.com/openai/v1/completions"
        "https://NAME.openai.azure.com/openai/v1/embeddings"
        "https://NAME.openai.azure.com/openai/v1/responses"
    ] "api-key: ";
    mistral "mistral": [
        "https://api.mistral.ai/v1/chat/completions"
        "https://api.mistral.ai/v1/embeddings"
    ] "authorization: Bearer ";
    groq "groq": [
        "https://api.groq.com/openai/v1/chat/completions"
        "https://api.groq.com/openai/v1/responses"
    ] "authorization: Bearer ";
    deepseek "deepseek": ["https://api.deepseek.com/chat/completions"] "authorization: Bearer ";
    xai "xai": [
        "https://api.x.ai/v1/chat/completions"
        "https://api.x.ai/v1/responses"
    ] "authorization: Bearer ";
    openrouter "openrouter": [
        "https://openrouter.ai/api/v1/chat/completions"
        "https://openrouter.ai/api/v1/completions"
        "https://openrouter.ai/api/v1/embeddings"
        "https://openrouter.ai/api/v1/responses"
        "https://openrouter.ai/api/v1/messages"
    ] "authorization: Bearer ";
    together "together": [
        "https://api.together.xyz/v1/chat/completions"
        "https://api.together.xyz/v1/completions"
        "https://api.together.xyz/v1/embeddings"
        "https://api.together.xyz/v1/rerank"
    ] "authorization: Bearer ";
    fireworks "fireworks": [
        "https://api.fireworks.ai/inference/v1/chat/completions"
        "https://api.fireworks.ai/inference/v1/completions"
        "https://api.fireworks.ai/inference/v1/embeddings"
        "https://api.fireworks.ai/inference/v1/responses"
        "https://api.fireworks.ai/inference/v1/rerank"
    ] "authorization: Bearer ";
    perplexity "perplexity": ["https://api.perplexity.ai/chat/completions"] "authorization: Bearer ";
    cerebras "cerebras": [
        "https://api.cerebras.ai/v1/chat/completions"
        "https://api.cerebras.ai/v1/completions"
    ] "authorization: Bearer ";
    nvidia "nvidia": [
        "https://integrate.api.nvidia.com/v1/chat/completions"
        "https://integrate.api.nvidia.com/v1/completions"
        "https://integrate.api.nvidia.com/v1/embeddings"
    ] "authorization: Bearer ";
    huggingface "huggingface": [
        "https://router.huggingface.co/v1/chat/completions"
        "https://router.huggingface.co/v1/responses"
    ] "authorization: Bearer ";
    github "github": [
        "https://models.github.ai/inference/chat/completions"
        "https://models.github.ai/inference/embeddings"
    ] "authorization: Bearer ";
    moonshot "moonshot": ["https://api.moonshot.ai/v1/chat/completions"] "authorization: Bearer ";
    zai "zai": ["https://api.z.ai/api/paas/v4/chat/completions"] "authorization: Bearer ";
    dashscope "dashscope": [
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions"
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/embeddings"
    ] "authorization: Bearer ";
    cohere "cohere": [
        "https://api.cohere.ai/compatibility/v1/chat/completions"
        "https://api.cohere.ai/compatibility/v1/embeddings"
    ] "authorization: Bearer ";
    sambanova "sambanova": [
        "https://api.sambanova.ai/v1/chat/completions"
        "https://api.sambanova.ai/v1/embeddings"
    ] "authorization: Bearer ";
    cloudflare "cloudflare": [
        "https://api.cloudflare.com/client/v4/accounts/ACCOUNT/ai/v1/chat/completions"
        "https://api.cloudflare.com/client/v4/accounts/ACCOUNT/ai/v1/embeddings"
        "https://api.cloudflare.com/client/v4/accounts/ACCOUNT/ai/v1/responses"
    ] "authorization: Bearer ";
    databricks "databricks": [
        "https://WORKSPACE/serving-endpoints/chat/completions"
        "https://WORKSPACE/serving-endpoints/completions"
        "https://WORKSPACE/serving-endpoints/embeddings"
    ] "authorization: Bearer ";
    watsonx "watsonx": [
        "https://REGION.ml.cloud.ibm.com/ml/gateway/v1/chat/completions"
        "https://REGION.ml.cloud.ibm.com/ml/gateway/v1/completions"
        "https://REGION.ml.cloud.ibm.com/ml/gateway/v1/embeddings"
    ] "authorization: Bearer ";
    vllm "vllm": [
        "http://HOST:PORT/v1/chat/completions"
        "http://HOST:PORT/v1/completions"
        "http://HOST:PORT/v1/embeddings"
        "http://HOST:PORT/v1/responses"
        "http://HOST:PORT/v1/rerank"
        "http://HOST:PORT/v1/score"
        "http://HOST:PORT/classify"
        "http://HOST:PORT/pooling"
        "http://HOST:PORT/tokenize"
        "http://HOST:PORT/detokenize"
        "http://HOST:PORT/v1/messages"
        "http://HOST:PORT/v1/messages/count_tokens"
    ] "authorization: Bearer ";
    sglang "sglang": [
        "http://HOST:PORT/v1/chat/completions"
        "http://HOST:PORT/v1/completions"
        "http://HOST:PORT/v1/embeddings"
        "http://HOST:PORT/v1/responses"
        "http://HOST:PORT/v1/rerank"
        "http://HOST:PORT/v1/score"
        "http://HOST:PORT/v1/classify"
        "http://HOST:PORT/tokenize"
        "http://HOST:PORT/detokenize"
    ] "authorization: Bearer ";
    tensorrt_llm "tensorrt_llm": [
        "http://HOST:PORT/v1/chat/completions"
        "http://HOST:PORT/v1/completions"
        "http://HOST:PORT/v1/embeddings"
        "http://HOST:PORT/v1/responses"
    ] "authorization: Bearer ";
    triton "triton": [
        "http://HOST:PORT/v1/chat/completions"
        "http://HOST:PORT/v1/completions"
        "http://HOST:PORT/v1/embeddings"
    ] "authorization: Bearer ";
    tgi "tgi": [
        "http://HOST:PORT/v1/chat/completions"
        "http://HOST:PORT/v1/completions"
    ] "authorization: Bearer ";
    llama_cpp "llama_cpp": [
        "http://HOST:PORT/v1/chat/completions"
        "http://HOST:PORT/v1/completions"
        "http://HOST:PORT/v1/embeddings"
        "http://HOST:PORT/v1/rerank"
        "http://HOST:PORT/tokenize"
        "http://HOST:PORT/detokenize"
    ] "authorization: Bearer ";
    lm_studio "lm_studio": [
        "http://127.0.0.1:1234/v1/chat/completions"
        "http://127.0.0.1:1234/v1/completions"
        "http://127.0.0.1:1234/v1/embeddings"
        "http://127.0.0.1:1234/v1/responses"
    ] "authorization: Bearer ";
    ollama "ollama": [
        "http://127.0.0.1:11434/v1/completions"
        "http://127.0.0.1:11434/v1/embeddings"
        "http://127.0.0.1:11434/api/chat"
        "http://127.0.0.1:11434/api/generate"
        "http://127.0.0.1:11434/api/embed"
        "http://127.0.0.1:11434/api/embeddings"
    ] "authorization: Bearer ";
    litellm "litellm": [
        "http://HOST:PORT/v1/chat/completions"
        "http://HOST:PORT/v1/completions"
        "http://HOST:PORT/v1/embeddings"
        "http://HOST:PORT/v1/responses"
        "http://HOST:PORT/v1/rerank"
        "http://HOST:PORT/v1/messages"
    ] "authorization: Bearer ";
    openai_compatible "openai-compatible": [
        "http://HOST:PORT/v1/chat/completions"
        "http://HOST:PORT/v1/completions"
        "http://HOST:PORT/v1/embeddings"
        "http://HOST:PORT/v1/responses"
        "http://HOST:PORT/v1/responses/compact"
        "http://HOST:PORT/v1/responses/input_tokens"
        "http://HOST:PORT/v1/rerank"
        "http://HOST:PORT/v1/score"
        "http://HOST:PORT/classify"
        "http://HOST:PORT/pooling"
        "http://HOST:PORT/tokenize"
        "http://HOST:PORT/detokenize"
    ] "authorization: Bearer ";
}

fn provider(name: &str) -> Provider {
    Provider::new(ProviderKind::named(name).unwrap())
}

fn target(provider: &Provider, api: Api, id: &str, base: &Base) -> String {
    let mut out = Vec::new();
    provider.target(
        &Place { api, model: b"org/m 1", id: id.as_bytes(), streams: false },
        base,
        b"",
        &mut out,
    );
    String::from_utf8(out).unwrap()
}

#[test]
fn every_kind_has_its_golden_test() {
    let mut names: Vec<&str> = ProviderKind::all().iter().map(|kind| kind.name).collect();
    let mut tested = TESTED.to_vec();
    names.sort_unstable();
    tested.sort_unstable();
    assert_eq!(names, tested);
}

#[test]
fn names_are_unique_and_old_ones_still_count() {
    let all =
        || ProviderKind::all().iter().flat_map(|kind| [kind.name, kind.also]).filter(|name| !name.is_empty());
    for name in all() {
        assert_eq!(all().filter(|other| *other == name).count(), 1, "{name}");
    }
    for (old, name) in [("llama.cpp", "llama_cpp"), ("tensorrt-llm", "tensorrt_llm")] {
        assert_eq!(ProviderKind::named(old).unwrap().name, name);
    }
    for name in ["", "VLLM", "vllm ", "generic", "llamacpp"] {
        assert_eq!(ProviderKind::named(name), None, "{name}");
    }
    assert_eq!(ProviderKind::generic().name, "openai-compatible");
}

#[test]
fn no_kind_is_sent_what_the_gateway_responds_itself() {
    for kind in ProviderKind::all() {
        let provider = Provider::new(kind);
        assert!(!provider.speaks(Api::Models) && !provider.speaks(Api::ModelById));
        assert_eq!(provider.speaks(Api::ResponseById), provider.speaks(Api::Responses));
        assert_eq!(provider.makes_ids(), provider.speaks(Api::Responses));
    }
}

#[test]
fn every_kind_serves_every_generating_client() {
    for kind in ProviderKind::all() {
        for api in [Api::Chat, Api::Responses, Api::Messages] {
            assert!(Provider::new(kind).call(api).is_some(), "{} {api:?}", kind.name);
        }
    }
}

#[test]
fn a_target_has_its_id_and_is_beside_the_version_where_its_server_has_it() {
    let (vllm, openai) = (provider("vllm"), provider("openai"));
    let server = Base::of_server;
    assert_eq!(target(&vllm, Api::Tokenize, "", &server("")), "/tokenize");
    assert_eq!(target(&vllm, Api::Tokenize, "", &server("/v1")), "/tokenize");
    assert_eq!(target(&vllm, Api::Pooling, "", &server("/engine/v1")), "/engine/pooling");
    assert_eq!(target(&vllm, Api::Score, "", &server("/engine/v1")), "/engine/v1/score");
    assert_eq!(target(&provider("sglang"), Api::Classify, "", &server("/v1")), "/v1/classify");
    assert_eq!(target(&openai, Api::ResponseCancel, "a/b", &server("")), "/v1/responses/a%2Fb/cancel");
    assert_eq!(target(&openai, Api::ResponseById, "a", &server("/x")), "/x/v1/responses/a");
    let api = Base::of_api("/paas/v4", "k=v");
    assert_eq!(target(&openai, Api::ResponseInputItems, "a", &api), "/paas/v4/responses/a/input_items?k=v");
    assert_eq!(target(&vllm, Api::Tokenize, "", &Base::of_api("/v1", "")), "/v1/tokenize");
}

#[test]
fn rerank_of_cohere_is_under_its_own_api() {
    let generic = provider("openai-compatible");
    let base = generic.kind.base_of("/v2", "", true);
    assert_eq!(target(&generic, Api::Rerank, "", &base), "/v2/rerank");
}

#[test]
fn azure_names_the_deployment_in_the_body_or_in_the_path() {
    let azure = provider("azure");
    let base = |path, query, is_api| azure.kind.base_of(path, query, is_api);
    for (path, is_api) in [("", false), ("/openai", false), ("/openai/v1", false), ("/openai/v1", true)] {
        let base = base(path, "", is_api);
        assert_eq!(target(&azure, Api::Chat, "", &base), "/openai/v1/chat/completions", "{path}");
        assert_eq!(target(&azure, Api::ResponseById, "r", &base), "/openai/v1/responses/r", "{path}");
    }
    assert_eq!(target(&azure, Api::Chat, "", &base("/apim", "", false)), "/apim/openai/v1/chat/completions");
    let older = base("/openai", "api-version=2024-10-21", true);
    assert_eq!(
        target(&azure, Api::Chat, "", &older),
        "/openai/deployments/org%2Fm%201/chat/completions?api-version=2024-10-21"
    );
    assert_eq!(
        target(&azure, Api::Embeddings, "", &older),
        "/openai/deployments/org%2Fm%201/embeddings?api-version=2024-10-21"
    );
    assert_eq!(target(&azure, Api::Responses, "", &older), "/openai/responses?api-version=2024-10-21");
    let own = base("/openai/deployments/gpt", "api-version=1", true);
    assert_eq!(
        target(&azure, Api::Chat, "", &own),
        "/openai/deployments/gpt/chat/completions?api-version=1",
        "one that the operator has written"
    );
}

#[test]
fn a_credential_is_presented_the_way_its_owner_reads_it() {
    let line = |name, secret| provider(name).credential_line(secret);
    assert_eq!(line("openai", b"sk-1").unwrap(), b"authorization: Bearer sk-1\r\n");
    assert_eq!(line("anthropic", b"sk-1").unwrap(), b"x-api-key: sk-1\r\n");
    for bad in [b"".as_slice(), b"a\r\nx: y", b"a b", b"a\n", "é".as_bytes(), b"\0"] {
        let reason = line("openai", bad).unwrap_err();
        assert!(bad.is_empty() || !reason.contains(&*String::from_utf8_lossy(bad)));
    }
}

#[test]
fn only_anthropic_needs_a_version_line() {
    for kind in ProviderKind::all() {
        let line = Provider::new(kind).line_if_absent();
        assert_eq!(line.is_some(), kind.name == "anthropic", "{}", kind.name);
        assert!(line.is_none_or(|(name, line)| line.starts_with(name) && line.ends_with(b"\r\n")));
    }
}

#[test]
fn the_name_of_a_model_on_bedrock_is_one_segment_of_the_path() {
    let (provider, base) = (provider("bedrock"), Base::of_server(""));
    let of = |model: &str, streams| {
        let (mut out, place) =
            (Vec::new(), Place { api: Api::Converse, model: model.as_bytes(), id: b"", streams });
        provider.target(&place, &base, b"", &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(of("us.anthropic.claude-v1:0", false), "/model/us.anthropic.claude-v1%3A0/converse");
    let arn = "arn:aws:bedrock:us-east-1:1:inference-profile/x";
    assert_eq!(
        of(arn, true),
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fx/converse-stream"
    );
}
