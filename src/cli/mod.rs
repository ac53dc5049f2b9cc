//! The commands: one file each. The only room that speaks to the terminal.

mod ask;
mod check;
mod notify;
mod schema;
pub mod serve;
mod upgrade;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Process};

/// AI gateway: one light LLM API in front of GPU inference servers and hosted providers.
#[derive(Parser)]
#[command(name = "ringway", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM
    Serve {
        /// The configuration [default: ./ringway.toml, then /etc/ringway/ringway.toml]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Say whether a configuration would serve on this machine, and what it means
    Check {
        /// The configuration [default: ./ringway.toml, then /etc/ringway/ringway.toml]
        file: Option<PathBuf>,
    },
    /// Tell the gateway that runs to take up its configuration as it is now
    Reload {
        /// The configuration [default: ./ringway.toml, then /etc/ringway/ringway.toml]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Tell the gateway that runs to give way to the program as it is now
    Upgrade {
        /// The configuration [default: ./ringway.toml, then /etc/ringway/ringway.toml]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the JSON Schema of the configuration, for completion in editors
    Schema,
}

/// Runs the command of this process's arguments. Exit status 1 for a refused configuration, 2 for wrong arguments.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve { config } => start(config),
        Command::Check { file } => check::command(file),
        Command::Reload { config } => ask::command(config, "/reload"),
        Command::Upgrade { config } => ask::command(config, "/upgrade"),
        Command::Schema => schema::command(),
    }
}

/// Loads the configuration, says what is worth a look, and serves.
fn start(named: Option<PathBuf>) -> ExitCode {
    let loaded = config::locate(named).and_then(|path| Ok((config::load(&path, &Process)?, path)));
    let (compiled, path) = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => return complain(&problems.to_string()),
    };
    for note in &compiled.notes {
        complain(&format!("note: {note}"));
    }
    match serve::run(path, compiled) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("ringway: {error}")),
    }
}

/// Writes to standard output. A reader that has left is no failure of ours.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => complain(&error.to_string()),
        _ => ExitCode::SUCCESS,
    }
}

/// Writes to standard error. If even that fails, the exit status is all there is.
fn complain(text: &str) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "{text}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_those_of_the_manual() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
        for (line, fits) in [
            ("ringway serve", true),
            ("ringway serve --config a.toml", true),
            ("ringway check", true),
            ("ringway check a.toml", true),
            ("ringway reload", true),
            ("ringway upgrade --config a.toml", true),
            ("ringway schema", true),
            ("ringway", false),
            ("ringway serve a.toml", false),
            ("ringway check a.toml b.toml", false),
            ("ringway frob", false),
        ] {
            assert_eq!(Arguments::try_parse_from(line.split(' ')).is_ok(), fits, "{line}");
        }
    }
}
