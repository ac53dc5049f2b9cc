//! Changes of the roster: what each makes of a row, and who may make it.

use serde_json::{Map, Value, json};

use super::secret::{self, Made};
use super::{Entry, Roster, operator};
use crate::config;
use crate::store::{AccessKind, AccessRow, AuditEntry, SecretRow};

/// What an operator wants changed.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new row.
    Create {
        /// A team, a key or a token.
        kind: AccessKind,
        /// Its name.
        name: String,
        /// Of its table in the configuration.
        members: Map<String, Value>,
    },
    /// Other members of a row (RFC 7396): those that are left out stay, null takes one away.
    Update {
        /// A team or a key.
        kind: AccessKind,
        /// Its name.
        name: String,
        /// The members that change.
        patch: Map<String, Value>,
    },
    /// A budget of a row: added, or put in the place of the one with the same unit and window.
    SetBudget {
        /// A team or a key.
        kind: AccessKind,
        /// Its name.
        name: String,
        /// As in the configuration.
        budget: Map<String, Value>,
    },
    /// Takes a budget away: the one with the unit and window of this one.
    RemoveBudget {
        /// A team or a key.
        kind: AccessKind,
        /// Its name.
        name: String,
        /// As in the configuration; its amount does not matter.
        budget: Map<String, Value>,
    },
    /// Another secret for a key.
    Rotate {
        /// Its name.
        name: String,
        /// How long the secret before stays valid, in milliseconds. 0: it ends now, and so do its streams.
        overlap_ms: u64,
    },
    /// The end of a key or a token; the removal of a team.
    Revoke {
        /// A team, a key or a token.
        kind: AccessKind,
        /// Its name.
        name: String,
    },
}

/// Who wants it.
#[derive(Clone, Debug)]
pub struct Author {
    /// As the audit log has it.
    pub name: String,
    /// From where.
    pub origin: String,
    /// The name of the admin token of the store that it acts with, which no token that it makes outlives.
    pub token: Option<String>,
    /// What it may change.
    pub scope: Scope,
}

/// Which rows may be changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All of them.
    All,
    /// The keys of a team, and the tokens that are for it alone.
    Team(String),
}

/// Why nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeError {
    /// There is no such row, or not for this author.
    NotFound(String),
    /// It is in the configuration file.
    ReadOnly(String),
    /// It does not go with what there is.
    Conflict(String),
    /// What was asked for is wrong: which member, and what was expected.
    Invalid(String),
    /// The author may not.
    Forbidden(String),
    /// No store is configured, or no configuration file.
    NoStore,
    /// The store cannot be written to.
    Failed(String),
}

/// What was changed, once every shard serves by it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    /// The secret that was made. It is kept nowhere.
    pub secret: Option<String>,
    /// The number of the plan.
    pub generation: u64,
}

/// What a change makes of the roster.
pub struct Edit {
    /// The row as it is from now on.
    pub row: AccessRow,
    /// Whether it goes instead.
    pub is_removed: bool,
    /// For the audit log.
    pub entry: AuditEntry,
    /// The secret that was made.
    pub secret: Option<String>,
}

impl Change {
    /// Which row it is about.
    pub fn row(&self) -> (AccessKind, &str) {
        match self {
            Self::Create { kind, name, .. }
            | Self::Update { kind, name, .. }
            | Self::SetBudget { kind, name, .. }
            | Self::RemoveBudget { kind, name, .. }
            | Self::Revoke { kind, name } => (*kind, name),
            Self::Rotate { name, .. } => (AccessKind::Key, name),
        }
    }

    /// What is done, in a word.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Update { .. } => "update",
            Self::SetBudget { .. } => "set_budget",
            Self::RemoveBudget { .. } => "remove_budget",
            Self::Rotate { .. } => "rotate",
            Self::Revoke { .. } => "revoke",
        }
    }

    /// What it makes of the roster. Whether the row goes with the file and the other rows is for the compiler to say.
    ///
    /// # Errors
    /// The row is not there or there already, or the author may not.
    pub fn edit(&self, roster: &Roster, author: &Author, now_ms: u64) -> Result<Edit, ChangeError> {
        let (kind, name) = self.row();
        let before = roster.find(kind, name);
        let (mut after, made) = match self {
            Self::Create { members, .. } => create(roster, (kind, name), members, author, now_ms)?,
            _ => self.changed(roster, present(kind, name, before, author)?, now_ms)?,
        };
        may(author, &after)?;
        after.row.changed_ms = now_ms;
        after.row.body = Value::Object(after.members.clone()).to_string();
        let is_removed = kind == AccessKind::Team && matches!(self, Self::Revoke { .. });
        let entry = AuditEntry {
            at_ms: now_ms,
            actor: author.name.clone(),
            origin: author.origin.clone(),
            action: self.verb().to_owned(),
            subject: format!("{} {name}", kind.word().replace('_', " ")),
            before: before.map(told).unwrap_or_default(),
            after: if is_removed { String::new() } else { told(&after) },
        };
        Ok(Edit { row: after.row, is_removed, entry, secret: made.map(|made| made.text) })
    }

    /// A row that is there, as it is after this change.
    fn changed(
        &self,
        roster: &Roster,
        before: &Entry,
        now_ms: u64,
    ) -> Result<(Entry, Option<Made>), ChangeError> {
        let mut after = before.clone();
        let mut made = None;
        match self {
            Self::Create { .. } => {}
            Self::Update { patch, .. } if patch.is_empty() => {
                let text = "the body: has no members; expected those that change, as in the configuration, like \
                            {\"requests_per_minute\": 600}, and null for one that is taken away";
                return Err(ChangeError::Invalid(text.to_owned()));
            }
            Self::Update { patch, .. } => {
                for (member, value) in patch {
                    match value {
                        Value::Null => _ = after.members.remove(member),
                        value => _ = after.members.insert(member.clone(), value.clone()),
                    }
                }
            }
            Self::SetBudget { budget, .. } => {
                let mut budgets = other_budgets(&after, budget);
                budgets.push(Value::Object(budget.clone()));
                after.members.insert("budgets".to_owned(), budgets.into());
            }
            Self::RemoveBudget { name, budget, .. } => {
                let budgets = other_budgets(&after, budget);
                let before = after.members.get("budgets").and_then(Value::as_array).map_or(0, Vec::len);
                if budgets.len() == before {
                    return Err(ChangeError::NotFound(format!(
                        "{name} has no budget of this unit and window"
                    )));
                }
                after.members.insert("budgets".to_owned(), budgets.into());
            }
            Self::Rotate { overlap_ms, .. } => {
                let new = secret::make(secret::KEY, Some(&before.row.public_id)).map_err(no_random)?;
                rotate(&mut after.row, &new, *overlap_ms, now_ms);
                made = Some(new);
            }
            Self::Revoke { kind: AccessKind::Team, name } => {
                let of_team = roster.rows.values().filter(|entry| {
                    entry.row.revoked_ms.is_none()
                        && entry.row.kind != AccessKind::Team
                        && entry.text("team") == Some(name)
                });
                let left: Vec<&str> = of_team.map(|entry| &*entry.row.name).take(5).collect();
                if !left.is_empty() {
                    let text =
                        format!("team {name} still has {}; revoke or move them first", left.join(", "));
                    return Err(ChangeError::Conflict(text));
                }
            }
            Self::Revoke { .. } => {
                after.row.revoked_ms = Some(now_ms);
                after.row.secrets.clear();
            }
        }
        Ok((after, made))
    }
}

fn no_random(_: ring::error::Unspecified) -> ChangeError {
    ChangeError::Failed("the system gave no random bytes".to_owned())
}

fn create(
    roster: &Roster,
    (kind, name): (AccessKind, &str),
    members: &Map<String, Value>,
    author: &Author,
    now_ms: u64,
) -> Result<(Entry, Option<Made>), ChangeError> {
    config::check_key_name(name)
        .map_err(|problem| ChangeError::Invalid(format!("name: {name:?} {problem}")))?;
    let word = kind.word();
    match roster.find(kind, name) {
        Some(entry) if entry.row.revoked_ms.is_some() => {
            let text = format!(
                "{word} {name} was revoked, and its name stays with what it used; expected another name"
            );
            return Err(ChangeError::Conflict(text));
        }
        Some(_) => return Err(ChangeError::Conflict(format!("there is a {word} {name} already"))),
        None => {}
    }
    let mut members: Map<String, Value> = members
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if let (Scope::Team(team), true) = (&author.scope, kind != AccessKind::Team) {
        members.entry("team").or_insert_with(|| team.as_str().into());
    }
    if kind == AccessKind::AdminToken {
        confine(&mut members, roster, author)?;
    }
    let prefix = match kind {
        AccessKind::Team => None,
        AccessKind::Key => Some(secret::KEY),
        AccessKind::AdminToken => Some(secret::ADMIN_TOKEN),
    };
    let made = prefix.map(|prefix| secret::make(prefix, None)).transpose().map_err(no_random)?;
    let secrets =
        made.iter().map(|made| SecretRow { digest: made.digest, created_ms: now_ms, valid_until_ms: None });
    let row = AccessRow {
        kind,
        name: name.to_owned(),
        public_id: made.as_ref().map(|made| made.public_id.clone()).unwrap_or_default(),
        body: String::new(),
        created_ms: now_ms,
        changed_ms: now_ms,
        revoked_ms: None,
        secrets: secrets.collect(),
    };
    Ok((Entry { row, members }, made))
}

/// Checks the members of a new token, and confines it to the life of the token that it is made with.
///
/// # Errors
/// Which member is wrong; or the token that it is made with has ended.
fn confine(members: &mut Map<String, Value>, roster: &Roster, author: &Author) -> Result<(), ChangeError> {
    if members.contains_key(operator::MADE_BY) {
        return Err(ChangeError::Invalid("made_by: is set by the gateway; expected none".to_owned()));
    }
    let (_, end) = operator::members(members).map_err(ChangeError::Invalid)?;
    let Some(maker) = &author.token else { return Ok(()) };
    let ended = || ChangeError::Forbidden(format!("token {maker} has ended"));
    let entry = roster.find(AccessKind::AdminToken, maker).filter(|_| roster.is_in_force(maker));
    let entry = entry.ok_or_else(ended)?;
    let (_, end_of_maker) = operator::members(&entry.members).map_err(|_| ended())?;
    if let (Some(end_of_maker), Some(written)) = (end_of_maker, entry.text("expires")) {
        if end.is_some_and(|end| end > end_of_maker) {
            let text =
                format!("expires: expected {written} at the latest, the end of token {maker} that makes it");
            return Err(ChangeError::Invalid(text));
        }
        members.entry("expires").or_insert_with(|| written.into());
    }
    members.insert(operator::MADE_BY.to_owned(), maker.as_str().into());
    Ok(())
}

/// The row, if it is there, is not revoked, and the author may see it.
fn present<'a>(
    kind: AccessKind,
    name: &str,
    found: Option<&'a Entry>,
    author: &Author,
) -> Result<&'a Entry, ChangeError> {
    let missing = || ChangeError::NotFound(format!("there is no {} {name}", kind.word().replace('_', " ")));
    let entry = found.ok_or_else(missing)?;
    may(author, entry).map_err(|_| missing())?;
    match entry.row.revoked_ms {
        Some(_) => Err(ChangeError::Conflict(format!("{} {name} is revoked", kind.word()))),
        None => Ok(entry),
    }
}

/// Nobody gives away or changes more than they have.
fn may(author: &Author, entry: &Entry) -> Result<(), ChangeError> {
    let Scope::Team(team) = &author.scope else { return Ok(()) };
    let is_theirs = entry.text("team") == Some(team);
    let may = match entry.row.kind {
        AccessKind::Team => false,
        AccessKind::Key => is_theirs,
        AccessKind::AdminToken => is_theirs && matches!(entry.text("role"), Some("admin" | "viewer")),
    };
    if may {
        return Ok(());
    }
    let text = format!(
        "an admin of team {team} may change the keys of that team, and tokens of admins and viewers of it"
    );
    Err(ChangeError::Forbidden(text))
}

/// The newest secret is the new one. The one before stays valid for the overlap; earlier ones end now, so that two are valid at
/// most.
fn rotate(row: &mut AccessRow, made: &Made, overlap_ms: u64, now_ms: u64) {
    let until = now_ms.saturating_add(overlap_ms);
    row.secrets.retain(|secret| secret.valid_until_ms.is_none());
    for secret in &mut row.secrets {
        secret.valid_until_ms = Some(until);
    }
    if overlap_ms == 0 {
        row.secrets.clear();
    }
    row.secrets.insert(0, SecretRow { digest: made.digest, created_ms: now_ms, valid_until_ms: None });
}

/// The budgets of a row but for the one with this unit and window.
fn other_budgets(entry: &Entry, budget: &Map<String, Value>) -> Vec<Value> {
    let window = |budget: &Map<String, Value>| {
        let zone = budget.get("zone").filter(|zone| !zone.is_null()).cloned().unwrap_or_else(|| "UTC".into());
        let rolling = budget.get("rolling") == Some(&Value::Bool(true));
        let zone = if rolling { Value::Null } else { zone };
        (budget.contains_key("money"), budget.get("per").cloned(), zone, rolling)
    };
    let all = entry.members.get("budgets").and_then(Value::as_array).into_iter().flatten();
    all.filter(|other| other.as_object().is_none_or(|other| window(other) != window(budget)))
        .cloned()
        .collect()
}

/// A row for the audit log: without anything that must not be seen.
fn told(entry: &Entry) -> String {
    let mut members = entry.members.clone();
    if !entry.row.public_id.is_empty() {
        members.insert("public_id".to_owned(), entry.row.public_id.as_str().into());
    }
    if let Some(until) = entry.row.secrets.iter().find_map(|secret| secret.valid_until_ms) {
        members.insert("previous_secret_valid_until_ms".to_owned(), json!(until));
    }
    if let Some(at) = entry.row.revoked_ms {
        members.insert("revoked_ms".to_owned(), json!(at));
    }
    Value::Object(members).to_string()
}
