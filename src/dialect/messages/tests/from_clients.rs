//! Requests of clients.

use super::*;
use crate::dialect::neutral::{Arguments, Format, Part, Reasoning, Role, Source, ToolChoice, ToolKind};

/// What Claude Code sends, cut down.
pub(super) const REQUEST: &str = r#"{"model":"team-coder","max_tokens":32000,"stream":true,
"system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=2.1; cch=abc;"},
 {"type":"text","text":"You are\nClaude \u00e9.","cache_control":{"type":"ephemeral"}},{"type":"text","text":"More."}],
"messages":[
 {"role":"user","content":"Hi"},
 {"role":"system","content":"Mid."},
 {"role":"assistant","content":[{"type":"thinking","thinking":"Hm","signature":"c2ln"},{"type":"thinking","thinking":"open","signature":""},
  {"type":"redacted_thinking","data":"eA=="},{"type":"text","text":"Reading."},
  {"type":"tool_use","id":"toolu_1","name":"Read","input":{"path":"a\\b"}},{"type":"tool_use","id":"toolu_2","name":"List","input":{}}]},
 {"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"text"},
  {"type":"tool_result","tool_use_id":"toolu_2","is_error":true,"content":[{"type":"text","text":"bad"},
   {"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBO"}}],"cache_control":{"type":"ephemeral"}},
  {"type":"text","text":"Go on"}]}],
"tools":[{"name":"Read","description":"Reads.","input_schema":{"$schema":"x","type":"object","properties":{"path":{"type":"string"}}}},
 {"type":"custom","name":"List","input_schema":{"type":"object"},"eager_input_streaming":true}],
"tool_choice":{"type":"auto","disable_parallel_tool_use":true},
"thinking":{"type":"adaptive"},"output_config":{"effort":"high"},
"context_management":{"edits":[]},"metadata":{"user_id":"{\"a\":1}"},"service_tier":"auto",
"temperature":1,"top_p":0.9,"top_k":40,"stop_sequences":["END","\n\n"]}"#;

#[test]
fn a_whole_request_is_read() {
    let request = decode::request(REQUEST.as_bytes()).unwrap();
    assert!(request.stream);
    assert_eq!(request.system, [Part::Text(text("You are\\nClaude \\u00e9.")), Part::Text(text("More."))]);
    let roles: Vec<Role> = request.turns.iter().map(|turn| turn.role).collect();
    assert_eq!(roles, [Role::User, Role::System, Role::Assistant, Role::User]);
    let call = |id, name, input: &'static str| Part::ToolCall {
        id: text(id),
        name: text(name),
        arguments: Arguments::Value(input.as_bytes()),
        is_custom: false,
    };
    assert_eq!(
        request.turns[2].parts,
        [
            Part::Thinking { text: text("Hm"), signature: Some(text("c2ln")) },
            Part::Thinking { text: text("open"), signature: None },
            Part::Redacted(text("eA==")),
            Part::Text(text("Reading.")),
            call("toolu_1", "Read", r#"{"path":"a\\b"}"#),
            call("toolu_2", "List", "{}"),
        ]
    );
    let png = Source::Base64 { media_type: text("image/png"), data: text("iVBO") };
    let result = |id, parts, is_error| Part::ToolResult { id: text(id), name: None, parts, is_error };
    assert_eq!(
        request.turns[3].parts,
        [
            result("toolu_1", vec![Part::Text(text("text"))], false),
            result("toolu_2", vec![Part::Text(text("bad")), Part::Image(png)], true),
            Part::Text(text("Go on")),
        ]
    );
    let params = &request.params;
    assert_eq!(params.output_max, Some(32000));
    assert_eq!(params.reasoning, Some(Reasoning::Effort(text("high"))));
    assert_eq!(
        (params.temperature, params.top_p, params.top_k),
        (Some(&b"1"[..]), Some(&b"0.9"[..]), Some(&b"40"[..]))
    );
    assert_eq!(params.stop, [text("END"), text("\\n\\n")]);
    assert_eq!(params.user, Some(text("{\\\"a\\\":1}")));
    assert_eq!((&request.tool_choice, request.parallel_calls), (&Some(ToolChoice::Auto), Some(false)));
    assert_eq!(request.tools.len(), 2);
    assert!(matches!(
        request.tools[1].kind,
        ToolKind::Function { schema: Some(b"{\"type\":\"object\"}"), strict: None }
    ));
    assert_eq!(
        losses_of(&request),
        [
            "cache_control",
            "x-anthropic-billing-header",
            "eager_input_streaming",
            "context_management",
            "service_tier"
        ]
    );
}

#[test]
fn the_billing_line_goes_and_what_stands_behind_it_stays() {
    let system = |text: &str| {
        let body = format!(r#"{{"system":"{text}","messages":[]}}"#);
        let request = decode::request(body.as_bytes()).map(|request| request.system.len());
        let first = decode::request(body.as_bytes()).unwrap().system.first().map(|part| format!("{part:?}"));
        (request.unwrap(), first)
    };
    assert_eq!(system("x-anthropic-billing-header: a; cch=1;").0, 0);
    let rest = system("x-anthropic-billing-header: a;\\nYou are").1;
    assert_eq!(rest.unwrap(), "Text(\"You are\")");
    assert_eq!(system("On x-anthropic-billing-header:").0, 1);
}

#[test]
fn tools_with_a_schema_are_the_clients_whatever_their_type() {
    for tool in [
        r#"{"name":"f"}"#,
        r#"{"name":"f","type":null,"input_schema":{}}"#,
        r#"{"name":"f","type":"function","input_schema":{"type":"object"}}"#,
        r#"{"name":"f","type":"custom"}"#,
        r#"{"name":"f","type":"whatever","input_schema":{"type":"object"}}"#,
    ] {
        let body = format!(r#"{{"messages":[],"tools":[{tool}]}}"#);
        assert_eq!(decode::request(body.as_bytes()).unwrap().tools.len(), 1, "{tool}");
    }
}

#[test]
fn what_would_change_the_meaning_is_refused_by_name() {
    for (members, name) in [
        (
            r#""tools":[{"name":"f"},{"type":"web_search_20250305","name":"web_search","max_uses":8}]"#,
            "'tools[1].type'",
        ),
        (r#""tools":[{"type":"bash_20250124","name":"bash"}]"#, "bash_20250124"),
        (r#""tools":[{"type":"code_execution_20250825","name":"code_execution"}]"#, "'tools[0].type'"),
        (r#""container":{"skills":[]}"#, "'container'"),
        (r#""mcp_servers":[{"url":"x"}]"#, "'mcp_servers'"),
        (r#""output_config":{"format":{"type":"grammar"}}"#, "'output_config.format.type'"),
    ] {
        let refusal = refusal_of(&format!(r#"{{"messages":[],{members}}}"#));
        assert!(refusal.starts_with("unsupported_parameter") && refusal.contains(name), "{refusal}");
    }
    let block = r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":[{"type":"container_upload"}]}]}"#;
    assert!(refusal_of(block).contains("'messages[1].content[0].type'"));
}

#[test]
fn what_the_api_does_not_define_is_refused_by_name() {
    for (body, name) in [
        ("[]", "the body"),
        (r#"{"max_tokens":1}"#, "'messages' has to be a list"),
        (r#"{"messages":"a"}"#, "'messages' has to be a list"),
        (r#"{"messages":[1]}"#, "'messages[0]' has to be an object"),
        (r#"{"messages":[{"role":"tool","content":"a"}]}"#, "'messages[0].role'"),
        (r#"{"messages":[{"role":"user"}]}"#, "'messages[0].content'"),
        (r#"{"messages":[{"role":"user","content":7}]}"#, "'messages[0].content'"),
        (r#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#, "'messages[0].content[0].text'"),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64"}}]}]}"#,
            "'messages[0].content[0].source.media_type'",
        ),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"tool_result","content":[{"type":"text"}],"tool_use_id":"a"}]}]}"#,
            "'messages[0].content[0].content[0].text'",
        ),
        (r#"{"messages":[],"max_tokens":-1}"#, "'max_tokens'"),
        (r#"{"messages":[],"temperature":"1"}"#, "'temperature'"),
        (r#"{"messages":[],"stop_sequences":"x"}"#, "'stop_sequences'"),
        (r#"{"messages":[],"tools":{}}"#, "'tools'"),
        (r#"{"messages":[],"tools":[{"input_schema":{}}]}"#, "'tools[0].name'"),
        (r#"{"messages":[],"tool_choice":{"type":"tool"}}"#, "'tool_choice.name'"),
        (r#"{"messages":[],"tool_choice":"auto"}"#, "'tool_choice'"),
        (r#"{"messages":[],"system":[{"type":"image","source":{"type":"url","url":"x"}}]}"#, "'system'"),
    ] {
        let refusal = refusal_of(body);
        assert!(refusal.starts_with("invalid_body") && refusal.contains(name), "{body}: {refusal}");
    }
}

#[test]
fn effort_wins_over_a_budget_and_off_over_both_in_any_order() {
    for (members, expected) in [
        (r#""thinking":{"type":"enabled","budget_tokens":31999}"#, Some(Reasoning::Budget(31999))),
        (r#""thinking":{"type":"adaptive","display":"omitted"}"#, Some(Reasoning::Adaptive)),
        (r#""thinking":{"type":"disabled"}"#, Some(Reasoning::Off)),
        (r#""thinking":{"type":"disabled"},"output_config":{"effort":"high"}"#, Some(Reasoning::Off)),
        (r#""output_config":{"effort":"high"},"thinking":{"type":"disabled"}"#, Some(Reasoning::Off)),
        (
            r#""output_config":{"effort":"max"},"thinking":{"type":"enabled","budget_tokens":1024}"#,
            Some(Reasoning::Effort(text("max"))),
        ),
        (
            r#""thinking":{"type":"adaptive"},"output_config":{"effort":"low"}"#,
            Some(Reasoning::Effort(text("low"))),
        ),
        (r#""thinking":{"type":"dreaming"}"#, None),
        (r#""thinking":null"#, None),
    ] {
        let body = format!(r#"{{"messages":[],{members}}}"#);
        assert_eq!(decode::request(body.as_bytes()).unwrap().params.reasoning, expected, "{members}");
    }
}

#[test]
fn documents_searches_and_hosted_history_are_carried_as_far_as_can_be() {
    let body = r#"{"max_tokens":0,"messages":[{"role":"user","content":[
        {"type":"document","title":"T","source":{"type":"base64","media_type":"application/pdf","data":"JVBE"}},
        {"type":"document","source":{"type":"text","media_type":"text/plain","data":"plain"}},
        {"type":"document","source":{"type":"content","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}},
        {"type":"search_result","title":"S","source":"https://x","content":[{"type":"text","text":"found"}]},
        {"type":"image","source":{"type":"url","url":"https://x/a.png"}},
        {"type":"tool_result","tool_use_id":"t"}]},
        {"role":"assistant","content":[{"type":"server_tool_use","id":"s","name":"web_search","input":{}},
        {"type":"web_search_tool_result","tool_use_id":"s","content":[]},{"type":"text","text":"x"}]}],
        "output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}}"#;
    let request = decode::request(body.as_bytes()).unwrap();
    let document = |source, title| Part::Document { source, title };
    assert_eq!(
        request.turns[0].parts,
        [
            document(
                Source::Base64 { media_type: text("application/pdf"), data: text("JVBE") },
                Some(text("T"))
            ),
            document(Source::Text(text("plain")), None),
            document(Source::Text(text("a\\nb")), None),
            document(Source::Text(text("found")), Some(text("S"))),
            Part::Image(Source::Url(text("https://x/a.png"))),
            Part::ToolResult { id: text("t"), name: None, parts: vec![], is_error: false },
        ]
    );
    assert_eq!(request.turns[1].parts, [Part::Text(text("x"))]);
    assert_eq!(request.params.output_max, Some(0));
    let schema = Format::JsonSchema { name: None, schema: b"{\"type\":\"object\"}", strict: Some(true) };
    assert_eq!(request.params.format, Some(schema));
    assert_eq!(losses_of(&request), ["search_result.source", "server_tool_use", "web_search_tool_result"]);
}
