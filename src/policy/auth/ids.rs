//! Ids of what backends keep, as clients see them: each leads back to the backend that made it, and only for its owner.
//!
//! Such an id holds the maker and the backend's own id, sealed under a secret that gateways share: nothing has to be
//! remembered between the request that made it and the one that refers to it, by no process and through no restart.
//! Whoever has another owner's id can neither use it nor read the backend's own id out of it. The same response always
//! has the same id.
//!
//! Form: [`PREFIX`], then in base64url without padding (RFC 4648 section 5) a tag of 16 bytes and, enciphered, the maker
//! (8 bytes) and the backend's id. The tag is the first half of an HMAC-SHA256 over owner, maker and id, and the starting
//! value of the cipher, an HMAC-SHA256 in counter mode (the order of RFC 5297: authenticate, then encipher by the tag).

use std::hint::black_box;

use ring::hmac;

use crate::wire::base64;

/// What an id of this form begins with. The digit is the version of the form.
pub const PREFIX: &str = "resp_rw1";

/// The longest id of a backend that is sealed, in bytes; theirs have about 50.
pub const ID_BYTES_MAX: usize = 512;

const TAG_BYTES: usize = 16;
const MAKER_BYTES: usize = 8;
/// The longest text behind the prefix.
const TEXT_BYTES_MAX: usize = (TAG_BYTES + MAKER_BYTES + ID_BYTES_MAX).div_ceil(3) * 4;

/// The backend that made something, known by a keyed hash of its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Maker([u8; MAKER_BYTES]);

/// Seals and opens ids.
#[derive(Clone)]
pub struct Ids {
    key: hmac::Key,
    is_kept: bool,
    previous: Option<Box<Previous>>,
}

/// The secret before, and its makers with what they are called now.
#[derive(Clone)]
struct Previous {
    ids: Ids,
    makers: Vec<(Maker, Maker)>,
}

impl std::fmt::Debug for Ids {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Ids(redacted)")
    }
}

impl Ids {
    /// With the secret of this gateway and of all that shall know its ids.
    pub fn new(secret: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), is_kept: true, previous: None }
    }

    /// Ids that were sealed with the secret before this one are read as well, those of the backends of these names.
    #[must_use]
    pub fn with_previous<'a>(mut self, secret: &[u8], backends: impl Iterator<Item = &'a str>) -> Self {
        let previous = Self::new(secret);
        let makers = backends.map(|name| (previous.maker(name), self.maker(name))).collect();
        self.previous = Some(Box::new(Previous { ids: previous, makers }));
        self
    }

    /// With a secret that ends with this process.
    pub fn fleeting(secret: &[u8]) -> Self {
        Self { is_kept: false, ..Self::new(secret) }
    }

    /// Whether others have the secret, or will have it.
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// The maker that is a backend of this name.
    pub fn maker(&self, backend: &str) -> Maker {
        let mut maker = Maker::default();
        maker.0.copy_from_slice(&self.digest(Use::Maker, &[backend.as_bytes()])[..MAKER_BYTES]);
        maker
    }

    /// Appends the id under which `owner` knows what `maker` calls `id`; `false`, and nothing, if that is too long.
    pub fn seal(&self, maker: Maker, owner: &str, id: &[u8], out: &mut Vec<u8>) -> bool {
        if id.len() > ID_BYTES_MAX {
            return false;
        }
        let tag = self.tag(maker, owner, id);
        let mut sealed = Vec::with_capacity(TAG_BYTES + MAKER_BYTES + id.len());
        sealed.extend_from_slice(&tag);
        sealed.extend_from_slice(&maker.0);
        sealed.extend_from_slice(id);
        self.cipher(&tag, &mut sealed[TAG_BYTES..]);
        out.extend_from_slice(PREFIX.as_bytes());
        base64::encode_url(&sealed, out);
        true
    }

    /// Who made what `owner` calls `id`, and what it is called there. `None` for an id that is none of this form, not of
    /// this secret, or another owner's.
    pub fn open(&self, owner: &str, id: &[u8]) -> Option<(Maker, Vec<u8>)> {
        self.open_own(owner, id).or_else(|| {
            let previous = self.previous.as_ref()?;
            let (maker, id) = previous.ids.open_own(owner, id)?;
            let (_, now) = previous.makers.iter().find(|(before, _)| *before == maker)?;
            Some((*now, id))
        })
    }

    fn open_own(&self, owner: &str, id: &[u8]) -> Option<(Maker, Vec<u8>)> {
        let text = id.strip_prefix(PREFIX.as_bytes()).filter(|text| text.len() <= TEXT_BYTES_MAX)?;
        let mut sealed = base64::decode_url(text)?;
        let (tag, rest) = sealed.split_first_chunk_mut::<TAG_BYTES>()?;
        self.cipher(tag, rest);
        let (maker, id) = rest.split_first_chunk::<MAKER_BYTES>()?;
        let (maker, id) = (Maker(*maker), id.to_vec());
        equal(tag, &self.tag(maker, owner, &id)).then_some((maker, id))
    }

    fn tag(&self, maker: Maker, owner: &str, id: &[u8]) -> [u8; TAG_BYTES] {
        let owner_length = (owner.len() as u64).to_le_bytes();
        let digest = self.digest(Use::Tag, &[&owner_length, owner.as_bytes(), &maker.0, id]);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&digest[..TAG_BYTES]);
        tag
    }

    /// Enciphers, or deciphers.
    fn cipher(&self, tag: &[u8; TAG_BYTES], text: &mut [u8]) {
        for (count, block) in text.chunks_mut(32).enumerate() {
            let pad = self.digest(Use::Cipher, &[tag, &(count as u64).to_le_bytes()]);
            for (byte, pad) in block.iter_mut().zip(pad) {
                *byte ^= pad;
            }
        }
    }

    fn digest(&self, purpose: Use, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&[purpose as u8]);
        for part in parts {
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

/// What a digest is for: one of one kind is never taken for one of another.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Use {
    Maker = 1,
    Tag = 2,
    Cipher = 3,
}

/// Whether two tags are the same, looking at all bytes whatever the first ones say.
fn equal(left: &[u8; TAG_BYTES], right: &[u8; TAG_BYTES]) -> bool {
    black_box(u128::from_ne_bytes(*left) ^ u128::from_ne_bytes(*right)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::base64::{decode_url as decode, encode_url as encode, value};

    fn ids() -> Ids {
        Ids::new(b"0123456789abcdef0123456789abcdef")
    }

    fn sealed(ids: &Ids, backend: &str, owner: &str, id: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(ids.seal(ids.maker(backend), owner, id, &mut out));
        out
    }

    #[test]
    fn an_id_comes_back_to_its_owner_with_its_maker() {
        let ids = ids();
        let long = vec![b'x'; ID_BYTES_MAX];
        let all: [&[u8]; 7] =
            [b"", b"r", b"resp_68a1", "réponse ☃".as_bytes(), b"\0\xff\n\"", b"resp_rw1AAAA", &long];
        for id in all {
            for (backend, owner) in [("b1", "one"), ("b2", ""), ("b1", "team-é")] {
                let wire = sealed(&ids, backend, owner, id);
                assert!(wire.starts_with(PREFIX.as_bytes()));
                assert!(wire[PREFIX.len()..].iter().all(|byte| value(*byte).is_some()));
                assert_eq!(ids.open(owner, &wire), Some((ids.maker(backend), id.to_vec())));
                assert_eq!(wire, sealed(&ids, backend, owner, id), "always the same");
                if !id.is_empty() && id.len() > 4 {
                    let text = String::from_utf8_lossy(&decode(&wire[PREFIX.len()..]).unwrap()).into_owned();
                    assert!(!text.contains(&*String::from_utf8_lossy(id)), "the backend's id can be read");
                }
            }
        }
        assert!(!ids.seal(ids.maker("b"), "", &vec![b'x'; ID_BYTES_MAX + 1], &mut Vec::new()));
    }

    #[test]
    fn no_other_owner_secret_or_text_opens_it() {
        let ids = ids();
        let wire = sealed(&ids, "b1", "one", b"resp_1234567890");
        for owner in ["", "on", "one ", "two", "One"] {
            assert_eq!(ids.open(owner, &wire), None, "{owner:?}");
        }
        assert_eq!(Ids::new(b"another").open("one", &wire), None);
        for at in 0..wire.len() {
            for with in [b'A', b'b', b'0', b'_', b'=', b'+', b'/', b'.', 0, 0xff] {
                let mut other = wire.clone();
                other[at] = with;
                assert!(other == wire || ids.open("one", &other).is_none(), "byte {at} as {with}");
            }
            assert_eq!(ids.open("one", &wire[..at]), None, "cut at {at}");
            let mut other = wire.clone();
            other.insert(at, b'A');
            assert_eq!(ids.open("one", &other), None, "one more at {at}");
        }
        let long = [PREFIX.as_bytes(), &[b'A'; TEXT_BYTES_MAX + 1]].concat();
        for other in [b"".as_slice(), b"resp_", b"resp_rw1", b"resp_rw2AAAA", "resp_rw1é".as_bytes(), &long]
        {
            assert_eq!(ids.open("one", other), None);
        }
    }

    #[test]
    fn owner_and_id_do_not_run_into_each_other() {
        let ids = ids();
        let wire = |owner, id: &[u8]| sealed(&ids, "b", owner, id)[PREFIX.len()..][..20].to_vec();
        assert_ne!(wire("ab", b"c"), wire("a", b"bc"));
        assert_ne!(ids.maker("b1"), ids.maker("b2"));
        assert_ne!(ids.maker("b1"), Ids::new(b"another").maker("b1"));
    }

    #[test]
    fn every_byte_string_survives_its_text_and_every_text_has_one_meaning() {
        let mut state = 7u64;
        for length in 0..200 {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            let mut text = Vec::new();
            encode(&bytes, &mut text);
            assert_eq!(decode(&text), Some(bytes));
            text.push(b'B'); // one letter more: it is left over, or says more than it may
            assert!(decode(&text).is_none_or(|bytes| bytes.len() > length));
        }
        assert_eq!(decode(b"AB"), None, "bits left over");
        assert_eq!(decode(b"A"), None);
    }
}
