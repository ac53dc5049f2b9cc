//! One whole request and one whole stream, then one test per trap.

use super::{OUTPUT_TOOL, decode, encode};
use crate::dialect::neutral::{Context, Event, FinishReason, PartKind, Target};
use crate::dialect::{chat, messages};
use crate::wire::event_stream;
use crate::wire::noise::Noise;
use serde_json::{Value, json};

const MODEL: &[u8] = b"\"anthropic.claude-sonnet-4-20250514-v1:0\"";

fn target(model: &'static [u8]) -> Target<'static> {
    Target {
        model,
        output_max_default: 4096,
        takes_stream_options: false,
        output_cap_member: "max_tokens",
        takes_extras: false,
    }
}

/// A request in OpenAI's dialect as a backend gets it, and what was lost; or the words of the refusal.
fn from_chat(body: &Value, model: &'static [u8]) -> Result<(Value, Vec<String>), String> {
    let body = body.to_string();
    let request = chat::decode::request(body.as_bytes()).unwrap();
    let mut out = Vec::new();
    let losses =
        encode::request(&request, &target(model), &mut out).map_err(|fault| fault.note.into_owned())?;
    Ok((serde_json::from_slice(&out).expect("JSON"), losses.iter().map(str::to_owned).collect()))
}

fn from_messages(body: &Value) -> Value {
    let body = body.to_string();
    let request = messages::decode::request(body.as_bytes()).unwrap();
    let mut out = Vec::new();
    encode::request(&request, &target(MODEL), &mut out).unwrap();
    serde_json::from_slice(&out).expect("JSON")
}

/// What events say, in one line each.
fn told(events: &[(&str, Value)]) -> (Vec<String>, bool) {
    let (mut lines, mut decoder) = (Vec::new(), decode::Events::new(&Context::probe()));
    let mut sink = |event: Event<'_>| lines.push(line(&event));
    for (name, payload) in events {
        decoder.record(Some(name.as_bytes()), payload.to_string().as_bytes(), &mut sink);
    }
    decoder.end(&mut sink);
    (lines, decoder.is_whole())
}

fn line(event: &Event<'_>) -> String {
    let text = |text: &crate::dialect::neutral::Text<'_>| String::from_utf8_lossy(text.inside()).into_owned();
    match event {
        Event::Start { .. } => "start".to_owned(),
        Event::Open { part, kind } => match kind {
            PartKind::ToolCall { id, name, .. } => format!("open {part} {}={}", text(id), text(name)),
            PartKind::Redacted(data) => format!("open {part} redacted {}", text(data)),
            kind => format!("open {part} {kind:?}").to_lowercase(),
        },
        Event::Delta { part, text: piece } => format!("delta {part} {}", text(piece)),
        Event::Signature { part, text: seal } => format!("seal {part} {}", text(seal)),
        Event::Close { part } => format!("close {part}"),
        Event::Finish { reason, .. } => format!("finish {reason:?}"),
        Event::Usage(usage) => {
            format!("usage {} {} {} {}", usage.input, usage.cached, usage.cache_write, usage.output)
        }
        Event::Fault(record) => format!("fault {} {:?}", text(&record.message), record.status),
        Event::Ping => "ping".to_owned(),
        Event::End => "end".to_owned(),
    }
}

fn delta(index: u64, delta: Value) -> (&'static str, Value) {
    ("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta, "p": "abcd"}))
}

fn stop(index: u64) -> (&'static str, Value) {
    ("contentBlockStop", json!({"contentBlockIndex": index}))
}

fn usage() -> (&'static str, Value) {
    let usage = json!({"inputTokens": 3, "outputTokens": 5, "totalTokens": 20, "cacheReadInputTokens": 10, "cacheWriteInputTokens": 2});
    ("metadata", json!({"usage": usage, "metrics": {"latencyMs": 7}}))
}

#[test]
fn a_whole_stream_is_decoded_and_usage_comes_last() {
    let events = [
        ("messageStart", json!({"role": "assistant"})),
        delta(0, json!({"reasoningContent": {"text": "hm"}})),
        delta(0, json!({"reasoningContent": {"signature": "c2ln"}})),
        stop(0),
        delta(1, json!({"text": "Hel"})),
        delta(1, json!({"text": "lo \"é\""})),
        stop(1),
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "ls"}}}),
        ),
        delta(2, json!({"toolUse": {"input": ""}})),
        delta(2, json!({"toolUse": {"input": "{\"at\":"}})),
        delta(2, json!({"toolUse": {"input": "\"/\"}"}})),
        stop(2),
        ("messageStop", json!({"stopReason": "tool_use"})),
        usage(),
    ];
    let (lines, is_whole) = told(&events);
    let expected = [
        "start",
        "open 0 thinking",
        "delta 0 hm",
        "seal 0 c2ln",
        "close 0",
        "open 1 text",
        "delta 1 Hel",
        r#"delta 1 lo \"é\""#,
        "close 1",
        "open 2 t1=ls",
        r#"delta 2 {\"at\":"#,
        r#"delta 2 \"/\"}"#,
        "close 2",
        "finish ToolCalls",
        "usage 15 10 2 5",
        "end",
    ];
    assert_eq!(lines, expected);
    assert!(is_whole);
}

#[test]
fn a_whole_response_says_what_its_stream_says() {
    let body = json!({"output": {"message": {"role": "assistant", "content": [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "AAAA"}},
        {"text": "Hi"}, {"toolUse": {"toolUseId": "t1", "name": "ls", "input": {"at": "/"}}}]}},
        "stopReason": "tool_use", "usage": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8}, "metrics": {"latencyMs": 1}});
    let mut lines = Vec::new();
    decode::body(&Context::probe(), body.to_string().as_bytes(), &mut |event| lines.push(line(&event)))
        .unwrap();
    let expected = [
        "start",
        "open 0 thinking",
        "delta 0 hm",
        "seal 0 c2ln",
        "close 0",
        "open 1 redacted AAAA",
        "close 1",
        "open 2 text",
        "delta 2 Hi",
        "close 2",
        "open 3 t1=ls",
        r#"delta 3 {\"at\":\"/\"}"#,
        "close 3",
        "finish ToolCalls",
        "usage 3 0 0 5",
        "end",
    ];
    assert_eq!(lines, expected);
    for other in ["{}", "[]", r#"{"message":"x"}"#, r#"{"output":{"message":{"content":[]}}}"#] {
        assert!(decode::body(&Context::probe(), other.as_bytes(), &mut |_| {}).is_err(), "{other}");
    }
}

#[test]
fn without_a_reason_for_the_stop_a_stream_was_cut_and_usage_may_be_missing() {
    let start = [("messageStart", json!({})), delta(0, json!({"text": "half"}))];
    assert!(!told(&start).1);
    assert!(!told(&[start[0].clone(), start[1].clone(), stop(0), usage()]).1);
    let (lines, is_whole) =
        told(&[start[0].clone(), start[1].clone(), ("messageStop", json!({"stopReason": "end_turn"}))]);
    assert!(is_whole && lines.contains(&"finish Stop".to_owned()), "{lines:?}");
}

#[test]
fn exceptions_and_broken_messages_are_faults_with_a_status() {
    for (name, payload, expected) in [
        ("throttlingException", json!({"message": "slow down"}), "fault slow down Some(429)"),
        ("modelStreamErrorException", json!({"originalMessage": "x"}), "fault x Some(424)"),
        ("validationException", json!({"message": "too long"}), "fault too long Some(400)"),
        ("newException", json!({"message": "x"}), "fault x None"),
    ] {
        let (lines, is_whole) = told(&[("messageStart", json!({})), (name, payload), usage()]);
        assert_eq!((lines.last().map(String::as_str), is_whole), (Some(expected), false), "{name}");
    }
    let mut lines = Vec::new();
    let mut events = decode::Events::new(&Context::probe());
    events.record(Some(event_stream::BROKEN), b"a checksum", &mut |event| lines.push(line(&event)));
    assert_eq!(lines, ["fault a checksum Some(502)"]);
}

#[test]
fn a_message_that_cannot_be_read_ends_the_response() {
    for name in ["contentBlockStart", "contentBlockDelta", "messageStop"] {
        let (mut lines, mut events) = (Vec::new(), decode::Events::new(&Context::probe()));
        for (name, data) in
            [("messageStart", "{}"), (name, "{\"delta\":{\"text\":\"a"), ("messageStop", "{}")]
        {
            events.record(Some(name.as_bytes()), data.as_bytes(), &mut |event| lines.push(line(&event)));
        }
        assert_eq!(lines, ["start", "fault the backend sent a record that is not JSON Some(502)"], "{name}");
        assert!(!events.is_whole());
    }
}

#[test]
fn nothing_of_a_body_is_told_behind_a_call_without_a_name() {
    let body = br#"{"output":{"message":{"role":"assistant","content":[{"text":"a"},{"toolUse":{"toolUseId":"t","input":{}}},
        {"text":"b"}]}},"stopReason":"tool_use","usage":{"inputTokens":1,"outputTokens":1}}"#;
    let mut lines = Vec::new();
    assert!(decode::body(&Context::probe(), body, &mut |event| lines.push(line(&event))).is_err());
    assert!(lines.last().is_some_and(|line| line.starts_with("fault")), "{lines:?}");
}

#[test]
fn reasons_are_told_from_each_other() {
    for (reason, expected) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("model_context_window_exceeded", FinishReason::Length),
        ("guardrail_intervened", FinishReason::ContentFilter),
        ("content_filtered", FinishReason::ContentFilter),
        ("malformed_tool_use", FinishReason::Stop),
        ("next_year", FinishReason::Stop),
    ] {
        let (lines, _) = told(&[("messageStop", json!({"stopReason": reason}))]);
        assert!(lines.contains(&format!("finish {expected:?}")), "{reason}: {lines:?}");
    }
}

#[test]
fn the_tool_for_the_output_is_text_and_an_ordinary_stop() {
    let events = [
        (
            "contentBlockStart",
            json!({"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "t", "name": OUTPUT_TOOL}}}),
        ),
        delta(0, json!({"toolUse": {"input": "{\"a\":"}})),
        delta(0, json!({"toolUse": {"input": "1}"}})),
        stop(0),
        ("messageStop", json!({"stopReason": "tool_use"})),
    ];
    let expected =
        ["start", "open 0 text", r#"delta 0 {\"a\":"#, "delta 0 1}", "close 0", "finish Stop", "end"];
    assert_eq!(told(&events).0, expected);
}

#[test]
fn a_whole_request_is_written() {
    let (body, losses) = from_chat(
        &json!({"model": "m", "max_tokens": 64, "temperature": 0.5, "top_p": 0.9, "stop": ["END", " "], "seed": 7,
        "messages": [{"role": "system", "content": "Be exact."}, {"role": "user", "content": [
            {"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}]},
            {"role": "assistant", "content": "ok", "tool_calls": [
                {"id": "call.1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "call.1", "content": "A"}, {"role": "tool", "tool_call_id": "b", "content": ""},
            {"role": "user", "content": "go on"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}}],
        "tool_choice": "required"}),
        b"\"amazon.nova-pro-v1:0\"",
    )
    .unwrap();
    let id = body["messages"][1]["content"][1]["toolUse"]["toolUseId"].as_str().unwrap().to_owned();
    assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{id}");
    let expected = json!({"messages": [
        {"role": "user", "content": [{"text": "a"}, {"image": {"format": "png", "source": {"bytes": "QUJD"}}}]},
        {"role": "assistant", "content": [{"text": "ok"}, {"toolUse": {"toolUseId": id, "name": "f", "input": {"x": 1}}},
            {"toolUse": {"toolUseId": "b", "name": "g", "input": {}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": id, "content": [{"text": "A"}]}},
            {"toolResult": {"toolUseId": "b", "content": []}}, {"text": "go on"}]}],
        "system": [{"text": "Be exact."}],
        "toolConfig": {"tools": [
            {"toolSpec": {"name": "f", "description": "d", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
            {"toolSpec": {"name": "g", "inputSchema": {"json": {"type": "object", "properties": {}}}}}],
            "toolChoice": {"any": {}}},
        "inferenceConfig": {"maxTokens": 64, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]}});
    assert_eq!(body, expected);
    assert_eq!(losses, ["seed"]);
}

#[test]
fn roles_alternate_and_blank_texts_vanish() {
    let body = from_messages(&json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": " \n"}]},
        {"role": "assistant", "content": [{"type": "text", "text": ""}]}, {"role": "user", "content": "c"}]}));
    assert_eq!(
        body["messages"],
        json!([{"role": "user", "content": [{"text": "a"}, {"text": "b"}, {"text": "c"}]}])
    );
}

#[test]
fn thoughts_go_back_with_their_seal_and_first() {
    let body = from_messages(
        &json!({"model": "m", "max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 2000},
        "temperature": 1, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"}, {"type": "redacted_thinking", "data": "AAAA"},
        {"type": "text", "text": "t"}, {"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "r", "is_error": true}]}]}),
    );
    assert_eq!(
        body["messages"][1]["content"],
        json!([{"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "AAAA"}}, {"text": "t"}, {"toolUse": {"toolUseId": "t1", "name": "f", "input": {}}}])
    );
    assert_eq!(
        body["messages"][2]["content"],
        json!([{"toolResult": {"toolUseId": "t1", "content": [{"text": "r"}], "status": "error"}}])
    );
    assert_eq!(
        body["additionalModelRequestFields"],
        json!({"thinking": {"type": "enabled", "budget_tokens": 2000}})
    );
    assert_eq!(
        body["inferenceConfig"],
        json!({"maxTokens": 9000}),
        "a model that thinks lets no one choose how to sample"
    );
    assert_eq!(
        body["toolConfig"]["tools"][0]["toolSpec"]["name"], "f",
        "a history with calls needs tools declared"
    );
}

#[test]
fn a_schema_for_the_output_is_a_tool_that_has_to_be_called() {
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"properties": {"a": {}}}}});
    let messages = json!([{"role": "user", "content": "x"}]);
    let (body, _) = from_chat(&json!({"messages": messages, "response_format": format}), MODEL).unwrap();
    let config = &body["toolConfig"];
    assert_eq!(config["tools"][0]["toolSpec"]["name"], OUTPUT_TOOL);
    assert_eq!(
        config["tools"][0]["toolSpec"]["inputSchema"]["json"],
        json!({"type": "object", "properties": {"a": {}}})
    );
    assert_eq!(config["toolChoice"], json!({"tool": {"name": OUTPUT_TOOL}}));
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let (body, _) =
        from_chat(&json!({"messages": messages, "response_format": format, "tools": tools}), MODEL).unwrap();
    assert_eq!(body["toolConfig"]["toolChoice"], json!({"any": {}}), "one of its tools may be called first");
}

#[test]
fn no_tool_may_be_called_where_none_is_wanted() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let body = json!({"messages": [{"role": "user", "content": "x"}], "tools": tools, "tool_choice": "none"});
    assert!(from_chat(&body, MODEL).unwrap().0.get("toolConfig").is_none());
}

#[test]
fn what_the_api_cannot_carry_is_refused_by_name() {
    for (part, named) in [
        (json!({"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}), "image_url"),
        (json!({"type": "image_url", "image_url": {"url": "data:image/tiff;base64,QQ=="}}), "image"),
        (json!({"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}}), "input_audio"),
        (json!({"type": "file", "file": {"file_id": "file-1"}}), "document"),
    ] {
        let body = json!({"messages": [{"role": "user", "content": [part]}]});
        let note = from_chat(&body, MODEL).unwrap_err();
        assert!(note.contains(named), "{note}");
    }
    let body = json!({"messages": [{"role": "user", "content": [
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,QQ==", "filename": "a_b c.pdf"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,QQ==", "filename": "a_b c.pdf"}}]}]});
    let content = &from_chat(&body, MODEL).unwrap().0["messages"][0]["content"];
    assert_eq!(
        (&content[0]["document"]["name"], &content[1]["document"]["name"]),
        (&json!("a-b-c-pdf"), &json!("a-b-c-pdf-2"))
    );
    assert_eq!(content[0]["document"]["format"], "pdf");
}

#[test]
fn efforts_become_what_the_model_understands() {
    let of = |model: &'static [u8], effort: &str| {
        let body = json!({"messages": [], "reasoning_effort": effort, "max_tokens": 20000});
        from_chat(&body, model).unwrap().0["additionalModelRequestFields"].clone()
    };
    assert_eq!(of(b"\"openai.gpt-oss-120b-1:0\"", "high"), json!({"reasoning_effort": "high"}));
    assert_eq!(of(MODEL, "low"), json!({"thinking": {"type": "enabled", "budget_tokens": 2048}}));
    assert_eq!(
        of(b"\"us.anthropic.claude-opus-4-6-v1\"", "high"),
        json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}})
    );
    assert_eq!(of(b"\"amazon.nova-pro-v1:0\"", "high"), Value::Null);
}

#[test]
fn mutated_streams_never_panic() {
    let message = |name: &str, payload: Value| {
        event_stream::written(
            &[(":event-type", name), (":message-type", "event")],
            payload.to_string().as_bytes(),
        )
    };
    let (name, payload) = delta(0, json!({"text": "hi"}));
    let (last, usage) = usage();
    let stream = [
        message(name, payload),
        message("messageStop", json!({"stopReason": "end_turn"})),
        message(last, usage),
    ]
    .concat();
    let mut noise = Noise::new(0xc0_4e_25);
    for _ in 0..10_000 {
        let bytes = noise.mutate(&stream);
        let mut events = decode::Events::new(&Context::probe());
        let mut at = 0;
        while let Some(next) = event_stream::next_boundary(&bytes, at) {
            if let Ok(message) = event_stream::message(&bytes[at..next]) {
                events.record(Some(message.name), message.payload, &mut |_| {});
            }
            at = next;
        }
        let body = noise.mutate(br#"{"output":{"message":{"content":[{"text":"a"},{"toolUse":{"input":{}}}]}},"stopReason":"x","usage":{"inputTokens":1}}"#);
        let _ = decode::body(&Context::probe(), &body, &mut |_| {});
        let _ = decode::fault(500, &body);
    }
}

#[test]
fn sampling_is_said_in_the_way_that_the_model_takes() {
    let body = json!({"messages": [], "temperature": 0.5, "top_p": 0.9, "top_k": 4});
    let of = |model: &'static [u8]| from_chat(&body, model).unwrap();
    let (claude, losses) = of(MODEL);
    assert_eq!(
        (&claude["inferenceConfig"], &losses[..]),
        (&json!({"temperature": 0.5}), &["top_p".to_owned()][..])
    );
    assert_eq!(claude["additionalModelRequestFields"], json!({"top_k": 4}));
    let (later, losses) = of(b"\"us.anthropic.claude-opus-4-7-v1\"");
    assert!(later.get("inferenceConfig").is_none(), "{later}");
    assert_eq!(losses, ["top_k", "temperature", "top_p"]);
    let hot = from_chat(&json!({"messages": [], "temperature": 1.7}), MODEL).unwrap();
    assert_eq!(hot.0["inferenceConfig"], json!({"temperature": 1}));
    assert_eq!(hot.1, ["temperature"]);
    let (nova, losses) = of(b"\"amazon.nova-pro-v1:0\"");
    assert_eq!(
        (&nova["inferenceConfig"], losses),
        (&json!({"temperature": 0.5, "topP": 0.9}), vec!["top_k".to_owned()])
    );
}

#[test]
fn a_turn_begun_without_a_thought_goes_on_without_one() {
    let body = from_messages(
        &json!({"model": "m", "max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 2000},
        "messages": [{"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "r"}]}]}),
    );
    assert!(body.get("additionalModelRequestFields").is_none(), "{body}");
}
