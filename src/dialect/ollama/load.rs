//! Requests without a prompt: Ollama's clients send them to have a model loaded, or let go.

use crate::dialect::dates::timestamp;
use crate::dialect::{Api, Task};
use crate::wire::json::{self, ValueKind};

/// Whether a request asks for nothing but that a model be loaded or let go.
pub fn is_load(api: Api, body: &[u8]) -> bool {
    let is_empty = |name: &str| {
        let found = member(body, name);
        found.is_none_or(|(value, kind)| {
            kind == ValueKind::Null
                || value == b"\"\""
                || kind == ValueKind::Array && json::elements(value).next().is_none()
        })
    };
    match api {
        Api::OllamaChat => is_empty("messages"),
        Api::OllamaGenerate => is_empty("prompt") && is_empty("images") && is_empty("suffix"),
        _ => false,
    }
}

/// Appends the response to such a request, for a model that others run: it is there whenever it is asked for.
pub fn loaded(api: Api, model: &str, created: u64, body: &[u8], out: &mut Vec<u8>) {
    debug_assert_eq!(api.task(), Task::Generate);
    out.extend_from_slice(b"{\"model\":");
    json::quote(out, model);
    out.extend_from_slice(b",\"created_at\":");
    timestamp(out, created);
    out.extend_from_slice(match api {
        Api::OllamaGenerate => b",\"response\":\"\"".as_slice(),
        _ => b",\"message\":{\"role\":\"assistant\",\"content\":\"\"}",
    });
    let is_let_go = member(body, "keep_alive").is_some_and(|(value, _)| matches!(value, b"0" | b"\"0\""));
    out.extend_from_slice(match is_let_go {
        true => b",\"done_reason\":\"unload\",\"done\":true}\n".as_slice(),
        false => b",\"done_reason\":\"load\",\"done\":true}\n",
    });
}

fn member<'b>(body: &'b [u8], name: &str) -> Option<(&'b [u8], ValueKind)> {
    let members = json::members(body).map_while(Result::ok);
    let last = members.filter(|member| json::key_is(member.key.of(body), name)).last()?;
    Some((last.value.of(body), last.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_prompt_asks_for_the_model_only() {
        for (api, body, expected) in [
            (Api::OllamaChat, r#"{"model":"m"}"#, true),
            (Api::OllamaChat, r#"{"model":"m","messages":[ ],"keep_alive":0}"#, true),
            (Api::OllamaChat, r#"{"model":"m","messages":[{"role":"user","content":""}]}"#, false),
            (Api::OllamaGenerate, r#"{"model":"m","prompt":""}"#, true),
            (Api::OllamaGenerate, r#"{"model":"m","prompt":null,"keep_alive":"5m"}"#, true),
            (Api::OllamaGenerate, r#"{"model":"m","images":["QQ=="]}"#, false),
            (Api::OllamaGenerate, r#"{"model":"m","prompt":"x"}"#, false),
            (Api::Chat, r#"{"model":"m"}"#, false),
        ] {
            assert_eq!(is_load(api, body.as_bytes()), expected, "{body}");
        }
        let mut out = Vec::new();
        loaded(Api::OllamaChat, "m", 7, br#"{"model":"m","keep_alive":0}"#, &mut out);
        let told: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&told["done_reason"], &told["message"]["content"]), (&"unload".into(), &"".into()));
    }
}
