//! Callers with a JSON Web Token in the place of a key. Nothing here waits: the keys of issuers are read by the coordinator.

use super::state::Shard;
use crate::error::{Fault, FaultKind};
use crate::observe::Counter;
use crate::plan::admission::At;
use crate::plan::users;
use crate::policy::auth::credential::{self, Credentials, Digest};
use crate::policy::auth::jwt::memory::{Known, Under};
use crate::policy::auth::jwt::{self, Refusal, TOKEN_BYTES_MAX, Token};
use crate::sync::Ordering;
use crate::units::{IssuerId, KeyId, Nanos};

/// The row and the user of the token among the credentials. `fault`: what is said where there is no token.
///
/// # Errors
/// Why the token is not taken. Nothing of it is repeated.
///
/// Cost: of a token that was verified before, its SHA-256; else a signature.
pub(super) fn recognise(
    shard: &Shard,
    credentials: &Credentials<'_>,
    at: At,
    fault: Fault,
) -> Result<(KeyId, Box<str>), Fault> {
    let Some(text) = jwt::find(credentials)? else { return Err(fault) };
    let found = match text.len() > TOKEN_BYTES_MAX {
        true => Err(invalid("it is longer than 8 KiB")),
        false => known_or_verified(shard, text, at),
    };
    if found.is_err() {
        shard.numbers.inc(Counter::JwtsRefused);
    }
    found
}

fn known_or_verified(shard: &Shard, text: &[u8], at: At) -> Result<(KeyId, Box<str>), Fault> {
    let digest = credential::digest(text);
    if let Some(known) = shard.tokens.borrow().find(&digest)
        && is_current(shard, known, at.now)
    {
        if at.unix_ms / 1_000 >= known.ends {
            return Err(expired());
        }
        shard.numbers.inc(Counter::JwtsRecognised);
        return Ok((known.key, known.user.clone()));
    }
    verify(shard, text, digest, at)
}

/// Whether a token that was verified before would be verified again, but for its end: by the same plan and the same key set,
/// which is not too old.
fn is_current(shard: &Shard, known: &Known, now: Nanos) -> bool {
    let plan = &shard.plan;
    if known.under.plan != plan.generation {
        return false;
    }
    let cells = plan.issuers.cells(known.issuer);
    cells.keys.load().as_ref().is_some_and(|keys| keys.0 == known.under.keys)
        && cells.is_fresh(plan.issuers.row(known.issuer).age_max, now)
}

#[cold]
fn verify(shard: &Shard, text: &[u8], digest: Digest, at: At) -> Result<(KeyId, Box<str>), Fault> {
    let plan = &shard.plan;
    let token = Token::read(text).map_err(|refusal| refused(&refusal))?;
    let named = token.issuer();
    let issuer = plan.issuers.iter().find(|issuer| named.as_deref() == Some(&*issuer.expected.issuer));
    let Some(issuer) = issuer else {
        return Err(invalid("its issuer ('iss') is not known here"));
    };
    let cells = plan.issuers.cells(issuer.id);
    let keys = cells.keys.load();
    let Some((number, set)) = keys.as_deref().filter(|_| cells.is_fresh(issuer.age_max, at.now)) else {
        return Err(unavailable(&issuer.name));
    };
    let verified = token.verify(&issuer.expected, set, at.unix_ms / 1_000).map_err(|refusal| {
        if refusal == Refusal::UnknownKey {
            cells.wanted.store(true, Ordering::Relaxed);
        }
        refused(&refusal)
    })?;
    let key = issuer.key(&verified.teams).map_err(invalid)?;
    if !users::is_name(&verified.user) {
        return Err(invalid("the user that it names is not of 1 to 255 printable bytes"));
    }
    let user: Box<str> = verified.user.into();
    remember(shard, digest, issuer.id, (key, &user), (verified.ends, *number));
    shard.numbers.inc(Counter::JwtsVerified);
    Ok((key, user))
}

fn remember(
    shard: &Shard,
    digest: Digest,
    issuer: IssuerId,
    (key, user): (KeyId, &str),
    (ends, keys): (u64, u64),
) {
    let under = Under { plan: shard.plan.generation, keys };
    shard.tokens.borrow_mut().put(digest, Known { issuer, key, user: user.into(), ends, under });
}

fn refused(refusal: &Refusal) -> Fault {
    match refusal {
        Refusal::Expired => expired(),
        Refusal::UnknownKey => invalid("its issuer has no key of its key id").retry_after(RETRY_SOON),
        Refusal::Invalid(words) => invalid(words),
    }
}

fn invalid(words: &str) -> Fault {
    Fault::new(FaultKind::KeyInvalid, format!("the token is not valid: {words}"))
}

fn expired() -> Fault {
    Fault::new(FaultKind::KeyExpired, "the token has expired")
}

fn unavailable(issuer: &str) -> Fault {
    let note =
        format!("the keys of the issuer '{issuer}' could not be read, so its tokens cannot be verified");
    Fault::new(FaultKind::IssuerUnavailable, note).retry_after(RETRY_SOON)
}

/// When a key set that a token asks for is expected to have been read.
const RETRY_SOON: Nanos = Nanos(2_000_000_000);
