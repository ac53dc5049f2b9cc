//! Signs of life in silent streams: whole records between events, and nothing else of the stream changes.

use std::time::Duration;

use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk};
use support::sse::{DONE, Ending, content, finish, judge};
use support::{case_request, chat_head};

const ASK: &str = r#"{"model":"m","max_tokens":9,"messages":[],"stream":true}"#;
const COMMENT: &str = ": ping\n\n";
const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";

fn gateway_for(origin: &Origin, timeouts: &str) -> Gateway {
    let config = Config::new()
        .backend("b1", origin.port, "kind = \"vllm\"\nhealth = { enabled = false }")
        .backend("b2", origin.port, "kind = \"anthropic\"\nhealth = { enabled = false }")
        .model("m", &["b1"], "")
        .model("claude", &["b2"], "")
        .key("one", K1, "")
        .tables(&format!("[timeouts]\n{timeouts}\n[limits]\nevent = \"1KiB\""));
    Gateway::start(&config)
}

/// Some heartbeats long.
fn silence(talk: &Talk) {
    talk.pause(Duration::from_millis(500));
}

/// What the client gets of a stream that consists of these pieces, with a silence behind each.
fn pieces_through(gateway: &Gateway, origin: &Origin, case: &str, pieces: &[&str], request: &[u8]) -> String {
    let owned: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
    origin.case(case, move |talk| {
        talk.stream();
        for piece in &owned {
            talk.chunk(piece);
            silence(talk);
        }
        talk.end()
    });
    let mut client = gateway.connect();
    client.send(request);
    let answer = client.answer().unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(answer.status(), 200, "{case}: {answer:?}");
    answer.text()
}

fn comments_in(text: &str) -> usize {
    text.matches(COMMENT).count()
}

/// Every silence between events has its comments; what the backend wrote is otherwise what the client gets.
#[test]
fn comments_stand_between_events() {
    let origin = Origin::start();
    let gateway = gateway_for(&origin, "heartbeat = \"100ms\"");
    let (one, two, end) = (content("one"), content("two"), finish());
    let (head, tail) = two.split_at(40);
    let text =
        pieces_through(&gateway, &origin, "c", &[&one, head, tail, &end, DONE], &case_request(K1, "c", ASK));
    assert_eq!(text.replace(COMMENT, ""), [&one, &two, &end, DONE].concat());
    let between = |before: &str, after: &str| {
        let from = text.find(before).expect("before") + before.len();
        comments_in(&text[from..text.find(after).expect("after")])
    };
    // Two silences before the second event was whole, one before the finish, one before the end.
    assert!(between(&one, &two) >= 4, "{text}");
    assert!(between(&two, &end) >= 2 && between(&end, DONE) >= 2, "{text}");
    assert!(text.ends_with(DONE), "something behind the end: {text}");
    assert_eq!(judge(&text), ("onetwo".into(), Ending::Finished));
    assert!(gateway.metric("ringway_heartbeats_total", "") >= comments_in(&text) as f64);
}

/// An event too long to be held reaches the client in parts: a comment would become one of them.
#[test]
fn nothing_is_put_into_a_long_event() {
    let origin = Origin::start();
    let gateway = gateway_for(&origin, "heartbeat = \"100ms\"");
    let long = content(&"x".repeat(8_000));
    let (head, tail) = long.split_at(6_000);
    let end = finish();
    let pieces = [head, tail, end.as_str(), DONE];
    let text = pieces_through(&gateway, &origin, "long", &pieces, &case_request(K1, "long", ASK));
    assert_eq!(text.replace(COMMENT, ""), [&long, &end, DONE].concat());
    assert!(text.starts_with(&long), "something in the middle of an event");
    assert!(comments_in(&text) >= 4, "{} comments", comments_in(&text));
}

/// Anthropic's clients wait for events: they get the one made for this.
#[test]
fn messages_are_pinged() {
    let origin = Origin::start();
    let gateway = gateway_for(&origin, "heartbeat = \"100ms\"");
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1}}}\n\n";
    let delta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n";
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let head = chat_head(K1, "messages").replace("/v1/chat/completions", "/v1/messages");
    let body = ASK.replace("\"m\"", "\"claude\"");
    let request = format!("{head}X-Case: claude\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let pieces = [start, delta, stop];
    let text = pieces_through(&gateway, &origin, "claude", &pieces, request.as_bytes());
    assert_eq!(text.replace(PING, ""), [start, delta, stop].concat());
    assert!(text.matches(PING).count() >= 4 && comments_in(&text) == 0, "{text}");
    assert!(text.ends_with(stop), "something behind the end: {text}");
}

/// A client is not told for ever that somebody is there: the backend's silence is as long as it may be without them.
#[test]
fn a_silent_backend_is_still_given_up() {
    let origin = Origin::start();
    origin.case("silent", |talk| {
        talk.stream();
        talk.chunk(content("a"));
        talk.gone(support::PATIENCE * 2);
        Next::Close
    });
    let gateway = gateway_for(&origin, "heartbeat = \"200ms\"\nbetween_events = \"1s\"");
    let mut client = gateway.connect();
    client.send(&case_request(K1, "silent", ASK));
    let text = client.answer().expect("an answer").text();
    assert_eq!(judge(&text), ("a".into(), Ending::Failed("backend_idle_timeout".into())), "{text}");
    // On a slow machine there are some before the first event as well.
    let (_, after) = text.split_once(&content("a")).expect("the first event");
    assert!((1..=4).contains(&comments_in(after)), "{text}");
}

/// Whole answers have no place for a comment, and nobody gets one who did not ask for it.
#[test]
fn whole_answers_and_other_gateways_are_left_alone() {
    let origin = Origin::start();
    let gateway = gateway_for(&origin, "heartbeat = \"100ms\"");
    origin.case("whole", |talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"a\":");
        silence(talk);
        talk.send("\"b c\" }");
        Next::Keep
    });
    let mut client = gateway.connect();
    client.send(&case_request(K1, "whole", r#"{"model":"m","messages":[]}"#));
    assert_eq!(client.answer().expect("an answer").text(), r#"{"a":"b c" }"#);
    assert_eq!(gateway.metric("ringway_heartbeats_total", ""), 0.0);

    let quiet = Gateway::start(&Config::simple(origin.port));
    let (one, end) = (content("one"), finish());
    let pieces = [one.as_str(), &end, DONE];
    let text = pieces_through(&quiet, &origin, "quiet", &pieces, &case_request(K1, "quiet", ASK));
    assert_eq!(text, pieces.concat());
}
