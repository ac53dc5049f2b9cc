//! From when to when a budget counts.

use std::fmt;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, ZonedDateTime};

/// A window of time, over and over.
#[derive(Clone, Debug)]
pub struct Window {
    per: Per,
    /// The zone of a calendar window; `None` for a rolling one.
    zone: Option<TimeZone>,
}

/// How long a window is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Per {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day, from midnight.
    Day,
    /// A week, from Monday.
    Week,
    /// A month, from its first day; a rolling one has 30 days.
    Month,
}

impl Per {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Per::Minute => "minute",
            Per::Hour => "hour",
            Per::Day => "day",
            Per::Week => "week",
            Per::Month => "month",
        }
    }

    /// Milliseconds, of a day of 24 hours and a month of 30 days.
    const fn ms(self) -> u64 {
        match self {
            Per::Minute => 60_000,
            Per::Hour => 3_600_000,
            Per::Day => 86_400_000,
            Per::Week => 7 * 86_400_000,
            Per::Month => 30 * 86_400_000,
        }
    }
}

impl Window {
    /// A window that begins with its unit of the calendar in this zone: days may have 23 or 25 hours, months 28 to 31 days.
    pub fn calendar(per: Per, zone: TimeZone) -> Self {
        Self { per, zone: Some(zone) }
    }

    /// The time up to now, as long as the unit. Counted in `SLOTS` parts: what was used leaves up to one part later.
    pub fn rolling(per: Per) -> Self {
        Self { per, zone: None }
    }

    /// Its unit.
    pub fn per(&self) -> Per {
        self.per
    }

    /// Whether it is a rolling one.
    pub fn is_rolling(&self) -> bool {
        self.zone.is_none()
    }

    /// The name of its zone, for a calendar window.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_ref().map(|zone| zone.iana_name().unwrap_or("UTC"))
    }

    /// Start and end of the slot in which `unix_ms` lies.
    pub(super) fn slot(&self, unix_ms: u64) -> (u64, u64) {
        let Some(zone) = &self.zone else {
            let slot = self.per.ms() / SLOTS;
            let start = unix_ms - unix_ms % slot;
            return (start, start.saturating_add(slot));
        };
        match calendar(self.per, zone, unix_ms) {
            Some((start, end)) if start <= unix_ms && unix_ms < end => (start, end),
            // Beyond the calendar's last year, or in an hour that a zone cuts short.
            _ => (
                unix_ms - unix_ms % self.per.ms(),
                (unix_ms - unix_ms % self.per.ms()).saturating_add(self.per.ms()),
            ),
        }
    }

    /// Whether a slot that ended before still counts.
    pub(super) fn counts(&self, end_ms: u64, unix_ms: u64) -> bool {
        self.is_rolling() && end_ms.saturating_add(self.per.ms()) > unix_ms
    }

    /// When the window began that has this slot last.
    pub(super) fn start(&self, slot_start_ms: u64, unix_ms: u64) -> u64 {
        if self.is_rolling() { unix_ms.saturating_sub(self.per.ms()) } else { slot_start_ms }
    }

    /// When what was used in the slot that ended then is there again.
    pub(super) fn reset(&self, end_ms: u64) -> u64 {
        if self.is_rolling() { end_ms.saturating_add(self.per.ms()) } else { end_ms }
    }

    /// An instant as it reads in the window's zone, for messages.
    pub fn instant(&self, unix_ms: u64) -> String {
        let zone = self.zone.clone().unwrap_or(TimeZone::UTC);
        match i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
            Some(at) => at.to_zoned_datetime(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            None => "a time beyond the calendar".to_owned(),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.zone() {
            None => write!(out, "per rolling {}", self.per.name()),
            Some(zone) => write!(out, "per {} ({zone})", self.per.name()),
        }
    }
}

/// Parts of a rolling window. Chosen, not measured: a day's are 24 minutes long.
const SLOTS: u64 = 60;

/// Start and end of the calendar's unit around an instant. `None` beyond the calendar.
fn calendar(per: Per, zone: &TimeZone, unix_ms: u64) -> Option<(u64, u64)> {
    let now = Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()?.to_zoned_datetime(zone.clone());
    let day = |date: Date| date.to_zoned_datetime(zone.clone()).ok();
    let (start, end) = match per {
        Per::Minute => {
            let start = now.with().second(0).subsec_nanosecond(0).build().ok()?;
            let end = start.checked_add(1.minute()).ok()?;
            (start, end)
        }
        Per::Hour => {
            let start = now.with().minute(0).second(0).subsec_nanosecond(0).build().ok()?;
            let end = start.checked_add(1.hour()).ok()?;
            (start, end)
        }
        Per::Day => (day(now.date())?, day(now.date().tomorrow().ok()?)?),
        Per::Week => {
            let since = i64::from(now.weekday().since(Weekday::Monday));
            let monday = now.date().checked_sub(since.days()).ok()?;
            (day(monday)?, day(monday.checked_add(7.days()).ok()?)?)
        }
        Per::Month => {
            let first = now.date().first_of_month();
            (day(first)?, day(first.checked_add(1.month()).ok()?)?)
        }
    };
    let ms = |at: ZonedDateTime| u64::try_from(at.timestamp().as_millisecond()).ok();
    Some((ms(start)?, ms(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
    }

    fn hours(per: Per, zone: &str, at: &str) -> (String, u64) {
        let window = Window::calendar(per, TimeZone::get(zone).unwrap());
        let (start, end) = window.slot(ms(at));
        assert!(start <= ms(at) && ms(at) < end, "{at}");
        (window.instant(start), (end - start) / 3_600_000)
    }

    #[test]
    fn windows_follow_the_calendar_of_their_zone() {
        let berlin = "Europe/Berlin";
        for (per, zone, at, start, length) in [
            (Per::Day, "UTC", "2026-11-30T23:59:59Z", "2026-11-30T00:00:00+00:00", 24),
            (Per::Day, berlin, "2026-11-30T23:30:00Z", "2026-12-01T00:00:00+01:00", 24),
            (Per::Day, berlin, "2026-03-29T12:00:00Z", "2026-03-29T00:00:00+01:00", 23),
            (Per::Day, berlin, "2026-10-25T12:00:00Z", "2026-10-25T00:00:00+02:00", 25),
            (Per::Day, "UTC", "2028-02-29T12:00:00Z", "2028-02-29T00:00:00+00:00", 24),
            (Per::Month, "UTC", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00+00:00", 29 * 24),
            (Per::Month, berlin, "2026-10-31T22:59:59Z", "2026-10-01T00:00:00+02:00", 31 * 24 + 1),
            (Per::Month, "UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00+00:00", 31 * 24),
            (Per::Week, berlin, "2026-11-30T00:00:00Z", "2026-11-30T00:00:00+01:00", 7 * 24),
            (Per::Week, "UTC", "2026-11-29T23:59:59Z", "2026-11-23T00:00:00+00:00", 7 * 24),
            (Per::Hour, "Asia/Kolkata", "2026-11-30T10:45:00Z", "2026-11-30T16:00:00+05:30", 1),
            (Per::Hour, berlin, "2026-10-25T01:30:00Z", "2026-10-25T02:00:00+01:00", 1),
            // The day begins at one o'clock: its midnight is skipped.
            (Per::Day, "America/Asuncion", "2024-10-06T12:00:00Z", "2024-10-06T01:00:00-03:00", 23),
        ] {
            assert_eq!(hours(per, zone, at), (start.to_owned(), length), "{per:?} {zone} {at}");
        }
    }

    #[test]
    fn each_window_begins_where_the_one_before_it_ends() {
        for zone in ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns"] {
            for per in [Per::Hour, Per::Day, Per::Week, Per::Month] {
                let window = Window::calendar(per, TimeZone::get(zone).unwrap());
                let mut at = ms("2026-03-01T00:00:00Z");
                for _ in 0..60 {
                    let (start, end) = window.slot(at);
                    assert!(start <= at && at < end, "{zone} {per:?} {at}");
                    let (next, _) = window.slot(end);
                    let cut_short = per == Per::Hour && zone == "Australia/Lord_Howe";
                    assert!(next == end || cut_short, "{zone} {per:?} {end} {next}");
                    at = end;
                }
            }
        }
    }

    #[test]
    fn no_instant_panics() {
        for per in [Per::Minute, Per::Hour, Per::Day, Per::Week, Per::Month] {
            for window in [Window::rolling(per), Window::calendar(per, TimeZone::UTC)] {
                for at in [0, 1, 59_999, 253_402_207_200_000, 253_402_300_799_999, u64::MAX / 2, u64::MAX] {
                    let (start, end) = window.slot(at);
                    assert!(start <= at && (at < end || end == u64::MAX), "{window} {at}");
                    window.instant(at);
                }
            }
        }
    }
}
