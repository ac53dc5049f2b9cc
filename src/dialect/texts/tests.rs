use super::*;

fn texts(located: &[Located], bytes: &[u8]) -> Vec<String> {
    located
        .iter()
        .map(|one| match one {
            Located::Whole { place, inside } | Located::Piece { place, inside, .. } => {
                format!("{place:?}: {}", String::from_utf8_lossy(inside.of(bytes)))
            }
            Located::End { group } => format!("end {}", if group.is_some() { "group" } else { "all" }),
        })
        .collect()
}

fn of_request(body: &str) -> Vec<String> {
    let mut located = Vec::new();
    request(body.as_bytes(), &mut |one| located.push(one));
    texts(&located, body.as_bytes())
}

fn of_event(data: &str) -> (Vec<String>, Vec<Channel>) {
    let mut located = Vec::new();
    event(data.as_bytes(), Span::new(0, data.len()), &mut |one| located.push(one));
    let channels = located.iter().filter_map(|one| match one {
        Located::Piece { channel, .. } => Some(*channel),
        _ => None,
    });
    (texts(&located, data.as_bytes()), channels.collect())
}

#[test]
fn the_texts_of_a_chat_are_found_with_their_places() {
    let body = r#"{"model":"m","messages":[
        {"role":"system","content":"be brief"},
        {"role":"user","name":"ada","content":[{"type":"text","text":"hello"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]},
        {"content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}],"role":"assistant"},
        {"role":"tool","tool_call_id":"c1","content":"42 \"rows\""}],"user":"u1","tools":[{"type":"function"}]}"#;
    assert_eq!(
        of_request(body),
        ["System: be brief", "Input: hello", r#"Tools: {\"a\":1}"#, r#"Tools: 42 \"rows\""#,]
    );
}

#[test]
fn the_texts_of_messages_responses_and_gemini_are_found() {
    let messages = r#"{"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":"q"},
        {"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"AAAA"},{"type":"tool_use","id":"x","name":"n","input":{"name":"Ada","id":"7"}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"x","content":[{"type":"text","text":"r"}]}]}]}"#;
    assert_eq!(
        of_request(messages),
        ["System: s", "Input: q", "Thinking: t", "Tools: Ada", "Tools: 7", "Tools: r"]
    );
    let responses = r#"{"instructions":"i","input":[{"role":"user","content":[{"type":"input_text","text":"q"}]},
        {"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"o"},
        {"type":"reasoning","summary":[{"type":"summary_text","text":"t"}],"encrypted_content":"AAAA"}]}"#;
    assert_eq!(of_request(responses), ["System: i", "Input: q", "Tools: {}", "Tools: o", "Thinking: t"]);
    let gemini = r#"{"systemInstruction":{"parts":[{"text":"s"}]},"contents":[{"role":"user","parts":[{"text":"q"},{"inlineData":{"mimeType":"image/png","data":"AAAA"}}]},
        {"role":"model","parts":[{"functionCall":{"name":"f","args":{"city":"Rome"}}}]}]}"#;
    assert_eq!(of_request(gemini), ["System: s", "Input: q", "Tools: Rome"]);
    assert_eq!(of_request(r#"{"input":["a","b"],"model":"e"}"#), ["Input: a", "Input: b"]);
    assert_eq!(
        of_request(r#"{"messages":[{"role":"user","content":[{"type":"poem","lines":["a"]}]}]}"#),
        ["Input: a"]
    );
}

#[test]
fn pieces_of_one_text_have_one_channel_and_those_of_others_another() {
    let chat = |choice: u32, key: &str, text: &str| {
        of_event(&format!(
            r#"{{"id":"x","choices":[{{"index":{choice},"delta":{{"{key}":"{text}"}},"finish_reason":null}}]}}"#
        ))
    };
    let (texts, first) = chat(0, "content", "a");
    assert_eq!(texts, ["Output: a"]);
    assert_eq!(chat(0, "content", "b").1, first);
    assert_ne!(chat(1, "content", "b").1, first);
    assert_ne!(chat(0, "refusal", "b").1, first);
    assert_ne!(chat(0, "reasoning_content", "b").1, first);
    assert_eq!(chat(0, "reasoning_content", "b").0, ["Thinking: b"]);

    let tool = |call: u32| {
        of_event(&format!(
            r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":{call},"function":{{"arguments":"x"}}}}]}},"index":0}}]}}"#
        ))
    };
    assert_eq!(tool(0).0, ["Tools: x"]);
    assert_ne!(tool(0).1, tool(1).1);

    let block = |index: u32| {
        of_event(&format!(
            r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"text_delta","text":"x"}}}}"#
        ))
    };
    let start =
        of_event(r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"x"}}"#);
    assert_eq!(block(0).1, start.1);
    assert_ne!(block(0).1, block(1).1);
    let partial = of_event(
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{"}}"#,
    );
    assert_eq!(partial.0, ["Tools: {"]);
}

#[test]
fn the_end_of_a_text_is_seen() {
    for (data, expected) in [
        (r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#, &["end group"][..]),
        ("[DONE]", &["end all"]),
        (r#"{"type":"content_block_stop","index":0}"#, &["end group"]),
        (r#"{"type":"message_stop"}"#, &["end all"]),
        (
            r#"{"type":"response.output_text.done","output_index":0,"content_index":0,"text":"all of it"}"#,
            &["Output: all of it", "end group"],
        ),
        (
            r#"{"type":"response.completed","response":{"instructions":null,"output":[{"type":"message","content":[{"type":"output_text","text":"w"}]}]}}"#,
            &["Output: w", "end all"],
        ),
    ] {
        assert_eq!(of_event(data).0, expected, "{data}");
    }
    let group = |data: &str| {
        let mut groups = Vec::new();
        event(data.as_bytes(), Span::new(0, data.len()), &mut |one| match one {
            Located::Piece { channel, .. } => groups.push(channel.group),
            Located::End { group: Some(group) } => groups.push(group),
            other => panic!("{other:?}"),
        });
        groups
    };
    for (piece, end) in [
        (
            r#"{"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"x"}}"#,
            r#"{"index":3,"type":"content_block_stop"}"#,
        ),
        (
            r#"{"choices":[{"index":1,"delta":{"content":"x"}}]}"#,
            r#"{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}"#,
        ),
    ] {
        assert_eq!(group(piece), group(end), "{piece}");
    }
}

#[test]
fn the_texts_of_ollama_are_found_and_its_images_are_none() {
    let chat = r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"q","images":["iVBORw0KGgo="]},
        {"role":"assistant","content":"","thinking":"t","tool_calls":[{"function":{"name":"f","arguments":{"city":"Rome"}}}]},
        {"role":"tool","content":"r","tool_name":"f"}],"options":{"stop":["END"]}}"#;
    assert_eq!(of_request(chat), ["System: s", "Input: q", "Thinking: t", "Tools: Rome", "Tools: r"]);
    let generate = r#"{"model":"m","system":"s","prompt":"p","suffix":"x","images":["iVBORw0KGgo="]}"#;
    assert_eq!(of_request(generate), ["System: s", "Input: p", "Input: x"]);
    let (first, channel) = of_event(
        r#"{"model":"m","created_at":"x","message":{"role":"assistant","content":"a","thinking":"t"},"done":false}"#,
    );
    assert_eq!(first, ["Output: a", "Thinking: t"]);
    let (last, other) =
        of_event(r#"{"message":{"role":"assistant","content":"b"},"done_reason":"stop","done":true}"#);
    assert_eq!(last, ["Output: b", "end group"]);
    assert_eq!(channel[0], other[0], "one text");
    assert_eq!(of_event(r#"{"model":"m","response":"a","done":false}"#).0, ["Output: a"]);
}

/// The same text with every key as another reader would take it as well: escaped, and in capitals.
fn respelt(json: &str) -> [String; 2] {
    let keys = |spell: &dyn Fn(&str) -> String| {
        let (mut out, mut rest) = (String::new(), json);
        while let Some((before, behind)) = rest.split_once('"') {
            let (inside, behind) = behind.split_once('"').expect("strings without escapes");
            let is_key = behind.starts_with(':');
            out += &format!("{before}\"{}\"", if is_key { spell(inside) } else { inside.to_owned() });
            rest = behind;
        }
        out + rest
    };
    let escaped = |key: &str| format!("\\u{:04x}{}", u32::from(key.as_bytes()[0]), &key[1..]);
    [keys(&escaped), keys(&|key| key.to_uppercase())]
}

#[track_caller]
fn reads_however_spelt(read: &dyn Fn(&str) -> Vec<String>, json: &str, expected: &[&str]) {
    assert_eq!(read(json), expected, "{json}");
    for respelt in respelt(json) {
        let found = read(&respelt);
        // What is left out has to be spelt exactly: more may be read, and nothing less.
        let texts = found.iter().filter(|text| expected.contains(&text.as_str()));
        assert_eq!(texts.collect::<Vec<_>>(), expected, "{respelt}: {found:?}");
    }
}

fn of_body(json: &str) -> Vec<String> {
    let mut located = Vec::new();
    body(json.as_bytes(), &mut |one| located.push(one));
    texts(&located, json.as_bytes())
}

#[test]
fn no_spelling_of_a_key_hides_a_text_of_a_chat() {
    let request = r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"q"}]},{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"a"}}]},{"role":"tool","content":"r"}]}"#;
    reads_however_spelt(&of_request, request, &["System: s", "Input: q", "Tools: a", "Tools: r"]);
    let response = r#"{"choices":[{"message":{"content":"o","reasoning_content":"t","tool_calls":[{"function":{"arguments":"a"}}]}}]}"#;
    reads_however_spelt(&of_body, response, &["Output: o", "Thinking: t", "Tools: a"]);
    let event = |data: &str| of_event(data).0;
    let delta = r#"{"choices":[{"index":0,"delta":{"content":"o","tool_calls":[{"function":{"arguments":"a"}}]},"finish_reason":"stop"}]}"#;
    reads_however_spelt(&event, delta, &["Output: o", "Tools: a", "end group"]);
}

#[test]
fn no_spelling_of_a_key_hides_a_text_of_messages() {
    let request = r#"{"system":"s","messages":[{"role":"user","content":"q"},{"role":"assistant","content":[{"type":"thinking","thinking":"t"},{"type":"tool_use","input":{"city":"c","name":"n"}}]},{"role":"user","content":[{"type":"tool_result","content":"r"}]}]}"#;
    let expected = ["System: s", "Input: q", "Thinking: t", "Tools: c", "Tools: n", "Tools: r"];
    reads_however_spelt(&of_request, request, &expected);
    let response = r#"{"content":[{"type":"text","text":"o"},{"type":"tool_use","input":{"city":"c"}}]}"#;
    reads_however_spelt(&of_body, response, &["Output: o", "Tools: c"]);
    let event = |data: &str| of_event(data).0;
    let delta =
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"a"}}"#;
    reads_however_spelt(&event, delta, &["Tools: a"]);
}

#[test]
fn no_spelling_of_a_key_hides_a_text_of_responses() {
    let request = r#"{"instructions":"s","input":[{"role":"user","content":[{"type":"input_text","text":"q"}]},{"type":"function_call","arguments":"a"},{"type":"function_call_output","output":"r"}]}"#;
    reads_however_spelt(&of_request, request, &["System: s", "Input: q", "Tools: a", "Tools: r"]);
    let response = r#"{"output":[{"type":"message","content":[{"type":"output_text","text":"o"}]},{"type":"function_call","arguments":"a"}]}"#;
    reads_however_spelt(&of_body, response, &["Output: o", "Tools: a"]);
    let event = |data: &str| of_event(data).0;
    let done = r#"{"type":"response.output_text.done","output_index":0,"text":"o"}"#;
    reads_however_spelt(&event, done, &["Output: o", "end group"]);
}

#[test]
fn no_spelling_of_a_key_hides_a_text_of_gemini() {
    for (system, args) in [("systemInstruction", "functionCall"), ("system_instruction", "function_call")] {
        let request = format!(
            r#"{{"{system}":{{"parts":[{{"text":"s"}}]}},"contents":[{{"role":"user","parts":[{{"text":"q"}}]}},{{"role":"model","parts":[{{"thought":true,"text":"t"}},{{"{args}":{{"name":"f","args":{{"city":"c"}}}}}}]}}]}}"#
        );
        reads_however_spelt(&of_request, &request, &["System: s", "Input: q", "Thinking: t", "Tools: c"]);
    }
    let response =
        r#"{"candidates":[{"content":{"parts":[{"text":"o"},{"functionCall":{"args":{"city":"c"}}}]}}]}"#;
    reads_however_spelt(&of_body, response, &["Output: o", "Tools: c"]);
}

#[test]
fn no_spelling_of_a_key_hides_a_text_of_converse_and_ollama() {
    let converse = r#"{"output":{"message":{"content":[{"text":"o"},{"toolUse":{"input":{"city":"c"}}}]}}}"#;
    reads_however_spelt(&of_body, converse, &["Output: o", "Tools: c"]);
    let generate = r#"{"system":"s","prompt":"q","suffix":"x"}"#;
    reads_however_spelt(&of_request, generate, &["System: s", "Input: q", "Input: x"]);
    let chat = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","thinking":"t","tool_calls":[{"function":{"arguments":{"city":"c"}}}]}]}"#;
    reads_however_spelt(&of_request, chat, &["Input: q", "Thinking: t", "Tools: c"]);
    let event = |data: &str| of_event(data).0;
    reads_however_spelt(
        &event,
        r#"{"message":{"content":"o"},"done_reason":"stop"}"#,
        &["Output: o", "end group"],
    );
}

#[test]
fn an_escaped_word_says_what_it_says() {
    let body = r#"{"messages":[{"role":"sys\u0074em","content":"s"},{"content":[{"type":"tool_\u0075se","input":{"name":"n"}}]}]}"#;
    assert_eq!(of_request(body), ["System: s", "Tools: n"]);
}
