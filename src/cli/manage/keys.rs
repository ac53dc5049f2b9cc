//! `ringway key list|show|create|set|rotate|revoke`.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::super::complain;
use super::super::table::{Format, Table};
use super::members::{Clear, Grant, OfKey};
use super::{Failure, Gateway, encoded, finish, print_secret, show};
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

/// Prints one key.
#[derive(clap::Args)]
pub(in crate::cli) struct Show {
    #[command(flatten)]
    gateway: Gateway,
    /// Its name
    name: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Creates a key.
#[derive(clap::Args)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    gateway: Gateway,
    /// The name that labels, logs and reports show
    name: String,
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
    gateway: Gateway,
    /// Its name
    name: String,
    #[command(flatten)]
    of_key: OfKey,
    #[command(flatten)]
    grant: Grant,
    #[command(flatten)]
    clear: Clear,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Gives a key another secret.
#[derive(clap::Args)]
pub(in crate::cli) struct Rotate {
    #[command(flatten)]
    gateway: Gateway,
    /// Its name
    name: String,
    /// How long the secret before stays valid: 30m, 24h, 7d; 0s ends it at once, with its streams
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = span)]
    overlap: u64,
    /// The whole response as JSON
    #[arg(long)]
    json: bool,
}

/// Revokes a key.
#[derive(clap::Args)]
pub(in crate::cli) struct Revoke {
    #[command(flatten)]
    gateway: Gateway,
    /// Its name
    name: String,
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

pub(in crate::cli) fn show_one(show_one: &Show) -> ExitCode {
    let path = format!("/api/v1/keys/{}", encoded(&show_one.name));
    finish(show_one.gateway.ask("GET", &path, None).map(|key| show(&key, show_one.json)))
}

pub(in crate::cli) fn create(create: &Create) -> ExitCode {
    let mut members = Map::new();
    members.insert("name".to_owned(), json!(create.name));
    create.of_key.add_to(&mut members);
    create.grant.add_to(&mut members);
    let made = create.gateway.ask("POST", "/api/v1/keys", Some(&members.into()));
    finish(made.map(|made| print_secret(&made, &format!("key {}", create.name), create.json)))
}

pub(in crate::cli) fn set(set: &Set) -> ExitCode {
    let mut members = Map::new();
    set.of_key.add_to(&mut members);
    set.grant.add_to(&mut members);
    set.clear.add_to(&mut members);
    if members.is_empty() {
        return finish(Err(Failure::Refused("there is nothing to change; see --help".to_owned())));
    }
    let path = format!("/api/v1/keys/{}", encoded(&set.name));
    finish(set.gateway.ask("PATCH", &path, Some(&members.into())).map(|key| show(&key, set.json)))
}

pub(in crate::cli) fn rotate(rotate: &Rotate) -> ExitCode {
    let path = format!("/api/v1/keys/{}/rotate", encoded(&rotate.name));
    let body = json!({ "overlap_seconds": rotate.overlap.div_ceil(1_000) });
    finish(rotate.gateway.ask("POST", &path, Some(&body)).map(|made| {
        let until = made["previous_valid_until_unix_ms"].as_u64();
        let until = until.map_or("is refused from now on".to_owned(), |at| {
            format!("stays valid until {}", crate::cli::time::rfc3339(at))
        });
        if !rotate.json {
            complain(&format!("The secret before {until}."));
        }
        print_secret(&made, &format!("new secret of key {}", rotate.name), rotate.json)
    }))
}

pub(in crate::cli) fn revoke(revoke: &Revoke) -> ExitCode {
    let path = format!("/api/v1/keys/{}", encoded(&revoke.name));
    finish(
        revoke
            .gateway
            .ask("DELETE", &path, None)
            .map(|_| crate::cli::print(&format!("key {} is revoked", revoke.name))),
    )
}
