//! OpenAI's chat completions, as engines and providers copy it.
//!
//! Sources: OpenAI's API reference (`/v1/chat/completions`); what vLLM, SGLang, Azure, DeepSeek and others add to it or
//! spell another way is noted where it is read.

pub mod decode;
pub mod encode;

#[cfg(test)]
mod tests;
