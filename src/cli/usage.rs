//! `ringway usage`: what was used, by key, team, model, backend or time.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::selection::Selection;
use super::table::{Format, Table};
use super::time::{bucket, now_ms, rfc3339};
use super::{Place, complain, ledger, requests};
use crate::config::PriceList;
use crate::policy::limits::budget::MONEY;
use crate::policy::limits::price::Charge;
use crate::store::{Group, Request, RequestFilter, Store, StoreError, Sums, UsageFilter};

/// What to print.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// One sum for each
    #[arg(long, value_enum, default_value = "key")]
    by: By,
    /// Every request instead of sums
    #[arg(long, conflicts_with = "by")]
    rows: bool,
    #[command(flatten)]
    selection: Selection,
    /// Only this end user's (of sums)
    #[arg(long, conflicts_with = "rows")]
    user: Option<String>,
    #[command(flatten)]
    format: Format,
}

/// What a sum is about.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
enum By {
    Key,
    Team,
    User,
    Model,
    Backend,
    Api,
    Hour,
    Day,
    Total,
}

/// The time that sums are about if nothing is said.
const DEFAULT_MS: u64 = 30 * 86_400_000;

pub(super) fn command(arguments: Arguments) -> ExitCode {
    let (store, prices) = match ledger::open(arguments.place.clone()) {
        Ok(opened) => opened,
        Err(status) => return status,
    };
    let table =
        if arguments.rows { rows(&store, &prices, &arguments) } else { sums(&store, &prices, &arguments) };
    match table {
        Ok(table) => table.print(arguments.format, "nothing was used"),
        Err(error) => complain(&error.to_string()),
    }
}

fn sums(store: &Store, prices: &PriceList, arguments: &Arguments) -> Result<Table, StoreError> {
    let (group, name) = match arguments.by {
        By::Key => (Group::Key, "key"),
        By::Team => (Group::Team, "team"),
        By::User => (Group::User, "user"),
        By::Model => (Group::Model, "model"),
        By::Backend => (Group::Backend, "backend"),
        By::Api => (Group::Api, "api"),
        By::Hour => (Group::Hour, "hour"),
        By::Day => (Group::Day, "day"),
        By::Total => (Group::Total, "total"),
    };
    let filter = UsageFilter {
        since_ms: arguments.selection.since.unwrap_or_else(|| now_ms().saturating_sub(DEFAULT_MS)),
        until_ms: arguments.selection.until,
        key: arguments.selection.key.clone(),
        team: arguments.selection.team.clone(),
        user: arguments.user.clone(),
        model: arguments.selection.model.clone(),
        backend: arguments.selection.backend.clone(),
    };
    let mut table = Table::new(&[
        name,
        "requests",
        "failures",
        "input_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "estimated",
        "uncounted",
        "money",
        "unpriced_tokens",
    ]);
    // Rows of one group follow each other, one for each model and backend.
    let mut groups: Vec<(String, Sums, Money)> = Vec::new();
    for row in store.usage(group, &filter)? {
        let money = Money::of(prices, &row.model, &row.backend, &row.sums);
        match groups.last_mut() {
            Some((last, sums, sum)) if *last == row.group => {
                sums.add(&row.sums);
                sum.add(&money);
            }
            _ => groups.push((row.group, row.sums, money)),
        }
    }
    for (group, sums, money) in groups {
        let group = match arguments.by {
            By::Hour => bucket(group.parse().unwrap_or(0), true),
            By::Day => bucket(group.parse().unwrap_or(0), false),
            By::Total => "all".to_owned(),
            _ => group,
        };
        table.push(vec![
            json!(group),
            json!(sums.requests),
            json!(sums.failures),
            json!(sums.input_tokens),
            json!(sums.cached_tokens),
            json!(sums.cache_write_tokens),
            json!(sums.output_tokens),
            json!(sums.reasoning_tokens),
            json!(sums.estimated),
            json!(sums.uncounted),
            money.value(),
            json!(money.unpriced_tokens),
        ]);
    }
    Ok(table)
}

fn rows(store: &Store, prices: &PriceList, arguments: &Arguments) -> Result<Table, StoreError> {
    let filter = RequestFilter {
        since_ms: arguments.selection.since.unwrap_or(0),
        until_ms: arguments.selection.until,
        key: arguments.selection.key.clone(),
        team: arguments.selection.team.clone(),
        model: arguments.selection.model.clone(),
        backend: arguments.selection.backend.clone(),
        ..RequestFilter::default()
    };
    let mut table = Table::new(&[
        "at",
        "request_id",
        "key",
        "team",
        "user",
        "model",
        "backend",
        "api",
        "status",
        "input_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "estimated",
        "money",
    ]);
    requests::each(store, filter, usize::MAX, |request| {
        table.push(row(request, prices));
        table.print_if_long(arguments.format);
    })?;
    Ok(table)
}

fn row(request: &Request, prices: &PriceList) -> Vec<Value> {
    let used = Sums {
        input_tokens: request.input_tokens,
        cached_tokens: request.cached_tokens,
        cache_write_tokens: request.cache_write_tokens,
        output_tokens: request.output_tokens,
        ..Sums::default()
    };
    let tokens = |count: u64| if request.usage_known { json!(count) } else { Value::Null };
    vec![
        json!(rfc3339(request.at_ms)),
        json!(request.request_id),
        json!(request.key),
        json!(request.team),
        json!(request.user),
        json!(request.model),
        json!(request.backend),
        json!(request.api),
        json!(request.status),
        tokens(request.input_tokens),
        tokens(request.cached_tokens),
        tokens(request.cache_write_tokens),
        tokens(request.output_tokens),
        tokens(request.reasoning_tokens),
        json!(request.estimated),
        Money::of(prices, &request.model, &request.backend, &used).value(),
    ]
}

/// What tokens cost by the prices as they are now, so that a corrected price corrects history.
#[derive(Default)]
struct Money {
    /// In [`MONEY`]ths.
    cost: u128,
    priced_tokens: u64,
    unpriced_tokens: u64,
}

impl Money {
    fn of(prices: &PriceList, model: &str, backend: &str, sums: &Sums) -> Self {
        let charge = Charge::of_counts(
            sums.input_tokens,
            sums.cached_tokens,
            sums.cache_write_tokens,
            sums.output_tokens,
        );
        match prices.price(model, backend) {
            Some(price) => {
                Self { cost: price.cost(&charge).into(), priced_tokens: charge.tokens(), unpriced_tokens: 0 }
            }
            None => Self { unpriced_tokens: charge.tokens(), ..Self::default() },
        }
    }

    fn add(&mut self, other: &Self) {
        self.cost += other.cost;
        self.priced_tokens += other.priced_tokens;
        self.unpriced_tokens += other.unpriced_tokens;
    }

    /// Null where nothing that was used has a price: that is not the same as free.
    fn value(&self) -> Value {
        let is_unpriced = self.priced_tokens == 0 && self.unpriced_tokens > 0;
        if is_unpriced { Value::Null } else { json!(self.cost as f64 / MONEY as f64) }
    }
}
