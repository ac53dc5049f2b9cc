use serde_json::{Value as Json, json};

use super::*;
use crate::dialect::stream::Meter;
use crate::wire::noise::Noise;
use crate::wire::sse;

mod typed;

const CHAT: &str = r#"{"id":"c1","object":"chat.completion","created":1700000000,"model":"m/\u00e9",
    "choices":[{"index":0,"message":{"role":"assistant","content":"a \"b\"\u2028 é\n","refusal":null,
    "reasoning_content":"hm","x":{"n":12345678901234567890, "f":1.0e+2}},
    "logprobs":{"content":[{"token":"a","logprob":-0.10,"top_logprobs":[]}]},
    "finish_reason":"stop","stop_reason":7}],
    "usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12},
    "system_fingerprint":"fp","service_tier":null,"kv_transfer_params":null}"#;

const TOOLS: &str = r#"{"id":"c2","object":"chat.completion","created":1,"model":"m","choices":[
    {"index":0,"message":{"role":"assistant","content":null,"tool_calls":[
        {"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},
        {"index":0,"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}]},
     "finish_reason":"tool_calls"}],
    "usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;

const TWO: &str = r#"{"id":"c3","object":"chat.completion","created":1,"model":"m","choices":[
    {"index":1,"message":{"role":"assistant","content":"b"},"finish_reason":"length"},
    {"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}],
    "usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;

const TEXT: &str = r#"{"id":"t1","object":"text_completion","created":1,"model":"m","choices":[
    {"text":"one","index":0,"logprobs":null,"finish_reason":"stop","stop_reason":null},
    {"text":"two","index":1,"logprobs":null,"finish_reason":"length","prompt_logprobs":null}],
    "usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;

const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[
    {"type":"thinking","thinking":"hm","signature":"s=="},
    {"type":"redacted_thinking","data":"x"},
    {"type":"text","text":"hi é","citations":[{"type":"char_location","cited_text":"h"},{"type":"page_location"}]},
    {"type":"text","text":"","citations":null},
    {"type":"tool_use","id":"t","name":"f","input":{"b":[1.50, "é\n"],
        "a":null}},
    {"type":"server_tool_use","id":"u","name":"web_search","input":{}},
    {"type":"web_search_tool_result","tool_use_id":"u","content":[{"type":"web_search_result","url":"u"}]}],
    "stop_reason":"tool_use","stop_sequence":null,"container":{"id":"c"},"context_management":{"applied_edits":[]},
    "usage":{"input_tokens":10,"cache_read_input_tokens":5,"output_tokens":7,
        "output_tokens_details":{"thinking_tokens":3}}}"#;

const RESPONSE: &str = r#"{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"m",
    "completed_at":2,"error":null,"incomplete_details":null,"instructions":"be\nkind","output_text":"hi",
    "output":[
    {"id":"rs_1","type":"reasoning","status":"completed","summary":[{"type":"summary_text","text":"sum"}],
        "content":[{"type":"reasoning_text","text":"why"}],"encrypted_content":"e"},
    {"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[
        {"type":"output_text","text":"hi é","annotations":[{"type":"url_citation","url":"u"},{"type":"x"}],
         "logprobs":[{"token":"hi","logprob":-0.5}]},
        {"type":"refusal","refusal":"no"},{"type":"output_text","text":""}]},
    {"id":"fc_1","type":"function_call","status":"completed","call_id":"c1","name":"f","arguments":"{\"x\":1}"},
    {"id":"ct_1","type":"custom_tool_call","call_id":"c2","name":"g","input":"raw"},
    {"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search"}},
    {"type":"function_call","call_id":"c3","name":"f","arguments":"{}"}],
    "usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":4},"output_tokens":7,
        "output_tokens_details":{"reasoning_tokens":3},"total_tokens":17}}"#;

const ALL: [(Api, &str, u64); 6] = [
    (Api::Chat, CHAT, 1),
    (Api::Chat, TOOLS, 1),
    (Api::Chat, TWO, 2),
    (Api::Completions, TEXT, 2),
    (Api::Messages, MESSAGE, 1),
    (Api::Responses, RESPONSE, 1),
];

fn told(api: Api, body: &str, include_usage: bool) -> String {
    let mut out = b"> ".to_vec();
    stream(api, body.as_bytes(), include_usage, &mut out)
        .unwrap_or_else(|unfit| panic!("{body}: {}", unfit.0));
    String::from_utf8(out).unwrap().strip_prefix("> ").unwrap().to_owned()
}

/// The objects of all events; `[DONE]` is left out. A named event says its name as its type.
fn objects(stream: &str) -> Vec<Json> {
    let bytes = stream.as_bytes();
    assert_eq!(sse::last_boundary(bytes), bytes.len(), "{stream}");
    let events = sse::events(bytes).map(|span| span.of(bytes)).filter(|event| !sse::is_done(event));
    events
        .map(|event| {
            let event = sse::event(event);
            assert_eq!(event.data_lines, 1);
            let object: Json = serde_json::from_slice(event.data.unwrap()).unwrap();
            if let Some(name) = event.name {
                assert_eq!(object["type"].as_str().unwrap().as_bytes(), name);
            }
            object
        })
        .collect()
}

fn parsed(body: &str) -> Json {
    serde_json::from_str(body).unwrap()
}

/// What an SDK puts together from chunks: for each choice its message (strings joined), text and reason to finish.
fn joined(chunks: &[Json]) -> Vec<Json> {
    let mut choices: Vec<Json> = Vec::new();
    for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()) {
        let index = choice["index"].as_u64().unwrap() as usize;
        choices.resize(
            choices.len().max(index + 1),
            json!({ "message": {}, "text": "", "finish_reason": null }),
        );
        let whole = &mut choices[index];
        for (name, value) in choice["delta"].as_object().into_iter().flatten() {
            let known = whole["message"].as_object_mut().unwrap();
            assert!(known.insert(name.clone(), value.clone()).is_none(), "{name} is said twice");
        }
        let text = whole["text"].as_str().unwrap().to_owned() + choice["text"].as_str().unwrap_or_default();
        whole["text"] = text.into();
        if !choice["finish_reason"].is_null() {
            assert!(whole["finish_reason"].is_null());
            whole["finish_reason"] = choice["finish_reason"].clone();
        }
    }
    choices
}

#[test]
fn a_chat_is_told_in_two_chunks_usage_and_done() {
    let expected = concat!(
        r#"data: {"object":"chat.completion.chunk","id":"c1","created":1700000000,"model":"m/\u00e9","#,
        r#""system_fingerprint":"fp","service_tier":null,"kv_transfer_params":null,"choices":[{"index":0,"delta":"#,
        r#"{"role":"assistant","content":"a \"b\"\u2028 é\n","refusal":null,"reasoning_content":"hm","#,
        r#""x":{"n":12345678901234567890, "f":1.0e+2}},"#,
        r#""logprobs":{"content":[{"token":"a","logprob":-0.10,"top_logprobs":[]}]},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"object":"chat.completion.chunk","id":"c1","created":1700000000,"model":"m/\u00e9","#,
        r#""system_fingerprint":"fp","service_tier":null,"choices":[{"index":0,"delta":{},"#,
        r#""finish_reason":"stop","stop_reason":7}]}"#,
        "\n\n",
        r#"data: {"object":"chat.completion.chunk","id":"c1","created":1700000000,"model":"m/\u00e9","#,
        r#""system_fingerprint":"fp","service_tier":null,"choices":[],"#,
        r#""usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}"#,
        "\n\ndata: [DONE]\n\n",
    );
    assert_eq!(told(Api::Chat, CHAT, true), expected);
    let without = told(Api::Chat, CHAT, false);
    assert!(!without.contains("usage") && without.ends_with("}]}\n\ndata: [DONE]\n\n"));
    assert_eq!(without.len(), expected.len() - expected.split("\n\n").nth(2).unwrap().len() - 2);
}

#[test]
fn calls_of_tools_get_their_position_as_index() {
    let stream = told(Api::Chat, TOOLS, false);
    assert!(stream.contains(r#""content":null,"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"index":1,"id":"b","#));
    let chunks = objects(&stream);
    assert_eq!(chunks.len(), 2);
    let mut message = joined(&chunks)[0]["message"].clone();
    for call in message["tool_calls"].as_array_mut().unwrap() {
        call.as_object_mut().unwrap().remove("index");
    }
    let mut said = parsed(TOOLS)["choices"][0]["message"].clone();
    said["tool_calls"][1].as_object_mut().unwrap().remove("index");
    assert_eq!(message, said);
    for calls in ["[]", "null"] {
        let body =
            format!(r#"{{"choices":[{{"message":{{"tool_calls":{calls}}},"finish_reason":"stop"}}]}}"#);
        assert!(told(Api::Chat, &body, true).contains(&format!(r#""delta":{{"tool_calls":{calls}}}"#)));
    }
}

#[test]
fn each_choice_keeps_its_index() {
    let chunks = objects(&told(Api::Chat, TWO, true));
    assert_eq!(chunks.len(), 5);
    assert_eq!(chunks[0]["choices"][0]["index"], 0, "whatever the order in the body");
    let choices = joined(&chunks);
    assert_eq!(choices[0]["message"], json!({ "role": "assistant", "content": "a" }));
    assert_eq!(choices[0]["finish_reason"], "stop");
    assert_eq!(choices[1]["message"], json!({ "role": "assistant", "content": "b" }));
    assert_eq!(choices[1]["finish_reason"], "length");

    let unnumbered = r#"{"choices":[{"message":{"content":"a"}},{"index":null,"message":{"content":"b"}}]}"#;
    let choices = joined(&objects(&told(Api::Chat, unnumbered, true)));
    assert_eq!(choices[1]["message"]["content"], "b");
}

#[test]
fn completions_are_told_as_text() {
    let stream = told(Api::Completions, TEXT, true);
    let chunks = objects(&stream);
    assert_eq!(chunks.len(), 5);
    assert!(chunks.iter().all(|chunk| chunk["object"] == "text_completion" && chunk["id"] == "t1"));
    let choices = joined(&chunks);
    assert_eq!((&choices[0]["text"], &choices[0]["finish_reason"]), (&json!("one"), &json!("stop")));
    assert_eq!((&choices[1]["text"], &choices[1]["finish_reason"]), (&json!("two"), &json!("length")));
    assert!(stream.contains(r#"{"index":0,"text":"","finish_reason":"stop","stop_reason":null}"#));
    assert_eq!(chunks[4]["usage"], parsed(TEXT)["usage"]);
}

#[test]
fn nothing_is_made_up() {
    let bare = r#"{"choices":[{"message":{}}],"usage":null}"#;
    let expected = concat!(
        r#"data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":null}]}"#,
        "\n\n",
        r#"data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":null}]}"#,
        "\n\ndata: [DONE]\n\n"
    );
    assert_eq!(told(Api::Chat, bare, true), expected);
}

#[test]
fn the_meter_takes_every_stream_for_a_whole_one() {
    let usages = [(10, 2), (3, 4), (1, 2), (1, 2), (15, 7), (10, 7)];
    for ((api, body, choices), usage) in ALL.into_iter().zip(usages) {
        let stream = told(api, body, true);
        let mut meter = Meter::new(api, choices, false);
        let found = meter.events(stream.as_bytes());
        assert!(meter.finished() && !meter.errored() && found.first_token, "{stream}");
        assert_eq!((meter.usage().input, meter.usage().output), usage, "{stream}");
        assert!(meter.usage().seen && !meter.usage().doubtful, "{stream}");
        let chunked = matches!(api, Api::Chat | Api::Completions);
        assert_eq!((meter.done(), found.end), (chunked, chunked.then_some(stream.len())));
        assert_eq!(found.drop, None);
        if !chunked {
            continue;
        }
        // A question of our own is answered and kept from the client, as in a stream of the backend.
        let mut asking = Meter::new(api, choices, true);
        let drop = asking.events(stream.as_bytes()).drop.unwrap();
        let mut kept = stream.clone();
        kept.replace_range(drop.start..drop.end, "");
        assert_eq!(kept, told(api, body, false));
    }
}

#[test]
fn what_is_not_the_response_of_the_api_is_refused() {
    let cases = [
        (Api::Chat, ""),
        (Api::Chat, "[]"),
        (Api::Chat, "{}"),
        (Api::Chat, "data: {}\n\n"),
        (Api::Chat, r#"{"choices":[]}"#),
        (Api::Chat, r#"{"choices":{}}"#),
        (Api::Chat, r#"{"choices":[null]}"#),
        (Api::Chat, r#"{"choices":[{"delta":{"content":"a"}}]}"#),
        (Api::Chat, r#"{"choices":[{"message":null}]}"#),
        (Api::Chat, r#"{"choices":[{"message":{}},{"text":""}]}"#),
        (Api::Chat, r#"{"choices":[{"message":{"tool_calls":[1]}}]}"#),
        (Api::Chat, r#"{"choices":[{"message":{}}],"choices":[{"message":{}}]}"#),
        (Api::Chat, r#"{"choices":[{"message":{},"mess\u0061ge":{}}]}"#),
        (Api::Chat, r#"{"choices":[{"message":{}}],"error":{"message":"no"}}"#),
        (Api::Chat, r#"{"error":{"message":"no","code":null}}"#),
        (Api::Chat, r#"{"choices":[{"message":{}}]} {}"#),
        (Api::Chat, r#"{"choices":[{"message":{}}]"#),
        (Api::Chat, TEXT),
        (Api::Completions, CHAT),
        (Api::Completions, r#"{"choices":[{"text":null}]}"#),
        (Api::Messages, CHAT),
        (Api::Messages, r#"{"type":"error","error":{"type":"api_error","message":"no"}}"#),
        (Api::Messages, r#"{"type":"message","content":"hi","usage":{}}"#),
        (Api::Messages, r#"{"type":"message","content":[]}"#),
        (Api::Messages, r#"{"type":"message","content":[{}],"usage":{}}"#),
        (Api::Messages, r#"{"type":"message","content":["hi"],"usage":{}}"#),
        (Api::Responses, MESSAGE),
        (Api::Responses, r#"{"status":"completed"}"#),
        (Api::Responses, r#"{"status":"completed","output":[null]}"#),
        (Api::Responses, r#"{"status":"queued","output":[]}"#),
        (Api::Responses, r#"{"status":"in_progress","output":[]}"#),
        (Api::Responses, r#"{"status":"cancelled","output":[]}"#),
        (Api::Embeddings, CHAT),
        (Api::Rerank, CHAT),
        (Api::CountTokens, MESSAGE),
        (Api::Models, CHAT),
        (Api::ModelById, CHAT),
    ];
    for (api, body) in cases {
        let mut out = b"> ".to_vec();
        assert!(stream(api, body.as_bytes(), true, &mut out).is_err(), "{api:?} {body}");
        assert_eq!(out, b"> ", "{api:?} {body}");
    }
}

#[test]
fn a_body_of_many_small_parts_does_not_swell() {
    let cases = [
        (Api::Chat, "{\"id\":\"ID\",\"choices\":[", "{\"message\":{}},", 100, "{\"message\":{}}]}"),
        (
            Api::Responses,
            "{\"status\":\"completed\",\"output\":[{\"id\":\"ID\",\"type\":\"message\",\"content\":[",
            "{},",
            10_000,
            "{}]}]}",
        ),
    ];
    for (api, start, part, count, end) in cases {
        let id = "i".repeat(10_000);
        let body = [start.replace("ID", &id), part.repeat(count), end.to_owned()].concat();
        let mut out = Vec::new();
        assert_eq!(
            stream(api, body.as_bytes(), true, &mut out),
            Err(Unfit("the stream would be too long")),
            "{api:?}"
        );
        assert!(out.is_empty() && out.capacity() < 4 * bytes_max(body.len()));
    }
    let choices = ["{\"message\":{}}"; 129].join(",");
    let refused = stream(Api::Chat, format!("{{\"choices\":[{choices}]}}").as_bytes(), true, &mut Vec::new());
    assert_eq!(refused, Err(Unfit("there are too many choices")));
    let members = "\"a\":0,".repeat(MEMBERS_MAX);
    let body = format!("{{{members}\"choices\":[{{\"message\":{{}}}}]}}");
    let refused = stream(Api::Chat, body.as_bytes(), true, &mut Vec::new());
    assert_eq!(refused, Err(Unfit("an object has too many members")));
}

/// A JSON value of any kind, its spelling chosen at random.
fn any_value(noise: &mut Noise, depth: usize) -> String {
    const STRINGS: [&str; 10] = [
        "",
        "a",
        "é",
        "\u{2028}",
        "😀",
        r#"\""#,
        r"\n",
        r"\ud83d\ude00",
        r"[DONE]",
        r#"\"finish_reason\":\"stop\""#,
    ];
    const NUMBERS: [&str; 6] = ["0", "-0.0", "1e400", "12345678901234567890", "1.50", "1E+2"];
    match noise.below(if depth > 2 { 4 } else { 6 }) {
        0 => ["null", "true", "false"][noise.below(3)].to_owned(),
        1 => NUMBERS[noise.below(6)].to_owned(),
        2 | 3 => {
            let pieces: String = (0..noise.below(5)).map(|_| STRINGS[noise.below(10)]).collect();
            format!("\"{pieces}\"")
        }
        kind => {
            let blank = ["", " ", "\n\t", "\r\n"][noise.below(4)];
            let items: Vec<String> = (0..noise.below(4))
                .map(|index| match (kind, any_value(noise, depth + 1)) {
                    (4, value) => value,
                    (_, value) => format!("\"k{index}\":{blank}{value}"),
                })
                .collect();
            let items = items.join(&format!(",{blank}"));
            if kind == 4 { format!("[{items}]") } else { format!("{{{blank}{items}}}") }
        }
    }
}

/// The texts of a random response's members.
struct Random {
    message: String,
    finish: &'static str,
    extra: String,
}

#[test]
fn whatever_a_message_holds_is_told_as_it_is_written() {
    let seed = 0x5eed_c016_u64;
    let mut noise = Noise::new(seed);
    let without_breaks = |text: &str| text.replace(['\n', '\r'], "");
    for round in 0..2_000 {
        let choices: Vec<Random> = (0..1 + noise.below(3))
            .map(|_| Random {
                message: (0..noise.below(6))
                    .map(|index| format!("\"m{index}\": {}", any_value(&mut noise, 0)))
                    .collect::<Vec<_>>()
                    .join(" ,"),
                finish: ["\"stop\"", "\"length\"", "null"][noise.below(3)],
                extra: any_value(&mut noise, 0),
            })
            .collect();
        let list: Vec<String> = choices
            .iter()
            .enumerate()
            .map(|(index, Random { message, finish, extra })| {
                format!(
                    "{{\"index\":{index},\"message\":{{{message}}},\"finish_reason\":{finish},\"extra\":{extra}}}"
                )
            })
            .collect();
        let top = any_value(&mut noise, 0);
        let body = format!("{{\"id\":\"c\",\"choices\":[{}],\"top\":{top}}}", list.join(","));
        let stream = told(Api::Chat, &body, true);
        let case = format!("seed {seed:#x} round {round}: {body}");

        let events: Vec<&str> = stream.split_terminator("\n\n").collect();
        assert_eq!(events.len(), 2 * choices.len() + 1, "{case}");
        assert_eq!(stream.matches(&format!("\"top\":{}", without_breaks(&top))).count(), 1, "{case}");
        for (index, choice) in choices.iter().enumerate() {
            let start = events[2 * index].as_bytes();
            let chunk = Object::read(&start["data: ".len()..]).unwrap();
            let list = chunk.of_kind("choices", ValueKind::Array).unwrap().unwrap();
            let only = Object::read(json::elements(list).next().unwrap().unwrap().0.of(list)).unwrap();
            let delta = Object::read(only.of_kind("delta", ValueKind::Object).unwrap().unwrap()).unwrap();
            let message = format!("{{{}}}", choice.message);
            let message = Object::read(message.as_bytes()).unwrap();
            assert_eq!(delta.members.len(), message.members.len(), "{case}");
            for (told, said) in delta.members.iter().zip(&message.members) {
                assert_eq!(told.key.of(delta.text), said.key.of(message.text), "{case}");
                let said = without_breaks(std::str::from_utf8(said.value.of(message.text)).unwrap());
                assert_eq!(told.value.of(delta.text), said.as_bytes(), "{case}");
            }
            let extra = only.get("extra").unwrap().unwrap().text;
            assert_eq!(extra, without_breaks(&choice.extra).as_bytes(), "{case}");
            let end = format!("\"delta\":{{}},\"finish_reason\":{}}}]}}", choice.finish);
            assert!(events[2 * index + 1].ends_with(&end), "{case}");
        }
    }
}

#[test]
fn no_bytes_panic() {
    let seed = 0x5eed_c017_u64;
    let mut noise = Noise::new(seed);
    for round in 0..20_000 {
        let (api, body, choices) = ALL[noise.below(ALL.len())];
        let body = noise.mutate(body.as_bytes());
        let api = if noise.below(8) == 0 { ALL[noise.below(ALL.len())].0 } else { api };
        let mut out = b"> ".to_vec();
        let told = stream(api, &body, true, &mut out);
        let case = format!("seed {seed:#x} round {round}: {}", body.escape_ascii());
        assert!(out.starts_with(b"> "), "{case}");
        let events = &out[2..];
        if told.is_err() {
            assert!(events.is_empty(), "{case}");
            continue;
        }
        assert_eq!(sse::last_boundary(events), events.len(), "{case}");
        for event in sse::events(events).map(|span| span.of(events)) {
            let read = sse::event(event);
            assert_eq!(read.data_lines, 1, "{case}");
            assert!(sse::is_done(event) || json::is_object(read.data.unwrap()), "{case}");
        }
        Meter::new(api, choices, true).events(events);
    }
}
