//! Sections of the byte-level tables: line structure (A), target, method and Host (B, C).

use super::*;
use FaultKind::{HeadMalformed, MethodNotAllowed, NotImplemented, TargetTooLong, VersionUnsupported};

#[test]
fn lines_end_in_crlf_and_nothing_else() {
    refuses(HeadMalformed, "GET /v1/models HTTP/1.1\nHost: gw.test\n\n"); // A01
    refuses(HeadMalformed, g(b"X: y\n")); // A02
    refuses(HeadMalformed, format!("{G}\n")); // A03
    refuses(HeadMalformed, g(b"X: a\rb\r\n")); // A04
    refuses(HeadMalformed, "GET /v1/models HTTP/1.1\rHost: gw.test\r\n\r\n"); // A05
    refuses(HeadMalformed, format!("{G}\rZGET /evil HTTP/1.1\r\nHost: gw.test\r\n\r\n")); // A06
    refuses(HeadMalformed, format!("{G}\r\r\n\r\n"));
    refuses(HeadMalformed, "\nGET /v1/models HTTP/1.1\r\nHost: gw.test\r\n\r\n");
}

#[test]
fn folded_lines_are_refused() {
    refuses(HeadMalformed, g(b"X: a\r\n b\r\n")); // A07
    refuses(HeadMalformed, g(b"X: a\r\n\tb\r\n"));
    refuses(HeadMalformed, p("Transfer-Encoding:\r\n chunked\r\nContent-Length: 5")); // A08
    refuses(HeadMalformed, "GET /v1/models HTTP/1.1\r\n Host: gw.test\r\n\r\n"); // A09
    refuses(HeadMalformed, p("Transfer-\r\nEncoding: chunked\r\nContent-Length: 5")); // A22
}

#[test]
fn names_are_tokens_right_before_their_colon() {
    refuses(HeadMalformed, "GET /v1/models HTTP/1.1\r\nHost : gw.test\r\n\r\n"); // A10
    refuses(HeadMalformed, p("Content-Length\t: 27")); // A11
    for name in [&b"X\x00"[..], b"Bad[Name", b"\xc3\xabX", b"", b"X Y", b" X", b"\"X\"", b"X\x7f"] {
        refuses(HeadMalformed, g(&[name, b": x\r\n"].concat())); // A15, A20, A21
    }
    refuses(HeadMalformed, g(b"NoColonHere\r\n")); // A19
    refuses(HeadMalformed, g(b":\r\n"));
}

#[test]
fn values_hold_no_control_bytes() {
    for byte in (0..0x20).filter(|&byte| byte != b'\t').chain([0x7f]) {
        refuses(HeadMalformed, g(&[b"X: a", &[byte][..], b"b\r\n"].concat())); // A14, A17
    }
    refuses(HeadMalformed, "GET /v1/\x00models HTTP/1.1\r\nHost: gw.test\r\n\r\n"); // A16
    accepts(g(b"X: a\tb\r\n"));
    accepts(g(b"X:\r\n"));
}

#[test]
fn opaque_bytes_in_values_pass() {
    let bytes = g(b"X: \xff\xfe\r\n"); // A24
    let head = accepts(&bytes);
    assert_eq!(fields::lines(head.fields.of(&bytes)).last().map(|line| line.value), Some(&b"\xff\xfe"[..]));
}

#[test]
fn one_empty_line_in_front_is_tolerated() {
    let bytes = format!("\r\n{G}\r\n"); // A12
    let head = accepts(&bytes);
    assert_eq!((head.len, head.path.of(bytes.as_bytes())), (bytes.len(), &b"/v1/models"[..]));
    refuses(HeadMalformed, format!("\r\n\r\n{G}\r\n"));
    refuses(HeadMalformed, "\r\n".repeat(100)); // A13
}

#[test]
fn equal_names_keep_their_order() {
    let bytes = g(b"X: 1\r\nX: 2\r\n"); // A23
    let head = accepts(&bytes);
    let values: Vec<_> = fields::lines(head.fields.of(&bytes)).skip(2).map(|line| line.value).collect();
    assert_eq!(values, [b"1", b"2"]);
}

#[test]
fn the_request_line_has_three_parts_and_two_blanks() {
    for text in [
        "GET  /v1/models HTTP/1.1", // B01
        "GET\t/v1/models HTTP/1.1", // B02
        "GET /v1/models\tHTTP/1.1", // B02
        "GET /v1/models HTTP/1.1 ", // B03
        "GET /v1/models  HTTP/1.1",
        " GET /v1/models HTTP/1.1",
        "GET HTTP/1.1",        // B04
        "GET /v1/models",      // B05
        "GET /pa th HTTP/1.1", // B09
        "GET",
        " ",
        "  HTTP/1.1",
    ] {
        refuses(HeadMalformed, line(text));
    }
    refuses(HeadMalformed, "GET /v1/models\r\n\r\n"); // B05
}

#[test]
fn other_versions_are_not_spoken() {
    for version in ["HTTP/1.2", "HTTP/2.0", "HTTP/9.9"] {
        refuses(VersionUnsupported, line(&format!("GET /v1/models {version}"))); // B06
    }
    for version in
        ["HTTP/01.1", "http/1.1", "HTTP/1", "HTTP/1.32", "HTTP/4294967295.255", "HTTP/1.x", "HTTPS/1.1"]
    {
        refuses(HeadMalformed, line(&format!("GET /v1/models {version}"))); // B07
    }
    refuses(HeadMalformed, line("GET /v1/models HTTP/ 1.1")); // B07
    refuses(VersionUnsupported, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); // B08
}

#[test]
fn only_bytes_of_a_uri_stand_in_a_target() {
    refuses(HeadMalformed, path("/\u{e9}")); // B10
    refuses(HeadMalformed, path("/v1/models#frag")); // B11
    for byte in "\\\"<>{}^`|[]\x7f".chars() {
        refuses(HeadMalformed, path(&format!("/v1{byte}models"))); // B12
        refuses(HeadMalformed, path(&format!("/v1/models?a{byte}")));
    }
    for broken in ["/a%", "/a%2", "/a%zz", "/a%+1", "/a?%", "/a?%g0"] {
        refuses(HeadMalformed, path(broken));
    }
    accepts(path("/v1/a-b_c.d~e!$&'()*+,;=:@%20?x=/?:@%20"));
}

#[test]
fn an_absolute_target_must_name_the_host() {
    for (target, path, query) in [
        ("http://gw.test/v1/models", "/v1/models", ""), // B13
        ("HTTPS://GW.test/v1/models?a=b", "/v1/models", "a=b"),
        ("http://gw.test", "/", ""),
        ("http://gw.test?a", "/", "a"),
        ("http://gw.test/?", "/", ""),
    ] {
        let bytes = line(&format!("GET {target} HTTP/1.1"));
        let head = accepts(&bytes);
        assert_eq!(head.target.of(bytes.as_bytes()), target.as_bytes());
        assert_eq!(head.path.of(bytes.as_bytes()), path.as_bytes(), "{target}");
        assert_eq!(head.query.of(bytes.as_bytes()), query.as_bytes(), "{target}");
        assert_eq!(head.host.of(bytes.as_bytes()), b"gw.test");
    }
    for target in [
        "http://other.test/v1/models", // B14
        "http://gw.test:80/v1/models",
        "http://user:pw@gw.test/v1/models", // B25
        "http:///v1/models",
        "http://gw.test/../a",
        "http://gw.test#f",
        "ftp://gw.test/v1/models",
        "http:/v1/models",
        "http://",
        "http",
    ] {
        refuses(HeadMalformed, path(target));
    }
}

#[test]
fn the_asterisk_is_for_options_only() {
    let bytes = line("OPTIONS * HTTP/1.1"); // B16
    let head = accepts(&bytes);
    assert_eq!((head.method, head.path.of(bytes.as_bytes())), (Method::Options, &b"*"[..]));
    for text in ["GET * HTTP/1.1", "OPTIONS */x HTTP/1.1", "OPTIONS ** HTTP/1.1"] {
        refuses(HeadMalformed, line(text)); // B15
    }
}

#[test]
fn methods_are_a_closed_set() {
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        assert_eq!(accepts(line(&format!("{method} /a HTTP/1.1"))).method.name(), method);
    }
    refuses(MethodNotAllowed, "CONNECT internal:22 HTTP/1.1\r\nHost: internal:22\r\n\r\n"); // B17
    refuses(MethodNotAllowed, line("TRACE /v1/models HTTP/1.1")); // B18
    for method in ["get", "FOOBAR", "GETT", "PROPFIND"] {
        refuses(NotImplemented, line(&format!("{method} /v1/models HTTP/1.1"))); // B19
    }
    refuses(HeadMalformed, line("G=\":<>(e),[T];?\" /v1/models HTTP/1.1")); // B19
}

#[test]
fn a_target_is_a_path_or_a_url() {
    for target in ["v1/models", "!", "gw.test:80", "?a", "%2f", ""] {
        refuses(HeadMalformed, path(target)); // B20
    }
}

#[test]
fn paths_have_one_reading() {
    for text in [
        "/v1/../admin/keys",     // B21
        "/v1/%2e%2e/admin/keys", // B21
        "/v1/%2E./admin/keys",
        "//admin/keys", // B21
        "/v1//models",
        "/v1/chat/..;/admin",     // B21
        "/v1/%c0%ae%c0%ae/admin", // B21
        "/admin%2fkeys",          // B21
        "/v1/models%2fkeys",
        "/v1/models/org%2f..%2fkeys/%2e%2e",
        "/v1/models/a%5cb",
        "/admin%5ckeys",
        "/v1/models%00",    // B22
        "/v1/%0d%0aX:%20y", // B22
        "/v1/models%0a",    // B22
        "/v1/%7f",
        "/v1/.",
        "/v1/./models",
        "/v1/..",
        "/..?a",
        "/.;x",
    ] {
        refuses(HeadMalformed, path(text));
    }
    for text in [
        "/",
        "/v1/",
        "/v1/.well-known",
        "/v1/...",
        "/v1/a..b",
        "/v1/..a",
        "/ADMIN/keys",
        "/a%2d",
        "/v1/models/org%2Fname", // the SDKs' spelling of a name with a slash
        "/models/org%2fname",
        "/v1/m?a=../..",
    ] {
        accepts(path(text));
    }
    let bytes = path("/v1/models?a=%0d%0a%00"); // B22: it travels still encoded
    assert_eq!(accepts(&bytes).query.of(bytes.as_bytes()), b"a=%0d%0a%00");
}

#[test]
fn targets_end_at_their_limit() {
    accepts(path(&format!("/{}", "a".repeat(7_999)))); // B23
    accepts(path(&format!("/{}", "a".repeat(LIMITS.target_bytes - 1))));
    refuses(TargetTooLong, path(&format!("/{}", "a".repeat(LIMITS.target_bytes)))); // B24
    refuses(TargetTooLong, format!("GET /{}", "a".repeat(LIMITS.target_bytes + 100)));
    refuses(TargetTooLong, format!("GET /{}\n\0", "a".repeat(LIMITS.target_bytes + 100)));
}

#[test]
fn there_is_exactly_one_valid_host() {
    let host = |lines: &str| format!("GET /v1/models HTTP/1.1\r\n{lines}\r\n");
    refuses(HeadMalformed, host("")); // C01
    refuses(HeadMalformed, host("Host: gw.test\r\nHost: gw.test\r\n")); // C02
    refuses(HeadMalformed, host("Host: gw.test\r\nhost: other.test\r\n")); // C03
    for value in [
        "",
        "gw.test, other.test",
        "u@gw.test",
        "gw.test/path",
        "gw.test?x",
        "gw.test/v1/models?",
        "gw.test:0",
        "gw.test:99999",
        "gw.test:65536",
        "gw.test:abc",
        "gw.test:",
        "gw.test:+1",
        ":80",
        "gw.test\0.evil",
        "gw test",
        "[::1",
        "[::1]x",
        "[gw.test]",
        "[]",
        "::1",
        "gw.test#",
        "g\u{fc}.test",
        "gw%2etest",
    ] {
        refuses(HeadMalformed, host(&format!("Host: {value}\r\n"))); // C04 to C08
    }
    for value in
        ["gw.test", "gw.test:1", "GW.test:65535", "127.0.0.1:8080", "[::1]", "[2001:db8::1]:443", "a_b"]
    {
        accepts(host(&format!("Host: {value}\r\n")));
    }
}

#[test]
fn http_1_0_needs_no_host_and_is_never_kept() {
    let head = accepts("GET /v1/models HTTP/1.0\r\n\r\n"); // C09
    assert_eq!((head.version, head.keep_alive, head.host.is_empty()), (Version::Http10, false, true));
    assert!(head.fields.is_empty());
    assert!(!accepts("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive); // J02
    let bytes = "GET http://gw.test/ HTTP/1.0\r\n\r\n";
    assert_eq!(accepts(bytes).host.of(bytes.as_bytes()), b"gw.test");
    refuses(HeadMalformed, "GET /v1/models HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n");
}
