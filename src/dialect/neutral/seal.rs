//! Whose seal it is: a seal over thoughts is of use to the provider that made it, and refused by the others.
//!
//! Google's seals are marked where they enter the neutral form. The seal over a call of a tool travels in the call's id,
//! which is the one member that every client sends back as it was.

use super::Text;

/// In front of Google's seals.
pub const GOOGLES: &[u8] = b"google.";
/// Between the id of a call and Google's seal over it, which is in base64 for URLs, without padding.
pub const MARK: &[u8] = b"_gsig_";

/// Whether a seal is Google's.
pub fn is_googles(seal: &Text<'_>) -> bool {
    seal.inside().starts_with(GOOGLES)
}

/// The id of a call, and the seal in it.
pub fn split(id: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memmem::find(id, MARK) {
        Some(at) => (&id[..at], Some(&id[at + MARK.len()..])),
        None => (id, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_split_at_the_mark() {
        assert_eq!(split(b"call_1"), (&b"call_1"[..], None));
        assert_eq!(split(b"call_1_gsig_AB_-"), (&b"call_1"[..], Some(&b"AB_-"[..])));
        assert!(is_googles(&Text::escaped(b"google.AA==")) && !is_googles(&Text::escaped(b"gAAAA")));
    }
}
