//! Which status does an error have that came inside a 200?
//!
//! Providers that have sent their head already, and gateways in front of them, put the status into the body: as a number
//! (`error.code`, `code`, `error.status`), or as one of the names that an API has for it.

use crate::wire::json::{self, ValueKind};

/// The status, from 400 to 599, that the error in `body` names. `None`: it names none, or is no JSON object.
///
/// A number counts before a name, and what stands in the `error` object before what stands beside it. A `response` object
/// is looked into for its `error` (an event `response.failed`).
///
/// Cost: one pass over the members at the top, and of the error object.
pub fn of(body: &[u8]) -> Option<u16> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut top = Said::default();
    let (mut inner, mut response) = (None, None);
    for member in json::members(body).map_while(Result::ok) {
        let (key, value) = (member.key.of(body), member.value.of(body));
        match member.kind {
            ValueKind::Object if json::key_is(key, "error") => inner = Some(of_object(value)),
            ValueKind::Object if json::key_is(key, "response") => response = Some(value),
            kind => top.take(key, value, kind),
        }
    }
    let of_response = || of(response?);
    let inner = inner.unwrap_or_default();
    inner.number.or(top.number).or(inner.name).or(top.name).or_else(of_response)
}

/// Whether a refusal is one of the gateway's own credential: Google calls a key that it does not know an invalid argument.
pub fn denies_credential(body: &[u8]) -> bool {
    memchr::memmem::find(body, b"\"API_KEY_INVALID\"").is_some()
}

/// The pause that an error asks for in its body, in seconds: Google's has no header line for it (`"retryDelay": "12.5s"`).
pub fn retry_seconds(body: &[u8]) -> Option<f64> {
    let key = b"\"retryDelay\"";
    let value = body.get(memchr::memmem::find(body, key)? + key.len()..)?.trim_ascii_start();
    let value = value.strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    let digits = &value[..memchr::memchr(b's', value).filter(|end| *end <= DELAY_BYTES_MAX)?];
    let seconds: f64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then_some(seconds)
}

/// Nine digits of a second's parts, and more seconds than anybody waits.
const DELAY_BYTES_MAX: usize = 24;

fn of_object(error: &[u8]) -> Said {
    let mut said = Said::default();
    for member in json::members(error).map_while(Result::ok) {
        said.take(member.key.of(error), member.value.of(error), member.kind);
    }
    said
}

/// What an object says of the status: in digits, and by a name.
#[derive(Clone, Copy, Default)]
struct Said {
    number: Option<u16>,
    name: Option<u16>,
}

impl Said {
    fn take(&mut self, key: &[u8], value: &[u8], kind: ValueKind) {
        let is = |names: &[&str]| names.iter().any(|name| json::key_is(key, name));
        if !matches!(kind, ValueKind::String | ValueKind::Number) {
            return;
        }
        if is(&["code", "status", "status_code", "http_status"]) {
            self.number = self.number.or_else(|| status(unquoted(value)));
        }
        // The narrower word counts: a type is that of many codes.
        if is(&["code", "status"]) {
            self.name = named(value).or(self.name);
        } else if is(&["type"]) {
            self.name = self.name.or_else(|| named(value));
        }
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(value)
}

fn status(digits: &[u8]) -> Option<u16> {
    let status = u16::try_from(json::unsigned(digits)?).ok()?;
    (400..=599).contains(&status).then_some(status)
}

fn named(value: &[u8]) -> Option<u16> {
    let is = |name: &&(&str, u16)| json::key_is(value, name.0);
    NAMES.iter().find(is).map(|(_, status)| *status)
}

/// Names that APIs give their errors, with the status that each has where it is not inside a 200. A name that says no more
/// than that the backend failed is left out.
const NAMES: [(&str, u16); 29] = [
    // OpenAI: codes and types.
    ("rate_limit_exceeded", 429),
    ("insufficient_quota", 429),
    ("tokens", 429),
    ("requests", 429),
    ("context_length_exceeded", 400),
    ("invalid_prompt", 400),
    ("invalid_api_key", 401),
    ("model_not_found", 404),
    ("server_is_overloaded", 503),
    ("slow_down", 503),
    ("invalid_request_error", 400),
    // Anthropic.
    ("authentication_error", 401),
    ("billing_error", 402),
    ("permission_error", 403),
    ("not_found_error", 404),
    ("request_too_large", 413),
    ("rate_limit_error", 429),
    ("timeout_error", 504),
    ("overloaded_error", 529),
    // Google's canonical codes.
    ("INVALID_ARGUMENT", 400),
    ("FAILED_PRECONDITION", 400),
    ("UNAUTHENTICATED", 401),
    ("PERMISSION_DENIED", 403),
    ("NOT_FOUND", 404),
    ("RESOURCE_EXHAUSTED", 429),
    ("UNAVAILABLE", 503),
    ("DEADLINE_EXCEEDED", 504),
    // vLLM and SGLang.
    ("BadRequestError", 400),
    ("NotFoundError", 404),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_from_the_body() {
        for (body, expected) in [
            (r#"{"error":{"details":[{"retryDelay": "12s"}]}}"#, Some(12.0)),
            (r#"{"error":{"details":[{"retryDelay":"1.5s"}]}}"#, Some(1.5)),
            (r#"{"error":{"details":[{"retryDelay":"-1s"}]}}"#, None),
            (r#"{"error":{"details":[{"retryDelay":"NaNs"}]}}"#, None),
            (r#"{"error":{"details":[{"retryDelay":12}]}}"#, None),
            (r#"{"error":{"details":[{"retryDelay":"12"#, None),
            (r#"{"error":{}}"#, None),
        ] {
            assert_eq!(retry_seconds(body.as_bytes()), expected, "{body}");
        }
        assert!(denies_credential(br#"{"error":{"details":[{"reason":"API_KEY_INVALID"}]}}"#));
        assert!(!denies_credential(br#"{"error":{"message":"say \"API_KEY_INVALID\""}}"#));
    }

    #[test]
    fn a_number_or_a_name_says_the_status() {
        for (body, expected) in [
            (r#"{"error":{"message":"x","code":429}}"#, Some(429)),
            (r#"{"error":{"message":"x","code":"429"}}"#, Some(429)),
            ("\u{feff}{\"error\":{\"code\":503}}", Some(503)),
            (r#"{"code":502,"error":{"message":"x"}}"#, Some(502)),
            (r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}"#, Some(429)),
            (r#"{"error":{"status":"UNAVAILABLE"}}"#, Some(503)),
            (r#"{"object":"error","message":"x","type":"BadRequestError","code":400}"#, Some(400)),
            (r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#, Some(529)),
            (r#"{"type":"error","error":{"type":"invalid_request_error"}}"#, Some(400)),
            (r#"{"error":{"type":"invalid_request_error","code":"invalid_api_key"}}"#, Some(401)),
            (r#"{"error":{"code":"rate_limit_exceeded","type":"requests"}}"#, Some(429)),
            (r#"{"type":"error","code":"rate_limit_exceeded","message":"x"}"#, Some(429)),
            (
                r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_is_overloaded"}}}"#,
                Some(503),
            ),
            (r#"{"error":{"code":1305,"message":"x"}}"#, None),
            (r#"{"error":{"code":200}}"#, None),
            (r#"{"error":{"code":null,"type":"x"}}"#, None),
            (r#"{"error":"overloaded"}"#, None),
            (r#"{"error":{"code":4e2}}"#, None),
            ("null", None),
            ("", None),
            ("<html>429</html>", None),
            (r#"{"error":{"code":429"#, None),
        ] {
            assert_eq!(of(body.as_bytes()), expected, "{body}");
        }
    }
}
