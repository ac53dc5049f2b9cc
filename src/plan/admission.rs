//! The one place where limits are enforced: what an exchange takes of its key's limits and of its team's.
//!
//! Every route comes through here twice: [`enter`] with the head (requests in flight, requests per minute) and [`Held::reserve`] with
//! the body (tokens). Each takes from all limits or from none. What was taken goes back, or is settled to the truth, exactly
//! once, by [`Held::settle`].
//!
//! Cells are taken one after the other, from the key's to its team's. A request that fails at a later cell gives the earlier ones
//! back, so that among equal requests exactly as many pass as the tightest limit has room for, in any order of their steps.

use super::{Key, Plan};
use crate::error::{Fault, FaultKind};
use crate::policy::limits::bucket::{Rate, Room, Wait};
use crate::policy::limits::caller::{CallerCells, CallerLimits};
use crate::units::{KeyId, Nanos};

/// What one exchange has taken of the limits of its key and team.
#[derive(Default)]
pub struct Held {
    key: Option<KeyId>,
    /// A request of every caller's minute, which a refusal gives back.
    has_request: bool,
    /// Tokens taken in advance, by caller.
    tokens: [Option<u64>; CALLERS_MAX],
}

/// The tokens that a request may cost.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Tokens of its text, by estimate.
    pub text: u64,
    /// All tokens of its prompt, by estimate.
    pub prompt: u64,
    /// Tokens of output that it asks for at most, for each choice.
    pub output_max: Option<u64>,
    /// Choices that it asks for.
    pub choices: u64,
    /// Tokens of output to take for each choice where the cap is missing or too large to ever fit.
    pub slice: u64,
}

/// What is left of the tightest of several limits: the `x-ratelimit-*` lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left {
    /// The limit.
    pub per_minute: u64,
    /// What is left of it.
    pub room: Room,
}

/// Takes a slot in flight and a request of the minute, from the key and from its team.
///
/// # Errors
/// `InFlightExceeded` and `RequestsExceeded`, with the limit, whose it is, and the wait. Nothing is taken then.
pub fn enter(plan: &Plan, key: KeyId, now: Nanos) -> Result<(Held, Option<Left>), Fault> {
    let mut left = None;
    for (index, caller) in plan.callers(key).enumerate() {
        match caller.enter(now) {
            Ok(own) => left = tightest(left, own),
            Err(fault) => {
                let entered = plan.callers(key).take(index);
                entered.for_each(|caller| {
                    caller.give_back_request(now);
                    caller.cells.in_flight.leave();
                });
                return Err(fault);
            }
        }
    }
    Ok((Held { key: Some(key), has_request: true, ..Held::default() }, left))
}

impl Held {
    /// Takes the tokens that the request may cost, from the key and from its team.
    ///
    /// A cap is no cost: agents name a large one with every request. From a limit that can hold prompt and cap, both are taken. From
    /// one that cannot, and without a cap, the prompt and a slice of output are taken; settling charges the rest.
    ///
    /// # Errors
    /// `TokensExceeded` with the limit, whose it is, and the wait; `TokensNeverFit` for a text that is larger than the whole limit.
    /// Nothing is taken then, and what [`enter`] took of the requests is given back.
    pub fn reserve(&mut self, plan: &Plan, wanted: &Wanted, now: Nanos) -> Result<Option<Left>, Fault> {
        let Some(key) = self.key else { return Ok(None) };
        let mut left = None;
        for (index, caller) in plan.callers(key).enumerate() {
            let Some(rate) = &caller.limits.tokens else { continue };
            match caller.take_tokens(rate, wanted, now) {
                Ok((taken, room)) => {
                    self.tokens[index] = Some(taken);
                    left = tightest(left, Some(Left { per_minute: rate.per_minute, room }));
                }
                Err(fault) => {
                    self.refuse(plan, now);
                    return Err(fault);
                }
            }
        }
        Ok(left)
    }

    /// Gives back everything but the slot in flight, which the exchange has until its refusal is sent.
    fn refuse(&mut self, plan: &Plan, now: Nanos) {
        self.settle_tokens(plan, 0, now);
        if let (true, Some(key)) = (std::mem::take(&mut self.has_request), self.key) {
            plan.callers(key).for_each(|caller| caller.give_back_request(now));
        }
    }

    /// Gives the slot back and corrects the tokens that were taken to those that were used. Does nothing the second time.
    pub fn settle(&mut self, plan: &Plan, tokens: u64, now: Nanos) {
        self.settle_tokens(plan, tokens, now);
        if let Some(key) = self.key.take() {
            plan.callers(key).for_each(|caller| caller.cells.in_flight.leave());
        }
    }

    fn settle_tokens(&mut self, plan: &Plan, used: u64, now: Nanos) {
        let Some(key) = self.key else { return };
        for (caller, taken) in plan.callers(key).zip(&mut self.tokens) {
            if let (Some(rate), Some(taken)) = (&caller.limits.tokens, taken.take()) {
                caller.cells.tokens.settle(rate, taken, used, now);
            }
        }
    }
}

/// Whose limits they are.
#[derive(Clone, Copy)]
struct Caller<'a> {
    kind: &'static str,
    name: &'a str,
    limits: &'a CallerLimits,
    cells: &'a CallerCells,
}

/// A key and its team.
const CALLERS_MAX: usize = 2;

impl Plan {
    /// Those whose limits an exchange of this key takes from: the key, then its team.
    fn callers(&self, key: KeyId) -> impl Iterator<Item = Caller<'_>> {
        let row: &Key = self.key(key);
        let own =
            Caller { kind: "key", name: &row.name, limits: &row.grant.limits, cells: self.keys.cells(key) };
        let team = row.team.map(|team| {
            let row = self.teams.row(team);
            Caller { kind: "team", name: &row.name, limits: &row.limits, cells: self.teams.cells(team) }
        });
        std::iter::once(own).chain(team)
    }
}

impl Caller<'_> {
    fn enter(&self, now: Nanos) -> Result<Option<Left>, Fault> {
        let most = self.limits.in_flight_max;
        if !self.cells.in_flight.try_enter(most) {
            let (kind, name) = (self.kind, self.name);
            let note = format!("too many requests in flight: {kind} '{name}' may have {most} at once");
            return Err(Fault::new(FaultKind::InFlightExceeded, note).retry_after(RETRY_SOON));
        }
        let Some(rate) = &self.limits.requests else { return Ok(None) };
        match self.cells.requests.take(rate, 1, now) {
            Ok(room) => Ok(Some(Left { per_minute: rate.per_minute, room })),
            Err(wait) => {
                self.cells.in_flight.leave();
                Err(self.exceeded(wait, FaultKind::RequestsExceeded, rate, "requests"))
            }
        }
    }

    fn give_back_request(&self, now: Nanos) {
        if let Some(rate) = &self.limits.requests {
            self.cells.requests.settle(rate, 1, 0, now);
        }
    }

    fn take_tokens(&self, rate: &Rate, wanted: &Wanted, now: Nanos) -> Result<(u64, Room), Fault> {
        if wanted.text > rate.burst {
            let note = format!(
                "the text of the request is about {} tokens, more than the limit of {} of {} '{}'",
                wanted.text, rate.burst, self.kind, self.name
            );
            return Err(Fault::new(FaultKind::TokensNeverFit, note));
        }
        let cost = wanted.tokens(rate.burst);
        match self.cells.tokens.take(rate, cost, now) {
            Ok(room) => Ok((cost, room)),
            Err(wait) => Err(self.exceeded(wait, FaultKind::TokensExceeded, rate, "tokens")),
        }
    }

    #[cold]
    fn exceeded(&self, wait: Wait, kind: FaultKind, rate: &Rate, what: &str) -> Fault {
        let Rate { per_minute, .. } = rate;
        let note =
            format!("rate limit exceeded: {per_minute} {what} per minute for {} '{}'", self.kind, self.name);
        match wait {
            Wait::For(wait) => Fault::new(kind, note).retry_after(wait),
            Wait::Never => Fault::new(kind, note),
        }
    }
}

impl Wanted {
    /// The tokens to take from a limit that can hold `most`: prompt and cap if that fits, else prompt and slice.
    fn tokens(&self, most: u64) -> u64 {
        let with = |output: u64| self.prompt.saturating_add(output.saturating_mul(self.choices));
        let all = self.output_max.map(with).filter(|all| *all <= most);
        let slice = self.output_max.unwrap_or(u64::MAX).min(self.slice);
        all.unwrap_or_else(|| with(slice).min(most))
    }
}

/// The one of which less is left.
fn tightest(one: Option<Left>, other: Option<Left>) -> Option<Left> {
    [one, other].into_iter().flatten().min_by_key(|left| left.room.remaining)
}

/// Advice when a slot is expected to come free at any moment.
const RETRY_SOON: Nanos = Nanos(1_000_000_000);

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;
#[cfg(test)]
mod tests;
