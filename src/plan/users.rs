//! End users: whom clients of some keys act for, each with limits of its own.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use super::BudgetRow;
use crate::policy::limits::caller::CallerLimits;
use crate::policy::limits::users::Users;

/// What each end user may use, and what those that are known use now.
pub struct UserRules {
    /// The header that names the end user, in lower case.
    pub header: Option<Box<str>>,
    /// Its limits, the same for all.
    pub limits: CallerLimits,
    /// Its budgets, the same for all.
    pub budgets: Box<[BudgetRow]>,
    /// What they use now. Shared by all plans with as many places and budgets of the same kind.
    pub table: Arc<Users>,
}

impl UserRules {
    /// Whether what is used under `before` counts under these rules.
    pub(super) fn continues(&self, before: &Self) -> bool {
        let names = |rules: &Self| rules.budgets.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
        self.table.capacity() == before.table.capacity() && names(self) == names(before)
    }

    /// Whether there is anything to enforce; without, the names are only recorded.
    pub fn has_limits(&self) -> bool {
        self.limits != CallerLimits::default() || !self.budgets.is_empty()
    }
}

/// The hash of an end user's name: `of` is whose it is, a team's or a key's. Names of one team are not those of another. Not to
/// be foreseen by clients, who choose the names.
pub fn hash(of: &str, name: &str) -> u64 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    HASHER.hash_one((of, name))
}

/// The longest name. The journal keeps as many bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Whether a name is one: printable, and not too long.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printable_and_bounded() {
        for (name, is) in [
            ("u-1", true),
            ("Jürgen 名", true),
            ("", false),
            ("a\nb", false),
            (&"x".repeat(255), true),
            (&"x".repeat(256), false),
        ] {
            assert_eq!(is_name(name), is, "{name:?}");
        }
    }

    #[test]
    fn the_same_name_of_two_teams_is_two_end_users() {
        assert_eq!(hash("a", "u"), hash("a", "u"));
        assert_ne!(hash("a", "u"), hash("b", "u"));
        assert_ne!(hash("ab", "c"), hash("a", "bc"));
    }
}
