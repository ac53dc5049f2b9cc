//! Which member of a pool is called next: health, breakers and free slots decide which ones can be, `policy::routing::balance`
//! which one is.

use crate::dialect::Api;
use crate::error::{Fault, FaultKind};
use crate::plan::availability::Demand;
use crate::plan::{Member, Model, Plan};
use crate::policy::routing::balance::View;
use crate::policy::routing::breaker::Cause;
use crate::policy::routing::choice::{self, Request};
use crate::policy::routing::failure_state::Probes;
use crate::policy::routing::retry_state::Tried;
use crate::shard::wording::{RETRY_SOON, bound_is_away, busy};
use crate::units::{BackendId, Nanos};

/// What a request asks of a backend.
#[derive(Clone, Copy)]
pub(in crate::shard) struct Wanted {
    pub(in crate::shard) api: Api,
    /// No other model can be called after this one.
    pub(in crate::shard) is_last_model: bool,
    pub(in crate::shard) prompt_tokens: u64,
    /// Prompt and expected output.
    pub(in crate::shard) kv_tokens: u64,
    /// The only backend that knows the response which the request refers to.
    pub(in crate::shard) bound: Option<BackendId>,
    /// What failures count by (`plan::pattern::hash`); 0 for a model that is not one of a pattern.
    pub(in crate::shard) name: u64,
}

impl Wanted {
    fn demand(&self) -> Demand {
        let Self { api, is_last_model, bound, name, .. } = *self;
        Demand { api, is_last_model, bound, name }
    }
}

/// What a backend is expected to do before the first token.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Expected {
    pub(in crate::shard) seconds: f64,
    /// Tokens to prefill: those that wait, and the request's own.
    pub(in crate::shard) tokens: u64,
    pub(in crate::shard) streams: u64,
}

impl Expected {
    fn of(view: &View, prompt_tokens: u64) -> Self {
        Self {
            seconds: view.first_token_seconds(prompt_tokens),
            tokens: view.pending_tokens + view.uncached(prompt_tokens) as u64,
            streams: view.in_flight,
        }
    }
}

/// A member of the pool, with its in-flight slot `L` taken.
pub(in crate::shard) struct Picked<'a, L> {
    pub(in crate::shard) index: usize,
    pub(in crate::shard) member: &'a Member,
    pub(in crate::shard) backend: BackendId,
    pub(in crate::shard) lease: L,
    pub(in crate::shard) expected: Expected,
    /// Tokens of the prompt that it is taken to have in its cache.
    pub(in crate::shard) matched_tokens: u64,
    /// The breakers that let it in as their probe.
    pub(in crate::shard) probes: Probes,
    /// No other backend can be called.
    pub(in crate::shard) alone: bool,
}

/// The backends of one model, for one request, at one moment.
pub(in crate::shard) struct Pool<'p, 'm> {
    pub(in crate::shard) plan: &'p Plan,
    pub(in crate::shard) model: &'m Model,
    pub(in crate::shard) wanted: &'p Wanted,
    pub(in crate::shard) now: Nanos,
}

impl<'m> Pool<'_, 'm> {
    /// The member to call next. `prepare` completes the views by what is known of the prompt. `lease` takes the member's
    /// in-flight slot, given the tokens that have to be prefilled, and gives `None` if there is none.
    pub(in crate::shard) fn pick<L>(
        &self,
        tried: &Tried,
        prepare: impl FnOnce(&mut [View]) -> Request,
        lease: impl Fn(BackendId, u64) -> Option<L>,
    ) -> Option<Picked<'m, L>> {
        let now = self.now;
        let alone = self.has_one_choice();
        let (mut one, mut many);
        let views = match self.model.pool.len() {
            1 => {
                one = [View::default()];
                &mut one[..]
            }
            count => {
                many = [View::default(); POOL_MAX];
                &mut many[..count.min(POOL_MAX)]
            }
        };
        for (index, (view, member)) in views.iter_mut().zip(&self.model.pool).enumerate() {
            let eligible = !tried.contains(index)
                && self.is_available(member, alone)
                && !self.plan.holds_back(member.backend);
            *view = self.plan.view(member, eligible, now);
        }
        let mut request = prepare(views);
        // A slot may be taken by another shard after the look: then the next best member is tried.
        for _ in 0..views.len() {
            let index = choice::pick(self.model.policy, views, &request)?;
            let member = &self.model.pool[index];
            let state = self.plan.failure_state_of(member.deployment, self.wanted.name, alone);
            if let Some(probes) = state.admit(now) {
                let view = &views[index];
                if let Some(lease) = lease(member.backend, view.uncached(request.prompt_tokens) as u64) {
                    let expected = Expected::of(view, request.prompt_tokens);
                    return Some(Picked {
                        index,
                        member,
                        backend: member.backend,
                        lease,
                        expected,
                        matched_tokens: view.matched_tokens,
                        probes,
                        alone,
                    });
                }
                // Else the breaker would wait for the outcome of a probe that is never sent.
                state.abandon(probes);
            }
            views[index].eligible = false;
            request.turn = request.turn.wrapping_add(1);
        }
        None
    }

    /// Whether there is a backend that could be called, but all of those are at their limit: of requests in flight, or of prompts
    /// to prefill.
    pub(in crate::shard) fn is_full(&self) -> bool {
        let alone = self.has_one_choice();
        let mut available =
            self.model.pool.iter().filter(|member| self.is_available(member, alone)).peekable();
        available.peek().is_some() && available.all(|member| self.plan.is_full(member.backend))
    }

    /// Whether only one member of the pool can serve the request at all, and no other model comes after this one.
    fn has_one_choice(&self) -> bool {
        self.plan.has_one_choice(self.model, &self.wanted.demand())
    }

    /// Whether a backend serves the request and is healthy.
    fn is_available(&self, member: &Member, alone: bool) -> bool {
        self.plan.unavailable(member, &self.wanted.demand(), alone, self.now).is_none()
    }

    /// Why no backend could be called, and when to come back. 429 only if all of them asked for a pause.
    pub(in crate::shard) fn nobody(&self) -> Fault {
        let (plan, wanted, now) = (self.plan, self.wanted, self.now);
        let alone = self.has_one_choice();
        let serves = |member: &Member| plan.backend(member.backend).provider.call(wanted.api).is_some();
        if !self.model.pool.iter().any(serves) {
            return Fault::new(
                FaultKind::PathUnknown,
                format!("no backend of this model serves {}", wanted.api.name()),
            );
        }
        let members = || self.model.pool.iter().filter(|member| plan.fits(member, &wanted.demand()));
        let blocked = || {
            members().map(|member| plan.failure_state_of(member.deployment, wanted.name, alone).blocked(now))
        };
        // A breaker's times are rounded up to milliseconds: 20 seconds must not become 21 in `retry-after`.
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
}

/// The shortest wait in a refusal.
const WAIT_MIN: Nanos = Nanos(100_000_000);
/// Members of one pool that are considered.
const POOL_MAX: usize = 64;
