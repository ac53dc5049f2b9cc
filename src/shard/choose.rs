//! Which member of a pool is tried next: health, breaker and free slots say who may, `policy::balance` who should.

use crate::dialect::Api;
use crate::error::{Fault, Kind};
use crate::plan::cells::Health;
use crate::plan::{Member, Model, Plan};
use crate::policy::balance::{self, View};
use crate::policy::breaker::Admission;
use crate::policy::course::Tried;
use crate::units::{BackendId, Nanos};

/// What a request asks of a backend.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) api: Api,
    pub(super) prompt_tokens: u64,
    /// Prompt and expected output.
    pub(super) kv_tokens: u64,
}

/// A member of the pool, with its in-flight slot `L` taken.
pub(super) struct Picked<'a, L> {
    pub(super) index: usize,
    pub(super) member: &'a Member,
    pub(super) backend: BackendId,
    pub(super) lease: L,
    pub(super) expected_seconds: f64,
    /// Its breaker let it in as its probe.
    pub(super) probes: bool,
}

/// The member to try next, with its in-flight slot taken by `lease`, which gives `None` if there is none.
pub(super) fn pick<'a, L>(
    plan: &Plan,
    wanted: &Wanted,
    model: &'a Model,
    tried: &Tried,
    now: Nanos,
    random: impl Fn() -> u64,
    lease: impl Fn(BackendId) -> Option<L>,
) -> Option<Picked<'a, L>> {
    let (mut one, mut many);
    let views = match model.pool.len() {
        1 => {
            one = [View::default()];
            &mut one[..]
        }
        count => {
            many = [View::default(); POOL_MAX];
            &mut many[..count.min(POOL_MAX)]
        }
    };
    for (index, (view, member)) in views.iter_mut().zip(&model.pool).enumerate() {
        let may = !tried.contains(index) && may_ask(plan, member, wanted.api, now);
        *view = look(plan, member, may, now);
    }
    // A slot may be taken between the look and the grab: then the next best has its turn.
    for _ in 0..views.len() {
        let index = balance::pick(views, wanted.prompt_tokens, random())?;
        let member = &model.pool[index];
        let cells = plan.cells.backend(member.backend);
        let admission = cells.breaker.admit(now);
        let probes = admission == Admission::Probe;
        if !matches!(admission, Admission::Open { .. }) {
            if let Some(lease) = lease(member.backend) {
                let expected_seconds = views[index].first_token_seconds(wanted.prompt_tokens);
                return Some(Picked {
                    index,
                    member,
                    backend: member.backend,
                    lease,
                    expected_seconds,
                    probes,
                });
            }
            if probes {
                cells.breaker.abandon(now); // else nobody would hear of it, and nobody be let in for as long as that takes
            }
        }
        views[index].eligible = false;
    }
    None
}

/// Whether there is a backend that could be asked, but all of those have as much in flight as they may.
pub(super) fn is_full(plan: &Plan, api: Api, model: &Model, now: Nanos) -> bool {
    let mut well = model.pool.iter().filter(|member| may_ask(plan, member, api, now)).peekable();
    let full = |member: &Member| {
        plan.cells.backend(member.backend).in_flight.count() >= plan.backend(member.backend).in_flight_max
    };
    well.peek().is_some() && well.all(full)
}

/// Whether a backend serves this API and is well.
fn may_ask(plan: &Plan, member: &Member, api: Api, now: Nanos) -> bool {
    let cells = plan.cells.backend(member.backend);
    plan.backend(member.backend).provider.speaks(api)
        && cells.health() != Health::Down
        && !matches!(cells.breaker.peek(now), Admission::Open { .. })
}

fn look(plan: &Plan, member: &Member, eligible: bool, now: Nanos) -> View {
    let ewma = plan.cells.backend(member.backend).ewma.get(now);
    let mut view = View {
        eligible,
        weight: member.weight,
        kv_capacity: plan.backend(member.backend).kv_tokens,
        ratio: ewma.ratio,
        samples: ewma.samples,
        ..View::default()
    };
    for load in plan.cells.loads(member.backend) {
        view.in_flight += load.in_flight();
        view.pending_tokens += load.pending_tokens();
        view.kv_tokens += load.kv_tokens();
    }
    view
}

/// Why nobody could be asked, and when to come back.
pub(super) fn nobody(plan: &Plan, model: &Model, api: Api, now: Nanos) -> Fault {
    if !model.pool.iter().any(|member| plan.backend(member.backend).provider.speaks(api)) {
        return Fault::new(Kind::PathUnknown, format!("no backend of this model serves {}", api.name()));
    }
    let breakers = || model.pool.iter().map(|member| &plan.cells.backend(member.backend).breaker);
    let wait = breakers().map(|breaker| match breaker.peek(now) {
        Admission::Open { until } => until.since(now),
        _ => RETRY_SOON,
    });
    let wait = wait.min().unwrap_or(RETRY_SOON).max(RETRY_SOON);
    // One that only asked for a pause can be waited for: the client is told what it would be told there.
    match breakers().any(|breaker| breaker.is_held(now)) {
        true => busy().retry_after(wait),
        false => {
            Fault::new(Kind::NoBackend, "no backend of this model can take the request now").retry_after(wait)
        }
    }
}

/// Every backend that is well has as much as it wants.
pub(super) fn busy() -> Fault {
    Fault::new(Kind::BackendBusy, "every backend of this model is at its limit")
}

/// Advice when nothing better is known.
pub(super) const RETRY_SOON: Nanos = Nanos(1_000_000_000);
/// Members of one pool that are looked at.
const POOL_MAX: usize = 64;
