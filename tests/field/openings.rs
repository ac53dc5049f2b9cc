//! Errors behind a 200 that name their status, and errors behind first events that carry nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::answers::{EVERYTHING, ask, request};
use support::gateway::{Config, Gateway, K1};
use support::origin::{self, Next, Origin, Talk};
use support::sse::{DONE, Ending, content, finish, judge};
use support::strict::Message;
use support::{PATIENCE, eventually};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const JSON: &str = "Content-Type: application/json\r\n";

fn role() -> String {
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n".to_owned()
}

fn typed(kind: &str, rest: &str) -> String {
    format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n")
}

/// A pool of a backend that does this, and one that is well.
fn pool(
    bad: impl Fn(&mut Talk) -> Next + Send + Sync + 'static,
    good: impl Fn(&mut Talk) -> Next + Send + Sync + 'static,
) -> (Gateway, Origin, Origin) {
    let (bad, good) = (Origin::scripted(bad), Origin::scripted(good));
    let config = Config::new()
        .backend("bad", bad.port, EVERYTHING)
        .backend("good", good.port, EVERYTHING)
        .model("m", &["bad", "good"], "")
        .model("alone", &["bad"], "")
        .key("one", K1, "")
        .tables("[timeouts]\nretry_wait = \"0s\"");
    (Gateway::start(&config), bad, good)
}

fn streams(text: String) -> impl Fn(&mut Talk) -> Next + Send + Sync + 'static {
    move |talk| {
        talk.stream();
        for event in text.split_inclusive("\n\n") {
            talk.chunk(event);
            talk.pause(Duration::from_millis(5));
        }
        talk.end()
    }
}

/// What reports of such gateways show: the head and a first event have gone out before the backend's own trouble is known.
#[test]
fn an_error_behind_events_that_carry_nothing_is_answered_by_another_backend() {
    let created = typed(
        "response.created",
        ",\"sequence_number\":0,\"response\":{\"status\":\"in_progress\",\"error\":null}",
    );
    let progress = typed(
        "response.in_progress",
        ",\"sequence_number\":1,\"response\":{\"status\":\"in_progress\",\"error\":null}",
    );
    let start = typed(
        "message_start",
        ",\"message\":{\"stop_reason\":null,\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}",
    );
    let overloaded = typed("error", ",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}");
    let bads = [
        (CHAT, format!("{}data: {{\"error\":{{\"message\":\"x\",\"code\":502}}}}\n\n", role())),
        (CHAT, ": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\ndata: {\"error\":{\"message\":\"quota exceeded\"}}\n\n".to_owned()),
        (CHAT, format!(": hi\n\n{0}data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"\"}},\"finish_reason\":\"error\"}}],\"error\":{{\"code\":\"server_error\",\"message\":\"Provider disconnected\"}}}}\n\n", role())),
        (CHAT, format!("data: {{\"choices\":[],\"prompt_filter_results\":[]}}\n\n{}data: {{\"error\":{{\"code\":429,\"message\":\"x\"}}}}\n\n{DONE}", role())),
        (CHAT, role()),
        (RESPONSES, format!("{created}{progress}{}", typed("error", ",\"code\":\"server_is_overloaded\",\"message\":\"x\",\"param\":null,\"sequence_number\":2"))),
        (RESPONSES, format!("{created}{progress}{}", typed("response.failed", ",\"sequence_number\":2,\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"x\"}}"))),
        (MESSAGES, format!("{start}{}{overloaded}", typed("ping", ""))),
        (MESSAGES, format!("{start}{}{overloaded}", typed("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"))),
    ];
    for (path, bad) in bads {
        let good = match path {
            CHAT => format!("{}{}{}{DONE}", role(), content("well"), finish()),
            RESPONSES => format!(
                "{created}{}{}",
                typed("response.output_text.delta", ",\"sequence_number\":1,\"delta\":\"well\""),
                typed("response.completed", ",\"sequence_number\":2,\"response\":{}")
            ),
            _ => format!(
                "{start}{}{}",
                typed(
                    "content_block_delta",
                    ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"well\"}"
                ),
                typed("message_stop", "")
            ),
        };
        let (gateway, asked, _good) = pool(streams(bad.clone()), streams(good.clone()));
        let was_asked = eventually(PATIENCE, || {
            let message = ask(&gateway, path, "x", "m", true);
            assert_eq!((message.status(), message.text()), (200, good.clone()), "{path} {bad}");
            !asked.seen().is_empty()
        });
        assert!(was_asked, "{bad}");
        // Nobody else to ask: a status, which every SDK tries again or reports, instead of a stream that breaks.
        let message = ask(&gateway, path, "x", "alone", true);
        assert!(message.status() >= 429, "{path} {bad}: {message:?}");
        assert!(message.json()["error"]["message"].is_string(), "{path} {bad}: {message:?}");
    }
}

/// What carries nothing known here, and what keeps a connection alive, is not held for ever.
#[test]
fn first_events_that_carry_nothing_are_held_for_a_bounded_time() {
    let unknown = |index: usize| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"pictures\":[{index}]}},\"finish_reason\":null}}]}}\n\n"
        )
    };
    // Of a kind that is not known here, in events.
    let origin = Origin::scripted(move |talk| {
        talk.stream();
        for index in 0..12 {
            talk.chunk(unknown(index));
        }
        talk.gone(PATIENCE * 2);
        Next::Close
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let mut client = gateway.connect();
    client.send(request(CHAT, "x", "m", true).as_bytes());
    client.read_until("[8]");
    // Comments, one read each.
    let origin = Origin::scripted(|talk| {
        talk.stream();
        for index in 0..200 {
            if !talk.chunk(format!(": {index} processing\n\n")) {
                break;
            }
            talk.pause(Duration::from_millis(20));
        }
        Next::Close
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let mut client = gateway.connect();
    client.send(request(CHAT, "x", "m", true).as_bytes());
    client.read_until(": 20 processing");
}

/// A role that comes long before the first content is no content late: what bounds it is the silence between events.
#[test]
fn a_role_ends_the_wait_for_the_first_token() {
    let origin = Origin::scripted(|talk| {
        talk.stream();
        talk.chunk(role());
        talk.pause(Duration::from_millis(900));
        talk.chunk(format!("{}{}{DONE}", content("late"), finish()));
        talk.end()
    });
    let config = Config::simple(origin.port)
        .tables("[timeouts]\nconnect = \"300ms\"\nfirst_token = \"500ms\"\nbetween_events = \"5s\"");
    let message = ask(&Gateway::start(&config), CHAT, "x", "m", true);
    assert_eq!(judge(&message.text()), ("late".to_owned(), Ending::Finished), "{message:?}");
}

/// Errors in a 200 with the status that they name: as bodies, and as the first event of a stream.
const NAMED: [(&str, u16); 13] = [
    (r#"{"code":"1305","msg":"busy","message":"busy","success":false}"#, 502),
    (r#"{"detail":"Not Found","message":"x","code":"404"}"#, 404),
    (r#"{"timestamp":1,"status":503,"path":"/v1","message":"x"}"#, 503),
    (
        r#"{"error":{"message":"Rate limit exceeded: free-models-per-day","code":429,"metadata":{"headers":{"X-RateLimit-Limit":"200"}}},"user_id":"u"}"#,
        429,
    ),
    (
        r#"{"error":{"message":"bad schema","type":"invalid_request_error","param":"tools","code":"400"}}"#,
        400,
    ),
    (
        r#"{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
        400,
    ),
    (r#"{"code":502,"error":{"message":"Worker local total request limit reached (1)"}}"#, 502),
    (r#"{"error":{"message":"x","code":503,"type":"service_unavailable"}}"#, 503),
    (r#"{"object":"error","message":"no such model","type":"NotFoundError","param":null,"code":404}"#, 404),
    (r#"{"error":{"message":"x","status":"RESOURCE_EXHAUSTED"}}"#, 429),
    (r#"{"error":{"message":"x","type":"insufficient_quota","code":"insufficient_quota"}}"#, 429),
    (r#"{"error":{"code":401,"message":"bad key of the gateway"}}"#, 502),
    (
        "\u{feff}{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}",
        529,
    ),
];

fn seen(message: &Message) -> (u16, serde_json::Value) {
    (message.status(), message.json()["error"].clone())
}

#[test]
fn an_error_in_a_200_has_the_status_that_it_names() {
    for (text, status) in NAMED {
        for (way, stream) in [("body", false), ("body", true), ("event", true), ("cut", false), ("cut", true)]
        {
            let (gateway, bad, good) = pool(
                move |talk| match way {
                    "body" => talk.answer("200 OK", JSON, text),
                    "event" => streams(format!("data: {text}\n\n{DONE}"))(talk),
                    _ => {
                        talk.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
                        let _ = text.as_bytes().chunks(9).all(|piece| talk.chunk(piece));
                        talk.end()
                    }
                },
                origin::echo,
            );
            let message = ask(&gateway, CHAT, "x", "alone", stream);
            assert_eq!(message.status(), status, "{way} {stream} {text}: {message:?}");
            assert!(message.one("content-type").starts_with("application/json"), "{message:?}");
            let (_, error) = seen(&message);
            assert!(error["message"].is_string() || message.json()["message"].is_string(), "{message:?}");
            if [400, 404].contains(&status) {
                assert_eq!(message.text(), text, "{way} {stream}: the backend's own words");
            }
            // In a pool, what is about the request is the response; everything else is asked of the other one.
            let (before, others) = (bad.seen().len(), good.seen().len());
            for _ in 0..4 {
                let message = ask(&gateway, CHAT, "x", "m", stream);
                match status {
                    400 => {
                        assert!([200, 400].contains(&message.status()), "{way} {stream} {text}: {message:?}")
                    }
                    _ => assert_eq!(message.status(), 200, "{way} {stream} {text}: {message:?}"),
                }
            }
            if status == 400 {
                let asked = bad.seen().len() - before + good.seen().len() - others;
                assert_eq!(asked, 4, "{text}: one attempt each");
                assert_eq!(gateway.metric("ringway_deployment_breaker", "backend=\"bad\""), 0.0, "{text}");
            }
        }
    }
}

/// The pause that a 429 asks for is kept, wherever the 429 stands.
#[test]
fn a_429_in_a_200_pauses_its_deployment() {
    for stream in [false, true] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let origin = Origin::scripted(move |talk| {
            count.fetch_add(1, Ordering::SeqCst);
            talk.answer(
                "200 OK",
                &format!("{JSON}Retry-After: 30\r\n"),
                r#"{"error":{"message":"x","code":429}}"#,
            )
        });
        let gateway = Gateway::start(&Config::simple(origin.port));
        for turn in 0..3 {
            let message = ask(&gateway, CHAT, "x", "m", stream);
            assert_eq!(message.status(), 429, "{turn}: {message:?}");
            let wait: u64 = message.one("retry-after").parse().expect("seconds");
            assert!((20..=30).contains(&wait), "{turn}: {message:?}");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1, "it was asked in its pause");
    }
}
