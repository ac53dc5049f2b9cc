//! Who the client is behind proxies: forwarded addresses and PROXY headers, believed from listed proxies only.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use support::client::{Client, End};
use support::gateway::{Config, Gateway, K1, free_port};
use support::origin::Origin;
use support::tls::{Authority, secured};
use support::{J, PATIENCE, chat_head, eventually};

const LOG: &str = "[access_log]\npath = \"stdout\"";

/// A chat request with that nonce and more header lines.
fn request(key: &str, nonce: &str, lines: &str) -> Vec<u8> {
    format!("{}{lines}Content-Length: 27\r\n\r\n{J}", chat_head(key, nonce)).into_bytes()
}

/// The clients of all log lines, in order.
fn clients(gateway: &Gateway) -> Vec<String> {
    let lines = gateway.said();
    let lines = lines.lines().filter(|line| line.starts_with('{'));
    let parsed = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    parsed.map(|line| line["client"].as_str().unwrap_or("null").to_owned()).collect()
}

fn check_clients(gateway: &Gateway, expected: &[&str]) {
    let all_there = eventually(PATIENCE, || clients(gateway).len() >= expected.len());
    assert!(all_there, "{:?}", clients(gateway));
    assert_eq!(clients(gateway), expected);
}

const CASES: [(&str, &str); 6] = [
    ("X-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9"),
    ("X-Forwarded-For: 1.1.1.1, 203.0.113.9\r\n", "203.0.113.9"),
    ("X-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 2001:db8::7, 127.0.0.1\r\n", "2001:db8::7"),
    ("X-Forwarded-For: 203.0.113.9:5000, 10.1.2.3\r\n", "203.0.113.9"),
    ("X-Forwarded-For: 203.0.113.9, unknown\r\n", "127.0.0.1"),
    ("X-Real-IP: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\n", "127.0.0.1"),
];

#[test]
fn a_trusted_proxy_names_its_client() {
    let origin = Origin::start();
    let trusted = "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]";
    let gateway = Gateway::start(&Config::simple(origin.port).top(trusted).tables(LOG));
    let mut client = gateway.connect();
    for (lines, _) in CASES {
        client.send(&request(K1, "x", lines));
        assert_eq!(client.answer().expect("a response").status(), 200);
    }
    check_clients(&gateway, &CASES.map(|(_, client)| client));
    assert!(origin.seen().iter().all(|seen| !seen.request.has("x-forwarded-for")));
}

#[test]
fn nobody_else_is_believed() {
    let origin = Origin::start();
    for top in ["", "trusted_proxies = [\"10.0.0.0/8\", \"127.0.0.2\"]"] {
        let gateway = Gateway::start(&Config::simple(origin.port).top(top).tables(LOG));
        let mut client = gateway.connect();
        for (lines, _) in CASES {
            client.send(&request(K1, "x", lines));
            assert_eq!(client.answer().expect("a response").status(), 200);
        }
        check_clients(&gateway, &["127.0.0.1"; CASES.len()]);
    }
}

/// One client with wrong keys does not use up the patience with another behind the same proxy.
#[test]
fn wrong_keys_are_counted_by_the_real_address() {
    let origin = Origin::start();
    let config = Config::simple(origin.port).top("trusted_proxies = [\"127.0.0.1\"]").shards("count = 1");
    let gateway = Gateway::start(&config.tables("[limits]\nauth_failures_per_minute = 1"));
    let ask = |address: &str| {
        let mut client = gateway.connect();
        client.send(&request("wrong", "x", &format!("X-Forwarded-For: {address}\r\n")));
        client.answer().expect("a response").status()
    };
    assert_eq!(
        [ask("203.0.113.1"), ask("203.0.113.1"), ask("203.0.113.2"), ask("203.0.113.2")],
        [401, 429, 401, 429]
    );
}

fn proxied(origin: &Origin, trusted: &str) -> Gateway {
    let port = support::gateway::free_port();
    let config = Config::simple(origin.port).top(&format!("trusted_proxies = [\"{trusted}\"]")).tables(LOG);
    let mut gateway = Gateway::start(
        &config.listener(&format!("{{ address = \"127.0.0.1:{port}\", proxy_protocol = true }}")),
    );
    gateway.port = port;
    gateway
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([command, family]);
    bytes.extend((rest.len() as u16).to_be_bytes());
    bytes.extend(rest);
    bytes
}

const FOUR: [u8; 12] = [203, 0, 113, 9, 10, 0, 0, 1, 0xdc, 4, 1, 0xbb];

#[test]
fn a_proxy_header_names_the_client() {
    let origin = Origin::start();
    let gateway = proxied(&origin, "127.0.0.1");
    let headers: [(Vec<u8>, &str); 6] = [
        (b"PROXY TCP4 203.0.113.9 10.0.0.1 56324 443\r\n".to_vec(), "203.0.113.9"),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 1 2\r\n".to_vec(), "2001:db8::9"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(0x21, 0x11, &FOUR), "203.0.113.9"),
        (v2(0x21, 0x11, &[&FOUR[..], &[0xea; 1000]].concat()), "203.0.113.9"),
        (v2(0x20, 0, b""), "127.0.0.1"),
    ];
    let mut expected = Vec::new();
    for &(ref header, address) in &headers {
        // In one piece with the request, byte by byte, and with a second request on the same connection.
        let mut client = gateway.connect();
        client.send(&[&header[..], &request(K1, "x", "")].concat());
        assert_eq!(client.answer().expect("a response").status(), 200);
        client.send(&request(K1, "x", "X-Forwarded-For: 1.1.1.1\r\n"));
        assert_eq!(client.answer().expect("a response").status(), 200);
        let second = if address == "127.0.0.1" { "1.1.1.1" } else { address };
        expected.extend([address, second]);
        if header.len() < 100 {
            let mut client = gateway.connect();
            assert!(client.send_bytewise(header));
            client.send(&request(K1, "x", ""));
            assert_eq!(client.answer().expect("a response").status(), 200);
            expected.push(address);
        }
        assert!(
            eventually(PATIENCE, || clients(&gateway).len() == expected.len()),
            "{:?}",
            clients(&gateway)
        );
    }
    // Each shard writes in its own order.
    let mut logged = clients(&gateway);
    logged.sort();
    expected.sort_unstable();
    assert_eq!(logged, expected);
}

#[test]
fn without_a_header_that_holds_the_connection_ends() {
    let origin = Origin::start();
    let gateway = proxied(&origin, "127.0.0.1");
    let fronts = [
        b"".to_vec(),
        b"PROXY TCP4 203.0.113.9 10.0.0.1 99999 443\r\n".to_vec(),
        b"PROXY TCP4 evil 10.0.0.1 1 443\r\n".to_vec(),
        format!("PROXY UNKNOWN {}\r\n", "x".repeat(200)).into_bytes(),
        v2(0x31, 0x11, &FOUR),
        v2(0x21, 0x11, &FOUR[..8]),
        v2(0x21, 0x11, &[0; 60_000]),
    ];
    for (index, front) in fronts.iter().enumerate() {
        let mut client = gateway.connect();
        client.send(&[&front[..], &request(K1, "x", "")].concat());
        assert_ne!(client.drain(PATIENCE), End::Open, "{index}");
        assert!(client.buffer.is_empty(), "{index}: {}", client.buffer.escape_ascii());
    }
    // One that is only begun is given up.
    let mut client = gateway.connect();
    client.send(b"PROXY TCP4 ");
    assert_ne!(client.drain(Duration::from_secs(10)), End::Open);
    drop(Client::connect(gateway.port)); // a balancer that looks whether the port is open
    let count = fronts.len() as f64 + 2.0;
    assert!(eventually(PATIENCE, || gateway.metric("ringway_proxy_headers_refused_total", "") >= count));
    assert!(origin.seen().is_empty() && clients(&gateway).is_empty());
}

#[test]
fn a_proxy_header_from_elsewhere_is_not_read() {
    let origin = Origin::start();
    let gateway = proxied(&origin, "10.0.0.0/8");
    let mut client = gateway.connect();
    client.send(&[&b"PROXY TCP4 203.0.113.9 10.0.0.1 56324 443\r\n"[..], &request(K1, "x", "")].concat());
    assert_ne!(client.drain(PATIENCE), End::Open);
    assert!(client.buffer.is_empty() && origin.seen().is_empty());
    assert!(eventually(PATIENCE, || gateway.metric("ringway_proxy_headers_refused_total", "") == 1.0));
}

/// A balancer that passes TLS through puts its header before the handshake, in the clear.
#[test]
fn a_proxy_header_comes_before_tls() {
    let (authority, origin, port) = (Authority::new(), Origin::start(), free_port());
    let config = Config::simple(origin.port)
        .top("trusted_proxies = [\"127.0.0.1\"]")
        .tables(LOG)
        .listener(&format!("{{ address = \"127.0.0.1:{port}\", proxy_protocol = true }}"));
    let gateway = Gateway::start(&secured(config, &authority.certify("localhost")));
    let mut expected = Vec::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (header, address) in [
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 56324 443\r\n".to_vec(), "203.0.113.9"),
            (v2(0x21, 0x11, &FOUR), "203.0.113.9"),
            (v2(0x20, 0, b""), "127.0.0.1"),
        ] {
            let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it accepts");
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            socket.write_all(&header).expect("sent");
            let name = "localhost".try_into().expect("a name");
            let session = rustls::ClientConnection::new(authority.client(version), name).expect("a session");
            let mut tls = rustls::StreamOwned::new(session, socket);
            tls.write_all(&request(K1, "x", "Connection: close\r\n")).expect("sent");
            let mut text = Vec::new();
            let _ = tls.read_to_end(&mut text);
            assert!(text.starts_with(b"HTTP/1.1 200"), "{version:?}: {}", text.escape_ascii());
            expected.push(address);
        }
    }
    // Without one, and with one behind the first byte of a handshake.
    for front in [&b""[..], b"\x16\x03\x01"] {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it accepts");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00";
        let _ = socket.write_all(&[front, hello].concat());
        let mut text = Vec::new();
        let _ = socket.read_to_end(&mut text);
        assert!(text.is_empty(), "{}", text.escape_ascii());
    }
    assert!(eventually(PATIENCE, || clients(&gateway).len() == expected.len()), "{:?}", clients(&gateway));
    let mut logged = clients(&gateway);
    logged.sort();
    expected.sort_unstable();
    assert_eq!(logged, expected);
}
