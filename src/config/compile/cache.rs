//! The response cache.

use super::bounds::{TIME_MIN, within};
use super::file::{Cache, CacheScope};
use crate::config::problem::Report;
use crate::config::quantity::{Size, Time};
use crate::plan::Model;
use crate::policy::cache::{Rules, Scope};
use crate::policy::glob;

/// The rules of the cache, with the part of one of `shards` shards; `None` if it is off.
pub(super) fn compile(
    cache: &Cache,
    models: &[Model],
    shards: usize,
    report: &mut Report<'_>,
) -> Option<Rules> {
    within(&["cache", "ttl"], cache.ttl, TIME_MIN, Time::seconds(30 * 86_400), report);
    within(&["cache", "size"], cache.size, Size::mib(1), Size::mib(1 << 20), report);
    within(&["cache", "entry"], cache.entry, Size::kib(1), cache.size, report);
    let is_meant = |pattern: &String, model: &Model| glob::matches(pattern, &model.name);
    for (index, pattern) in cache.models.iter().enumerate() {
        if !models.iter().any(|model| is_meant(pattern, model)) {
            report.problem(
                &["cache", "models", &format!("[{index}]")],
                format!("no model is named \"{pattern}\""),
            );
        }
    }
    if !cache.enabled {
        return None;
    }
    let shard_bytes = cache.size.bytes() / shards.max(1);
    Some(Rules {
        ttl: cache.ttl.0,
        shard_bytes,
        entry_bytes: cache.entry.bytes().min(shard_bytes),
        scope: match cache.scope {
            CacheScope::Key => Scope::Key,
            CacheScope::Team => Scope::Team,
            CacheScope::All => Scope::All,
        },
        models: models
            .iter()
            .map(|model| cache.models.iter().any(|pattern| is_meant(pattern, model)))
            .collect(),
        deterministic_only: cache.deterministic_only,
        single_flight: cache.single_flight,
    })
}
