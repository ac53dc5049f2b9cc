//! Content-Length: one canonical number, or a refusal.

use support::gateway::{Config, Gateway, K1, K2};
use support::origin::Origin;
use support::table::{Row, cat, g, p, refused, run, served};
use support::{J, PATIENCE};

/// `P`, these lines, a blank line and the usual body.
fn with(id: &str, lines: &[u8]) -> Row {
    refused(id, cat(&[p().as_bytes(), lines, b"\r\n\r\n", J.as_bytes()]))
}

fn length(id: &str, value: &[u8]) -> Row {
    with(&format!("{id} {}", value.escape_ascii()), &cat(&[b"Content-Length: ", value]))
}

#[test]
fn content_length() {
    let mut rows = vec![
        served("D00", cat(&[p().as_bytes(), b"Content-Length: 27\r\n\r\n", J.as_bytes()])),
        with("D01", b"Content-Length: 5\r\nContent-Length: 10"),
        with("D02", b"Content-Length: 27\r\nContent-Length: 27"),
        with("D11", b"Content-Length:"),
        with("D11 blank", b"Content-Length: "),
        with("D12", b"Content-Length: \r\nContent-Length: 27"),
        with("D18", b"Content_Length: 27"),
    ];
    for value in [
        &b"5, 5"[..],
        b"5, 5, 5",
        b"5, 10",
        b"27, 27",
        b"+5",
        b"+27",
        b"-1",
        b"-0",
        b"-48",
        b"0x5",
        b"0o5",
        b"1_0",
        b"1 0",
        b"5 5",
        b"5.0",
        b"5e0",
        b"5Z",
        b",",
        b",5",
        b"5,",
        b"005",
        b"00",
        b"0200",
        b"027",
        b"18446744073709551616",
        b"99999999999999999999",
        b"\xef\xbc\x95",
        b"27\x0b",
        b"27;",
        b"\"27\"",
    ] {
        rows.push(length("D03-D17", value));
    }
    let huge = cat(&[p().as_bytes(), b"Content-Length: 9223372036854775807\r\n\r\n"]);
    rows.push(refused("D16", huge).status(413));
    let stray = cat(&[p().as_bytes(), b"Content-Length: 27\r\n\r\n", J.as_bytes(), b"X"]);
    // One byte is not a bad request yet: what follows makes it one. FIN after it ends the connection.
    rows.push(served("D20", cat(&[&stray, b"\r\n\r\n"])).then(&[400]).closes());
    let none = cat(&[p().as_bytes(), b"Content-Length: 0\r\n\r\n", g().as_bytes(), b"\r\n"]);
    rows.push(refused("D23", none).then(&[200]).stays());
    run("http_length", &rows);
}

/// D21, D22: a body on a method that has none is read or refused, never taken for a request.
#[test]
fn bodies_without_a_meaning_are_not_requests() {
    let inner = "GET /admin/keys HTTP/1.1\r\nHost: gw.test\r\n\r\n";
    let mut rows = Vec::new();
    for method in ["GET", "HEAD", "OPTIONS"] {
        let head = g().replacen("GET", method, 1);
        let bytes = format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
        let row = refused(&format!("D21 {method}"), bytes).or(200).or(204).or(405).or(501).or(404);
        rows.push(row.heads(&[method == "HEAD"]));
    }
    run("http_length: bodies without a meaning", &rows);
}

/// D19: a body that ends early never becomes a request.
#[test]
fn a_short_body_is_no_request() {
    let row = served("D19", cat(&[p().as_bytes(), b"Content-Length: 27\r\n\r\n", &J.as_bytes()[..10]]));
    let row = row.status(400).or(408).or_silence().origin(0, b"").fin();
    run("http_length: short body", &[row]);
}

/// D23: bytes after an empty body are a request of their own, with a credential of its own.
#[test]
fn bytes_after_an_empty_body_are_authorised_by_themselves() {
    let origin = Origin::start();
    let gateway = Gateway::start(&Config::simple(origin.port));
    let mut client = gateway.connect();
    let models = "GET /v1/models HTTP/1.1\r\nHost: gw.test\r\n\r\n";
    client.send(format!("{}Content-Length: 0\r\n\r\n{models}", p()).as_bytes());
    assert_eq!(client.answer().expect("an answer").status(), 400);
    assert_eq!(client.answer().expect("an answer").status(), 401);
    assert!(origin.seen().is_empty());
}

/// M04: one connection, two tenants in turn: each request is judged by its own key.
#[test]
fn a_connection_has_no_identity() {
    let origin = Origin::start();
    let config = Config::new()
        .backend("b1", origin.port, "health = { enabled = false }")
        .model("m", &["b1"], "")
        .model("other", &["b1"], "")
        .key("one", K1, "models = [\"m\"]")
        .key("two", K2, "models = [\"other\"]");
    let gateway = Gateway::start(&config);
    let mut client = gateway.connect();
    for turn in 0..200 {
        let (key, status) = if turn % 2 == 0 { (K1, 200) } else { (K2, 403) };
        client.send(&support::chat(key, &format!("turn-{turn}"), J));
        let answer = client.answer_to(false, PATIENCE).expect("an answer");
        assert_eq!(answer.status(), status, "turn {turn}: {answer:?}");
    }
    assert_eq!(origin.seen().len(), 100);
}
