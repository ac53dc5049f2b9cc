//! A cap on output that the gateway writes into a request: below the client's own, where less is left of a limit.

use super::{CAP_MEMBERS, Edits, FIRST_CAP, NAMES, Peek};
use crate::dialect::{Api, Dialect};
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
        let known = self.api.endpoint().caps;
        // Servers of other APIs may take a zero for no bound.
        let may_be_zero = self.api.dialect() == Dialect::Anthropic || self.api == Api::Completions;
        let is_more = |span: &Span| {
            let given = json::unsigned(span.of(body)).filter(|given| *given > 0 || may_be_zero);
            given.is_none_or(|given| given > cap.tokens)
        };
        let own = match self.api.dialect() {
            _ if known.is_empty() => return,
            Dialect::Google => Some(&cap.googles),
            Dialect::Ollama => Some(&cap.ollamas),
            Dialect::OpenAi | Dialect::Anthropic => None,
        };
        if let Some(own) = own {
            let end = Span::new(self.object_end, self.object_end);
            let inside = Span::new(self.config.end.saturating_sub(1), self.config.end.saturating_sub(1));
            let is_blank = self.config.of(body).iter().all(|byte| b"{} \t\r\n".contains(byte));
            return match (self.config_cap.is_empty(), self.config.is_empty()) {
                (false, _) if is_more(&self.config_cap) => edits.push(self.config_cap, cap.number()),
                (false, _) => {}
                (true, true) => edits.push(end, own.whole.as_bytes()),
                (true, false) if is_blank => edits.push(inside, &own.member.as_bytes()[1..]),
                (true, false) => edits.push(inside, own.member.as_bytes()),
            };
        }
        let given = known.iter().map(|member| self.caps[*member as usize]).filter(|span| !span.is_empty());
        if given.clone().count() > 0 {
            return given.filter(is_more).for_each(|span| edits.push(span, cap.number()));
        }
        let is_known = |member: &&CapMember| NAMES[FIRST_CAP + **member as usize] == name;
        if let Some(member) = known.iter().find(is_known).or(known.last()) {
            edits.push(Span::new(self.object_end, self.object_end), cap.member(*member));
        }
    }
}

/// A cap on output, as it is written into a body.
pub struct Cap {
    tokens: u64,
    text: [String; CAP_MEMBERS],
    googles: Nested,
    ollamas: Nested,
    digits: usize,
}

/// A cap in an object of its own.
struct Nested {
    /// As a member of that object, with a comma in front.
    member: String,
    /// As that object, with a comma in front.
    whole: String,
}

impl Nested {
    fn new(object: &str, name: &str, digits: &str) -> Self {
        let member = format!(",\"{name}\":{digits}");
        Self { whole: format!(",\"{object}\":{{{}}}", &member[1..]), member }
    }
}

impl Cap {
    /// Of so many tokens.
    pub fn new(tokens: u64) -> Self {
        let digits = tokens.to_string();
        let text = std::array::from_fn(|at| format!(",\"{}\":{digits}", NAMES[FIRST_CAP + at]));
        let googles = Nested::new("generationConfig", "maxOutputTokens", &digits);
        let ollamas = Nested::new("options", "num_predict", &digits);
        Self { tokens, text, googles, ollamas, digits: digits.len() }
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
            (Api::Chat, r#"{"max_tokens":0,"model":"m"}"#, old, r#"{"max_tokens":40,"model":"m"}"#),
            (Api::Messages, r#"{"model":"m","max_tokens":0}"#, old, r#"{"model":"m","max_tokens":0}"#),
            (
                Api::OllamaChat,
                r#"{"model":"m","options":{"num_predict":0}}"#,
                old,
                r#"{"model":"m","options":{"num_predict":40}}"#,
            ),
            (
                Api::GenerateContent,
                r#"{"generationConfig":{"maxOutputTokens":0},"contents":[]}"#,
                old,
                r#"{"generationConfig":{"maxOutputTokens":40},"contents":[]}"#,
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
                r#"{"generationConfig":{"temperature":1,"maxOutputTokens":40},"contents":[]}"#,
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
            (Api::OllamaChat, r#"{"model":"m"}"#, old, r#"{"model":"m","options":{"num_predict":40}}"#),
            (
                Api::OllamaGenerate,
                r#"{"options":{"top_k":1},"model":"m"}"#,
                old,
                r#"{"options":{"top_k":1,"num_predict":40},"model":"m"}"#,
            ),
            (
                Api::OllamaChat,
                r#"{"model":"m","options":{"num_predict":-1}}"#,
                old,
                r#"{"model":"m","options":{"num_predict":40}}"#,
            ),
            (
                Api::GenerateContent,
                r#"{"contents":[]}"#,
                old,
                r#"{"contents":[],"generationConfig":{"maxOutputTokens":40}}"#,
            ),
            (
                Api::GenerateContent,
                r#"{"generationConfig":{"topK":1},"contents":[]}"#,
                old,
                r#"{"generationConfig":{"topK":1,"maxOutputTokens":40},"contents":[]}"#,
            ),
            (
                Api::GenerateContent,
                r#"{"contents":[],"generation_config":{ }}"#,
                old,
                r#"{"contents":[],"generation_config":{ "maxOutputTokens":40}}"#,
            ),
            (
                Api::GenerateContent,
                r#"{"contents":[],"generationConfig":{"max_output_tokens":900}}"#,
                old,
                r#"{"contents":[],"generationConfig":{"max_output_tokens":40}}"#,
            ),
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
