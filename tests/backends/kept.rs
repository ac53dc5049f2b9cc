//! Connections to backends that are kept: what lies on one reaches nobody, a stale one costs nobody an error.
//!
//! L12, a body behind an answer to HEAD, has no test: GET /v1/models is answered here, so HEAD reaches no backend.
#![allow(clippy::print_stdout)] // how often a request was seen twice

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::client::Client;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, completion};
use support::{J, PATIENCE, chat, eventually};

/// L14: bytes on an idle connection are nobody's answer.
#[test]
fn bytes_on_an_idle_connection_reach_nobody() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let origin = Origin::scripted(move |talk| {
        talk.answer("200 OK", "", &completion(&talk.nonce()));
        if talk.nonce().starts_with("bad") {
            talk.pause(Duration::from_millis(5));
            talk.send(poison);
            count.fetch_add(1, Ordering::SeqCst);
        }
        Next::Keep
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let mut client = gateway.connect();
    for turn in 0..50 {
        client.send(&chat(K1, &format!("bad-{turn}"), J));
        assert_eq!(client.answer().expect("an answer").status(), 200);
        // The bytes lie at the gateway before the next request does; later ones could not be told from its answer.
        assert!(eventually(PATIENCE, || sent.load(Ordering::SeqCst) == turn + 1));
        std::thread::sleep(Duration::from_millis(20));
        let next = format!("next-{turn}");
        client.send(&chat(K1, &next, J));
        let answer = client.answer().expect("an answer");
        assert!(answer.text().contains(&next) && answer.status() == 200, "{answer:?}");
    }
}

/// L14: the same bytes in the same segment as the answer.
#[test]
fn bytes_after_an_answer_reach_nobody() {
    let origin = Origin::scripted(|talk| {
        let body = completion(&talk.nonce());
        talk.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
            body.len()
        ));
        Next::Keep
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let mut client = gateway.connect();
    for turn in 0..50 {
        let nonce = format!("turn-{turn}");
        client.send(&chat(K1, &nonce, J));
        let answer = client.answer().expect("an answer");
        assert!(answer.text().contains(&nonce), "{answer:?}");
    }
    assert!(client.buffer.is_empty());
}

/// L28, short: a backend that closes idle connections as requests come costs no client an error.
#[test]
fn stale_connections_cost_nobody_an_error() {
    let origin = Origin::scripted(|talk| {
        talk.answer("200 OK", "", &completion(&talk.nonce()));
        // Idle for as long as the client is, give or take: then the connection ends.
        let idle = Duration::from_micros(500 + 250 * (talk.index as u64 % 8));
        if talk.index % 3 == 2 {
            talk.pause(idle);
            return Next::Close;
        }
        Next::Keep
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let threads: Vec<_> = (0..4)
        .map(|worker| {
            let mut client = gateway.connect();
            std::thread::spawn(move || {
                for turn in 0..400 {
                    let nonce = format!("stale-{worker}-{turn}");
                    client.send(&chat(K1, &nonce, J));
                    let answer = client.answer().unwrap_or_else(|error| panic!("{nonce}: {error}"));
                    assert!(answer.status() == 200 && answer.text().contains(&nonce), "{answer:?}");
                    std::thread::sleep(Duration::from_micros(300 + 130 * (turn % 16)));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a client without errors");
    }
    let mut nonces: Vec<String> = origin.seen().iter().map(support::origin::Seen::nonce).collect();
    nonces.sort();
    let count = nonces.len();
    nonces.dedup();
    println!("{} requests were seen twice", count - nonces.len());
}

/// L29: a reset after the request was read is not answered by sending it again.
#[test]
fn a_reset_on_a_fresh_connection_is_not_tried_again() {
    let origin = Origin::scripted(|_| Next::Reset);
    let gateway = Gateway::start(&Config::simple(origin.port));
    let mut client = Client::connect(gateway.port);
    client.send(&chat(K1, "reset", J));
    assert_eq!(client.answer().expect("an answer").status(), 502);
    assert_eq!(origin.with_nonce("reset").len(), 1);
}
