//! Requests for backends.

use super::*;
use crate::dialect::neutral::{
    Arguments, Format, Params, Part, Reasoning, Role, Source, Tool, ToolChoice, ToolKind, Turn,
};
use serde_json::json;

fn written(request: &Request<'_>) -> (Value, Vec<String>) {
    written_for(request, "\"gpt-oss-120b\"")
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

fn call(
    id: &'static str,
    name: &'static str,
    arguments: Arguments<'static>,
    is_custom: bool,
) -> Part<'static> {
    Part::ToolCall { id: text(id), name: text(name), arguments, is_custom }
}

fn result(id: &'static str, parts: Vec<Part<'static>>, is_error: bool) -> Part<'static> {
    Part::ToolResult { id: text(id), name: None, parts, is_error }
}

#[test]
fn a_whole_request_is_written() {
    let request = Request {
        stream: true,
        system: vec![said("Be \\\"brief\\\"."), said(""), said("More.")],
        turns: vec![
            turn(
                Role::User,
                vec![
                    said("Hi"),
                    Part::Image(Source::Base64 { media_type: text("image/png"), data: text("iVBO") }),
                ],
            ),
            turn(
                Role::Assistant,
                vec![
                    Part::Thinking { text: text("Hm"), signature: Some(text("c2ln")) },
                    Part::Thinking { text: text("open"), signature: None },
                    said("Reading."),
                    call("a", "f", Arguments::Value(b"{\"x\":\"\\\"\"}"), false),
                    call("b", "g", Arguments::Value(b"{}"), false),
                ],
            ),
            turn(
                Role::User,
                vec![
                    said("then"),
                    result("a", vec![said("one"), said("two")], true),
                    result("b", vec![], false),
                ],
            ),
            turn(Role::System, vec![said("Mid.")]),
        ],
        tools: vec![
            Tool {
                name: text("f"),
                description: Some(text("F.")),
                kind: ToolKind::Function { schema: Some(b"{\"type\":\"object\"}"), strict: Some(true) },
            },
            Tool {
                name: text("g"),
                description: None,
                kind: ToolKind::Function { schema: None, strict: None },
            },
        ],
        tool_choice: Some(ToolChoice::Named(text("f"))),
        parallel_calls: Some(false),
        params: Params {
            output_max: Some(1),
            temperature: Some(b"1.7"),
            top_k: Some(b"40"),
            stop: vec![text("END")],
            reasoning: Some(Reasoning::Budget(5000)),
            format: Some(Format::JsonSchema { name: None, schema: b"{}", strict: Some(true) }),
            user: Some(text("u1")),
            ..Params::default()
        },
        ..Request::default()
    };
    let (body, losses) = written(&request);
    assert_eq!(
        body,
        json!({
            "model":"gpt-oss-120b","store":false,"stream":true,"instructions":"Be \"brief\".\n\nMore.",
            "input":[
                {"type":"message","role":"user","content":[{"type":"input_text","text":"Hi"},{"type":"input_image","image_url":"data:image/png;base64,iVBO"}]},
                {"type":"reasoning","summary":[{"type":"summary_text","text":"Hm"}],"encrypted_content":"c2ln"},
                {"type":"message","role":"assistant","content":[{"type":"output_text","annotations":[],"text":"Reading."}]},
                {"type":"function_call","call_id":"a","name":"f","arguments":"{\"x\":\"\\\"\"}"},
                {"type":"function_call","call_id":"b","name":"g","arguments":"{}"},
                {"type":"function_call_output","call_id":"a","output":"Error: one\ntwo"},
                {"type":"function_call_output","call_id":"b","output":""},
                {"type":"message","role":"user","content":[{"type":"input_text","text":"then"}]},
                {"type":"message","role":"developer","content":[{"type":"input_text","text":"Mid."}]},
            ],
            "tools":[
                {"type":"function","name":"f","description":"F.","parameters":{"type":"object"},"strict":true},
                {"type":"function","name":"g","parameters":{"type":"object","properties":{}},"strict":false},
            ],
            "tool_choice":{"type":"function","name":"f"},"parallel_tool_calls":false,
            "max_output_tokens":16,"temperature":1.7,"reasoning":{"effort":"medium"},"include":["reasoning.encrypted_content"],
            "text":{"format":{"type":"json_schema","name":"output","schema":{},"strict":true}},"user":"u1",
        })
    );
    assert_eq!(losses, ["reasoning", "top_k", "stop"]);
}

#[test]
fn a_request_of_this_dialect_comes_back() {
    let request = decode::request(from_clients::REQUEST.as_bytes()).unwrap();
    let (body, losses) = written(&request);
    assert_eq!(losses, losses_of(&request), "what the decoder met");
    let came: Value = serde_json::from_str(from_clients::REQUEST).unwrap();
    for member in ["tool_choice", "parallel_tool_calls", "include", "max_output_tokens", "store", "stream"] {
        assert_eq!(body[member], came[member], "{member}");
    }
    assert_eq!(body["tools"][1], came["tools"][1], "grammar and all");
    let (items, given) = (body["input"].as_array().unwrap(), came["input"].as_array().unwrap());
    assert_eq!(items.len(), given.len() - 1, "the first developer message is a part of the instructions");
    for (item, given) in items.iter().zip(&given[1..]) {
        for member in ["type", "call_id", "name", "arguments", "input", "output", "encrypted_content"] {
            if let Some(given) = given.get(member) {
                assert_eq!(&item[member], given);
            }
        }
    }
}

#[test]
fn a_free_text_tool_stays_one_with_its_calls_and_results() {
    let request = Request {
        tools: vec![Tool {
            name: text("p"),
            description: None,
            kind: ToolKind::Custom { format: Some(b"{\"type\":\"text\"}") },
        }],
        tool_choice: Some(ToolChoice::Named(text("p"))),
        turns: vec![
            turn(Role::Assistant, vec![call("a", "p", Arguments::Quoted(text("raw\\n")), true)]),
            turn(Role::User, vec![result("a", vec![said("done")], false)]),
        ],
        ..Request::default()
    };
    let (body, _) = written(&request);
    assert_eq!(body["tools"][0], json!({"type":"custom","name":"p","format":{"type":"text"}}));
    assert_eq!(body["tool_choice"], json!({"type":"custom","name":"p"}));
    assert_eq!(
        body["input"],
        json!([{"type":"custom_tool_call","call_id":"a","name":"p","input":"raw\n"},
            {"type":"custom_tool_call_output","call_id":"a","output":"done"}])
    );
}

#[test]
fn a_result_with_more_than_text_is_a_list() {
    let picture = Part::Image(Source::Url(text("https://x/a.png")));
    let turns = vec![turn(Role::User, vec![result("a", vec![said("see"), picture, said("")], true)])];
    let (body, _) = written(&Request { turns, ..Request::default() });
    assert_eq!(
        body["input"][0]["output"],
        json!([{"type":"input_text","text":"Error: "},{"type":"input_text","text":"see"},{"type":"input_image","image_url":"https://x/a.png"}])
    );
}

#[test]
fn ids_that_are_too_long_or_missing_are_made_anew_in_call_and_result_alike() {
    const LONG: &str = "call_0123456789012345678901234567890123456789012345678901234567890123456789";
    let none = || Arguments::Quoted(text(""));
    let turns = vec![
        turn(Role::Assistant, vec![call(LONG, "f", none(), false), call("", "g", none(), false)]),
        turn(Role::User, vec![result(LONG, vec![], false), result("", vec![], false)]),
    ];
    let (body, _) = written(&Request { turns, ..Request::default() });
    for index in [0, 1] {
        let id = body["input"][index]["call_id"].as_str().unwrap();
        assert!(!id.is_empty() && id.len() <= 64);
        assert_eq!(body["input"][index + 2]["call_id"], id);
    }
}

#[test]
fn how_much_to_think_is_said_as_the_model_takes_it() {
    let effort = |words| Some(Reasoning::Effort(text(words)));
    for (model, reasoning, expected) in [
        ("\"gpt-5.5\"", effort("high"), json!("high")),
        ("\"gpt-5.5\"", effort("max"), json!("xhigh")),
        ("\"gpt-oss-120b\"", effort("max"), json!("high")),
        ("\"gpt-5.5\"", Some(Reasoning::Off), json!("none")),
        ("\"gpt-5-mini\"", Some(Reasoning::Off), json!("minimal")),
        ("\"o3\"", Some(Reasoning::Off), Value::Null),
        ("\"gpt-5.5\"", Some(Reasoning::Budget(1024)), json!("low")),
        ("\"gpt-5.5\"", Some(Reasoning::Budget(31_999)), json!("high")),
        ("\"gpt-4.1\"", Some(Reasoning::Budget(31_999)), Value::Null),
        ("\"gpt-5.5\"", Some(Reasoning::Adaptive), Value::Null),
        ("\"gpt-5.5\"", None, Value::Null),
    ] {
        let is_lost = expected.is_null() && !matches!(reasoning, None | Some(Reasoning::Adaptive));
        let params = Params { reasoning: reasoning.clone(), ..Params::default() };
        let (body, losses) = written_for(&Request { params, ..Request::default() }, model);
        assert_eq!(body["reasoning"]["effort"], expected, "{model} {reasoning:?}");
        assert_eq!(body.get("include").is_some(), !expected.is_null());
        assert_eq!(losses == ["reasoning"], is_lost);
    }
}

#[test]
fn documents_go_as_files_or_as_their_text() {
    let document = |source| Part::Document { source, title: Some(text("t.pdf")) };
    let block = |part: Part<'static>| {
        let turns = vec![turn(Role::User, vec![part])];
        let mut out = Vec::new();
        encode::request(&Request { turns, ..Request::default() }, &target(), &mut out)?;
        Ok::<_, crate::error::Fault>(
            serde_json::from_slice::<Value>(&out).unwrap()["input"][0]["content"][0].clone(),
        )
    };
    let base64 = |media_type| Source::Base64 { media_type: text(media_type), data: text("QUJD") };
    assert_eq!(
        block(document(base64("application/pdf"))).unwrap(),
        json!({"type":"input_file","filename":"t.pdf","file_data":"data:application/pdf;base64,QUJD"})
    );
    assert_eq!(block(document(base64("image/png"))).unwrap()["type"], "input_image");
    assert_eq!(block(document(Source::Text(text("x")))).unwrap()["text"], "t.pdf\n\nx");
    assert_eq!(block(document(Source::Url(text("https://x")))).unwrap()["file_url"], "https://x");
    assert_eq!(block(document(Source::File(text("file-1")))).unwrap()["file_id"], "file-1");
    assert_eq!(
        block(Part::Audio { data: text("QQ"), format: text("wav") }).unwrap()["input_audio"]["format"],
        "wav"
    );
    assert!(block(document(Source::File(text("file_01")))).unwrap_err().to_string().contains("'file_id'"));
}

#[test]
fn nothing_is_said_that_was_not_asked_for() {
    let (body, losses) =
        written(&Request { turns: vec![turn(Role::User, vec![said("Hi"), said("")])], ..Request::default() });
    let input = json!([{"type":"message","role":"user","content":[{"type":"input_text","text":"Hi"}]}]);
    assert_eq!(body, json!({"model":"gpt-oss-120b","store":false,"input":input}));
    assert!(losses.is_empty());
    let params = Params {
        user: Some(Text::owned(vec![b'u'; 65])),
        seed: Some(b"1"),
        format: Some(Format::JsonObject),
        ..Params::default()
    };
    let (body, losses) = written(&Request { params, ..Request::default() });
    assert_eq!((body.get("user"), &body["text"]["format"]["type"]), (None, &json!("json_object")));
    assert_eq!(losses, ["user", "seed"]);
}

#[test]
fn models_that_sample_by_themselves_are_not_told_how() {
    let params = Params { temperature: Some(b"0.2"), top_p: Some(b"1"), ..Params::default() };
    let request = Request { params, ..Request::default() };
    for model in ["\"gpt-5.5\"", "\"o3\""] {
        let (body, losses) = written_for(&request, model);
        assert_eq!((body.get("temperature"), body.get("top_p")), (None, None));
        assert_eq!(losses, ["temperature"]);
    }
    let (body, losses) = written(&request);
    assert_eq!((&body["temperature"], &body["top_p"], losses.len()), (&json!(0.2), &json!(1), 0));
}
