//! The tables, and how an older database becomes a newer one: each step only adds, so that the program before it goes on
//! working while both run.

use rusqlite::{Connection, TransactionBehavior};

use super::{Result, StoreError};

/// One step per version of the schema, in order. A step that was released never changes.
const STEPS: [&str; 4] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
];

/// Settings of a connection that writes.
pub(super) fn prepare(connection: &Connection, durable: bool) -> Result<()> {
    let synchronous = if durable { "full" } else { "normal" };
    // Before the first table: it decides how the file is laid out.
    connection.pragma_update(None, "auto_vacuum", "incremental")?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_MAX)?;
    Ok(())
}

/// Memory for pages of the database.
const CACHE_KIB: i64 = 2_048;
/// What the write-ahead log is cut back to after a checkpoint.
const WAL_BYTES_MAX: i64 = 16 << 20;

/// Brings the schema up to date.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    if check(connection)? == STEPS.len() as i64 {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    // Again: another process may have been first.
    let found = check(&transaction)?;
    for (version, step) in (1..).zip(STEPS).skip(found as usize) {
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version)?;
    }
    transaction.commit()?;
    Ok(())
}

/// The version of the schema, unless it is newer than this program.
pub(super) fn check(connection: &Connection) -> Result<i64> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = STEPS.len() as i64;
    if found > known { Err(StoreError::Newer { found, known }) } else { Ok(found) }
}
