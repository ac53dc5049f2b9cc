//! Whole requests and streams each way, word for word, and one test per trap.

use serde_json::Value;

use super::{decode, encode};
use crate::dialect::neutral::{Context, Event, FinishReason, PartKind, Request, Target, Text};
use crate::dialect::usage::Usage;

mod from_backends;
mod from_clients;
mod to_backends;
mod to_clients;

fn context() -> Context {
    Context {
        request_id: "00aa".to_owned(),
        model: "public".to_owned(),
        custom_tools: Vec::new(),
        created: 7,
        include_usage: true,
        held_bytes_max: 4096,
    }
}

fn target(model: &str) -> Target<'_> {
    Target {
        model: model.as_bytes(),
        output_max_default: 4096,
        takes_stream_options: false,
        output_cap_member: "max_tokens",
        takes_extras: false,
    }
}

/// What events say, one line each.
fn told(events: &mut Vec<String>, event: Event<'_>) {
    let text = |text: &Text<'_>| String::from_utf8_lossy(text.inside()).into_owned();
    events.push(match event {
        Event::Start { id, model } => format!("start {} {}", text(&id), text(&model)),
        Event::Open { part, kind } => match kind {
            PartKind::ToolCall { id, name, .. } => format!("open {part} call {} {}", text(&id), text(&name)),
            PartKind::Redacted(data) => format!("open {part} redacted {}", text(&data)),
            kind => format!("open {part} {kind:?}"),
        },
        Event::Delta { part, text: piece } => format!("delta {part} {}", text(&piece)),
        Event::Signature { part, text: seal } => format!("seal {part} {}", text(&seal)),
        Event::Close { part } => format!("close {part}"),
        Event::Finish { reason, .. } => format!("finish {reason:?}"),
        Event::Usage(Usage { input, cached, output, reasoning, .. }) => {
            format!("usage {input} {cached} {output} {reasoning}")
        }
        Event::Ping => "ping".to_owned(),
        Event::Fault(record) => format!("fault {:?} {}", record.status, text(&record.message)),
        Event::End => "end".to_owned(),
    });
}

/// The events of a backend's stream, given by the data of its records.
fn stream(records: &[&str]) -> Vec<String> {
    let (mut events, mut all) = (decode::Events::new(&context()), Vec::new());
    for record in records {
        events.record(None, record.as_bytes(), &mut |event| told(&mut all, event));
    }
    events.end(&mut |event| told(&mut all, event));
    all
}

/// A request of a client's as a backend of this API gets it.
fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", bytes.escape_ascii()))
}

fn encoded(request: &Request<'_>, model: &str) -> (Value, Vec<String>) {
    let mut out = Vec::new();
    let losses = encode::request(request, &target(model), &mut out).unwrap();
    (json(&out), losses.iter().map(str::to_owned).collect())
}

/// Events that say a text, a call and their end.
fn said() -> Vec<Event<'static>> {
    let call = |id: &'static [u8], name: &'static [u8]| PartKind::ToolCall {
        id: Text::escaped(id),
        name: Text::escaped(name),
        is_custom: false,
    };
    vec![
        Event::Start { id: Text::escaped(b"r1"), model: Text::escaped(b"m-1") },
        Event::Open { part: 0, kind: PartKind::Thinking },
        Event::Delta { part: 0, text: Text::escaped(b"hm") },
        Event::Signature { part: 0, text: Text::escaped(b"EqQB+/==") },
        Event::Close { part: 0 },
        Event::Open { part: 1, kind: PartKind::Text },
        Event::Delta { part: 1, text: Text::escaped(br#"Hi \"you\""#) },
        Event::Close { part: 1 },
        Event::Open { part: 2, kind: call(b"c1", b"f") },
        Event::Open { part: 3, kind: call(b"c2", b"g") },
        Event::Delta { part: 2, text: Text::escaped(br#"{\"a\":"#) },
        Event::Delta { part: 2, text: Text::escaped(br#"[1]}"#) },
        Event::Close { part: 2 },
        Event::Close { part: 3 },
        Event::Finish { reason: FinishReason::ToolCalls, stop_sequence: None },
        Event::Usage(Usage::read(br#"{"prompt_tokens":13,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":6}}"#).unwrap().unwrap()),
        Event::End,
    ]
}
