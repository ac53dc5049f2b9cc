//! `ringway backend list|drain|undrain`.

use std::process::ExitCode;

use super::{Failure, List, Named, finish};
use crate::cli::print;
use crate::cli::table::Table;

/// What can be done with backends.
#[derive(clap::Subcommand)]
pub(in crate::cli) enum Command {
    /// List the backends, each with its state and why
    List(List),
    /// Give a backend no new requests; those in flight end as they would
    Drain(Named),
    /// Put a drained backend back into service
    Undrain(Named),
}

pub(in crate::cli) fn command(command: &Command) -> ExitCode {
    finish(match command {
        Command::List(arguments) => list(arguments),
        Command::Drain(named) => set(named, "drain"),
        Command::Undrain(named) => set(named, "undrain"),
    })
}

fn list(list: &List) -> Result<ExitCode, Failure> {
    let found = list.gateway.ask("GET", "/api/v1/backends", None)?;
    let mut table =
        Table::new(&["name", "state", "why", "target", "in_flight", "requests", "output_tokens", "models"]);
    for backend in found["backends"].as_array().into_iter().flatten() {
        let models = backend["models"].as_array().into_iter().flatten();
        let models = models.filter_map(|model| model.as_str()).collect::<Vec<_>>().join(" ");
        table.push(vec![
            backend["name"].clone(),
            backend["state"].clone(),
            backend["why"].clone(),
            backend["target"].clone(),
            backend["in_flight"].clone(),
            backend["requests"].clone(),
            backend["output_tokens"].clone(),
            models.into(),
        ]);
    }
    Ok(table.print(list.format, "there are no backends"))
}

fn set(named: &Named, action: &str) -> Result<ExitCode, Failure> {
    let backend = named.ask("POST", ("backends", &format!("/{action}")), None)?;
    let (state, in_flight) = (backend["state"].as_str().unwrap_or_default(), &backend["in_flight"]);
    Ok(print(&format!("backend {}: {state}, {in_flight} requests in flight", named.name)))
}
