//! Passive failures of a backend: closed, open until a time, half open with one probe.
//!
//! Everything is in one word, so that all shards agree without a lock and exactly one of them gets the probe.

use crate::error::Kind;
use crate::sync::{AtomicU64, Ordering};
use crate::units::Nanos;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    /// Consecutive failures until it opens; 0 counts as 1.
    pub threshold: u32,
    /// How long it stays open the first time; doubled with every probe that fails.
    pub open_for: Nanos,
    /// The longest it stays open because of failures.
    pub open_max: Nanos,
}

/// What a backend may be given now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Requests as usual.
    Closed,
    /// This one request; the answer to it decides ([`Breaker::success`], [`Breaker::failure`], or
    /// [`Breaker::abandon`] if it was never sent).
    Probe,
    /// Nothing before `until`.
    Open {
        /// When the next probe may go.
        until: Nanos,
    },
}

/// The breaker of one backend. A fresh one is closed.
///
/// One word, from the low end: `until` in milliseconds (42 bits, 139 years), consecutive failures (14), openings in a
/// row (6), state (2).
#[derive(Default)]
pub struct Breaker {
    word: AtomicU64,
}

/// A probe of which nothing is heard for this long is given up and another one goes. Taste: longer than most first
/// tokens take, short enough that a lost probe does not keep a backend out.
pub const PROBE_MAX: Nanos = Nanos(30_000_000_000);

const UNTIL_MAX: u64 = (1 << 42) - 1;
const FAILURES_MAX: u64 = (1 << 14) - 1;
const OPENINGS_MAX: u64 = (1 << 6) - 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open,
    Probing,
}

#[derive(Clone, Copy)]
struct Word {
    state: State,
    openings: u64,
    failures: u64,
    until_ms: u64,
}

impl Word {
    const CLOSED: Word = Word { state: State::Closed, openings: 0, failures: 0, until_ms: 0 };

    fn unpack(word: u64) -> Self {
        Self {
            state: match word >> 62 {
                0 => State::Closed,
                1 => State::Open,
                _ => State::Probing,
            },
            openings: word >> 56 & OPENINGS_MAX,
            failures: word >> 42 & FAILURES_MAX,
            until_ms: word & UNTIL_MAX,
        }
    }

    fn pack(self) -> u64 {
        (self.state as u64) << 62
            | self.openings.min(OPENINGS_MAX) << 56
            | self.failures.min(FAILURES_MAX) << 42
            | self.until_ms.min(UNTIL_MAX)
    }

    fn until(self) -> Nanos {
        Nanos(self.until_ms.saturating_mul(1_000_000))
    }

    /// Open after one more failed attempt.
    fn opened(self, now: Nanos, settings: &Settings, random: u64) -> Word {
        let doubled = settings.open_for.0.saturating_mul(1 << self.openings.min(32));
        let open_for = doubled.min(settings.open_max.0);
        // Up to a quarter less, so that several gateways do not probe in step.
        let less = (u128::from(open_for / 4) * u128::from(random)) >> 64;
        Word {
            state: State::Open,
            openings: self.openings + 1,
            failures: 0,
            until_ms: millis_up(now.plus(Nanos(open_for - less as u64))),
        }
    }
}

/// Whole milliseconds, rounded up.
const fn millis_up(time: Nanos) -> u64 {
    time.0.div_ceil(1_000_000)
}

impl Breaker {
    /// Asks to send one request now. At most one caller gets [`Admission::Probe`] per opening, and another one only
    /// after [`PROBE_MAX`] without news of it.
    pub fn admit(&self, now: Nanos) -> Admission {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let word = Word::unpack(seen);
            if word.state == State::Closed {
                return Admission::Closed;
            }
            if now.millis() < word.until_ms {
                return Admission::Open { until: word.until() };
            }
            let probing = Word { state: State::Probing, until_ms: millis_up(now.plus(PROBE_MAX)), ..word };
            match self.word.compare_exchange_weak(seen, probing.pack(), Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Admission::Probe,
                Err(newer) => seen = newer,
            }
        }
    }

    /// What [`Breaker::admit`] would say, without taking the probe: the filter in front of a pick.
    pub fn peek(&self, now: Nanos) -> Admission {
        let word = Word::unpack(self.word.load(Ordering::Relaxed));
        match word.state {
            State::Closed => Admission::Closed,
            _ if now.millis() < word.until_ms => Admission::Open { until: word.until() },
            _ => Admission::Probe,
        }
    }

    /// Whether it is open because the backend asked for a pause, not because it failed.
    pub fn is_held(&self, now: Nanos) -> bool {
        let word = Word::unpack(self.word.load(Ordering::Relaxed));
        word.state != State::Closed && word.openings == 0 && now.millis() < word.until_ms
    }

    /// An answer came. Ends a row of failures and closes a half-open breaker. An open one stays open until its time:
    /// the answer belongs to a request sent before, and does not outdo a `Retry-After`.
    pub fn success(&self, now: Nanos) {
        if self.word.load(Ordering::Relaxed) == Word::CLOSED.pack() {
            return; // The usual case writes nothing.
        }
        self.update(|word| {
            let open = word.state == State::Open && now.millis() < word.until_ms;
            (!open).then_some(Word::CLOSED)
        });
    }

    /// The backend failed. Returns whether that opened the breaker. An open one ignores failures: they belong to
    /// requests sent before.
    pub fn failure(&self, now: Nanos, settings: &Settings, random: u64) -> bool {
        let mut opened = false;
        self.update(|word| {
            let failures = (word.failures + 1).min(FAILURES_MAX);
            let next = match word.state {
                State::Open => None,
                State::Closed if failures < u64::from(settings.threshold).min(FAILURES_MAX) => {
                    Some(Word { failures, ..word })
                }
                State::Closed | State::Probing => Some(word.opened(now, settings, random)),
            };
            opened = next.is_some_and(|next| next.state == State::Open);
            next
        });
        opened
    }

    /// Opens it until the time the backend itself asked for (`Retry-After`), or longer if it is open for longer.
    /// Does not count as a failure.
    pub fn hold(&self, until: Nanos) {
        let until_ms = millis_up(until);
        self.update(|word| match word.state {
            State::Open if word.until_ms >= until_ms => None,
            _ => Some(Word { state: State::Open, until_ms, ..word }),
        });
    }

    /// The probe was not sent after all (its client left, no slot was free): the next request may probe at once.
    pub fn abandon(&self, now: Nanos) {
        self.update(|word| {
            (word.state == State::Probing).then_some(Word {
                state: State::Open,
                until_ms: now.millis(),
                ..word
            })
        });
    }

    fn update(&self, mut change: impl FnMut(Word) -> Option<Word>) {
        let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            change(Word::unpack(word)).map(Word::pack)
        });
    }
}

/// Tells a breaker how an exchange with its backend failed. `asked`: the pause the backend asked for. `probes`: it was the
/// probe, which the next may be if nothing has come of it; what others leave undone is not to end that.
pub fn report(breaker: &Breaker, kind: Kind, asked: Option<Nanos>, probes: bool, now: Nanos, random: u64) {
    match kind {
        Kind::BackendBusy => breaker.hold(now.plus(asked.unwrap_or(HOLD_UNASKED).min(HOLD_MAX))),
        Kind::ClientGone
        | Kind::KeyRevoked
        | Kind::Draining
        | Kind::HeadMalformed
        | Kind::SocketsExhausted => {
            if probes {
                breaker.abandon(now);
            }
        }
        Kind::ContextExceeded => breaker.success(now),
        _ => {
            breaker.failure(now, &SETTINGS, random);
        }
    }
}

/// The pause of a backend that did not say how long.
const HOLD_UNASKED: Nanos = Nanos(1_000_000_000);
/// The longest a backend's own `Retry-After` keeps it out of the pool.
const HOLD_MAX: Nanos = Nanos(300_000_000_000);
/// When passive failures take a backend out of the pool (by taste).
const SETTINGS: Settings =
    Settings { threshold: 5, open_for: Nanos(1_000_000_000), open_max: Nanos(30_000_000_000) };

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod model;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicU32;
    use std::thread;

    use super::*;

    const SETTINGS: Settings = Settings { threshold: 3, open_for: seconds(1), open_max: seconds(5) };

    const fn seconds(seconds: u64) -> Nanos {
        Nanos(seconds * 1_000_000_000)
    }

    /// A breaker opened at second 10 for one second.
    fn open() -> Breaker {
        let breaker = Breaker::default();
        let opened: Vec<_> = (0..3).map(|_| breaker.failure(seconds(10), &SETTINGS, 0)).collect();
        assert_eq!(opened, [false, false, true]);
        breaker
    }

    #[test]
    fn it_opens_at_the_threshold_of_consecutive_failures() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            assert!(!breaker.failure(seconds(1), &SETTINGS, 0));
            assert!(!breaker.failure(seconds(1), &SETTINGS, 0));
            breaker.success(seconds(10));
        }
        assert_eq!(breaker.admit(seconds(1)), Admission::Closed);
        assert_eq!(open().admit(seconds(10)), Admission::Open { until: seconds(11) });
        let touchy = Breaker::default();
        assert!(touchy.failure(seconds(1), &Settings { threshold: 0, ..SETTINGS }, 0));
    }

    #[test]
    fn half_open_lets_one_probe_through_and_its_success_closes() {
        let breaker = open();
        assert_eq!(breaker.admit(Nanos(seconds(11).0 - 1)), Admission::Open { until: seconds(11) });
        assert_eq!(breaker.peek(seconds(11)), Admission::Probe);
        assert_eq!(breaker.admit(seconds(11)), Admission::Probe);
        assert_eq!(breaker.admit(seconds(11)), Admission::Open { until: seconds(41) });
        breaker.success(seconds(12));
        assert_eq!(breaker.admit(seconds(11)), Admission::Closed);
    }

    #[test]
    fn a_pause_that_was_asked_for_is_no_failure() {
        let held = Breaker::default();
        held.hold(seconds(20));
        assert!(held.is_held(seconds(10)) && !held.is_held(seconds(20)));
        let failed = open();
        failed.hold(seconds(20));
        assert!(!failed.is_held(seconds(10)) && !Breaker::default().is_held(seconds(10)));
    }

    #[test]
    fn a_failed_probe_doubles_the_time_up_to_its_bound() {
        let breaker = open();
        let mut now = seconds(11);
        for open_for in [2, 4, 5, 5, 5] {
            assert_eq!(breaker.admit(now), Admission::Probe);
            assert!(breaker.failure(now, &SETTINGS, 0));
            let until = now.plus(seconds(open_for));
            assert_eq!(breaker.admit(now), Admission::Open { until });
            now = until;
        }
        for _ in 0..100 {
            assert_eq!(breaker.admit(now), Admission::Probe);
            breaker.failure(now, &SETTINGS, u64::MAX);
            now = now.plus(seconds(5));
        }
    }

    #[test]
    fn chance_shortens_the_time_by_up_to_a_quarter() {
        let breaker = Breaker::default();
        breaker.failure(seconds(0), &Settings { threshold: 1, ..SETTINGS }, u64::MAX);
        assert_eq!(breaker.admit(seconds(0)), Admission::Open { until: Nanos(750_000_000 + 1_000_000) });
    }

    #[test]
    fn a_probe_that_never_reports_back_expires() {
        let breaker = open();
        assert_eq!(breaker.admit(seconds(11)), Admission::Probe);
        assert_eq!(breaker.admit(seconds(40)), Admission::Open { until: seconds(41) });
        assert_eq!(breaker.admit(seconds(41)), Admission::Probe);
        assert_eq!(breaker.admit(seconds(41)), Admission::Open { until: seconds(71) });
    }

    #[test]
    fn an_abandoned_probe_is_there_for_the_next() {
        let breaker = open();
        assert_eq!(breaker.admit(seconds(11)), Admission::Probe);
        breaker.abandon(seconds(12));
        assert!(!breaker.failure(seconds(12), &SETTINGS, 0), "of a request sent before");
        assert_eq!(breaker.admit(seconds(12)), Admission::Probe);
        breaker.success(seconds(10));
        breaker.abandon(seconds(12));
        assert_eq!(breaker.admit(seconds(12)), Admission::Closed);
    }

    #[test]
    fn stragglers_neither_close_nor_extend_an_open_breaker() {
        let breaker = open();
        breaker.success(seconds(10));
        assert!(!breaker.failure(seconds(10), &SETTINGS, 0));
        assert_eq!(breaker.admit(seconds(10)), Admission::Open { until: seconds(11) });
    }

    #[test]
    fn an_answer_after_the_open_time_is_as_good_as_a_probe() {
        let breaker = open();
        breaker.success(seconds(11));
        assert_eq!(breaker.admit(seconds(11)), Admission::Closed);
    }

    #[test]
    fn a_hold_lasts_as_asked_and_is_never_shortened() {
        let breaker = Breaker::default();
        breaker.hold(seconds(45));
        breaker.hold(seconds(60));
        breaker.hold(seconds(30));
        breaker.success(seconds(10));
        assert_eq!(breaker.admit(seconds(59)), Admission::Open { until: seconds(60) });
        assert_eq!(breaker.admit(seconds(60)), Admission::Probe);
        breaker.success(seconds(10));
        assert_eq!(breaker.admit(seconds(60)), Admission::Closed);
        breaker.hold(Nanos::NEVER);
        assert!(matches!(breaker.admit(Nanos(u64::MAX / 2)), Admission::Probe | Admission::Open { .. }));
    }

    #[test]
    fn a_look_says_what_asking_would() {
        assert_eq!(Breaker::default().peek(seconds(10)), Admission::Closed);
        let breaker = open();
        assert_eq!(breaker.peek(Nanos(seconds(11).0 - 1)), Admission::Open { until: seconds(11) });
        assert_eq!(breaker.peek(seconds(11)), Admission::Probe);
        assert_eq!(breaker.admit(seconds(11)), Admission::Probe);
        assert_eq!(breaker.peek(seconds(11)), Admission::Open { until: seconds(41) });
    }

    #[test]
    fn what_happened_decides_what_it_hears() {
        let after = |kind, asked, probes| {
            let breaker = open();
            assert_eq!(breaker.admit(seconds(11)), Admission::Probe);
            report(&breaker, kind, asked, probes, seconds(11), 0);
            breaker.peek(seconds(11))
        };
        let until = |at| Admission::Open { until: seconds(at) };
        assert_eq!(
            after(Kind::BackendFailed, None, true),
            until(13),
            "a failed probe opens for twice as long"
        );
        assert_eq!(after(Kind::BackendBusy, Some(seconds(7)), true), until(18));
        assert_eq!(after(Kind::BackendBusy, None, true), until(12));
        assert_eq!(after(Kind::BackendBusy, Some(seconds(100_000)), true), until(311));
        assert_eq!(after(Kind::ContextExceeded, None, true), Admission::Closed);
        for kind in
            [Kind::ClientGone, Kind::KeyRevoked, Kind::Draining, Kind::HeadMalformed, Kind::SocketsExhausted]
        {
            assert_eq!(after(kind, None, true), Admission::Probe, "{kind:?}: the next may try");
            assert_eq!(after(kind, None, false), until(41), "{kind:?}: it was not the probe");
        }
    }

    #[test]
    fn of_64_threads_one_gets_the_probe() {
        for _ in 0..50 {
            let (breaker, barrier, probes) = (open(), Barrier::new(64), AtomicU32::new(0));
            thread::scope(|scope| {
                for _ in 0..64 {
                    scope.spawn(|| {
                        barrier.wait();
                        if breaker.admit(seconds(12)) == Admission::Probe {
                            probes.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(probes.into_inner(), 1);
        }
    }

    #[test]
    fn the_word_holds_every_part_at_its_bound() {
        let full = Word { state: State::Probing, openings: 99, failures: 1 << 20, until_ms: u64::MAX };
        let word = Word::unpack(full.pack());
        assert!(word.state == State::Probing);
        assert_eq!((word.openings, word.failures, word.until_ms), (OPENINGS_MAX, FAILURES_MAX, UNTIL_MAX));
        assert_eq!(Word::CLOSED.pack(), 0);
    }
}
