//! Sums of what was used, by key, team, user, model, backend, API or time.

use std::collections::BTreeMap;

use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::{Result, Store};

/// What a sum is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Everything in one.
    Total,
    /// One sum for each key.
    Key,
    /// One for each team.
    Team,
    /// One for each end user.
    User,
    /// One for each model.
    Model,
    /// One for each backend.
    Backend,
    /// One for each API.
    Api,
    /// One for each hour that anything was used in; the group is Unix milliseconds.
    Hour,
    /// One for each day, by UTC; the group is Unix milliseconds.
    Day,
}

/// What is summed up.
#[derive(Clone, Debug, Default)]
pub struct UsageFilter {
    /// Exchanges that started at this moment or later, Unix milliseconds.
    pub since_ms: u64,
    /// And before this one; `None` for up to now.
    pub until_ms: Option<u64>,
    /// Only this key's.
    pub key: Option<String>,
    /// Only this team's.
    pub team: Option<String>,
    /// Only this end user's.
    pub user: Option<String>,
    /// Only this model's.
    pub model: Option<String>,
    /// Only this backend's.
    pub backend: Option<String>,
}

/// Sums. Input includes cached, output includes reasoning, as in the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Sums {
    /// Settled exchanges.
    pub requests: u64,
    /// Those of them that failed or were refused.
    pub failures: u64,
    /// Those whose tokens are our estimate.
    pub estimated: u64,
    /// Those that a backend served without anybody counting their tokens.
    pub uncounted: u64,
    /// Prompt tokens, cached ones included.
    pub input_tokens: u64,
    /// Prompt tokens from a backend's cache.
    pub cached_tokens: u64,
    /// Prompt tokens written to a backend's cache.
    pub cache_write_tokens: u64,
    /// Tokens of responses, reasoning included.
    pub output_tokens: u64,
    /// Tokens spent on reasoning.
    pub reasoning_tokens: u64,
}

impl Sums {
    /// Adds another sum.
    pub fn add(&mut self, other: &Sums) {
        self.requests += other.requests;
        self.failures += other.failures;
        self.estimated += other.estimated;
        self.uncounted += other.uncounted;
        self.input_tokens += other.input_tokens;
        self.cached_tokens += other.cached_tokens;
        self.cache_write_tokens += other.cache_write_tokens;
        self.output_tokens += other.output_tokens;
        self.reasoning_tokens += other.reasoning_tokens;
    }
}

/// The sum of one group of one model on one backend: prices differ by those, so whoever derives money adds these up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct UsageRow {
    /// The name, or the start of the time in Unix milliseconds; empty where an exchange has none.
    pub group: String,
    /// Of the model; empty if the exchange never got that far.
    pub model: String,
    /// Of the backend; empty if none was called.
    pub backend: String,
    /// What was used.
    #[serde(flatten)]
    pub sums: Sums,
}

const MS_PER_HOUR: u64 = 3_600_000;
const HOURS_PER_DAY: u64 = 24;

/// Both tables in one shape: whole hours from `hour`, what is left of the first and the last one from `exchange`.
/// ?1 to ?2: the whole hours. ?3 to ?4 and ?5 to ?6: the moments before and after them. ?7 to ?11: names or null.
macro_rules! sums_by {
    ($group:literal) => {
        concat!(
            "select ", $group, " as grouped, model.text, backend.text, sum(requests), sum(failures), sum(estimated), ",
            "sum(uncounted), sum(input_tokens), sum(cached_tokens), sum(output_tokens), sum(reasoning_tokens), sum(cache_write_tokens) from (",
            "select hour, key, team, user, model, backend, api, requests, failures, estimated, uncounted, input_tokens, ",
            "cached_tokens, output_tokens, reasoning_tokens, cache_write_tokens from hour where hour >= ?1 and hour < ?2 ",
            "union all select at_ms / 3600000, key, team, user, model, backend, api, 1, fault != 0, usage = 2, ",
            "usage = 0 and fault = 0 and backend != 0, iif(usage = 0, 0, input_tokens), iif(usage = 0, 0, cached_tokens), ",
            "iif(usage = 0, 0, output_tokens), iif(usage = 0, 0, reasoning_tokens), iif(usage = 0, 0, cache_write_tokens) from exchange ",
            "where at_ms >= ?3 and at_ms < ?4 or at_ms >= ?5 and at_ms < ?6",
            ") as used join name as model on model.id = used.model join name as backend on backend.id = used.backend ",
            "where (?7 is null or used.key = ?7) and (?8 is null or used.team = ?8) and (?9 is null or used.user = ?9) ",
            "and (?10 is null or used.model = ?10) and (?11 is null or used.backend = ?11) ",
            "group by grouped, used.model, used.backend order by grouped, model.text, backend.text"
        )
    };
}

impl Group {
    /// The statement, a constant for each.
    pub(super) const fn sql(self) -> &'static str {
        match self {
            Group::Total => sums_by!("''"),
            Group::Key => sums_by!("(select text from name where id = used.key)"),
            Group::Team => sums_by!("(select text from name where id = used.team)"),
            Group::User => sums_by!("(select text from name where id = used.user)"),
            Group::Model => sums_by!("model.text"),
            Group::Backend => sums_by!("backend.text"),
            Group::Api => sums_by!("(select text from name where id = used.api)"),
            Group::Hour => sums_by!("hour"),
            Group::Day => sums_by!("hour / 24"),
        }
    }

    /// Every group.
    #[cfg(test)]
    pub const ALL: [Group; 9] = [
        Group::Total,
        Group::Key,
        Group::Team,
        Group::User,
        Group::Model,
        Group::Backend,
        Group::Api,
        Group::Hour,
        Group::Day,
    ];

    /// A group as the store returns it, in the form of [`UsageRow::group`].
    fn text(self, row: &Row<'_>) -> rusqlite::Result<String> {
        let time = |unit: u64| -> rusqlite::Result<String> {
            Ok((row.get::<_, i64>(0)? as u64).saturating_mul(unit).to_string())
        };
        match self {
            Group::Hour => time(MS_PER_HOUR),
            Group::Day => time(MS_PER_HOUR * HOURS_PER_DAY),
            _ => row.get(0),
        }
    }
}

impl Store {
    /// Sums by group, model and backend, in the order of the groups. Exact to the millisecond for as long as the
    /// exchanges of the first and the last hour are kept.
    ///
    /// Cost: by the hours, not by the exchanges, but for those two.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn usage(&self, group: Group, filter: &UsageFilter) -> Result<Vec<UsageRow>> {
        let names = [&filter.key, &filter.team, &filter.user, &filter.model, &filter.backend];
        let mut ids = [None; 5];
        for (id, name) in ids.iter_mut().zip(names) {
            if let Some(name) = name {
                match self.name_id(name)? {
                    None => return Ok(Vec::new()),
                    found => *id = found,
                }
            }
        }
        let [key, team, user, model, backend] = ids;
        let [from, to, head, head_end, tail, tail_end] = spans(filter);
        let mut statement = self.connection.prepare_cached(group.sql())?;
        let parameters = params![from, to, head, head_end, tail, tail_end, key, team, user, model, backend];
        let rows = statement.query_map(parameters, |row| {
            Ok(UsageRow {
                group: group.text(row)?,
                model: row.get(1)?,
                backend: row.get(2)?,
                sums: sums(row)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// What every key has used since a moment, and before another, by model and backend: what a budget of that window has to be charged.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn used_by_keys(
        &self,
        since_ms: u64,
        until_ms: Option<u64>,
    ) -> Result<BTreeMap<String, Vec<UsageRow>>> {
        self.used_by(Group::Key, since_ms, until_ms)
    }

    /// The same for every team.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn used_by_teams(
        &self,
        since_ms: u64,
        until_ms: Option<u64>,
    ) -> Result<BTreeMap<String, Vec<UsageRow>>> {
        self.used_by(Group::Team, since_ms, until_ms)
    }

    fn used_by(
        &self,
        group: Group,
        since_ms: u64,
        until_ms: Option<u64>,
    ) -> Result<BTreeMap<String, Vec<UsageRow>>> {
        let mut used = BTreeMap::<String, Vec<UsageRow>>::new();
        for row in self.usage(group, &UsageFilter { since_ms, until_ms, ..UsageFilter::default() })? {
            used.entry(row.group.clone()).or_default().push(row);
        }
        Ok(used)
    }
}

/// The whole hours of a span, and the moments before and after them.
fn spans(filter: &UsageFilter) -> [i64; 6] {
    let since = filter.since_ms.min(MS_MAX);
    let until = filter.until_ms.unwrap_or(MS_MAX).min(MS_MAX).max(since);
    let from = since.div_ceil(MS_PER_HOUR);
    let to = (until / MS_PER_HOUR).max(from);
    let head_end = (from * MS_PER_HOUR).min(until);
    let tail = (to * MS_PER_HOUR).clamp(head_end, until);
    [from, to, since, head_end, tail, until].map(|number| number as i64)
}

/// Beyond any date: the year 142,000.
const MS_MAX: u64 = 1 << 52;

fn sums(row: &Row<'_>) -> rusqlite::Result<Sums> {
    let number = |index: usize| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(index)?.max(0) as u64) };
    Ok(Sums {
        requests: number(3)?,
        failures: number(4)?,
        estimated: number(5)?,
        uncounted: number(6)?,
        input_tokens: number(7)?,
        cached_tokens: number(8)?,
        output_tokens: number(9)?,
        reasoning_tokens: number(10)?,
        cache_write_tokens: number(11)?,
    })
}
