//! Moments as people write them: `7d` ago, `2026-11-01`, `2026-11-01T08:30:00Z`. All in UTC.

use std::time::SystemTime;

use crate::config::quantity::Time;

const MS_PER_DAY: u64 = 86_400_000;

/// Unix milliseconds now.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A moment given as an argument, in Unix milliseconds.
///
/// Errors: it is none; what was expected.
pub(super) fn moment(text: &str) -> Result<u64, String> {
    if let Some(span) = Time::parse(text) {
        return Ok(now_ms().saturating_sub(span.0.0 / 1_000_000));
    }
    date(text).ok_or_else(|| {
        "expected a time ago like 24h or 7d, a date like 2026-11-01, or 2026-11-01T08:30:00Z (UTC)".to_owned()
    })
}

/// A length of time given as an argument, in milliseconds.
///
/// Errors: it is none; what was expected.
pub(super) fn span(text: &str) -> Result<u64, String> {
    let span = Time::parse(text).ok_or("expected a time like 30m, 24h or 7d")?;
    Ok(span.0.0 / 1_000_000)
}

fn date(text: &str) -> Option<u64> {
    let (date, clock) = match text.split_once(['T', ' ']) {
        Some((date, clock)) => (date, clock.strip_suffix('Z').unwrap_or(clock)),
        None => (text, "00:00:00"),
    };
    let numbers = |text: &str, sign: char| -> Option<Vec<u64>> {
        text.split(sign)
            .map(|part| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten())
            .collect()
    };
    let [year, month, day] = numbers(date, '-')?[..] else { return None };
    let [hour, minute, second] = numbers(clock, ':')?[..] else { return None };
    let fits = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=month_days(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !fits {
        return None;
    }
    let days =
        days_before_year(year) + (1..month).map(|month| month_days(year, month)).sum::<u64>() + day - 1;
    Some(days * MS_PER_DAY + ((hour * 60 + minute) * 60 + second) * 1_000)
}

/// `2026-11-01T08:30:00.123Z`.
pub(super) fn rfc3339(ms: u64) -> String {
    let (year, month, day) = civil(ms / MS_PER_DAY);
    let of_day = ms % MS_PER_DAY;
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1_000 % 60, of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// `2026-11-01`, with `T08` for an hour.
pub(super) fn bucket(ms: u64, is_hour: bool) -> String {
    let text = rfc3339(ms);
    if is_hour { format!("{}:00Z", &text[..13]) } else { text[..10].to_owned() }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn month_days(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_before_year(year: u64) -> u64 {
    let leaps = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    (year - 1970) * 365 + leaps(year) - leaps(1970)
}

/// Year, month and day of a day since 1970.
fn civil(day: u64) -> (u64, u64, u64) {
    let mut year = 1970 + day / 366; // never too late, and a few steps early at most
    while days_before_year(year + 1) <= day {
        year += 1;
    }
    let mut left = day - days_before_year(year);
    let mut month = 1;
    while left >= month_days(year, month) {
        left -= month_days(year, month);
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_and_written_alike() {
        for (text, ms) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T23:59:59.000Z", 951_868_799_000),
            ("2024-12-31T00:00:00.000Z", 1_735_603_200_000),
            ("2026-11-30T18:37:58.123Z", 1_796_063_878_123),
            ("2100-03-01T00:00:00.000Z", 4_107_542_400_000),
        ] {
            assert_eq!(rfc3339(ms), text);
            assert_eq!(date(&text[..19]), Some(ms / 1_000 * 1_000), "{text}");
        }
        assert_eq!(date("2026-11-01"), date("2026-11-01T00:00:00Z"));
        for day in 0..60_000 {
            let text = rfc3339(day * MS_PER_DAY);
            assert_eq!(date(&text[..10]), Some(day * MS_PER_DAY), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-11-01T24:00:00",
            "1969-12-31",
            "+2026-1-1",
            "2026-11-01T08",
            "2026-11-01-01",
        ] {
            assert!(moment(text).is_err(), "{text}");
        }
        assert!(moment("7d").unwrap() <= now_ms() - 7 * MS_PER_DAY);
    }

    #[test]
    fn buckets_name_their_day_or_hour() {
        assert_eq!(bucket(1_796_063_878_123, false), "2026-11-30");
        assert_eq!(bucket(1_796_063_878_123, true), "2026-11-30T18:00Z");
    }
}
