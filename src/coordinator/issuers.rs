//! Reads the key sets of issuers of JSON Web Tokens: one task per issuer, so that a slow one delays no other.
//!
//! A set is read at a fixed pace, and sooner where a shard has met a token whose key the set does not have, which is how a
//! rotated key is found. Whatever does not arrive, or is no key set, changes nothing: the last set that was read stays in use
//! until it is older than `age_max`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::aggregate::Watch;
use super::fetch;
use crate::clock;
use crate::config::LogLevel;
use crate::config::url::{self, Url};
use crate::plan::Issuer;
use crate::plan::issuer::{IssuerCells, KeySource};
use crate::policy::auth::jwt::KeySet;

use crate::units::Nanos;

/// Time between two looks at whether a set is due.
const LOOK: Duration = Duration::from_millis(100);
/// Time between two readings while there is no set at all: callers wait for it.
const MISSING_PAUSE: Nanos = Nanos(1_000_000_000);
/// The time that one reading may take, with the document that says where the set is.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a document that are read. Chosen, not measured: the largest known have 20 KiB.
const BYTES_MAX: usize = 256 * 1024;

/// Reads the set of every issuer, the first time at once.
pub(super) fn spawn(watch: &Arc<Watch>, duties: &mut JoinSet<()>) {
    for id in watch.plan.issuers.ids() {
        let watch = Arc::clone(watch);
        duties.spawn(async move {
            let (issuer, cells) = (watch.plan.issuers.row(id), watch.plan.issuers.cells(id));
            loop {
                if is_due(issuer, cells, clock::now()) {
                    cells.wanted.store(false, Ordering::Relaxed);
                    let set = match timeout(PATIENCE, read(issuer)).await {
                        Ok(set) => set,
                        Err(_) => Err(format!("no response within {PATIENCE:?}")),
                    };
                    take(&watch, issuer, cells, set);
                }
                sleep(LOOK).await;
            }
        });
    }
}

fn is_due(issuer: &Issuer, cells: &IssuerCells, now: Nanos) -> bool {
    let tried = cells.tried_at.load(Ordering::Relaxed);
    let pause = if cells.keys.load().is_none() {
        MISSING_PAUSE.min(issuer.refresh_min)
    } else if cells.wanted.load(Ordering::Relaxed) || cells.failure.load().is_some() {
        issuer.refresh_min
    } else {
        issuer.refresh
    };
    tried == 0 || now.since(Nanos(tried)) >= pause
}

fn take(watch: &Watch, issuer: &Issuer, cells: &IssuerCells, set: Result<KeySet, String>) {
    let now = clock::now();
    let had_failed = cells.failure.load().is_some();
    match set {
        Ok(set) => {
            cells.store(set, now);
            if had_failed {
                watch.say(LogLevel::Info, &format!("issuer {}: its keys have been read", issuer.name));
            }
        }
        Err(reason) => {
            if !had_failed {
                let words = format!("issuer {}: its keys cannot be read: {reason}", issuer.name);
                watch.say(LogLevel::Warn, &words);
            }
            cells.fail(reason);
        }
    }
    cells.tried_at.store(now.0, Ordering::Relaxed);
}

/// Where an OpenID provider's keys are (OpenID Connect Discovery 1.0 section 3).
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

/// Reads the set once.
///
/// # Errors
/// Why it could not be read, in words for operators.
async fn read(issuer: &Issuer) -> Result<KeySet, String> {
    let source = &issuer.source;
    let mut place = url::parse_base(&source.url).map_err(|wrong| format!("the URL {wrong}"))?;
    if source.is_discovery {
        let page = page(source, &place).await?;
        let found: Discovered =
            serde_json::from_slice(&page).map_err(|_| "its OpenID configuration is not valid".to_owned())?;
        if *found.issuer != *issuer.expected.issuer {
            // Section 4.3: it has to be the same, or one issuer could speak for another.
            return Err("its OpenID configuration is that of another issuer".to_owned());
        }
        place = url::parse_base(&found.jwks_uri).map_err(|wrong| format!("jwks_uri {wrong}"))?;
        if place.tls != source.tls.is_some() {
            return Err("jwks_uri has another scheme than the issuer".to_owned());
        }
        if !place.tls && !place.is_near() {
            return Err("jwks_uri is not https".to_owned());
        }
    }
    let page = page(source, &place).await?;
    KeySet::read(&page).map_err(|wrong| format!("its key set {wrong}"))
}

async fn page(source: &KeySource, url: &Url) -> Result<bytes::Bytes, String> {
    let way = fetch::Way { tls: source.tls.as_ref(), proxy: source.proxy.as_ref() };
    fetch::page(url, &way, BYTES_MAX, "keys", PATIENCE).await.map_err(|failure| failure.words)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::policy::auth::jwt::claims::Path;
    use crate::policy::auth::jwt::{Algorithm, Expected};
    use crate::units::IssuerId;

    #[test]
    fn a_set_is_read_at_once_then_at_its_pace_and_sooner_where_a_key_is_missing() {
        let second = |count: u64| Nanos(count * 1_000_000_000);
        let issuer = Issuer {
            id: IssuerId::new(0),
            name: "corp".into(),
            expected: Expected {
                issuer: "https://h.example".into(),
                audiences: Box::default(),
                algorithms: [Algorithm::EdDsa].into(),
                skew: 60,
                user: Path::new("sub"),
                team: None,
                required: Box::default(),
            },
            teams: BTreeMap::new(),
            other: None,
            source: KeySource {
                url: "https://h.example/keys".into(),
                is_discovery: false,
                tls: None,
                ca_file: None,
                proxy: None,
            },
            refresh: second(600),
            refresh_min: second(10),
            age_max: second(86_400),
        };
        let cells = IssuerCells::default();
        let due = |at: u64| is_due(&issuer, &cells, second(at));
        assert!(due(100));
        cells.tried_at.store(second(100).0, Ordering::Relaxed);
        assert_eq!([due(100), due(101)], [false, true], "no set yet");
        let set =
            br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        cells.store(KeySet::read(set).unwrap(), second(100));
        assert_eq!([due(699), due(700)], [false, true]);
        cells.wanted.store(true, Ordering::Relaxed);
        assert_eq!([due(109), due(110)], [false, true], "however often a key is asked for");
        cells.wanted.store(false, Ordering::Relaxed);
        cells.fail("gone".to_owned());
        assert_eq!([due(109), due(110)], [false, true]);
    }
}
