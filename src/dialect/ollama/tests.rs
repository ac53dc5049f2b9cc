//! One whole request and one whole stream each way, then one test per trap.

mod from_backends;
mod to_backends;
mod to_clients;

use super::{decode, encode, generate};
use crate::dialect::neutral::{Context, Event, FinishReason, Target};
use crate::dialect::usage::Usage;
use crate::wire::noise::Noise;

fn context() -> Context {
    Context {
        request_id: "00c0ffee".to_owned(),
        model: "m".to_owned(),
        custom_tools: Vec::new(),
        created: 1_700_000_000,
        include_usage: true,
        held_bytes_max: 1 << 20,
    }
}

const TARGET: Target<'static> = Target {
    model: b"\"qwen3:8b\"",
    output_max_default: 4096,
    takes_stream_options: false,
    output_cap_member: "max_tokens",
    takes_extras: true,
};

/// What events say: texts, thoughts and calls in their order, then how it ended.
#[derive(PartialEq, Debug, Default)]
struct Told {
    parts: Vec<String>,
    finish: Option<FinishReason>,
    usage: Option<(u64, u64)>,
    fault: Option<String>,
    is_whole: bool,
}

impl Told {
    fn note(&mut self, event: &Event<'_>) {
        use crate::dialect::neutral::PartKind;
        match event {
            Event::Open { kind, .. } => self.parts.push(match kind {
                PartKind::Text => "text:".to_owned(),
                PartKind::Refusal => "refusal:".to_owned(),
                PartKind::Thinking => "thinking:".to_owned(),
                PartKind::Redacted(_) => "redacted:".to_owned(),
                PartKind::ToolCall { id, name, .. } => {
                    format!("{}={}", id.to_plain().unwrap_or_default(), name.to_plain().unwrap_or_default())
                }
            }),
            Event::Delta { part, text } => {
                self.parts[*part].push_str(&String::from_utf8_lossy(text.inside()));
            }
            Event::Finish { reason, .. } => self.finish = Some(*reason),
            Event::Usage(Usage { input, output, .. }) => self.usage = Some((*input, *output)),
            Event::Fault(record) => {
                self.fault = Some(record.message.to_plain().unwrap_or_default().into_owned())
            }
            Event::End => self.is_whole = true,
            Event::Start { .. } | Event::Signature { .. } | Event::Close { .. } | Event::Ping => {}
        }
    }
}

/// What the lines of a stream say.
fn lines(stream: &str) -> Told {
    let (mut told, mut events) = (Told::default(), decode::Events::new(&context()));
    for line in stream.lines() {
        events.record(None, line.as_bytes(), &mut |event| told.note(&event));
    }
    events.end(&mut |event| told.note(&event));
    assert_eq!(told.is_whole, events.is_whole());
    told
}

/// What a client is told of a backend's stream: the same lines once more.
fn retold(stream: &str, is_generate: bool) -> String {
    let (mut out, mut events) = (Vec::new(), decode::Events::new(&context()));
    let mut chat = encode::Events::new(context());
    let mut generate = generate::encode::Events::new(context());
    for line in stream.lines() {
        events.record(None, line.as_bytes(), &mut |event| {
            match is_generate {
                true => generate.event(&event, &mut out),
                false => chat.event(&event, &mut out),
            }
            .unwrap();
        });
    }
    String::from_utf8(out).unwrap()
}

const STREAM: &str = concat!(
    r#"{"model":"qwen3","created_at":"2023-11-14T22:13:20Z","message":{"role":"assistant","content":"","thinking":"Let me"},"done":false}"#,
    "\n",
    r#"{"model":"qwen3","created_at":"2023-11-14T22:13:20Z","message":{"role":"assistant","content":"","thinking":" see"},"done":false}"#,
    "\n",
    r#"{"model":"qwen3","created_at":"2023-11-14T22:13:20Z","message":{"role":"assistant","content":"Hi \"é\"\n"},"done":false}"#,
    "\n",
    r#"{"model":"qwen3","created_at":"2023-11-14T22:13:20Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"c1","function":{"index":0,"name":"ls","arguments":{"at":"a\\b"}}}]},"done":false}"#,
    "\n",
    r#"{"model":"qwen3","created_at":"2023-11-14T22:13:20Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_00c0ffee3","function":{"index":1,"name":"pwd","arguments":{}}}]},"done":false}"#,
    "\n",
    r#"{"model":"qwen3","created_at":"2023-11-14T22:13:20Z","message":{"role":"assistant","content":""},"done_reason":"stop","done":true,"prompt_eval_count":26,"eval_count":9}"#,
    "\n",
);

#[test]
fn a_stream_that_is_told_again_is_the_same() {
    assert_eq!(retold(STREAM, false), STREAM);
}

#[test]
fn mutated_streams_and_requests_never_panic() {
    let requests = [to_backends::CHAT, to_backends::GENERATE];
    let mut noise = Noise::new(0x0113_a3a1);
    for _ in 0..20_000 {
        let stream = noise.mutate(STREAM.as_bytes());
        let mut events = decode::Events::new(&context());
        let (mut out, mut chat) = (Vec::new(), encode::Events::new(context()));
        for line in stream.split(|byte| *byte == b'\n') {
            events.record(None, line, &mut |event| chat.event(&event, &mut out).unwrap_or_default());
        }
        let _ = decode::body(&context(), &stream, &mut |_| {});
        let _ = decode::fault(500, &stream);
        assert!(
            out.split(|byte| *byte == b'\n').all(|line| {
                line.is_empty()
                    || serde_json::from_slice::<serde_json::Value>(line).is_ok()
                    || str::from_utf8(line).is_err()
            }),
            "{}",
            out.escape_ascii()
        );
        for request in requests {
            let body = noise.mutate(request.as_bytes());
            for read in [decode::request(&body), decode::generate_request(&body)].into_iter().flatten() {
                let _ = encode::request(&read, &TARGET, &mut Vec::new());
            }
        }
    }
}
