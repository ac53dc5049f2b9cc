//! Anthropic's Messages, as its SDKs and Claude Code speak it, and as servers copy it.
//!
//! Sources: Anthropic's API reference (`/v1/messages`, streaming, errors, versions `2023-06-01` to `2026-10-21`), the readers of
//! its Python and TypeScript SDKs, and what Claude Code sends and needs. Where a client is stricter than the reference,
//! the branch that obeys it says so.

mod as_stream;
pub mod decode;
pub mod encode;

pub(super) use as_stream::as_stream;

#[cfg(test)]
mod tests;
