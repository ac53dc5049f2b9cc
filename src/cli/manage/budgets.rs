//! `ringway budget list|set|remove`.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::{Failure, Gateway, encoded, finish};
use crate::cli::table::{Format, Table};
use crate::cli::time::rfc3339;

/// What can be done with budgets.
#[derive(clap::Subcommand)]
pub(in crate::cli) enum Command {
    /// List the budgets of keys and teams, with what is used of each and when its window ends
    List(List),
    /// Set a budget: it takes the place of the one with the same unit and window
    Set(Set),
    /// Remove a budget
    Remove(Set),
}

#[derive(clap::Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    format: Format,
}

/// Whose budgets.
#[derive(clap::Args)]
struct Of {
    /// Of this key
    #[arg(long, conflicts_with = "team")]
    key: Option<String>,
    /// Of this team
    #[arg(long)]
    team: Option<String>,
}

#[derive(clap::Args)]
pub(in crate::cli) struct Set {
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    of: Of,
    /// So many tokens of prompts and responses
    #[arg(long, value_name = "COUNT", conflicts_with = "money", required_unless_present = "money")]
    tokens: Option<u64>,
    /// So much money, by the prices of the configuration
    #[arg(long, value_name = "AMOUNT")]
    money: Option<f64>,
    /// How long the window is
    #[arg(long, value_parser = ["minute", "hour", "day", "week", "month"])]
    per: String,
    /// The zone of the calendar, like Europe/Berlin [default: UTC]
    #[arg(long)]
    zone: Option<String>,
    /// The time up to now instead of the calendar's
    #[arg(long, conflicts_with = "zone")]
    rolling: bool,
    #[command(flatten)]
    format: Format,
}

pub(in crate::cli) fn command(command: &Command) -> ExitCode {
    finish(match command {
        Command::List(List { gateway, of, format }) => {
            let query = match (&of.key, &of.team) {
                (Some(key), _) => format!("?key={}", encoded(key)),
                (None, Some(team)) => format!("?team={}", encoded(team)),
                (None, None) => String::new(),
            };
            let found = gateway.ask("GET", &format!("/api/v1/budgets{query}"), None);
            found.map(|found| print(&found, *format))
        }
        Command::Set(set) => write("PUT", set),
        Command::Remove(set) => write("DELETE", set),
    })
}

fn write(method: &str, set: &Set) -> Result<ExitCode, Failure> {
    let mut members = Map::new();
    match (&set.of.key, &set.of.team) {
        (Some(key), None) => members.insert("key".to_owned(), json!(key)),
        (None, Some(team)) => members.insert("team".to_owned(), json!(team)),
        _ => return Err(Failure::Refused("whose budget? expected --key NAME or --team NAME".to_owned())),
    };
    members.insert("per".to_owned(), json!(set.per));
    if let Some(tokens) = set.tokens {
        members.insert("tokens".to_owned(), json!(tokens));
    }
    if let Some(money) = set.money {
        members.insert("money".to_owned(), json!(money));
    }
    if let Some(zone) = &set.zone {
        members.insert("zone".to_owned(), json!(zone));
    }
    if set.rolling {
        members.insert("rolling".to_owned(), json!(true));
    }
    let left = set.gateway.ask(method, "/api/v1/budgets", Some(&members.into()))?;
    Ok(print(&left, set.format))
}

fn print(found: &Value, format: Format) -> ExitCode {
    let mut table = Table::new(&["of", "name", "unit", "per", "zone", "used", "reserved", "max", "resets"]);
    for budget in found["budgets"].as_array().into_iter().flatten() {
        table.push(vec![
            budget["of"].clone(),
            budget["name"].clone(),
            budget["unit"].clone(),
            budget["per"].clone(),
            if budget["zone"].is_null() { json!("rolling") } else { budget["zone"].clone() },
            budget["used"].clone(),
            budget["reserved"].clone(),
            budget["max"].clone(),
            json!(rfc3339(budget["reset_unix_ms"].as_u64().unwrap_or(0))),
        ]);
    }
    table.print(format, "there are no budgets")
}
