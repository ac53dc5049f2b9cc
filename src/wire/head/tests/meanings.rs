//! Sections of the byte-level tables: lengths (D), codings (E), expectations and credentials (H), limits (K).

use super::*;
use FaultKind::{ExpectationFailed, HeadMalformed, HeadTooLarge, NotImplemented, TargetTooLong};

#[test]
fn lengths_are_one_plain_number() {
    for (value, length) in [("27", 27), ("0", 0), (" 27\t", 27), ("9223372036854775807", i64::MAX as u64)] {
        let head = accepts(p(&format!("Content-Length:{value}")));
        assert_eq!(head.framing, framing::Request::Length(length)); // D16, D21
    }
    refuses(HeadMalformed, p("Content-Length: 5\r\nContent-Length: 10")); // D01
    refuses(HeadMalformed, p("Content-Length: 5\r\ncontent-length: 5")); // D02
    refuses(HeadMalformed, p("Content-Length: \r\nContent-Length: 27")); // D12
    for value in [
        "5, 5",
        "5, 5, 5",
        "5, 10",
        "+5",
        "-1",
        "-0",
        "-48",
        "0x5",
        "0o5",
        "1_0",
        "1 0",
        "5 5",
        "5.0",
        "5e0",
        "5Z",
        "",
        ",",
        ",5",
        "5,",
        "005",
        "00",
        "0200",
        "18446744073709551616",
        "99999999999999999999",
        "\u{ff15}",
    ] {
        refuses(HeadMalformed, p(&format!("Content-Length: {value}"))); // D03 to D17
    }
    refuses(HeadMalformed, p("Content_Length: 27")); // D18
    refuses(HeadMalformed, p("CONTENT_length: 27\r\nContent-Length: 27"));
    for method in ["GET", "OPTIONS", "HEAD"] {
        let bytes = format!("{method} /a HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 43\r\n\r\n");
        assert_eq!(accepts(bytes).framing, framing::Request::Length(43)); // D21, D22
    }
}

#[test]
fn a_head_ends_before_its_body() {
    let bytes = format!("{P}Content-Length: 2\r\n\r\n{{}}GET / HTTP/1.1\n");
    assert_eq!(&bytes[accepts(&bytes).len..][..2], "{}"); // D20, D23
}

#[test]
fn the_only_coding_is_chunked() {
    for value in ["chunked", "Chunked", "CHUNKED", "chunked ", "\tchunked"] {
        let head = accepts(p(&format!("Transfer-Encoding: {value}"))); // E12, E13
        assert_eq!(head.framing, framing::Request::Chunked);
    }
    refuses(HeadMalformed, p("Content-Length: 6\r\nTransfer-Encoding: chunked")); // E01
    refuses(HeadMalformed, p("Transfer-Encoding: chunked\r\nContent-Length: 30")); // E02
    refuses(HeadMalformed, p("Transfer-Encoding: xchunked\r\nContent-Length: 27")); // E03
    for value in ["xchunked", "identity", "identity, chunked", "gzip, chunked", "gzip", "blegh"] {
        refuses(NotImplemented, p(&format!("Transfer-Encoding: {value}"))); // E04, E06, E24
    }
    for value in [
        "chunked, identity",
        "identity, chunked, identity",
        "chunked, gzip",
        "chunked, chunked",
        ",chunked",
        "chunked,",
        ", chunked",
        "\"chunked\"",
        "'chunked';",
        "chunked;q=1",
        "\x0bchunked",
        "\x0cchunked",
        "chunked\0",
        "",
        "\u{a0}chunked",
        "\u{85}chunked",
    ] {
        refuses(HeadMalformed, p(&format!("Transfer-Encoding: {value}"))); // E04, E05, E07, E10, E11, E14, E15
    }
    for value in [&b"\xa0chunked"[..], b"\x85chunked", b"chunked\xff"] {
        refuses(HeadMalformed, [P.as_bytes(), b"Transfer-Encoding: ", value, b"\r\n\r\n"].concat()); // A18
    }
    refuses(HeadMalformed, p("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")); // E08
    refuses(HeadMalformed, p("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity")); // E09
}

#[test]
fn a_coding_cannot_be_hidden() {
    refuses(HeadMalformed, "POST /a HTTP/1.0\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\n"); // E16
    refuses(HeadMalformed, p("Transfer_Encoding: chunked\r\nContent-Length: 27")); // E17
    refuses(HeadMalformed, p("Transfer-Encoding : chunked\r\nContent-Length: 27")); // E18
    refuses(HeadMalformed, p("X: y\rTransfer-Encoding: chunked\r\nContent-Length: 27")); // E19
    refuses(HeadMalformed, p("X: y\nTransfer-Encoding: chunked\r\nContent-Length: 27")); // E19
    let head = accepts(p("Transfer-%45ncoding: chunked\r\nContent-Length: 27")); // E20
    assert_eq!(head.framing, framing::Request::Length(27));
    let bytes = p("Content-Encoding: chunked\r\nContent-Length: 27"); // E21
    let head = accepts(&bytes);
    assert_eq!(head.framing, framing::Request::Length(27));
    assert_eq!(head.content_encoding.map(|value| value.of(bytes.as_bytes())), Some(&b"chunked"[..]));
    refuses(HeadMalformed, p("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked")); // E22
    let head = accepts("GET /a HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\n"); // E23
    assert_eq!(head.framing, framing::Request::Chunked);
}

#[test]
fn the_only_expectation_is_one_100_continue() {
    assert!(accepts(p("Content-Length: 27\r\nExpect: 100-Continue")).expect_continue); // H01
    assert!(accepts(p("Transfer-Encoding: chunked\r\nExpect: 100-continue")).expect_continue);
    assert!(!accepts(p("Content-Length: 27")).expect_continue);
    for lines in [
        "Expect: 200-ok",
        "Expect: y 100-continue",
        "Expect: ",
        "Expect: 100-continue\r\nExpect: 100-continue",
    ] {
        refuses(ExpectationFailed, p(&format!("Content-Length: 27\r\n{lines}"))); // H04
    }
    for value in ["100-continue", "200-ok"] {
        let bytes = format!("POST /a HTTP/1.0\r\nContent-Length: 2\r\nExpect: {value}\r\n\r\n"); // H05
        assert!(!accepts(bytes).expect_continue);
    }
    assert!(!accepts(g(b"Expect: 100-continue\r\n")).expect_continue, "no body to wait for");
}

#[test]
fn connection_decides_who_stays_and_what_travels() {
    let head = |value: &str| {
        let head = accepts(g(format!("Connection: {value}\r\n").as_bytes()));
        (head.keep_alive, head.connection_named)
    };
    for (value, keep_alive, named) in [
        ("keep-alive", true, false),
        ("close", false, false), // H09
        ("CLOSE , keep-alive", false, false),
        ("close, Authorization", false, false), // H16: our own credential is not the client's to remove
        ("X-Foo", true, true),                  // H18
        ("upgrade, http2-settings, TE", true, false), // H12, H13
        (",, x-foo", true, true),
        ("", true, false),
        ("closed", true, true),
    ] {
        assert_eq!(head(value), (keep_alive, named), "{value}");
    }
    for value in ["X-Forwarded-For, X-Request-Id, Host, Content-Length", "host", "content-length"] {
        refuses(HeadMalformed, g(format!("Connection: {value}\r\n").as_bytes())); // H17
    }
    let head = accepts(g(b"Connection: x-a\r\nConnection: close\r\n"));
    assert_eq!((head.keep_alive, head.connection_named), (false, true));
}

#[test]
fn a_credential_comes_once() {
    let bytes = p("X-API-Key: K2");
    let head = accepts(&bytes);
    assert_eq!(head.authorization.map(|value| value.of(bytes.as_bytes())), Some(&b"Bearer K1"[..]));
    assert_eq!(head.api_keys[0].map(|value| value.of(bytes.as_bytes())), Some(&b"K2"[..])); // H22: the caller decides
    let bytes = p("API-Key: K2\r\nX-Goog-Api-Key: K3");
    let keys = accepts(&bytes).api_keys.map(|key| key.map(|value| value.of(bytes.as_bytes())));
    assert_eq!(keys, [None, Some(&b"K2"[..]), Some(&b"K3"[..])]);
    refuses(HeadMalformed, p("authorization: Bearer K2")); // H22
    for name in ["x-api-key", "api-key", "x-goog-api-key"] {
        refuses(HeadMalformed, p(&format!("{name}: K2\r\n{name}: K2")));
    }
    refuses(HeadMalformed, p("Content-Type: text/plain"));
    refuses(HeadMalformed, p("Content-Encoding: identity\r\nContent-Encoding: gzip"));
    refuses(HeadMalformed, g(b"x-api-key: a\0b\r\n")); // H23
}

#[test]
fn a_head_says_what_the_walk_asks_for() {
    let bytes = p("Content-Encoding: gzip\r\nX: y\r\nVia: 1.1 a\r\nCookie: c\r\nContent-Length: 1");
    let head = accepts(&bytes);
    let text = |span: Option<crate::units::Span>| span.map(|span| span.of(bytes.as_bytes()));
    assert_eq!(text(head.content_type), Some(&b"application/json"[..]));
    assert_eq!(text(head.content_encoding), Some(&b"gzip"[..]));
    assert_eq!(head.api_keys, [None; 3]);
    assert!(head.via && !accepts(G.to_owned() + "\r\n").via);
    let mut passed = Vec::new();
    fields::pass(head.fields.of(bytes.as_bytes()), head.dropped, head.connection_named, &mut passed);
    let travels = "Content-Type: application/json\r\nX: y\r\nVia: 1.1 a\r\n";
    assert_eq!(passed, travels.as_bytes());
}

#[test]
fn an_empty_body_is_not_waited_for() {
    assert!(!accepts(p("Content-Length: 0\r\nExpect: 100-continue")).expect_continue);
    assert!(accepts(p("Content-Length: 1\r\nExpect: 100-continue")).expect_continue);
}

#[test]
fn the_note_names_the_part_that_is_wrong() {
    for (bytes, note) in [
        (line("GET"), "the request line has no target"),
        (line("ab"), "the request line has no target"), // as long as an empty line, and none
        (line("GET /"), "the request line has no version"),
        (line("GET / HTTP/1.x"), "the version is not HTTP/1.0 or HTTP/1.1"),
        (line("GET / HTTP/1.2"), "the version is neither HTTP/1.0 nor HTTP/1.1"),
        (line("G(T / HTTP/1.1"), "the method is not a token"),
        (line("GOT / HTTP/1.1"), "the method is not implemented"),
        (path("a"), "the request target is neither a path nor an http URL"),
        (path("http://:1/"), "the request target's authority is not host[:port]"),
        (path("//"), "the path holds an empty segment"),
        (path("/./"), "the path holds a dot segment"),
        (path("/%2e"), "the path holds an encoded dot, slash or control byte"),
        (path("/|"), "the path holds a byte that must be percent-encoded"),
        (path("/?|"), "the query holds a byte that must be percent-encoded"),
        (path("/?ab%20|"), "the query holds a byte that must be percent-encoded"),
        (path("/%2"), "the request target holds a broken percent-encoding"),
        (path("/%2x"), "the request target holds a broken percent-encoding"),
        (p("X y"), "a field name is not a token right before its colon"),
        (p("X: \x01"), "a field value holds a control byte"),
        (p("X: \r"), "a CR without LF"),
        (p("X: \n"), "an LF without CR"),
        (p("X: \0"), "a NUL byte in the head"),
        (format!("\r\n\r\n{G}\r\n"), "empty lines in front of the head"),
        (p("Host: b"), "two Host lines"),
        (p("Content-Type: b"), "two Content-Type lines"),
        (p("Transfer-Encoding: chunked, x"), "chunked is not the last transfer coding"),
        (p("Transfer-Encoding: x\r\nContent-Length: 1"), "both Content-Length and Transfer-Encoding"),
    ] {
        let fault = request(bytes.as_bytes(), &mut 0, &LIMITS).unwrap_err();
        assert_eq!(fault.note, note, "{bytes:?}");
    }
}

#[test]
fn heads_end_at_their_limit() {
    let fill = |len: usize| {
        let empty = format!("{G}X: \r\n\r\n").len();
        format!("{G}X: {}\r\n\r\n", "y".repeat(len - empty))
    };
    accepts(fill(LIMITS.bytes));
    refuses(HeadTooLarge, fill(LIMITS.bytes + 1));
    let long = "x".repeat(100 << 10);
    refuses(HeadTooLarge, format!("{G}X: {long}\r\n\r\n")); // K01
    refuses(HeadTooLarge, format!("{G}{long}: x\r\n\r\n")); // K01
    refuses(HeadMalformed, line(&format!("{long} / HTTP/1.1"))); // K01
    refuses(HeadTooLarge, format!("{G}{}\r\n", "X: y\r\n".repeat(20_000))); // K01
    refuses(HeadTooLarge, format!("{G}{}", "X: y\r\n".repeat(20_000)));
}

#[test]
fn lines_are_counted() {
    let lines = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    for count in [1, 24, 25, 100] {
        accepts(lines(count));
    }
    refuses(HeadTooLarge, lines(101)); // K01
    let few = HeadLimits { lines: 10, ..LIMITS };
    assert!(request(lines(10).as_bytes(), &mut 0, &few).is_ok());
    assert_eq!(request(lines(11).as_bytes(), &mut 0, &few).map_err(|fault| fault.kind), Err(HeadTooLarge));
}

#[test]
fn small_limits_hold_for_every_cut() {
    let tiny = HeadLimits { bytes: 200, lines: 3, target_bytes: 4 };
    let read = |bytes: &[u8], scanned: &mut usize| request(bytes, scanned, &tiny);
    let long = "a".repeat(500);
    assert_eq!(verdict(format!("GET /{long}").as_bytes(), read), Err(TargetTooLong));
    assert_eq!(verdict(format!("GET /abc HTTP/1.1\r\n{long}").as_bytes(), read), Err(HeadTooLarge));
    assert_eq!(verdict(path("/abcd").as_bytes(), read), Err(TargetTooLong));
    assert!(matches!(verdict(path("/abc").as_bytes(), read), Ok(Step::Done(_))));
    for bytes in 0..path("/abc").len() {
        let limits = HeadLimits { bytes, ..tiny };
        let refused = verdict(path("/abc").as_bytes(), |bytes, scanned| request(bytes, scanned, &limits));
        assert_eq!(refused, Err(HeadTooLarge), "{bytes}");
    }
}
