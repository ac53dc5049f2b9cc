//! What operators may do: an owner everything, an admin the keys of a team, a viewer and an auditor nothing but read.

/// The role of an operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// Everything.
    Owner,
    /// Reads what concerns a team, and creates, changes and revokes its keys.
    Admin {
        /// Which.
        team: String,
    },
    /// Reads what is going on; of one team only if one is named.
    Viewer {
        /// Which.
        team: Option<String>,
    },
    /// Reads everything, the audit log and the list of admin tokens included.
    Auditor,
}

/// What an operation of the admin API needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// Any role: it concerns the caller alone.
    SignedIn,
    /// To read of a team; the response has nothing of others.
    ReadTeam,
    /// To read of the whole gateway.
    ReadAll,
    /// To read what operators did, and who they are.
    ReadAudit,
    /// To change the keys of a team; the change itself is checked row by row.
    WriteTeam,
    /// To change anything else.
    Operate,
}

impl Role {
    /// The word for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin { .. } => "admin",
            Self::Viewer { .. } => "viewer",
            Self::Auditor => "auditor",
        }
    }

    /// The team that it is confined to.
    pub fn team(&self) -> Option<&str> {
        match self {
            Self::Admin { team } | Self::Viewer { team: Some(team) } => Some(team),
            Self::Owner | Self::Viewer { team: None } | Self::Auditor => None,
        }
    }

    /// The role of these two words.
    ///
    /// # Errors
    /// What was expected.
    pub fn new(role: &str, team: Option<&str>) -> Result<Self, String> {
        match (role, team) {
            ("owner", None) => Ok(Self::Owner),
            ("auditor", None) => Ok(Self::Auditor),
            ("viewer", team) => Ok(Self::Viewer { team: team.map(str::to_owned) }),
            ("admin", Some(team)) => Ok(Self::Admin { team: team.to_owned() }),
            ("admin", None) => Err("role: an admin is one of a team; expected team".to_owned()),
            ("owner" | "auditor", Some(_)) => {
                Err(format!("team: an {role} is not confined to a team; expected none"))
            }
            _ => Err(format!("role: is {role:?}; expected owner, admin, viewer or auditor")),
        }
    }

    /// Whether it has what an operation needs. Everything that is not said here is denied.
    pub const fn may(&self, need: Need) -> bool {
        match (self, need) {
            (Self::Owner, _) | (_, Need::SignedIn | Need::ReadTeam) => true,
            (Self::Admin { .. }, Need::WriteTeam) => true,
            (Self::Viewer { team: None }, Need::ReadAll) => true,
            (Self::Auditor, Need::ReadAll | Need::ReadAudit) => true,
            (
                Self::Admin { .. } | Self::Viewer { .. } | Self::Auditor,
                Need::ReadAll | Need::ReadAudit | Need::WriteTeam | Need::Operate,
            ) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_do_what_is_said_here_and_nothing_else() {
        let team = || "search".to_owned();
        for (role, may) in [
            (Role::Owner, [true; 6]),
            (Role::Admin { team: team() }, [true, true, false, false, true, false]),
            (Role::Viewer { team: None }, [true, true, true, false, false, false]),
            (Role::Viewer { team: Some(team()) }, [true, true, false, false, false, false]),
            (Role::Auditor, [true, true, true, true, false, false]),
        ] {
            let needs = [
                Need::SignedIn,
                Need::ReadTeam,
                Need::ReadAll,
                Need::ReadAudit,
                Need::WriteTeam,
                Need::Operate,
            ];
            assert_eq!(needs.map(|need| role.may(need)), may, "{role:?}");
        }
    }

    #[test]
    fn an_admin_is_one_of_a_team_and_an_owner_of_none() {
        assert_eq!(Role::new("admin", Some("a")), Ok(Role::Admin { team: "a".to_owned() }));
        assert_eq!(Role::new("viewer", None), Ok(Role::Viewer { team: None }));
        for (role, team, part) in [
            ("admin", None, "expected team"),
            ("owner", Some("a"), "not confined"),
            ("auditor", Some("a"), "not confined"),
            ("root", None, "expected owner, admin, viewer or auditor"),
            ("Owner", None, "expected owner"),
        ] {
            assert!(Role::new(role, team).unwrap_err().contains(part), "{role}");
        }
    }
}
