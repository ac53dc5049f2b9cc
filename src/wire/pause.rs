//! How long does a response ask to be left alone?
//!
//! `Retry-After` (RFC 9110 section 10.2.3) in seconds or as a date, and what providers send beside it or in its place:
//! fractions, `retry-after-ms`, and the times at which their limits are reset (`x-ratelimit-reset-*` as a duration,
//! `anthropic-ratelimit-*-reset` as a date of RFC 3339, either as Unix time). A point in time is compared with the response's own `Date`, so
//! that no clock but the sender's matters.

use super::fields::{self, Line};
use crate::units::Nanos;

/// The pause that a response with these header lines asks for, at most `most`. `limited`: it is about a limit (429), so
/// that times at which limits are reset count as well. `unix_ms`: our own clock, for a response without a `Date`.
///
/// What cannot be read, is negative or has passed asks for nothing.
pub fn asked(lines: &[u8], limited: bool, unix_ms: u64, most: Nanos) -> Option<Nanos> {
    let value = |name: &[u8]| {
        let line = fields::lines(lines).find(|line| line.name.eq_ignore_ascii_case(name));
        line.and_then(|line| std::str::from_utf8(line.value).ok())
    };
    let now = value(b"date").and_then(http_date).unwrap_or(unix_ms as f64 / 1e3);
    let explicit = value(b"retry-after-ms").and_then(decimal).map(|ms| ms / 1e3);
    let explicit = explicit.or_else(|| value(b"retry-after").and_then(|text| seconds(text, now)));
    let found = explicit.or_else(|| if limited { reset(lines, now) } else { None });
    found.map(|seconds| Nanos((seconds.min(most.seconds()) * 1e9) as u64))
}

/// Until the last of the limits is reset of which nothing remains; where none says so, until the first of all.
fn reset(lines: &[u8], now: f64) -> Option<f64> {
    let (mut used_up, mut first) = (None::<f64>, None::<f64>);
    for line in fields::lines(lines) {
        let Some(at) = reset_at(line.name) else { continue };
        let wait = std::str::from_utf8(line.value).ok().and_then(|text| seconds(text, now));
        let Some(wait) = wait else { continue };
        first = Some(first.map_or(wait, |other| other.min(wait)));
        if remains(lines, &line, at) == Some(0.0) {
            used_up = Some(used_up.map_or(wait, |other| other.max(wait)));
        }
    }
    used_up.or(first)
}

/// Where `reset` stands in the name of a field that tells when a limit is reset.
fn reset_at(name: &[u8]) -> Option<usize> {
    let find = |part: &[u8]| name.windows(part.len()).position(|window| window.eq_ignore_ascii_case(part));
    find(b"ratelimit").and(find(b"reset"))
}

/// What remains of the limit whose reset `line` tells: the field with `remaining` in the place of `reset`.
fn remains(lines: &[u8], line: &Line<'_>, at: usize) -> Option<f64> {
    let (before, after) = (&line.name[..at], &line.name[at + b"reset".len()..]);
    let twin = fields::lines(lines).find(|other| {
        let name = other.name;
        name.len() == before.len() + b"remaining".len() + after.len()
            && name[..at].eq_ignore_ascii_case(before)
            && name[at..name.len() - after.len()].eq_ignore_ascii_case(b"remaining")
            && name[name.len() - after.len()..].eq_ignore_ascii_case(after)
    });
    twin.and_then(|twin| decimal(std::str::from_utf8(twin.value).ok()?))
}

/// Seconds from `now` (Unix seconds) on, in any of the forms.
fn seconds(text: &str, now: f64) -> Option<f64> {
    let from_now = |at: f64| Some(at - now).filter(|wait| *wait > 0.0);
    match decimal(text) {
        Some(number) if number >= UNIX_MS_FROM => from_now(number / 1e3),
        Some(number) if number >= UNIX_FROM => from_now(number),
        Some(number) => Some(number),
        None => duration(text).or_else(|| http_date(text).or_else(|| rfc3339(text)).and_then(from_now)),
    }
}

/// Digits with at most one point: no sign, no exponent.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = text.parse::<f64>().ok().filter(|_| plain && text.len() <= DIGITS_MAX)?;
    number.is_finite().then_some(number)
}

/// `6m0s`, `120ms`, `1h2m3.5s`: numbers with their units, one after the other.
fn duration(text: &str) -> Option<f64> {
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|sign: char| !sign.is_ascii_digit() && sign != '.')?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|sign: char| sign.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, seconds) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
        sum += decimal(number)? * seconds;
        rest = tail;
    }
    (!text.is_empty()).then_some(sum)
}

/// Any of the three forms of RFC 9110 section 5.6.7, in Unix seconds.
fn http_date(text: &str) -> Option<f64> {
    let time = httpdate::parse_http_date(text).ok()?;
    Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs_f64())
}

/// `2026-11-30T15:00:00.5Z`, or with an offset, in Unix seconds.
fn rfc3339(text: &str) -> Option<f64> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let sign = |at: usize, signs: &[u8]| text.as_bytes().get(at).is_some_and(|byte| signs.contains(byte));
    let shaped = sign(4, b"-") && sign(7, b"-") && sign(10, b"Tt ") && sign(13, b":") && sign(16, b":");
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let valid =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !shaped || !valid {
        return None;
    }
    let rest = text.get(19..)?;
    let zone = rest.find(|sign: char| !sign.is_ascii_digit() && sign != '.')?;
    let fraction = if zone == 0 { 0.0 } else { rest.starts_with('.').then(|| decimal(&rest[..zone]))?? };
    let offset = match rest.get(zone..)?.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), a, b, b':', c, d] if [a, b, c, d].iter().all(|byte| byte.is_ascii_digit()) => {
            let digit = |byte: &u8| i64::from(byte - b'0');
            let minutes = (digit(a) * 10 + digit(b)) * 60 + digit(c) * 10 + digit(d);
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset * 60;
    Some(seconds as f64 + fraction)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the day that some of them have more is their last.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

/// Units of a duration, in seconds.
const UNITS: [(&str, f64); 8] = [
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3_600.0),
    ("d", 86_400.0),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ns", 1e-9),
];
/// A number from here on is a point in Unix time (seconds), not a span of 30 years.
const UNIX_FROM: f64 = 1e9;
/// And from here on one in milliseconds.
const UNIX_MS_FROM: f64 = 1e11;
/// Longer numbers are not read.
const DIGITS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// Mon, 30 Nov 2026 15:00:00 GMT.
    const NOW: u64 = 1_796_050_800;
    const MOST: Nanos = Nanos(300_000_000_000);

    fn ms(lines: &str) -> Option<u64> {
        asked(lines.as_bytes(), true, NOW * 1_000, MOST).map(Nanos::millis)
    }

    #[test]
    fn retry_after_has_all_its_forms() {
        for (value, wait) in [
            ("2", 2_000),
            ("0", 0),
            ("1.5", 1_500),
            ("0.25", 250),
            ("Mon, 30 Nov 2026 15:01:30 GMT", 90_000),
            ("Monday, 30-Nov-26 15:01:30 GMT", 90_000),
            ("Mon Nov 30 15:01:30 2026", 90_000),
            ("2026-11-30T15:00:10Z", 10_000),
            ("1796050830", 30_000),
            ("1796050830500", 30_500),
            ("20s", 20_000),
            ("1m30s", 90_000),
            ("86400", 300_000),
            ("99999999999999999999", 300_000),
            ("Sun, 30 Nov 2042 15:01:30 GMT", 300_000),
        ] {
            assert_eq!(ms(&format!("Retry-After: {value}\r\n")), Some(wait), "{value}");
        }
        assert_eq!(ms("retry-after: 9\r\nRetry-After-Ms: 1234\r\n"), Some(1_234), "the finer one counts");
        assert_eq!(ms("retry-after: 9\r\nretry-after-ms: soon\r\n"), Some(9_000));
    }

    #[test]
    fn what_cannot_be_read_is_negative_or_has_passed_asks_for_nothing() {
        for value in [
            "",
            "-5",
            "soon",
            "1e9",
            "+3",
            "nan",
            "inf",
            "1.2.3",
            "5 seconds",
            "s",
            "1x",
            "m5",
            "Mon, 30 Nov 2026 14:59:00 GMT",
            "2026-11-30T14:00:00Z",
            "1796050700",
            "2026-13-30T15:00:10Z",
            "2026-11-30T15:00:10",
            "2026-11-30T25:00:10Z",
            "2026-11-30X15:00:10Z",
            "\u{fffd}",
            "2026-11-30T15:00:10.Z.",
        ] {
            assert_eq!(ms(&format!("Retry-After: {value}\r\n")), None, "{value}");
            assert_eq!(ms(&format!("x-ratelimit-reset-tokens: {value}\r\n")), None, "{value}");
        }
        assert_eq!(ms("retry-after: \u{ff}\r\n"), None);
        assert_eq!(ms(""), None);
    }

    #[test]
    fn a_clock_that_is_off_does_no_harm() {
        // An hour behind ours, and a day ahead of it.
        for (date, at) in [
            ("Mon, 30 Nov 2026 14:00:00 GMT", "Mon, 30 Nov 2026 14:01:30 GMT"),
            ("Tue, 01 Dec 2026 15:00:00 GMT", "Tuesday, 01-Dec-26 15:01:30 GMT"),
            ("Tue, 01 Dec 2026 15:00:00 GMT", "2026-12-01T15:01:30Z"),
        ] {
            assert_eq!(ms(&format!("Retry-After: {at}\r\nDate: {date}\r\n")), Some(90_000), "{date}");
        }
        assert_eq!(ms("Retry-After: 2026-11-30T15:00:05Z\r\nDate: yesterday\r\n"), Some(5_000));
    }

    #[test]
    fn limits_tell_when_they_are_reset() {
        for (lines, wait) in [
            ("x-ratelimit-reset-requests: 1s\r\n", 1_000),
            ("X-RateLimit-Reset-Tokens: 6m0s\r\n", 300_000),
            ("x-ratelimit-reset-requests: 120ms\r\n", 120),
            ("x-ratelimit-reset-tokens: 2.5s\r\n", 2_500),
            ("x-ratelimit-reset: 1796050812\r\n", 12_000),
            ("ratelimit-reset: 7\r\n", 7_000),
            ("anthropic-ratelimit-requests-reset: 2026-11-30T15:00:20Z\r\n", 20_000),
            ("anthropic-ratelimit-tokens-reset: 2026-11-30T16:00:20.5+01:00\r\n", 20_500),
            // Of several, those that are used up; the later of them.
            (
                "x-ratelimit-remaining-requests: 59\r\nx-ratelimit-reset-requests: 1s\r\n\
                 x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 40s\r\n",
                40_000,
            ),
            (
                "anthropic-ratelimit-requests-remaining: 0\r\nanthropic-ratelimit-requests-reset: 2026-11-30T15:00:03Z\r\n\
                 anthropic-ratelimit-tokens-remaining: 0\r\nanthropic-ratelimit-tokens-reset: 2026-11-30T15:00:09Z\r\n",
                9_000,
            ),
            // None says that it is used up: the first of them.
            ("x-ratelimit-reset-requests: 30s\r\nx-ratelimit-reset-tokens: 4s\r\n", 4_000),
            ("retry-after: 2\r\nx-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 40s\r\n", 2_000),
        ] {
            assert_eq!(ms(lines), Some(wait), "{lines}");
            let not_limited = asked(lines.as_bytes(), false, NOW * 1_000, MOST);
            assert_eq!(not_limited.is_some(), lines.starts_with("retry-after"), "{lines}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (text, unix) in [
            ("1970-01-01T00:00:00Z", 0.0),
            ("2000-02-29T12:00:00z", 951_825_600.0),
            ("2024-12-31 23:59:59Z", 1_735_689_599.0),
            ("2100-03-01T00:00:00Z", 4_107_542_400.0),
            ("2026-11-30T15:00:00-02:30", NOW as f64 + 9_000.0),
        ] {
            assert_eq!(rfc3339(text), Some(unix), "{text}");
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm() {
        let mut word = 7_u64;
        for _ in 0..20_000 {
            let text: Vec<u8> = (0..24)
                .map(|_| {
                    word =
                        word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    b"0123456789-:TZ.smhd \xc2\xb5:+,GMT"[(word >> 33) as usize % 28]
                })
                .collect();
            let lines =
                [b"retry-after: ", &text[..], b"\r\nx-ratelimit-reset-x: ", &text[..], b"\r\n"].concat();
            let wait = asked(&lines, true, NOW * 1_000, MOST);
            assert!(wait.is_none_or(|wait| wait <= MOST));
        }
    }
}
