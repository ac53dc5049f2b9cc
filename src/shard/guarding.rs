//! The stage between read and write of a response that content rules read.
//!
//! It stands behind the transport and the translation, so it sees what the client would get; everything after it (metering,
//! limits, ends, heartbeats) sees what the client does get.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::ending::Ending;
use super::exchange::Exchange;
use super::external::Asking;
use super::state::Shard;
use super::wording::refused;
use crate::error::{Fault, FaultKind};
use crate::net::buffers::Buffer;
use crate::observe::counters::Counter;
use crate::plan::guards::ModelGuards;
use crate::policy::guard::evidence::Marks;
use crate::policy::guard::rules::{Action, Finding, Labels};
use crate::policy::guard::stream::{Filter, Passed};
use crate::policy::guard::whole;
use crate::sync::Ordering;
use crate::units::{KeyId, Nanos};

/// The rules over the response of one call.
pub(super) struct Guarding {
    shard: Rc<Shard>,
    guards: Arc<ModelGuards>,
    marks: Rc<RefCell<Marks>>,
    key: Option<KeyId>,
    /// Those of the request, where they may be put back.
    labels: Labels,
    filter: Filter,
    /// The beginning of an event whose rest has not come.
    rest: Vec<u8>,
    /// What may pass of a read, kept for its capacity.
    out: Vec<u8>,
    /// When what is held back is let go, if the stream stays silent; `NEVER` while nothing is.
    due: Nanos,
    /// What guards in other processes are to read, and the end that waits for them.
    ending: Option<Box<Ending>>,
    /// They are being asked.
    pub(super) asking: Option<Asking>,
}

impl Guarding {
    /// The rules for the response of the model that is called now, if there are any. `choices`: those that were asked for.
    pub(super) fn of(exchange: &mut Exchange, choices: u64) -> Option<Box<Self>> {
        let shard = Rc::clone(&exchange.shard);
        let own = shard.plan.model(exchange.model?).guards.as_ref();
        let api = exchange.api.unwrap_or_default();
        let form = api.stream().records();
        let ending = Ending::of(exchange, api, choices);
        // Of a model without rules that stands in for one with a guard.
        let guards = own.map(Arc::clone).or_else(|| ending.as_ref().map(|_| Arc::default()))?;
        let labels = exchange.labels.as_ref().map(|labels| labels.for_response());
        (guards.guards.reads_responses() || labels.is_some() || ending.is_some()).then(|| {
            Box::new(Self {
                guards,
                ending,
                asking: None,
                marks: exchange.marks(),
                key: exchange.key,
                filter: Filter::new(form, shard.plan.limits.held_bytes, labels.clone().unwrap_or_default()),
                labels: labels.unwrap_or_default(),
                shard,
                rest: Vec::new(),
                out: Vec::new(),
                due: Nanos::NEVER,
            })
        })
    }

    /// Replaces a piece of a stream, which is in `buffer` from `from` on, by the whole events of it that may pass.
    ///
    /// # Errors
    /// A rule stops the response.
    pub(super) fn records(&mut self, buffer: &mut Buffer, from: usize, ended: bool) -> Result<(), Fault> {
        self.rest.extend_from_slice(&buffer[from..]);
        let whole = if ended { self.rest.len() } else { self.filter.form().last_boundary(&self.rest) };
        let Self { shard, guards, marks, key, filter, rest, out, .. } = self;
        let applies = |rule| guards.applies(&shard.plan, rule, *key);
        let mut found = |finding: Finding| {
            guards.count(&shard.plan, finding.rule);
            marks.borrow_mut().note(&guards.guards, &finding);
        };
        out.clear();
        buffer.truncate(from);
        let mut passed = filter.events(&guards.guards, &rest[..whole], out, &applies, &mut found);
        match passed {
            Passed::Untouched => buffer.extend_from_slice(&rest[..whole]),
            _ => buffer.extend_from_slice(out),
        }
        if ended && !matches!(passed, Passed::Stopped(_)) && filter.is_holding() {
            out.clear();
            passed = filter.let_go(&guards.guards, true, out, &applies, &mut found);
            buffer.extend_from_slice(out);
        }
        rest.drain(..whole);
        self.due = match self.filter.is_holding() {
            true => self.shard.deadlines.now().plus(self.shard.plan.timeouts.guard_hold),
            false => Nanos::NEVER,
        };
        if let Passed::Stopped(rule) = passed {
            return Err(self.stopped(rule));
        }
        if self.rest.len() > self.shard.plan.limits.held_bytes {
            let note = "an event of the stream is longer than content rules may hold ([limits] held)";
            return Err(Fault::new(FaultKind::BackendMalformed, note));
        }
        match &mut self.ending {
            Some(ending) => ending.pass(buffer, from, ended, self.shard.plan.limits.held_bytes),
            None => Ok(()),
        }
    }

    /// Whether the stream has come to its end, which waits for guards in other processes.
    pub(super) fn awaits_verdict(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.awaits_verdict())
    }

    /// Asks them.
    pub(super) fn ask(&mut self, exchange: &Exchange) {
        self.asking = self.ending.as_ref().map(|ending| ending.ask(exchange));
    }

    /// Appends the end that waits.
    pub(super) fn release(&mut self, buffer: &mut Buffer) {
        if let Some(ending) = &mut self.ending {
            ending.release(buffer);
        }
    }

    /// Whether a stream whose body ends by a close may end here; `None`: what has passed says.
    pub(super) fn may_end(&self) -> Option<bool> {
        self.ending.as_ref().map(|ending| ending.may_end(&self.rest))
    }

    /// When what is held back is let go, if the stream stays silent.
    pub(super) fn due(&self) -> Nanos {
        self.due
    }

    /// The stream has been silent for `[timeouts] guard_hold`: appends what was held back, with matches that are complete masked.
    /// What follows may still complete a match with it; only the part that follows is masked then.
    ///
    /// # Errors
    /// A rule stops the response.
    pub(super) fn let_go(&mut self, out: &mut Buffer) -> Result<(), Fault> {
        let Self { shard, guards, marks, key, filter, .. } = self;
        let applies = |rule| guards.applies(&shard.plan, rule, *key);
        let mut found = |finding: Finding| {
            guards.count(&shard.plan, finding.rule);
            marks.borrow_mut().note(&guards.guards, &finding);
        };
        shard.numbers.inc(Counter::GuardReleases);
        let passed = filter.let_go(&guards.guards, false, out, &applies, &mut found);
        self.due = Nanos::NEVER;
        match (passed, &mut self.ending) {
            (Passed::Stopped(rule), _) => Err(self.stopped(rule)),
            (_, Some(ending)) => ending.pass(out, 0, false, shard.plan.limits.held_bytes),
            _ => Ok(()),
        }
    }

    /// The end of the stream that has been read and has not passed.
    pub(super) fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Applies the rules to a whole body: what takes its place, if anything has to.
    ///
    /// # Errors
    /// A rule stops the response.
    pub(super) fn whole(&self, body: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let (plan, guards) = (&self.shard.plan, &self.guards);
        let applies = |rule| guards.applies(plan, rule, self.key);
        let checked = whole::response(&guards.guards, body, &mut self.labels.clone(), &applies);
        for finding in &checked.findings {
            guards.count(plan, finding.rule);
            self.marks.borrow_mut().note(&guards.guards, finding);
        }
        let stops = |rule: &usize| !matches!(guards.guards.rule(*rule).action, Action::Route(_));
        if let Some(rule) = checked.decides.filter(stops) {
            return Err(self.stopped(rule));
        }
        Ok((!checked.edits.is_empty()).then(|| checked.edited(body)))
    }

    fn stopped(&self, rule: usize) -> Fault {
        self.guards.cells(&self.shard.plan, rule).stopped.fetch_add(1, Ordering::Relaxed);
        refused(&self.guards.guards.rule(rule).name)
    }
}
