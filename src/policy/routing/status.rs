//! What does the status of a backend's response mean?
//!
//! One table for 400 to 599: whose fault it is, and so whether another backend or model is asked, what the breaker hears,
//! and what the client sees. `docs/failure-semantics.md` shows it, and a test compares the two.

#[cfg(test)]
use crate::error::Retry;
use crate::error::{FaultKind, Side};

/// What some statuses mean.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The statuses, from and to. An empty list is the rest of a class.
    statuses: &'static [(u16, u16)],
    /// What happened. Retries, fallbacks and breakers go by this.
    pub kind: FaultKind,
    /// The backend's own body, if it is JSON, says more than ours.
    pub shows_theirs: bool,
    /// The status of a body of our own; `None`: the backend's.
    pub ours: Option<u16>,
    /// In a few words, for the page.
    #[cfg_attr(not(test), expect(dead_code))]
    meaning: &'static str,
}

/// The first row with the status counts.
static ROWS: [Row; 12] = [
    row(
        &[(401, 401), (403, 403), (407, 407)],
        FaultKind::BackendDenied,
        "the gateway's own credential is refused",
    )
    .ours(502),
    row(
        &[(402, 402), (408, 408), (423, 424)],
        FaultKind::BackendFailed,
        "no credit, timeout, locked, failed dependency",
    )
    .theirs(),
    row(
        &[(404, 405), (409, 410), (421, 421), (425, 426)],
        FaultKind::BackendRefused,
        "not served by this backend",
    )
    .theirs(),
    row(&[(429, 429)], FaultKind::BackendBusy, "rate limit").ours(429),
    row(&[(499, 499)], FaultKind::BackendFailed, "the backend saw its caller disconnect").theirs().ours(502),
    row(&[(400, 499)], FaultKind::RequestRejected, "the request is invalid").theirs(),
    row(&[(501, 501)], FaultKind::BackendRefused, "not implemented by this backend").theirs().ours(502),
    row(&[(503, 503)], FaultKind::BackendOverloaded, "temporarily unavailable").ours(503),
    row(&[(504, 504), (522, 522), (524, 524), (598, 599)], FaultKind::BackendFailed, "timeout")
        .theirs()
        .ours(504),
    row(&[(529, 529)], FaultKind::BackendFailed, "overloaded").theirs().ours(503),
    row(&[(500, 599)], FaultKind::BackendFailed, "failed").theirs().ours(502),
    row(&[(0, u16::MAX)], FaultKind::BackendMalformed, "not an error status"),
];

const fn row(statuses: &'static [(u16, u16)], kind: FaultKind, meaning: &'static str) -> Row {
    Row { statuses, kind, shows_theirs: false, ours: None, meaning }
}

impl Row {
    const fn theirs(self) -> Self {
        Self { shows_theirs: true, ..self }
    }

    const fn ours(self, status: u16) -> Self {
        Self { ours: Some(status), ..self }
    }

    /// The row of a status.
    pub fn of(status: u16) -> &'static Self {
        let has = |row: &&Row| row.statuses.iter().any(|(from, to)| (*from..=*to).contains(&status));
        ROWS.iter().find(has).unwrap_or(&ROWS[ROWS.len() - 1])
    }

    /// The request is invalid: no other backend is tried, and the breaker counts a success.
    pub fn is_clients(&self) -> bool {
        self.kind.side() == Side::Client
    }

    /// The row as `docs/failure-semantics.md` has it.
    #[cfg(test)]
    pub fn text(&self) -> String {
        let statuses: Vec<String> = self
            .statuses
            .iter()
            .map(|(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") })
            .collect();
        let elsewhere = match self.kind.retry() {
            Retry::Yes => "another backend of the model, then a fallback",
            Retry::IfReused | Retry::Never => "none",
        };
        let breaker = match self.kind {
            FaultKind::BackendBusy | FaultKind::BackendOverloaded => "pause",
            FaultKind::BackendRefused => "ignored",
            FaultKind::RequestRejected => "success",
            _ => "failure",
        };
        let ours = self.ours.map_or_else(|| "the same status".to_owned(), |status| status.to_string());
        let client = match self.shows_theirs {
            true => format!("the backend's body if it is JSON, else an error of the gateway with {ours}"),
            false => format!("an error of the gateway with {ours}"),
        };
        format!("| {} | {} | {elsewhere} | {breaker} | {client} |", statuses.join(", "), self.meaning)
    }
}

#[cfg(test)]
mod tests {
    use super::super::retry::falls_back;
    use super::*;

    #[test]
    fn every_status_has_its_meaning() {
        let of = |status| Row::of(status).kind;
        for status in 400..=599 {
            let row = Row::of(status);
            assert_ne!(row.kind, FaultKind::BackendMalformed, "{status}");
            assert_eq!(falls_back(row.kind), !row.is_clients(), "{status}");
            assert_eq!(row.kind.retry() == Retry::Yes, !row.is_clients(), "{status}");
            assert!(row.shows_theirs || row.ours.is_some(), "{status}");
            assert_eq!(row.is_clients(), of(status) == FaultKind::RequestRejected);
        }
        for status in [400, 406, 411, 413, 415, 417, 418, 422, 428, 431, 451, 498] {
            assert_eq!(of(status), FaultKind::RequestRejected, "{status}");
        }
        for status in
            [402, 408, 423, 424, 499, 500, 502, 504, 505, 506, 507, 508, 509, 510, 511, 529, 530, 598, 599]
        {
            assert_eq!(of(status), FaultKind::BackendFailed, "{status}");
        }
        assert!((520..=527).all(|status| of(status) == FaultKind::BackendFailed));
        for status in [404, 405, 409, 410, 421, 425, 426, 501] {
            assert_eq!(of(status), FaultKind::BackendRefused, "{status}");
        }
        assert!([401, 403, 407].into_iter().all(|status| of(status) == FaultKind::BackendDenied));
        assert_eq!((of(429), of(503)), (FaultKind::BackendBusy, FaultKind::BackendOverloaded));
    }

    #[test]
    fn the_page_on_failures_has_every_row() {
        let page = include_str!("../../../docs/failure-semantics.md");
        for row in &ROWS[..ROWS.len() - 1] {
            assert!(page.contains(&row.text()), "{}", row.text());
        }
    }
}
