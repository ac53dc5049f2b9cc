//! Bodies in chunks: the grammar of RFC 9112 section 7.1 and nothing beside it.

use std::time::Duration;

use support::gateway::{Config, Gateway, K1, K2};
use support::origin::Origin;
use support::table::{Row, cat, p, refused, run, served, t};
use support::{J, PATIENCE};

fn after_t(id: &str, bytes: &[u8]) -> Row {
    refused(id, cat(&[t().as_bytes(), bytes]))
}

fn good(id: &str, bytes: &[u8]) -> Row {
    served(id, cat(&[t().as_bytes(), bytes]))
}

/// `J` as one chunk with this size line.
fn sized(size: &[u8]) -> Vec<u8> {
    cat(&[size, b"\r\n", J.as_bytes(), b"\r\n0\r\n\r\n"])
}

#[test]
fn chunks() {
    let ones: Vec<u8> = J.bytes().flat_map(|byte| [b'1', b'\r', b'\n', byte, b'\r', b'\n']).collect();
    let mut rows = vec![
        good("U01", &sized(b"1b")),
        good("U02 upper", &sized(b"1B")),
        good("U02 zeros", &sized(b"001B")),
        good("U02 ones", &cat(&[&ones, b"0\r\n\r\n"])).cuts(120),
        after_t("U03", b"\r\n\r\n"),
        after_t("U04", b";a=b\r\n\r\n"),
        after_t("U08", &cat(&[b"1b\n", J.as_bytes(), b"\r\n0\r\n\r\n"])),
        after_t("U09", b"5;a\nhello\r\n0\r\n\r\n"),
        after_t("U10 ext", b"5;a\rX\r\nhello\r\n0\r\n\r\n"),
        after_t("U10 size", b"2\r\r;a\r\nhe\r\n0\r\n\r\n"),
        after_t("U11", b"5\rXhello\r\n0\r\n\r\n"),
        after_t("U12", b"5;\x00e\r\nhello\r\n0\r\n\r\n"),
        after_t("U13 empty", &sized(b"1b;")),
        after_t("U13 bracket", &sized(b"1b;bad[=x")),
        good("U14", &cat(&[b"1b;a=b\r\n", J.as_bytes(), b"\r\n0;c\r\n\r\n"])),
        after_t("U15", b"5;a=\"\r\nhello\r\n0\r\n\r\n"),
        after_t("U18", b"5\r\nhello0\r\n\r\n"),
        after_t("U19", b"5\r\nhello!!\r\n0\r\n\r\n"),
        after_t("U20 LF", b"5\r\nhello\n0\r\n\r\n"),
        after_t("U20 XX", b"5\r\nhelloXX0\r\n\r\n"),
        after_t("U21", b"0\r\n\n"),
        after_t("U22", b"5\r\nhello\r\n\r\n0\r\n\r\n"),
        good("U24", &cat(&[&sized(b"1b"), b"\x00"])).then(&[400]).closes(),
        good("U26 then nothing", &cat(&[b"1b\r\n", J.as_bytes(), b"\r\n0\r\nX:POST / HTTP/1.1\r\n\r\n"])),
        after_t("U29 fold", b"0\r\nX: a\r\n b\r\n\r\n"),
        after_t("U29 LF", b"0\r\nX: a\n\r\n"),
        after_t("U29 no colon", b"0\r\nXa\r\n\r\n"),
    ];
    for (name, size) in [("lead", &b" 1b"[..]), ("trail", b"1b "), ("tab", b"1b\t")] {
        rows.push(after_t(&format!("U05 {name}"), &sized(size)));
    }
    for size in ["0x1b", "+1b", "-1", "1_b", "1bh", "0_2e"] {
        rows.push(after_t(&format!("U06 {size}"), &sized(size.as_bytes())));
    }
    for size in ["FFFFFFFFFFFFFFFF", "10000000000000000", "7FFFFFFFFFFFFFFF"] {
        rows.push(after_t(&format!("U07 {size}"), &sized(size.as_bytes())).or(413));
    }
    let zeros = cat(&["0".repeat(1000).as_bytes(), b"5\r\nhello\r\n0\r\n\r\n"]);
    rows.push(after_t("U07 zeros", &zeros).or(413).cuts(60));
    for trailer in [
        "Content-Length: 50",
        "Transfer-Encoding: chunked",
        "Host: evil",
        &format!("Authorization: Bearer {K2}"),
        "Content-Type: text/x",
    ] {
        let body = format!("1b\r\n{J}\r\n0\r\n{trailer}\r\n\r\n");
        rows.push(good(&format!("U28 {trailer}"), body.as_bytes()).cuts(100));
    }
    run("http_chunked", &rows);
}

/// U16, U17, U27: overhead of chunks and trailers is bounded.
#[test]
fn overhead_is_bounded() {
    let trailers = "X: y\r\n".repeat(10_000);
    let amplified = format!("1;{}=b\r\n{{\r\n", "a".repeat(1024)).repeat(10_000);
    let big = |id, bytes: &[u8]| after_t(id, bytes).or(413).or(431).cuts(4);
    let rows = [
        big("U16", format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(64 << 10)).as_bytes()),
        big("U27 many", format!("0\r\n{trailers}\r\n").as_bytes()),
        big("U27 long", format!("0\r\nX: {}\r\n\r\n", "a".repeat(100 << 10)).as_bytes()),
        big("U17", amplified.as_bytes()),
    ];
    // A client that is still writing megabytes may see a reset; the rows here end small enough not to.
    run("http_chunked: overhead", &rows[..3]);
    let origin = Origin::start();
    let mut gateway = Gateway::start(&Config::simple(origin.port));
    let mut client = gateway.connect();
    client.send(&rows[3].bytes_for_test());
    let end = client.drain(PATIENCE);
    assert_ne!(end, support::client::End::Open, "10 MiB of extensions were taken");
    assert!(origin.seen().is_empty());
    assert!(gateway.cpu() < Duration::from_secs(3), "{:?} of CPU", gateway.cpu());
    gateway.check_alive();
}

/// U23: a body in chunks that ends early never becomes a request.
#[test]
fn a_cut_body_is_no_request() {
    let row = after_t("U23", b"5\r\nhello\r\n").or(408).or_silence().fin();
    run("http_chunked: cut", &[row]);
}

/// U25: a body that turns bad after a mebibyte is not repaired, and the backend never sees it end.
#[test]
fn a_late_fault_reaches_nobody_as_a_request() {
    let origin = Origin::start();
    let config = Config::simple(origin.port).tables("[limits]\nbody_buffer = \"64KiB\"");
    let mut gateway = Gateway::start(&config);
    let mut client = gateway.connect();
    client.send(format!("{}Transfer-Encoding: chunked\r\n\r\n", p()).as_bytes());
    client.send(b"c\r\n{\"model\":\"m\"\r\n");
    for _ in 0..64 {
        client.send(format!("4000\r\n{}\r\n", " ".repeat(16 << 10)).as_bytes());
    }
    client.send(b"ZZ\r\n");
    let outcome = client.finish(&[], PATIENCE);
    assert_eq!(outcome.answers.len(), 1, "{outcome:?}");
    assert_eq!(outcome.answers[0].status(), 400, "{outcome:?}");
    assert!(origin.seen().is_empty(), "the origin saw a whole request");
    for line in origin.lines() {
        assert!(
            !line.bytes.lock().expect("not poisoned").ends_with(b"0\r\n\r\n"),
            "a last chunk was invented"
        );
    }
    gateway.check_alive();
}

/// N05 and U28: what reaches the backend has one length, our Host, and the tenant's key nowhere.
#[test]
fn what_the_backend_sees() {
    let origin = Origin::start();
    let gateway = Gateway::start(&Config::simple(origin.port));
    let mut client = gateway.connect();
    let bytes = cat(&[
        support::chat_head(K1, "plain").as_bytes(),
        b"Transfer-Encoding: chunked\r\n\r\n",
        format!("1b\r\n{J}\r\n0\r\nHost: evil\r\nX-Late: 1\r\n\r\n").as_bytes(),
    ]);
    client.send(&bytes);
    assert_eq!(client.answer().expect("an answer").status(), 200);
    let seen = origin.with_nonce("plain");
    assert_eq!(seen.len(), 1);
    let request = &seen[0].request;
    assert_eq!(request.one("content-length"), "27");
    assert_eq!(request.one("host"), format!("127.0.0.1:{}", origin.port));
    assert!(!request.has("x-late") && !request.has("authorization"), "{request:?}");
    assert_eq!(request.target(), "/v1/chat/completions");
}
