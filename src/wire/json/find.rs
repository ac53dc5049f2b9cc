//! An object by its key, without reading what is around it: the usage at the end of a response.

use memchr::memmem;

use super::blanks;

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
pub enum ObjectSearch {
    /// No member of that key has an object for a value.
    Absent,
    /// The last one.
    Opens {
        /// Where its key starts.
        key: usize,
        /// Where its object starts.
        object: usize,
    },
    /// The bytes end before the value of the last one. Its key starts here: search again from there with more.
    Incomplete(usize),
}

/// The last member in `bytes` with the finder's key and an object for a value, at any depth.
///
/// `bytes` may start and end anywhere in a text. Text inside strings is no match: its quotes are escaped there. Members
/// with the key and another value (`"usage": null`) are passed over. The object is not read: `leading_members` does, and
/// finds out whether it is whole. Cost: one vector search over the bytes.
pub fn find_object(bytes: &[u8], finder: &Finder) -> ObjectSearch {
    let length = finder.quoted.needle().len();
    let mut last = ObjectSearch::Absent;
    let mut from = 0;
    while let Some(next) = finder.quoted.find(&bytes[from..]) {
        let key = from + next;
        from = key + length;
        if is_escaped(bytes, key) {
            continue;
        }
        let colon = blanks(bytes, key + length);
        let object = blanks(bytes, colon + 1);
        match (bytes.get(colon), bytes.get(object)) {
            (None, _) | (Some(b':'), None) => return ObjectSearch::Incomplete(key),
            (Some(b':'), Some(b'{')) => last = ObjectSearch::Opens { key, object },
            _ => {}
        }
    }
    last
}

/// Whether the quote at `at` has an odd number of backslashes in front of it.
fn is_escaped(bytes: &[u8], at: usize) -> bool {
    bytes[..at].iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
}
