//! What goes through the neutral form and comes back, and what may not get lost on the way.

mod requests;

use super::{decode, encode};
use crate::dialect::neutral::{Context, Event, FinishReason, Part, PartKind, Target, Text};
use crate::wire::noise::Noise;
use crate::wire::sse;

fn context() -> Context {
    Context {
        request_id: "00aa".to_owned(),
        model: "public".to_owned(),
        custom_tools: Vec::new(),
        created: 7,
        include_usage: true,
        held_bytes_max: 1 << 20,
    }
}

const TARGET: Target<'_> = Target {
    model: b"\"backend/model\"",
    output_max_default: 4096,
    takes_stream_options: true,
    output_cap_member: "max_tokens",
    takes_extras: true,
};

/// The events of a stream, each as its debug text.
fn events(stream: &str) -> (Vec<String>, bool) {
    let mut decoder = decode::Events::new(&context());
    let mut seen = Vec::new();
    for span in sse::events(stream.as_bytes()) {
        let event = sse::event(span.of(stream.as_bytes()));
        decoder
            .record(event.name, event.data.unwrap_or_default(), &mut |event| seen.push(format!("{event:?}")));
    }
    decoder.end(&mut |event| seen.push(format!("{event:?}")));
    (seen, decoder.is_whole())
}

/// A stream through the decoder and the encoder.
fn through(stream: &str) -> String {
    let (mut decoder, mut encoder) = (decode::Events::new(&context()), encode::Events::new(context()));
    let mut out = Vec::new();
    let mut each = |event: Event<'_>| encoder.event(&event, &mut out).unwrap();
    for span in sse::events(stream.as_bytes()) {
        let event = sse::event(span.of(stream.as_bytes()));
        decoder.record(event.name, event.data.unwrap_or_default(), &mut each);
    }
    decoder.end(&mut each);
    String::from_utf8(out).unwrap()
}

fn chunk(choice: &str) -> String {
    format!("data: {{\"id\":\"chatcmpl-1\",\"model\":\"m\",\"choices\":[{choice}]}}\n\n")
}

fn delta(delta: &str) -> String {
    chunk(&format!("{{\"index\":0,\"delta\":{{{delta}}},\"finish_reason\":null}}"))
}

fn finish(reason: &str) -> String {
    chunk(&format!("{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{reason}\"}}"))
}

/// The deltas that a stream of chunks has, and its finish reason: what an SDK adds up.
fn told(stream: &str) -> (Vec<serde_json::Value>, Option<String>) {
    let mut deltas = Vec::new();
    let mut reason = None;
    for line in stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|line| *line != "[DONE]")
    {
        let chunk: serde_json::Value = serde_json::from_str(line).expect("JSON");
        for choice in chunk["choices"].as_array().expect("choices") {
            deltas.push(choice["delta"].clone());
            reason = choice["finish_reason"].as_str().map(str::to_owned).or(reason);
        }
    }
    (deltas, reason)
}

#[test]
fn a_stream_comes_through_whole() {
    let stream = [
        delta(r#""role":"assistant","content":"""#),
        delta(r#""reasoning_content":"hm \u00e9""#),
        delta(r#""content":"a\"b""#),
        delta(r#""tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":""}}]"#),
        delta(r#""tool_calls":[{"index":0,"function":{"arguments":"{\"x\":"}}]"#),
        delta(r#""tool_calls":[{"index":0,"function":{"arguments":"1}"}}]"#),
        finish("tool_calls"),
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,\"total_tokens\":13}}\n\n".into(),
        "data: [DONE]\n\n".into(),
    ]
    .concat();
    let (seen, is_whole) = events(&stream);
    let expected = [
        r#"Start { id: "chatcmpl-1", model: "m" }"#,
        "Open { part: 0, kind: Thinking }",
        r#"Delta { part: 0, text: "hm \u00e9" }"#,
        "Close { part: 0 }",
        "Open { part: 1, kind: Text }",
        r#"Delta { part: 1, text: "a\"b" }"#,
        "Close { part: 1 }",
        r#"Open { part: 2, kind: ToolCall { id: "c1", name: "f", is_custom: false } }"#,
        r#"Delta { part: 2, text: "{\"x\":" }"#,
        r#"Delta { part: 2, text: "1}" }"#,
        "Close { part: 2 }",
        "Finish { reason: ToolCalls, stop_sequence: None }",
    ];
    assert_eq!(seen[..expected.len()], expected);
    assert!(seen[expected.len()].starts_with("Usage(") && seen.last().unwrap() == "End" && is_whole);
    let out = through(&stream);
    let (deltas, reason) = told(&out);
    assert_eq!(deltas[1]["reasoning_content"], "hm é");
    assert_eq!(deltas[2]["content"], "a\"b");
    assert_eq!(deltas[3]["tool_calls"][0]["function"]["name"], "f");
    assert_eq!(deltas[5]["tool_calls"], serde_json::json!([{"index": 0, "function": {"arguments": "1}"}}]));
    assert_eq!(reason.as_deref(), Some("tool_calls"));
    assert!(out.contains(
        "\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,\"total_tokens\":13,"
    ));
    assert!(out.ends_with("data: [DONE]\n\n"));
}

#[test]
fn text_end_and_usage_may_share_a_chunk() {
    let stream = "data: {\"id\":\"1\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2},\"model\":\"m\",\"choices\":[{\
        \"finish_reason\":\"stop\",\"index\":0,\"delta\":{\"content\":\"all\"}}]}\n\n";
    let (deltas, reason) = told(&through(stream));
    assert_eq!((deltas[1]["content"].as_str(), reason.as_deref()), (Some("all"), Some("stop")));
    assert!(through(stream).contains("\"prompt_tokens\":1"));
}

#[test]
fn nothing_opens_a_part_that_says_nothing() {
    let quiet = [
        delta(r#""role":"assistant","content":null"#),
        delta(r#""content":"","tool_calls":[],"reasoning":null,"refusal":null"#),
        ": comment\n\n".into(),
        "data: \"keep-alive\"\n\n".into(),
        "data: {\"id\":\"\",\"model\":\"\",\"choices\":[],\"prompt_filter_results\":[]}\n\n".into(),
        finish("stop"),
    ]
    .concat();
    let (seen, is_whole) = events(&quiet);
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(is_whole);
}

#[test]
fn interleaved_calls_keep_their_own_arguments() {
    let stream = [
        delta(r#""tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}},{"index":1,"id":"b","function":{"name":"g","arguments":""}}]"#),
        delta(r#""tool_calls":[{"index":1,"function":{"arguments":"{\"y\":2}"}}]"#),
        delta(r#""tool_calls":[{"index":0,"function":{"arguments":"\"x\":1}"}}]"#),
        finish("tool_calls"),
    ]
    .concat();
    let (deltas, _) = told(&through(&stream));
    let arguments = |index: u64| -> String {
        let calls = deltas.iter().filter_map(|delta| delta["tool_calls"].as_array()).flatten();
        calls
            .filter(|call| call["index"] == index)
            .filter_map(|call| call["function"]["arguments"].as_str())
            .collect()
    };
    assert_eq!((arguments(0).as_str(), arguments(1).as_str()), ("{\"x\":1}", "{\"y\":2}"));
}

#[test]
fn calls_of_careless_servers_are_told_apart_and_whole() {
    // A name that comes late, an id that never does, an id that repeats, an index that is used twice.
    let late = [
        delta(r#""tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]"#),
        delta(r#""tool_calls":[{"index":0,"function":{"name":"f","arguments":":1}"}}]"#),
        finish("stop"),
    ]
    .concat();
    let (seen, _) = events(&late);
    assert_eq!(
        seen[1],
        r#"Open { part: 0, kind: ToolCall { id: "call_00aa0", name: "f", is_custom: false } }"#
    );
    assert_eq!(seen[2..4], [r#"Delta { part: 0, text: "{\"a\"" }"#, r#"Delta { part: 0, text: ":1}" }"#]);
    assert_eq!(told(&through(&late)).1.as_deref(), Some("tool_calls"), "the server says stop");

    let repeated = [
        delta(r#""tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]"#),
        delta(r#""tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"}"}}]"#),
        delta(r#""tool_calls":[{"index":0,"id":"b","function":{"name":"f","arguments":"{}"}}]"#),
        finish("tool_calls"),
    ]
    .concat();
    let opened = events(&repeated).0.iter().filter(|event| event.starts_with("Open")).count();
    assert_eq!(opened, 2);
    let none = [delta(r#""tool_calls":[{"id":"a","function":{"name":"f"}}]"#), finish("tool_calls")].concat();
    let (deltas, _) = told(&through(&none));
    assert_eq!(deltas[2]["tool_calls"][0]["function"]["arguments"], "{}");
    let object =
        [delta(r#""tool_calls":[{"id":"a","function":{"name":"f","arguments":{"k":"v"}}}]"#), finish("stop")];
    assert!(through(&object.concat()).contains(r#"{\"k\":\"v\"}"#));
}

#[test]
fn a_stream_without_its_end_is_not_whole() {
    let begun = delta(r#""content":"half""#);
    for stream in
        [begun.clone(), String::new(), format!("{begun}data: [DONE]\n\n"), begun.clone() + &finish("")]
    {
        let (seen, is_whole) = events(&stream);
        assert!(!is_whole && seen.iter().all(|event| event != "End"), "{seen:?}");
        assert!(!through(&stream).contains("[DONE]"));
    }
}

#[test]
fn what_comes_behind_the_finish_reason_is_usage_only() {
    let stream =
        [delta(r#""content":"a""#), finish("stop"), delta(r#""content":"b""#), finish("length")].concat();
    let (deltas, reason) = told(&through(&stream));
    assert_eq!((deltas.len(), reason.as_deref()), (3, Some("stop")), "{deltas:?}");
}

#[test]
fn an_error_is_the_last_that_is_told() {
    for error in [
        r#"data: {"error":{"message":"no \"room\"","type":"server_error","code":"busy","param":null}}"#,
        r#"data: {"error":"no \"room\""}"#,
        "event: error\ndata: {\"message\":\"no \\\"room\\\"\"}",
        r#"data: {"choices":[],"error":{"message":"no \"room\"","code":null}}"#,
    ] {
        let out = through(
            &[&delta(r#""content":"a""#), error, "\n\n", &delta(r#""content":"b""#), &finish("stop")]
                .concat(),
        );
        let last = out.trim_end().rsplit("data: ").next().unwrap();
        let last: serde_json::Value = serde_json::from_str(last).unwrap();
        assert_eq!(last["error"]["message"], "no \"room\"", "{error}");
        assert!(!out.contains("[DONE]") && !out.contains("\"finish_reason\":\"stop\""), "{out}");
    }
}

#[test]
fn a_seal_travels_with_its_thought_and_comes_back_as_it_was() {
    let mut encoder = encode::Events::new(context());
    let mut out = Vec::new();
    let part = 0;
    for event in [
        Event::Start { id: Text::default(), model: Text::default() },
        Event::Open { part, kind: PartKind::Thinking },
        Event::Delta { part, text: Text::escaped(br"one\n") },
        Event::Delta { part, text: Text::escaped(b"two") },
        Event::Signature { part, text: Text::escaped(b"EqQB+/=") },
        Event::Close { part },
        Event::Open { part: 1, kind: PartKind::Redacted(Text::escaped(b"gAAA")) },
        Event::Close { part: 1 },
        Event::Finish { reason: FinishReason::Stop, stop_sequence: None },
        Event::End,
    ] {
        encoder.event(&event, &mut out).unwrap();
    }
    let (deltas, _) = told(&String::from_utf8(out).unwrap());
    let blocks: Vec<_> =
        deltas.iter().filter_map(|delta| delta["thinking_blocks"].as_array()).flatten().cloned().collect();
    let message =
        serde_json::json!({"messages": [{"role": "assistant", "content": "x", "thinking_blocks": blocks}]});
    let body = message.to_string();
    let parts = &decode::request(body.as_bytes()).unwrap().turns[0].parts;
    assert_eq!(
        parts[0],
        Part::Thinking { text: Text::escaped(br"one\ntwo"), signature: Some(Text::escaped(b"EqQB+/=")) }
    );
    assert_eq!(parts[1], Part::Redacted(Text::escaped(b"gAAA")));
}

#[test]
fn a_tool_for_free_text_is_called_with_free_text() {
    let context = Context { custom_tools: vec![Text::escaped(b"patch")], ..context() };
    let (mut encoder, mut fold) = (encode::Events::new(context.clone()), encode::Body::new(context));
    let kind =
        PartKind::ToolCall { id: Text::escaped(b"c"), name: Text::escaped(b"patch"), is_custom: false };
    let mut out = Vec::new();
    for event in [
        Event::Start { id: Text::default(), model: Text::default() },
        Event::Open { part: 0, kind },
        Event::Delta { part: 0, text: Text::escaped(br#"{\"input\":\"+ a\\n"#) },
        Event::Delta { part: 0, text: Text::escaped(br#"- b\"}"#) },
        Event::Close { part: 0 },
        Event::Finish { reason: FinishReason::ToolCalls, stop_sequence: None },
        Event::End,
    ] {
        encoder.event(&event, &mut out).unwrap();
        fold.event(&event).unwrap();
    }
    let (deltas, _) = told(&String::from_utf8(out).unwrap());
    assert_eq!(deltas[1]["tool_calls"][0]["type"], "custom");
    assert_eq!(deltas[2]["tool_calls"][0]["custom"]["input"], "+ a\n- b");
    let mut body = Vec::new();
    assert!(fold.finish(&mut body));
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["choices"][0]["message"]["tool_calls"][0]["custom"]["input"], "+ a\n- b");
}

#[test]
fn a_whole_response_says_what_its_stream_says() {
    let body = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":
        {"role":"assistant","content":"a\nb","refusal":null,"reasoning":"hm","tool_calls":[
        {"id":"c","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"d","type":"function","function":{"name":"g","arguments":""}}]},
        "finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,
        "prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":1}}}"#;
    let mut fold = encode::Body::new(context());
    decode::body(&context(), body.as_bytes(), &mut |event| fold.event(&event).unwrap()).unwrap();
    let mut out = Vec::new();
    assert!(fold.finish(&mut out));
    let told: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let message = &told["choices"][0]["message"];
    assert_eq!(
        (message["content"].as_str(), message["reasoning_content"].as_str()),
        (Some("a\nb"), Some("hm"))
    );
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"x\":1}");
    assert_eq!(message["tool_calls"][1]["function"]["arguments"], "{}");
    assert_eq!(told["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(
        (&told["usage"]["total_tokens"], &told["usage"]["prompt_tokens_details"]["cached_tokens"]),
        (&7.into(), &3.into())
    );
    for other in [
        r#"{"error":{"message":"x"}}"#,
        "null",
        "[]",
        r#"{"choices":[]}"#,
        r#"{"choices":[{"text":"x"}]}"#,
        r#"{"choices":[{"message":{"content":"x"},"finish_reason":null}]}"#,
    ] {
        assert!(decode::body(&context(), other.as_bytes(), &mut |_| {}).is_err(), "{other}");
    }
}

#[test]
fn what_is_held_is_bounded() {
    let context = Context { held_bytes_max: 10, ..context() };
    let mut encoder = encode::Events::new(context.clone());
    let mut fold = encode::Body::new(context);
    let long = Text::escaped(b"12345678901");
    let (open, delta) =
        (Event::Open { part: 0, kind: PartKind::Thinking }, Event::Delta { part: 0, text: long });
    encoder.event(&open, &mut Vec::new()).unwrap();
    assert!(encoder.event(&delta, &mut Vec::new()).is_err());
    fold.event(&open).unwrap();
    assert!(fold.event(&delta).is_err());
    let mut decoder = decode::Events::new(&Context { held_bytes_max: 10, ..self::context() });
    let nameless = self::delta(r#""tool_calls":[{"index":0,"function":{"arguments":"12345678901"}}]"#);
    let mut last = String::new();
    decoder.record(None, nameless[6..].trim_end().as_bytes(), &mut |event| last = format!("{event:?}"));
    assert!(last.starts_with("Fault(") && last.contains("without a name"), "{last}");
}

#[test]
fn no_bytes_make_it_panic_and_what_is_written_is_json() {
    let request = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","content":null,"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"a","content":"x"}],"stop":["a"],"tools":[{"type":"function","function":{"name":"f"}}]}"#;
    let stream = [
        delta(r#""role":"assistant","content":"a","reasoning":"b""#),
        delta(r#""tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}]"#),
        finish("stop"),
    ]
    .concat();
    let mut noise = Noise::new(0x5eed);
    for round in 0..3_000 {
        let bytes = noise.mutate(request);
        if let Ok(request) = decode::request(&bytes) {
            let mut out = Vec::new();
            if encode::request(&request, &TARGET, &mut out).is_ok() {
                assert!(crate::wire::json::is_object(&out), "round {round}: {}", out.escape_ascii());
            }
        }
        let stream = noise.mutate(stream.as_bytes());
        let (mut decoder, mut encoder) = (decode::Events::new(&context()), encode::Events::new(context()));
        let mut out = Vec::new();
        for span in sse::events(&stream) {
            let event = sse::event(span.of(&stream));
            let mut each = |event: Event<'_>| encoder.event(&event, &mut out).unwrap();
            decoder.record(event.name, event.data.unwrap_or_default(), &mut each);
        }
        for span in sse::events(&out) {
            let event = sse::event(span.of(&out));
            let data = event.data.unwrap_or_default();
            assert!(
                data == b"[DONE]" || crate::wire::json::is_object(data),
                "round {round}: {}",
                out.escape_ascii()
            );
        }
    }
}
