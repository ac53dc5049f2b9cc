//! The catalogue: `GET /v1/models` and `GET /v1/models/{id}`, answered by the gateway.
//!
//! A request with `anthropic-version` gets Anthropic's shape, every other one OpenAI's.

use super::Dialect;
use super::text::{number, quote, timestamp};

/// One model as clients see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The public name.
    pub name: &'a str,
    /// Unix seconds.
    pub created: u64,
}

/// Appends the list of `models`, complete in one page.
pub fn list<'a>(dialect: Dialect, models: impl IntoIterator<Item = Entry<'a>>, out: &mut Vec<u8>) {
    let mut ends: Option<(&str, &str)> = None;
    out.extend_from_slice(match dialect {
        Dialect::OpenAi => br#"{"object":"list","data":["#.as_slice(),
        Dialect::Anthropic => br#"{"data":["#,
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
            out.extend_from_slice(br#","owned_by":"ringway"}"#);
        }
        Dialect::Anthropic => {
            out.extend_from_slice(br#"{"type":"model","id":"#);
            quote(out, entry.name);
            out.extend_from_slice(br#","display_name":"#);
            quote(out, entry.name);
            out.extend_from_slice(br#","created_at":"#);
            timestamp(out, entry.created);
            out.push(b'}');
        }
    }
}

fn optional(name: Option<&str>, out: &mut Vec<u8>) {
    match name {
        Some(name) => quote(out, name),
        None => out.extend_from_slice(b"null"),
    }
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
        Entry {
            name: "a\"",
            created: 7,
        },
        Entry {
            name: "org/b",
            created: 0,
        },
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
}
