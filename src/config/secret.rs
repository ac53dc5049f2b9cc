//! Secrets: where they are, and what was found there. Neither can be printed by accident.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize as Derive, Serialize};

/// Where a secret is kept: exactly one of the two.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretSource {
    /// In the environment variable of this name.
    Env(String),
    /// In this file, without the newline at its end.
    File(PathBuf),
}

impl SecretSource {
    /// Said wherever a secret stands in the open or in a wrong form.
    const FORM: &str =
        "{ env = \"NAME\" } or { file = \"/path\" }: a secret never stands in the configuration itself";
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Derive)]
        #[serde(deny_unknown_fields)]
        struct Table {
            env: Option<String>,
            file: Option<PathBuf>,
        }
        let pick = |table| match table {
            Table { env: Some(name), file: None } => Some(Self::Env(name)),
            Table { env: None, file: Some(path) } => Some(Self::File(path)),
            _ => None,
        };
        deserializer.deserialize_any(OneOf { form: Self::FORM, pick, table: PhantomData })
    }
}

/// Where the token of a plane of ours is kept, or what is known of it: exactly one of the three.
#[derive(Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenSource {
    /// In the environment variable of this name.
    Env(String),
    /// In this file, without the newline at its end.
    File(PathBuf),
    /// Nowhere here: its SHA-256 in 64 hex digits.
    Sha256(String),
}

impl TokenSource {
    const FORM: &str = "{ env = \"NAME\" }, { file = \"/path\" } or { sha256 = \"64 hex digits\" }: a secret never stands in \
                        the configuration itself";
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => out.debug_tuple("Env").field(name).finish(),
            Self::File(path) => out.debug_tuple("File").field(path).finish(),
            Self::Sha256(_) => out.write_str("Sha256(redacted)"),
        }
    }
}

impl<'de> Deserialize<'de> for TokenSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Derive)]
        #[serde(deny_unknown_fields)]
        struct Table {
            env: Option<String>,
            file: Option<PathBuf>,
            sha256: Option<String>,
        }
        let pick = |table| match table {
            Table { env: Some(name), file: None, sha256: None } => Some(Self::Env(name)),
            Table { env: None, file: Some(path), sha256: None } => Some(Self::File(path)),
            Table { env: None, file: None, sha256: Some(hex) } => Some(Self::Sha256(hex)),
            _ => None,
        };
        deserializer.deserialize_any(OneOf { form: Self::FORM, pick, table: PhantomData })
    }
}

/// Reads a table `W` of which exactly one key is there. A bare text in its place is refused and not repeated.
struct OneOf<W, F> {
    form: &'static str,
    /// `None` unless exactly one is there.
    pick: F,
    table: PhantomData<W>,
}

impl<'de, W: Deserialize<'de>, T, F: Fn(W) -> Option<T>> Visitor<'de> for OneOf<W, F> {
    type Value = T;
    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.form)
    }
    /// Without the text: it is the secret.
    fn visit_str<E: Error>(self, _: &str) -> Result<T, E> {
        Err(E::custom(format_args!("expected {}", self.form)))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let table = W::deserialize(MapAccessDeserializer::new(map))?;
        let wrong = || A::Error::custom(format_args!("expected exactly one of {}", self.form));
        (self.pick)(table).ok_or_else(wrong)
    }
}

/// A secret that is safe to put into a header line: not empty, visible ASCII only.
///
/// `Debug` is redacted and there is no `Display`: the only way to the text is [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The longest secret in bytes; a header line has to carry it.
    pub const BYTES_MAX: usize = 8 * 1024;

    /// Takes what was found, without one newline at its end.
    ///
    /// # Errors
    /// Says what is wrong without showing any of it: a control character inside could end the header line early.
    pub fn new(found: &str) -> Result<Self, &'static str> {
        let text = found.strip_suffix('\n').map_or(found, |text| text.strip_suffix('\r').unwrap_or(text));
        if text.is_empty() {
            Err("is empty")
        } else if text.len() > Self::BYTES_MAX {
            Err("is longer than 8 KiB")
        } else if text.bytes().any(|byte| byte.is_ascii_control()) {
            Err("holds a control character or a line break")
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Err("holds a space or a character outside of ASCII")
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// The text itself, for the one place that builds the header line.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_header_line_can_carry_is_a_secret() {
        for (found, text) in [
            ("sk-1\n", Some("sk-1")),
            ("sk-1\r\n", Some("sk-1")),
            ("sk-1", Some("sk-1")),
            ("", None),
            ("\n", None),
            ("sk-1\n\n", None),
            ("sk\n-1", None),
            ("sk-1\r", None),
            ("sk\0", None),
            ("sk 1", None),
            ("schlüssel", None),
        ] {
            assert_eq!(Secret::new(found).ok().map(|secret| secret.0), text.map(str::to_owned), "{found:?}");
        }
        assert!(Secret::new(&"k".repeat(Secret::BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn a_secret_shows_nothing_of_itself() {
        assert_eq!(format!("{:?}", Secret::new("sk-1").unwrap()), "Secret(redacted)");
    }
}
