//! WHAT DO THESE BYTES SAY?
//!
//! Pure parsers of what arrives on a socket: HTTP/1.1 heads, chunked and compressed bodies, server-sent events and other streams
//! of records, JSON. They take
//! bytes and return spans into them; they hold no buffer, so the kernel may own it between two calls.
//!
//! One rule decides doubtful bytes: what another reader could take for a different message is refused, never
//! repaired. Where that is stricter than the RFC, the branch says so.
//!
//! Verdicts do not depend on how the bytes were cut into reads: every table of the tests runs at every cut.

pub mod base64;
pub mod chunked;
pub mod coding;
pub mod connect;
pub mod event_stream;
pub mod fields;
pub mod framing;
pub mod head;
pub mod json;
pub mod ndjson;
pub mod pause;
pub mod proxy_protocol;
pub mod records;
pub mod sse;

/// What a parser returns. "Need more bytes" is a state, never a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step<T> {
    /// Everything so far is fine and incomplete: call again with the same bytes and more behind them.
    More,
    /// Complete.
    Done(T),
}

#[cfg(test)]
pub(crate) mod noise;
