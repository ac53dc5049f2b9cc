//! Ollama's own API on either side.

use std::time::Duration;

use serde_json::{Value, json};

use support::eventually;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk};
use support::sse;
use support::strict::Message;

use super::{QUIET, ask, before_chat, before_messages, chat_backend, events, messages_backend, post};

const NDJSON: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A gateway whose model `m` is served by Ollama under the name `qwen3:8b`.
fn before_ollama(origin: &Origin) -> Gateway {
    let config = Config::new()
        .backend("b1", origin.port, &format!("kind = \"ollama\"\n{QUIET}"))
        .model("m", &["b1"], "")
        .key("one", K1, "");
    Gateway::start(&config)
}

fn ollama(more: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "system", "content": "Be exact."}, {"role": "user", "content": "Hi"}]});
    more.as_object().expect("an object").iter().for_each(|(key, value)| body[key] = value.clone());
    body
}

fn lines(text: &str) -> Vec<Value> {
    assert!(!text.contains("\n\n") && !text.starts_with('\n'), "no blank line: {text:?}");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// The lines of a response as Ollama sends it.
fn stream_lines() -> Vec<String> {
    let line = |message: Value, done: bool| json!({"model": "qwen3:8b", "created_at": "2026-11-30T00:00:00.123Z", "message": message, "done": done});
    let mut last = line(json!({"role": "assistant", "content": ""}), true);
    last["done_reason"] = json!("stop");
    last["total_duration"] = json!(4_883_583_458_u64);
    last["prompt_eval_count"] = json!(9);
    last["eval_count"] = json!(4);
    let call = json!({"function": {"name": "ls", "arguments": {"at": "a \"b\"\n"}}});
    [
        line(json!({"role": "assistant", "content": "", "thinking": "hm"}), false),
        line(json!({"role": "assistant", "content": "Hel"}), false),
        line(json!({"role": "assistant", "content": "lo \u{e9}\u{2028}"}), false),
        line(json!({"role": "assistant", "content": "", "tool_calls": [call]}), false),
        last,
    ]
    .iter()
    .map(|line| format!("{line}\n"))
    .collect()
}

/// Ollama: streams unless it is told not to.
fn ollama_backend(talk: &mut Talk) -> Next {
    assert_eq!(talk.request.target(), "/api/chat");
    let body = talk.request.json();
    assert_eq!(body["messages"][0]["content"], "Be exact.", "{body}");
    if body["stream"] == false {
        let message = json!({"role": "assistant", "content": "Hello \u{e9}\u{2028}", "thinking": "hm",
            "tool_calls": [{"function": {"name": "ls", "arguments": {"at": "a \"b\"\n"}}}]});
        let whole = json!({"model": "qwen3:8b", "created_at": "2026-11-30T00:00:00Z", "message": message, "done": true,
            "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 4});
        return talk.answer(
            "200 OK",
            "Content-Type: application/json; charset=utf-8\r\n",
            &whole.to_string(),
        );
    }
    talk.send(NDJSON);
    // Cut within lines and within a character.
    for piece in stream_lines().concat().as_bytes().chunks(37) {
        talk.chunk(piece);
    }
    talk.end()
}

fn counted(gateway: &Gateway, tokens: f64) {
    let counted =
        eventually(support::PATIENCE, || gateway.metric("ringway_model_tokens_total", "") >= tokens);
    assert!(counted, "the tokens are counted");
}

#[test]
fn an_ollama_client_of_an_ollama_backend_gets_its_bytes() {
    let origin = Origin::scripted(ollama_backend);
    let gateway = before_ollama(&origin);
    let body =
        ollama(json!({"keep_alive": "5m", "options": {"num_ctx": 8192}, "x": 12345678901234567890_u64}));
    let response = ask(&gateway, "/ollama/api/chat", &body);
    assert_eq!((response.status(), response.one("content-type").as_str()), (200, "application/x-ndjson"));
    assert_eq!(response.text(), stream_lines().concat());
    let seen = &origin.seen()[0].request;
    assert_eq!((seen.target(), seen.text()), ("/api/chat", body.to_string()));
    counted(&gateway, 13.0);
    let whole = ask(&gateway, "/api/chat", &ollama(json!({"stream": false})));
    assert_eq!((whole.status(), &whole.json()["eval_count"]), (200, &json!(4)));
    counted(&gateway, 26.0);
}

#[test]
fn every_cut_of_an_ollama_stream_passes_as_the_same_bytes() {
    let stream = stream_lines().concat();
    let origin = Origin::scripted(move |talk| {
        let cut: usize = talk.nonce().parse().expect("a number");
        let stream = stream_lines().concat();
        let (first, second) = stream.as_bytes().split_at(cut);
        talk.send(NDJSON);
        if !first.is_empty() {
            talk.chunk(first);
        }
        talk.chunk(second);
        talk.end()
    });
    let gateway = before_ollama(&origin);
    let mut client = gateway.connect();
    for cut in (0..stream.len()).step_by(3) {
        client.send(&post("/api/chat", &format!("X-Nonce: {cut}\r\n"), &ollama(json!({})).to_string()));
        let response: Message = client.answer().expect("a response");
        assert_eq!(response.text(), stream, "cut at {cut}");
    }
}

#[test]
fn blank_lines_do_not_reach_a_client_that_cannot_read_them() {
    let origin = Origin::scripted(|talk| {
        talk.send(NDJSON);
        for line in stream_lines() {
            talk.chunk(format!("\n{line}\r\n"));
        }
        talk.end()
    });
    let gateway = before_ollama(&origin);
    let text = ask(&gateway, "/api/chat", &ollama(json!({}))).text();
    assert_eq!(lines(&text).len(), 5, "{text}");
}

#[test]
fn an_openai_client_streams_from_ollama() {
    let origin = Origin::scripted(ollama_backend);
    let gateway = before_ollama(&origin);
    let mut body = super::chat(true);
    body["stream_options"] = json!({"include_usage": true});
    body["max_tokens"] = json!(64);
    body["tools"] = json!([{"type": "function", "function": {"name": "ls"}}]);
    let response = ask(&gateway, "/v1/chat/completions", &body);
    assert!(response.one("content-type").starts_with("text/event-stream"), "{response:?}");
    let text = response.text();
    let chunks: Vec<Value> = sse::read(&text)
        .expect(&text)
        .iter()
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).expect(data))
        .collect();
    let delta = |name: &str| -> String {
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][name].as_str()).collect()
    };
    assert_eq!(
        (delta("content").as_str(), delta("reasoning_content").as_str()),
        ("Hello \u{e9}\u{2028}", "hm")
    );
    let calls: Vec<&Value> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0])
        .filter(|call| !call.is_null())
        .collect();
    let arguments: String = calls.iter().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&arguments).expect(&arguments), json!({"at": "a \"b\"\n"}));
    assert!(calls[0]["id"].as_str().is_some_and(|id| !id.is_empty()));
    assert!(text.contains("\"finish_reason\":\"tool_calls\"") && text.ends_with(sse::DONE), "{text}");
    assert!(text.contains("\"prompt_tokens\":9"), "{text}");
    let sent = origin.seen()[0].request.json();
    assert_eq!((&sent["stream"], &sent["options"]["num_predict"]), (&json!(true), &json!(64)));
    counted(&gateway, 13.0);
}

#[test]
fn every_client_gets_a_whole_response_from_ollama() {
    let origin = Origin::scripted(ollama_backend);
    let gateway = before_ollama(&origin);
    let told = ask(&gateway, "/v1/chat/completions", &super::chat(false)).json();
    let message = &told["choices"][0]["message"];
    assert_eq!(
        (&message["content"], &message["reasoning_content"]),
        (&json!("Hello \u{e9}\u{2028}"), &json!("hm"))
    );
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"at\":\"a \\\"b\\\"\\n\"}");
    assert_eq!(
        (&told["choices"][0]["finish_reason"], &told["usage"]["total_tokens"]),
        (&json!("tool_calls"), &json!(13))
    );
    let told = ask(&gateway, "/v1/messages", &super::messages(false)).json();
    assert_eq!(
        (&told["content"][2]["input"], &told["stop_reason"]),
        (&json!({"at": "a \"b\"\n"}), &json!("tool_use"))
    );
    let body = json!({"model": "m", "instructions": "Be exact.", "store": false, "input": "Hi"});
    let told = ask(&gateway, "/v1/responses", &body).json();
    assert_eq!((&told["status"], &told["usage"]["total_tokens"]), (&json!("completed"), &json!(13)));
}

#[test]
fn an_anthropic_client_streams_from_ollama() {
    let origin = Origin::scripted(ollama_backend);
    let gateway = before_ollama(&origin);
    let events = events(&ask(&gateway, "/v1/messages", &super::messages(true)).text());
    let of = |kind: &str, name: &str| -> String {
        events
            .iter()
            .filter(|(_, data)| data["delta"]["type"] == kind)
            .filter_map(|(_, data)| data["delta"][name].as_str())
            .collect()
    };
    assert_eq!(of("text_delta", "text"), "Hello \u{e9}\u{2028}");
    assert_eq!(of("thinking_delta", "thinking"), "hm");
    let input = of("input_json_delta", "partial_json");
    assert_eq!(serde_json::from_str::<Value>(&input).expect(&input), json!({"at": "a \"b\"\n"}));
    assert_eq!(events.last().expect("events").0, "message_stop");
}

#[test]
fn an_ollama_client_streams_from_a_chat_backend() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "");
    let response = ask(
        &gateway,
        "/api/chat",
        &ollama(json!({"keep_alive": 0, "options": {"num_predict": 32, "seed": 7}})),
    );
    assert_eq!((response.status(), response.one("content-type").as_str()), (200, "application/x-ndjson"));
    assert_eq!(response.one("x-ringway-dropped"), "keep_alive");
    let lines = lines(&response.text());
    let text: String = lines.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    assert_eq!(text, "Hello \u{e9}");
    let call = lines.iter().find(|line| !line["message"]["tool_calls"].is_null()).expect("a call");
    assert_eq!(
        call["message"]["tool_calls"][0]["function"],
        json!({"index": 0, "name": "ls", "arguments": {}})
    );
    let last = lines.last().expect("lines");
    assert_eq!((&last["done"], &last["done_reason"]), (&json!(true), &json!("stop")));
    assert_eq!((&last["prompt_eval_count"], &last["eval_count"]), (&json!(9), &json!(4)));
    let sent = origin.seen()[0].request.json();
    assert_eq!(
        (&sent["max_completion_tokens"], &sent["seed"], &sent["stream"]),
        (&json!(32), &json!(7), &json!(true))
    );
    counted(&gateway, 13.0);
    let whole = ask(&gateway, "/api/chat", &ollama(json!({"stream": false}))).json();
    assert_eq!(
        (&whole["message"]["content"], &whole["done"], &whole["eval_count"]),
        (&json!("Hello"), &json!(true), &json!(4))
    );
    assert_eq!(whole["message"]["tool_calls"][0]["function"]["arguments"], json!({"at": "/"}));
}

#[test]
fn an_ollama_client_streams_from_anthropic() {
    let origin = Origin::scripted(messages_backend);
    let gateway = before_messages(&origin);
    let mut client = gateway.connect();
    client.send(&post(
        "/ollama/api/chat",
        "anthropic-version: 2023-06-01\r\n",
        &ollama(json!({})).to_string(),
    ));
    let response = client.answer().expect("a response");
    let lines = lines(&response.text());
    let text: String = lines.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    assert_eq!((text.as_str(), &lines.last().expect("lines")["prompt_eval_count"]), ("Hello", &json!(15)));
}

#[test]
fn a_prompt_is_completed_by_a_chat_backend() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "");
    let body = json!({"model": "m:latest", "system": "Be exact.", "prompt": "Hi"});
    let response = ask(&gateway, "/api/generate", &body);
    assert_eq!(response.status(), 200, "{}", response.text());
    let lines = lines(&response.text());
    let text: String = lines.iter().filter_map(|line| line["response"].as_str()).collect();
    assert_eq!(text, "Hello \u{e9}");
    assert_eq!(lines.last().expect("lines")["context"], json!([]));
    assert_eq!(origin.seen()[0].request.json()["model"], "m", "a name without its tag is the model's");
}

#[test]
fn a_stream_that_dies_has_no_done() {
    for (name, dies) in [("close", Next::Close), ("reset", Next::Reset), ("end", Next::Keep)] {
        for is_ollama in [true, false] {
            let origin = Origin::scripted(move |talk| {
                match is_ollama {
                    true => {
                        talk.send(NDJSON);
                        talk.chunk("{\"message\":{\"role\":\"assistant\",\"content\":\"half\"},\"done\":false}\n{\"mess");
                    }
                    false => {
                        talk.stream();
                        talk.chunk(sse::content("half"));
                    }
                }
                talk.pause(Duration::from_millis(30));
                if dies == Next::Keep { talk.end() } else { dies }
            });
            let gateway = if is_ollama { before_ollama(&origin) } else { before_chat(&origin, "") };
            let clients: &[&str] =
                if is_ollama { &["/api/chat", "/v1/chat/completions"] } else { &["/api/chat"] };
            for path in clients {
                let body = if *path == "/api/chat" { ollama(json!({})) } else { super::chat(true) };
                let mut client = gateway.connect();
                client.send(&post(path, "Connection: close\r\n", &body.to_string()));
                let outcome = client.finish(&[], support::PATIENCE);
                let response = outcome.answers.first().or(outcome.cut.as_ref()).expect("a response");
                let text = response.text();
                assert!(text.contains("half") && text.contains("\"error\""), "{name} {path}: {text}");
                assert!(!text.contains("\"done\":true") && !text.contains("[DONE]"), "{name} {path}: {text}");
                if *path == "/api/chat" {
                    assert!(lines(&text).last().expect("lines")["error"].is_string(), "{text}");
                }
            }
        }
    }
}

#[test]
fn an_error_line_is_an_error_for_every_client() {
    let origin = Origin::scripted(|talk| {
        talk.send(NDJSON);
        talk.chunk("{\"message\":{\"role\":\"assistant\",\"content\":\"half\"},\"done\":false}\n");
        talk.pause(Duration::from_millis(30));
        talk.chunk("{\"error\":\"out of memory\"}\n");
        talk.end()
    });
    let gateway = before_ollama(&origin);
    let text = ask(&gateway, "/v1/chat/completions", &super::chat(true)).text();
    assert!(
        text.contains("out of memory")
            && !text.contains("[DONE]")
            && !text.contains("\"finish_reason\":\"stop\""),
        "{text}"
    );
    let text = ask(&gateway, "/v1/messages", &super::messages(true)).text();
    assert!(
        text.contains("event: error") && text.contains("out of memory") && !text.contains("message_stop"),
        "{text}"
    );
    let text = ask(&gateway, "/api/chat", &ollama(json!({}))).text();
    assert_eq!(lines(&text).last().expect("lines")["error"], "out of memory");
}

#[test]
fn an_error_in_the_first_line_is_a_status() {
    let origin = Origin::scripted(|talk| {
        talk.send(NDJSON);
        talk.chunk("{\"error\":\"llama runner process has terminated\"}\n");
        talk.end()
    });
    let gateway = before_ollama(&origin);
    for (path, body) in [("/v1/chat/completions", super::chat(true)), ("/api/chat", ollama(json!({})))] {
        let response = ask(&gateway, path, &body);
        assert!(response.status() >= 500, "{path}: {} {}", response.status(), response.text());
    }
}

#[test]
fn errors_have_the_backends_words_in_the_clients_form() {
    let origin = Origin::scripted(|talk| {
        talk.answer(
            "400 Bad Request",
            "Content-Type: application/json\r\n",
            "{\"error\":\"\\\"m\\\" does not support tools\"}",
        )
    });
    let gateway = before_ollama(&origin);
    let told = ask(&gateway, "/v1/chat/completions", &super::chat(true));
    assert_eq!(
        (told.status(), &told.json()["error"]["message"]),
        (400, &json!("\"m\" does not support tools"))
    );
    let told = ask(&gateway, "/v1/messages", &super::messages(true));
    assert_eq!((told.status(), &told.json()["error"]["type"]), (400, &json!("invalid_request_error")));
    let told = ask(&gateway, "/api/chat", &ollama(json!({})));
    assert_eq!((told.status(), told.json()), (400, json!({"error": "\"m\" does not support tools"})));
    let body = "{\"error\":{\"message\":\"too long\",\"type\":\"invalid_request_error\"}}";
    let origin = Origin::scripted(move |talk| {
        talk.answer("400 Bad Request", "Content-Type: application/json\r\n", body)
    });
    let gateway = before_chat(&origin, "");
    let told = ask(&gateway, "/api/chat", &ollama(json!({})));
    assert_eq!((told.status(), told.json()), (400, json!({"error": "too long"})));
    let mut unknown = ollama(json!({}));
    unknown["model"] = json!("nope");
    let told = ask(&gateway, "/api/chat", &unknown);
    assert_eq!(told.status(), 404);
    assert!(told.json()["error"].as_str().is_some_and(|words| words.contains("nope")), "{}", told.text());
}

#[test]
fn the_gateway_says_itself_what_ollamas_clients_probe_for() {
    let origin = Origin::scripted(chat_backend);
    let backend = format!("kind = \"openai\"\nserves = [\"chat\"]\n{QUIET}");
    let config = Config::new()
        .backend("b1", origin.port, &backend)
        .model("m", &["b1"], "context_length = 8192")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    let get = |method: &str, path: &str| {
        let mut client = gateway.connect();
        client.send(
            format!("{method} {path} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {K1}\r\n\r\n")
                .as_bytes(),
        );
        client.answer_to(method == "HEAD", support::PATIENCE).expect("a response")
    };
    let tags = get("GET", "/api/tags").json();
    let tag = &tags["models"][0];
    assert_eq!((&tag["name"], &tag["model"]), (&json!("m"), &json!("m")));
    for member in ["modified_at", "size", "digest", "details"] {
        assert!(!tag[member].is_null(), "{member}: {tag}");
    }
    assert!(
        tag["details"]["families"].is_array()
            && tag["digest"].as_str().is_some_and(|digest| digest.len() == 64)
    );
    for (method, path) in
        [("HEAD", "/ollama"), ("GET", "/ollama/"), ("HEAD", "/ollama/api/tags"), ("GET", "/api/ps")]
    {
        assert_eq!(get(method, path).status(), 200, "{method} {path}");
    }
    assert_eq!(get("GET", "/ollama/").text(), "Ollama is running");
    let version = get("GET", "/ollama/api/version").json();
    let parts: Vec<u32> = version["version"]
        .as_str()
        .expect("a version")
        .split('.')
        .map(|part| part.parse().expect("a number"))
        .collect();
    assert!(parts.len() == 3 && parts > vec![0, 6, 4], "{version}: some clients refuse an older one");
    for body in [json!({"model": "m"}), json!({"name": "m:latest", "verbose": true})] {
        let shown = ask(&gateway, "/ollama/api/show", &body).json();
        let architecture = shown["model_info"]["general.architecture"].as_str().expect("an architecture");
        assert_eq!(shown["model_info"][format!("{architecture}.context_length")], 8192);
        assert!(shown["capabilities"].as_array().is_some_and(|all| all.contains(&json!("tools"))), "{shown}");
    }
    let unknown = ask(&gateway, "/api/show", &json!({"model": "x"}));
    assert_eq!((unknown.status(), unknown.json()["error"].is_string()), (404, true));
    assert_eq!(ask(&gateway, "/api/show", &json!({})).status(), 400);
    assert!(origin.seen().is_empty(), "no backend is asked");
}

#[test]
fn a_client_that_leaves_stops_the_backend() {
    let origin = Origin::scripted(|talk| {
        talk.send(NDJSON);
        talk.chunk("{\"message\":{\"role\":\"assistant\",\"content\":\"on and on\"},\"done\":false}\n");
        assert!(talk.gone(support::PATIENCE), "the backend was not told");
        Next::Close
    });
    let gateway = before_ollama(&origin);
    for (path, body) in [("/api/chat", ollama(json!({}))), ("/v1/chat/completions", super::chat(true))] {
        let mut client = gateway.connect();
        client.send(&post(path, "", &body.to_string()));
        client.read_until("on and on");
        client.reset();
        assert!(
            eventually(support::PATIENCE, || origin.open() == 0),
            "{path}: the backend's connection is closed"
        );
    }
}

#[test]
fn a_client_that_asked_for_a_stream_gets_one_of_a_whole_response() {
    let origin = Origin::scripted(|talk| {
        let whole = json!({"model": "q", "created_at": "2026-11-30T00:00:00Z", "message": {"role": "assistant", "content": "whole"},
            "done": true, "done_reason": "stop", "prompt_eval_count": 1, "eval_count": 2});
        talk.answer("200 OK", "Content-Type: application/json\r\n", &format!("{whole:#}"))
    });
    let gateway = before_ollama(&origin);
    let response = ask(&gateway, "/api/chat", &ollama(json!({})));
    assert_eq!(response.one("content-type"), "application/x-ndjson");
    let lines = lines(&response.text());
    assert_eq!((lines.len(), &lines[0]["message"]["content"]), (1, &json!("whole")));
    let text = ask(&gateway, "/v1/chat/completions", &super::chat(true)).text();
    assert_eq!(sse::judge(&text), ("whole".to_owned(), sse::Ending::Finished), "{text}");
}

#[test]
fn vectors_of_any_backend_come_in_ollamas_form() {
    let origin = Origin::scripted(|talk| {
        assert_eq!(talk.request.target(), "/v1/embeddings");
        assert_eq!(
            talk.request.json()["input"],
            json!(["a", "b"][..talk.request.json()["input"].as_array().map_or(0, Vec::len)])
        );
        let count = talk.request.json()["input"].as_array().map_or(0, Vec::len);
        let data: Vec<Value> = (0..count)
            .map(|at| json!({"object": "embedding", "index": at, "embedding": [at, 0.5]}))
            .collect();
        let body = json!({"object": "list", "data": data, "model": "e", "usage": {"prompt_tokens": 7, "total_tokens": 7}});
        talk.answer("200 OK", "Content-Type: application/json\r\n", &body.to_string())
    });
    let backend = format!("kind = \"openai\"\nserves = [\"embeddings\"]\n{QUIET}");
    let config =
        Config::new().backend("b1", origin.port, &backend).model("m", &["b1"], "").key("one", K1, "");
    let gateway = Gateway::start(&config);
    let response = ask(&gateway, "/api/embed", &json!({"model": "m", "input": ["a", "b"], "truncate": true}));
    assert_eq!((response.status(), response.one("x-ringway-dropped").as_str()), (200, "truncate"));
    let told = response.json();
    assert_eq!((&told["embeddings"], &told["prompt_eval_count"]), (&json!([[0, 0.5], [1, 0.5]]), &json!(7)));
    counted(&gateway, 7.0);
    let told = ask(&gateway, "/ollama/api/embeddings", &json!({"model": "m:latest", "prompt": "a"})).json();
    assert_eq!(told, json!({"embedding": [0, 0.5]}));
}

#[test]
fn a_request_without_a_prompt_loads_the_model_and_asks_nobody() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "");
    for (path, body, reason) in [
        ("/api/chat", json!({"model": "m"}), "load"),
        ("/api/generate", json!({"model": "m", "stream": false, "keep_alive": "5m"}), "load"),
        ("/api/generate", json!({"model": "m", "keep_alive": 0}), "unload"),
    ] {
        let response = ask(&gateway, path, &body);
        let label = if body["stream"] == false { "application/json" } else { "application/x-ndjson" };
        assert_eq!((response.status(), response.one("content-type").as_str()), (200, label), "{path}");
        let told = response.json();
        assert_eq!(
            (&told["done"], &told["done_reason"], &told["model"]),
            (&json!(true), &json!(reason), &json!("m"))
        );
    }
    assert!(origin.seen().is_empty());
    let origin = Origin::scripted(|talk| {
        talk.answer(
            "200 OK",
            "Content-Type: application/json\r\n",
            "{\"model\":\"m\",\"done\":true,\"done_reason\":\"load\"}",
        )
    });
    let gateway = before_ollama(&origin);
    assert_eq!(ask(&gateway, "/api/generate", &json!({"model": "m"})).json()["done_reason"], "load");
    assert_eq!(origin.seen().len(), 1, "Ollama itself has such requests");
}

#[test]
fn a_server_that_streams_unasked_is_told_as_a_whole_response() {
    let origin = Origin::scripted(|talk| {
        talk.send(NDJSON);
        for line in stream_lines() {
            talk.chunk(line);
        }
        talk.end()
    });
    let gateway = before_ollama(&origin);
    let told = ask(&gateway, "/v1/chat/completions", &super::chat(false)).json();
    assert_eq!(told["choices"][0]["message"]["content"], "Hello \u{e9}\u{2028}");
    assert_eq!(told["usage"]["total_tokens"], 13);
}
