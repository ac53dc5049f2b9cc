//! `loadtest drive`.

use super::say;
use indicatif::{ProgressBar, ProgressStyle};
use loadtest::drive::{self, Progress, html};
use std::path::PathBuf;

/// Options of `loadtest drive`.
#[derive(Debug, clap::Args)]
pub(crate) struct Drive {
    #[command(flatten)]
    options: drive::Options,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as an HTML page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Drive {
    /// Runs to the end and reports.
    pub(crate) fn run(self) -> Result<(), Box<dyn std::error::Error>> {
        let bar = ProgressBar::new(1000);
        let form = "{elapsed_precise} [{bar:40}] {msg}";
        bar.set_style(ProgressStyle::with_template(form)?.progress_chars("=> "));
        let report = drive::run(&self.options, |Progress { share, good, failed, inflight }| {
            bar.set_position((share * 1000.0) as u64);
            bar.set_message(format!("{good} good, {failed} failed, {inflight} in flight"));
        })?;
        bar.finish_and_clear();
        say(&report.table());
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&report)?;
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if let Some(path) = &self.html {
            let text = html::page(&report);
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}
