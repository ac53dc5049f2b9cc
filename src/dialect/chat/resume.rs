//! A streamed chat completion that was cut, and how another engine goes on with it.
//!
//! An engine that is given the conversation with what has been said so far as the assistant's last message, and
//! `continue_final_message`, says what comes next. vLLM and SGLang have the member (their OpenAI-compatible servers' protocol);
//! llama.cpp goes on with an assistant's last message without being asked.

use crate::dialect::Api;
use crate::dialect::neutral::Object;
use crate::units::Span;
use crate::wire::json::{self, ValueKind};
use crate::wire::sse;

/// Whether streams of this API can be gone on with.
pub fn is_for(api: Api) -> bool {
    api == Api::Chat
}

/// What a client has of a stream, event by event.
#[derive(Debug, Default)]
pub struct Said {
    /// The identity of the response, by its first event.
    head: Option<Head>,
    /// What was said, as it stands between the quotes of a JSON string.
    text: Vec<u8>,
    /// Events that said something: an engine sends one for each token.
    tokens: u64,
    /// It came to its own end.
    is_over: bool,
    /// Something was said that cannot be gone on with.
    is_lost: bool,
}

/// Members that are the same in all events of a response, as they are written.
#[derive(Clone, Debug)]
struct Head {
    id: Vec<u8>,
    created: Vec<u8>,
    model: Vec<u8>,
}

impl Said {
    /// Notes events that the client is sent.
    pub fn note(&mut self, events: &[u8]) {
        if self.is_lost || self.is_over {
            return;
        }
        let mut end = 0;
        for span in sse::events(events) {
            end = span.end;
            if self.event(span.of(events)).is_none() {
                self.is_lost = true;
                return;
            }
        }
        self.is_lost |= end < events.len() || self.text.len() > TEXT_BYTES_MAX;
    }

    /// Notes one event; `None` if it cannot be gone on with.
    fn event(&mut self, bytes: &[u8]) -> Option<()> {
        let event = sse::event(bytes);
        let Some(data) = event.data else { return Some(()) };
        if sse::is_done(bytes) {
            self.is_over = true;
            return Some(());
        }
        let chunk = Object::read(data).ok().filter(|_| event.data_lines == 1)?;
        if chunk.get("error").is_some() {
            return None;
        }
        if self.head.is_none() {
            let member = |name| chunk.get(name).map(<[u8]>::to_vec);
            let head = Head { id: member("id")?, created: member("created")?, model: member("model")? };
            self.head = Some(head);
        }
        for choice in chunk.elements("choices") {
            let choice = Object::read(choice.ok()?.0).ok()?;
            if choice.unsigned("index").unwrap_or(0) != 0 {
                return None;
            }
            if let Some(delta) = choice.object("delta").ok()? {
                self.delta(&delta)?;
            }
            self.is_over |= choice.get("finish_reason").is_some();
        }
        Some(())
    }

    fn delta(&mut self, delta: &Object<'_>) -> Option<()> {
        for (key, value, kind) in delta.iter() {
            match kind {
                _ if json::key_is(key, "role") => {}
                ValueKind::String if json::key_is(key, "content") => {
                    let inside = &value[1..value.len() - 1];
                    self.text.extend_from_slice(inside);
                    self.tokens += u64::from(!inside.is_empty());
                }
                // Calls of tools, thoughts, sounds: no engine can be told to go on with half of one.
                ValueKind::Array | ValueKind::Object if is_blank(value) => {}
                ValueKind::String if value == b"\"\"" => {}
                _ => return None,
            }
        }
        Some(())
    }

    /// Whether another engine can go on with it.
    pub fn can_go_on(&self) -> bool {
        !self.is_lost && !self.is_over
    }

    /// The request that has an engine go on where the client's response was cut; `None` if none can be made of `payload`, the
    /// request for the whole response.
    pub fn continued(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let request = Object::read(payload).ok()?;
        if !is_continuable(&request) {
            return None;
        }
        if self.text.is_empty() {
            return Some(payload.to_vec());
        }
        let place = |raw: &[u8]| {
            let start = raw.as_ptr() as usize - payload.as_ptr() as usize;
            Span::new(start, start + raw.len())
        };
        let messages = place(request.of_kind("messages", ValueKind::Array)?);
        let mut message = Vec::with_capacity(self.text.len() + 64);
        if !is_blank(messages.of(payload)) {
            message.push(b',');
        }
        message.extend_from_slice(b"{\"role\":\"assistant\",\"content\":\"");
        message.extend_from_slice(&self.text);
        message.extend_from_slice(b"\"}");
        let close = payload.iter().rposition(|byte| *byte == b'}')?;
        let mut edits: Vec<(Span, Vec<u8>)> = vec![
            (Span::new(messages.end - 1, messages.end - 1), message),
            (
                Span::new(close, close),
                b",\"continue_final_message\":true,\"add_generation_prompt\":false".to_vec(),
            ),
        ];
        for name in ["max_tokens", "max_completion_tokens", "min_tokens"] {
            if let (Some(raw), Some(given)) =
                (request.of_kind(name, ValueKind::Number), request.unsigned(name))
            {
                let least = u64::from(name != "min_tokens");
                let left = given.saturating_sub(self.tokens).max(least).to_string().into_bytes();
                edits.push((place(raw), left));
            }
        }
        edits.sort_by_key(|(span, _)| span.start);
        let edits: Vec<_> = edits.iter().map(|(span, text)| (*span, text.as_slice())).collect();
        let mut out = Vec::with_capacity(payload.len() + self.text.len() + 128);
        json::splice(&mut out, payload, &edits);
        Some(out)
    }

    /// What makes the events of the engine that goes on those of the same response.
    pub fn seam(&self) -> Seam {
        Seam { head: self.head.clone(), tokens: self.tokens }
    }
}

/// Whether an engine that goes on says what this request asks for. A grammar would begin anew.
fn is_continuable(request: &Object<'_>) -> bool {
    let is_plain = |name: &str| match name {
        "n" | "best_of" => request.unsigned(name).is_none_or(|count| count == 1),
        "response_format" => match request.object(name) {
            Ok(Some(format)) => format.says("type", "text"),
            other => matches!(other, Ok(None)),
        },
        _ => request.get(name).is_none(),
    };
    let mut last = None;
    for message in request.elements("messages") {
        let Ok((message, _)) = message else { return false };
        last = Some(message);
    }
    let is_answered =
        last.is_some_and(|last| Object::read(last).is_ok_and(|last| last.says("role", "assistant")));
    !is_answered && UNCONTINUABLE.iter().all(|name| is_plain(name))
}

/// Members that make a response one that cannot be gone on with, but for the plainest values.
const UNCONTINUABLE: [&str; 14] = [
    "n",
    "best_of",
    "response_format",
    "continue_final_message",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "regex",
    "ebnf",
    "grammar",
    "json_schema",
    "audio",
];

/// Whether an array or object has nothing in it.
fn is_blank(value: &[u8]) -> bool {
    value.iter().all(|byte| b"[]{} \t\r\n".contains(byte))
}

/// Makes the events of an engine that goes on with a response those of that response.
#[derive(Debug)]
pub struct Seam {
    head: Option<Head>,
    /// Tokens said before it, which the engine counts with its prompt.
    tokens: u64,
}

impl Seam {
    /// Appends whole events as the client gets them.
    pub fn events(&self, events: &[u8], out: &mut Vec<u8>) {
        let mut at = 0;
        for span in sse::events(events) {
            self.event(span.of(events), out);
            at = span.end;
        }
        out.extend_from_slice(&events[at..]);
    }

    fn event(&self, event: &[u8], out: &mut Vec<u8>) {
        let Some(data) = sse::data_spans(event).next().filter(|_| sse::event(event).data_lines == 1) else {
            return out.extend_from_slice(event);
        };
        let (Some(head), Ok(chunk)) = (&self.head, Object::read(data.of(event))) else {
            return out.extend_from_slice(event);
        };
        if begins(&chunk) {
            return; // the client has seen the beginning
        }
        let mut edits: Vec<(Span, Vec<u8>)> = Vec::new();
        let mut edit = |raw: &[u8], text: Vec<u8>| {
            let start = raw.as_ptr() as usize - event.as_ptr() as usize;
            edits.push((Span::new(start, start + raw.len()), text));
        };
        for (name, value) in [("id", &head.id), ("created", &head.created), ("model", &head.model)] {
            if let Some(raw) = chunk.get(name) {
                edit(raw, value.clone());
            }
        }
        if let Ok(Some(usage)) = chunk.object("usage") {
            let input = usage.unsigned("prompt_tokens");
            let moved = input.map_or(0, |input| self.tokens.min(input));
            for (name, by) in [("prompt_tokens", -(moved as i64)), ("completion_tokens", moved as i64)] {
                if let (Some(raw), Some(count)) =
                    (usage.of_kind(name, ValueKind::Number), usage.unsigned(name))
                {
                    edit(raw, count.saturating_add_signed(by).to_string().into_bytes());
                }
            }
        }
        edits.sort_by_key(|(span, _)| span.start);
        let edits: Vec<_> = edits.iter().map(|(span, text)| (*span, text.as_slice())).collect();
        json::splice(out, event, &edits);
    }
}

/// Whether an event says only that the assistant's message begins.
fn begins(chunk: &Object<'_>) -> bool {
    let mut choices = chunk.elements("choices");
    let (Some(Ok((choice, _))), None) = (choices.next(), choices.next()) else { return false };
    let Ok(choice) = Object::read(choice) else { return false };
    let Ok(Some(delta)) = choice.object("delta") else { return false };
    choice.get("finish_reason").is_none()
        && chunk.get("usage").is_none()
        && delta.get("role").is_some()
        && delta
            .iter()
            .all(|(key, value, _)| json::key_is(key, "role") || value == b"\"\"" || is_blank(value))
}

/// Where the first event begins that says that the response has failed.
pub fn failure_at(events: &[u8]) -> Option<usize> {
    let fails = |span: &Span| {
        let event = sse::event(span.of(events));
        let data = event.data.filter(|data| memchr::memmem::find(data, b"\"error\"").is_some());
        data.is_some_and(|data| Object::read(data).is_ok_and(|chunk| chunk.get("error").is_some()))
    };
    sse::events(events).find(fails).map(|span| span.start)
}

/// Text of a response that is kept. Taste.
const TEXT_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn chunk(id: &str, delta: &str, finish: &str) -> String {
        format!(
            "data: {{\"id\":\"{id}\",\"created\":7,\"model\":\"m-{id}\",\"choices\":[{{\"index\":0,\"delta\":{delta},\
             \"finish_reason\":{finish}}}]}}\n\n"
        )
    }

    fn said(events: &[String]) -> Said {
        let mut said = Said::default();
        events.iter().for_each(|event| said.note(event.as_bytes()));
        said
    }

    fn two_words() -> Said {
        said(&[
            chunk("a", r#"{"role":"assistant","content":""}"#, "null"),
            chunk("a", r#"{"content":"one \"two\"","tool_calls":[],"refusal":null}"#, "null"),
            ": ping\n\n".to_owned(),
            chunk("a", r#"{"content":" \u00e9\ud83d"}"#, "null")
                + &chunk("a", r#"{"content":"\ude00"}"#, "null"),
        ])
    }

    #[test]
    fn an_engine_gets_what_was_said_and_what_is_left_of_the_cap() {
        let payload = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":10,"stream":true, "min_tokens": 2 }"#;
        let continued: Value =
            serde_json::from_slice(&two_words().continued(payload.as_bytes()).unwrap()).unwrap();
        assert_eq!(
            continued,
            json!({"model":"m","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"one \"two\" é😀"}],
                "max_tokens":7,"stream":true,"min_tokens":0,"continue_final_message":true,"add_generation_prompt":false})
        );
        let empty = two_words().continued(br#"{"messages":[ ],"max_completion_tokens":1}"#).unwrap();
        let empty: Value = serde_json::from_slice(&empty).unwrap();
        assert_eq!(
            (&empty["messages"][0]["role"], &empty["max_completion_tokens"]),
            (&json!("assistant"), &json!(1))
        );
        let unsaid = said(&[chunk("a", r#"{"role":"assistant"}"#, "null")]);
        assert_eq!(
            unsaid.continued(payload.as_bytes()).as_deref(),
            Some(payload.as_bytes()),
            "it is asked once more"
        );
    }

    #[test]
    fn what_no_engine_can_go_on_with_is_left() {
        for payload in [
            r#"{"messages":[{"role":"assistant","content":"a"}]}"#,
            r#"{"messages":[],"n":2}"#,
            r#"{"messages":[],"response_format":{"type":"json_object"}}"#,
            r#"{"messages":[],"guided_json":{}}"#,
            r#"{"messages":[],"continue_final_message":true}"#,
            r#"{"messages":[}"#,
        ] {
            assert!(two_words().continued(payload.as_bytes()).is_none(), "{payload}");
        }
        let plain = r#"{"messages":[],"n":1,"response_format":{"type":"text"}}"#;
        assert!(two_words().continued(plain.as_bytes()).is_some());
        assert!(two_words().can_go_on());
        for (delta, finish) in [
            (r#"{"tool_calls":[{"index":0}]}"#, "null"),
            (r#"{"reasoning_content":"hm"}"#, "null"),
            (r#"{"content":[{"type":"text"}]}"#, "null"),
            (r#"{"content":"."}"#, "\"stop\""),
        ] {
            let mut said = two_words();
            said.note(chunk("a", delta, finish).as_bytes());
            assert!(!said.can_go_on(), "{delta} {finish}");
        }
        for event in
            ["data: {\"error\":{}}\n\n", "data: [DONE]\n\n", "data: {\"choices\":\n\n", "data: {\"ch"]
        {
            let mut said = two_words();
            said.note(event.as_bytes());
            assert!(!said.can_go_on(), "{event}");
        }
    }

    #[test]
    fn the_events_that_follow_are_those_of_the_same_response() {
        let seam = two_words().seam();
        let usage = r#"data: {"id":"b","created":9,"model":"x","choices":[],"usage":{"prompt_tokens":13,"completion_tokens":4,"total_tokens":17}}"#;
        let events = chunk("b", r#"{"role":"assistant","content":""}"#, "null")
            + &chunk("b", r#"{"content":"three"}"#, "null")
            + ": ping\n\n"
            + usage
            + "\n\ndata: [DONE]\n\n";
        let mut out = Vec::new();
        seam.events(events.as_bytes(), &mut out);
        let wanted = chunk("a", r#"{"content":"three"}"#, "null")
            + ": ping\n\n"
            + r#"data: {"id":"a","created":7,"model":"m-a","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17}}"#
            + "\n\ndata: [DONE]\n\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
        // Nothing was said yet: the other engine's response is the response.
        let mut out = Vec::new();
        Said::default().seam().events(events.as_bytes(), &mut out);
        assert_eq!(out, events.as_bytes());
    }

    #[test]
    fn a_failure_is_found_where_it_begins() {
        let sound = chunk("a", r#"{"content":"an \"error\""}"#, "null");
        assert_eq!(failure_at(sound.as_bytes()), None);
        assert_eq!(failure_at(b"data: {\"error\":null}\n\n"), None);
        let failed = sound.clone() + "data: {\"error\":{\"message\":\"out of memory\"}}\n\n";
        assert_eq!(failure_at(failed.as_bytes()), Some(sound.len()));
    }
}
