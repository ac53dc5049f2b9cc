//! What clients are told.

use super::*;

fn streamed(events: &[Event<'_>]) -> String {
    let (mut encoder, mut out) = (encode::Events::new(context()), Vec::new());
    events.iter().for_each(|event| encoder.event(event, &mut out).unwrap());
    String::from_utf8(out).unwrap()
}

const TAIL: &str = r#","modelVersion":"m-1","responseId":"r1"}"#;

#[test]
fn a_stream_is_lines_of_data_and_nothing_else() {
    let piece = |part: &str| {
        format!(r#"data: {{"candidates":[{{"content":{{"role":"model","parts":[{part}]}},"index":0}}]{TAIL}"#)
    };
    let expected = [
        piece(r#"{"text":"hm","thought":true}"#),
        piece(r#"{"text":"","thought":true,"thoughtSignature":"cmluZ3dheTp0OkVxUUIrLz09"}"#),
        piece(r#"{"text":"Hi \"you\""}"#),
        piece(r#"{"functionCall":{"id":"c1","name":"f","args":{"a":[1]}}}"#),
        piece(r#"{"functionCall":{"id":"c2","name":"g","args":{}}}"#),
        format!(
            r#"data: {{"candidates":[{{"content":{{"role":"model","parts":[{{"text":""}}]}},"finishReason":"STOP","index":0}}],"usageMetadata":{{"promptTokenCount":13,"candidatesTokenCount":4,"cachedContentTokenCount":2,"thoughtsTokenCount":6,"totalTokenCount":23}}{TAIL}"#
        ),
    ];
    assert_eq!(streamed(&said()), expected.map(|record| record + "\n\n").concat());
}

#[test]
fn line_breaks_in_arguments_end_no_line_of_the_stream() {
    let events = [
        Event::Open {
            part: 0,
            kind: PartKind::ToolCall {
                id: Text::escaped(b"c1"),
                name: Text::escaped(b"f"),
                is_custom: false,
            },
        },
        Event::Delta { part: 0, text: Text::escaped(br#"{\n  \"a\":\r\n \"x\\n\"\n}"#) },
        Event::Close { part: 0 },
    ];
    let told = streamed(&events);
    assert!(told.contains(r#""args":{  "a": "x\n"}"#), "{told}");
    assert_eq!(told.matches('\n').count(), 2, "one record: {told}");
}

#[test]
fn a_body_says_what_its_stream_says() {
    let mut body = encode::Body::new(context());
    said().iter().for_each(|event| body.event(event).unwrap());
    let mut out = Vec::new();
    assert!(body.finish(&mut out));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        concat!(
            r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"hm","thought":true},"#,
            r#"{"text":"","thought":true,"thoughtSignature":"cmluZ3dheTp0OkVxUUIrLz09"},{"text":"Hi \"you\""},"#,
            r#"{"functionCall":{"id":"c1","name":"f","args":{"a":[1]}}},{"functionCall":{"id":"c2","name":"g","args":{}}}]},"#,
            r#""finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":13,"candidatesTokenCount":4,"#,
            r#""cachedContentTokenCount":2,"thoughtsTokenCount":6,"totalTokenCount":23},"modelVersion":"m-1","responseId":"r1"}"#
        )
    );
    let mut cut = encode::Body::new(context());
    said()[..14].iter().for_each(|event| cut.event(event).unwrap());
    assert!(!cut.finish(&mut Vec::new()));
}

#[test]
fn pings_are_silent_and_faults_are_the_last_record() {
    let fault = Event::Fault(crate::dialect::neutral::FaultRecord {
        message: Text::escaped(b"busy"),
        status: Some(503),
        ..Default::default()
    });
    let events = [Event::Ping, said().remove(0), fault, Event::End];
    assert_eq!(
        streamed(&events),
        concat!(
            r#"data: {"error":{"code":503,"message":"busy","status":"UNAVAILABLE","details":["#,
            r#"{"@type":"type.googleapis.com/google.rpc.RequestInfo","requestId":"00aa"}]}}"#,
            "\n\n"
        )
    );
}

#[test]
fn arguments_of_calls_are_held_up_to_the_bound() {
    let mut encoder = encode::Events::new(context());
    let mut out = Vec::new();
    for event in &said()[..9] {
        encoder.event(event, &mut out).unwrap();
    }
    let long = "x".repeat(5000);
    let delta = Event::Delta { part: 2, text: Text::escaped(long.as_bytes()) };
    assert!(encoder.event(&delta, &mut out).is_err());
    let mut body = encode::Body::new(context());
    said()[..9].iter().for_each(|event| body.event(event).unwrap());
    assert!(body.event(&delta).is_err());
}

#[test]
fn what_was_told_reads_the_same() {
    let text = streamed(&said());
    let records: Vec<&str> = text.split("\n\n").filter_map(|record| record.strip_prefix("data: ")).collect();
    let all = stream(&records);
    assert_eq!(all[0], "start r1 m-1");
    let told = all.join("\n");
    for said in [
        "delta 0 hm",
        r#"Hi \"you\""#,
        "call c1 f",
        r#"{\"a\":[1]}"#,
        "call c2 g",
        "usage 13 2 10 6",
        "finish ToolCalls\nend",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
}

#[test]
fn a_status_has_googles_word() {
    for (status, word) in [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (413, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (502, "INTERNAL"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (529, "UNAVAILABLE"),
    ] {
        let mut out = Vec::new();
        let record = decode::fault(status, br#"{"error":{"message":"m"}}"#);
        encode::fault(&record, status, "id", &mut out);
        let told = json(&out);
        assert_eq!(
            (told["error"]["status"].as_str(), told["error"]["code"].as_u64()),
            (Some(word), Some(status.into()))
        );
        assert_eq!(told["error"]["message"], "m");
    }
}
