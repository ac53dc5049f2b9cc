//! Clients of backends that speak Amazon Bedrock's Converse.

use std::time::Duration;

use serde_json::{Value, json};

use support::eventually;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk};
use support::sse;

use super::{QUIET, ask, events, post};

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nTransfer-Encoding: chunked\r\n\r\n";
const MODEL: &str = "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-v1:0";
const PATH: &str =
    "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Feu.anthropic.claude-v1%3A0";

/// A gateway whose model `m` is on Bedrock, with keys of an account.
fn before_bedrock(origin: &Origin, more: &str) -> Gateway {
    let backend = format!(
        "kind = \"bedrock\"\nregion = \"eu-west-1\"\naccess_key_id = {{ env = \"AN_ACCESS_KEY\" }}\n\
         secret_access_key = {{ env = \"A_SECRET_KEY\" }}\n{more}{QUIET}"
    );
    let config = Config::new()
        .variable("AN_ACCESS_KEY", "AKIDEXAMPLE")
        .variable("A_SECRET_KEY", "a-secret-key")
        .backend("b1", origin.port, &backend)
        .tables(&format!("[model.m]\nbackends = [{{ name = \"b1\", model = \"{MODEL}\" }}]\n"))
        .key("one", K1, "");
    Gateway::start(&config)
}

/// A message of AWS's event stream encoding.
fn message(kind: &str, name: &str, payload: &Value) -> Vec<u8> {
    let name_of = if kind == "exception" { ":exception-type" } else { ":event-type" };
    let mut headers = Vec::new();
    for (name, value) in [(name_of, name), (":content-type", "application/json"), (":message-type", kind)] {
        headers.push(name.len() as u8);
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let mut out = ((16 + headers.len() + payload.len()) as u32).to_be_bytes().to_vec();
    out.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    out.extend_from_slice(&crc32(&out).to_be_bytes());
    out.extend_from_slice(&headers);
    out.extend_from_slice(payload.as_bytes());
    out.extend_from_slice(&crc32(&out).to_be_bytes());
    out
}

/// CRC-32 (ISO 3309), bit by bit: not the gateway's own.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    };
    !bytes.iter().fold(!0, step)
}

fn event(name: &str, payload: Value) -> Vec<u8> {
    message("event", name, &payload)
}

fn delta(index: u64, delta: Value) -> Vec<u8> {
    event("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta, "p": "abcdefg"}))
}

/// Thinks, says `Hello`, and calls a tool.
fn stream() -> Vec<u8> {
    let start = json!({"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "ls"}}});
    let usage = json!({"inputTokens": 3, "outputTokens": 5, "totalTokens": 20, "cacheReadInputTokens": 10, "cacheWriteInputTokens": 2});
    [
        event("messageStart", json!({"role": "assistant"})),
        delta(0, json!({"reasoningContent": {"text": "hm"}})),
        delta(0, json!({"reasoningContent": {"signature": "c2ln"}})),
        event("contentBlockStop", json!({"contentBlockIndex": 0})),
        delta(1, json!({"text": "Hel"})),
        delta(1, json!({"text": "lo \u{e9}"})),
        event("contentBlockStop", json!({"contentBlockIndex": 1})),
        event("contentBlockStart", start),
        delta(2, json!({"toolUse": {"input": "{\"at\":"}})),
        delta(2, json!({"toolUse": {"input": "\"/\"}"}})),
        event("contentBlockStop", json!({"contentBlockIndex": 2})),
        event("messageStop", json!({"stopReason": "tool_use"})),
        event("metadata", json!({"usage": usage, "metrics": {"latencyMs": 1}})),
    ]
    .concat()
}

fn bedrock(talk: &mut Talk) -> Next {
    let body = talk.request.json();
    assert_eq!(body["system"], json!([{"text": "Be exact."}]), "{body}");
    assert!(body.get("model").is_none() && body.get("stream").is_none(), "{body}");
    if talk.request.target() == format!("{PATH}/converse-stream") {
        talk.send(STREAM);
        for piece in stream().chunks(23) {
            talk.chunk(piece);
            talk.pause(Duration::from_millis(1));
        }
        return talk.end();
    }
    assert_eq!(talk.request.target(), format!("{PATH}/converse"));
    let content = json!([{"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}}, {"text": "Hello \u{e9}"},
        {"toolUse": {"toolUseId": "t1", "name": "ls", "input": {"at": "/"}}}]);
    let whole = json!({"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "tool_use",
        "usage": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 20, "cacheReadInputTokens": 10, "cacheWriteInputTokens": 2},
        "metrics": {"latencyMs": 1}});
    talk.answer("200 OK", "Content-Type: application/json\r\n", &whole.to_string())
}

fn chat(stream: bool) -> Value {
    let mut body = super::chat(stream);
    body["tools"] = json!([{"type": "function", "function": {"name": "ls"}}]);
    body["stream_options"] = json!({"include_usage": true});
    body
}

#[test]
fn an_openai_client_streams_from_converse() {
    let origin = Origin::scripted(bedrock);
    let gateway = before_bedrock(&origin, "");
    let response = ask(&gateway, "/v1/chat/completions", &chat(true));
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
    assert_eq!((delta("content").as_str(), delta("reasoning_content").as_str()), ("Hello \u{e9}", "hm"));
    let arguments: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .collect();
    assert_eq!(arguments, "{\"at\":\"/\"}");
    assert!(text.contains("\"prompt_tokens\":15") && text.contains("\"total_tokens\":20"), "{text}");
    assert!(text.contains("\"finish_reason\":\"tool_calls\"") && text.ends_with(sse::DONE), "{text}");
    let seen = &origin.seen()[0].request;
    let signature = seen.one("authorization");
    assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{signature}");
    assert!(signature.contains("/eu-west-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date, Signature="));
    assert!(seen.one("x-amz-date").ends_with('Z') && !signature.contains("a-secret-key"));
    let counted = eventually(support::PATIENCE, || gateway.metric("ringway_model_tokens_total", "") >= 20.0);
    assert!(counted, "the tokens are counted");
}

#[test]
fn every_client_gets_what_converse_says() {
    let origin = Origin::scripted(bedrock);
    let gateway = before_bedrock(&origin, "");
    let told = ask(&gateway, "/v1/chat/completions", &chat(false)).json();
    let message = &told["choices"][0]["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("Hello \u{e9}"), &json!("hm")));
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"at\":\"/\"}");
    assert_eq!(told["usage"]["prompt_tokens_details"]["cached_tokens"], 10);
    let told = ask(&gateway, "/v1/messages", &super::messages(false)).json();
    assert_eq!(told["content"][0], json!({"type": "thinking", "thinking": "hm", "signature": "c2ln"}));
    assert_eq!(
        (&told["content"][2]["input"], &told["stop_reason"]),
        (&json!({"at": "/"}), &json!("tool_use"))
    );
    assert_eq!(
        (&told["usage"]["input_tokens"], &told["usage"]["cache_read_input_tokens"]),
        (&json!(3), &json!(10))
    );
    let events = events(&ask(&gateway, "/v1/messages", &super::messages(true)).text());
    assert_eq!(events.last().expect("events").0, "message_stop");
    let text: String = events.iter().filter_map(|(_, data)| data["delta"]["text"].as_str()).collect();
    assert_eq!(text, "Hello \u{e9}");
    for stream in [false, true] {
        let body = json!({"model": "m", "instructions": "Be exact.", "store": false, "input": "Hi", "stream": stream});
        let text = ask(&gateway, "/v1/responses", &body).text();
        assert!(text.contains("\"status\":\"completed\"") && text.contains("Hello \u{e9}"), "{text}");
        assert!(text.contains("\"total_tokens\":20"), "{text}");
    }
    let body = json!({"model": "m", "messages": [{"role": "system", "content": "Be exact."}, {"role": "user", "content": "Hi"}]});
    let text = ask(&gateway, "/api/chat", &body).text();
    let last: Value = serde_json::from_str(text.lines().last().expect("lines")).expect(&text);
    assert_eq!((&last["done"], &last["prompt_eval_count"]), (&json!(true), &json!(15)));
}

#[test]
fn every_cut_of_a_message_is_put_together_again() {
    let origin = Origin::scripted(|talk| {
        let cut: usize = talk.nonce().parse().expect("a number");
        let stream = stream();
        let (first, second) = stream.split_at(cut);
        talk.send(STREAM);
        if !first.is_empty() {
            talk.chunk(first);
            talk.pause(Duration::from_millis(2)); // or both arrive in one read
        }
        talk.chunk(second);
        talk.end()
    });
    let gateway = before_bedrock(&origin, "");
    let mut client = gateway.connect();
    let mut texts = Vec::new();
    for cut in (0..stream().len()).step_by(7) {
        client.send(&post("/v1/chat/completions", &format!("X-Nonce: {cut}\r\n"), &chat(true).to_string()));
        let text = client.answer().expect("a response").text();
        let (said, ending) = sse::judge(&text);
        assert_eq!((said.as_str(), ending), ("Hello \u{e9}", sse::Ending::Finished), "cut at {cut}: {text}");
        texts.push(text.matches("data: ").count());
    }
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn an_exception_a_broken_message_and_a_cut_are_errors() {
    let half = || [event("messageStart", json!({})), delta(0, json!({"text": "half"}))].concat();
    let exception = message("exception", "modelStreamErrorException", &json!({"message": "it broke"}));
    let mut broken = delta(0, json!({"text": "never"}));
    let at = broken.len() - 20;
    broken[at] ^= 1;
    let torn = delta(0, json!({"text": "never"}))[..40].to_vec();
    let mut huge = vec![0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    huge.extend_from_slice(&crc32(&huge.clone()).to_be_bytes());
    for (name, tail) in [
        ("exception", exception),
        ("checksum", broken),
        ("torn", torn),
        ("huge", huge),
        ("nothing", Vec::new()),
    ] {
        let stream = half();
        let own = tail.clone();
        let origin = Origin::scripted(move |talk| {
            talk.send(STREAM);
            talk.chunk(&stream);
            talk.pause(Duration::from_millis(30));
            if !own.is_empty() {
                talk.chunk(&own);
            }
            talk.end()
        });
        let gateway = before_bedrock(&origin, "");
        let mut client = gateway.connect();
        client.send(&post("/v1/chat/completions", "Connection: close\r\n", &chat(true).to_string()));
        let outcome = client.finish(&[], support::PATIENCE);
        let text = outcome.answers.first().or(outcome.cut.as_ref()).expect("a response").text();
        assert!(text.contains("half") && text.contains("\"error\""), "{name}: {text}");
        assert!(!text.contains("never") && !text.contains("[DONE]"), "{name}: {text}");
        assert_eq!(text.contains("it broke"), name == "exception", "{name}: {text}");
    }
}

#[test]
fn an_exception_in_the_first_message_is_a_status() {
    let origin = Origin::scripted(|talk| {
        talk.send(STREAM);
        talk.chunk(message("exception", "throttlingException", &json!({"message": "slow down"})));
        talk.end()
    });
    let gateway = before_bedrock(&origin, "");
    let response = ask(&gateway, "/v1/chat/completions", &chat(true));
    assert_eq!(response.status(), 429, "{}", response.text());
}

#[test]
fn errors_have_the_backends_words() {
    let origin = Origin::scripted(|talk| {
        let fields = "Content-Type: application/json\r\nx-amzn-ErrorType: ValidationException\r\n";
        talk.answer("400 Bad Request", fields, "{\"message\":\"Input is too long for requested model.\"}")
    });
    let gateway = before_bedrock(&origin, "");
    let told = ask(&gateway, "/v1/messages", &super::messages(true));
    assert_eq!((told.status(), &told.json()["error"]["type"]), (400, &json!("invalid_request_error")));
    assert!(told.text().contains("Input is too long"), "{}", told.text());
}

#[test]
fn a_key_of_bedrocks_own_is_a_bearer_token() {
    let origin = Origin::scripted(bedrock);
    let backend =
        format!("kind = \"bedrock\"\nregion = \"eu-west-1\"\napi_key = {{ env = \"BEDROCK_KEY\" }}\n{QUIET}");
    let config = Config::new()
        .variable("BEDROCK_KEY", "bedrock-api-key")
        .backend("b1", origin.port, &backend)
        .tables(&format!("[model.m]\nbackends = [{{ name = \"b1\", model = \"{MODEL}\" }}]\n"))
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    assert_eq!(ask(&gateway, "/v1/chat/completions", &chat(false)).status(), 200);
    let seen = &origin.seen()[0].request;
    assert_eq!(
        (seen.one("authorization").as_str(), seen.has("x-amz-date")),
        ("Bearer bedrock-api-key", false)
    );
}
