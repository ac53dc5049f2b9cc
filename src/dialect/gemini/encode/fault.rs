//! An error for a client.

use crate::dialect::neutral::{FaultRecord, Text};
use crate::dialect::number;
use crate::wire::json;

/// Appends the body of an error, a `google.rpc.Status`: the backend's own words under the word that fits the status.
pub fn fault(record: &FaultRecord<'_>, status: u16, request_id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"error\":{\"code\":");
    number(out, status.into());
    out.extend_from_slice(b",\"message\":");
    match record.message.is_empty() {
        true => Text::escaped(b"the backend reported an error without words").quote(out),
        false => record.message.quote(out),
    }
    out.extend_from_slice(b",\"status\":\"");
    out.extend_from_slice(status_word(status).as_bytes());
    out.extend_from_slice(b"\",\"details\":[");
    if let Some(code) = record.code.as_ref().or(record.kind.as_ref()).filter(|code| !code.is_empty()) {
        out.extend_from_slice(b"{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":");
        code.quote(out);
        out.extend_from_slice(b",\"domain\":\"ringway\"},");
    }
    out.extend_from_slice(b"{\"@type\":\"type.googleapis.com/google.rpc.RequestInfo\",\"requestId\":");
    json::quote(out, request_id);
    out.extend_from_slice(b"}]}}");
}

/// The word of `google.rpc.Code` for a status.
pub(super) const fn status_word(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        402 | 403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        408 | 504 => "DEADLINE_EXCEEDED",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        501 => "UNIMPLEMENTED",
        503 | 529 => "UNAVAILABLE",
        400..=499 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}
