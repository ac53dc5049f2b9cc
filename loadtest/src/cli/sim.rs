//! `loadtest sim` and `loadtest sessions`.

use super::say;
use loadtest::sim::{self, Row, sessions};
use std::path::PathBuf;

/// Options of `loadtest sim`.
#[derive(Debug, clap::Args)]
pub(crate) struct Sim {
    #[command(flatten)]
    options: sim::Options,
    /// Write the rows as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Sim {
    /// Runs to the end and reports.
    pub(crate) fn run(self) -> Result<(), Box<dyn std::error::Error>> {
        say(Row::HEADER);
        let rows = sim::run(&self.options, |row| say(&row.line()))?;
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&rows)?;
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}

/// Options of `loadtest sessions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Sessions {
    #[command(flatten)]
    options: sessions::Options,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Sessions {
    /// Runs to the end and reports.
    pub(crate) fn run(self) -> Result<(), Box<dyn std::error::Error>> {
        let report = sessions::run(&self.options)?;
        say(&report.line());
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&report)?;
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}
