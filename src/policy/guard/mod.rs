//! WHAT MAY BE SAID?
//!
//! Content rules over text, as it is read and not as JSON writes it. Pure: text comes in pieces, matches go out.
//!
//! - [`patterns`]: expressions and detectors of a set of rules, compiled once into one automaton.
//! - [`detect`]: what a detector accepts among the candidates of its expression (checksums, lengths, entropy).
//! - [`scan`]: finds the matches of a text that comes in pieces, and says which end of it may still become one.

pub mod detect;
pub mod patterns;
pub mod scan;
#[cfg(test)]
mod tests;
