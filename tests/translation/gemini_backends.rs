//! Google's API on the backend's side.

use super::*;

/// A gateway whose model `m` is served by Google's API only, under the name `gemini-3-pro`.
pub(super) fn before_gemini(origin: &Origin, more: &str) -> Gateway {
    let backend = format!("kind = \"gemini\"\napi_key = {{ env = \"GEMINI_KEY\" }}\n{QUIET}");
    let config = Config::new()
        .backend("b1", origin.port, &backend)
        .key("one", K1, "")
        .variable("GEMINI_KEY", "goog-secret")
        .tables("[model.m]\nbackends = [{ name = \"b1\", model = \"gemini-3-pro\" }]")
        .tables(more);
    Gateway::start(&config)
}

/// What it says: a thought, a text, two calls at once.
const PIECES: [&str; 4] = [
    r#"{"candidates": [{"content": {"parts": [{"text": "hm","thought": true}],"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 10,"totalTokenCount": 10},"modelVersion": "gemini-3-pro","responseId": "r1"}"#,
    r#"{"candidates": [{"content": {"parts": [{"text": "Hello é"}],"role": "model"},"index": 0}]}"#,
    r#"{"candidates": [{"content": {"parts": [{"functionCall": {"name": "ls","args": {"at": "/"}},"thoughtSignature": "AB+/cd=="},{"functionCall": {"name": "pwd","args": {}}}],"role": "model"},"index": 0}]}"#,
    r#"{"candidates": [{"content": {"parts": [{"text": ""}],"role": "model"},"finishReason": "STOP","index": 0}],"usageMetadata": {"promptTokenCount": 10,"candidatesTokenCount": 4,"thoughtsTokenCount": 6,"toolUsePromptTokenCount": 3,"totalTokenCount": 23}}"#,
];

const WHOLE: &str = r#"{"candidates": [{"content": {"parts": [{"text": "hm","thought": true},{"text": "Hello é"},{"functionCall": {"name": "ls","args": {"at": "/"}},"thoughtSignature": "AB+/cd=="},{"functionCall": {"name": "pwd","args": {}}}],"role": "model"},"finishReason": "STOP"}],"usageMetadata": {"promptTokenCount": 10,"candidatesTokenCount": 4,"thoughtsTokenCount": 6,"toolUsePromptTokenCount": 3,"totalTokenCount": 23},"modelVersion": "gemini-3-pro","responseId": "r1"}"#;

/// The stream as Google writes it, with CRLF.
pub(super) fn stream() -> String {
    PIECES.map(|piece| format!("data: {piece}\r\n\r\n")).concat()
}

fn check_request(talk: &Talk) -> Value {
    let request = &talk.request;
    assert_eq!(request.one("x-goog-api-key"), "goog-secret");
    assert!(!request.has("authorization") && !request.has("anthropic-version"));
    let body = request.json();
    for member in ["model", "stream", "messages", "stream_options"] {
        assert!(body.get(member).is_none(), "{member}: {body}");
    }
    assert_eq!(body["systemInstruction"]["parts"][0]["text"], "Be exact.");
    assert_eq!(body["contents"][0], json!({"role": "user", "parts": [{"text": "Hi"}]}));
    body
}

/// The backend: whole, or its stream in pieces of `step` bytes.
fn gemini(talk: &mut Talk, step: usize) -> Next {
    check_request(talk);
    match talk.request.target() {
        "/v1beta/models/gemini-3-pro:generateContent" => {
            talk.answer("200 OK", "Content-Type: application/json; charset=UTF-8\r\n", WHOLE)
        }
        "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse" => {
            talk.stream();
            for piece in stream().as_bytes().chunks(step) {
                talk.chunk(piece);
                talk.pause(Duration::from_millis(1)); // or several arrive in one read
            }
            talk.end()
        }
        other => panic!("{other}"),
    }
}

#[test]
fn an_openai_client_streams_from_gemini_at_every_cut() {
    let length = stream().len();
    for step in [1, 7, 64, length] {
        let origin = Origin::scripted(move |talk| gemini(talk, step));
        let gateway = before_gemini(&origin, "");
        let mut body = chat(true);
        body["stream_options"] = json!({"include_usage": true});
        let text = ask(&gateway, "/v1/chat/completions", &body).text();
        let chunks: Vec<Value> = sse::read(&text)
            .expect("records")
            .iter()
            .filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).expect("JSON"))
            .collect();
        let deltas = |name: &str| -> String {
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][name].as_str()).collect()
        };
        assert_eq!(
            (deltas("content").as_str(), deltas("reasoning_content").as_str()),
            ("Hello é", "hm"),
            "{step}"
        );
        let calls: Vec<&Value> =
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0)).collect();
        let ids: Vec<&str> = calls.iter().filter_map(|call| call["id"].as_str()).collect();
        assert_eq!(ids.len(), 2);
        assert!(ids[0] != ids[1] && ids[0].ends_with("_gsig_AB-_cd"), "{ids:?}");
        let indices: Vec<u64> = calls.iter().filter_map(|call| call["index"].as_u64()).collect();
        assert_eq!((indices.first(), indices.last()), (Some(&0), Some(&1)));
        let finish: Vec<&str> =
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()).collect();
        assert_eq!(finish, ["tool_calls"]);
        let usage = &chunks.last().expect("chunks")["usage"];
        assert_eq!(
            (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]),
            (&json!(13), &json!(10), &json!(23))
        );
        assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 6);
        assert!(text.ends_with("data: [DONE]\n\n"));
        let counted =
            eventually(support::PATIENCE, || gateway.metric("ringway_model_tokens_total", "") >= 23.0);
        assert!(counted, "the tokens are counted");
    }
}

#[test]
fn an_openai_client_gets_a_whole_completion_from_gemini() {
    let origin = Origin::scripted(|talk| gemini(talk, 1));
    let gateway = before_gemini(&origin, "");
    let told = ask(&gateway, "/v1/chat/completions", &chat(false)).json();
    let message = &told["choices"][0]["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("Hello é"), &json!("hm")));
    assert_eq!(message["tool_calls"][0]["function"], json!({"name": "ls", "arguments": "{\"at\": \"/\"}"}));
    assert_eq!(message["tool_calls"][1]["function"]["arguments"], "{}");
    assert_eq!(
        (&told["choices"][0]["finish_reason"], &told["usage"]["total_tokens"]),
        (&json!("tool_calls"), &json!(23))
    );
}

#[test]
fn an_anthropic_client_streams_from_gemini() {
    let origin = Origin::scripted(|talk| gemini(talk, 11));
    let gateway = before_gemini(&origin, "");
    let mut body = messages(true);
    body.as_object_mut().expect("an object").remove("context_management");
    let told = events(&ask(&gateway, "/v1/messages", &body).text());
    let kinds: Vec<&str> =
        told.iter().filter_map(|(_, data)| data["content_block"]["type"].as_str()).collect();
    assert_eq!(kinds, ["thinking", "text", "tool_use", "tool_use"]);
    let delta = &told.iter().find(|(name, _)| name == "message_delta").expect("a message_delta").1;
    assert_eq!(
        (&delta["delta"]["stop_reason"], &delta["usage"]["output_tokens"]),
        (&json!("tool_use"), &json!(10))
    );
    assert_eq!(told.last().expect("events").0, "message_stop");
    let whole = ask(&gateway, "/v1/messages", &messages(false)).json();
    assert_eq!(whole["content"][2]["input"], json!({"at": "/"}));
    assert_eq!((&whole["stop_reason"], &whole["usage"]["input_tokens"]), (&json!("tool_use"), &json!(13)));
}

#[test]
fn a_responses_client_streams_from_gemini() {
    let origin = Origin::scripted(|talk| gemini(talk, 5));
    let gateway = before_gemini(&origin, "");
    let body =
        json!({"model": "m", "stream": true, "instructions": "Be exact.", "store": false, "input": "Hi"});
    let told = events(&ask(&gateway, "/v1/responses", &body).text());
    let (last, completed) = told.last().expect("events");
    assert_eq!(last, "response.completed");
    let output = completed["response"]["output"].as_array().expect("an output");
    let kinds: Vec<&str> = output.iter().filter_map(|item| item["type"].as_str()).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call", "function_call"]);
    assert_eq!(completed["response"]["usage"]["total_tokens"], 23);
}

/// The calls of a response, sent back with their results by a client of each API.
#[test]
fn a_signature_comes_back_on_its_call_whatever_the_client_speaks() {
    let origin = Origin::scripted(|talk| {
        let body = talk.request.json();
        let contents = body["contents"].as_array().expect("contents");
        if contents.len() == 1 {
            return talk.answer("200 OK", "Content-Type: application/json\r\n", WHOLE);
        }
        let calls: Vec<&Value> = contents[1]["parts"]
            .as_array()
            .expect("parts")
            .iter()
            .filter(|part| part.get("functionCall").is_some())
            .collect();
        assert_eq!(calls.len(), 2, "{body}");
        assert_eq!(calls[0]["thoughtSignature"], "AB+/cd==", "{body}");
        assert_eq!(calls[0]["functionCall"]["args"], json!({"at": "/"}));
        assert!(calls[1].get("thoughtSignature").is_none(), "{body}");
        let results = contents[2]["parts"].as_array().expect("parts");
        let named: Vec<&str> =
            results.iter().filter_map(|part| part["functionResponse"]["name"].as_str()).collect();
        assert_eq!(named, ["ls", "pwd"], "in the order of the calls: {body}");
        assert_eq!(results[0]["functionResponse"]["response"], json!({"output": "one"}));
        let done = WHOLE.replace("Hello é", "done");
        talk.answer("200 OK", "Content-Type: application/json\r\n", &done)
    });
    let gateway = before_gemini(&origin, "");

    let first = ask(&gateway, "/v1/chat/completions", &chat(false)).json()["choices"][0]["message"].clone();
    let id = |at: usize| first["tool_calls"][at]["id"].clone();
    let mut body = chat(false);
    let list = body["messages"].as_array_mut().expect("messages");
    list.push(json!({"role": "assistant", "content": first["content"], "tool_calls": first["tool_calls"]}));
    list.push(json!({"role": "tool", "tool_call_id": id(1), "content": "two"}));
    list.push(json!({"role": "tool", "tool_call_id": id(0), "content": "one"}));
    let told = ask(&gateway, "/v1/chat/completions", &body).json();
    assert_eq!(told["choices"][0]["message"]["content"], "done", "{told}");

    let first = ask(&gateway, "/v1/messages", &messages(false)).json()["content"].clone();
    let id = |at: usize| first[at]["id"].clone();
    let mut body = messages(false);
    let list = body["messages"].as_array_mut().expect("messages");
    list.push(json!({"role": "assistant", "content": first}));
    list.push(json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": id(3), "content": "two"},
        {"type": "tool_result", "tool_use_id": id(2), "content": [{"type": "text", "text": "one"}]}]}));
    let told = ask(&gateway, "/v1/messages", &body).json();
    assert_eq!(told["content"][1]["text"], "done", "{told}");

    let mut body = json!({"model": "m", "instructions": "Be exact.", "store": false,
        "input": [{"role": "user", "content": "Hi"}]});
    let first = ask(&gateway, "/v1/responses", &body).json()["output"].clone();
    let list = body["input"].as_array_mut().expect("input");
    let items = first.as_array().expect("an output");
    let calls: Vec<&Value> = items.iter().filter(|item| item["type"] == "function_call").collect();
    list.extend(items.iter().cloned());
    for (call, said) in [(calls[1], "two"), (calls[0], "one")] {
        list.push(json!({"type": "function_call_output", "call_id": call["call_id"], "output": said}));
    }
    let told = ask(&gateway, "/v1/responses", &body).json();
    assert!(told.to_string().contains("\"done\""), "{told}");
}

#[test]
fn errors_of_google_come_in_the_clients_dialect() {
    let error = |code: u16, status: &str, said: &str| {
        json!({"error": {"code": code, "message": said, "status": status}}).to_string()
    };
    let cases = [
        ("400 Bad Request", error(400, "INVALID_ARGUMENT", "no such part"), 400, "no such part"),
        ("400 Bad Request", format!("[{}]", error(400, "INVALID_ARGUMENT", "in a list")), 400, "in a list"),
        ("429 Too Many Requests", error(429, "RESOURCE_EXHAUSTED", "quota"), 429, "quota"),
    ];
    for (line, body, status, said) in cases {
        let origin = Origin::scripted(move |talk| {
            talk.answer(line, "Content-Type: application/json\r\nRetry-After: 7\r\n", &body)
        });
        let gateway = before_gemini(&origin, "");
        for (path, body) in [("/v1/chat/completions", chat(true)), ("/v1/messages", messages(false))] {
            if status == 429 && path == "/v1/messages" {
                continue; // the backend is left alone for the seconds that it asked for
            }
            let response = ask(&gateway, path, &body);
            assert_eq!(response.status(), status, "{path}: {}", response.text());
            let message = response.json()["error"]["message"].clone();
            if status != 429 {
                assert!(message.as_str().is_some_and(|message| message.contains(said)), "{path}: {message}");
            } else {
                assert!(response.has("retry-after"));
            }
        }
    }
}

#[test]
fn a_pause_that_google_asks_for_reaches_the_client() {
    let body = json!({"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]}});
    let origin = Origin::scripted(move |talk| {
        talk.answer("429 Too Many Requests", "Content-Type: application/json\r\n", &body.to_string())
    });
    let gateway = before_gemini(&origin, "");
    let response = ask(&gateway, "/v1/chat/completions", &chat(false));
    assert_eq!((response.status(), response.one("retry-after").as_str()), (429, "7"));
}

#[test]
fn a_key_that_google_refuses_is_not_the_clients_fault() {
    let body = json!({"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT", "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID", "domain": "googleapis.com"}]}});
    let origin = Origin::scripted(move |talk| {
        talk.answer("400 Bad Request", "Content-Type: application/json\r\n", &body.to_string())
    });
    let gateway = before_gemini(&origin, "");
    assert_eq!(ask(&gateway, "/v1/chat/completions", &chat(false)).status(), 502);
    assert_eq!(ask(&gateway, "/v1beta/models/m:generateContent", &json!({"contents": []})).status(), 502);
}

#[test]
fn a_stream_that_dies_is_never_whole() {
    for (name, dies) in [("close", Next::Close), ("reset", Next::Reset), ("end", Next::Keep)] {
        let origin = Origin::scripted(move |talk| {
            talk.stream();
            talk.chunk(format!("data: {}\r\n\r\n", PIECES[1]));
            talk.pause(Duration::from_millis(30));
            if dies == Next::Keep { talk.end() } else { dies }
        });
        let gateway = before_gemini(&origin, "");
        for (path, body) in [
            ("/v1/chat/completions", chat(true)),
            ("/v1/messages", messages(true)),
            (
                "/v1beta/models/m:streamGenerateContent?alt=sse",
                json!({"contents": [{"parts": [{"text": "Hi"}]}]}),
            ),
        ] {
            let text = ask(&gateway, path, &body).text();
            assert!(text.contains("Hello") && text.contains("\"error\""), "{name} {path}: {text}");
            for end in ["message_stop", "[DONE]", "finishReason", "\"stop\""] {
                assert!(!text.contains(end), "{name} {path}: {text}");
            }
        }
    }
}

#[test]
fn an_error_inside_the_stream_is_one_for_the_client() {
    let origin = Origin::scripted(|talk| {
        talk.stream();
        talk.chunk(format!("data: {}\r\n\r\n", PIECES[1]));
        talk.chunk("data: {\"error\":{\"code\":503,\"message\":\"overloaded now\",\"status\":\"UNAVAILABLE\"}}\r\n\r\n");
        talk.end()
    });
    let gateway = before_gemini(&origin, "");
    for (path, body) in [("/v1/chat/completions", chat(true)), ("/v1/messages", messages(true))] {
        let text = ask(&gateway, path, &body).text();
        assert!(text.contains("Hello") && text.contains("overloaded now"), "{path}: {text}");
        assert!(!text.contains("[DONE]") && !text.contains("message_stop"), "{path}: {text}");
    }
}

#[test]
fn a_blocked_prompt_is_a_filter() {
    let origin = Origin::scripted(|talk| {
        let blocked = "{\"promptFeedback\": {\"blockReason\": \"PROHIBITED_CONTENT\"},\"usageMetadata\": {\"promptTokenCount\": 4,\"totalTokenCount\": 4}}";
        if talk.request.target().contains("stream") {
            talk.stream();
            talk.chunk(format!("data: {blocked}\r\n\r\n"));
            return talk.end();
        }
        talk.answer("200 OK", "Content-Type: application/json\r\n", blocked)
    });
    let gateway = before_gemini(&origin, "");
    let told = ask(&gateway, "/v1/chat/completions", &chat(false)).json();
    assert_eq!(
        (&told["choices"][0]["finish_reason"], &told["choices"][0]["message"]["content"]),
        (&json!("content_filter"), &json!(null))
    );
    let text = ask(&gateway, "/v1/chat/completions", &chat(true)).text();
    assert!(text.contains("content_filter") && text.ends_with("data: [DONE]\n\n"), "{text}");
    let text = ask(&gateway, "/v1/messages", &messages(true)).text();
    assert!(text.contains("\"stop_reason\":\"refusal\""), "{text}");
}

#[test]
fn vectors_of_gemini_reach_an_openai_client_in_base64() {
    let origin = Origin::scripted(|talk| {
        assert_eq!(talk.request.target(), "/v1beta/models/gemini-3-pro:batchEmbedContents");
        let body = talk.request.json();
        assert_eq!(body["requests"][1]["model"], "models/gemini-3-pro", "{body}");
        let whole = json!({"embeddings": [{"values": [0.5, 1.0]}, {"values": [1, 2]}]});
        talk.answer("200 OK", "Content-Type: application/json\r\n", &whole.to_string())
    });
    let gateway = before_gemini(&origin, "");
    let mut body = json!({"model": "m", "input": ["a", "b"]});
    let told = ask(&gateway, "/v1/embeddings", &body).json();
    assert_eq!(told["data"][0]["embedding"], json!([0.5, 1.0]), "{told}");
    body["encoding_format"] = json!("base64");
    let told = ask(&gateway, "/v1/embeddings", &body).json();
    assert_eq!(told["data"][0]["embedding"], "AAAAPwAAgD8=", "{told}");
    // A client of the same API: the name in its body becomes the backend's.
    let request = json!({"model": "models/m", "content": {"parts": [{"text": "a"}]}});
    let many = json!({"requests": [request, request]});
    let told = ask(&gateway, "/v1beta/models/m:batchEmbedContents", &many).json();
    assert_eq!(told["embeddings"][1]["values"], json!([1, 2]), "{told}");
}

/// A model without a list: what follows the prefix is in the path at Google, whoever names it where.
#[test]
fn a_pattern_names_the_model_in_the_path() {
    let origin = Origin::scripted(|talk| {
        assert_eq!(talk.request.target(), "/v1beta/models/gemini-9-x:generateContent");
        talk.answer("200 OK", "Content-Type: application/json\r\n", WHOLE)
    });
    let backend = format!("kind = \"gemini\"\n{QUIET}");
    let config =
        Config::new().backend("b1", origin.port, &backend).model("google/*", &["b1"], "").key("one", K1, "");
    let gateway = Gateway::start(&config);
    let mut body = chat(false);
    body["model"] = json!("google/gemini-9-x");
    let told = ask(&gateway, "/v1/chat/completions", &body);
    assert_eq!(told.status(), 200, "{}", told.text());
    let contents = json!({"contents": [{"parts": [{"text": "Hi"}]}]});
    let told = ask(&gateway, "/v1beta/models/google/gemini-9-x:generateContent", &contents);
    assert_eq!((told.status(), told.text().as_str()), (200, WHOLE));
}
