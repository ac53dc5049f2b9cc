//! Backends over TLS: what passes in the clear passes here, and nothing is sent to one that cannot prove its name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::client::End;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, completion};
use support::sse::{self, Ending};
use support::strict::Message;
use support::tls::{Authority, Tunnel};
use support::{J, PATIENCE, chat, chat_head, eventually};

const ASK: &str = r#"{"model":"m","stream":true}"#;
const QUIET: &str = "health = { enabled = false }";

/// Adds a backend over https whose certificates come from `ca.pem`.
fn secured(config: Config, name: &str, host: &str, port: u16, more: &str) -> Config {
    config.tables(&format!("[backend.{name}]\nurl = \"https://{host}:{port}\"\n{more}"))
}

fn trusting(authority: &Authority) -> Config {
    Config::new().key("one", K1, "").file("ca.pem", &authority.pem())
}

/// An origin behind TLS, and the model `m` on it.
fn start() -> (Origin, Tunnel, Gateway) {
    let (origin, authority) = (Origin::start(), Authority::new());
    let tunnel = Tunnel::from_tls(origin.port, authority.certify("127.0.0.1").server());
    let more = format!("ca_file = \"ca.pem\"\n{QUIET}");
    let config = secured(trusting(&authority), "b1", "127.0.0.1", tunnel.port, &more);
    let gateway = Gateway::start(&config.model("m", &["b1"], ""));
    (origin, tunnel, gateway)
}

fn case(gateway: &Gateway, name: &str, body: &str) -> support::client::Outcome {
    let mut client = gateway.connect();
    let head = chat_head(K1, name);
    let fields = format!("X-Case: {name}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    client.send(format!("{head}{fields}{body}").as_bytes());
    client.finish(&[], PATIENCE)
}

#[test]
fn answers_and_streams_pass() {
    let (origin, tunnel, gateway) = start();
    let mut client = gateway.connect();
    support::check_answers_and_streams(&mut client, 5);
    assert_eq!(origin.faults(), Vec::<String>::new());
    let agreed = tunnel.agreed();
    assert_eq!(agreed.len(), 1, "a connection is kept: {agreed:?}");
    assert_eq!(origin.seen()[0].request.one("host"), format!("127.0.0.1:{}", tunnel.port));
}

/// Text whose every part is different.
fn numbers(bytes: usize) -> String {
    (0..).flat_map(|number: u64| format!("{number} ").into_bytes()).take(bytes).map(char::from).collect()
}

#[test]
fn large_bodies_pass_both_ways() {
    let (origin, _tunnel, gateway) = start();
    let large = numbers(3 << 20);
    let response = format!(r#"{{"text":"{large}"}}"#);
    let told = response.clone();
    origin.case("large", move |talk| talk.answer("200 OK", "Content-Type: application/json\r\n", &told));
    let body = format!(r#"{{"model":"m","messages":"{large}"}}"#);
    let outcome = case(&gateway, "large", &body);
    let answer = &outcome.answers[0];
    assert!(answer.status() == 200 && answer.text() == response, "{} bytes", answer.body.len());
    assert!(origin.with_nonce("large")[0].request.body == body.as_bytes());
}

/// An end without a goodbye is a cut, also where the end of the connection is the end of the body.
#[test]
fn an_end_without_a_goodbye_is_a_cut() {
    let (origin, _tunnel, gateway) = start();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
    origin.case("chunks", |talk| {
        talk.stream();
        talk.chunk(sse::content("one"));
        talk.pause(Duration::from_millis(50));
        Next::Reset
    });
    origin.case("close", move |talk| {
        talk.send(format!("{head}Connection: close\r\n\r\n{}", sse::content("one")));
        talk.pause(Duration::from_millis(50));
        Next::Reset
    });
    origin.case("whole", move |talk| {
        let events = sse::content("one") + &sse::finish() + sse::DONE;
        talk.send(format!("{head}Connection: close\r\n\r\n{events}"));
        Next::Close
    });
    for name in ["chunks", "close"] {
        let outcome = case(&gateway, name, ASK);
        let answer = outcome.answers.first().or(outcome.cut.as_ref()).expect("a stream");
        let (text, ending) = sse::judge(&answer.text());
        assert_eq!(text, "one", "{name}");
        assert!(matches!(ending, Ending::Failed(_)), "{name}: {ending:?}");
    }
    let outcome = case(&gateway, "whole", ASK);
    assert_eq!(sse::judge(&outcome.answers[0].text()), ("one".to_owned(), Ending::Finished));
    assert_eq!(outcome.end, End::Fin);
}

#[test]
fn a_client_that_leaves_stops_the_backend() {
    let (origin, _tunnel, gateway) = start();
    let gone = Arc::new(AtomicBool::new(false));
    let noticed = Arc::clone(&gone);
    origin.case("leave", move |talk| {
        talk.stream();
        talk.chunk(sse::content("one"));
        noticed.store(talk.gone(PATIENCE), Ordering::SeqCst);
        Next::Close
    });
    let mut client = gateway.connect();
    let head = chat_head(K1, "leave");
    client.send(format!("{head}X-Case: leave\r\nContent-Length: {}\r\n\r\n{ASK}", ASK.len()).as_bytes());
    client.read_until("one");
    drop(client);
    assert!(eventually(PATIENCE, || gone.load(Ordering::SeqCst)), "the backend still works");
}

fn messages(gateway: &Gateway) -> Message {
    let body = r#"{"model":"m","max_tokens":1,"messages":[]}"#;
    let head = chat_head(K1, "x").replace("/v1/chat/completions", "/v1/messages");
    let mut client = gateway.connect();
    client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    client.answer().expect("an answer")
}

/// Another name, another authority, a date that is over, no TLS at all, an end at once: 502 in the dialect of the
/// path, nothing sent, and the next backend has its turn.
#[test]
fn a_backend_that_cannot_prove_its_name_gets_nothing() {
    let (origin, good) = (Origin::start(), Origin::start());
    let (authority, stranger) = (Authority::new(), Authority::new());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let deaf = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let bad = [
        ("another name", authority.certify("other.test")),
        ("another address", authority.certify("127.0.0.2")),
        ("another authority", stranger.certify("127.0.0.1")),
        ("a date that is over", authority.certify_until("127.0.0.1", 2020)),
    ];
    let tunnels = bad.map(|(name, cert)| (name, Tunnel::from_tls(origin.port, cert.server())));
    let mut cases: Vec<(&str, u16)> = tunnels.iter().map(|(name, tunnel)| (*name, tunnel.port)).collect();
    cases.extend([("no TLS", origin.port), ("an end at once", deaf)]);
    for (name, port) in cases {
        let more = format!("ca_file = \"ca.pem\"\nserves = [\"chat\", \"messages\"]\n{QUIET}");
        let alone = secured(trusting(&authority), "bad", "127.0.0.1", port, &more).model("m", &["bad"], "");
        let alone = alone.backend("good", good.port, QUIET).model("both", &["bad", "good"], "");
        let mut gateway = Gateway::start(&alone);
        let mut client = gateway.connect();
        client.send(&chat(K1, "x", J));
        let answer = client.answer().expect("an answer on a connection that stays");
        assert_eq!(answer.status(), 502, "{name}: {answer:?}");
        assert_eq!(answer.json()["error"]["code"], "backend_tls_failed", "{name}: {answer:?}");
        assert_eq!(support::table::leak(&answer.text()), None, "{name}: {answer:?}");
        let answer = messages(&gateway);
        assert_eq!(answer.status(), 502, "{name}: {answer:?}");
        assert_eq!(answer.json()["type"], "error", "{name}: {answer:?}");
        assert_eq!(answer.json()["error"]["type"], "api_error", "{name}: {answer:?}");
        for turn in 0..4 {
            let nonce = format!("{name} {turn}");
            client.send(&chat(K1, &nonce, r#"{"model":"both","messages":[]}"#));
            let answer = client.answer().expect("an answer");
            assert!(answer.status() == 200 && answer.text().contains(&nonce), "{name}: {answer:?}");
        }
        gateway.check_alive();
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
}

/// `tls_verify = false` is what it says.
#[test]
fn verification_can_be_switched_off() {
    let origin = Origin::start();
    let tunnel = Tunnel::from_tls(origin.port, Authority::new().certify("other.test").server());
    let more = format!("tls_verify = false\n{QUIET}");
    let config = secured(Config::new().key("one", K1, ""), "b1", "127.0.0.1", tunnel.port, &more);
    let gateway = Gateway::start(&config.model("m", &["b1"], ""));
    let mut client = gateway.connect();
    client.send(&chat(K1, "any", J));
    assert_eq!(client.answer().expect("an answer").text(), completion("any"));
}

/// Probes verify as requests do.
#[test]
fn probes_go_over_tls() {
    let (origin, authority) = (Origin::start(), Authority::new());
    let right = Tunnel::from_tls(origin.port, authority.certify("127.0.0.1").server());
    let wrong = Tunnel::from_tls(origin.port, authority.certify("other.test").server());
    let more =
        "ca_file = \"ca.pem\"\nhealth = { path = \"/health\", interval = \"200ms\", timeout = \"200ms\" }";
    let config = secured(trusting(&authority), "right", "127.0.0.1", right.port, more);
    let config = secured(config, "wrong", "127.0.0.1", wrong.port, more);
    let gateway = Gateway::start(&config.model("m", &["right", "wrong"], ""));
    let up = |name: &str| gateway.metric("ringway_backend_up", &format!("\"{name}\""));
    assert!(eventually(PATIENCE, || up("wrong") == 0.0), "a name that does not fit is taken for well");
    assert_eq!(up("right"), 1.0);
    assert!(!right.agreed().is_empty() && wrong.agreed().is_empty());
}

/// M05: two backends at one address share no connection: each line carries one name and one credential.
#[test]
fn backends_at_one_address_share_no_connection() {
    let (origin, authority) = (Origin::start(), Authority::new());
    let tunnel = Tunnel::from_tls(origin.port, authority.certify("localhost").server());
    let plain = Origin::start();
    let more = |key: &str| format!("api_key = {{ file = \"{key}\" }}\n{QUIET}");
    let mut config = trusting(&authority);
    for (name, key) in [("a", "key-of-a"), ("b", "key-of-b")] {
        config = config.file(key, &format!("{key}-0123456789"));
        let tls = format!("ca_file = \"ca.pem\"\n{}", more(key));
        config = secured(config, &format!("s{name}"), "localhost", tunnel.port, &tls);
        config = config.backend(&format!("p{name}"), plain.port, &more(key));
    }
    for name in ["sa", "sb", "pa", "pb"] {
        config = config.model(name, &[name], "");
    }
    let gateway = Gateway::start(&config);
    let mut client = gateway.connect();
    for turn in 0..40 {
        for model in ["sa", "sb", "pa", "pb"] {
            let nonce = format!("{model}-{turn}");
            client.send(&chat(K1, &nonce, &format!(r#"{{"model":"{model}","messages":[]}}"#)));
            let answer = client.answer().expect("an answer");
            assert_eq!(answer.text(), completion(&nonce), "{answer:?}");
        }
    }
    for origin in [&origin, &plain] {
        let mut owners = BTreeMap::new();
        for seen in origin.seen() {
            let mine = seen.request.one("authorization");
            assert!(mine.contains(&format!("key-of-{}", &seen.nonce()[1..2])), "{:?}", seen.request);
            let first = owners.entry(seen.line).or_insert_with(|| mine.clone());
            assert_eq!(*first, mine, "two credentials on line {}", seen.line);
        }
        assert!(owners.len() < 80, "connections are kept: {} of them", owners.len());
    }
    assert!(tunnel.agreed().iter().all(|agreed| agreed.name.as_deref() == Some("localhost")));
}
