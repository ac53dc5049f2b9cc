//! Ollama's own API: `/api/chat` and `/api/generate`.
//!
//! A stream is one JSON object per line (`application/x-ndjson`), without blank lines, and it is the default: a request that
//! does not mention `stream` asks for one. The last line has `"done":true`; a stream without it was cut. Arguments of tool
//! calls are objects, images are bare base64, and `done_reason` stays `stop` when tools are called.
//!
//! Sources: Ollama's API reference (`docs/api.md` in its repository), and its server's types of requests and responses.

mod as_stream;
pub mod decode;
pub mod encode;
pub mod generate;
pub mod load;

pub(super) use as_stream::as_stream;

#[cfg(test)]
mod tests;

/// Which of the two endpoints a response is for: they differ in where the text stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    /// `message.content`
    Chat,
    /// `response`
    Generate,
}
