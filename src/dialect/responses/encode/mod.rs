//! From the neutral form into Responses.

mod body;
mod events;
mod fault;
mod input;
mod item;
mod request;

pub use body::Body;
pub use events::Events;
pub use fault::fault;
pub use request::request;

/// How ids of reasoning items begin that hold a thought which only its provider can read.
pub(super) const REDACTED: &[u8] = b"rs_redacted_";

/// Appends words to a document of our own.
fn words(words: &[&str], out: &mut Vec<u8>) {
    words.iter().for_each(|word| out.extend_from_slice(word.as_bytes()));
}
