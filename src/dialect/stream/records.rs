//! Records without data, which some SDKs take for events.
//!
//! openai-python dispatches an event for every blank line behind a field that it knows (`event`, `id`, `retry`, an empty
//! `data`), and reads its data as JSON; once an `id` has come it does so for every blank line, comments or not. openai-node
//! does it for `event`. Anthropic's SDKs pass over what has no data.

use super::form::StreamForm;
use crate::dialect::Api;
use crate::wire::records::RecordForm;
use crate::wire::sse;

/// Which records of a stream its clients cannot take.
#[derive(Clone)]
pub struct Records {
    form: &'static StreamForm,
    /// A record with an `id` has been passed on.
    has_id: bool,
}

impl Records {
    /// Of a stream of this API.
    pub fn new(api: Api) -> Self {
        Self { form: api.stream(), has_id: false }
    }

    /// Whether every record is for the client, whatever it is.
    pub fn take_all(&self) -> bool {
        !self.form.drops_silent
    }

    /// How many whole events there are, if none of them needs a look: each is of the lines that this API writes, with data
    /// at its end. What is not regular may still be in order.
    ///
    /// Cost: one search for a line end per line with data; `bench/dialect.rs`.
    pub fn count_regular(&self, events: &[u8]) -> Option<u64> {
        if self.has_id || self.take_all() {
            return None;
        }
        let mut rest = events;
        let mut count = 0;
        if self.form.records != RecordForm::Sse {
            while !rest.is_empty() {
                let end = memchr::memchr(b'\n', rest).filter(|_| rest[0] == b'{')?;
                rest = &rest[end + 1..];
                count += 1;
            }
            return Some(count);
        }
        while !rest.is_empty() {
            if self.form.is_named {
                let end = memchr::memchr(b'\n', rest).filter(|_| rest[0] == b'e')?;
                rest = &rest[end + 1..];
            }
            let end = memchr::memchr(b'\n', rest).filter(|_| rest[0] == b'd')?;
            let (line, blank): (_, &[u8]) = match &rest[..end] {
                [line @ .., b'\r'] => (line, b"\r\n"),
                line => (line, b"\n"),
            };
            let is_data = matches!(line.last(), Some(b'}' | b']'));
            rest = rest[end + 1..].strip_prefix(blank).filter(|_| is_data)?;
            count += 1;
        }
        Some(count)
    }

    /// Whether this event must not reach a client.
    pub fn drops(&mut self, event: &[u8]) -> bool {
        if self.take_all() {
            return false;
        }
        if self.form.records != RecordForm::Sse {
            return event.trim_ascii().is_empty(); // Ollama's clients read every line as JSON
        }
        let mut has_id = false;
        let mut is_dispatched = self.has_id;
        let mut has_data = false;
        for (field, value) in sse::fields(event) {
            match field {
                b"data" => {
                    has_data |= !value.trim_ascii().is_empty();
                    is_dispatched = true;
                }
                b"id" => (has_id, is_dispatched) = (true, true),
                b"event" | b"retry" => is_dispatched = true,
                _ => {}
            }
        }
        let drops = is_dispatched && !has_data;
        self.has_id |= has_id && !drops;
        drops
    }

    /// Whether a blank line of our own would be taken for an event.
    pub fn has_id(&self) -> bool {
        self.has_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drops(api: Api, events: &[&str]) -> Vec<bool> {
        let mut records = Records::new(api);
        events.iter().map(|event| records.drops(event.as_bytes())).collect()
    }

    #[test]
    fn a_record_that_would_be_an_event_without_data_is_dropped() {
        for silent in [
            "event: ping\n\n",
            "id: 7\n\n",
            "retry: 100\r\n\r\n",
            "data:\n\n",
            "data: \n\n",
            "event\n\n",
            ": x\nid: 1\n\n",
        ] {
            for api in [Api::Chat, Api::Completions, Api::Responses] {
                assert_eq!(drops(api, &[silent]), [true], "{silent:?}");
                assert!(Records::new(api).count_regular(silent.as_bytes()).is_none(), "{silent:?}");
            }
            assert_eq!(drops(Api::Messages, &[silent]), [false], "{silent:?}");
        }
        for passes in
            [": ping\n\n", "\n", "foo: bar\n\n", "data: {}\n\n", "event: x\ndata: {}\n\n", "data: [DONE]\n\n"]
        {
            assert_eq!(drops(Api::Chat, &[passes]), [false], "{passes:?}");
        }
    }

    #[test]
    fn behind_an_id_no_blank_line_is_without_data() {
        let events = [": a\n\n", "id: 1\ndata: {}\n\n", ": b\n\n", "\n", "data: {}\n\n", ": c\n\n"];
        assert_eq!(drops(Api::Chat, &events), [false, false, true, true, false, true]);
        assert_eq!(
            drops(Api::Chat, &["id: 1\n\n", ": b\n\n"]),
            [true, false],
            "an id that was dropped is none"
        );
    }

    #[test]
    fn regular_events_are_told_by_their_shape() {
        let chat = "data: {\"a\":1}\n\n";
        let typed = "event: x\ndata: {}\n\n";
        let is = |api, events: &str| Records::new(api).count_regular(events.as_bytes()).is_some();
        for (api, event) in [(Api::Chat, chat), (Api::Responses, typed)] {
            for count in [0, 1, 2, 9] {
                assert!(is(api, &event.repeat(count)), "{api:?} {count}");
            }
            for odd in ["event: x\n\n", "id: 1\n\n", "retry: 1\n\n", "data:\n\n", ": x\n\n", "\n"] {
                for events in [[odd, event, event], [event, odd, event], [event, event, odd]] {
                    assert!(!is(api, &events.concat()), "{api:?} {odd:?}");
                }
            }
        }
        assert!(is(Api::Chat, &format!("{chat}data: [DONE]\n\n")));
        let other = chat.replace('\n', "\r\n");
        assert!(is(Api::Chat, &other) && is(Api::Chat, &other.repeat(2)));
        assert!(
            !is(Api::Chat, "data: {}\r\n\n") && !is(Api::Chat, "data: {}\n") && !is(Api::Chat, "data: {}")
        );
        assert_eq!(Records::new(Api::Responses).count_regular(typed.repeat(9).as_bytes()), Some(9));
        assert!(!is(Api::Chat, &format!("id: 1\n{chat}")));
        assert!(!is(Api::Responses, "event: x\nid: 1\ndata: {}\n\n"));
        assert!(!is(Api::Messages, "event: ping\n\n") && Records::new(Api::Messages).take_all());
    }
}
