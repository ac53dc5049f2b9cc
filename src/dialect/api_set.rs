//! Sets of endpoints.

use super::Api;

/// A set of endpoints: what a backend serves, what a key may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ApiSet(u64);

impl ApiSet {
    /// Every endpoint.
    pub const ALL: Self = Self::of(Api::ALL);

    /// The set of these endpoints.
    pub const fn of(apis: &[Api]) -> Self {
        let (mut set, mut index) = (Self(0), 0);
        while index < apis.len() {
            set = set.with(apis[index]);
            index += 1;
        }
        set
    }

    /// This set and one more.
    pub const fn with(self, api: Api) -> Self {
        Self(self.0 | 1 << api as u8)
    }

    /// What is in this set or in the other.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without one.
    pub const fn without(self, api: Api) -> Self {
        Self(self.0 & !(1 << api as u8))
    }

    /// What is in both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether it is in.
    pub const fn contains(self, api: Api) -> bool {
        self.0 & 1 << api as u8 != 0
    }

    /// Its members.
    pub fn iter(self) -> impl Iterator<Item = Api> {
        Api::ALL.iter().copied().filter(move |api| self.contains(*api))
    }
}
