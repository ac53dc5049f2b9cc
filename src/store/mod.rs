//! WHAT MUST OUTLIVE THE PROCESS: the ledger of settled exchanges, their sums by hour, keys and teams, and the audit log.
//!
//! Two places. The [`folder`] holds the journals that shards append to, the durable copy of what has just happened. The
//! [`Store`] is the database they are moved into, SQLite beside them: queries go there. Moving is exactly once: a
//! batch of records, the sums it changes and the position it reaches are one transaction, and a record's primary key is
//! its time, its journal and the position it lay at there, never an id that somebody else chose.
//!
//! Sums are kept by hour, so that a month costs what a day costs. Tokens are the ledger; money is derived when it is
//! read, so that a corrected price corrects history.
//!
//! Everything here blocks. The gateway uses it from threads of the control plane; the commands use it directly, with
//! the gateway up or down.

pub mod access;
pub mod audit;
pub mod findings;
pub mod folder;
mod moves;
mod names;
pub mod recover;
pub mod requests;
mod retention;
mod schema;
pub mod usage;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

pub use access::{AccessKind, AccessRow, AccessRows, SecretRow};
pub use audit::AuditEntry;
pub use findings::FindingFilter;
pub use moves::Moved;
pub use recover::Recovery;
pub use requests::{Request, RequestFilter};
pub use usage::{Group, Sums, UsageFilter, UsageRow};

/// How long a statement waits for another process that writes: an upgrade runs two for a while.
const BUSY_PATIENCE: Duration = Duration::from_secs(2);
/// Names kept in memory; end users may be many.
const NAMES_MAX: usize = 16_384;

/// What the store could not do.
#[derive(Debug)]
pub enum StoreError {
    /// SQLite's own words.
    Sqlite(rusqlite::Error),
    /// A journal cannot be read.
    Journal(std::io::Error),
    /// A newer program has changed the schema.
    Newer {
        /// Of the file.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The audit log is not what was written: the first entry that does not follow from the one before.
    Tampered(i64),
}

impl fmt::Display for StoreError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(error) => write!(out, "{error}"),
            Self::Journal(error) => write!(out, "a journal cannot be read: {error}"),
            Self::Newer { found, known } => write!(
                out,
                "the database has schema {found}, and this program knows schemas up to {known}: run the newer program"
            ),
            Self::Tampered(sequence) => {
                write!(out, "audit entry {sequence} does not follow from the one before it")
            }
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Journal(error)
    }
}

/// What every method of the store returns.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The ledger's database.
pub struct Store {
    connection: Connection,
    /// Ids of names seen lately.
    names: HashMap<String, i64>,
}

impl Store {
    /// Opens the database for reading and writing; makes it, or brings its schema up to date, where needed. `durable`:
    /// whether a commit waits for the disk.
    ///
    /// # Errors
    /// The file cannot be opened or made, or a newer program has changed its schema.
    pub fn open(path: &Path, durable: bool) -> Result<Self> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_PATIENCE)?;
        schema::prepare(&connection, durable)?;
        schema::migrate(&mut connection)?;
        Ok(Self { connection, names: HashMap::new() })
    }

    /// Opens a database that is there, for reading only.
    ///
    /// # Errors
    /// It is not there, not readable, or of a newer program's schema.
    pub fn read(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_PATIENCE)?;
        schema::check(&connection)?;
        Ok(Self { connection, names: HashMap::new() })
    }

    /// The position up to which a journal has been moved.
    ///
    /// # Errors
    /// As for every query.
    pub fn moved_to(&self, journal: &str) -> Result<u64> {
        let sql = "select position from journal where name = ?1";
        let position = self.connection.query_row(sql, [journal], |row| row.get::<_, i64>(0)).optional()?;
        Ok(position.unwrap_or(0) as u64)
    }

    /// The id of a name that is there already.
    fn name_id(&self, name: &str) -> Result<Option<i64>> {
        let sql = "select id from name where text = ?1";
        Ok(self.connection.query_row(sql, [name], |row| row.get(0)).optional()?)
    }

    /// Bytes of the database, without its write-ahead log.
    ///
    /// # Errors
    /// As for every query.
    pub fn bytes(&self) -> Result<u64> {
        let sql = "select page_count * page_size from pragma_page_count(), pragma_page_size()";
        Ok(self.connection.query_row(sql, [], |row| row.get::<_, i64>(0))? as u64)
    }
}

#[cfg(test)]
mod tests;
