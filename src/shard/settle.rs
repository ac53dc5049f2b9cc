//! The end of every exchange: what it holds is given back, the reserve is replaced by the true usage, its record is
//! written.
//!
//! Runs exactly once per exchange, before the last write to the client: by `relay` with the last bytes of a response, by
//! `respond` with a response of the gateway's own. So a client that has seen the end of its response finds its limits
//! settled when it sends the next request, and what is recorded here is recorded before the client knows that it is over. A
//! client that does not take that last write is therefore recorded as served.

use super::caching::lead::Part;
use super::exchange::{Exchange, ExpectedMatch};
use crate::clock;
use crate::error::FaultKind;
use crate::observe::Counter;
use crate::observe::journal::{self, MARKS_BYTES_MAX, Names};
use crate::observe::record::Record;
use crate::policy::limits::price::Charge;
use crate::units::Nanos;

/// How an exchange ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// What the client was told, or would have been.
    pub(super) status: u16,
    pub(super) fault: Option<FaultKind>,
}

impl Outcome {
    /// As it should.
    pub(super) fn served(status: u16) -> Self {
        Self { status, fault: None }
    }

    /// By a fault.
    pub(super) fn failed(kind: FaultKind, status: u16) -> Self {
        Self { status, fault: Some(kind) }
    }
}

/// Settles an exchange; one that is settled already stays as it is.
pub(super) fn settle(exchange: &mut Exchange, outcome: Outcome) {
    if std::mem::replace(&mut exchange.is_settled, true) {
        return;
    }
    let now = clock::now();
    let record = record(exchange, outcome, now);
    let plan = &exchange.shard.plan;
    let cache_write = if record.estimated { 0 } else { exchange.usage.cache_write };
    let charge =
        Charge::of_counts(record.input_tokens, record.cached_tokens, cache_write, record.output_tokens);
    let price = record.model.and_then(|model| plan.price(model, record.backend));
    exchange.held.settle(plan, &charge, price, now);
    append(exchange, &record, &marks(exchange));
    compare_match(exchange);
    let numbers = &exchange.shard.numbers;
    numbers.dec(Counter::ExchangesActive);
    if exchange.is_streaming {
        numbers.dec(Counter::StreamsActive);
    }
    exchange.shard.outbox.borrow_mut().settle(&record);
    if let Some(caching) = &mut exchange.caching {
        caching.end(); // those who wait for this response must not wait for its last write
    }
}

/// Counts what a backend had of the prompt in its cache beside what it was expected to have, in its own tokens.
fn compare_match(exchange: &Exchange) {
    let Some(ExpectedMatch { matched, prompt }) = exchange.expected_match else { return };
    if !exchange.usage.seen {
        return;
    }
    let (numbers, input) = (&exchange.shard.numbers, exchange.usage.input);
    numbers.add(Counter::PrefixTokensReported, input);
    let share = u128::from(matched.min(prompt)) * u128::from(input) / u128::from(prompt.max(1));
    numbers.add(Counter::PrefixTokensExpected, share as u64);
    numbers.add(Counter::PrefixTokensCached, exchange.usage.cached);
}

/// Appends a record to the shard's journal, if the exchange got far enough: its key, its model or its backend is known.
/// What fails before that (a malformed head, an invalid key) is counted in the metrics only, so that a client without a key
/// cannot fill the journal.
fn append(exchange: &Exchange, record: &Record, marks: &str) {
    let plan = &exchange.shard.plan;
    if record.key.is_none() && record.model.is_none() && record.backend.is_none() {
        return;
    }
    let names = Names {
        key: record.key.map_or("", |key| &plan.key(key).name),
        team: record.key.and_then(|key| plan.key(key).team).map_or("", |team| &plan.teams.row(team).name),
        user: exchange.user.as_deref().unwrap_or_default(),
        model: record.model.map_or("", |model| &plan.model(model).name),
        fallback_for: record.fallback_for.map_or("", |model| &plan.model(model).name),
        backend: record.backend.map_or("", |backend| &plan.backend(backend).name),
        marks,
    };
    journal::append(record, &names);
}

/// What content rules have found in the exchange.
fn marks(exchange: &Exchange) -> String {
    match &exchange.marks {
        Some(marks) if !marks.borrow().is_empty() => marks.borrow().text(MARKS_BYTES_MAX),
        _ => String::new(),
    }
}

/// The record of an exchange. Tokens are the backend's count, else what was counted on the way, else unknown.
fn record(exchange: &Exchange, outcome: Outcome, now: Nanos) -> Record {
    let usage = &exchange.usage;
    // Anthropic's backends count the input first and the output last: of a stream that is cut between, the output is ours to count.
    let is_cut_short = usage.seen && outcome.fault.is_some() && exchange.output_estimate / 2 > usage.output;
    let estimated = is_cut_short || !usage.seen && (exchange.is_charged || exchange.output_estimate > 0);
    let (input_tokens, output_tokens) = match (usage.seen, estimated) {
        (true, false) => (usage.input, usage.output),
        (true, true) => (usage.input, exchange.output_estimate),
        (false, true) => (exchange.prompt_tokens, exchange.output_estimate),
        (false, false) => (0, 0),
    };
    Record {
        at_unix_ms: exchange.started_unix_ms,
        request_id: exchange.request_id,
        shard: exchange.shard.id,
        plan: exchange.shard.plan.generation,
        client: exchange.client,
        api: exchange.api_name,
        key: exchange.key,
        model: exchange.model,
        fallback_for: exchange.fallback_for,
        backend: exchange.backend,
        status: outcome.status,
        fault: outcome.fault,
        stream: exchange.wants_stream,
        attempts: exchange.attempts,
        input_tokens,
        cached_tokens: if usage.seen { usage.cached } else { 0 },
        cache_write_tokens: if usage.seen { usage.cache_write } else { 0 },
        output_tokens,
        reasoning_tokens: if usage.seen { usage.reasoning } else { 0 },
        usage_known: usage.seen || estimated,
        estimated,
        from_cache: exchange.caching.as_ref().is_some_and(|caching| caching.part != Part::Miss),
        request_bytes: exchange.request_bytes,
        response_bytes: exchange.response_bytes,
        duration: now.since(exchange.started),
        time_to_first_token: exchange.time_to_first_token,
        overhead: exchange.overhead,
    }
}

/// A panic, or the end of the process, dropped the exchange where it was.
impl Drop for Exchange {
    fn drop(&mut self) {
        settle(self, Outcome::failed(FaultKind::Internal, FaultKind::Internal.status()));
    }
}
