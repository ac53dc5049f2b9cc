//! Backends behind a socket file.

use std::path::PathBuf;

use support::gateway::{Config, Gateway, K1};
use support::origin::{Origin, completion};
use support::tls::Tunnel;
use support::{J, PATIENCE, chat, chat_head, eventually};

const QUIET: &str = "health = { enabled = false }";

/// A path that no file has yet, and no other test; short, because a socket's path may have 107 bytes.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringway-{}-{name}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }

    fn backend(&self, config: Config, name: &str, path: &str, more: &str) -> Config {
        config.tables(&format!("[backend.{name}]\nurl = \"unix:{}{path}\"\n{more}", self.0.display()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn answers_and_streams_pass() {
    let (origin, place) = (Origin::start(), Place::new("pass"));
    let _tunnel = Tunnel::from_file(&place.0, origin.port);
    let config = place.backend(Config::new().key("one", K1, ""), "b1", "", QUIET);
    let gateway = Gateway::start(&config.model("m", &["b1"], ""));
    let mut client = gateway.connect();
    support::check_answers_and_streams(&mut client, 5);
    assert_eq!(origin.lines().len(), 1, "a connection is kept");
    assert_eq!(origin.faults(), Vec::<String>::new());
    let request = &origin.seen()[0].request;
    assert!(!request.one("host").is_empty() && request.target() == "/v1/chat/completions", "{request:?}");
}

/// Bodies larger than a socket's buffers.
#[test]
fn large_bodies_pass_both_ways() {
    let (origin, place) = (Origin::start(), Place::new("large"));
    let large = "0123456789abcde ".repeat(3 << 16);
    let response = format!(r#"{{"text":"{large}"}}"#);
    let told = response.clone();
    origin.case("large", move |talk| talk.answer("200 OK", "Content-Type: application/json\r\n", &told));
    let _tunnel = Tunnel::from_file(&place.0, origin.port);
    let config = place.backend(Config::new().key("one", K1, ""), "b1", "", QUIET);
    let gateway = Gateway::start(&config.model("m", &["b1"], ""));
    let body = format!(r#"{{"model":"m","messages":"{large}"}}"#);
    let mut client = gateway.connect();
    let head = chat_head(K1, "large");
    client.send(format!("{head}X-Case: large\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    let answer = client.answer().expect("an answer");
    assert!(answer.status() == 200 && answer.text() == response, "{} bytes", answer.body.len());
    assert!(origin.with_nonce("large")[0].request.body == body.as_bytes());
}

/// No file, a file that is no socket, and a socket that nobody listens on any more.
#[test]
fn a_missing_socket_is_a_502_and_others_take_over() {
    let good = Origin::start();
    let (missing, file, dead) = (Place::new("missing"), Place::new("file"), Place::new("dead"));
    std::fs::write(&file.0, "not a socket").expect("a file");
    drop(std::os::unix::net::UnixListener::bind(&dead.0).expect("a socket file"));
    for place in [&missing, &file, &dead] {
        let config = place.backend(Config::new().key("one", K1, ""), "bad", "", QUIET);
        let config = config.backend("good", good.port, QUIET);
        let config = config.model("m", &["bad"], "").model("both", &["bad", "good"], "");
        let gateway = Gateway::start(&config);
        let mut client = gateway.connect();
        client.send(&chat(K1, "x", J));
        let answer = client.answer().expect("an answer");
        assert_eq!(answer.status(), 502, "{answer:?}");
        assert_eq!(answer.json()["error"]["code"], "backend_unavailable", "{answer:?}");
        assert!(!answer.text().contains(".sock"), "{answer:?}");
        for turn in 0..4 {
            client.send(&chat(K1, &format!("turn-{turn}"), r#"{"model":"both","messages":[]}"#));
            assert_eq!(client.answer().expect("an answer").text(), completion(&format!("turn-{turn}")));
        }
    }
}

/// The file is looked up at every dial: a server that was restarted is found.
#[test]
fn a_socket_that_comes_back_is_used() {
    let (origin, place) = (Origin::start(), Place::new("back"));
    let health = "health = { path = \"/health\", interval = \"100ms\", timeout = \"100ms\", successes = 1 }";
    let config = place.backend(Config::new().key("one", K1, ""), "b1", "", health);
    let gateway = Gateway::start(&config.model("m", &["b1"], ""));
    let up = || gateway.metric("ringway_backend_up", "\"b1\"");
    for round in 0..2 {
        assert!(eventually(PATIENCE, || up() == 0.0), "round {round}: a missing file is taken for well");
        let tunnel = Tunnel::from_file(&place.0, origin.port);
        assert!(eventually(PATIENCE, || up() == 1.0), "round {round}: the file is not found again");
        let served = eventually(PATIENCE, || {
            let mut client = gateway.connect();
            client.send(&chat(K1, "back", J));
            client.answer().is_ok_and(|answer| answer.status() == 200)
        });
        assert!(served, "round {round}");
        drop(tunnel);
        std::fs::remove_file(&place.0).expect("the file");
    }
}
