//! What a request is taken to cost before its backend has counted: images are no text, and a cap is no cost.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::gateway::{Config, Gateway, K1};
use support::origin::Origin;
use support::strict::Message;
use support::{PATIENCE, chat, eventually, nonce};

fn start(origin: &Origin, key: &str) -> Gateway {
    let more = "kind = \"vllm\"\nserves = [\"chat\", \"responses\", \"messages\", \"embeddings\"]\nhealth = { enabled = false }";
    Gateway::start(
        &Config::new().backend("b1", origin.port, more).model("m", &["b1"], "").key("one", K1, key),
    )
}

fn post(gateway: &Gateway, path: &str, body: &str) -> Message {
    let mut client = gateway.connect();
    let length = body.len();
    client.send(
        format!(
            "POST {path} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {K1}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .as_bytes(),
    );
    client.answer().expect("a response")
}

fn remaining(message: &Message) -> u64 {
    message.one("x-ratelimit-remaining-tokens").parse().expect("tokens that are left")
}

/// 600 KiB of base64 that starts like a PNG of 1024 x 1024 pixels.
fn png() -> String {
    let mut text = "iVBORw0KGgoAAAANSUhEUgAABAAAAAQA".to_owned();
    while text.len() < 600 << 10 {
        let _ = write!(text, "{:016x}", text.len().wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    text.truncate(600 << 10);
    text
}

fn user(part: &str) -> String {
    format!(
        r#"{{"model":"m","max_tokens":50,"max_output_tokens":50,"messages":[{{"role":"user","content":[{{"type":"text","text":"look"}},{part}]}}]}}"#
    )
}

/// An image costs what its pixels cost, so that a key with 200,000 tokens a minute can send many of them.
#[test]
fn an_image_of_600_kib_is_not_150_000_tokens() {
    let origin = Origin::start();
    let gateway = start(&origin, "tokens_per_minute = 200000");
    let png = png();
    let data = format!("data:image/png;base64,{png}");
    let responses = format!(
        r#"{{"model":"m","max_output_tokens":50,"input":[{{"role":"user","content":[{{"type":"input_image","image_url":"{data}"}}]}}]}}"#
    );
    let bodies = [
        ("/v1/chat/completions", user(&format!(r#"{{"type":"image_url","image_url":{{"url":"{data}"}}}}"#))),
        (
            "/v1/chat/completions",
            user(&format!(r#"{{"type":"image_url","image_url":{{"url":"{}"}}}}"#, data.replace('/', r"\/"))),
        ),
        ("/v1/responses", responses),
        (
            "/v1/messages",
            user(&format!(
                r#"{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{png}"}}}}"#
            )),
        ),
        ("/v1/embeddings", format!(r#"{{"model":"m","input":[{{"image":"{data}"}}]}}"#)),
    ];
    for (index, (path, body)) in bodies.iter().enumerate() {
        let response = post(&gateway, path, body);
        assert_eq!(response.status(), 200, "{index}: {response:?}");
        assert!(remaining(&response) > 190_000, "{index}: {response:?}");
    }
    let sent = origin.seen();
    assert_eq!(sent.len(), bodies.len());
    for (seen, (_, body)) in sent.iter().zip(&bodies) {
        assert_eq!(seen.request.text(), *body, "the body passes untouched");
    }
}

/// A small limit never refuses an image for good: the reserve is what there is.
#[test]
fn media_alone_is_never_refused_for_good() {
    let origin = Origin::start();
    let gateway = start(&origin, "tokens_per_minute = 600");
    let data = png();
    let parts = [
        format!(r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}"#),
        format!(r#"{{"type":"input_audio","input_audio":{{"format":"mp3","data":"{data}"}}}}"#),
        format!(
            r#"{{"type":"file","file":{{"filename":"a.pdf","file_data":"data:application/pdf;base64,{data}"}}}}"#
        ),
        format!(r#"{{"type":"video_url","video_url":{{"url":"data:video/mp4;base64,{data}"}}}}"#),
    ];
    for (index, part) in parts.iter().enumerate() {
        let gone_well = eventually(PATIENCE, || {
            let response = post(&gateway, "/v1/chat/completions", &user(part));
            assert!(response.status() == 200 || response.has("retry-after"), "{index}: {response:?}");
            response.status() == 200
        });
        assert!(gone_well, "{index}");
    }
}

/// What only looks like an image is text: in a `content` string, in a text part, in a tool's arguments.
#[test]
fn base64_that_is_text_is_counted_as_text() {
    let origin = Origin::start();
    let gateway = start(&origin, "tokens_per_minute = 100000");
    let data = format!("data:image/png;base64,{}", png());
    let bodies = [
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{data}"}}]}}"#),
        user(&format!(r#"{{"type":"text","text":"{data}"}}"#)),
        format!(
            r#"{{"model":"m","messages":[{{"role":"assistant","tool_calls":[{{"function":{{"name":"f","arguments":"{{\"image_url\":\"{data}\"}}"}}}}]}}]}}"#
        ),
    ];
    for (index, body) in bodies.iter().enumerate() {
        let response = post(&gateway, "/v1/chat/completions", body);
        assert_eq!(response.status(), 429, "{index}: {response:?}");
        assert_eq!(response.json()["error"]["code"], "request_exceeds_limit", "{index}: {response:?}");
        assert_eq!(response.one("x-should-retry"), "false", "{index}");
    }
    assert!(origin.seen().is_empty());
}

/// Agents name a cap of 32,000 with every request; the response may have two tokens.
#[test]
fn a_cap_beyond_the_limit_reserves_a_slice() {
    let origin = Origin::start();
    let gateway = start(&origin, "tokens_per_minute = 10000");
    let bodies = [
        ("/v1/chat/completions", r#"{"model":"m","messages":[],"max_tokens":32000}"#),
        ("/v1/chat/completions", r#"{"model":"m","messages":[],"max_completion_tokens":4294967295,"n":4}"#),
        ("/v1/messages", r#"{"model":"m","messages":[],"max_tokens":64000}"#),
        ("/v1/responses", r#"{"model":"m","input":"a","max_output_tokens":128000}"#),
    ];
    for turn in 0..20 {
        for (path, body) in bodies {
            let response = post(&gateway, path, body);
            assert_eq!(response.status(), 200, "turn {turn}: {response:?}");
            // A response that is no stream cannot be stopped: it takes half of what is left, and gives back what it did not use.
            assert!(remaining(&response) > 10_000 / 2 - 500, "turn {turn}: {response:?}");
        }
    }
}

/// A cap that the empty limit holds is reserved in full: what does not fit just now has to wait, and is told how long.
#[test]
fn a_cap_within_the_limit_is_reserved_in_full() {
    let hold = Arc::new(AtomicBool::new(false));
    let release = Arc::clone(&hold);
    let origin = Origin::scripted(move |talk| {
        talk.wait_for(&release);
        talk.answer("200 OK", "", "{}")
    });
    let gateway = start(&origin, "tokens_per_minute = 1000");
    let mut first = gateway.connect();
    first.send(&chat(K1, &nonce(), r#"{"model":"m","max_tokens":900}"#));
    assert!(eventually(PATIENCE, || origin.seen().len() == 1));
    for body in [
        r#"{"model":"m","max_tokens":900}"#,
        r#"{"model":"m","stream":true}"#,
        r#"{"model":"m","stream":true,"max_tokens":32000}"#,
    ] {
        let response = post(&gateway, "/v1/chat/completions", body);
        assert_eq!(response.status(), 429, "{body}: {response:?}");
        assert_eq!(response.json()["error"]["code"], "rate_limit_exceeded", "{body}: {response:?}");
        assert_eq!(response.one("x-should-retry"), "true", "{body}: {response:?}");
        assert!(
            response.one("retry-after").parse::<u64>().is_ok_and(|wait| (1..=60).contains(&wait)),
            "{body}"
        );
    }
    hold.store(true, Ordering::SeqCst);
    assert_eq!(first.answer().expect("a response").status(), 200);
}

/// Forms that engines, agents and other APIs have for the same picture.
#[test]
fn an_image_is_no_text_in_the_forms_of_engines_and_agents() {
    let origin = Origin::start();
    let gateway = start(&origin, "tokens_per_minute = 200000");
    let png = png();
    let data = format!("data:image/png;base64,{png}");
    let wrapped = png.as_bytes().chunks(76).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\\n");
    let input = |item: &str| format!(r#"{{"model":"m","max_output_tokens":50,"input":[{item}]}}"#);
    let chat = "/v1/chat/completions";
    let bodies = [
        (chat, user(&format!(r#"{{"type":"image_url","image_url":"{data}"}}"#))),
        (
            chat,
            user(&format!(
                r#"{{"type":"image_url","image_url":{{"url":"DATA:Image/PNG;charset=utf-8;base64,{png}"}}}}"#
            )),
        ),
        (
            chat,
            user(&format!(
                r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{wrapped}"}}}}"#
            )),
        ),
        (chat, user(&format!(r#"{{"type":"image","image":"{data}"}}"#))),
        (chat, user(&format!(r#"{{"type":"video","video":["{data}","{data}"]}}"#))),
        (chat, user(&format!(r#"{{"type":"image_embeds","image_embeds":"{png}"}}"#))),
        (chat, user(&format!(r#"{{"type":"image","data":"{png}","mimeType":"image/png"}}"#))),
        (chat, user(&format!(r#"{{"inline_data":{{"mime_type":"image/png","data":"{png}"}}}}"#))),
        (
            chat,
            format!(
                r#"{{"model":"m","max_tokens":50,"messages":[{{"role":"tool","tool_call_id":"t","content":[{{"type":"image_url","image_url":{{"url":"{data}"}}}}]}}]}}"#
            ),
        ),
        (
            "/v1/messages",
            user(&format!(
                r#"{{"type":"tool_result","tool_use_id":"t","content":[{{"type":"text","text":"a"}},{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{png}"}}}}]}}"#
            )),
        ),
        (
            "/v1/messages",
            user(&format!(
                r#"{{"type":"document","source":{{"type":"content","content":[{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{png}"}}}}]}}}}"#
            )),
        ),
        (
            "/v1/responses",
            input(&format!(
                r#"{{"type":"computer_call_output","call_id":"c","output":{{"type":"computer_screenshot","image_url":"{data}"}}}}"#
            )),
        ),
        (
            "/v1/responses",
            input(&format!(
                r#"{{"type":"function_call_output","call_id":"c","output":[{{"type":"input_image","image_url":"{data}"}}]}}"#
            )),
        ),
        (
            "/v1/embeddings",
            format!(
                r#"{{"model":"m","inputs":[{{"content":[{{"type":"image_base64","image_base64":"{data}"}}]}}]}}"#
            ),
        ),
    ];
    let mut before = 200_000_u64;
    for (index, (path, body)) in bodies.iter().enumerate() {
        let response = post(&gateway, path, body);
        assert!(
            response.status() == 200,
            "{index} {path}: {} {:?}",
            response.status(),
            response.text().get(..200)
        );
        let left = remaining(&response);
        assert!(before.saturating_sub(left) < 10_000, "{index} {path}: {before} before, {left} after");
        before = left;
    }
}
