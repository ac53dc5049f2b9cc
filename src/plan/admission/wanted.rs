//! The tokens that a request may cost, and what of them is taken of one limit.

use crate::policy::limits::budget::{Budget, Unit};
use crate::policy::limits::price::{Charge, Price};
use crate::units::Nanos;

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

/// What a response that cannot be stopped takes of the `left` units: its prompt and half of the rest, or the last slice.
pub(super) fn share(left: u64, prompt: u64, slice: u64) -> u64 {
    prompt.saturating_add(left.saturating_sub(prompt) / 2).max(slice)
}

/// What was taken of one limit.
pub(super) struct Taken {
    pub(super) amount: u64,
    /// The prompt and a slice of output, not the whole cap.
    pub(super) is_slice: bool,
    /// Tokens of each choice that are covered, where the response is to have no more.
    pub(super) output_cap: Option<u64>,
}

/// What a request may cost of one budget, in its unit.
pub(super) struct Cost {
    /// Its text alone.
    pub(super) text: u64,
    /// All of its prompt.
    pub(super) prompt: u64,
    /// Its prompt and a slice of output for each choice.
    pub(super) slice: u64,
    /// The least that it can do with: its prompt, and a few tokens of output.
    pub(super) least: u64,
    /// All that is taken.
    pub(super) all: u64,
    /// That is the prompt and a slice of output, not the whole cap.
    pub(super) is_slice: bool,
    /// With all that its model makes.
    pub(super) model_max: u64,
}

impl Wanted {
    /// The tokens to take from a limit that can hold `most`; whether they are a slice.
    pub(super) fn tokens(&self, most: u64) -> (u64, bool) {
        self.fitted(most, |output| self.prompt.saturating_add(output))
    }

    /// What to take of a budget, in its unit. `None` for a budget of money if there is no price.
    pub(super) fn cost(&self, budget: &Budget) -> Option<Cost> {
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
    pub(super) fn rest(&self, unit: Unit, amount: u64) -> Taken {
        let output = covered(unit, amount, self.prompt, self.price.as_ref());
        let output_cap = (output / self.choices.max(1)).min(self.model_max);
        Taken { amount, is_slice: true, output_cap: Some(output_cap) }
    }
}

/// Tokens of output that `amount` of a unit covers beside the prompt.
pub(super) fn covered(unit: Unit, amount: u64, prompt: u64, price: Option<&Price>) -> u64 {
    match (unit, price) {
        (Unit::Money, Some(price)) => {
            let input = price.cost(&Charge { input: prompt, ..Charge::default() });
            price.output_for(amount.saturating_sub(input))
        }
        _ => amount.saturating_sub(prompt),
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

/// The smallest cap that is written into a request: below it there is no response worth having, and some APIs refuse it.
pub(super) const OUTPUT_MIN: u64 = 16;
