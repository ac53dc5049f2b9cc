//! Transfer-Encoding: `chunked`, once, alone, or a refusal.

use support::J;
use support::table::{Row, cat, g, p, refused, run, served};

const CHUNKED: &[u8] = b"1b\r\n{\"model\":\"m\",\"messages\":[]}\r\n0\r\n\r\n";

/// `P`, these lines, a blank line, and this body.
fn with(id: &str, lines: &[u8], body: &[u8]) -> Row {
    refused(id, cat(&[p().as_bytes(), lines, b"\r\n\r\n", body]))
}

/// `P` with this coding and a body in chunks.
fn coding(id: &str, value: &[u8]) -> Row {
    let lines = cat(&[b"Transfer-Encoding: ", value]);
    with(&format!("{id} {}", value.escape_ascii()), &lines, CHUNKED)
}

#[test]
fn transfer_encoding() {
    let body = J.as_bytes();
    let mut rows = vec![
        with("E01", b"Content-Length: 6\r\nTransfer-Encoding: chunked", b"0\r\n\r\nX"),
        with("E02", b"Transfer-Encoding: chunked\r\nContent-Length: 30", CHUNKED),
        with("E03", b"Transfer-Encoding: xchunked\r\nContent-Length: 27", body).or(501),
        with("E08", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CHUNKED),
        with("E09", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", CHUNKED).or(501),
        with("E15", b"Transfer-Encoding:", CHUNKED),
        with("E17", b"Transfer_Encoding: chunked\r\nContent-Length: 27", body),
        with("E18", b"Transfer-Encoding : chunked\r\nContent-Length: 27", body),
        with("E19 CR", b"X: y\rTransfer-Encoding: chunked\r\nContent-Length: 27", body),
        with("E19 LF", b"X: y\nTransfer-Encoding: chunked\r\nContent-Length: 27", body),
        with("E22", b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", CHUNKED),
        coding("E05", b"chunked, gzip").or(501),
        coding("E07", b"chunked, chunked").or(501),
        coding("E24", b"blegh").status(501).or(400),
        coding("E12", b"Chunked").status(200).origin(1, body).stays(),
        coding("E12", b"CHUNKED").status(200).origin(1, body).stays(),
        coding("E13", b"chunked ").status(200).origin(1, body).stays(),
        coding("E13", b"\tchunked").status(200).origin(1, body).stays(),
    ];
    let old = cat(&[
        p().replace("HTTP/1.1", "HTTP/1.0").as_bytes(),
        b"Transfer-Encoding: chunked\r\n\r\n",
        CHUNKED,
    ]);
    rows.push(refused("E16", old));
    let opaque = cat(&[p().as_bytes(), b"Transfer-%45ncoding: chunked\r\nContent-Length: 27\r\n\r\n", body]);
    rows.push(served("E20", opaque));
    for value in
        [&b"chunked, identity"[..], b"identity", b"identity, chunked", b"identity, chunked, identity"]
    {
        rows.push(coding("E04", value).or(501));
    }
    for value in [&b"gzip, chunked"[..], b"gzip"] {
        rows.push(coding("E06", value).or(501));
    }
    for value in [&b",chunked"[..], b"chunked,", b", chunked"] {
        rows.push(coding("E10", value).or(501));
    }
    for value in [&b"\"chunked\""[..], b"'chunked'", b"chunked;q=1"] {
        rows.push(coding("E11", value).or(501));
    }
    for value in [&b"\x0bchunked"[..], b"\x0cchunked", b"chunked\x00"] {
        rows.push(coding("E14", value));
    }
    let get = cat(&[
        g().as_bytes(),
        b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ]);
    rows.push(refused("E23", get).or(200));
    run("http_coding", &rows);
}

/// E21: a content coding is not framing. Which of the two answers it gets is a matter of taste.
#[test]
fn content_encoding_is_not_framing() {
    let bytes = cat(&[
        p().as_bytes(),
        b"Connection: close\r\nContent-Encoding: chunked\r\nContent-Length: 27\r\n\r\n",
        J.as_bytes(),
    ]);
    run("http_coding: content", &[refused("E21", bytes).status(415)]);
}
