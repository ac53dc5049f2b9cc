//! Is this JSON Web Token (RFC 7519) valid, and whose is it?
//!
//! Only the compact form of a signed token (RFC 7515 section 7.1) is read. What a token says of itself decides nothing: the
//! algorithm has to be one that the issuer's configuration names and fits the kind of the key, and keys come from the issuer's
//! own key set only, never from the token (`jwk`, `jku`, `x5u` and `x5c` are not looked at). There is no `none` and no HMAC here.
//!
//! - [`keys`]: the key set of an issuer (RFC 7517), and the signatures that its keys verify.
//! - [`claims`]: members of a token, by their names.
//! - [`memory`]: the tokens that were verified before.
//!
//! Pure: the time is an argument. Texts of refusals say which check failed and never repeat a part of the token.

pub mod claims;
pub mod keys;
pub mod memory;

use std::borrow::Cow;

use super::credential::{Credentials, bearer};
use crate::error::{Fault, FaultKind};
use crate::wire::base64::decode_url;
use claims::{Claims, Path, Seconds};
pub use keys::{Algorithm, KeySet};

/// The longest token in bytes, as it stands in a head. Chosen: identity providers say that theirs stay below it.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What the operator expects of an issuer's tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    /// `iss`, exactly.
    pub issuer: Box<str>,
    /// One of these is in `aud`.
    pub audiences: Box<[Box<str>]>,
    /// How they may be signed.
    pub algorithms: Box<[Algorithm]>,
    /// How far the issuer's clock may be from ours, in seconds.
    pub skew: u64,
    /// The claim that names whom the token is for.
    pub user: Path,
    /// The claim whose values are mapped to a team.
    pub team: Option<Path>,
    /// Claims that have to hold one of these values.
    pub required: Box<[Required]>,
}

/// A claim that has to hold one of these values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Required {
    /// The claim.
    pub claim: Path,
    /// The values.
    pub values: Box<[Box<str>]>,
}

/// What a valid token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Unix seconds after which it is refused, the skew included.
    pub ends: u64,
    /// Whom it is for.
    pub user: String,
    /// The values of the claim that is mapped to a team.
    pub teams: Vec<String>,
}

/// Why a token is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Its time is over.
    Expired,
    /// The issuer's key set has no key of its id: it may have been changed since it was read.
    UnknownKey,
    /// Anything else, in words that hold nothing of the token.
    Invalid(Cow<'static, str>),
}

impl From<&'static str> for Refusal {
    fn from(words: &'static str) -> Self {
        Self::Invalid(words.into())
    }
}

/// Whether a credential has the form of a token: three parts, the first of which is the base64url of a JSON object.
pub fn is_token(credential: &[u8]) -> bool {
    credential.starts_with(b"ey") && credential.iter().filter(|byte| **byte == b'.').count() == 2
}

/// The one token among the credentials of a request, wherever a key may stand but in the query, which logs keep.
///
/// # Errors
/// There are two different ones.
pub fn find<'a>(credentials: &Credentials<'a>) -> Result<Option<&'a [u8]>, Fault> {
    let bearer = credentials.authorization.and_then(bearer);
    let presented = bearer.into_iter().chain(credentials.api_keys.into_iter().flatten());
    let mut tokens = presented.map(<[u8]>::trim_ascii).filter(|text| is_token(text));
    let first = tokens.next();
    if tokens.any(|other| Some(other) != first) {
        return Err(Fault::new(FaultKind::HeadMalformed, "two different tokens: send one of them"));
    }
    Ok(first)
}

/// A token whose form is sound; its signature has not been looked at.
#[derive(Debug)]
pub struct Token<'a> {
    /// What is signed: the first two parts and the dot between them.
    signed: &'a [u8],
    signature: Vec<u8>,
    algorithm: Algorithm,
    kid: Option<String>,
    claims: Claims,
}

impl<'a> Token<'a> {
    /// Reads a token.
    ///
    /// # Errors
    /// It is too long, has not three parts of strict base64url, a header or claims that are no JSON object with members of
    /// different names, or an algorithm or a header member (`crit`, `b64`) that is not taken here.
    pub fn read(text: &'a [u8]) -> Result<Self, Refusal> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err("it is longer than 8 KiB".into());
        }
        let mut parts = text.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("it has not three parts".into());
        };
        let signed = &text[..header.len() + 1 + payload.len()];
        let decoded = |part: &[u8]| decode_url(part).ok_or(Refusal::from("a part of it is not base64url"));
        let (header, payload, signature) = (decoded(header)?, decoded(payload)?, decoded(signature)?);
        let header = Claims::read(header).ok_or(Refusal::from("its header is not a JSON object"))?;
        let claims = Claims::read(payload).ok_or(Refusal::from("its claims are not a JSON object"))?;
        // RFC 7515 section 4.1.11: what is critical and not understood has to be refused; nothing critical is understood here.
        if header.has("crit") || header.has("b64") {
            return Err("its header has 'crit' or 'b64'".into());
        }
        let algorithm = header.text("alg").and_then(|name| Algorithm::named(&name));
        let algorithm = algorithm.ok_or(Refusal::from("its signature algorithm is not allowed here"))?;
        let kid = match header.has("kid") {
            true => Some(header.text("kid").ok_or(Refusal::from("its key id is not a text"))?),
            false => None,
        };
        Ok(Self { signed, signature, algorithm, kid, claims })
    }

    /// Who says that it has issued it: of use to find the issuer whose keys verify it, and for nothing else.
    pub fn issuer(&self) -> Option<String> {
        self.claims.text("iss")
    }

    /// Checks the signature, then what the token says. `now`: Unix seconds.
    ///
    /// # Errors
    /// The first check that fails. Claims are looked at only once the signature is valid.
    ///
    /// Cost: some ten microseconds, for the signature.
    pub fn verify(&self, expected: &Expected, keys: &KeySet, now: u64) -> Result<Verified, Refusal> {
        if !expected.algorithms.contains(&self.algorithm) {
            return Err("its signature algorithm is not allowed here".into());
        }
        keys.verify(self.algorithm, self.kid.as_deref(), self.signed, &self.signature)?;
        if self.claims.text("iss").as_deref() != Some(&expected.issuer) {
            return Err("its issuer ('iss') is not the one expected".into());
        }
        let audiences = self.claims.texts(&Path::new("aud")).unwrap_or_default();
        if !audiences.iter().any(|audience| expected.audiences.iter().any(|own| **own == **audience)) {
            return Err("it is for another audience ('aud')".into());
        }
        let ends = self.times(expected.skew, now)?;
        for Required { claim: path, values } in &expected.required {
            let found = self.claims.texts(path).unwrap_or_default();
            if !found.iter().any(|value| values.iter().any(|expected| **expected == **value)) {
                let words = format!("its claim '{path}' has none of the values that are required");
                return Err(Refusal::Invalid(words.into()));
            }
        }
        let user = self.claims.texts(&expected.user).unwrap_or_default();
        let [user] = <[String; 1]>::try_from(user).map_err(|_| {
            Refusal::Invalid(format!("it has no claim '{}' that names one user", expected.user).into())
        })?;
        let teams = expected.team.as_ref().and_then(|path| self.claims.texts(path)).unwrap_or_default();
        Ok(Verified { ends, user, teams })
    }

    /// `exp` and `nbf` (RFC 7519 section 4.1.4 and 4.1.5). A token without an end is not taken.
    fn times(&self, skew: u64, now: u64) -> Result<u64, Refusal> {
        let ends = match self.claims.seconds("exp") {
            Seconds::At(ends) => ends.saturating_add(skew),
            Seconds::Absent => return Err("it has no end ('exp')".into()),
            Seconds::Wrong => return Err("its end ('exp') is not a number of seconds".into()),
        };
        if now >= ends {
            return Err(Refusal::Expired);
        }
        match self.claims.seconds("nbf") {
            Seconds::At(starts) if now.saturating_add(skew) < starts => {
                Err("it is not valid yet ('nbf')".into())
            }
            Seconds::Wrong => Err("its start ('nbf') is not a number of seconds".into()),
            Seconds::At(_) | Seconds::Absent => Ok(ends),
        }
    }
}

#[cfg(test)]
mod tests;
