//! Teams, keys and admin tokens that were created while the gateway ran. A change, its revision and its audit entry are one
//! transaction. Secrets are kept as their digests only.

use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};

use super::audit::{self, AuditEntry};
use super::{Result, Store};

/// What a row is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AccessKind {
    /// A team.
    Team = 1,
    /// A key of a client.
    Key = 2,
    /// A token of an operator.
    AdminToken = 3,
}

impl AccessKind {
    /// The word for it: of a team and a key, as in `[team.NAME]`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Team => "team",
            Self::Key => "key",
            Self::AdminToken => "admin_token",
        }
    }
}

/// One row with its secrets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessRow {
    /// What it is.
    pub kind: AccessKind,
    /// Unique among those of its kind, revoked ones included.
    pub name: String,
    /// The part of the secret that may be shown; empty for a team.
    pub public_id: String,
    /// A JSON object.
    pub body: String,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// Unix milliseconds of the last change.
    pub changed_ms: u64,
    /// Since when it is revoked, Unix milliseconds.
    pub revoked_ms: Option<u64>,
    /// The newest first.
    pub secrets: Vec<SecretRow>,
}

/// A secret of a row.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// SHA-256 of it.
    pub digest: [u8; 32],
    /// Unix milliseconds.
    pub created_ms: u64,
    /// When one that was replaced stops being valid, Unix milliseconds.
    pub valid_until_ms: Option<u64>,
}

impl std::fmt::Debug for SecretRow {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "SecretRow(created {}, valid until {:?})", self.created_ms, self.valid_until_ms)
    }
}

/// All rows at one revision.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AccessRows {
    /// Grows with every change.
    pub revision: u64,
    /// In the order of kinds and names.
    pub rows: Vec<AccessRow>,
}

const ROWS: &str =
    "select kind, name, public_id, body, created_ms, changed_ms, revoked_ms from access order by kind, name";
const SECRETS: &str = "select kind, name, digest, created_ms, valid_until_ms from secret order by kind, name, created_ms desc, digest";
const REVISION: &str = "select value from revision where id = 1";
const NEXT: &str = "update revision set value = value + 1 where id = 1 and value = ?1";
const PUT: &str = "insert into access values (?1, ?2, ?3, ?4, ?5, ?6, ?7) on conflict (kind, name) do update set \
     public_id = excluded.public_id, body = excluded.body, changed_ms = excluded.changed_ms, revoked_ms = excluded.revoked_ms";
const FORGET_SECRETS: &str = "delete from secret where kind = ?1 and name = ?2";
const PUT_SECRET: &str = "insert into secret values (?1, ?2, ?3, ?4, ?5)";
const REMOVE: &str = "delete from access where kind = ?1 and name = ?2";

impl Store {
    /// The number of changes so far.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn access_revision(&self) -> Result<u64> {
        let revision = self.connection.prepare_cached(REVISION)?.query_row([], |row| row.get::<_, i64>(0));
        Ok(revision.optional()?.unwrap_or(0) as u64)
    }

    /// Every row, as of one moment.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn access(&mut self) -> Result<AccessRows> {
        let transaction = self.connection.transaction()?;
        let revision: i64 = transaction.query_row(REVISION, [], |row| row.get(0))?;
        let mut rows: Vec<AccessRow> = Vec::new();
        let mut statement = transaction.prepare(ROWS)?;
        let read = statement.query_map([], |row| {
            Ok(kind(row.get(0)?).map(|kind| AccessRow {
                kind,
                name: row.get(1).unwrap_or_default(),
                public_id: row.get(2).unwrap_or_default(),
                body: row.get(3).unwrap_or_default(),
                created_ms: row.get::<_, i64>(4).unwrap_or(0) as u64,
                changed_ms: row.get::<_, i64>(5).unwrap_or(0) as u64,
                revoked_ms: row.get::<_, Option<i64>>(6).unwrap_or(None).map(|at| at as u64),
                secrets: Vec::new(),
            }))
        })?;
        for row in read {
            rows.extend(row?);
        }
        let mut statement = transaction.prepare(SECRETS)?;
        let secrets = statement.query_map([], |row| {
            let secret = SecretRow {
                digest: row.get(2)?,
                created_ms: row.get::<_, i64>(3)? as u64,
                valid_until_ms: row.get::<_, Option<i64>>(4)?.map(|at| at as u64),
            };
            Ok((kind(row.get(0)?), row.get::<_, String>(1)?, secret))
        })?;
        for found in secrets {
            let (kind, name, secret) = found?;
            let place =
                kind.map(|kind| rows.binary_search_by(|row| (row.kind, &*row.name).cmp(&(kind, &*name))));
            if let Some(Ok(index)) = place {
                rows[index].secrets.push(secret);
            }
        }
        Ok(AccessRows { revision: revision as u64, rows })
    }

    /// Writes a row with its secrets, and the entry that says who did it. False if there was another change since
    /// `revision`: nothing was written then.
    ///
    /// # Errors
    /// The database cannot be written to, or another row has one of the secrets.
    pub fn put_access(&mut self, revision: u64, row: &AccessRow, entry: &AuditEntry) -> Result<bool> {
        self.change(revision, entry, |transaction| {
            transaction.prepare_cached(PUT)?.execute(params![
                row.kind as i64,
                row.name,
                row.public_id,
                row.body,
                row.created_ms as i64,
                row.changed_ms as i64,
                row.revoked_ms.map(|at| at as i64)
            ])?;
            transaction.prepare_cached(FORGET_SECRETS)?.execute(params![row.kind as i64, row.name])?;
            for secret in &row.secrets {
                transaction.prepare_cached(PUT_SECRET)?.execute(params![
                    secret.digest,
                    row.kind as i64,
                    row.name,
                    secret.created_ms as i64,
                    secret.valid_until_ms.map(|at| at as i64)
                ])?;
            }
            Ok(())
        })
    }

    /// Removes a row; otherwise as [`Store::put_access`].
    ///
    /// # Errors
    /// The database cannot be written to.
    pub fn remove_access(
        &mut self,
        revision: u64,
        kind: AccessKind,
        name: &str,
        entry: &AuditEntry,
    ) -> Result<bool> {
        self.change(revision, entry, |transaction| {
            transaction.execute(REMOVE, params![kind as i64, name])?;
            transaction.execute(FORGET_SECRETS, params![kind as i64, name])?;
            Ok(())
        })
    }

    fn change(
        &mut self,
        revision: u64,
        entry: &AuditEntry,
        write: impl FnOnce(&Transaction<'_>) -> Result<()>,
    ) -> Result<bool> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if transaction.execute(NEXT, params![revision as i64])? == 0 {
            return Ok(false);
        }
        write(&transaction)?;
        audit::append(&transaction, std::slice::from_ref(entry))?;
        transaction.commit()?;
        Ok(true)
    }
}

/// `None` for a kind that a newer program has added.
fn kind(number: i64) -> Option<AccessKind> {
    [AccessKind::Team, AccessKind::Key, AccessKind::AdminToken]
        .into_iter()
        .find(|kind| *kind as i64 == number)
}
