//! A client that leaves ends its work: in the queue the wait, at a backend the connection, in each phase of an answer.
//!
//! Client and backend are in this process, so one clock tells how long that took. The test leaves 20 times in each phase
//! and asks only that the backend is told; `RINGWAY_CAMPAIGN=1` leaves 500 times, and 99 of 100 have to be told in time.
#![allow(clippy::print_stdout)] // how long it took

use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::client::Client;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk};
use support::sse::content;
use support::{J, PATIENCE, ask, chat, eventually, is_campaign};

const ASK: &str = r#"{"model":"m","messages":[],"stream":true}"#;
/// What a campaign allows 99 of 100.
const P99_MAX: Duration = Duration::from_millis(50);

fn count() -> usize {
    if is_campaign() { 500 } else { 20 }
}

/// Lets the client go, in each way in turn; when, and what has to be kept for the other side to see only that.
fn leave(client: Client, turn: usize) -> (Instant, Option<Client>) {
    let left = Instant::now();
    match turn % 3 {
        0 => drop(client), // FIN: it has read everything
        1 => client.reset(),
        _ => {
            client.half_close(); // as good as gone unless configured otherwise
            return (left, Some(client));
        }
    }
    (left, None)
}

/// One line, and in a campaign the bound.
fn judge(phase: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |share: usize| took[(took.len() * share).div_ceil(100) - 1];
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (p50, p99, most) = (at(50), at(99), at(100));
    let (half, rare, last) = (ms(p50), ms(p99), ms(most));
    println!("{} cancels {phase}: p50 {half:.2} ms, p99 {rare:.2} ms, max {last:.2} ms", took.len());
    assert!(!is_campaign() || p99 <= P99_MAX, "{phase}: p99 {p99:?}");
}

/// Leaves after the backend has done `script` and the client has read `wait_for`; the backend then waits to be told.
fn leaves(phase: &str, body: &str, wait_for: &str, script: fn(&Talk)) {
    let (arrives, arrived) = mpsc::channel();
    let (hears, heard) = mpsc::channel();
    let origin = Origin::scripted(move |talk| {
        if talk.nonce() == "after" {
            return support::origin::echo(talk);
        }
        script(talk);
        let _ = arrives.send(()); // a test that has failed hears nothing
        if talk.gone(PATIENCE) {
            let _ = hears.send(Instant::now());
        }
        Next::Close
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let mut took = Vec::new();
    for turn in 0..count() {
        let mut client = gateway.connect();
        client.send(&chat(K1, &format!("leaves-{turn}"), body));
        arrived.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{phase}, turn {turn}: not at the backend"));
        if !wait_for.is_empty() {
            client.read_until(wait_for);
        }
        let (left, _kept) = leave(client, turn);
        let told = heard.recv_timeout(PATIENCE);
        took.push(told.unwrap_or_else(|_| panic!("{phase}, turn {turn}: the backend was not told")) - left);
    }
    assert_eq!(ask(&gateway, J, "after").status(), 200);
    judge(phase, took);
}

#[test]
fn who_leaves_before_the_head_stops_the_backend() {
    leaves("before the head", ASK, "", |_| {});
}

#[test]
fn who_leaves_before_the_first_token_stops_the_backend() {
    leaves("before the first token", ASK, "", |talk| {
        talk.stream();
    });
}

#[test]
fn who_leaves_in_the_middle_of_a_stream_stops_the_backend() {
    leaves("in the middle", ASK, "first", |talk| {
        talk.stream();
        talk.chunk(content("first"));
    });
}

#[test]
fn who_leaves_a_plain_call_stops_the_backend() {
    leaves("of plain calls", J, "", |_| {});
}

/// What is timed ends with a look at the gateway's gauge, which takes a millisecond or two by itself.
#[test]
fn who_leaves_the_queue_is_never_sent_to_the_backend() {
    let (arrives, arrived) = mpsc::channel();
    let origin = Origin::scripted(move |talk| {
        let _ = arrives.send(());
        talk.gone(PATIENCE * 12);
        Next::Close
    });
    let config = Config::new()
        .backend("b1", origin.port, "in_flight_max = 1\nhealth = { enabled = false }")
        .model("m", &["b1"], "")
        .key("one", K1, "")
        .tables("[timeouts]\nqueue_timeout = \"60s\"");
    let gateway = Gateway::start(&config);
    let waiting = || gateway.metric("ringway_queue_waiting", "") > 0.5;
    let mut holder = gateway.connect();
    holder.send(&chat(K1, "holder", J));
    arrived.recv_timeout(PATIENCE).expect("it has the only slot");
    let mut took = Vec::new();
    for turn in 0..count() {
        let mut client = gateway.connect();
        client.send(&chat(K1, &format!("leaves-{turn}"), J));
        assert!(eventually(PATIENCE, waiting), "turn {turn}: it does not wait");
        let (left, _kept) = leave(client, turn);
        assert!(eventually(PATIENCE, || !waiting()), "turn {turn}: it waits although its client has gone");
        took.push(left.elapsed());
    }
    assert_eq!(origin.seen().len(), 1, "who left the queue reached the backend");
    judge("in the queue", took);
}

/// A body that never comes whole is nobody's request.
#[test]
fn who_leaves_within_its_body_is_never_sent_to_the_backend() {
    let origin = Origin::start();
    let mut gateway = Gateway::start(&Config::simple(origin.port));
    for turn in 0..count() {
        let mut client = gateway.connect();
        let whole = chat(K1, "half", J);
        client.send(&whole[..whole.len() - 5]);
        leave(client, turn);
    }
    assert_eq!(ask(&gateway, J, "after").status(), 200);
    assert_eq!(origin.lines().len(), 1, "the backend heard of half a request");
    gateway.check_alive();
}
