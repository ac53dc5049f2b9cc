//! Ollama's own API on both sides; `ollama_backends` and `ollama_clients`: on one of them.

use std::time::Duration;

use serde_json::{Value, json};

use support::eventually;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk};
use support::sse;
use support::strict::Message;

use super::{QUIET, ask, before_chat, post};

pub(super) const NDJSON: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A gateway whose model `m` is served by Ollama under the name `qwen3:8b`.
pub(super) fn before_ollama(origin: &Origin) -> Gateway {
    let config = Config::new()
        .backend("b1", origin.port, &format!("kind = \"ollama\"\n{QUIET}"))
        .model("m", &["b1"], "")
        .key("one", K1, "");
    Gateway::start(&config)
}

pub(super) fn ollama(more: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "system", "content": "Be exact."}, {"role": "user", "content": "Hi"}]});
    more.as_object().expect("an object").iter().for_each(|(key, value)| body[key] = value.clone());
    body
}

pub(super) fn lines(text: &str) -> Vec<Value> {
    assert!(!text.contains("\n\n") && !text.starts_with('\n'), "no blank line: {text:?}");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// The lines of a response as Ollama sends it.
pub(super) fn stream_lines() -> Vec<String> {
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
pub(super) fn ollama_backend(talk: &mut Talk) -> Next {
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
        talk.pause(Duration::from_millis(1));
    }
    talk.end()
}

pub(super) fn counted(gateway: &Gateway, tokens: f64) {
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
            talk.pause(Duration::from_millis(2)); // or both arrive in one read
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
fn a_last_line_without_its_line_end_is_whole_where_the_connection_closes() {
    const CLOSED: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n";
    for cut in [false, true] {
        let origin = Origin::scripted(move |talk| {
            let stream = stream_lines().concat();
            let kept = stream.len() - if cut { 3 } else { 1 };
            let (first, last) = stream[..kept].split_at(stream.len() - 30);
            talk.send(CLOSED);
            talk.send(first);
            talk.pause(Duration::from_millis(5));
            talk.send(last);
            Next::Close
        });
        let gateway = before_ollama(&origin);
        for (path, body) in [("/api/chat", ollama(json!({}))), ("/v1/chat/completions", super::chat(true))] {
            let mut client = gateway.connect();
            client.send(&post(path, "Connection: close\r\n", &body.to_string()));
            let outcome = client.finish(&[], support::PATIENCE);
            let response = outcome.answers.first().or(outcome.cut.as_ref()).expect("a response");
            let text = response.text();
            let is_whole = match path {
                "/api/chat" => text.contains("\"done\":true") && !text.contains("\"error\""),
                _ => text.ends_with(sse::DONE),
            };
            assert_eq!(is_whole, !cut, "{path}: {text}");
        }
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
