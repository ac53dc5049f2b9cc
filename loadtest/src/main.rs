//! Load tools for Ringway: the command line.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod cli;

/// Load tools for Ringway: a GPU-server simulator, a load driver and a faulty network.
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
    /// Drive an OpenAI endpoint with load and measure it.
    Drive(Box<cli::drive::Drive>),
    /// Stand between a client and a server, and do to their connections what bad networks do.
    Chaos(cli::chaos::Chaos),
    /// Simulate routing policies before GPU servers, in virtual time.
    Sim(Box<cli::sim::Sim>),
    /// Hold the simulator's conversations with a real gateway, each turn after the response before it.
    Sessions(cli::sim::Sessions),
}

fn main() -> ExitCode {
    cli::raise_file_limit();
    let done = match Line::parse().command {
        Command::Gpusim(command) => command.run(),
        Command::Drive(command) => command.run(),
        Command::Chaos(command) => command.run(),
        Command::Sim(command) => command.run(),
        Command::Sessions(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Line::command().debug_assert();
    }
}
