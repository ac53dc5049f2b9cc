//! From a decided request to the opening of its response: who is asked, in which order, and after which wait. The only
//! place that tries again, and only before a byte of a response has gone to the client.

use super::attempt::Attempt;
use super::choose::{self, Picked, RETRY_SOON, Wanted};
use super::connection::Client;
use super::exchange::Body;
use super::phases;
use super::prompt::Prompt;
use super::queue::Place;
use super::response::Response;
use super::settle::{Lease, Settle};
use super::watch::{self, Interrupt};
use crate::clock;
use crate::dialect::Api;
use crate::dialect::request::Peek;
use crate::error::{Fault, FaultKind};
use crate::observe::counters::Counter;
use crate::plan::Model;
use crate::policy::routing::balance::View;
use crate::policy::routing::retry::{self, Sent};
use crate::policy::routing::retry_state::{Failure, Nobody, Reason, RetryState, Rules, Tried};
use crate::units::{BackendId, ModelId, Nanos};
use crate::wire::head::RequestHead;

/// A request that has been decided: what to send, to whichever backend of whichever model.
pub(super) struct Outgoing<'a> {
    pub(super) head: &'a RequestHead,
    pub(super) body: &'a Body,
    pub(super) api: Api,
    pub(super) peek: &'a Peek,
    /// The response that is referred to, as its backend knows it: text for the path, or a JSON string for the body; empty
    /// for none.
    pub(super) id: &'a [u8],
    /// The backend that made the response which the request refers to: no other one knows it.
    pub(super) bound: Option<BackendId>,
}

/// Sends the request to a backend of `model`; to another if the first cannot take it, and to the model's fallbacks if
/// none can. The response is put into `place`, where it stays: it is too large to be handed from function to function.
///
/// Errors: the fault of the last attempt, or `NoBackend` if there was nobody to ask.
pub(super) async fn run<'p>(
    client: &mut Client,
    settle: &mut Settle,
    outgoing: &Outgoing<'_>,
    model: ModelId,
    place: &'p mut Option<Response>,
) -> Result<&'p mut Response, Fault> {
    let shard = client.shard.clone();
    shard.retries.borrow_mut().earn();
    let asked = shard.plan.model(model);
    let key = settle.record.key;
    let may_stand_in = |id: &&ModelId| outgoing.bound.is_none() && phases::may_use(&shard, key, **id);
    let mut fallbacks = asked.fallbacks.iter().filter(may_stand_in).peekable();
    let total = settle.started.plus(asked.timeouts.total);
    let prompt = Prompt::new(&shard);
    let mut chain = Chain { client, settle, outgoing, prompt, total, refused: None };
    let mut model = asked;
    loop {
        match chain.ask(model, fallbacks.peek().is_some(), place).await {
            Ok(()) => break,
            Err(kind) if !retry::falls_back(kind) => break,
            Err(_) => {}
        }
        let Some(next) = fallbacks.next() else { break };
        shard.numbers.inc(Counter::Fallbacks);
        model = shard.plan.model(*next);
        chain.settle.record.fallback_for = Some(asked.id);
        chain.settle.record.model = Some(model.id);
    }
    let fault = match place {
        Some(_) => None,
        None => chain.refused.and_then(|refused| refused.told(place)),
    };
    match (fault, place) {
        (None, Some(response)) => Ok(response),
        (Some(fault), _) if outgoing.bound.is_some() && is_away(fault.kind) => {
            Err(choose::bound_is_away().retry_after(fault.retry_after.unwrap_or(RETRY_SOON)))
        }
        (fault, _) => Err(fault.unwrap_or_else(|| Fault::new(FaultKind::Internal, "the response was lost"))),
    }
}

/// Whether the backend was not even reached.
fn is_away(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::ConnectFailed | FaultKind::ConnectTimeout | FaultKind::TlsFailed)
}

/// One request on its way through the backends of its model, and through the fallbacks' after them.
struct Chain<'a> {
    client: &'a mut Client,
    settle: &'a mut Settle,
    outgoing: &'a Outgoing<'a>,
    prompt: Prompt,
    total: Nanos,
    /// What the client is told if nobody answers.
    refused: Option<Refused>,
}

impl Chain<'_> {
    /// Asks the backends of one model, in the way of a [`RetryState`], until one answers into `place`.
    /// `holds`: another model comes after this one, so a response is held until it is sure to be one.
    ///
    /// Errors: why the last of them did not answer.
    async fn ask(
        &mut self,
        model: &Model,
        holds: bool,
        place: &mut Option<Response>,
    ) -> Result<(), FaultKind> {
        let shard = self.client.shard.clone();
        if model.pool.len() > 1 && model.policy.uses_affinity() {
            self.prompt.hash(model, self.outgoing.peek, self.outgoing.body.of(self.client.inbox()));
        }
        let mut retry_state = RetryState::new(Rules {
            attempts_max: shard.plan.limits.attempts,
            retry_wait: model.timeouts.retry_wait,
        });
        loop {
            if let Err(kind) = retry_state.draw(&mut shard.retries.borrow_mut()) {
                shard.numbers.inc(Counter::RetriesOverBudget);
                return Err(kind);
            }
            // With another model to ask nobody waits for a slot.
            let picked = match self.pick(model, retry_state.tried(), holds, retry_state.may_queue() && !holds)
            {
                Ok(picked) => picked,
                Err(Full) => self.queue(model).await?,
            };
            let Some(picked) = picked else {
                let next = retry_state.nobody(&mut shard.retries.borrow_mut(), shard.random());
                match next {
                    Nobody::Unasked => return Err(self.nobody(model, holds)),
                    Nobody::Wait(wait) => self.wait(wait).await?,
                    Nobody::Over(kind) => return Err(kind),
                }
                continue;
            };
            match retry_state.begin(picked.probes) {
                Reason::First | Reason::Stale => {}
                Reason::Failover => shard.numbers.inc(Counter::RetriesFailover),
                Reason::Waited => shard.numbers.inc(Counter::RetriesWaited),
            }
            let index = picked.index;
            let state = shard.plan.failure_state_of(picked.member.deployment, self.name(), picked.alone);
            let Err((refused, sent)) =
                self.attempt(model, picked, retry_state.is_fresh(), holds, place).await
            else {
                state.success(shard.deadlines.now());
                return Ok(());
            };
            let failure = Failure { kind: refused.fault.kind, asked: refused.asked, sent };
            let again = retry_state.failed(index, failure, &state, clock::now(), shard.random());
            self.refused = Some(if again { refused.or_sooner(self.refused.take()) } else { refused });
            if !again {
                return Err(failure.kind);
            }
            if retry_state.is_fresh() {
                shard.numbers.inc(Counter::RetriesStale);
            }
        }
    }

    /// One attempt, whose response is put into `place`.
    ///
    /// Errors: how it failed, and how far it got.
    async fn attempt(
        &mut self,
        model: &Model,
        picked: Picked<'_, Lease>,
        fresh: bool,
        holds: bool,
        place: &mut Option<Response>,
    ) -> Result<(), (Refused, Sent)> {
        self.settle.record.attempts += 1;
        self.settle.record.backend = Some(picked.backend);
        let placed = self.prompt.placed(model, picked.member, picked.matched_tokens);
        let unix_ms = self.client.shard.unix_ms.get();
        let mut attempt = Attempt {
            client: self.client,
            settle: self.settle,
            outgoing: self.outgoing,
            model,
            total: self.total,
            fresh,
            holds,
            sent: Sent::default(),
            early: None,
            limit: None,
        };
        let opened = attempt.run(picked, place).await;
        let sent = attempt.sent;
        let (fault, asked) = match opened {
            Ok(response) => match response.refusal(response.api(self.outgoing.api), holds) {
                None => return Ok(()),
                Some(fault) => {
                    // While it is kept to be told, the same backend may be asked again.
                    response.lease.give_back();
                    (fault, response.asked_pause(unix_ms))
                }
            },
            Err(fault) => {
                *place = None;
                (fault, None)
            }
        };
        self.prompt.failed(model, placed, fault.kind == FaultKind::ConnectFailed);
        let fault = match asked {
            Some(pause) => fault.retry_after(pause),
            None => fault,
        };
        Err((Refused { response: place.take().filter(Response::speaks_for_itself), fault, asked }, sent))
    }

    /// The backend to ask next. `waits`: in the queue, if all of them are full; nobody passes those who wait there.
    ///
    /// Errors: the request has to queue.
    fn pick<'m>(
        &self,
        model: &'m Model,
        tried: &Tried,
        holds: bool,
        waits: bool,
    ) -> Result<Option<Picked<'m, Lease>>, Full> {
        let shard = &self.client.shard;
        if waits && shard.queues.is_waiting((shard.plan.generation, model.id)) {
            return Err(Full);
        }
        match self.choose(model, tried, holds) {
            None if waits && self.is_full(model) => Err(Full),
            picked => Ok(picked),
        }
    }

    fn choose<'m>(&self, model: &'m Model, tried: &Tried, holds: bool) -> Option<Picked<'m, Lease>> {
        let (shard, wanted) = (&self.client.shard, self.wanted(!holds));
        let prepare = |views: &mut [View]| self.prompt.request(model, views, wanted.prompt_tokens);
        let lease = |backend, pending| Lease::take(shard, backend, pending, wanted.kv_tokens);
        choose::pick(&shard.plan, &wanted, model, tried, shard.deadlines.now(), prepare, lease)
    }

    /// `last`: no other model comes after this one.
    fn wanted(&self, last: bool) -> Wanted {
        let prompt_tokens = self.settle.prompt_tokens;
        let output = self.outgoing.peek.output_cap.unwrap_or(self.client.shard.plan.output_tokens_default);
        let (api, bound) = (self.outgoing.api, self.outgoing.bound);
        let name = self.name();
        Wanted { api, last, prompt_tokens, kv_tokens: prompt_tokens + output, bound, name }
    }

    /// What failures of a model that is one of a pattern count by.
    fn name(&self) -> u64 {
        self.settle.naming.as_ref().map_or(0, |naming| naming.hash)
    }

    /// Asked only of the last model: with another one after it nobody waits.
    fn is_full(&self, model: &Model) -> bool {
        let shard = &self.client.shard;
        choose::is_full(&shard.plan, &self.wanted(true), model, shard.deadlines.now())
    }

    /// No backend of this model was asked: the client is told so, unless it is told what another model's said.
    fn nobody(&mut self, model: &Model, holds: bool) -> FaultKind {
        let fault = choose::nobody(&self.client.shard.plan, model, &self.wanted(!holds), clock::now());
        let kind = fault.kind;
        self.refused.get_or_insert(Refused { fault, asked: None, response: None });
        kind
    }

    /// Waits for a slot of a model whose backends all have as much in flight as they may. `None`: none of them can be
    /// asked any more.
    ///
    /// Errors: too many wait already, none came free in time, the client left, there is no time left.
    async fn queue<'m>(&mut self, model: &'m Model) -> Result<Option<Picked<'m, Lease>>, FaultKind> {
        let shard = self.client.shard.clone();
        let Some(place) = Place::take(&shard, model.id, self.settle.record.key) else {
            shard.numbers.inc(Counter::QueueFull);
            return Err(self.give_up(choose::busy().retry_after(RETRY_SOON)));
        };
        let entered = clock::now();
        let until = self.client.deadline.now().plus(model.timeouts.queue_timeout).min(self.total);
        let picked = loop {
            self.client.deadline.set_at(until);
            if let Err(interrupt) = watch::with_client(self.client, place.turn()).await {
                break Err(interrupt.fault(|| match until < self.total {
                    true => Fault::new(
                        FaultKind::QueueTimeout,
                        "every backend of this model was at its limit for too long",
                    )
                    .retry_after(RETRY_SOON),
                    false => Fault::new(FaultKind::TotalTimeout, "the exchange took too long"),
                }));
            }
            match self.choose(model, &Tried::default(), false) {
                None if self.is_full(model) => {}
                picked => break Ok(picked),
            }
        };
        self.settle.waited = self.settle.waited.plus(clock::now().since(entered));
        picked.map_err(|fault| self.give_up(fault))
    }

    /// Waits before the same backends are asked once more.
    ///
    /// Errors: the client left, or there is no time left.
    async fn wait(&mut self, wait: Nanos) -> Result<(), FaultKind> {
        let until = self.client.deadline.now().plus(wait);
        self.client.deadline.set_at(until.min(self.total));
        let fault = match watch::with_client(self.client, std::future::pending::<()>()).await {
            Ok(()) | Err(Interrupt::Due) if until < self.total => {
                self.settle.waited = self.settle.waited.plus(wait);
                return Ok(());
            }
            Ok(()) => Fault::new(FaultKind::Internal, "a wait without an end has ended"),
            Err(interrupt) => {
                interrupt.fault(|| Fault::new(FaultKind::TotalTimeout, "the exchange took too long"))
            }
        };
        Err(self.give_up(fault))
    }

    /// Nobody else is asked: this is what the client is told.
    fn give_up(&mut self, fault: Fault) -> FaultKind {
        let kind = fault.kind;
        self.refused = Some(Refused { fault, asked: None, response: None });
        kind
    }
}

/// Every backend that could be asked has as much in flight as it may, or others wait for one already.
struct Full;

/// How an attempt failed, and the backend's own words if they say more than ours.
struct Refused {
    fault: Fault,
    /// The pause that the backend asked for.
    asked: Option<Nanos>,
    response: Option<Response>,
}

impl Refused {
    /// What the client is told if nobody else can be asked: the fault, or nothing if `place` has the response.
    fn told(self, place: &mut Option<Response>) -> Option<Fault> {
        *place = self.response;
        place.is_none().then_some(self.fault)
    }

    /// Of two refusals, the one that lets the client come back sooner.
    fn or_sooner(self, last: Option<Self>) -> Self {
        match last {
            Some(last)
                if last.fault.retry_after.is_some() && last.fault.retry_after < self.fault.retry_after =>
            {
                last
            }
            _ => self,
        }
    }
}
