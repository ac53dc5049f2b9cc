//! Responses for clients.

use super::*;
use crate::dialect::neutral::{FinishReason, HeldTooMuch};
use crate::dialect::usage::Usage;
use serde_json::{Value, json};

fn start() -> Event<'static> {
    Event::Start { id: text("chatcmpl-1"), model: text("m") }
}

fn open(part: usize, kind: PartKind<'static>) -> Event<'static> {
    Event::Open { part, kind }
}

fn call(part: usize, id: &'static str) -> Event<'static> {
    open(part, PartKind::ToolCall { id: text(id), name: text("f"), is_custom: false })
}

fn delta(part: usize, piece: &'static str) -> Event<'static> {
    Event::Delta { part, text: text(piece) }
}

fn finish(reason: FinishReason) -> Event<'static> {
    Event::Finish { reason, stop_sequence: None }
}

fn usage() -> Event<'static> {
    let counts = br#"{"prompt_tokens":15,"completion_tokens":5,"total_tokens":20,"prompt_tokens_details":{"cached_tokens":10,"cache_write_tokens":2}}"#;
    Event::Usage(Usage::read(counts).unwrap().unwrap())
}

/// The events of a stream, each in short.
fn short(stream: &str) -> Vec<String> {
    let record = |record: &str| {
        let (name, data) = record.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], name);
        let word = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
        match name {
            "content_block_start" => {
                format!("start {} {}", data["index"], word(&data["content_block"]["type"]))
            }
            "content_block_stop" => format!("stop {}", data["index"]),
            "content_block_delta" => {
                let delta = data["delta"].as_object().unwrap();
                let said = delta.iter().find(|(name, _)| *name != "type").unwrap().1;
                format!("{} {} {}", word(&delta["type"]), data["index"], word(said))
            }
            "message_delta" => format!("{name} {}", word(&data["delta"]["stop_reason"])),
            _ => name.to_owned(),
        }
    };
    stream.split_terminator("\n\n").map(record).collect()
}

#[test]
fn a_whole_stream_is_written() {
    let told = encoded(&[
        start(),
        open(0, PartKind::Text),
        delta(0, "Hi \\\"é\\\""),
        Event::Close { part: 0 },
        Event::Ping,
        call(1, "call_1"),
        delta(1, "{\\\"a\\\":"),
        delta(1, "1}"),
        Event::Close { part: 1 },
        finish(FinishReason::ToolCalls),
        usage(),
        Event::End,
        delta(0, "late"),
    ]);
    assert_eq!(
        told,
        r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_chatcmpl-1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi \"é\""}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: ping
data: {"type":"ping"}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"call_1","name":"f","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"1}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":3,"cache_creation_input_tokens":2,"cache_read_input_tokens":10,"output_tokens":5}}

event: message_stop
data: {"type":"message_stop"}

"#
    );
}

#[test]
fn a_whole_body_is_folded() {
    let sealed = Event::Signature { part: 1, text: text("c2ln") };
    let events = [
        start(),
        open(0, PartKind::Thinking),
        delta(0, "open"),
        open(1, PartKind::Thinking),
        delta(1, "sealed"),
        sealed,
        open(2, PartKind::Redacted(text("eA=="))),
        open(3, PartKind::Text),
        open(4, PartKind::Refusal),
        delta(4, "No."),
        call(5, "a"),
        delta(5, "{\\\"x\\\":"),
        call(6, "b"),
        delta(5, "\\\"\\\\\\\"\\\"}"),
        finish(FinishReason::Stop),
        usage(),
        Event::End,
    ];
    assert_eq!(
        folded(&events).unwrap(),
        json!({
            "id":"msg_chatcmpl-1","type":"message","role":"assistant","model":"m",
            "content":[
                {"type":"thinking","thinking":"open","signature":""},
                {"type":"thinking","thinking":"sealed","signature":"c2ln"},
                {"type":"redacted_thinking","data":"eA=="},
                {"type":"text","text":"No."},
                {"type":"tool_use","id":"a","name":"f","input":{"x":"\""}},
                {"type":"tool_use","id":"b","name":"f","input":{}},
            ],
            "stop_reason":"tool_use","stop_sequence":null,
            "usage":{"input_tokens":3,"cache_creation_input_tokens":2,"cache_read_input_tokens":10,"output_tokens":5},
        })
    );
    assert_eq!(folded(&events[..events.len() - 1]), None, "without its end it is no response");
    assert_eq!(folded(&[Event::End]).unwrap()["content"], json!([]));
}

#[test]
fn interleaved_calls_are_told_one_after_the_other() {
    let told = encoded(&[
        start(),
        call(0, "a"),
        delta(0, "{\\\"a\\\":"),
        call(1, "b"),
        delta(1, "{\\\"b\\\":"),
        delta(0, "1}"),
        open(2, PartKind::Text),
        delta(2, "meanwhile"),
        delta(1, "2}"),
        Event::Close { part: 2 },
        Event::Close { part: 0 },
        Event::Close { part: 1 },
        finish(FinishReason::ToolCalls),
        Event::End,
    ]);
    assert_eq!(
        short(&told),
        [
            "message_start",
            "start 0 tool_use",
            "input_json_delta 0 {\"a\":",
            "input_json_delta 0 1}",
            "stop 0",
            "start 1 tool_use",
            "input_json_delta 1 {\"b\":2}",
            "stop 1",
            "start 2 text",
            "text_delta 2 meanwhile",
            "stop 2",
            "message_delta tool_use",
            "message_stop",
        ]
    );
}

#[test]
fn what_says_nothing_opens_no_block() {
    let told = encoded(&[
        start(),
        open(0, PartKind::Text),
        delta(0, ""),
        Event::Close { part: 0 },
        open(1, PartKind::Thinking),
        Event::Signature { part: 1, text: text("") },
        Event::Close { part: 1 },
        open(2, PartKind::Thinking),
        Event::Signature { part: 2, text: text("c2ln") },
        Event::Close { part: 2 },
        open(3, PartKind::Text),
        delta(3, "a"),
        finish(FinishReason::Stop),
        Event::End,
    ]);
    assert_eq!(
        short(&told),
        [
            "message_start",
            "start 0 thinking",
            "signature_delta 0 c2ln",
            "stop 0",
            "start 1 text",
            "text_delta 1 a",
            "stop 1",
            "message_delta end_turn",
            "message_stop",
        ]
    );
    assert!(told.contains(r#"{"type":"thinking","thinking":"","signature":""}"#));
}

#[test]
fn zero_arguments_have_no_delta_however_they_are_spelt() {
    for pieces in [&[][..], &[""], &["{}"], &["null"], &["nu", "ll"], &[" ", "\\n"], &["  ", "{}"]] {
        let mut events = vec![start(), call(0, "a")];
        events.extend(pieces.iter().map(|piece| delta(0, piece)));
        events.extend([Event::Close { part: 0 }, Event::End]);
        let told = short(&encoded(&events));
        let deltas: Vec<_> = told.iter().filter(|line| line.contains("json")).collect();
        assert!(deltas.is_empty() || deltas == ["input_json_delta 0 {}"], "{pieces:?} {deltas:?}");
        assert_eq!(folded(&events).unwrap()["content"][0]["input"], json!({}));
    }
    let events = [
        start(),
        call(0, "a"),
        delta(0, "[1"),
        delta(0, ",\\\"x\\\"]"),
        Event::Close { part: 0 },
        Event::End,
    ];
    assert!(short(&encoded(&events)).contains(&"input_json_delta 0 {\"_raw\":\"[1,\\\"x\\\"]\"}".into()));
    assert_eq!(folded(&events).unwrap()["content"][0]["input"], json!({"_raw":"[1,\"x\"]"}));
}

#[test]
fn stop_reasons_are_the_apis_own_and_calls_win_over_stop_only() {
    let told = |reason, sequence: Option<&'static str>, calls: bool| {
        let stop_sequence = sequence.map(text);
        let mut events = vec![start()];
        events.extend(calls.then(|| call(0, "a")));
        events.extend([Event::Finish { reason, stop_sequence }, Event::End]);
        let body = folded(&events).unwrap();
        let stream = encoded(&events);
        let last = short(&stream);
        assert_eq!(last[last.len() - 2], format!("message_delta {}", body["stop_reason"].as_str().unwrap()));
        (body["stop_reason"].clone(), body["stop_sequence"].clone())
    };
    assert_eq!(told(FinishReason::Stop, None, false), (json!("end_turn"), Value::Null));
    assert_eq!(told(FinishReason::Stop, Some("END"), false), (json!("stop_sequence"), json!("END")));
    assert_eq!(told(FinishReason::Stop, Some(""), false).0, "end_turn");
    assert_eq!(told(FinishReason::Stop, Some("END"), true), (json!("tool_use"), Value::Null));
    assert_eq!(told(FinishReason::Length, None, true).0, "max_tokens");
    assert_eq!(told(FinishReason::ContentFilter, None, true).0, "refusal");
}

#[test]
fn a_message_starts_once_and_has_counts_whatever_comes() {
    let told = encoded(&[Event::Ping, open(0, PartKind::Text), delta(0, "a"), start(), Event::End]);
    let lines = short(&told);
    assert_eq!(lines[..2], ["ping", "message_start"]);
    assert_eq!(lines.iter().filter(|line| *line == "message_start").count(), 1);
    assert!(told.contains(r#""id":"msg_r1","#) && told.contains(r#""model":"team-model""#));
    assert!(told.contains(r#""output_tokens":0}}"#), "{told}");
    assert!(encoded(&[Event::Start { id: text("msg_7"), model: text("") }]).contains(r#""id":"msg_7","#));
}

#[test]
fn a_fault_is_an_error_event_and_the_last_one() {
    let record = FaultRecord { message: text("Overloaded"), status: Some(503), ..FaultRecord::default() };
    let told = encoded(&[
        start(),
        open(0, PartKind::Text),
        delta(0, "a"),
        Event::Fault(record),
        Event::End,
        Event::Ping,
    ]);
    let last = told.split_terminator("\n\n").last().unwrap();
    assert_eq!(
        last,
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"},\"request_id\":\"r1\"}"
    );
}

#[test]
fn what_is_held_back_has_a_bound() {
    let mut encoder = encode::Events::new(Context { held_bytes_max: 1000, ..context() });
    let mut out = Vec::new();
    for event in [start(), call(0, "a"), call(1, "b")] {
        encoder.event(&event, &mut out).unwrap();
    }
    let piece = Text::owned(vec![b'x'; 500]);
    let more = |part| Event::Delta { part, text: piece.clone() };
    encoder.event(&delta(0, "{"), &mut out).unwrap();
    for _ in 0..10 {
        encoder.event(&more(0), &mut out).unwrap();
    }
    encoder.event(&more(1), &mut out).unwrap();
    assert_eq!(encoder.event(&more(1), &mut out), Err(HeldTooMuch));
    let mut body = encode::Body::new(Context { held_bytes_max: 1000, ..context() });
    body.event(&open(0, PartKind::Text)).unwrap();
    body.event(&more(0)).unwrap();
    assert_eq!(body.event(&more(0)), Err(HeldTooMuch));
}

fn error(status: u16, record: &FaultRecord<'_>) -> Value {
    let mut out = Vec::new();
    encode::fault(record, status, "r1", &mut out);
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn errors_have_the_type_of_their_status_and_the_backends_words() {
    for (status, kind) in [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ] {
        let record = FaultRecord { message: text("say \\\"why\\\""), ..FaultRecord::default() };
        let expected =
            json!({"type":"error","error":{"type":kind,"message":"say \"why\""},"request_id":"r1"});
        assert_eq!(error(status, &record), expected);
    }
    let silent = error(502, &FaultRecord::default());
    assert_eq!(silent["error"]["message"], "the backend responded with status 502");
}

#[test]
fn a_prompt_that_is_too_long_is_said_in_the_words_that_make_agents_compact() {
    for (message, code) in [
        ("This model's maximum context length is 4096 tokens.", None),
        ("Input is too long for requested model.", None),
        ("The input token count (9) exceeds the maximum number of tokens allowed (8).", None),
        ("the request exceeds the available context size, try increasing it", None),
        ("Your input exceeds the context window of this model.", None),
        ("Too big.", Some("context_length_exceeded")),
    ] {
        let record = FaultRecord { message: text(message), code: code.map(text), ..FaultRecord::default() };
        assert_eq!(error(400, &record)["error"]["message"], format!("prompt is too long: {message}"));
    }
    for message in [
        "Prompt is too long: 9 tokens > 8 maximum",
        "input length and `max_tokens` exceed context limit: 9 + 8 > 10",
        "messages: field required",
    ] {
        let record = FaultRecord { message: text(message), ..FaultRecord::default() };
        assert_eq!(error(400, &record)["error"]["message"], message);
    }
}
