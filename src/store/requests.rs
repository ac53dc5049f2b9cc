//! The settled exchanges themselves, the newest first, a page at a time.

use rusqlite::{Row, params};
use serde::{Serialize, Serializer};

use super::{Result, Store};

/// Which exchanges.
#[derive(Clone, Debug, Default)]
pub struct RequestFilter {
    /// Those that started at this moment or later, Unix milliseconds.
    pub since_ms: u64,
    /// And before this one; `None` for up to now.
    pub until_ms: Option<u64>,
    /// Only this key's.
    pub key: Option<String>,
    /// Only this team's.
    pub team: Option<String>,
    /// Only this model's.
    pub model: Option<String>,
    /// Only this backend's.
    pub backend: Option<String>,
    /// Only the one of this id.
    pub request_id: Option<String>,
    /// Only those that failed or were refused.
    pub failed: bool,
    /// Those that come after this row in the order of the page before: [`Request::cursor`] of its last one.
    pub after: Option<Cursor>,
}

/// The place of an exchange in the order of pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    at_ms: i64,
    journal: i64,
    position: i64,
}

impl Cursor {
    /// As text that [`Self::parse`] reads.
    pub fn text(&self) -> String {
        format!("{}-{}-{}", self.at_ms, self.journal, self.position)
    }

    /// Reads the text of a cursor; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-').map(str::parse);
        let cursor =
            Self { at_ms: parts.next()?.ok()?, journal: parts.next()?.ok()?, position: parts.next()?.ok()? };
        parts.next().is_none().then_some(cursor)
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

/// One settled exchange.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Request {
    /// When it started, Unix milliseconds.
    pub at_ms: u64,
    /// Its id, shown to the client and in the log.
    pub request_id: String,
    /// The name of the key.
    pub key: String,
    /// The key's team.
    pub team: String,
    /// The end user that the client named.
    pub user: String,
    /// The model.
    pub model: String,
    /// The model that was asked for, if `model` is its fallback.
    pub fallback_for: String,
    /// The backend of the last attempt.
    pub backend: String,
    /// The API.
    pub api: String,
    /// Status sent.
    pub status: u16,
    /// The code of what failed; empty if nothing did.
    pub fault: String,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// Backends tried.
    pub attempts: u8,
    /// Prompt tokens, cached ones included.
    pub input_tokens: u64,
    /// Prompt tokens from a backend's cache.
    pub cached_tokens: u64,
    /// Prompt tokens written to a backend's cache.
    pub cache_write_tokens: u64,
    /// Tokens of the response, reasoning included.
    pub output_tokens: u64,
    /// Tokens spent on reasoning.
    pub reasoning_tokens: u64,
    /// Whether anybody counted the tokens.
    pub usage_known: bool,
    /// Whether the counts are our estimate.
    pub estimated: bool,
    /// Bytes from the client.
    pub request_bytes: u64,
    /// Bytes to the client.
    pub response_bytes: u64,
    /// From the end of the request's head to the last byte.
    pub duration_us: u64,
    /// To the first content-bearing event.
    pub first_token_us: Option<u64>,
    /// What of it was the gateway's own.
    pub overhead_us: u64,
    /// The content rules that matched, each once, with what followed: `cards mask, orion refuse`.
    pub guards: String,
    /// Whether the response came from the response cache, or from another request in flight.
    pub from_cache: bool,
    /// Where the next page goes on.
    pub cursor: Cursor,
}

/// The most rows of a page.
pub const PAGE_ROWS_MAX: usize = 1_000;

pub(super) const PAGE: &str = "select at_ms, request_id, key.text, team.text, user.text, model.text, fallback_for.text, \
     backend.text, api.text, fault.text, status, stream, attempts, usage, input_tokens, cached_tokens, output_tokens, \
     reasoning_tokens, request_bytes, response_bytes, duration_us, first_token_us, overhead_us, journal, position, cache_write_tokens, \
     marks, from_cache from exchange as e join name as key on key.id = e.key join name as team on team.id = e.team \
     join name as user on user.id = e.user join name as model on model.id = e.model \
     join name as fallback_for on fallback_for.id = e.fallback_for join name as backend on backend.id = e.backend \
     join name as api on api.id = e.api join name as fault on fault.id = e.fault \
     where at_ms >= ?1 and at_ms < ?2 and (at_ms, journal, position) < (?3, ?4, ?5) and (?6 is null or e.key = ?6) \
     and (?7 is null or e.team = ?7) and (?8 is null or e.model = ?8) and (?9 is null or e.backend = ?9) \
     and (?10 is null or request_id = ?10) and (?11 = 0 or e.fault != 0) \
     order by at_ms desc, journal desc, position desc limit ?12";

impl Store {
    /// A page of at most `rows` exchanges ([`PAGE_ROWS_MAX`] at most), the newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn requests(&self, filter: &RequestFilter, rows: usize) -> Result<Vec<Request>> {
        let names = [&filter.key, &filter.team, &filter.model, &filter.backend];
        let mut ids = [None; 4];
        for (id, name) in ids.iter_mut().zip(names) {
            if let Some(name) = name {
                match self.name_id(name)? {
                    None => return Ok(Vec::new()),
                    found => *id = found,
                }
            }
        }
        let after = filter.after.unwrap_or(Cursor { at_ms: i64::MAX, journal: 0, position: 0 });
        let mut statement = self.connection.prepare_cached(PAGE)?;
        let parameters = params![
            filter.since_ms as i64,
            filter.until_ms.map_or(i64::MAX, |until| until as i64),
            after.at_ms,
            after.journal,
            after.position,
            ids[0],
            ids[1],
            ids[2],
            ids[3],
            filter.request_id,
            filter.failed,
            rows.min(PAGE_ROWS_MAX) as i64,
        ];
        let rows = statement.query_map(parameters, request)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

fn request(row: &Row<'_>) -> rusqlite::Result<Request> {
    let number = |index: usize| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(index)? as u64) };
    let usage: i64 = row.get(13)?;
    Ok(Request {
        at_ms: number(0)?,
        request_id: row.get(1)?,
        key: row.get(2)?,
        team: row.get(3)?,
        user: row.get(4)?,
        model: row.get(5)?,
        fallback_for: row.get(6)?,
        backend: row.get(7)?,
        api: row.get(8)?,
        fault: row.get(9)?,
        status: row.get(10)?,
        stream: row.get(11)?,
        attempts: row.get(12)?,
        usage_known: usage != 0,
        estimated: usage == 2,
        input_tokens: number(14)?,
        cached_tokens: number(15)?,
        cache_write_tokens: number(25)?,
        output_tokens: number(16)?,
        reasoning_tokens: number(17)?,
        request_bytes: number(18)?,
        response_bytes: number(19)?,
        duration_us: number(20)?,
        first_token_us: row.get::<_, Option<i64>>(21)?.map(|time| time as u64),
        overhead_us: number(22)?,
        guards: guards(&row.get::<_, String>(26)?),
        from_cache: row.get(27)?,
        cursor: Cursor { at_ms: row.get(0)?, journal: row.get(23)?, position: row.get(24)? },
    })
}

/// The rules of matches as a record has them, each once.
fn guards(marks: &str) -> String {
    let mut known: Vec<String> = Vec::new();
    for mark in marks.split(';') {
        let mut parts = mark.split('/');
        if let (Some(rule), Some(_), Some(action)) = (parts.next(), parts.next(), parts.next()) {
            let text = format!("{rule} {action}");
            if !known.contains(&text) {
                known.push(text);
            }
        }
    }
    known.join(", ")
}
