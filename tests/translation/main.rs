//! Clients and backends that speak different dialects: here Anthropic's Messages on one side and chat completions on the other;
//! `gemini_clients` and `gemini_backends`: Google's API on one side, each of the others on the other; `ollama`, `ollama_backends`,
//! `ollama_clients`: Ollama's on both sides or on one; `converse`: Amazon Bedrock's behind each of the others.

mod converse;
mod gemini_backends;
mod gemini_clients;
mod ollama;
mod ollama_backends;
mod ollama_clients;

use std::time::Duration;

use serde_json::{Value, json};

use support::client::Client;
use support::eventually;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk};
use support::sse;
use support::strict::Message;

const QUIET: &str = "health = { enabled = false }";

/// A gateway whose model `m` is served by chat completions only.
fn before_chat(origin: &Origin, more: &str) -> Gateway {
    let backend = format!("kind = \"openai\"\nserves = [\"chat\"]\n{QUIET}");
    let config = Config::new()
        .backend("b1", origin.port, &backend)
        .model("m", &["b1"], "")
        .key("one", K1, "")
        .top("debug_headers = true")
        .tables(more);
    Gateway::start(&config)
}

/// A gateway whose model `m` is served by Anthropic's API only.
fn before_messages(origin: &Origin) -> Gateway {
    let backend = format!("kind = \"anthropic\"\n{QUIET}");
    let config =
        Config::new().backend("b1", origin.port, &backend).model("m", &["b1"], "").key("one", K1, "");
    Gateway::start(&config)
}

fn post(path: &str, lines: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {K1}\r\n{lines}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn ask(gateway: &Gateway, path: &str, body: &Value) -> Message {
    let mut client = gateway.connect();
    client.send(&post(
        path,
        "anthropic-version: 2023-06-01\r\nanthropic-beta: x-2026\r\n",
        &body.to_string(),
    ));
    client.answer().expect("a response")
}

fn messages(stream: bool) -> Value {
    json!({"model": "m", "max_tokens": 64, "stream": stream, "system": "Be exact.",
        "messages": [{"role": "user", "content": "Hi"}], "context_management": {}})
}

fn chat(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "messages": [{"role": "system", "content": "Be exact."},
        {"role": "user", "content": "Hi"}]})
}

/// The events of a stream in Anthropic's dialect: name and data.
fn events(text: &str) -> Vec<(String, Value)> {
    let read = |event: &str| {
        let (name, data) = event.strip_prefix("event: ")?.split_once("\ndata: ")?;
        Some((name.to_owned(), serde_json::from_str(data).expect("JSON")))
    };
    text.split("\n\n").filter(|event| !event.is_empty()).map(|event| read(event).expect(event)).collect()
}

/// A chat backend that says `Hello`, thinks and calls a tool.
fn chat_backend(talk: &mut Talk) -> Next {
    let body = talk.request.json();
    assert!(!talk.request.has("anthropic-version") && !talk.request.has("anthropic-beta"));
    assert_eq!(body["messages"][0], json!({"role": "system", "content": "Be exact."}));
    assert!(body.get("context_management").is_none(), "{body}");
    if body["stream"] != true {
        let message = json!({"role": "assistant", "content": "Hello", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": "{\"at\":\"/\"}"}}]});
        let whole = json!({"id": "chatcmpl-1", "model": "b", "choices": [{"index": 0, "message": message,
            "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}});
        return talk.answer("200 OK", "Content-Type: application/json\r\n", &whole.to_string());
    }
    assert_eq!(body["stream_options"]["include_usage"], true);
    talk.stream();
    talk.chunk(sse::content("Hel"));
    // Cut within a record, and within a character.
    let rest = sse::content("lo \u{e9}");
    let (first, second) = rest.as_bytes().split_at(rest.find('\u{e9}').expect("it is there") + 1);
    talk.chunk(first);
    talk.pause(Duration::from_millis(20));
    talk.chunk(second);
    let call = "{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"function\":{\"name\":\"ls\",\"arguments\":\"{}\"}}]}}";
    talk.chunk(format!("data: {{\"choices\":[{call}]}}\n\n"));
    talk.chunk(sse::finish());
    talk.chunk(sse::usage(9, 4));
    talk.chunk(sse::DONE);
    talk.end()
}

#[test]
fn an_anthropic_client_streams_from_a_chat_backend() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "");
    let response = ask(&gateway, "/v1/messages?beta=true", &messages(true));
    assert_eq!((response.status(), response.one("content-type").as_str()), (200, "text/event-stream"));
    assert!(!response.one("request-id").is_empty());
    assert_eq!(response.one("x-ringway-dropped"), "context_management");
    let events = events(&response.text());
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names.first(), names.last()), (Some(&"message_start"), Some(&"message_stop")));
    let text: String = events.iter().filter_map(|(_, data)| data["delta"]["text"].as_str()).collect();
    assert_eq!(text, "Hello \u{e9}");
    let delta = &events.iter().find(|(name, _)| name == "message_delta").expect("a message_delta").1;
    assert_eq!(delta["delta"]["stop_reason"], "tool_use");
    assert_eq!((&delta["usage"]["input_tokens"], &delta["usage"]["output_tokens"]), (&json!(9), &json!(4)));
    assert_eq!(origin.seen()[0].request.target(), "/v1/chat/completions");
    let counted = eventually(support::PATIENCE, || gateway.metric("ringway_model_tokens_total", "") >= 13.0);
    assert!(counted, "the tokens are counted");
}

#[test]
fn an_anthropic_client_gets_a_whole_message_from_a_chat_backend() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "");
    let told = ask(&gateway, "/v1/messages", &messages(false)).json();
    assert_eq!((&told["type"], &told["stop_reason"]), (&json!("message"), &json!("tool_use")));
    assert_eq!(told["content"][0], json!({"type": "text", "text": "Hello"}));
    assert_eq!(told["content"][1]["input"], json!({"at": "/"}));
    assert_eq!(told["usage"]["input_tokens"], 9);
}

#[test]
fn a_backend_that_ignores_the_wish_for_a_stream_is_told_as_one() {
    let origin = Origin::scripted(|talk| {
        talk.answer("200 OK", "Content-Type: application/json\r\n", &support::origin::completion("whole"))
    });
    let gateway = before_chat(&origin, "");
    let response = ask(&gateway, "/v1/messages", &messages(true));
    assert!(response.one("content-type").starts_with("text/event-stream"));
    let events = events(&response.text());
    assert_eq!(events.last().expect("events").0, "message_stop");
    assert!(response.text().contains("\"text\":\"whole\""));
}

/// Anthropic's API, saying `Hello`.
fn messages_backend(talk: &mut Talk) -> Next {
    let body = talk.request.json();
    assert_eq!(talk.request.one("anthropic-version"), "2023-06-01");
    assert_eq!(body["system"][0]["text"], "Be exact.");
    assert!(body["max_tokens"].as_u64().is_some_and(|most| most > 0));
    let usage = json!({"input_tokens": 3, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 2, "output_tokens": 5});
    if body["stream"] != true {
        let whole = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "b", "stop_reason": "end_turn",
            "stop_sequence": null, "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}], "usage": usage});
        return talk.answer("200 OK", "Content-Type: application/json\r\n", &whole.to_string());
    }
    talk.stream();
    let event = |name: &str, data: Value| format!("event: {name}\ndata: {data}\n\n");
    let start = json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
        "model": "b", "content": [], "stop_reason": null, "usage": {"input_tokens": 3, "output_tokens": 1}}});
    talk.chunk(event("message_start", start));
    talk.chunk(event("ping", json!({"type": "ping"})));
    talk.chunk(event(
        "content_block_start",
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    ));
    for text in ["Hel", "lo"] {
        let delta =
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
        talk.chunk(event("content_block_delta", delta));
    }
    talk.chunk(event("content_block_stop", json!({"type": "content_block_stop", "index": 0})));
    talk.chunk(event(
        "message_delta",
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}),
    ));
    talk.chunk(event("message_stop", json!({"type": "message_stop"})));
    talk.end()
}

#[test]
fn an_openai_client_streams_from_anthropic_with_usage_only_if_it_asked() {
    let origin = Origin::scripted(messages_backend);
    let gateway = before_messages(&origin);
    for asks in [false, true] {
        let mut body = chat(true);
        if asks {
            body["stream_options"] = json!({"include_usage": true});
        }
        let response = ask(&gateway, "/v1/chat/completions", &body);
        let text = response.text();
        assert_eq!(sse::judge(&text), ("Hello".to_owned(), sse::Ending::Finished), "{text}");
        assert_eq!(text.contains("\"prompt_tokens\":15"), asks, "{text}");
    }
    assert!(
        eventually(support::PATIENCE, || gateway.metric("ringway_model_tokens_total", "") >= 40.0),
        "both are counted"
    );
}

#[test]
fn an_openai_client_gets_a_whole_completion_from_anthropic() {
    let origin = Origin::scripted(messages_backend);
    let gateway = before_messages(&origin);
    let told = ask(&gateway, "/v1/chat/completions", &chat(false)).json();
    assert_eq!(told["choices"][0]["message"]["content"], "Hello");
    assert_eq!(told["choices"][0]["finish_reason"], "stop");
    assert_eq!((&told["usage"]["prompt_tokens"], &told["usage"]["total_tokens"]), (&json!(15), &json!(20)));
    assert_eq!(told["usage"]["prompt_tokens_details"]["cached_tokens"], 10);
}

#[test]
fn errors_come_in_the_clients_dialect_with_the_backends_words() {
    let origin = Origin::scripted(|talk| {
        let body = "{\"error\":{\"message\":\"messages: at least one\",\"type\":\"invalid_request_error\",\"code\":null}}";
        talk.answer("400 Bad Request", "Content-Type: application/json\r\n", body)
    });
    let gateway = before_chat(&origin, "");
    let response = ask(&gateway, "/v1/messages", &messages(true));
    assert_eq!(response.status(), 400);
    let told = response.json();
    assert_eq!((&told["type"], &told["error"]["type"]), (&json!("error"), &json!("invalid_request_error")));
    assert!(told["error"]["message"].as_str().is_some_and(|said| said.contains("at least one")), "{told}");
}

/// An error in a coding cannot be read; what takes its place is plain, and says so.
#[test]
fn an_error_in_a_content_coding_is_told_plainly() {
    for coding in ["gzip", "br", "identity"] {
        let origin = Origin::scripted(move |talk| {
            let fields = format!("Content-Type: application/json\r\nContent-Encoding: {coding}\r\n");
            talk.answer("400 Bad Request", &fields, "\u{1f}not what it says")
        });
        let gateway = before_chat(&origin, "");
        for stream in [true, false] {
            let response = ask(&gateway, "/v1/messages", &messages(stream));
            assert_eq!(response.status(), 400, "{coding}: {response:?}");
            assert!(!response.has("content-encoding"), "{coding}: {response:?}");
            assert_eq!(response.json()["type"], "error", "{coding}: {response:?}");
        }
    }
}

#[test]
fn a_stream_that_dies_has_no_end_in_the_clients_dialect() {
    for (name, dies) in [("close", Next::Close), ("reset", Next::Reset), ("end", Next::Keep)] {
        let origin = Origin::scripted(move |talk| {
            talk.stream();
            talk.chunk(sse::content("half"));
            talk.pause(Duration::from_millis(30));
            if dies == Next::Keep { talk.end() } else { dies }
        });
        let gateway = before_chat(&origin, "");
        let mut client = gateway.connect();
        client.send(&post("/v1/messages", "", &messages(true).to_string()));
        let outcome = client.finish(&[], support::PATIENCE);
        let response = outcome.answers.first().or(outcome.cut.as_ref()).expect("a response");
        let text = response.text();
        assert!(text.contains("half") && text.contains("event: error"), "{name}: {text}");
        assert!(
            !text.contains("message_stop") && !text.contains("stop_reason\":\"end_turn"),
            "{name}: {text}"
        );
    }
}

#[test]
fn what_cannot_be_translated_is_refused_by_name_and_asks_nobody() {
    let origin = Origin::scripted(messages_backend);
    let gateway = before_messages(&origin);
    let mut body = chat(false);
    body["n"] = json!(2);
    let response = ask(&gateway, "/v1/chat/completions", &body);
    assert_eq!(response.status(), 400);
    assert!(response.text().contains("'n'") && response.text().contains("unsupported_parameter"));
    assert!(origin.seen().is_empty());
}

#[test]
fn requests_that_an_api_cannot_say_trip_no_breaker() {
    let origin = Origin::scripted(messages_backend);
    let gateway = before_messages(&origin);
    let mut body = chat(false);
    body["n"] = json!(2);
    for _ in 0..12 {
        assert_eq!(ask(&gateway, "/v1/chat/completions", &body).status(), 400);
    }
    assert!(origin.seen().is_empty());
    let response = ask(&gateway, "/v1/chat/completions", &chat(false));
    assert_eq!(response.status(), 200, "{}", response.text());
}

#[test]
fn a_request_that_one_backends_api_cannot_say_goes_to_one_whose_api_can() {
    let anthropic = Origin::scripted(messages_backend);
    let native = Origin::scripted(|talk| {
        talk.answer("200 OK", "Content-Type: application/json\r\n", &support::origin::completion("native"))
    });
    let config = Config::new()
        .backend("hosted", anthropic.port, &format!("kind = \"anthropic\"\n{QUIET}"))
        .backend("gpu", native.port, &format!("kind = \"openai\"\nserves = [\"chat\"]\n{QUIET}"))
        .model("mixed", &["hosted", "gpu"], "policy = \"round_robin\"")
        .model("first", &["hosted"], "fallbacks = [\"spare\"]")
        .model("spare", &["gpu"], "")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    for model in ["mixed", "first"] {
        let mut body = chat(false);
        (body["model"], body["n"]) = (json!(model), json!(2));
        for _ in 0..40 {
            let response = ask(&gateway, "/v1/chat/completions", &body);
            assert_eq!(response.status(), 200, "{model}: {}", response.text());
        }
    }
    assert!(anthropic.seen().is_empty());
    assert_eq!(native.seen().len(), 80);
}

#[test]
fn a_member_that_would_be_lost_is_dropped_or_refused_as_the_operator_says() {
    let chat = Origin::scripted(|talk| match talk.request.has("anthropic-version") {
        true => talk.answer(
            "200 OK",
            "Content-Type: application/json\r\n",
            &support::origin::completion("as it is"),
        ),
        false => chat_backend(talk),
    });
    let anthropic = Origin::scripted(messages_backend);
    let config = Config::new()
        .top("on_loss = \"refuse\"")
        .backend("gpu", chat.port, &format!("kind = \"openai\"\nserves = [\"chat\"]\n{QUIET}"))
        .backend("hosted", anthropic.port, &format!("kind = \"anthropic\"\n{QUIET}"))
        .model("m", &["hosted"], "")
        .model("agents", &["gpu"], "")
        .model("lenient", &["hosted"], "on_loss = \"drop\"")
        .model("spared", &["hosted"], "fallbacks = [\"agents\"]")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    let mut body = self::chat(false);
    (body["seed"], body["logit_bias"]) = (json!(7), json!({"5": 1}));
    let response = ask(&gateway, "/v1/chat/completions", &body);
    assert_eq!(response.status(), 400, "{}", response.text());
    let told = response.json();
    assert_eq!(told["error"]["code"], "unsupported_parameter", "{told}");
    let words = told["error"]["message"].as_str().expect("words");
    assert!(words.contains("'seed'") && words.contains("'logit_bias'"), "{told}");
    assert!(anthropic.seen().is_empty());
    body["model"] = json!("lenient");
    let response = ask(&gateway, "/v1/chat/completions", &body);
    assert_eq!((response.status(), response.one("x-ringway-dropped").as_str()), (200, "logit_bias, seed"));
    // What agents always send refuses nothing.
    let mut agents = messages(false);
    (agents["model"], agents["metadata"]) = (json!("agents"), json!({"user_id": "u", "more": 1}));
    let response = ask(&gateway, "/v1/messages", &agents);
    assert_eq!(response.status(), 200, "{}", response.text());
    assert_eq!(response.one("x-ringway-dropped"), "context_management, metadata");
    // A model whose backend can say it may stand in.
    body["model"] = json!("spared");
    assert_eq!(ask(&gateway, "/v1/chat/completions", &body).status(), 200);
}

#[test]
fn tokens_are_counted_here_where_the_backend_cannot() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "");
    let response = ask(&gateway, "/v1/messages/count_tokens", &messages(false));
    assert_eq!(response.status(), 200);
    assert!(response.json()["input_tokens"].as_u64().is_some_and(|count| (10..200).contains(&count)));
    assert!(origin.seen().is_empty(), "no backend is asked");
}

#[test]
fn a_fallback_may_speak_another_dialect() {
    let chat = Origin::scripted(|talk| talk.answer("500 Internal Server Error", "", ""));
    let anthropic = Origin::scripted(messages_backend);
    let config = Config::new()
        .backend("gpu", chat.port, &format!("kind = \"vllm\"\nserves = [\"chat\"]\n{QUIET}"))
        .backend("hosted", anthropic.port, &format!("kind = \"anthropic\"\n{QUIET}"))
        .model("m", &["gpu"], "fallbacks = [\"spare\"]")
        .model("spare", &["hosted"], "")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    let told = ask(&gateway, "/v1/chat/completions", &self::chat(false)).json();
    assert_eq!(told["choices"][0]["message"]["content"], "Hello");
    let text = ask(&gateway, "/v1/chat/completions", &self::chat(true)).text();
    assert_eq!(sse::judge(&text), ("Hello".to_owned(), sse::Ending::Finished));
}

#[test]
fn a_client_that_leaves_a_translated_stream_stops_the_backend() {
    let origin = Origin::scripted(|talk| {
        talk.stream();
        talk.chunk(sse::content("on and on"));
        assert!(talk.gone(support::PATIENCE), "the backend was not told");
        Next::Close
    });
    let gateway = before_chat(&origin, "");
    let mut client: Client = gateway.connect();
    client.send(&post("/v1/messages", "", &messages(true).to_string()));
    client.read_until("on and on");
    client.reset();
    assert!(eventually(support::PATIENCE, || origin.open() == 0), "the backend's connection is closed");
}

#[test]
fn a_responses_client_streams_from_a_chat_backend() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "");
    let body = json!({"model": "m", "stream": true, "instructions": "Be exact.", "store": false,
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]});
    let text = ask(&gateway, "/v1/responses", &body).text();
    let events = events(&text);
    let numbers: Vec<u64> = events.iter().filter_map(|(_, data)| data["sequence_number"].as_u64()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>(), "{text}");
    let (last, completed) = events.last().expect("events");
    assert_eq!(last, "response.completed");
    let output = completed["response"]["output"].as_array().expect("an output");
    assert_eq!(output[0]["content"][0]["text"], "Hello \u{e9}");
    assert_eq!(
        (&output[1]["name"], &output[1]["call_id"], &output[1]["arguments"]),
        (&json!("ls"), &json!("c1"), &json!("{}"))
    );
    assert_eq!(completed["response"]["usage"]["total_tokens"], 13);
    assert!(events.iter().filter(|(name, _)| name == "response.output_item.done").count() == 2, "{text}");
}

#[test]
fn state_that_no_chat_backend_has_is_refused_by_name() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "");
    let body = json!({"model": "m", "input": "Hi", "previous_response_id": "resp_1"});
    let response = ask(&gateway, "/v1/responses", &body);
    assert_eq!(response.status(), 400, "{}", response.text());
    assert!(response.text().contains("previous_response_id"), "{}", response.text());
    assert!(origin.seen().is_empty());
}
