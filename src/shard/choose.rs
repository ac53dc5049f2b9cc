//! Which member of a pool is tried next: health, breaker and free slots say who may, `policy::routing::balance` who should.

use crate::dialect::Api;
use crate::error::{Fault, FaultKind};
use crate::plan::cells::Health;
use crate::plan::{Member, Model, Plan};
use crate::policy::routing::balance::View;
use crate::policy::routing::breaker::Cause;
use crate::policy::routing::choice::{self, Request};
use crate::policy::routing::failure_state::Probes;
use crate::policy::routing::retry_state::Tried;
use crate::units::{BackendId, Nanos};

/// What a request asks of a backend.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) api: Api,
    /// No other model comes after this one.
    pub(super) last: bool,
    pub(super) prompt_tokens: u64,
    /// Prompt and expected output.
    pub(super) kv_tokens: u64,
    /// The one backend that has what the request refers to.
    pub(super) bound: Option<BackendId>,
    /// What failures count by (`plan::pattern::hash`); 0 for a model that is not one of a pattern.
    pub(super) name: u64,
}

impl Wanted {
    /// Whether a backend can be asked for it at all, well or not.
    fn fits(&self, plan: &Plan, member: &Member) -> bool {
        plan.backend(member.backend).provider.call(self.api).is_some()
            && self.bound.is_none_or(|bound| bound == member.backend)
    }
}

/// A member of the pool, with its in-flight slot `L` taken.
pub(super) struct Picked<'a, L> {
    pub(super) index: usize,
    pub(super) member: &'a Member,
    pub(super) backend: BackendId,
    pub(super) lease: L,
    pub(super) expected_seconds: f64,
    /// Tokens of the prompt that it is taken to have in its cache.
    pub(super) matched_tokens: u64,
    /// The breakers that let it in as their probe.
    pub(super) probes: Probes,
    /// There is nobody else to ask.
    pub(super) alone: bool,
}

/// The member to try next, with its in-flight slot taken by `lease`, which gives `None` if there is none.
/// `prepare` completes the views by what is known of the prompt; `lease` is told the tokens that have to be prefilled.
pub(super) fn pick<'a, L>(
    plan: &Plan,
    wanted: &Wanted,
    model: &'a Model,
    tried: &Tried,
    now: Nanos,
    prepare: impl FnOnce(&mut [View]) -> Request,
    lease: impl Fn(BackendId, u64) -> Option<L>,
) -> Option<Picked<'a, L>> {
    let alone = is_alone(plan, model, wanted);
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
        let may = !tried.contains(index) && may_ask(plan, member, wanted, alone, now);
        *view = look(plan, member, may, now);
    }
    let mut request = prepare(views);
    // A slot may be taken between the look and the grab: then the next best has its turn.
    for _ in 0..views.len() {
        let index = choice::pick(model.policy, views, &request)?;
        let member = &model.pool[index];
        let state = plan.failure_state_of(member.deployment, wanted.name, alone);
        if let Some(probes) = state.admit(now) {
            let view = &views[index];
            if let Some(lease) = lease(member.backend, view.uncached(request.prompt_tokens) as u64) {
                let expected_seconds = view.first_token_seconds(request.prompt_tokens);
                return Some(Picked {
                    index,
                    member,
                    backend: member.backend,
                    lease,
                    expected_seconds,
                    matched_tokens: view.matched_tokens,
                    probes,
                    alone,
                });
            }
            state.abandon(probes, now); // else nobody would hear of it, and nobody be let in for as long as that takes
        }
        views[index].eligible = false;
        request.turn = request.turn.wrapping_add(1);
    }
    None
}

/// Whether there is a backend that could be asked, but all of those have as much in flight as they may.
pub(super) fn is_full(plan: &Plan, wanted: &Wanted, model: &Model, now: Nanos) -> bool {
    let alone = is_alone(plan, model, wanted);
    let mut well = model.pool.iter().filter(|member| may_ask(plan, member, wanted, alone, now)).peekable();
    let full = |member: &Member| {
        plan.backends.cells(member.backend).in_flight.count() >= plan.backend(member.backend).in_flight_max
    };
    well.peek().is_some() && well.all(full)
}

/// Whether only one member of the pool can be asked at all, with no other model after this one (`last`).
fn is_alone(plan: &Plan, model: &Model, wanted: &Wanted) -> bool {
    let fits = |member: &&Member| wanted.fits(plan, member);
    wanted.last && (model.pool.len() == 1 || model.pool.iter().filter(fits).count() == 1)
}

/// Whether a backend serves this API and is well.
fn may_ask(plan: &Plan, member: &Member, wanted: &Wanted, alone: bool, now: Nanos) -> bool {
    wanted.fits(plan, member)
        && plan.backends.cells(member.backend).health() != Health::Down
        && plan.failure_state_of(member.deployment, wanted.name, alone).blocked(now).is_none()
}

fn look(plan: &Plan, member: &Member, eligible: bool, now: Nanos) -> View {
    let ewma = plan.deployments.cells(member.deployment).ewma.get(now);
    let mut view = View {
        eligible,
        weight: member.weight,
        kv_capacity: plan.backend(member.backend).kv_tokens,
        ratio: ewma.ratio,
        samples: ewma.samples,
        ..View::default()
    };
    for load in plan.backends.cells(member.backend).loads() {
        view.in_flight += load.in_flight();
        view.pending_tokens += load.pending_tokens();
        view.kv_tokens += load.kv_tokens();
    }
    view
}

/// Why nobody could be asked, and when to come back. 429 only if all of them said so.
pub(super) fn nobody(plan: &Plan, model: &Model, wanted: &Wanted, now: Nanos) -> Fault {
    let alone = is_alone(plan, model, wanted);
    if !model.pool.iter().any(|member| plan.backend(member.backend).provider.call(wanted.api).is_some()) {
        return Fault::new(
            FaultKind::PathUnknown,
            format!("no backend of this model serves {}", wanted.api.name()),
        );
    }
    let members = || model.pool.iter().filter(|member| wanted.fits(plan, member));
    let blocked =
        || members().map(|member| plan.failure_state_of(member.deployment, wanted.name, alone).blocked(now));
    // A breaker's times are rounded up to milliseconds: 20 seconds are not to be told as 21.
    let left = |until: Nanos| Nanos(until.since(now).0.saturating_sub(1_000_000));
    let wait = blocked().map(|blocked| blocked.map_or(RETRY_SOON, |(_, until)| left(until)));
    let wait = wait.min().unwrap_or(RETRY_SOON).max(WAIT_MIN);
    match blocked().all(|blocked| blocked.is_some_and(|(cause, _)| cause == Cause::Limit)) {
        true => busy().retry_after(wait),
        false if wanted.bound.is_some() => bound_is_away().retry_after(wait),
        false => Fault::new(FaultKind::NoBackend, "no backend of this model can take the request now")
            .retry_after(wait),
    }
}

/// Nobody else has what the request refers to.
pub(super) fn bound_is_away() -> Fault {
    Fault::new(
        FaultKind::NoBackend,
        "the backend that made this response cannot be reached now, and no other one knows it",
    )
}

/// Every backend that is well has as much as it wants.
pub(super) fn busy() -> Fault {
    Fault::new(FaultKind::BackendBusy, "every backend of this model is at its limit")
}

/// Advice when nothing better is known.
pub(super) const RETRY_SOON: Nanos = Nanos(1_000_000_000);
/// The shortest wait that a client is told.
const WAIT_MIN: Nanos = Nanos(100_000_000);
/// Members of one pool that are looked at.
const POOL_MAX: usize = 64;
