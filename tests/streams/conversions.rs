//! Answers in another shape than was asked for: a body for a stream, numbers for base64.

use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, completion};
use support::strict::{Framing, Message};
use support::{J, PATIENCE, chat};

const ASK: &str = r#"{"model":"m","messages":[],"stream":true}"#;
const ASK_USAGE: &str =
    r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
const JSON: &str = "Content-Type: application/json\r\nConnection: X-Mine\r\nX-Mine: 1\r\nX-Kept: 1\r\n";

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&Config::simple(origin.port))
}

fn ask(gateway: &Gateway, body: &str) -> Message {
    let mut client = gateway.connect();
    client.send(&chat(K1, "x", body));
    client.answer().expect("an answer")
}

fn embed(gateway: &Gateway, body: &str) -> Message {
    let head = support::chat_head(K1, "x").replace("/v1/chat/completions", "/v1/embeddings");
    let mut client = gateway.connect();
    client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    client.answer().expect("an answer")
}

/// C16: a backend that ignores `stream`. The body may come in any pieces.
#[test]
fn a_body_for_a_stream_is_told_as_one() {
    let origin = Origin::scripted(|talk| talk.answer("200 OK", JSON, &completion("hello")));
    let dripping = Origin::scripted(|talk| {
        talk.send(format!("HTTP/1.1 200 OK\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n"));
        for piece in completion("hello").as_bytes().chunks(7) {
            talk.pause(std::time::Duration::from_millis(2));
            talk.chunk(piece);
        }
        talk.end()
    });
    for origin in [origin, dripping] {
        let gateway = gateway(&origin);
        let mut client = gateway.connect();
        for (body, usage) in [(ASK, 0), (ASK_USAGE, 1)] {
            client.send(&chat(K1, "x", body));
            let answer = client.answer().expect("an answer");
            assert_eq!(answer.status(), 200, "{answer:?}");
            assert!(answer.one("content-type").starts_with("text/event-stream"), "{answer:?}");
            assert_eq!((answer.has("x-mine"), answer.has("x-kept")), (false, true), "{answer:?}");
            assert_eq!(answer.framing, Framing::Chunked, "{answer:?}");
            let text = answer.text();
            assert!(
                text.contains("\"content\":\"hello\"") && text.contains("\"finish_reason\":\"stop\""),
                "{text}"
            );
            assert_eq!(text.matches("\"prompt_tokens\":3").count(), usage, "{text}");
            assert!(text.ends_with("data: [DONE]\n\n") && text.matches("[DONE]").count() == 1, "{text}");
        }
        let tokens = || gateway.metric("gen_ai_client_token_usage_sum", "input");
        assert!(support::eventually(PATIENCE, || tokens() == 6.0), "{} input tokens", tokens());
        assert_eq!(gateway.metric("ringway_responses_converted_total", ""), 2.0);
        assert_eq!(gateway.metric("ringway_backend_dials_total", ""), 1.0, "its connection is kept");
    }
}

/// What is not understood passes as it came: errors, other shapes, other labels, codings.
#[test]
fn what_cannot_be_told_passes_untouched() {
    for (status, fields, body) in [
        ("200 OK", "Content-Type: application/json\r\n", r#"{"object":"chat.completion","choices":[]}"#),
        ("200 OK", "Content-Type: application/json\r\n", r#"{"x":1}"#),
        ("200 OK", "Content-Type: text/plain\r\n", r#"{"x":1}"#),
        ("200 OK", "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "\u{1f}"),
        ("400 Bad Request", "Content-Type: application/json\r\n", r#"{"error":{"message":"no"}}"#),
    ] {
        let origin = Origin::scripted(move |talk| talk.answer(status, fields, body));
        let gateway = gateway(&origin);
        let answer = ask(&gateway, ASK);
        assert_eq!((answer.text(), answer.status().to_string()), (body.to_owned(), status[..3].to_owned()));
        assert_eq!(gateway.metric("ringway_responses_converted_total", ""), 0.0);
    }
}

/// A body that is cut is no answer at all: nothing has been said yet, so the client gets an error.
#[test]
fn a_cut_body_becomes_no_stream() {
    let origin = Origin::scripted(|talk| {
        let body = completion("hello");
        let head = format!("HTTP/1.1 200 OK\r\n{JSON}Content-Length: {}\r\n\r\n", body.len());
        talk.send(format!("{head}{}", &body[..body.len() - 9]));
        Next::Close
    });
    let answer = ask(&gateway(&origin), ASK);
    assert!(answer.status() >= 500, "{answer:?}");
    assert!(answer.json()["error"]["message"].is_string(), "{answer:?}");
}

/// A body longer than the limit is not held: what came is passed, and the rest behind it.
#[test]
fn a_body_beyond_the_limit_passes_as_it_came() {
    let long = completion(&"x".repeat(200_000));
    let origin = Origin::scripted({
        let long = long.clone();
        move |talk| talk.answer("200 OK", JSON, &long)
    });
    let config = Config::simple(origin.port).tables("[limits]\nbody = \"64KiB\"\nbody_buffer = \"64KiB\"");
    let answer = ask(&Gateway::start(&config), ASK);
    assert!(answer.text() == long, "{} bytes of {}", answer.body.len(), long.len());
    assert!(answer.one("content-type").starts_with("application/json"), "{answer:?}");
}

/// Nobody who asked for no stream gets one.
#[test]
fn a_body_that_was_asked_for_is_not_touched() {
    let body = completion("hello");
    let origin = Origin::scripted(|talk| talk.answer("200 OK", JSON, &completion("hello")));
    assert_eq!(ask(&gateway(&origin), J).text(), body);
}

/// A15: the SDKs ask for base64, and the one for Node reads numbers as an empty vector.
#[test]
fn numbers_become_base64_where_it_was_asked_for() {
    let body = r#"{"object":"list","data":[{"embedding":[0.5, 1e0],"index":0}],"usage":{"prompt_tokens":2,"total_tokens":2}}"#;
    let origin = Origin::scripted(move |talk| talk.answer("200 OK", JSON, body));
    let gateway = gateway(&origin);
    let packed = embed(&gateway, r#"{"model":"m","input":"a","encoding_format":"base64"}"#);
    assert_eq!(packed.text(), body.replace("[0.5, 1e0]", "\"AAAAPwAAgD8=\""));
    for plain in [r#"{"model":"m","input":"a","encoding_format":"float"}"#, r#"{"model":"m","input":"a"}"#] {
        assert_eq!(embed(&gateway, plain).text(), body);
    }
    let counted = || gateway.metric("ringway_responses_converted_total", "");
    assert!(support::eventually(PATIENCE, || counted() == 1.0), "{}", counted());
}
