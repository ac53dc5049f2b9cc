//! The one place where limits are enforced: what an exchange takes of its key's limits and of its team's.
//!
//! Every route comes through here twice: [`enter`] with the head (requests in flight, requests per minute) and [`Held::reserve`] with
//! the body (tokens, and what budgets they are taken from). Each takes from all limits or from none. What was taken goes back, or is settled to the truth, exactly
//! once, by [`Held::settle`].
//!
//! Cells are taken one after the other, from the key's to its team's. A request that fails at a later cell gives the earlier ones
//! back, so that among equal requests exactly as many pass as the tightest limit has room for, in any order of their steps.

mod budget;
mod caller;
mod foresight;
mod growth;
mod held;
mod soft;
mod wanted;

use super::Plan;
use crate::error::{Fault, FaultKind};
use crate::policy::limits::budget::Unit;
use crate::policy::limits::price::{Charge, Price};
use crate::policy::limits::running::Running;
use crate::units::{KeyId, Nanos};
use budget::take_budget;
pub use caller::Left;
use caller::{EndUser, RETRY_SOON, callers};
pub use foresight::foresee;
pub use growth::Grown;
pub use held::Held;
use held::{Growth, Of, budget_at};
use wanted::Taken;
pub use wanted::{At, Wanted};

/// Takes a slot in flight and a request of the minute, from the key and from its team.
///
/// # Errors
/// `InFlightExceeded` and `RequestsExceeded`, with the limit, whose it is, and the wait. Nothing is taken then.
pub fn enter(plan: &Plan, key: KeyId, now: Nanos) -> Result<(Held, Option<Left>), Fault> {
    let mut left = None;
    for (index, caller) in callers(plan, key, None).enumerate() {
        match caller.enter(now) {
            Ok(own) => left = tightest(left, own),
            Err(fault) => {
                let entered = callers(plan, key, None).take(index);
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
        let mut notes = Notes::default();
        let taken = self.take_tokens(plan, key, wanted, at.now, &mut notes).and_then(|left| {
            self.take_budgets(plan, wanted, at.unix_ms, &mut notes)?;
            Ok(left)
        });
        (self.growth, self.output_cap) = (notes.growth, notes.output_cap);
        if taken.is_err() {
            self.refuse(plan, at.now);
        }
        taken
    }

    /// Takes a slot in flight and a request of the minute from the end user that the client names, whose `hash` is.
    ///
    /// # Errors
    /// As of [`enter`]; or as many end users are in flight as there is room for. What was taken before is given back then.
    pub fn enter_user(
        &mut self,
        plan: &Plan,
        (name, hash): (&str, u64),
        at: At,
    ) -> Result<Option<Left>, Fault> {
        let (Some(key), Some(rules)) = (self.key, &plan.users) else { return Ok(None) };
        let Some(pin) = rules.table.pin(hash, at.now.millis()) else {
            self.refuse(plan, at.now);
            let note = "too many end users have requests in flight ([end_users] kept)";
            return Err(Fault::new(FaultKind::InFlightExceeded, note).retry_after(RETRY_SOON));
        };
        self.user = Some(EndUser { name: name.into(), pin });
        let entered = callers(plan, key, self.user.as_ref()).last().map(|caller| caller.enter(at.now));
        let entered = entered.unwrap_or(Ok(None));
        if entered.is_err() {
            self.user = None;
            rules.table.unpin(pin);
            self.refuse(plan, at.now);
        }
        entered
    }

    fn take_tokens(
        &mut self,
        plan: &Plan,
        key: KeyId,
        wanted: &Wanted,
        now: Nanos,
        notes: &mut Notes,
    ) -> Result<Option<Left>, Fault> {
        let mut left = None;
        let Self { tokens, user, .. } = self;
        for (index, caller) in callers(plan, key, user.as_ref()).enumerate() {
            let Some(rate) = &caller.limits.tokens else { continue };
            let (taken, room) = caller.take_tokens(rate, wanted, now)?;
            tokens[index] = Some(taken.amount);
            notes.take(wanted, &taken, Of::Caller(index), &caller.cells.growing);
            left = tightest(left, Some(Left { per_minute: rate.per_minute, room }));
        }
        Ok(left)
    }

    fn take_budgets(
        &mut self,
        plan: &Plan,
        wanted: &Wanted,
        unix_ms: u64,
        notes: &mut Notes,
    ) -> Result<(), Fault> {
        let places = self.budget_places(plan);
        self.budgets.reserve_exact(places.size_hint().0);
        for (index, at) in places.enumerate() {
            let (row, cells) = budget_at(plan, self.user.as_ref(), at);
            let (held, taken) = take_budget(row, cells, wanted, unix_ms)?;
            self.budgets.push((at, held));
            notes.take(wanted, &taken, Of::Budget(index), &cells.growing);
        }
        Ok(())
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
            callers(plan, key, self.user.as_ref()).for_each(|caller| caller.give_back_request(now));
        }
    }

    /// Gives the slot back and corrects the tokens that were taken to those that were used, at this price. Does nothing the second
    /// time.
    pub fn settle(&mut self, plan: &Plan, used: &Charge, price: Option<&Price>, now: Nanos) {
        self.settle_tokens(plan, used, price, now);
        if let Some(key) = self.key.take() {
            callers(plan, key, self.user.as_ref()).for_each(|caller| caller.cells.in_flight.leave());
        }
        if let (Some(user), Some(rules)) = (self.user.take(), &plan.users) {
            rules.table.unpin(user.pin);
        }
    }

    fn settle_tokens(&mut self, plan: &Plan, used: &Charge, price: Option<&Price>, now: Nanos) {
        let Some(key) = self.key else { return };
        self.leave(plan);
        let Self { tokens, user, .. } = self;
        for (caller, taken) in callers(plan, key, user.as_ref()).zip(tokens) {
            if let (Some(rate), Some(taken)) = (&caller.limits.tokens, taken.take()) {
                caller.cells.tokens.settle(rate, taken, used.tokens(), now);
            }
        }
        for (at, reservation) in self.budgets.drain(..) {
            let amount = match budget_at(plan, self.user.as_ref(), at).0.budget.unit {
                Unit::Tokens => used.tokens(),
                Unit::Money => price.map_or(0, |price| price.cost(used)),
            };
            reservation.settle(amount);
        }
    }
}

/// What is known of a request once all its limits were taken from.
#[derive(Default)]
struct Notes {
    growth: Option<Box<Growth>>,
    output_cap: Option<u64>,
}

impl Notes {
    /// Notes what came of one limit.
    fn take(&mut self, wanted: &Wanted, taken: &Taken, of: Of, running: &Running) {
        if let Some(cap) = taken.output_cap {
            self.output_cap = Some(self.output_cap.map_or(cap, |other| other.min(cap)));
        }
        if taken.is_slice && wanted.is_stream {
            self.growth.get_or_insert_with(|| Growth::new(wanted)).add(of, running, wanted.home);
        }
    }
}

/// The one of which less is left.
fn tightest(one: Option<Left>, other: Option<Left>) -> Option<Left> {
    [one, other].into_iter().flatten().min_by_key(|left| left.room.remaining)
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;
#[cfg(test)]
mod tests;
