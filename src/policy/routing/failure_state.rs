//! What does a failure say, and about whom?
//!
//! What only the transport can tell (refused, TLS, no time to connect) is kept per backend and applies to all its
//! deployments. What a response tells (a status, a pause it asks for, a stream that breaks) is kept per deployment: one
//! model that fails says nothing about the others behind the same address.

use super::breaker::{Admission, Breaker, Cause, Settings};
use crate::error::FaultKind;
use crate::units::Nanos;

/// The two breakers that a request for a deployment has to pass.
#[derive(Clone, Copy)]
pub struct FailureState<'a> {
    /// By what the transport says.
    pub backend: &'a Breaker,
    /// By what responses say.
    pub deployment: &'a Breaker,
    /// To whom a limit (429) of this backend applies.
    pub limit_scope: LimitScope,
    /// There is no other deployment and no fallback to ask in its place. It is then kept from nothing but the pauses it
    /// asked for, and short ones after failures: a client that retries after half a second must have a chance.
    pub alone: bool,
}

/// To whom a backend's limits (429) apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LimitScope {
    /// To the model that was asked for.
    #[default]
    Model,
    /// To everything behind this backend, as with an account.
    Backend,
}

/// For which breakers a request is the probe, and since when. Each of them has to hear of the outcome, or that there was none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Probes {
    /// The backend's.
    pub backend: Option<Nanos>,
    /// The deployment's.
    pub deployment: Option<Nanos>,
}

impl Probes {
    /// Whether it is the probe of any.
    pub fn any(self) -> bool {
        self.backend.is_some() || self.deployment.is_some()
    }
}

/// How an attempt failed, as far as the breakers are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// What happened.
    pub kind: FaultKind,
    /// The pause that the backend asked for.
    pub asked: Option<Nanos>,
    /// The connection was there.
    pub connected: bool,
}

impl FailureState<'_> {
    /// Why it may not be asked now, and until when. `None`: it may.
    pub fn blocked(&self, now: Nanos) -> Option<(Cause, Nanos)> {
        let of = |breaker: &Breaker| breaker.open(now).filter(|_| !(self.alone && breaker.is_probing(now)));
        match (of(self.backend), of(self.deployment)) {
            (Some(one), Some(other)) => Some(if one.1 >= other.1 { one } else { other }),
            (one, other) => one.or(other),
        }
    }

    /// Asks to send one request now. `None`: one of the two says no.
    pub fn admit(&self, now: Nanos) -> Option<Probes> {
        let backend = self.admitted_by(self.backend, now)?;
        match self.admitted_by(self.deployment, now) {
            Some(deployment) => Some(Probes { backend, deployment }),
            None => {
                self.abandon(Probes { backend, deployment: None });
                None
            }
        }
    }

    /// The time, if the request is the breaker's probe; `None`: it is not admitted.
    fn admitted_by(&self, breaker: &Breaker, now: Nanos) -> Option<Option<Nanos>> {
        match breaker.admit(now) {
            Admission::Closed => Some(None),
            Admission::Probe => Some(Some(now)),
            // The first byte of a response may take a minute, and there is nobody else to ask meanwhile.
            Admission::Open { .. } => (self.alone && breaker.is_probing(now)).then_some(None),
        }
    }

    /// The request was not sent after all, or nothing was learned: the next one may be the probe.
    pub fn abandon(&self, probes: Probes) {
        if let Some(since) = probes.backend {
            self.backend.abandon(since);
        }
        if let Some(since) = probes.deployment {
            self.deployment.abandon(since);
        }
    }

    /// The response is one to pass on.
    pub fn success(&self, now: Nanos) {
        self.backend.success(now);
        self.deployment.success(now);
    }

    /// An attempt failed.
    pub fn report(&self, report: Report, probes: Probes, now: Nanos, random: u64) {
        let settings = if self.alone { &SETTINGS_ALONE } else { &SETTINGS };
        match report.kind {
            FaultKind::ClientGone
            | FaultKind::ClientStalled
            | FaultKind::KeyRevoked
            | FaultKind::Draining
            | FaultKind::HeadMalformed
            | FaultKind::BodyMalformed
            | FaultKind::MemberUnsupported
            | FaultKind::ContentRefused
            | FaultKind::SocketsExhausted => self.abandon(probes),
            kind if !report.connected || is_transport(kind) => {
                self.backend.failure(now, settings, random);
                self.abandon(Probes { backend: None, ..probes });
            }
            FaultKind::BackendBusy if self.limit_scope == LimitScope::Backend => {
                self.pause(self.backend, &report, probes.backend, now);
                self.abandon(Probes { backend: None, ..probes });
            }
            _ => {
                self.backend.success(now); // it was reached
                self.responded(&report, probes, now, settings, random);
            }
        }
    }

    /// What the deployment's breaker hears of a backend that was reached.
    fn responded(&self, report: &Report, probes: Probes, now: Nanos, settings: &Settings, random: u64) {
        match report.kind {
            FaultKind::BackendBusy | FaultKind::BackendOverloaded => {
                self.pause(self.deployment, report, probes.deployment, now);
            }
            FaultKind::ContextExceeded | FaultKind::RequestRejected => self.deployment.success(now),
            // One request that it does not serve says nothing about those that it does.
            FaultKind::BackendRefused => self.abandon(Probes { backend: None, ..probes }),
            kind => {
                self.deployment.failure(now, settings, random);
                if let Some(pause) = report.asked {
                    self.deployment.hold(now.plus(pause.min(HOLD_MAX)), cause(kind));
                }
            }
        }
    }

    /// A pause, for as long as was asked; `probe`: the request was the breaker's probe, since then.
    fn pause(&self, breaker: &Breaker, report: &Report, probe: Option<Nanos>, now: Nanos) {
        let unasked = (!self.alone).then_some(HOLD_UNASKED);
        match (report.asked.or(unasked), probe) {
            (Some(pause), _) => breaker.hold(now.plus(pause.min(HOLD_MAX)), cause(report.kind)),
            (None, Some(since)) => breaker.abandon(since),
            (None, None) => {}
        }
    }
}

/// Whether a failure says that the backend was not reached.
fn is_transport(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::ConnectFailed | FaultKind::ConnectTimeout | FaultKind::TlsFailed)
}

fn cause(kind: FaultKind) -> Cause {
    if kind == FaultKind::BackendBusy { Cause::Limit } else { Cause::Unavailable }
}

/// The pause of a deployment that did not say how long.
pub const HOLD_UNASKED: Nanos = Nanos(1_000_000_000);
/// The longest that a backend's own `Retry-After` keeps a deployment out of its pools.
pub const HOLD_MAX: Nanos = Nanos(300_000_000_000);
/// When failures take a backend or a deployment out of service (chosen, not measured).
const SETTINGS: Settings =
    Settings { threshold: 5, open_for: Nanos(1_000_000_000), open_max: Nanos(30_000_000_000) };
/// The same with nobody else to ask: shorter than the half second after which SDKs try again, and still a bound on what
/// a failing backend is sent.
const SETTINGS_ALONE: Settings =
    Settings { threshold: 5, open_for: Nanos(450_000_000), open_max: Nanos(450_000_000) };

#[cfg(test)]
mod tests;
