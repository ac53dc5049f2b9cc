//! The text of a prompt, for finding the backend that has its beginning in the cache.
//!
//! What a chat template makes of a request is not known here, but two requests whose conversations begin alike become
//! prompts that begin alike. So what is walked is the conversation: tools, system, messages, whatever the order of these
//! members in the body, and of each only what carries meaning. A message whose content is a string and one whose content
//! is a list with one text give the same text; a marker that moves from turn to turn (`cache_control`) gives none.

use super::request::Peek;
use crate::units::Span;

/// A piece of a prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// Text, as escaped in JSON.
    Text(&'a [u8]),
    /// An image, sound or file: only whether it is the same one matters.
    Media(&'a [u8]),
}

/// Calls `found` for each piece, in the order in which a model reads them. `body` is the one that was peeked into.
///
/// Cost: one pass over the members that are the prompt, no allocation.
pub fn pieces<'a>(peek: &Peek, body: &'a [u8], mut found: impl FnMut(Piece<'a>)) {
    for span in peek.prompt {
        walk(span.of(body), &mut found);
    }
}

/// Whether a prompt has an image among its parts.
///
/// A part says so in its `type`. A text that talks about parts has its quotes escaped, so it is not taken for one.
pub fn has_images(peek: &Peek, body: &[u8]) -> bool {
    let is_image = |value: &[u8]| {
        let value = value.trim_ascii_start();
        let Some(value) = value.strip_prefix(b":") else { return false };
        let value = value.trim_ascii_start();
        IMAGE_TYPES.iter().any(|kind| value.starts_with(kind))
    };
    let of_member = |span: &Span| {
        let member = span.of(body);
        memchr::memmem::find_iter(member, TYPE).any(|at| is_image(&member[at + TYPE.len()..]))
    };
    peek.prompt.iter().any(of_member)
}

const TYPE: &[u8] = b"\"type\"";
/// Of chat, of Responses, and of Messages.
const IMAGE_TYPES: [&[u8]; 3] = [b"\"image_url\"", b"\"input_image\"", b"\"image\""];

/// Walks one value, sound JSON; of other bytes anything may be said, but it ends.
fn walk<'a>(value: &'a [u8], found: &mut impl FnMut(Piece<'a>)) {
    let (mut at, mut key) = (0, &b""[..]);
    while let Some(byte) = value.get(at) {
        match byte {
            b'"' => {
                let text = string(value, at);
                at = text.end + 1;
                let text = text.of(value);
                let colon = at
                    + value[at.min(value.len())..]
                        .iter()
                        .take_while(|byte| byte.is_ascii_whitespace())
                        .count();
                if value.get(colon) != Some(&b':') {
                    said(text, key, found);
                    key = b"";
                    continue;
                }
                (key, at) = (text, colon + 1);
                if text == b"cache_control" {
                    at = skip(value, at);
                    key = b"";
                }
                continue;
            }
            b'0'..=b'9' | b'-' => {
                // The sign after it belongs to it: 1,23 is not 12,3.
                let end = value[at..]
                    .iter()
                    .position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
                let end = end.map_or(value.len(), |length| at + length + 1);
                found(Piece::Text(&value[at..end]));
                at = end;
                continue;
            }
            b'{' | b'[' | b'}' | b']' | b',' => key = b"",
            _ => {}
        }
        at += 1;
    }
}

fn said<'a>(text: &'a [u8], key: &[u8], found: &mut impl FnMut(Piece<'a>)) {
    match key {
        b"type" => {}
        b"data" | b"url" | b"image_url" | b"file_data" | b"result" if text.len() >= MEDIA_BYTES_MIN => {
            found(Piece::Media(text));
        }
        _ => found(Piece::Text(text)),
    }
}

/// What is between the quotes of the string whose opening quote is at `open`.
fn string(value: &[u8], open: usize) -> Span {
    let mut at = open + 1;
    while let Some(length) = value.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += length;
        if value[at] == b'"' {
            return Span::new(open + 1, at);
        }
        at += 2;
    }
    Span::new(open + 1, value.len().max(open + 1))
}

/// The end of the value that starts at or after `at`.
fn skip(value: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(byte) = value.get(at) {
        match byte {
            b'"' => at = string(value, at).end,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

/// A shorter string of a member that may be media is text, a link for example. Chosen, not measured.
const MEDIA_BYTES_MIN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::super::Api;
    use super::super::request::peek;
    use super::*;

    fn text(api: Api, body: &str) -> String {
        let peek = peek(api, body.as_bytes()).unwrap();
        let mut all = String::new();
        pieces(&peek, body.as_bytes(), |piece| match piece {
            Piece::Text(text) => all.push_str(&format!("{}|", str::from_utf8(text).unwrap())),
            Piece::Media(media) => all.push_str(&format!("<{}>|", media.len())),
        });
        all
    }

    #[test]
    fn parts_come_in_the_order_of_the_context_whatever_their_order_in_the_body() {
        let body = r#"{"messages":[{"role":"user","content":"hi"}],"system":"be kind","model":"m","max_tokens":5,
            "tools":[{"name":"t","input_schema":{"type":"object"}}]}"#;
        assert_eq!(text(Api::Messages, body), "t|be kind|user|hi|");
        let body = r#"{"model":"m","input":"question","tools":[{"type":"function","name":"f"}],"instructions":"do"}"#;
        assert_eq!(text(Api::Responses, body), "f|do|question|");
        let body = r#"{"prompt":["one",[12,3]],"model":"m"}"#;
        assert_eq!(text(Api::Completions, body), "one|12,|3]|");
    }

    #[test]
    fn a_string_and_a_list_of_one_text_are_the_same_and_markers_that_move_are_not_seen() {
        let plain = r#"{"model":"m","messages":[{"role":"user","content":"a \"b\" c"}]}"#;
        let list = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a \"b\" c",
            "cache_control" : {"type":"ephemeral","ttl":"5m"}}]}]}"#;
        let null = r#"{"model":"m","messages":[{"role":"user","cache_control":null,"content":"a \"b\" c"}]}"#;
        for body in [plain, list, null] {
            assert_eq!(text(Api::Messages, body), r#"user|a \"b\" c|"#);
        }
    }

    #[test]
    fn long_media_is_told_by_its_identity_and_short_links_are_text() {
        let image = "A".repeat(2_000);
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"{image}"}}}},
            {{"type":"image_url","image_url":{{"url":"https://a.example/b"}}}}]}}]}}"#
        );
        assert_eq!(text(Api::Chat, &body), "user|<2000>|https://a.example/b|");
    }

    #[test]
    fn a_request_without_a_prompt_has_no_piece_and_broken_bytes_end() {
        assert_eq!(text(Api::Chat, r#"{"model":"m"}"#), "");
        assert_eq!(text(Api::Embeddings, r#"{"model":"m","input":"x"}"#), "");
        for broken in
            ["\"", "\"abc", "{\"a", "{\"cache_control\":{\"a\":\"", "[1,-", "\"a\\", "{\"cache_control\""]
        {
            walk(broken.as_bytes(), &mut |_| {});
        }
    }
}
