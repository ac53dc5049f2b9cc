//! Responses of backends.

use super::*;

pub(super) const MESSAGE: &str = r#"{"id":"msg_01","type":"message","role":"assistant","model":"claude-x","content":[
{"type":"thinking","thinking":"Hm","signature":"c2ln"},{"type":"redacted_thinking","data":"eA=="},{"type":"text","text":"Hi","citations":null},
{"type":"server_tool_use","id":"s","name":"web_search","input":{"q":"x"}},{"type":"web_search_tool_result","tool_use_id":"s","content":[]},
{"type":"tool_use","id":"toolu_1","name":"read","input":{"a":"\"b\""}},{"type":"tool_use","id":"","name":"list","input":{}}],
"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":3,"cache_read_input_tokens":10,"cache_creation_input_tokens":2,"output_tokens":5}}"#;

#[test]
fn a_whole_stream_is_read() {
    let (lines, whole) = decoded(STREAM);
    assert!(whole);
    assert_eq!(
        lines,
        [
            "start msg_01 claude-x",
            "usage 15 10 2 1",
            "open 0 thinking",
            "ping",
            "delta 0 Hm\\n",
            "signature 0 c2ln",
            "close 0",
            "open 1 redacted ZGF0YQ==",
            "close 1",
            "open 2 text",
            "delta 2 Say \\\"é\\u00e9\\\"",
            "close 2",
            "open 3 call toolu_1 read",
            "delta 3 {\\\"path\\\": \\\"a",
            "delta 3 b\\\"}",
            "close 3",
            "finish ToolCalls ",
            "usage 15 10 2 5",
            "end",
        ]
    );
}

#[test]
fn a_whole_message_is_read_as_the_same_events() {
    let mut lines = Vec::new();
    decode::body(&context(), MESSAGE.as_bytes(), &mut |event| lines.push(line(&event))).unwrap();
    assert_eq!(
        lines,
        [
            "start msg_01 claude-x",
            "open 0 thinking",
            "delta 0 Hm",
            "signature 0 c2ln",
            "close 0",
            "open 1 redacted eA==",
            "close 1",
            "open 2 text",
            "delta 2 Hi",
            "close 2",
            "open 3 call toolu_1 read",
            "delta 3 {\\\"a\\\":\\\"\\\\\\\"b\\\\\\\"\\\"}",
            "close 3",
            "open 4 call toolu_r1_2 list",
            "close 4",
            "finish ToolCalls ",
            "usage 15 10 2 5",
            "end",
        ]
    );
    for unfit in ["{}", "[]", r#"{"type":"error","error":{"message":"x"}}"#, r#"{"choices":[]}"#, "<html>"] {
        assert!(decode::body(&context(), unfit.as_bytes(), &mut |_| {}).is_err(), "{unfit}");
    }
}

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","model":"m"}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

#[test]
fn only_message_stop_makes_a_stream_whole() {
    let text = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"a"}}"#;
    let delta = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}"#;
    for records in [&[START][..], &[START, text], &[START, text, delta], &[]] {
        let (lines, whole) = decoded_data(records);
        assert!(!whole && !lines.contains(&"end".into()), "{records:?}");
    }
    let (lines, whole) = decoded_data(&[START, text, delta, STOP, text]);
    assert!(whole);
    assert_eq!(lines.last().unwrap(), "end", "what comes behind the end is not told");
    let (lines, whole) = decoded_data(&[START, text, STOP]);
    assert!(whole && lines.contains(&"close 0".into()) && lines.contains(&"finish Stop ".into()));
}

#[test]
fn unknown_blocks_deltas_and_events_have_no_effect() {
    let (lines, whole) = decoded_data(&[
        START,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"q\":1}"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"text":"no"}}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"thinking_delta","thinking":"no"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"text":"yes","type":"text_delta","new":[1]}}"#,
        r#"{"type":"content_block_delta","index":9,"delta":{"type":"input_json_delta","partial_json":"no"}}"#,
        r#"{"type":"something_new","index":1}"#,
        "[DONE]",
        r#"{"type":"content_block_stop","index":1}"#,
        STOP,
    ]);
    assert!(whole);
    assert_eq!(lines, ["start msg_1 m", "open 0 text", "delta 0 yes", "close 0", "finish Stop ", "end"]);
}

#[test]
fn the_word_of_the_event_line_stands_in_for_a_type_left_out() {
    let (lines, _) =
        decoded("event: ping\ndata: {}\n\nevent: message_start\ndata: {\"message\":{\"id\":\"a\"}}\n\n");
    assert_eq!(lines, ["ping", "start a "]);
}

#[test]
fn a_broken_record_of_the_content_ends_the_response_as_a_fault() {
    let (lines, whole) = decoded(
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"del\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    assert!(!whole && lines.len() == 1 && lines[0].starts_with("fault "), "{lines:?}");
    assert!(decoded("event: new\ndata: not json\n\n").0.is_empty());
}

#[test]
fn arguments_come_by_deltas_or_with_the_start() {
    let start = |input: &str| {
        format!(
            r#"{{"type":"content_block_start","index":0,"content_block":{{"type":"tool_use","id":"t","name":"f","input":{input}}}}}"#
        )
    };
    let stop = r#"{"type":"content_block_stop","index":0}"#;
    let (lines, _) = decoded_data(&[START, &start(r#"{"a":1}"#), stop, STOP]);
    assert!(lines.contains(&r#"delta 0 {\"a\":1}"#.into()), "{lines:?}");
    let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"b\":2}"}}"#;
    let (lines, _) = decoded_data(&[START, &start(r#"{"a":1}"#), delta, stop, STOP]);
    assert_eq!(
        lines.iter().filter(|line| line.starts_with("delta")).collect::<Vec<_>>(),
        [r#"delta 0 {\"b\":2}"#]
    );
    let (lines, _) = decoded_data(&[START, &start("{}"), stop, STOP]);
    assert_eq!(lines[1..], ["open 0 call t f", "close 0", "finish ToolCalls ", "end"]);
}

#[test]
fn stop_reasons_map_into_the_closed_set() {
    for (reason, expected) in [
        ("end_turn", "Stop"),
        ("stop_sequence", "Stop"),
        ("pause_turn", "Stop"),
        ("brand_new", "Stop"),
        ("max_tokens", "Length"),
        ("model_context_window_exceeded", "Length"),
        ("tool_use", "ToolCalls"),
        ("refusal", "ContentFilter"),
    ] {
        let delta =
            format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}","stop_sequence":"S"}}}}"#);
        let (lines, _) = decoded_data(&[START, &delta, STOP]);
        assert_eq!(lines[1], format!("finish {expected} S"));
    }
}

#[test]
fn later_counts_replace_what_they_name_only() {
    let start =
        r#"{"type":"message_start","message":{"id":"a","usage":{"input_tokens":34824,"output_tokens":1}}}"#;
    let (lines, _) = decoded_data(&[
        start,
        r#"{"type":"message_delta","delta":{},"usage":{"input_tokens":3883,"cache_read_input_tokens":30464,"output_tokens":7}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#,
        r#"{"type":"message_delta","delta":{}}"#,
        STOP,
    ]);
    let counts: Vec<_> = lines.iter().filter(|line| line.starts_with("usage")).collect();
    assert_eq!(counts, ["usage 34824 0 0 1", "usage 34347 30464 0 7", "usage 34347 30464 0 9"]);
}

#[test]
fn an_error_in_the_stream_is_the_last_event() {
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let (lines, whole) = decoded_data(&[START, error, STOP]);
    assert!(!whole);
    assert_eq!(lines[1..], ["fault Overloaded Some(529)"]);
}

#[test]
fn errors_are_read_in_each_form() {
    let too_long = r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 8 maximum"},"request_id":"req_1"}"#;
    let record = decode::fault(400, too_long.as_bytes());
    assert_eq!(record.code, Some(text("context_length_exceeded")));
    assert_eq!((record.status, record.kind), (Some(400), Some(text("invalid_request_error"))));
    for (body, message) in [
        (r#"{"error":"no such model"}"#, "no such model"),
        (r#"{"message":"Too many requests"}"#, "Too many requests"),
        (r#"{"detail":"Not Found"}"#, "Not Found"),
        ("<html>502</html>", ""),
        ("", ""),
    ] {
        assert_eq!(decode::fault(502, body.as_bytes()).message.inside(), message.as_bytes(), "{body}");
    }
}
