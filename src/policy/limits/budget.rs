//! Budgets: so many tokens, or so much money, per window of time. Exact across shards.
//!
//! An exchange counts in the window in which it began: what was taken in advance is settled there, also when that window is over by
//! then. A clock that steps back never opens an older window again, so each window begins once.

mod shared;
mod window;

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::running::Running;
use crate::sync::{AtomicU64, Ordering};
use crate::units::{ModelId, Nanos};
use shared::Elsewhere;
#[cfg_attr(not(feature = "rooms"), expect(unused_imports))] // what `Spent::lease` returns
pub use shared::Lease;
pub use window::{Per, Window};

/// A limit per window.
#[derive(Clone, Debug)]
pub struct Budget {
    /// What is counted.
    pub unit: Unit,
    /// How much may be used in a window: tokens, or [`MONEY`]ths of a unit of money.
    pub most: u64,
    /// From when to when.
    pub window: Window,
    /// It refuses nothing, and counts what it would have refused.
    pub shadow: bool,
    /// What happens before it refuses, the smallest share first.
    pub soft: Box<[Soft]>,
}

/// What happens to a request when a share of a budget is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Soft {
    /// Thousandths of the budget.
    pub at_permille: u64,
    /// What happens then.
    pub action: SoftAction,
}

/// What a soft limit does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SoftAction {
    /// The response says so.
    Warn,
    /// The request waits so long before it is sent.
    Throttle(Nanos),
    /// Another model is called.
    Downgrade(ModelId),
}

/// What a budget counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Unit {
    /// Tokens of prompts and responses.
    Tokens,
    /// What they cost by the prices.
    Money,
}

/// Money is counted in these parts of its unit. A count of 64 bits goes up to 18 billion units.
pub const MONEY: u64 = 1_000_000_000;

/// How much of a budget is used.
pub struct Spent {
    frame: ArcSwap<Frame>,
    /// Responses that take more of it while they run.
    pub growing: Running,
    /// Requests that it would have refused, had it not been a shadow.
    pub would_refuse: AtomicU64,
    /// What other gateways have of it when a window begins; 0 for a budget that is not shared. Read when a window begins only.
    away: AtomicU64,
    /// The most that a request wanted in vain of a shared budget since the last look.
    missed: AtomicU64,
}

/// What counts now: the slot of time that runs, and for a rolling window those before it, the oldest first.
struct Frame {
    slot: Arc<Slot>,
    before: Box<[Arc<Slot>]>,
}

/// A stretch of time in which use is summed up: a calendar window, or a part of a rolling one.
struct Slot {
    start_ms: u64,
    end_ms: u64,
    /// Settled, and taken in advance.
    used: AtomicU64,
    /// Taken in advance by exchanges that still run.
    reserved: AtomicU64,
    /// What other gateways have of the budget in this window; `None` for a budget that is not shared. All slots of a rolling
    /// window have the same.
    elsewhere: Option<Arc<Elsewhere>>,
}

/// What one exchange has taken in advance. It has to be settled.
#[must_use = "what was taken has to be settled"]
pub struct Reservation {
    slot: Arc<Slot>,
    amount: u64,
}

/// Where a budget stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Used in this window, with what running exchanges have taken in advance; of a shared budget, by all gateways.
    pub used: u64,
    /// Of a shared budget: what other gateways may use, and have not.
    pub away: u64,
    /// The part of `used` that is taken in advance.
    pub reserved: u64,
    /// When the window began, Unix milliseconds.
    pub start_ms: u64,
    /// When the window ends; of a rolling one, when the first of what is used is there again.
    pub reset_ms: u64,
}

/// Attempts at a cell that others take from all the time. Chosen, not measured: one is the rule.
const TRIES_MAX: u32 = 10_000;

impl Default for Spent {
    fn default() -> Self {
        let frame = Frame { slot: Arc::new(Slot::new((0, 0), None)), before: Box::default() };
        Self {
            frame: ArcSwap::from_pointee(frame),
            growing: Running::default(),
            would_refuse: AtomicU64::new(0),
            away: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }
}

impl Spent {
    /// Takes `cost` if the window has room for it.
    ///
    /// # Errors
    /// Where the budget stands.
    ///
    /// Cost: one pointer and one compare-exchange, again for each shard that was quicker; a rolling window also reads its slots.
    pub fn take(&self, budget: &Budget, cost: u64, unix_ms: u64) -> Result<Reservation, Standing> {
        loop {
            let frame = self.frame(&budget.window, unix_ms);
            let before = frame.before(&budget.window, unix_ms).saturating_add(frame.slot.away());
            let taken = frame.slot.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
                let sum = before.saturating_add(used).checked_add(cost)?;
                (sum <= budget.most).then(|| used + cost)
            });
            if taken.is_err() {
                self.miss(&frame.slot, cost);
                return Err(frame.standing(&budget.window, unix_ms));
            }
            if budget.window.is_rolling() || frame.slot.elsewhere.is_some() {
                // The next slot of a rolling window adds this one up: it must not grow after that.
                if !Arc::ptr_eq(&self.frame.load(), &frame) {
                    frame.slot.used.fetch_sub(cost, Ordering::SeqCst);
                    continue;
                }
                // An older slot may have grown meanwhile: of the two, one sees the other. What it saw may be on its way out again,
                // so that it looks once more.
                if frame.sum(&budget.window, unix_ms) > budget.most {
                    frame.slot.used.fetch_sub(cost, Ordering::SeqCst);
                    continue;
                }
            }
            frame.slot.reserved.fetch_add(cost, Ordering::Relaxed);
            return Ok(Reservation { slot: Arc::clone(&frame.slot), amount: cost });
        }
    }

    /// Takes `cost` whether there is room for it or not.
    pub fn take_anyway(&self, budget: &Budget, cost: u64, unix_ms: u64) -> Reservation {
        let frame = self.frame(&budget.window, unix_ms);
        frame.slot.used.fetch_add(cost, Ordering::SeqCst);
        frame.slot.reserved.fetch_add(cost, Ordering::Relaxed);
        Reservation { slot: Arc::clone(&frame.slot), amount: cost }
    }

    /// Takes as much as is wanted of what is left, if that is there, on top of what `held` has; how much that is. What is left
    /// is what the one before has left, however many ask at once.
    ///
    /// It counts where `held` counts, in the window in which its exchange began.
    pub fn grow(
        &self,
        budget: &Budget,
        held: &mut Reservation,
        wanted: impl Fn(u64) -> u64,
        unix_ms: u64,
    ) -> u64 {
        let slot = &held.slot.used;
        for _ in 0..TRIES_MAX {
            let used = slot.load(Ordering::SeqCst);
            let frame = budget.window.is_rolling().then(|| self.frame(&budget.window, unix_ms));
            let sum = |used: u64| match &frame {
                Some(frame) => frame.sum(&budget.window, unix_ms),
                None => used.saturating_add(held.slot.away()),
            };
            let left = budget.most.saturating_sub(sum(used));
            let asked = wanted(left);
            if asked > left {
                self.miss(&held.slot, asked);
            }
            let taken = asked.min(left);
            if taken == 0 {
                return 0;
            }
            let is_taken = slot.compare_exchange(used, used + taken, Ordering::SeqCst, Ordering::SeqCst);
            if is_taken.is_err() {
                continue; // another shard was quicker
            }
            // Another slot of a rolling window may have grown meanwhile, or what other gateways have.
            let is_summed = frame.is_some() || held.slot.elsewhere.is_some();
            if is_summed && sum(slot.load(Ordering::SeqCst)) > budget.most {
                slot.fetch_sub(taken, Ordering::SeqCst);
                continue;
            }
            held.slot.reserved.fetch_add(taken, Ordering::Relaxed);
            held.amount += taken;
            return taken;
        }
        0
    }

    /// Where the budget stands.
    pub fn standing(&self, window: &Window, unix_ms: u64) -> Standing {
        self.frame(window, unix_ms).standing(window, unix_ms)
    }

    /// As if nothing had been used.
    pub(super) fn reset(&self) {
        self.frame.store(Self::default().frame.into_inner());
    }

    /// Adds what was used in this window before the process began.
    pub fn restore(&self, window: &Window, amount: u64, unix_ms: u64) {
        self.frame(window, unix_ms).slot.used.fetch_add(amount, Ordering::SeqCst);
    }

    /// What counts now.
    fn frame(&self, window: &Window, unix_ms: u64) -> Guard<Arc<Frame>> {
        let frame = self.frame.load();
        if unix_ms < frame.slot.end_ms { frame } else { self.next(frame, window, unix_ms) }
    }

    /// Opens the slot that runs now, unless another shard was quicker.
    #[cold]
    fn next(&self, mut old: Guard<Arc<Frame>>, window: &Window, unix_ms: u64) -> Guard<Arc<Frame>> {
        while unix_ms >= old.slot.end_ms {
            let (start_ms, end_ms) = window.slot(unix_ms);
            let elsewhere = self.elsewhere(&old.slot, window);
            let slot = Slot::new((start_ms, end_ms), elsewhere);
            let counts = |slot: &&Arc<Slot>| window.counts(slot.end_ms, unix_ms);
            let before = old.before.iter().chain([&old.slot]).filter(counts).cloned().collect();
            self.frame.compare_and_swap(&old, Arc::new(Frame { slot: Arc::new(slot), before }));
            old = self.frame.load();
        }
        old
    }
}

impl Slot {
    fn new((start_ms, end_ms): (u64, u64), elsewhere: Option<Arc<Elsewhere>>) -> Self {
        Self { start_ms, end_ms, used: AtomicU64::new(0), reserved: AtomicU64::new(0), elsewhere }
    }

    /// What other gateways have of a shared budget.
    fn away(&self) -> u64 {
        self.elsewhere.as_ref().map_or(0, |elsewhere| elsewhere.all())
    }
}

impl Frame {
    /// The slots that count now, the oldest first.
    fn slots<'a>(&'a self, window: &'a Window, unix_ms: u64) -> impl Iterator<Item = &'a Slot> {
        let before = self.before.iter().filter(move |slot| window.counts(slot.end_ms, unix_ms));
        before.chain([&self.slot]).map(|slot| &**slot)
    }

    /// Used in the slots before the one that runs.
    fn before(&self, window: &Window, unix_ms: u64) -> u64 {
        let counting = self.before.iter().filter(|slot| window.counts(slot.end_ms, unix_ms));
        counting.map(|slot| slot.used.load(Ordering::SeqCst)).sum()
    }

    /// Used in all slots that count now, and what other gateways have.
    fn sum(&self, window: &Window, unix_ms: u64) -> u64 {
        let own: u64 = self.slots(window, unix_ms).map(|slot| slot.used.load(Ordering::SeqCst)).sum();
        own.saturating_add(self.slot.away())
    }

    fn standing(&self, window: &Window, unix_ms: u64) -> Standing {
        let sum = |cell: fn(&Slot) -> &AtomicU64| -> u64 {
            self.slots(window, unix_ms).map(|slot| cell(slot).load(Ordering::SeqCst)).sum()
        };
        let oldest = self.slots(window, unix_ms).find(|slot| slot.used.load(Ordering::SeqCst) > 0);
        let oldest = oldest.unwrap_or(&self.slot);
        let (away, used_elsewhere) =
            self.slot.elsewhere.as_ref().map_or((0, 0), |elsewhere| elsewhere.split());
        Standing {
            used: sum(|slot| &slot.used).saturating_add(used_elsewhere),
            away,
            reserved: sum(|slot| &slot.reserved),
            start_ms: window.start(self.slot.start_ms, unix_ms),
            reset_ms: window.reset(oldest.end_ms),
        }
    }
}

impl Reservation {
    /// Corrects what was taken to what was used, which may be more.
    pub fn settle(self, used: u64) {
        self.slot.reserved.fetch_sub(self.amount, Ordering::Relaxed);
        if used > self.amount {
            self.slot.used.fetch_add(used - self.amount, Ordering::SeqCst);
        } else {
            self.slot.used.fetch_sub(self.amount - used, Ordering::SeqCst);
        }
    }

    /// How much was taken.
    pub fn amount(&self) -> u64 {
        self.amount
    }
}

impl Budget {
    /// A hard one: it refuses, and does nothing before.
    pub fn hard(unit: Unit, most: u64, window: Window) -> Self {
        Self { unit, most, window, shadow: false, soft: Box::default() }
    }

    /// The last of the soft limits whose share is reached, by `used`.
    pub fn soft_at(&self, used: u64) -> Option<Soft> {
        let share = u128::from(used) * 1000;
        let reached = |soft: &&Soft| share >= u128::from(soft.at_permille) * u128::from(self.most);
        self.soft.iter().rev().find(reached).copied()
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Tokens => write!(out, "{} tokens {}", self.most, self.window)?,
            Unit::Money => write!(out, "{} {}", Money(self.most), self.window)?,
        }
        if self.shadow { out.write_str(", in the shadow") } else { Ok(()) }
    }
}

/// An amount of money, as people write it.
pub struct Money(pub u64);

impl fmt::Display for Money {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0 / MONEY, self.0 % MONEY);
        let digits = text.trim_end_matches('0').len().max(text.len() - 7);
        out.write_str(&text[..digits])
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;
#[cfg(test)]
mod tests;
