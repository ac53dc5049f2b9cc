//! What backends send.

use super::*;
use crate::wire::noise::Noise;

const STREAM: [&str; 4] = [
    r#"{"candidates": [{"content": {"parts": [{"text": "Let me ","thought": true}],"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 10,"totalTokenCount": 10},"modelVersion": "gemini-x","responseId": "r1"}"#,
    r#"{"candidates":[{"content":{"parts":[{"text":"see.","thought":true},{"text":"Hello \"you\""}],"role":"model"}}]}"#,
    r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":"b\"c"}},"thoughtSignature":"AB+/cd=="},{"functionCall":{"name":"f"}},{"functionCall":{"id":"own","name":"g","args":{}}}]}}]}"#,
    r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":4,"thoughtsTokenCount":6,"toolUsePromptTokenCount":3,"cachedContentTokenCount":2,"totalTokenCount":23}}"#,
];

#[test]
fn a_stream_says_its_thoughts_text_and_calls_in_order() {
    assert_eq!(
        stream(&STREAM),
        [
            "start r1 gemini-x",
            "open 0 Thinking",
            "delta 0 Let me ",
            "usage 10 0 0 0",
            "delta 0 see.",
            "close 0",
            "open 1 Text",
            r#"delta 1 Hello \"you\""#,
            "close 1",
            "open 2 call call_00aa_1_gsig_AB-_cd f",
            r#"delta 2 {\"a\":\"b\\\"c\"}"#,
            "close 2",
            "open 3 call call_00aa_2 f",
            "delta 3 {}",
            "close 3",
            "open 4 call own g",
            "delta 4 {}",
            "close 4",
            "usage 13 2 10 6",
            "finish ToolCalls",
            "end",
        ]
    );
}

#[test]
fn a_whole_response_says_the_same() {
    let body = r#"{"candidates":[{"content":{"parts":[{"text":"hm","thought":true},{"text":"Hi"},{"functionCall":{"name":"f"}}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2,"totalTokenCount":3},"responseId":"r"}"#;
    let expected = [
        "start r ",
        "open 0 Thinking",
        "delta 0 hm",
        "close 0",
        "open 1 Text",
        "delta 1 Hi",
        "close 1",
        "open 2 call call_00aa_1 f",
        "delta 2 {}",
        "close 2",
        "usage 1 0 2 0",
        "finish ToolCalls",
        "end",
    ];
    for body in [body.to_owned(), format!(" [ {body} ] ")] {
        let mut all = Vec::new();
        decode::body(&context(), body.as_bytes(), &mut |event| told(&mut all, event)).unwrap();
        assert_eq!(all, expected, "{body}");
    }
    for other in ["{}", "[]", r#"{"error":{"code":500}}"#, r#"{"candidates":[]}"#, r#"{"choices":[]}"#, "x"] {
        let unfit = decode::body(&context(), other.as_bytes(), &mut |_| {});
        assert!(unfit.is_err(), "{other}");
    }
}

#[test]
fn without_a_reason_to_finish_a_stream_was_cut() {
    for cut in [&STREAM[..3], &STREAM[..1], &[]] {
        assert!(!stream(cut).iter().any(|event| event == "end" || event.starts_with("finish")), "{cut:?}");
    }
}

#[test]
fn a_blocked_prompt_is_a_filter_without_content() {
    let blocked = r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":4}}"#;
    assert_eq!(stream(&[blocked]), ["start  ", "usage 4 0 0 0", "finish ContentFilter", "end"]);
    let mut all = Vec::new();
    decode::body(&context(), blocked.as_bytes(), &mut |event| told(&mut all, event)).unwrap();
    assert_eq!(all, stream(&[blocked]));
}

#[test]
fn reasons_are_of_the_closed_list() {
    for (reason, expected) in [
        ("STOP", "Stop"),
        ("MAX_TOKENS", "Length"),
        ("SAFETY", "ContentFilter"),
        ("RECITATION", "ContentFilter"),
        ("PROHIBITED_CONTENT", "ContentFilter"),
        ("OTHER", "Stop"),
        ("NEXT_YEARS", "Stop"),
    ] {
        let record = format!(r#"{{"candidates":[{{"finishReason":"{reason}"}}]}}"#);
        assert_eq!(stream(&[&record]), ["start  ", &format!("finish {expected}"), "end"], "{reason}");
    }
}

#[test]
fn a_malformed_call_is_an_error_unless_something_was_said() {
    let finish = r#""finishReason":"MALFORMED_FUNCTION_CALL","finishMessage":"no such tool""#;
    let thought = r#"{"text":"hm","thought":true}"#;
    for parts in ["", thought] {
        let record = format!(r#"{{"candidates":[{{"content":{{"parts":[{parts}]}},{finish}}}]}}"#);
        let last = stream(&[&record]).pop().unwrap();
        assert!(
            last.starts_with("fault Some(502) ") && last.contains("MALFORMED_FUNCTION_CALL: no such tool"),
            "{last}"
        );
        assert!(decode::body(&context(), record.as_bytes(), &mut |_| {}).is_err());
    }
    let record = format!(r#"{{"candidates":[{{"content":{{"parts":[{{"text":"a"}}]}},{finish}}}]}}"#);
    assert_eq!(stream(&[&record])[4..], ["finish Stop", "end"]);
}

#[test]
fn a_reason_with_every_piece_ends_nothing_before_the_body() {
    let piece = |text: &str| {
        format!(r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}]}},"finishReason":"STOP"}}]}}"#)
    };
    let all = stream(&[&piece("a"), &piece("b")]);
    assert_eq!(all, ["start  ", "open 0 Text", "delta 0 a", "delta 0 b", "close 0", "finish Stop", "end"]);
}

#[test]
fn a_seal_over_text_follows_it() {
    let record = r#"{"candidates":[{"content":{"parts":[{"text":"Hi"},{"text":"","thoughtSignature":"QUI="}]},"finishReason":"STOP"}]}"#;
    let all = stream(&[record]);
    let expected =
        ["open 0 Text", "delta 0 Hi", "close 0", "open 1 Thinking", "seal 1 google.QUI=", "close 1"];
    assert_eq!(all[1..7], expected);
}

#[test]
fn an_error_is_the_last_event() {
    let error = r#"{"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}"#;
    for record in [error.to_owned(), format!("[{error}]")] {
        let all = stream(&[STREAM[0], &record, STREAM[3]]);
        assert_eq!(all.last().unwrap(), "fault Some(503) overloaded", "{record}");
    }
}

#[test]
fn what_is_not_known_has_no_effect() {
    let unknown = r#"{"candidates":[{"content":{"parts":[{"executableCode":{"code":"x"}},{"new":1}]},"groundingMetadata":{}},
        {"index":1,"content":{"parts":[{"text":"other"}]}}],"new":[1]}"#;
    assert_eq!(stream(&["null", "[DONE]", "{}", "", unknown]), ["start  "]);
    assert_eq!(stream(&["{", unknown]), ["fault Some(502) the backend sent a record that is not JSON"]);
}

#[test]
fn errors_keep_their_words_and_status() {
    let too_long = "The input token count (9) exceeds the maximum number of tokens allowed (8).";
    for (body, message, status, code) in [
        (
            r#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}"#,
            "m",
            429,
            Some("RESOURCE_EXHAUSTED"),
        ),
        (r#"[{"error":{"message":"m","status":"UNAVAILABLE"}}]"#, "m", 503, Some("UNAVAILABLE")),
        (
            r#"{"error":{"code":400,"message":"m","details":[{"@type":"x"},{"reason":"API_KEY_INVALID"}]}}"#,
            "m",
            400,
            Some("API_KEY_INVALID"),
        ),
        (r#"{"error":"m"}"#, "m", 418, None),
        ("<html>", "", 418, None),
        ("", "", 418, None),
    ] {
        let record = decode::fault(418, body.as_bytes());
        assert!(record.message.is(message), "{body}");
        assert_eq!(record.code.as_ref().and_then(|code| code.to_plain()).as_deref(), code, "{body}");
        let mut all = Vec::new();
        decode::Events::new(&context()).record(None, body.as_bytes(), &mut |event| told(&mut all, event));
        if body.contains("error") && status != 418 {
            assert_eq!(all, [format!("fault Some({status}) m")]);
        }
    }
    let body = format!(r#"{{"error":{{"code":400,"message":"{too_long}"}}}}"#);
    assert!(decode::fault(400, body.as_bytes()).code.unwrap().is("context_length_exceeded"));
}

#[test]
fn changed_bytes_never_panic_and_parts_stay_in_order() {
    let mut noise = Noise::new(0x9e37_79b9);
    for round in 0..20_000 {
        let mut events = decode::Events::new(&context());
        let (mut open, mut next, mut over) = (Vec::new(), 0, false);
        let mut sink = |event: Event<'_>| {
            assert!(!over, "round {round}: an event after the end");
            match event {
                Event::Open { part, .. } => {
                    assert_eq!(part, next, "round {round}");
                    next += 1;
                    open.push(part);
                }
                Event::Delta { part, .. } | Event::Signature { part, .. } => assert!(open.contains(&part)),
                Event::Close { part } => open.retain(|other| *other != part),
                Event::End => {
                    assert!(open.is_empty());
                    over = true;
                }
                Event::Fault(_) => over = true,
                _ => {}
            }
        };
        for record in STREAM {
            let record = noise.mutate(record.as_bytes());
            events.record(None, &record, &mut sink);
        }
        events.end(&mut sink);
        let mutated = noise.mutate(STREAM[3].as_bytes());
        let _ = decode::body(&context(), &mutated, &mut |_| {});
        let _ = decode::fault(500, &mutated);
    }
}
