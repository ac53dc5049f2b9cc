//! The audit log: what operators did and what policies refused, each entry sealed with the hash of the one before.
//!
//! Whoever changes, removes or inserts an entry has to change every hash after it, so the last hash, noted somewhere
//! else, vouches for everything before it. [`Store::verify_audit`] follows the chain.

use ring::digest::{Context, SHA256};
use rusqlite::{OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde::{Serialize, Serializer};

use super::{Result, Store, StoreError};
use crate::units;

/// One entry; of an action, or of refusals of the same kind.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct AuditEntry {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Who did it: an admin token's name, a signal, a key.
    pub actor: String,
    /// From where: an address; empty if that is not known.
    pub origin: String,
    /// What was done: `reload`, `drain`, `refuse`, ...
    pub action: String,
    /// To what: a backend, a key, a model.
    pub subject: String,
    /// What it was before; empty if there is nothing to say.
    pub before: String,
    /// What it is now, or why it was refused.
    pub after: String,
}

/// An entry in its place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SealedEntry {
    /// Counts from 1.
    pub sequence: u64,
    /// What it says.
    #[serde(flatten)]
    pub entry: AuditEntry,
    /// Of the entry and everything before it.
    #[serde(serialize_with = "as_hex")]
    pub hash: [u8; 32],
}

fn as_hex<S: Serializer>(hash: &[u8; 32], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&units::hex(hash))
}

/// What a whole chain comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chain {
    /// Entries.
    pub entries: u64,
    /// Of the last one; zeros if there is none.
    pub head: [u8; 32],
}

pub(super) const ENTRIES: &str = "select sequence, at_ms, actor, origin, action, subject, before, after, hash \
     from audit where at_ms >= ?1 and sequence < ?2 order by sequence desc limit ?3";
pub(super) const CHAIN: &str = "select sequence, at_ms, actor, origin, action, subject, before, after, hash from audit order by sequence";
pub(super) const LAST: &str = "select sequence, hash from audit order by sequence desc limit 1";
pub(super) const APPEND: &str = "insert into audit values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

impl Store {
    /// Appends entries to the chain, all or none.
    ///
    /// # Errors
    /// The database cannot be written to.
    pub fn append_audit(&mut self, entries: &[AuditEntry]) -> Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        append(&transaction, entries)?;
        transaction.commit()?;
        Ok(())
    }

    /// At most `rows` entries since a moment, the newest first; `before` is the sequence that the page ends before.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn audit(&self, since_ms: u64, before: Option<u64>, rows: usize) -> Result<Vec<SealedEntry>> {
        let mut statement = self.connection.prepare_cached(ENTRIES)?;
        let before = before.map_or(i64::MAX, |before| before as i64);
        let rows = statement.query_map(params![since_ms as i64, before, rows as i64], sealed)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Follows the chain from its first entry to its last.
    ///
    /// # Errors
    /// [`StoreError::Tampered`] at the first entry that does not follow; or the database cannot be read.
    pub fn verify_audit(&self) -> Result<Chain> {
        let mut statement = self.connection.prepare(CHAIN)?;
        let mut chain = Chain { entries: 0, head: [0; 32] };
        for found in statement.query_map([], sealed)? {
            let found = found?;
            let sequence = chain.entries as i64 + 1;
            chain.head = seal(&chain.head, sequence, &found.entry);
            chain.entries += 1;
            if found.sequence != chain.entries || found.hash != chain.head {
                return Err(StoreError::Tampered(sequence));
            }
        }
        Ok(chain)
    }
}

/// Appends entries within a transaction that holds the right to write.
pub(super) fn append(transaction: &Transaction<'_>, entries: &[AuditEntry]) -> Result<()> {
    let last = transaction.query_row(LAST, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (mut sequence, mut hash): (i64, [u8; 32]) = last.unwrap_or_default();
    for entry in entries {
        sequence += 1;
        hash = seal(&hash, sequence, entry);
        transaction.prepare_cached(APPEND)?.execute(params![
            sequence,
            entry.at_ms as i64,
            entry.actor,
            entry.origin,
            entry.action,
            entry.subject,
            entry.before,
            entry.after,
            hash
        ])?;
    }
    Ok(())
}

fn sealed(row: &Row<'_>) -> rusqlite::Result<SealedEntry> {
    Ok(SealedEntry {
        sequence: row.get::<_, i64>(0)? as u64,
        entry: AuditEntry {
            at_ms: row.get::<_, i64>(1)? as u64,
            actor: row.get(2)?,
            origin: row.get(3)?,
            action: row.get(4)?,
            subject: row.get(5)?,
            before: row.get(6)?,
            after: row.get(7)?,
        },
        hash: row.get(8)?,
    })
}

/// SHA-256 of the hash before, the numbers, and every text behind its length: no two entries have the same bytes.
fn seal(before: &[u8; 32], sequence: i64, entry: &AuditEntry) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(before);
    context.update(&sequence.to_le_bytes());
    context.update(&entry.at_ms.to_le_bytes());
    let texts = [&entry.actor, &entry.origin, &entry.action, &entry.subject, &entry.before, &entry.after];
    for text in texts {
        context.update(&(text.len() as u64).to_le_bytes());
        context.update(text.as_bytes());
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
