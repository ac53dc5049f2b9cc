//! `ringway team list|show|create|set|remove`.

use std::process::ExitCode;

use serde_json::{Map, json};

use super::keys::{budgets, limits};
use super::members::{Clear, Grant};
use super::{Failure, Gateway, encoded, finish, show};
use crate::cli::print;
use crate::cli::table::{Format, Table};

/// What can be done with teams.
#[derive(clap::Subcommand)]
pub(in crate::cli) enum Command {
    /// List the teams, with what is used of their limits and budgets
    List(List),
    /// Show one team
    Show(Named),
    /// Create a team
    Create(Written),
    /// Change a team that was created here
    Set(Written),
    /// Remove a team that has no keys
    Remove(Named),
}

#[derive(clap::Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    format: Format,
}

#[derive(clap::Args)]
pub(in crate::cli) struct Named {
    #[command(flatten)]
    gateway: Gateway,
    /// Its name
    name: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(in crate::cli) struct Written {
    #[command(flatten)]
    gateway: Gateway,
    /// Its name
    name: String,
    #[command(flatten)]
    grant: Grant,
    #[command(flatten)]
    clear: Clear,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(in crate::cli) fn command(command: &Command) -> ExitCode {
    finish(match command {
        Command::List(arguments) => list(arguments),
        Command::Show(Named { gateway, name, json }) => {
            gateway.ask("GET", &path(name), None).map(|team| show(&team, *json))
        }
        Command::Create(arguments) => write(arguments, true),
        Command::Set(arguments) => write(arguments, false),
        Command::Remove(Named { gateway, name, .. }) => {
            gateway.ask("DELETE", &path(name), None).map(|_| print(&format!("team {name} is removed")))
        }
    })
}

fn path(name: &str) -> String {
    format!("/api/v1/teams/{}", encoded(name))
}

fn list(list: &List) -> Result<ExitCode, Failure> {
    let teams = list.gateway.ask("GET", "/api/v1/teams", None)?;
    let mut table = Table::new(&[
        "name",
        "kept_in",
        "keys",
        "requests",
        "input_tokens",
        "output_tokens",
        "in_flight",
        "limits",
        "budgets",
    ]);
    for team in teams["teams"].as_array().into_iter().flatten() {
        table.push(vec![
            team["name"].clone(),
            team["source"].clone(),
            team["keys"].clone(),
            team["requests"].clone(),
            team["input_tokens"].clone(),
            team["output_tokens"].clone(),
            team["in_flight"].clone(),
            limits(&team["limits"]),
            budgets(&team["budgets"]),
        ]);
    }
    Ok(table.print(list.format, "there are no teams"))
}

fn write(written: &Written, is_new: bool) -> Result<ExitCode, Failure> {
    let mut members = Map::new();
    written.grant.add_to(&mut members);
    written.clear.add_to(&mut members);
    let team = if is_new {
        members.insert("name".to_owned(), json!(written.name));
        written.gateway.ask("POST", "/api/v1/teams", Some(&members.into()))?
    } else {
        written.gateway.ask("PATCH", &path(&written.name), Some(&members.into()))?
    };
    Ok(show(&team, written.json))
}
