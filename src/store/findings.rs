//! Matches of content rules, one row each. Their texts are not here, only keyed hashes of them.

use rusqlite::{Connection, params};
use serde::Serialize;

use super::names::Names;
use super::{Result, Store};
use crate::observe::journal::Entry;

/// Which matches.
#[derive(Clone, Debug, Default)]
pub struct FindingFilter {
    /// In requests that started at this moment or later, Unix milliseconds.
    pub since_ms: u64,
    /// Only of this rule.
    pub rule: Option<String>,
    /// Only of the text with this hash.
    pub hash: Option<String>,
}

/// One match.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Finding {
    /// When its request started, Unix milliseconds.
    pub at_ms: u64,
    /// The request.
    pub request_id: String,
    /// Whose key it was.
    pub key: String,
    /// The model.
    pub model: String,
    /// The rule.
    pub rule: String,
    /// Where it was: `input`, `output`, `tools`, `thinking`, `system`.
    pub place: String,
    /// What followed: `log`, `mask`, `refuse`, `stop`, `route`; `shadow` for a rule that only counts.
    pub action: String,
    /// A keyed hash of its text.
    pub hash: String,
    /// How often the same text was there.
    pub count: u64,
}

/// Adds the matches of a record, which are `rule/place/action/hash/count` with `;` between them. What cannot be read is left out.
pub(super) fn add(
    connection: &Connection,
    names: &mut Names<'_>,
    journal: i64,
    position: u64,
    entry: &Entry,
) -> Result<()> {
    let sql = "insert or ignore into finding (journal, position, number, at_ms, rule, place, action, hash, count) \
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let mut insert = connection.prepare_cached(sql)?;
    for (number, mark) in (0_i64..).zip(entry.marks.split(';')) {
        let parts: Vec<&str> = mark.split('/').collect();
        let &[rule, place, action, hash, count] = &parts[..] else { continue };
        let rule = names.id(connection, rule)?;
        let (at, count) = (entry.at_unix_ms as i64, count.parse::<u32>().unwrap_or(1));
        insert.execute(params![journal, position as i64, number, at, rule, place, action, hash, count])?;
    }
    Ok(())
}

pub(super) const ROWS: &str = "select f.at_ms, e.request_id, key.text, model.text, rule.text, f.place, f.action, f.hash, f.count \
     from finding as f join exchange as e on e.at_ms = f.at_ms and e.journal = f.journal and e.position = f.position \
     join name as key on key.id = e.key join name as model on model.id = e.model join name as rule on rule.id = f.rule \
     where f.at_ms >= ?1 and (?2 is null or rule.text = ?2) and (?3 is null or f.hash = ?3) \
     order by f.at_ms desc, f.journal desc, f.position desc, f.number limit ?4";

impl Store {
    /// At most `rows` matches, the newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn findings(&self, filter: &FindingFilter, rows: usize) -> Result<Vec<Finding>> {
        let mut statement = self.connection.prepare_cached(ROWS)?;
        let parameters = params![filter.since_ms as i64, filter.rule, filter.hash, rows as i64];
        let found = statement.query_map(parameters, |row| {
            Ok(Finding {
                at_ms: row.get::<_, i64>(0)? as u64,
                request_id: row.get(1)?,
                key: row.get(2)?,
                model: row.get(3)?,
                rule: row.get(4)?,
                place: row.get(5)?,
                action: row.get(6)?,
                hash: row.get(7)?,
                count: row.get::<_, i64>(8)? as u64,
            })
        })?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }
}
