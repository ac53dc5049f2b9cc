//! Google's `generateContent`, as its SDKs and the Gemini CLI speak it.
//!
//! The model and whether the response streams stand in the path, not in the body. Members may be written in camel case or in
//! snake case. A stream has no record that ends it: it is whole with a `finishReason`, or with a prompt that was blocked.
//! Calls of tools come whole, often without an id.
//!
//! Sources: Google's API reference (`models.generateContent`, `models.streamGenerateContent`, thinking, thought signatures,
//! function calling), `google.rpc.Status`, and the readers of google-genai. Its reader of streams takes lines `data: ` and
//! nothing else: no comment, no event name, no `[DONE]`.

mod as_stream;
pub mod decode;
pub mod encode;
mod rename;
mod seal;
mod spelling;

pub(super) use as_stream::as_stream;
pub use rename::renamed;

#[cfg(test)]
mod tests;
