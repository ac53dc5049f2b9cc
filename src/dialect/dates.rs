//! Times in documents.

/// Appends Unix seconds as an RFC 3339 time in UTC with its quotes: `"2025-01-31T00:00:00Z"`. Times after the year
/// 9999, which that form cannot hold, become its end.
pub(super) fn timestamp(out: &mut Vec<u8>, unix_seconds: u64) {
    let (year, month, day, second) = civil_time(unix_seconds);
    let text = format!(
        "\"{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z\"",
        second / 3_600,
        second / 60 % 60,
        second % 60
    );
    out.extend_from_slice(text.as_bytes());
}

/// Year, month, day and second of the day in UTC of a Unix time; of one after the year 9999 its end.
pub fn civil_time(unix_seconds: u64) -> (u64, u64, u64, u64) {
    let seconds = unix_seconds.min(253_402_300_799);
    let (year, month, day) = civil(seconds / 86_400);
    (year, month, day, seconds % 86_400)
}

/// Year, month and day of the days since 1970-01-01 in the Gregorian calendar. Years are taken to begin in March, so
/// that the leap day is the last day of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ];
        for (seconds, date) in cases {
            let mut out = Vec::new();
            timestamp(&mut out, seconds);
            assert_eq!(out, format!("\"{date}\"").as_bytes());
        }
    }
}
