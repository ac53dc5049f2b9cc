//! Whether a model may stand in for another, by the content rules of both.

use std::sync::Arc;

use crate::plan::guards::ModelGuards;
use crate::plan::{Model, Plan};
use crate::policy::guard::rules::Labels;
use crate::policy::guard::whole;
use crate::units::KeyId;

/// Whether a model may stand in for the one that was asked for: its rules are the same, or would neither refuse the request
/// nor change it. So a fallback is never a way around its own rules.
pub(super) fn allows_fallback(
    plan: &Plan,
    key: Option<KeyId>,
    asked: &Model,
    fallback: &Model,
    payload: &[u8],
) -> bool {
    // Nobody has asked the guards in other processes that only the fallback has.
    let asks = |own: &Arc<ModelGuards>| fallback.guards.as_ref().is_none_or(|guards| own.asks_all_of(guards));
    let has_own = fallback.guards.as_ref().is_some_and(|guards| !guards.externals.is_empty());
    if has_own && !asked.guards.as_ref().is_some_and(asks) {
        return false;
    }
    let Some(guards) = reading(fallback) else { return true };
    if asked.guards.as_ref().is_some_and(|own| Arc::ptr_eq(own, guards)) {
        return true;
    }
    let applies = |rule| guards.applies(plan, rule, key);
    let checked = whole::request(&guards.guards, payload, &mut Labels::default(), &applies);
    checked.decides.is_none() && checked.edits.is_empty()
}

/// The rules of a model that read requests.
pub(super) fn reading(model: &Model) -> Option<&Arc<ModelGuards>> {
    model.guards.as_ref().filter(|guards| guards.guards.reads_requests())
}
