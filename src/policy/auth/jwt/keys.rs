//! The key set of an issuer (JSON Web Key Set, RFC 7517), and the signatures that its keys verify (RFC 7518, RFC 8037).

use ring::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

use super::Refusal;
use super::claims::{Claims, Path};
use crate::wire::base64::decode_url;

macro_rules! algorithms {
    ($($name:ident $text:literal,)*) => {
        /// How a token is signed. Only with public keys: there is no `none`, and no `HS256`, whose key would be a secret.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Algorithm { $(#[doc = $text] $name,)* }

        impl Algorithm {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name (RFC 7518 section 3.1).
            pub const fn name(self) -> &'static str { match self { $(Self::$name => $text,)* } }
        }
    };
}

algorithms! {
    Rs256 "RS256",
    Rs384 "RS384",
    Rs512 "RS512",
    Ps256 "PS256",
    Ps384 "PS384",
    Ps512 "PS512",
    Es256 "ES256",
    Es384 "ES384",
    EdDsa "EdDSA",
}

impl Algorithm {
    /// The one of this name; names differ by case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            Self::Es256 | Self::Es384 | Self::EdDsa => return None,
        })
    }
}

/// The public keys of one issuer.
#[derive(PartialEq, Eq, Debug)]
pub struct KeySet(Box<[Key]>);

/// One public key.
#[derive(PartialEq, Eq, Debug)]
struct Key {
    kid: Option<Box<str>>,
    /// The only algorithm that it is for, if the set says so.
    algorithm: Option<Algorithm>,
    public: Public,
}

#[derive(PartialEq, Eq, Debug)]
enum Public {
    Rsa {
        n: Box<[u8]>,
        e: Box<[u8]>,
    },
    /// Of an elliptic curve, in the form that `ring` takes, with the one algorithm that the curve has.
    Curve {
        algorithm: Algorithm,
        point: Box<[u8]>,
    },
}

/// Keys of one set. Chosen, not measured: identity providers publish fewer than ten.
pub const KEYS_MAX: usize = 100;

impl KeySet {
    /// Reads a key set. Keys that are of no use here are left out: secrets (`oct`), keys to encipher with, other curves, RSA keys
    /// of fewer than 2,048 bits.
    ///
    /// # Errors
    /// It is no key set, or has no key that is of use.
    pub fn read(text: &[u8]) -> Result<Self, &'static str> {
        let set = Claims::read(text.to_vec()).ok_or("is not a JSON object")?;
        let rows = set.elements("keys").ok_or("has no list of keys")?;
        if rows.len() > KEYS_MAX {
            return Err("has more than 100 keys");
        }
        let keys: Vec<Key> = rows.into_iter().filter_map(Key::read).collect();
        match keys.is_empty() {
            true => Err("has no public key to verify signatures with"),
            false => Ok(Self(keys.into())),
        }
    }

    /// How many keys it has: one at least.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Checks a signature with the keys of this id. A token without one is checked with the only key that fits its algorithm.
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), Refusal> {
        let mut fitting = self.0.iter().filter(|key| key.fits(algorithm));
        let Some(kid) = kid else {
            return match (fitting.next(), fitting.next()) {
                (Some(key), None) if key.is_valid(algorithm, signed, signature) => Ok(()),
                (Some(_), None) => Err("its signature is not valid".into()),
                (None, _) => Err(Refusal::UnknownKey),
                (Some(_), Some(_)) => Err("it does not say which of its issuer's keys has signed it".into()),
            };
        };
        if !self.0.iter().any(|key| key.kid.as_deref() == Some(kid)) {
            return Err(Refusal::UnknownKey);
        }
        let own = fitting.filter(|key| key.kid.as_deref() == Some(kid));
        match own.into_iter().any(|key| key.is_valid(algorithm, signed, signature)) {
            true => Ok(()),
            false => Err("its signature is not valid".into()),
        }
    }
}

impl Key {
    fn read(text: &[u8]) -> Option<Self> {
        let row = Claims::read(text.to_vec())?;
        if row.text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let operations = row.texts(&Path::new("key_ops"));
        if operations.is_some_and(|list| !list.iter().any(|operation| operation == "verify")) {
            return None;
        }
        let algorithm = match row.text("alg") {
            Some(name) => Some(Algorithm::named(&name)?),
            None => None,
        };
        let number = |name: &str| decode_url(row.text(name)?.as_bytes());
        let public = match (&*row.text("kty")?, row.text("crv").as_deref()) {
            ("RSA", _) => Public::rsa(&number("n")?, &number("e")?)?,
            ("EC", Some("P-256")) => Public::point(Algorithm::Es256, 32, &number("x")?, &number("y")?)?,
            ("EC", Some("P-384")) => Public::point(Algorithm::Es384, 48, &number("x")?, &number("y")?)?,
            ("OKP", Some("Ed25519")) => {
                let x = number("x").filter(|x| x.len() == 32)?;
                Public::Curve { algorithm: Algorithm::EdDsa, point: x.into() }
            }
            _ => return None,
        };
        Some(Self { kid: row.text("kid").map(Into::into), algorithm, public })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        let kind_fits = match &self.public {
            Public::Rsa { .. } => algorithm.rsa().is_some(),
            Public::Curve { algorithm: own, .. } => *own == algorithm,
        };
        kind_fits && self.algorithm.is_none_or(|own| own == algorithm)
    }

    fn is_valid(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        match &self.public {
            Public::Rsa { n, e } => algorithm.rsa().is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
            }),
            Public::Curve { algorithm, point } => {
                let verification: &'static dyn VerificationAlgorithm = match algorithm {
                    Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
                    Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
                    _ => &signature::ED25519,
                };
                UnparsedPublicKey::new(verification, point).verify(signed, signature).is_ok()
            }
        }
    }
}

impl Public {
    /// Some issuers write zeros in front, which RFC 7518 section 2 does not allow and which change nothing.
    fn rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        let stripped = |bytes: &[u8]| -> Box<[u8]> {
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            bytes[zeros..].into()
        };
        let (n, e) = (stripped(n), stripped(e));
        (n.len() >= RSA_BYTES_MIN && !e.is_empty()).then_some(Self::Rsa { n, e })
    }

    fn point(algorithm: Algorithm, size: usize, x: &[u8], y: &[u8]) -> Option<Self> {
        let is_point = x.len() == size && y.len() == size;
        is_point.then(|| Self::Curve { algorithm, point: [&[UNCOMPRESSED], x, y].concat().into() })
    }
}

/// 2,048 bits.
const RSA_BYTES_MIN: usize = 256;
/// What stands before the two numbers of a point (SEC 1 section 2.3.3).
const UNCOMPRESSED: u8 = 4;
