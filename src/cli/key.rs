//! `ringway key`: keys of clients. `key new` makes one and the table that lets it in; the other commands ask the running gateway
//! (`manage::keys`).
//!
//! The configuration holds a key's digest only, so the key itself is printed once. The table goes to standard output and
//! the key to standard error: `ringway key new ci >> ringway.toml` shows the one and appends the other.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::manage::{Named, Shown, keys};
use super::{complain, print};
use crate::config;
use crate::coordinator::roster::secret;
use crate::units::hex;

/// What can be done with keys.
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Print a new key, and its table for the configuration; asks no gateway
    New(New),
    /// List the keys, with what is used of their limits and budgets
    List(keys::List),
    /// Show one key
    Show(Shown),
    /// Create a key on the running gateway, and print its secret
    Create(keys::Create),
    /// Change a key that was created here; what is not named stays
    Set(keys::Set),
    /// Give a key another secret, and print it; the one before stays valid for a while
    Rotate(keys::Rotate),
    /// Revoke a key: its running streams end
    Revoke(Named),
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
pub(super) fn command(command: &Command) -> ExitCode {
    match command {
        Command::New(new) => print_new(new),
        Command::List(arguments) => keys::list(arguments),
        Command::Show(arguments) => keys::show_one(arguments),
        Command::Create(arguments) => keys::create(arguments),
        Command::Set(arguments) => keys::set(arguments),
        Command::Rotate(arguments) => keys::rotate(arguments),
        Command::Revoke(arguments) => keys::revoke(arguments),
    }
}

fn print_new(new: &New) -> ExitCode {
    if let Err(expected) = config::check_key_name(&new.name) {
        return complain(&format!("ringway: the name {:?} {expected}", new.name));
    }
    let Ok(made) = secret::make(secret::KEY, None) else {
        return complain("ringway: the system gave no random bytes");
    };
    let (key, digest) = (&made.text, hex(&made.digest));
    if new.json {
        let object = serde_json::json!({ "name": new.name, "key": key, "sha256": digest });
        return print(&object.to_string());
    }
    complain(&format!("The key, shown only now; give it to the client:\n\n  {key}\n"));
    print(&table(new, &digest))
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::auth::credential;

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
