//! Requests of clients.

use super::*;
use crate::dialect::neutral::{Arguments, Format, Part, Reasoning, Role, Source, ToolChoice, ToolKind};

/// What Codex sends, cut down.
pub(super) const REQUEST: &str = r#"{"model":"team-coder","stream":true,"store":false,"instructions":"Be brief.",
"input":[
 {"type":"message","role":"developer","content":[{"type":"input_text","text":"You are \"Codex\"."}]},
 {"type":"message","role":"user","content":[{"type":"input_text","text":"Fix"},{"type":"input_image","image_url":"data:image/png;base64,iVBO","detail":"auto"}]},
 {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm"},{"type":"summary_text","text":"So"}],"content":null,"encrypted_content":"c2ln"},
 {"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Reading.","annotations":[],"logprobs":[]}]},
 {"type":"function_call","id":"fc_1","call_id":"call_1","name":"exec","arguments":"{\"cmd\":\"ls\"}"},
 {"type":"custom_tool_call","id":"ctc_1","call_id":"call_2","name":"apply_patch","input":"*** Begin\n"},
 {"type":"function_call_output","call_id":"call_1","output":"a\nb"},
 {"type":"custom_tool_call_output","call_id":"call_2","output":[{"type":"input_text","text":"Done"},{"type":"input_image","image_url":"https://x/a.png"}]},
 {"role":"developer","content":"Mid."},
 {"role":"user","content":"Go on"}],
"tools":[{"type":"function","name":"exec","description":"Runs.","strict":false,"parameters":{"type":"object","properties":{"cmd":{"type":"string"}}}},
 {"type":"custom","name":"apply_patch","description":"Patches.","format":{"type":"grammar","syntax":"lark","definition":"start: x"}},
 {"type":"namespace","name":"multi_agent_v1","tools":[{"type":"function","name":"spawn_agent","parameters":{"type":"object"}}]},
 {"type":"web_search","external_web_access":false},{"type":"tool_search","execution":"client"}],
"tool_choice":"auto","parallel_tool_calls":true,"reasoning":{"effort":"high","summary":"auto"},
"include":["reasoning.encrypted_content"],"prompt_cache_key":"k","client_metadata":{"a":"b"},
"text":{"verbosity":"low","format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":true}},
"max_output_tokens":500,"temperature":0.5,"top_p":1,"safety_identifier":"u1","truncation":"disabled"}"#;

fn refusal_of(body: &str) -> String {
    decode::request(body.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_whole_request_is_read() {
    let request = decode::request(REQUEST.as_bytes()).unwrap();
    assert!(request.stream);
    assert_eq!(request.system, [Part::Text(text("Be brief.")), Part::Text(text("You are \\\"Codex\\\"."))]);
    let roles: Vec<Role> = request.turns.iter().map(|turn| turn.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::User, Role::System, Role::User]);
    let png = Source::Base64 { media_type: text("image/png"), data: text("iVBO") };
    assert_eq!(request.turns[0].parts, [Part::Text(text("Fix")), Part::Image(png)]);
    let call = |id, name, inside, is_custom| Part::ToolCall {
        id: text(id),
        name: text(name),
        arguments: Arguments::Quoted(text(inside)),
        is_custom,
    };
    assert_eq!(
        request.turns[1].parts,
        [
            Part::Thinking { text: text("Hm\\n\\nSo"), signature: Some(text("c2ln")) },
            Part::Text(text("Reading.")),
            call("call_1", "exec", r#"{\"cmd\":\"ls\"}"#, false),
            call("call_2", "apply_patch", "*** Begin\\n", true),
        ]
    );
    let result = |id, parts| Part::ToolResult { id: text(id), name: None, parts, is_error: false };
    let picture = Part::Image(Source::Url(text("https://x/a.png")));
    assert_eq!(
        request.turns[2].parts,
        [
            result("call_1", vec![Part::Text(text("a\\nb"))]),
            result("call_2", vec![Part::Text(text("Done")), picture]),
        ]
    );
    let names: Vec<_> = request.tools.iter().map(|tool| tool.name.to_plain().unwrap().into_owned()).collect();
    assert_eq!(names, ["exec", "apply_patch", "spawn_agent"]);
    assert!(matches!(request.tools[0].kind, ToolKind::Function { strict: Some(false), schema: Some(_) }));
    assert!(matches!(request.tools[1].kind, ToolKind::Custom { format: Some(_) }));
    assert_eq!((&request.tool_choice, request.parallel_calls), (&Some(ToolChoice::Auto), Some(true)));
    let params = &request.params;
    assert_eq!(params.reasoning, Some(Reasoning::Effort(text("high"))));
    assert_eq!(
        (params.output_max, params.temperature, params.top_p),
        (Some(500), Some(&b"0.5"[..]), Some(&b"1"[..]))
    );
    let schema =
        Format::JsonSchema { name: Some(text("n")), schema: b"{\"type\":\"object\"}", strict: Some(true) };
    assert_eq!((&params.format, &params.user), (&Some(schema), &Some(text("u1"))));
    assert_eq!(
        losses_of(&request),
        ["tools.web_search", "tools.tool_search", "prompt_cache_key", "client_metadata", "text.verbosity"]
    );
}

#[test]
fn an_input_may_be_a_string_and_a_message_may_have_no_type() {
    let request =
        decode::request(br#"{"input":"Hi","stream":null,"previous_response_id":null,"store":true}"#).unwrap();
    assert_eq!(request.turns[0].parts, [Part::Text(text("Hi"))]);
    assert_eq!(losses_of(&request), ["store"]);
    let request = decode::request(br#"{"input":[{"role":"assistant","content":"a"},{"role":"assistant","content":[{"type":"refusal","refusal":"b"}]},
        {"role":"user","content":[]}]}"#).unwrap();
    assert_eq!(request.turns[0].parts, [Part::Text(text("a")), Part::Refusal(text("b"))]);
    assert_eq!(request.turns[1].parts, []);
}

#[test]
fn tools_may_come_as_an_item() {
    let body = br#"{"input":[{"type":"additional_tools","role":"developer","tools":[
        {"type":"namespace","name":"functions","tools":[{"type":"custom","name":"exec"}]}]},
        {"type":"message","role":"developer","content":"You are Codex."},{"role":"user","content":"a"}]}"#;
    let request = decode::request(body).unwrap();
    assert!(matches!(request.tools[0].kind, ToolKind::Custom { format: None }));
    assert_eq!((request.system.len(), request.turns.len()), (1, 1));
}

#[test]
fn a_thought_is_its_text_or_its_summary_and_one_without_either_is_none() {
    for (item, expected) in [
        (
            r#"{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"raw"}]}"#,
            Some(Part::Thinking { text: text("raw"), signature: None }),
        ),
        (
            r#"{"type":"reasoning","summary":[],"encrypted_content":"s"}"#,
            Some(Part::Thinking { text: text(""), signature: Some(text("s")) }),
        ),
        (
            r#"{"type":"reasoning","id":"rs_redacted_r1_0","summary":[],"encrypted_content":"s"}"#,
            Some(Part::Redacted(text("s"))),
        ),
        (r#"{"type":"reasoning","summary":[],"encrypted_content":null}"#, None),
    ] {
        let body = format!(r#"{{"input":[{item}]}}"#);
        let request = decode::request(body.as_bytes()).unwrap();
        assert_eq!(request.turns.first().map(|turn| turn.parts[0].clone()), expected);
    }
}

#[test]
fn what_needs_state_or_hosted_tools_is_refused_by_name() {
    for (members, name) in [
        (r#""input":"a","previous_response_id":"resp_1""#, "'previous_response_id'"),
        (r#""input":"a","conversation":"conv_1""#, "'conversation'"),
        (r#""input":"a","background":true"#, "'background'"),
        (r#""input":"a","prompt":{"id":"p"}"#, "'prompt'"),
        (r#""input":"a","top_logprobs":2"#, "'top_logprobs'"),
        (r#""input":"a","include":["message.output_text.logprobs"]"#, "'include'"),
        (r#""input":[{"type":"item_reference","id":"x"}]"#, "'input[0].type'"),
        (r#""input":[{"role":"user","content":"a"},{"type":"computer_call_output"}]"#, "'input[1].type'"),
        (r#""input":[{"role":"user","content":[{"type":"input_video"}]}]"#, "'input[0].content[0].type'"),
        (r#""input":"a","tools":[{"type":"file_search","vector_store_ids":[]}]"#, "'tools[0].type'"),
        (
            r#""input":"a","tools":[{"type":"function","name":"f"},{"type":"mcp","server_url":"x"}]"#,
            "'tools[1].type'",
        ),
        (r#""input":"a","tools":[{"type":"web_search_preview"}]"#, "'tools[0].type'"),
        (
            r#""input":"a","tools":[{"type":"function","name":"f"},{"type":"web_search"}],"tool_choice":{"type":"web_search"}"#,
            "'tool_choice.type'",
        ),
        (
            r#""input":"a","tools":[{"type":"function","name":"f"},{"type":"function","name":"f"}]"#,
            "'tools[1].name'",
        ),
        (r#""input":"a","text":{"format":{"type":"grammar"}}"#, "'text.format.type'"),
    ] {
        let refusal = refusal_of(&format!("{{{members}}}"));
        assert!(
            refusal.starts_with("unsupported_parameter") && refusal.contains(name),
            "{members}: {refusal}"
        );
    }
}

#[test]
fn what_the_api_does_not_define_is_refused_by_name() {
    for (body, name) in [
        ("", "the body"),
        ("{}", "'input'"),
        (r#"{"input":7}"#, "'input'"),
        (r#"{"input":["a"]}"#, "'input[0]'"),
        (r#"{"input":[{"role":"tool","content":"a"}]}"#, "'input[0].role'"),
        (r#"{"input":[{"role":"user","content":7}]}"#, "'input[0].content'"),
        (r#"{"input":[{"role":"user","content":[{"type":"input_text"}]}]}"#, "'input[0].content[0].text'"),
        (r#"{"input":[{"type":"function_call","name":"f"}]}"#, "'input[0].call_id'"),
        (r#"{"input":[{"type":"function_call_output","output":"x"}]}"#, "'input[0].call_id'"),
        (r#"{"input":[{"type":"custom_tool_call","call_id":"a","name":"f"}]}"#, "'input[0].input'"),
        (r#"{"input":"a","tools":7}"#, "'tools'"),
        (r#"{"input":"a","tools":[{"type":"function"}]}"#, "'tools[0].name'"),
        (r#"{"input":"a","tool_choice":"maybe"}"#, "'tool_choice'"),
        (r#"{"input":"a","max_output_tokens":1.5}"#, "'max_output_tokens'"),
        (r#"{"input":"a","temperature":"1"}"#, "'temperature'"),
        (r#"{"input":"a","text":{"format":{"type":"json_schema"}}}"#, "'text.format.schema'"),
    ] {
        let refusal = refusal_of(body);
        assert!(refusal.starts_with("invalid_body") && refusal.contains(name), "{body}: {refusal}");
    }
}

#[test]
fn choices_among_tools_are_read_and_allowed_ones_leave_the_others_out() {
    let chosen = |choice: &str| {
        let body = format!(
            r#"{{"input":"a","tool_choice":{choice},"tools":[{{"type":"function","name":"f"}},{{"type":"custom","name":"g"}}]}}"#
        );
        let request = decode::request(body.as_bytes()).unwrap();
        (request.tool_choice.map(|choice| format!("{choice:?}")).unwrap(), request.tools.len())
    };
    assert_eq!(chosen("\"required\""), ("Required".into(), 2));
    assert_eq!(chosen("\"none\""), ("None".into(), 2));
    assert_eq!(chosen(r#"{"type":"function","name":"f"}"#), ("Named(\"f\")".into(), 2));
    assert_eq!(chosen(r#"{"type":"custom","name":"g"}"#), ("Named(\"g\")".into(), 2));
    let allowed = r#"{"type":"allowed_tools","mode":"required","tools":[{"type":"custom","name":"g"}]}"#;
    assert_eq!(chosen(allowed), ("Required".into(), 1));
}

#[test]
fn files_and_sounds_are_read() {
    let body = br#"{"input":[{"role":"user","content":[
        {"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,JVBE"},
        {"type":"input_file","file_url":"https://x/a.pdf"},{"type":"input_file","file_id":"file-1"},
        {"type":"input_image","file_id":"file-2"},
        {"type":"input_audio","input_audio":{"data":"QUJD","format":"wav"}}]},
        {"type":"web_search_call","id":"ws_1","status":"completed"},
        {"type":"function_call_output","call_id":"c","output":{"ok":"\"yes\""}}]}"#;
    let request = decode::request(body).unwrap();
    let document = |source, title: Option<&'static str>| Part::Document { source, title: title.map(text) };
    assert_eq!(
        request.turns[0].parts,
        [
            document(
                Source::Base64 { media_type: text("application/pdf"), data: text("JVBE") },
                Some("a.pdf")
            ),
            document(Source::Url(text("https://x/a.pdf")), None),
            document(Source::File(text("file-1")), None),
            Part::Image(Source::File(text("file-2"))),
            Part::Audio { data: text("QUJD"), format: text("wav") },
        ]
    );
    let Part::ToolResult { parts, .. } = &request.turns[1].parts[0] else { panic!() };
    assert_eq!(parts[..], [Part::Text(text(r#"{\"ok\":\"\\\"yes\\\"\"}"#))]);
    assert_eq!(losses_of(&request), ["web_search_call"]);
}
