//! From Converse into the neutral form.

mod events;
mod fault;
mod whole;

pub use events::Events;
pub use fault::fault;
pub use whole::body;

use crate::dialect::neutral::{FinishReason, Text};

/// Why the model stopped. A reason that is not known is an ordinary end.
fn finish_reason(reason: &Text<'_>, has_calls: bool) -> FinishReason {
    match reason.inside() {
        b"max_tokens" | b"model_context_window_exceeded" => FinishReason::Length,
        b"guardrail_intervened" | b"content_filtered" => FinishReason::ContentFilter,
        b"tool_use" if !has_calls => FinishReason::Stop, // the call was the output
        b"tool_use" => FinishReason::ToolCalls,
        _ if has_calls => FinishReason::ToolCalls,
        _ => FinishReason::Stop,
    }
}

/// The status of an exception, by its name, as the reference of the API has it.
fn status_of(name: &[u8]) -> Option<u16> {
    let is =
        |word: &str| name.len() >= word.len() && name[..word.len()].eq_ignore_ascii_case(word.as_bytes());
    match () {
        () if is("throttling") || is("modelNotReady") || is("tooManyRequests") => Some(429),
        () if is("validation") || is("serviceQuotaExceeded") => Some(400),
        () if is("accessDenied") || is("unrecognizedClient") => Some(403),
        () if is("resourceNotFound") => Some(404),
        () if is("modelTimeout") => Some(408),
        () if is("modelStreamError") || is("modelError") => Some(424),
        () if is("serviceUnavailable") => Some(503),
        () if is("internalServer") => Some(500),
        () => None,
    }
}
