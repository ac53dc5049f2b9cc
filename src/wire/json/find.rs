//! An object by its key, without reading what is around it: the usage at the end of an answer.

use memchr::memmem;

use super::{blanks, value};
use crate::units::Span;

/// A key to look for, prepared once.
#[derive(Clone, Debug)]
pub struct Finder {
    /// The key with its quotes.
    quoted: memmem::Finder<'static>,
}

impl Finder {
    /// A finder for members with this key, spelt without escapes.
    pub fn new(key: &str) -> Self {
        Self { quoted: memmem::Finder::new(&format!("\"{key}\"")).into_owned() }
    }
}

/// What [`find_object`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// No member of that key has an object for a value.
    Absent,
    /// The object of the last one, braces included.
    Whole(Span),
    /// The last one is cut off by the end of the bytes. Its key starts here: search again from there with more.
    Incomplete(usize),
}

/// The last member in `bytes` with the finder's key and an object for a value, at any depth.
///
/// `bytes` may start and end anywhere in a text. Text inside strings is no match: its quotes are escaped there. Members
/// with the key and another value (`"usage": null`) are passed over. Cost: one vector search over the bytes, and one
/// scan of the object found.
pub fn find_object(bytes: &[u8], finder: &Finder) -> Found {
    let length = finder.quoted.needle().len();
    let mut last = None;
    for start in finder.quoted.find_iter(bytes).filter(|&start| !is_escaped(bytes, start)) {
        let colon = blanks(bytes, start + length);
        let open = blanks(bytes, colon + 1);
        match (bytes.get(colon), bytes.get(open)) {
            (None, _) | (Some(b':'), None) => return Found::Incomplete(start),
            (Some(b':'), Some(b'{')) => last = Some((start, open)),
            _ => {}
        }
    }
    let Some((start, open)) = last else {
        return Found::Absent;
    };
    match value(bytes, open) {
        Ok((span, _)) => Found::Whole(span),
        Err(bad) if bad.at == bytes.len() => Found::Incomplete(start),
        Err(_) => Found::Absent,
    }
}

/// Whether the quote at `at` has an odd number of backslashes in front of it.
fn is_escaped(bytes: &[u8], at: usize) -> bool {
    bytes[..at].iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
}
