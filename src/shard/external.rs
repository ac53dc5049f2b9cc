//! Content rules whose verdict another process gives: asked before a request goes to a backend, and before a response ends.
//!
//! The guard is one of the configured backends, called over the shard's own connections: so its address, credential, TLS, proxy,
//! kept connections and in-flight bound are those of any backend, and a slow guard holds up nothing but the requests that wait for
//! it. Nothing blocks the shard and no thread is woken. All guards of one text are asked at once; each rule has a breaker of its own
//! and a bound on its time. One refusal is enough, and ends the wait; without a verdict `on_failure` decides.

mod call;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::client::Client;
use super::exchange::Exchange;
use super::interrupt::Interrupt;
use super::lease::Lease;
use super::request::Request;
use super::state::Shard;
use super::wording::{refused, refused_because};
use crate::clock;
use crate::dialect::texts::Place;
use crate::error::{Fault, FaultKind};
use crate::plan::cells::Health;
use crate::plan::guards::{External, ModelGuards};
use crate::policy::guard::external::{self, About, Verdict};
use crate::policy::guard::verdicts;
use crate::policy::routing::failure_state::{FailureState, Probes, Report};
use crate::sync::Ordering;
use crate::units::{Nanos, Span};

/// A rule that is for this exchange.
#[derive(Clone)]
pub(super) struct Rule {
    guards: Arc<ModelGuards>,
    index: usize,
}

impl Rule {
    pub(super) fn external(&self) -> &External {
        &self.guards.externals[self.index]
    }
}

/// The rules for this exchange, those of the called model first: a model that stands in for the one that was asked for is no way around
/// the guards of that one. Nothing is allocated where there are none.
fn rules(exchange: &Exchange, reads: fn(&External) -> bool) -> Vec<Rule> {
    let plan = &exchange.shard.plan;
    let mut rules: Vec<Rule> = Vec::new();
    for model in [exchange.model, exchange.fallback_for].into_iter().flatten() {
        let Some(guards) = &plan.model(model).guards else { continue };
        for (index, one) in guards.externals.iter().enumerate() {
            let is_new = || !rules.iter().any(|rule| rule.external().id == one.id);
            if reads(one) && plan.guards.row(one.id).applies(exchange.key) && is_new() {
                rules.push(Rule { guards: Arc::clone(guards), index });
            }
        }
    }
    rules
}

/// The rules that read the response of the model that is called now.
pub(super) fn of_response(exchange: &Exchange) -> Vec<Rule> {
    rules(exchange, External::reads_responses)
}

/// Whether a guard is asked about the request.
pub(super) fn is_asked(exchange: &Exchange) -> bool {
    !rules(exchange, |_| true).is_empty()
}

/// Asks the guards about a request.
///
/// # Errors
/// One of them refuses the request, or gives no verdict and must; or the client left. Nothing has gone to a backend.
pub(super) async fn check(
    client: &mut Client,
    exchange: &mut Exchange,
    request: &Request<'_>,
) -> Result<(), Fault> {
    let body = request.body.of(client.inbox());
    let asking = Asking::start(exchange, rules(exchange, |_| true), &mut |one| {
        external::texts(body, &one.places).map(|texts| (body.into(), texts))
    });
    asking.wait(client, exchange).await
}

/// Asks the guards about a whole response. A stream is asked about at its end, by the relay.
///
/// # Errors
/// As for [`check`]; nothing of the response has gone to the client.
pub(super) async fn check_response(
    client: &mut Client,
    exchange: &mut Exchange,
    body: &[u8],
) -> Result<(), Fault> {
    let rules = of_response(exchange);
    let asking = Asking::start(exchange, rules, &mut |one| {
        external::response_texts(body, &one.places).map(|texts| (body.into(), texts))
    });
    let checked = asking.wait(client, exchange).await;
    if checked.is_err() {
        exchange.charge_unsent(200, body);
    }
    checked
}

/// A body and the texts in it, each the inside of a JSON string.
pub(super) type Texts<'a> = (std::borrow::Cow<'a, [u8]>, Vec<(Place, Span)>);

/// Guards that are asked about one text, all at once.
pub(super) struct Asking {
    shard: Rc<Shard>,
    asked: Vec<Asked>,
}

struct Asked {
    shard: Rc<Shard>,
    rule: Rule,
    /// What its verdict is kept by, if it is.
    key: Option<verdicts::Key>,
    /// Of the texts, for the ledger.
    hash: u128,
    /// The first of the places of its texts.
    place: Place,
    state: State,
}

enum State {
    Waits(Waiting),
    Said(Verdict),
    /// There is no verdict, for this reason.
    Failed(&'static str),
}

struct Waiting {
    response: Pin<Box<dyn Future<Output = Result<Vec<u8>, call::Failed>>>>,
    _lease: Lease,
    probes: Probes,
    due: Nanos,
}

impl Asking {
    /// Begins to ask. `texts`: what a guard reads; `None` if that is too long.
    pub(super) fn start<'a>(
        exchange: &Exchange,
        rules: Vec<Rule>,
        texts: &mut dyn FnMut(&External) -> Option<Texts<'a>>,
    ) -> Self {
        let shard = Rc::clone(&exchange.shard);
        let asked = rules.into_iter().filter_map(|rule| match texts(rule.external()) {
            None => Some(Asked::failed(&shard, rule, "there is more text than a guard is sent")),
            Some((_, texts)) if texts.is_empty() => None, // it has nothing to read
            Some((body, texts)) => Some(Asked::start(exchange, rule, &body, &texts)),
        });
        Self { asked: asked.collect(), shard }
    }

    /// When the next of them is out of time; `None` if nothing is waited for.
    pub(super) fn due(&self) -> Option<Nanos> {
        let refuses = |asked: &Asked| asked.refuses();
        let dues = self.asked.iter().filter_map(|asked| match &asked.state {
            State::Waits(waiting) => Some(waiting.due),
            _ => None,
        });
        dues.min().filter(|_| !self.asked.iter().any(refuses))
    }

    /// Ready whenever one has responded.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut polled = Poll::Pending;
        for asked in &mut self.asked {
            if let State::Waits(waiting) = &mut asked.state
                && let Poll::Ready(said) = waiting.response.as_mut().poll(context)
            {
                asked.said(said);
                polled = Poll::Ready(());
            }
        }
        polled
    }

    /// Those that were due by then have no verdict.
    pub(super) fn time_out(&mut self, now: Nanos) {
        for asked in &mut self.asked {
            if matches!(&asked.state, State::Waits(waiting) if waiting.due <= now) {
                asked.said(Err((FaultKind::FirstTokenTimeout, "it did not respond in time")));
            }
        }
    }

    /// Waits for as many verdicts as are needed.
    async fn wait(mut self, client: &mut Client, exchange: &mut Exchange) -> Result<(), Fault> {
        while let Some(due) = self.due() {
            client.deadline.set_at(due.min(exchange.total));
            match client.wait(poll_fn(|context| self.poll(context))).await {
                Ok(()) => {}
                Err(Interrupt::DeadlineExceeded) if due <= exchange.total => self.time_out(due),
                Err(interrupt) => {
                    return Err(
                        interrupt.fault(|| Fault::new(FaultKind::TotalTimeout, "the exchange took too long"))
                    );
                }
            }
        }
        self.decide(exchange)
    }

    /// Counts and notes the verdicts. The strictest decides: a refusal, then no verdict of one that must give one; of several of a
    /// kind that of the first rule in precedence.
    ///
    /// # Errors
    /// It refuses.
    pub(super) fn decide(&self, exchange: &mut Exchange) -> Result<(), Fault> {
        let (mut refusal, mut failure) = (None, None);
        for asked in &self.asked {
            let (one, plan) = (asked.rule.external(), &self.shard.plan);
            let (name, cells) = (&plan.guards.row(one.id).name, plan.guards.cells(one.id));
            match &asked.state {
                State::Waits(_) | State::Said(Verdict { refuses: false, .. }) => {}
                State::Said(verdict) => {
                    cells.matches.fetch_add(1, Ordering::Relaxed);
                    let action = match (one.is_shadow, one.enforces) {
                        (true, _) => "shadow",
                        (false, true) => "refuse",
                        (false, false) => "log",
                    };
                    if one.is_shadow {
                        cells.shadowed.fetch_add(1, Ordering::Relaxed);
                    }
                    exchange.marks().borrow_mut().add(name, asked.place, action, asked.hash);
                    if one.enforces && refusal.is_none() {
                        cells.refused.fetch_add(1, Ordering::Relaxed);
                        refusal = Some(match &verdict.reason {
                            None => refused(name),
                            Some(reason) => refused_because(name, reason),
                        });
                    }
                }
                State::Failed(reason) => {
                    cells.failed.fetch_add(1, Ordering::Relaxed);
                    if one.enforces && !one.fails_open && failure.is_none() {
                        let note = format!("the content rule '{name}' cannot be checked: {reason}");
                        failure = Some(Fault::new(FaultKind::GuardFailed, note));
                    }
                }
            }
        }
        refusal.or(failure).map_or(Ok(()), Err)
    }
}

impl Asked {
    fn failed(shard: &Rc<Shard>, rule: Rule, reason: &'static str) -> Self {
        let (shard, state) = (Rc::clone(shard), State::Failed(reason));
        Self { shard, rule, key: None, hash: 0, place: Place::Input, state }
    }

    /// Calls the guard, if no verdict is kept, and its breaker, its health and its in-flight bound allow that.
    fn start(exchange: &Exchange, rule: Rule, body: &[u8], texts: &[(Place, Span)]) -> Self {
        let (shard, one) = (Rc::clone(&exchange.shard), rule.external());
        let plan = &shard.plan;
        let request_id = String::from_utf8_lossy(exchange.request_id.as_bytes());
        let about = About {
            guard: &plan.guards.row(one.id).name,
            request_id: &request_id,
            model: exchange.model.map_or("", |model| &plan.model(model).name),
            key: exchange.key.map_or("", |key| &plan.key(key).name),
        };
        let said: Vec<&[u8]> = texts.iter().map(|(_, inside)| inside.of(body)).collect();
        let hash = rule.guards.guards.hash(&said.concat());
        let place = texts.first().map_or(Place::Input, |text| text.0);
        let key = (one.keep > Nanos(0)).then(|| {
            let about = one.form.names_caller().then_some(&about);
            verdicts::key((plan.generation, one.id.index()), about, body, texts)
        });
        let now = shard.deadlines.now();
        let kept = key.and_then(|key| shard.verdicts.borrow().get(&key, now));
        let state = match kept {
            Some(verdict) => State::Said(verdict),
            None => match admit(&shard, one) {
                Err(reason) => State::Failed(reason),
                Ok((lease, probes)) => {
                    plan.guards.cells(one.id).asked.fetch_add(1, Ordering::Relaxed);
                    let document = call::encode(exchange, one, &about, (body, texts));
                    let response = Box::pin(call::speak(Rc::clone(&shard), rule.clone(), document));
                    State::Waits(Waiting { response, _lease: lease, probes, due: now.plus(one.timeout) })
                }
            },
        };
        Self { shard: Rc::clone(&shard), key, hash, place, state, rule }
    }

    /// The guard has responded, or there is no response.
    fn said(&mut self, said: Result<Vec<u8>, call::Failed>) {
        let (one, now) = (self.rule.external(), clock::now());
        let State::Waits(Waiting { probes, .. }) = &self.state else { return };
        let (state, probes) = (failure_state(&self.shard, one), *probes);
        let malformed = |reason| (FaultKind::BackendMalformed, reason);
        match said.and_then(|body| one.form.verdict(&body).map_err(malformed)) {
            Ok(verdict) => {
                state.success(now);
                if let Some(key) = self.key {
                    let now = self.shard.deadlines.now();
                    self.shard.verdicts.borrow_mut().keep(key, verdict.clone(), now.plus(one.keep), now);
                }
                self.state = State::Said(verdict);
            }
            Err((kind, reason)) => {
                let connected = kind != FaultKind::ConnectFailed;
                state.report(Report { kind, asked: None, connected }, probes, now, self.shard.random());
                self.state = State::Failed(reason);
            }
        }
    }

    fn refuses(&self) -> bool {
        self.rule.external().enforces && matches!(&self.state, State::Said(verdict) if verdict.refuses)
    }
}

impl Drop for Asked {
    /// Whoever was not waited for has shown nothing.
    fn drop(&mut self) {
        if let State::Waits(Waiting { probes, .. }) = &self.state {
            failure_state(&self.shard, self.rule.external()).abandon(*probes);
        }
    }
}

fn failure_state<'a>(shard: &'a Shard, one: &External) -> FailureState<'a> {
    FailureState {
        backend: &shard.plan.backends.cells(one.backend).breaker,
        deployment: &shard.plan.guards.cells(one.id).breaker,
        limit_scope: shard.plan.backend(one.backend).limit_scope,
        alone: false,
    }
}

/// A slot of the guard, if it may be called now.
fn admit(shard: &Rc<Shard>, one: &External) -> Result<(Lease, Probes), &'static str> {
    if shard.plan.backends.cells(one.backend).health() == Health::Down {
        return Err("it is down");
    }
    let lease = Lease::take(shard, one.backend, 0, 0).ok_or("it has as many requests in flight as it may")?;
    let probes = failure_state(shard, one).admit(shard.deadlines.now());
    let probes = probes.ok_or("it failed several times, and is left alone for a while")?;
    Ok((lease, probes))
}
