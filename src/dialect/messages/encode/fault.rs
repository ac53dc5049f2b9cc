//! An error for a client.

use crate::dialect::neutral::{FaultRecord, Text};
use crate::dialect::number;
use crate::wire::json;

/// Appends the body of an error: the backend's own words under the type that fits the status.
pub fn fault(record: &FaultRecord<'_>, status: u16, request_id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"error\",\"error\":{\"type\":\"");
    out.extend_from_slice(error_type(status).as_bytes());
    out.extend_from_slice(b"\",\"message\":\"");
    if is_too_long(record) {
        out.extend_from_slice(b"prompt is too long: ");
    }
    match record.message.is_empty() {
        true => {
            out.extend_from_slice(b"the backend responded with status ");
            number(out, u64::from(status));
        }
        false => out.extend_from_slice(record.message.inside()),
    }
    out.extend_from_slice(b"\"},\"request_id\":");
    json::quote(out, request_id);
    out.push(b'}');
}

/// Anthropic's type of an error with this status.
const fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 504 => "timeout_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// Whether an error says that the prompt does not fit the model, in words that Claude Code does not know. It makes its
/// history shorter and goes on if it reads Anthropic's, and gives up otherwise.
fn is_too_long(record: &FaultRecord<'_>) -> bool {
    let words = String::from_utf8_lossy(record.message.inside()).to_ascii_lowercase();
    if KNOWN.iter().any(|known| words.contains(known)) {
        return false;
    }
    let is = |text: &Option<Text<'_>>, word| text.as_ref().is_some_and(|text| text.is(word));
    is(&record.code, "context_length_exceeded")
        || is(&record.kind, "exceed_context_size_error")
        || OTHERS.iter().any(|other| words.contains(other))
}

/// Anthropic's own words, in lower case.
const KNOWN: [&str; 2] = ["prompt is too long", "exceed context limit"];

/// What others say, in lower case.
const OTHERS: [&str; 11] = [
    "maximum context length",
    "maximum model length",
    "context length (",
    "available context size",
    "context window",
    "should not exceed max_num_tokens",
    "input is too long",
    "prompt too long",
    "too many input tokens",
    "exceeds the maximum number of tokens allowed",
    "longer than the maximum",
];
