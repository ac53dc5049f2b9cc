//! A timer wheel: ten thousand streams due every few milliseconds cost a push and a pop each.

/// One timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// The tick it is due at.
    pub(super) at: u64,
    /// Whose.
    pub(super) index: usize,
}

/// Timers by tick. A slot holds the timers of every tick that falls on it; those of a later turn stay.
#[derive(Debug)]
pub(super) struct Wheel {
    /// Length [`SLOTS`], by `tick % SLOTS`.
    slots: Vec<Vec<Due>>,
    /// All ticks before this one are done.
    at: u64,
    count: usize,
    /// Scratch: timers of the tick under way.
    firing: Vec<Due>,
    /// The tick the kernel's timer is set to.
    pub(super) armed: Option<u64>,
}

impl Default for Wheel {
    fn default() -> Self {
        Self { slots: vec![Vec::new(); SLOTS], at: 0, count: 0, firing: Vec::new(), armed: None }
    }
}

impl Wheel {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Moves an empty wheel on, so that idle time need not be walked through.
    pub(super) fn skip_to(&mut self, now: u64) {
        debug_assert!(self.is_empty());
        self.at = self.at.max(now);
    }

    /// Adds a timer; one that is overdue fires next.
    pub(super) fn add(&mut self, due: Due) {
        self.count += 1;
        self.slots[slot(due.at.max(self.at))].push(due);
    }

    /// Takes a timer that is due at `now`; tick by tick, each in no order.
    pub(super) fn next_due(&mut self, now: u64) -> Option<Due> {
        loop {
            if let Some(due) = self.firing.pop() {
                self.count -= 1;
                return Some(due);
            }
            if self.at > now || self.count == 0 {
                return None;
            }
            let at = self.at;
            self.firing.extend(self.slots[slot(at)].extract_if(.., |due| due.at <= at));
            self.at += 1;
        }
    }

    /// The next tick with a timer; an early wake-up for a timer of a later turn is possible and harmless.
    pub(super) fn next_tick(&self) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        (self.at..self.at + SLOTS as u64).find(|tick| !self.slots[slot(*tick)].is_empty())
    }
}

fn slot(tick: u64) -> usize {
    (tick % SLOTS as u64) as usize
}

/// At 100 us a tick this is 0.4 s; longer timers take several turns.
const SLOTS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_once_at_their_tick_over_many_turns() {
        let mut wheel = Wheel::default();
        let ticks = [3, 3, 0, 4095, 4096, 10_000];
        for (index, at) in ticks.into_iter().enumerate() {
            wheel.add(Due { at, index });
        }
        let mut fired = Vec::new();
        for now in 0..=10_000 {
            while let Some(due) = wheel.next_due(now) {
                assert_eq!(due.at, now);
                fired.push(due.index);
            }
        }
        fired.sort_unstable();
        assert_eq!(fired, [0, 1, 2, 3, 4, 5]);
        assert!(wheel.is_empty() && wheel.next_tick().is_none());
    }

    #[test]
    fn overdue_timer_fires_next() {
        let mut wheel = Wheel::default();
        wheel.add(Due { at: 50, index: 0 });
        assert_eq!(wheel.next_due(100).map(|due| due.index), Some(0));
        assert_eq!(wheel.next_due(100), None);
        wheel.skip_to(200);
        wheel.add(Due { at: 20, index: 1 });
        assert_eq!(wheel.next_due(200).map(|due| due.index), Some(1));
    }
}
