//! Streams under another label, and records in them that SDKs cannot take.

use crate::answers::{EVERYTHING, ask, request};
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin};
use support::sse::{DONE, Ending, content, finish, judge};
use support::{self, PATIENCE};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

fn gateway_for(origin: &Origin) -> Gateway {
    Gateway::start(
        &Config::new().backend("b1", origin.port, EVERYTHING).model("m", &["b1"], "").key("one", K1, ""),
    )
}

/// What reaches a client of a stream that comes in one chunk, in bytes, and event by event.
fn relayed(path: &str, body: &str) -> Vec<String> {
    let origin = Origin::start();
    let gateway = gateway_for(&origin);
    let mut texts = Vec::new();
    for way in ["whole", "bytes", "events"] {
        let body = body.to_owned();
        origin.case(way, move |talk| {
            talk.stream();
            match way {
                "whole" => {
                    talk.chunk(&body);
                }
                "bytes" => {
                    let _ = body.as_bytes().iter().all(|byte| talk.chunk([*byte]));
                }
                _ => body.split_inclusive("\n\n").for_each(|event| {
                    talk.chunk(event);
                    talk.pause(std::time::Duration::from_millis(2));
                }),
            }
            talk.end()
        });
        let message = ask(&gateway, path, way, "m", true);
        assert_eq!(message.status(), 200, "{way}: {message:?}");
        texts.push(message.text());
    }
    texts
}

#[test]
fn a_stream_under_another_label_is_streamed_as_one() {
    let origin = Origin::start();
    let gateway = gateway_for(&origin);
    let labels = [
        "Content-Type: application/json\r\n",
        "Content-Type: text/plain; charset=utf-8\r\n",
        "Content-Type: application/octet-stream\r\n",
        "",
    ];
    for (index, label) in labels.into_iter().enumerate() {
        for (turn, front) in ["", ": hi\n\n", "\n", "event: message\n", "id: 1\n"].into_iter().enumerate() {
            let case = format!("{index}-{turn}");
            origin.case(&case, move |talk| {
                talk.send(format!(
                    "HTTP/1.1 200 OK\r\n{label}X-Kept: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
                ));
                let first = format!("{front}{}", content("one"));
                let _ = first.as_bytes().iter().all(|byte| talk.chunk([*byte]));
                // The rest comes only once the test has seen the first event: it never would if it were held.
                talk.gone(PATIENCE * 2);
                Next::Close
            });
            let mut client = gateway.connect();
            client.send(request(CHAT, &case, "m", true).as_bytes());
            let message = client.read_until("one");
            assert!(message.one("content-type").starts_with("text/event-stream"), "{case}: {message:?}");
            assert_eq!((message.all("content-type").len(), message.one("x-kept")), (1, "1".to_owned()));
        }
    }
}

/// With a length, as of a body that was made before it was sent, and until the connection closes.
#[test]
fn a_stream_under_another_label_has_its_end() {
    let origin = Origin::start();
    let gateway = gateway_for(&origin);
    let body = format!("{}{}", content("a"), finish());
    for (case, framing) in
        [("length", format!("Content-Length: {}\r\n", body.len())), ("close", "Connection: close\r\n".into())]
    {
        let body = body.clone();
        origin.case(case, move |talk| {
            talk.send(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{framing}\r\n{body}"));
            if case == "close" { Next::Close } else { Next::Keep }
        });
        let message = ask(&gateway, CHAT, case, "m", true);
        assert_eq!(judge(&message.text()), ("a".to_owned(), Ending::Finished), "{case}: {message:?}");
    }
    origin.case("cut", |talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
        talk.chunk(content("a"));
        talk.end()
    });
    let cut = ask(&gateway, CHAT, "cut", "m", true);
    assert_eq!(judge(&cut.text()).1, Ending::Failed("backend_stream_truncated".into()), "{cut:?}");
    // Who asked for no stream has no use for one.
    assert_eq!(ask(&gateway, CHAT, "cut", "m", false).status(), 502);
    // An error at the front of it is one.
    origin.case("error", |talk| {
        talk.answer(
            "200 OK",
            "Content-Type: application/json\r\n",
            "data: {\"error\":{\"message\":\"x\"}}\n\n",
        )
    });
    assert_eq!(ask(&gateway, CHAT, "error", "m", true).status(), 502);
}

const SILENT: [&str; 8] = [
    "event: ping\n\n",
    "id: 7\n\n",
    "retry: 100\n\n",
    "data:\n\n",
    "data: \n\n",
    ": x\nevent: keepalive\n\n",
    "event: ping\r\n\r\n",
    "event\n\n",
];

#[test]
fn a_record_without_data_does_not_reach_openai_clients() {
    let typed = |kind: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\"}}\n\n");
    let done = format!("{}{DONE}", finish());
    let responses =
        [typed("response.created"), typed("response.output_text.delta"), typed("response.completed")];
    for silent in SILENT {
        for (path, [first, second, last]) in [
            (CHAT, [content("a"), content("b"), done.clone()]),
            (COMPLETIONS, [content("a"), content("b"), done.clone()]),
            (RESPONSES, responses.clone()),
        ] {
            let body = format!("{silent}{first}{silent}{silent}{second}{silent}{last}");
            for text in relayed(path, &body) {
                assert_eq!(text, format!("{first}{second}{last}"), "{path} {silent:?}");
            }
        }
    }
}

/// Anthropic's SDKs pass over what has no data: nothing is taken from their streams.
#[test]
fn a_record_without_data_passes_on_messages() {
    let typed = |kind: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\"}}\n\n");
    let body = format!("{}event: ping\n\n: hi\n\n{}", typed("message_start"), typed("message_stop"));
    for text in relayed(MESSAGES, &body) {
        assert_eq!(text, body);
    }
    for text in relayed(MESSAGES, &format!("\u{feff}{body}")) {
        assert_eq!(text, body, "a BOM would cost the first event");
    }
}

/// The usage that only we asked for is dropped beside the records.
#[test]
fn what_else_is_dropped_is_dropped_too() {
    let origin = Origin::scripted(|talk| {
        talk.stream();
        let usage = support::sse::usage(3, 1);
        talk.chunk(format!("retry: 1\n\n{}event: x\n\n{}{usage}id: 4\n\n{DONE}late", content("a"), finish()));
        talk.end()
    });
    let more = "kind = \"vllm\"\nhealth = { enabled = false }";
    let config = Config::new().backend("b1", origin.port, more).model("m", &["b1"], "").key("one", K1, "");
    let gateway = Gateway::start(&config);
    let message = ask(&gateway, CHAT, "x", "m", true);
    assert_eq!(message.text(), format!("{}{}{DONE}", content("a"), finish()));
    let tokens = || gateway.metric("gen_ai_client_token_usage_sum", "input");
    assert!(support::eventually(PATIENCE, || tokens() == 3.0), "{}", tokens());
}

/// Behind an id, openai-python takes every blank line for an event: comments are dropped, and a heartbeat has none.
#[test]
fn behind_an_id_there_is_no_blank_line_without_data() {
    let origin = Origin::scripted(|talk| {
        talk.stream();
        talk.chunk(format!("id: 1\n{}: keep-alive\n\n\n", content("a")));
        talk.pause(std::time::Duration::from_millis(700));
        talk.chunk(format!("id: 2\n{}{DONE}", finish()));
        talk.end()
    });
    let config = Config::simple(origin.port).tables("[timeouts]\nheartbeat = \"100ms\"");
    let gateway = Gateway::start(&config);
    let text = ask(&gateway, CHAT, "x", "m", true).text();
    let beats = text.matches(": ping\n").count();
    assert!(beats > 0, "{text}");
    assert_eq!(text.replace(": ping\n", ""), format!("id: 1\n{}id: 2\n{}{DONE}", content("a"), finish()));
}

/// More labels, fronts and line ends of the same kinds, on every path.
#[test]
fn other_labels_and_silent_records_of_the_same_kinds() {
    let origin = Origin::start();
    let gateway = gateway_for(&origin);
    let typed = |kind: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"delta\":\"a\"}}\n\n");
    let responses =
        [typed("response.created"), typed("response.output_text.delta"), typed("response.completed")]
            .concat();
    let messages = [typed("message_start"), typed("content_block_delta"), typed("message_stop")].concat();
    let chat = format!("{}{}{DONE}", content("a"), finish());
    let labels = [
        "application/x-ndjson",
        "Text/Event-Stream;charset=UTF-8",
        "text/html",
        "application/json; charset=utf-8",
        "application/stream+json",
    ];
    for (index, label) in labels.into_iter().enumerate() {
        for (path, body) in [(CHAT, &chat), (RESPONSES, &responses), (MESSAGES, &messages)] {
            let case = format!("{index}");
            origin.case(&case, {
                let text = body.clone();
                move |talk| {
                    talk.send(format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: {label}\r\nTransfer-Encoding: chunked\r\n\r\n"
                    ));
                    talk.chunk(format!("\n\n{text}"));
                    talk.end()
                }
            });
            let message = ask(&gateway, path, &case, "m", true);
            assert!(
                message.one("content-type").to_lowercase().starts_with("text/event-stream"),
                "{label} {path}: {message:?}"
            );
            assert_eq!(message.text().trim_start_matches('\n'), *body, "{label} {path}");
        }
    }
    for silent in
        ["event: keep-alive\r\ndata:\r\n\r\n", "id\nretry: 1\n\n", ":\nid: 1\ndata: \n\n", "data\n\n"]
    {
        let body = format!("{silent}{}{silent}{}{DONE}", content("a"), finish());
        for text in relayed(CHAT, &body) {
            let data = support::sse::read(&text).unwrap_or_else(|bad| panic!("{silent:?}: {bad}: {text:?}"));
            assert_eq!(data.len(), 3, "{silent:?}: {text:?}");
            assert!(data.iter().all(|data| !data.is_empty()), "{silent:?}: {text:?}");
        }
    }
}
