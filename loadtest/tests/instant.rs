//! Instant mode on real sockets.

mod common;

use common::{any_port, connect, get, post, post_with, receive, send, until_state};
use loadtest::instant::{self, Options};
use std::io::Write;

const STREAM: &str = r#"{"messages":[],"stream": true}"#;

fn start(options: &Options) -> instant::Running {
    instant::start(&any_port(), "mock-model", options).unwrap()
}

#[test]
fn whole_answers_models_health_and_embeddings() {
    let sim = start(&Options::default());
    let path = "/v1/chat/completions";
    let answer = post(&sim.address, path, r#"{"messages":[],"stream":false}"#);
    assert_eq!((answer.body.len(), &answer.json()["usage"]["total_tokens"]), (600, &88.into()));
    assert_eq!(get(&sim.address, "/health").status, 200);
    assert_eq!(get(&sim.address, "/v1/models").json()["data"][0]["id"], "mock-model");
    assert!(post(&sim.address, "/v1/embeddings", "{}").json()["data"][0]["embedding"].is_array());
    assert_eq!(get(&sim.address, "/nothing").status, 404);
}

#[test]
fn burst_and_paced_streams_say_the_same() {
    let sim = start(&Options::default());
    let stream = |fields: &str, body: &str| post_with(&sim.address, "/v1/chat/completions", fields, body);
    let burst = stream("", STREAM);
    assert!(burst.whole);
    assert_eq!((burst.data().len(), burst.data().last()), (64 + 2, Some(&"[DONE]")));
    assert_eq!(burst.chunks()[64]["choices"][0]["finish_reason"], "stop");
    let paced = stream("x-sim-pace-ms: 1\r\n", STREAM);
    assert_eq!(paced.body, burst.body);
    let usage = stream("x-sim-events: 3\r\n", r#"{"stream":true,"stream_options":{"include_usage":true}}"#);
    assert_eq!((usage.data().len(), &usage.chunks()[4]["usage"]["completion_tokens"]), (6, &3.into()));
}

#[test]
fn paced_stream_takes_at_least_its_pace() {
    let sim = start(&Options { pace_ms: 20, events: 5, threads: 2 });
    let begin = std::time::Instant::now();
    assert!(post(&sim.address, "/v1/chat/completions", STREAM).whole);
    assert!(begin.elapsed() >= std::time::Duration::from_millis(79));
}

#[test]
fn chunked_split_and_pipelined_requests_are_read() {
    let sim = start(&Options::default());
    let mut socket = connect(&sim.address);
    let chunked = "POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
        8\r\n{\"stream\r\nd\r\n\": true, \"x\":\r\n2\r\n1}\r\n0\r\n\r\n";
    let (head, tail) = chunked.split_at(90);
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(tail.as_bytes()).unwrap();
    assert_eq!(receive(&mut socket).data().len(), 66);
    send(&mut socket, "POST", "/v1/embeddings", "", "{}");
    assert_eq!(receive(&mut socket).status, 200);
}

#[test]
fn leaving_client_is_counted_and_its_place_is_used_again() {
    let sim = start(&Options::default());
    for round in 1..=3 {
        let mut socket = connect(&sim.address);
        send(&mut socket, "POST", "/v1/chat/completions", "x-sim-pace-ms: 1000\r\n", STREAM);
        until_state(&sim.address, |state| state["streams"] == round);
        drop(socket);
        until_state(&sim.address, |state| state["aborted"] == round);
    }
    assert_eq!(post(&sim.address, "/v1/chat/completions", STREAM).data().len(), 66);
}
