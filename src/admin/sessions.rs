//! Sessions of browsers: 256 random bits in a cookie, of which only the digest is kept here, in memory.

use std::sync::Mutex;

use axum::http::HeaderMap;
use axum::http::header::COOKIE as COOKIE_LINE;
use ring::rand::{SecureRandom, SystemRandom};

use crate::coordinator::lock;
use crate::policy::auth::credential::{self, Digest, Token};
use crate::units::{Nanos, hex};

/// The name of the cookie.
pub(super) const COOKIE: &str = "ringway_session";

/// How long a session lasts from the sign-in on: a working day.
pub(super) const LIFE_SECONDS: u64 = 12 * 3_600;

/// Sessions at once; a further one ends the oldest.
const SESSIONS_MAX: usize = 256;

/// Everybody who is signed in.
#[derive(Default)]
pub(super) struct Sessions {
    rows: Mutex<Vec<Row>>,
}

struct Row {
    /// Compared in constant time, as any credential is.
    id: Token,
    digest: Digest,
    csrf: String,
    /// The name of the token of the store that it was opened with.
    operator: Option<String>,
    ends: Nanos,
}

/// A session that was found.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Session {
    /// What its pages send with every write.
    pub(super) csrf: String,
    /// The name of the token of the store that it was opened with; `None` for the configured one.
    pub(super) operator: Option<String>,
}

impl Sessions {
    /// A new session; its id, which is told once. `None` if the system gives no random bytes.
    pub(super) fn open(&self, operator: Option<String>, now: Nanos) -> Option<String> {
        let (id, csrf) = (random()?, random()?);
        let digest = credential::digest(id.as_bytes());
        let mut rows = lock(&self.rows);
        rows.retain(|row| now < row.ends);
        if rows.len() >= SESSIONS_MAX {
            rows.remove(0);
        }
        let ends = now.plus(Nanos(LIFE_SECONDS * 1_000_000_000));
        rows.push(Row { id: Token::new(digest), digest, csrf, operator, ends });
        Some(id)
    }

    /// The session that these headers show.
    pub(super) fn find(&self, headers: &HeaderMap, now: Nanos) -> Option<Session> {
        let presented = cookie(headers)?;
        let rows = lock(&self.rows);
        rows.iter()
            .find(|row| now < row.ends && row.id.accepts(presented.as_bytes()))
            .map(|row| Session { csrf: row.csrf.clone(), operator: row.operator.clone() })
    }

    /// Whether the session with this CSRF token goes on.
    pub(super) fn is_open(&self, csrf: &str, now: Nanos) -> bool {
        lock(&self.rows).iter().any(|row| now < row.ends && row.csrf == csrf)
    }

    /// Ends the session that these headers show.
    pub(super) fn close(&self, headers: &HeaderMap) {
        if let Some(presented) = cookie(headers) {
            let digest = credential::digest(presented.as_bytes());
            lock(&self.rows).retain(|row| row.digest != digest);
        }
    }

    /// Ends all of them: the token they were opened with is another one now.
    pub(super) fn close_all(&self) {
        lock(&self.rows).clear();
    }
}

/// 256 bits in hex.
fn random() -> Option<String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(hex(&bytes))
}

/// The value of our cookie; two of them are none.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(COOKIE_LINE).iter().filter_map(|line| line.to_str().ok());
    let mut found = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value);
    found.next().filter(|value| found.next().is_none() && value.len() == 64)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE_LINE, HeaderValue::from_str(cookie).unwrap());
        headers
    }

    #[test]
    fn a_session_lasts_until_it_is_closed_or_ends() {
        let sessions = Sessions::default();
        let (first, second) =
            (sessions.open(None, Nanos(0)).unwrap(), sessions.open(None, Nanos(0)).unwrap());
        let show = |id: &str| headers(&format!("theme=dark; {COOKIE}={id}"));
        let csrf = sessions.find(&show(&first), Nanos(1)).unwrap();
        assert_ne!(Some(&csrf), sessions.find(&show(&second), Nanos(1)).as_ref());
        assert_eq!(sessions.find(&show(&first), Nanos(LIFE_SECONDS * 1_000_000_000)), None);
        sessions.close(&show(&first));
        assert_eq!(sessions.find(&show(&first), Nanos(1)), None);
        assert!(sessions.find(&show(&second), Nanos(1)).is_some());
        sessions.close_all();
        assert_eq!(sessions.find(&show(&second), Nanos(1)), None);
    }

    #[test]
    fn another_cookie_two_of_them_and_a_guess_open_nothing() {
        let sessions = Sessions::default();
        let id = sessions.open(None, Nanos(0)).unwrap();
        for line in [
            "a=b".to_owned(),
            format!("x{COOKIE}={id}"),
            format!("{COOKIE}={id}; {COOKIE}={id}"),
            format!("{COOKIE}={}", "0".repeat(64)),
            format!("{COOKIE}={}", &id[..63]),
            format!("{COOKIE}="),
        ] {
            assert_eq!(sessions.find(&headers(&line), Nanos(0)), None, "{line}");
        }
    }

    #[test]
    fn the_oldest_session_makes_room_for_a_new_one() {
        let sessions = Sessions::default();
        let first = sessions.open(None, Nanos(0)).unwrap();
        for _ in 0..SESSIONS_MAX {
            sessions.open(None, Nanos(0)).unwrap();
        }
        assert_eq!(sessions.find(&headers(&format!("{COOKIE}={first}")), Nanos(0)), None);
        assert_eq!(lock(&sessions.rows).len(), SESSIONS_MAX);
    }
}
