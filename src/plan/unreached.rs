//! How often a backend could not be reached, and why: written by any shard and the probe, told by the coordinator.

use std::array::from_fn;

use crate::error::Unreachable;
use crate::sync::{AtomicU64, Ordering};
use crate::units::Nanos;

const COUNT: usize = Unreachable::ALL.len();

/// The failures to reach one backend.
pub struct Unreached {
    /// By [`Unreachable`].
    counts: [AtomicU64; COUNT],
    /// What an operator has been told of, by [`Unreachable`]: how many, and in which millisecond. The coordinator's.
    told: [(AtomicU64, AtomicU64); COUNT],
    /// The last one: its millisecond, and in the low byte its number plus one. 0 before the first.
    last: AtomicU64,
}

impl Default for Unreached {
    fn default() -> Self {
        Self {
            counts: from_fn(|_| AtomicU64::new(0)),
            told: from_fn(|_| (AtomicU64::new(0), AtomicU64::new(0))),
            last: AtomicU64::new(0),
        }
    }
}

impl Unreached {
    /// One more failure.
    pub fn note(&self, reason: Unreachable, now: Nanos) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
        self.last.store(now.millis() << 8 | (reason as u64 + 1), Ordering::Relaxed);
    }

    /// How often this was the reason.
    pub fn count(&self, reason: Unreachable) -> u64 {
        self.counts[reason as usize].load(Ordering::Relaxed)
    }

    /// The last failure, and when it was.
    pub fn last(&self) -> Option<(Unreachable, Nanos)> {
        let word = self.last.load(Ordering::Relaxed);
        let reason = Unreachable::ALL.get((word & 0xff).checked_sub(1)? as usize)?;
        Some((*reason, Nanos((word >> 8) * 1_000_000)))
    }

    /// A reason that an operator should hear of, and how many failures it stands for since the last time: at once, and
    /// then at most every [`TELL_EVERY`]. For the coordinator alone.
    pub fn untold(&self, now: Nanos) -> Option<(Unreachable, u64)> {
        Unreachable::ALL.iter().find_map(|reason| {
            let (told, at_ms) = &self.told[*reason as usize];
            let (count, before) = (self.count(*reason), told.load(Ordering::Relaxed));
            let waits = before > 0 && now.millis() < at_ms.load(Ordering::Relaxed) + TELL_EVERY.millis();
            if count == before || waits {
                return None;
            }
            told.store(count, Ordering::Relaxed);
            at_ms.store(now.millis(), Ordering::Relaxed);
            Some((*reason, count - before))
        })
    }
}

/// Time between two lines about one reason of one backend.
pub const TELL_EVERY: Nanos = Nanos(60_000_000_000);

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Nanos {
        Nanos(count * 1_000_000_000)
    }

    #[test]
    fn a_reason_is_told_at_once_and_then_once_a_minute() {
        let unreached = Unreached::default();
        assert_eq!((unreached.last(), unreached.untold(seconds(1))), (None, None));
        unreached.note(Unreachable::Refused, seconds(1));
        assert_eq!(unreached.untold(seconds(1)), Some((Unreachable::Refused, 1)));
        unreached.note(Unreachable::Refused, seconds(2));
        unreached.note(Unreachable::NotTls, seconds(3));
        assert_eq!(unreached.untold(seconds(3)), Some((Unreachable::NotTls, 1)));
        assert_eq!(unreached.untold(seconds(60)), None);
        unreached.note(Unreachable::Refused, seconds(61));
        assert_eq!(unreached.untold(seconds(61)), Some((Unreachable::Refused, 2)));
        assert_eq!(unreached.untold(seconds(999)), None);
        assert_eq!(unreached.count(Unreachable::Refused), 3);
        assert_eq!(unreached.last(), Some((Unreachable::Refused, seconds(61))));
    }
}
