//! From Messages into the neutral form.

mod blocks;
mod events;
mod fault;
mod request;
mod whole;

pub use events::Events;
pub use fault::fault;
pub use request::request;
pub use whole::body;

use crate::dialect::neutral::{FinishReason, Text};

/// Why the model stopped. A reason that is not known is an ordinary end, and so is `pause_turn`, after which a client may
/// ask for more.
fn finish_reason(reason: &Text<'_>, has_calls: bool) -> FinishReason {
    match reason.inside() {
        b"max_tokens" | b"model_context_window_exceeded" => FinishReason::Length,
        b"refusal" => FinishReason::ContentFilter,
        b"tool_use" => FinishReason::ToolCalls,
        _ if has_calls => FinishReason::ToolCalls,
        _ => FinishReason::Stop,
    }
}
