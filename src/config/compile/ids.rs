//! Under which secret ids of responses are sealed, and for which models they are.

use super::kept::{self, Unkept};
use super::{Source, secrets};
use crate::config::problem::Report;
use crate::plan::{Backend, Model};
use crate::policy::auth::ids::Ids;
use crate::units::BackendId;

/// The file in which the secret is kept that nobody has named.
const FILE: &str = "ringway.ids-secret";

/// Decides which models' ids are sealed, and tells the backends what they are known by. `None` if no id is sealed here and
/// no secret is named.
pub(super) fn compile(
    source: &Source<'_>,
    backends: &mut [Backend],
    models: &mut [Model],
    report: &mut Report<'_>,
) -> Option<Ids> {
    let few = usize::from(!source.file.ids.always);
    let makers: Vec<usize> = models.iter().map(|model| makers(model, models, backends)).collect();
    for (model, makers) in models.iter_mut().zip(makers) {
        model.renames_ids = makers > few;
    }
    let is_used = models.iter().any(|model| model.renames_ids);
    let before = secrets::ids_before(source, report);
    let ids = match &source.file.ids.secret {
        Some(_) => Ids::new(secrets::ids(source, report)?.expose().as_bytes()),
        None if is_used => kept(source, report),
        None => return None,
    };
    let ids = match before {
        Some(before) => {
            ids.with_previous(before.expose().as_bytes(), backends.iter().map(|backend| &*backend.name))
        }
        None => ids,
    };
    for backend in backends {
        backend.maker = ids.maker(&backend.name);
    }
    Some(ids)
}

/// How many backends can make the responses of a model, those of its fallbacks included.
fn makers(model: &Model, models: &[Model], backends: &[Backend]) -> usize {
    let fallbacks = model.fallbacks.iter().map(|id| &models[id.index()]);
    let pools = std::iter::once(model).chain(fallbacks).flat_map(|model| model.pool.iter());
    let mut makers: Vec<BackendId> = pools.map(|member| member.backend).collect();
    makers.retain(|id| backends[id.index()].provider.makes_ids());
    makers.sort_unstable_by_key(|id| id.index());
    makers.dedup();
    makers.len()
}

/// The secret that this machine has kept, or a new one.
fn kept(source: &Source<'_>, report: &mut Report<'_>) -> Ids {
    match kept::secret(source, FILE) {
        Ok(secret) => Ids::new(&secret),
        Err(Unkept { random, reasons }) => {
            if !reasons.is_empty() {
                report.note(format!(
                    "ids of responses hold until the next start or upgrade only, and here only, as their secret {}; name one \
                     in [ids] secret",
                    reasons.join(", ")
                ));
            }
            Ids::fleeting(&random)
        }
    }
}
