//! Whole calls between two dialects, each at every cut of its stream.

use super::*;

mod matrix;

const TO_CHAT: Call = Call { client: Api::Messages, backend: Api::Chat };
const TO_MESSAGES: Call = Call { client: Api::Chat, backend: Api::Messages };

fn context() -> Context {
    Context {
        request_id: "00aa".to_owned(),
        model: "public".to_owned(),
        custom_tools: Vec::new(),
        created: 7,
        include_usage: true,
        held_bytes_max: 1 << 20,
    }
}

const TARGET: Target<'_> = Target {
    model: b"\"backend\"",
    output_max_default: 4096,
    takes_stream_options: true,
    output_cap_member: "max_tokens",
    takes_extras: false,
};

const CHAT_STREAM: &str = concat!(
    "data: {\"id\":\"c1\",\"model\":\"b\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"think \\u00e9\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello \\\"you\\\"\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"t1\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"1}\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5,\"total_tokens\":16}}\n\n",
    "data: [DONE]\n\n"
);

/// A stream through a translator, in pieces as a relay hands them over: whole records each time.
fn stream(call: Call, stream: &[u8], cut: usize) -> (String, Seen) {
    let mut translator = Translator::new(call, context());
    let mut out = Vec::new();
    let first = sse::last_boundary(&stream[..cut]);
    translator.records(&stream[..first], false, &mut out).unwrap();
    translator.records(&stream[first..], false, &mut out).unwrap();
    translator.end(&mut out).unwrap();
    (String::from_utf8(out).unwrap(), *translator.seen())
}

#[test]
fn a_call_is_translated_where_another_api_says_the_same() {
    let serves = |apis: &[Api]| ApiSet::of(apis);
    let backend = |client, apis: &[Api]| Call::translated(client, serves(apis)).map(|call| call.backend);
    assert_eq!(backend(Api::Messages, &[Api::Chat, Api::Embeddings]), Some(Api::Chat));
    assert_eq!(backend(Api::Chat, &[Api::Messages]), Some(Api::Messages));
    assert_eq!(backend(Api::Embeddings, &[Api::Chat, Api::Messages]), None);
    assert_eq!(backend(Api::Chat, &[Api::Embeddings]), None);
}

#[test]
fn an_agents_request_reaches_a_chat_backend() {
    let body = br#"{"model":"public","max_tokens":32000,"stream":true,
        "system":[{"type":"text","text":"You are exact.","cache_control":{"type":"ephemeral"}}],
        "messages":[{"role":"user","content":"list"},
            {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"x"},{"type":"tool_use","id":"t1","name":"ls","input":{"path":"a\\b"}}]},
            {"role":"user","content":[{"type":"text","text":"and then?"},{"type":"tool_result","tool_use_id":"t1","content":"x"}]}],
        "tools":[{"name":"ls","input_schema":{"type":"object"}}],"tool_choice":{"type":"any"},"metadata":{"user_id":"u"}}"#;
    let mut out = Vec::new();
    request(TO_CHAT, body, true, &TARGET, &mut out).unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((sent["model"].as_str(), sent["max_tokens"].as_u64()), (Some("backend"), Some(32_000)));
    assert_eq!(sent["messages"][0], serde_json::json!({"role": "system", "content": "You are exact."}));
    assert_eq!(sent["messages"][2]["tool_calls"][0]["function"]["arguments"], r#"{"path":"a\\b"}"#);
    assert_eq!(
        sent["messages"][3],
        serde_json::json!({"role": "tool", "tool_call_id": "t1", "content": "x"})
    );
    assert_eq!(sent["messages"][4]["content"], "and then?");
    assert_eq!(
        (&sent["tool_choice"], &sent["stream_options"]["include_usage"]),
        (&"required".into(), &true.into())
    );
    assert!(!String::from_utf8(out).unwrap().contains("cache_control"));
}

#[test]
fn a_stream_for_another_dialect_is_the_same_at_every_cut() {
    let (whole, seen) = stream(TO_CHAT, CHAT_STREAM.as_bytes(), 0);
    assert!(seen.is_whole && seen.content && !seen.errored);
    assert_eq!((seen.usage.input, seen.usage.output), (11, 5));
    for cut in 0..CHAT_STREAM.len() {
        assert_eq!(stream(TO_CHAT, CHAT_STREAM.as_bytes(), cut).0, whole, "cut {cut}");
    }
    let names: Vec<&str> = whole.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!((names.first(), names.last()), (Some(&"message_start"), Some(&"message_stop")));
    // And back: what a chat client would see of it.
    let (back, _) = stream(TO_MESSAGES, whole.as_bytes(), 0);
    for piece in
        ["think \\u00e9", "Hello \\\"you\\\"", "\"finish_reason\":\"tool_calls\"", "\"prompt_tokens\":11"]
    {
        assert!(back.contains(piece), "{piece} in {back}");
    }
    assert!(back.ends_with("data: [DONE]\n\n"));
}

#[test]
fn a_stream_that_is_cut_has_no_end_in_any_dialect() {
    for end in sse::events(CHAT_STREAM.as_bytes()).map(|span| span.start) {
        let (out, seen) = stream(TO_CHAT, &CHAT_STREAM.as_bytes()[..end], 0);
        let finished = CHAT_STREAM[..end].contains("\"finish_reason\":\"tool_calls\"");
        assert_eq!((seen.is_whole, out.contains("message_stop")), (finished, finished), "{end}");
    }
}

#[test]
fn a_whole_response_comes_as_a_body_or_as_a_stream() {
    let body = br#"{"id":"c1","model":"b","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"length"}],
        "usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;
    let mut out = Vec::new();
    Translator::new(TO_CHAT, context()).whole(body, false, &mut out).unwrap();
    let told: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&told["content"][0]["text"], &told["stop_reason"]), (&"Hi".into(), &"max_tokens".into()));
    let mut out = b"kept".to_vec();
    Translator::new(TO_CHAT, context()).whole(body, true, &mut out).unwrap();
    assert!(
        out.ends_with(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
        "{}",
        out.escape_ascii()
    );
    let mut out = b"kept".to_vec();
    assert!(Translator::new(TO_CHAT, context()).whole(b"{\"choices\":[]}", true, &mut out).is_err());
    assert_eq!(out, b"kept");
}

#[test]
fn an_error_is_told_in_the_clients_dialect() {
    let mut out = Vec::new();
    let body =
        br#"{"error":{"message":"maximum context length is 8192 tokens","code":"context_length_exceeded"}}"#;
    fault(TO_CHAT, 400, body, "00aa", &mut out);
    let told: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(told["error"]["type"], "invalid_request_error");
    assert!(told["error"]["message"].as_str().unwrap().contains("prompt is too long"), "{told}");
    let mut out = Vec::new();
    fault(
        TO_MESSAGES,
        529,
        br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
        "",
        &mut out,
    );
    let told: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        (&told["error"]["message"], &told["error"]["type"]),
        (&"Overloaded".into(), &"server_error".into())
    );
}

/// What a client sends of a conversation in which `count` tools were called at once, in its own dialect, without ids where it has none.
fn of_many_calls(client: Api, count: usize) -> String {
    let list = |item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(",");
    match client {
        Api::Chat => format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"go"}},{{"role":"assistant","tool_calls":[{}]}},{}]}}"#,
            list(&|at| format!(
                r#"{{"id":"c{at}","type":"function","function":{{"name":"f{}","arguments":"{{}}"}}}}"#,
                at % 2_500
            )),
            list(&|at| format!(r#"{{"role":"tool","tool_call_id":"c{at}","content":"{at}"}}"#)),
        ),
        Api::Responses => format!(
            r#"{{"model":"m","input":[{{"role":"user","content":"go"}},{},{}]}}"#,
            list(&|at| format!(
                r#"{{"type":"custom_tool_call","call_id":"c{at}","name":"f{at}","input":"x"}}"#
            )),
            list(&|at| format!(r#"{{"type":"custom_tool_call_output","call_id":"c{at}","output":"{at}"}}"#)),
        ),
        Api::Messages => format!(
            r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"go"}},{{"role":"assistant","content":[{}]}},{{"role":"user","content":[{}]}}]}}"#,
            list(&|at| format!(r#"{{"type":"tool_use","id":"c{at}","name":"f{at}","input":{{}}}}"#)),
            list(&|at| format!(r#"{{"type":"tool_result","tool_use_id":"c{at}","content":"{at}"}}"#)),
        ),
        Api::GenerateContent => format!(
            r#"{{"contents":[{{"role":"user","parts":[{{"text":"go"}}]}},{{"role":"model","parts":[{}]}},{{"role":"user","parts":[{}]}}]}}"#,
            list(&|at| format!(r#"{{"functionCall":{{"name":"f{}","args":{{}}}}}}"#, at % 9)),
            list(&|at| format!(
                r#"{{"functionResponse":{{"name":"f{}","response":{{"output":"{at}"}}}}}}"#,
                at % 9
            )),
        ),
        _ => format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"go"}},{{"role":"assistant","tool_calls":[{}]}},{}]}}"#,
            list(&|at| format!(r#"{{"function":{{"name":"f{}","arguments":{{}}}}}}"#, at % 9)),
            list(&|at| format!(r#"{{"role":"tool","tool_name":"f{}","content":"{at}"}}"#, at % 9)),
        ),
    }
}

/// The shortest of some runs: others may use the processor meanwhile.
fn time(call: Call, count: usize) -> u64 {
    let body = of_many_calls(call.client, count);
    let run = |_| {
        let (began, mut out) = (crate::clock::now(), Vec::new());
        request(call, body.as_bytes(), false, &TARGET, &mut out)
            .unwrap_or_else(|fault| panic!("{call:?}: {fault}"));
        assert!(out.len() > count * 20, "{call:?}: {} bytes", out.len());
        crate::clock::now().since(began).0
    };
    (0..2).map(run).min().unwrap_or_default()
}

#[test]
fn the_time_for_a_request_grows_with_its_calls_and_not_with_their_square() {
    const CLIENTS: [Api; 5] =
        [Api::Chat, Api::Responses, Api::Messages, Api::GenerateContent, Api::OllamaChat];
    for client in CLIENTS {
        for backend in CLIENTS.into_iter().chain([Api::Converse]).filter(|backend| *backend != client) {
            let call = Call { client, backend };
            // Others may take the processor in the middle of one run, not of every one.
            let grows = |_| time(call, 5_000) < 60 * time(call, 500);
            assert!((0..5).any(grows), "{call:?}: ten times as many calls take sixty times as long");
        }
    }
}

/// What a client of another dialect sees of a stream, and whether it looks like a whole response.
fn seen_of(backend: Api, records: &[u8]) -> (String, Seen) {
    let client = if backend == Api::Messages { Api::Chat } else { Api::Messages };
    let (mut translator, mut out) = (Translator::new(Call { client, backend }, context()), Vec::new());
    translator.records(records, true, &mut out).unwrap();
    translator.end(&mut out).unwrap();
    (String::from_utf8(out).unwrap(), *translator.seen())
}

#[test]
fn a_record_that_is_not_json_ends_no_response_properly() {
    let chat = |text: &str| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
    };
    let finish =
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let google = |rest: &str| {
        format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"a\"}}]}}{rest}}}]}}\n\n")
    };
    let line = |done: bool| {
        format!("{{\"message\":{{\"role\":\"assistant\",\"content\":\"a\"}},\"done\":{done}}}\n")
    };
    let stop = google(",\"finishReason\":\"STOP\"");
    for broken in ["{\"choices\":[{", "{\"a\":\"b\nc\"}", "oops", "{\"a\":1}}"] {
        for (backend, stream) in [
            (Api::Chat, format!("{}data: {broken}\n\n{}{finish}", chat("a"), chat("b"))),
            (Api::GenerateContent, format!("{}data: {broken}\n\n{stop}", google(""))),
            (Api::GenerateContent, format!("{}data: [{broken}]\n\n{stop}", google(""))),
            (Api::OllamaChat, format!("{}{broken}\n{}", line(false), line(true))),
        ] {
            let (told, seen) = seen_of(backend, stream.as_bytes());
            assert!(seen.errored && !seen.is_whole, "{backend:?} {broken}: {told}");
            assert!(told.contains("not JSON") && !told.contains("message_stop"), "{backend:?}: {told}");
        }
    }
    for silent in ["", " ", "null", "\"ping\"", "[]"] {
        let stream = format!("{}data: {silent}\n\n{finish}", chat("a"));
        assert!(seen_of(Api::Chat, stream.as_bytes()).1.is_whole, "{silent:?}");
    }
}

#[test]
fn a_failure_of_awss_event_streams_is_one_whatever_its_name() {
    let event = |name: &str, payload: &str| {
        event_stream::written(&[(":event-type", name), (":message-type", "event")], payload.as_bytes())
    };
    let begun = [
        event("messageStart", "{}"),
        event("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"a"}}"#),
    ]
    .concat();
    let end = [event("messageStop", r#"{"stopReason":"end_turn"}"#), event("metadata", "{}")].concat();
    assert!(seen_of(Api::Converse, &[&begun[..], &end].concat()).1.is_whole);
    for (headers, payload) in [
        (vec![(":message-type", "error"), (":error-code", "Busy"), (":error-message", "out of room")], ""),
        (vec![(":message-type", "exception"), (":exception-type", "busy")], r#"{"message":"out of room"}"#),
    ] {
        let failure = event_stream::written(&headers, payload.as_bytes());
        let (told, seen) = seen_of(Api::Converse, &[&begun[..], &failure, &end].concat());
        assert!(seen.errored && !seen.is_whole && told.contains("out of room"), "{told}");
        assert!(begun_failed(&failure), "{headers:?}");
    }
}

fn begun_failed(records: &[u8]) -> bool {
    begun(Api::Converse, records, true).failed.is_some()
}

#[test]
fn a_cap_of_zero_reaches_no_backend_of_another_dialect() {
    for (client, body, lost, expected) in [
        (
            Api::Messages,
            r#"{"model":"m","max_tokens":0,"messages":[{"role":"user","content":"x"}]}"#,
            "max_tokens",
            Some(1),
        ),
        (
            Api::Chat,
            r#"{"model":"m","max_tokens":0,"messages":[{"role":"user","content":"x"}]}"#,
            "max_tokens",
            None,
        ),
        (Api::Responses, r#"{"model":"m","max_output_tokens":0,"input":"x"}"#, "max_output_tokens", None),
    ] {
        for (backend, member) in [
            (Api::Chat, "/max_tokens"),
            (Api::GenerateContent, "/generationConfig/maxOutputTokens"),
            (Api::Converse, "/inferenceConfig/maxTokens"),
            (Api::OllamaChat, "/options/num_predict"),
        ] {
            let mut out = Vec::new();
            let translated =
                request(Call { client, backend }, body.as_bytes(), false, &TARGET, &mut out).unwrap();
            let sent: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let cap = sent.pointer(member).and_then(serde_json::Value::as_u64);
            if client != backend {
                assert_eq!(cap, expected, "{client:?} to {backend:?}: {sent}");
                assert!(translated.losses.iter().any(|name| name == lost), "{client:?} to {backend:?}");
            }
        }
    }
}
