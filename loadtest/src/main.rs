//! Load tools for Ringway: the command line.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod cli;

/// Load tools for Ringway: a GPU-server simulator and a load driver.
#[derive(Debug, Parser)]
#[command(version)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Simulate GPU inference servers over vLLM's HTTP surface.
    Gpusim(cli::gpusim::Gpusim),
}

fn main() -> ExitCode {
    let done = match Line::parse().command {
        Command::Gpusim(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::complain(&error);
            ExitCode::FAILURE
        }
    }
}
