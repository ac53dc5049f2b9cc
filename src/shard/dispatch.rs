//! From a decided request to the head of its answer: pick a backend, get a connection, send, wait. The only place
//! that tries again, and only before a byte of an answer has gone to the client.

use super::Shard;
use super::answer::Answer;
use super::attempt::Attempt;
use super::choose::{self, RETRY_SOON, Tried};
use super::connection::Client;
use super::exchange::Body;
use super::settle::Settle;
use crate::clock;
use crate::dialect::Api;
use crate::dialect::request::Peek;
use crate::error::{Fault, Kind};
use crate::observe::counters::Counter;
use crate::policy::breaker;
use crate::policy::retry::{self, Sent};
use crate::units::{BackendId, ModelId, Nanos};
use crate::wire::head::RequestHead;

/// A request that has been decided: what to send, to whichever backend of the model.
pub(super) struct Outgoing<'a> {
    pub(super) head: &'a RequestHead,
    pub(super) body: &'a Body,
    pub(super) api: Api,
    pub(super) model: ModelId,
    pub(super) peek: &'a Peek,
}

/// Sends the request to a backend of its model; to another if the first cannot take it. The answer is put into `place`,
/// where it stays: it is too large to be handed from function to function.
///
/// Errors: the fault of the last attempt, or `NoBackend` if there was nobody to ask.
pub(super) async fn run<'p>(
    client: &mut Client,
    settle: &mut Settle,
    outgoing: &Outgoing<'_>,
    place: &'p mut Option<Answer>,
) -> Result<&'p mut Answer, Fault> {
    let shard = client.shard.clone();
    let model = shard.plan.model(outgoing.model);
    let total = settle.started.plus(model.timeouts.total);
    shard.retries.borrow_mut().earn();
    let mut tried = Tried::default();
    let mut last: Option<Refused> = None;
    let mut fresh = false;
    let fault = loop {
        let Some(picked) = choose::pick(&shard, settle, outgoing, model, &tried) else {
            break last
                .map_or_else(|| Some(choose::nobody(&shard, model, outgoing.api)), |last| last.told(place));
        };
        let (index, backend) = (picked.index, picked.backend);
        settle.record.attempts += 1;
        settle.record.backend = Some(backend);
        let mut attempt =
            Attempt { client, settle, outgoing, model, total, fresh, sent: Sent::default(), early: None };
        let opened = attempt.run(picked, place).await;
        let sent = attempt.sent;
        let refusal = match opened {
            Ok(answer) => answer.refusal(outgoing.api),
            Err(fault) => {
                *place = None;
                Some(fault)
            }
        };
        let Some(fault) = refusal else {
            shard.plan.cells.backend(backend).breaker.success(shard.deadlines.now());
            break None;
        };
        let refused = Refused { answer: place.take().filter(Answer::speaks_for_itself), fault };
        let kind = refused.fault.kind;
        // The backend is well, the kept connection was not: no failure of its own, and no draw on the budget, since
        // the next attempt dials and so this happens once per exchange.
        let stale = kind == Kind::BackendClosed && sent.reused && !sent.answer_bytes;
        if stale {
            shard.plan.cells.backend(backend).breaker.abandon(clock::now());
        } else {
            report(&shard, backend, &refused.fault);
        }
        let attempts = u32::from(settle.record.attempts);
        let again = retry::again(kind, sent, attempts, shard.plan.limits.attempts);
        if !again {
            break refused.told(place);
        }
        if !stale && !shard.retries.borrow_mut().take() {
            shard.numbers.inc(Counter::RetriesOverBudget);
            break refused.told(place);
        }
        fresh = stale;
        if stale {
            shard.numbers.add(Counter::RetriesStale, 1);
        } else {
            shard.numbers.add(Counter::RetriesFailover, 1);
            tried.add(index);
        }
        last = Some(refused.or_sooner(last));
    };
    match (fault, place) {
        (None, Some(answer)) => Ok(answer),
        (fault, _) => Err(fault.unwrap_or_else(|| Fault::new(Kind::Internal, "the answer was lost"))),
    }
}

/// How an attempt failed, and the backend's own words if they say more than ours.
struct Refused {
    fault: Fault,
    answer: Option<Answer>,
}

impl Refused {
    /// What the client is told if nobody else can be asked: the fault, or nothing if `place` has the answer.
    fn told(self, place: &mut Option<Answer>) -> Option<Fault> {
        *place = self.answer;
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

/// Tells the breaker how a failed attempt ended.
pub(super) fn report(shard: &Shard, backend: BackendId, fault: &Fault) {
    let breaker = &shard.plan.cells.backend(backend).breaker;
    let now = clock::now();
    match fault.kind {
        Kind::BackendBusy => breaker.hold(now.plus(fault.retry_after.unwrap_or(RETRY_SOON).min(HOLD_MAX))),
        Kind::ClientGone | Kind::Draining | Kind::HeadMalformed => breaker.abandon(now),
        _ => {
            breaker.failure(now, &BREAKER, shard.random());
        }
    }
}

/// The longest a backend's own `Retry-After` keeps it out of the pool.
const HOLD_MAX: Nanos = Nanos(300_000_000_000);
/// When passive failures take a backend out of the pool (by taste).
const BREAKER: breaker::Settings =
    breaker::Settings { threshold: 5, open_for: Nanos(1_000_000_000), open_max: Nanos(30_000_000_000) };
