//! Keys and teams that were created while the gateway ran: they join those of the file and are compiled with them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::file::{File, Key, Team};
use super::problem::Report;
use crate::policy::auth::credential::Digest;
use crate::units::hex;

/// What the store adds to the file.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Stored {
    /// By their names.
    pub teams: BTreeMap<String, Team>,
    /// By their names.
    pub keys: BTreeMap<String, StoredKey>,
    /// A key was created once: requests need one from then on, also after the last one was revoked.
    pub had_keys: bool,
    /// The table and the name of the row that is being changed. It is judged like a row of the file; the others were judged
    /// before, and a model that has gone since then does not make them invalid.
    pub changed: Option<(&'static str, String)>,
}

/// A key of the store.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredKey {
    /// As it would stand in the file.
    pub row: Key,
    /// Digests of earlier secrets that are still valid.
    pub earlier: Vec<Digest>,
}

impl Stored {
    /// The file with these keys and teams in it. A name that both have is a problem.
    pub(super) fn join<'a>(&self, file: &'a File, report: &mut Report<'_>) -> Cow<'a, File> {
        if self.teams.is_empty() && self.keys.is_empty() {
            return Cow::Borrowed(file);
        }
        let mut joined = file.clone();
        let both = "is in the store too; expected another name here, or that the one of the store is revoked";
        for (name, team) in &self.teams {
            if joined.team.insert(name.clone(), team.clone()).is_some() {
                report.problem(&["team", name], both);
            }
        }
        for (name, key) in &self.keys {
            if joined.key.insert(name.clone(), key.row.clone()).is_some() {
                report.problem(&["key", name], both);
            }
        }
        Cow::Owned(joined)
    }

    /// Whether a row is of the store and was judged before.
    pub(super) fn is_lenient(&self, table: &str, name: &str) -> bool {
        let is_stored =
            if table == "key" { self.keys.contains_key(name) } else { self.teams.contains_key(name) };
        is_stored && self.changed.as_ref().is_none_or(|(other, changed)| *other != table || changed != name)
    }

    /// Digests of earlier secrets of a key that are still valid.
    pub(super) fn earlier(&self, key: &str) -> &[Digest] {
        self.keys.get(key).map_or(&[], |key| &key.earlier)
    }
}

/// The row of a key whose members are those of `[key.NAME]` but for the digest.
///
/// # Errors
/// The member that is wrong, and what was expected.
pub fn key(members: &Map<String, Value>, digest: &Digest) -> Result<Key, String> {
    if members.contains_key("sha256") {
        return Err("sha256: is not for the caller to choose; the gateway makes the secret".to_owned());
    }
    let mut members = members.clone();
    members.insert("sha256".to_owned(), hex(digest).into());
    serde_json::from_value(Value::Object(members))
        .map_err(|error| error.to_string().replace(", `sha256`", "").replace("`sha256`, ", ""))
}

/// The row of a team whose members are those of `[team.NAME]`.
///
/// # Errors
/// As [`key`].
pub fn team(members: &Map<String, Value>) -> Result<Team, String> {
    serde_json::from_value(Value::Object(members.clone())).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_key_of_the_store_has_the_members_of_a_key_of_the_file() {
        let row =
            key(&members(r#"{"models":["llama-*"],"budgets":[{"tokens":9,"per":"day"}]}"#), &[0xab; 32])
                .unwrap();
        assert_eq!((row.sha256, row.models), ("ab".repeat(32), Some(vec!["llama-*".to_owned()])));
        for (text, part) in [
            (r#"{"modelz":[]}"#, "unknown field `modelz`, expected one of `team`"),
            (r#"{"sha256":"00"}"#, "sha256: is not for the caller to choose"),
            (r#"{"requests_per_minute":"many"}"#, "expected u64"),
        ] {
            let refused = key(&members(text), &[0; 32]).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
        assert!(
            team(&members(r#"{"tokens_per_minute":5,"expires":"x"}"#))
                .unwrap_err()
                .contains("unknown field `expires`")
        );
    }
}
