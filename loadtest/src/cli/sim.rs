//! `loadtest sim`.

use super::say;
use loadtest::sim::{self, Row};
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
