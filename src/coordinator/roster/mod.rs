//! The roster: teams, keys and admin tokens that were created while the gateway ran.
//!
//! The store has it; this is a copy in memory at one revision. Plans are compiled from the file and the roster together
//! (`compile`). A row that the file does not go with any more is disabled when the process starts, and refuses the reload
//! when it already serves.

mod change;
mod compile;
mod operator;
pub mod secret;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub use self::change::{Author, Change, ChangeError, Changed, Edit, Scope};
pub use self::compile::{Basis, Loaded, compile, load};
pub use self::operator::Operator;
use crate::config::{self, Stored, StoredKey};
use crate::store::{AccessKind, AccessRow, AccessRows, SecretRow};

/// What a row is known by.
pub type RowName = (AccessKind, String);

/// All rows at one revision.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    /// Of the store.
    pub revision: u64,
    /// In the order of kinds and names; revoked ones included.
    pub rows: BTreeMap<RowName, Entry>,
    /// Rows that are out of force because they do not go with the file, and why.
    pub disabled: BTreeMap<RowName, String>,
    /// Why the store cannot be read; keys are required as long as nobody knows whether there are any.
    pub unreadable: Option<String>,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As the store has it.
    pub row: AccessRow,
    /// Its body.
    pub members: Map<String, Value>,
}

impl Entry {
    /// A member that is a text.
    pub fn text(&self, member: &str) -> Option<&str> {
        self.members.get(member).and_then(Value::as_str)
    }

    /// When its previous secret stops being valid, if it still is. Unix milliseconds.
    pub fn overlap_ends(&self, now_ms: u64) -> Option<u64> {
        self.row.secrets.iter().filter_map(|secret| secret.valid_until_ms).filter(|end| *end > now_ms).max()
    }
}

impl Roster {
    /// The rows of the store. One whose body is no JSON object is there with no members, and compiles to nothing that is
    /// wider than it was.
    pub fn new(read: AccessRows) -> Self {
        let rows = read.rows.into_iter().map(|row| {
            let members = serde_json::from_str(&row.body);
            ((row.kind, row.name.clone()), (row, members))
        });
        let mut roster = Self { revision: read.revision, ..Self::default() };
        for (name, (row, members)) in rows {
            if let Err(error) = &members {
                roster.disabled.insert(name.clone(), format!("its members cannot be read: {error}"));
            }
            roster.rows.insert(name, Entry { row, members: members.unwrap_or_default() });
        }
        roster
    }

    /// Nothing is known of the store but that it cannot be read.
    pub fn unreadable(reason: String) -> Self {
        Self { unreadable: Some(reason), ..Self::default() }
    }

    /// The rows of a kind, in the order of their names.
    pub fn of_kind(&self, kind: AccessKind) -> impl Iterator<Item = &Entry> {
        self.rows.iter().filter(move |((other, _), _)| *other == kind).map(|(_, entry)| entry)
    }

    /// One row.
    pub fn find(&self, kind: AccessKind, name: &str) -> Option<&Entry> {
        self.rows.get(&(kind, name.to_owned()))
    }

    /// When the plan has to be made anew because a secret stops being valid. Unix milliseconds.
    pub fn due(&self, since_ms: u64) -> Option<u64> {
        let secrets = self.rows.values().flat_map(|entry| &entry.row.secrets);
        secrets.filter_map(|secret| secret.valid_until_ms).filter(|end| *end > since_ms).min()
    }

    /// The roster after an edit; the name of its row.
    pub fn apply(&mut self, edit: &Edit) -> RowName {
        let row = (edit.row.kind, edit.row.name.clone());
        if edit.is_removed {
            self.rows.remove(&row);
        } else {
            let members = serde_json::from_str(&edit.row.body).unwrap_or_default();
            self.rows.insert(row.clone(), Entry { row: edit.row.clone(), members });
        }
        row
    }

    /// What joins the file at this moment, without the rows in `without`; and why others cannot.
    fn stored(
        &self,
        now_ms: u64,
        without: &BTreeMap<RowName, String>,
    ) -> (Stored, BTreeMap<RowName, String>) {
        let mut stored = Stored { had_keys: self.unreadable.is_some(), ..Stored::default() };
        let mut unfit = BTreeMap::new();
        for (id, entry) in &self.rows {
            let (kind, name) = id;
            stored.had_keys |= *kind == AccessKind::Key;
            if entry.row.revoked_ms.is_some() || without.contains_key(id) {
                continue;
            }
            let joined = match kind {
                AccessKind::Team => config::stored::team(&entry.members)
                    .map(|team| _ = stored.teams.insert(name.clone(), team)),
                AccessKind::Key => key(entry, now_ms).map(|key| _ = stored.keys.insert(name.clone(), key)),
                AccessKind::AdminToken => Ok(()),
            };
            if let Err(reason) = joined {
                unfit.insert(id.clone(), reason);
            }
        }
        (stored, unfit)
    }
}

/// A key with its secrets that are valid at this moment.
fn key(entry: &Entry, now_ms: u64) -> Result<StoredKey, String> {
    let is_valid = |secret: &&SecretRow| secret.valid_until_ms.is_some_and(|end| end > now_ms);
    let newest = entry.row.secrets.iter().find(|secret| secret.valid_until_ms.is_none());
    let newest = newest.ok_or("it has no secret")?;
    let row = config::stored::key(&entry.members, &newest.digest)?;
    let earlier = entry.row.secrets.iter().filter(is_valid).map(|secret| secret.digest).collect();
    Ok(StoredKey { row, earlier })
}

#[cfg(test)]
mod tests;
