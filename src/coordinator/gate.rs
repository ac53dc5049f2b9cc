//! Who may ask: whoever has the admin token, if there is one. Without one the listener is on loopback, and whoever
//! reaches it may.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use super::aggregate::lock;
use crate::policy::auth::{self, Token};
use crate::policy::failures::{self, Failures};
use crate::units::Nanos;

/// Wrong or missing tokens per minute and source address that are answered 401; a sixth of them may come at once. Taste.
const FAILURES_PER_MINUTE: u64 = 60;

/// The door of the admin listener. It lives as long as the process; a reload may change the token.
pub(super) struct Gate {
    token: ArcSwapOption<Token>,
    failures: Mutex<Failures>,
    /// Requests without the token.
    pub(super) unauthorized: AtomicU64,
    /// The same, from a source that had too many of them.
    pub(super) limited: AtomicU64,
}

/// Why a request gets no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// The token is wrong or missing.
    Unauthorized,
    /// The same, too often from this source; the next one is looked at after this wait.
    Limited(Nanos),
}

impl Gate {
    pub(super) fn new(token: Option<Token>) -> Self {
        Self {
            token: ArcSwapOption::from_pointee(token),
            failures: Mutex::new(Failures::new(RandomState::new().hash_one(0))),
            unauthorized: AtomicU64::new(0),
            limited: AtomicU64::new(0),
        }
    }

    /// Asks for this token from now on.
    pub(super) fn change(&self, token: Option<Token>) {
        self.token.store(token.map(Arc::new));
    }

    /// Whether a request with these headers may be answered. The right token always may, whatever else came from the
    /// same address.
    pub(super) fn admit(&self, source: IpAddr, headers: &HeaderMap, now: Nanos) -> Result<(), Refused> {
        let token = self.token.load();
        let Some(token) = &*token else { return Ok(()) };
        let mut lines = headers.get_all(AUTHORIZATION).iter();
        // Two lines are two tokens: which of them counts must not depend on order.
        let line = lines.next().filter(|_| lines.next().is_none());
        let presented = line.and_then(|line| auth::bearer(line.as_bytes()));
        if presented.is_some_and(|presented| token.accepts(presented)) {
            return Ok(());
        }
        let rate = failures::rate(FAILURES_PER_MINUTE);
        match lock(&self.failures).take(source, &rate, now) {
            None => {
                self.unauthorized.fetch_add(1, Ordering::Relaxed);
                Err(Refused::Unauthorized)
            }
            Some(wait) => {
                self.limited.fetch_add(1, Ordering::Relaxed);
                Err(Refused::Limited(wait))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn headers(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (AUTHORIZATION, HeaderValue::from_static(line))).collect()
    }

    fn gate() -> Gate {
        Gate::new(Some(Token::new(auth::digest(b"right"))))
    }

    #[test]
    fn only_the_whole_token_is_admitted() {
        let gate = gate();
        assert_eq!(gate.admit(NEAR, &headers(&["Bearer right"]), Nanos(0)), Ok(()));
        assert_eq!(gate.admit(NEAR, &headers(&["bearer  right "]), Nanos(0)), Ok(()));
        for lines in [
            &[][..],
            &[""],
            &["right"],
            &["Bearer"],
            &["Bearer righ"],
            &["Bearer rightt"],
            &["Bearer Right"],
            &["Basic right"],
            &["Bearer right", "Bearer right"],
        ] {
            let refused = gate.admit(NEAR, &headers(lines), Nanos(0));
            assert_eq!(refused, Err(Refused::Unauthorized), "{lines:?}");
        }
        assert_eq!(gate.unauthorized.load(Ordering::Relaxed), 9);
    }

    #[test]
    fn the_eleventh_failure_at_once_is_limited_and_the_token_still_admitted() {
        let (gate, wrong) = (gate(), headers(&["Bearer wrong"]));
        for _ in 0..10 {
            assert_eq!(gate.admit(NEAR, &wrong, Nanos(0)), Err(Refused::Unauthorized));
        }
        assert_eq!(gate.admit(NEAR, &wrong, Nanos(0)), Err(Refused::Limited(Nanos(1_000_000_000))));
        assert_eq!(gate.admit([10, 0, 0, 1].into(), &wrong, Nanos(0)), Err(Refused::Unauthorized));
        assert_eq!(gate.admit(NEAR, &headers(&["Bearer right"]), Nanos(0)), Ok(()));
        assert_eq!(gate.limited.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_changed_token_counts_at_once_and_none_asks_for_nothing() {
        let gate = gate();
        gate.change(Some(Token::new(auth::digest(b"other"))));
        assert!(gate.admit(NEAR, &headers(&["Bearer right"]), Nanos(0)).is_err());
        assert!(gate.admit(NEAR, &headers(&["Bearer other"]), Nanos(0)).is_ok());
        gate.change(None);
        assert!(gate.admit(NEAR, &HeaderMap::new(), Nanos(0)).is_ok());
    }
}
