//! Clients over TLS: what passes in the clear passes here, and nobody who breaks a handshake costs anybody else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, SupportedProtocolVersion};
use support::client::{Client, End};
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, completion};
use support::sse::{self, Ending};
use support::tls::{Authority, Tunnel, VERSIONS, secured};
use support::{J, PATIENCE, chat, chat_head, eventually, strict};

const ASK: &str = r#"{"model":"m","stream":true}"#;

fn start(change: impl Fn(Config) -> Config) -> (Origin, Gateway, Authority) {
    let (origin, authority) = (Origin::start(), Authority::new());
    let config = secured(change(Config::simple(origin.port)), &authority.certify("localhost"));
    let gateway = Gateway::start(&config);
    (origin, gateway, authority)
}

/// A session whose handshake is done, on a blocking socket. What is written is one record per call, up to 16 KiB.
fn session(gateway: &Gateway, config: Arc<ClientConfig>) -> (ClientConnection, TcpStream) {
    let mut stream = gateway.connect().stream;
    let name = ServerName::try_from("localhost").expect("a name");
    let mut session = ClientConnection::new(config, name).expect("a session");
    session.set_buffer_limit(None);
    while session.is_handshaking() {
        session.complete_io(&mut stream).expect("a handshake");
    }
    (session, stream)
}

/// Reads one answer over a session.
fn answer(session: &mut ClientConnection, stream: &mut TcpStream) -> strict::Message {
    let mut held = Vec::new();
    let mut block = [0; 16 << 10];
    loop {
        if let strict::Step::Done(message, taken) = strict::answer(&held, false, false).expect("an answer") {
            assert_eq!(taken, held.len(), "more than an answer");
            return message;
        }
        let count = rustls::Stream::new(session, stream).read(&mut block).expect("an answer in time");
        assert!(count > 0, "the gateway said goodbye after {}", held.escape_ascii());
        held.extend_from_slice(&block[..count]);
    }
}

#[test]
fn answers_and_streams_pass_in_both_versions() {
    let (origin, gateway, authority) = start(|config| config);
    for version in VERSIONS {
        let tunnel = Tunnel::into_tls(gateway.port, authority.client(version));
        let mut client = Client::connect(tunnel.port);
        support::check_answers_and_streams(&mut client, 3);
        let agreed = tunnel.agreed();
        assert_eq!(agreed.len(), 1, "one connection for all");
        assert_eq!(agreed[0].version, Some(version.version));
        assert_eq!(agreed[0].alpn.as_deref(), Some(&b"http/1.1"[..]));
    }
    assert_eq!(origin.faults(), Vec::<String>::new());
}

/// Two requests in one record, then one in a record per byte.
#[test]
fn records_are_not_messages() {
    let (_origin, gateway, authority) = start(|config| config);
    let (mut session, mut stream) = session(&gateway, authority.client(&TLS13));
    let both = [chat(K1, "one", J), chat(K1, "two", J)].concat();
    rustls::Stream::new(&mut session, &mut stream).write_all(&both).expect("two requests");
    let mut held = Vec::new();
    let mut block = [0; 4096];
    let mut taken = Vec::new();
    while taken.len() < 2 {
        let count =
            rustls::Stream::new(&mut session, &mut stream).read(&mut block).expect("an answer in time");
        held.extend_from_slice(&block[..count]);
        while let Ok(strict::Step::Done(message, length)) = strict::answer(&held, false, false) {
            held.drain(..length);
            taken.push(message.text());
        }
    }
    assert_eq!(taken, [completion("one"), completion("two")]);
    // The end of a full record together with many small ones: more than one record's worth of text in one read.
    let text = "x".repeat((64 << 10) - 1);
    let body = format!(r#"{{"model":"m","messages":"{text}"}}"#);
    let request = chat(K1, "mixed", &body);
    let mut records = Vec::new();
    session.writer().write_all(&request[..16 << 10]).expect("room");
    while session.wants_write() {
        session.write_tls(&mut records).expect("room");
    }
    let first = records.len() - 1;
    for piece in request[16 << 10..].chunks(1 << 10) {
        session.writer().write_all(piece).expect("room");
        while session.wants_write() {
            session.write_tls(&mut records).expect("room");
        }
    }
    stream.write_all(&records[..first]).expect("the gateway takes it");
    std::thread::sleep(Duration::from_millis(50)); // a read of its own; judged the same if it is not
    stream.write_all(&records[first..]).expect("the gateway takes it");
    assert_eq!(answer(&mut session, &mut stream).text(), completion("mixed"));
    for byte in chat(K1, "bytes", J) {
        let mut secured = rustls::Stream::new(&mut session, &mut stream);
        secured.write_all(&[byte]).and_then(|()| secured.flush()).expect("a byte");
    }
    assert_eq!(answer(&mut session, &mut stream).text(), completion("bytes"));
}

/// Text whose every part is different.
fn numbers(bytes: usize) -> String {
    (0..).flat_map(|number: u64| format!("{number} ").into_bytes()).take(bytes).map(char::from).collect()
}

/// Full records, and more of them than fit into one read of the gateway's.
#[test]
fn large_bodies_pass_both_ways() {
    let (origin, gateway, authority) = start(|config| config);
    let large = numbers(3 << 20);
    let large = format!("{{\"text\":\"{large}\"}}");
    let told = large.clone();
    origin.case("large", move |talk| talk.answer("200 OK", "Content-Type: application/json\r\n", &told));
    let body = format!(r#"{{"model":"m","messages":{large}}}"#);
    for version in VERSIONS {
        let (mut session, mut stream) = session(&gateway, authority.client(version));
        let name = format!("{:?}", version.version);
        let head = chat_head(K1, &name);
        let request = format!("{head}X-Case: large\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        session.writer().write_all(request.as_bytes()).expect("room");
        while session.wants_write() {
            session.write_tls(&mut stream).expect("the gateway takes it");
        }
        let whole = answer(&mut session, &mut stream);
        assert!(whole.status() == 200 && whole.text() == large, "{} bytes", whole.body.len());
        let seen = origin.with_nonce(&name);
        assert!(seen.len() == 1 && seen[0].request.body == body.as_bytes(), "{name}");
    }
}

/// A body in chunks over a tunnel, and an answer of 20,000 events.
#[test]
fn long_streams_pass() {
    let (origin, gateway, authority) = start(|config| config);
    origin.case("long", |talk| {
        talk.stream();
        for part in numbers(400_000).as_bytes().chunks(20) {
            if !talk.chunk(sse::content(&String::from_utf8_lossy(part))) {
                return Next::Close;
            }
        }
        talk.chunk(sse::finish() + sse::DONE);
        talk.end()
    });
    let tunnel = Tunnel::into_tls(gateway.port, authority.client(&TLS13));
    let mut client = Client::connect(tunnel.port);
    let head = chat_head(K1, "long");
    client.send(format!("{head}X-Case: long\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes());
    for byte in ASK.chars() {
        client.send(format!("1\r\n{byte}\r\n").as_bytes());
    }
    client.send(b"0\r\n\r\n");
    while !client.buffer.ends_with(b"\r\n0\r\n\r\n") && client.read_some(PATIENCE) {}
    let stream = client.answer().expect("a stream");
    assert_eq!(sse::judge(&stream.text()), (numbers(400_000), Ending::Finished));
}

/// A cut answer ends without a goodbye; a whole one says it.
#[test]
fn only_a_whole_answer_ends_with_a_goodbye() {
    let (origin, gateway, authority) = start(|config| config);
    origin.case("cut", |talk| {
        talk.stream();
        talk.chunk(sse::content("one"));
        let two = sse::content("two");
        talk.chunk(&two[..two.len() / 2]);
        talk.pause(Duration::from_millis(50));
        Next::Reset
    });
    for version in VERSIONS {
        let tunnel = Tunnel::into_tls(gateway.port, authority.client(version));
        let mut client = Client::connect(tunnel.port);
        let head = chat_head(K1, "bye");
        client.send(format!("{head}Connection: close\r\nContent-Length: 27\r\n\r\n{J}").as_bytes());
        let whole = client.finish(&[], PATIENCE);
        assert_eq!((whole.answers.len(), whole.end), (1, End::Fin), "{whole:?}");

        // Only the end of the connection ends this stream.
        let mut client = Client::connect(tunnel.port);
        let head = chat_head(K1, "old").replace("HTTP/1.1", "HTTP/1.0");
        client.send(format!("{head}Content-Length: {}\r\n\r\n{ASK}", ASK.len()).as_bytes());
        let whole = client.finish(&[], PATIENCE);
        assert_eq!((whole.answers.len(), whole.end), (1, End::Fin), "{whole:?}");
        assert_eq!(sse::judge(&whole.answers[0].text()).1, Ending::Finished);

        let mut client = Client::connect(tunnel.port);
        let head = chat_head(K1, "cut");
        let length = ASK.len();
        client.send(format!("{head}X-Case: cut\r\nContent-Length: {length}\r\n\r\n{ASK}").as_bytes());
        let outcome = client.finish(&[], Duration::from_secs(3));
        let stream = outcome.answers.first().or(outcome.cut.as_ref()).expect("a stream");
        match sse::judge(&stream.text()) {
            (text, Ending::Failed(_)) => assert_eq!(text, "one"),
            (text, Ending::Cut) => assert_eq!((text.as_str(), outcome.end), ("one", End::Reset)),
            other => panic!("a cut stream looks finished: {other:?}"),
        }
    }
}

/// A client that leaves stops the backend's work, whether it says goodbye or not.
#[test]
fn a_client_that_leaves_is_noticed() {
    let (origin, gateway, authority) = start(|config| config);
    for (case, goodbye) in [("goodbye", true), ("reset", false)] {
        let gone = Arc::new(AtomicBool::new(false));
        let noticed = Arc::clone(&gone);
        origin.case(case, move |talk| {
            talk.stream();
            talk.chunk(sse::content("one"));
            noticed.store(talk.gone(PATIENCE), Ordering::SeqCst);
            Next::Close
        });
        let tunnel = Tunnel::into_tls(gateway.port, authority.client(&TLS13));
        let mut client = Client::connect(tunnel.port);
        let head = chat_head(K1, case);
        client.send(format!("{head}X-Case: {case}\r\nContent-Length: {}\r\n\r\n{ASK}", ASK.len()).as_bytes());
        client.read_until("one");
        if goodbye {
            client.half_close()
        } else {
            client.reset()
        }
        assert!(eventually(PATIENCE, || gone.load(Ordering::SeqCst)), "{case}: the backend still works");
    }
}

/// The tickets of one shard are good on all.
#[test]
fn sessions_are_resumed() {
    let (_origin, gateway, authority) = start(|config| config.shards("count = 2"));
    for version in VERSIONS {
        let tunnel = Tunnel::into_tls(gateway.port, authority.client(version));
        for turn in 0..8 {
            let mut client = Client::connect(tunnel.port);
            client.send(&chat(K1, &format!("turn-{turn}"), J));
            assert_eq!(client.answer().expect("an answer").status(), 200);
        }
        let resumed: Vec<bool> = tunnel.agreed().iter().map(|agreed| agreed.resumed).collect();
        assert_eq!(resumed, [false, true, true, true, true, true, true, true], "{:?}", version.version);
    }
}

/// The first record of a handshake.
fn hello(authority: &Authority, version: &'static SupportedProtocolVersion) -> Vec<u8> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut session = ClientConnection::new(authority.client(version), name).expect("a session");
    let mut record = Vec::new();
    session.write_tls(&mut record).expect("a hello");
    record
}

/// The alert that says goodbye, in the clear.
const CLOSE_NOTIFY: &[u8] = &[0x15, 3, 3, 0, 2, 1, 0];

/// K08 and what is near to it. One shard: a loop that spins would leave nobody to answer.
#[test]
fn broken_handshakes_end() {
    let (origin, mut gateway, authority) = start(|config| config.shards("count = 1"));
    let [old, hello] = VERSIONS.map(|version| hello(&authority, version));
    let crumbs: Vec<u8> = hello[5..].iter().flat_map(|byte| [0x16, 3, 1, 0, 1, *byte]).collect();
    let more = vec![0x17; 12 << 10];
    let cases = [
        ("nothing", vec![]),
        ("half a hello", hello[..hello.len() / 2].to_vec()),
        ("a hello and silence", hello.clone()),
        ("a byte per record", crumbs),
        ("empty records", [0x16, 3, 1, 0, 0].repeat(4000)),
        ("empty records after a hello", [&hello[..], &[0x16, 3, 3, 0, 0].repeat(4000)].concat()),
        ("empty data", [&hello[..], &[0x17, 3, 3, 0, 0].repeat(4000)].concat()),
        ("a goodbye first", CLOSE_NOTIFY.to_vec()),
        ("a goodbye after the hello", [&hello, CLOSE_NOTIFY].concat()),
        ("a goodbye and more", [&hello, CLOSE_NOTIFY, &more].concat()),
        ("a hundred goodbyes", [&hello[..], &CLOSE_NOTIFY.repeat(100)].concat()),
        // In TLS 1.2 the clear is still spoken after the hello.
        ("an old goodbye", [&old, CLOSE_NOTIFY].concat()),
        ("an old goodbye and more", [&old, CLOSE_NOTIFY, &more].concat()),
        ("two hellos", [&hello[..], &hello].concat()),
        ("a record too long", [&[0x16, 3, 1, 0xff, 0xff], &more[..]].concat()),
        ("noise", more.clone()),
    ];
    let before = gateway.cpu();
    let started = Instant::now();
    let mut clients: Vec<(&str, Client)> = Vec::new();
    for (name, bytes) in &cases {
        let mut client = gateway.connect();
        client.send(bytes);
        clients.push((name, client));
    }
    // More after the goodbye, in a read of its own.
    let mut late = gateway.connect();
    late.send(&[&old, CLOSE_NOTIFY].concat());
    std::thread::sleep(Duration::from_millis(50));
    late.send(&more);
    clients.push(("more later", late));
    for (name, client) in &mut clients {
        assert_ne!(client.drain(PATIENCE), End::Open, "{name}");
        assert!(!client.buffer.starts_with(b"HTTP/"), "{name}: {}", client.buffer.escape_ascii());
    }
    // The deadline is 5 s; the rest is for a busy machine.
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    assert!(gateway.cpu() - before < Duration::from_secs(1), "{:?} of CPU", gateway.cpu() - before);
    assert!(origin.seen().is_empty());
    let failures = gateway.metric("ringway_tls_failures_total", "");
    assert!(failures >= clients.len() as f64 - 1.0, "{failures} failures counted");
    let (mut session, mut stream) = session(&gateway, authority.client(&TLS13));
    rustls::Stream::new(&mut session, &mut stream).write_all(&chat(K1, "after", J)).expect("a request");
    assert_eq!(answer(&mut session, &mut stream).status(), 200);
    gateway.check_alive();
}

/// A hello in records of one byte is a hello.
#[test]
fn a_hello_may_come_in_crumbs() {
    let (_origin, gateway, authority) = start(|config| config);
    let name = ServerName::try_from("localhost").expect("a name");
    let mut session = ClientConnection::new(authority.client(&TLS13), name).expect("a session");
    let mut record = Vec::new();
    session.write_tls(&mut record).expect("a hello");
    let mut stream = gateway.connect().stream;
    for byte in &record[5..] {
        stream.write_all(&[0x16, 3, 1, 0, 1, *byte]).expect("a crumb");
    }
    while session.is_handshaking() {
        session.complete_io(&mut stream).expect("a handshake");
    }
    rustls::Stream::new(&mut session, &mut stream).write_all(&chat(K1, "crumbs", J)).expect("a request");
    assert_eq!(answer(&mut session, &mut stream).status(), 200);
}

/// What follows a goodbye is ignored, however much it is.
#[test]
fn bytes_after_a_goodbye_are_ignored() {
    let (origin, mut gateway, authority) = start(|config| config.shards("count = 1"));
    let before = gateway.cpu();
    for (version, request) in VERSIONS.into_iter().flat_map(|version| [(version, true), (version, false)]) {
        let (mut session, mut stream) = session(&gateway, authority.client(version));
        if request {
            session.writer().write_all(&chat(K1, "bye", J)).expect("room");
        }
        session.send_close_notify();
        let mut bytes = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut bytes).expect("room");
        }
        bytes.resize(bytes.len() + (12 << 10), 0x17);
        stream.write_all(&bytes).expect("the gateway takes it");
        let mut client = Client::connect(gateway.port);
        client.stream = stream;
        assert_ne!(client.drain(PATIENCE), End::Open);
    }
    let (mut session, mut stream) = session(&gateway, authority.client(&TLS13));
    rustls::Stream::new(&mut session, &mut stream).write_all(&chat(K1, "after", J)).expect("a request");
    assert_eq!(answer(&mut session, &mut stream).status(), 200);
    assert!(gateway.cpu() - before < Duration::from_secs(1), "{:?} of CPU", gateway.cpu() - before);
    assert!(origin.seen().len() <= 3, "{:?}", origin.seen());
    gateway.check_alive();
}

/// K09: plaintext on the TLS port is no handshake.
#[test]
fn plaintext_on_the_tls_port_is_not_answered() {
    let (origin, mut gateway, _) = start(|config| config);
    for bytes in [chat(K1, "plain", J), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), b"\r\n".repeat(4000)] {
        let mut client = gateway.connect();
        client.send(&bytes);
        assert_ne!(client.drain(PATIENCE), End::Open);
        assert!(!client.buffer.starts_with(b"HTTP/"), "{}", client.buffer.escape_ascii());
    }
    assert!(origin.seen().is_empty());
    gateway.check_alive();
}
