//! WHAT DOES THIS API MEAN?
//!
//! Which endpoint a path names, what of a request decides about routing and billing, what of a response is usage, an
//! end or an error, and how the gateway itself speaks to a client in the client's own dialect. Everything else in a
//! body passes byte for byte: what is converted keeps its values as they were written.
//!
//! - `table`: every endpoint with all that differs between them; `api`, `api_set`: what is asked of it; `route`: path and method to [`Api`].
//! - [`estimate`]: how many tokens a prompt is, before a backend has counted it.
//! - [`request`]: the routed and billed members of a body, and the edits that make it fit a backend.
//! - [`response_ids`]: where a response says its own id.
//! - [`stream`]: the meter over a response; [`usage`]: the one normal form of token counts.
//! - [`whole`], [`embeddings`]: whole responses in the form the client asked for, where the backend chose another.
//! - [`opening`]: whether a 200 begins like a response, or is a failure inside one.
//! - [`overflow`]: the one refusal of a backend that another model need not share.
//! - [`backend_error`]: a backend's error as a record in a stream.
//! - [`neutral`]: what every generating API can say; [`chat`], [`messages`], [`responses`], [`gemini`], [`ollama`]: into it
//!   and out of it; [`converse`], for backends only.
//! - [`refusal`], [`models`]: the documents the gateway writes itself.

mod api;
mod api_set;
pub mod backend_error;
pub mod chat;
pub mod converse;
mod dates;
#[cfg(test)]
mod echo;
mod embed;
pub mod embeddings;
pub mod error_status;
pub mod estimate;
pub mod gemini;
pub mod messages;
pub mod models;
pub mod neutral;
pub mod ollama;
pub mod opening;
pub mod overflow;
pub mod prompt;
pub mod refusal;
pub mod request;
pub mod response_ids;
pub mod responses;
pub mod route;
pub mod stream;
mod table;
pub mod texts;
pub mod translate;
pub mod usage;
pub mod whole;

pub use api_set::ApiSet;
pub use dates::civil_time;
pub use route::route;
pub use table::{Api, Task};
pub use translate::Call;

use crate::wire::json;

/// A family of endpoints that share their errors and headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// OpenAI and everybody who copies it.
    OpenAi,
    /// Anthropic Messages.
    Anthropic,
    /// Google's `generateContent`.
    Google,
    /// Ollama's own API.
    Ollama,
}

/// Why a body is not one that a conversion takes. Not an error, and nothing to retry: the body passes as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unfit(pub &'static str);

impl From<json::BadJson> for Unfit {
    fn from(bad: json::BadJson) -> Self {
        Unfit(bad.reason)
    }
}

use ollama::generate as ollama_generate; // a folder's verbs under the name by which `translate` looks for them

/// Appends a number to a document of our own.
fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
