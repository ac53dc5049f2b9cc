//! From the neutral form into Google's API.

mod body;
mod events;
mod fault;
mod history;
mod request;

pub use body::Body;
pub use events::Events;
pub use fault::fault;
pub use request::request;

use super::seal;
use crate::dialect::neutral::{Arguments, Context, FinishReason, Json, Text, custom, one_line};
use crate::dialect::number;
use crate::dialect::usage::Usage;

/// The generation of a model by its name (`gemini-2.5-flash`: 2); `None` for a name that tells none.
fn generation(model: Json<'_>) -> Option<u32> {
    let name = String::from_utf8_lossy(model);
    let behind = &name[name.find("gemini-")? + "gemini-".len()..];
    behind.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// Whether a model refuses calls in its history without a seal: those of the third generation do.
fn wants_seals(model: Json<'_>) -> bool {
    let is_latest = || memchr::memmem::find(model, b"-latest").is_some();
    generation(model).map_or_else(is_latest, |generation| generation >= 3)
}

/// Appends the members that every response ends with: its model and its id.
fn identity(context: &Context, id: &[u8], model: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"modelVersion\":");
    match model.is_empty() {
        true => Text::plain(&context.model).quote(out),
        false => Text::escaped(model).quote(out),
    }
    out.extend_from_slice(b",\"responseId\":");
    match id.is_empty() {
        true => Text::plain(&context.request_id).quote(out),
        false => Text::escaped(id).quote(out),
    }
}

/// Appends the counts as a member. Here the input includes what came from a cache, and the output leaves out the thoughts.
fn usage(usage: &Usage, out: &mut Vec<u8>) {
    if !usage.seen {
        return;
    }
    out.extend_from_slice(b",\"usageMetadata\":{\"promptTokenCount\":");
    number(out, usage.input);
    out.extend_from_slice(b",\"candidatesTokenCount\":");
    number(out, usage.output - usage.reasoning.min(usage.output));
    for (name, count) in [("cachedContentTokenCount", usage.cached), ("thoughtsTokenCount", usage.reasoning)]
    {
        if count > 0 {
            for word in [",\"", name, "\":"] {
                out.extend_from_slice(word.as_bytes());
            }
            number(out, count);
        }
    }
    out.extend_from_slice(b",\"totalTokenCount\":");
    number(out, usage.input + usage.output);
    out.push(b'}');
}

/// The reason to finish. That the model calls tools is an ordinary stop here.
const fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::ToolCalls => "STOP",
        FinishReason::Length => "MAX_TOKENS",
        FinishReason::ContentFilter => "SAFETY",
    }
}

/// Appends a text, or a thought, as a part.
fn said(text: &[u8], is_thought: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"text\":");
    Text::escaped(text).quote(out);
    out.extend_from_slice(if is_thought { b",\"thought\":true}" } else { b"}" });
}

/// Appends the seal over a thought as an empty part of the thought.
fn sealed(signature: &Text<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"text\":\"\",\"thought\":true,\"thoughtSignature\":\"");
    seal::for_client(signature, out);
    out.extend_from_slice(b"\"}");
}

/// Appends a thought that only its provider can read.
fn redacted(data: &Text<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"text\":\"\",\"thought\":true,\"thoughtSignature\":\"");
    seal::redacted_for_client(data, out);
    out.extend_from_slice(b"\"}");
}

/// Appends a call of a tool, of its collected arguments.
fn call(id: &[u8], name: &[u8], arguments: &[u8], is_custom: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"functionCall\":{\"id\":");
    Text::escaped(id).quote(out);
    out.extend_from_slice(b",\"name\":");
    Text::escaped(name).quote(out);
    out.extend_from_slice(b",\"args\":");
    let start = out.len();
    match is_custom {
        true => custom::wrap(&Text::escaped(arguments), out),
        false => Arguments::Quoted(Text::escaped(arguments)).write_object(out),
    }
    one_line(out, start);
    out.extend_from_slice(b"}}");
}
