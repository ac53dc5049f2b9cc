//! A second attempt while the first has not begun to respond: another backend is asked as well, and the one whose response
//! begins first serves the request. The other's connection is closed at once, which stops its work.

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use super::{Attempt, Leg, write};
use crate::clock;
use crate::error::{Fault, FaultKind};
use crate::net::stream::Completion;
use crate::observe::counters::Counter;
use crate::plan::{Backend, Hedge, Model, Plan};
use crate::policy::routing::balance::View;
use crate::policy::routing::failure_state::{Probes, Report};
use crate::policy::routing::retry_state::Tried;
use crate::policy::routing::status::Row;
use crate::shard::dispatch::choose::{Picked, Pool, Wanted};
use crate::shard::dispatch::dial::Dial;
use crate::shard::dispatch::encode::Encoded;
use crate::shard::dispatch::patience::Patience;
use crate::shard::dispatch::prompt::{Prompt, Sent};
use crate::shard::idle::Connection;
use crate::shard::interrupt::Interrupt;
use crate::shard::lease::Lease;
use crate::shard::state::Shard;
use crate::units::{DeploymentId, Nanos};

/// What a second attempt needs to know.
pub(in crate::shard::dispatch) struct Hedger<'a> {
    pub(in crate::shard::dispatch) prompt: &'a Prompt,
    pub(in crate::shard::dispatch) model: &'a Model,
    pub(in crate::shard::dispatch) wanted: Wanted,
    /// The members that had their try, the one under way among them.
    pub(in crate::shard::dispatch) tried: Tried,
    pub(in crate::shard::dispatch) rule: Hedge,
}

/// The second attempt, which responded first: what is the dispatcher's of it.
pub(in crate::shard::dispatch) struct Overtaken {
    pub(in crate::shard::dispatch) index: usize,
    pub(in crate::shard::dispatch) probes: Probes,
    pub(in crate::shard::dispatch) deployment: DeploymentId,
    pub(in crate::shard::dispatch) alone: bool,
    pub(in crate::shard::dispatch) placed: Sent,
}

/// A connection on which a response has begun.
pub(in crate::shard::dispatch) struct Opened {
    pub(in crate::shard::dispatch) connection: Connection,
    /// The first read, which holds the front of the head.
    pub(in crate::shard::dispatch) filled: Completion<usize>,
    /// When the request was sent.
    pub(in crate::shard::dispatch) sent: Nanos,
}

impl<'a> Hedger<'a> {
    /// How long the first attempt is waited for, given its expected time to the first token: by what was learned of the
    /// deployment's speed, or as supposed.
    fn patience(&self, plan: &Plan, picked: &Picked<'_, Lease>) -> Nanos {
        let learned = plan.deployments.cells(picked.member.deployment).speed.seconds();
        let learned = learned.map_or(0.0, |seconds| f64::from(seconds) * picked.expected.tokens as f64);
        let factored = f64::from(self.rule.factor) * picked.expected.seconds.max(learned) * 1e9;
        Nanos(factored as u64).max(self.rule.after)
    }

    /// Another member of the pool, with its slot.
    pub(in crate::shard::dispatch) fn choose(&self, shard: &Rc<Shard>) -> Option<Picked<'a, Lease>> {
        let prepare = |views: &mut [View]| self.prompt.request(self.model, views, self.wanted.prompt_tokens);
        let lease = |backend, pending| Lease::take(shard, backend, pending, self.wanted.kv_tokens);
        let pool =
            Pool { plan: &shard.plan, model: self.model, wanted: &self.wanted, now: shard.deadlines.now() };
        pool.pick(&self.tried, prepare, lease)
    }
}

impl<'a> Attempt<'a> {
    /// Waits for the first byte of the response; a second backend is asked if that takes too long. The leg is then that of the
    /// backend that began first.
    pub(super) async fn hedge(
        &mut self,
        hedger: Hedger<'a>,
        leg: &mut Leg<'a>,
        patience: &Patience<'_>,
    ) -> Result<(), Fault> {
        let limit = patience.first_byte();
        let at = leg.sent.plus(hedger.patience(&self.client.shard.plan, &leg.picked));
        if at >= limit.at {
            return Ok(());
        }
        self.client.deadline.set_at(at);
        self.limit = None;
        match self.client.wait(leg.connection.reader.filled()).await {
            Ok(filled) => self.early = Some(filled),
            Err(Interrupt::DeadlineExceeded) => {
                self.wait_until(limit);
                self.race(hedger, leg).await?;
            }
            Err(interrupt) => return Err(self.interrupted(interrupt)),
        }
        self.wait_until(limit);
        Ok(())
    }

    /// Asks a second backend, if a retry is left for it, and waits until one of the two begins to respond.
    async fn race(&mut self, hedger: Hedger<'a>, leg: &mut Leg<'a>) -> Result<(), Fault> {
        let shard = self.client.shard.clone();
        if !shard.retries.borrow_mut().take() {
            shard.numbers.inc(Counter::RetriesOverBudget);
            return Ok(());
        }
        let Some(second) = hedger.choose(&shard) else {
            shard.retries.borrow_mut().give_back();
            return Ok(());
        };
        let state = shard.plan.failure_state_of(second.member.deployment, hedger.wanted.name, second.alone);
        let Ok((encoded, mut form)) = self.form(&second) else {
            shard.retries.borrow_mut().give_back();
            state.abandon(second.probes);
            return Ok(());
        };
        shard.numbers.inc(Counter::Hedges);
        let placed = hedger.prompt.placed(self.model, second.member, second.matched_tokens);
        let backend = shard.plan.backend(second.backend);
        let mut opening = Box::pin(open(&shard, backend, self.model.timeouts.connect, encoded));
        let (mut failed, reader) = (None, &mut leg.connection.reader);
        // How the first one ended, if it did without a byte: then the second one serves, or nobody.
        let mut first = None;
        let begun = poll_fn(|context| {
            if first.is_none() {
                match reader.poll_filled(context) {
                    Poll::Ready(begun @ (Ok(1..), _)) => return Poll::Ready(Err(begun)),
                    Poll::Ready(ended) => first = Some(ended),
                    Poll::Pending => {}
                }
            }
            match failed.is_none().then(|| opening.as_mut().poll(context)) {
                Some(Poll::Ready(Ok(opened))) => return Poll::Ready(Ok(opened)),
                Some(Poll::Ready(Err(fault))) => failed = Some(fault),
                _ => {}
            }
            match first.take_if(|_| failed.is_some()) {
                Some(ended) => Poll::Ready(Err(ended)),
                None => Poll::Pending,
            }
        });
        let begun = self.client.wait(begun).await;
        if let Ok(Ok(opened)) = begun {
            shard.numbers.inc(Counter::HedgesWon);
            let (index, probes, alone) = (second.index, second.probes, second.alone);
            let deployment = second.member.deployment;
            self.overtaken = Some(Overtaken { index, probes, deployment, alone, placed });
            self.exchange.attempts += 1;
            self.exchange.backend = Some(second.backend);
            self.exchange.dropped = form.dropped.take();
            self.exchange.expected_match = placed.expected;
            self.exchange.trace = hedger.prompt.trace(second.member);
            self.sent.reused = false;
            self.early = Some(opened.filled);
            // The first one's connection closes, and its slot is free.
            *leg = Leg { picked: second, form, connection: opened.connection, sent: opened.sent };
            return Ok(());
        }
        hedger.prompt.failed(self.model, placed, false);
        match failed {
            None => state.abandon(second.probes),
            Some(Fault { kind: FaultKind::Internal, .. }) => state.abandon(second.probes),
            Some(Fault { kind, .. }) => {
                let report = Report { kind, asked: None, connected: kind != FaultKind::ConnectFailed };
                state.report(report, second.probes, clock::now(), shard.random());
            }
        }
        match begun {
            Ok(Err(filled)) => self.early = Some(filled),
            Err(interrupt) => return Err(self.interrupted(interrupt)),
            Ok(Ok(_)) => {}
        }
        Ok(())
    }
}

/// Sends a request on a connection of its own, and waits until a response begins. The caller bounds the time.
///
/// # Errors
/// The backend cannot be reached, or what begins is no success: the first attempt is worth more than that.
async fn open(shard: &Shard, backend: &Backend, connect: Nanos, encoded: Encoded) -> Result<Opened, Fault> {
    let turn = shard.idle.turn(backend.id, shard.deadlines.now());
    let mut connection = Dial::new(shard, backend, connect).run(turn).await?;
    connection.reader.arm(shard.buffers.large());
    let sent = clock::now();
    let (result, buffer) = write(&mut connection.writer, encoded).await;
    shard.buffers.put(buffer);
    let closed = |_| Fault::new(FaultKind::BackendClosed, "the backend closed the connection");
    result.map_err(closed)?;
    let (read, buffer) = connection.reader.filled().await;
    match read.map_err(closed)? {
        0 => Err(Fault::new(FaultKind::BackendClosed, "the backend closed the connection")),
        bytes => match status(&buffer) {
            Some(200..300) => Ok(Opened { connection, filled: (Ok(bytes), buffer), sent }),
            Some(refused @ 400..) => {
                Err(Fault::new(Row::of(refused).kind, "the backend does not respond with a success"))
            }
            // Nothing is learned of it.
            _ => Err(Fault::new(FaultKind::Internal, "the backend does not begin with a response")),
        },
    }
}

/// The status in the first bytes of a response.
fn status(bytes: &[u8]) -> Option<u16> {
    let rest = bytes.strip_prefix(b"HTTP/1.")?.get(1..)?.strip_prefix(b" ")?;
    std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}
