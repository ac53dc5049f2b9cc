//! `ringway token list|create|revoke`: admin tokens, each with a role.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::{Failure, Gateway, encoded, finish, print_secret};
use crate::cli::print;
use crate::cli::table::{Format, Table};
use crate::cli::time::rfc3339;

/// What can be done with admin tokens.
#[derive(clap::Subcommand)]
pub(in crate::cli) enum Command {
    /// List the admin tokens that were created here
    List(List),
    /// Create an admin token with a role
    Create(Create),
    /// Revoke an admin token; its sessions end
    Revoke(Revoke),
}

#[derive(clap::Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    format: Format,
}

#[derive(clap::Args)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    gateway: Gateway,
    /// The name that the audit log shows
    name: String,
    /// owner: everything; admin: the keys of a team; viewer: reads; auditor: reads, the audit log included
    #[arg(long, value_parser = ["owner", "admin", "viewer", "auditor"])]
    role: String,
    /// The team of an admin, or the only one that a viewer sees
    #[arg(long)]
    team: Option<String>,
    /// When it expires: 2027-01-01T00:00:00Z
    #[arg(long, value_name = "INSTANT")]
    expires: Option<String>,
    /// The whole response as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(in crate::cli) struct Revoke {
    #[command(flatten)]
    gateway: Gateway,
    /// Its name
    name: String,
}

pub(in crate::cli) fn command(command: &Command) -> ExitCode {
    finish(match command {
        Command::List(arguments) => list(arguments),
        Command::Create(arguments) => create(arguments),
        Command::Revoke(Revoke { gateway, name }) => {
            let revoked = gateway.ask("DELETE", &format!("/api/v1/tokens/{}", encoded(name)), None);
            revoked.map(|_| print(&format!("token {name} is revoked")))
        }
    })
}

fn list(list: &List) -> Result<ExitCode, Failure> {
    let found = list.gateway.ask("GET", "/api/v1/tokens", None)?;
    let mut table = Table::new(&["name", "public_id", "role", "team", "created", "expires", "revoked"]);
    let time = |at: &Value| at.as_u64().map_or(Value::Null, |at| json!(rfc3339(at)));
    for token in found["tokens"].as_array().into_iter().flatten() {
        table.push(vec![
            token["name"].clone(),
            token["public_id"].clone(),
            token["role"].clone(),
            token["team"].clone(),
            time(&token["created_unix_ms"]),
            token["expires"].clone(),
            time(&token["revoked_unix_ms"]),
        ]);
    }
    Ok(table.print(list.format, "there are no admin tokens but the one of [admin], if any"))
}

fn create(create: &Create) -> Result<ExitCode, Failure> {
    let mut members = Map::new();
    for (name, value) in [
        ("name", Some(&create.name)),
        ("role", Some(&create.role)),
        ("team", create.team.as_ref()),
        ("expires", create.expires.as_ref()),
    ] {
        if let Some(value) = value {
            members.insert(name.to_owned(), json!(value));
        }
    }
    let made = create.gateway.ask("POST", "/api/v1/tokens", Some(&members.into()))?;
    Ok(print_secret(&made, &format!("admin token {}", create.name), create.json))
}
