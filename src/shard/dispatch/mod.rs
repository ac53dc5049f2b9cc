//! From a decided request to the opening of its response: which backends are called, in which order, after which waits. The
//! only place that retries, and only before a byte of a response has gone to the client.

mod attempt;
pub(super) mod choose;
pub(super) mod dial;
mod encode;
mod patience;
mod prompt;
mod queue_place;
mod trace;

use std::rc::Rc;

use super::client::Client;
use super::convert;
use super::exchange::Exchange;
use super::interrupt::Interrupt;
use super::lease::Lease;
use super::request::Request;
use super::response::{Fallback, Response};
use super::resume::{Kept, Resume};
use super::rules;
use super::wording::{RETRY_SOON, bound_is_away, busy};
use crate::clock;
use crate::error::{Fault, FaultKind};
use crate::observe::counters::Counter;
use crate::plan::{Hedge, Model};
use crate::policy::routing::balance::View;
use crate::policy::routing::retry;
use crate::policy::routing::retry_state::{Failure, Nobody, Reason, RetryState, Rules, Tried};
use crate::units::{DeploymentId, ModelId, Nanos};
use attempt::hedge::Hedger;
use attempt::{Attempt, Refused};
use choose::{Picked, Wanted};
use prompt::Prompt;
use queue_place::QueuePlace;

/// Sends the request to a backend of its model; to another one if the first cannot take it, and to the model's fallbacks if
/// none can.
///
/// # Errors
/// The fault of the last attempt, or `NoBackend` if no backend could be called.
pub(super) async fn run(
    client: &mut Client,
    exchange: &mut Exchange,
    request: &Request<'_>,
) -> Result<Response, Fault> {
    client.shard.retries.borrow_mut().earn();
    let asked = client.shard.plan.model(request.model);
    exchange.total = exchange.started.plus(asked.timeouts.total);
    let mut dispatch = Dispatch::new(client, exchange, request);
    let throttle = dispatch.exchange.throttle;
    if throttle > Nanos(0) && dispatch.wait(throttle).await.is_err() {
        return dispatch.refused();
    }
    dispatch.run().await
}

/// Sends a request for the rest of a response that was cut: to another deployment than the one that `cut` it if there is one, or to
/// fallbacks that can go on.
///
/// # Errors
/// As for [`run`].
pub(super) async fn resume(
    client: &mut Client,
    exchange: &mut Exchange,
    request: &Request<'_>,
    cut: DeploymentId,
) -> Result<Response, Fault> {
    let mut dispatch = Dispatch::new(client, exchange, request);
    dispatch.cut = Some(cut);
    dispatch.run().await
}

/// Whether the backend could not even be reached.
fn is_away(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::ConnectFailed | FaultKind::ConnectTimeout | FaultKind::TlsFailed)
}

/// One request on its way through the backends of its model, and then of the model's fallbacks.
struct Dispatch<'a> {
    client: &'a mut Client,
    exchange: &'a mut Exchange,
    request: &'a Request<'a>,
    prompt: Prompt,
    /// Whether another model can be called after this one.
    fallback: Fallback,
    /// How the last attempt failed.
    refused: Option<Refused>,
    /// What is asked for is the rest of a response that this deployment cut.
    cut: Option<DeploymentId>,
}

impl<'a> Dispatch<'a> {
    fn new(client: &'a mut Client, exchange: &'a mut Exchange, request: &'a Request<'a>) -> Self {
        let prompt = Prompt::new(&client.shard, exchange.wants_trace);
        Self { client, exchange, request, prompt, fallback: Fallback::None, refused: None, cut: None }
    }

    /// Asks the model of the request, then its fallbacks.
    ///
    /// # Errors
    /// As for the function of this name.
    async fn run(mut self) -> Result<Response, Fault> {
        let shard = self.client.shard.clone();
        let asked = shard.plan.model(self.request.model);
        let mut model = asked;
        let mut fallbacks = asked.fallbacks.iter();
        loop {
            // By its rules: what they say of the request is found out for as many as are needed.
            let next = fallbacks.find(|id| self.may_stand_in(asked, **id));
            self.fallback = if next.is_none() { Fallback::None } else { Fallback::Available };
            match self.ask(model).await {
                Ok(response) => return self.opened(response),
                Err(kind) if !retry::falls_back(kind) => break,
                Err(_) => {}
            }
            let Some(next) = next else { break };
            shard.numbers.inc(Counter::Fallbacks);
            model = shard.plan.model(*next);
            self.exchange.fallback_for = Some(asked.id);
            self.exchange.model = Some(model.id);
        }
        self.refused()
    }

    /// Whether a fallback of the model that was asked for may serve this request.
    fn may_stand_in(&self, asked: &Model, id: ModelId) -> bool {
        let (shard, key) = (&self.client.shard, self.exchange.key);
        let payload = self.request.body.of(self.client.inbox());
        self.request.bound.is_none()
            && (self.cut.is_none() || shard.plan.model(id).resumes)
            && shard.may_use(key, id)
            && shard.plan.allows_fallback(key, asked, shard.plan.model(id), payload)
    }

    /// A response was opened: it is put into the form that the client asked for.
    ///
    /// # Errors
    /// It cannot be translated into the client's dialect, or a content rule does not allow it.
    fn opened(self, mut response: Response) -> Result<Response, Fault> {
        if self.cut.is_some() {
            return Ok(response); // the relay makes it a part of the response that was cut
        }
        response.resume = self.resume(&mut response);
        let status = response.head.status;
        convert::apply(self.exchange, &mut response, &self.request.peek);
        let done = convert::translate(&self.client.shard, &mut response)
            .and_then(|()| rules::on_response(&self.client.shard, &mut response));
        // The backend has done the work, whether the client gets it or not.
        done.inspect_err(|_| {
            self.exchange.charge_unsent(status, &response.buffer[response.head.len..]);
        })?;
        Ok(response)
    }

    /// What the response can go on by if its backend cuts it, where the model allows that.
    fn resume(&self, response: &mut Response) -> Option<Box<Resume>> {
        let (client, request) = (&self.client, self.request);
        let resumes = self.exchange.model.is_some_and(|model| client.shard.plan.model(model).resumes);
        if !resumes || request.bound.is_some() || !response.can_go_on(request.api) {
            return None;
        }
        let bytes = match client.large_request() {
            Some(large) => Rc::clone(large),
            None => Rc::new(client.inbox()[..request.body.span.end].to_vec()),
        };
        let (peek, payload) = (request.peek, request.body.span);
        let kept = Kept { head: *request.head, peek, payload, bytes };
        let mut resume = Box::new(Resume::new(kept, response.translation.is_some()));
        response.has_failed = resume.events(&mut response.buffer, response.head.len, response.decoded.ended);
        response.decoded.ended &= !response.has_failed;
        Some(resume)
    }

    /// No backend took the request: the last one's own response, if that tells the client more than a fault of ours.
    fn refused(mut self) -> Result<Response, Fault> {
        let bound = self.request.bound.is_some();
        let refused = self.refused.take();
        let Some(Refused { fault, response, .. }) = refused else {
            return Err(Fault::new(FaultKind::Internal, "no backend was called"));
        };
        match response {
            Some(response) => self.opened(*response),
            None if bound && is_away(fault.kind) => {
                Err(bound_is_away().retry_after(fault.retry_after.unwrap_or(RETRY_SOON)))
            }
            None => Err(fault),
        }
    }

    /// Calls the backends of one model, in the order that [`RetryState`] decides, until one responds.
    ///
    /// # Errors
    /// Why the last of them did not.
    async fn ask(&mut self, model: &Model) -> Result<Response, FaultKind> {
        let shard = self.client.shard.clone();
        if model.pool.len() > 1 && model.policy.uses_affinity() {
            let inbox = self.client.inbox();
            let lines = self.request.head.fields.of(inbox);
            self.prompt.hash(model, &self.request.peek, self.request.body.of(inbox), lines);
        }
        let mut retry_state = RetryState::new(Rules {
            attempts_max: shard.plan.limits.attempts,
            retry_wait: model.timeouts.retry_wait,
            resumes: model.resumes,
        });
        match self.cut.and_then(|cut| model.pool.iter().position(|member| member.deployment == cut)) {
            Some(_) if model.pool.len() == 1 && self.fallback == Fallback::Available => {
                return Err(self.give_up(Fault::new(FaultKind::NoBackend, "its only backend cut the stream")));
            }
            Some(index) if model.pool.len() > 1 => retry_state.pass_over(index),
            _ => {}
        }
        loop {
            if let Err(kind) = retry_state.draw(&mut shard.retries.borrow_mut()) {
                shard.numbers.inc(Counter::RetriesOverBudget);
                return Err(kind);
            }
            // With another model to call, no request waits for a slot.
            let picked = match retry_state.may_queue() && self.fallback == Fallback::None {
                true => self.pick_or_queue(model, retry_state.tried()).await?,
                false => self.choose(model, retry_state.tried()),
            };
            let Some(picked) = picked else {
                let next = retry_state.nobody(&mut shard.retries.borrow_mut(), shard.random());
                match next {
                    Nobody::Unasked => return Err(self.nobody(model)),
                    Nobody::Wait(wait) => self.wait(wait).await?,
                    Nobody::Over(kind) => return Err(kind),
                }
                continue;
            };
            let (deployment, alone) = (picked.member.deployment, picked.alone);
            match retry_state.begin(picked.index, picked.probes) {
                Reason::First | Reason::Stale => {}
                Reason::Failover => shard.numbers.inc(Counter::RetriesFailover),
                Reason::Waited => shard.numbers.inc(Counter::RetriesWaited),
            }
            let placed = self.prompt.placed(model, picked.member, picked.matched_tokens);
            self.exchange.expected_match = placed.expected;
            self.exchange.trace = self.prompt.trace(picked.member);
            let (rule, wanted, mut tried) = (self.hedger_rule(model), self.wanted(), *retry_state.tried());
            tried.add(picked.index);
            let prompt = &self.prompt;
            let hedger = rule.map(|rule| Hedger { prompt, model, wanted, tried, rule });
            let mut attempt = Attempt::new(self.client, self.exchange, self.request, model);
            attempt.hedger = hedger;
            attempt.fallback = self.fallback;
            attempt.is_fresh = retry_state.is_fresh();
            let outcome = attempt.run(picked).await;
            let (sent, overtaken) = (attempt.sent, attempt.overtaken.take());
            // Looked up now: the place of a name in a table with a bound may be another's by the time of the response.
            let name = self.exchange.model_hash();
            let state = shard.plan.failure_state_of(deployment, name, alone);
            let (state, placed) = match overtaken {
                None => (state, placed),
                Some(second) => {
                    state.abandon(retry_state.overtaken(second.index, second.probes));
                    self.prompt.failed(model, placed, false);
                    (shard.plan.failure_state_of(second.deployment, name, second.alone), second.placed)
                }
            };
            let refused = match outcome {
                Ok(response) => {
                    state.success(shard.deadlines.now());
                    return Ok(response);
                }
                Err(refused) => refused,
            };
            self.prompt.failed(model, placed, refused.fault.kind == FaultKind::ConnectFailed);
            let failure = Failure { kind: refused.fault.kind, asked: refused.asked, sent };
            let again = retry_state.failed(failure, &state, clock::now(), shard.random());
            self.refused = Some(if again { refused.or_sooner(self.refused.take()) } else { refused });
            if !again {
                return Err(failure.kind);
            }
            if retry_state.is_fresh() {
                shard.numbers.inc(Counter::RetriesStale);
            }
        }
    }

    /// When a second backend is asked, if at all: only for a stream is the time to the first byte the time to wait for.
    fn hedger_rule(&self, model: &Model) -> Option<Hedge> {
        let streams = self.request.peek.stream && self.request.api.streams();
        model.hedge.filter(|_| streams && self.request.bound.is_none())
    }

    /// The backend to call next; if all of them are full, in the order of the queue.
    ///
    /// # Errors
    /// As for [`queue`](Self::queue).
    async fn pick_or_queue<'m>(
        &mut self,
        model: &'m Model,
        tried: &Tried,
    ) -> Result<Option<Picked<'m, Lease>>, FaultKind> {
        let shard = &self.client.shard;
        if !shard.queues.is_waiting((shard.plan.generation, model.id)) {
            match self.choose(model, tried) {
                None if self.is_full(model) => {}
                picked => return Ok(picked),
            }
        }
        self.queue(model).await
    }

    fn choose<'m>(&self, model: &'m Model, tried: &Tried) -> Option<Picked<'m, Lease>> {
        let (shard, wanted) = (&self.client.shard, self.wanted());
        let prepare = |views: &mut [View]| self.prompt.request(model, views, wanted.prompt_tokens);
        let lease = |backend, pending| Lease::take(shard, backend, pending, wanted.kv_tokens);
        let pool = choose::Pool { plan: &shard.plan, model, wanted: &wanted, now: shard.deadlines.now() };
        pool.pick(tried, prepare, lease)
    }

    fn wanted(&self) -> Wanted {
        let prompt_tokens = self.exchange.prompt_tokens;
        let output = self.request.peek.output_bound().unwrap_or(self.client.shard.plan.output_tokens_default);
        Wanted {
            api: self.request.api,
            is_last_model: self.fallback == Fallback::None,
            prompt_tokens,
            kv_tokens: prompt_tokens + output,
            bound: self.request.bound,
            name: self.exchange.model_hash(),
        }
    }

    fn is_full(&self, model: &Model) -> bool {
        let shard = &self.client.shard;
        let (wanted, now) = (self.wanted(), shard.deadlines.now());
        choose::Pool { plan: &shard.plan, model, wanted: &wanted, now }.is_full()
    }

    /// No backend of this model was called: the client is told so, unless another model's backend has refused.
    fn nobody(&mut self, model: &Model) -> FaultKind {
        let (shard, wanted) = (&self.client.shard, self.wanted());
        let pool = choose::Pool { plan: &shard.plan, model, wanted: &wanted, now: clock::now() };
        let fault = pool.nobody();
        let kind = fault.kind;
        self.refused.get_or_insert_with(|| Refused::of(fault));
        kind
    }

    /// Waits for a slot of a model whose backends are all at their in-flight limit. `None`: none of them can be called any
    /// more.
    ///
    /// # Errors
    /// The queue is full, no slot came free in time, the client left, or the exchange is over its time.
    async fn queue<'m>(&mut self, model: &'m Model) -> Result<Option<Picked<'m, Lease>>, FaultKind> {
        let shard = self.client.shard.clone();
        let Some(place) = QueuePlace::take(&shard, model.id, self.exchange.key) else {
            shard.numbers.inc(Counter::QueueFull);
            return Err(self.give_up(busy().retry_after(RETRY_SOON)));
        };
        let entered = clock::now();
        let until = self.client.deadline.now().plus(model.timeouts.queue_timeout).min(self.exchange.total);
        let picked = loop {
            self.client.deadline.set_at(until);
            if let Err(interrupt) = self.client.wait(place.turn()).await {
                break Err(interrupt.fault(|| match until < self.exchange.total {
                    true => Fault::new(
                        FaultKind::QueueTimeout,
                        "every backend of this model was at its limit for too long",
                    )
                    .retry_after(RETRY_SOON),
                    false => Fault::new(FaultKind::TotalTimeout, "the exchange took too long"),
                }));
            }
            match self.choose(model, &Tried::default()) {
                None if self.is_full(model) => {}
                picked => break Ok(picked),
            }
        };
        self.exchange.waited = self.exchange.waited.plus(clock::now().since(entered));
        picked.map_err(|fault| self.give_up(fault))
    }

    /// Waits before the same backends are called once more.
    ///
    /// # Errors
    /// The client left, or the exchange is over its time.
    async fn wait(&mut self, wait: Nanos) -> Result<(), FaultKind> {
        let until = self.client.deadline.now().plus(wait);
        self.client.deadline.set_at(until.min(self.exchange.total));
        let fault = match self.client.wait(std::future::pending::<()>()).await {
            Ok(()) | Err(Interrupt::DeadlineExceeded) if until < self.exchange.total => {
                self.exchange.waited = self.exchange.waited.plus(wait);
                return Ok(());
            }
            Ok(()) => Fault::new(FaultKind::Internal, "a wait without an end has ended"),
            Err(interrupt) => {
                interrupt.fault(|| Fault::new(FaultKind::TotalTimeout, "the exchange took too long"))
            }
        };
        Err(self.give_up(fault))
    }

    /// No other backend is called: this is what the client is told.
    fn give_up(&mut self, fault: Fault) -> FaultKind {
        let kind = fault.kind;
        self.refused = Some(Refused::of(fault));
        kind
    }
}
