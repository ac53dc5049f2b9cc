//! Responses of backends.

use super::*;

pub(super) const RESPONSE: &str = r#"{"id":"resp_1","object":"response","status":"completed","model":"gpt-x","error":null,"incomplete_details":null,
"output":[{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm"}],"encrypted_content":"c2ln"},
{"type":"web_search_call","id":"ws_1","status":"completed"},
{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"Hi é\n","annotations":[]},{"type":"refusal","refusal":"No."}]},
{"type":"function_call","id":"fc_1","call_id":"call_1","name":"f","arguments":"{\"a\":1}"},
{"type":"custom_tool_call","id":"ctc_1","call_id":"call_2","name":"g","input":"raw \"text\""}],
"usage":{"input_tokens":15,"input_tokens_details":{"cached_tokens":10},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":20}}"#;

pub(super) const STREAM: [&str; 33] = [
    r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","model":"gpt-x","status":"in_progress","output":[]}}"#,
    r#"{"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_1","model":"gpt-x","status":"in_progress","output":[]}}"#,
    r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","id":"rs_1","summary":[]}}"#,
    r#"{"type":"response.reasoning_summary_part.added","item_id":"rs_1","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":""}}"#,
    r#"{"type":"response.reasoning_summary_text.delta","item_id":"rs_1","output_index":0,"summary_index":0,"delta":"H"}"#,
    r#"{"type":"response.reasoning_summary_text.delta","item_id":"rs_1","output_index":0,"summary_index":0,"delta":"m"}"#,
    r#"{"type":"response.reasoning_summary_text.done","item_id":"rs_1","output_index":0,"summary_index":0,"text":"Hm"}"#,
    r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm"}],"encrypted_content":"c2ln"}}"#,
    r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"message","id":"msg_1","status":"in_progress","role":"assistant","content":[]}}"#,
    r#"{"type":"response.content_part.added","item_id":"msg_1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}"#,
    r#"{"type":"response.output_text.delta","item_id":"msg_1","output_index":1,"content_index":0,"delta":"Hi \"","obfuscation":"xx"}"#,
    r#"{"type":"response.output_text.delta","item_id":"msg_1","output_index":1,"content_index":0,"delta":"\u00e9\""}"#,
    r#"{"type":"response.output_text.annotation.added","item_id":"msg_1","output_index":1,"content_index":0,"annotation":{}}"#,
    r#"{"type":"response.output_text.done","item_id":"msg_1","output_index":1,"content_index":0,"text":"Hi \"\u00e9\""}"#,
    r#"{"type":"response.content_part.done","item_id":"msg_1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"Hi \"\u00e9\""}}"#,
    r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"message","id":"msg_1","content":[{"type":"output_text","text":"Hi \"\u00e9\""}]}}"#,
    r#"{"type":"keepalive","sequence_number":16}"#,
    r#"{"type":"response.output_item.added","output_index":2,"item":{"type":"function_call","id":"fc_1","call_id":"call_1","name":"f","arguments":""}}"#,
    r#"{"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":2,"delta":"{\"a\":"}"#,
    r#"{"type":"response.output_item.added","output_index":3,"item":{"type":"function_call","id":"fc_2","call_id":"call_2","name":"g","arguments":""}}"#,
    r#"{"type":"response.function_call_arguments.delta","item_id":"fc_2","output_index":3,"delta":"{\"b\":"}"#,
    r#"{"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":2,"delta":"1}"}"#,
    r#"{"type":"response.function_call_arguments.delta","item_id":"fc_2","output_index":3,"delta":"2}"}"#,
    r#"{"type":"response.function_call_arguments.done","item_id":"fc_1","output_index":2,"arguments":"{\"a\":1}"}"#,
    r#"{"type":"response.output_item.done","output_index":2,"item":{"type":"function_call","id":"fc_1","call_id":"call_1","name":"f","arguments":"{\"a\":1}"}}"#,
    r#"{"type":"response.function_call_arguments.done","item_id":"fc_2","output_index":3,"arguments":"{\"b\":2}"}"#,
    r#"{"type":"response.output_item.done","output_index":3,"item":{"type":"function_call","id":"fc_2","call_id":"call_2","name":"g","arguments":"{\"b\":2}"}}"#,
    r#"{"type":"response.output_item.added","output_index":4,"item":{"type":"custom_tool_call","id":"ctc_1","call_id":"call_3","name":"apply_patch","input":""}}"#,
    r#"{"type":"response.custom_tool_call_input.delta","item_id":"ctc_1","output_index":4,"delta":"*** "}"#,
    r#"{"type":"response.custom_tool_call_input.delta","item_id":"ctc_1","output_index":4,"delta":"Begin\n"}"#,
    r#"{"type":"response.custom_tool_call_input.done","item_id":"ctc_1","output_index":4,"input":"*** Begin\n"}"#,
    r#"{"type":"response.output_item.done","output_index":4,"item":{"type":"custom_tool_call","id":"ctc_1","call_id":"call_3","name":"apply_patch","input":"*** Begin\n"}}"#,
    r#"{"type":"response.completed","response":{"id":"resp_1","model":"gpt-x","status":"completed","output":[{"type":"message","id":"msg_1","content":[{"type":"output_text","text":"again"}]}],"usage":{"input_tokens":15,"input_tokens_details":{"cached_tokens":10},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":20}}}"#,
];

#[test]
fn a_whole_stream_is_read() {
    let (lines, whole) = decoded(&STREAM);
    assert!(whole);
    assert_eq!(
        lines,
        [
            "start resp_1 gpt-x",
            "open 0 thinking",
            "delta 0 H",
            "delta 0 m",
            "signature 0 c2ln",
            "close 0",
            "open 1 text",
            "delta 1 Hi \\\"",
            "delta 1 \\u00e9\\\"",
            "close 1",
            "open 2 call call_1 f",
            "delta 2 {\\\"a\\\":",
            "open 3 call call_2 g",
            "delta 3 {\\\"b\\\":",
            "delta 2 1}",
            "delta 3 2}",
            "close 2",
            "close 3",
            "open 4 custom call_3 apply_patch",
            "delta 4 *** ",
            "delta 4 Begin\\n",
            "close 4",
            "finish ToolCalls",
            "usage 15 10 5 2",
            "end",
        ]
    );
}

const SAID: [&str; 15] = [
    "open 0 thinking",
    "delta 0 Hm",
    "signature 0 c2ln",
    "close 0",
    "open 1 text",
    "delta 1 Hi é\\n",
    "close 1",
    "open 2 refusal",
    "delta 2 No.",
    "close 2",
    "open 3 call call_1 f",
    "delta 3 {\\\"a\\\":1}",
    "close 3",
    "open 4 custom call_2 g",
    "delta 4 raw \\\"text\\\"",
];

#[test]
fn a_whole_response_is_read_as_the_same_events() {
    let mut lines = Vec::new();
    decode::body(&context(), RESPONSE.as_bytes(), &mut |event| lines.push(line(&event))).unwrap();
    assert_eq!(lines[0], "start resp_1 gpt-x");
    assert_eq!(lines[1..16], SAID);
    assert_eq!(lines[16..], ["close 4", "finish ToolCalls", "usage 15 10 5 2", "end"]);
    for unfit in [
        "{}",
        "[]",
        r#"{"choices":[]}"#,
        r#"{"status":"failed","error":{"message":"x"},"output":[]}"#,
        r#"{"status":"in_progress","output":[]}"#,
        r#"{"output":[]"#,
    ] {
        assert!(decode::body(&context(), unfit.as_bytes(), &mut |_| {}).is_err(), "{unfit}");
    }
}

#[test]
fn what_no_delta_told_is_told_by_the_done_events_or_by_the_end() {
    let response: Value = serde_json::from_str(RESPONSE).unwrap();
    let completed = serde_json::json!({"type":"response.completed","response":response}).to_string();
    let (lines, whole) = decoded(&[&completed]);
    assert!(whole);
    assert_eq!(lines[1..16], SAID, "the final response only");
    let mut records: Vec<String> = Vec::new();
    for (index, item) in response["output"].as_array().unwrap().iter().enumerate() {
        for _ in 0..2 {
            let done =
                serde_json::json!({"type":"response.output_item.done","output_index":index,"item":item});
            records.push(done.to_string()); // said twice, told once
        }
    }
    records.push(completed);
    let (lines, whole) = decoded(&records.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(whole);
    assert_eq!(lines[1..16], SAID, "items only");
    let (lines, _) = decoded(&[
        r#"{"type":"response.output_text.done","output_index":0,"content_index":0,"item_id":"m","text":"whole"}"#,
        r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"m","type":"message","content":[{"type":"output_text","text":"whole"}]}}"#,
    ]);
    assert_eq!(lines, ["start  ", "open 0 text", "delta 0 whole", "close 0"]);
}

#[test]
fn items_are_told_apart_where_all_have_one_number_or_ids_that_change() {
    let added = |index: u64, id: &str, call: &str| {
        format!(
            r#"{{"type":"response.output_item.added","output_index":{index},"item":{{"type":"function_call","id":"{id}","call_id":"{call}","name":"f","arguments":""}}}}"#
        )
    };
    let delta = |index: u64, id: &str, piece: &str| {
        format!(
            r#"{{"type":"response.function_call_arguments.delta","output_index":{index},"item_id":"{id}","delta":"{piece}"}}"#
        )
    };
    for records in [
        [added(0, "a", "1"), added(0, "b", "2"), delta(0, "a", "x"), delta(0, "b", "y")],
        [added(0, "a", "1"), added(1, "b", "2"), delta(0, "c", "x"), delta(1, "d", "y")],
    ] {
        let (lines, _) = decoded(&records.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(lines[1..], ["open 0 call 1 f", "open 1 call 2 f", "delta 0 x", "delta 1 y"]);
    }
}

#[test]
fn parts_of_a_summary_are_apart_and_the_raw_thought_is_not_told_twice() {
    let delta = |kind: &str, name: &str, index: u64, piece: &str| {
        format!(
            r#"{{"type":"response.{kind}.delta","output_index":0,"item_id":"r","{name}":{index},"delta":"{piece}"}}"#
        )
    };
    let records = [
        delta("reasoning_summary_text", "summary_index", 0, "a"),
        delta("reasoning_summary_text", "summary_index", 1, "b"),
        delta("reasoning_text", "content_index", 0, "raw"),
    ];
    let (lines, _) = decoded(&records.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(lines[1..], ["open 0 thinking", "delta 0 a", "delta 0 \\n\\n", "delta 0 b"]);
}

#[test]
fn only_a_final_response_makes_a_stream_whole() {
    for cut in 0..STREAM.len() {
        let (lines, whole) = decoded(&STREAM[..cut]);
        assert!(!whole && !lines.contains(&"end".into()), "{cut}");
    }
    let (lines, whole) = decoded(&["[DONE]", "", r#"{"type":"response.new_thing"}"#]);
    assert!(!whole && lines.is_empty());
}

#[test]
fn an_incomplete_response_says_why() {
    for (response, expected) in [
        (r#"{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}"#, "finish Length"),
        (
            r#"{"status":"incomplete","incomplete_details":{"reason":"content_filter"}}"#,
            "finish ContentFilter",
        ),
        (r#"{"status":"incomplete","incomplete_details":null}"#, "finish Length"),
        (r#"{"status":"incomplete","incomplete_details":{"reason":"steered"}}"#, "finish Stop"),
        (r#"{"status":"completed"}"#, "finish Length"),
    ] {
        let (lines, whole) =
            decoded(&[&format!(r#"{{"type":"response.incomplete","response":{response}}}"#)]);
        assert!(whole);
        assert_eq!(lines[1], expected);
    }
}

#[test]
fn a_failure_is_a_fault_whichever_event_tells_it() {
    for (record, expected) in [
        (
            r#"{"type":"error","code":"server_error","message":"Oops","param":null}"#,
            "fault Oops server_error Some(500)",
        ),
        (
            r#"{"type":"error","error":{"type":"x","code":"rate_limit_exceeded","message":"Slow"}}"#,
            "fault Slow rate_limit_exceeded Some(429)",
        ),
        (
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"context_length_exceeded","message":"Long"}}}"#,
            "fault Long context_length_exceeded Some(400)",
        ),
        (
            r#"{"type":"response.completed","response":{"status":"failed","error":{"code":"server_error","message":"Oops"}}}"#,
            "fault Oops server_error Some(500)",
        ),
    ] {
        let (lines, whole) = decoded(&[STREAM[0], record, STREAM[32]]);
        assert!(!whole);
        assert_eq!(lines[1..], [expected]);
    }
    let mut events = decode::Events::new(&context());
    let mut lines = Vec::new();
    events.record(Some(b"response.output_text.delta"), b"{\"delta\":\"a", &mut |event| {
        lines.push(line(&event))
    });
    assert!(lines.len() == 1 && lines[0].starts_with("fault "), "a broken record is a fault");
}

#[test]
fn errors_are_read_in_each_form() {
    let record = decode::fault(
        429,
        br#"{"error":{"message":"Slow","type":"requests","param":"p","code":"rate_limit_exceeded"}}"#,
    );
    assert_eq!(
        (record.message, record.code, record.param),
        (text("Slow"), Some(text("rate_limit_exceeded")), Some(text("p")))
    );
    assert_eq!(record.status, Some(429));
    for (body, message) in [
        (r#"{"error":"no such model"}"#, "no such model"),
        (r#"{"object":"error","message":"bad","code":400}"#, "bad"),
        (r#"{"detail":"Not Found"}"#, "Not Found"),
        ("<html>", ""),
    ] {
        assert_eq!(decode::fault(502, body.as_bytes()).message.inside(), message.as_bytes());
    }
}
