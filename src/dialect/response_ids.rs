//! Where a response says its own id and that of the one before it: whole ones, and the events of a stream.
//!
//! Only these: `id` and `previous_response_id` of a response, in a whole body at its top level and in an event under
//! `response`, and an event's `response_id`. Ids of items, of conversations and of calls are the backend's.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::units::Span;
use crate::wire::{json, sse};

/// Ids that were found: JSON strings with their quotes, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IdSpans {
    list: [Span; 3],
    count: usize,
}

impl IdSpans {
    /// The spans.
    pub fn as_slice(&self) -> &[Span] {
        &self.list[..self.count]
    }

    fn push(&mut self, span: Span) {
        if self.count < self.list.len() {
            self.list[self.count] = span;
            self.count += 1;
            self.list[..self.count].sort_unstable_by_key(|span| span.start);
        }
    }

    /// Takes what the members of an object say, up to where its text ends or is broken.
    fn take(&mut self, text: &[u8], at: usize, names: &[&str]) {
        for member in json::leading_members(&text[at..]).map_while(Result::ok) {
            let key = member.key.shifted(at).of(text);
            if member.kind == json::ValueKind::String && names.iter().any(|name| json::key_is(key, name)) {
                self.push(member.value.shifted(at));
            }
        }
    }
}

/// The ids in a whole response.
pub fn in_body(body: &[u8]) -> IdSpans {
    let mut found = IdSpans::default();
    if json::is_object(body) {
        found.take(body, 0, &OF_RESPONSE);
    }
    found
}

/// The next event at or behind `from` that may say an id; `events` begins at an event's start and may end within one.
///
/// Cost: one search of the bytes, for a word that is in no event of text or tool calls.
pub fn next_event(events: &[u8], from: usize) -> Option<Span> {
    let at = from + WORD.find(&events[from..])?;
    let start = sse::last_boundary(&events[..=at]).max(from);
    Some(Span::new(start, sse::next_boundary(events, start).unwrap_or(events.len())))
}

/// The ids in one event, or in the beginning of one.
pub fn in_event(event: &[u8]) -> IdSpans {
    let lines: Vec<Span> = sse::data_spans(event).collect();
    let data = match lines[..] {
        [line] => Cow::Borrowed(line.of(event)),
        _ => Cow::Owned(
            lines.iter().flat_map(|line| [line.of(event), b"\n".as_slice()]).collect::<Vec<_>>().concat(),
        ),
    };
    let mut found = IdSpans::default();
    let mut end = 0;
    for member in json::leading_members(&data).map_while(Result::ok) {
        let key = member.key.of(&data);
        if member.kind == json::ValueKind::Object && json::key_is(key, "response") {
            found.take(&data, member.value.start, &OF_RESPONSE);
        } else if member.kind == json::ValueKind::String && json::key_is(key, "response_id") {
            found.push(member.value);
        }
        end = member.value.end;
    }
    if let Some(start) = begun_response(&data, end) {
        found.take(&data, start, &OF_RESPONSE);
    }
    // Back from the data to the event: a string never goes over the end of a line.
    for span in &mut found.list[..found.count] {
        let mut before = 0;
        for line in &lines {
            if span.start < before + line.len() {
                *span = Span::new(span.start - before + line.start, span.end - before + line.start);
                break;
            }
            before += line.len() + 1;
        }
    }
    found
}

/// Where the object of a `response` begins whose end has not come, behind the member that ends at `end`.
fn begun_response(data: &[u8], end: usize) -> Option<usize> {
    let rest = data[end..].trim_ascii_start();
    let rest = rest.strip_prefix(if end == 0 { b"{" } else { b"," })?.trim_ascii_start();
    let rest = rest.strip_prefix(b"\"response\"")?.trim_ascii_start();
    let rest = rest.strip_prefix(b":")?.trim_ascii_start();
    rest.starts_with(b"{").then(|| data.len() - rest.len())
}

const OF_RESPONSE: [&str; 2] = ["id", "previous_response_id"];

/// Keys, never parts of text: there their quotes are escaped. The type of an event is none either, as it goes on with a
/// point.
static WORD: LazyLock<Word> = LazyLock::new(|| Word {
    response: Finder::new("\"response\""),
    response_id: Finder::new("\"response_id\""),
});

struct Word {
    response: Finder<'static>,
    response_id: Finder<'static>,
}

impl Word {
    fn find(&self, bytes: &[u8]) -> Option<usize> {
        let first = self.response.find(bytes);
        let second = self.response_id.find(&bytes[..first.unwrap_or(bytes.len())]);
        second.or(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<'a>(bytes: &'a [u8], found: &IdSpans) -> Vec<&'a str> {
        found.as_slice().iter().map(|span| std::str::from_utf8(span.of(bytes)).unwrap()).collect()
    }

    #[test]
    fn a_body_says_its_own_id_and_the_one_before_it() {
        let cases: &[(&str, &[&str])] = &[
            (r#"{"id":"a","object":"response"}"#, &["\"a\""]),
            (r#"{"previous_response_id":"p\"q", "id" : "a"}"#, &[r#""p\"q""#, "\"a\""]),
            (
                r#"{"id":"a","previous_response_id":null,"output":[{"id":"msg_1"}],"x":{"id":"y"}}"#,
                &["\"a\""],
            ),
            (r#"{"id":1}"#, &[]),
            (r#"{"id":"a""#, &[]),
            (r#"["id","a"]"#, &[]),
            ("", &[]),
        ];
        for (body, ids) in cases {
            assert_eq!(texts(body.as_bytes(), &in_body(body.as_bytes())), *ids, "{body}");
        }
    }

    #[test]
    fn events_say_it_under_their_response() {
        let cases: &[(&str, &[&str])] = &[
            (
                "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"a\",\"previous_response_id\":\"p\"}}\n\n",
                &["\"a\"", "\"p\""],
            ),
            ("data: {\"response_id\":\"a\",\"item_id\":\"b\",\"id\":\"c\"}\n\n", &["\"a\""]),
            (
                "data: {\"response\" : \ndata:  {\"object\":\"response\",\ndata: \"id\":\"a\"}}\r\n\r\n",
                &["\"a\""],
            ),
            ("data: {\"delta\":\"\\\"response\\\":{\\\"id\\\":\\\"a\\\"}\"}\n\n", &[]),
            ("data: {\"item\":{\"response\":{\"id\":\"a\"}},\"response\":7}\n\n", &[]),
            // The beginnings of long ones.
            (
                "data: {\"type\":\"response.completed\", \"response\": {\"id\":\"a\",\"output\":[{\"te",
                &["\"a\""],
            ),
            ("data: {\"response\":{\"id\":\"a\",\"previous_response_id\":\"p", &["\"a\""]),
            ("data: {\"response\":{\"id\":\"a", &[]),
            ("data: {\"type\":\"x\",\"respo", &[]),
            (": comment\n\n", &[]),
        ];
        for (event, ids) in cases {
            assert_eq!(texts(event.as_bytes(), &in_event(event.as_bytes())), *ids, "{event}");
        }
    }

    #[test]
    fn only_events_that_may_say_one_are_looked_into() {
        let events = b"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"\\\"response\\\"\"}\n\n\
            data: {\"response\":{}}\n\ndata: {\"type\":\"response.done\"}\n\ndata: {\"response_id\":\"a\"}\n\ndata: {\"response\":";
        let mut at = 0;
        let mut seen = Vec::new();
        while let Some(event) = next_event(events, at) {
            seen.push(std::str::from_utf8(event.of(events)).unwrap());
            at = event.end;
        }
        assert_eq!(
            seen,
            ["data: {\"response\":{}}\n\n", "data: {\"response_id\":\"a\"}\n\n", "data: {\"response\":"]
        );
    }

    #[test]
    fn no_bytes_panic() {
        let event = b"event: x\r\ndata: {\"response\":{\"id\":\"a\",\"previous_response_id\":\"p\"},\"response_id\":\"r\"}\r\n\r\n";
        for end in 0..event.len() {
            for start in 0..=end {
                let bytes = &event[start..end];
                in_body(bytes);
                for span in in_event(bytes).as_slice() {
                    assert!(span.end <= bytes.len());
                }
                if let Some(event) = next_event(bytes, 0) {
                    assert!(event.start < event.end);
                }
            }
        }
    }
}
