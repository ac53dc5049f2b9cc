//! Requests, from a client and to a backend.

use super::super::{decode, encode};
use super::TARGET;
use crate::dialect::neutral::{Part, Role, Source, Text, Turn};
use crate::error::FaultKind;

fn to_backend(body: &str) -> serde_json::Value {
    let request = decode::request(body.as_bytes()).unwrap();
    let mut out = Vec::new();
    encode::request(&request, &TARGET, &mut out).unwrap();
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", out.escape_ascii()))
}

#[test]
fn a_request_comes_through_whole() {
    let body = r#"{"model":"public","stream":true,"messages":[
        {"role":"developer","content":"Be \u00e9xact."},
        {"role":"user","content":[{"type":"text","text":"What is it?"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,iVBO","detail":"low"}},
            {"type":"file","file":{"file_data":"data:application/pdf;base64,JVBE","filename":"a.pdf"}}]},
        {"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[
            {"id":"c1","type":"function","function":{"name":"look","arguments":"{\"at\":\"a\\\\b\"}"}}]},
        {"role":"tool","tool_call_id":"c1","content":"seen"}],
        "tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object","$defs":{}},"strict":true}},
                 {"type":"function","function":{"name":"wait"}}],
        "tool_choice":{"type":"function","function":{"name":"look"}},"parallel_tool_calls":false,
        "max_completion_tokens":64,"temperature":0.50,"stop":"END","n":1,"reasoning_effort":"xhigh",
        "response_format":{"type":"json_schema","json_schema":{"name":"o","schema":{"type":"object"},"strict":true}},
        "user":"u1","metadata":{"a":"b"},"logit_bias":{"1":2}}"#;
    let request = decode::request(body.as_bytes()).unwrap();
    assert_eq!(request.losses.iter().collect::<Vec<_>>(), ["metadata", "logit_bias"]);
    let expected = serde_json::json!({
        "model": "backend/model", "stream": true, "stream_options": {"include_usage": true},
        "messages": [
            {"role": "system", "content": "Be éxact."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}}]},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":\"a\\\\b\"}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "seen"}],
        "tools": [
            {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "$defs": {}}, "strict": true}},
            {"type": "function", "function": {"name": "wait", "parameters": {"type": "object", "properties": {}}}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}}, "parallel_tool_calls": false,
        "max_tokens": 64, "temperature": 0.5, "stop": ["END"], "reasoning_effort": "high",
        "response_format": {"type": "json_schema", "json_schema": {"name": "o", "schema": {"type": "object"}, "strict": true}},
        "user": "u1"
    });
    assert_eq!(to_backend(body), expected);
}

#[test]
fn what_would_change_the_meaning_is_refused_by_name() {
    let with =
        |member: &str| format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{member}}}"#);
    for (member, name) in [
        (r#""n":2"#, "'n'"),
        (r#""logprobs":true"#, "'logprobs'"),
        (r#""modalities":["text","audio"]"#, "'modalities'"),
        (r#""functions":[]"#, "'functions'"),
        (r#""tools":[{"type":"web_search"}]"#, "'tools[0].type'"),
        (r#""response_format":{"type":"grammar"}"#, "'response_format.type'"),
        (r#""tool_choice":{"type":"allowed_tools"}"#, "'tool_choice'"),
    ] {
        let fault = decode::request(with(member).as_bytes()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::MemberUnsupported, "{member}");
        assert!(fault.note.starts_with(name), "{member}: {}", fault.note);
    }
    for (body, name) in [
        (r#"{"messages":[{"role":"robot"}]}"#, "'messages[0].role'"),
        (r#"{"messages":[{"role":"tool","content":"x"}]}"#, "'messages[0].tool_call_id'"),
        (r#"{"messages":[{"role":"user","content":7}]}"#, "'messages[0].content'"),
        (r#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#, "'messages[0].content[0].text'"),
        (r#"{"messages":"x"}"#, "'messages'"),
        (r#"{"messages":[],"stop":[1]}"#, "'stop'"),
    ] {
        let fault = decode::request(body.as_bytes()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::BodyMalformed, "{body}");
        assert!(fault.note.starts_with(name), "{body}: {}", fault.note);
    }
}

#[test]
fn a_later_system_message_keeps_its_place() {
    let body = r#"{"messages":[{"role":"system","content":"a"},{"role":"developer","content":"b"},
        {"role":"user","content":"x"},{"role":"system","content":"c"}]}"#;
    let request = decode::request(body.as_bytes()).unwrap();
    assert_eq!((request.system.len(), request.turns.len()), (2, 2));
    assert_eq!(request.turns[1].role, Role::System);
    assert_eq!(to_backend(body)["messages"][0]["content"], "a\n\nb");
}

#[test]
fn results_of_tools_come_first_and_their_pictures_after_the_last_of_them() {
    let result = |id: &'static str, parts: Vec<Part<'static>>, is_error| Part::ToolResult {
        id: Text::escaped(id.as_bytes()),
        name: None,
        parts,
        is_error,
    };
    let text = |text: &'static str| Part::Text(Text::escaped(text.as_bytes()));
    let picture = Part::Image(Source::Url(Text::escaped(b"https://a.example/x.png")));
    let mut request = decode::request(br#"{"messages":[]}"#).unwrap();
    request.turns.push(Turn {
        role: Role::User,
        parts: vec![
            text("look"),
            result("a", vec![text("one"), picture, text("two")], false),
            result("b", vec![], false),
            result("c", vec![text("no file")], true),
        ],
    });
    let mut out = Vec::new();
    encode::request(&request, &TARGET, &mut out).unwrap();
    let written: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let expected = serde_json::json!([
        {"role": "tool", "tool_call_id": "a", "content": "one\ntwo"},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "tool", "tool_call_id": "c", "content": "Error: no file"},
        {"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}, {"type": "text", "text": "look"}]}
    ]);
    assert_eq!(written["messages"], expected);
}
