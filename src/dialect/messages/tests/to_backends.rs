//! Requests for backends.

use super::*;
use crate::dialect::neutral::{
    Arguments, Format, Params, Part, Reasoning, Role, Source, Tool, ToolChoice, ToolKind, Turn,
};
use serde_json::{Value, json};

fn written(request: &Request<'_>) -> (Value, Vec<String>) {
    written_for(request, "\"claude-sonnet-4-6\"")
}

fn written_for(request: &Request<'_>, model: &'static str) -> (Value, Vec<String>) {
    let mut out = Vec::new();
    let losses = encode::request(request, &Target { model: model.as_bytes(), ..target() }, &mut out).unwrap();
    (serde_json::from_slice(&out).unwrap(), losses.iter().map(str::to_owned).collect())
}

fn said(inside: &'static str) -> Part<'static> {
    Part::Text(text(inside))
}

fn turn(role: Role, parts: Vec<Part<'static>>) -> Turn<'static> {
    Turn { role, parts }
}

fn call(id: &'static str, name: &'static str, arguments: &'static str) -> Part<'static> {
    Part::ToolCall {
        id: text(id),
        name: text(name),
        arguments: Arguments::Quoted(text(arguments)),
        is_custom: false,
    }
}

fn result(id: &'static str, parts: Vec<Part<'static>>) -> Part<'static> {
    Part::ToolResult { id: text(id), name: None, parts, is_error: false }
}

fn function(name: &'static str, schema: Option<&'static str>) -> Tool<'static> {
    let kind = ToolKind::Function { schema: schema.map(str::as_bytes), strict: None };
    Tool { name: text(name), description: None, kind }
}

#[test]
fn a_whole_request_is_written() {
    let request = Request {
        stream: true,
        system: vec![said("Be \\\"brief\\\"."), said("")],
        turns: vec![
            turn(Role::System, vec![said("Developer.")]),
            turn(Role::User, vec![said("Hi"), Part::Image(Source::Url(text("https://x/a.png")))]),
            turn(Role::Assistant, vec![said(""), call("a", "f", "{\\\"x\\\":1}"), call("b", "g", "")]),
            turn(Role::User, vec![result("a", vec![said("one")])]),
            turn(Role::User, vec![result("b", vec![said("")])]),
            turn(Role::User, vec![said("Go on")]),
        ],
        tools: vec![function("f", Some(r#"{"type":"object","properties":{"x":{}}}"#)), function("g", None)],
        tool_choice: Some(ToolChoice::Auto),
        parallel_calls: Some(false),
        params: Params {
            output_max: Some(100),
            temperature: Some(b"1.7"),
            top_p: Some(b"0.5"),
            seed: Some(b"7"),
            stop: vec![text("END"), text(" \\n"), text("")],
            user: Some(text("u1")),
            ..Params::default()
        },
        ..Request::default()
    };
    let (body, losses) = written(&request);
    assert_eq!(
        body,
        json!({
            "model": "claude-sonnet-4-6", "max_tokens": 100, "stream": true,
            "system": [{"type":"text","text":"Be \"brief\"."},{"type":"text","text":"Developer."}],
            "messages": [
                {"role":"user","content":[{"type":"text","text":"Hi"},{"type":"image","source":{"type":"url","url":"https://x/a.png"}}]},
                {"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{"x":1}},{"type":"tool_use","id":"b","name":"g","input":{}}]},
                {"role":"user","content":[
                    {"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"one"}]},
                    {"type":"tool_result","tool_use_id":"b"},
                    {"type":"text","text":"Go on"}]},
            ],
            "tools": [{"name":"f","input_schema":{"type":"object","properties":{"x":{}}}},
                {"name":"g","input_schema":{"type":"object","properties":{}}}],
            "tool_choice": {"type":"auto","disable_parallel_tool_use":true},
            "temperature": 1, "stop_sequences": ["END"], "metadata": {"user_id":"u1"},
        })
    );
    assert_eq!(losses, ["temperature", "top_p", "seed", "stop"]);
}

#[test]
fn a_request_of_this_dialect_comes_back() {
    let request = decode::request(from_clients::REQUEST.as_bytes()).unwrap();
    let (body, losses) = written(&request);
    let came: Value = serde_json::from_str(from_clients::REQUEST).unwrap();
    for member in ["max_tokens", "stream", "metadata", "output_config", "thinking", "tool_choice"] {
        assert_eq!(body[member], came[member], "{member}");
    }
    let last = &body["messages"][2]["content"];
    assert_eq!(last[1]["content"], came["messages"][3]["content"][1]["content"]);
    assert_eq!(
        body["messages"][0]["content"],
        json!([{"type":"text","text":"Hi"},{"type":"text","text":"Mid."}])
    );
    let said = &body["messages"][1]["content"];
    assert_eq!(said[0], json!({"type":"thinking","thinking":"Hm","signature":"c2ln"}));
    assert_eq!(said[1], json!({"type":"redacted_thinking","data":"eA=="}));
    assert_eq!(said[3]["input"], json!({"path":"a\\b"}));
    let mut expected = losses_of(&request);
    expected.extend(["system", "reasoning", "top_p", "top_k", "stop"].map(str::to_owned));
    assert_eq!(losses, expected, "what the decoder met and what the encoder left");
}

#[test]
fn calls_come_last_in_their_turn_so_that_results_follow_them() {
    let turns = vec![
        turn(Role::Assistant, vec![call("1", "f", "{}"), said("a")]),
        turn(Role::Assistant, vec![said("b"), call("2", "f", "{}")]),
        turn(Role::User, vec![result("1", vec![]), result("2", vec![])]),
    ];
    let (body, _) = written(&Request { turns, ..Request::default() });
    let blocks = body["messages"][0]["content"].as_array().unwrap();
    let kinds: Vec<_> = blocks.iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["text", "text", "tool_use", "tool_use"]);
}

#[test]
fn there_is_always_a_bound_on_the_output_and_it_is_never_zero() {
    for (most, expected) in [(None, 4096), (Some(0), 4096), (Some(1), 1), (Some(64_000), 64_000)] {
        let params = Params { output_max: most, ..Params::default() };
        assert_eq!(written(&Request { params, ..Request::default() }).0["max_tokens"], expected);
    }
}

#[test]
fn results_come_first_wherever_they_stood_and_roles_alternate() {
    let request = Request {
        turns: vec![
            turn(Role::User, vec![said("a")]),
            turn(Role::Assistant, vec![said("b")]),
            turn(Role::Assistant, vec![call("1", "f", "{}")]),
            turn(Role::User, vec![said(" \\n")]),
            turn(Role::User, vec![said("before"), result("1", vec![])]),
            turn(Role::System, vec![said("mid")]),
            turn(Role::User, vec![]),
            turn(Role::Assistant, vec![said("")]),
            turn(Role::User, vec![said("c")]),
        ],
        ..Request::default()
    };
    let (body, losses) = written(&request);
    let messages = body["messages"].as_array().unwrap();
    let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
    assert_eq!(messages[1]["content"].as_array().unwrap().len(), 2);
    let text = |text| json!({"type":"text","text":text});
    let result = json!({"type":"tool_result","tool_use_id":"1"});
    assert_eq!(messages[2]["content"], json!([result, text("before"), text("mid"), text("c")]));
    assert_eq!(losses, ["system"]);
}

#[test]
fn a_history_with_calls_has_its_tools_declared_and_closed() {
    let turns = vec![
        turn(Role::Assistant, vec![call("1", "f", "{}"), call("2", "f", "{}"), call("3", "g", "{}")]),
        turn(Role::User, vec![result("1", vec![]), result("2", vec![]), result("3", vec![])]),
    ];
    let (body, _) = written(&Request { turns, ..Request::default() });
    let names: Vec<_> = body["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();
    assert_eq!(names, ["f", "g"]);
    assert_eq!(body["tools"][0]["input_schema"], json!({"type":"object","properties":{}}));
    assert_eq!(body["tool_choice"], json!({"type":"none"}));
    let without = Request { tool_choice: Some(ToolChoice::Required), ..Request::default() };
    assert_eq!(written(&without).0.get("tool_choice"), None);
}

#[test]
fn ids_that_the_api_refuses_are_made_anew_in_call_and_result_alike() {
    let turns = vec![
        turn(Role::Assistant, vec![call("functions.f:0", "f", "{}"), call("", "g", "{}")]),
        turn(Role::User, vec![result("functions.f:0", vec![]), result("", vec![])]),
    ];
    let (body, _) = written(&Request { turns, ..Request::default() });
    for index in [0, 1] {
        let (call, result) = (&body["messages"][0]["content"][index], &body["messages"][1]["content"][index]);
        let id = call["id"].as_str().unwrap();
        assert!(
            !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        );
        assert_eq!(result["tool_use_id"], id);
    }
}

#[test]
fn choices_among_tools_have_their_counterparts() {
    let named = || Some(ToolChoice::Named(text("f")));
    for (choice, parallel, expected) in [
        (None, None, Value::Null),
        (None, Some(true), Value::Null),
        (None, Some(false), json!({"type":"auto","disable_parallel_tool_use":true})),
        (Some(ToolChoice::Required), None, json!({"type":"any"})),
        (Some(ToolChoice::None), Some(false), json!({"type":"none"})),
        (named(), Some(false), json!({"type":"tool","name":"f","disable_parallel_tool_use":true})),
    ] {
        let request = Request {
            tools: vec![function("f", Some("{}"))],
            tool_choice: choice,
            parallel_calls: parallel,
            ..Request::default()
        };
        assert_eq!(written(&request).0["tool_choice"], expected);
    }
}

#[test]
fn schemas_stay_as_they_are_but_for_a_type_left_out() {
    for (schema, expected) in [
        (
            r#"{"$defs":{"a":{}},"type":"object","additionalProperties":false}"#,
            json!({"$defs":{"a":{}},"type":"object","additionalProperties":false}),
        ),
        (r#"{"properties":{"x":{}}}"#, json!({"type":"object","properties":{"x":{}}})),
        ("{ }", json!({"type":"object","properties":{}})),
        (r#"{"type":["object","null"]}"#, json!({"type":["object","null"]})),
    ] {
        let request = Request { tools: vec![function("f", Some(schema))], ..Request::default() };
        assert_eq!(written(&request).0["tools"][0]["input_schema"], expected);
    }
}

#[test]
fn free_text_tools_become_functions_with_one_string() {
    let patch = Part::ToolCall {
        id: text("1"),
        name: text("apply_patch"),
        arguments: Arguments::Quoted(text("*** \\\"Begin\\\"\\n")),
        is_custom: true,
    };
    let tool = Tool {
        name: text("apply_patch"),
        description: Some(text("Patches.")),
        kind: ToolKind::Custom { format: None },
    };
    let request =
        Request { tools: vec![tool], turns: vec![turn(Role::Assistant, vec![patch])], ..Request::default() };
    let (body, _) = written(&request);
    assert_eq!(body["tools"][0]["input_schema"]["required"], json!(["input"]));
    assert_eq!(body["messages"][0]["content"][0]["input"], json!({"input":"*** \"Begin\"\n"}));
}

#[test]
fn only_sealed_thoughts_go_and_they_go_first() {
    let thought = |inside, signature: Option<&'static str>| Part::Thinking {
        text: text(inside),
        signature: signature.map(text),
    };
    let turns = vec![
        turn(
            Role::Assistant,
            vec![said("a"), thought("open", None), thought("sealed", Some("s")), call("1", "f", "{}")],
        ),
        turn(Role::User, vec![said("b")]),
        turn(
            Role::Assistant,
            vec![thought("1", Some("s")), said("c"), thought("2", Some("t")), thought("", Some(""))],
        ),
        turn(Role::User, vec![said("d")]),
        turn(Role::Assistant, vec![thought("alone", None)]),
    ];
    let (body, losses) = written(&Request { turns, ..Request::default() });
    let kinds = |index: usize| -> Vec<String> {
        let blocks = body["messages"][index]["content"].as_array().unwrap();
        blocks.iter().map(|block| block["type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(0), ["thinking", "text", "tool_use"]);
    assert_eq!(kinds(2), ["thinking", "text", "thinking"], "an order that begins with a thought stays");
    assert_eq!(
        body["messages"].as_array().unwrap().len(),
        4,
        "a turn of nothing but an open thought vanishes"
    );
    assert_eq!(losses, ["reasoning"]);
}

#[test]
fn how_much_to_think_is_said_as_the_model_takes_it() {
    let (older, newer) = ("\"claude-sonnet-4-5-20250929\"", "\"claude-sonnet-4-6\"");
    let effort = |words| Some(Reasoning::Effort(text(words)));
    let enabled = |tokens: u64| json!({"type":"enabled","budget_tokens":tokens});
    let adaptive = json!({"type":"adaptive"});
    for (model, reasoning, most, thinking, words) in [
        (newer, effort("high"), 8000, adaptive.clone(), json!("high")),
        (newer, effort("minimal"), 8000, adaptive.clone(), json!("low")),
        (newer, Some(Reasoning::Budget(5000)), 8000, adaptive.clone(), json!("medium")),
        (newer, Some(Reasoning::Adaptive), 8000, adaptive.clone(), Value::Null),
        (newer, Some(Reasoning::Off), 8000, json!({"type":"disabled"}), Value::Null),
        (older, effort("low"), 8000, enabled(2048), Value::Null),
        (older, effort("high"), 8000, enabled(4000), Value::Null),
        (older, Some(Reasoning::Budget(10)), 8000, enabled(1024), Value::Null),
        (older, Some(Reasoning::Budget(31_999)), 32_000, enabled(31_999), Value::Null),
        (older, effort("high"), 1024, Value::Null, Value::Null),
        (older, None, 8000, Value::Null, Value::Null),
        (newer, effort("none"), 8000, json!({"type":"disabled"}), Value::Null),
        (newer, effort("xhigh"), 8000, adaptive.clone(), json!("high")),
        ("\"claude-opus-4-8\"", effort("xhigh"), 8000, adaptive.clone(), json!("xhigh")),
    ] {
        let params = Params { reasoning: reasoning.clone(), output_max: Some(most), ..Params::default() };
        let (body, losses) = written_for(&Request { params, ..Request::default() }, model);
        assert_eq!(
            (&body["thinking"], &body["output_config"]["effort"]),
            (&thinking, &words),
            "{model} {reasoning:?}"
        );
        assert_eq!(losses.contains(&"reasoning".to_owned()), reasoning.is_some() && thinking.is_null());
    }
}

#[test]
fn a_forced_tool_and_a_turn_begun_without_a_thought_leave_no_room_to_think() {
    let params = || Params {
        reasoning: Some(Reasoning::Effort(text("high"))),
        temperature: Some(b"0.2"),
        ..Params::default()
    };
    let tools = || vec![function("f", None)];
    let forced = Request {
        tools: tools(),
        tool_choice: Some(ToolChoice::Required),
        params: params(),
        ..Request::default()
    };
    let turns =
        vec![turn(Role::Assistant, vec![call("1", "f", "{}")]), turn(Role::User, vec![result("1", vec![])])];
    let begun = Request { tools: tools(), turns, params: params(), ..Request::default() };
    let older = "\"claude-sonnet-4-5\"";
    for (request, model) in [(&forced, "\"claude-sonnet-4-6\""), (&forced, older), (&begun, older)] {
        let (body, losses) = written_for(request, model);
        assert_eq!((body.get("thinking"), &body["temperature"]), (None, &json!(0.2)));
        assert_eq!(losses, ["reasoning"]);
    }
    assert_eq!(
        written(&begun).0["thinking"]["type"],
        "adaptive",
        "those without a budget may begin anywhere"
    );
    let free = Request { tools: tools(), params: params(), ..Request::default() };
    let (body, losses) = written(&free);
    assert_eq!((body.get("temperature"), losses), (None, vec!["temperature".to_owned()]));
}

#[test]
fn output_by_a_schema_is_asked_for_natively() {
    let schema = Format::JsonSchema { name: None, schema: b"{\"type\":\"object\"}", strict: Some(true) };
    let params =
        Params { format: Some(schema), reasoning: Some(Reasoning::Effort(text("low"))), ..Params::default() };
    let (body, _) = written(&Request { params, ..Request::default() });
    let format = json!({"type":"json_schema","schema":{"type":"object"}});
    assert_eq!(body["output_config"], json!({"effort":"low","format":format}));
    let params = Params { format: Some(Format::JsonObject), ..Params::default() };
    assert_eq!(written(&Request { params, ..Request::default() }).1, ["response_format"]);
}

#[test]
fn files_go_as_they_are_or_are_refused_by_name() {
    let base64 = |media_type| Source::Base64 { media_type: text(media_type), data: text("QUJD") };
    let document = |source| Part::Document { source, title: Some(text("t.pdf")) };
    let block = |part: Part<'static>| {
        let turns = vec![turn(Role::User, vec![part])];
        let mut out = Vec::new();
        encode::request(&Request { turns, ..Request::default() }, &target(), &mut out)?;
        Ok(serde_json::from_slice::<Value>(&out).unwrap()["messages"][0]["content"][0].clone())
    };
    let pdf = json!({"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"QUJD"},"title":"t.pdf"});
    assert_eq!(block(document(base64("application/pdf"))), Ok::<_, crate::error::Fault>(pdf));
    let jpeg = json!({"type":"image","source":{"type":"base64","media_type":"image/jpeg","data":"QUJD"}});
    assert_eq!(block(Part::Image(base64("image/jpg"))), Ok(jpeg.clone()));
    assert_eq!(block(document(base64("image/jpeg"))), Ok(jpeg));
    assert_eq!(block(Part::Image(base64("application/pdf"))).unwrap()["type"], "document");
    assert_eq!(block(document(Source::Text(text("x")))).unwrap()["source"]["media_type"], "text/plain");
    assert_eq!(
        block(document(Source::Url(text("https://x")))).unwrap()["source"],
        json!({"type":"url","url":"https://x"})
    );
    assert_eq!(block(document(Source::File(text("file_011")))).unwrap()["source"]["file_id"], "file_011");
    for (part, name) in [
        (document(Source::File(text("file-abc"))), "'file_id'"),
        (document(base64("text/csv")), "'file'"),
        (Part::Audio { data: text("QUJD"), format: text("wav") }, "'input_audio'"),
    ] {
        assert!(block(part).unwrap_err().to_string().contains(name));
    }
}

#[test]
fn an_address_of_mail_is_no_id_of_a_user() {
    let params = Params { user: Some(text("a@b.example")), ..Params::default() };
    let (body, losses) = written(&Request { params, ..Request::default() });
    assert_eq!((body.get("metadata"), losses), (None, vec!["user".to_owned()]));
}

#[test]
fn models_that_sample_by_themselves_are_not_told_how() {
    let params = Params { temperature: Some(b"0.2"), top_k: Some(b"5"), ..Params::default() };
    let request = Request { params, ..Request::default() };
    let (body, losses) = written_for(&request, "\"anthropic.claude-opus-4-8-v1:0\"");
    assert_eq!((body.get("temperature"), body.get("top_k")), (None, None));
    assert_eq!(losses, ["temperature", "top_k"]);
    let (body, losses) = written(&request);
    assert_eq!((&body["temperature"], &body["top_k"], losses.len()), (&json!(0.2), &json!(5), 0));
}
