//! A dialect for tests only, the smallest that can be translated: what a generating dialect has to have, and no more.
//!
//! ```text
//! request    {"model":"m","text":"hello","stream":true}
//! response   {"echo":"hello"}
//! stream     data: {"echo":"hel"}   data: {"echo":"lo"}   data: {"end":true}
//! error      {"fault":"words"}
//! ```

pub(crate) mod decode;
pub(crate) mod encode;

mod tests;
