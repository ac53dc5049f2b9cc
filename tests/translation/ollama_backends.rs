//! Ollama on the backend's side.

use super::ollama::*;
use super::*;

#[test]
fn an_openai_client_streams_from_ollama() {
    let origin = Origin::scripted(ollama_backend);
    let gateway = before_ollama(&origin);
    let mut body = chat(true);
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
    let told = ask(&gateway, "/v1/chat/completions", &chat(false)).json();
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
    let told = ask(&gateway, "/v1/messages", &messages(false)).json();
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
    let events = events(&ask(&gateway, "/v1/messages", &messages(true)).text());
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
fn an_error_line_is_an_error_for_every_client() {
    let origin = Origin::scripted(|talk| {
        talk.send(NDJSON);
        talk.chunk("{\"message\":{\"role\":\"assistant\",\"content\":\"half\"},\"done\":false}\n");
        talk.pause(Duration::from_millis(30));
        talk.chunk("{\"error\":\"out of memory\"}\n");
        talk.end()
    });
    let gateway = before_ollama(&origin);
    let text = ask(&gateway, "/v1/chat/completions", &chat(true)).text();
    assert!(
        text.contains("out of memory")
            && !text.contains("[DONE]")
            && !text.contains("\"finish_reason\":\"stop\""),
        "{text}"
    );
    let text = ask(&gateway, "/v1/messages", &messages(true)).text();
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
    for (path, body) in [("/v1/chat/completions", chat(true)), ("/api/chat", ollama(json!({})))] {
        let response = ask(&gateway, path, &body);
        assert!(response.status() >= 500, "{path}: {} {}", response.status(), response.text());
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
    let text = ask(&gateway, "/v1/chat/completions", &chat(true)).text();
    assert_eq!(sse::judge(&text), ("whole".to_owned(), sse::Ending::Finished), "{text}");
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
    let told = ask(&gateway, "/v1/chat/completions", &chat(false)).json();
    assert_eq!(told["choices"][0]["message"]["content"], "Hello \u{e9}\u{2028}");
    assert_eq!(told["usage"]["total_tokens"], 13);
}
