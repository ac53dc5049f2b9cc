//! The one place where limits are enforced: what an exchange takes of its key's limits and of its team's.
//!
//! Every route comes through here twice: [`enter`] with the head (requests in flight, requests per minute) and [`Held::reserve`] with
//! the body (tokens, and what budgets they are taken from). Each takes from all limits or from none. What was taken goes back, or is settled to the truth, exactly
//! once, by [`Held::settle`].
//!
//! Cells are taken one after the other, from the key's to its team's. A request that fails at a later cell gives the earlier ones
//! back, so that among equal requests exactly as many pass as the tightest limit has room for, in any order of their steps.

mod growth;

use super::{BudgetRow, Key, Plan};
use crate::error::{Fault, FaultKind};
use crate::policy::limits::bucket::{Rate, Room, Wait};
use crate::policy::limits::budget::{Budget, Money, Reservation, Spent, Standing, Unit};
use crate::policy::limits::caller::{CallerCells, CallerLimits};
use crate::policy::limits::price::{Charge, Price};
use crate::policy::limits::running::Running;
use crate::units::{BudgetId, KeyId, Nanos};
pub use growth::Grown;
use growth::{Growth, Of, covered};

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
    /// Limits of which more is taken while the response runs; `None` for one whose cap was taken, or that has no limits.
    growth: Option<Box<Growth>>,
    /// Tokens of output that a response may have which cannot be stopped while it runs.
    output_cap: Option<u64>,
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
    /// The response is a stream: it can be stopped in the middle.
    pub is_stream: bool,
    /// Tokens of output that the model makes at most, where the response is no stream.
    pub model_max: u64,
    /// Where the exchange runs, for those who have to stop it.
    pub home: u64,
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
    /// one that cannot, and without a cap, the prompt and a slice of output are taken, and more while the response runs
    /// ([`Held::grow`]). A response that is no stream cannot be stopped in the middle: where less is left than its model may make,
    /// half of that is taken, or the last slice, and is its cap ([`Held::output_cap`]): others are still admitted, and none of them
    /// goes beyond what is left.
    ///
    /// # Errors
    /// `TokensExceeded`, `BudgetReserved` and `BudgetExceeded` with the limit, whose it is, and the wait or the reset;
    /// `TokensNeverFit` for a text that is larger than the whole limit. Nothing is taken then, and what [`enter`] took of the
    /// requests is given back.
    pub fn reserve(&mut self, plan: &Plan, wanted: &Wanted, at: At) -> Result<Option<Left>, Fault> {
        let Some(key) = self.key else { return Ok(None) };
        let mut growth = None;
        let taken = self.take_tokens(plan, key, wanted, at.now, &mut growth).and_then(|left| {
            self.take_budgets(plan, key, wanted, at.unix_ms, &mut growth)?;
            Ok(left)
        });
        self.growth = growth;
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
        growth: &mut Option<Box<Growth>>,
    ) -> Result<Option<Left>, Fault> {
        let mut left = None;
        for (index, caller) in plan.callers(key).enumerate() {
            let Some(rate) = &caller.limits.tokens else { continue };
            let (taken, room) = caller.take_tokens(rate, wanted, now)?;
            self.tokens[index] = Some(taken.amount);
            self.note(wanted, &taken, Of::Caller(index), &caller.cells.growing, growth);
            left = tightest(left, Some(Left { per_minute: rate.per_minute, room }));
        }
        Ok(left)
    }

    fn take_budgets(
        &mut self,
        plan: &Plan,
        key: KeyId,
        wanted: &Wanted,
        unix_ms: u64,
        growth: &mut Option<Box<Growth>>,
    ) -> Result<(), Fault> {
        let ids = &plan.key(key).grant.budgets;
        self.budgets.reserve_exact(ids.len());
        for (index, id) in ids.iter().enumerate() {
            let (row, cells) = (plan.budgets.row(*id), plan.budgets.cells(*id));
            let (held, taken) = take_budget(row, cells, wanted, unix_ms)?;
            self.budgets.push((*id, held));
            self.note(wanted, &taken, Of::Budget(index), &cells.growing, growth);
        }
        Ok(())
    }

    /// Notes what came of one limit.
    fn note(
        &mut self,
        wanted: &Wanted,
        taken: &Taken,
        of: Of,
        running: &Running,
        growth: &mut Option<Box<Growth>>,
    ) {
        if let Some(cap) = taken.output_cap {
            self.output_cap = Some(self.output_cap.map_or(cap, |other| other.min(cap)));
        }
        if taken.is_slice && wanted.is_stream {
            growth.get_or_insert_with(|| Growth::new(wanted)).add(of, running, wanted.home);
        }
    }

    /// The most tokens of output that each choice of the response may have, where that is less than it asks for or its model makes.
    pub fn output_cap(&self) -> Option<u64> {
        self.output_cap
    }

    /// Whether the tokens of the exchange are limited.
    pub fn takes_tokens(&self) -> bool {
        !self.budgets.is_empty() || self.tokens.iter().any(Option::is_some)
    }

    /// The request is refused after all.
    #[cold]
    pub fn give_up(&mut self, plan: &Plan, now: Nanos) {
        self.refuse(plan, now);
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
        self.leave(plan);
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

    fn take_tokens(&self, rate: &Rate, wanted: &Wanted, now: Nanos) -> Result<(Taken, Room), Fault> {
        if wanted.text > rate.burst {
            let note = format!(
                "the text of the request is about {} tokens, more than the limit of {} of {} '{}'",
                wanted.text, rate.burst, self.kind, self.name
            );
            return Err(Fault::new(FaultKind::TokensNeverFit, note));
        }
        let exceeded = |wait| self.exceeded(wait, FaultKind::TokensExceeded, rate, "tokens");
        let (amount, is_slice) = wanted.tokens(rate.burst);
        let cells = self.cells;
        if cells.growing.is_anybody_waiting() {
            return Err(exceeded(Wait::For(RETRY_SOON)));
        }
        let most = wanted.prompt.saturating_add(wanted.model_max.saturating_mul(wanted.choices));
        let left = cells.tokens.peek(rate, now).remaining;
        if is_slice && !wanted.is_stream && left < most {
            let share = share(left, wanted.prompt, wanted.prompt.saturating_add(wanted.slice));
            let amount = cells.tokens.take_up_to(rate, share, now);
            let taken = wanted.rest(Unit::Tokens, amount);
            if taken.output_cap.is_some_and(|cap| cap >= OUTPUT_MIN) {
                return Ok((taken, cells.tokens.peek(rate, now)));
            }
            cells.tokens.settle(rate, amount, 0, now);
            let least = wanted.prompt.saturating_add(OUTPUT_MIN.saturating_mul(wanted.choices));
            let wait = cells.tokens.take(rate, least, now).err().unwrap_or(Wait::For(RETRY_SOON));
            return Err(exceeded(wait));
        }
        let room = cells.tokens.take(rate, amount, now).map_err(exceeded)?;
        Ok((Taken { amount, is_slice, output_cap: None }, room))
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

/// Takes what a request may cost of one budget.
fn take_budget(
    row: &BudgetRow,
    cells: &Spent,
    wanted: &Wanted,
    unix_ms: u64,
) -> Result<(Reservation, Taken), Fault> {
    let BudgetRow { budget, .. } = row;
    let cost = wanted.cost(budget).ok_or_else(|| unpriced(row))?;
    if cost.text > budget.most {
        return Err(never_fits(row, wanted.text));
    }
    if cells.growing.is_anybody_waiting() {
        return Err(all_reserved(row));
    }
    let left = budget.most.saturating_sub(cells.standing(&budget.window, unix_ms).used);
    if cost.is_slice && !wanted.is_stream && left < cost.model_max {
        let mut held = cells.take(budget, 0, unix_ms).map_err(|standing| used_up(row, 0, &standing))?;
        cells.grow(budget, &mut held, share(left, cost.prompt, cost.slice), unix_ms);
        let taken = wanted.rest(budget.unit, held.amount());
        if taken.output_cap.is_some_and(|cap| cap >= OUTPUT_MIN) {
            return Ok((held, taken));
        }
        held.settle(0);
        return Err(used_up(row, cost.least, &cells.standing(&budget.window, unix_ms)));
    }
    let held = cells.take(budget, cost.all, unix_ms).map_err(|standing| used_up(row, cost.all, &standing))?;
    Ok((held, Taken { amount: cost.all, is_slice: cost.is_slice, output_cap: None }))
}

/// What a response that cannot be stopped takes of the `left` units: its prompt and half of the rest, or the last slice.
fn share(left: u64, prompt: u64, slice: u64) -> u64 {
    prompt.saturating_add(left.saturating_sub(prompt) / 2).max(slice)
}

/// What was taken of one limit.
struct Taken {
    amount: u64,
    /// The prompt and a slice of output, not the whole cap.
    is_slice: bool,
    /// Tokens of each choice that are covered, where the response is to have no more.
    output_cap: Option<u64>,
}

/// What a request may cost of one budget, in its unit.
struct Cost {
    /// Its text alone.
    text: u64,
    /// All of its prompt.
    prompt: u64,
    /// Its prompt and a slice of output for each choice.
    slice: u64,
    /// The least that it can do with: its prompt, and a few tokens of output.
    least: u64,
    /// All that is taken.
    all: u64,
    /// That is the prompt and a slice of output, not the whole cap.
    is_slice: bool,
    /// With all that its model makes.
    model_max: u64,
}

impl Wanted {
    /// The tokens to take from a limit that can hold `most`; whether they are a slice.
    fn tokens(&self, most: u64) -> (u64, bool) {
        self.fitted(most, |output| self.prompt.saturating_add(output))
    }

    /// What to take of a budget, in its unit. `None` for a budget of money if there is no price.
    fn cost(&self, budget: &Budget) -> Option<Cost> {
        let of = |input: u64, output: u64| match (budget.unit, &self.price) {
            (Unit::Tokens, _) => Some(input.saturating_add(output)),
            (Unit::Money, Some(price)) => Some(price.cost(&Charge { input, output, ..Charge::default() })),
            (Unit::Money, None) => None,
        };
        let with = |output: u64| of(self.prompt, output).unwrap_or(u64::MAX);
        let (all, is_slice) = self.fitted(budget.most, with);
        Some(Cost {
            text: of(self.text, 0)?,
            prompt: with(0),
            slice: with(self.slice.saturating_mul(self.choices)),
            least: with(OUTPUT_MIN.saturating_mul(self.choices)),
            all,
            is_slice,
            model_max: with(self.model_max.saturating_mul(self.choices)),
        })
    }

    /// `of` prompt and cap if a limit can hold that, else of prompt and slice; whether it is the slice.
    fn fitted(&self, most: u64, of: impl Fn(u64) -> u64) -> (u64, bool) {
        let with = |output: u64| of(output.saturating_mul(self.choices));
        match self.output_max.map(with).filter(|all| *all <= most) {
            Some(all) => (all, false),
            None => (with(self.output_max.unwrap_or(u64::MAX).min(self.slice)).min(most), true),
        }
    }

    /// What was taken of a limit for a response that cannot be stopped.
    fn rest(&self, unit: Unit, amount: u64) -> Taken {
        let output = covered(unit, amount, self.prompt, self.price.as_ref());
        Taken { amount, is_slice: true, output_cap: Some(output / self.choices.max(1)) }
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
        return all_reserved(row);
    }
    let note = format!(
        "budget exceeded: {holder} has used {} of {budget}, and this request may use {}; it resets at {}",
        amount(used),
        amount(cost),
        budget.window.instant(standing.reset_ms)
    );
    Fault::new(FaultKind::BudgetExceeded, note)
}

/// The refusal of a request while those that run have taken, or wait for, the rest.
#[cold]
fn all_reserved(row: &BudgetRow) -> Fault {
    let (holder, budget) = (&row.name.holder, &row.budget);
    let note = format!("requests in flight have taken the rest of the budget of {holder}: {budget}");
    Fault::new(FaultKind::BudgetReserved, note).retry_after(RETRY_SOON)
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

/// The smallest cap that is written into a request: below it there is no response worth having, and some APIs refuse it.
const OUTPUT_MIN: u64 = 16;

/// Advice when a slot is expected to come free at any moment.
const RETRY_SOON: Nanos = Nanos(1_000_000_000);

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;
#[cfg(test)]
mod tests;
