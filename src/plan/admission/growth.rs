//! What a response takes of its limits while it runs: one slice after the other, where no more than a slice of output was taken in
//! advance.
//!
//! At the line, when a limit has nothing left, nothing new is admitted to it, the oldest response that waits is the next to get
//! more, and the youngest is stopped. What that one had not used goes to those that wait.

use super::caller::{Caller, callers};
use super::held::{Growing, Growth, Held, Of, budget_at};
use super::wanted::{At, covered};
use crate::error::{Fault, FaultKind};
use crate::plan::{BudgetRow, Plan};
use crate::policy::limits::budget::Unit;
use crate::policy::limits::price::Charge;
use crate::policy::limits::running::{Running, Stopped};

/// What came of a wish for more.
#[derive(Debug)]
pub enum Grown {
    /// What was wished for, or a part of it, is covered now.
    Covered,
    /// Not now. If a response had to be told to stop: where it runs.
    Wait(Option<u64>),
    /// The response is the one that stops.
    Stop(Fault),
}

impl Held {
    /// Whether the response takes more of a limit while it runs, so that its text has to be counted.
    #[cfg(test)]
    pub fn grows(&self) -> bool {
        self.growth.is_some()
    }

    /// Tokens of output that are covered by what was taken.
    pub fn covered(&self, plan: &Plan) -> u64 {
        let Some(growth) = &self.growth else { return u64::MAX };
        growth.limits.iter().map(|row| self.covered_by(plan, growth, row.of)).min().unwrap_or(u64::MAX)
    }

    /// Takes more of every limit that does not cover `output` tokens: as many as are missing, and a slice.
    ///
    /// Cost: one compare-exchange for each limit; at the line a look at all responses that grow on it.
    pub fn grow(&mut self, plan: &Plan, output: u64, at: At) -> Grown {
        let Some(growth) = self.growth.take() else { return Grown::Covered };
        let mut short = None;
        for row in &growth.limits {
            let missing = output.saturating_sub(self.covered_by(plan, &growth, row.of));
            if missing == 0 {
                continue;
            }
            let is_later = |place| self.running(plan, row.of).is_older_waiting(place);
            if !row.place.is_some_and(is_later) {
                self.take_more(plan, &growth, row.of, missing.saturating_add(growth.slice), at);
            }
            match self.covered_by(plan, &growth, row.of) >= output {
                true => _ = row.place.inspect(|place| self.running(plan, row.of).go_on(*place)),
                false => short = short.or(Some(row)),
            }
        }
        let grown = short.map_or(Grown::Covered, |row| self.at_the_line(plan, row));
        self.growth = Some(growth);
        grown
    }

    /// Why the response has to stop, if it was told to.
    pub fn stopped(&self, plan: &Plan) -> Option<Fault> {
        let growth = self.growth.as_ref()?;
        let is_stopped =
            |row: &&Growing| row.place.is_some_and(|place| self.running(plan, row.of).is_stopped(place));
        growth.limits.iter().find(is_stopped).map(|row| self.reached(plan, row.of))
    }

    /// The response has ended, or goes no further.
    pub(super) fn leave(&mut self, plan: &Plan) {
        let Some(growth) = self.growth.take() else { return };
        for row in &growth.limits {
            row.place.inspect(|place| self.running(plan, row.of).leave(*place));
        }
    }

    #[cold]
    fn at_the_line(&self, plan: &Plan, row: &Growing) -> Grown {
        let Some(place) = row.place else { return Grown::Stop(self.reached(plan, row.of)) };
        let running = self.running(plan, row.of);
        running.wait(place);
        if running.is_older_waiting(place) {
            return Grown::Wait(None); // that one comes first, and sees to who stops
        }
        match running.stop_youngest(place) {
            Stopped::Own => Grown::Stop(self.reached(plan, row.of)),
            Stopped::Other(home) => Grown::Wait(Some(home)),
            Stopped::Before => Grown::Wait(None),
        }
    }

    fn take_more(&mut self, plan: &Plan, growth: &Growth, of: Of, output: u64, at: At) {
        let Self { key, user, tokens, budgets, .. } = self;
        match of {
            Of::Caller(index) => {
                let caller = key.and_then(|key| callers(plan, key, user.as_ref()).nth(index));
                if let (Some(caller), Some(taken)) = (caller, &mut tokens[index])
                    && let Some(rate) = &caller.limits.tokens
                {
                    *taken += caller.cells.tokens.take_of(rate, |_| output, at.now);
                }
            }
            Of::Budget(index) => {
                let (place, held) = &mut budgets[index];
                let (BudgetRow { budget, .. }, cells) = budget_at(plan, user.as_ref(), *place);
                let most = match (budget.unit, &growth.price) {
                    (Unit::Money, Some(price)) => price.cost(&Charge { output, ..Charge::default() }),
                    _ => output,
                };
                cells.grow(budget, held, |_| most, at.unix_ms);
            }
        }
    }

    fn covered_by(&self, plan: &Plan, growth: &Growth, of: Of) -> u64 {
        match of {
            Of::Caller(index) => covered(Unit::Tokens, self.tokens[index].unwrap_or(0), growth.prompt, None),
            Of::Budget(index) => {
                let (at, held) = &self.budgets[index];
                let unit = budget_at(plan, self.user.as_ref(), *at).0.budget.unit;
                covered(unit, held.amount(), growth.prompt, growth.price.as_ref())
            }
        }
    }

    fn running<'p>(&'p self, plan: &'p Plan, of: Of) -> &'p Running {
        match of {
            Of::Budget(index) => &budget_at(plan, self.user.as_ref(), self.budgets[index].0).1.growing,
            Of::Caller(index) => match self.caller(plan, index) {
                Some(caller) => &caller.cells.growing,
                None => unreachable!("an exchange that grows has a key"),
            },
        }
    }

    fn caller<'p>(&'p self, plan: &'p Plan, index: usize) -> Option<Caller<'p>> {
        callers(plan, self.key?, self.user.as_ref()).nth(index)
    }

    /// What the client is told at the line.
    #[cold]
    fn reached(&self, plan: &Plan, of: Of) -> Fault {
        match of {
            Of::Caller(index) => {
                let caller = self.caller(plan, index);
                let (kind, name) = caller.map_or(("key", ""), |caller| (caller.kind, caller.name));
                let rate = caller.and_then(|caller| caller.limits.tokens);
                let most = rate.map_or(0, |rate| rate.per_minute);
                let note = format!(
                    "rate limit exceeded while the response ran: {most} tokens per minute for {kind} '{name}'"
                );
                Fault::new(FaultKind::TokensExceeded, note)
            }
            Of::Budget(index) => {
                let at = self.budgets[index].0;
                let BudgetRow { name, budget } = budget_at(plan, self.user.as_ref(), at).0;
                let note =
                    format!("budget exceeded while the response ran: {} may use {budget}", name.holder);
                Fault::new(FaultKind::BudgetExceeded, note)
            }
        }
    }
}
