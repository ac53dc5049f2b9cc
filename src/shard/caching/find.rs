//! A kept response, one on its way, or none: asked between the decided request and its dispatch.

use std::future::poll_fn;
use std::rc::Rc;

use super::flight::{Flight, Following, Opened, Opening};
use super::lead::{Caching, Part};
use crate::error::{Fault, FaultKind};
use crate::observe::counters::Counter;
use crate::policy::cache::control::Control;
use crate::policy::cache::key::{self, Parts};
use crate::policy::cache::store::Entry;
use crate::policy::cache::{Key, Rules, Scope};
use crate::shard::client::Client;
use crate::shard::exchange::Exchange;
use crate::shard::request::Request;
use crate::units::Nanos;

/// A response that no backend is called for.
pub(in crate::shard) enum Kept {
    /// All of it is there.
    Whole(Rc<Entry>),
    /// A stream that is on its way to another client.
    Stream(Following, Opened),
}

/// The response that the cache has for a request. `None`: a backend is called, and the exchange records what it says.
///
/// # Errors
/// The client left, or waited for too long; or it wants a kept response, and there is none.
pub(in crate::shard) async fn kept(
    client: &mut Client,
    exchange: &mut Exchange,
    request: &Request<'_>,
) -> Result<Option<Kept>, Fault> {
    let shard = client.shard.clone();
    let Some(rules) = &shard.plan.cache else { return Ok(None) };
    let control = Control::read(request.head.fields.of(client.inbox()));
    let Some(key) = key_of(client, exchange, request, rules).filter(|_| control.stores) else {
        shard.numbers.inc(Counter::CacheBypassed);
        return Ok(None);
    };
    for _ in 0..FOLLOWS_MAX {
        if let Some((entry, age)) = look_up(exchange, rules, &key, control) {
            note(exchange, Part::Hit, Some(age), &entry);
            return Ok(Some(Kept::Whole(entry)));
        }
        let joined = match control.age_max.is_some() && rules.single_flight {
            true => shard.caches.flights.borrow().get(&key).and_then(Following::join),
            false => None,
        };
        let Some(following) = joined else { break };
        match opening(client, exchange, &following).await? {
            Opening::Whole(entry) => {
                note(exchange, Part::Shared, None, &entry);
                return Ok(Some(Kept::Whole(entry)));
            }
            Opening::Stream(opened) => {
                shard.numbers.inc(Counter::CacheShared);
                exchange.caching = Some(Caching::served(Part::Shared, None));
                return Ok(Some(Kept::Stream(following, opened)));
            }
            Opening::Failed => {} // the next of those who waited calls a backend, and the others wait for that one
        }
    }
    if control.only_if_cached {
        return Err(Fault::new(
            FaultKind::NotCached,
            "cache-control: only-if-cached, and no response is kept",
        ));
    }
    shard.numbers.inc(Counter::CacheMisses);
    let flight = Flight::new(rules.entry_bytes);
    shard.caches.flights.borrow_mut().entry(key).or_insert_with(|| Rc::clone(&flight));
    exchange.caching = Some(Caching::miss(&shard, key, flight));
    Ok(None)
}

fn look_up(exchange: &Exchange, rules: &Rules, key: &Key, control: Control) -> Option<(Rc<Entry>, Nanos)> {
    let age_max = control.age_max?.min(rules.ttl);
    let shard = &exchange.shard;
    shard.caches.store.borrow_mut().get(key, shard.deadlines.now(), age_max)
}

/// A whole response is served without a backend.
fn note(exchange: &mut Exchange, part: Part, age: Option<Nanos>, entry: &Entry) {
    let numbers = &exchange.shard.numbers;
    numbers.inc(if part == Part::Hit { Counter::CacheHits } else { Counter::CacheShared });
    numbers.add(Counter::CacheTokensSaved, entry.tokens);
    exchange.caching = Some(Caching::served(part, age.map(|age| age.0 / 1_000_000_000)));
}

fn key_of(client: &Client, exchange: &Exchange, request: &Request<'_>, rules: &Rules) -> Option<Key> {
    let (plan, inbox) = (&exchange.shard.plan, client.inbox());
    // A response whose id leads back to its backend belongs to the key that it was made for; one in which labels are put back, to
    // the request whose texts they stand for.
    let is_own = request.bound.is_some() || exchange.renames_ids || exchange.labels.is_some();
    if !rules.models[request.model.index()] || is_own || asks_others(exchange) {
        return None;
    }
    let model = plan.model(request.model);
    let own = || exchange.key.map(|key| format!("key {}", plan.key(key).name));
    let scope = match rules.scope {
        Scope::Key => own(),
        Scope::Team => {
            let team = exchange.key.and_then(|key| plan.key(key).team);
            team.map(|team| format!("team {}", plan.teams.row(team).name)).or_else(own)
        }
        Scope::All => None,
    };
    let scope = scope.unwrap_or_default();
    // Of the rules here and of those in other processes: a response that a guard was not asked about is none for a caller whose
    // requests it is asked about.
    let guards = model.guards.as_deref();
    let ids = guards
        .iter()
        .flat_map(|guards| guards.ids.iter().copied().chain(guards.externals.iter().map(|one| one.id)));
    // The path may name the model, of which one row may stand for many.
    let asked = exchange.naming.as_ref().map(|naming| &*naming.asked);
    let parts = Parts {
        generation: plan.generation,
        scope: scope.as_bytes(),
        api: request.api,
        model: asked.unwrap_or(&model.name),
        streams: request.peek.stream,
        rules: &mut ids.map(|id| plan.guards.row(id).applies(exchange.key)),
        path: request.head.path.of(inbox),
        query: request.head.query.of(inbox),
        lines: request.head.fields.of(inbox),
    };
    key::of(parts, request.body.of(inbox), rules.deterministic_only)
}

/// Whether the model that was asked for, and for which another stands in, has guards that the other's requests are not asked about.
fn asks_others(exchange: &Exchange) -> bool {
    let plan = &exchange.shard.plan;
    let (Some(asked), Some(called)) = (exchange.fallback_for, exchange.model) else { return false };
    let Some(asked) = &plan.model(asked).guards else { return false };
    let called = &plan.model(called).guards;
    !asked.externals.is_empty() && !called.as_ref().is_some_and(|called| called.asks_all_of(asked))
}

/// Waits until it is known what the response of another request is.
///
/// # Errors
/// The client left, its key was revoked, or the exchange is over its time.
async fn opening(
    client: &mut Client,
    exchange: &mut Exchange,
    following: &Following,
) -> Result<Opening, Fault> {
    let model = exchange.model.map(|model| exchange.shard.plan.model(model));
    if let Some(model) = model {
        exchange.total = exchange.started.plus(model.timeouts.total);
    }
    client.deadline.set_at(exchange.total);
    let opening = client.wait(poll_fn(|context| following.poll_opening(context))).await;
    opening.map_err(|interrupt| {
        interrupt.fault(|| Fault::new(FaultKind::TotalTimeout, "the exchange took too long"))
    })
}

/// Requests that one request waits for, one after the other, if they fail.
const FOLLOWS_MAX: usize = 2;
