//! `thoughtSignature`: Google's seals in the neutral form, and other providers' seals in this API.
//!
//! The member is base64, and clients decode and encode it on the way: google-genai sends it back in the alphabet for URLs.
//! So another provider's seal, which may be any text, goes to a client in base64 of our own, with a word in front that says so.

use crate::dialect::neutral::{Text, seal};
use crate::wire::base64;

/// In front of another provider's seal over a thought, inside the base64.
const THOUGHT: &[u8] = b"ringway:t:";
/// In front of another provider's sealed thought, inside the base64.
const REDACTED: &[u8] = b"ringway:r:";

/// What a `thoughtSignature` from a client is.
#[derive(PartialEq, Debug)]
pub(super) enum Seal {
    /// The seal over a thought, in the neutral form.
    Thought(Text<'static>),
    /// A sealed thought.
    Redacted(Text<'static>),
}

/// Reads the `thoughtSignature` of a client.
pub(super) fn of_client(signature: &Text<'_>) -> Seal {
    let raw = base64::decode(signature.inside());
    let theirs =
        |prefix| raw.as_ref().and_then(|raw| raw.strip_prefix(prefix)).map(|raw| Text::owned(raw.to_vec()));
    if let Some(data) = theirs(REDACTED) {
        return Seal::Redacted(data);
    }
    Seal::Thought(theirs(THOUGHT).unwrap_or_else(|| googles(signature)))
}

fn googles(signature: &Text<'_>) -> Text<'static> {
    let mut seal = Vec::new();
    write_googles(signature.inside(), &mut seal);
    Text::owned(seal)
}

/// Appends a seal of Google's in the neutral form.
pub(super) fn write_googles(signature: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(seal::GOOGLES);
    write_standard(signature, out);
}

/// Appends the value of a `thoughtSignature` for a client, without quotes.
pub(super) fn for_client(seal: &Text<'_>, out: &mut Vec<u8>) {
    match seal.inside().strip_prefix(seal::GOOGLES) {
        Some(signature) => out.extend_from_slice(signature),
        None => base64::encode(&[THOUGHT, seal.inside()].concat(), out),
    }
}

/// Appends the value of a `thoughtSignature` for a sealed thought.
pub(super) fn redacted_for_client(data: &Text<'_>, out: &mut Vec<u8>) {
    base64::encode(&[REDACTED, data.inside()].concat(), out);
}

/// The seal in the id of a call, as Google wrote it.
pub(super) fn of_id(id: &[u8]) -> (&[u8], Option<Vec<u8>>) {
    let (bare, sealed) = seal::split(id);
    (bare, sealed.map(standard))
}

/// Appends a seal of Google's to the id of a call.
pub(super) fn into_id(signature: &[u8], id: &mut Vec<u8>) {
    id.extend_from_slice(seal::MARK);
    id.extend(signature.iter().filter(|byte| **byte != b'=').map(|byte| match byte {
        b'+' => b'-',
        b'/' => b'_',
        byte => *byte,
    }));
}

/// Base64 of either alphabet, in the standard one and with its padding. What is no base64 may become anything.
pub(super) fn standard(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_standard(text, &mut out);
    out
}

fn write_standard(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    // A slash may be escaped in JSON.
    out.extend(text.iter().filter(|byte| **byte != b'\\').map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => *byte,
    }));
    while !(out.len() - start).is_multiple_of(4) {
        out.push(b'=');
    }
}

/// Whether base64 is in the standard alphabet.
pub(super) fn is_standard(text: &[u8]) -> bool {
    memchr::memchr2(b'-', b'_', text).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_seal_comes_back_from_a_client_of_either_alphabet() {
        for theirs in ["EqQB/+a=", "gAAAA-_x", "", "?>?>~~\\n\u{e9}"] {
            let mut sent = Vec::new();
            for_client(&Text::escaped(theirs.as_bytes()), &mut sent);
            let urlsafe: Vec<u8> = sent
                .iter()
                .map(|byte| {
                    if *byte == b'+' {
                        b'-'
                    } else if *byte == b'/' {
                        b'_'
                    } else {
                        *byte
                    }
                })
                .collect();
            for back in [&sent, &urlsafe] {
                assert_eq!(
                    of_client(&Text::escaped(back)),
                    Seal::Thought(Text::owned(theirs.as_bytes().to_vec()))
                );
            }
            let mut sent = Vec::new();
            redacted_for_client(&Text::escaped(theirs.as_bytes()), &mut sent);
            assert_eq!(
                of_client(&Text::escaped(&sent)),
                Seal::Redacted(Text::owned(theirs.as_bytes().to_vec()))
            );
        }
    }

    #[test]
    fn googles_seals_keep_their_bytes() {
        let Seal::Thought(seal) = of_client(&Text::escaped(b"AB-_cd==")) else { panic!("a seal") };
        assert_eq!(seal.inside(), b"google.AB+/cd==");
        let mut sent = Vec::new();
        for_client(&seal, &mut sent);
        assert_eq!(sent, b"AB+/cd==");
        let mut id = b"call_1".to_vec();
        into_id(b"AB+/cd==", &mut id);
        assert_eq!(id, b"call_1_gsig_AB-_cd");
        assert_eq!(of_id(&id), (&b"call_1"[..], Some(b"AB+/cd==".to_vec())));
        assert_eq!(of_id(b"call_1"), (&b"call_1"[..], None));
    }
}
