//! What clients send.

use super::*;
use crate::dialect::neutral::{Arguments, Format, Part, Reasoning, Role, Source, ToolChoice, ToolKind, Turn};
use crate::error::FaultKind;
use crate::wire::noise::Noise;

const REQUEST: &str = r#"{
    "systemInstruction": {"parts": [{"text": "Be exact."}, {"text": "Be kind."}]},
    "contents": [
        {"role": "user", "parts": [{"text": "Look"}, {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
            {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://a.example/x.jpg"}}]},
        {"role": "model", "parts": [{"text": "hm", "thought": true}, {"text": "", "thought": true, "thoughtSignature": "QUI="},
            {"text": "Calling"}, {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "AB=="},
            {"functionCall": {"id": "c2", "name": "f"}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "42 \"C\""}}},
            {"functionResponse": {"id": "c2", "name": "f", "response": {"error": "down"}}}]}
    ],
    "tools": [{"functionDeclarations": [{"name": "f", "description": "does", "parametersJsonSchema": {"type": "object"}}, {"name": "g"}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    "generationConfig": {"maxOutputTokens": 99, "temperature": 0.5, "topP": 0.9, "topK": 40, "seed": 3, "stopSequences": ["END"],
        "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"},
        "thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": true}, "candidateCount": 1},
    "safetySettings": []
}"#;

fn text(text: &'static str) -> Part<'static> {
    Part::Text(Text::escaped(text.as_bytes()))
}

fn call<'a>(id: &'a str, arguments: &'a str) -> Part<'a> {
    let (id, name) = (Text::escaped(id.as_bytes()), Text::escaped(b"f"));
    Part::ToolCall { id, name, arguments: Arguments::Value(arguments.as_bytes()), is_custom: false }
}

fn result(id: &'static str, said: &'static str, is_error: bool) -> Part<'static> {
    let (id, name) = (Text::escaped(id.as_bytes()), Some(Text::escaped(b"f")));
    Part::ToolResult { id, name, parts: vec![text(said)], is_error }
}

#[test]
fn a_whole_request_is_read() {
    let request = decode::request(REQUEST.as_bytes()).unwrap();
    assert_eq!(request.system, [text("Be exact."), text("Be kind.")]);
    let base64 = Source::Base64 { media_type: Text::escaped(b"image/png"), data: Text::escaped(b"iVBO") };
    let url = Source::Url(Text::escaped(b"https://a.example/x.jpg"));
    let thought =
        Part::Thinking { text: Text::escaped(b"hm"), signature: Some(Text::escaped(b"google.QUI=")) };
    assert_eq!(
        request.turns,
        [
            Turn { role: Role::User, parts: vec![text("Look"), Part::Image(base64), Part::Image(url)] },
            Turn {
                role: Role::Assistant,
                parts: vec![thought, text("Calling"), call("", r#"{"a": 1}"#), call("c2", "{}")],
            },
            Turn {
                role: Role::User,
                parts: vec![result("", r#"42 \"C\""#, false), result("c2", "down", true)]
            },
        ]
    );
    assert_eq!(request.tools.len(), 2);
    assert_eq!(
        request.tools[0].kind,
        ToolKind::Function { schema: Some(br#"{"type": "object"}"#), strict: None }
    );
    assert_eq!(request.tools[1].kind, ToolKind::Function { schema: None, strict: None });
    assert_eq!(request.tool_choice, Some(ToolChoice::Named(Text::escaped(b"f"))));
    let params = &request.params;
    assert_eq!(
        (params.output_max, params.temperature, params.top_k),
        (Some(99), Some(&b"0.5"[..]), Some(&b"40"[..]))
    );
    assert_eq!((params.stop.len(), &params.reasoning), (1, &Some(Reasoning::Budget(1024))));
    assert!(matches!(params.format, Some(Format::JsonSchema { strict: Some(false), .. })));
    assert_eq!(request.losses.iter().collect::<Vec<_>>(), ["safetySettings"]);
}

#[test]
fn snake_case_says_the_same() {
    let snake = REQUEST
        .replace("systemInstruction", "system_instruction")
        .replace("inlineData", "inline_data")
        .replace("mimeType", "mime_type")
        .replace("fileData", "file_data")
        .replace("fileUri", "file_uri")
        .replace("thoughtSignature", "thought_signature")
        .replace("functionCallingConfig", "function_calling_config")
        .replace("functionCall\"", "function_call\"")
        .replace("functionResponse", "function_response")
        .replace("functionDeclarations", "function_declarations")
        .replace("parametersJsonSchema", "parameters_json_schema")
        .replace("toolConfig", "tool_config")
        .replace("allowedFunctionNames", "allowed_function_names")
        .replace("generationConfig", "generation_config")
        .replace("maxOutputTokens", "max_output_tokens")
        .replace("topP", "top_p")
        .replace("topK", "top_k")
        .replace("stopSequences", "stop_sequences")
        .replace("responseMimeType", "response_mime_type")
        .replace("responseJsonSchema", "response_json_schema")
        .replace("thinkingConfig", "thinking_config")
        .replace("thinkingBudget", "thinking_budget")
        .replace("candidateCount", "candidate_count")
        .replace("safetySettings", "safety_settings");
    assert_eq!(decode::request(snake.as_bytes()).unwrap(), decode::request(REQUEST.as_bytes()).unwrap());
}

fn with_config(config: &str) -> String {
    format!(r#"{{"contents":[{{"parts":[{{"text":"x"}}]}}],"generationConfig":{config}}}"#)
}

#[test]
fn what_changes_the_meaning_is_refused_by_its_name() {
    let part = |part: &str| format!(r#"{{"contents":[{{"parts":[{part}]}}]}}"#);
    for (body, kind, member) in [
        ("{}".to_owned(), FaultKind::BodyMalformed, "contents"),
        ("[]".to_owned(), FaultKind::BodyMalformed, "the body"),
        (r#"{"contents":[5]}"#.to_owned(), FaultKind::BodyMalformed, "contents[0]"),
        (r#"{"contents":[{"role":"bot"}]}"#.to_owned(), FaultKind::BodyMalformed, "contents[0].role"),
        (part(r#"{"new":1}"#), FaultKind::MemberUnsupported, "contents[0].parts[0].new"),
        (part(r#"{"functionCall":{}}"#), FaultKind::BodyMalformed, "contents[0].parts[0].functionCall.name"),
        (
            part(r#"{"inlineData":{"mimeType":"video/mp4","data":"AA"}}"#),
            FaultKind::MemberUnsupported,
            "contents[0].parts[0].inlineData",
        ),
        (
            r#"{"contents":[],"tools":[{"googleSearch":{}}]}"#.to_owned(),
            FaultKind::MemberUnsupported,
            "tools[0].googleSearch",
        ),
        (
            r#"{"contents":[],"cachedContent":"c/1"}"#.to_owned(),
            FaultKind::MemberUnsupported,
            "cachedContent",
        ),
        (
            with_config(r#"{"candidateCount":2}"#),
            FaultKind::MemberUnsupported,
            "generationConfig.candidateCount",
        ),
        (
            with_config(r#"{"responseModalities":["TEXT","IMAGE"]}"#),
            FaultKind::MemberUnsupported,
            "generationConfig.responseModalities",
        ),
        (
            with_config(r#"{"responseLogprobs":true}"#),
            FaultKind::MemberUnsupported,
            "generationConfig.responseLogprobs",
        ),
        (with_config(r#"{"temperature":"x"}"#), FaultKind::BodyMalformed, "generationConfig.temperature"),
        (with_config("[]"), FaultKind::BodyMalformed, "generationConfig"),
    ] {
        let fault = decode::request(body.as_bytes()).unwrap_err();
        assert_eq!(fault.kind, kind, "{body}");
        assert!(fault.note.contains(&format!("'{member}'")), "{body}: {}", fault.note);
    }
    let plain = with_config(r#"{"responseModalities":["TEXT"],"candidateCount":1}"#);
    assert!(decode::request(plain.as_bytes()).unwrap().losses.is_empty());
}

#[test]
fn how_much_to_think_is_read_in_words_and_tokens() {
    for (thinking, expected) in [
        (r#"{"thinkingLevel":"HIGH"}"#, Some(Reasoning::Effort(Text::escaped(b"high")))),
        (r#"{"thinkingBudget":0}"#, Some(Reasoning::Off)),
        (r#"{"thinkingBudget":-1}"#, Some(Reasoning::Adaptive)),
        (r#"{"thinkingBudget":2048}"#, Some(Reasoning::Budget(2048))),
        (r#"{"includeThoughts":true}"#, None),
    ] {
        let body = with_config(&format!(r#"{{"thinkingConfig":{thinking}}}"#));
        assert_eq!(decode::request(body.as_bytes()).unwrap().params.reasoning, expected, "{thinking}");
    }
}

#[test]
fn of_several_allowed_functions_only_they_are_declared() {
    let with = |config: &str| {
        format!(
            r#"{{"contents":[],"tools":[{{"functionDeclarations":[{{"name":"a"}},{{"name":"b"}}]}},{{"functionDeclarations":[{{"name":"c"}}]}}],
            "toolConfig":{{"functionCallingConfig":{config}}}}}"#
        )
    };
    for (config, names, choice) in [
        (r#"{"mode":"ANY","allowedFunctionNames":["a","c"]}"#, "ac", ToolChoice::Required),
        (r#"{"mode":"VALIDATED","allowedFunctionNames":["b"]}"#, "b", ToolChoice::Auto),
        (r#"{"mode":"NONE"}"#, "abc", ToolChoice::None),
        (r#"{"mode":"any"}"#, "abc", ToolChoice::Required),
        (r#"{}"#, "abc", ToolChoice::Auto),
    ] {
        let body = with(config);
        let request = decode::request(body.as_bytes()).unwrap();
        let declared: String =
            request.tools.iter().filter_map(|tool| Some(tool.name.to_plain()?.into_owned())).collect();
        assert_eq!((declared.as_str(), request.tool_choice), (names, Some(choice)), "{config}");
    }
}

#[test]
fn base64_for_urls_becomes_the_standard_one() {
    let body = r#"{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"-_-"}}]}]}"#;
    let request = decode::request(body.as_bytes()).unwrap();
    let Part::Image(Source::Base64 { data, .. }) = &request.turns[0].parts[0] else { panic!("an image") };
    assert_eq!(data.inside(), b"+/+=");
}

#[test]
fn what_a_client_kept_of_a_stream_is_one_turn() {
    let body = r#"{"contents":[{"role":"user","parts":[{"text":"x"}]},{"role":"model","parts":[{"text":"a","thought":true}]},
        {"role":"model","parts":[{"text":"b","thought":true}]},{"role":"model","parts":[{"text":"Hel"}]},
        {"role":"model","parts":[{"text":"lo"}]},{"role":"model","parts":[{"text":""}]}]}"#;
    let request = decode::request(body.as_bytes()).unwrap();
    let thought = Part::Thinking { text: Text::escaped(b"ab"), signature: None };
    assert_eq!(request.turns[1].parts, [thought, text("Hello")]);
}

#[test]
fn results_are_the_text_that_sdks_wrapped() {
    for (response, said, is_error) in [
        (r#"{"output":"a"}"#, Some("a"), false),
        (r#"{"result":"a"}"#, Some("a"), false),
        (r#"{"result":[1,2]}"#, Some("[1,2]"), false),
        (r#"{"error":"a"}"#, Some("a"), true),
        (r#"{"temp":20,"unit":"C"}"#, Some(r#"{\"temp\":20,\"unit\":\"C\"}"#), false),
        (r#"{"output":"a","error":"b"}"#, Some(r#"{\"output\":\"a\",\"error\":\"b\"}"#), false),
        (r#"{}"#, None, false),
        (r#""plain""#, Some("plain"), false),
    ] {
        let body = format!(
            r#"{{"contents":[{{"parts":[{{"functionResponse":{{"name":"f","response":{response}}}}}]}}]}}"#
        );
        let request = decode::request(body.as_bytes()).unwrap();
        let Part::ToolResult { parts, is_error: failed, .. } = &request.turns[0].parts[0] else {
            panic!("a result")
        };
        let told = parts.first().map(|part| match part {
            Part::Text(text) => String::from_utf8_lossy(text.inside()).into_owned(),
            other => panic!("{other:?}"),
        });
        assert_eq!((told.as_deref(), *failed), (said, is_error), "{response}");
    }
}

#[test]
fn changed_bytes_never_panic() {
    let mut noise = Noise::new(7);
    for _ in 0..20_000 {
        let body = noise.mutate(REQUEST.as_bytes());
        let prepared = decode::prepared(&body);
        if let Ok(request) = decode::request(&prepared) {
            let mut out = Vec::new();
            if encode::request(&request, &target("\"gemini-3-x\""), &mut out).is_ok()
                && std::str::from_utf8(&body).is_ok()
            {
                json(&out);
            }
        }
    }
}
