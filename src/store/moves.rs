//! Records of a journal into the database, exactly once.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{CachedStatement, Transaction, TransactionBehavior, params};

use super::names::Names;
use super::{NAMES_MAX, Result, Store, findings};
use crate::observe::journal::Entry;

/// What a batch has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    /// Rows that are new.
    pub rows: u64,
    /// Records that had been moved before.
    pub repeated: u64,
}

/// Names by which sums are kept, as ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct HourKey {
    hour: i64,
    key: i64,
    team: i64,
    user: i64,
    model: i64,
    backend: i64,
    api: i64,
}

/// What is summed.
#[derive(Clone, Copy, Default)]
struct HourSums {
    requests: i64,
    failures: i64,
    estimated: i64,
    uncounted: i64,
    input: i64,
    cached: i64,
    output: i64,
    reasoning: i64,
    cache_write: i64,
}

const MS_PER_HOUR: u64 = 3_600_000;

// Columns by their names: a newer program may have added some while this one runs.
const INSERT: &str = "insert or ignore into exchange (journal, position, at_ms, request_id, key, team, user, model, \
     fallback_for, backend, api, fault, status, stream, attempts, usage, input_tokens, cached_tokens, output_tokens, \
     reasoning_tokens, request_bytes, response_bytes, duration_us, first_token_us, overhead_us, cache_write_tokens, \
     marks, from_cache) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, \
     ?24, ?25, ?26, ?27, ?28)";

const ADD: &str = "insert into hour (hour, key, team, user, model, backend, api, requests, failures, estimated, uncounted, \
     input_tokens, cached_tokens, output_tokens, reasoning_tokens, cache_write_tokens) \
     values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) \
     on conflict do update set requests = requests + excluded.requests, failures = failures + excluded.failures, \
     estimated = estimated + excluded.estimated, uncounted = uncounted + excluded.uncounted, \
     input_tokens = input_tokens + excluded.input_tokens, cached_tokens = cached_tokens + excluded.cached_tokens, \
     output_tokens = output_tokens + excluded.output_tokens, \
     reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens, \
     cache_write_tokens = cache_write_tokens + excluded.cache_write_tokens";

impl Store {
    /// Moves the records of a journal, each with its position, and notes that it has been moved up to `end`. All of it
    /// or nothing; a record that is there already changes nothing.
    ///
    /// # Errors
    /// The database cannot be written to: nothing has changed.
    pub fn move_in(&mut self, journal: &str, end: u64, entries: &[(u64, Entry)]) -> Result<Moved> {
        if self.names.len() > NAMES_MAX {
            self.names.clear();
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Names that a transaction made are gone if it is: they are learnt for good after the commit.
        let mut names = Names { known: &self.names, new: HashMap::new() };
        let moved = batch(&transaction, &mut names, journal, end, entries)?;
        let new = names.new;
        transaction.commit()?;
        self.names.extend(new);
        Ok(moved)
    }
}

fn batch(
    transaction: &Transaction<'_>,
    names: &mut Names<'_>,
    journal: &str,
    end: u64,
    entries: &[(u64, Entry)],
) -> Result<Moved> {
    let sql = "insert into journal (name, position) values (?1, ?2) \
         on conflict do update set position = max(position, excluded.position) returning id";
    let id: i64 =
        transaction.prepare_cached(sql)?.query_row(params![journal, end as i64], |row| row.get(0))?;
    let mut moved = Moved::default();
    let mut sums: HashMap<HourKey, HourSums> = HashMap::new();
    let mut insert = transaction.prepare_cached(INSERT)?;
    let mut ids: [(Arc<str>, i64); 8] = Default::default();
    for (position, entry) in entries {
        let texts = [
            &entry.key,
            &entry.team,
            &entry.user,
            &entry.model,
            &entry.backend,
            &entry.api,
            &entry.fallback_for,
            &entry.fault,
        ];
        for ((before, id), name) in ids.iter_mut().zip(texts) {
            // Most names are those of the record before.
            if !Arc::ptr_eq(before, name) {
                (*before, *id) = (Arc::clone(name), names.id(transaction, name)?);
            }
        }
        let [key, team, user, model, backend, api, fallback_for, fault] = ids.each_ref().map(|row| row.1);
        let hour = (entry.at_unix_ms / MS_PER_HOUR) as i64;
        let key = HourKey { hour, key, team, user, model, backend, api };
        let others = [fallback_for, fault];
        if row(&mut insert, id, *position, entry, &key, others)? == 0 {
            moved.repeated += 1;
            continue;
        }
        moved.rows += 1;
        if !entry.marks.is_empty() {
            findings::add(transaction, names, id, *position, entry)?;
        }
        add(sums.entry(key).or_default(), entry);
    }
    let mut statement = transaction.prepare_cached(ADD)?;
    for (key, sums) in sums {
        statement.execute(params![
            key.hour,
            key.key,
            key.team,
            key.user,
            key.model,
            key.backend,
            key.api,
            sums.requests,
            sums.failures,
            sums.estimated,
            sums.uncounted,
            sums.input,
            sums.cached,
            sums.output,
            sums.reasoning,
            sums.cache_write
        ])?;
    }
    Ok(moved)
}

/// Inserts one row; how many are new.
fn row(
    insert: &mut CachedStatement<'_>,
    journal: i64,
    position: u64,
    entry: &Entry,
    key: &HourKey,
    [fallback_for, fault]: [i64; 2],
) -> Result<usize> {
    let usage = match (entry.usage_known, entry.estimated) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    };
    let us = |ns: u64| (ns / 1_000) as i64;
    Ok(insert.execute(params![
        journal,
        position as i64,
        entry.at_unix_ms as i64,
        entry.request_id,
        key.key,
        key.team,
        key.user,
        key.model,
        fallback_for,
        key.backend,
        key.api,
        fault,
        entry.status,
        entry.stream,
        entry.attempts,
        usage,
        count(entry.input_tokens),
        count(entry.cached_tokens),
        count(entry.output_tokens),
        count(entry.reasoning_tokens),
        count(entry.request_bytes),
        count(entry.response_bytes),
        us(entry.duration_ns),
        entry.first_token_ns.map(us),
        us(entry.overhead_ns),
        count(entry.cache_write_tokens),
        entry.marks,
        entry.from_cache,
    ])?)
}

fn add(sums: &mut HourSums, entry: &Entry) {
    sums.requests += 1;
    sums.failures += i64::from(!entry.fault.is_empty());
    sums.estimated += i64::from(entry.usage_known && entry.estimated);
    let is_uncounted = !entry.usage_known && entry.fault.is_empty() && !entry.backend.is_empty();
    sums.uncounted += i64::from(is_uncounted);
    if entry.usage_known {
        for (cell, tokens) in [
            (&mut sums.input, entry.input_tokens),
            (&mut sums.cached, entry.cached_tokens),
            (&mut sums.cache_write, entry.cache_write_tokens),
            (&mut sums.output, entry.output_tokens),
            (&mut sums.reasoning, entry.reasoning_tokens),
        ] {
            *cell = cell.saturating_add(count(tokens));
        }
    }
}

/// A backend may claim any number; sums of those that SQLite can add up must not overflow.
fn count(number: u64) -> i64 {
    number.min(COUNT_MAX) as i64
}

/// More than any exchange has; a million of them still add up.
const COUNT_MAX: u64 = 1 << 42;
