//! A budget that several gateways share: what this one has leased, and what the coordinator moves.
//!
//! In each window a gateway begins with its share, `most / gateways`. What it has not leased counts as used here, so that a shard
//! takes from what is left as it does of a budget that is not shared. Coordinator and shards add first and then look at the sum: of
//! two that come together one sees the other, and takes back.

use std::sync::Arc;

use super::window::Window;
use super::{Budget, Slot, Spent};
use crate::sync::{AtomicU64, Ordering};

/// What other gateways have of a budget.
pub(super) struct Elsewhere {
    all: AtomicU64,
    /// The part of it that they have used, as last heard.
    used: AtomicU64,
}

/// What this gateway has of a shared budget in a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Which window: when it began, 0 for a rolling one.
    pub window: u64,
    /// Until the window is over, milliseconds; for a rolling one, its length.
    pub left_ms: u64,
    /// What it may use.
    pub leased: u64,
    /// What it has used, with what running exchanges have taken in advance.
    pub used: u64,
}

impl Lease {
    /// What it may still use.
    pub fn held(&self) -> u64 {
        self.leased.saturating_sub(self.used)
    }
}

impl Elsewhere {
    pub(super) fn all(&self) -> u64 {
        self.all.load(Ordering::SeqCst)
    }

    /// What others may still use, and what they have used.
    pub(super) fn split(&self) -> (u64, u64) {
        let used = self.used.load(Ordering::Relaxed);
        let all = self.all();
        (all.saturating_sub(used), used.min(all))
    }
}

impl Spent {
    /// From the next window on the budget is shared, and other gateways have so much of it when a window begins. 0 for one that is
    /// not.
    pub fn share(&self, away: u64) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// What is leased here now; `None` for a budget that is not shared.
    pub fn lease(&self, budget: &Budget, unix_ms: u64) -> Option<Lease> {
        let frame = self.frame(&budget.window, unix_ms);
        let away = frame.slot.elsewhere.as_ref()?.all();
        let own = frame.sum(&budget.window, unix_ms).saturating_sub(away);
        let (window, left_ms) = match budget.window.is_rolling() {
            true => (0, budget.window.reset(0)),
            false => (frame.slot.start_ms, frame.slot.end_ms.saturating_sub(unix_ms)),
        };
        Some(Lease { window, left_ms, leased: budget.most.saturating_sub(away).max(own), used: own })
    }

    /// Other gateways have given up so much: it may be used here. Not if the window of the lease is over.
    pub fn receive(&self, budget: &Budget, window: u64, amount: u64, unix_ms: u64) {
        self.with(budget, window, unix_ms, |elsewhere| {
            let less = |all: u64| Some(all.saturating_sub(amount));
            let _ = elsewhere.all.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        });
    }

    /// Gives up to so much to other gateways, of what is not used; how much.
    pub fn give(&self, budget: &Budget, window: u64, amount: u64, unix_ms: u64) -> u64 {
        let mut given = 0;
        self.with(budget, window, unix_ms, |elsewhere| {
            for _ in 0..TRIES_MAX {
                let frame = self.frame(&budget.window, unix_ms);
                let left = budget.most.saturating_sub(frame.sum(&budget.window, unix_ms));
                let part = amount.min(left);
                elsewhere.all.fetch_add(part, Ordering::SeqCst);
                // A shard may have taken of it meanwhile.
                if part == 0 || frame.sum(&budget.window, unix_ms) <= budget.most {
                    given = part;
                    return;
                }
                elsewhere.all.fetch_sub(part, Ordering::SeqCst);
            }
        });
        given
    }

    /// What others have used.
    pub fn note_used_elsewhere(&self, budget: &Budget, window: u64, used: u64, unix_ms: u64) {
        self.with(budget, window, unix_ms, |elsewhere| elsewhere.used.store(used, Ordering::Relaxed));
    }

    /// The most that a request wanted in vain since the last look.
    pub fn take_missed(&self) -> u64 {
        match self.missed.load(Ordering::Relaxed) {
            0 => 0, // nearly always: no write to a line that shards read
            _ => self.missed.swap(0, Ordering::Relaxed),
        }
    }

    fn with(&self, budget: &Budget, window: u64, unix_ms: u64, act: impl FnOnce(&Elsewhere)) {
        let frame = self.frame(&budget.window, unix_ms);
        let is_it = budget.window.is_rolling() || frame.slot.start_ms == window;
        if let Some(elsewhere) = frame.slot.elsewhere.as_ref().filter(|_| is_it) {
            act(elsewhere);
        }
    }

    /// What others have in the window that follows a slot.
    pub(super) fn elsewhere(&self, before: &Slot, window: &Window) -> Option<Arc<Elsewhere>> {
        if let (true, Some(kept)) = (window.is_rolling(), &before.elsewhere) {
            return Some(Arc::clone(kept));
        }
        let away = self.away.load(Ordering::Relaxed);
        (away > 0).then(|| Arc::new(Elsewhere { all: AtomicU64::new(away), used: AtomicU64::new(0) }))
    }

    pub(super) fn miss(&self, slot: &Slot, cost: u64) {
        if slot.elsewhere.is_some() {
            self.missed.fetch_max(cost, Ordering::Relaxed);
        }
    }
}

/// Tries against shards that take all the time. Chosen, not measured.
const TRIES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::super::{Per, Unit};
    use super::*;

    const DAY: u64 = 86_400_000;

    fn shared(window: Window) -> (Budget, Spent) {
        let spent = Spent::default();
        spent.share(50);
        (Budget::hard(Unit::Tokens, 100, window), spent)
    }

    fn windows() -> [Window; 2] {
        [Window::calendar(Per::Day, TimeZone::UTC), Window::rolling(Per::Day)]
    }

    #[test]
    fn a_gateway_uses_its_share_and_what_it_receives_and_no_more() {
        for window in windows() {
            let (budget, spent) = shared(window);
            let first = spent.take(&budget, 50, DAY).unwrap();
            assert_eq!(
                spent.take(&budget, 1, DAY).err().map(|standing| (standing.used, standing.away)),
                Some((50, 50))
            );
            assert_eq!(spent.take_missed(), 1);
            let lease = spent.lease(&budget, DAY).unwrap();
            assert_eq!((lease.leased, lease.used), (50, 50));
            spent.receive(&budget, lease.window, 20, DAY);
            let second = spent.take(&budget, 20, DAY).unwrap();
            assert!(spent.take(&budget, 1, DAY).is_err());
            first.settle(40);
            assert_eq!(spent.give(&budget, lease.window, 100, DAY), 10, "what is not used");
            assert!(spent.take(&budget, 1, DAY).is_err());
            second.settle(20);
            spent.note_used_elsewhere(&budget, lease.window, 30, DAY);
            let standing = spent.standing(&budget.window, DAY);
            assert_eq!((standing.used, standing.away), (90, 10));
        }
    }

    #[test]
    fn a_response_that_runs_grows_into_what_is_leased_only() {
        for window in windows() {
            let (budget, spent) = shared(window);
            let mut held = spent.take(&budget, 40, DAY).unwrap();
            assert_eq!(spent.grow(&budget, &mut held, |_| 30, DAY), 10);
            assert_eq!(spent.take_missed(), 30);
            held.settle(50);
        }
    }

    #[test]
    fn a_calendar_window_begins_with_the_share_and_a_lease_of_the_one_before_is_void() {
        let (budget, spent) = shared(Window::calendar(Per::Day, TimeZone::UTC));
        let window = spent.lease(&budget, DAY).unwrap().window;
        spent.receive(&budget, window, 50, DAY);
        let old = spent.take(&budget, 90, DAY).unwrap();
        spent.receive(&budget, window, 50, 2 * DAY);
        assert_eq!(spent.lease(&budget, 2 * DAY).map(|lease| (lease.leased, lease.used)), Some((50, 0)));
        assert_eq!(spent.give(&budget, window, 50, 2 * DAY), 0);
        old.settle(95);
    }
}
