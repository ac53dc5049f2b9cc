//! Expect, HEAD, upgrades, pipelines, and what goes from hop to hop only.
#![allow(clippy::print_stdout)] // which of two allowed outcomes was seen

use std::time::Duration;

use support::client::{Client, End};
use support::gateway::{Config, Gateway, K1, K2};
use support::origin::{Next, Origin};
use support::table::{Row, answered, cat, g, p, refused, run, served};
use support::{J, PATIENCE, chat, chat_head, eventually};

fn start() -> (Origin, Gateway) {
    let origin = Origin::start();
    let gateway = Gateway::start(&Config::simple(origin.port));
    (origin, gateway)
}

#[test]
fn pipelines_and_hops() {
    let framed = format!("Content-Length: 27\r\n\r\n{J}");
    let with = |id: &str, lines: &str| -> Row {
        served(id, cat(&[p().as_bytes(), lines.as_bytes(), framed.as_bytes()]))
    };
    let twice = format!("{}\r\n{}\r\n", g(), g());
    let head = g().replacen("GET", "HEAD", 1);
    let rows = [
        refused(
            "H03",
            cat(&[p().as_bytes(), b"Expect: 100-continue\r\n", framed.as_bytes(), g().as_bytes(), b"\r\n"]),
        )
        .status(200)
        .then(&[200])
        .origin(1, J.as_bytes())
        .stays(),
        with("H04 other", "Expect: 200-ok\r\n").status(417).or(400).origin(0, b"").closes(),
        with("H04 both", "Expect: y 100-continue\r\n").status(417).or(400).origin(0, b"").closes(),
        with("H04 twice", "Expect: 100-continue\r\nExpect: 100-continue\r\n")
            .or(417)
            .or(400)
            .status(400)
            .or(417)
            .origin(0, b"")
            .closes(),
        answered("H07", format!("{head}\r\n{}\r\n", g())).heads(&[true, false]).then(&[200]),
        answered("H08", &twice).then(&[200]),
        answered("H09", format!("{}Connection: close\r\n\r\n{}\r\n", g(), g())).closes(),
        answered("H10", format!("{}\r\nrubbish here\r\n\r\n", g())).then(&[400]).closes(),
        with("H12", "Connection: Upgrade\r\nUpgrade: foo\r\n"),
        with(
            "H13",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        ),
        with("H16", "Connection: keep-alive, Authorization\r\n"),
        with("H18 one", "Connection: X-Foo\r\nX-Foo: 1\r\n"),
        with("H18 case", "Connection: x-fOO\r\nX-Foo: 1\r\n"),
        with("H18 lines", "Connection: X-Bar\r\nConnection: X-Foo\r\nX-Foo: 1\r\n"),
        with(
            "H19",
            "Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nTE: gzip\r\nTrailer: X\r\nUpgrade: x\r\n",
        ),
        with("H19 proxy", "Proxy-Authorization: Basic eDp5\r\n"),
        with("H22 double", &format!("Authorization: Bearer {K1}\r\n"))
            .status(400)
            .or(401)
            .origin(0, b"")
            .closes(),
        with("H22 two kinds", &format!("x-api-key: {K2}\r\n")).status(400).or(401).origin(0, b"").closes(),
    ];
    run("http_manners", &rows);
}

/// H18, H20, H21: what the backend sees of fields that were not meant for it.
#[test]
fn fields_for_one_hop_stay_here() {
    let (origin, gateway) = start();
    let mut client = gateway.connect();
    let lines = "Connection: keep-alive, X-Foo, X-Forwarded-For, X-Request-Id, Host, Content-Length\r\n\
                 X-Foo: 1\r\nX-Plain: 1\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
                 X-Real-IP: 6.6.6.6\r\nX-Forwarded-Host: evil.test\r\nx-ringway-backend: b1\r\n";
    client.send(format!("{}{lines}Content-Length: 27\r\n\r\n{J}", chat_head(K1, "hops")).as_bytes());
    let answer = client.answer().expect("an answer");
    if answer.status() == 400 {
        println!("a Connection field that names framing is refused");
        return;
    }
    assert_eq!(answer.status(), 200, "{answer:?}");
    let seen = origin.with_nonce("hops");
    let request = &seen[0].request;
    assert!(!request.has("x-foo"), "{request:?}");
    assert_eq!(request.one("x-plain"), "1");
    assert_eq!(request.one("content-length"), "27");
    let text = String::from_utf8_lossy(&seen[0].raw).into_owned();
    for spoofed in ["6.6.6.6", "evil.test", "x-ringway-backend"] {
        assert!(!text.to_lowercase().contains(spoofed), "{spoofed} went on: {text}");
    }
}

/// H01: a client that waits for leave to send gets it.
#[test]
fn expect_is_answered_at_once() {
    let (origin, gateway) = start();
    let mut client = gateway.connect();
    client.send(
        format!("{}Expect: 100-continue\r\nContent-Length: 27\r\n\r\n", chat_head(K1, "leave")).as_bytes(),
    );
    while !client.buffer.ends_with(b"\r\n\r\n") && client.read_some(PATIENCE) {}
    assert!(client.buffer.starts_with(b"HTTP/1.1 100 "), "{}", client.buffer.escape_ascii());
    client.send(J.as_bytes());
    assert_eq!(client.answer().expect("an answer").status(), 200);
    assert!(!origin.with_nonce("leave")[0].request.has("expect"));
}

/// H02: no leave for who may not send.
#[test]
fn expect_with_a_wrong_key_is_refused_without_leave() {
    let (origin, gateway) = start();
    let mut client = gateway.connect();
    client.send(
        format!("{}Expect: 100-continue\r\nContent-Length: 27\r\n\r\n", chat_head("wrong", "x")).as_bytes(),
    );
    let outcome = client.finish(&[], PATIENCE);
    assert!(outcome.interim.is_empty(), "{outcome:?}");
    assert_eq!(outcome.answers[0].status(), 401);
    assert_eq!(outcome.end, End::Fin);
    assert!(origin.seen().is_empty());
}

/// H05, J02: HTTP/1.0 knows no interim answers and no chunks.
#[test]
fn http_1_0_gets_what_it_understands() {
    let (origin, gateway) = start();
    for (more, body) in [
        ("Expect: 100-continue\r\n", J),
        ("", r#"{"model":"m","stream":true}"#),
        ("Connection: keep-alive\r\n", J),
    ] {
        let mut client = gateway.connect();
        let head = chat_head(K1, "old").replace("HTTP/1.1", "HTTP/1.0");
        client.send(format!("{head}{more}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        let outcome = client.finish(&[], PATIENCE);
        assert!(outcome.interim.is_empty(), "{outcome:?}");
        assert_eq!(outcome.answers.len(), 1, "{outcome:?}");
        assert_eq!(outcome.answers[0].status(), 200);
        assert!(!outcome.answers[0].has("transfer-encoding"), "{outcome:?}");
        assert!(outcome.answers[0].text().contains("old"), "{outcome:?}");
        assert_eq!(outcome.end, End::Fin);
    }
    drop(origin);
}

/// H06: a backend that answers without reading the body does not get the next request on that connection.
#[test]
fn an_early_answer_does_not_poison_the_next_request() {
    let (origin, gateway) = start();
    origin.case("early", |talk| talk.answer("400 Bad Request", "Connection: close\r\n", "{}"));
    let mut client = gateway.connect();
    client
        .send(format!("{}X-Case: early\r\nContent-Length: 27\r\n\r\n{J}", chat_head(K1, "early")).as_bytes());
    assert_eq!(client.answer().expect("an answer").status(), 400);
    let line = origin.with_nonce("early")[0].line;
    for turn in 0..100 {
        let nonce = format!("after-{turn}");
        client.send(&chat(K1, &nonce, J));
        let answer = client.answer().expect("an answer");
        assert!(answer.text().contains(&nonce), "{answer:?}");
        assert_ne!(origin.with_nonce(&nonce)[0].line, line);
    }
}

/// H11: a long pipeline is answered in order.
#[test]
fn a_thousand_requests_in_one_go_are_answered_in_order() {
    let (_origin, gateway) = start();
    let mut client = gateway.connect();
    let before = gateway.resident();
    let one = format!("{}\r\n", g()).into_bytes();
    let mut writer = client.stream.try_clone().expect("a second handle");
    let sender =
        std::thread::spawn(move || std::io::Write::write_all(&mut writer, &one.repeat(1000)).is_ok());
    for index in 0..1000 {
        let answer = client.answer().unwrap_or_else(|error| panic!("answer {index}: {error}"));
        assert_eq!(answer.status(), 200);
    }
    assert!(sender.join().expect("the sender"));
    assert!(client.buffer.is_empty());
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for a pipeline");
}

/// H12: nobody gets a tunnel, whatever the backend says; H14: a 101 that nobody asked for is a bad answer.
#[test]
fn there_are_no_tunnels() {
    let (origin, gateway) = start();
    origin.case("switch", |talk| {
        talk.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: upgrade\r\n\r\nhello");
        talk.gone(PATIENCE);
        Next::Close
    });
    let mut client = gateway.connect();
    let head = chat_head(K1, "switch");
    client.send(
        format!(
            "{head}X-Case: switch\r\nConnection: Upgrade\r\nUpgrade: foo\r\nContent-Length: 27\r\n\r\n{J}"
        )
        .as_bytes(),
    );
    let answer = client.answer().expect("an answer");
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert!(origin.with_nonce("switch").len() == 1, "a 101 was tried again");
}

/// H15: who is refused while it still uploads can read why.
#[test]
fn a_refusal_during_an_upload_can_be_read() {
    let (origin, gateway) = start();
    let mut client = gateway.connect();
    client.send(format!("{}Content-Length: {}\r\n\r\n", chat_head("wrong", "big"), 10 << 20).as_bytes());
    client.send(&vec![b' '; 48 << 10]);
    let outcome = client.finish(&[], PATIENCE);
    assert_eq!(outcome.answers.len(), 1, "{outcome:?}");
    assert_eq!(outcome.answers[0].status(), 401);
    assert_eq!(outcome.end, End::Fin, "a reset can take the answer with it");
    assert!(origin.seen().is_empty());
}

/// H23: odd keys are no keys.
#[test]
fn odd_keys_are_refused() {
    let (origin, gateway) = start();
    let long = "a".repeat(40 << 10);
    for key in ["' OR 1=1--", "\u{fc}\u{f6}", "", " ", &long, "%00", &K1[..K1.len() - 1], &format!("{K1}x")] {
        let mut client = gateway.connect();
        client.send(&chat(key, "odd", J));
        let answer = client.answer().expect("an answer");
        assert!([401, 431].contains(&answer.status()), "{key:.20}: {answer:?}");
        assert!(key.len() < 4 || !answer.text().contains(key));
    }
    assert!(!gateway.said().contains("OR 1=1"));
    assert!(origin.seen().is_empty());
}

/// H24, H26: what clients write into names and ids breaks no line of ours.
#[test]
fn odd_ids_and_names_break_no_lines() {
    let origin = Origin::start();
    let config =
        Config::simple(origin.port).top("debug_headers = true").tables("[access_log]\npath = \"stdout\"");
    let gateway = Gateway::start(&config);
    for id in ["a\"b\\c", "\x1b[31mred", &"x".repeat(8 << 10), "{\"a\":1}"] {
        let mut client = gateway.connect();
        let head = chat_head(K1, "id");
        client.send(format!("{head}X-Request-Id: {id}\r\nContent-Length: 27\r\n\r\n{J}").as_bytes());
        let answer = client.answer().expect("an answer");
        assert!([200, 400].contains(&answer.status()), "{answer:?}");
        let sent = answer.one("x-request-id");
        assert!(!sent.is_empty() && sent.len() < 256 && sent != id, "{sent:.80}");
    }
    for name in [r"a\r\nX-Evil: 1", r"a\u000d\u000aX-Evil: 1", r#"\"},{\"x"#, r"\u001b[31m"] {
        let mut client = gateway.connect();
        client.send(&chat(K1, "name", &format!(r#"{{"model":"{name}","messages":[]}}"#)));
        let answer = client.answer().expect("an answer");
        assert_eq!(answer.status(), 404, "{answer:?}");
        assert!(!answer.has("x-evil") && answer.json()["error"].is_object(), "{answer:?}");
    }
    let mut lines = 0;
    support::eventually(Duration::from_secs(5), || {
        let said = gateway.said();
        lines = said.lines().filter(|line| line.starts_with('{') && line.contains("chat")).count();
        lines >= 8
    });
    for line in gateway.said().lines().filter(|line| line.starts_with('{')) {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(!line.contains('\x1b'), "{line}");
    }
    println!("{lines} access lines, each one JSON line");
}

/// J01: a stream for HTTP/1.0 ends with the connection.
#[test]
fn a_stream_for_http_1_0_has_no_chunks() {
    let (_origin, gateway) = start();
    let mut client = gateway.connect();
    let head = chat_head(K1, "oldstream").replace("HTTP/1.1", "HTTP/1.0");
    let body = r#"{"model":"m","stream":true}"#;
    client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    let outcome = client.finish(&[], PATIENCE);
    let answer = &outcome.answers[0];
    assert_eq!(answer.framing, support::strict::Framing::Close);
    assert_eq!(support::sse::judge(&answer.text()).1, support::sse::Ending::Finished, "{answer:?}");
}

/// A length is a promise, not a reason to set memory aside: each of these took 2 MiB.
#[test]
fn bodies_that_are_only_announced_take_no_memory() {
    let origin = Origin::start();
    let mut gateway = Gateway::start(&Config::simple(origin.port));
    assert_eq!(support::ask(&gateway, J, "warm").status(), 200);
    let before = gateway.resident();
    let clients: Vec<Client> = (0..50)
        .map(|_| {
            let mut client = gateway.connect();
            client.send(format!("{}Content-Length: {}\r\n\r\n", chat_head(K1, "vain"), 32 << 20).as_bytes());
            client.send(br#"{"model":""#);
            client
        })
        .collect();
    // Each is there once those after it are answered; it waits for the rest.
    assert_eq!(support::ask(&gateway, J, "after").status(), 200);
    let grown = || gateway.resident().saturating_sub(before);
    let took = eventually(Duration::from_secs(1), || grown() > clients.len() * (256 << 10));
    assert!(!took, "{} bytes for {} bodies of ten bytes", grown(), clients.len());
    gateway.check_alive();
}
