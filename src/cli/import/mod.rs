//! `ringway import`: the configuration of another gateway as one of this one.

mod kinds;
mod litellm;

use std::path::PathBuf;
use std::process::ExitCode;

use super::{complain, print};

/// Which gateway's.
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Print LiteLLM's proxy configuration (YAML) as TOML; what has no match goes to standard error
    Litellm(File),
}

/// The file to read.
#[derive(clap::Args)]
pub(super) struct File {
    /// The file
    file: PathBuf,
}

/// A configuration, and what of the other one is not in it.
struct Imported {
    toml: String,
    /// Each with the place in the other file.
    unmatched: Vec<String>,
}

pub(super) fn command(command: &Command) -> ExitCode {
    let Command::Litellm(File { file }) = command;
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return complain(&format!("{}: cannot be read: {error}", file.display())),
    };
    let environment = |name: &str| std::env::var(name).ok();
    match litellm::import(&text, &environment) {
        Err(problem) => complain(&format!("{}: {problem}", file.display())),
        Ok(Imported { toml, unmatched }) => {
            for line in &unmatched {
                eprintln!("no match: {line}");
            }
            print(toml.trim_end())
        }
    }
}
