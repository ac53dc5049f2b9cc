//! What each dialect carries, tried out: the tables of `docs/translation.md`.

use super::*;
use crate::dialect::neutral::{
    Arguments, FinishReason, Format, Json, Part, Reasoning, Role, Source, Tool, ToolChoice, Turn,
};

const CLIENTS: [(&str, Api); 5] = [
    ("chat completions", Api::Chat),
    ("Responses", Api::Responses),
    ("Messages", Api::Messages),
    ("Gemini", Api::GenerateContent),
    ("Ollama", Api::OllamaChat),
];

/// The APIs of backends, each with a model that can do most, and with one that thinks.
const BACKENDS: [(&str, Api, [Json<'_>; 2]); 6] = [
    ("chat completions", Api::Chat, [b"\"gpt-4.1\"", b"\"gpt-5.1\""]),
    ("Responses", Api::Responses, [b"\"gpt-4.1\"", b"\"gpt-5.1\""]),
    ("Messages", Api::Messages, [b"\"claude-sonnet-4-5\"", b"\"claude-sonnet-4-5\""]),
    ("Gemini", Api::GenerateContent, [b"\"gemini-3-pro\"", b"\"gemini-3-pro\""]),
    ("Converse", Api::Converse, [b"\"anthropic.claude-sonnet-4-5\"", b"\"anthropic.claude-sonnet-4-5\""]),
    ("Ollama", Api::OllamaChat, [b"\"gpt-oss:20b\"", b"\"gpt-oss:20b\""]),
];

const fn text(text: &'static str) -> Text<'static> {
    Text::escaped(text.as_bytes())
}

fn user(parts: Vec<Part<'static>>) -> Turn<'static> {
    Turn { role: Role::User, parts }
}

fn model(parts: Vec<Part<'static>>) -> Turn<'static> {
    Turn { role: Role::Assistant, parts }
}

fn call(id: &'static str, is_custom: bool) -> Part<'static> {
    let arguments = if is_custom { "FREETEXT" } else { "{\\\"ARGUMENT\\\":1}" };
    let arguments = Arguments::Quoted(text(arguments));
    Part::ToolCall { id: text(id), name: text("ls"), arguments, is_custom }
}

fn result(parts: Vec<Part<'static>>, is_error: bool) -> Part<'static> {
    Part::ToolResult { id: text("call_1"), name: Some(text("ls")), parts, is_error }
}

fn tool(kind: ToolKind<'static>) -> Tool<'static> {
    Tool { name: text("ls"), description: Some(text("lists")), kind }
}

fn function() -> Tool<'static> {
    tool(ToolKind::Function {
        schema: Some(br#"{"type":"object","properties":{"SCHEMA":{}}}"#),
        strict: None,
    })
}

fn base64(media_type: &'static str) -> Source<'static> {
    Source::Base64 { media_type: text(media_type), data: text("RkVBVFVSRQ==") }
}

/// Something that a request may say: its name, how it is said, and what of it has to be found in the backend's request.
type Feature = (&'static str, fn(&mut Request<'static>), &'static [&'static str]);

const FEATURES: [Feature; 37] = [
    ("system prompt", |request| request.system.push(Part::Text(text("FEATURE"))), &["FEATURE"]),
    (
        "system message later in the conversation",
        |request| {
            request.turns.push(Turn { role: Role::System, parts: vec![Part::Text(text("FEATURE"))] });
            request.turns.push(user(vec![Part::Text(text("and?"))]));
        },
        &["FEATURE"],
    ),
    (
        "image in base64",
        |request| request.turns.push(user(vec![Part::Image(base64("image/png"))])),
        &["RkVBVFVSRQ=="],
    ),
    (
        "image by URL",
        |request| request.turns.push(user(vec![Part::Image(Source::Url(text("https://a.example/i.png")))])),
        &["https://a.example/i.png"],
    ),
    (
        "file by its id at the provider",
        |request| request.turns.push(user(vec![Part::Image(Source::File(text("file_1")))])),
        &["file_1"],
    ),
    (
        "PDF in base64",
        |request| {
            let (source, title) = (base64("application/pdf"), Some(text("a.pdf")));
            request.turns.push(user(vec![Part::Document { source, title }]));
        },
        &["RkVBVFVSRQ=="],
    ),
    (
        "document as text",
        |request| {
            let (source, title) = (Source::Text(text("FEATURE")), None);
            request.turns.push(user(vec![Part::Document { source, title }]));
        },
        &["FEATURE"],
    ),
    (
        "document by URL",
        |request| {
            let (source, title) = (Source::Url(text("https://a.example/a.pdf")), None);
            request.turns.push(user(vec![Part::Document { source, title }]));
        },
        &["https://a.example/a.pdf"],
    ),
    (
        "audio",
        |request| {
            let (data, format) = (text("RkVBVFVSRQ=="), text("wav"));
            request.turns.push(user(vec![Part::Audio { data, format }]));
        },
        &["RkVBVFVSRQ=="],
    ),
    (
        "earlier thought with another provider's seal",
        |request| {
            let signature = Some(text("RkVBVFVSRQ=="));
            let thought = Part::Thinking { text: text("hm"), signature };
            request.turns.push(model(vec![thought, Part::Text(text("so"))]));
            request.turns.push(user(vec![Part::Text(text("and?"))]));
        },
        &["RkVBVFVSRQ=="],
    ),
    (
        "earlier thought with a seal of Google's",
        |request| {
            let signature = Some(text("google.RkVBVFVSRQ=="));
            let thought = Part::Thinking { text: text("hm"), signature };
            request.turns.push(model(vec![thought, Part::Text(text("so"))]));
            request.turns.push(user(vec![Part::Text(text("and?"))]));
        },
        &["RkVBVFVSRQ=="],
    ),
    ("functions", |request| request.tools.push(function()), &["SCHEMA"]),
    (
        "strict functions",
        |request| {
            let schema: Option<Json<'_>> = Some(br#"{"type":"object"}"#);
            request.tools.push(tool(ToolKind::Function { schema, strict: Some(true) }));
        },
        &["\"strict\":true"],
    ),
    ("tools for free text", |request| request.tools.push(tool(ToolKind::Custom { format: None })), &["ls"]),
    (
        "calls and their results",
        |request| {
            request.tools.push(function());
            request.turns.push(model(vec![call("call_1", false)]));
            request.turns.push(user(vec![result(vec![Part::Text(text("FEATURE"))], false)]));
        },
        &["ARGUMENT", "FEATURE"],
    ),
    (
        "failed calls",
        |request| {
            request.tools.push(function());
            request.turns.push(model(vec![call("call_1", false)]));
            request.turns.push(user(vec![result(vec![Part::Text(text("FEATURE"))], true)]));
        },
        &["FEATURE", "rror"],
    ),
    (
        "images in results",
        |request| {
            request.tools.push(function());
            request.turns.push(model(vec![call("call_1", false)]));
            request.turns.push(user(vec![result(vec![Part::Image(base64("image/png"))], false)]));
        },
        &["RkVBVFVSRQ=="],
    ),
    (
        "calls of tools for free text",
        |request| {
            request.tools.push(tool(ToolKind::Custom { format: None }));
            request.turns.push(model(vec![call("call_1", true)]));
            request.turns.push(user(vec![result(vec![Part::Text(text("FEATURE"))], false)]));
        },
        &["FREETEXT", "FEATURE"],
    ),
    (
        NO_TOOL,
        |request| {
            request.tools.push(function());
            request.tool_choice = Some(ToolChoice::None);
        },
        &[],
    ),
    (
        "some tool has to be called",
        |request| {
            request.tools.push(function());
            request.tool_choice = Some(ToolChoice::Required);
        },
        &["tool"],
    ),
    (
        "one tool has to be called",
        |request| {
            request.tools.push(function());
            request.tool_choice = Some(ToolChoice::Named(text("ls")));
        },
        &["ls"],
    ),
    (
        "one call at a time",
        |request| {
            request.tools.push(function());
            request.parallel_calls = Some(false);
        },
        &["parallel"],
    ),
    ("bound on output", |request| request.params.output_max = Some(777), &["777"]),
    ("temperature", |request| request.params.temperature = Some(b"0.77"), &["0.77"]),
    ("temperature above 1", |request| request.params.temperature = Some(b"1.77"), &["emperature\":1"]),
    ("top_p", |request| request.params.top_p = Some(b"0.77"), &["0.77"]),
    ("top_k", |request| request.params.top_k = Some(b"77"), &["77"]),
    ("seed", |request| request.params.seed = Some(b"777"), &["777"]),
    ("presence penalty", |request| request.params.presence_penalty = Some(b"0.77"), &["0.77"]),
    ("frequency penalty", |request| request.params.frequency_penalty = Some(b"0.77"), &["0.77"]),
    ("stop sequences", |request| request.params.stop = vec![text("FEATURE")], &["FEATURE"]),
    ("no thinking", |request| request.params.reasoning = Some(Reasoning::Off), &[]),
    ("effort of thinking", |request| request.params.reasoning = Some(Reasoning::Effort(text("high"))), &[]),
    ("budget for thinking", |request| request.params.reasoning = Some(Reasoning::Budget(2_000)), &[]),
    ("any JSON object as output", |request| request.params.format = Some(Format::JsonObject), &["json"]),
    (
        "output by a JSON schema",
        |request| {
            let schema: Json<'_> = br#"{"type":"object","properties":{"SCHEMA":{}}}"#;
            request.params.format = Some(Format::JsonSchema { name: None, schema, strict: None });
        },
        &["SCHEMA"],
    ),
    ("end user", |request| request.params.user = Some(text("FEATURE")), &["FEATURE"]),
];

const NO_TOOL: &str = "no tool may be called";

/// What becomes of a feature on the way to a backend.
fn carried((name, set, marks): &Feature, backend: Api, models: [Json<'_>; 2]) -> String {
    let model = models[usize::from(name.contains("thinking"))];
    let target = Target { model, output_cap_member: "max_completion_tokens", ..TARGET };
    let sent = |request: &Request<'static>| {
        let mut out = Vec::new();
        let losses = verbs(backend).encode_request(request, &target, &mut out)?;
        Ok::<_, Fault>((String::from_utf8_lossy(&out).into_owned(), losses.line()))
    };
    let plain = Request { turns: vec![user(vec![Part::Text(text("Hi"))])], ..Request::default() };
    let mut request = plain.clone();
    set(&mut request);
    let Ok((body, lost)) = sent(&request) else { return "400".to_owned() };
    let is_there = marks.iter().all(|mark| body.contains(mark));
    let differs = sent(&plain).is_ok_and(|(plain, _)| plain != body);
    if *name == NO_TOOL && !body.contains("SCHEMA") {
        return "yes: the tools are left out".to_owned();
    }
    match (lost, is_there && differs) {
        (None, true) => "yes".to_owned(),
        (Some(lost), true) => format!("in part (`{lost}`)"),
        (Some(lost), false) => format!("dropped (`{lost}`)"),
        (None, false) => panic!("{name} is lost in silence towards {backend:?}: {body}"),
    }
}

fn row(cells: impl IntoIterator<Item = String>) -> String {
    cells.into_iter().fold("|".to_owned(), |row, cell| row + " " + &cell + " |") + "\n"
}

fn head<'a>(first: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    let line = names.clone().fold("|---|".to_owned(), |line, _| line + "---|");
    row([first.to_owned()].into_iter().chain(names.map(str::to_owned))) + &line + "\n"
}

fn page() -> &'static str {
    include_str!("../../../../docs/translation.md")
}

#[test]
fn the_page_says_what_reaches_which_backend() {
    let mut table = head("a request with", BACKENDS.iter().map(|(name, ..)| *name));
    for feature in &FEATURES {
        let cells = BACKENDS.iter().map(|(_, api, models)| carried(feature, *api, *models));
        table += &row([feature.0.to_owned()].into_iter().chain(cells));
    }
    assert!(page().contains(&table), "docs/translation.md lacks:\n{table}");
}

/// Members of one client's API that have no place in the others', or only for one value.
const MEMBERS: [(Api, &[&str]); 5] = [
    (
        Api::Chat,
        &[
            r#""n":2"#,
            r#""logprobs":true"#,
            r#""top_logprobs":2"#,
            r#""logit_bias":{"1":1}"#,
            r#""modalities":["audio"]"#,
            r#""functions":[]"#,
            r#""web_search_options":{}"#,
            r#""prediction":{}"#,
            r#""metadata":{"a":"b"}"#,
            r#""store":true"#,
            r#""service_tier":"flex""#,
            r#""verbosity":"low""#,
            r#""prompt_cache_key":"k""#,
            r#""max_tokens":0"#,
        ],
    ),
    (
        Api::Responses,
        &[
            r#""previous_response_id":"r""#,
            r#""conversation":"c""#,
            r#""prompt":{"id":"p"}"#,
            r#""background":true"#,
            r#""top_logprobs":2"#,
            r#""tools":[{"type":"file_search"}]"#,
            r#""tools":[{"type":"web_search"}]"#,
            r#""include":["reasoning.encrypted_content"]"#,
            r#""metadata":{"a":"b"}"#,
            r#""store":true"#,
            r#""truncation":"auto""#,
            r#""max_tool_calls":1"#,
            r#""client_metadata":{}"#,
            r#""prompt_cache_key":"k""#,
            r#""text":{"verbosity":"low"}"#,
        ],
    ),
    (
        Api::Messages,
        &[
            r#""tools":[{"type":"web_search_20250305","name":"web_search"}]"#,
            r#""mcp_servers":[{}]"#,
            r#""container":"c""#,
            r#""metadata":{"user_id":"u","more":1}"#,
            r#""context_management":{}"#,
            r#""cache_control":{"type":"ephemeral"}"#,
            r#""service_tier":"auto""#,
            r#""max_tokens":0"#,
        ],
    ),
    (
        Api::GenerateContent,
        &[
            r#""generationConfig":{"candidateCount":2}"#,
            r#""generationConfig":{"responseLogprobs":true}"#,
            r#""generationConfig":{"responseModalities":["AUDIO"]}"#,
            r#""generationConfig":{"speechConfig":{}}"#,
            r#""generationConfig":{"mediaResolution":"MEDIA_RESOLUTION_LOW"}"#,
            r#""tools":[{"googleSearch":{}}]"#,
            r#""cachedContent":"c""#,
            r#""safetySettings":[]"#,
            r#""labels":{}"#,
        ],
    ),
    (
        Api::OllamaChat,
        &[
            r#""keep_alive":"5m""#,
            r#""options":{"num_ctx":8192}"#,
            r#""options":{"mirostat":1}"#,
            r#""options":{"num_predict":-1}"#,
            r#""logprobs":true"#,
        ],
    ),
];

#[test]
fn the_page_says_what_of_a_client_has_no_counterpart() {
    let mut table = head("clients of", ["send", "outcome"].into_iter());
    for (client, members) in MEMBERS {
        let (name, _) = CLIENTS.iter().find(|(_, api)| *api == client).unwrap();
        for member in members {
            let body = match client {
                Api::Responses => format!(r#"{{"model":"m","input":"Hi",{member}}}"#),
                Api::GenerateContent => format!(r#"{{"contents":[{{"parts":[{{"text":"Hi"}}]}}],{member}}}"#),
                _ => format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hi"}}],{member}}}"#),
            };
            let backend = if client == Api::Chat { Api::Messages } else { Api::Chat };
            let call = Call { client, backend };
            let outcome = match request(call, body.as_bytes(), false, &TARGET, &mut Vec::new()) {
                Err(fault) => {
                    assert_eq!(fault.kind, crate::error::FaultKind::MemberUnsupported, "{member}: {fault}");
                    "400".to_owned()
                }
                Ok(translated) => match translated.losses.line() {
                    Some(lost) => format!("dropped (`{lost}`)"),
                    None => "no loss".to_owned(),
                },
            };
            table += &row([(*name).to_owned(), format!("`{member}`"), outcome]);
        }
    }
    assert!(page().contains(&table), "docs/translation.md lacks:\n{table}");
}

/// Something that a response may say: its name, its events between the start and the end, and what of it has to be found.
type Saying = (&'static str, fn() -> Vec<Event<'static>>, &'static str);

const SAYINGS: [Saying; 12] = [
    ("text", || part(PartKind::Text, "FEATURE", None), "FEATURE"),
    ("refusal in words", || part(PartKind::Refusal, "FEATURE", None), "FEATURE"),
    ("thought", || part(PartKind::Thinking, "FEATURE", None), "FEATURE"),
    ("seal over a thought", || part(PartKind::Thinking, "hm", Some("FEATURE")), "FEATURE"),
    ("sealed thought", || part(PartKind::Redacted(text("FEATURE")), "", None), "FEATURE"),
    ("call of a function", || part(called("call_FEATURE", false), r#"{\"a\":1}"#, None), "call_FEATURE"),
    ("call with free text", || part(called("call_1", true), "FEATURE", None), "FEATURE"),
    ("stopped at the bound on output", || finish(FinishReason::Length, None), ""),
    ("stopped by a filter", || finish(FinishReason::ContentFilter, None), ""),
    ("the stop sequence that was hit", || finish(FinishReason::Stop, Some(text("FEATURE"))), "FEATURE"),
    (
        "tokens read from a cache",
        || {
            counted(br#"{"prompt_tokens":900,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":777}}"#)
        },
        "777",
    ),
    (
        "tokens of thoughts",
        || {
            counted(br#"{"prompt_tokens":1,"completion_tokens":900,"completion_tokens_details":{"reasoning_tokens":777}}"#)
        },
        "777",
    ),
];

fn called(id: &'static str, is_custom: bool) -> PartKind<'static> {
    PartKind::ToolCall { id: text(id), name: text("ls"), is_custom }
}

fn part(kind: PartKind<'static>, said: &'static str, seal: Option<&'static str>) -> Vec<Event<'static>> {
    let mut events = vec![Event::Open { part: 0, kind }];
    if !said.is_empty() {
        events.push(Event::Delta { part: 0, text: text(said) });
    }
    events.extend(seal.map(|seal| Event::Signature { part: 0, text: text(seal) }));
    events.push(Event::Close { part: 0 });
    events.extend(finish(FinishReason::Stop, None));
    events
}

fn finish(reason: FinishReason, stop_sequence: Option<Text<'static>>) -> Vec<Event<'static>> {
    vec![Event::Finish { reason, stop_sequence }]
}

fn counted(usage: &[u8]) -> Vec<Event<'static>> {
    let usage = Usage::read(usage).unwrap().unwrap();
    vec![Event::Finish { reason: FinishReason::Stop, stop_sequence: None }, Event::Usage(usage)]
}

/// Whether a client is told, in a stream and in a body alike.
fn told(events: &[Event<'static>], client: Api, mark: &str) -> bool {
    let start = Event::Start { id: text("r"), model: text("m") };
    let all: Vec<&Event<'_>> = [&start].into_iter().chain(events).chain([&Event::End]).collect();
    let (mut encoder, mut out) = (verbs(client).encoder(context()), Vec::new());
    all.iter().for_each(|event| encoder.event(event, &mut out).unwrap());
    let (mut fold, mut body) = (verbs(client).fold(context()), Vec::new());
    all.iter().for_each(|event| fold.event(event).unwrap());
    assert!(fold.finish(&mut body));
    // Other providers' seals go to Google's clients in base64.
    let sealed = |told: &[u8]| String::from_utf8_lossy(told).contains("thoughtSignature");
    let is_in =
        |told: &[u8]| String::from_utf8_lossy(told).contains(mark) || mark == "FEATURE" && sealed(told);
    assert_eq!(is_in(&out), is_in(&body), "{client:?} {mark}: {}", out.escape_ascii());
    is_in(&out)
}

#[test]
fn the_page_says_what_clients_are_told() {
    let mut table = head("a response with", CLIENTS.iter().map(|(name, _)| *name));
    for (name, events, mark) in SAYINGS {
        let events = events();
        let cells = CLIENTS.iter().map(|(_, client)| {
            let plain = finish(FinishReason::Stop, None);
            let reason = |client: Api, events: &[Event<'static>]| {
                let (mut encoder, mut out) = (verbs(client).encoder(context()), Vec::new());
                encoder.event(&Event::Start { id: text("r"), model: text("m") }, &mut out).unwrap();
                events.iter().chain([&Event::End]).for_each(|event| encoder.event(event, &mut out).unwrap());
                out
            };
            let is_told = match mark {
                "" => reason(*client, &events) != reason(*client, &plain),
                mark => told(&events, *client, mark),
            };
            (if is_told { "yes" } else { "no" }).to_owned()
        });
        table += &row([name.to_owned()].into_iter().chain(cells));
    }
    assert!(page().contains(&table), "docs/translation.md lacks:\n{table}");
}
