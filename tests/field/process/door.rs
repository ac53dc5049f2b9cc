//! Connections over what a shard may hold: who can be told is told, and nobody pays for it.

use std::time::Duration;

use support::client::{Client, End};
use support::gateway::{Config, Gateway, K1};
use support::origin::Origin;
use support::tls::{Authority, secured};
use support::{J, PATIENCE, chat, eventually, models_head};

fn full(origin: &Origin, most: usize) -> (Gateway, Vec<Client>) {
    let config = Config::simple(origin.port).shards(&format!("connections_max = {most}\ncount = 1"));
    let gateway = Gateway::start(&config);
    let held = (0..most).map(|_| gateway.connect()).collect();
    let all = || gateway.metric("ringway_connections_active", "") == most as f64;
    assert!(eventually(PATIENCE, all), "{most} connections are held");
    (gateway, held)
}

#[test]
fn whoever_is_over_the_limit_is_told_when_to_come_back() {
    let origin = Origin::start();
    let (gateway, mut held) = full(&origin, 3);
    let large = "x".repeat(300_000);
    let body = format!(r#"{{"model":"m","messages":["{large}"]}}"#);
    let messages =
        format!("POST /v1/messages HTTP/1.1\r\nHost: a\r\nx-api-key: {K1}\r\nContent-Length: 2\r\n\r\n{{}}");
    let cases = [
        ("a list of models", format!("{}\r\n", models_head(K1)).into_bytes(), 503),
        ("a request", chat(K1, "over", J), 503),
        ("a large request, still on its way", chat(K1, "over", &body), 503),
        ("no key", b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 503),
        ("another dialect", messages.into_bytes(), 529),
    ];
    for (name, request, status) in cases {
        let mut client = gateway.connect();
        client.send(&request);
        let outcome = client.finish(&[], PATIENCE);
        let [answer] = &outcome.answers[..] else { panic!("{name}: {outcome:?}") };
        assert_eq!(
            (answer.status(), answer.one("retry-after").as_str()),
            (status, "1"),
            "{name}: {answer:?}"
        );
        assert_eq!(answer.one("connection"), "close", "{name}");
        assert!(answer.text().contains("connections_max") && answer.json().is_object(), "{name}: {answer:?}");
        assert_ne!(outcome.end, End::Open, "{name}");
    }
    assert!(origin.seen().is_empty(), "a backend was asked");
    assert_eq!(gateway.metric("ringway_connections_refused_total", ""), 5.0);
    for client in &mut held {
        client.send(&chat(K1, "held", J));
        assert_eq!(client.answer().expect("an answer").status(), 200);
    }
}

/// Those who say nothing hold a place among the told for a second, and no more than a bound of them do.
#[test]
fn so_many_are_told_at_a_time_and_the_rest_is_closed() {
    let origin = Origin::start();
    let (gateway, _held) = full(&origin, 1);
    let mut silent: Vec<Client> = (0..100).map(|_| gateway.connect()).collect();
    assert!(eventually(PATIENCE, || gateway.metric("ringway_connections_refused_total", "") == 100.0));
    let mut late = gateway.connect();
    late.send(&chat(K1, "late", J));
    assert!(late.answer().is_err(), "more than a bound of them are told");
    for client in &mut silent {
        assert_ne!(client.drain(PATIENCE), End::Open);
        assert!(client.buffer.is_empty(), "an answer to nothing");
    }
    let told = eventually(PATIENCE, || {
        let mut client = gateway.connect();
        client.send(&chat(K1, "later", J));
        client.answer().is_ok_and(|answer| answer.status() == 503)
    });
    assert!(told, "the places of the told are not given again");
}

#[test]
fn over_tls_the_connection_is_closed() {
    let (origin, authority) = (Origin::start(), Authority::new());
    let config = Config::simple(origin.port).shards("connections_max = 1\ncount = 1");
    let gateway = Gateway::start(&secured(config, &authority.certify("127.0.0.1")));
    let _held = gateway.connect();
    assert!(eventually(PATIENCE, || gateway.metric("ringway_connections_active", "") == 1.0));
    let mut over = gateway.connect();
    assert_ne!(over.drain(Duration::from_secs(3)), End::Open);
    assert!(over.buffer.is_empty());
    assert_eq!(gateway.metric("ringway_connections_refused_total", ""), 1.0);
}

/// `[timeouts] head` is also the patience for the first byte of a new connection; `keep_alive` begins after an answer.
#[test]
fn who_says_nothing_has_the_time_of_a_head_and_after_an_answer_that_of_a_kept_connection() {
    let origin = Origin::start();
    let config = Config::simple(origin.port).tables("[timeouts]\nhead = \"1s\"\nkeep_alive = \"4s\"");
    let gateway = Gateway::start(&config);
    let mut kept = gateway.connect();
    kept.send(&chat(K1, "kept", J));
    assert_eq!(kept.answer().expect("an answer").status(), 200);
    let mut silent = gateway.connect();
    assert_ne!(silent.drain(Duration::from_secs(3)), End::Open, "a silent one is closed");
    assert_eq!(kept.end(), End::Open);
    kept.send(&chat(K1, "again", J));
    assert_eq!(kept.answer().expect("an answer").status(), 200, "a kept one has longer");
    assert_ne!(kept.drain(PATIENCE), End::Open, "and not for ever");
}

/// `[timeouts] body` is for all of a body, and each KiB that comes earns a second.
#[test]
fn a_body_may_be_slow_and_not_drip() {
    let origin = Origin::start();
    let gateway = Gateway::start(&Config::simple(origin.port).tables("[timeouts]\nbody = \"1s\""));
    let body = format!(r#"{{"model":"m","messages":["{}"]}}"#, "x".repeat(8_000));
    let request = chat(K1, "slow", &body);
    let mut client = gateway.connect();
    client.send(&request[..request.len() - 10]);
    assert!(!client.read_some(Duration::from_secs(3)), "seven seconds were earned");
    client.send(&request[request.len() - 10..]);
    assert_eq!(client.answer().expect("an answer").status(), 200);

    let mut client = gateway.connect();
    client.send(&request[..request.len() - body.len()]);
    let refused = (0..20).any(|turn| {
        client.send(&body.as_bytes()[turn..=turn]);
        client.read_some(Duration::from_millis(400))
    });
    assert!(refused, "a byte each 400 ms for 8 s");
    assert_eq!(client.answer().expect("an answer").status(), 408);
}
