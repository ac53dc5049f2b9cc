//! Limits and slow clients: every size and every wait has an end.
#![allow(clippy::print_stdout)] // which of two allowed outcomes was seen

use std::time::{Duration, Instant};

use support::canary::Canaries;
use support::client::{Client, End};
use support::gateway::{Config, Gateway, K1};
use support::origin::Origin;
use support::table::{Row, cat, g, p, refused, run, run_on, served};
use support::{J, PATIENCE, chat, chat_head, eventually};

fn start(tables: &str) -> (Origin, Gateway) {
    let origin = Origin::start();
    let gateway = Gateway::start(&Config::simple(origin.port).tables(tables));
    (origin, gateway)
}

/// K01: heads beyond the limits.
#[test]
fn large_heads_are_refused() {
    let many = |count: usize| (0..count).map(|index| format!("X-{index}: y\r\n")).collect::<String>();
    let big = |id: &str, text: String| refused(id, text).status(431).or(400).or(414).or(501).or(405).cuts(6);
    let rows = [
        big("K01 value", format!("{}X: {}\r\n\r\n", g(), "a".repeat(100_000))),
        big("K01 name", format!("{}{}: x\r\n\r\n", g(), "a".repeat(100_000))),
        big("K01 method", format!("{} / HTTP/1.1\r\n\r\n", "A".repeat(100_000))),
        big("K01 lines", format!("{}{}\r\n", g(), many(10_000))),
        big("K01 101 lines", format!("{}{}\r\n", g(), many(99))).cuts(40),
        served("K01 100 lines", format!("{}{}Content-Length: 27\r\n\r\n{J}", p(), many(95))).cuts(40),
    ];
    run("limits: heads", &rows);
}

/// K02, K03: bodies beyond the limit.
#[test]
fn large_bodies_are_refused() {
    let over = format!("{}Content-Length: 65537\r\n\r\n", p());
    let leave = format!("{}Expect: 100-continue\r\nContent-Length: 65537\r\n\r\n", p());
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(4096));
    let chunked = format!("{}Transfer-Encoding: chunked\r\n\r\n{}", p(), chunk.repeat(17));
    let full = format!("{J}{}", " ".repeat((64 << 10) - J.len()));
    let fits = format!("{}Content-Length: 65536\r\n\r\n{full}", p());
    let rows: [Row; 4] = [
        refused("K02", over).status(413),
        refused("K02 expect", leave).status(413),
        refused("K03", chunked).status(413).cuts(60),
        served("K02 fits", fits).origin(1, full.as_bytes()).cuts(60),
    ];
    run_on("limits: bodies", &rows, |config| {
        config.tables("[limits]\nbody = \"64KiB\"\nbody_buffer = \"64KiB\"")
    });
}

/// K04, K05: a head has one deadline, which no single byte moves.
#[test]
fn slow_heads_end_at_the_deadline() {
    let (origin, gateway) = start("[timeouts]\nhead = \"1500ms\"\nkeep_alive = \"1500ms\"");
    let started = Instant::now();
    let mut silent = gateway.connect();
    let mut slow = gateway.connect();
    let text = g().repeat(20);
    let mut bytes = text.as_bytes().iter();
    while slow.end() == End::Open && started.elapsed() < PATIENCE {
        let Some(byte) = bytes.next() else { break };
        slow.send(std::slice::from_ref(byte));
        slow.read_some(Duration::from_millis(20));
    }
    assert_ne!(slow.end(), End::Open, "one byte at a time holds a connection for ever");
    println!("slow head closed after {:?}", started.elapsed());
    assert_ne!(silent.drain(PATIENCE), End::Open);
    println!("silent connection closed after {:?}", started.elapsed());
    assert!(origin.seen().is_empty());
    assert!(gateway.metric("ringway_requests_total", "") < 2.0);
}

/// K06: a body that stops ends at its deadline.
#[test]
fn slow_bodies_end() {
    let (origin, gateway) = start("[timeouts]\nbody = \"1s\"");
    let mut client = gateway.connect();
    client.send(format!("{}Content-Length: 27\r\n\r\n{{\"mod", chat_head(K1, "slow")).as_bytes());
    let outcome = client.finish(&[], PATIENCE);
    assert_eq!(outcome.answers.len(), 1, "{outcome:?}");
    assert_eq!(outcome.answers[0].status(), 408);
    assert_ne!(outcome.end, End::Open);
    assert!(origin.seen().is_empty());
}

/// K07: a head that drips in costs one pass, not one pass per byte.
#[test]
fn a_dripping_head_is_read_once() {
    let (_origin, gateway) = start("[timeouts]\nhead = \"60s\"");
    let head = format!("{}X: {}\r\n\r\n", g(), "a".repeat(60 << 10));
    let before = gateway.cpu();
    let mut client = gateway.connect();
    let (bulk, rest) = head.as_bytes().split_at(40 << 10);
    client.send(bulk);
    for byte in rest {
        assert!(client.send(std::slice::from_ref(byte)), "closed early");
    }
    assert_eq!(client.answer().expect("an answer").status(), 200);
    let spent = gateway.cpu() - before;
    println!("{} segments cost {spent:?} of CPU", rest.len());
    // One pass per byte over 40 KiB and more would be 10^9 bytes looked at: seconds in this build.
    assert!(spent < Duration::from_secs(2), "{spent:?} of CPU");
}

/// K09: TLS to a plaintext port is a broken head.
#[test]
fn a_client_hello_on_the_plain_port_is_refused() {
    let (_origin, mut gateway) = start("");
    let mut client = gateway.connect();
    let mut hello = vec![0x16, 3, 1, 1, 0, 1, 0, 0, 0xfc, 3, 3];
    hello.extend((0_u8..=255).cycle().take(250));
    client.send(&hello);
    client.half_close();
    assert_ne!(client.drain(PATIENCE), End::Open);
    gateway.check_alive();
}

fn body(client: &mut Client, body: &[u8]) -> u16 {
    client.send(format!("{}Content-Length: {}\r\n\r\n", chat_head(K1, "json"), body.len()).as_bytes());
    client.send(body);
    client.answer_to(false, Duration::from_secs(30)).expect("an answer").status()
}

/// K10: depth and size of JSON cost no more than their bytes.
#[test]
fn hostile_json_is_cheap() {
    let (origin, mut gateway) = start("");
    let nested = cat(&[b"{\"model\":\"m\",\"messages\":", "[".repeat(100_000).as_bytes()]);
    let objects = "{\"a\":".repeat(200_000).into_bytes();
    let escapes = format!("{{\"model\":\"m\",\"messages\":\"{}\"}}", "\\u0041".repeat(1 << 20)).into_bytes();
    for (name, bytes) in [("arrays", nested), ("objects", objects), ("escapes", escapes)] {
        let before = gateway.cpu();
        let status = body(&mut gateway.connect(), &bytes);
        println!("{name}: {status}, {:?} of CPU for {} bytes", gateway.cpu() - before, bytes.len());
        assert!(if name == "escapes" { status == 200 } else { status == 400 }, "{name}: {status}");
        assert!(gateway.cpu() - before < Duration::from_secs(3));
    }
    assert!(origin.seen().len() <= 1);
    gateway.check_alive();
}

/// K11: no second opinion on what routes or bills.
#[test]
fn duplicate_members_cannot_change_what_was_checked() {
    let (origin, gateway) = start("");
    let cases = [
        r#"{"model":"m","model":"other"}"#,
        r#"{"model":"other","model":"m"}"#,
        r#"{"model":"m","mod\u0065l":"other"}"#,
        r#"{"model":"m","max_tokens":1,"max_tokens":100000}"#,
        r#"{"model":"m","stream":false,"stream":true}"#,
        r#"{"model":"m","n":1,"n":100}"#,
    ];
    for case in cases {
        let status = body(&mut gateway.connect(), case.as_bytes());
        println!("{case}: {status}");
        assert!([400, 404].contains(&status), "{case}: {status}");
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
    // Another case is another member: refused, or passed and not trusted.
    let status = body(&mut gateway.connect(), br#"{"model":"m","Model":"other"}"#);
    println!("another case: {status}");
    assert!([200, 400].contains(&status));
}

/// K12: odd numbers are refused or passed, and never make a reservation negative.
#[test]
fn odd_numbers_do_not_break_the_reservation() {
    let origin = Origin::start();
    let config = Config::new()
        .backend("b1", origin.port, "health = { enabled = false }")
        .model("m", &["b1"], "")
        .key("one", K1, "tokens_per_minute = 1000000000");
    let mut gateway = Gateway::start(&config);
    for value in [
        "-1",
        "1e999",
        "9223372036854775808",
        "18446744073709551616",
        "1.5",
        "\"10\"",
        "null",
        "1e3",
        "true",
        "[]",
    ] {
        for name in ["max_tokens", "n"] {
            let status =
                body(&mut gateway.connect(), format!(r#"{{"model":"m","{name}":{value}}}"#).as_bytes());
            println!("{name} {value}: {status}");
            assert!([200, 400, 429].contains(&status), "{name} {value}: {status}");
        }
    }
    let both = br#"{"model":"m","n":4294967296,"max_tokens":4294967296}"#;
    assert!([400, 429].contains(&body(&mut gateway.connect(), both)));
    assert_eq!(body(&mut gateway.connect(), J.as_bytes()), 200, "the bucket is broken");
    gateway.check_alive();
}

/// K13: what is not one JSON object in UTF-8 is refused, or passed byte for byte.
#[test]
fn odd_json_is_refused_or_passed_untouched() {
    let (origin, gateway) = start("");
    let cases: [&[u8]; 9] = [
        b"{\"model\":\"m\",\"temperature\":NaN}",
        b"{\"model\":\"m\"}garbage",
        b"\xef\xbb\xbf{\"model\":\"m\"}",
        b"{\"model\":\"m\",\"user\":\"\\ud800\"}",
        b"{\"model\":\"m\",\"user\":\"\xff\"}",
        b"{\"model\":\"m\"}{\"model\":\"other\"}",
        b"[\"model\",\"m\"]",
        b"\"m\"",
        b"",
    ];
    for case in cases {
        origin.take(|_| true);
        let status = body(&mut gateway.connect(), case);
        println!("{}: {status}", case.escape_ascii());
        match status {
            400 => assert!(origin.seen().is_empty()),
            200 => assert_eq!(origin.seen()[0].request.body, case),
            _ => panic!("{}: {status}", case.escape_ascii()),
        }
    }
}

/// K14: a body that is not what its coding says is refused, and so is a coding that is not read.
#[test]
fn bodies_that_cannot_be_decoded_are_refused() {
    let (origin, gateway) = start("");
    for (coding, status) in
        [("gzip", 400), ("zstd", 400), ("deflate", 400), ("br", 415), ("deflate, gzip", 415)]
    {
        let mut client = gateway.connect();
        client.send(
            format!("{}Content-Encoding: {coding}\r\nContent-Length: 27\r\n\r\n{J}", chat_head(K1, "x"))
                .as_bytes(),
        );
        assert_eq!(client.answer().expect("an answer").status(), status, "{coding}");
    }
    assert!(origin.seen().is_empty());
}

/// K15: forms are not read. A boundary is a header value like any other, and a body of parts is no JSON.
#[test]
fn forms_are_not_read() {
    let (origin, gateway) = start("");
    let before = gateway.cpu();
    let form = |boundary: &str, body: &str| {
        let head = chat_head(K1, "form").replace("application/json", "multipart/form-data");
        let head = head.replace("form-data", &format!("form-data; boundary={boundary}"));
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let long = "-".repeat(40 << 10);
    let part = "Content-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n";
    let bodies = [
        ("x", format!("--x\r\n{part}--x--\r\n")),
        ("x", format!("--wrong\r\n{part}--x")),
        ("\"", format!("--\"\r\n{part}")),
        ("", part.to_owned()),
        (&long, format!("--{long}\r\n{part}").repeat(100)),
    ];
    let mut client = gateway.connect();
    for (boundary, body) in &bodies {
        client.send(form(boundary, body).as_bytes());
        let answer = client.answer().expect("an answer on a connection that stays");
        assert_eq!(answer.status(), 400, "{boundary:.9}: {answer:?}");
    }
    let mut endless = gateway.connect();
    endless.send(form(&"-".repeat(10 << 20), J).as_bytes());
    let outcome = endless.finish(&[], PATIENCE);
    assert!(outcome.answers.iter().all(|answer| answer.status() == 431), "{outcome:?}");
    assert_ne!(outcome.end, End::Open);
    assert!(origin.seen().is_empty());
    assert!(gateway.cpu() - before < Duration::from_secs(2), "{:?} of CPU", gateway.cpu() - before);
    client.send(form("x", J).as_bytes());
    assert_eq!(client.answer().expect("an answer").status(), 200, "the bytes decide, not their label");
}

/// K16, short: slow heads, slow bodies and slow readers by the thousand do not hurt who behaves.
#[test]
fn slow_clients_do_not_hurt_others() {
    let (origin, mut gateway) = start("[timeouts]\nhead = \"30s\"\nbody = \"30s\"");
    origin.case("flood", |talk| {
        talk.stream();
        let event = support::sse::content(&"x".repeat(8000));
        for _ in 0..200 {
            if !talk.chunk(&event) {
                return support::origin::Next::Close;
            }
        }
        talk.end()
    });
    let canaries = Canaries::start(&gateway);
    let mut slow = Vec::new();
    for _ in 0..400 {
        let mut head = gateway.connect();
        head.send(g().as_bytes());
        let mut unfinished = gateway.connect();
        unfinished.send(format!("{}Content-Length: 27\r\n\r\n{{", chat_head(K1, "half")).as_bytes());
        slow.extend([head, unfinished]);
    }
    for index in 0..50 {
        let mut reader = Client::connect_narrow(gateway.port);
        let body = r#"{"model":"m","stream":true}"#;
        let head = chat_head(K1, &format!("reader-{index}"));
        reader
            .send(format!("{head}X-Case: flood\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        slow.push(reader);
    }
    let end = Instant::now() + Duration::from_secs(3);
    eventually(Duration::from_secs(3), || {
        for client in slow.iter_mut().take(400) {
            client.send(b"X");
        }
        Instant::now() >= end
    });
    assert_eq!(canaries.finish(), Vec::<String>::new());
    gateway.check_alive();
}

/// A connection beyond the limit is told so, and the others go on.
#[test]
fn connections_beyond_the_limit_are_told() {
    let origin = Origin::start();
    let config = Config::simple(origin.port).shards("connections_max = 4\ncount = 1");
    let gateway = Gateway::start(&config);
    let mut held: Vec<Client> = (0..4).map(|_| gateway.connect()).collect();
    for (index, client) in held.iter_mut().enumerate() {
        client.send(&chat(K1, &format!("held-{index}"), J));
        assert_eq!(client.answer().expect("an answer").status(), 200);
    }
    let mut over = gateway.connect();
    over.send(&chat(K1, "over", J));
    let outcome = over.finish(&[], PATIENCE);
    assert_eq!(outcome.answers.len(), 1, "{outcome:?}");
    assert_eq!(outcome.answers[0].status(), 503, "{outcome:?}");
    assert!(outcome.answers[0].has("retry-after"), "{outcome:?}");
    assert_ne!(outcome.end, End::Open);
    drop(held);
    let again = eventually(PATIENCE, || {
        let mut client = gateway.connect();
        client.send(&chat(K1, "again", J));
        client.answer().is_ok_and(|answer| answer.status() == 200)
    });
    assert!(again, "the room of connections that went is not given again");
}
