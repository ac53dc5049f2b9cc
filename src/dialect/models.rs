//! The catalogue: `GET /v1/models` and `GET /v1/models/{id}`, which the gateway responds to itself.
//!
//! A request with `anthropic-version` gets Anthropic's shape, one under `/v1beta` or with Google's credential Google's, every
//! other one OpenAI's.

use super::{Dialect, number};
use crate::wire::json::quote;

/// One model as clients see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The public name.
    pub name: &'a str,
    /// Unix seconds.
    pub created: u64,
    /// Tokens of prompt and output together, where known.
    pub context_length: Option<u64>,
}

/// Appends the list of `models`, complete in one page.
pub fn list<'a>(dialect: Dialect, models: impl IntoIterator<Item = Entry<'a>>, out: &mut Vec<u8>) {
    let mut ends: Option<(&str, &str)> = None;
    out.extend_from_slice(match dialect {
        Dialect::OpenAi => br#"{"object":"list","data":["#.as_slice(),
        Dialect::Anthropic => br#"{"data":["#,
        Dialect::Google => br#"{"models":["#,
    });
    for entry in models {
        if ends.is_some() {
            out.push(b',');
        }
        ends = Some((ends.map_or(entry.name, |(first, _)| first), entry.name));
        one(dialect, entry, out);
    }
    out.push(b']');
    if dialect == Dialect::Anthropic {
        out.extend_from_slice(br#","has_more":false,"first_id":"#);
        optional(ends.map(|(first, _)| first), out);
        out.extend_from_slice(br#","last_id":"#);
        optional(ends.map(|(_, last)| last), out);
    }
    out.push(b'}');
}

/// Appends one model.
pub fn one(dialect: Dialect, entry: Entry<'_>, out: &mut Vec<u8>) {
    match dialect {
        Dialect::OpenAi => {
            out.extend_from_slice(br#"{"id":"#);
            quote(out, entry.name);
            out.extend_from_slice(br#","object":"model","created":"#);
            number(out, entry.created);
            out.extend_from_slice(br#","owned_by":"ringway""#);
            if let Some(tokens) = entry.context_length {
                lengths(&["context_length", "max_model_len", "context_window"], tokens, out);
            }
            out.push(b'}');
        }
        Dialect::Anthropic => {
            out.extend_from_slice(br#"{"type":"model","id":"#);
            quote(out, entry.name);
            out.extend_from_slice(br#","display_name":"#);
            quote(out, entry.name);
            out.extend_from_slice(br#","created_at":"#);
            timestamp(out, entry.created);
            if let Some(tokens) = entry.context_length {
                lengths(&["max_input_tokens"], tokens, out);
            }
            out.push(b'}');
        }
        Dialect::Google => {
            out.extend_from_slice(br#"{"name":"#);
            quote(out, &format!("models/{}", entry.name));
            out.extend_from_slice(br#","version":"1","displayName":"#);
            quote(out, entry.name);
            if let Some(tokens) = entry.context_length {
                lengths(&["inputTokenLimit"], tokens, out);
            }
            out.extend_from_slice(METHODS);
        }
    }
}

/// What every model is said to take: which of it its backends do, their responses tell.
const METHODS: &[u8] = br#","supportedGenerationMethods":["generateContent","streamGenerateContent","countTokens","embedContent"]}"#;

/// One number under each of the names under which clients look for it: OpenAI's API has none of its own. OpenRouter's is
/// `context_length`, vLLM's and SGLang's `max_model_len`, Groq's `context_window`; Anthropic's API has `max_input_tokens`.
fn lengths(names: &[&str], tokens: u64, out: &mut Vec<u8>) {
    for name in names {
        out.push(b',');
        quote(out, name);
        out.push(b':');
        number(out, tokens);
    }
}

fn optional(name: Option<&str>, out: &mut Vec<u8>) {
    match name {
        Some(name) => quote(out, name),
        None => out.extend_from_slice(b"null"),
    }
}

/// Appends Unix seconds as an RFC 3339 time in UTC with its quotes: `"2025-01-31T00:00:00Z"`. Times after the year
/// 9999, which that form cannot hold, become its end.
fn timestamp(out: &mut Vec<u8>, unix_seconds: u64) {
    let seconds = unix_seconds.min(253_402_300_799);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let text = format!(
        "\"{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z\"",
        second / 3_600,
        second / 60 % 60,
        second % 60
    );
    out.extend_from_slice(text.as_bytes());
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

    fn listed(dialect: Dialect, models: &[Entry<'_>]) -> String {
        let mut out = Vec::new();
        list(dialect, models.iter().copied(), &mut out);
        String::from_utf8(out).unwrap()
    }

    const TWO: &[Entry<'_>] = &[
        Entry { name: "a\"", created: 7, context_length: None },
        Entry { name: "org/b", created: 0, context_length: None },
    ];

    #[test]
    fn openai_clients_get_their_list() {
        assert_eq!(
            listed(Dialect::OpenAi, TWO),
            concat!(
                r#"{"object":"list","data":["#,
                r#"{"id":"a\"","object":"model","created":7,"owned_by":"ringway"},"#,
                r#"{"id":"org/b","object":"model","created":0,"owned_by":"ringway"}]}"#
            )
        );
        assert_eq!(listed(Dialect::OpenAi, &[]), r#"{"object":"list","data":[]}"#);
    }

    #[test]
    fn anthropic_clients_get_theirs_in_one_page() {
        assert_eq!(
            listed(Dialect::Anthropic, TWO),
            concat!(
                r#"{"data":["#,
                r#"{"type":"model","id":"a\"","display_name":"a\"","created_at":"1970-01-01T00:00:07Z"},"#,
                r#"{"type":"model","id":"org/b","display_name":"org/b","created_at":"1970-01-01T00:00:00Z"}],"#,
                r#""has_more":false,"first_id":"a\"","last_id":"org/b"}"#
            )
        );
        assert_eq!(
            listed(Dialect::Anthropic, &[]),
            r#"{"data":[],"has_more":false,"first_id":null,"last_id":null}"#
        );
    }

    #[test]
    fn a_known_context_length_stands_under_every_name_that_clients_read() {
        let one = [Entry { name: "a", created: 7, context_length: Some(131_072) }];
        let openai = listed(Dialect::OpenAi, &one);
        assert!(openai.contains(
            r#""owned_by":"ringway","context_length":131072,"max_model_len":131072,"context_window":131072}"#
        ));
        assert!(listed(Dialect::Anthropic, &one).contains(r#"00:07Z","max_input_tokens":131072}"#));
    }

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
