//! The catalogue: `GET /v1/models` and `GET /v1/models/{id}`, which the gateway responds to itself.
//!
//! A request with `anthropic-version` gets Anthropic's shape, one under `/v1beta` or with Google's credential Google's, every
//! other one OpenAI's.

use std::borrow::Cow;

use super::dates::timestamp;
use super::{Dialect, number};
use crate::error::{Fault, FaultKind};
use crate::wire::json::{self, quote};

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
        Dialect::Ollama => br#"{"models":["#,
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
        Dialect::Ollama => tag(entry, out),
    }
}

/// A model as Ollama lists it. Its clients look for every member, so those that only an engine knows have a value that says
/// so: no size, and a digest that is the same as long as the name is.
fn tag(entry: Entry<'_>, out: &mut Vec<u8>) {
    for name in [br#"{"name":"#.as_slice(), br#","model":"#] {
        out.extend_from_slice(name);
        quote(out, entry.name);
    }
    out.extend_from_slice(br#","modified_at":"#);
    timestamp(out, entry.created);
    out.extend_from_slice(br#","size":0,"digest":""#);
    out.extend_from_slice(digest(entry.name).as_bytes());
    out.extend_from_slice(br#"","details":"#);
    out.extend_from_slice(DETAILS);
    out.push(b'}');
}

/// The model that a request for a description names: in its `model`, or as older clients have it in its `name`.
///
/// # Errors
/// `BodyMalformed`: it names none.
pub fn described(body: &[u8]) -> Result<Cow<'_, str>, Fault> {
    let named = |name: &str| {
        let members = json::members(body).map_while(Result::ok);
        let last = members.filter(|member| json::key_is(member.key.of(body), name)).last();
        json::string(last?.value.of(body)).filter(|name| !name.is_empty())
    };
    named("model").or_else(|| named("name")).ok_or_else(|| {
        Fault::new(FaultKind::BodyMalformed, "'model' has to be a non-empty string in a JSON object")
    })
}

/// Appends Ollama's description of a model: what it can do, and how long its context is where that is known. What a model can
/// do is not known here, so that nothing is ruled out: a backend refuses what its model cannot.
pub fn description(entry: Entry<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"modelfile":"","parameters":"","template":"","license":"","details":"#);
    out.extend_from_slice(DETAILS);
    out.extend_from_slice(br#","model_info":{"general.architecture":"ringway","general.basename":"#);
    quote(out, entry.name);
    if let Some(tokens) = entry.context_length {
        out.extend_from_slice(br#","ringway.context_length":"#);
        number(out, tokens);
    }
    out.extend_from_slice(br#"},"capabilities":["completion","tools","vision","thinking"],"modified_at":"#);
    timestamp(out, entry.created);
    out.push(b'}');
}

/// Appends the version of Ollama's API that is spoken here: clients refuse one that is too old for them.
pub fn version(out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"version":"0.13.0"}"#);
}

/// What Ollama responds at its root.
pub const GREETING: &str = "Ollama is running";

/// What only an engine knows of a model.
const DETAILS: &[u8] = br#"{"parent_model":"","format":"","family":"ringway","families":["ringway"],"parameter_size":"","quantization_level":""}"#;

/// 64 hexadecimal digits made of a name (FNV-1a, four times): clients compare it, and take it for nothing else.
fn digest(name: &str) -> String {
    let hash = |seed: u64| {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, step)
    };
    (0..4).map(|seed| format!("{:016x}", hash(seed))).collect()
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
}
