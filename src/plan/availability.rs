//! Which members of a pool can be called for a request, which model it is routed to, and which may stand in: what dispatch decides
//! and what an operator asks about beforehand.

use std::sync::Arc;

use super::cells::Health;
use super::guards::ModelGuards;
use super::{Member, Model, Plan};
use crate::dialect::request::Peek;
use crate::dialect::{Api, Dialect, estimate, prompt};
use crate::policy::guard::rules::Labels;
use crate::policy::guard::whole;
use crate::policy::routing::breaker::Cause;
use crate::policy::routing::conversation;
use crate::policy::routing::route::{Facts, first};
use crate::units::{BackendId, KeyId, ModelId, Nanos};

/// What a request asks of the backends of a model.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// The endpoint.
    pub api: Api,
    /// No other model can be called after this one.
    pub is_last_model: bool,
    /// The only backend that knows the response which the request refers to.
    pub bound: Option<BackendId>,
    /// What failures count by (`plan::pattern::hash`); 0 for a model that is not one of a pattern.
    pub name: u64,
}

/// Why a member of a pool cannot be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unavailable {
    /// It does not serve the endpoint, or is not the backend that the request is bound to.
    Unfit,
    /// Probing found it down, or an operator drains it.
    Down,
    /// Its failures say so, or it asked for a pause.
    Blocked(Cause),
}

/// A request as the rules of a model see it.
pub struct Sighting<'a> {
    /// The endpoint.
    pub api: Api,
    /// What was read of its body.
    pub peek: &'a Peek,
    /// Its body.
    pub body: &'a [u8],
    /// The lines of its head.
    pub lines: &'a [u8],
    /// What a line of its head calls its session.
    pub session: Option<&'a [u8]>,
    /// Whose it is.
    pub key: Option<KeyId>,
    /// Random.
    pub random: u64,
}

impl Plan {
    /// The model that a client names. Ollama's clients may add `:latest`, which is what a name without a tag means there.
    pub fn find_asked(&self, api: Api, asked: &str) -> Option<ModelId> {
        let untagged = || asked.strip_suffix(":latest").filter(|_| api.dialect() == Dialect::Ollama);
        self.find_model(asked).or_else(|| self.find_model(untagged()?))
    }

    /// Whether a key may use a model; without keys everybody may.
    pub fn may_use(&self, key: Option<KeyId>, model: ModelId) -> bool {
        key.is_none_or(|key| self.key(key).grant.models[model.index()])
    }

    /// Whether a backend serves the request at all, healthy or not.
    pub fn fits(&self, member: &Member, demand: &Demand) -> bool {
        self.backend(member.backend).provider.call(demand.api).is_some()
            && demand.bound.is_none_or(|bound| bound == member.backend)
    }

    /// Whether only one member of the pool can serve the request at all, and no other model comes after this one.
    pub fn has_one_choice(&self, model: &Model, demand: &Demand) -> bool {
        let fits = |member: &&Member| self.fits(member, demand);
        demand.is_last_model && (model.pool.len() == 1 || model.pool.iter().filter(fits).count() == 1)
    }

    /// Why a member cannot be called. `alone`: there is nobody else to call.
    pub fn unavailable(
        &self,
        member: &Member,
        demand: &Demand,
        alone: bool,
        now: Nanos,
    ) -> Option<Unavailable> {
        if !self.fits(member, demand) {
            return Some(Unavailable::Unfit);
        }
        if self.backends.cells(member.backend).health() == Health::Down {
            return Some(Unavailable::Down);
        }
        let state = self.failure_state_of(member.deployment, demand.name, alone);
        state.blocked(now).map(|(cause, _)| Unavailable::Blocked(cause))
    }

    /// Whether a backend is at its limit: of requests in flight, or of prompts to prefill.
    pub fn is_full(&self, id: BackendId) -> bool {
        self.backends.cells(id).in_flight.count() >= self.backend(id).in_flight_max || self.holds_back(id)
    }

    /// The model that a rule of `model` sends the request to. A rule whose model the key may not use is skipped.
    pub fn routed(&self, model: &Model, seen: &Sighting<'_>) -> Option<ModelId> {
        let Sighting { api, peek, body, .. } = *seen;
        let facts = Facts {
            prompt_tokens: estimate::prompt(api, body, &self.estimate).tokens(),
            tools: peek.has_tools(body),
            images: || prompt::has_images(peek, body),
            lines: seen.lines,
            key: seen.key,
            draw: conversation::draw(peek, body, seen.session, seen.random),
        };
        let allowed = model.routes.iter().filter(|route| self.may_use(seen.key, route.to));
        first(allowed, &facts).map(|route| route.to)
    }

    /// Whether a model may stand in for the one that was asked for: its rules are the same, or would neither refuse the request
    /// nor change it. So a fallback is never a way around its own rules.
    pub fn allows_fallback(
        &self,
        key: Option<KeyId>,
        asked: &Model,
        fallback: &Model,
        payload: &[u8],
    ) -> bool {
        // Nobody has asked the guards in other processes that only the fallback has.
        let asks =
            |own: &Arc<ModelGuards>| fallback.guards.as_ref().is_none_or(|guards| own.asks_all_of(guards));
        let has_own = fallback.guards.as_ref().is_some_and(|guards| !guards.externals.is_empty());
        if has_own && !asked.guards.as_ref().is_some_and(asks) {
            return false;
        }
        let Some(guards) = fallback.reading_guards() else { return true };
        if asked.guards.as_ref().is_some_and(|own| Arc::ptr_eq(own, guards)) {
            return true;
        }
        let applies = |rule| guards.applies(self, rule, key);
        let checked = whole::request(&guards.guards, payload, &mut Labels::default(), &applies);
        checked.decides.is_none() && checked.edits.is_empty()
    }
}

impl Model {
    /// The rules of the model that read requests.
    pub fn reading_guards(&self) -> Option<&Arc<ModelGuards>> {
        self.guards.as_ref().filter(|guards| guards.guards.reads_requests())
    }
}
