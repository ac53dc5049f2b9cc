//! Old exchanges go, in steps small enough that no other writer waits long.

use rusqlite::params;

use super::{Result, Store};

/// Rows of one step: a few milliseconds.
const STEP_ROWS: i64 = 1_000;
/// Pages given back to the file system after a step.
const STEP_PAGES: i64 = 256;

impl Store {
    /// Deletes up to a thousand exchanges that started before a moment, the oldest first; how many. Their sums stay.
    ///
    /// # Errors
    /// The database cannot be written to.
    pub fn forget_requests(&mut self, before_ms: u64) -> Result<usize> {
        let sql = "delete from exchange where (at_ms, journal, position) in \
             (select at_ms, journal, position from exchange where at_ms < ?1 order by at_ms limit ?2)";
        let transaction = self.connection.transaction()?;
        let findings = "delete from finding where (journal, position) in \
             (select journal, position from exchange where at_ms < ?1 order by at_ms limit ?2)";
        transaction.execute(findings, params![before_ms as i64, STEP_ROWS])?;
        let gone = transaction.execute(sql, params![before_ms as i64, STEP_ROWS])?;
        transaction.commit()?;
        if gone > 0 {
            self.shrink()?;
        }
        Ok(gone)
    }

    /// Deletes up to a thousand of the oldest exchanges, whenever they started, if the database is larger than
    /// `bytes_max`; how many.
    ///
    /// # Errors
    /// The database cannot be written to.
    pub fn fit(&mut self, bytes_max: u64) -> Result<usize> {
        if self.bytes()? <= bytes_max {
            return Ok(0);
        }
        self.forget_requests(i64::MAX as u64)
    }

    /// Deletes up to a thousand sums of hours that ended before a moment; how many.
    ///
    /// # Errors
    /// The database cannot be written to.
    pub fn forget_hours(&mut self, before_ms: u64) -> Result<usize> {
        let sql = "delete from hour where (hour, key, team, user, model, backend, api) in \
             (select hour, key, team, user, model, backend, api from hour where hour < ?1 order by hour limit ?2)";
        Ok(self.connection.execute(sql, params![(before_ms / 3_600_000) as i64, STEP_ROWS])?)
    }

    fn shrink(&self) -> Result<()> {
        let mut statement =
            self.connection.prepare_cached(&format!("pragma incremental_vacuum({STEP_PAGES})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }
}
