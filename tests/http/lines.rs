//! Line structure of requests: what is not exactly HTTP/1.1 is refused, however it is cut.

use support::table::{Row, answered, cat, g, p, refused, run, served};
use support::{J, gateway::Gateway};

fn after_g(id: &str, tail: &[u8]) -> Row {
    refused(id, cat(&[g().as_bytes(), tail]))
}

fn after_p(id: &str, tail: &[u8]) -> Row {
    refused(id, cat(&[p().as_bytes(), tail]))
}

#[test]
fn line_structure() {
    let framed = format!("Content-Length: 27\r\n\r\n{J}");
    let g_end = b"\r\n";
    let mut rows = vec![
        refused("A01", "GET /v1/models HTTP/1.1\nHost: gw.test\n\n"),
        after_g("A02", b"X: y\n\r\n"),
        after_g("A03", b"\n"),
        after_g("A04", b"X: a\rb\r\n\r\n"),
        refused("A05", "GET /v1/models HTTP/1.1\rHost: gw.test\r\n\r\n"),
        after_g("A06", b"\rZGET /evil HTTP/1.1\r\nHost: gw.test\r\n\r\n"),
        after_g("A07", b"X: a\r\n b\r\n\r\n"),
        after_p("A08", b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        refused("A09", "GET /v1/models HTTP/1.1\r\n Host: gw.test\r\n\r\n"),
        refused("A10", "GET /v1/models HTTP/1.1\r\nHost : gw.test\r\n\r\n"),
        after_p("A11", &cat(&[b"Content-Length\t: 27\r\n\r\n", J.as_bytes()])),
        answered("A12", cat(&[b"\r\n", g().as_bytes(), g_end])),
        after_g("A14", b"X: a\x00b\r\n\r\n"),
        after_g("A15", b"X\x00: a\r\n\r\n"),
        refused("A16", "GET /v1/\x00models HTTP/1.1\r\nHost: gw.test\r\n\r\n"),
        after_g("A19", b"NoColonHere\r\n\r\n"),
        after_g("A20", b": x\r\n\r\n"),
        after_g("A21 bracket", b"Bad[Name: x\r\n\r\n"),
        after_g("A21 letter", b"\xc3\xabX: y\r\n\r\n"),
        after_p("A22", b"Transfer-\r\nEncoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        answered("A23 local", cat(&[g().as_bytes(), b"X: 1\r\nX: 2\r\n\r\n"])),
        served("A23", cat(&[p().as_bytes(), b"X: 1\r\nX: 2\r\n", framed.as_bytes()])),
        answered("A24", cat(&[g().as_bytes(), b"X: \xff\xfe\r\n\r\n"])),
    ];
    for byte in [0x01_u8, 0x0b, 0x0c, 0x7f] {
        rows.push(after_g(
            &format!("A17 {byte:#04x}"),
            &[b'X', b':', b' ', byte, b'\r', b'\n', b'\r', b'\n'],
        ));
    }
    for (name, coding) in [
        ("no-break space", &b"\xa0chunked"[..]),
        ("next line", b"\x85chunked"),
        ("trailing ff", b"chunked\xff"),
    ] {
        let tail = cat(&[b"Transfer-Encoding: ", coding, b"\r\n\r\n0\r\n\r\n"]);
        rows.push(after_p(&format!("A18 {name}"), &tail).or(501));
    }
    run("http_lines", &rows);
}

#[test]
fn equal_names_keep_their_order_and_opaque_bytes_pass() {
    let origin = support::origin::Origin::start();
    let gateway = Gateway::start(&support::gateway::Config::simple(origin.port));
    let mut client = gateway.connect();
    let head = support::chat_head(support::gateway::K1, "order");
    client.send(&cat(&[
        head.as_bytes(),
        b"X: 1\r\nY: \xff\xfe\r\nX: 2\r\nContent-Length: 27\r\n\r\n",
        J.as_bytes(),
    ]));
    assert_eq!(client.answer().expect("an answer").status(), 200);
    let seen = origin.with_nonce("order");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].request.all("x"), [&b"1"[..], b"2"]);
    assert_eq!(seen[0].request.all("y"), [&b"\xff\xfe"[..]]);
}

/// A13: blank lines for ever are not a request; they end at the head's limit at the latest.
#[test]
fn blank_lines_for_ever_are_bounded() {
    let origin = support::origin::Origin::start();
    let config = support::gateway::Config::simple(origin.port).tables("[timeouts]\nhead = \"2s\"");
    let gateway = Gateway::start(&config);
    let mut client = gateway.connect();
    let most = support::sockets_hold() + (4 << 20);
    let mut sent = 0;
    while sent < most && client.send(&b"\r\n".repeat(4096)) {
        sent += 8192;
    }
    assert!(sent < most, "{sent} bytes of blank lines were taken");
    client.drain(support::PATIENCE);
    assert!(origin.seen().is_empty());
    drop(client);
    // And at the head's deadline if they come slowly.
    let mut slow = gateway.connect();
    let end = std::time::Instant::now() + support::PATIENCE;
    while slow.send(b"\r\n") && slow.end() == support::client::End::Open && std::time::Instant::now() < end {
        slow.read_some(std::time::Duration::from_millis(50));
    }
    assert_ne!(slow.end(), support::client::End::Open, "slow blank lines hold a connection for ever");
}

/// A25: noise never gets further than a refusal, and nobody else notices.
#[test]
fn noise_is_refused() {
    let origin = support::origin::Origin::start();
    let mut gateway = Gateway::start(&support::gateway::Config::simple(origin.port));
    let canaries = support::canary::Canaries::start(&gateway);
    for seed in 1_u64..=300 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(64 << 10)
        .collect();
        let mut client = gateway.connect();
        client.send(&noise);
        client.half_close();
        let outcome = client.finish(&[], support::PATIENCE);
        assert_ne!(outcome.end, support::client::End::Open, "seed {seed}");
        assert!(outcome.answers.iter().all(|answer| answer.status() >= 400), "seed {seed}: {outcome:?}");
    }
    assert_eq!(canaries.finish(), Vec::<String>::new());
    assert_eq!(origin.faults(), Vec::<String>::new());
    gateway.check_alive();
}
