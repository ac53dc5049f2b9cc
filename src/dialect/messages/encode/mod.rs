//! From the neutral form into Messages.

mod body;
mod events;
mod fault;
mod history;
mod request;

pub use body::Body;
pub use events::Events;
pub use fault::fault;
pub use request::request;

use crate::dialect::neutral::{Arguments, Context, FinishReason, Text, custom};
use crate::dialect::number;
use crate::dialect::usage::Usage;

/// Appends the members that a message begins with, up to its content.
fn head(context: &Context, id: &[u8], model: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"id\":\"");
    if !id.starts_with(b"msg_") {
        out.extend_from_slice(b"msg_");
    }
    out.extend_from_slice(if id.is_empty() { context.request_id.as_bytes() } else { id });
    out.extend_from_slice(b"\",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    match model.is_empty() {
        true => Text::plain(&context.model).quote(out),
        false => Text::escaped(model).quote(out),
    }
}

/// Appends the usage object. Here the input leaves out what was read from a cache or written to it.
fn usage(usage: &Usage, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"input_tokens\":");
    number(out, usage.input.saturating_sub(usage.cached).saturating_sub(usage.cache_write));
    out.extend_from_slice(b",\"cache_creation_input_tokens\":");
    number(out, usage.cache_write);
    out.extend_from_slice(b",\"cache_read_input_tokens\":");
    number(out, usage.cached);
    out.extend_from_slice(b",\"output_tokens\":");
    number(out, usage.output);
    if usage.reasoning > 0 {
        out.extend_from_slice(b",\"output_tokens_details\":{\"thinking_tokens\":");
        number(out, usage.reasoning);
        out.push(b'}');
    }
    out.push(b'}');
}

/// Appends `stop_reason` and `stop_sequence`. A model that calls tools stops for that, whatever its backend says; a bound
/// or a filter wins.
fn stop(reason: FinishReason, stop_sequence: Option<&[u8]>, has_calls: bool, out: &mut Vec<u8>) {
    let (word, sequence) = match (reason, has_calls, stop_sequence) {
        (FinishReason::Length, _, _) => ("max_tokens", None),
        (FinishReason::ContentFilter, _, _) => ("refusal", None),
        (FinishReason::ToolCalls, _, _) | (FinishReason::Stop, true, _) => ("tool_use", None),
        (FinishReason::Stop, false, None) => ("end_turn", None),
        (FinishReason::Stop, false, sequence) => ("stop_sequence", sequence),
    };
    out.extend_from_slice(b"\"stop_reason\":\"");
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b"\",\"stop_sequence\":");
    match sequence {
        Some(sequence) => Text::escaped(sequence).quote(out),
        None => out.extend_from_slice(b"null"),
    }
}

/// Appends the input of a call, an object, of its collected arguments.
fn input(arguments: &[u8], is_custom: bool, out: &mut Vec<u8>) {
    match is_custom {
        true => custom::wrap(&Text::escaped(arguments), out),
        false => Arguments::Quoted(Text::escaped(arguments)).write_object(out),
    }
}
