//! Paths and what they name.

use super::*;

fn kind(method: &str, path: &str) -> Result<Api, FaultKind> {
    route(method.as_bytes(), path.as_bytes()).map_err(|fault| fault.kind)
}

#[test]
fn every_endpoint_is_found_by_its_own_path() {
    for api in Api::ALL {
        if api.endpoint().is_for_backends {
            continue; // see `what_only_backends_speak_is_no_endpoint`
        }
        let id = if api.has_id() {
            "resp_1"
        } else if api.has_model_in_path() {
            "m"
        } else {
            ""
        };
        let path = format!("{}{id}{}", api.path(), api.path_end());
        assert_eq!(kind(api.method(), &path).unwrap().path(), api.path());
    }
}

#[test]
fn known_paths_count_with_and_without_version_and_trailing_slash() {
    let cases = [
        ("POST", "/v1/chat/completions", Api::Chat),
        ("POST", "/chat/completions", Api::Chat),
        ("POST", "/v1/chat/completions/", Api::Chat),
        ("POST", "/completions", Api::Completions),
        ("POST", "/v1/embeddings", Api::Embeddings),
        ("POST", "/v1/responses", Api::Responses),
        ("POST", "/v1/responses/compact", Api::ResponsesCompact),
        ("POST", "/responses/input_tokens/", Api::ResponsesInputTokens),
        ("GET", "/v1/responses/resp_1", Api::ResponseById),
        ("DELETE", "/responses/resp_1/", Api::ResponseDelete),
        ("POST", "/v1/responses/resp_1/cancel", Api::ResponseCancel),
        ("GET", "/v1/responses/resp_1/input_items/", Api::ResponseInputItems),
        ("POST", "/tokenize", Api::Tokenize),
        ("POST", "/v1/tokenize", Api::Tokenize),
        ("POST", "/v1/detokenize/", Api::Detokenize),
        ("POST", "/pooling", Api::Pooling),
        ("POST", "/v1/classify", Api::Classify),
        ("POST", "/score", Api::Score),
        ("POST", "/v1/score", Api::Score),
        ("POST", "/rerank", Api::Rerank),
        ("POST", "/v1/rerank", Api::Rerank),
        ("POST", "/v2/rerank", Api::Rerank),
        ("POST", "/v1/messages", Api::Messages),
        ("POST", "/v1/messages/count_tokens", Api::CountTokens),
        ("GET", "/v1/models", Api::Models),
        ("GET", "/models/", Api::Models),
        ("GET", "/v1/models/org%2Fname", Api::ModelById),
        ("GET", "/v1/models/org/name:tag", Api::ModelById),
    ];
    for (method, path, api) in cases {
        assert_eq!(kind(method, path), Ok(api), "{path}");
    }
}

#[test]
fn a_prefix_has_the_endpoints_of_its_dialect_with_and_without_a_version() {
    for (method, path, api) in [
        ("POST", "/openai/v1/chat/completions", Ok(Api::Chat)),
        ("POST", "/openai/chat/completions/", Ok(Api::Chat)),
        ("GET", "/openai/v1/models", Ok(Api::Models)),
        ("GET", "/openai/responses/resp_1", Ok(Api::ResponseById)),
        ("POST", "/openai/v1/messages", Err(FaultKind::PathUnknown)),
        ("POST", "/anthropic/v1/messages", Ok(Api::Messages)),
        ("POST", "/anthropic/messages/count_tokens", Ok(Api::CountTokens)),
        ("GET", "/anthropic/v1/models/a", Ok(Api::ModelById)),
        ("POST", "/anthropic/v1/chat/completions", Err(FaultKind::PathUnknown)),
        ("GET", "/anthropic/v1/responses/resp_1", Err(FaultKind::PathUnknown)),
        ("POST", "/openai/openai/v1/chat/completions", Err(FaultKind::PathUnknown)),
        ("POST", "/v1/openai/chat/completions", Err(FaultKind::PathUnknown)),
        ("POST", "/openai", Err(FaultKind::PathUnknown)),
        ("POST", "/ollama/api/chat", Ok(Api::OllamaChat)),
        ("POST", "/api/generate/", Ok(Api::OllamaGenerate)),
        ("POST", "/ollama/api/embed", Ok(Api::OllamaEmbed)),
        ("POST", "/api/embeddings", Ok(Api::OllamaEmbeddings)),
        ("GET", "/api/tags", Ok(Api::OllamaTags)),
        ("GET", "/ollama/api/ps", Ok(Api::OllamaPs)),
        ("POST", "/ollama/api/show", Ok(Api::OllamaShow)),
        ("GET", "/ollama/api/version", Ok(Api::OllamaVersion)),
        ("HEAD", "/ollama", Ok(Api::OllamaRoot)),
        ("GET", "/ollama/", Ok(Api::OllamaRoot)),
        ("POST", "/ollama/v1/chat/completions", Ok(Api::Chat)),
        ("GET", "/ollama/v1/models", Ok(Api::Models)),
        ("POST", "/ollama/v1/messages", Err(FaultKind::PathUnknown)),
        ("POST", "/ollama/api/pull", Err(FaultKind::PathUnknown)),
        ("POST", "/openai/api/chat", Err(FaultKind::PathUnknown)),
        ("GET", "/openai/api/tags", Err(FaultKind::PathUnknown)),
        ("POST", "/openaix/chat/completions", Err(FaultKind::PathUnknown)),
    ] {
        assert_eq!(kind(method, path), api, "{path}");
    }
    assert_eq!(model_id(b"/openai/v1/models/org/name").as_deref(), Some("org/name"));
    assert_eq!(allow(b"/anthropic/v1/messages"), Some("POST"));
    for (path, dialect) in [("/anthropic/x", Dialect::Anthropic), ("/openai/v1/models", Dialect::OpenAi)] {
        assert_eq!(Dialect::of_request(path.as_bytes(), false), dialect, "{path}");
    }
}

#[test]
fn googles_sdks_name_the_model_in_the_path() {
    for (path, api, model) in [
        ("/v1beta/models/gemini-x:generateContent", Ok(Api::GenerateContent), Some("gemini-x")),
        ("/v1/models/gemini-x:streamGenerateContent", Ok(Api::GenerateContent), Some("gemini-x")),
        ("/models/m:countTokens", Ok(Api::GoogleCountTokens), Some("m")),
        ("/gemini/v1beta/models/org%2Fm:embedContent", Ok(Api::EmbedContent), Some("org/m")),
        ("/gemini/models/org/m:7b:batchEmbedContents", Ok(Api::BatchEmbedContents), Some("org/m:7b")),
        ("/v1beta/models/models/m:generateContent", Ok(Api::GenerateContent), Some("m")),
        (
            "/v1beta1/projects/p/locations/l/publishers/google/models/m:generateContent",
            Ok(Api::GenerateContent),
            Some("m"),
        ),
        ("/v1beta/models/:generateContent", Err(FaultKind::PathUnknown), None),
        ("/v1beta/models/m:predict", Err(FaultKind::MethodNotAllowed), None),
        ("/v1beta/chat/completions", Err(FaultKind::PathUnknown), None),
        ("/openai/v1/models/m:generateContent", Err(FaultKind::MethodNotAllowed), None),
        ("/anthropic/v1/models/m:generateContent", Err(FaultKind::MethodNotAllowed), None),
    ] {
        assert_eq!(kind("POST", path), api, "{path}");
        assert_eq!(deployment(path.as_bytes()).as_deref(), model, "{path}");
    }
    assert!(asks_stream(Api::GenerateContent, b"/v1/models/m:streamGenerateContent"));
    assert!(!asks_stream(Api::GenerateContent, b"/v1/models/m:generateContent"));
    assert!(!asks_stream(Api::Chat, b"/v1/chat/completions"));
    assert_eq!(allow(b"/v1beta/models/m:generateContent"), Some("POST"));
    assert_eq!(kind("GET", "/v1beta/models"), Ok(Api::Models));
    assert_eq!(kind("GET", "/gemini/v1beta/models/m"), Ok(Api::ModelById));
}

#[test]
fn the_catalogue_has_googles_shape_for_googles_clients() {
    let of = |path: &str| Dialect::of_request(path.as_bytes(), false);
    for path in ["/v1beta/models", "/gemini/v1/models", "/v1/models/m:generateContent", "/v1beta/x"] {
        assert_eq!(of(path), Dialect::Google, "{path}");
    }
    assert_eq!(of("/v1/models").with_googles_key(b"/v1/models"), Dialect::Google);
    assert_eq!(of("/openai/v1/models").with_googles_key(b"/openai/v1/models"), Dialect::OpenAi);
    assert_eq!(Dialect::Anthropic.with_googles_key(b"/v1/models"), Dialect::Anthropic);
}

#[test]
fn azures_sdk_names_the_model_in_the_path() {
    for (path, api, model) in [
        ("/openai/deployments/gpt-4o/chat/completions", Ok(Api::Chat), Some("gpt-4o")),
        ("/openai/deployments/org%2Fm/embeddings/", Ok(Api::Embeddings), Some("org/m")),
        ("/openai/deployments/m/completions", Ok(Api::Completions), Some("m")),
        ("/openai/responses", Ok(Api::Responses), None),
        ("/openai/deployments/m", Err(FaultKind::PathUnknown), Some("m")),
        ("/openai/deployments//chat/completions", Err(FaultKind::PathUnknown), None),
        ("/openai/deployments/m/v1/chat/completions", Err(FaultKind::PathUnknown), Some("m")),
        ("/openai/deployments/m/models", Err(FaultKind::PathUnknown), Some("m")),
        ("/openai/deployments/m/responses/r", Err(FaultKind::PathUnknown), Some("m")),
        ("/openai/v1/deployments/m/chat/completions", Err(FaultKind::PathUnknown), None),
        ("/anthropic/deployments/m/messages", Err(FaultKind::PathUnknown), None),
    ] {
        assert_eq!(kind("POST", path), api, "{path}");
        assert_eq!(deployment(path.as_bytes()).as_deref(), model, "{path}");
    }
}

#[test]
fn a_credential_in_the_query_is_found_and_goes_no_further() {
    for (path, query, key, passed) in [
        ("/v1/chat/completions", "", None, ""),
        ("/v1/chat/completions", "beta=true", None, "beta=true"),
        ("/v1/chat/completions", "a=1&key=sk-1&b=2", Some("sk-1"), "a=1&b=2"),
        ("/v1/chat/completions", "key=sk%2D1", Some("sk-1"), ""),
        ("/v1/chat/completions", "key=&monkey=1", None, "monkey=1"),
        ("/v1/chat/completions", "api-version=1&key=k", Some("k"), "api-version=1"),
        ("/openai/deployments/m/chat/completions", "api-version=2024-10-21", None, ""),
        ("/openai/responses", "x=1&api-version=2024-10-21", None, "x=1"),
    ] {
        let found = query_key(query.as_bytes());
        assert_eq!(found.as_deref(), key.map(str::as_bytes), "{query}");
        let forwarded = forwarded_query(path.as_bytes(), query.as_bytes());
        assert_eq!(String::from_utf8_lossy(&forwarded), passed, "{path} {query}");
    }
}

#[test]
fn look_alikes_are_unknown() {
    let cases = [
        "",
        "/",
        "*",
        "/v1",
        "/v1/",
        "//v1/models",
        "/v1//models",
        "/v1/chat",
        "/v1/chat/completions//",
        "/V1/chat/completions",
        "/v1/v1/models",
        "/v2/chat/completions",
        "/v1chat/completions",
        "/v1/models/%zz",
        "/v1/models/%2",
        "/v1/models/%ff",
        "/v1/responses/..",
        "/v1/responses/%2e%2E/cancel",
        "/v1/responses/a%2fb",
        "/v1/responses/a%5Cb",
        "/v1/responses/a%0d",
        "/v1/responses//cancel",
        "/v1/responses/a/cancel/b",
        "/v1/responses/a/output",
        "/v2/score",
    ];
    for path in cases {
        assert_eq!(kind("POST", path), Err(FaultKind::PathUnknown), "{path}");
    }
}

#[test]
fn a_known_path_with_another_method_says_what_it_takes() {
    for method in ["GET", "HEAD", "post", "", "DELETE"] {
        assert_eq!(kind(method, "/v1/chat/completions"), Err(FaultKind::MethodNotAllowed), "{method}");
    }
    assert_eq!(kind("POST", "/v1/models"), Err(FaultKind::MethodNotAllowed));
    assert_eq!(allow(b"/v1/messages"), Some("POST"));
    assert_eq!(allow(b"/v1/models/x"), Some("GET"));
    assert_eq!(allow(b"/x"), None);
    assert_eq!(kind("HEAD", "/v1/models/x"), Ok(Api::ModelById));
    for method in ["HEAD", "POST", "PUT"] {
        assert_eq!(kind(method, "/v1/responses/resp_1"), Err(FaultKind::MethodNotAllowed), "{method}");
    }
    assert_eq!(allow(b"/v1/responses/resp_1"), Some("GET, DELETE"));
    assert_eq!(kind("GET", "/v1/responses/compact"), Err(FaultKind::MethodNotAllowed));
    assert_eq!(kind("GET", "/v1/responses/resp_1/cancel"), Err(FaultKind::MethodNotAllowed));
}

#[test]
fn a_model_id_is_the_decoded_tail() {
    let cases: &[(&str, Option<&str>)] = &[
        ("/v1/models/a", Some("a")),
        ("/models/a/", Some("a")),
        ("/v1/models/org/name:latest", Some("org/name:latest")),
        ("/v1/models/org%2fname%3Alatest", Some("org/name:latest")),
        ("/v1/models/%C3%A9", Some("é")),
        ("/v1/models/%25", Some("%")),
        ("/v1/models/", None),
        ("/v1/models", None),
        ("/v1/models/%", None),
        ("/v1/models/%+1", None),
        ("/v1/models/%e9", None),
    ];
    for &(path, id) in cases {
        assert_eq!(model_id(path.as_bytes()).as_deref(), id, "{path}");
    }
}

#[test]
fn the_id_of_a_response_is_one_segment_before_and_behind() {
    let long = format!("/v1/responses/{}", "a".repeat(ID_BYTES_MAX + 1));
    let cases: &[(&str, Option<&str>, &str)] = &[
        ("/v1/responses/resp_1", Some("resp_1"), "resp_1"),
        ("/responses/resp%3A1.-~/cancel", Some("resp:1.-~"), "resp%3A1.-~"),
        ("/responses/a b?c#d%25", Some("a b?c#d%"), "a%20b%3Fc%23d%25"),
        ("/v1/responses/é", Some("é"), "%C3%A9"),
        (&long, None, ""),
        ("/v1/responses/", None, ""),
    ];
    for &(path, id, told) in cases {
        let found = response_id(path.as_bytes());
        assert_eq!(found.as_deref(), id, "{path}");
        let mut out = Vec::new();
        encode_id(found.as_deref().unwrap_or_default().as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), told);
    }
}

#[test]
fn an_unknown_path_is_refused_in_the_dialect_it_looks_like() {
    assert_eq!(Dialect::of_request(b"/v1/messages/batches", false), Dialect::Anthropic);
    assert_eq!(Dialect::of_request(b"/messages", false), Dialect::Anthropic);
    assert_eq!(Dialect::of_request(b"/v1/models", true), Dialect::Anthropic);
    assert_eq!(Dialect::of_request(b"/v1/anything", false), Dialect::OpenAi);
}

/// A trailing slash keeps a path from being found as it is written in the table.
#[test]
fn a_path_as_it_is_written_names_what_its_other_forms_name() {
    for api in Api::ALL.iter().filter(|api| !api.path().ends_with('/')) {
        for method in ["GET", "POST", "DELETE", "HEAD", "PUT"] {
            let (own, other) = (kind(method, api.path()), kind(method, &format!("{}/", api.path())));
            assert_eq!(own, other, "{method} {}", api.path());
        }
    }
}

#[test]
fn what_only_backends_speak_is_no_endpoint() {
    for path in ["/model/m/converse", "/model/m/converse-stream", "/model/", "/model", "/v1/model/m/converse"]
    {
        assert_eq!(kind("POST", path), Err(FaultKind::PathUnknown), "{path}");
    }
}
