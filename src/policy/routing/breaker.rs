//! Passive failures of a backend or of one deployment: closed, open until a time, half open with one probe. Which of the
//! two hears of which failure is the business of [`super::failure_state`].
//!
//! Everything is in one word, so that all shards agree without a lock and exactly one of them gets the probe.

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
    /// This one request; the response to it decides ([`Breaker::success`], [`Breaker::failure`], or
    /// [`Breaker::abandon`] if it was never sent).
    Probe,
    /// Nothing before `until`.
    Open {
        /// When the next probe may go.
        until: Nanos,
    },
}

/// Why a breaker is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It failed too often.
    Failures,
    /// It is at a limit (429) and asked for a pause.
    Limit,
    /// It takes no work for now (503) and asked for a pause.
    Unavailable,
}

impl Cause {
    /// Its name in the status.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Failures => "failures",
            Cause::Limit => "limit",
            Cause::Unavailable => "unavailable",
        }
    }
}

/// The breaker of one backend or deployment. A fresh one is closed.
///
/// One word, from the low end: `until` in milliseconds (42 bits, 139 years), consecutive failures (12), cause (2),
/// openings in a row (6), state (2).
#[derive(Default)]
pub struct Breaker {
    word: AtomicU64,
}

/// A probe of which nothing is heard for this long is given up and another one goes. Taste: longer than most first
/// tokens take, short enough that a lost probe does not keep a backend out.
pub const PROBE_MAX: Nanos = Nanos(30_000_000_000);

const UNTIL_MAX: u64 = (1 << 42) - 1;
const FAILURES_MAX: u64 = (1 << 12) - 1;
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
    cause: Cause,
    failures: u64,
    until_ms: u64,
}

impl Word {
    const CLOSED: Word =
        Word { state: State::Closed, openings: 0, cause: Cause::Failures, failures: 0, until_ms: 0 };

    fn unpack(word: u64) -> Self {
        Self {
            state: match word >> 62 {
                0 => State::Closed,
                1 => State::Open,
                _ => State::Probing,
            },
            openings: word >> 56 & OPENINGS_MAX,
            cause: match word >> 54 & 3 {
                0 => Cause::Failures,
                1 => Cause::Limit,
                _ => Cause::Unavailable,
            },
            failures: word >> 42 & FAILURES_MAX,
            until_ms: word & UNTIL_MAX,
        }
    }

    fn pack(self) -> u64 {
        (self.state as u64) << 62
            | self.openings.min(OPENINGS_MAX) << 56
            | (self.cause as u64) << 54
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
            cause: Cause::Failures,
            failures: 0,
            until_ms: millis_up(now.plus(Nanos(open_for - less as u64))),
        }
    }
}

/// Whole milliseconds, rounded up.
const fn millis_up(time: Nanos) -> u64 {
    time.0.div_ceil(1_000_000)
}

/// When a probe that was admitted now is given up.
const fn probe_until(now: Nanos) -> u64 {
    millis_up(Nanos(now.0.saturating_add(PROBE_MAX.0)))
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
            let probing = Word { state: State::Probing, until_ms: probe_until(now), ..word };
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

    /// Why it admits nothing now, and until when. `None`: it is closed, or the next request may be its probe.
    pub fn open(&self, now: Nanos) -> Option<(Cause, Nanos)> {
        let word = Word::unpack(self.word.load(Ordering::Relaxed));
        (word.state != State::Closed && now.millis() < word.until_ms).then(|| (word.cause, word.until()))
    }

    /// Whether it is half open, and its probe is on its way.
    pub fn is_probing(&self, now: Nanos) -> bool {
        let word = Word::unpack(self.word.load(Ordering::Relaxed));
        word.state == State::Probing && now.millis() < word.until_ms
    }

    /// Forgets everything: it is to stand for something else.
    pub fn reset(&self) {
        self.word.store(Word::CLOSED.pack(), Ordering::Relaxed);
    }

    /// A response came. Ends a row of failures and closes a half-open breaker. An open one stays open until its time:
    /// the response belongs to a request sent before, and does not outdo a `Retry-After`.
    pub fn success(&self, now: Nanos) {
        if self.word.load(Ordering::Relaxed) == Word::CLOSED.pack() {
            return; // The usual case writes nothing.
        }
        self.update(|word| {
            let open = word.state == State::Open && now.millis() < word.until_ms;
            (!open).then_some(Word::CLOSED)
        });
    }

    /// A connection was made. Closes a half-open breaker that failures had opened: they were failures to connect.
    pub fn connected(&self) {
        self.update(|word| {
            (word.state == State::Probing && word.cause == Cause::Failures).then_some(Word::CLOSED)
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
    pub fn hold(&self, until: Nanos, cause: Cause) {
        let until_ms = millis_up(until);
        self.update(|word| match word.state {
            State::Open if word.until_ms >= until_ms => None,
            _ => Some(Word { state: State::Open, cause, until_ms, ..word }),
        });
    }

    /// The probe that was admitted at `since` was not sent after all (its client left, no slot was free): the next request may probe
    /// at once. The probe of a later opening goes on.
    ///
    /// Its time is over by every clock: another shard's tick may be some milliseconds behind.
    pub fn abandon(&self, since: Nanos) {
        self.update(|word| {
            let is_it = word.state == State::Probing && word.until_ms == probe_until(since);
            is_it.then_some(Word { state: State::Open, until_ms: 0, ..word })
        });
    }

    fn update(&self, mut change: impl FnMut(Word) -> Option<Word>) {
        let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            change(Word::unpack(word)).map(Word::pack)
        });
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

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
    fn an_open_breaker_says_why_and_until_when() {
        let held = Breaker::default();
        assert_eq!(held.open(seconds(10)), None);
        held.hold(seconds(20), Cause::Limit);
        assert_eq!(held.open(seconds(10)), Some((Cause::Limit, seconds(20))));
        assert_eq!(held.open(seconds(20)), None);
        let failed = open();
        assert_eq!(failed.open(seconds(10)), Some((Cause::Failures, seconds(11))));
        failed.hold(seconds(20), Cause::Unavailable);
        assert_eq!(failed.open(seconds(10)), Some((Cause::Unavailable, seconds(20))));
        failed.hold(seconds(15), Cause::Limit);
        assert_eq!(
            failed.open(seconds(10)),
            Some((Cause::Unavailable, seconds(20))),
            "the longer one counts"
        );
    }

    #[test]
    fn it_is_half_open_while_its_probe_is_on_its_way() {
        let breaker = open();
        assert!(!breaker.is_probing(seconds(11)));
        assert_eq!(breaker.admit(seconds(11)), Admission::Probe);
        assert!(breaker.is_probing(seconds(11)) && !breaker.is_probing(seconds(41)));
        breaker.success(seconds(12));
        assert!(!breaker.is_probing(seconds(12)));
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
        breaker.abandon(seconds(11));
        assert!(!breaker.failure(seconds(12), &SETTINGS, 0), "of a request sent before");
        assert_eq!(breaker.admit(seconds(12)), Admission::Probe);
        breaker.success(seconds(10));
        breaker.abandon(seconds(12));
        assert_eq!(breaker.admit(seconds(12)), Admission::Closed);
    }

    /// A slow probe, whose opening is over and was followed by another one.
    #[test]
    fn a_probe_of_before_does_not_give_the_probe_of_now_away() {
        let breaker = open();
        assert_eq!(breaker.admit(seconds(11)), Admission::Probe);
        breaker.success(seconds(12));
        breaker.hold(seconds(20), Cause::Limit);
        assert_eq!(breaker.admit(seconds(20)), Admission::Probe);
        breaker.abandon(seconds(11));
        assert!(matches!(breaker.admit(seconds(21)), Admission::Open { .. }), "two would try it at once");
        breaker.abandon(seconds(20));
        assert_eq!(breaker.admit(seconds(21)), Admission::Probe);
    }

    /// Ticks of shards differ: that of the response may be behind that of the abandoned probe.
    #[test]
    fn a_response_by_a_clock_behind_closes_after_an_abandoned_probe() {
        let breaker = open();
        assert_eq!(breaker.admit(seconds(12)), Admission::Probe);
        breaker.abandon(seconds(12));
        breaker.success(seconds(11));
        assert_eq!(breaker.peek(seconds(12)), Admission::Closed);
    }

    #[test]
    fn stragglers_neither_close_nor_extend_an_open_breaker() {
        let breaker = open();
        breaker.success(seconds(10));
        assert!(!breaker.failure(seconds(10), &SETTINGS, 0));
        assert_eq!(breaker.admit(seconds(10)), Admission::Open { until: seconds(11) });
    }

    #[test]
    fn a_response_after_the_open_time_is_as_good_as_a_probe() {
        let breaker = open();
        breaker.success(seconds(11));
        assert_eq!(breaker.admit(seconds(11)), Admission::Closed);
    }

    #[test]
    fn a_hold_lasts_as_asked_and_is_never_shortened() {
        let breaker = Breaker::default();
        breaker.hold(seconds(45), Cause::Limit);
        breaker.hold(seconds(60), Cause::Limit);
        breaker.hold(seconds(30), Cause::Limit);
        breaker.success(seconds(10));
        assert_eq!(breaker.admit(seconds(59)), Admission::Open { until: seconds(60) });
        assert_eq!(breaker.admit(seconds(60)), Admission::Probe);
        breaker.success(seconds(10));
        assert_eq!(breaker.admit(seconds(60)), Admission::Closed);
        breaker.hold(Nanos::NEVER, Cause::Limit);
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
        let full = Word {
            state: State::Probing,
            openings: 99,
            cause: Cause::Unavailable,
            failures: 1 << 20,
            until_ms: u64::MAX,
        };
        let word = Word::unpack(full.pack());
        assert!(word.state == State::Probing && word.cause == Cause::Unavailable);
        assert_eq!((word.openings, word.failures, word.until_ms), (OPENINGS_MAX, FAILURES_MAX, UNTIL_MAX));
        assert_eq!(Word::CLOSED.pack(), 0);
    }
}
