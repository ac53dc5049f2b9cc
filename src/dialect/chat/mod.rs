//! OpenAI's chat completions, as engines and providers copy it.
//!
//! Sources: OpenAI's API reference (`/v1/chat/completions`); what vLLM, SGLang, Azure, DeepSeek and others add to it or
//! spell another way is noted where it is read.

mod as_stream;
pub mod decode;
pub mod encode;
pub mod resume;

pub(super) use as_stream::{as_stream, completions_as_stream};

#[cfg(test)]
mod tests;
