//! From the neutral form into Ollama's API.

mod body;
mod events;
mod fault;
mod request;

pub use body::Body;
pub(super) use body::Whole;
pub use events::Events;
pub(super) use events::Lines;
pub use fault::fault;
pub use request::request;

use crate::dialect::dates::timestamp;
use crate::dialect::neutral::{Arguments, Context, FinishReason, Text, custom, one_line};
use crate::dialect::number;
use crate::dialect::usage::Usage;

/// Appends what every document of a response begins with, its brace included.
fn head(context: &Context, model: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"model\":");
    match model.is_empty() {
        true => Text::plain(&context.model).quote(out),
        false => Text::escaped(model).quote(out),
    }
    out.extend_from_slice(b",\"created_at\":");
    timestamp(out, context.created);
}

/// Appends how a response ends, up to the brace of its document. A count that is not known is left out, and so are the
/// times, which the gateway does not have: Ollama leaves out what is zero, too.
fn end(reason: Option<FinishReason>, usage: &Usage, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"done_reason\":");
    out.extend_from_slice(match reason {
        Some(FinishReason::Length) => b"\"length\"".as_slice(),
        _ => b"\"stop\"",
    });
    out.extend_from_slice(b",\"done\":true");
    if usage.seen {
        out.extend_from_slice(b",\"prompt_eval_count\":");
        number(out, usage.input);
        out.extend_from_slice(b",\"eval_count\":");
        number(out, usage.output);
    }
}

/// Where the conversation would stand that the next prompt goes on with: clients look for the member, whose tokens only an
/// engine could read.
const NO_CONTEXT: &[u8] = b",\"context\":[]";

/// A call of a tool, held until it is whole.
#[derive(Clone, Debug, Default)]
struct Call {
    id: Vec<u8>,
    name: Vec<u8>,
    /// The inside of a JSON string.
    arguments: Vec<u8>,
    /// The arguments are free text.
    is_custom: bool,
}

impl Call {
    /// Appends an entry of `tool_calls`.
    fn write(&self, index: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"id\":");
        Text::escaped(&self.id).quote(out);
        out.extend_from_slice(b",\"function\":{\"index\":");
        number(out, index as u64);
        out.extend_from_slice(b",\"name\":");
        Text::escaped(&self.name).quote(out);
        out.extend_from_slice(b",\"arguments\":");
        let (start, text) = (out.len(), Text::escaped(&self.arguments));
        match self.is_custom {
            true => custom::wrap(&text, out),
            false => Arguments::Quoted(text).write_object(out),
        }
        one_line(out, start);
        out.extend_from_slice(b"}}");
    }
}
