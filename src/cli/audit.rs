//! `ringway audit`: what operators did and policies refused; `--verify` follows the chain of hashes.

use std::process::ExitCode;

use serde_json::json;

use super::table::{Format, Table};
use super::time::{moment, rfc3339};
use super::{Place, complain, ledger, print};
use crate::store::StoreError;
use crate::units::hex;

/// What to print.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Follow the chain from the first entry to the last instead, and print the last hash: noted elsewhere, it vouches
    /// for every entry before it. Exit status 1 at an entry that was changed, removed or inserted
    #[arg(long)]
    verify: bool,
    /// Only entries since: 24h, 7d, 2026-11-01, 2026-11-01T08:30:00Z
    #[arg(long, value_parser = moment)]
    since: Option<u64>,
    /// At most so many, the newest first
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    format: Format,
}

pub(super) fn command(arguments: Arguments) -> ExitCode {
    let (store, _) = match ledger::open(arguments.place) {
        Ok(opened) => opened,
        Err(status) => return status,
    };
    if arguments.verify {
        return match store.verify_audit() {
            Ok(chain) => print(&format!(
                "{} entries, none changed; the last hash is {}",
                chain.entries,
                hex(&chain.head)
            )),
            Err(error @ StoreError::Tampered(_)) => complain(&format!("the audit log was changed: {error}")),
            Err(error) => complain(&error.to_string()),
        };
    }
    let entries = match store.audit(arguments.since.unwrap_or(0), None, arguments.limit) {
        Ok(entries) => entries,
        Err(error) => return complain(&error.to_string()),
    };
    let mut table =
        Table::new(&["sequence", "at", "actor", "origin", "action", "subject", "before", "after", "hash"]);
    for sealed in entries {
        let entry = sealed.entry;
        table.push(vec![
            json!(sealed.sequence),
            json!(rfc3339(entry.at_ms)),
            json!(entry.actor),
            json!(entry.origin),
            json!(entry.action),
            json!(entry.subject),
            json!(entry.before),
            json!(entry.after),
            json!(hex(&sealed.hash)[..16]),
        ]);
    }
    table.print(arguments.format, "no entries")
}
