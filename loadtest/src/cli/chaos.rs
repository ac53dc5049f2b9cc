//! `loadtest chaos`.

use super::{Interrupt, complain, say};
use loadtest::chaos::fault::{FORMS, Fault};
use loadtest::chaos::{self, Record, Spec, Summary};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Options of `loadtest chaos`.
#[derive(Debug, clap::Args)]
#[command(after_help = forms())]
pub(crate) struct Chaos {
    /// Where to listen: IP:PORT.
    #[arg(long, default_value = "127.0.0.1:9101")]
    listen: SocketAddr,
    /// Where to pass connections on to: IP:PORT.
    #[arg(long, default_value = "127.0.0.1:8000")]
    target: SocketAddr,
    /// A fault that connections may draw, as in 'cut down at=100..4000 p=0.3'; may be given more than once.
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<Fault>,
    /// Fixes all chance: what a connection draws depends on this and its number only.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The number of the first connection, to see that of an earlier run again.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Write one line of JSON for each connection when it ends.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

impl Chaos {
    /// Runs until it is interrupted.
    pub(crate) fn run(self) -> Result<(), Box<dyn std::error::Error>> {
        let Self { listen, target, faults, seed, first, log } = self;
        let mut log = match log {
            Some(path) => Some(File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?),
            None => None,
        };
        let write = move |record: Record| {
            if let Some(file) = &mut log
                && let Err(error) = line(file, &record)
            {
                complain(&format!("the log ends before connection {}: {error}", record.connection));
                log = None;
            }
        };
        let spec = Spec { listen, target, faults, seed, first };
        let interrupt = Interrupt::watch()?;
        let proxy = chaos::Chaos::start(spec, write).map_err(|error| format!("{listen}: {error}"))?;
        say(&format!("chaos listens on {} before {target}, seed {seed}", proxy.address));
        interrupt.wait();
        say(&told(&proxy.stop()));
        Ok(())
    }
}

fn line(file: &mut File, record: &Record) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(record)?;
    text.push(b'\n');
    file.write_all(&text)
}

/// One line of totals.
fn told(summary: &Summary) -> String {
    let total: u64 = summary.ended.values().sum();
    let mut text = format!("chaos: {total} connections");
    for (ended, count) in &summary.ended {
        // Writing to a string does not fail.
        let _ = write!(text, ", {count} {}", serde_json::json!(ended).as_str().unwrap_or_default());
    }
    let (up, down) = (summary.up, summary.down);
    let _ = write!(text, "; bytes read and written: up {} {},", up.read, up.written);
    let _ = write!(text, " down {} {}", down.read, down.written);
    text
}

fn forms() -> String {
    let mut text = "Faults, each with [p=SHARE] of the connections (1):\n".to_owned();
    for (name, form) in FORMS {
        let _ = writeln!(text, "  {name} {form}");
    }
    text
}
