//! `ringway key list|show|create|set|rotate|revoke`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::complain;
use super::super::table::{Format, Table};
use super::members::{Clear, Grant, OfKey};
use super::{Gateway, Named, Shown, encoded, finish, print_secret, show};
use crate::cli::time::span;

/// Prints the keys.
#[derive(clap::Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    gateway: Gateway,
    /// Only those of this team
    #[arg(long)]
    team: Option<String>,
    #[command(flatten)]
    format: Format,
}

/// Creates a key.
#[derive(clap::Args)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    of_key: OfKey,
    #[command(flatten)]
    grant: Grant,
    /// The whole response as JSON
    #[arg(long)]
    json: bool,
}

/// Changes a key.
#[derive(clap::Args)]
pub(in crate::cli) struct Set {
    #[command(flatten)]
    of: Shown,
    #[command(flatten)]
    of_key: OfKey,
    #[command(flatten)]
    grant: Grant,
    #[command(flatten)]
    clear: Clear,
}

/// Gives a key another secret.
#[derive(clap::Args)]
pub(in crate::cli) struct Rotate {
    #[command(flatten)]
    named: Named,
    /// How long the secret before stays valid: 30m, 24h, 7d; 0s ends it at once, with its streams
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = span)]
    overlap: u64,
    /// The whole response as JSON
    #[arg(long)]
    json: bool,
}

pub(in crate::cli) fn list(list: &List) -> ExitCode {
    let team = list.team.as_ref().map(|team| format!("team={}&", encoded(team))).unwrap_or_default();
    finish(list.gateway.pages(&format!("/api/v1/keys?{team}"), "keys").map(|keys| {
        let mut table = Table::new(&[
            "name",
            "public_id",
            "state",
            "team",
            "kept_in",
            "models",
            "requests",
            "input_tokens",
            "output_tokens",
            "in_flight",
            "limits",
            "budgets",
            "expires",
        ]);
        for key in &keys {
            table.push(vec![
                key["name"].clone(),
                key["public_id"].clone(),
                key["state"].clone(),
                key["team"].clone(),
                key["source"].clone(),
                models(&key["models"]),
                key["requests"].clone(),
                key["input_tokens"].clone(),
                key["output_tokens"].clone(),
                key["in_flight"].clone(),
                limits(&key["limits"]),
                budgets(&key["budgets"]),
                key["expires_unix_ms"]
                    .as_u64()
                    .map_or(Value::Null, |at| json!(crate::cli::time::rfc3339(at))),
            ]);
        }
        table.print(list.format, "there are no keys")
    }))
}

fn models(models: &Value) -> Value {
    match models.as_array() {
        None => json!("all"),
        Some(list) => json!(list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
    }
}

/// `requests_per_minute 5/600`.
pub(super) fn limits(limits: &Value) -> Value {
    let line = |limit: &Value| {
        format!("{} {}/{}", limit["name"].as_str().unwrap_or_default(), limit["used"], limit["max"])
    };
    json!(limits.as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join(" "))
}

/// `5/600 tokens a day`.
pub(super) fn budgets(budgets: &Value) -> Value {
    let line = |budget: &Value| {
        let text = |member: &str| budget[member].as_str().unwrap_or_default().to_owned();
        format!("{}/{} {} a {}", budget["used"], budget["max"], text("unit"), text("per"))
    };
    json!(budgets.as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join(" "))
}

pub(in crate::cli) fn show_one(shown: &Shown) -> ExitCode {
    finish(shown.read("keys"))
}

pub(in crate::cli) fn create(create: &Create) -> ExitCode {
    let Create { named, of_key, grant, json } = create;
    let mut members = grant.members();
    of_key.add_to(&mut members);
    let made = named.create("keys", members);
    finish(made.map(|made| print_secret(&made, &format!("key {}", named.name), *json)))
}

pub(in crate::cli) fn set(set: &Set) -> ExitCode {
    let mut members = set.grant.members();
    set.of_key.add_to(&mut members);
    set.clear.add_to(&mut members);
    finish(set.of.of.change("keys", members).map(|key| show(&key, set.of.json)))
}

pub(in crate::cli) fn rotate(rotate: &Rotate) -> ExitCode {
    let body = json!({ "overlap_seconds": rotate.overlap.div_ceil(1_000) });
    finish(rotate.named.ask("POST", ("keys", "/rotate"), Some(&body)).map(|made| {
        let until = made["previous_valid_until_unix_ms"].as_u64();
        let until = until.map_or("is refused from now on".to_owned(), |at| {
            format!("stays valid until {}", crate::cli::time::rfc3339(at))
        });
        if !rotate.json {
            complain(&format!("The secret before {until}."));
        }
        print_secret(&made, &format!("new secret of key {}", rotate.named.name), rotate.json)
    }))
}

pub(in crate::cli) fn revoke(named: &Named) -> ExitCode {
    finish(named.end("keys", "key", "revoked"))
}
