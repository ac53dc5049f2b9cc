//! `ringway key new`: makes a key for a client, and the table that lets it in.
//!
//! The configuration holds a key's digest only, so the key itself is printed once. The table goes to standard output and
//! the key to standard error: `ringway key new ci >> ringway.toml` shows the one and appends the other.

use std::fmt::Write as _;
use std::process::ExitCode;

use ring::rand::{SecureRandom, SystemRandom};

use super::{complain, print};
use crate::config;
use crate::policy::auth::credential;

/// What can be done with keys.
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Print a new key, and its table for the configuration
    New(New),
}

/// A key to make.
#[derive(clap::Args, Default)]
pub(super) struct New {
    /// The name that labels and logs show, for example the team's or the application's
    name: String,
    /// A model that it may use, * for any run of characters; may be given several times [default: all models]
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// Requests per minute [default: unlimited]
    #[arg(long, value_name = "COUNT")]
    requests_per_minute: Option<u64>,
    /// Tokens per minute, of prompts and responses [default: unlimited]
    #[arg(long, value_name = "COUNT")]
    tokens_per_minute: Option<u64>,
    /// Requests in flight at once [default: unlimited]
    #[arg(long, value_name = "COUNT")]
    in_flight_max: Option<u32>,
    /// Print one JSON object with the name, the key and its digest instead
    #[arg(long)]
    json: bool,
}

/// Exit status 1 if the name is refused, or if the system has no random bytes.
pub(super) fn command(Command::New(new): &Command) -> ExitCode {
    if let Err(expected) = config::check_key_name(&new.name) {
        return complain(&format!("ringway: the name {:?} {expected}", new.name));
    }
    let Ok(key) = generate() else {
        return complain("ringway: the system gave no random bytes");
    };
    let digest = hex(&credential::digest(key.as_bytes()));
    if new.json {
        let object = serde_json::json!({ "name": new.name, "key": key, "sha256": digest });
        return print(&object.to_string());
    }
    complain(&format!("The key, shown only now; give it to the client:\n\n  {key}\n"));
    print(&table(new, &digest))
}

/// `sk-rw-<public id>-<secret>`: the id may be shown, in a ticket or a search for leaked keys; the secret carries 238
/// bits. The digest is of the whole text.
fn generate() -> Result<String, ring::error::Unspecified> {
    let mut key = String::from("sk-rw-");
    letters(PUBLIC_LETTERS, &mut key)?;
    key.push('-');
    letters(SECRET_LETTERS, &mut key)?;
    Ok(key)
}

/// Appends `count` letters and digits, each as likely as any other: a byte beyond the last whole round is drawn again.
fn letters(count: usize, text: &mut String) -> Result<(), ring::error::Unspecified> {
    let random = SystemRandom::new();
    let end = text.len() + count;
    let mut bytes = [0; 64];
    while text.len() < end {
        random.fill(&mut bytes)?;
        let drawn = bytes.iter().filter(|byte| usize::from(**byte) < 256 / ALPHABET.len() * ALPHABET.len());
        let drawn = drawn.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
        text.extend(drawn.take(end - text.len()));
    }
    Ok(())
}

/// The table of a key, as it stands in the configuration.
fn table(new: &New, digest: &str) -> String {
    let mut text = format!("[key.{}]\nsha256 = \"{digest}\"", toml_key(&new.name));
    if !new.models.is_empty() {
        let models: Vec<String> =
            new.models.iter().map(|model| toml::Value::from(model.as_str()).to_string()).collect();
        let _ = write!(text, "\nmodels = [{}]", models.join(", "));
    }
    for (name, value) in [
        ("requests_per_minute", new.requests_per_minute),
        ("tokens_per_minute", new.tokens_per_minute),
        ("in_flight_max", new.in_flight_max.map(u64::from)),
    ] {
        if let Some(value) = value {
            let _ = write!(text, "\n{name} = {value}");
        }
    }
    text
}

/// A name as a key of TOML: bare where it may be.
fn toml_key(name: &str) -> String {
    let is_bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_bare { name.to_owned() } else { toml::Value::from(name).to_string() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Of these a key's parts are made: no sign that a shell, a URL or a double click would stop at.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Letters of the public id: enough to tell a thousand keys apart.
const PUBLIC_LETTERS: usize = 8;
/// Letters of the secret, of log2(62) bits each.
const SECRET_LETTERS: usize = 40;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_key_has_its_form_and_no_two_are_alike() {
        let keys: Vec<String> = (0..100).map(|_| generate().unwrap()).collect();
        for key in &keys {
            let parts: Vec<&str> = key.split('-').collect();
            let [sk, rw, id, secret] = parts[..] else { panic!("{key}") };
            assert_eq!((sk, rw, id.len(), secret.len()), ("sk", "rw", PUBLIC_LETTERS, SECRET_LETTERS));
            assert!(id.bytes().chain(secret.bytes()).all(|byte| byte.is_ascii_alphanumeric()), "{key}");
        }
        let mut unique = keys.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), keys.len());
    }

    #[test]
    fn every_letter_is_drawn() {
        let mut text = String::new();
        letters(20_000, &mut text).unwrap();
        for letter in ALPHABET {
            let count = text.bytes().filter(|byte| byte == letter).count();
            assert!((200..=450).contains(&count), "{}: {count}", char::from(*letter));
        }
    }

    #[test]
    fn the_table_loads_and_says_what_was_asked_for() {
        let new = New {
            name: "search.team".to_owned(),
            models: vec!["llama-*".to_owned(), "say \"hi\"".to_owned()],
            requests_per_minute: Some(600),
            tokens_per_minute: Some(200_000),
            in_flight_max: Some(64),
            json: false,
        };
        let digest = hex(&credential::digest(b"sk-rw-x-y"));
        let file = config::read(Path::new("f"), &table(&new, &digest)).unwrap().file;
        let key = &file.key["search.team"];
        assert_eq!(key.sha256, digest);
        assert_eq!(key.models.as_deref(), Some(&new.models[..]));
        assert_eq!((key.requests_per_minute, key.tokens_per_minute), (Some(600), Some(200_000)));
        assert_eq!(key.in_flight_max, Some(64));
        let plain = New { name: "ci".to_owned(), ..New::default() };
        assert_eq!(table(&plain, "00"), "[key.ci]\nsha256 = \"00\"");
    }
}
