//! Operators: whom an admin token stands for.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Entry, Roster};
use crate::policy::auth::credential::Token;
use crate::policy::auth::role::Role;
use crate::store::AccessKind;

/// An operator with a token of the store.
#[derive(Clone, Debug)]
pub struct Operator {
    /// As the audit log has it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When the token stops being valid, Unix milliseconds.
    pub expires_ms: Option<u64>,
    /// Known by its digest.
    pub token: Token,
}

impl Operator {
    /// Whether its token has not expired.
    pub fn is_valid(&self, now_ms: u64) -> bool {
        self.expires_ms.is_none_or(|end| now_ms < end)
    }
}

/// Role and end of the token with these members.
///
/// # Errors
/// Which member is wrong, and what was expected.
pub(super) fn members(members: &Map<String, Value>) -> Result<(Role, Option<u64>), String> {
    let expected = "expected role (owner, admin, viewer or auditor), team and expires";
    let known = ["role", "team", "expires", MADE_BY];
    if let Some(other) = members.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("{other}: is not known; {expected}"));
    }
    let text = |name: &str| match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("{name}: expected a text")),
    };
    let role = text("role")?.ok_or_else(|| format!("role: is missing; {expected}"))?;
    let role = Role::new(role, text("team")?)?;
    let expires = text("expires")?.map(|written| {
        let instant =
            written.parse::<Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok());
        instant
            .ok_or("expires: expected an instant with its offset, like \"2027-01-01T00:00:00Z\"".to_owned())
    });
    Ok((role, expires.transpose()?))
}

/// The member that names the token that a token was made with.
pub(super) const MADE_BY: &str = "made_by";

impl Entry {
    /// When an admin token stops being valid by itself, Unix milliseconds.
    pub fn token_ends(&self) -> Option<u64> {
        members(&self.members).ok().and_then(|(_, end)| end)
    }
}

impl Roster {
    /// Whether a token is not revoked, and neither is the one that made it, nor the one that made that.
    pub fn is_in_force(&self, token: &str) -> bool {
        let mut name = token;
        // A name is never used twice, so a token is younger than its maker: rows that say otherwise are wrong.
        for _ in 0..=self.rows.len() {
            match self.find(AccessKind::AdminToken, name) {
                Some(entry) if entry.row.revoked_ms.is_none() => match entry.text(MADE_BY) {
                    Some(maker) => name = maker,
                    None => return true,
                },
                _ => return false,
            }
        }
        false
    }

    /// Everybody who may sign in with a token of the store.
    pub fn operators(&self) -> Vec<Operator> {
        let rows = self.of_kind(AccessKind::AdminToken).filter(|entry| self.is_in_force(&entry.row.name));
        let operators = rows.filter_map(|entry| {
            // What cannot be read may do nothing.
            let (role, expires_ms) = members(&entry.members).ok()?;
            let token = Token::new(entry.row.secrets.first()?.digest);
            Some(Operator { name: entry.row.name.clone(), role, expires_ms, token })
        });
        operators.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_of_a_token_are_a_role_its_team_and_an_end() {
        let of = |text: &str| members(&serde_json::from_str(text).unwrap());
        assert_eq!(of(r#"{"role":"admin","team":"a"}"#), Ok((Role::Admin { team: "a".to_owned() }, None)));
        assert_eq!(
            of(r#"{"role":"owner","expires":"1970-01-01T00:00:01Z"}"#),
            Ok((Role::Owner, Some(1_000)))
        );
        for (text, part) in [
            ("{}", "role: is missing"),
            (r#"{"role":7}"#, "role: expected a text"),
            (r#"{"role":"owner","models":[]}"#, "models: is not known"),
            (r#"{"role":"owner","expires":"tomorrow"}"#, "expires: expected an instant"),
        ] {
            assert!(of(text).unwrap_err().contains(part), "{text}");
        }
    }
}
