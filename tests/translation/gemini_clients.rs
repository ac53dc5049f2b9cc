//! Google's API on the client's side.

use super::gemini_backends::{before_gemini, stream};
use super::*;

fn request() -> Value {
    json!({"systemInstruction": {"parts": [{"text": "Be exact."}]},
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "generationConfig": {"maxOutputTokens": 64}})
}

const STREAM: &str = "/v1beta/models/m:streamGenerateContent?alt=sse";
const PLAIN: &str = "/v1beta/models/m:generateContent";

/// The responses in a stream; nothing but lines of data is allowed.
fn pieces(text: &str) -> Vec<Value> {
    let read = |record: &str| {
        let data = record.strip_prefix("data: ").unwrap_or_else(|| panic!("{record:?}"));
        assert!(!data.contains('\n'), "{record:?}");
        serde_json::from_str(data).expect("JSON")
    };
    text.split_terminator("\n\n").map(read).collect()
}

fn parts(pieces: &[Value]) -> Vec<Value> {
    let of =
        |piece: &Value| piece["candidates"][0]["content"]["parts"].as_array().cloned().unwrap_or_default();
    pieces.iter().flat_map(of).collect()
}

fn text_of(parts: &[Value], is_thought: bool) -> String {
    parts
        .iter()
        .filter(|part| part["thought"] == is_thought || !is_thought && part.get("thought").is_none())
        .filter_map(|part| part["text"].as_str())
        .collect()
}

/// `Authorization` is the key's line in these tests; the others are what Google's clients send.
fn ask_with(gateway: &Gateway, method: &str, path: &str, lines: &str, body: &str) -> Message {
    let mut client = gateway.connect();
    let length = body.len();
    client.send(
        format!(
            "{method} {path} HTTP/1.1\r\nHost: gw.test\r\n{lines}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .as_bytes(),
    );
    client.answer().expect("a response")
}

/// A gateway whose model `m` is served by the Responses API only.
fn before_responses(origin: &Origin) -> Gateway {
    let backend = format!("kind = \"openai\"\nserves = [\"responses\"]\n{QUIET}");
    let config =
        Config::new().backend("b1", origin.port, &backend).model("m", &["b1"], "").key("one", K1, "");
    Gateway::start(&config)
}

#[test]
fn a_gemini_client_streams_from_a_chat_backend() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "[timeouts]\nheartbeat = \"10ms\"");
    let response = ask(&gateway, STREAM, &request());
    assert_eq!((response.status(), response.one("content-type").as_str()), (200, "text/event-stream"));
    let told = pieces(&response.text());
    let parts = parts(&told);
    assert_eq!(text_of(&parts, false), "Hello é");
    let call = parts.iter().find_map(|part| part.get("functionCall")).expect("a call");
    assert_eq!((&call["name"], &call["args"], &call["id"]), (&json!("ls"), &json!({}), &json!("c1")));
    let last = told.last().expect("pieces");
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    assert_eq!(
        last["usageMetadata"],
        json!({"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13})
    );
    assert!(told[..told.len() - 1].iter().all(|piece| piece["candidates"][0].get("finishReason").is_none()));
    assert_eq!(origin.seen()[0].request.target(), "/v1/chat/completions");
    assert_eq!(origin.seen()[0].request.json()["max_completion_tokens"], 64);
    assert!(
        eventually(support::PATIENCE, || gateway.metric("ringway_model_tokens_total", "") >= 13.0),
        "counted"
    );
}

#[test]
fn a_gemini_client_gets_a_whole_response_from_a_chat_backend() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "");
    for path in [
        PLAIN,
        "/v1/models/m:generateContent",
        "/gemini/v1beta/models/m:generateContent",
        "/gemini/models/m:generateContent",
    ] {
        let told = ask(&gateway, path, &request()).json();
        let candidate = &told["candidates"][0];
        assert_eq!(candidate["content"]["parts"][0], json!({"text": "Hello"}), "{told}");
        assert_eq!(candidate["content"]["parts"][1]["functionCall"]["args"], json!({"at": "/"}));
        assert_eq!(
            (&candidate["finishReason"], &told["usageMetadata"]["totalTokenCount"]),
            (&json!("STOP"), &json!(13))
        );
    }
}

#[test]
fn a_gemini_client_is_served_by_anthropic() {
    let origin = Origin::scripted(messages_backend);
    let gateway = before_messages(&origin);
    let told = pieces(&ask(&gateway, STREAM, &request()).text());
    assert_eq!(text_of(&parts(&told), false), "Hello");
    let usage = &told.last().expect("pieces")["usageMetadata"];
    assert_eq!(
        (&usage["promptTokenCount"], &usage["cachedContentTokenCount"], &usage["totalTokenCount"]),
        (&json!(15), &json!(10), &json!(20))
    );
    let whole = ask(&gateway, PLAIN, &request()).json();
    let said: Vec<&str> = whole["candidates"][0]["content"]["parts"]
        .as_array()
        .expect("parts")
        .iter()
        .filter_map(|part| part["text"].as_str())
        .collect();
    assert_eq!(said.concat(), "Hello");
}

#[test]
fn a_gemini_client_is_served_by_responses() {
    let origin = Origin::scripted(|talk| {
        let body = talk.request.json();
        assert_eq!(
            (&body["instructions"], &body["max_output_tokens"]),
            (&json!("Be exact."), &json!(64)),
            "{body}"
        );
        let output = json!([{"type": "message", "id": "m1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "Hello", "annotations": []}]},
            {"type": "function_call", "id": "f1", "call_id": "c1", "name": "ls", "arguments": "{\"at\":\"/\"}", "status": "completed"}]);
        let whole = json!({"id": "resp_1", "object": "response", "status": "completed", "model": "b", "output": output,
            "usage": {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}});
        talk.answer("200 OK", "Content-Type: application/json\r\n", &whole.to_string())
    });
    let gateway = before_responses(&origin);
    let whole = ask(&gateway, PLAIN, &request()).json();
    assert_eq!(
        whole["candidates"][0]["content"]["parts"][1]["functionCall"]["args"],
        json!({"at": "/"}),
        "{whole}"
    );
    let told = pieces(&ask(&gateway, STREAM, &request()).text());
    assert_eq!(text_of(&parts(&told), false), "Hello");
    assert_eq!(told.last().expect("pieces")["usageMetadata"]["totalTokenCount"], 13);
}

#[test]
fn tools_images_thoughts_and_results_reach_a_chat_backend() {
    let origin = Origin::scripted(|talk| {
        let body = talk.request.json();
        assert_eq!(
            body["tools"][0]["function"]["parameters"],
            json!({"type": "object", "properties": {"at": {"type": ["string", "null"]}}}),
            "{body}"
        );
        assert_eq!(body["tool_choice"], json!({"type": "function", "function": {"name": "ls"}}));
        let messages = body["messages"].as_array().expect("messages");
        assert_eq!(messages[0]["content"][1]["image_url"]["url"], "data:image/png;base64,+/+/");
        let calls = messages[1]["tool_calls"].as_array().expect("calls");
        assert_ne!(calls[0]["id"], calls[1]["id"]);
        assert_eq!(messages[2]["tool_call_id"], calls[0]["id"], "{body}");
        assert_eq!(messages[3]["tool_call_id"], calls[1]["id"], "{body}");
        assert_eq!((&messages[2]["content"], &messages[3]["content"]), (&json!("one"), &json!("Error: two")));
        let whole = json!({"id": "c", "choices": [{"index": 0, "finish_reason": "length",
            "message": {"role": "assistant", "content": "Hi", "reasoning_content": "hm"}}]});
        talk.answer("200 OK", "Content-Type: application/json\r\n", &whole.to_string())
    });
    let gateway = before_chat(&origin, "");
    let call = |at: &str| json!({"functionCall": {"name": "ls", "args": {"at": at}}});
    let result = |response: Value| json!({"functionResponse": {"name": "ls", "response": response}});
    let body = json!({
        "contents": [
            {"role": "user", "parts": [{"text": "Look"}, {"inline_data": {"mime_type": "image/png", "data": "-_-_"}}]},
            {"role": "model", "parts": [{"text": "hm", "thought": true}, call("/"), call("/x")]},
            {"role": "user", "parts": [result(json!({"output": "one"})), result(json!({"error": "two"}))]}],
        "tools": [{"function_declarations": [{"name": "ls", "parameters": {"type": "OBJECT",
            "properties": {"at": {"type": "STRING", "nullable": true}}}}]}],
        "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["ls"]}}
    });
    let told = ask(&gateway, PLAIN, &body).json();
    let parts = told["candidates"][0]["content"]["parts"].as_array().expect("parts").clone();
    assert_eq!((text_of(&parts, true), text_of(&parts, false)), ("hm".to_owned(), "Hi".to_owned()), "{told}");
    assert_eq!(told["candidates"][0]["finishReason"], "MAX_TOKENS");
}

#[test]
fn a_gemini_client_of_gemini_gets_its_bytes() {
    let origin = Origin::scripted(|talk| {
        assert_eq!(talk.request.one("x-goog-api-key"), "goog-secret");
        assert_eq!(
            talk.request.text(),
            "{\"contents\":[ {\"parts\":[{\"text\":\"\\u0048i\"}]}],\"new\":1.0}"
        );
        match talk.request.target() {
            "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse&x=1" => {
                talk.stream();
                for piece in stream().as_bytes().chunks(9) {
                    talk.chunk(piece);
                    talk.pause(Duration::from_millis(1));
                }
                talk.end()
            }
            "/v1beta/models/gemini-3-pro:streamGenerateContent" => talk.answer(
                "200 OK",
                "Content-Type: application/json; charset=UTF-8\r\n",
                "[{\n \"candidates\": []\n}\n]",
            ),
            other => panic!("{other}"),
        }
    });
    let gateway = before_gemini(&origin, "");
    let body = "{\"contents\":[ {\"parts\":[{\"text\":\"\\u0048i\"}]}],\"new\":1.0}";
    for (path, lines) in [
        (format!("/v1/models/m:streamGenerateContent?alt=sse&key={K1}&x=1"), String::new()),
        (
            "/v1beta/models/m:streamGenerateContent?alt=sse&x=1".to_owned(),
            format!("x-goog-api-key: {K1}\r\n"),
        ),
    ] {
        let response = ask_with(&gateway, "POST", &path, &lines, body);
        assert_eq!((response.status(), response.text()), (200, stream()));
    }
    let line = format!("x-goog-api-key: {K1}\r\n");
    let array = ask_with(&gateway, "POST", "/v1beta/models/m:streamGenerateContent", &line, body);
    assert_eq!(array.text(), "[{\n \"candidates\": []\n}\n]");
    assert!(
        eventually(support::PATIENCE, || gateway.metric("ringway_model_tokens_total", "") >= 46.0),
        "counted"
    );
}

#[test]
fn refusals_have_googles_form() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "");
    let key = format!("x-goog-api-key: {K1}\r\n");
    let body = request().to_string();
    for (path, lines, body, status, word) in [
        (PLAIN, "x-goog-api-key: wrong\r\n", &*body, 401, "UNAUTHENTICATED"),
        (PLAIN, "", &body, 401, "UNAUTHENTICATED"),
        ("/v1beta/models/other:generateContent", &key, &body, 404, "NOT_FOUND"),
        ("/v1beta/models/m:predict", &key, &body, 405, "INVALID_ARGUMENT"),
        ("/v1beta/nothing", &key, &body, 404, "NOT_FOUND"),
        (PLAIN, &key, "{\"contents\":", 400, "INVALID_ARGUMENT"),
        (PLAIN, &key, "{\"contents\":[],\"tools\":[{\"googleSearch\":{}}]}", 400, "INVALID_ARGUMENT"),
        (
            STREAM,
            &key,
            "{\"contents\":[],\"generationConfig\":{\"candidateCount\":2}}",
            400,
            "INVALID_ARGUMENT",
        ),
    ] {
        let response = ask_with(&gateway, "POST", path, lines, body);
        assert_eq!(response.status(), status, "{path} {body}: {}", response.text());
        let error = &response.json()["error"];
        assert_eq!((&error["code"], &error["status"]), (&json!(status), &json!(word)), "{path}: {error}");
    }
    assert!(origin.seen().is_empty());
}

#[test]
fn errors_of_backends_have_googles_form() {
    for (status, line, word) in
        [(400, "400 Bad Request", "INVALID_ARGUMENT"), (429, "429 Too Many Requests", "RESOURCE_EXHAUSTED")]
    {
        let origin = Origin::scripted(move |talk| {
            let body =
                "{\"error\":{\"message\":\"not so\",\"type\":\"invalid_request_error\",\"code\":\"x\"}}";
            talk.answer(line, "Content-Type: application/json\r\n", body)
        });
        let gateway = before_chat(&origin, "");
        for path in [PLAIN, STREAM] {
            let response = ask(&gateway, path, &request());
            assert_eq!(response.status(), status, "{}", response.text());
            assert_eq!(response.json()["error"]["status"], word);
        }
    }
}

#[test]
fn tokens_are_counted_and_models_are_listed_in_googles_form() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "");
    let counted = ask(&gateway, "/v1beta/models/m:countTokens", &request()).json();
    assert!(counted["totalTokens"].as_u64().is_some_and(|count| (10..200).contains(&count)), "{counted}");
    let key = format!("x-goog-api-key: {K1}\r\n");
    for path in ["/v1beta/models", "/v1/models", "/gemini/v1beta/models?pageSize=50"] {
        let listed = ask_with(&gateway, "GET", path, &key, "").json();
        assert_eq!(listed["models"][0]["name"], "models/m", "{path}: {listed}");
        let methods = listed["models"][0]["supportedGenerationMethods"].as_array().expect("methods").clone();
        assert!(methods.contains(&json!("generateContent")));
    }
    let one = ask_with(&gateway, "GET", "/v1beta/models/m", &key, "").json();
    assert_eq!(one["name"], "models/m");
    assert!(origin.seen().is_empty(), "no backend is asked");
}

#[test]
fn a_stream_that_dies_ends_with_googles_error() {
    let origin = Origin::scripted(|talk| {
        talk.stream();
        talk.chunk(sse::content("half"));
        talk.end()
    });
    let gateway = before_chat(&origin, "");
    let told = pieces(&ask(&gateway, STREAM, &request()).text());
    assert_eq!(text_of(&parts(&told), false), "half");
    assert_eq!(told.last().expect("pieces")["error"]["status"], "INTERNAL", "{told:?}");
    assert!(told.iter().all(|piece| piece["candidates"][0].get("finishReason").is_none()));
}

#[test]
fn vectors_of_an_openai_backend_reach_a_gemini_client() {
    let origin = Origin::scripted(|talk| {
        let body = talk.request.json();
        assert_eq!(talk.request.target(), "/v1/embeddings");
        let count = body["input"].as_array().expect("a list").len();
        let data: Vec<Value> = (0..count)
            .map(|index| json!({"object": "embedding", "index": index, "embedding": [0.5, 1.0]}))
            .collect();
        let whole = json!({"object": "list", "data": data, "model": "b", "usage": {"prompt_tokens": 3, "total_tokens": 3}});
        talk.answer("200 OK", "Content-Type: application/json\r\n", &whole.to_string())
    });
    let backend = format!("kind = \"openai\"\nserves = [\"embeddings\"]\n{QUIET}");
    let config =
        Config::new().backend("b1", origin.port, &backend).model("m", &["b1"], "").key("one", K1, "");
    let gateway = Gateway::start(&config);
    let content = json!({"parts": [{"text": "a"}]});
    let one = ask(&gateway, "/v1beta/models/m:embedContent", &json!({"content": content})).json();
    assert_eq!(one["embedding"]["values"], json!([0.5, 1.0]), "{one}");
    let request = json!({"model": "models/m", "content": content});
    let many = json!({"requests": [request, request]});
    let told = ask(&gateway, "/v1beta/models/m:batchEmbedContents", &many).json();
    assert_eq!(told["embeddings"].as_array().expect("vectors").len(), 2, "{told}");
    let refused = ask(&gateway, "/v1beta/models/m:embedContent", &json!({}));
    assert_eq!((refused.status(), &refused.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
}

#[test]
fn without_alt_sse_a_stream_is_a_list() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "");
    let response = ask(&gateway, "/v1beta/models/m:streamGenerateContent", &request());
    assert_eq!(response.one("content-type"), "application/json");
    let told = response.json();
    let pieces = told.as_array().expect("a list");
    assert_eq!(text_of(&parts(pieces), false), "Hello");
    let last = pieces.last().expect("a piece");
    assert_eq!(
        (&last["candidates"][0]["finishReason"], &last["usageMetadata"]["totalTokenCount"]),
        (&json!("STOP"), &json!(13))
    );
    let refused = ask(
        &gateway,
        "/v1beta/models/m:streamGenerateContent",
        &json!({"contents": [], "cachedContent": "c"}),
    );
    assert_eq!((refused.status(), &refused.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
}

/// A rule reads what Google's clients say and what its backends do, whatever its form.
#[test]
fn content_rules_read_both_sides() {
    let card = "4111 1111 1111 1111";
    let origin = Origin::scripted(move |talk| {
        let body = talk.request.json().to_string();
        assert!(!body.contains("4111"), "{body}");
        let said = |text: &str, more: &str| {
            format!(
                "{{\"candidates\":[{{\"content\":{{\"role\":\"model\",\"parts\":[{{\"text\":\"{text}\"}}]}}{more}}}]}}"
            )
        };
        if talk.request.target().contains("alt=sse") {
            talk.stream();
            talk.chunk(format!("data: {}\r\n\r\n", said("Pay with 4111 1111 ", "")));
            talk.chunk(format!("data: {}\r\n\r\n", said("1111 1111 now", ",\"finishReason\":\"STOP\"")));
            return talk.end();
        }
        let whole = said(&format!("Pay with {card}"), ",\"finishReason\":\"STOP\"");
        let list = talk.request.target().contains("stream");
        talk.answer(
            "200 OK",
            "Content-Type: application/json\r\n",
            &if list { format!("[{whole}]") } else { whole },
        )
    });
    let rules = "[guard.cards]\ndetect = [\"payment_card\"]\nwhere = [\"input\", \"output\", \"system\"]\naction = \"mask\"";
    let gateway = before_gemini(&origin, rules);
    let body = json!({"contents": [{"parts": [{"text": format!("My card is {card}")}]}],
        "system_instruction": {"parts": [{"text": card}]}});
    for path in [PLAIN, STREAM, "/v1beta/models/m:streamGenerateContent"] {
        let response = ask(&gateway, path, &body);
        assert_eq!(response.status(), 200, "{path}: {}", response.text());
        let text = response.text();
        assert!(text.contains("Pay with") && !text.contains("1111 1111"), "{path}: {text}");
    }
}
