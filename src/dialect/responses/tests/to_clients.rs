//! Responses for clients.

use super::*;
use crate::dialect::neutral::{FinishReason, HeldTooMuch};
use crate::dialect::usage::Usage;
use serde_json::json;

fn start() -> Event<'static> {
    Event::Start { id: text("chatcmpl-1"), model: text("m") }
}

fn open(part: usize, kind: PartKind<'static>) -> Event<'static> {
    Event::Open { part, kind }
}

fn call(part: usize, id: &'static str, name: &'static str) -> Event<'static> {
    open(part, PartKind::ToolCall { id: text(id), name: text(name), is_custom: false })
}

fn delta(part: usize, piece: &'static str) -> Event<'static> {
    Event::Delta { part, text: text(piece) }
}

fn close(part: usize) -> Event<'static> {
    Event::Close { part }
}

fn finish(reason: FinishReason) -> Event<'static> {
    Event::Finish { reason, stop_sequence: None }
}

fn usage() -> Event<'static> {
    let counts = br#"{"input_tokens":3,"cache_read_input_tokens":10,"cache_creation_input_tokens":2,"output_tokens":5}"#;
    Event::Usage(Usage::read(counts).unwrap().unwrap())
}

/// Each record in short: its type, its place, what it says.
fn short(records: &[Value]) -> Vec<String> {
    let word = |record: &Value| {
        let kind = record["type"].as_str().unwrap().trim_start_matches("response.").to_owned();
        let place = record["output_index"].as_u64().map_or(String::new(), |index| format!(" {index}"));
        let said =
            ["delta", "text", "refusal", "arguments", "input"].iter().find_map(|name| record[name].as_str());
        let said = said.or(record["item"]["type"].as_str()).map_or(String::new(), |said| format!(" {said}"));
        format!("{kind}{place}{said}")
    };
    records.iter().map(word).collect()
}

#[test]
fn a_whole_stream_is_written() {
    let told = encoded(&[
        start(),
        open(0, PartKind::Thinking),
        delta(0, "Hm"),
        Event::Signature { part: 0, text: text("c2ln") },
        close(0),
        open(1, PartKind::Text),
        delta(1, "Hi "),
        delta(1, "\\\"é\\\""),
        close(1),
        call(2, "call_1", "f"),
        delta(2, "{\\\"a\\\":1}"),
        close(2),
        finish(FinishReason::ToolCalls),
        usage(),
        Event::End,
        delta(1, "late"),
    ]);
    let records = records(&told);
    assert_eq!(
        short(&records),
        [
            "created",
            "in_progress",
            "output_item.added 0 reasoning",
            "reasoning_summary_part.added 0",
            "reasoning_summary_text.delta 0 Hm",
            "reasoning_summary_text.done 0 Hm",
            "reasoning_summary_part.done 0",
            "output_item.done 0 reasoning",
            "output_item.added 1 message",
            "content_part.added 1",
            "output_text.delta 1 Hi ",
            "output_text.delta 1 \"é\"",
            "output_text.done 1 Hi \"é\"",
            "content_part.done 1",
            "output_item.done 1 message",
            "output_item.added 2 function_call",
            "function_call_arguments.delta 2 {\"a\":1}",
            "function_call_arguments.done 2 {\"a\":1}",
            "output_item.done 2 function_call",
            "completed",
        ]
    );
    assert_eq!(records[2]["item"], json!({"id":"rs_r1_0","type":"reasoning","summary":[]}));
    assert_eq!(
        records[8]["item"],
        json!({"id":"msg_r1_1","type":"message","status":"in_progress","role":"assistant","content":[]})
    );
    assert_eq!(records[9]["part"], json!({"type":"output_text","annotations":[],"logprobs":[],"text":""}));
    let event = &records[10];
    assert_eq!(
        (&event["item_id"], &event["content_index"], &event["logprobs"]),
        (&json!("msg_r1_1"), &json!(0), &json!([]))
    );
    assert_eq!(
        records[15]["item"],
        json!({"id":"fc_r1_2","type":"function_call","status":"in_progress","call_id":"call_1","name":"f","arguments":""})
    );
    let (first, last) = (&records[0]["response"], &records[19]["response"]);
    assert_eq!(
        (&first["id"], &first["status"], &first["output"], &first["usage"]),
        (&json!("resp_chatcmpl-1"), &json!("in_progress"), &json!([]), &Value::Null)
    );
    assert_eq!(
        (&last["id"], &last["status"], &last["model"], &last["created_at"]),
        (&json!("resp_chatcmpl-1"), &json!("completed"), &json!("m"), &json!(1_700_000_000))
    );
    let done: Vec<&Value> = [7, 14, 18].iter().map(|index| &records[*index]["item"]).collect();
    assert_eq!(
        last["output"].as_array().unwrap().iter().collect::<Vec<_>>(),
        done,
        "the end repeats what was told"
    );
    assert_eq!(last["output"][0]["encrypted_content"], "c2ln");
    assert_eq!(
        last["usage"],
        json!({"input_tokens":15,"input_tokens_details":{"cached_tokens":10,"cache_write_tokens":2},
            "output_tokens":5,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":20})
    );
}

#[test]
fn a_whole_body_is_what_the_stream_ends_with() {
    let events = [
        start(),
        open(0, PartKind::Text),
        delta(0, "Hi"),
        call(1, "a", "f"),
        open(2, PartKind::Refusal),
        delta(2, "No."),
        finish(FinishReason::Stop),
        usage(),
        Event::End,
    ];
    let told = records(&encoded(&events));
    let body = folded(&events).unwrap();
    assert_eq!(body, told.last().unwrap()["response"]);
    assert_eq!(body["output"][1]["arguments"], "{}");
    assert_eq!(body["output"][2]["content"], json!([{"type":"refusal","refusal":"No."}]));
    assert_eq!(folded(&events[..events.len() - 1]), None, "without its end it is no response");
    assert_eq!(folded(&[Event::End]).unwrap()["output"], json!([]));
}

#[test]
fn places_are_dense_and_what_says_nothing_has_none() {
    let told = records(&encoded(&[
        start(),
        open(0, PartKind::Text),
        close(0),
        open(1, PartKind::Thinking),
        delta(1, ""),
        close(1),
        open(2, PartKind::Text),
        call(3, "a", "f"),
        call(4, "b", "f"),
        delta(4, "{\\\"b\\\":"),
        delta(3, "{}"),
        delta(2, "late"),
        delta(4, "2}"),
        close(4),
        close(3),
        close(2),
        Event::End,
    ]));
    let lines = short(&told);
    let added: Vec<_> = lines.iter().filter(|line| line.starts_with("output_item.added")).collect();
    assert_eq!(
        added,
        [
            "output_item.added 0 function_call",
            "output_item.added 1 function_call",
            "output_item.added 2 message"
        ]
    );
    let output = told.last().unwrap()["response"]["output"].as_array().unwrap().clone();
    let ids: Vec<_> = output.iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["fc_r1_0", "fc_r1_1", "msg_r1_2"]);
    assert_eq!(output[1]["arguments"], "{\"b\":2}");
    for record in told.iter().filter(|record| record["item_id"].is_string()) {
        assert_eq!(record["item_id"], ids[record["output_index"].as_u64().unwrap() as usize]);
    }
}

#[test]
fn zero_arguments_are_an_empty_object_however_they_are_spelt() {
    for pieces in [&[][..], &[""], &["{}"], &["null"], &["nu", "ll"], &[" ", "\\n"]] {
        let mut events = vec![start(), call(0, "a", "f")];
        events.extend(pieces.iter().map(|piece| delta(0, piece)));
        events.extend([close(0), Event::End]);
        let lines = short(&records(&encoded(&events)));
        assert_eq!(
            lines[3..5],
            ["function_call_arguments.delta 0 {}", "function_call_arguments.done 0 {}"],
            "{pieces:?}"
        );
        assert_eq!(folded(&events).unwrap()["output"][0]["arguments"], "{}");
    }
    let torn = [start(), call(0, "a", "f"), delta(0, "[1,"), delta(0, "2"), Event::End];
    assert_eq!(folded(&torn).unwrap()["output"][0]["arguments"], "[1,2");
}

#[test]
fn calls_of_free_text_tools_are_told_as_such_whatever_the_backend_calls_them() {
    let wrapped = [
        start(),
        call(0, "a", "apply_patch"),
        delta(0, "{\\\"input\\\": \\\"*** "),
        delta(0, "Begin\\\\n\\\"}"),
        close(0),
        Event::End,
    ];
    let native = [
        start(),
        open(0, PartKind::ToolCall { id: text("a"), name: text("other"), is_custom: true }),
        delta(0, "*** "),
        delta(0, "Begin\\n"),
        close(0),
        Event::End,
    ];
    for (events, deltas) in [(&wrapped, 1), (&native, 2)] {
        let told = records(&encoded(events));
        let is_delta = |record: &&Value| record["type"] == "response.custom_tool_call_input.delta";
        assert_eq!(told.iter().filter(is_delta).count(), deltas);
        let done =
            told.iter().find(|record| record["type"] == "response.custom_tool_call_input.done").unwrap();
        assert_eq!(done["input"], "*** Begin\n");
        let item = &told.last().unwrap()["response"]["output"][0];
        assert_eq!(
            (&item["type"], &item["input"], &item["call_id"]),
            (&json!("custom_tool_call"), &json!("*** Begin\n"), &json!("a"))
        );
        assert!(item["id"].as_str().unwrap().starts_with("ctc_"));
    }
}

#[test]
fn thoughts_keep_their_seal_and_those_that_are_redacted_come_back_as_such() {
    let events = [
        start(),
        open(0, PartKind::Thinking),
        Event::Signature { part: 0, text: text("s1") },
        close(0),
        open(1, PartKind::Redacted(text("eA=="))),
        close(1),
        open(2, PartKind::Thinking),
        delta(2, "open"),
        close(2),
        Event::End,
    ];
    let body = folded(&events).unwrap();
    assert_eq!(
        body["output"],
        json!([
            {"id":"rs_r1_0","type":"reasoning","summary":[],"encrypted_content":"s1"},
            {"id":"rs_redacted_r1_1","type":"reasoning","summary":[],"encrypted_content":"eA=="},
            {"id":"rs_r1_2","type":"reasoning","summary":[{"type":"summary_text","text":"open"}]},
        ])
    );
    let next = json!({"input":body["output"]}).to_string();
    let request = decode::request(next.as_bytes()).unwrap();
    let parts: Vec<String> = request.turns[0].parts.iter().map(|part| format!("{part:?}")).collect();
    assert_eq!(
        parts,
        [
            r#"Thinking { text: "", signature: Some("s1") }"#,
            r#"Redacted("eA==")"#,
            r#"Thinking { text: "open", signature: None }"#
        ]
    );
}

#[test]
fn a_bound_and_a_filter_make_it_incomplete_with_the_reason() {
    for (reason, last, status, why) in [
        (FinishReason::Stop, "response.completed", "completed", Value::Null),
        (FinishReason::ToolCalls, "response.completed", "completed", Value::Null),
        (FinishReason::Length, "response.incomplete", "incomplete", json!({"reason":"max_output_tokens"})),
        (
            FinishReason::ContentFilter,
            "response.incomplete",
            "incomplete",
            json!({"reason":"content_filter"}),
        ),
    ] {
        let told = records(&encoded(&[start(), finish(reason), Event::End]));
        let record = told.last().unwrap();
        assert_eq!(record["type"], last);
        assert_eq!(
            (&record["response"]["status"], &record["response"]["incomplete_details"]),
            (&json!(status), &why)
        );
    }
}

#[test]
fn a_fault_is_told_twice_and_nothing_follows() {
    let record = FaultRecord { message: text("Overloaded"), status: Some(529), ..FaultRecord::default() };
    let told = records(&encoded(&[
        start(),
        open(0, PartKind::Text),
        delta(0, "a"),
        Event::Fault(record),
        Event::Ping,
        Event::End,
    ]));
    let [.., error, failed] = &told[..] else { panic!() };
    assert_eq!(
        (&error["type"], &error["code"], &error["message"]),
        (&json!("error"), &json!("server_is_overloaded"), &json!("Overloaded"))
    );
    assert_eq!(failed["type"], "response.failed");
    let response = &failed["response"];
    assert_eq!(
        (&response["status"], &response["error"]),
        (&json!("failed"), &json!({"code":"server_is_overloaded","message":"Overloaded"}))
    );
    assert_eq!(
        (&response["output"][0]["status"], &response["output"][0]["content"][0]["text"]),
        (&json!("incomplete"), &json!("a"))
    );
}

#[test]
fn a_sign_of_life_is_an_event_that_clients_know() {
    assert_eq!(encoded(&[Event::Ping]), ": ping\n\n");
    let told = records(&encoded(&[start(), Event::Ping, Event::End]));
    assert_eq!(short(&told), ["created", "in_progress", "in_progress", "completed"]);
    assert_eq!(records(&encoded(&[Event::End])).last().unwrap()["response"]["id"], "resp_r1");
}

#[test]
fn what_is_kept_has_a_bound() {
    let mut encoder = encode::Events::new(Context { held_bytes_max: 1000, ..context() });
    let mut out = Vec::new();
    encoder.event(&open(0, PartKind::Text), &mut out).unwrap();
    let more = Event::Delta { part: 0, text: Text::owned(vec![b'x'; 500]) };
    encoder.event(&more, &mut out).unwrap();
    assert_eq!(encoder.event(&more, &mut out), Err(HeldTooMuch));
}

#[test]
fn errors_have_the_code_that_clients_act_on() {
    let code = |status: u16, message: &'static str, code: Option<&'static str>| {
        let record = || FaultRecord {
            message: text(message),
            code: code.map(text),
            status: Some(status),
            ..FaultRecord::default()
        };
        let mut out = Vec::new();
        encode::fault(&record(), status, "r1", &mut out);
        let body: Value = serde_json::from_slice(&out).unwrap();
        let told = records(&encoded(&[Event::Fault(record())]));
        (
            body["error"].clone(),
            told.last().unwrap()["response"]["error"]["code"].as_str().unwrap().to_owned(),
        )
    };
    let (body, told) = code(400, "prompt is too long: 9 tokens > 8 maximum", None);
    assert_eq!(
        (&body["code"], &body["type"], told.as_str()),
        (&json!("context_length_exceeded"), &json!("invalid_request_error"), "context_length_exceeded")
    );
    assert_eq!(body["message"], "prompt is too long: 9 tokens > 8 maximum");
    for (status, given, kind, expected) in [
        (429, None, "rate_limit_error", "rate_limit_exceeded"),
        (429, Some("insufficient_quota"), "rate_limit_error", "insufficient_quota"),
        (503, None, "server_error", "server_is_overloaded"),
        (502, None, "server_error", "server_error"),
        (400, None, "invalid_request_error", "invalid_prompt"),
        (403, None, "permission_error", "server_error"),
    ] {
        let (body, told) = code(status, "no", given);
        assert_eq!((&body["type"], told.as_str()), (&json!(kind), expected));
        assert_eq!(body["code"], given.map_or(Value::Null, Value::from));
    }
    assert_eq!(code(502, "", None).0["message"], "the backend responded with status 502");
}
