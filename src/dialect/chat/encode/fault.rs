//! An error for a client.

use crate::dialect::neutral::{FaultRecord, Text};

/// Appends the body of an error: the backend's own words under the type that fits the status.
pub fn fault(record: &FaultRecord<'_>, status: u16, _request_id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"error\":{\"message\":");
    match record.message.is_empty() {
        true => Text::escaped(b"the backend reported an error without words").quote(out),
        false => record.message.quote(out),
    }
    out.extend_from_slice(b",\"type\":\"");
    out.extend_from_slice(error_type(status).as_bytes());
    out.extend_from_slice(b"\",\"param\":");
    text_or_null(record.param.as_ref(), out);
    out.extend_from_slice(b",\"code\":");
    text_or_null(record.code.as_ref().or(record.kind.as_ref()), out);
    out.extend_from_slice(b"}}");
}

/// OpenAI's type of an error with this status.
const fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

fn text_or_null(text: Option<&Text<'_>>, out: &mut Vec<u8>) {
    match text {
        Some(text) => text.quote(out),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use crate::dialect::chat::{decode, encode};

    #[test]
    fn errors_keep_their_words() {
        let overflow = r#"{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
        for (body, message, code) in [
            (overflow, "too long", Some("context_length_exceeded")),
            (r#"{"object":"error","message":"bad","type":"BadRequestError","code":400}"#, "bad", None),
            (r#"{"detail":"Not Found"}"#, "Not Found", None),
            ("<html>", "", None),
            ("", "", None),
        ] {
            let record = decode::fault(400, body.as_bytes());
            assert!(record.message.is(message), "{body}");
            assert_eq!(record.code.as_ref().and_then(|code| code.to_plain()).as_deref(), code, "{body}");
            let mut out = Vec::new();
            encode::fault(&record, 400, "id", &mut out);
            let told: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(told["error"]["type"], "invalid_request_error");
        }
    }
}
