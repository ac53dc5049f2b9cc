//! `ringway team list|show|create|set|remove`.

use std::process::ExitCode;

use super::keys::{budgets, limits};
use super::members::{Clear, Grant};
use super::{Failure, List, Named, Shown, finish, show};
use crate::cli::table::Table;

/// What can be done with teams.
#[derive(clap::Subcommand)]
pub(in crate::cli) enum Command {
    /// List the teams, with what is used of their limits and budgets
    List(List),
    /// Show one team
    Show(Shown),
    /// Create a team
    Create(Create),
    /// Change a team that was created here
    Set(Set),
    /// Remove a team that has no keys
    Remove(Named),
}

#[derive(clap::Args)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    of: Shown,
    #[command(flatten)]
    grant: Grant,
}

#[derive(clap::Args)]
pub(in crate::cli) struct Set {
    #[command(flatten)]
    of: Shown,
    #[command(flatten)]
    grant: Grant,
    #[command(flatten)]
    clear: Clear,
}

pub(in crate::cli) fn command(command: &Command) -> ExitCode {
    finish(match command {
        Command::List(arguments) => list(arguments),
        Command::Show(shown) => shown.read("teams"),
        Command::Create(Create { of, grant }) => {
            let made = of.of.create("teams", grant.members());
            made.map(|team| show(&team, of.json))
        }
        Command::Set(Set { of, grant, clear }) => {
            let mut members = grant.members();
            clear.add_to(&mut members);
            of.of.change("teams", members).map(|team| show(&team, of.json))
        }
        Command::Remove(named) => named.end("teams", "team", "removed"),
    })
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
