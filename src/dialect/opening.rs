//! Whether what a backend calls a success begins like one. Some report their failures inside a 200: an error object, `null`,
//! the page of a proxy, nothing at all.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::Api;
use crate::wire::json::{self, ValueKind};
use crate::wire::sse;

/// What the beginning of a body, or the data of a stream's first event, says about the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is a response, as far as it was looked at.
    Sound,
    /// Too little has come to say.
    Unclear,
    /// It is none; in words for the operator and the client.
    Failed(&'static str),
}

/// Whether successful responses of this API are JSON objects, or events with one in each.
pub fn is_judged(api: Api) -> bool {
    api.endpoint().is_object
}

/// Judges a body by its first members. `ended`: nothing follows `body`.
///
/// A response is an object; one that fails says so in a first member `error` that is not null, or by being of the type
/// `error` (`{"type":"error",..}`, `{"object":"error",..}`). So does one that has members of an error only
/// (`{"code":..,"msg":..}`): as long as nothing else has come, more is waited for. Later members are looked at as well, as far as they have come and
/// up to the first that holds the response itself; not those of Responses, where a response that failed is a response.
///
/// Cost: the first members, at most [`FRONT_BYTES_MAX`] of them, once per response.
pub fn body(api: Api, body: &[u8], ended: bool) -> Verdict {
    let text = match body {
        [0xef, 0xbb, 0xbf, rest @ ..] => rest,
        [0xef] | [0xef, 0xbb] if !ended => return Verdict::Unclear,
        body => body,
    };
    // Some pad what takes them long with blank lines.
    let text = text.trim_ascii_start();
    let ended = ended || text.len() > FRONT_BYTES_MAX;
    let text = &text[..text.len().min(FRONT_BYTES_MAX)];
    if text.is_empty() {
        return match ended {
            true => Verdict::Failed("the backend responded 200 with an empty body"),
            false => Verdict::Unclear,
        };
    }
    // Google's streams are a list of responses for a client that does not ask for events.
    let text = match (api.endpoint().path_end_stream.is_empty(), text) {
        (false, [b'[', first @ ..]) => first.trim_ascii_start(),
        _ => text,
    };
    if text.is_empty() && !ended {
        return Verdict::Unclear;
    }
    if is_plainly_sound(text) {
        return Verdict::Sound;
    }
    let mut is_first = true;
    // All that has come may be said of an error only.
    let mut is_undecided = true;
    for member in json::front(text) {
        match member {
            Ok(member) => {
                // Where a `message` is an object, it is a response's own: the first event of Messages has one.
                is_undecided &= member.kind != Some(ValueKind::Object)
                    && OF_ERRORS.iter().any(|name| json::key_is(member.key.of(text), name));
                let value = member.value.of(text);
                if let verdict @ (Verdict::Unclear | Verdict::Failed(_)) =
                    judge(member.key.of(text), value, member.kind, ended)
                    && (is_first || verdict != Verdict::Unclear)
                {
                    return verdict;
                }
            }
            Err(bad) if is_first && bad.at == text.len() && !ended => return Verdict::Unclear,
            Err(_) if is_first => {
                return Verdict::Failed("the backend responded 200 with a body that is no JSON object");
            }
            Err(bad) if bad.at < text.len() => return Verdict::Sound,
            Err(_) => break,
        }
        if api.endpoint().holds_errors && !is_undecided {
            break;
        }
        is_first = false;
    }
    match (is_undecided && !is_first, ended) {
        (true, true) => Verdict::Failed("the backend responded 200 with an error in the body"),
        (true, false) => Verdict::Unclear,
        (false, _) => Verdict::Sound,
    }
}

/// Members of errors that have no `error`. A response has others beside them, and before them.
const OF_ERRORS: [&str; 16] = [
    "code",
    "status",
    "status_code",
    "success",
    "msg",
    "message",
    "detail",
    "error_code",
    "error_msg",
    "error_message",
    "request_id",
    "requestId",
    "trace_id",
    "timestamp",
    "path",
    "user_id",
];

/// Whether a body may be a JSON object, as far as it has come.
pub fn may_be_object(body: &[u8]) -> bool {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    text.first().is_none_or(|first| *first == b'{')
}

/// Whether a body begins like an event stream, whatever its label says; `None` if too little has come.
pub fn is_stream(body: &[u8]) -> Option<bool> {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    let fields: [&[u8]; 5] = [b":", b"data:", b"event:", b"id:", b"retry:"];
    match () {
        () if text.is_empty() => None,
        () if fields.iter().any(|field| text.starts_with(field)) => Some(true),
        () if fields.iter().any(|field| field.starts_with(text))
            || body.len() < 3 && BOM.starts_with(body) =>
        {
            None
        }
        () => Some(false),
    }
}

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Whether a front that begins with a member needs no closer look: the word is not in it. Almost every response; the
/// members themselves need not be read. A first member whose value may be the word is read, since its end may be missing.
fn is_plainly_sound(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"{\"") else { return false };
    let key = memchr::memchr(b'"', &rest[..rest.len().min(KEY_BYTES_MAX)]);
    let has_key = key.is_some_and(|end| {
        let key = &rest[..end];
        let is_of_errors = || OF_ERRORS.iter().any(|name| name.as_bytes() == key);
        let may_say = matches!(key, b"object" | b"type") || key.contains(&b'\\');
        rest[end + 1..].starts_with(b":") && !may_say && (key == b"id" || !is_of_errors())
    });
    has_key && ERROR.find(text).is_none() && memchr::memchr(b'\\', text).is_none()
}

/// Longest first key that is looked for the short way.
const KEY_BYTES_MAX: usize = 32;
/// The word that a failure has.
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"error"));

/// Judges a whole event of a stream; `None` if it has no data. The first event with data decides.
pub fn event(api: Api, event: &[u8]) -> Option<Verdict> {
    let lines = sse::event(event);
    match (lines.data_lines, lines.data) {
        (0, _) | (_, None) => None,
        (1, Some(data)) => match data.trim_ascii().is_empty() {
            true => None,
            false => Some(body(api, data, true)),
        },
        _ => {
            let mut data = Vec::new();
            sse::join_data(event, &mut data);
            Some(body(api, &data, true))
        }
    }
}

fn judge(key: &[u8], value: &[u8], kind: Option<ValueKind>, ended: bool) -> Verdict {
    let is_error = |text: &[u8]| json::key_is(text, "error");
    match (kind, is_error(key)) {
        (Some(ValueKind::Null), true) => Verdict::Sound,
        // Nothing of it, or of a null that is on its way.
        (None, true) if b"null".starts_with(value) && !ended => Verdict::Unclear,
        (_, true) => Verdict::Failed("the backend responded 200 with an error in the body"),
        (Some(ValueKind::String), false) if is_error(value) && says_what_it_is(key) => {
            Verdict::Failed("the backend responded 200 with an error in the body")
        }
        (None, false) if says_what_it_is(key) && value.len() < "\"error\"".len() && !ended => {
            Verdict::Unclear
        }
        _ => Verdict::Sound,
    }
}

fn says_what_it_is(key: &[u8]) -> bool {
    json::key_is(key, "type") || json::key_is(key, "object")
}

/// Bytes of a body that are looked at. Chosen, not measured: what comes before the response itself is below 1 KiB.
pub const FRONT_BYTES_MAX: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURES: [&str; 24] = [
        "",
        " \r\n\t ",
        "\u{feff}",
        "null",
        "true",
        "42",
        "[]",
        "\"error\"",
        "<!DOCTYPE html><html></html>",
        "upstream connect error",
        "{",
        "{error}",
        r#"{"error":{"message":"x"}}"#,
        "\u{feff}\n {\n \"error\" : \"overloaded\"}",
        r#"{"error":{"message":"x"},"choices":[]}"#,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#,
        r#"{"object":"error","message":"x","code":500}"#,
        r#"{"id":null,"choices":[],"error":{"code":null}}"#,
        r#"{"success":false,"error":{"message":"x"}}"#,
        r#"{"code":502,"error":{"message":"x"}}"#,
        r#"{"code":"1305","msg":"busy","success":false}"#,
        r#"{"detail":"Not Found"}"#,
        r#"{"error_code":336003,"error_msg":"x"}"#,
        r#"{"timestamp":1,"status":500,"path":"/v1"}"#,
    ];

    const RESPONSES: [&str; 14] = [
        r#"{"message":{"id":"msg_1","usage":{"input_tokens":3}},"type":"message_start"}"#,
        "{}",
        "{ }",
        r#"{"id":"c","object":"chat.completion","choices":[{"message":{"content":"error"}}],"error":{"a":1}}"#,
        "\u{feff} \n{\"id\":\"c\"}",
        r#"{"error":null,"id":"resp_1","object":"response","status":"completed"}"#,
        r#"{"type":"message","role":"assistant","content":[]}"#,
        r#"{"object":"list","data":[{"embedding":[0.1]}],"error":{"a":1}}"#,
        r#"{"results":[{"index":0}]}"#,
        r#"{"choices":[{"message":"#,
        r#"{"errors":{"a":1}}"#,
        r#"{"code":0,"message":"ok","data":[]}"#,
        r#"{"status":"completed","id":"resp_1"}"#,
        r#"{"message":"error","type":"x"}"#,
    ];

    #[test]
    fn a_failure_inside_a_200_is_told_from_a_response() {
        for text in FAILURES {
            assert!(matches!(body(Api::Chat, text.as_bytes(), true), Verdict::Failed(_)), "{text}");
        }
        for text in RESPONSES {
            assert_eq!(body(Api::Chat, text.as_bytes(), true), Verdict::Sound, "{text}");
        }
    }

    #[test]
    fn a_response_that_failed_is_a_response_of_responses() {
        let failed =
            r#"{"id":"resp_1","object":"response","status":"failed","error":{"code":"server_error"}}"#;
        assert_eq!(body(Api::Responses, failed.as_bytes(), true), Verdict::Sound);
        let error = r#"{"error":{"code":"server_error"}}"#;
        assert!(matches!(body(Api::Responses, error.as_bytes(), true), Verdict::Failed(_)));
    }

    #[test]
    fn no_beginning_is_judged_otherwise_than_the_whole() {
        for text in FAILURES.into_iter().chain(RESPONSES) {
            let text = text.as_bytes();
            for api in [Api::Chat, Api::Responses] {
                let whole = body(api, text, true);
                for cut in 0..text.len() {
                    match (body(api, &text[..cut], false), whole) {
                        (Verdict::Unclear, _) => {}
                        // Only the first member is waited for.
                        (Verdict::Sound, Verdict::Failed(_)) => {
                            assert!(text[..cut].contains(&b':'), "{} cut at {cut}", text.escape_ascii());
                        }
                        (begun, whole) => {
                            assert_eq!(begun, whole, "{} cut at {cut}", text.escape_ascii());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_first_member_that_may_be_an_error_is_waited_for() {
        for cut in ["{\"object\":\"er", "{\"type\":\"", "{\"error\":nul", "{\"err", "{\"object\""] {
            assert_eq!(body(Api::Responses, cut.as_bytes(), false), Verdict::Unclear, "{cut}");
        }
        assert_eq!(body(Api::Responses, b"{\"id\":\"resp_1", false), Verdict::Sound);
    }

    #[test]
    fn a_long_first_member_is_not_waited_for() {
        let long = format!("{{\"x\":\"{}", "a".repeat(10));
        assert_eq!(body(Api::Chat, long.as_bytes(), false), Verdict::Sound);
        let padded = format!("{}{{\"error\":1}}", "\n".repeat(2 * FRONT_BYTES_MAX));
        assert!(matches!(body(Api::Chat, padded.as_bytes(), false), Verdict::Failed(_)));
        assert_eq!(body(Api::Chat, &padded.as_bytes()[..2 * FRONT_BYTES_MAX], false), Verdict::Unclear);
    }

    #[test]
    fn a_stream_is_told_by_its_first_field() {
        for stream in ["data: {}", "event: x", ": ping", "id:1", "retry: 3", "\u{feff}data:", "\r\n\ndata: x"]
        {
            assert_eq!(is_stream(stream.as_bytes()), Some(true), "{stream:?}");
            for cut in 0..stream.len() {
                assert_ne!(is_stream(&stream.as_bytes()[..cut]), Some(false), "{stream:?} cut at {cut}");
            }
        }
        for other in ["{\"data\":1}", "datum", "<html>", "error: x", "[1]", "data"] {
            assert_eq!(is_stream(other.as_bytes()), (other != "data").then_some(false), "{other:?}");
        }
    }

    #[test]
    fn only_an_event_with_data_is_judged() {
        for silent in [": ping\n\n", "event: ping\n\n", "id: 7\nretry: 1\n\n", "data:\n\n", "\n"] {
            assert_eq!(event(Api::Chat, silent.as_bytes()), None, "{silent:?}");
        }
        for failed in
            ["data: null\n\n", "data: [DONE]\n\n", "data: {\"error\":1}\n\n", "data: oh\ndata: no\n\n"]
        {
            assert!(matches!(event(Api::Chat, failed.as_bytes()), Some(Verdict::Failed(_))), "{failed:?}");
        }
        for sound in ["data: {\"id\":\ndata: 1}\n\n", "event: ping\ndata: {\"type\":\"ping\"}\n\n"] {
            assert_eq!(event(Api::Messages, sound.as_bytes()), Some(Verdict::Sound), "{sound:?}");
        }
    }
}
