//! `ringway token list|create|revoke`: admin tokens, each with a role.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::{Failure, List, Named, finish, print_secret};
use crate::cli::table::Table;
use crate::cli::time::rfc3339;

/// What can be done with admin tokens.
#[derive(clap::Subcommand)]
pub(in crate::cli) enum Command {
    /// List the admin tokens that were created here
    List(List),
    /// Create an admin token with a role
    Create(Create),
    /// Revoke an admin token, and with it the tokens that were made with it; their sessions and live streams end
    Revoke(Named),
}

#[derive(clap::Args)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    named: Named,
    /// owner: everything; admin: the keys of a team; viewer: reads; auditor: reads, the audit log included
    #[arg(long, value_parser = ["owner", "admin", "viewer", "auditor"])]
    role: String,
    /// The team of an admin, or the only one that a viewer sees
    #[arg(long)]
    team: Option<String>,
    /// When it expires: 2027-01-01T00:00:00Z [default, and the latest: with the token that makes it]
    #[arg(long, value_name = "INSTANT")]
    expires: Option<String>,
    /// The whole response as JSON
    #[arg(long)]
    json: bool,
}

pub(in crate::cli) fn command(command: &Command) -> ExitCode {
    finish(match command {
        Command::List(arguments) => list(arguments),
        Command::Create(arguments) => create(arguments),
        Command::Revoke(named) => named.end("tokens", "token", "revoked"),
    })
}

fn list(list: &List) -> Result<ExitCode, Failure> {
    let found = list.gateway.ask("GET", "/api/v1/tokens", None)?;
    let mut table = Table::new(&[
        "name",
        "public_id",
        "role",
        "team",
        "state",
        "made_by",
        "created",
        "expires",
        "revoked",
    ]);
    let time = |at: &Value| at.as_u64().map_or(Value::Null, |at| json!(rfc3339(at)));
    for token in found["tokens"].as_array().into_iter().flatten() {
        table.push(vec![
            token["name"].clone(),
            token["public_id"].clone(),
            token["role"].clone(),
            token["team"].clone(),
            token["state"].clone(),
            token["made_by"].clone(),
            time(&token["created_unix_ms"]),
            token["expires"].clone(),
            time(&token["revoked_unix_ms"]),
        ]);
    }
    Ok(table.print(list.format, "there are no admin tokens but the one of [admin], if any"))
}

fn create(create: &Create) -> Result<ExitCode, Failure> {
    let mut members = Map::new();
    for (name, value) in
        [("role", Some(&create.role)), ("team", create.team.as_ref()), ("expires", create.expires.as_ref())]
    {
        if let Some(value) = value {
            members.insert(name.to_owned(), json!(value));
        }
    }
    let made = create.named.create("tokens", members)?;
    Ok(print_secret(&made, &format!("admin token {}", create.named.name), create.json))
}
