//! The commands: one file each. The only room that speaks to the terminal.

mod ask;
mod audit;
mod check;
mod explain;
mod guard;
mod import;
mod key;
mod ledger;
mod manage;
mod manual;
mod notify;
mod providers;
mod requests;
mod route;
mod schema;
mod selection;
pub mod serve;
mod table;
mod time;
mod top;
mod tune;
mod upgrade;
mod usage;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config;
use crate::coordinator::roster;

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
    Serve(Place),
    /// Check a configuration on this machine and print what it means
    Check(Place),
    /// Print what a key may do with a model, and which line of the configuration says so
    Explain(explain::Explain),
    /// Content rules: what they find in a text
    #[command(subcommand)]
    Guard(guard::Command),
    /// Which backend the running gateway would choose, and why
    #[command(subcommand)]
    Route(route::Command),
    /// Make the running gateway reload its configuration file
    Reload(Place),
    /// Make the running gateway start the binary now on disk and hand it the listening sockets
    Upgrade(Place),
    /// Create, list, change, rotate and revoke API keys of clients
    #[command(subcommand)]
    Key(key::Command),
    /// Create, list and change teams of keys
    #[command(subcommand)]
    Team(manage::teams::Command),
    /// Set, list and remove budgets of keys and teams
    #[command(subcommand)]
    Budget(manage::budgets::Command),
    /// Create, list and revoke admin tokens, each with a role
    #[command(subcommand)]
    Token(manage::tokens::Command),
    /// List backends, and take one out of service
    #[command(subcommand)]
    Backend(manage::backends::Command),
    /// Print what was used, from the ledger; the gateway may be up or down
    Usage(usage::Arguments),
    /// Print settled requests, the newest first
    Requests(requests::Arguments),
    /// Print the audit log, or verify its chain
    Audit(audit::Arguments),
    /// Watch the running gateway in a terminal: rates, backends, limits, failures
    Top(top::Arguments),
    /// Look at this machine and print what to change for a gateway on it; changes nothing
    Tune(tune::Arguments),
    /// Turn the configuration of another gateway into one of this one
    #[command(subcommand)]
    Import(import::Command),
    /// List the kinds of backends: where they are, how they are called, what they serve
    Providers,
    /// Print the JSON Schema of the configuration, for completion in editors
    Schema,
    /// Print a script that completes commands and options in a shell
    Completions(manual::Completions),
    /// Write the manual pages into a folder
    Man(manual::Man),
}

/// Which configuration file a command is about.
#[derive(clap::Args, Clone)]
struct Place {
    /// The configuration file [default: ./ringway.toml, then /etc/ringway/ringway.toml]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same as FILE
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
}

impl Place {
    fn named(self) -> Option<PathBuf> {
        self.file.or(self.config)
    }
}

/// Runs the command of this process's arguments. Exit status 1 for a refused configuration, 2 for wrong arguments.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(place) => start(place.named()),
        Command::Check(place) => check::command(place.named()),
        Command::Explain(explain) => explain::command(explain),
        Command::Guard(command) => guard::command(command),
        Command::Route(command) => route::command(command),
        Command::Reload(place) => ask::command(place.named(), "/reload"),
        Command::Upgrade(place) => ask::command(place.named(), "/upgrade"),
        Command::Key(command) => key::command(&command),
        Command::Team(command) => manage::teams::command(&command),
        Command::Budget(command) => manage::budgets::command(&command),
        Command::Token(command) => manage::tokens::command(&command),
        Command::Backend(command) => manage::backends::command(&command),
        Command::Usage(arguments) => usage::command(arguments),
        Command::Requests(arguments) => requests::command(arguments),
        Command::Audit(arguments) => audit::command(arguments),
        Command::Top(arguments) => top::command(arguments),
        Command::Import(command) => import::command(&command),
        Command::Tune(arguments) => tune::command(arguments),
        Command::Providers => providers::command(),
        Command::Schema => schema::command(),
        Command::Completions(arguments) => manual::completions(&mut Arguments::command(), arguments.shell),
        Command::Man(arguments) => manual::man(Arguments::command(), &arguments),
    }
}

/// Loads the configuration, says what is worth a look, and serves.
fn start(named: Option<PathBuf>) -> ExitCode {
    let loaded = config::locate(named).and_then(|path| Ok((roster::load(&path)?, path)));
    let (loaded, path) = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => return complain(&problems.to_string()),
    };
    for note in &loaded.compiled.notes {
        complain(&format!("note: {note}"));
    }
    match serve::run(path, loaded) {
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
            ("ringway explain ci llama", true),
            ("ringway explain ci llama --config a.toml", true),
            ("ringway explain ci", false),
            ("ringway check a.toml", true),
            ("ringway guard", false),
            ("ringway guard test --text card", true),
            ("ringway guard test text.txt --config a.toml --model m --key ci --where output --json", true),
            ("ringway guard test", false),
            ("ringway guard matches a.toml --rule cards --since 24h --json", true),
            ("ringway guard test text.txt --text card", false),
            ("ringway guard test --text card --where there", false),
            ("ringway check --config a.toml", true),
            ("ringway serve a.toml", true),
            ("ringway reload a.toml", true),
            ("ringway upgrade a.toml", true),
            ("ringway key new ci", true),
            ("ringway key new ci --model llama-* --requests-per-minute 600", true),
            ("ringway key", false),
            ("ringway key new", false),
            ("ringway key list --team search --json", true),
            ("ringway key create ci --model llama-* --team search --expires 2027-01-01T00:00:00Z", true),
            ("ringway key create ci --member tokens_burst=5000 --metadata owner=me", true),
            ("ringway key create ci --member tokens_burst", false),
            ("ringway key set ci --clear models", true),
            ("ringway key rotate ci --overlap 0s", true),
            ("ringway key rotate ci --overlap soon", false),
            ("ringway key revoke ci --admin 127.0.0.1:9090", true),
            ("ringway key revoke", false),
            ("ringway team create search --requests-per-minute 600", true),
            ("ringway budget set --key ci --tokens 5000 --per day", true),
            ("ringway budget set --key ci --team search --tokens 5 --per day", false),
            ("ringway budget set --key ci --per day", false),
            ("ringway budget set --key ci --tokens 5 --per year", false),
            ("ringway token create anna --role admin --team search", true),
            ("ringway token create anna --role root", false),
            ("ringway backend drain gpu-a", true),
            ("ringway backend", false),
            ("ringway reload", true),
            ("ringway upgrade --config a.toml", true),
            ("ringway schema", true),
            ("ringway top", true),
            ("ringway top a.toml --once", true),
            ("ringway top --admin 127.0.0.1:9090 --json", true),
            ("ringway top a.toml --admin 127.0.0.1:9090", false),
            ("ringway usage", true),
            ("ringway usage a.toml --by team --since 7d --json", true),
            ("ringway usage --rows --json", true),
            ("ringway usage --by colour", false),
            ("ringway usage --json --csv", false),
            ("ringway usage --since yesterday", false),
            ("ringway requests --key ci --failed --limit 5", true),
            ("ringway audit", true),
            ("ringway audit --verify", true),
            ("ringway tune", true),
            ("ringway tune a.toml --json", true),
            ("ringway providers", true),
            ("ringway providers openai", false),
            ("ringway", false),
            ("ringway serve a.toml b.toml", false),
            ("ringway serve a.toml --config b.toml", false),
            ("ringway check a.toml b.toml", false),
            ("ringway key new ci --requests-per-minute many", false),
            ("ringway frob", false),
        ] {
            assert_eq!(Arguments::try_parse_from(line.split(' ')).is_ok(), fits, "{line}");
        }
    }
}
