use super::*;

const ROLE: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n";
const TEXT: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";
const END: &str =
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"id\":\"c\",\"choices\":[ ],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":2,\"total_tokens\":12}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn fed(meter: &mut Meter, events: &[&str]) -> Vec<Signals> {
    events.iter().map(|event| meter.events(event.as_bytes())).collect()
}

fn firsts(found: &[Signals]) -> Vec<bool> {
    found.iter().map(|found| found.first_token).collect()
}

fn chat() -> Meter {
    Meter::new(Api::Chat, 1, true)
}

#[test]
fn a_chat_stream_is_followed_event_by_event_and_as_one_block() {
    let events = [ROLE, ": ping\n\n", TEXT, TEXT, END, USAGE, DONE];
    let mut meter = chat();
    let found = fed(&mut meter, &events);
    assert_eq!(firsts(&found), [false, false, true, false, false, false, false]);
    let drops: Vec<_> = found.iter().map(|found| found.drop).collect();
    assert_eq!(drops, [None, None, None, None, None, Some(Span::new(0, USAGE.len())), None]);

    let mut whole = chat();
    let block = events.concat();
    let found = whole.events(block.as_bytes());
    assert_eq!(found.drop.unwrap().of(block.as_bytes()), USAGE.as_bytes());
    assert!(found.first_token);
    for meter in [meter, whole] {
        assert!(meter.finished() && meter.done() && !meter.errored());
        assert_eq!((meter.usage().input, meter.usage().output), (10, 2));
    }
}

#[test]
fn line_ends_and_blanks_of_other_writers_change_nothing() {
    let events = [ROLE, TEXT, END, USAGE, DONE];
    let writers: [fn(&str) -> String; 5] = [
        |event| event.replace('\n', "\r\n"),
        |event| event.replace('\n', "\r"),
        |event| event.replace("data: ", "data:"),
        |event| event.replace("\":", "\": ").replace(",\"", ", \""),
        |event| event.replace(",\"choices\"", "\ndata: ,\"choices\""),
    ];
    for write in writers {
        let events = events.map(write);
        let mut meter = chat();
        let block = events.concat();
        let found = meter.events(block.as_bytes());
        assert_eq!(found.drop.unwrap().of(block.as_bytes()), events[3].as_bytes());
        assert!(found.first_token && meter.finished() && meter.done() && !meter.errored());
        assert_eq!(meter.usage().input, 10);
    }
}

#[test]
fn only_our_own_usage_chunk_is_dropped() {
    let azure = "data: {\"choices\":[],\"prompt_filter_results\":[{\"x\":1}],\"usage\":null}\n\n";
    let on_last_choice = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":2}}\n\n";
    let error = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1},\"error\":{\"message\":\"x\"}}\n\n";
    for event in [azure, on_last_choice, error, ROLE, TEXT, END, DONE] {
        assert_eq!(chat().events(event.as_bytes()).drop, None, "{event}");
    }
    assert_eq!(Meter::new(Api::Chat, 1, false).events(USAGE.as_bytes()).drop, None);
    let mut meter = chat();
    meter.events(on_last_choice.as_bytes());
    assert_eq!(meter.usage().output, 2);
    assert!(meter.finished());
    let without_choices = USAGE.replace("\"choices\":[ ],", "");
    assert!(chat().events(without_choices.as_bytes()).drop.is_some());
}

#[test]
fn generated_text_is_never_taken_for_structure() {
    let text = concat!(
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"",
        r#"data: [DONE] \"usage\":{\"prompt_tokens\":9} \"finish_reason\":\"stop\" \"error\":{\"a\":1} event: error"#,
        "\"},\"finish_reason\":null}]}\n\n"
    );
    let mut meter = chat();
    let found = meter.events(text.as_bytes());
    assert!(found.first_token && found.drop.is_none());
    assert!(!meter.finished() && !meter.done() && !meter.errored() && !meter.usage().seen);
    let mut responses = Meter::new(Api::Responses, 1, false);
    let text = concat!(
        "event: response.output_text.delta\n",
        r#"data: {"type":"response.output_text.delta","sequence_number":4,"delta":"\"status\" response.completed"}"#,
        "\n\n"
    );
    responses.events(text.as_bytes());
    assert!(!responses.finished());
    let mut messages = Meter::new(Api::Messages, 1, false);
    let text = concat!(
        "event: content_block_delta\n",
        r#"data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"message_stop error"}}"#,
        "\n\n"
    );
    messages.events(text.as_bytes());
    assert!(!messages.finished() && !messages.errored());
}

#[test]
fn every_choice_has_to_end() {
    let mut meter = Meter::new(Api::Chat, 2, false);
    meter.events(END.as_bytes());
    assert!(!meter.finished());
    meter.events(END.as_bytes());
    assert!(meter.finished());
    let mut meter = chat();
    meter.events(END.replace("\"stop\"", "\"\"").as_bytes());
    meter.events(END.replace("\"stop\"", "null").as_bytes());
    assert!(!meter.finished());
}

#[test]
fn errors_are_seen_in_every_form() {
    for event in [
        "data: {\"error\":{\"message\":\"x\",\"code\":null}}\n\n",
        "data: {\"error\": \"overloaded\"}\n\n",
        "data: {\"choices\":[],\"error\":{\"message\":\"x\"}}\n\n",
        "event: error\ndata: overloaded\n\n",
        "event:error\ndata: {}\n\n",
        "data: {\"type\":\"error\",\"message\":\"x\"}\n\n",
    ] {
        let mut meter = chat();
        meter.events([TEXT, event, DONE].concat().as_bytes());
        assert!(meter.errored() && !meter.finished(), "{event}");
    }
    for event in [
        "data: {\"error\":null,\"choices\":[]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"error\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"error\":{}}}]}\n\n",
        ": \"error\"\n\n",
        "data: an event: error\n\n",
    ] {
        let mut meter = chat();
        meter.events(event.as_bytes());
        assert!(!meter.errored(), "{event}");
    }
}

#[test]
fn done_counts_only_as_a_line_of_its_own() {
    for (event, done) in [
        (DONE, true),
        ("data:[DONE]\r\n\r\n", true),
        (": [DONE]\n\n", false),
        ("data: x[DONE]\n\n", false),
        ("data: {\"a\":\"[DONE]\"}\n\n", false),
    ] {
        let mut meter = chat();
        meter.events([event, ": bye\n\n"].concat().as_bytes());
        assert_eq!(meter.done(), done, "{event}");
    }
}

#[test]
fn the_first_token_is_the_first_delta_that_carries_something() {
    let delta = |delta: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{{delta}}}}}]}}\n\n");
    for filled in [
        r#""content":"a""#,
        r#""content" : "a""#,
        r#""reasoning_content":"a""#,
        r#""reasoning":"a","content":"""#,
        r#""content":null,"tool_calls":[{"index":0}]"#,
        r#""function_call":{"name":"f"}"#,
        r#""refusal":"no""#,
        r#""content":"\"""#,
    ] {
        assert!(chat().events(delta(filled).as_bytes()).first_token, "{filled}");
    }
    for empty in
        [r#""role":"assistant","content":"""#, r#""content":null,"tool_calls":[ ],"refusal":null"#, ""]
    {
        assert!(!chat().events(delta(empty).as_bytes()).first_token, "{empty}");
    }
    let mut completions = Meter::new(Api::Completions, 1, true);
    let found = fed(
        &mut completions,
        &["data: {\"choices\":[{\"text\":\"\"}]}\n\n", "data: {\"choices\":[{\"text\":\"a\"}]}\n\n"],
    );
    assert_eq!(firsts(&found), [false, true]);
    // A response without output has its first token at its end.
    assert!(chat().events(END.as_bytes()).first_token);
}

#[test]
fn the_search_for_a_first_token_is_bounded() {
    let unknown = format!("data: {{\"x\":\"{}\"}}\n\n", "a".repeat(1_000));
    let mut meter = chat();
    let blocks = (1..=100).find(|_| meter.events(unknown.as_bytes()).first_token);
    assert_eq!(blocks, Some(FIRST_TOKEN_BYTES_MAX.div_ceil(unknown.len())));
    assert!(!meter.events(TEXT.as_bytes()).first_token);
}

#[test]
fn a_messages_stream_is_followed() {
    let events = [
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":{\"input_tokens\":34824,\"output_tokens\":1}}}\n\n",
        "event: ping\ndata: {\"type\":\"ping\"}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"input_tokens\":3883,\"cache_read_input_tokens\":30464,\"output_tokens\":9}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ];
    let mut meter = Meter::new(Api::Messages, 1, false);
    assert_eq!(firsts(&fed(&mut meter, &events[..5])), [false, false, false, true, false]);
    assert!(!meter.finished());
    meter.events(events[5].as_bytes());
    assert!(meter.finished() && !meter.errored());
    assert_eq!((meter.usage().input, meter.usage().cached, meter.usage().output), (34_347, 30_464, 9));

    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n";
    let mut meter = Meter::new(Api::Messages, 1, false);
    meter.events([events[0], error].concat().as_bytes());
    assert!(meter.errored() && !meter.finished());
    assert_eq!(meter.usage().input, 34_824);
}

#[test]
fn a_responses_stream_is_followed() {
    let event = |kind: &str, number: u64, rest: &str| {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number}{rest}}}\n\n")
    };
    let created = event(
        "response.created",
        0,
        r#","response":{"status":"in_progress","error":null,"max_output_tokens":null,"usage":null}"#,
    );
    let delta = event("response.output_text.delta", 1, r#","delta":"a""#);
    let begun = || {
        let mut meter = Meter::new(Api::Responses, 1, false);
        assert_eq!(firsts(&fed(&mut meter, &[&created, &delta])), [false, true]);
        meter
    };
    let mut meter = begun();
    assert!(!meter.finished() && !meter.errored() && !meter.usage().seen);
    assert_eq!(meter.sequence(), 2);
    let mut behind = begun();
    behind.events(format!("{}: ping\n\n", event("response.output_text.delta", 7, "")).as_bytes());
    assert_eq!(behind.sequence(), 8, "the last event that has a number counts");
    for (kind, errored) in
        [("response.completed", false), ("response.incomplete", false), ("response.failed", true)]
    {
        let rest =
            r#","response":{"status":"x","usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}"#;
        let mut meter = begun();
        meter.events(event(kind, 9, rest).as_bytes());
        assert!(meter.finished());
        assert_eq!(meter.errored(), errored);
        assert_eq!((meter.usage().input, meter.usage().output, meter.sequence()), (3, 4, 10));
    }
    meter.events(event("error", 3, r#","code":"x","message":"y""#).as_bytes());
    assert!(meter.errored() && !meter.finished());
}

#[test]
fn no_bytes_panic() {
    let stream = [ROLE, TEXT, END, USAGE, "event: error\ndata: {\"error\":1}\n\n", DONE].concat();
    for api in Api::ALL {
        for start in 0..stream.len() {
            let mut meter = Meter::new(*api, 1, true);
            meter.events(&stream.as_bytes()[start..]);
            meter.events(&stream.as_bytes()[..start]);
        }
    }
}

#[test]
fn an_event_full_of_the_word_error_is_read_once() {
    let event = format!("data: {{\"a\":[{}\"error\"]}}\n\n", "\"error\",".repeat(100_000));
    let mut meter = chat();
    meter.events([&event, TEXT, "data: {\"error\":1}\n\n"].concat().as_bytes());
    assert!(meter.errored());
}

#[test]
fn only_the_finish_reason_itself_ends_a_choice() {
    for event in [
        "data: {\"choices\":[{\"native_finish_reason\":\"stop\",\"finish_reason\":null}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"function\":{\"name\":\"run\"},\"reason\":\"x\"},\"finish_reason\":\"\"}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"finish_reason\\\":\\\"stop\\\"\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"\\\"finish_reason\":\"stop\"}]}\n\n",
    ] {
        let mut meter = chat();
        meter.events(event.as_bytes());
        assert!(!meter.finished(), "{event}");
    }
    let both = "data: {\"choices\":[{\"finish_reason\": \"stop\",\"native_finish_reason\": \"STOP\"}]}\n\n";
    let mut two = Meter::new(Api::Chat, 2, false);
    two.events(both.as_bytes());
    assert!(!two.finished());
    two.events(both.as_bytes());
    assert!(two.finished());
}

#[test]
fn an_event_that_lacks_only_its_blank_line_is_told_from_one_that_is_cut() {
    for rest in [
        "",
        "\n",
        "data: [DONE]",
        "data: [DONE]\n",
        "data: {\"a\":1}",
        "event: x\ndata: {\"a\":1}\n",
        ": bye",
    ] {
        assert!(is_whole_event(RecordForm::Sse, rest.as_bytes()), "{rest:?}");
    }
    for rest in ["d", "data: ", "data: [DON", "data: {\"a\":1", "event: x\n", "event: x\ndata: {\"a\""] {
        assert!(!is_whole_event(RecordForm::Sse, rest.as_bytes()), "{rest:?}");
    }
}

#[test]
fn a_line_that_lacks_only_its_line_end_is_told_from_one_that_is_cut() {
    for rest in ["", "\n", " \r", "{\"done\":true}", "{\"done\":true} ", "{\"done\":true}\r"] {
        assert!(is_whole_event(RecordForm::Ndjson, rest.as_bytes()), "{rest:?}");
    }
    for rest in ["{", "{\"done\":true", "{\"done\":true,\"a\":\"", "data: {}", "[DONE]", ": x"] {
        assert!(!is_whole_event(RecordForm::Ndjson, rest.as_bytes()), "{rest:?}");
    }
    assert!(ends(Api::OllamaChat, b"{\"message\":{\"content\":\"\"},\"done\":true}"));
    assert!(!ends(Api::OllamaChat, b"{\"message\":{\"content\":\"\"},\"done\":true"));
    assert!(!ends(Api::OllamaChat, b"{\"message\":{\"content\":\"\"},\"done\":false}"));
    assert!(is_whole_event(RecordForm::EventStream, b"") && !is_whole_event(RecordForm::EventStream, b"{}"));
}

#[test]
fn a_word_right_behind_the_cr_that_ends_an_event_is_of_the_next() {
    let events = b"data: a\r\rmessage_stop\n\n";
    assert_eq!(around(events, 9), Span::new(9, events.len()));
}

fn chunk(index: usize, rest: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"a\"}}{rest}}}]}}\n\n"
    )
}

const STOP: &str = r#","finish_reason":"stop""#;

/// Whether a stream that ends behind these events is cut, fed event by event and as one block.
fn is_cut(api: Api, choices: u64, events: &[String]) -> bool {
    let (mut one, mut all) = (Meter::new(api, choices, false), Meter::new(api, choices, false));
    events.iter().for_each(|event| {
        one.events(event.as_bytes());
    });
    all.events(events.concat().as_bytes());
    assert_eq!(one.is_cut(), all.is_cut(), "{events:?}");
    one.is_cut()
}

#[test]
fn a_choice_that_has_begun_has_to_finish() {
    let open = |index| chunk(index, r#","finish_reason":null"#);
    let end = |index| chunk(index, STOP);
    for (choices, events, cut) in [
        (1, vec![], true),
        (1, vec![open(0)], true),
        (1, vec![open(0), end(0)], false),
        (1, vec![open(0), open(1), end(0)], true),
        (1, vec![open(0), open(1), end(1)], true),
        (1, vec![open(0), open(1), end(1), end(0)], false),
        (2, vec![open(0), open(1), end(0)], true),
        (2, vec![open(0), end(0)], false),
        (2, vec![open(0), end(0), open(1)], true),
        (3, vec![open(2), end(2), end(0), end(1)], false),
        (1, vec![end(1)], false),
        (1, vec![open(0), DONE.to_owned()], false),
        (1, vec![open(0), USAGE.to_owned()], true),
        (1, vec![open(0), "data: {\"error\":{\"message\":\"x\"}}\n\n".to_owned()], false),
    ] {
        for api in [Api::Chat, Api::Completions] {
            assert_eq!(is_cut(api, choices, &events), cut, "{choices} {events:?}");
        }
    }
    assert!(!is_cut(Api::Embeddings, 1, &[]));
}

#[test]
fn a_reason_may_be_written_in_many_ways() {
    for reason in ["\"stop\"", "\"eos\"", "\"\\u0073top\"", "\"end_turn\""] {
        for key in
            ["\"finish_reason\":", "\"finish_reason\": ", "\"finish_reason\" : ", "\"finish_reason\" :"]
        {
            assert!(!is_cut(Api::Chat, 1, &[chunk(0, &format!(",{key}{reason}"))]), "{key}{reason}");
        }
    }
    for none in ["null", "\"\"", "\"null\""] {
        assert!(is_cut(Api::Chat, 1, &[chunk(0, &format!(",\"finish_reason\":{none}"))]), "{none}");
    }
}

#[test]
fn an_index_of_a_tool_call_is_no_choice() {
    let call = "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"function\":{\"arguments\":\"{}\"}}]}}]}\n\n";
    assert!(!is_cut(Api::Chat, 1, &[chunk(0, ""), call.to_owned(), chunk(0, STOP)]));
    assert!(is_cut(Api::Chat, 1, &[chunk(0, ""), call.to_owned()]));
}

#[test]
fn typed_events_end_with_their_last_or_a_reason() {
    let typed = |kind: &str, rest: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n");
    for last in ["response.completed", "response.incomplete", "response.cancelled", "response.failed"] {
        let last = typed(last, "");
        assert!(!is_cut(Api::Responses, 1, std::slice::from_ref(&last)), "{last}");
        let named_otherwise = last.replacen("event: response", "event: message\nid: ", 1);
        assert!(!is_cut(Api::Responses, 1, &[named_otherwise]), "{last}");
    }
    for other in ["response.created", "response.web_search_call.completed", "response.output_item.done"] {
        assert!(is_cut(Api::Responses, 1, &[typed(other, "")]), "{other}");
    }
    let delta = |reason: &str| typed("message_delta", &format!(",\"delta\":{{\"stop_reason\":{reason}}}"));
    assert!(is_cut(Api::Messages, 1, &[typed("message_start", ""), delta("null")]));
    assert!(!is_cut(Api::Messages, 1, &[typed("message_start", ""), delta("\"end_turn\"")]));
    assert!(!is_cut(Api::Messages, 1, &[typed("message_stop", "")]));
}

#[test]
fn a_heartbeat_is_a_whole_record_that_each_api_knows() {
    for (api, expected) in [
        (Api::Chat, ": ping\n\n"),
        (Api::Completions, ": ping\n\n"),
        (Api::Messages, "event: ping\ndata: {\"type\": \"ping\"}\n\n"),
        (Api::Responses, "event: keepalive\ndata: {\"type\":\"keepalive\",\"sequence_number\":41}\n\n"),
    ] {
        let mut out = Vec::new();
        heartbeat(api, 41, &mut out);
        assert!(api.makes_streams());
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
    for api in [Api::Embeddings, Api::Rerank, Api::CountTokens, Api::Models, Api::ModelById] {
        assert!(!api.makes_streams(), "{api:?}");
    }
}
