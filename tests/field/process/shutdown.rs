//! The end: a balancer has time to notice, whoever is served stays served, and no signal is waited out in vain.

use std::time::{Duration, Instant};

use support::client::Client;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin};
use support::sse::content;
use support::{J, PATIENCE, ask, chat, eventually};

fn start(origin: &Origin, timeouts: &str) -> Gateway {
    Gateway::start(&Config::simple(origin.port).tables(&format!("[timeouts]\n{timeouts}")))
}

fn is_unready(gateway: &Gateway) -> bool {
    eventually(PATIENCE, || gateway.ask_admin("/readyz").is_some_and(|(status, _)| status == 503))
}

fn refuses(gateway: &Gateway) -> bool {
    eventually(PATIENCE, || Client::try_connect(gateway.port).is_err())
}

#[test]
fn after_sigterm_new_connections_are_accepted_for_a_while() {
    let origin = Origin::start();
    let mut gateway = start(&origin, "accept_after_term = \"3s\"");
    let mut kept = gateway.connect();
    kept.send(&chat(K1, "before", J));
    assert!(!kept.answer().expect("an answer").has("connection"));
    let told = Instant::now();
    gateway.signal("TERM");
    assert!(is_unready(&gateway));
    for turn in 0..5 {
        let answer = ask(&gateway, J, &format!("new-{turn}"));
        assert_eq!((answer.status(), answer.one("connection").as_str()), (200, "close"), "{answer:?}");
    }
    kept.send(&chat(K1, "after", J));
    let answer = kept.answer().expect("a kept connection is served, too");
    assert_eq!((answer.status(), answer.one("connection").as_str()), (200, "close"), "{answer:?}");
    assert!(refuses(&gateway));
    assert!(told.elapsed() >= Duration::from_millis(2_900), "refused after {:?}", told.elapsed());
    assert_eq!(gateway.wait(PATIENCE).and_then(|status| status.code()), Some(0));
}

#[test]
fn without_being_told_to_it_accepts_no_longer() {
    let origin = Origin::start();
    let mut gateway = start(&origin, "");
    gateway.signal("TERM");
    assert!(refuses(&gateway));
    assert_eq!(gateway.wait(PATIENCE).and_then(|status| status.code()), Some(0));
}

/// The wait is over at once, but what runs has its drain limit.
#[test]
fn sigint_or_a_second_sigterm_skips_the_wait_and_not_the_drain() {
    for signals in [&["INT"][..], &["TERM", "TERM"], &["TERM", "INT"]] {
        let origin = Origin::scripted(|talk| {
            talk.stream();
            talk.chunk(content("a"));
            talk.gone(PATIENCE * 3);
            Next::Close
        });
        let mut gateway = start(&origin, "accept_after_term = \"50s\"\ndrain = \"50s\"");
        let mut client = gateway.connect();
        client.send(&chat(K1, "drain", r#"{"model":"m","messages":[],"stream":true}"#));
        client.read_until("\"a\"");
        for (index, signal) in signals.iter().enumerate() {
            if index > 0 {
                assert!(is_unready(&gateway));
                assert!(Client::try_connect(gateway.port).is_ok(), "{signals:?}: it accepts no more");
            }
            gateway.signal(signal);
        }
        assert!(refuses(&gateway), "{signals:?}: it accepts on");
        assert!(gateway.ended().is_none(), "{signals:?}: the stream was cut");
        assert!(!client.read_some(Duration::from_millis(50)), "{signals:?}: the stream was cut");
        gateway.signal("TERM");
        assert!(gateway.wait(PATIENCE).is_some(), "{signals:?}: one more is not heard");
    }
}

/// A reload changes it for the signal that comes after it.
#[test]
fn a_reload_changes_how_long_it_accepts() {
    let origin = Origin::start();
    let mut gateway = start(&origin, "");
    gateway.rewrite(&Config::simple(origin.port).tables("[timeouts]\naccept_after_term = \"2s\""));
    assert_eq!(gateway.reload().0, 200);
    gateway.signal("TERM");
    assert!(is_unready(&gateway));
    assert_eq!(ask(&gateway, J, "new").status(), 200);
    assert_eq!(gateway.wait(PATIENCE).and_then(|status| status.code()), Some(0));
}
