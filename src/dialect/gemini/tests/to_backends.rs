//! What backends are sent.

use serde_json::json as value;

use super::*;
use crate::dialect::neutral::{
    Arguments, Format, Part, Reasoning, Role, Source, Tool, ToolChoice, ToolKind, Turn,
};

fn text(text: &'static str) -> Part<'static> {
    Part::Text(Text::escaped(text.as_bytes()))
}

fn call(id: &'static str, name: &'static str, arguments: &'static str) -> Part<'static> {
    Part::ToolCall {
        id: Text::escaped(id.as_bytes()),
        name: Text::escaped(name.as_bytes()),
        arguments: Arguments::Quoted(Text::escaped(arguments.as_bytes())),
        is_custom: false,
    }
}

fn result(id: &'static str, parts: Vec<Part<'static>>, is_error: bool) -> Part<'static> {
    Part::ToolResult { id: Text::escaped(id.as_bytes()), name: None, parts, is_error }
}

fn turn(role: Role, parts: Vec<Part<'static>>) -> Turn<'static> {
    Turn { role, parts }
}

fn function(name: &'static str, schema: Option<&'static str>) -> Tool<'static> {
    let kind = ToolKind::Function { schema: schema.map(str::as_bytes), strict: Some(true) };
    Tool { name: Text::escaped(name.as_bytes()), description: Some(Text::escaped(b"does")), kind }
}

#[test]
fn a_whole_request_is_written() {
    let png = Source::Base64 { media_type: Text::escaped(b"image/png"), data: Text::escaped(b"iVBO") };
    let mut request = Request {
        system: vec![text("Be exact."), text(""), text("Be kind.")],
        turns: vec![
            turn(Role::User, vec![text("Look"), Part::Image(png.clone())]),
            turn(
                Role::Assistant,
                vec![text("Calling"), call("c1", "f", r#"{\"a\":1}"#), call("c2", "g", "")],
            ),
            turn(Role::User, vec![result("c2", vec![text("two"), Part::Image(png)], false)]),
            turn(Role::User, vec![result("c1", vec![text(r#"{\"t\":1}"#)], false)]),
            turn(Role::User, vec![text("Go on")]),
        ],
        tools: vec![function("f", Some(r#"{"type":"object","$defs":{}}"#)), function("g", None)],
        tool_choice: Some(ToolChoice::Named(Text::escaped(b"f"))),
        ..Request::default()
    };
    request.params.output_max = Some(9);
    request.params.temperature = Some(b"0.5");
    request.params.top_k = Some(b"3");
    request.params.stop = vec![Text::escaped(b"END"), Text::default()];
    request.params.format =
        Some(Format::JsonSchema { name: None, schema: br#"{"type":"object"}"#, strict: None });
    let (body, losses) = encoded(&request, "\"gemini-2.5-flash\"");
    assert_eq!(
        body,
        value!({
            "systemInstruction": {"parts": [{"text": "Be exact."}, {"text": "Be kind."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Look"}, {"inlineData": {"mimeType": "image/png", "data": "iVBO"}}]},
                {"role": "model", "parts": [{"text": "Calling"}, {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}},
                    {"functionCall": {"id": "c2", "name": "g", "args": {}}}]},
                {"role": "user", "parts": [
                    {"functionResponse": {"id": "c1", "name": "f", "response": {"t": 1}}},
                    {"functionResponse": {"id": "c2", "name": "g", "response": {"output": "two"}}}]},
                {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "iVBO"}}, {"text": "Go on"}]}
            ],
            "tools": [{"functionDeclarations": [
                {"name": "f", "description": "does", "parametersJsonSchema": {"type": "object", "$defs": {}}},
                {"name": "g", "description": "does"}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
            "generationConfig": {"maxOutputTokens": 9, "temperature": 0.5, "topK": 3, "stopSequences": ["END"],
                "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}}
        })
    );
    assert!(losses.is_empty(), "{losses:?}");
}

#[test]
fn a_seal_comes_back_on_its_call() {
    let sealed = call("call_1_gsig_AB-_cd", "f", "");
    let request = Request {
        turns: vec![
            turn(Role::User, vec![text("x")]),
            turn(Role::Assistant, vec![sealed, call("call_2", "f", "")]),
            turn(
                Role::User,
                vec![
                    result("call_2", vec![text("b")], true),
                    result("call_1_gsig_AB-_cd", vec![text("a")], false),
                ],
            ),
        ],
        ..Request::default()
    };
    let (body, _) = encoded(&request, "\"gemini-3-pro\"");
    assert_eq!(
        body["contents"][1]["parts"],
        value!([
            {"functionCall": {"id": "call_1", "name": "f", "args": {}}, "thoughtSignature": "AB+/cd=="},
            {"functionCall": {"id": "call_2", "name": "f", "args": {}}}
        ])
    );
    let responses = &body["contents"][2]["parts"];
    assert_eq!(responses[0]["functionResponse"]["id"], "call_1");
    assert_eq!(responses[1]["functionResponse"]["response"], value!({"error": "b"}));
}

#[test]
fn calls_of_other_models_have_the_seal_that_later_models_want() {
    let request = Request {
        turns: vec![turn(Role::Assistant, vec![call("toolu_1", "f", ""), call("toolu_2", "f", "")])],
        ..Request::default()
    };
    for (model, wanted) in [
        ("\"gemini-3.1-pro-preview\"", true),
        ("\"gemini-flash-latest\"", true),
        ("\"gemini-2.5-pro\"", false),
    ] {
        let (body, _) = encoded(&request, model);
        let parts = &body["contents"][0]["parts"];
        let seal = parts[0].get("thoughtSignature").and_then(Value::as_str);
        assert_eq!(seal, wanted.then_some("skip_thought_signature_validator"), "{model}");
        assert!(parts[1].get("thoughtSignature").is_none());
    }
}

#[test]
fn only_googles_thoughts_go_back() {
    let thought = |text: &'static str, seal: Option<&'static str>| Part::Thinking {
        text: Text::escaped(text.as_bytes()),
        signature: seal.map(|seal| Text::escaped(seal.as_bytes())),
    };
    let request = Request {
        turns: vec![turn(
            Role::Assistant,
            vec![
                thought("mine", Some("google.QUI=")),
                thought("theirs", Some("EqQB")),
                thought("unsealed", None),
                Part::Redacted(Text::escaped(b"x")),
                text("Hi"),
                thought("", Some("google.QUJD")),
            ],
        )],
        ..Request::default()
    };
    let (body, losses) = encoded(&request, "\"m\"");
    assert_eq!(
        body["contents"][0]["parts"],
        value!([
            {"text": "mine", "thought": true, "thoughtSignature": "QUI="},
            {"text": "Hi"},
            {"text": "", "thoughtSignature": "QUJD"}
        ])
    );
    assert_eq!(losses, ["thinking"]);
}

#[test]
fn how_much_to_think_is_told_as_the_model_takes_it() {
    let effort = |word: &'static str| Reasoning::Effort(Text::escaped(word.as_bytes()));
    for (model, reasoning, expected) in [
        ("\"gemini-2.5-flash\"", effort("low"), value!({"thinkingBudget": 1024, "includeThoughts": true})),
        ("\"gemini-2.5-flash\"", effort("medium"), value!({"thinkingBudget": 8192, "includeThoughts": true})),
        ("\"gemini-2.5-flash\"", effort("high"), value!({"thinkingBudget": 24576, "includeThoughts": true})),
        ("\"gemini-2.5-flash\"", Reasoning::Off, value!({"thinkingBudget": 0})),
        ("\"gemini-2.5-pro\"", Reasoning::Off, value!({"thinkingBudget": 128})),
        (
            "\"gemini-2.5-flash\"",
            Reasoning::Budget(3000),
            value!({"thinkingBudget": 3000, "includeThoughts": true}),
        ),
        (
            "\"gemini-2.5-flash\"",
            Reasoning::Adaptive,
            value!({"thinkingBudget": -1, "includeThoughts": true}),
        ),
        (
            "\"gemini-3-pro-preview\"",
            effort("high"),
            value!({"thinkingLevel": "high", "includeThoughts": true}),
        ),
        (
            "\"gemini-3-flash\"",
            Reasoning::Budget(3000),
            value!({"thinkingLevel": "medium", "includeThoughts": true}),
        ),
        ("\"gemini-3-flash\"", Reasoning::Off, value!({"thinkingLevel": "minimal"})),
        ("\"gemini-3-flash\"", Reasoning::Adaptive, value!({"includeThoughts": true})),
    ] {
        let mut request = Request::default();
        request.params.reasoning = Some(reasoning.clone());
        let (body, _) = encoded(&request, model);
        assert_eq!(body["generationConfig"]["thinkingConfig"], expected, "{model} {reasoning:?}");
    }
}

#[test]
fn links_and_files_go_by_their_address_or_not_at_all() {
    let with =
        |part: Part<'static>| Request { turns: vec![turn(Role::User, vec![part])], ..Request::default() };
    let url = |url: &'static str| Source::Url(Text::escaped(url.as_bytes()));
    for (source, expected) in [
        (
            url("https://a.example/x.PNG?s=1"),
            value!({"fileUri": "https://a.example/x.PNG?s=1", "mimeType": "image/png"}),
        ),
        (url("https://a.example/x"), value!({"fileUri": "https://a.example/x"})),
        (
            Source::File(Text::escaped(b"gs://b/o.pdf")),
            value!({"fileUri": "gs://b/o.pdf", "mimeType": "application/pdf"}),
        ),
    ] {
        let (body, _) = encoded(&with(Part::Image(source)), "\"m\"");
        assert_eq!(body["contents"][0]["parts"][0]["fileData"], expected);
    }
    let file = with(Part::Image(Source::File(Text::escaped(b"file-1"))));
    let fault = encode::request(&file, &target("\"m\""), &mut Vec::new()).unwrap_err();
    assert!(fault.note.contains("'file_id'"), "{}", fault.note);
    let (body, _) =
        encoded(&with(Part::Audio { data: Text::escaped(b"AA=="), format: Text::escaped(b"wav") }), "\"m\"");
    assert_eq!(body["contents"][0]["parts"][0]["inlineData"]["mimeType"], "audio/wav");
}

#[test]
fn what_has_no_place_is_named() {
    let mut request = Request { parallel_calls: Some(false), ..Request::default() };
    request.turns = vec![
        turn(Role::System, vec![text("first")]),
        turn(Role::User, vec![text("x")]),
        turn(Role::System, vec![text("later")]),
    ];
    request.params.user = Some(Text::escaped(b"u"));
    request.params.stop = ["a", "b", "c", "d", "e", "f"].map(|stop| Text::escaped(stop.as_bytes())).to_vec();
    let (body, losses) = encoded(&request, "\"m\"");
    assert_eq!(body["systemInstruction"]["parts"], value!([{"text": "first"}]));
    assert_eq!(body["contents"], value!([{"role": "user", "parts": [{"text": "x"}, {"text": "later"}]}]));
    assert_eq!(body["generationConfig"]["stopSequences"].as_array().unwrap().len(), 5);
    assert_eq!(losses, ["system", "stop", "parallel_tool_calls", "user"]);
}

#[test]
fn a_result_with_references_goes_as_text() {
    let schema = r##"{\"$ref\":\"#/$defs/a\"}"##;
    let request = Request {
        turns: vec![
            turn(Role::Assistant, vec![call("c1", "f", "")]),
            turn(Role::User, vec![result("c1", vec![text(schema)], false)]),
        ],
        ..Request::default()
    };
    let (body, _) = encoded(&request, "\"m\"");
    let response = &body["contents"][1]["parts"][0]["functionResponse"]["response"];
    assert_eq!(response, &value!({"output": "{\"$ref\":\"#/$defs/a\"}"}));
}

#[test]
fn results_without_ids_are_paired_by_name_and_order() {
    let none = |name: &'static str, said: &'static str| Part::ToolResult {
        id: Text::default(),
        name: Some(Text::escaped(name.as_bytes())),
        parts: vec![text(said)],
        is_error: false,
    };
    let request = Request {
        turns: vec![
            turn(Role::Assistant, vec![call("", "f", ""), call("", "g", ""), call("", "f", "")]),
            turn(Role::User, vec![none("g", "1"), none("f", "2"), none("f", "3")]),
        ],
        ..Request::default()
    };
    let (body, _) = encoded(&request, "\"m\"");
    let results: Vec<String> = body["contents"][1]["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| {
            format!("{}{}", part["functionResponse"]["name"], part["functionResponse"]["response"]["output"])
        })
        .collect();
    assert_eq!(results, [r#""f""2""#, r#""g""1""#, r#""f""3""#]);
}
