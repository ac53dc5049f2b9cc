//! From the neutral form into chat completions.

mod body;
mod events;
mod fault;
mod request;

pub use body::Body;
pub use events::Events;
pub use fault::fault;
pub use request::request;

use crate::dialect::neutral::FinishReason;
use crate::dialect::number;
use crate::dialect::usage::Usage;

/// Appends the usage object. Here the input includes what came from a cache, and the output the reasoning.
fn usage(usage: &Usage, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"prompt_tokens\":");
    number(out, usage.input);
    out.extend_from_slice(b",\"completion_tokens\":");
    number(out, usage.output);
    out.extend_from_slice(b",\"total_tokens\":");
    number(out, usage.input + usage.output);
    out.extend_from_slice(b",\"prompt_tokens_details\":{\"cached_tokens\":");
    number(out, usage.cached);
    if usage.cache_write > 0 {
        out.extend_from_slice(b",\"cache_write_tokens\":");
        number(out, usage.cache_write);
    }
    out.extend_from_slice(b"},\"completion_tokens_details\":{\"reasoning_tokens\":");
    number(out, usage.reasoning);
    out.extend_from_slice(b"}}");
}

/// The finish reason. A model that calls tools stops for that, whatever its backend says; a bound or a filter wins.
const fn finish_reason(reason: FinishReason, has_calls: bool) -> &'static str {
    match (reason, has_calls) {
        (FinishReason::Length, _) => "length",
        (FinishReason::ContentFilter, _) => "content_filter",
        (FinishReason::ToolCalls, _) | (FinishReason::Stop, true) => "tool_calls",
        (FinishReason::Stop, false) => "stop",
    }
}
