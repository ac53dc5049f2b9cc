//! What may be done, told a second time and in another way.

use super::world::TICK;
use crate::error::FaultKind;
use crate::policy::limits::bucket::Rate;
use crate::policy::routing::breaker::{Admission, Breaker, PROBE_MAX};
use crate::policy::routing::retry_state::Failure;
use crate::units::Nanos;

/// About whom an attempt says something.
#[derive(Clone, Copy)]
pub(super) enum About {
    Backend,
    Deployment,
}

/// Whom an attempt that failed is about, if anybody: what the transport says is about the backend.
pub(super) fn about(failure: &Failure) -> Option<About> {
    let Failure { kind, sent, .. } = *failure;
    let stale = kind == FaultKind::BackendClosed && sent.reused && !sent.response_bytes;
    match kind {
        FaultKind::ClientGone | FaultKind::SocketsExhausted => None,
        _ if stale => None,
        FaultKind::ConnectFailed | FaultKind::ConnectTimeout => Some(About::Backend),
        FaultKind::TotalTimeout if !sent.request_bytes => Some(About::Backend),
        _ => Some(About::Deployment),
    }
}

/// What is known of one backend's transport or of one deployment's responses.
#[derive(Default)]
pub(super) struct Passive {
    /// Failures in a row.
    failures: u32,
    /// It failed too often or asked for a pause, and nothing good has come since.
    open: bool,
    /// Not before this it may be asked.
    not_before: Nanos,
    /// The attempt that tries it, and since when.
    probe: Option<(u64, Nanos)>,
}

impl Passive {
    /// It is as good as any.
    pub(super) fn is_well(&self) -> bool {
        !self.open
    }

    /// An attempt begins, by a clock that is not ahead of the true one. `alone`: there is nobody else to ask.
    pub(super) fn asked(&mut self, attempt: u64, alone: bool, now: Nanos) {
        if !self.open {
            return;
        }
        // Another shard, whose tick is ahead, may have begun to try it: who has nobody else to ask joins in.
        if let Some((other, since)) = self.probe
            && now.plus(Nanos(1_000_000)) < since.plus(PROBE_MAX)
        {
            assert!(alone, "{attempt} tries it beside {other}");
            return;
        }
        // A shard whose tick is ahead may have taken the probe and given it back: then the pause is over for all.
        let latest = now.plus(Nanos(TICK));
        assert!(latest >= self.not_before, "asked at {now}, not before {}", self.not_before);
        self.probe = Some((attempt, now));
        self.not_before = now.min(self.not_before);
    }

    /// A response came.
    pub(super) fn answered(&mut self, now: Nanos) {
        if !self.open || now >= self.not_before {
            *self = Self::default();
        }
    }

    /// An attempt failed in a way that is about this one, and `breaker` has heard of it.
    pub(super) fn failed(
        &mut self,
        attempt: u64,
        failure: &Failure,
        breaker: &Breaker,
        alone: bool,
        now: Nanos,
    ) {
        match (failure.kind, failure.asked) {
            (FaultKind::BackendBusy | FaultKind::BackendOverloaded, None) if alone => self.gone(attempt),
            (FaultKind::BackendBusy | FaultKind::BackendOverloaded, asked) => {
                let pause = asked.unwrap_or(Nanos(1_000_000_000)).min(Nanos(300_000_000_000));
                self.rests(breaker, now, pause);
            }
            (FaultKind::ContextExceeded, _) => self.answered(now),
            _ => {
                self.failures += 1;
                let probing = self.open && self.probe.is_some();
                if probing || !self.open && self.failures >= 5 {
                    self.rests(breaker, now, Nanos(if alone { 300_000_000 } else { 750_000_000 }));
                }
            }
        }
    }

    /// It rests for at least so long; how long exactly is the breaker's chance.
    fn rests(&mut self, breaker: &Breaker, now: Nanos, least: Nanos) {
        let Admission::Open { until } = breaker.peek(now) else { panic!("it has to rest for {least}") };
        let most = self.not_before.max(now.plus(least.max(Nanos(30_000_000_000)))).plus(Nanos(1_000_000));
        assert!(
            (now.plus(least)..=most).contains(&until),
            "rests until {until}, from {now}, at least {least}"
        );
        (self.open, self.probe, self.not_before) = (true, None, until);
    }

    /// An attempt has ended, and nothing was learned.
    pub(super) fn gone(&mut self, attempt: u64) {
        if self.probe.is_some_and(|(probe, _)| probe == attempt) {
            self.probe = None;
        }
    }

    /// What the breaker says has to agree.
    pub(super) fn check(&self, breaker: &Breaker, now: Nanos) {
        let admission = breaker.peek(now);
        if !self.open {
            assert_eq!(admission, Admission::Closed, "it did not fail often enough");
        } else if now < self.not_before {
            assert!(matches!(admission, Admission::Open { .. }), "it has to rest until {}", self.not_before);
        }
    }
}

/// All that was taken from one bucket, in the order of time, and what was given back as a negative number.
#[derive(Default)]
pub(super) struct Taken(Vec<(Nanos, i128)>);

impl Taken {
    pub(super) fn add(&mut self, units: i128, now: Nanos) {
        self.0.push((now, units));
    }

    /// In no window that ends now there is more than the rate and the burst allow.
    pub(super) fn check(&self, rate: &Rate, now: Nanos) {
        // Costs are rounded down to nanoseconds: each take may gain a nanosecond's worth.
        let most = self.most(rate, now, self.0.len() as i128);
        assert!(most <= 0, "a bucket gave {most} too many (in units of a minute's nanoseconds)");
    }

    /// Whether one more is one too many.
    pub(super) fn is_used_up(&self, rate: &Rate, now: Nanos) -> bool {
        self.most(rate, now, 0) + MINUTE > 0
    }

    /// What was taken above the rate and the burst in the window that did so most; `gained`: nanoseconds to be added to it.
    fn most(&self, rate: &Rate, now: Nanos, gained: i128) -> i128 {
        let (mut sum, mut most) = (0, i128::MIN / 4);
        for (at, units) in self.0.iter().rev() {
            sum += units;
            let window = i128::from(now.since(*at).0) + gained;
            let may = i128::from(rate.burst) * MINUTE + i128::from(rate.per_minute) * window;
            most = most.max(sum * MINUTE - may);
        }
        most
    }
}

const MINUTE: i128 = 60_000_000_000;
