//! A cap on output that the gateway writes into a request: below the client's own, where less is left of a limit.

use super::{CAP_MEMBERS, Edits, FIRST_CAP, NAMES, Peek};
use crate::units::Span;
use crate::wire::json;

/// A member of a request that caps its output. The numbers index what `peek` reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::enum_variant_names)] // the members' own names
pub(in crate::dialect) enum CapMember {
    Tokens,
    CompletionTokens,
    OutputTokens,
    /// `num_predict` among Ollama's `options`.
    Predict,
}

impl Peek {
    /// Writes the cap down to `cap` (a number) in every member that caps the output of this endpoint; where the body has none, in
    /// `name`, which the backend takes.
    pub fn cap_output<'a>(&self, body: &[u8], cap: &'a Cap, name: &str, edits: &mut Edits<'a>) {
        if self.api.endpoint().has_model_in_path {
            return google(body, self.object_end, cap, edits);
        }
        let known = self.api.endpoint().caps;
        let given = known.iter().map(|member| self.caps[*member as usize]).filter(|span| !span.is_empty());
        if given.clone().count() > 0 {
            let is_more = |span: &Span| json::unsigned(span.of(body)).is_none_or(|given| given > cap.tokens);
            return given.filter(is_more).for_each(|span| edits.push(span, cap.number()));
        }
        let is_known = |member: &&CapMember| NAMES[FIRST_CAP + **member as usize] == name;
        if let Some(member) = known.iter().find(is_known).or(known.last()) {
            edits.push(Span::new(self.object_end, self.object_end), cap.member(*member));
        }
    }
}

/// Google's bodies have it one level down.
fn google<'a>(body: &[u8], object_end: usize, cap: &'a Cap, edits: &mut Edits<'a>) {
    let is = |key: &[u8], names: [&str; 2]| names.iter().any(|name| json::key_is(key, name));
    let mut members = json::members(body).map_while(Result::ok);
    let config = members.find(|member| is(member.key.of(body), ["generationConfig", "generation_config"]));
    let Some(config) = config.filter(|config| config.kind == json::ValueKind::Object) else {
        return edits.push(Span::new(object_end, object_end), cap.google.as_bytes());
    };
    let inside = config.value.of(body);
    let mut members = json::members(inside).map_while(Result::ok).peekable();
    let (is_empty, begin) = (members.peek().is_none(), config.value.start + 1);
    let given = members.find(|member| is(member.key.of(inside), ["maxOutputTokens", "max_output_tokens"]));
    match given {
        Some(given) => edits.push(given.value.shifted(config.value.start), cap.number()),
        None if is_empty => edits.push(Span::new(begin, begin), cap.google_member()),
        None => edits.push(Span::new(begin, begin), cap.google_member_and_comma()),
    }
}

/// A cap on output, as it is written into a body.
pub struct Cap {
    tokens: u64,
    /// Google's, as a member of the body and as one of its `generationConfig`.
    google: String,
    google_inner: String,
    text: [String; CAP_MEMBERS],
    digits: usize,
}

impl Cap {
    /// Of so many tokens.
    pub fn new(tokens: u64) -> Self {
        let digits = tokens.to_string();
        let text = std::array::from_fn(|at| format!(",\"{}\":{digits}", NAMES[FIRST_CAP + at]));
        let google_inner = format!("\"maxOutputTokens\":{digits},");
        let google = format!(",\"generationConfig\":{{\"maxOutputTokens\":{digits}}}");
        Self { tokens, google, google_inner, text, digits: digits.len() }
    }

    fn google_member_and_comma(&self) -> &[u8] {
        self.google_inner.as_bytes()
    }

    fn google_member(&self) -> &[u8] {
        self.google_inner.trim_end_matches(',').as_bytes()
    }

    fn number(&self) -> &[u8] {
        let text = self.text[0].as_bytes();
        &text[text.len() - self.digits..]
    }

    fn member(&self, member: CapMember) -> &[u8] {
        self.text[member as usize].as_bytes()
    }
}

/// Whether a body can be capped at `cap`: a budget for thoughts that is not below it makes the request invalid.
pub fn may_be_capped(body: &[u8], cap: u64) -> bool {
    let thinking = json::members(body)
        .map_while(Result::ok)
        .find(|member| member.key.of(body) == b"\"thinking\"")
        .map(|member| member.value.of(body));
    let Some(thinking) = thinking else { return true };
    let budget = json::members(thinking)
        .map_while(Result::ok)
        .find(|member| member.key.of(thinking) == b"\"budget_tokens\"")
        .and_then(|member| json::unsigned(member.value.of(thinking)));
    budget.is_none_or(|budget| budget < cap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Api;
    use crate::dialect::request::{peek, peek_named};

    fn capped(api: Api, body: &str, name: &str) -> String {
        let is_named = api.endpoint().has_model_in_path;
        let peek =
            if is_named { peek_named(api, body.as_bytes()) } else { peek(api, body.as_bytes()) }.unwrap();
        let (cap, mut edits, mut out) = (Cap::new(40), Edits::default(), Vec::new());
        peek.cap_output(body.as_bytes(), &cap, name, &mut edits);
        json::splice(&mut out, body.as_bytes(), edits.as_slice());
        assert_eq!(out.len(), edits.length(body.len()));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_cap_is_written_where_the_dialect_and_the_backend_take_it() {
        let (old, new) = ("max_tokens", "max_completion_tokens");
        for (api, body, name, expected) in [
            (Api::Chat, r#"{"model":"m"}"#, old, r#"{"model":"m","max_tokens":40}"#),
            (Api::Chat, r#"{"model":"m"}"#, new, r#"{"model":"m","max_completion_tokens":40}"#),
            (Api::Chat, r#"{"max_tokens":900,"model":"m"}"#, new, r#"{"max_tokens":40,"model":"m"}"#),
            (Api::Chat, r#"{"max_tokens":null,"model":"m"}"#, old, r#"{"max_tokens":40,"model":"m"}"#),
            (
                Api::Chat,
                r#"{"max_tokens":9,"model":"m","max_completion_tokens":8000}"#,
                old,
                r#"{"max_tokens":9,"model":"m","max_completion_tokens":40}"#,
            ),
            (Api::Completions, r#"{"model":"m" }"#, new, r#"{"model":"m" ,"max_tokens":40}"#),
            (Api::Messages, r#"{"model":"m","max_tokens":64000}"#, old, r#"{"model":"m","max_tokens":40}"#),
            (Api::Responses, r#"{"model":"m"}"#, old, r#"{"model":"m","max_output_tokens":40}"#),
            (
                Api::GenerateContent,
                r#"{"contents":[]}"#,
                old,
                r#"{"contents":[],"generationConfig":{"maxOutputTokens":40}}"#,
            ),
            (
                Api::GenerateContent,
                r#"{"generationConfig":{"temperature":1},"contents":[]}"#,
                old,
                r#"{"generationConfig":{"maxOutputTokens":40,"temperature":1},"contents":[]}"#,
            ),
            (
                Api::GenerateContent,
                r#"{"contents":[],"generation_config":{"max_output_tokens":9000}}"#,
                old,
                r#"{"contents":[],"generation_config":{"max_output_tokens":40}}"#,
            ),
            (
                Api::GenerateContent,
                r#"{"generationConfig":{},"contents":[]}"#,
                old,
                r#"{"generationConfig":{"maxOutputTokens":40},"contents":[]}"#,
            ),
            (Api::Embeddings, r#"{"model":"m"}"#, old, r#"{"model":"m"}"#),
        ] {
            assert_eq!(capped(api, body, name), expected);
        }
    }

    #[test]
    fn a_request_that_thinks_for_more_cannot_be_capped() {
        for (body, may) in [
            (r#"{"thinking":{"type":"enabled","budget_tokens":1024}}"#, false),
            (r#"{"thinking":{"type":"enabled","budget_tokens":39}}"#, true),
            (r#"{"thinking":{"type":"adaptive"}}"#, true),
            (r#"{"model":"m"}"#, true),
            ("", true),
        ] {
            assert_eq!(may_be_capped(body.as_bytes(), 40), may, "{body}");
        }
    }
}
