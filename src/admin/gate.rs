//! Who may ask: a caller with an admin token, if one is configured. Without one the listener is on loopback, and every program of
//! this machine may; a web page of another site that is open in a browser here may not.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::Who;
use super::sessions::Sessions;
use crate::clock;
use crate::coordinator::roster::secret;
use crate::coordinator::{Access, lock};
use crate::policy::auth::credential::{self, Token};
use crate::policy::auth::failures::{self, Failures};
use crate::policy::auth::origin;
use crate::policy::auth::role::Role;
use crate::units::Nanos;

/// Wrong or missing tokens per minute and source address that are answered 401; a sixth of them may come at once. Taste.
const FAILURES_PER_MINUTE: u64 = 60;

/// Decides who is admitted to the admin listener. It lives as long as the process; a reload may change the token.
pub(crate) struct Gate {
    access: Arc<Access>,
    /// Of browsers that showed the token once.
    pub(super) sessions: Sessions,
    /// The token's epoch that the sessions were opened in.
    epoch: AtomicU64,
    failures: Mutex<Failures>,
    /// Requests without the token.
    pub(crate) unauthorized: AtomicU64,
    /// The same, from a source that had too many of them.
    pub(crate) limited: AtomicU64,
    /// Requests without a token that a web page of somebody else may have made.
    pub(crate) foreign: AtomicU64,
}

/// Why a request gets no response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// The token is wrong or missing.
    Unauthorized,
    /// The same, too often from this source; the next one is looked at after this wait.
    Limited(Nanos),
    /// No token is asked for, and `Host` is neither an address, nor localhost, nor listed.
    ForeignHost,
    /// No token is asked for, and a web page of another site asks.
    ForeignPage,
    /// A session is shown, and a write without the session's own `x-csrf-token`, or by a page of another site.
    NotOwnPage,
}

impl Gate {
    pub(crate) fn new(access: Arc<Access>) -> Self {
        Self {
            epoch: AtomicU64::new(access.epoch.load(Ordering::Relaxed)),
            access,
            sessions: Sessions::default(),
            failures: Mutex::new(Failures::new(RandomState::new().hash_one(0))),
            unauthorized: AtomicU64::new(0),
            limited: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
        }
    }

    /// Who asks: by a token, by a session of the dashboard, or from this machine where no token is configured.
    pub(super) fn identify(&self, from: IpAddr, head: &Head<'_>, now: Nanos) -> Result<Known, Refused> {
        let epoch = self.access.epoch.load(Ordering::Relaxed);
        let has_token = self.access.token.load().is_some();
        self.end_sessions_of_another_token();
        if head.headers.contains_key(AUTHORIZATION) {
            // A token of the store that is not valid is refused also where none is asked for: its owner would be more than it was.
            if let Some(presented) = bearer(head.headers).filter(|text| text.starts_with(PREFIX)) {
                let (operator, role) = self.operator(presented).ok_or_else(|| self.failed(from, now))?;
                return Ok(Known { who: Who::Token, operator: Some(operator), role, epoch });
            }
        } else if let Some(session) = self.sessions.find(head.headers, now)
            && let Some(role) = self.role_of(session.operator.as_deref())
        {
            let csrf = session.csrf;
            let shown = head.headers.get(CSRF).map(HeaderValue::as_bytes);
            let may_write = shown.is_some_and(|shown| is_equal(shown, csrf.as_bytes()))
                && self.check_own_page(head.headers).is_ok();
            if !head.method.is_safe() && !may_write {
                self.foreign.fetch_add(1, Ordering::Relaxed);
                return Err(Refused::NotOwnPage);
            }
            return Ok(Known { who: Who::Session { csrf }, operator: session.operator, role, epoch });
        }
        self.admit(from, head.authority, head.headers, now)?;
        let who = if has_token { Who::Token } else { Who::Loopback };
        Ok(Known { who, operator: None, role: Role::Owner, epoch })
    }

    /// Whether who was admitted with this would be now: what runs longer than a moment asks before each of its frames.
    pub(super) fn still_admits(&self, pass: &Pass, now: Nanos) -> bool {
        self.end_sessions_of_another_token();
        let has_session = match &pass.who {
            Who::Session { csrf } => self.sessions.is_open(csrf, now),
            Who::Token | Who::Loopback => {
                pass.operator.is_some() || pass.epoch == self.access.epoch.load(Ordering::Relaxed)
            }
        };
        has_session && self.role_of(pass.operator.as_deref()).is_some()
    }

    /// The operator whose token of the store this is.
    fn operator(&self, presented: &[u8]) -> Option<(String, Role)> {
        let (digest, now_ms) = (credential::digest(presented), clock::unix_ms());
        let operators = self.access.operators.load();
        let found = operators.iter().find(|operator| operator.token.is_key(&digest));
        let found = found.filter(|operator| operator.is_valid(now_ms))?;
        Some((found.name.clone(), found.role.clone()))
    }

    /// The role that a session has now: it ends with the token that it was opened with.
    fn role_of(&self, operator: Option<&str>) -> Option<Role> {
        let Some(name) = operator else { return Some(Role::Owner) };
        let (operators, now_ms) = (self.access.operators.load(), clock::unix_ms());
        let found = operators.iter().find(|operator| operator.name == name && operator.is_valid(now_ms));
        found.map(|operator| operator.role.clone())
    }

    fn end_sessions_of_another_token(&self) {
        let epoch = self.access.epoch.load(Ordering::Relaxed);
        if self.epoch.swap(epoch, Ordering::Relaxed) != epoch {
            self.sessions.close_all();
        }
    }

    /// Whose token this is, counted as a failure of `from` if it is nobody's.
    pub(super) fn check_token(&self, from: IpAddr, presented: &[u8], now: Nanos) -> Result<Known, Refused> {
        self.end_sessions_of_another_token();
        let epoch = self.access.epoch.load(Ordering::Relaxed);
        let token = self.access.token.load();
        if token.as_ref().is_some_and(|token| token.accepts(presented)) {
            return Ok(Known { who: Who::Token, operator: None, role: Role::Owner, epoch });
        }
        let (operator, role) = self.operator(presented).ok_or_else(|| self.failed(from, now))?;
        Ok(Known { who: Who::Token, operator: Some(operator), role, epoch })
    }

    /// Counts a page that is refused.
    fn counted(&self, checked: Result<(), Refused>) -> Result<(), Refused> {
        checked.inspect_err(|_| {
            self.foreign.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn failed(&self, from: IpAddr, now: Nanos) -> Refused {
        let rate = failures::rate(FAILURES_PER_MINUTE);
        match lock(&self.failures).take(from, &rate, now) {
            None => {
                self.unauthorized.fetch_add(1, Ordering::Relaxed);
                Refused::Unauthorized
            }
            Some(wait) => {
                self.limited.fetch_add(1, Ordering::Relaxed);
                Refused::Limited(wait)
            }
        }
    }

    /// Whether the pages that hold no data may be shown: without a token, only under a name of ours.
    pub(super) fn check_static(&self, authority: Option<&str>, headers: &HeaderMap) -> Result<(), Refused> {
        match self.access.token.load().is_some() {
            true => Ok(()),
            false => self.counted(self.check_page(authority, headers)),
        }
    }

    /// Whether a request with these headers may be answered. The right token always may, whatever else came from the
    /// same address. `authority` is that of an absolute request target.
    pub(crate) fn admit(
        &self,
        source: IpAddr,
        authority: Option<&str>,
        headers: &HeaderMap,
        now: Nanos,
    ) -> Result<(), Refused> {
        let token = self.access.token.load();
        let Some(token) = &*token else {
            return self.counted(self.check_page(authority, headers));
        };
        if bearer(headers).is_some_and(|presented| token.accepts(presented)) {
            return Ok(());
        }
        Err(self.failed(source, now))
    }

    /// Whether a web page that is open in a browser of this machine cannot have made the request: where reaching the listener
    /// is all the credential there is, a page must not borrow it. Every browser sends `Host`; so a request without one (HTTP/1.0)
    /// is no page's.
    fn check_page(&self, authority: Option<&str>, headers: &HeaderMap) -> Result<(), Refused> {
        let hosts = self.access.hosts.load();
        let is_ours = |host: &[u8]| origin::is_literal(host) || origin::is_listed(host, &hosts);
        let mut lines = headers.get_all(HOST).iter().map(|line| line.as_bytes());
        if !lines.by_ref().all(is_ours) || !authority.is_none_or(|authority| is_ours(authority.as_bytes())) {
            return Err(Refused::ForeignHost);
        }
        self.check_own_page(headers)
    }

    /// Whether no page of another site asks, by what browsers say of the page (`Origin`, Fetch Metadata).
    pub(super) fn check_own_page(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let hosts = self.access.hosts.load();
        let host = headers.get(HOST).map_or(&[][..], |line| line.as_bytes());
        let is_own = |page: &[u8]| {
            let listed = origin::authority(page).is_some_and(|page| origin::is_listed(page, &hosts));
            origin::is_own(page, host) || listed
        };
        let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
        let is_foreign = !headers.get_all(ORIGIN).iter().all(|page| is_own(page.as_bytes()))
            || sites.any(|site| site.as_bytes() == b"cross-site");
        if is_foreign { Err(Refused::ForeignPage) } else { Ok(()) }
    }
}

/// Who was recognised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Known {
    pub(super) who: Who,
    /// The name of the token, if it is one of the store's.
    pub(super) operator: Option<String>,
    pub(super) role: Role,
    /// The token's epoch that it was recognised in.
    pub(super) epoch: u64,
}

/// What somebody was admitted with.
pub(super) struct Pass {
    pub(super) who: Who,
    /// The name of the token, if it is one of the store's.
    pub(super) operator: Option<String>,
    /// The configured token's epoch.
    pub(super) epoch: u64,
}

/// The token of the one `Authorization` line. Two lines are two tokens: which of them counts must not depend on order.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = lines.next().filter(|_| lines.next().is_none());
    line.and_then(|line| credential::bearer(line.as_bytes()))
}

/// What tokens of the store start with.
const PREFIX: &[u8] = secret::ADMIN_TOKEN.as_bytes();

/// How the page that asks and the listener are related, by the browser's word (W3C Fetch Metadata section 2.3).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a page sends with a write to show that it is ours: a page of another site cannot read it.
const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");

/// What of a request says who sent it.
pub(super) struct Head<'a> {
    pub(super) method: &'a Method,
    /// That of an absolute request target.
    pub(super) authority: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
}

/// In time that depends on the lengths only.
fn is_equal(shown: &[u8], expected: &[u8]) -> bool {
    Token::new(credential::digest(expected)).accepts(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn headers(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (AUTHORIZATION, HeaderValue::from_static(line))).collect()
    }

    fn gate() -> Gate {
        Gate::new(Arc::new(Access::new(Some(Token::new(credential::digest(b"right"))), &[])))
    }

    #[test]
    fn only_the_whole_token_is_admitted() {
        let gate = gate();
        assert_eq!(gate.admit(NEAR, None, &headers(&["Bearer right"]), Nanos(0)), Ok(()));
        assert_eq!(gate.admit(NEAR, None, &headers(&["bearer  right "]), Nanos(0)), Ok(()));
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
            let refused = gate.admit(NEAR, None, &headers(lines), Nanos(0));
            assert_eq!(refused, Err(Refused::Unauthorized), "{lines:?}");
        }
        assert_eq!(gate.unauthorized.load(Ordering::Relaxed), 9);
    }

    #[test]
    fn the_eleventh_failure_at_once_is_limited_and_the_token_still_admitted() {
        let (gate, wrong) = (gate(), headers(&["Bearer wrong"]));
        for _ in 0..10 {
            assert_eq!(gate.admit(NEAR, None, &wrong, Nanos(0)), Err(Refused::Unauthorized));
        }
        assert_eq!(gate.admit(NEAR, None, &wrong, Nanos(0)), Err(Refused::Limited(Nanos(1_000_000_000))));
        assert_eq!(gate.admit([10, 0, 0, 1].into(), None, &wrong, Nanos(0)), Err(Refused::Unauthorized));
        assert_eq!(gate.admit(NEAR, None, &headers(&["Bearer right"]), Nanos(0)), Ok(()));
        assert_eq!(gate.limited.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_changed_token_counts_at_once_and_none_asks_for_nothing() {
        let gate = gate();
        gate.access.change(Some(Token::new(credential::digest(b"other"))), &[]);
        assert!(gate.admit(NEAR, None, &headers(&["Bearer right"]), Nanos(0)).is_err());
        assert!(gate.admit(NEAR, None, &headers(&["Bearer other"]), Nanos(0)).is_ok());
        gate.access.change(None, &[]);
        assert!(gate.admit(NEAR, None, &HeaderMap::new(), Nanos(0)).is_ok());
    }

    fn page(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn without_a_token_a_page_of_somebody_else_is_refused() {
        let gate = Gate::new(Arc::new(Access::new(None, &["ops.example".into()])));
        let own = "127.0.0.1:9090";
        for lines in [
            &[][..],
            &[("host", own)],
            &[("host", "LOCALHOST:9090")],
            &[("host", "[::1]:9090")],
            &[("host", "Ops.Example")],
            &[("host", own), ("origin", "http://127.0.0.1:9090"), ("sec-fetch-site", "same-origin")],
            &[("host", own), ("sec-fetch-site", "none")],
            &[("host", own), ("origin", "https://ops.example")], // behind a proxy that rewrites Host
        ] {
            assert_eq!(gate.admit(NEAR, None, &page(lines), Nanos(0)), Ok(()), "{lines:?}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:9090", "", "x.ops.example"] {
            let refused = gate.admit(NEAR, None, &page(&[("host", host)]), Nanos(0));
            assert_eq!(refused, Err(Refused::ForeignHost), "{host}");
        }
        let two = page(&[("host", own), ("host", "evil.example")]);
        assert_eq!(gate.admit(NEAR, None, &two, Nanos(0)), Err(Refused::ForeignHost));
        let none = HeaderMap::new();
        assert_eq!(gate.admit(NEAR, Some("evil.example"), &none, Nanos(0)), Err(Refused::ForeignHost));
        for lines in [
            &[("host", own), ("origin", "https://evil.example")],
            &[("host", own), ("origin", "null")],
            &[("host", own), ("origin", "")],
            &[("host", own), ("origin", "http://127.0.0.1:3000")],
            &[("host", own), ("origin", "http://127.0.0.1:9090.evil.example")],
            &[("host", own), ("sec-fetch-site", "cross-site")],
        ] {
            let refused = gate.admit(NEAR, None, &page(lines), Nanos(0));
            assert_eq!(refused, Err(Refused::ForeignPage), "{lines:?}");
        }
        assert_eq!(gate.foreign.load(Ordering::Relaxed), 13);
    }

    #[test]
    fn the_token_is_enough_under_any_name() {
        let mut lines = page(&[("host", "evil.example"), ("origin", "https://evil.example")]);
        lines.insert(AUTHORIZATION, HeaderValue::from_static("Bearer right"));
        assert_eq!(gate().admit(NEAR, Some("evil.example"), &lines, Nanos(0)), Ok(()));
    }
}
