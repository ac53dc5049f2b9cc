//! Rate limits: one atomic cell each, exact across shards.
//!
//! The generic cell rate algorithm: the cell holds the theoretical arrival time, the moment at which the bucket is
//! full again. What has been taken and not yet regained is the way from `now` to it. Refilling needs no work, and a
//! process that was stopped for an hour wakes to one burst, not to an hour's worth.
//!
//! Rounding: a cost is rounded down to whole nanoseconds (at least one), the burst up, so that `burst` takes of one
//! fit exactly. A take therefore gains less than the refill of one nanosecond.

pub use shared::PARTS;

use crate::sync::{AtomicU64, Ordering};
use crate::units::Nanos;

/// A limit per minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Units regained per minute.
    pub per_minute: u64,
    /// Units that may be taken at once.
    pub burst: u64,
    /// Gateways that share the limit, 1 for one of this gateway alone: its bucket regains one part of so many by itself, and what
    /// else it has was moved into it (`lease`).
    pub gateways: u32,
}

/// The cell of one limit: the theoretical arrival time in nanoseconds. A fresh one is full.
#[derive(Default)]
pub struct Bucket {
    arrival: AtomicU64,
    /// The most that a take of a shared limit wanted in vain since the last look. Written only by a take that fails.
    missed: AtomicU64,
}

/// What is left after a take: the `x-ratelimit-*` lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Units that could be taken now.
    pub remaining: u64,
    /// Until the bucket is full again.
    pub reset: Nanos,
}

/// Why a take was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// The same take succeeds this much later, if nobody else takes in the meantime.
    For(Nanos),
    /// The cost is larger than the burst, or nothing is ever regained.
    Never,
}

/// How far an extra charge may push a bucket beyond empty. Taste: a backend that reports an absurd usage may silence
/// a key for an hour, not for good.
pub const DEBT_MAX: Nanos = Nanos(3_600_000_000_000);

const MINUTE: u128 = 60_000_000_000;

impl Rate {
    /// Nanoseconds in which `units` are regained, rounded down, at least one for a unit. `None` if never.
    fn regained_in(&self, units: u64) -> Option<u128> {
        match (units, self.per_minute) {
            (0, _) => Some(0),
            (_, 0) => None,
            (units, rate) => Some((u128::from(units) * self.minute() / u128::from(rate)).max(1)),
        }
    }

    /// Nanoseconds from empty to full, rounded up. Zero if nothing is ever regained.
    fn depth(&self) -> u128 {
        match self.per_minute {
            0 => 0,
            rate => (u128::from(self.burst) * self.minute()).div_ceil(u128::from(rate)),
        }
    }

    /// Nanoseconds in which a bucket regains the units of a minute by itself.
    fn minute(&self) -> u128 {
        MINUTE * u128::from(self.gateways)
    }

    /// What is left at `now` in a bucket that is full at `arrival`.
    fn room(&self, arrival: u64, now: Nanos) -> Room {
        let used = u128::from(arrival.saturating_sub(now.0));
        let left = self.depth().saturating_sub(used) * u128::from(self.per_minute) / self.minute();
        Room {
            remaining: u64::try_from(left).unwrap_or(u64::MAX).min(self.burst),
            reset: Nanos(arrival).since(now),
        }
    }
}

impl Bucket {
    /// Takes `cost` units if they are there, all or none.
    ///
    /// # Errors
    /// [`Wait::For`] the time after which they would be, [`Wait::Never`] if they never can.
    ///
    /// Cost: two loads and one compare-exchange, again for each shard that was quicker.
    pub fn take(&self, rate: &Rate, cost: u64, now: Nanos) -> Result<Room, Wait> {
        if cost > rate.burst {
            return Err(Wait::Never);
        }
        let units = cost;
        let cost = rate.regained_in(cost).ok_or(Wait::Never)?;
        let depth = rate.depth();
        let mut seen = self.arrival.load(Ordering::Relaxed);
        loop {
            let arrival = u128::from(seen.max(now.0)) + cost;
            // The second bound is the end of the clock: beyond it the cell could not count on.
            let latest = (u128::from(now.0) + depth).min(u128::from(u64::MAX));
            if arrival > latest {
                self.miss(rate, units);
                // At the earliest, where others give what they regain.
                let wait = (arrival - latest).div_ceil(u128::from(rate.gateways));
                return Err(Wait::For(Nanos(u64::try_from(wait).unwrap_or(u64::MAX))));
            }
            match self.arrival.compare_exchange_weak(
                seen,
                arrival as u64,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(rate.room(arrival as u64, now)),
                Err(newer) => seen = newer,
            }
        }
    }

    /// Takes as many units as are wanted of those that are left, if they are there; how many that is. What is left is what the
    /// one before has left, however many ask at once.
    pub fn take_of(&self, rate: &Rate, wanted: impl Fn(u64) -> u64, now: Nanos) -> u64 {
        let latest = (u128::from(now.0) + rate.depth()).min(u128::from(u64::MAX));
        let mut seen = self.arrival.load(Ordering::Relaxed);
        loop {
            let left = rate.room(seen, now).remaining;
            let ends = |units: u64| Some(u128::from(seen.max(now.0)) + rate.regained_in(units)?);
            // Rounding may make the last unit one too many.
            let asked = wanted(left);
            if asked > left {
                self.miss(rate, asked);
            }
            let most = asked.min(left);
            let fits = |units: &u64| ends(*units).is_some_and(|arrival| arrival <= latest);
            let Some(units) =
                [most, most.saturating_sub(1)].into_iter().find(fits).filter(|units| *units > 0)
            else {
                return 0;
            };
            let arrival = ends(units).unwrap_or(latest) as u64;
            match self.arrival.compare_exchange_weak(seen, arrival, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return units,
                Err(newer) => seen = newer,
            }
        }
    }

    /// Corrects a take of `reserved` units to the `actual` ones: gives the difference back, or charges it.
    ///
    /// What is given back never makes the bucket fuller than full: what time has refilled since is not paid twice.
    /// What is charged may put it in debt, at most [`DEBT_MAX`] beyond empty. `actual = 0` undoes the take.
    pub fn settle(&self, rate: &Rate, reserved: u64, actual: u64, now: Nanos) {
        let Some(difference) = rate.regained_in(reserved.abs_diff(actual)) else {
            return;
        };
        if difference == 0 {
            return;
        }
        let difference = u64::try_from(difference).unwrap_or(u64::MAX);
        let depth = u64::try_from(rate.depth()).unwrap_or(u64::MAX);
        let latest = now.0.saturating_add(depth).saturating_add(DEBT_MAX.0);
        let moved = |arrival: u64| match actual < reserved {
            true if arrival <= now.0 => None,
            true => Some(arrival.saturating_sub(difference).max(now.0)),
            false => Some(arrival.max(now.0).saturating_add(difference).min(latest.max(arrival))),
        };
        let _ = self.arrival.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved);
    }

    #[inline]
    fn miss(&self, rate: &Rate, units: u64) {
        if rate.gateways > 1 {
            self.missed.fetch_max(units, Ordering::Relaxed);
        }
    }

    /// Full again.
    pub(super) fn reset(&self) {
        self.arrival.store(0, Ordering::Relaxed);
    }

    /// What could be taken now.
    pub fn peek(&self, rate: &Rate, now: Nanos) -> Room {
        rate.room(self.arrival.load(Ordering::Relaxed), now)
    }
}

mod shared;

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;
#[cfg(test)]
mod tests;
