//! Whole requests and streams each way, then one test for each trap.

mod from_backends;
mod from_clients;
mod to_backends;
mod to_clients;

use super::{decode, encode};
use crate::dialect::neutral::{Context, Event, FaultRecord, PartKind, Request, Target, Text};
use crate::wire::noise::Noise;
use serde_json::Value;

fn context() -> Context {
    Context {
        request_id: "r1".into(),
        model: "team-model".into(),
        custom_tools: vec![Text::escaped(b"apply_patch")],
        created: 1_700_000_000,
        include_usage: false,
        held_bytes_max: 1 << 20,
    }
}

fn target() -> Target<'static> {
    Target {
        model: b"\"gpt-oss-120b\"",
        output_max_default: 4096,
        takes_stream_options: true,
        output_cap_member: "max_tokens",
        takes_extras: false,
    }
}

/// An event in one line.
fn line(event: &Event<'_>) -> String {
    let text = |text: &Text<'_>| String::from_utf8_lossy(text.inside()).into_owned();
    match event {
        Event::Start { id, model } => format!("start {} {}", text(id), text(model)),
        Event::Open { part, kind } => match kind {
            PartKind::Text => format!("open {part} text"),
            PartKind::Refusal => format!("open {part} refusal"),
            PartKind::Thinking => format!("open {part} thinking"),
            PartKind::Redacted(data) => format!("open {part} redacted {}", text(data)),
            PartKind::ToolCall { id, name, is_custom } => {
                format!(
                    "open {part} {} {} {}",
                    if *is_custom { "custom" } else { "call" },
                    text(id),
                    text(name)
                )
            }
        },
        Event::Delta { part, text: piece } => format!("delta {part} {}", text(piece)),
        Event::Signature { part, text: seal } => format!("signature {part} {}", text(seal)),
        Event::Close { part } => format!("close {part}"),
        Event::Finish { reason, .. } => format!("finish {reason:?}"),
        Event::Usage(usage) => {
            format!("usage {} {} {} {}", usage.input, usage.cached, usage.output, usage.reasoning)
        }
        Event::Ping => "ping".into(),
        Event::Fault(record) => {
            let code = record.code.as_ref().map_or(String::new(), text);
            format!("fault {} {code} {:?}", text(&record.message), record.status)
        }
        Event::End => "end".into(),
    }
}

/// Decodes records, each its data.
fn decoded(records: &[&str]) -> (Vec<String>, bool) {
    let mut events = decode::Events::new(&context());
    let mut lines = Vec::new();
    records.iter().for_each(|data| {
        events.record(None, data.as_bytes(), &mut |event| lines.push(line(&event)));
    });
    events.end(&mut |event| lines.push(line(&event)));
    (lines, events.is_whole())
}

fn text(inside: &'static str) -> Text<'static> {
    Text::escaped(inside.as_bytes())
}

fn encoded(events: &[Event<'_>]) -> String {
    let mut encoder = encode::Events::new(context());
    let mut out = Vec::new();
    events.iter().for_each(|event| encoder.event(event, &mut out).unwrap());
    String::from_utf8(out).unwrap()
}

/// The data of the records of a stream; each has the event line of its type, and they are numbered.
fn records(stream: &str) -> Vec<Value> {
    let records: Vec<Value> = stream
        .split_terminator("\n\n")
        .map(|record| {
            let (name, data) = record.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!(data["type"], name);
            data
        })
        .collect();
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record["sequence_number"], index);
    }
    records
}

fn folded(events: &[Event<'_>]) -> Option<Value> {
    let mut body = encode::Body::new(context());
    events.iter().for_each(|event| body.event(event).unwrap());
    let mut out = Vec::new();
    body.finish(&mut out).then(|| serde_json::from_slice(&out).unwrap())
}

fn losses_of(request: &Request<'_>) -> Vec<String> {
    request.losses.iter().map(str::to_owned).collect()
}

#[test]
fn what_a_stream_says_survives_the_way_there_and_back() {
    let mut decoder = decode::Events::new(&context());
    let mut encoder = encode::Events::new(context());
    let (mut out, mut came) = (Vec::new(), Vec::new());
    for record in from_backends::STREAM {
        decoder.record(None, record.as_bytes(), &mut |event| {
            came.push(line(&event));
            encoder.event(&event, &mut out).unwrap();
        });
    }
    assert!(decoder.is_whole());
    let stream = String::from_utf8(out).unwrap();
    records(&stream);
    let told: Vec<&str> =
        stream.split_terminator("\n\n").map(|record| record.split_once("\ndata: ").unwrap().1).collect();
    let (went, whole) = decoded(&told);
    assert!(whole);
    assert_eq!(came, went);
    let last = told.last().unwrap();
    let body = &last[last.find("{\"id\"").unwrap()..last.len() - 1];
    let mut lines = Vec::new();
    decode::body(&context(), body.as_bytes(), &mut |event| lines.push(line(&event))).unwrap();
    // Calls may be told at the same time there, and one after the other here.
    let joined = |lines: &[String]| {
        let mut parts = std::collections::BTreeMap::<String, String>::new();
        for line in lines {
            let mut words = line.splitn(3, ' ');
            let (kind, part) = (words.next().unwrap(), words.next().unwrap_or_default());
            let rest = words.next().unwrap_or_default();
            parts.entry(format!("{kind} {part}")).or_default().push_str(rest);
        }
        parts
    };
    assert_eq!(joined(&lines), joined(&came), "the final response says the same");
}

#[test]
fn no_bytes_make_it_panic_and_what_is_told_stays_sound() {
    let mut noise = Noise::new(11);
    for _ in 0..2_000 {
        let mut decoder = decode::Events::new(&context());
        let mut encoder = encode::Events::new(context());
        let mut out = Vec::new();
        for record in from_backends::STREAM {
            let data =
                if noise.below(8) == 0 { noise.mutate(record.as_bytes()) } else { record.as_bytes().into() };
            decoder.record(Some(b"response.x"), &data, &mut |event| encoder.event(&event, &mut out).unwrap());
        }
        records(&String::from_utf8_lossy(&out));
    }
    for _ in 0..3_000 {
        let body = noise.mutate(from_clients::REQUEST.as_bytes());
        if let Ok(request) = decode::request(&body) {
            let mut out = Vec::new();
            if encode::request(&request, &target(), &mut out).is_ok() {
                assert!(serde_json::from_str::<Value>(&String::from_utf8_lossy(&out)).is_ok());
            }
        }
        let body = noise.mutate(from_backends::RESPONSE.as_bytes());
        _ = decode::body(&context(), &body, &mut |_| {});
        let record: FaultRecord<'_> = decode::fault(400, &body);
        let mut out = Vec::new();
        encode::fault(&record, 400, "r1", &mut out);
        assert!(serde_json::from_str::<Value>(&String::from_utf8_lossy(&out)).is_ok());
    }
}
