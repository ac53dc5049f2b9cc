//! New secrets: `sk-rw-<public id>-<secret>` for clients, `rw-admin-<public id>-<secret>` for operators.

use ring::rand::{SecureRandom, SystemRandom};

use crate::policy::auth::credential::{ADMIN_PREFIX, Digest, digest};

/// What the key of a client starts with.
pub const KEY: &str = "sk-rw-";
/// What the token of an operator starts with.
pub const ADMIN_TOKEN: &str = ADMIN_PREFIX;

/// A secret that was made just now. It is shown once.
pub struct Made {
    /// The whole of it.
    pub text: String,
    /// The part that may be shown: in a list, a ticket, a search for leaked keys.
    pub public_id: String,
    /// SHA-256 of the whole.
    pub digest: Digest,
}

/// Makes a secret of 256 bits behind a public id, a new one unless one is given.
///
/// # Errors
/// The machine has no random numbers.
pub fn make(prefix: &str, public_id: Option<&str>) -> Result<Made, ring::error::Unspecified> {
    let public_id = match public_id {
        Some(id) => id.to_owned(),
        None => letters(PUBLIC_LETTERS)?,
    };
    let text = format!("{prefix}{public_id}-{}", letters(SECRET_LETTERS)?);
    Ok(Made { digest: digest(text.as_bytes()), text, public_id })
}

/// Letters and digits, each as likely as any other: a byte beyond the last whole round is drawn again.
fn letters(count: usize) -> Result<String, ring::error::Unspecified> {
    let random = SystemRandom::new();
    let mut text = String::with_capacity(count);
    let mut bytes = [0; 64];
    while text.len() < count {
        random.fill(&mut bytes)?;
        let drawn = bytes.iter().filter(|byte| usize::from(**byte) < 256 / ALPHABET.len() * ALPHABET.len());
        let drawn = drawn.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
        text.extend(drawn.take(count - text.len()));
    }
    Ok(text)
}

/// A key's parts are made of these: no sign that a shell, a URL or a double click would stop at.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Letters of the public id: two of 100,000 keys are alike once in 40,000 times, and nothing depends on it.
const PUBLIC_LETTERS: usize = 8;
/// Letters of the secret, of log2(62) bits each: 256.
const SECRET_LETTERS: usize = 43;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_form_and_no_two_are_alike() {
        let keys: Vec<Made> = (0..100).map(|_| make(KEY, None).unwrap()).collect();
        for Made { text, public_id, digest: hash } in &keys {
            let parts: Vec<&str> = text.split('-').collect();
            let [sk, rw, id, secret] = parts[..] else { panic!("{text}") };
            assert_eq!((sk, rw, id, secret.len()), ("sk", "rw", &**public_id, SECRET_LETTERS));
            assert!(id.bytes().chain(secret.bytes()).all(|byte| byte.is_ascii_alphanumeric()), "{text}");
            assert_eq!(*hash, digest(text.as_bytes()));
        }
        let mut unique: Vec<_> = keys.iter().map(|made| &made.text).collect();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), keys.len());
    }

    #[test]
    fn a_rotated_key_keeps_its_public_id() {
        let made = make(KEY, Some("Ab3dEf6h")).unwrap();
        assert!(made.text.starts_with("sk-rw-Ab3dEf6h-") && made.public_id == "Ab3dEf6h");
    }

    #[test]
    fn every_letter_is_drawn() {
        let text = letters(20_000).unwrap();
        for letter in ALPHABET {
            let count = text.bytes().filter(|byte| byte == letter).count();
            assert!((200..=450).contains(&count), "{}: {count}", char::from(*letter));
        }
    }
}
