//! May a failed attempt be made again?

use super::failure_state::HOLD_UNASKED;
use crate::error::{FaultKind, Retry, Side};
use crate::units::Nanos;

/// How far a failed attempt got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// Its connection had been kept from an earlier exchange.
    pub reused: bool,
    /// A byte of the request was written.
    pub request_bytes: bool,
    /// A byte of a response was read.
    pub response_bytes: bool,
    /// The whole request is still in memory, so it can be sent once more.
    pub body_held: bool,
}

/// Whether to try again after `kind`, given that `attempts` of at most `attempts_max` have been made.
///
/// Only asked before any byte of a response has gone to the client. A retry also needs [`RetryBudget::take`].
pub fn again(kind: FaultKind, sent: Sent, attempts: u32, attempts_max: u32) -> bool {
    let can_be_sent = sent.body_held || !sent.request_bytes;
    attempts < attempts_max
        && can_be_sent
        && match kind.retry() {
            Retry::Never => false,
            Retry::IfReused => sent.reused && !sent.response_bytes,
            Retry::Yes => true,
        }
}

/// Whether another model may answer where the one that was asked failed with `kind`, before any byte of a response has
/// gone to the client.
///
/// More than [`again`] allows: the work may have been done, or the request itself may be what broke the backend, so it
/// is not sent to that model's other backends; to name a fallback is to ask for this.
pub fn falls_back(kind: FaultKind) -> bool {
    match kind {
        FaultKind::TotalTimeout => false,
        FaultKind::NoBackend
        | FaultKind::ContextExceeded
        | FaultKind::SocketsExhausted
        | FaultKind::MemberUnsupported => true,
        _ => kind.side() == Side::Backend,
    }
}

/// How long to wait before the same backend is asked once more: what it asked for itself, or else a second if it is busy
/// and 250 ms that double with each of the `attempts` made if it failed, and up to a quarter more so that those who failed together do not come together.
///
/// `None` if waiting does not help: only refusals and failures pass.
pub fn wait(kind: FaultKind, asked: Option<Nanos>, attempts: u32, random: u64) -> Option<Nanos> {
    let stays = matches!(
        kind,
        FaultKind::BackendDenied
            | FaultKind::BackendRefused
            | FaultKind::TlsFailed
            | FaultKind::MemberUnsupported
    );
    if !matches!(kind.retry(), Retry::Yes) || stays {
        return None;
    }
    let doubled = Nanos(FIRST_WAIT.0 << attempts.saturating_sub(1).min(DOUBLINGS_MAX));
    let busy = matches!(kind, FaultKind::BackendBusy | FaultKind::BackendOverloaded);
    let wait = asked.unwrap_or(if busy { HOLD_UNASKED } else { doubled });
    Some(wait.plus(Nanos(random % (wait.0 / 4 + 1))))
}

/// The wait after a first failure. Taste.
const FIRST_WAIT: Nanos = Nanos(250_000_000);
/// Four seconds are the longest wait of our own choice.
const DOUBLINGS_MAX: u32 = 4;

/// Retries of one shard, bound to a share of its requests: when everything fails, attempts stay below
/// `1.3 × requests + 30`, and a dead pool is not hit by a storm of retries.
///
/// A request's first failover to another member of its pool costs nothing while few requests need one: a member that
/// fails for all is not to use up what the others' retries are drawn from.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    /// In tenths of a retry.
    tenths: u32,
    /// The last [`WINDOW`] requests, the newest in the lowest bit: which of them needed a failover.
    needed: u128,
}

/// Requests over which failovers are counted.
const WINDOW: u32 = 100;
/// Of which so many may fail over for nothing. Chosen, not measured.
const FREE: u32 = 20;

/// Retries a shard may make before its first requests have earned any. Taste.
const FLOOR: u32 = 10;
/// Retries that can be saved up in quiet times. Taste.
const SAVED_MAX: u32 = 100;
/// Tenths of a retry.
const RETRY: u32 = 10;

impl Default for RetryBudget {
    fn default() -> Self {
        Self { tenths: FLOOR * RETRY, needed: 0 }
    }
}

impl RetryBudget {
    /// A request came in and earns a tenth of a retry.
    pub fn earn(&mut self) {
        self.tenths = (self.tenths + 1).min(SAVED_MAX * RETRY);
        self.needed = self.needed << 1 & ((1 << WINDOW) - 1);
    }

    /// A request needs its first failover. Returns whether that costs nothing.
    #[must_use]
    pub fn first_failover(&mut self) -> bool {
        let is_free = self.needed.count_ones() < FREE;
        // Which of the last requests it is does not matter: they go out of the window at almost the same time.
        self.needed |= (self.needed + 1) & ((1 << WINDOW) - 1);
        is_free
    }

    /// A first failover had nobody to go to.
    pub fn take_back_failover(&mut self) {
        self.needed &= self.needed.saturating_sub(1);
    }

    /// A retry that was spent had nobody to go to.
    pub fn give_back(&mut self) {
        self.tenths = (self.tenths + RETRY).min(SAVED_MAX * RETRY);
    }

    /// Spends one retry if there is one.
    #[must_use]
    pub fn take(&mut self) -> bool {
        match self.tenths.checked_sub(RETRY) {
            Some(left) => {
                self.tenths = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Sent = Sent { reused: false, request_bytes: true, response_bytes: false, body_held: true };

    #[test]
    fn work_that_may_have_been_done_is_not_repeated() {
        assert!(again(FaultKind::ConnectFailed, Sent { request_bytes: false, ..HELD }, 1, 3));
        assert!(again(FaultKind::BackendBusy, Sent { response_bytes: true, ..HELD }, 1, 3));
        assert!(again(FaultKind::BackendClosed, Sent { reused: true, ..HELD }, 1, 3));
        assert!(!again(FaultKind::BackendClosed, HELD, 1, 3));
        assert!(!again(FaultKind::BackendClosed, Sent { reused: true, response_bytes: true, ..HELD }, 1, 3));
        for kind in [
            FaultKind::FirstTokenTimeout,
            FaultKind::BackendCut,
            FaultKind::ClientGone,
            FaultKind::BodyMalformed,
        ] {
            assert!(!again(kind, Sent { reused: true, ..HELD }, 1, 3), "{kind:?}");
        }
    }

    #[test]
    fn a_fallback_answers_for_backends_that_failed_and_for_prompts_that_do_not_fit() {
        for kind in [
            FaultKind::NoBackend,
            FaultKind::BackendBusy,
            FaultKind::BackendClosed,
            FaultKind::BackendCut,
            FaultKind::FirstTokenTimeout,
            FaultKind::ContextExceeded,
        ] {
            assert!(falls_back(kind), "{kind:?}");
        }
        for kind in [
            FaultKind::ClientGone,
            FaultKind::TotalTimeout,
            FaultKind::HeadMalformed,
            FaultKind::PathUnknown,
            FaultKind::Draining,
        ] {
            assert!(!falls_back(kind), "{kind:?}");
        }
    }

    #[test]
    fn waits_are_what_was_asked_for_or_double_with_a_little_more() {
        let second = Nanos(1_000_000_000);
        assert_eq!(wait(FaultKind::BackendBusy, Some(second), 1, 0), Some(second));
        assert_eq!(wait(FaultKind::BackendOverloaded, None, 3, 0), Some(second));
        assert_eq!(wait(FaultKind::BackendFailed, None, 1, 0), Some(FIRST_WAIT));
        assert_eq!(wait(FaultKind::BackendFailed, None, 3, 0), Some(second));
        assert_eq!(wait(FaultKind::BackendFailed, None, 99, 0), Some(Nanos(4_000_000_000)));
        for random in [1, 250_000_000, u64::MAX] {
            let wait = wait(FaultKind::BackendBusy, Some(second), 1, random).unwrap();
            assert!((second..=Nanos(1_250_000_000)).contains(&wait), "{wait:?}");
        }
        for kind in [
            FaultKind::FirstTokenTimeout,
            FaultKind::BackendDenied,
            FaultKind::BackendClosed,
            FaultKind::ContextExceeded,
        ] {
            assert_eq!(wait(kind, None, 1, 0), None, "{kind:?}");
        }
    }

    #[test]
    fn what_is_added_to_a_wait_is_a_quarter_at_most() {
        for (asked, random, waited) in [
            (400, 0, 400),
            (400, 1, 401),
            (400, 100, 500),
            (400, 101, 400),
            (403, 100, 503),
            (403, 101, 403),
            (3, u64::MAX, 3),
            (0, 1, 0),
        ] {
            let wait = wait(FaultKind::BackendBusy, Some(Nanos(asked)), 1, random);
            assert_eq!(wait, Some(Nanos(waited)), "{asked} {random}");
        }
        for (attempts, millis) in [(0, 250), (1, 250), (2, 500), (4, 2_000), (5, 4_000), (6, 4_000)] {
            let wait = wait(FaultKind::BackendFailed, None, attempts, 0);
            assert_eq!(wait, Some(Nanos(millis * 1_000_000)), "{attempts}");
        }
    }

    #[test]
    fn a_body_that_is_gone_cannot_be_sent_again() {
        assert!(!again(FaultKind::BackendBusy, Sent { body_held: false, ..HELD }, 1, 3));
        let unsent = Sent { body_held: false, request_bytes: false, ..HELD };
        assert!(again(FaultKind::ConnectFailed, unsent, 1, 3));
    }

    #[test]
    fn attempts_are_bounded() {
        assert!(again(FaultKind::ConnectFailed, HELD, 2, 3));
        assert!(!again(FaultKind::ConnectFailed, HELD, 3, 3));
        assert!(!again(FaultKind::ConnectFailed, HELD, 1, 0));
    }

    #[test]
    fn a_tenth_of_the_requests_may_be_retried_plus_a_floor() {
        let (mut budget, mut retries) = (RetryBudget::default(), 0);
        for _ in 0..10_000 {
            budget.earn();
            for _ in 0..5 {
                retries += u32::from(budget.take());
            }
        }
        assert_eq!(retries, 10_000 / 10 + FLOOR);
    }

    #[test]
    fn a_retry_given_back_can_be_taken_again_and_is_not_saved_beyond_the_bound() {
        let taken = |mut budget: RetryBudget| (0..1_000).filter(|_| budget.take()).count();
        let mut budget = RetryBudget::default();
        assert!(budget.take() && budget.take());
        budget.give_back();
        assert_eq!(taken(budget), FLOOR as usize - 1);
        let mut budget = RetryBudget::default();
        (0..1_000).for_each(|_| budget.give_back());
        assert_eq!(taken(budget), SAVED_MAX as usize);
    }

    #[test]
    fn a_first_failover_is_free_while_fewer_than_a_fifth_of_the_requests_need_one() {
        let mut budget = RetryBudget::default();
        let mut free = |every: usize, requests: usize| {
            let mut free = 0;
            for turn in 0..requests {
                budget.earn();
                free += usize::from(turn % every == 0 && budget.first_failover());
            }
            free
        };
        assert_eq!(free(10, 1_000), 100, "a tenth of them");
        assert_eq!(free(6, 6_000), 1_000, "a sixth");
        assert!((1..=20).contains(&free(1, 200)), "all: no more than a fifth of a window");
        assert_eq!(free(1, 1_000), 0, "as long as all of them need one");
        assert_eq!(free(200, 1_000), 4, "and again, when few do, but for the first of them");
    }

    #[test]
    fn a_failover_that_had_nobody_to_go_to_does_not_count() {
        let mut budget = RetryBudget::default();
        budget.take_back_failover();
        for _ in 0..1_000 {
            budget.earn();
            assert!(budget.first_failover());
            budget.take_back_failover();
        }
        let mut full = RetryBudget::default();
        assert_eq!((0..1_000).filter(|_| full.first_failover()).count(), FREE as usize);
    }

    #[test]
    fn quiet_times_save_up_a_bounded_number() {
        let mut budget = RetryBudget::default();
        (0..1_000_000).for_each(|_| budget.earn());
        assert_eq!((0..1_000).filter(|_| budget.take()).count(), SAVED_MAX as usize);
    }
}
