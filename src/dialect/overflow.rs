//! A refusal that says the prompt is too long for the model: another model may take it, the same one never will.

use std::borrow::Cow;

use crate::wire::json;

/// Whether the body of a 400 or 413 says that the prompt does not fit the model's context.
///
/// OpenAI, and servers that copy its codes, say so in `error.code`; llama.cpp in `error.type`; vLLM, SGLang, TensorRT-LLM and
/// Anthropic only in the words of the message, which may stand at the top level.
pub fn is_context_overflow(body: &[u8]) -> bool {
    let error = match member(body, "error") {
        Some((value, json::ValueKind::Object)) => value,
        _ => body,
    };
    let says = |name: &str| match member(error, name) {
        Some((value, json::ValueKind::String)) => json::string(value).unwrap_or_default(),
        _ => Cow::Borrowed(""),
    };
    let message = says("message").to_ascii_lowercase();
    says("code") == "context_length_exceeded"
        || says("type") == "exceed_context_size_error"
        || WORDS.iter().any(|words| message.contains(words))
}

/// What the servers without a code for it write, in lower case.
const WORDS: [&str; 7] = [
    "maximum context length",
    "maximum model length",
    "context length (",
    "available context size",
    "prompt is too long",
    "exceeds the context window",
    "should not exceed max_num_tokens",
];

fn member<'a>(object: &'a [u8], name: &str) -> Option<(&'a [u8], json::ValueKind)> {
    let found =
        json::members(object).map_while(Result::ok).find(|member| json::key_is(member.key.of(object), name));
    found.map(|member| (member.value.of(object), member.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_says_it_in_its_own_way() {
        for body in [
            r#"{"error":{"message":"Too big.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","code":400}"#,
            r#"{"error":{"message":"The decoder prompt (length 9) is longer than the maximum model length of 8.","code":400}}"#,
            r#"{"error":{"message":"The input (9 tokens) is longer than the model's context length (8 tokens)."}}"#,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error"}}"#,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 8 maximum"}}"#,
            r#" { "error" : { "c\u006fde" : "context_length_exceeded" } } "#,
        ] {
            assert!(is_context_overflow(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn other_refusals_do_not_say_it() {
        for body in [
            r#"{"error":{"message":"flagged","type":"invalid_request_error","code":"content_policy_violation"}}"#,
            r#"{"error":{"message":"bad","details":{"code":"context_length_exceeded"}}}"#,
            r#"{"error":"context_length_exceeded"}"#,
            r#"{"code":"context_length_exceeded""#.trim_end_matches('"'),
            "",
            "<html>prompt is too long</html>",
        ] {
            assert!(!is_context_overflow(body.as_bytes()), "{body}");
        }
    }
}
