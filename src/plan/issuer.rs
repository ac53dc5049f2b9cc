//! Who issues the JSON Web Tokens that are taken in the place of a key, and the keys that verify them.
//!
//! The coordinator reads the key sets and shards look at the last one that was read: no shard waits for an issuer.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ClientConfig;

use super::{Proxy, Row};
use crate::policy::auth::jwt::{Expected, KeySet};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::units::{IssuerId, KeyId, Nanos};

/// One issuer.
pub struct Issuer {
    /// Its row.
    pub id: IssuerId,
    /// The operator's name for it.
    pub name: Box<str>,
    /// What its tokens have to say.
    pub expected: Expected,
    /// The row of each value of the team's claim.
    pub teams: BTreeMap<Box<str>, KeyId>,
    /// The row of tokens without such a value; `None` refuses them.
    pub other: Option<KeyId>,
    /// Where its key set is.
    pub source: KeySource,
    /// Time between two readings of its key set.
    pub refresh: Nanos,
    /// The shortest time between two readings.
    pub refresh_min: Nanos,
    /// The age at which a key set is not used any more.
    pub age_max: Nanos,
}

/// Where a key set is, and how it is reached.
pub struct KeySource {
    /// A URL: of the key set, or of the document that says where it is.
    pub url: Box<str>,
    /// The URL is that of an OpenID configuration, whose `issuer` has to be this one and whose `jwks_uri` is read.
    pub is_discovery: bool,
    /// The client side of TLS; `None` for plaintext, on this machine only.
    pub tls: Option<Arc<ClientConfig>>,
    /// The file of authorities that it trusts in place of the machine's.
    pub ca_file: Option<Box<str>>,
    /// The proxy on the way there.
    pub proxy: Option<Proxy>,
}

/// What is known of one issuer: written by the coordinator, but for `wanted`.
#[derive(Default)]
pub struct IssuerCells {
    /// The last key set that was read, with its number; `None` before the first.
    pub keys: ArcSwapOption<(u64, KeySet)>,
    /// When it was last read, [`Nanos`]; 0 for never.
    pub read_at: AtomicU64,
    /// When a reading last ended, well or not, [`Nanos`]; 0 for never.
    pub tried_at: AtomicU64,
    /// A shard has met a token whose key the set does not have.
    pub wanted: AtomicBool,
    /// Readings that succeeded, and that failed.
    pub reads: [AtomicU64; 2],
    /// Why the last reading failed, if it did.
    pub failure: ArcSwapOption<String>,
}

impl Issuer {
    /// The row of a token with these values of the team's claim.
    ///
    /// # Errors
    /// Why there is none: no value is mapped, or two of them are to different rows.
    pub fn key(&self, values: &[String]) -> Result<KeyId, &'static str> {
        let mut found = values.iter().filter_map(|value| self.teams.get(&**value).copied());
        let Some(first) = found.next() else {
            return self.other.ok_or("none of its groups belongs to a team of this gateway");
        };
        match found.all(|other| other == first) {
            true => Ok(first),
            false => Err("its groups belong to more than one team of this gateway"),
        }
    }
}

impl IssuerCells {
    /// Whether the set is not too old.
    pub fn is_fresh(&self, age_max: Nanos, now: Nanos) -> bool {
        self.age(now) < age_max
    }

    /// The time since the set was read.
    pub fn age(&self, now: Nanos) -> Nanos {
        now.since(Nanos(self.read_at.load(Ordering::Acquire)))
    }

    /// Stores a set that was read. One that has not changed keeps its number, so that verified tokens stay so.
    pub fn store(&self, set: KeySet, now: Nanos) {
        let before = self.keys.load_full();
        if before.as_ref().is_none_or(|before| before.1 != set) {
            self.keys.store(Some(Arc::new((before.map_or(0, |before| before.0) + 1, set))));
        }
        self.read_at.store(now.0, Ordering::Release);
        self.failure.store(None);
        self.reads[0].fetch_add(1, Ordering::Relaxed);
    }

    /// Notes why a set could not be read.
    pub fn fail(&self, reason: String) {
        self.failure.store(Some(Arc::new(reason)));
        self.reads[1].fetch_add(1, Ordering::Relaxed);
    }
}

impl Row for Issuer {
    type Name = str;
    type Cells = IssuerCells;

    fn name(&self) -> &str {
        &self.name
    }

    /// The keys of another place, or for another issuer, are other keys.
    fn continues(&self, before: &Self) -> bool {
        let (source, other) = (&self.source, &before.source);
        self.expected.issuer == before.expected.issuer
            && (&source.url, source.is_discovery, &source.ca_file)
                == (&other.url, other.is_discovery, &other.ca_file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[u8] =
        br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    const OTHER: &[u8] = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"2","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    #[test]
    fn a_set_that_has_not_changed_keeps_its_number_and_grows_old() {
        let cells = IssuerCells::default();
        let number = || cells.keys.load().as_ref().map(|keys| keys.0);
        assert_eq!(number(), None);
        for (set, at, expected) in [(KEYS, 100, 1), (KEYS, 200, 1), (OTHER, 300, 2)] {
            cells.store(KeySet::read(set).unwrap(), Nanos(at));
            assert_eq!(number(), Some(expected));
        }
        cells.fail("gone".to_owned());
        assert_eq!(number(), Some(2));
        let age_max = Nanos(1_000);
        assert!(cells.is_fresh(age_max, Nanos(1_299)) && !cells.is_fresh(age_max, Nanos(1_300)));
    }
}
