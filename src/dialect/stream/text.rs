//! How much text a response has, by the bytes that its text would have in UTF-8: what a limit on tokens counts while a stream runs.
//!
//! Text is the string behind one of the names that hold output in some dialect: answers, thoughts and arguments of tool calls.
//! Envelopes, which are most of a stream's bytes, do not count; nor do events, which may hold any number of tokens. One vector search
//! over the bytes finds the names. What follows another name, or is written in an unusual way, is not seen.

use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;

use super::form::{StreamEnd, StreamForm};
use super::words::{self, Search};
use crate::dialect::Api;

/// Counts the text of one response.
#[derive(Clone, Copy)]
pub struct TextMeter {
    search: &'static LazyLock<Search>,
    /// The form of the stream; `None` for a body.
    form: Option<&'static StreamForm>,
    /// The bytes so far ended inside a text.
    is_open: bool,
}

/// The names of almost every event, by the end of their streams.
static CONTENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("ontent\":\""));
static ANTHROPIC: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("text\":\""));
static PIECE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("delta\":\""));
static TEXT: LazyLock<Search> = LazyLock::new(|| Search::new(words::TEXT));
static DELTA: LazyLock<Search> = LazyLock::new(|| Search::new(words::TEXT_DELTA));

impl TextMeter {
    /// For the stream of an API. The events of Responses repeat what their deltas have said: only those count.
    pub fn of_stream(api: Api) -> Self {
        let form = api.stream();
        let search = if form.end == StreamEnd::Response { &DELTA } else { &TEXT };
        Self { search, form: Some(form), is_open: false }
    }

    /// For a body that is no stream.
    pub fn of_body() -> Self {
        Self { search: &TEXT, form: None, is_open: false }
    }

    /// Bytes of text in the next piece, which may end in the middle of a text.
    pub fn count(&mut self, piece: &[u8]) -> u64 {
        let (mut sum, mut from) = (0, 0);
        if self.is_open {
            let (bytes, end) = text(piece);
            (sum, self.is_open) = (bytes, end.is_none());
            let Some(end) = end else { return sum };
            from = end;
        }
        if from == 0
            && let Some(bytes) = self.usual(piece)
        {
            return bytes;
        }
        // A text that was counted is not searched: what stands in it is no name.
        while let Some((_, name)) = self.search.find_from(piece, from) {
            let (bytes, end) = text(&piece[name.end..]);
            sum += bytes;
            match end {
                Some(end) => from = name.end + end,
                None => {
                    self.is_open = true;
                    break;
                }
            }
        }
        sum
    }
}

impl TextMeter {
    /// The same where each event has one text, under the name that almost all have: half the cost (`bench/dialect.rs`). `None` where
    /// it is not so.
    fn usual(&self, piece: &[u8]) -> Option<u64> {
        let form = self.form?;
        let name: &Finder<'_> = match form.end {
            StreamEnd::Choices => &CONTENT,
            StreamEnd::Message => &ANTHROPIC,
            StreamEnd::Response => &PIECE,
            _ => return None,
        };
        let (mut sum, mut texts, mut from) = (0, 0, 0);
        while let Some(at) = name.find(&piece[from..]) {
            from += at + name.needle().len();
            let (bytes, end) = text(&piece[from..]);
            (sum, texts, from) = (sum + bytes, texts + 1, from + end?);
        }
        (texts > 0 && texts == form.count(piece)).then_some(sum)
    }
}

/// The text at the front of `bytes`: how long it is in UTF-8, and where its closing quote ends, if that is there.
fn text(bytes: &[u8]) -> (u64, Option<usize>) {
    let (mut length, mut at) = (0, 0);
    while let Some(found) = memchr2(b'"', b'\\', &bytes[at..]) {
        length += found;
        at += found;
        if bytes[at] == b'"' {
            return (length as u64, Some(at + 1));
        }
        // A pair of surrogates, four bytes in UTF-8, counts as two times two.
        let (taken, told) = match bytes.get(at + 1..at + 6) {
            Some([b'u', b'0', b'0', b'0'..=b'7', _]) => (6, 1),
            Some([b'u', b'0', b'0'..=b'7', ..]) => (6, 2),
            Some([b'u', b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', ..]) => (6, 2),
            Some([b'u', ..]) => (6, 3),
            _ => (2, 1),
        };
        length += told;
        at = (at + taken).min(bytes.len());
    }
    ((length + bytes.len() - at) as u64, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(api: Api, text: &str) -> u64 {
        TextMeter::of_stream(api).count(text.as_bytes())
    }

    #[test]
    fn only_text_counts_in_every_dialect() {
        for (api, event, bytes) in [
            (Api::Chat, r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#, 0),
            (Api::Chat, r#"{"system_fingerprint":"fp_x","choices":[{"delta":{"content":"hello"}}]}"#, 5),
            (Api::Chat, r#"{"choices": [{"delta": {"reasoning_content": "abc", "content": "d"}}]}"#, 4),
            (Api::Chat, r#"{"choices":[{"delta":{"reasoning":"abc"}},{"delta":{"refusal":"no"}}]}"#, 5),
            (
                Api::Chat,
                r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\"a\":1}"}}]}}]}"#,
                7,
            ),
            (Api::Chat, r#"{"choices":[{"delta":{"content":"say \"content\":\"x\" ok"}}]}"#, 20),
            (Api::Completions, r#"{"choices":[{"index":0,"text":"four"}]}"#, 4),
            (Api::Messages, r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"ab"}}"#, 2),
            (Api::Messages, r#"{"delta":{"type":"input_json_delta","partial_json":"{\"k\":"}}"#, 5),
            (Api::Messages, r#"{"delta":{"type":"thinking_delta","thinking":"hm"}}"#, 2),
            (Api::Messages, r#"{"delta":{"type":"signature_delta","signature":"EqQBCgIYAhIM"}}"#, 0),
            (Api::Responses, r#"{"type":"response.output_text.delta","delta":"abc"}"#, 3),
            (Api::Responses, r#"{"type":"response.output_text.done","text":"abc"}"#, 0),
        ] {
            assert_eq!(stream(api, event), bytes, "{event}");
        }
    }

    #[test]
    fn escapes_count_as_what_they_stand_for() {
        for (text, bytes) in [
            (r"a\nb", 3),
            ("\\u00e9", 2),
            ("\\u0041", 1),
            ("\\u4e2d\\u6587", 6),
            ("\\ud83d\\ude00", 4),
            ("中文", 6),
            (r"\\", 1),
        ] {
            assert_eq!(stream(Api::Chat, &format!("{{\"content\":\"{text}\"}}")), bytes, "{text}");
        }
    }

    #[test]
    fn a_text_cut_anywhere_inside_counts_once() {
        let event =
            "data: {\"choices\":[{\"delta\":{\"content\":\"a long \\\"text\\\" here\"},\"index\":0}]}\n\n";
        let begins = event.find("a long").unwrap();
        for cut in begins..event.len() {
            if event.as_bytes()[cut - 1] == b'\\' {
                continue; // the one byte behind a lone backslash may be counted twice
            }
            let mut meter = TextMeter::of_stream(Api::Chat);
            let (one, other) = event.as_bytes().split_at(cut);
            assert_eq!(meter.count(one) + meter.count(other), 18, "{cut}");
        }
    }

    #[test]
    fn events_with_another_text_are_counted_beside_the_usual_ones() {
        let usual = "data: {\"choices\":[{\"delta\":{\"content\":\"abc\"}}]}\n\n";
        let thought = "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"de\",\"content\":null}}]}\n\n";
        let call = "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\"fghi\"}}]}}]}\n\n";
        let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
        for (events, bytes) in [
            (vec![usual; 3], 9),
            (vec![role, usual, usual], 6),
            (vec![thought, call, usual], 9),
            (vec![call, call], 8),
            (vec![role], 0),
        ] {
            assert_eq!(stream(Api::Chat, &events.concat()), bytes, "{events:?}");
        }
    }

    #[test]
    fn no_bytes_panic() {
        let mut meter = TextMeter::of_stream(Api::Chat);
        for piece in [&b""[..], b"\"", b"\\", b"ontent\":\"", b"\\u", b"\\u12", b"\"\"", b"\\"] {
            meter.count(piece);
        }
    }
}
