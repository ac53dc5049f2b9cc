//! `ringway completions SHELL` and `ringway man FOLDER`: what packages install beside the program, made of its own arguments.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

use super::{complain, print};

/// For which shell.
#[derive(clap::Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(super) shell: Shell,
}

/// Where to.
#[derive(clap::Args)]
pub(super) struct Man {
    /// The folder; one page for each command
    folder: PathBuf,
}

pub(super) fn completions(command: &mut Command, shell: Shell) -> ExitCode {
    print(script(command, shell).trim_end())
}

fn script(command: &mut Command, shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, command, "ringway", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

pub(super) fn man(command: Command, man: &Man) -> ExitCode {
    let written =
        std::fs::create_dir_all(&man.folder).and_then(|()| clap_mangen::generate_to(command, &man.folder));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("ringway: {}: {error}", man.folder.display())),
    }
}
