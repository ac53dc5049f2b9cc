//! `ringway requests`: settled requests, the newest first.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::selection::Selection;
use super::table::{Format, Table};
use super::time::rfc3339;
use super::{Place, complain, ledger};
use crate::store::requests::PAGE_ROWS_MAX;
use crate::store::{Request, RequestFilter, Store, StoreError};

/// What to print.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    selection: Selection,
    /// Only the one of this x-request-id
    #[arg(long)]
    id: Option<String>,
    /// Only those that failed or were refused
    #[arg(long)]
    failed: bool,
    /// At most so many
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
    let filter = RequestFilter {
        since_ms: arguments.selection.since.unwrap_or(0),
        until_ms: arguments.selection.until,
        key: arguments.selection.key,
        team: arguments.selection.team,
        model: arguments.selection.model,
        backend: arguments.selection.backend,
        request_id: arguments.id,
        failed: arguments.failed,
        after: None,
    };
    let mut table = Table::new(&NAMES);
    let read = each(&store, filter, arguments.limit, |request| {
        table.push(row(request));
        table.print_if_long(arguments.format);
    });
    match read {
        Ok(()) => table.print(arguments.format, "no requests"),
        Err(error) => complain(&error.to_string()),
    }
}

/// Every request of a filter, page by page, up to a limit.
pub(super) fn each(
    store: &Store,
    mut filter: RequestFilter,
    limit: usize,
    mut take: impl FnMut(&Request),
) -> Result<(), StoreError> {
    let mut left = limit;
    while left > 0 {
        let page = store.requests(&filter, left.min(PAGE_ROWS_MAX))?;
        let Some(last) = page.last() else { break };
        filter.after = Some(last.cursor);
        left -= page.len();
        page.iter().for_each(&mut take);
    }
    Ok(())
}

const NAMES: [&str; 19] = [
    "at",
    "request_id",
    "key",
    "team",
    "model",
    "backend",
    "api",
    "status",
    "fault",
    "attempts",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "duration_ms",
    "first_token_ms",
    "overhead_us",
    "guards",
    "from_cache",
];

fn row(request: &Request) -> Vec<Value> {
    let ms = |us: u64| us as f64 / 1_000.0;
    vec![
        json!(rfc3339(request.at_ms)),
        json!(request.request_id),
        json!(request.key),
        json!(request.team),
        json!(request.model),
        json!(request.backend),
        json!(request.api),
        json!(request.status),
        json!(request.fault),
        json!(request.attempts),
        tokens(request, request.input_tokens),
        tokens(request, request.cached_tokens),
        tokens(request, request.cache_write_tokens),
        tokens(request, request.output_tokens),
        json!(ms(request.duration_us)),
        json!(request.first_token_us.map(ms)),
        json!(request.overhead_us),
        json!(request.guards),
        json!(request.from_cache),
    ]
}

/// Null where nobody counted.
fn tokens(request: &Request, count: u64) -> Value {
    if request.usage_known { json!(count) } else { Value::Null }
}
