//! WHAT MAY BE SAID?
//!
//! Content rules over text, as it is read and not as JSON writes it. Pure: bytes come in, findings and edits go out.
//!
//! - [`patterns`]: expressions and detectors of a set of rules, compiled once into one automaton.
//! - [`detect`]: what a detector accepts among the candidates of its expression (checksums, lengths, entropy).
//! - [`scan`]: finds the matches of a text that comes in pieces, and says which end of it may still become one.
//! - [`rules`]: the rules that apply to a model: where each searches, and what follows a match.
//! - [`evidence`]: what is written of a match; [`secret`]: under what its text is hashed.
//! - [`shape`]: what a request is made of beside its texts.
//! - [`external`]: guards in another process; [`verdicts`]: what they said before.
//! - [`whole`]: a request or a whole response under rules; [`text`]: a text that stands alone.
//! - [`stream`]: the events of a stream under rules; holds back what may still become a match.

pub mod detect;
pub mod evidence;
pub mod external;
pub mod patterns;
pub mod rules;
pub mod scan;
pub mod secret;
pub mod shape;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod text;
pub mod verdicts;
pub mod whole;
