//! Requests of clients, for backends.

use super::*;
use crate::dialect::chat;
use serde_json::{Value, json};

pub(super) const CHAT: &str = r#"{"model":"m","messages":[
    {"role":"system","content":"Be \"exact\"."},
    {"role":"user","content":"What is this?","images":["iVBORw0KGgo=","\/9j\/4AAQ"]},
    {"role":"assistant","content":"","thinking":"hm","tool_calls":[{"function":{"name":"ls","arguments":{"at":"/"}}},{"function":{"name":"pwd","arguments":{}}}]},
    {"role":"tool","content":"a b","tool_name":"ls"},{"role":"tool","content":"/","name":"pwd"},
    {"role":"user","content":"and?"}],
    "tools":[{"type":"function","function":{"name":"ls","description":"lists","parameters":{"type":"object","properties":{"at":{"type":"string"}}}}}],
    "format":{"type":"object"},"think":false,"keep_alive":"5m",
    "options":{"num_ctx":8192,"num_predict":64,"temperature":0.2,"top_k":40,"top_p":0.9,"seed":7,"stop":["END"]}}"#;
pub(super) const GENERATE: &str = r#"{"model":"m","system":"S","prompt":"P","images":["R0lGOD"],"context":[],"raw":false,"stream":false,"format":"json"}"#;

/// The request as a backend gets it, and what was lost.
fn sent(body: &str) -> (Value, Vec<String>) {
    let request = decode::request(body.as_bytes()).unwrap();
    let mut out = Vec::new();
    let losses = encode::request(&request, &TARGET, &mut out).unwrap();
    (serde_json::from_slice(&out).unwrap(), losses.iter().map(str::to_owned).collect())
}

/// The same for a request in OpenAI's dialect; or the words of the refusal.
fn from_chat(body: &Value) -> Result<Value, String> {
    let body = body.to_string();
    let request = chat::decode::request(body.as_bytes()).unwrap();
    let mut out = Vec::new();
    encode::request(&request, &TARGET, &mut out).map_err(|fault| fault.note.into_owned())?;
    Ok(serde_json::from_slice(&out).unwrap())
}

#[test]
fn a_whole_request_goes_through_the_neutral_form() {
    let (body, losses) = sent(CHAT);
    let expected = json!({"model": "qwen3:8b", "stream": true, "think": false, "format": {"type": "object"},
        "messages": [
            {"role": "system", "content": "Be \"exact\"."},
            {"role": "user", "content": "What is this?", "images": ["iVBORw0KGgo=", "/9j/4AAQ"]},
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [
                {"function": {"name": "ls", "arguments": {"at": "/"}}}, {"function": {"name": "pwd", "arguments": {}}}]},
            {"role": "tool", "content": "a b", "tool_name": "ls"},
            {"role": "tool", "content": "/", "tool_name": "pwd"},
            {"role": "user", "content": "and?"}],
        "tools": [{"type": "function", "function": {"name": "ls", "description": "lists",
            "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}}],
        "options": {"num_predict": 64, "temperature": 0.2, "top_p": 0.9, "top_k": 40, "seed": 7, "stop": ["END"]}});
    assert_eq!(body, expected);
    assert_eq!(losses, ["keep_alive", "options.num_ctx"]);
}

#[test]
fn to_openai_the_same_request_has_ids_and_data_urls() {
    let request = decode::request(CHAT.as_bytes()).unwrap();
    let mut out = Vec::new();
    chat::encode::request(&request, &TARGET, &mut out).unwrap();
    let body: Value = serde_json::from_slice(&out).unwrap();
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(messages[1]["content"][1]["image_url"]["url"], "data:image/png;base64,iVBORw0KGgo=");
    assert_eq!(messages[1]["content"][2]["image_url"]["url"], "data:image/jpeg;base64,/9j/4AAQ");
    let calls = &messages[2]["tool_calls"];
    assert_eq!(calls[0]["function"]["arguments"], r#"{"at":"/"}"#);
    assert_eq!(
        (&calls[0]["id"], &calls[1]["id"]),
        (&messages[3]["tool_call_id"], &messages[4]["tool_call_id"])
    );
    assert_eq!(
        (&body["max_tokens"], &body["stream"], &body["stop"]),
        (&json!(64), &json!(true), &json!(["END"]))
    );
    assert_eq!(body["response_format"]["json_schema"]["schema"], json!({"type": "object"}));
}

#[test]
fn a_stream_is_the_default_and_is_always_said() {
    for (wish, streams) in
        [("", true), (r#","stream":true"#, true), (r#","stream":null"#, true), (r#","stream":false"#, false)]
    {
        let (body, _) = sent(&format!(r#"{{"model":"m","messages":[]{wish}}}"#));
        assert_eq!(body["stream"], streams, "{wish}");
    }
    assert_eq!(from_chat(&json!({"messages": []})).unwrap()["stream"], false);
}

#[test]
fn a_prompt_is_a_conversation_of_one_turn() {
    let request = decode::generate_request(GENERATE.as_bytes()).unwrap();
    let mut out = Vec::new();
    encode::request(&request, &TARGET, &mut out).unwrap();
    let body: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        body["messages"],
        json!([{"role": "system", "content": "S"}, {"role": "user", "content": "P", "images": ["R0lGOD"]}])
    );
    assert_eq!((&body["stream"], &body["format"]), (&json!(false), &json!("json")));
    for member in [r#""suffix":"x""#, r#""raw":true"#, r#""template":"x""#, r#""context":[1]"#] {
        let body = format!(r#"{{"model":"m","prompt":"P",{member}}}"#);
        let note = decode::generate_request(body.as_bytes()).unwrap_err().note;
        assert!(note.contains(member.split('"').nth(1).unwrap()), "{note}");
    }
}

#[test]
fn results_of_one_tool_come_in_the_order_of_its_calls() {
    let call = |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}});
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": id});
    let body = from_chat(&json!({"messages": [{"role": "user", "content": "go"},
        {"role": "assistant", "content": null, "tool_calls": [call("a", "f"), call("b", "f"), call("c", "g"), call("d", "f")]},
        result("d"), result("c"), result("a"), result("b"), {"role": "user", "content": "and?"}]}))
    .unwrap();
    let said: Vec<(&str, &str)> = body["messages"].as_array().unwrap()[2..]
        .iter()
        .map(|message| {
            (message["content"].as_str().unwrap(), message["tool_name"].as_str().unwrap_or_default())
        })
        .collect();
    assert_eq!(said, [("a", "f"), ("c", "g"), ("b", "f"), ("d", "f"), ("and?", "")]);
}

#[test]
fn results_find_the_name_of_their_tool_by_id() {
    let body = from_chat(&json!({"messages": [
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "b", "content": "B"},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "sunny"}, {"type": "text", "text": "warm"}]}]}))
    .unwrap();
    let messages = &body["messages"];
    assert_eq!(messages[0]["tool_calls"][0]["function"]["arguments"], json!({"x": 1}));
    assert_eq!(messages[0]["tool_calls"][1]["function"]["arguments"], json!({}));
    assert_eq!(messages[1], json!({"role": "tool", "content": "B", "tool_name": "g"}));
    assert_eq!(messages[2], json!({"role": "tool", "content": "sunny\nwarm", "tool_name": "f"}));
}

#[test]
fn content_is_a_string_and_images_are_bare_base64() {
    let user = |parts: Value| from_chat(&json!({"messages": [{"role": "user", "content": parts}]}));
    let body = user(json!([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
        {"type": "text", "text": "b"}]))
    .unwrap();
    assert_eq!(body["messages"][0], json!({"role": "user", "content": "a\nb", "images": ["QUJD"]}));
    for (part, named) in [
        (json!({"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}), "image_url"),
        (json!({"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}}), "input_audio"),
        (
            json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,QQ==", "filename": "x"}}),
            "document",
        ),
    ] {
        let note = user(json!([part])).unwrap_err();
        assert!(note.contains(named), "{note}");
    }
}

#[test]
fn a_choice_that_cannot_be_enforced_is_refused_and_none_leaves_the_tools_out() {
    let with = |choice: Value| {
        from_chat(&json!({"messages": [{"role": "user", "content": "x"}], "tool_choice": choice,
            "tools": [{"type": "function", "function": {"name": "f"}}]}))
    };
    assert!(with(json!("required")).unwrap_err().contains("tool_choice"));
    assert!(
        with(json!({"type": "function", "function": {"name": "f"}})).unwrap_err().contains("tool_choice")
    );
    assert!(with(json!("none")).unwrap().get("tools").is_none());
    let function = &with(json!("auto")).unwrap()["tools"][0]["function"];
    assert_eq!(function["parameters"], json!({"type": "object", "properties": {}}));
}

/// Agents send their effort to every model; one that cannot think refuses whatever is truthy.
#[test]
fn a_level_of_thinking_is_said_only_to_models_that_have_levels() {
    let think = |model: &'static [u8], effort: &str| {
        let body = json!({"messages": [], "reasoning_effort": effort}).to_string();
        let request = chat::decode::request(body.as_bytes()).unwrap();
        let mut out = Vec::new();
        let losses = encode::request(&request, &Target { model, ..TARGET }, &mut out).unwrap();
        let body: Value = serde_json::from_slice(&out).unwrap();
        (body.get("think").cloned(), losses.is_empty())
    };
    for (effort, expected) in [
        ("none", json!(false)),
        ("minimal", json!("low")),
        ("medium", json!("medium")),
        ("xhigh", json!("high")),
    ] {
        assert_eq!(think(b"\"gpt-oss:20b\"", effort), (Some(expected), true), "{effort}");
    }
    assert_eq!(think(TARGET.model, "high"), (None, false));
    assert_eq!(think(TARGET.model, "none"), (Some(json!(false)), true));
    assert!(sent(r#"{"model":"m","messages":[],"think":true}"#).0.get("think").is_none());
}

#[test]
fn what_the_api_does_not_define_is_refused_by_its_path() {
    for (body, named) in [
        (r#"{"model":"m"}"#, "'messages'"),
        (r#"{"model":"m","messages":[{"role":"bard"}]}"#, "'messages[0].role'"),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
            "'messages[0].content'",
        ),
        (r#"{"model":"m","messages":[{"role":"user","images":"x"}]}"#, "'messages[0].images'"),
        (r#"{"model":"m","messages":[{"role":"user","images":[1]}]}"#, "'messages[0].images[0]'"),
        (
            r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{}}]}]}"#,
            "tool_calls[0].function.name",
        ),
        (r#"{"model":"m","messages":[],"format":"xml"}"#, "'format'"),
        (r#"{"model":"m","messages":[],"options":[]}"#, "'options'"),
        (r#"{"model":"m","messages":[],"tools":{}}"#, "'tools'"),
        (r#"{"model":"m","messages":[],"think":7}"#, "'think'"),
        (r#"{"model":"m","messages":[],"logprobs":true}"#, "'logprobs'"),
        ("[]", "the body"),
    ] {
        let note = decode::request(body.as_bytes()).unwrap_err().note;
        assert!(note.contains(named), "{body}: {note}");
    }
}

#[test]
fn a_bound_below_one_is_none() {
    for (options, bound) in [("-1", None), ("-2", None), ("0", None), ("5", Some(5))] {
        let body = format!(r#"{{"model":"m","messages":[],"options":{{"num_predict":{options}}}}}"#);
        assert_eq!(decode::request(body.as_bytes()).unwrap().params.output_max, bound, "{options}");
    }
}
