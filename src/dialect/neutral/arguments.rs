//! What a tool is called with: JSON, which some dialects write as an object and others as a string.

use std::borrow::Cow;

use super::{Json, Text};
use crate::wire::json;

/// The arguments of a call of a tool.
#[derive(Clone, PartialEq, Debug)]
pub enum Arguments<'a> {
    /// As a string of JSON (OpenAI), or free text for a custom tool.
    Quoted(Text<'a>),
    /// As a value (Anthropic, Gemini, Ollama).
    Value(Json<'a>),
}

impl Arguments<'_> {
    /// Appends them as an object. Nothing, and blanks only, are `{}`; what is no object becomes `{"_raw": "..."}`, so
    /// that a conversation with torn arguments in its history can go on.
    pub fn write_object(&self, out: &mut Vec<u8>) {
        let text: Cow<'_, [u8]> = match self {
            Self::Value(value) => Cow::Borrowed(value),
            Self::Quoted(text) => {
                let mut inner = Vec::with_capacity(text.inside().len());
                json::unescape(text.inside(), &mut inner);
                Cow::Owned(inner)
            }
        };
        match text.trim_ascii() {
            b"" | b"null" => out.extend_from_slice(b"{}"),
            object if json::is_object(object) && std::str::from_utf8(object).is_ok() => {
                out.extend_from_slice(object)
            }
            _ => {
                out.extend_from_slice(b"{\"_raw\":\"");
                match self {
                    Self::Quoted(text) => out.extend_from_slice(text.inside()),
                    Self::Value(value) => json::escape_bytes(out, value),
                }
                out.extend_from_slice(b"\"}");
            }
        }
    }

    /// Appends them as a JSON string with its quotes. Nothing is `"{}"`.
    pub fn write_string(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        match self {
            Self::Quoted(text) if text.is_empty() => out.extend_from_slice(b"{}"),
            Self::Quoted(text) => out.extend_from_slice(text.inside()),
            Self::Value(b"null") => out.extend_from_slice(b"{}"),
            Self::Value(value) => json::escape_bytes(out, value),
        }
        out.push(b'"');
    }
}

/// Takes the line breaks out of the JSON from `start` on: they stand between its tokens only, and would end a line of a stream.
pub fn one_line(out: &mut Vec<u8>, start: usize) {
    let Some(first) = memchr::memchr2(b'\n', b'\r', &out[start..]) else { return };
    let first = start + first;
    let mut end = first;
    for at in first..out.len() {
        if !matches!(out[at], b'\n' | b'\r') {
            out[end] = out[at];
            end += 1;
        }
    }
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(arguments: &Arguments<'_>) -> String {
        let mut out = Vec::new();
        arguments.write_object(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn string(arguments: &Arguments<'_>) -> String {
        let mut out = Vec::new();
        arguments.write_string(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_level_of_escapes_comes_and_goes() {
        let value = r#"{"path":"a\\b","text":"say \"hi\"\n\u00e9 é"}"#;
        let quoted = string(&Arguments::Value(value.as_bytes()));
        assert_eq!(quoted, r#""{\"path\":\"a\\\\b\",\"text\":\"say \\\"hi\\\"\\n\\u00e9 é\"}""#);
        assert_eq!(object(&Arguments::Quoted(Text::of(quoted.as_bytes()).unwrap())), value);
    }

    #[test]
    fn no_arguments_are_an_empty_object() {
        for text in ["", "  ", "\\n", "null", "{}"] {
            assert_eq!(object(&Arguments::Quoted(Text::escaped(text.as_bytes()))), "{}", "{text:?}");
        }
        assert_eq!(string(&Arguments::Quoted(Text::default())), "\"{}\"");
        assert_eq!(object(&Arguments::Value(b"null")), "{}");
    }

    #[test]
    fn line_breaks_between_tokens_go_and_nothing_else() {
        for (text, expected) in [
            ("data: {\"a\":1}", "data: {\"a\":1}"),
            ("data: {\r\n  \"a\\n\": 1\n}\n", "data: {  \"a\\n\": 1}"),
            ("\n{\n}", "\n{}"),
        ] {
            let mut out = text.as_bytes().to_vec();
            let start = text.find('{').unwrap();
            one_line(&mut out, start);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_object_is_kept_as_text() {
        for (text, expected) in [
            (r#"{\"a\":"#, r#"{"_raw":"{\"a\":"}"#),
            ("[1]", r#"{"_raw":"[1]"}"#),
            ("plain", r#"{"_raw":"plain"}"#),
        ] {
            let written = object(&Arguments::Quoted(Text::escaped(text.as_bytes())));
            assert_eq!(written, expected);
            assert!(json::is_object(written.as_bytes()));
        }
    }
}
