//! Section L of the byte-level tables: answers from a backend that is trusted half.

use super::*;
use framing::Response;

/// The head of a response to a POST, which must be accepted.
#[track_caller]
fn parsed(bytes: impl AsRef<[u8]>) -> ResponseHead {
    parsed_to(Method::Post, bytes)
}

#[track_caller]
fn parsed_to(to: Method, bytes: impl AsRef<[u8]>) -> ResponseHead {
    let bytes = bytes.as_ref();
    match response_verdict(bytes, to) {
        Ok(Step::Done(head)) => head,
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    }
}

#[track_caller]
fn refuses(bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    assert_eq!(
        response_verdict(bytes, Method::Post),
        Err(FaultKind::BackendMalformed),
        "{}",
        bytes.escape_ascii()
    );
}

/// A status and header lines.
fn with(status: &str, lines: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{lines}\r\n")
}

fn ok(lines: &str) -> String {
    with("200 OK", lines)
}

#[test]
fn a_stream_head_says_all_that_the_relay_needs() {
    let bytes =
        ok("Date: x\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n");
    let head = parsed(&bytes);
    assert_eq!((head.len, head.status, head.version), (bytes.len(), 200, Version::Http11));
    assert_eq!((head.framing, head.keep_alive), (Response::Chunked, true));
    assert!(head.date && head.event_stream && !head.connection_named);
    assert!(fields::lines(head.fields.of(bytes.as_bytes())).count() == 3);
}

#[test]
fn event_streams_are_known_in_any_case() {
    for value in ["text/event-stream", "TEXT/Event-Stream", "text/event-stream ;x"] {
        assert!(parsed(ok(&format!("content-type: {value}\r\n"))).event_stream, "{value}");
    }
    for value in ["", "text/event-streams", "application/json", "x; text/event-stream"] {
        assert!(!parsed(ok(&format!("content-type: {value}\r\n"))).event_stream, "{value}");
    }
}

#[test]
fn the_coding_decides_over_a_length_and_spoils_the_connection() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: Chunked\r\nContent-Length: 5\r\n",
    ] {
        let head = parsed(ok(lines)); // L01
        assert_eq!((head.framing, head.keep_alive), (Response::Chunked, false));
    }
}

#[test]
fn doubtful_lengths_are_refused() {
    refuses(ok("Content-Length: 5\r\nContent-Length: 6\r\n")); // L02
    refuses(ok("Content-Length: 5\r\nContent-Length: 5\r\n"));
    for value in ["5, 6", "abc", "-1", "+5", "", "18446744073709551616", "05"] {
        refuses(ok(&format!("Content-Length: {value}\r\n"))); // L02, L03
    }
    refuses(with("304 Not Modified", "Content-Length: abc\r\n"));
}

#[test]
fn codings_not_asked_for_are_refused() {
    // L04: without its label a coded body would be taken for plain.
    for value in ["chunked, gzip", "identity", "gzip"] {
        refuses(ok(&format!("Transfer-Encoding: {value}\r\n")));
    }
    for value in ["gzip, chunked", "chunked, chunked", "", ",chunked", "chunked;q=1", "\"chunked\""] {
        refuses(ok(&format!("Transfer-Encoding: {value}\r\n")));
    }
    refuses(ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"));
    refuses("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"); // L05
}

#[test]
fn the_lines_of_responses_are_as_strict_as_those_of_requests() {
    refuses(ok("X: a\r\n b\r\n")); // L08
    refuses(ok("X : y\r\n")); // L09
    refuses("HTTP/1.1 200 OK\nX: y\n\n"); // L10
    refuses(ok("X: y\n")); // L10
    refuses(ok("X: a\0b\r\n")); // L10
    refuses(ok("X: a\rb\r\n")); // L10
    refuses(format!("\r\n{}", ok("")));
    refuses(ok(": x\r\n"));
    refuses(ok("NoColon\r\n"));
}

#[test]
fn some_responses_have_no_body_whatever_they_say() {
    for status in ["204 No Content", "304 Not Modified", "100 Continue", "102 Processing", "103 Early Hints"]
    {
        let head = parsed(with(status, "Content-Length: 5\r\n")); // L11, L15
        assert_eq!((head.framing, head.keep_alive), (Response::None, true), "{status}");
        assert_eq!(parsed(with(status, "")).framing, Response::None);
        let head = parsed(with(status, "Transfer-Encoding: chunked\r\n"));
        assert_eq!((head.framing, head.keep_alive), (Response::None, false), "{status}");
    }
    for lines in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", ""] {
        let head = parsed_to(Method::Head, ok(lines)); // L12
        assert_eq!((head.framing, head.keep_alive), (Response::None, true));
    }
}

#[test]
fn an_interim_head_ends_where_the_next_begins() {
    let bytes = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let head = parsed(bytes);
    assert_eq!((head.status, &bytes[head.len..][..12]), (100, "HTTP/1.1 200"));
    assert_eq!(parsed(&bytes[head.len..]).framing, Response::Length(2));
}

#[test]
fn a_body_without_a_length_ends_with_the_connection() {
    let head = parsed(ok(""));
    assert_eq!((head.framing, head.keep_alive), (Response::Close, false));
}

#[test]
fn switching_protocols_is_refused() {
    refuses(with("101 Switching Protocols", "Upgrade: h2c\r\nConnection: upgrade\r\n")); // H14
}

#[test]
fn what_is_no_status_line_is_refused() {
    for line in [
        "SSH-2.0-x",        // L17
        "\x15\x03\x01\x00", // L17
        "HTTP/1.1 99 X",    // L17
        "HTTP/1.1 1000 X",  // L17
        "HTTP/1.1 000 X",   // L17
        "HTTP/1.1 999 X",
        "HTTP/1.1 600 X",
        "HTTP/1.1 +20 X",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200OK",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.2 200 OK",
        "HTTP/2 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "HTTP/1.1 200 O\x01K",
        " HTTP/1.1 200 OK",
    ] {
        refuses(format!("{line}\r\n\r\n"));
    }
    for line in
        ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 A\tB \u{e9}", "HTTP/1.0 599 X", "HTTP/1.1 100 X"]
    {
        parsed(format!("{line}\r\n\r\n"));
    }
}

#[test]
fn endless_heads_are_refused_at_the_limit() {
    refuses(format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(1 << 20))); // L18
    refuses(ok(&"X: y\r\n".repeat(10_000))); // L18
    refuses(ok(&"X: y\r\n".repeat(101)));
}

#[test]
fn connections_stay_as_the_backend_says() {
    let sized = |lines: &str| parsed(ok(&format!("Content-Length: 0\r\n{lines}")));
    assert!(sized("").keep_alive);
    assert!(!sized("Connection: close\r\n").keep_alive); // L20
    assert!(!sized("Connection: x, Close\r\n").keep_alive);
    for (value, seconds) in
        [("timeout=1", Some(1)), ("max=100, Timeout=75", Some(75)), ("timeout=x", None), ("", None)]
    {
        assert_eq!(sized(&format!("Keep-Alive: {value}\r\n")).keep_alive_timeout, seconds, "{value}"); // L20
    }
    for (lines, stays) in
        [("", false), ("Connection: keep-alive\r\n", true), ("Connection: keep-alive, close\r\n", false)]
    {
        let bytes = format!("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n{lines}\r\n");
        assert_eq!(parsed(bytes).keep_alive, stays, "{lines}");
    }
}

#[test]
fn fields_named_in_connection_are_announced() {
    assert!(parsed(ok("Connection: X-Secret\r\nX-Secret: 1\r\n")).connection_named); // L21
    assert!(!parsed(ok("Connection: keep-alive, upgrade\r\n")).connection_named);
}

#[test]
fn what_the_gateway_would_add_is_only_seen_if_it_is_there() {
    let seen = |lines: &str| {
        let head = parsed(ok(lines));
        (head.date, head.has_id)
    };
    assert_eq!(seen("X: y\r\n"), (false, false));
    assert_eq!(seen("Date: x\r\n"), (true, false));
    assert_eq!(seen("X-Request-Id: x\r\n"), (false, true));
    assert_eq!(seen("request-id: x\r\nDate: x\r\n"), (true, true));
}

#[test]
fn the_lines_that_stay_here_are_marked() {
    let bytes = ok("Set-Cookie: a\r\nX: y\r\nConnection: x-a\r\nX-A: 1\r\nServer: s\r\n");
    let head = parsed(&bytes);
    let mut passed = Vec::new();
    fields::pass(head.fields.of(bytes.as_bytes()), head.dropped, head.connection_named, &mut passed);
    assert_eq!(passed, b"X: y\r\nServer: s\r\n");
    passed.clear();
    fields::pass(head.fields.of(bytes.as_bytes()), head.dropped, false, &mut passed);
    assert_eq!(passed, b"X: y\r\nX-A: 1\r\nServer: s\r\n");
}

#[test]
fn small_limits_hold_for_every_cut() {
    let whole = ok("X: y\r\n");
    let within = |bytes, lines| {
        let limits = HeadLimits { bytes, lines, target_bytes: 0 };
        verdict(whole.as_bytes(), |bytes, scanned| response(bytes, scanned, &limits, Method::Post))
    };
    assert!(matches!(within(whole.len(), 1), Ok(Step::Done(_))));
    assert_eq!(within(whole.len(), 0), Err(FaultKind::BackendMalformed));
    for bytes in 0..whole.len() {
        assert_eq!(within(bytes, 1), Err(FaultKind::BackendMalformed), "{bytes}");
    }
}

#[test]
fn the_first_of_several_lines_counts_where_no_framing_depends_on_it() {
    let bytes =
        ok("Content-Type: a/b\r\nContent-Type: text/event-stream\r\nRetry-After: 1\r\nRetry-After: 2\r\n");
    let head = parsed(&bytes);
    assert_eq!(head.content_type.map(|value| value.of(bytes.as_bytes())), Some(&b"a/b"[..]));
    assert_eq!(head.content_encoding, None);
    assert_eq!(head.retry_after.map(|value| value.of(bytes.as_bytes())), Some(&b"1"[..]));
    let bytes = ok("Content-Encoding: gzip\r\nContent-Encoding: br\r\n");
    assert_eq!(parsed(&bytes).content_encoding.map(|value| value.of(bytes.as_bytes())), Some(&b"gzip"[..]));
}

#[test]
fn the_note_names_the_part_that_is_wrong() {
    for (bytes, note) in [
        ("SSH-2.0\r\n\r\n", "the response does not start with an HTTP/1 status line"),
        ("HTTP/1.1 20\r\n\r\n", "the status is not three digits"),
        ("HTTP/1.1 2x0\r\n\r\n", "the status is not three digits"),
        ("HTTP/1.1 200 a\x7f\r\n\r\n", "the reason phrase holds a control byte"),
        ("HTTP/1.1 200 a\x1f\r\n\r\n", "the reason phrase holds a control byte"),
        ("HTTP/1.1 101\r\n\r\n", "the backend switches protocols unasked"),
        ("HTTP/1.1 600\r\n\r\n", "the status is not between 100 and 599"),
        ("\r\nHTTP/1.1 200\r\n\r\n", "an empty line in front of the head"),
        ("HTTP/1.1 200\r\nX y\r\n\r\n", "a field name is not a token right before its colon"),
    ] {
        let fault = response(bytes.as_bytes(), &mut 0, &LIMITS, Method::Get).unwrap_err();
        assert_eq!((fault.kind, &*fault.note), (FaultKind::BackendMalformed, note), "{bytes:?}");
    }
}
