//! Who may call: keys, and the teams they belong to.

use std::sync::Arc;

use super::Row;
use crate::dialect::ApiSet;
use crate::policy::auth::credential::Digest;
use crate::policy::limits::caller::{CallerCells, CallerLimits};
use crate::sync::{AtomicBool, Ordering};
use crate::units::{BudgetId, IssuerId, KeyId, TeamId};

/// One virtual key.
pub struct Key {
    /// Its row.
    pub id: KeyId,
    /// The operator's name for it; the key itself is known by its digest only.
    pub name: Box<str>,
    /// Whose limits apply beside its own.
    pub team: Option<TeamId>,
    /// What the operator calls it by in reports.
    pub tags: Box<[Box<str>]>,
    /// What else the operator noted with it: names and values.
    pub metadata: Box<[(Box<str>, Box<str>)]>,
    /// How its callers are recognised.
    pub credential: Credential,
    /// What they may do.
    pub grant: Grant,
    /// Set when a plan comes into force that has none of its secrets under this name any more. Shared by all plans
    /// that did, so that what runs under an older one hears of it too.
    pub revoked: Arc<AtomicBool>,
}

/// How a caller is recognised.
pub struct Credential {
    /// SHA-256 of the key that it presents.
    pub digest: Digest,
    /// Those of earlier secrets that are still valid while the key is being rotated.
    pub earlier: Box<[Digest]>,
    /// The issuer of the tokens that are recognised as this row's; the digest then stands for that issuer and is no key's.
    pub issuer: Option<IssuerId>,
    /// When it stops being valid.
    pub expires: Option<Expiry>,
}

/// The end of a credential.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expiry {
    /// Unix milliseconds.
    pub unix_ms: u64,
    /// As the operator wrote it.
    pub written: Box<str>,
}

/// What a caller may do, however it was recognised.
pub struct Grant {
    /// By `ModelId`: may it be used.
    pub models: Box<[bool]>,
    /// The endpoints it may call; those that list models are not among them, since they show what it may use.
    pub apis: ApiSet,
    /// Whether it may ask how its backend was chosen (`x-ringway-trace`).
    pub trace: bool,
    /// How much it may use, beside what its team may.
    pub limits: CallerLimits,
    /// Its own budgets, then its team's.
    pub budgets: Box<[BudgetId]>,
    /// It may name the end users that it acts for.
    pub names_users: bool,
}

/// A team of keys: what they use together is limited.
pub struct Team {
    /// Its row.
    pub id: TeamId,
    /// The operator's name for it.
    pub name: Box<str>,
    /// How much its keys may use together.
    pub limits: CallerLimits,
}

impl Credential {
    /// Every digest that is recognised as this caller's.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        std::iter::once(&self.digest).chain(&self.earlier)
    }

    /// Whether a client of one may go on as a client of the other: they have a secret in common.
    pub fn continues(&self, before: &Self) -> bool {
        self.digests().any(|digest| before.digests().any(|other| other == digest))
    }
}

impl Key {
    /// Whether a newer plan has taken it out of service.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }
}

impl Row for Team {
    type Name = str;
    type Cells = CallerCells;

    fn name(&self) -> &str {
        &self.name
    }
}

impl Row for Key {
    type Name = str;
    type Cells = CallerCells;

    fn name(&self) -> &str {
        &self.name
    }
}
