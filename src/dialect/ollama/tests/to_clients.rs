//! Responses for clients.

use super::*;
use crate::dialect::neutral::{FaultRecord, PartKind, Text};
use serde_json::{Value, json};

fn plain(text: &str) -> Text<'static> {
    Text::plain(text)
}

fn told(events: &[Event<'_>]) -> Vec<Value> {
    let (mut out, mut encoder) = (Vec::new(), encode::Events::new(context()));
    events.iter().for_each(|event| encoder.event(event, &mut out).unwrap());
    let text = String::from_utf8(out).unwrap();
    assert!(text.is_empty() || text.ends_with('\n') && !text.contains("\n\n"), "no blank line: {text:?}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn start() -> Event<'static> {
    Event::Start { id: plain("x"), model: Text::default() }
}

fn call(part: usize, name: &str) -> Event<'static> {
    let kind = PartKind::ToolCall { id: plain(&format!("c{part}")), name: plain(name), is_custom: false };
    Event::Open { part, kind }
}

fn delta(part: usize, text: &str) -> Event<'static> {
    Event::Delta { part, text: plain(text) }
}

#[test]
fn a_whole_response_is_what_the_lines_say_together() {
    let (mut chat, mut generated) = (encode::Body::new(context()), generate::encode::Body::new(context()));
    let mut events = decode::Events::new(&context());
    for line in STREAM.lines() {
        events.record(None, line.as_bytes(), &mut |event| {
            chat.event(&event).unwrap();
            generated.event(&event).unwrap();
        });
    }
    let (mut out, mut other) = (Vec::new(), Vec::new());
    assert!(chat.finish(&mut out) && generated.finish(&mut other));
    let told: Value = serde_json::from_slice(&out).unwrap();
    let message = json!({"role": "assistant", "content": "Hi \"é\"\n", "thinking": "Let me see", "tool_calls": [
        {"id": "c1", "function": {"index": 0, "name": "ls", "arguments": {"at": "a\\b"}}},
        {"id": "call_00c0ffee3", "function": {"index": 1, "name": "pwd", "arguments": {}}}]});
    let expected = json!({"model": "qwen3", "created_at": "2023-11-14T22:13:20Z", "message": message,
        "done_reason": "stop", "done": true, "prompt_eval_count": 26, "eval_count": 9});
    assert_eq!(told, expected);
    let other: Value = serde_json::from_slice(&other).unwrap();
    assert_eq!((&other["response"], &other["context"]), (&json!("Hi \"é\"\n"), &json!([])));
    assert_eq!((&other["thinking"], &other["done"]), (&json!("Let me see"), &json!(true)));
}

#[test]
fn a_response_without_its_end_is_none() {
    let mut body = encode::Body::new(context());
    body.event(&start()).unwrap();
    let mut out = Vec::new();
    assert!(!body.finish(&mut out) && out.is_empty());
}

#[test]
fn generate_has_its_own_lines() {
    let stream = retold(
        "{\"message\":{\"content\":\"a\",\"thinking\":\"T\"},\"done\":false}\n{\"done\":true,\"eval_count\":1}",
        true,
    );
    let lines: Vec<Value> = stream.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["thinking"], &lines[0]["response"]), (&json!("T"), &json!("")));
    assert_eq!((&lines[1]["response"], &lines[1]["done"]), (&json!("a"), &json!(false)));
    assert_eq!((&lines[2]["response"], &lines[2]["done"]), (&json!(""), &json!(true)));
    assert_eq!(lines[2]["context"], json!([]), "clients look for it");
}

#[test]
fn interleaved_calls_come_whole_and_their_arguments_stand_on_one_line() {
    let lines = told(&[
        start(),
        call(0, "f"),
        call(1, "g"),
        delta(0, "{\n  \"a\":"),
        delta(1, "{}"),
        delta(0, "\n \"x\\ny\"\r\n}"),
        Event::Close { part: 0 },
        Event::Close { part: 1 },
        Event::Finish { reason: FinishReason::ToolCalls, stop_sequence: None },
        Event::End,
    ]);
    let function = |line: usize| &lines[line]["message"]["tool_calls"][0]["function"];
    assert_eq!(*function(0), json!({"index": 0, "name": "f", "arguments": {"a": "x\ny"}}));
    assert_eq!(*function(1), json!({"index": 1, "name": "g", "arguments": {}}));
    assert_eq!((&lines[2]["done"], &lines[2]["done_reason"]), (&json!(true), &json!("stop")));
    assert_eq!((lines.len(), lines[0]["model"].as_str()), (3, Some("m")), "the name the client asked for");
}

#[test]
fn arguments_are_an_object_whatever_the_backend_sent() {
    for (pieces, expected) in [
        (vec![], json!({})),
        (vec!["  "], json!({})),
        (vec!["[1]"], json!({"_raw": "[1]"})),
        (vec!["{\"a\":"], json!({"_raw": "{\"a\":"})),
    ] {
        let mut events = vec![start(), call(0, "f")];
        events.extend(pieces.iter().map(|piece| delta(0, piece)));
        events.push(Event::Close { part: 0 });
        let lines = told(&events);
        assert_eq!(lines[0]["message"]["tool_calls"][0]["function"]["arguments"], expected, "{pieces:?}");
    }
}

#[test]
fn arguments_that_are_too_long_are_not_held() {
    let mut encoder = encode::Events::new(Context { held_bytes_max: 10, ..context() });
    encoder.event(&start(), &mut Vec::new()).unwrap();
    encoder.event(&call(0, "f"), &mut Vec::new()).unwrap();
    assert!(encoder.event(&delta(0, "01234567890"), &mut Vec::new()).is_err());
}

#[test]
fn a_failure_is_a_line_with_an_error_and_never_done() {
    let record = FaultRecord { message: plain("over\"loaded"), ..FaultRecord::default() };
    let lines = told(&[start(), Event::Fault(record)]);
    assert_eq!(lines, [json!({"error": "over\"loaded"})]);
    assert_eq!(told(&[start(), Event::Ping, Event::Close { part: 3 }, delta(9, "x")]), Vec::<Value>::new());
}

#[test]
fn reasons_are_out_of_ollamas_set() {
    for (reason, word) in [
        (FinishReason::Stop, "stop"),
        (FinishReason::Length, "length"),
        (FinishReason::ToolCalls, "stop"),
        (FinishReason::ContentFilter, "stop"),
    ] {
        let lines = told(&[start(), Event::Finish { reason, stop_sequence: None }, Event::End]);
        assert_eq!(lines[0]["done_reason"], word);
        assert!(lines[0].get("eval_count").is_none(), "an unknown count is not zero");
    }
}
