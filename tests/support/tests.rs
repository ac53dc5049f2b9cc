//! The judges themselves: they must see what is wrong.

use crate::client::Client;
use crate::origin::Origin;
use crate::strict::{self, Step};
use crate::{PATIENCE, eventually, sse, table};

fn is_bad(result: &Result<Step, String>) -> bool {
    result.is_err()
}

#[test]
fn the_strict_reader_refuses_requests_a_lenient_one_would_take() {
    let bad: &[&[u8]] = &[
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nNoColon\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 01\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ];
    for bytes in bad {
        assert!(is_bad(&strict::request(bytes)), "{}", bytes.escape_ascii());
    }
    let good = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxy";
    assert!(
        matches!(strict::request(good), Ok(Step::Done(message, taken)) if message.body == b"x" && taken == good.len() - 1)
    );
}

#[test]
fn the_strict_reader_refuses_broken_chunks() {
    let bad: &[&[u8]] = &[
        b"\r\n\r\n",
        b"5;a=b\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"0\r\nX: y\r\n\r\n",
        b"00\r\n\r\n",
        b"11111111111111111\r\n",
    ];
    for bytes in bad {
        assert!(strict::chunked(bytes).is_err(), "{}", bytes.escape_ascii());
    }
    let good = b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\nrest";
    for end in 0..good.len() {
        let (body, whole) = strict::chunked(&good[..end]).expect("a good prefix");
        assert!(b"hello!".starts_with(&body[..]));
        assert_eq!(whole, (end >= 21).then_some(21), "{end}");
    }
}

#[test]
fn the_strict_reader_refuses_answers_that_smuggle() {
    let bad: &[&[u8]] = &[
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 99 X\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    ];
    for bytes in bad {
        assert!(is_bad(&strict::answer(bytes, false, true)), "{}", bytes.escape_ascii());
    }
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell";
    assert!(matches!(strict::answer(cut, false, true), Ok(Step::Body(_))));
}

#[test]
fn a_cut_stream_is_not_judged_finished() {
    let whole: String = sse::stream_of("a", 2).concat();
    assert_eq!(sse::judge(&whole).1, sse::Ending::Finished);
    for end in 0..whole.len() {
        assert_eq!(sse::judge(&whole[..end]).1, sse::Ending::Cut, "{end}");
    }
    let without_reason = format!("{}{}", sse::content("a"), sse::DONE);
    assert_eq!(sse::judge(&without_reason).1, sse::Ending::Cut);
    let failed = format!("{}data: {{\"error\":{{\"code\":\"x\"}}}}\n\n", sse::content("a"));
    assert_eq!(sse::judge(&failed).1, sse::Ending::Failed("x".into()));
    assert!(sse::read("data: a\r\n\r\n").is_err());
}

#[test]
fn a_leak_is_seen() {
    assert!(table::leak("no such host 127.0.0.1:80").is_some());
    assert!(table::leak(crate::gateway::K1).is_some());
    assert!(table::leak("The request is not valid.").is_none());
}

#[test]
fn a_script_that_panics_fails_its_test() {
    let failed = std::panic::catch_unwind(|| {
        let origin = Origin::scripted(|_| panic!("another request was expected"));
        let mut client = Client::connect(origin.port);
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(eventually(PATIENCE, || origin.seen().len() == 1));
    });
    let panic = failed.expect_err("the assertion of the script");
    let text = panic.downcast_ref::<String>().expect("a text");
    assert!(text.contains("another request was expected"), "{text}");
}
