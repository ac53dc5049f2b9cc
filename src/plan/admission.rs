//! The one place where limits are enforced: what an exchange takes of its key's limits and of its team's.
//!
//! Every route comes through here twice: [`enter`] with the head (requests in flight, requests per minute) and [`Held::reserve`] with
//! the body (tokens, and what budgets they are taken from). Each takes from all limits or from none. What was taken goes back, or is settled to the truth, exactly
//! once, by [`Held::settle`].
//!
//! Cells are taken one after the other, from the key's to its team's. A request that fails at a later cell gives the earlier ones
//! back, so that among equal requests exactly as many pass as the tightest limit has room for, in any order of their steps.

use super::{BudgetRow, Key, Plan};
use crate::error::{Fault, FaultKind};
use crate::policy::limits::bucket::{Rate, Room, Wait};
use crate::policy::limits::budget::{Budget, Money, Reservation, Standing, Unit};
use crate::policy::limits::caller::{CallerCells, CallerLimits};
use crate::policy::limits::price::{Charge, Price};
use crate::units::{BudgetId, KeyId, Nanos};

/// What one exchange has taken of the limits of its key and team.
#[derive(Default)]
pub struct Held {
    key: Option<KeyId>,
    /// A request of every caller's minute, which a refusal gives back.
    has_request: bool,
    /// Tokens taken in advance, by caller.
    tokens: [Option<u64>; CALLERS_MAX],
    /// Taken in advance of budgets. Empty, and so without memory of its own, for a key without any.
    budgets: Vec<(BudgetId, Reservation)>,
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
    /// What they cost.
    pub price: Option<Price>,
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
    /// Takes the tokens that the request may cost, from the key's and its team's limits and budgets.
    ///
    /// A cap is no cost: agents name a large one with every request. From a limit that can hold prompt and cap, both are taken. From
    /// one that cannot, and without a cap, the prompt and a slice of output are taken; settling charges the rest.
    ///
    /// # Errors
    /// `TokensExceeded`, `BudgetReserved` and `BudgetExceeded` with the limit, whose it is, and the wait or the reset;
    /// `TokensNeverFit` for a text that is larger than the whole limit. Nothing is taken then, and what [`enter`] took of the
    /// requests is given back.
    pub fn reserve(&mut self, plan: &Plan, wanted: &Wanted, at: At) -> Result<Option<Left>, Fault> {
        let Some(key) = self.key else { return Ok(None) };
        let taken = self.take_tokens(plan, key, wanted, at.now).and_then(|left| {
            self.take_budgets(plan, key, wanted, at.unix_ms)?;
            Ok(left)
        });
        if taken.is_err() {
            self.refuse(plan, at.now);
        }
        taken
    }

    fn take_tokens(
        &mut self,
        plan: &Plan,
        key: KeyId,
        wanted: &Wanted,
        now: Nanos,
    ) -> Result<Option<Left>, Fault> {
        let mut left = None;
        for (caller, taken) in plan.callers(key).zip(&mut self.tokens) {
            let Some(rate) = &caller.limits.tokens else { continue };
            let (cost, room) = caller.take_tokens(rate, wanted, now)?;
            *taken = Some(cost);
            left = tightest(left, Some(Left { per_minute: rate.per_minute, room }));
        }
        Ok(left)
    }

    fn take_budgets(&mut self, plan: &Plan, key: KeyId, wanted: &Wanted, unix_ms: u64) -> Result<(), Fault> {
        let ids = &plan.key(key).grant.budgets;
        self.budgets.reserve_exact(ids.len());
        for id in ids {
            let row = plan.budgets.row(*id);
            let most = row.budget.most;
            let cost = wanted.cost(&row.budget).ok_or_else(|| unpriced(row))?;
            if cost.text > most {
                return Err(never_fits(row, wanted.text));
            }
            let taken = plan.budgets.cells(*id).take(&row.budget, cost.all, unix_ms);
            self.budgets.push((*id, taken.map_err(|standing| used_up(row, cost.all, &standing))?));
        }
        Ok(())
    }

    /// Gives back everything but the slot in flight, which the exchange has until its refusal is sent.
    #[cold]
    fn refuse(&mut self, plan: &Plan, now: Nanos) {
        self.settle_tokens(plan, &Charge::default(), None, now);
        if let (true, Some(key)) = (std::mem::take(&mut self.has_request), self.key) {
            plan.callers(key).for_each(|caller| caller.give_back_request(now));
        }
    }

    /// Gives the slot back and corrects the tokens that were taken to those that were used, at this price. Does nothing the second
    /// time.
    pub fn settle(&mut self, plan: &Plan, used: &Charge, price: Option<&Price>, now: Nanos) {
        self.settle_tokens(plan, used, price, now);
        if let Some(key) = self.key.take() {
            plan.callers(key).for_each(|caller| caller.cells.in_flight.leave());
        }
    }

    fn settle_tokens(&mut self, plan: &Plan, used: &Charge, price: Option<&Price>, now: Nanos) {
        let Some(key) = self.key else { return };
        for (caller, taken) in plan.callers(key).zip(&mut self.tokens) {
            if let (Some(rate), Some(taken)) = (&caller.limits.tokens, taken.take()) {
                caller.cells.tokens.settle(rate, taken, used.tokens(), now);
            }
        }
        for (id, reservation) in self.budgets.drain(..) {
            let amount = match plan.budgets.row(id).budget.unit {
                Unit::Tokens => used.tokens(),
                Unit::Money => price.map_or(0, |price| price.cost(used)),
            };
            reservation.settle(amount);
        }
    }
}

/// The two clocks: limits per minute go by the one that never jumps, windows of budgets by the calendar.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The monotonic clock.
    pub now: Nanos,
    /// Unix milliseconds.
    pub unix_ms: u64,
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

/// What a request may cost of one budget.
struct Cost {
    /// Its text alone.
    text: u64,
    /// All that is taken.
    all: u64,
}

impl Wanted {
    /// The tokens to take from a limit that can hold `most`.
    fn tokens(&self, most: u64) -> u64 {
        self.fitted(most, |output| self.prompt.saturating_add(output))
    }

    /// What to take of a budget, in its unit. `None` for a budget of money if there is no price.
    fn cost(&self, budget: &Budget) -> Option<Cost> {
        Some(match (budget.unit, &self.price) {
            (Unit::Tokens, _) => Cost { text: self.text, all: self.tokens(budget.most) },
            (Unit::Money, Some(price)) => {
                let cost = |input, output| price.cost(&Charge { input, output, ..Charge::default() });
                Cost {
                    text: cost(self.text, 0),
                    all: self.fitted(budget.most, |output| cost(self.prompt, output)),
                }
            }
            (Unit::Money, None) => return None,
        })
    }

    /// `of` prompt and cap if a limit can hold that, else of prompt and slice.
    fn fitted(&self, most: u64, of: impl Fn(u64) -> u64) -> u64 {
        let with = |output: u64| of(output.saturating_mul(self.choices));
        let all = self.output_max.map(with).filter(|all| *all <= most);
        let slice = self.output_max.unwrap_or(u64::MAX).min(self.slice);
        all.unwrap_or_else(|| with(slice).min(most))
    }
}

/// The refusal of a request that a budget has no room for: for good if what is settled leaves none, for now if requests that run
/// have taken the rest.
#[cold]
fn used_up(row: &BudgetRow, cost: u64, standing: &Standing) -> Fault {
    let BudgetRow { name, budget } = row;
    let amount = |count: u64| match budget.unit {
        Unit::Tokens => count.to_string(),
        Unit::Money => Money(count).to_string(),
    };
    let (holder, used) = (&name.holder, standing.used.saturating_sub(standing.reserved));
    if used.saturating_add(cost) <= budget.most {
        let note = format!("requests in flight have taken the rest of the budget of {holder}: {budget}");
        return Fault::new(FaultKind::BudgetReserved, note).retry_after(RETRY_SOON);
    }
    let note = format!(
        "budget exceeded: {holder} has used {} of {budget}, and this request may use {}; it resets at {}",
        amount(used),
        amount(cost),
        budget.window.instant(standing.reset_ms)
    );
    Fault::new(FaultKind::BudgetExceeded, note)
}

#[cold]
fn never_fits(row: &BudgetRow, tokens: u64) -> Fault {
    let (holder, budget) = (&row.name.holder, &row.budget);
    let note = format!(
        "the text of the request is about {tokens} tokens, more than the whole budget of {holder}: {budget}"
    );
    Fault::new(FaultKind::TokensNeverFit, note)
}

/// `config` refuses such a plan.
#[cold]
fn unpriced(row: &BudgetRow) -> Fault {
    let note = format!("the model has no price, which the budget of {} needs", row.name.holder);
    Fault::new(FaultKind::BudgetExceeded, note)
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
