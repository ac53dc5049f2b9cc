//! A backend's own error as the record that ends a stream: its words, for a client that has the head already.

use super::neutral::{FaultRecord, Text};
use super::refusal::{anthropic_type, openai_type};
use super::stream::form::ErrorRecord;
use super::{Api, gemini, number};
use crate::error::Fault;
use crate::wire::json::{self, ValueKind, quote};

/// What a backend says of an error, each as it stands in its JSON.
#[derive(Default)]
struct Words<'a> {
    message: Option<&'a [u8]>,
    /// `error.type`.
    name: Option<&'a [u8]>,
    code: Option<&'a [u8]>,
    param: Option<&'a [u8]>,
}

/// Appends the record of the error that `body` is, in the dialect of the client, as `refusal::in_stream` does. What the
/// body does not say is said by `fault`. False, and nothing is appended, if it holds no message.
pub fn in_stream(api: Api, fault: &Fault, body: &[u8], request_id: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(words) = Words::of(body) else { return false };
    let Some(message) = words.message else { return false };
    let form = api.stream().error;
    let code = |out: &mut Vec<u8>| match words.code {
        Some(code) if form != ErrorRecord::Failed || code.starts_with(b"\"") => out.extend_from_slice(code),
        _ => quote(out, fault.kind.code()), // in Responses it is a string
    };
    match form {
        ErrorRecord::Failed => {
            out.extend_from_slice(b"event: error\ndata: {\"type\":\"error\",\"code\":");
            code(out);
            out.extend_from_slice(b",\"message\":");
            out.extend_from_slice(message);
            out.extend_from_slice(b",\"param\":");
            out.extend_from_slice(words.param.unwrap_or(b"null"));
            out.extend_from_slice(b",\"sequence_number\":");
            number(out, 0);
            out.extend_from_slice(
                b"}\n\nevent: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":",
            );
            number(out, 1);
            out.extend_from_slice(br#","response":{"object":"response","status":"failed","error":{"code":"#);
            code(out);
            out.extend_from_slice(b",\"message\":");
            out.extend_from_slice(message);
            out.extend_from_slice(b"}}}");
        }
        ErrorRecord::Data => {
            out.extend_from_slice(b"data: {\"error\":{\"message\":");
            out.extend_from_slice(message);
            out.extend_from_slice(b",\"type\":");
            words.name_or(openai_type(fault), out);
            out.extend_from_slice(b",\"param\":");
            out.extend_from_slice(words.param.unwrap_or(b"null"));
            out.extend_from_slice(b",\"code\":");
            code(out);
            out.extend_from_slice(b"}}");
        }
        ErrorRecord::Status => {
            let inside = |value: &[u8]| Text::owned(Text::of(value).unwrap_or_default().inside().to_vec());
            let record = FaultRecord {
                message: inside(message),
                code: words.code.map(inside),
                ..FaultRecord::default()
            };
            let status = fault.status.unwrap_or(fault.kind.status());
            out.extend_from_slice(b"data: ");
            gemini::encode::fault(&record, status, &String::from_utf8_lossy(request_id), out);
        }
        ErrorRecord::Event => {
            out.extend_from_slice(b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":");
            words.name_or(anthropic_type(fault), out);
            out.extend_from_slice(b",\"message\":");
            out.extend_from_slice(message);
            out.extend_from_slice(b"},\"request_id\":");
            quote(out, &String::from_utf8_lossy(request_id));
            out.push(b'}');
        }
        ErrorRecord::Line => {
            out.extend_from_slice(b"{\"error\":");
            out.extend_from_slice(message);
            out.extend_from_slice(b"}\n");
            return true;
        }
    }
    out.extend_from_slice(b"\n\n");
    true
}

impl<'a> Words<'a> {
    /// `{"error":{..}}`, `{"error":".."}`, `{"message":".."}` or `{"detail":".."}`: what providers and engines write.
    /// `None` for what is no JSON object.
    fn of(body: &'a [u8]) -> Option<Self> {
        let mut top = Self::default();
        let (mut error, mut detail) = (None, None);
        for member in json::members(body) {
            let member = member.ok()?;
            let (key, value) = (member.key.of(body), member.value.of(body));
            match member.kind {
                ValueKind::Object if json::key_is(key, "error") => error = Some(value),
                ValueKind::String if json::key_is(key, "error") || json::key_is(key, "detail") => {
                    detail = Some(value);
                }
                kind => top.take(key, value, kind),
            }
        }
        if let Some(error) = error {
            top = Self::default();
            for member in json::members(error).map_while(Result::ok) {
                top.take(member.key.of(error), member.value.of(error), member.kind);
            }
        }
        top.message = top.message.or(detail);
        Some(top)
    }

    fn take(&mut self, key: &[u8], value: &'a [u8], kind: ValueKind) {
        let place = match kind {
            ValueKind::String if json::key_is(key, "message") => &mut self.message,
            ValueKind::String if json::key_is(key, "type") => &mut self.name,
            ValueKind::String | ValueKind::Number if json::key_is(key, "code") => &mut self.code,
            ValueKind::String if json::key_is(key, "param") => &mut self.param,
            _ => return,
        };
        // Text that no two readers agree on is not repeated.
        if kind != ValueKind::String || json::string(value).is_some() {
            *place = Some(value);
        }
    }

    fn name_or(&self, ours: &str, out: &mut Vec<u8>) {
        match self.name {
            Some(name) => out.extend_from_slice(name),
            None => quote(out, ours),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error;

    fn record(api: Api, body: &str) -> Option<String> {
        let mut out = Vec::new();
        let fault = Fault::new(error::FaultKind::RequestRejected, "x");
        in_stream(api, &fault, body.as_bytes(), b"r1", &mut out)
            .then(|| String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn each_form_of_an_error_becomes_a_record_with_its_words() {
        for (body, expected) in [
            (
                "{\n \"error\": {\"message\": \"too\\nlong\", \"type\": \"bad\",\n\"param\":\"x\", \"code\": \"c\"}}",
                r#"{"message":"too\nlong","type":"bad","param":"x","code":"c"}"#,
            ),
            (
                r#"{"error":{"message":"m","type":null,"param":null,"code":null}}"#,
                r#"{"message":"m","type":"invalid_request_error","param":null,"code":"request_rejected"}"#,
            ),
            (
                r#"{"object":"error","message":"m","type":"BadRequestError","param":null,"code":400}"#,
                r#"{"message":"m","type":"BadRequestError","param":null,"code":400}"#,
            ),
            (
                r#"{"error":"m"}"#,
                r#"{"message":"m","type":"invalid_request_error","param":null,"code":"request_rejected"}"#,
            ),
            (
                r#"{"detail":"m"}"#,
                r#"{"message":"m","type":"invalid_request_error","param":null,"code":"request_rejected"}"#,
            ),
        ] {
            let expected = format!("data: {{\"error\":{expected}}}\n\n");
            assert_eq!(record(Api::Chat, body).as_deref(), Some(&*expected), "{body}");
        }
    }

    #[test]
    fn each_dialect_gets_its_own_record() {
        let body = r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#;
        assert_eq!(
            record(Api::Messages, body).as_deref(),
            Some(concat!(
                "event: error\ndata: ",
                r#"{"type":"error","error":{"type":"overloaded_error","message":"m"},"request_id":"r1"}"#,
                "\n\n"
            ))
        );
        let responses =
            record(Api::Responses, r#"{"error":{"message":"m","code":"context_length_exceeded"}}"#).unwrap();
        assert_eq!(
            responses,
            concat!(
                "event: error\ndata: ",
                r#"{"type":"error","code":"context_length_exceeded","message":"m","param":null,"sequence_number":0}"#,
                "\n\nevent: response.failed\ndata: ",
                r#"{"type":"response.failed","sequence_number":1,"response":{"object":"response","status":"failed","#,
                r#""error":{"code":"context_length_exceeded","message":"m"}}}"#,
                "\n\n"
            )
        );
    }

    #[test]
    fn what_says_nothing_is_not_repeated() {
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"error":{}}"#,
            r#"{"error":{"message":"\ud800"}}"#,
            r#"{"message":"#,
        ] {
            assert_eq!(record(Api::Chat, body), None, "{body}");
        }
    }
}
