//! OpenAI's Responses, as its SDKs and Codex speak it, without state at the provider.
//!
//! Sources: OpenAI's API reference (`/v1/responses` and its streaming events), the readers of its Python and TypeScript
//! SDKs, and what Codex sends and needs. Where a client is stricter than the reference, the branch that obeys it says so.

mod as_stream;
pub mod decode;
pub mod encode;

pub(super) use as_stream::as_stream;

#[cfg(test)]
mod tests;
