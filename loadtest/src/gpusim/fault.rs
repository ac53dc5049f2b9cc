//! Faults on demand: what a real server, its network or the proxy before it does on a bad day.

use std::str::FromStr;
use std::time::Duration;

/// One way to answer wrongly. `events` counts the whole events (or half the body, without a stream) sent before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error answer; 429 and 503 carry `retry-after`.
    Status {
        /// The status code.
        code: u16,
        /// Seconds for `retry-after`.
        retry_after: u32,
    },
    /// A 502 with an HTML page, as a proxy in front of a dead server gives.
    Html502,
    /// Takes the request and says nothing.
    HangBeforeHead,
    /// Stops sending and keeps the connection open.
    HangMidStream {
        /// Events before it.
        events: usize,
    },
    /// Closes the connection properly, without the end of the body.
    CutAfter {
        /// Events before it.
        events: usize,
    },
    /// Resets the connection.
    ResetAfter {
        /// Events before it.
        events: usize,
    },
    /// Closes in the middle of an event.
    CutMidEvent {
        /// Events before the one that is cut.
        events: usize,
    },
    /// Sends an error record in place of the rest.
    ErrorEventAfter {
        /// Events before it.
        events: usize,
    },
    /// Answers 200 and sends an error as the first record.
    ErrorFirstRecord,
    /// Leaves usage out everywhere.
    NoUsage,
    /// Pauses before each byte of the answer.
    Slow {
        /// The pause.
        pause: Duration,
    },
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.trim().split(':');
        let name = parts.next().unwrap_or_default();
        let mut number = |default: Option<u32>| match parts.next() {
            Some(digits) => digits.parse().map_err(|_| format!("fault {text:?}: {digits:?} is not a number")),
            None => default.ok_or_else(|| format!("fault {text:?} wants a number, as in {name}:3")),
        };
        let fault = match name {
            "status" => {
                let code = number(None)?;
                let code = u16::try_from(code).ok().filter(|code| (400..600).contains(code));
                let code = code.ok_or_else(|| format!("fault {text:?}: the status is not 400 to 599"))?;
                Self::Status { code, retry_after: number(Some(1))? }
            }
            "html-502" => Self::Html502,
            "hang-before-head" => Self::HangBeforeHead,
            "hang-mid-stream" => Self::HangMidStream { events: number(Some(3))? as usize },
            "cut-after" => Self::CutAfter { events: number(None)? as usize },
            "reset-after" => Self::ResetAfter { events: number(None)? as usize },
            "cut-mid-event" => Self::CutMidEvent { events: number(Some(3))? as usize },
            "error-event-after" => Self::ErrorEventAfter { events: number(None)? as usize },
            "error-first-record" => Self::ErrorFirstRecord,
            "no-usage" => Self::NoUsage,
            "slow" => Self::Slow { pause: Duration::from_millis(u64::from(number(None)?)) },
            _ => return Err(format!("no fault is called {name:?}; known: {KNOWN}")),
        };
        match parts.next() {
            None => Ok(fault),
            Some(rest) => Err(format!("fault {text:?}: nothing may follow, but {rest:?} does")),
        }
    }
}

/// Every fault's form, for help and error texts.
pub const KNOWN: &str = "status:CODE[:RETRY_AFTER_S], html-502, hang-before-head, hang-mid-stream[:N], cut-after:N, \
     reset-after:N, cut-mid-event[:N], error-event-after:N, error-first-record, no-usage, slow:MS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_parses_and_nonsense_says_why() {
        assert_eq!("status:429:7".parse(), Ok(Fault::Status { code: 429, retry_after: 7 }));
        assert_eq!("cut-after:0".parse(), Ok(Fault::CutAfter { events: 0 }));
        assert_eq!("slow:2".parse(), Ok(Fault::Slow { pause: Duration::from_millis(2) }));
        for bad in ["", "status", "status:200", "cut-after:x", "cut-after", "html-502:1", "boom"] {
            assert!(bad.parse::<Fault>().is_err(), "{bad}");
        }
    }
}
