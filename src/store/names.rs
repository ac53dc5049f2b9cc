//! Ids of the names in records.

use std::collections::HashMap;

use rusqlite::Connection;

use super::Result;

/// Ids of names, made where they are not there yet.
pub(super) struct Names<'a> {
    pub(super) known: &'a HashMap<String, i64>,
    pub(super) new: HashMap<String, i64>,
}

impl Names<'_> {
    pub(super) fn id(&mut self, connection: &Connection, name: &str) -> Result<i64> {
        if name.is_empty() {
            return Ok(0);
        }
        if let Some(&id) = self.known.get(name).or_else(|| self.new.get(name)) {
            return Ok(id);
        }
        connection.prepare_cached("insert or ignore into name (text) values (?1)")?.execute([name])?;
        let mut find = connection.prepare_cached("select id from name where text = ?1")?;
        let id = find.query_row([name], |row| row.get(0))?;
        self.new.insert(name.to_owned(), id);
        Ok(id)
    }
}
