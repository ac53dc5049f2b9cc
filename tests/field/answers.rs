//! What a backend calls a success and is none: errors inside a 200.

use support::gateway::{Config, Gateway, K1};
use support::origin::{self, Next, Origin, Talk};
use support::sse::{self, Ending, judge};
use support::strict::Message;
use support::{self, PATIENCE};

/// Every endpoint whose responses are known.
pub(crate) const EVERYTHING: &str = "serves = [\"chat\", \"completions\", \"embeddings\", \"responses\", \"rerank\", \"messages\"]\n\
     health = { enabled = false }";

const PATHS: [&str; 6] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/v1/rerank",
];

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// A request for the script of that name.
pub(crate) fn request(path: &str, case: &str, model: &str, stream: bool) -> String {
    let body = format!("{{\"model\":\"{model}\",\"stream\":{stream}}}");
    let head = support::chat_head(K1, case).replace("/v1/chat/completions", path);
    format!("{head}X-Case: {case}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

pub(crate) fn ask(gateway: &Gateway, path: &str, case: &str, model: &str, stream: bool) -> Message {
    let mut client = gateway.connect();
    client.send(request(path, case, model, stream).as_bytes());
    client.answer().unwrap_or_else(|error| panic!("{path} {case} {stream}: {error}"))
}

/// How a body is framed and cut.
#[derive(Clone, Copy, Debug)]
enum Way {
    Length,
    Chunks,
    /// A chunk for each byte.
    Bytes,
    Close,
}

fn send(talk: &Talk, kind: &str, body: &[u8], way: Way) -> Next {
    let framing = match way {
        Way::Length => format!("Content-Length: {}\r\n", body.len()),
        Way::Chunks | Way::Bytes => "Transfer-Encoding: chunked\r\n".to_owned(),
        Way::Close => "Connection: close\r\n".to_owned(),
    };
    talk.send(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{framing}\r\n"));
    match way {
        Way::Length => {
            talk.send(body);
        }
        Way::Chunks if body.is_empty() => {}
        Way::Chunks => {
            talk.chunk(body);
        }
        Way::Bytes => {
            let _ = body.iter().all(|byte| talk.chunk([*byte]));
        }
        Way::Close => {
            talk.send(body);
            return Next::Close;
        }
    }
    match way {
        Way::Length => Next::Keep,
        _ => talk.end(),
    }
}

/// Bodies that are no response of any API, with their labels.
const FAILURES: [(&str, &str); 16] = [
    (JSON, r#"{"error":{"message":"out of memory","type":"server_error","param":null,"code":null}}"#),
    (JSON, r#"{ "error" : "overloaded" }"#),
    (JSON, "\u{feff}\r\n {\"error\":{\"message\":\"x\",\"code\":429}}"),
    (JSON, r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#),
    (JSON, r#"{"object":"error","message":"x","type":"InternalServerError","code":500}"#),
    (JSON, "null"),
    (JSON, "[]"),
    (JSON, "\"Internal Server Error\""),
    (JSON, ""),
    (JSON, " \r\n\r\n"),
    ("text/html; charset=utf-8", "<!DOCTYPE html>\n<html><body>502 Bad Gateway</body></html>"),
    ("text/plain", "upstream connect error or disconnect/reset before headers"),
    (EVENTS, ""),
    (EVENTS, "data: null\n\n"),
    (EVENTS, "data: {\"error\":{\"message\":\"x\",\"code\":null}}\n\n"),
    (EVENTS, r#"{"error":{"message":"x"}}"#),
];

/// The status that a case of [`FAILURES`] names itself.
fn named_status(case: &str) -> Option<u16> {
    let index: usize = case.split('-').next()?.parse().ok()?;
    [(2, 429), (3, 529), (4, 500)].into_iter().find(|(row, _)| *row == index).map(|(_, status)| status)
}

/// More of them, of streams.
const EMPTY_STREAMS: [&str; 8] = [
    "\n\n",
    "event: error\ndata: overloaded\n\n",
    "data: [DONE]\n\n",
    "data: <html>\n\n",
    "retry: 100\n\nid: 1\n\n",
    "<html>\n\n<body>502</body>\n\n</html>",
    "data: {\"error\":{\"message\":\"x\"}}",
    "data: \"overloaded\"\n\ndata: [DONE]\n\n",
];

/// A gateway with a backend for every model, so that no failure of one is held against another.
fn gateway_with(origin: &Origin, models: usize) -> Gateway {
    let config = Config::new().key("one", K1, "").tables("[timeouts]\nretry_wait = \"0s\"");
    Gateway::start(&(0..models).fold(config, |config, index| {
        let name = format!("m{index}");
        config.backend(&name, origin.port, EVERYTHING).model(&name, &[&name], "")
    }))
}

#[test]
fn a_failure_inside_a_200_is_a_502() {
    let origin = Origin::start();
    let mut asked = Vec::new();
    for (index, (kind, body)) in FAILURES.into_iter().enumerate() {
        for (turn, way) in [Way::Length, Way::Chunks, Way::Bytes].into_iter().enumerate() {
            let case = format!("{index}-{way:?}");
            origin.case(&case, move |talk| send(talk, kind, body.as_bytes(), way));
            asked.push((case.clone(), PATHS[(index + 2 * turn) % 6], false));
            asked.push((case, PATHS[(index + turn) % 4], true));
        }
    }
    for (index, body) in EMPTY_STREAMS.into_iter().enumerate() {
        for way in [Way::Chunks, Way::Bytes] {
            let case = format!("stream-{index}-{way:?}");
            origin.case(&case, move |talk| send(talk, EVENTS, body.as_bytes(), way));
            asked.push((case, PATHS[index % 4], true));
        }
    }
    let gateway = gateway_with(&origin, asked.len());
    for (index, (case, path, stream)) in asked.iter().enumerate() {
        let message = ask(&gateway, path, case, &format!("m{index}"), *stream);
        if let Some(status) = named_status(case) {
            let expected = if path.ends_with("messages") && status == 429 { 529 } else { status };
            assert_eq!(message.status(), expected, "{path} {case} {stream}: {message:?}");
            continue;
        }
        assert_eq!(message.status(), 502, "{path} {case} {stream}: {message:?}");
        assert!(message.one("content-type").starts_with(JSON), "{message:?}");
        let error = message.json()["error"].clone();
        assert!(error["message"].is_string(), "{path} {case}: {message:?}");
        if !path.ends_with("messages") {
            assert_eq!(error["code"], "backend_error", "{path} {case}: {message:?}");
        }
    }
}

/// The other backend of the pool, or the fallback, answers in its place, whoever was asked first.
#[test]
fn a_failure_inside_a_200_moves_on() {
    for (index, (kind, body)) in FAILURES.into_iter().enumerate() {
        let way = [Way::Length, Way::Chunks, Way::Bytes][index % 3];
        let bad = Origin::scripted(move |talk| send(talk, kind, body.as_bytes(), way));
        let good = Origin::start();
        let config = Config::new()
            .backend("bad", bad.port, EVERYTHING)
            .backend("good", good.port, EVERYTHING)
            .model("pool", &["bad", "good"], "")
            .model("alone", &["bad"], "fallbacks = [\"spare\"]")
            .model("spare", &["good"], "")
            .key("one", K1, "")
            .tables("[timeouts]\nretry_wait = \"0s\"");
        let gateway = Gateway::start(&config);
        for model in ["pool", "pool", "pool", "alone"] {
            let whole = ask(&gateway, PATHS[0], "x", model, false);
            assert_eq!((whole.status(), whole.text()), (200, origin::completion("x")), "{model} {body:?}");
            let stream = ask(&gateway, PATHS[0], "x", model, true);
            assert_eq!(judge(&stream.text()).1, Ending::Finished, "{model} {body:?}: {stream:?}");
        }
        assert!(!bad.seen().is_empty(), "{body:?}: it was asked");
        let failed = || gateway.metric("ringway_faults_total", "");
        assert_eq!(failed(), 0.0, "{body:?}: no client saw it");
    }
}

/// What only looks like a failure passes byte for byte, however it comes.
#[test]
fn responses_pass_untouched() {
    let failed = r#"{"id":"resp_1","object":"response","status":"failed","error":{"code":"server_error","message":"x"},"output":[]}"#;
    let null = r#"{"error":null,"id":"resp_1","object":"response","status":"completed","output":[]}"#;
    let padded = format!("\n\n   \n{}", origin::completion("x"));
    let marked = format!("\u{feff}{}", origin::completion("x"));
    let words = r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"content":"{\"error\":null}"},"finish_reason":"stop"}],"error":null}"#;
    let vectors = format!(
        r#"{{"object":"list","data":[{{"embedding":[{}0.5],"index":0}}],"usage":{{"prompt_tokens":1,"total_tokens":1}}}}"#,
        "0.25,".repeat(200_000)
    );
    let named = r#"{"type":"message","role":"assistant","content":[{"type":"text","text":"error"}]}"#;
    let origin = Origin::start();
    let gateway = gateway_with(&origin, 1);
    for (index, (path, kind, body)) in [
        ("/v1/responses", JSON, failed),
        ("/v1/responses", JSON, null),
        ("/v1/chat/completions", JSON, &padded),
        ("/v1/chat/completions", JSON, &marked),
        ("/v1/chat/completions", "text/plain", words),
        ("/v1/messages", JSON, named),
        ("/v1/rerank", JSON, r#"{"results":[]}"#),
        ("/v1/embeddings", JSON, &vectors),
        ("/v1/embeddings", "application/octet-stream", "\0\0\u{1}\u{2}"),
        ("/v1/completions", JSON, "{}"),
    ]
    .into_iter()
    .enumerate()
    {
        for way in [Way::Length, Way::Chunks, Way::Bytes, Way::Close] {
            if body.len() > 9_000 && matches!(way, Way::Bytes) {
                continue;
            }
            let (case, bytes) = (format!("{index}-{way:?}"), body.to_owned());
            origin.case(&case, move |talk| send(talk, kind, bytes.as_bytes(), way));
            let message = ask(&gateway, path, &case, "m0", false);
            assert_eq!(message.status(), 200, "{case} {path}: {message:?}");
            assert!(message.text() == body, "{case} {path}: {} of {} bytes", message.body.len(), body.len());
        }
    }
}

/// A content coding cannot be looked into, and a status that has no body needs none.
#[test]
fn what_cannot_be_judged_passes() {
    let origin = Origin::start();
    origin.case("coded", |talk| {
        talk.answer("200 OK", "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "\u{1f}\u{8b}")
    });
    origin.case("bodiless", |talk| {
        talk.send("HTTP/1.1 204 No Content\r\n\r\n");
        Next::Keep
    });
    let gateway = gateway_with(&origin, 1);
    assert_eq!(ask(&gateway, PATHS[0], "coded", "m0", false).text(), "\u{1f}\u{8b}");
    assert_eq!(ask(&gateway, PATHS[0], "bodiless", "m0", false).status(), 204);
}

/// The head alone is not yet a response; once the first member has come, what follows is not waited for.
#[test]
fn a_response_is_passed_from_its_first_member_on() {
    let origin = Origin::scripted(|talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"id\":");
        talk.gone(PATIENCE * 2);
        Next::Close
    });
    let gateway = gateway_with(&origin, 1);
    let mut client = gateway.connect();
    client.send(request(PATHS[0], "x", "m0", false).as_bytes());
    client.read_until("{\"id\":");
}

/// A backend that pads a long computation with blank lines is at work: its response may take longer than its first byte.
#[test]
fn padding_is_a_sign_of_life() {
    let origin = Origin::scripted(|talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..8 {
            talk.pause(std::time::Duration::from_millis(150));
            talk.chunk("\n");
        }
        talk.chunk(origin::completion("late"));
        talk.end()
    });
    let config =
        Config::simple(origin.port).tables("[timeouts]\nconnect = \"500ms\"\nfirst_token = \"600ms\"");
    let message = support::ask(&Gateway::start(&config), support::J, "late");
    assert_eq!(message.status(), 200, "{message:?}");
    assert_eq!(message.text(), format!("\n\n\n\n\n\n\n\n{}", origin::completion("late")));
}

/// A whole body for a stream is still told as one.
#[test]
fn a_sound_body_for_a_stream_is_converted() {
    let origin = Origin::start();
    let gateway = gateway_with(&origin, 1);
    for way in [Way::Length, Way::Chunks, Way::Bytes, Way::Close] {
        origin.case("body", move |talk| send(talk, JSON, origin::completion("hello").as_bytes(), way));
        let message = ask(&gateway, PATHS[0], "body", "m0", true);
        assert_eq!(judge(&message.text()), ("hello".to_owned(), Ending::Finished), "{way:?}: {message:?}");
        assert!(message.text().ends_with(sse::DONE), "{message:?}");
    }
}
