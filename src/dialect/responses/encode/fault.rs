//! An error for a client.

use crate::dialect::neutral::{FaultRecord, Text};
use crate::wire::json;

/// Appends the body of an error: the backend's own words under the type that fits the status.
pub fn fault(record: &FaultRecord<'_>, status: u16, _request_id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"error\":{\"message\":");
    message(record, status).quote(out);
    out.extend_from_slice(b",\"type\":");
    json::quote(out, error_type(status));
    out.extend_from_slice(b",\"param\":");
    text_or_null(record.param.as_ref(), out);
    out.extend_from_slice(b",\"code\":");
    match is_too_long(record) {
        true => json::quote(out, TOO_LONG),
        false => text_or_null(record.code.as_ref().or(record.kind.as_ref()), out),
    }
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

/// The backend's own words.
pub(super) fn message<'a>(record: &'a FaultRecord<'_>, status: u16) -> Text<'a> {
    match record.message.is_empty() {
        true => Text::plain(&format!("the backend responded with status {status}")),
        false => Text::escaped(record.message.inside()),
    }
}

/// The code of an error inside a stream, out of those that clients act on: Codex tries again after most of them, and ends
/// its session after those that say the request is at fault.
pub(super) fn code(record: &FaultRecord<'_>, status: u16) -> &'static str {
    const KNOWN: [&str; 6] = [
        "insufficient_quota",
        "rate_limit_exceeded",
        "server_is_overloaded",
        "server_error",
        "invalid_prompt",
        "cyber_policy",
    ];
    if is_too_long(record) {
        return TOO_LONG;
    }
    let known = KNOWN.iter().find(|known| record.code.as_ref().is_some_and(|code| code.is(known)));
    match (known, status) {
        (Some(known), _) => known,
        (None, 429) => "rate_limit_exceeded",
        (None, 503 | 529) => "server_is_overloaded",
        (None, 400 | 404 | 413 | 422) => "invalid_prompt",
        _ => "server_error",
    }
}

const TOO_LONG: &str = "context_length_exceeded";

/// Whether an error says that the prompt does not fit the model.
fn is_too_long(record: &FaultRecord<'_>) -> bool {
    let words = String::from_utf8_lossy(record.message.inside()).to_ascii_lowercase();
    let is = |text: &Option<Text<'_>>, word| text.as_ref().is_some_and(|text| text.is(word));
    is(&record.code, TOO_LONG)
        || is(&record.kind, "exceed_context_size_error")
        || WORDS.iter().any(|said| words.contains(said))
}

/// What backends without a code for it say, in lower case.
const WORDS: [&str; 11] = [
    "prompt is too long",
    "exceed context limit",
    "maximum context length",
    "maximum model length",
    "context length (",
    "available context size",
    "context window",
    "should not exceed max_num_tokens",
    "input is too long",
    "too many input tokens",
    "exceeds the maximum number of tokens allowed",
];

fn text_or_null(text: Option<&Text<'_>>, out: &mut Vec<u8>) {
    match text {
        Some(text) => text.quote(out),
        None => out.extend_from_slice(b"null"),
    }
}
