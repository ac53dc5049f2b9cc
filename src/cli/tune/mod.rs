//! `ringway tune`: what this machine has, and what to change for a gateway on it. It changes nothing.

mod advice;
mod machine;

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::{Place, complain, print};
use crate::config::{self, Process};
use advice::{Advice, Wanted};
use machine::Machine;

/// What is asked for.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Prints what the machine is and what to change. Where there is no configuration file the defaults are assumed; exit status 1 for
/// one that is named and not there, or refused.
pub(super) fn command(arguments: Arguments) -> ExitCode {
    let machine = Machine::read(Path::new("/"));
    let named = arguments.place.named();
    let is_named = named.is_some();
    let wanted = match config::locate(named) {
        Ok(path) => config::load(&path, &Process).map(|compiled| Wanted::of(&compiled.plan)),
        Err(problems) if is_named => Err(problems),
        Err(_) => Ok(Wanted::usual(&machine)),
    };
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(problems) => return complain(&problems.to_string()),
    };
    let advice = advice::of(&machine, &wanted);
    match arguments.json {
        true => print(&json!({ "machine": machine, "changes": advice }).to_string()),
        false => print(&page(&machine, &wanted, &advice)),
    }
}

/// The page for people: the machine, then one paragraph for each change.
fn page(machine: &Machine, wanted: &Wanted, advice: &[Advice]) -> String {
    let mut lines = machine.lines();
    lines
        .push(format!("{:10}{} shards, up to {} clients each", "gateway", wanted.shards, wanted.connections));
    lines.push(String::new());
    match advice.len() {
        0 => lines.push("Nothing to change.".to_owned()),
        1 => lines.push("1 change, the most important first:".to_owned()),
        count => lines.push(format!("{count} changes, the most important first:")),
    }
    for (number, Advice { what, now, better, why, how }) in (1..).zip(advice) {
        lines.push(format!("\n{number}. {what}: {now} -> {better}"));
        lines.push(format!("   {why}"));
        lines.extend(how.lines().map(|line| format!("   $ {line}")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
