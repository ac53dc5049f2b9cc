//! Secrets: where they are, and what was found there. Neither can be printed by accident.

use std::fmt;
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

        struct Source;
        impl<'de> Visitor<'de> for Source {
            type Value = SecretSource;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(SecretSource::FORM)
            }
            /// Without the text: it is the secret.
            fn visit_str<E: Error>(self, _: &str) -> Result<SecretSource, E> {
                Err(E::custom(format_args!("expected {}", SecretSource::FORM)))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretSource, A::Error> {
                match Table::deserialize(MapAccessDeserializer::new(map))? {
                    Table { env: Some(name), file: None } => Ok(SecretSource::Env(name)),
                    Table { env: None, file: Some(path) } => Ok(SecretSource::File(path)),
                    _ => {
                        Err(A::Error::custom(format_args!("expected exactly one of {}", SecretSource::FORM)))
                    }
                }
            }
        }
        deserializer.deserialize_any(Source)
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
