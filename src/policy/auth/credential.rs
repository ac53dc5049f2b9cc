//! Which key is it?
//!
//! A key is known by its SHA-256 only: the table never holds a secret, and a lookup never builds a path or a query
//! from what a client sent.

use std::fmt;
use std::hint::black_box;

use crate::error::{Fault, FaultKind};
use crate::units::KeyId;

/// SHA-256 of a key.
pub type Digest = [u8; 32];

/// Longest credential that is looked at, in bytes. Taste: far above any key in use, far below a head's limit.
pub const KEY_BYTES_MAX: usize = 512;

/// What the admin tokens of the store start with. None of them is ever a key.
pub const ADMIN_PREFIX: &str = "rw-admin-";

/// Digests of all keys, found by their first bytes and confirmed in constant time.
///
/// Open addressing with linear steps over at most half full slots. A digest is uniform, so its first bytes are the
/// hash; a client cannot choose them without choosing a preimage.
#[derive(Default)]
pub struct KeyTable {
    /// `slots: [row or EMPTY; power of two, at least twice the rows]`.
    slots: Box<[u32]>,
    /// `rows: [digest and its key; secrets]`: a key that is being rotated has two.
    rows: Box<[(Digest, KeyId)]>,
}

const EMPTY: u32 = u32::MAX;

impl KeyTable {
    /// The table of these digests, by `KeyId`.
    ///
    /// # Panics
    /// If a digest occurs twice: `config` has to refuse that with the names of both keys first.
    pub fn new(digests: &[Digest]) -> Self {
        Self::of(digests.iter().enumerate().map(|(row, digest)| (*digest, KeyId::new(row))).collect())
    }

    /// The table of these digests, each with its key; a key may have several.
    ///
    /// # Panics
    /// As [`KeyTable::new`].
    pub fn of(rows: Vec<(Digest, KeyId)>) -> Self {
        if rows.is_empty() {
            return Self::default();
        }
        let mut table =
            Self { slots: vec![EMPTY; (rows.len() * 2).next_power_of_two()].into(), rows: Box::default() };
        let rows: Box<[_]> = rows.into();
        table.rows = rows.clone();
        for (row, (digest, _)) in rows.iter().enumerate() {
            assert!(table.find(digest).is_none(), "the same key twice");
            let mut slot = table.first_slot(digest);
            while table.slots[slot] != EMPTY {
                slot = table.next_slot(slot);
            }
            table.slots[slot] = u32::try_from(row).expect("fewer than 2^32 keys");
        }
        table
    }

    /// The key with this digest. Ends at the first empty slot; at least half of them are.
    pub fn find(&self, digest: &Digest) -> Option<KeyId> {
        if self.slots.is_empty() {
            return None;
        }
        let mut slot = self.first_slot(digest);
        loop {
            let row = self.slots[slot];
            if row == EMPTY {
                return None;
            }
            let (known, key) = &self.rows[row as usize];
            if equal(known, digest) {
                return Some(*key);
            }
            slot = self.next_slot(slot);
        }
    }

    fn first_slot(&self, digest: &Digest) -> usize {
        let [a, b, c, d, ..] = *digest;
        u32::from_le_bytes([a, b, c, d]) as usize & (self.slots.len() - 1)
    }

    fn next_slot(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }
}

/// Whether two digests are the same, looking at all bytes whatever the first ones say.
fn equal(left: &Digest, right: &Digest) -> bool {
    let (left, right) = (left.as_chunks::<8>().0, right.as_chunks::<8>().0);
    let mut difference = 0;
    for (left, right) in left.iter().zip(right) {
        // Opaque, so that the loop is not turned into a comparison that stops early.
        difference |= black_box(u64::from_ne_bytes(*left) ^ u64::from_ne_bytes(*right));
    }
    difference == 0
}

/// The one token of a plane that has no keys. It is known by its digest, which is not shown either.
#[derive(Clone, Copy)]
pub struct Token(Digest);

impl Token {
    /// The token with this SHA-256.
    pub const fn new(digest: Digest) -> Self {
        Self(digest)
    }

    /// Whether this is the token. In constant time but for the length of what is presented.
    pub fn accepts(&self, presented: &[u8]) -> bool {
        equal(&self.0, &digest(presented))
    }

    /// Whether the key with this digest is the same secret.
    pub fn is_key(&self, digest: &Digest) -> bool {
        equal(&self.0, digest)
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        equal(&self.0, &other.0)
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(redacted)")
    }
}

/// SHA-256 of a presented key. No allocation.
pub fn digest(key: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, key).as_ref());
    out
}

/// The credentials of one request. A head with the same line twice has to be refused by the caller: which tenant pays must not
/// depend on order.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// The value of its `Authorization` line.
    pub authorization: Option<&'a [u8]>,
    /// The values of its `x-api-key`, `api-key` and `x-goog-api-key` lines.
    pub api_keys: [Option<&'a [u8]>; 3],
    /// What its query has for `key`.
    pub query_key: Option<&'a [u8]>,
}

impl KeyTable {
    /// Whose request it is: the one key among its credentials that is known. SDKs and proxies add credentials of their own, a
    /// placeholder or somebody else's login, so what is not known says nothing as long as another is.
    ///
    /// # Errors
    /// `HeadMalformed` for two different keys that are both known. `KeyInvalid` for none that is: none at all, another scheme than
    /// Bearer, more than [`KEY_BYTES_MAX`] bytes.
    ///
    /// Cost: a digest for each credential that differs from the one before; most requests have one.
    pub fn identify(&self, credentials: &Credentials<'_>) -> Result<KeyId, Fault> {
        let authorization = credentials.authorization.map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let token = authorization.and_then(bearer);
        let api_keys = credentials.api_keys.iter().copied().chain([credentials.query_key]);
        let api_keys = api_keys.flatten().map(<[u8]>::trim_ascii);
        let presented = token.into_iter().chain(api_keys).filter(|key| !key.is_empty());
        let (mut found, mut last, mut too_long) = (None, &[][..], false);
        for key in presented {
            if key.len() > KEY_BYTES_MAX {
                too_long = true;
                continue;
            }
            if key == last {
                continue;
            }
            last = key;
            if key.starts_with(ADMIN_PREFIX.as_bytes()) {
                continue;
            }
            let known = self.find(&digest(key));
            if let (Some(one), Some(other)) = (found, known)
                && one != other
            {
                return Err(Fault::new(FaultKind::HeadMalformed, "two different API keys: send one of them"));
            }
            found = found.or(known);
        }
        let note = match found {
            Some(key) => return Ok(key),
            None if last.starts_with(ADMIN_PREFIX.as_bytes()) => {
                "this is an admin token, which opens the admin listener only: send an API key"
            }
            None if !last.is_empty() => "the API key is not known here",
            None if too_long => "the API key is longer than 512 bytes",
            None if authorization.is_some() && token.is_none() => {
                "the Authorization scheme is not Bearer: send 'Authorization: Bearer <key>'"
            }
            None => "no API key: send 'Authorization: Bearer <key>' or 'x-api-key: <key>'",
        };
        Err(Fault::new(FaultKind::KeyInvalid, note))
    }
}

/// The token of `Bearer <token>` (RFC 6750 section 2.1; the scheme is case-insensitive, RFC 9110 section 11.1).
/// `None` for another scheme; an empty token for the bare scheme.
pub fn bearer(line: &[u8]) -> Option<&[u8]> {
    let line = line.trim_ascii();
    let (scheme, rest) = line.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return None;
    }
    match rest.first() {
        None => Some(rest),
        Some(b' ') => Some(rest.trim_ascii_start()),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Line = Option<&'static [u8]>;

    #[test]
    fn each_key_is_found_under_its_row_and_no_other_is() {
        for count in [0, 1, 2, 3, 1000] {
            let digests: Vec<_> =
                (0..count).map(|index: usize| digest(format!("key {index}").as_bytes())).collect();
            let table = KeyTable::new(&digests);
            for (row, digest) in digests.iter().enumerate() {
                assert_eq!(table.find(digest), Some(KeyId::new(row)));
            }
            assert_eq!(table.find(&digest(b"another")), None);
            assert_eq!(table.find(&[0; 32]), None);
        }
    }

    #[test]
    fn digests_that_share_their_first_bytes_stay_apart() {
        let mut digests = [[7; 32]; 5];
        for (index, digest) in digests.iter_mut().enumerate() {
            digest[31] = index as u8;
        }
        let table = KeyTable::new(&digests);
        for (row, digest) in digests.iter().enumerate() {
            assert_eq!(table.find(digest), Some(KeyId::new(row)));
        }
        let mut other = [7; 32];
        other[31] = 9;
        assert_eq!(table.find(&other), None);
    }

    #[test]
    fn every_secret_of_a_key_finds_it() {
        let rows = [("new", 1), ("old", 1), ("other", 0)];
        let rows = rows.map(|(secret, key)| (digest(secret.as_bytes()), KeyId::new(key)));
        let table = KeyTable::of(rows.to_vec());
        for (digest, key) in &rows {
            assert_eq!(table.find(digest), Some(*key));
        }
        assert_eq!(table.find(&digest(b"older")), None);
    }

    #[test]
    #[should_panic(expected = "the same key twice")]
    fn the_same_digest_twice_is_no_table() {
        KeyTable::new(&[digest(b"a"), digest(b"b"), digest(b"a")]);
    }

    #[test]
    fn a_digest_is_sha_256() {
        // FIPS 180-4, the empty message.
        assert_eq!(digest(b"")[..4], [0xe3, 0xb0, 0xc4, 0x42]);
    }

    #[test]
    fn equality_looks_at_every_byte() {
        for index in 0..32 {
            let mut other = [0; 32];
            other[index] = 1;
            assert!(!equal(&[0; 32], &other));
        }
        assert!(equal(&[9; 32], &[9; 32]));
    }

    #[test]
    fn a_token_accepts_itself_and_shows_nothing() {
        let token = Token::new(digest(b"a token"));
        assert!(token.accepts(b"a token") && token.is_key(&digest(b"a token")));
        for other in [&b""[..], b"a toke", b"a token ", b"A token"] {
            assert!(!token.accepts(other), "{other:?}");
        }
        assert_eq!(format!("{token:?}"), "Token(redacted)");
    }

    fn identify(authorization: Line, api_keys: [Line; 3]) -> Result<KeyId, Fault> {
        let table = KeyTable::new(&[digest(b"k"), digest(b"other")]);
        table.identify(&Credentials { authorization, api_keys, query_key: None })
    }

    #[test]
    fn a_key_in_the_query_counts_like_one_in_a_line() {
        let table = KeyTable::new(&[digest(b"k"), digest(b"other")]);
        let of = |query_key, api_key| {
            let api_keys = [Some(api_key), None, None];
            table
                .identify(&Credentials { authorization: None, api_keys, query_key })
                .map_err(|fault| fault.kind)
        };
        assert_eq!(of(Some(&b"k"[..]), b"placeholder"), Ok(KeyId::new(0)));
        assert_eq!(of(Some(&b"k"[..]), b"other"), Err(FaultKind::HeadMalformed));
        assert_eq!(of(Some(&b"x"[..]), b"placeholder"), Err(FaultKind::KeyInvalid));
    }

    #[test]
    fn the_known_key_is_found_wherever_it_stands() {
        const LONG: &[u8] = &[b'a'; KEY_BYTES_MAX + 1];
        const K: Line = Some(b"k");
        let cases: &[(Line, [Line; 3])] = &[
            (Some(b"Bearer k"), [None; 3]),
            (Some(b"bEARER  k"), [None; 3]),
            (Some(b" Bearer k "), [None; 3]),
            (None, [K, None, None]),
            (None, [None, K, None]),
            (None, [None, None, K]),
            (None, [Some(b" k "), None, None]),
            (Some(b"Bearer k"), [K; 3]),
            (Some(b"Bearer"), [K, None, None]),
            (Some(b"Bearer "), [None, K, None]),
            (Some(b""), [None, None, K]),
            (Some(b"Bearer k"), [Some(b""), None, None]),
            (Some(b"Bearer k"), [Some(b"dummy"), None, None]),
            (Some(b"Bearer dummy"), [K, None, None]),
            (Some(b"Bearer dummy"), [Some(b"dummy"), Some(b"another"), K]),
            (Some(b"Basic dXNlcjpwYXNz"), [K, None, None]),
            (Some(b"Bearer k"), [None, None, Some(LONG)]),
            (Some(LONG), [None, K, None]),
        ];
        for &(authorization, api_keys) in cases {
            assert_eq!(
                identify(authorization, api_keys),
                Ok(KeyId::new(0)),
                "{authorization:?} {api_keys:?}"
            );
        }
    }

    #[test]
    fn an_admin_token_is_no_key_even_where_its_digest_is_one() {
        let token = b"rw-admin-Ab3dEf6h-secret";
        let table = KeyTable::new(&[digest(b"k"), digest(token)]);
        let of = |line: &'static [u8], api_key: Line| {
            let api_keys = [api_key, None, None];
            table.identify(&Credentials { authorization: Some(line), api_keys, query_key: None })
        };
        let fault = of(b"Bearer rw-admin-Ab3dEf6h-secret", None).unwrap_err();
        assert!(fault.kind == FaultKind::KeyInvalid && fault.note.contains("admin token"), "{}", fault.note);
        assert_eq!(of(b"Bearer rw-admin-Ab3dEf6h-secret", Some(b"k")), Ok(KeyId::new(0)));
    }

    #[test]
    fn no_key_two_keys_and_other_schemes_are_refused() {
        const LONG: &[u8] = &[b'a'; KEY_BYTES_MAX + 1];
        let cases: &[(Line, [Line; 3], FaultKind, &str)] = &[
            (None, [None; 3], FaultKind::KeyInvalid, "no API key"),
            (Some(b""), [None; 3], FaultKind::KeyInvalid, "no API key"),
            (Some(b"Bearer"), [None; 3], FaultKind::KeyInvalid, "no API key"),
            (Some(b"Bearer  "), [Some(b" "), None, Some(b"")], FaultKind::KeyInvalid, "no API key"),
            (Some(b"Basic k"), [None; 3], FaultKind::KeyInvalid, "not Bearer"),
            (Some(b"Bearerk"), [None; 3], FaultKind::KeyInvalid, "not Bearer"),
            (Some(b"Bearer\tk"), [None; 3], FaultKind::KeyInvalid, "not Bearer"),
            (Some(b"k"), [None; 3], FaultKind::KeyInvalid, "not Bearer"),
            (None, [Some(LONG), None, None], FaultKind::KeyInvalid, "longer than 512"),
            (Some(b"Bearer a"), [Some(b"b"), None, None], FaultKind::KeyInvalid, "not known"),
            (Some(b"Bearer a"), [None, Some(b"b"), Some(b"c")], FaultKind::KeyInvalid, "not known"),
            (Some(b"Basic k"), [Some(b"b"), None, None], FaultKind::KeyInvalid, "not known"),
            (Some(b"Bearer k"), [Some(b"other"), None, None], FaultKind::HeadMalformed, "two different"),
            (Some(b"Bearer other"), [None, None, Some(b"k")], FaultKind::HeadMalformed, "two different"),
            (None, [Some(b"k"), Some(b"x"), Some(b"other")], FaultKind::HeadMalformed, "two different"),
        ];
        for &(authorization, api_keys, kind, note) in cases {
            let fault = identify(authorization, api_keys).unwrap_err();
            assert_eq!(fault.kind, kind, "{authorization:?} {api_keys:?}");
            assert!(fault.note.contains(note), "{}", fault.note);
        }
    }
}
