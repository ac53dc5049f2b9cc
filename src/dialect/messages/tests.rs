//! Whole requests and streams each way, then one test for each trap.

mod from_backends;
mod from_clients;
mod to_backends;
mod to_clients;

use super::{decode, encode};
use crate::dialect::neutral::{Context, Event, FaultRecord, PartKind, Request, Target, Text};
use crate::wire::noise::Noise;

fn context() -> Context {
    Context {
        request_id: "r1".into(),
        model: "team-model".into(),
        custom_tools: Vec::new(),
        created: 1_700_000_000,
        include_usage: false,
        held_bytes_max: 1 << 20,
    }
}

fn target() -> Target<'static> {
    Target {
        model: b"\"claude-sonnet-4-6\"",
        output_max_default: 4096,
        takes_stream_options: true,
        output_cap_member: "max_tokens",
        takes_extras: false,
    }
}

/// An event in one line.
fn line(event: &Event<'_>) -> String {
    let text = |text: &Text<'_>| String::from_utf8_lossy(text.inside()).into_owned();
    match event {
        Event::Start { id, model } => format!("start {} {}", text(id), text(model)),
        Event::Open { part, kind } => match kind {
            PartKind::Text => format!("open {part} text"),
            PartKind::Refusal => format!("open {part} refusal"),
            PartKind::Thinking => format!("open {part} thinking"),
            PartKind::Redacted(data) => format!("open {part} redacted {}", text(data)),
            PartKind::ToolCall { id, name, .. } => format!("open {part} call {} {}", text(id), text(name)),
        },
        Event::Delta { part, text: piece } => format!("delta {part} {}", text(piece)),
        Event::Signature { part, text: seal } => format!("signature {part} {}", text(seal)),
        Event::Close { part } => format!("close {part}"),
        Event::Finish { reason, stop_sequence } => {
            format!("finish {reason:?} {}", stop_sequence.as_ref().map_or(String::new(), text))
        }
        Event::Usage(usage) => {
            format!("usage {} {} {} {}", usage.input, usage.cached, usage.cache_write, usage.output)
        }
        Event::Ping => "ping".into(),
        Event::Fault(record) => format!("fault {} {:?}", text(&record.message), record.status),
        Event::End => "end".into(),
    }
}

/// The records of a stream, as `event: ..` and `data: ..` lines.
fn decoded(stream: &str) -> (Vec<String>, bool) {
    let mut events = decode::Events::new(&context());
    let mut lines = Vec::new();
    for record in stream.split("\n\n").filter(|record| !record.trim().is_empty()) {
        let (mut name, mut data) = (None, "");
        for field in record.trim().lines() {
            name = field.strip_prefix("event: ").or(name);
            data = field.strip_prefix("data: ").unwrap_or(data);
        }
        events.record(name.map(str::as_bytes), data.as_bytes(), &mut |event| lines.push(line(&event)));
    }
    events.end(&mut |event| lines.push(line(&event)));
    (lines, events.is_whole())
}

/// Data lines only; each is told with the type it says.
fn decoded_data(records: &[&str]) -> (Vec<String>, bool) {
    decoded(&records.iter().map(|data| format!("data: {data}")).collect::<Vec<_>>().join("\n\n"))
}

fn text(inside: &'static str) -> Text<'static> {
    Text::escaped(inside.as_bytes())
}

fn encoded(events: &[Event<'_>]) -> String {
    let mut encoder = encode::Events::new(context());
    let mut out = Vec::new();
    events.iter().for_each(|event| encoder.event(event, &mut out).unwrap());
    String::from_utf8(out).unwrap()
}

fn folded(events: &[Event<'_>]) -> Option<serde_json::Value> {
    let mut body = encode::Body::new(context());
    events.iter().for_each(|event| body.event(event).unwrap());
    let mut out = Vec::new();
    body.finish(&mut out).then(|| serde_json::from_slice(&out).unwrap())
}

fn refusal_of(body: &str) -> String {
    decode::request(body.as_bytes()).unwrap_err().to_string()
}

fn losses_of(request: &Request<'_>) -> Vec<String> {
    request.losses.iter().map(str::to_owned).collect()
}

const STREAM: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"cache_creation_input_tokens":2,"cache_read_input_tokens":10,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm\n"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"ZGF0YQ=="}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Say \"é\u00e9\""}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: content_block_start
data: {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_1","name":"read","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"path\": \"a"}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"b\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":3}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":5}}

event: message_stop
data: {"type":"message_stop"}

"#;

#[test]
fn a_whole_stream_decodes_and_encodes_to_itself_but_for_what_moves() {
    let mut decoder = decode::Events::new(&context());
    let mut encoder = encode::Events::new(context());
    let mut out = Vec::new();
    for record in STREAM.split_terminator("\n\n") {
        let data = record.split_once("data: ").unwrap().1;
        decoder.record(None, data.as_bytes(), &mut |event| encoder.event(&event, &mut out).unwrap());
    }
    assert!(decoder.is_whole());
    let told = String::from_utf8(out).unwrap();
    let kinds = |stream: &str| -> Vec<serde_json::Value> {
        let data = stream.split_terminator("\n\n").map(|record| record.split_once("data: ").unwrap().1);
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    };
    // An empty piece of arguments says nothing, and a block starts with its first byte, so that a ping may come before it.
    let is_told = |event: &serde_json::Value| event["delta"]["partial_json"] != "" && event["type"] != "ping";
    let (mut came, mut went) = (kinds(STREAM), kinds(&told));
    came.retain(is_told);
    went.retain(is_told);
    assert_eq!(came.len(), went.len());
    for (came, went) in came.iter().zip(&went) {
        match came["type"].as_str().unwrap() {
            "message_start" => assert_eq!(went["message"]["id"], "msg_01"),
            "message_delta" => {
                assert_eq!(came["delta"], went["delta"]);
                let usage = serde_json::json!({
                    "input_tokens":3,"cache_creation_input_tokens":2,"cache_read_input_tokens":10,"output_tokens":5
                });
                assert_eq!(went["usage"], usage);
            }
            _ => assert_eq!(came, went),
        }
    }
    assert!(told.split_terminator("\n\n").all(|record| record.starts_with("event: ")));
}

#[test]
fn no_bytes_make_it_panic_and_what_is_told_stays_sound() {
    let mut noise = Noise::new(7);
    for _ in 0..3_000 {
        let mut decoder = decode::Events::new(&context());
        let mut encoder = encode::Events::new(context());
        let mut body = encode::Body::new(context());
        let mut out = Vec::new();
        for record in STREAM.split_terminator("\n\n") {
            let (name, data) = record.split_once("\ndata: ").unwrap();
            let data = if noise.below(6) == 0 { noise.mutate(data.as_bytes()) } else { data.into() };
            let name = name.strip_prefix("event: ").map(str::as_bytes);
            decoder.record(name, &data, &mut |event| {
                encoder.event(&event, &mut out).unwrap();
                body.event(&event).unwrap();
            });
        }
        for record in String::from_utf8_lossy(&out).split_terminator("\n\n") {
            let data = record.split_once("\ndata: ").unwrap().1;
            assert!(serde_json::from_str::<serde_json::Value>(data).is_ok(), "{data}");
        }
        let mut out = Vec::new();
        if body.finish(&mut out) {
            assert!(serde_json::from_str::<serde_json::Value>(&String::from_utf8_lossy(&out)).is_ok());
        }
    }
    for _ in 0..3_000 {
        let body = noise.mutate(from_clients::REQUEST.as_bytes());
        if let Ok(request) = decode::request(&body) {
            let mut out = Vec::new();
            if encode::request(&request, &target(), &mut out).is_ok() {
                assert!(serde_json::from_str::<serde_json::Value>(&String::from_utf8_lossy(&out)).is_ok());
            }
        }
        let body = noise.mutate(from_backends::MESSAGE.as_bytes());
        _ = decode::body(&context(), &body, &mut |_| {});
        let record: FaultRecord<'_> = decode::fault(400, &body);
        let mut out = Vec::new();
        encode::fault(&record, 400, "r1", &mut out);
        assert!(serde_json::from_str::<serde_json::Value>(&String::from_utf8_lossy(&out)).is_ok());
    }
}
