//! Secrets that a configuration refers to, and those that everybody knows.

use std::collections::HashSet;

use super::{Source, file_bytes};
use crate::config::problem::Report;
use crate::config::secret::{Secret, SecretSource, TokenSource};
use crate::plan::Key;
use crate::policy::auth::credential::{self, Digest, Token};

/// The fewest characters of a token of our own. Taste: 24 of hex are 96 bits.
const TOKEN_BYTES_MIN: usize = 24;

/// SHA-256 of nothing: what a script makes of a variable that is not set.
const DIGEST_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Examples of other gateways' manuals, defaults, and what is typed to get on with it.
#[rustfmt::skip] // a list of words
const KNOWN: &[&str] = &[
    "sk-1234", "sk-12345", "sk-123456", "sk-1234567890", "sk-test", "sk-xxx", "sk-secret", "sk-litellm", "sk-proj-1234",
    "sk-no-key-required", "sk-fake-key", "sk-fake", "sk-dummy", "sk-master", "sk-admin",
    "1234", "12345", "123456", "1234567", "12345678", "123456789", "1234567890", "abc123", "qwerty", "letmein",
    "admin", "admin123", "administrator", "root", "user", "guest", "operator", "master", "default", "ringway", "litellm",
    "password", "password1", "password123", "passw0rd", "p@ssw0rd", "secret", "secret123", "mysecret", "supersecret",
    "token", "mytoken", "my-token", "key", "mykey", "my-key", "apikey", "api-key", "api_key", "my-api-key", "your-api-key",
    "your_api_key", "your-secret-key", "master-key", "changeme", "change-me", "change_me", "changeit", "change-this",
    "replace-me", "replaceme", "test", "test123", "testing", "test-key", "testkey", "test-token", "dummy", "dummy-key",
    "fake", "fake-key", "example", "sample", "demo", "foo", "bar", "foobar", "none", "null", "nil", "undefined", "empty",
    "not-needed", "no-key", "token-abc123", "insecure", "public", "private", "hello", "x", "xxx", "xxxx",
];

/// What is known of the words above, in the case they are written in, in capitals, and with a capital.
pub(super) struct Known(HashSet<Digest>);

impl Known {
    pub(super) fn new() -> Self {
        let cases = |word: &&str| {
            let mut capital = (*word).to_owned();
            capital[..1].make_ascii_uppercase();
            [(*word).to_owned(), capital, word.to_uppercase()]
        };
        Self(KNOWN.iter().flat_map(cases).map(|word| credential::digest(word.as_bytes())).collect())
    }

    /// Reads the 64 hex digits of a digest. What stands there instead may be the key itself and is not repeated.
    pub(super) fn digest(&self, hex: &str) -> Result<Digest, &'static str> {
        const FORM: &str = "expected the SHA-256 of the key in 64 hex digits: printf %s \"$KEY\" | sha256sum";
        if hex.eq_ignore_ascii_case(DIGEST_OF_NOTHING) {
            return Err("is the digest of nothing: the key was empty when it was made");
        }
        let mut digest = [0; 32];
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(FORM);
        }
        for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let nibble = |digit: u8| char::from(digit).to_digit(16).map_or(0, |value| value as u8);
            *byte = nibble(pair[0]) << 4 | nibble(pair[1]);
        }
        if self.0.contains(&digest) {
            return Err("is the digest of a word that everybody tries; expected that of a random key: \
                        openssl rand -hex 24");
        }
        Ok(digest)
    }

    /// The digest of a token of our own that is hard to guess.
    fn token(&self, secret: &Secret) -> Result<Digest, &'static str> {
        let text = secret.expose().as_bytes();
        let digest = credential::digest(text);
        if self.0.contains(&digest) || text.iter().all(|byte| *byte == text[0]) {
            Err("is one that everybody tries; expected a random one: openssl rand -hex 24")
        } else if text.len() < TOKEN_BYTES_MIN {
            Err("is shorter than 24 characters; expected a random one: openssl rand -hex 24")
        } else if text.len() > credential::KEY_BYTES_MAX {
            Err("is longer than 512 characters")
        } else {
            Ok(digest)
        }
    }
}

/// The text that a reference leads to. A problem names the reference and never shows what was found.
pub(super) fn read(
    path: &[&str],
    key: &SecretSource,
    source: &Source<'_>,
    report: &mut Report<'_>,
) -> Option<Secret> {
    let place = place(key);
    let found = match key {
        SecretSource::Env(name) => {
            source.environment.variable(name).ok_or_else(|| format!("{place} is not set"))
        }
        SecretSource::File(file) => file_bytes(source, file, Secret::BYTES_MAX + 2)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| format!("{place} is not text"))),
    };
    let secret = found.and_then(|found| Secret::new(&found).map_err(|wrong| format!("{place} {wrong}")));
    report.take(path, secret)
}

/// What does not look like the name of a variable may be the secret itself and is not repeated.
fn place(key: &SecretSource) -> String {
    match key {
        SecretSource::Env(name) if is_name(name) => format!("the environment variable {name}"),
        SecretSource::Env(_) => "the environment variable that env names".to_owned(),
        SecretSource::File(path) => format!("the file {}", path.display()),
    }
}

/// Capitals, digits and underscores (POSIX, Base Definitions, section 8.1).
fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The secret that seals ids: hard to guess, since whoever has it can make an id of any backend for any key.
pub(super) fn ids(source: &Source<'_>, report: &mut Report<'_>) -> Option<Secret> {
    strong(source, "secret", source.file.ids.secret.as_ref()?, report)
}

/// The secret that sealed them before.
pub(super) fn ids_before(source: &Source<'_>, report: &mut Report<'_>) -> Option<Secret> {
    let place_of = source.file.ids.previous_secret.as_ref()?;
    if source.file.ids.secret.is_none() {
        report.problem(
            &["ids", "previous_secret"],
            "has no secret beside it: there is nothing it was replaced by",
        );
    }
    strong(source, "previous_secret", place_of, report)
}

fn strong(
    source: &Source<'_>,
    name: &str,
    place_of: &SecretSource,
    report: &mut Report<'_>,
) -> Option<Secret> {
    let path = ["ids", name];
    let secret = read(&path, place_of, source, report)?;
    let strong = Known::new().token(&secret).map_err(|wrong| format!("{} {wrong}", place(place_of)));
    report.take(&path, strong)?;
    Some(secret)
}

/// The token of the admin listener, if it has one: hard to guess, and nobody's key.
pub(super) fn admin_token(source: &Source<'_>, keys: &[Key], report: &mut Report<'_>) -> Option<Token> {
    let path = ["admin", "token"];
    let known = Known::new();
    let kept = |kept: SecretSource, report: &mut Report<'_>| {
        let secret = read(&path, &kept, source, report)?;
        report.take(&path, known.token(&secret).map_err(|wrong| format!("{} {wrong}", place(&kept))))
    };
    let digest = match source.file.admin.token.as_ref()? {
        TokenSource::Env(name) => kept(SecretSource::Env(name.clone()), report),
        TokenSource::File(file) => kept(SecretSource::File(file.clone()), report),
        TokenSource::Sha256(hex) => report.take(&path, known.digest(hex)),
    };
    let token = Token::new(digest?);
    if let Some(key) = keys.iter().find(|key| token.is_key(&key.credential.digest)) {
        report.problem(&path, format!("is the same secret as [key.{}]; expected one of its own", key.name));
    }
    Some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_everybody_tries_are_known_in_every_case_and_by_their_digest() {
        let known = Known::new();
        let hex = |text: &str| {
            credential::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        for word in ["sk-1234", "changeme", "Changeme", "ADMIN", "password", "secret", "test", "EMPTY"] {
            assert!(known.digest(&hex(word)).unwrap_err().starts_with("is the digest of a word"), "{word}");
            assert!(known.token(&Secret::new(word).unwrap()).unwrap_err().contains("everybody"), "{word}");
        }
        assert!(known.digest(&hex("sk-1234 ")).is_ok());
        assert!(known.digest(&hex("").to_uppercase()).unwrap_err().contains("digest of nothing"));
    }

    #[test]
    fn a_token_is_long_and_not_of_one_character() {
        let known = Known::new();
        let token = |text: &str| known.token(&Secret::new(text).unwrap());
        assert!(token(&"a".repeat(64)).unwrap_err().contains("everybody"));
        assert!(token("0123456789abcdef0123456").unwrap_err().contains("shorter than 24"));
        assert!(token("0123456789abcdef01234567").is_ok());
        assert!(token(&"ab".repeat(256)).is_ok() && token(&"ab".repeat(257)).is_err());
    }
}
