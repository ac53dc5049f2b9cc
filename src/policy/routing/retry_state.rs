//! What becomes of a request after each of its attempts?
//!
//! The way of one request through the backends of one model, without its sockets: [`RetryState`] is told what happened and
//! says what comes next. Each backend is asked once, and after a wait once more.
//!
//! ```text
//! draw -> pick: somebody -> begin -> attempt: answered, or failed -> draw, unless it is over
//!               nobody   -> nobody -> wait -> draw, unless it is over
//! ```

use super::failure_state::{FailureState, Probes, Report};
use super::retry::{self, RetryBudget, Sent};
use crate::error::FaultKind;
use crate::units::Nanos;

/// One request on its way through the backends of one model.
pub struct RetryState {
    rules: Rules,
    tried: Tried,
    /// How the last attempt failed, and the wait that its backend asked for.
    failed: Option<(FaultKind, Option<Nanos>)>,
    attempts: u32,
    fresh: bool,
    waited: bool,
    /// The attempt that is under way.
    attempt: Attempt,
    /// Another backend has been asked after one failed.
    failed_over: bool,
    /// What the attempt to come has drawn from the budget.
    drew: Drew,
}

/// The attempt that is under way: which member of the pool is called, and the breakers whose probe it is.
#[derive(Clone, Copy, Default)]
struct Attempt {
    index: usize,
    probes: Probes,
}

/// What an attempt draws from the budget.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drew {
    Nothing,
    /// As the request's first failover, for nothing or for a retry.
    Failover {
        is_free: bool,
    },
    Retry,
}

/// What a retry state keeps to.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Attempts, the first included.
    pub attempts_max: u32,
    /// The longest wait before the same backends are asked once more.
    pub retry_wait: Nanos,
    /// Whether another backend is asked where a response broke off before its first content: it may be the request that breaks
    /// them, so only for a model that says so.
    pub resumes: bool,
}

/// Members of the pool that had their try, by index; a pool has at most 64 that count.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tried(u64);

/// Why a backend is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It is the first.
    First,
    /// A kept connection had been closed: the request is sent once more on a new one.
    Stale,
    /// Another one failed.
    Failover,
    /// All of them had failed, and some time has passed.
    Waited,
}

/// What to do where there is nobody to ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nobody {
    /// Nobody has been asked: say why there is nobody.
    Unasked,
    /// Wait so long, and ask them all again.
    Wait(Nanos),
    /// It is over; this is how the last attempt failed.
    Over(FaultKind),
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// What happened.
    pub kind: FaultKind,
    /// The wait that the backend asked for.
    pub asked: Option<Nanos>,
    /// How far it got.
    pub sent: Sent,
}

impl RetryState {
    /// A retry state at its start.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            tried: Tried::default(),
            failed: None,
            attempts: 0,
            fresh: false,
            waited: false,
            attempt: Attempt::default(),
            failed_over: false,
            drew: Drew::Nothing,
        }
    }

    /// Before a backend is picked: a retry is drawn from the budget. A stale connection is no failure: it draws nothing,
    /// and happens once since the next attempt dials. Nor is a request that a backend's API cannot say, which was not sent; nor
    /// does the first failover, as long as few requests need one.
    ///
    /// # Errors
    /// How the last attempt failed, if there is no retry left: it is over.
    pub fn draw(&mut self, budget: &mut RetryBudget) -> Result<(), FaultKind> {
        self.drew = Drew::Nothing;
        let Some(kind) = self.drawn() else { return Ok(()) };
        self.drew = match self.failed_over || self.waited {
            true => Drew::Retry,
            false => Drew::Failover { is_free: budget.first_failover() },
        };
        match self.drew {
            Drew::Retry | Drew::Failover { is_free: false } if !budget.take() => Err(kind),
            _ => Ok(()),
        }
    }

    fn drawn(&self) -> Option<FaultKind> {
        let failed = self.failed.filter(|_| !self.fresh).map(|(kind, _)| kind);
        failed.filter(|kind| *kind != FaultKind::MemberUnsupported)
    }

    /// Whether the request may wait for a slot: only before its first attempt.
    pub fn may_queue(&self) -> bool {
        self.failed.is_none()
    }

    /// Who is not asked again for now.
    pub fn tried(&self) -> &Tried {
        &self.tried
    }

    /// This member is not asked: it has just failed the same exchange.
    pub fn pass_over(&mut self, index: usize) {
        self.tried.add(index);
    }

    /// There is nobody to ask: what was drawn goes back, and once in a row all of them are waited for.
    pub fn nobody(&mut self, budget: &mut RetryBudget, random: u64) -> Nobody {
        let Some((kind, asked)) = self.failed else { return Nobody::Unasked };
        match std::mem::replace(&mut self.drew, Drew::Nothing) {
            Drew::Nothing => {}
            Drew::Retry => budget.give_back(),
            Drew::Failover { is_free } => {
                budget.take_back_failover();
                if !is_free {
                    budget.give_back();
                }
            }
        }
        let wait = retry::wait(kind, asked, self.attempts, random);
        match wait.filter(|wait| !self.waited && *wait <= self.rules.retry_wait) {
            Some(wait) => {
                (self.tried, self.fresh, self.waited) = (Tried::default(), false, true);
                Nobody::Wait(wait)
            }
            None => Nobody::Over(kind),
        }
    }

    /// An attempt begins with the member `index` of the pool. `probes`: the breakers that let it in as their probe.
    pub fn begin(&mut self, index: usize, probes: Probes) -> Reason {
        self.attempt = Attempt { index, probes };
        self.attempts += 1;
        match (self.drawn(), std::mem::take(&mut self.waited)) {
            (Some(_), true) => Reason::Waited,
            (Some(_), false) => {
                self.failed_over = true;
                Reason::Failover
            }
            (None, _) if self.fresh => Reason::Stale,
            (None, _) => Reason::First,
        }
    }

    /// The member `index` responded first, although it was asked second: the attempt is its own from now on. Returns the probes of
    /// the first one, from which nothing was learned.
    pub fn overtaken(&mut self, index: usize, probes: Probes) -> Probes {
        let first = std::mem::replace(&mut self.attempt, Attempt { index, probes });
        self.tried.add(first.index);
        self.attempts += 1;
        first.probes
    }

    /// Whether the attempt dials although a connection may be kept: the last one taken was dead, and so may be the others.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The attempt failed, which goes into its member's failure state. Returns whether there may be another one.
    pub fn failed(&mut self, failure: Failure, state: &FailureState<'_>, now: Nanos, random: u64) -> bool {
        let Failure { kind, asked, sent } = failure;
        let Attempt { index, probes } = self.attempt;
        // The backend is healthy: it was the kept connection that was dead.
        self.fresh = kind == FaultKind::BackendClosed && sent.reused && !sent.response_bytes;
        match self.fresh {
            true => state.abandon(probes),
            false => {
                state.report(Report { kind, asked, connected: sent.request_bytes }, probes, now, random);
                self.tried.add(index);
            }
        }
        self.failed = Some((kind, asked));
        let is_cut =
            self.rules.resumes && matches!(kind, FaultKind::BackendCut | FaultKind::BackendMalformed);
        is_cut && sent.body_held && self.attempts < self.rules.attempts_max
            || retry::again(kind, sent, self.attempts, self.rules.attempts_max)
    }
}

impl Tried {
    /// This one had its try.
    pub fn add(&mut self, index: usize) {
        self.0 |= 1 << (index % 64);
    }

    /// Whether this one had its try.
    pub fn contains(&self, index: usize) -> bool {
        self.0 & 1 << (index % 64) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::breaker::{Admission, Breaker};
    use super::super::failure_state::LimitScope;
    use super::*;

    const RULES: Rules = Rules { attempts_max: 4, retry_wait: Nanos(1_000_000_000), resumes: false };
    const SENT: Sent = Sent { reused: false, request_bytes: true, response_bytes: true, body_held: true };
    const FAILED: Failure = Failure { kind: FaultKind::BackendFailed, asked: None, sent: SENT };
    const STALE: Failure = Failure {
        kind: FaultKind::BackendClosed,
        asked: None,
        sent: Sent { reused: true, response_bytes: false, ..SENT },
    };

    const LATER: Nanos = Nanos(60_000_000_000);
    const PROBE: Probes = Probes { backend: None, deployment: Some(LATER) };

    #[derive(Default)]
    struct Two {
        backend: Breaker,
        deployment: Breaker,
    }

    impl Two {
        fn state(&self) -> FailureState<'_> {
            let (backend, deployment) = (&self.backend, &self.deployment);
            FailureState { backend, deployment, limit_scope: LimitScope::Model, alone: false }
        }

        /// Open for a second.
        fn failed() -> Self {
            let two = Self::default();
            let report = Report { kind: FaultKind::BackendFailed, asked: None, connected: true };
            (0..9).for_each(|_| two.state().report(report, Probes::default(), Nanos(0), 0));
            two
        }
    }

    fn fail(retry_state: &mut RetryState, failure: Failure) -> bool {
        retry_state.failed(failure, &Two::default().state(), Nanos(0), 0)
    }

    fn left(mut budget: RetryBudget) -> usize {
        std::iter::from_fn(|| budget.take().then_some(())).count()
    }

    #[test]
    fn the_first_attempt_and_one_after_a_stale_connection_draw_nothing() {
        let (mut retry_state, mut budget) = (RetryState::new(RULES), RetryBudget::default());
        let full = left(budget.clone());
        assert!(retry_state.draw(&mut budget).is_ok() && retry_state.may_queue());
        assert_eq!(retry_state.begin(0, Probes::default()), Reason::First);
        assert!(fail(&mut retry_state, STALE));
        assert!(retry_state.is_fresh() && !retry_state.tried().contains(0) && !retry_state.may_queue());
        assert!(retry_state.draw(&mut budget).is_ok());
        assert_eq!((retry_state.begin(0, Probes::default()), left(budget.clone())), (Reason::Stale, full));
        assert!(fail(&mut retry_state, FAILED));
        assert!(
            !retry_state.is_fresh() && retry_state.tried().contains(0) && !retry_state.tried().contains(1)
        );
        assert!(retry_state.draw(&mut budget).is_ok());
        assert_eq!((retry_state.begin(1, Probes::default()), left(budget.clone())), (Reason::Failover, full));
        assert!(fail(&mut retry_state, FAILED));
        assert!(retry_state.draw(&mut budget).is_ok());
        assert_eq!((retry_state.begin(0, Probes::default()), left(budget)), (Reason::Failover, full - 1));
    }

    #[test]
    fn a_first_failover_is_drawn_where_many_requests_need_one() {
        let (mut retry_state, mut budget) = (RetryState::new(RULES), RetryBudget::default());
        let full = left(budget.clone());
        while budget.first_failover() {}
        retry_state.begin(0, Probes::default());
        fail(&mut retry_state, FAILED);
        assert!(retry_state.draw(&mut budget).is_ok());
        assert_eq!(left(budget.clone()), full - 1);
        assert!(matches!(retry_state.nobody(&mut budget, 0), Nobody::Wait(_)));
        assert_eq!(left(budget.clone()), full);
        // Nor is asking the same one after a wait a failover.
        let mut budget = RetryBudget::default();
        assert!(retry_state.draw(&mut budget).is_ok());
        assert_eq!((retry_state.begin(0, Probes::default()), left(budget)), (Reason::Waited, full - 1));
    }

    #[test]
    fn without_a_retry_left_it_is_over() {
        let (mut retry_state, mut budget) = (RetryState::new(RULES), RetryBudget::default());
        while budget.take() || budget.first_failover() {}
        retry_state.begin(0, Probes::default());
        fail(&mut retry_state, FAILED);
        assert_eq!(retry_state.draw(&mut budget), Err(FaultKind::BackendFailed));
    }

    #[test]
    fn where_nobody_is_left_all_are_asked_again_after_one_wait() {
        let (mut retry_state, mut budget) = (RetryState::new(RULES), RetryBudget::default());
        let full = left(budget.clone());
        assert_eq!(retry_state.nobody(&mut budget, 0), Nobody::Unasked);
        retry_state.begin(0, Probes::default());
        fail(&mut retry_state, FAILED);
        retry_state.draw(&mut budget).unwrap();
        assert_eq!(retry_state.nobody(&mut budget, 0), Nobody::Wait(Nanos(250_000_000)));
        assert_eq!(left(budget.clone()), full);
        assert!(!retry_state.tried().contains(0));
        retry_state.draw(&mut budget).unwrap();
        assert_eq!(retry_state.nobody(&mut budget, 0), Nobody::Over(FaultKind::BackendFailed));
        retry_state.draw(&mut budget).unwrap();
        assert_eq!(retry_state.begin(0, Probes::default()), Reason::Waited);
        fail(&mut retry_state, FAILED);
        retry_state.draw(&mut budget).unwrap();
        assert_eq!(retry_state.nobody(&mut budget, 0), Nobody::Wait(Nanos(500_000_000)));
    }

    #[test]
    fn a_wait_beyond_its_bound_is_none() {
        let (mut retry_state, mut budget) = (RetryState::new(RULES), RetryBudget::default());
        retry_state.begin(0, Probes::default());
        let asked = Some(Nanos(RULES.retry_wait.0 + 1));
        fail(&mut retry_state, Failure { kind: FaultKind::BackendBusy, asked, sent: SENT });
        retry_state.draw(&mut budget).unwrap();
        assert_eq!(retry_state.nobody(&mut budget, 0), Nobody::Over(FaultKind::BackendBusy));
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        let mut retry_state = RetryState::new(Rules { attempts_max: 2, ..RULES });
        retry_state.begin(0, Probes::default());
        assert!(fail(&mut retry_state, FAILED));
        retry_state.begin(1, Probes::default());
        assert!(!fail(&mut retry_state, FAILED));
    }

    #[test]
    fn a_cut_before_the_first_content_is_tried_elsewhere_only_where_the_model_says_so() {
        let cut = Failure { kind: FaultKind::BackendCut, asked: None, sent: SENT };
        for (resumes, goes_on) in [(false, false), (true, true)] {
            let mut retry_state = RetryState::new(Rules { resumes, attempts_max: 2, ..RULES });
            retry_state.begin(0, Probes::default());
            assert_eq!(fail(&mut retry_state, cut), goes_on);
            retry_state.begin(1, Probes::default());
            assert!(!fail(&mut retry_state, cut), "it was the last attempt");
        }
    }

    #[test]
    fn a_dead_kept_connection_is_not_the_backends_failure() {
        let two = Two::default();
        let mut retry_state = RetryState::new(RULES);
        for _ in 0..100 {
            retry_state.failed(STALE, &two.state(), Nanos(0), 0);
        }
        assert_eq!(two.state().admit(Nanos(0)), Some(Probes::default()));
        for _ in 0..5 {
            retry_state.failed(FAILED, &two.state(), Nanos(0), 0);
        }
        assert_eq!(two.state().admit(Nanos(0)), None);
    }

    #[test]
    fn who_is_not_the_probe_does_not_end_it() {
        let (two, later) = (Two::failed(), LATER);
        let state = two.state();
        let left = Failure { kind: FaultKind::ClientGone, ..FAILED };
        let (mut early, mut probe) = (RetryState::new(RULES), RetryState::new(RULES));
        early.begin(0, Probes::default());
        assert_eq!(state.admit(later), Some(PROBE));
        probe.begin(0, PROBE);
        early.failed(left, &state, later, 0);
        assert_eq!(state.admit(later), None, "a second probe beside the first");
        probe.failed(left, &state, later, 0);
        assert_eq!(state.admit(later), Some(PROBE));
    }

    #[test]
    fn only_a_kept_connection_that_said_nothing_was_stale() {
        let (new, spoke) =
            (Sent { reused: false, ..STALE.sent }, Sent { response_bytes: true, ..STALE.sent });
        for failure in [
            Failure { sent: new, ..STALE },
            Failure { sent: spoke, ..STALE },
            Failure { kind: FaultKind::BackendBusy, ..STALE },
        ] {
            let mut retry_state = RetryState::new(RULES);
            retry_state.begin(0, Probes::default());
            fail(&mut retry_state, failure);
            assert!(!retry_state.is_fresh() && retry_state.tried().contains(0), "{failure:?}");
        }
    }

    #[test]
    fn a_probe_on_a_stale_connection_is_there_for_the_next_and_for_nobody_else() {
        for probes in [PROBE, Probes::default()] {
            let (two, later) = (Two::failed(), LATER);
            assert_eq!(two.state().admit(later), Some(PROBE));
            let mut retry_state = RetryState::new(RULES);
            retry_state.begin(0, probes);
            retry_state.failed(STALE, &two.state(), later, 0);
            assert_eq!(two.deployment.peek(later) == Admission::Probe, probes.any());
        }
    }

    #[test]
    fn each_member_is_tried_for_itself() {
        let mut tried = Tried::default();
        for index in [0, 3, 5, 63] {
            tried.add(index);
        }
        let all: Vec<usize> = (0..64).filter(|index| tried.contains(*index)).collect();
        assert_eq!(all, [0, 3, 5, 63]);
        assert!(tried.contains(67) && !tried.contains(66), "a pool has 64 that count");
    }
}
