//! Which requests are the same one.
//!
//! A key is the SHA-256 of everything that may change the response: who shares it, the endpoint, the model, the rules that apply to
//! the caller, the query, every header line that reaches a backend but for those that no backend answers by, and the body with its
//! members sorted and its blanks removed. Numbers and strings count as they are written: `1.0` is not `1`, which costs a miss and
//! never a wrong response. A body with a member twice has no key.

use ring::digest::{Context, SHA256};

use crate::dialect::{Api, Task};
use crate::units::Span;
use crate::wire::fields::{self, Field};
use crate::wire::json::{self, ValueKind};

/// What a request is known by.
pub type Key = [u8; 32];

/// What a key is made of, beside the body.
pub struct Parts<'a> {
    /// The number of the plan: rules, models and backends may differ under another.
    pub generation: u64,
    /// Who shares the response.
    pub scope: &'a [u8],
    /// The endpoint.
    pub api: Api,
    /// The model that was decided on.
    pub model: &'a str,
    /// By content rule of the model: whether it applies to the caller.
    pub rules: &'a mut dyn Iterator<Item = bool>,
    /// Whether a stream is asked for, which some say in the path.
    pub streams: bool,
    /// The path of the request's target: some name the model, or how a stream is to come.
    pub path: &'a [u8],
    /// The query of the request's target.
    pub query: &'a [u8],
    /// The header lines of the request.
    pub lines: &'a [u8],
}

/// The key of a request with this body; `None` if it is not one whose response may be used again.
pub fn of(parts: Parts<'_>, body: &[u8], deterministic_only: bool) -> Option<Key> {
    if body.len() > BODY_BYTES_MAX || !is_repeatable(parts.api, body, deterministic_only) {
        return None;
    }
    let mut context = Context::new(&SHA256);
    let mut part = |bytes: &[u8]| {
        // Each with its length in front: no two lists of parts give the same bytes.
        context.update(&(bytes.len() as u64).to_le_bytes());
        context.update(bytes);
    };
    part(&parts.generation.to_le_bytes());
    part(parts.scope);
    part(parts.api.name().as_bytes());
    part(parts.model.as_bytes());
    let rules: Vec<u8> = parts.rules.map(u8::from).collect();
    part(&rules);
    part(&[u8::from(parts.streams)]);
    part(parts.path);
    part(parts.query);
    for line in fields::lines(parts.lines).filter(|line| matters(line.name)) {
        part(&line.name.to_ascii_lowercase());
        part(line.value);
    }
    value(&mut context, body, Span::new(0, body.len()), ValueKind::Object, 0)?;
    context.finish().as_ref().try_into().ok()
}

/// Whether a response to it can stand for another: it changes nothing, refers to nothing that is kept, and is kept nowhere.
fn is_repeatable(api: Api, body: &[u8], deterministic_only: bool) -> bool {
    let tasks =
        [Task::Generate, Task::Complete, Task::Embed, Task::Rerank, Task::Score, Task::Classify, Task::Pool];
    if api.method() != "POST" || api.has_id() || !tasks.contains(&api.task()) {
        return false;
    }
    // Responses are stored by their maker unless the request says otherwise.
    let (mut stored, mut is_cold, mut has_seed) = (api.refers(), false, false);
    for member in json::members(body) {
        let Ok(member) = member else { return false };
        let (key, value) = (member.key.of(body), member.value.of(body));
        let is_set = !matches!(value, b"null" | b"false");
        match key {
            br#""store""# => stored = is_set,
            br#""background""# | br#""conversation""# | br#""previous_response_id""# if is_set => {
                return false;
            }
            br#""temperature""# => is_cold = matches!(value, b"0" | b"0.0"),
            br#""seed""# => has_seed = is_set,
            _ => {}
        }
    }
    let draws = matches!(api.task(), Task::Generate | Task::Complete);
    !stored && (!deterministic_only || !draws || is_cold || has_seed)
}

/// Appends a value in its canonical form. `None`: a member twice, too deep, or malformed.
fn value(context: &mut Context, bytes: &[u8], span: Span, kind: ValueKind, depth: u8) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    let text = span.of(bytes);
    match kind {
        ValueKind::Object => {
            let members: Result<Vec<_>, _> = json::members(text).collect();
            let mut members = members.ok()?;
            members.sort_by_key(|member| member.key.of(text));
            if members.windows(2).any(|pair| pair[0].key.of(text) == pair[1].key.of(text)) {
                return None;
            }
            context.update(b"{");
            for member in members {
                context.update(member.key.of(text));
                context.update(b":");
                value(context, text, member.value, member.kind, depth + 1)?;
                context.update(b",");
            }
            context.update(b"}");
        }
        ValueKind::Array => {
            context.update(b"[");
            for element in json::elements(text) {
                let (span, kind) = element.ok()?;
                value(context, text, span, kind, depth + 1)?;
                context.update(b",");
            }
            context.update(b"]");
        }
        _ => context.update(text),
    }
    Some(())
}

/// Whether a header line may change a response: all but those that say who calls, how the message travels, and what names one call
/// among others.
fn matters(name: &[u8]) -> bool {
    let is_known = !matches!(fields::classify(name), Field::Other | Field::OpenAiOrganization);
    let listed =
        |list: &[&str], fits: fn(&[u8], &[u8]) -> bool| list.iter().any(|one| fits(name, one.as_bytes()));
    !is_known
        && !listed(IGNORED, |name, one| name.eq_ignore_ascii_case(one))
        && !listed(IGNORED_PREFIXES, |name, one| {
            name.len() >= one.len() && name[..one.len()].eq_ignore_ascii_case(one)
        })
}

/// Lines that differ from call to call, or say how a client reads.
const IGNORED: &[&str] = &[
    "accept",
    "accept-language",
    "baggage",
    "cache-control",
    "dnt",
    "idempotency-key",
    "pragma",
    "priority",
    "referer",
    "sentry-trace",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-amzn-trace-id",
    "x-client-request-id",
    "x-cloud-trace-context",
    "x-correlation-id",
    "b3",
];
const IGNORED_PREFIXES: &[&str] = &["sec-", "x-b3-", "x-datadog-", "x-stainless-"];

/// The longest body that is looked up: the search costs time on the shard. Chosen, not measured.
pub const BODY_BYTES_MAX: usize = 1 << 20;
const DEPTH_MAX: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scope: &str, lines: &str, body: &str) -> Option<Key> {
        let parts = Parts {
            generation: 1,
            scope: scope.as_bytes(),
            api: Api::Chat,
            model: "m",
            rules: &mut [true, false].into_iter(),
            streams: false,
            path: b"/v1/chat/completions",
            query: b"",
            lines: lines.as_bytes(),
        };
        of(parts, body.as_bytes(), false)
    }

    const BODY: &str =
        r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"temperature":0,"tools":[{"x":1}]}"#;

    #[test]
    fn order_and_blanks_do_not_matter_and_everything_else_does() {
        let same = r#"{ "tools" : [ { "x" : 1 } ], "messages": [{"content":"a b", "role":"user"}],
            "temperature": 0, "model": "m" }"#;
        let own = key("k", "", BODY).expect("a key");
        assert_eq!(
            key("k", "User-Agent: x\r\nTraceparent: 1\r\nX-Stainless-Lang: js\r\nHost: a\r\n", same),
            Some(own)
        );
        let mut known = vec![own];
        for (scope, lines, body) in [
            ("l", "", BODY.to_owned()),
            ("k", "Anthropic-Beta: a\r\n", BODY.to_owned()),
            ("k", "X-Backend-Choice: a\r\n", BODY.to_owned()),
            ("k", "OpenAI-Project: a\r\n", BODY.to_owned()),
            ("k", "", BODY.replace("a b", "a  b")),
            ("k", "", BODY.replace("\"temperature\":0", "\"temperature\":1")),
            ("k", "", BODY.replace("\"x\":1", "\"x\":2")),
            ("k", "", BODY.replace("}]}", "}],\"seed\":1}")),
            ("k", "", BODY.replace("}]}", "}],\"user\":\"a\"}")),
            ("k", "", BODY.replace("}]}", "}],\"stream\":true}")),
            ("k", "", BODY.replace("[{\"x\":1}]", "[[{\"x\":1}]]")),
            ("k", "", BODY.replace("[{\"x\":1}]", "[\"{x:1}\"]")),
        ] {
            let other = key(scope, lines, &body).expect("a key");
            assert!(!known.contains(&other), "{scope} {lines} {body}");
            known.push(other);
        }
    }

    #[test]
    fn what_is_kept_elsewhere_or_refers_to_what_is_has_no_key() {
        for body in [
            BODY.replace("}]}", "}],\"store\":true}"),
            BODY.replace("\"model\":\"m\"", "\"model\":\"m\",\"model\":\"m\""),
            BODY.replace("{\"x\":1}", "{\"x\":1,\"x\":2}"),
            BODY[..BODY.len() - 1].to_owned(),
            format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100)),
        ] {
            assert_eq!(key("k", "", &body), None, "{body}");
        }
        let repeats = |api, body: &str, only| is_repeatable(api, body.as_bytes(), only);
        assert!(!repeats(Api::Responses, "{}", false));
        assert!(repeats(Api::Responses, "{\"store\":false}", false));
        assert!(!repeats(Api::Responses, "{\"store\":false,\"previous_response_id\":\"r\"}", false));
        assert!(!repeats(Api::Chat, "{}", true));
        assert!(!repeats(Api::Chat, "{\"temperature\":0.7}", true));
        assert!(repeats(Api::Chat, "{\"temperature\":0}", true));
        assert!(repeats(Api::Chat, "{\"seed\":7,\"temperature\":1}", true));
        assert!(repeats(Api::Embeddings, "{}", true));
    }
}
