//! Heads of answers: as for requests, and nothing that travels frames the answer anew.

use ringway::wire::Step;
use ringway::wire::fields;
use ringway::wire::framing::Response;
use ringway::wire::head::{HeadLimits, Method, ResponseHead, Version, response};

const LIMITS: HeadLimits = HeadLimits { bytes: 2048, lines: 40, target_bytes: 0 };
const ROOMY: HeadLimits = HeadLimits { bytes: 8192, lines: 60, target_bytes: 0 };

pub(crate) fn run(data: &[u8]) {
    for to in [Method::Post, Method::Head] {
        let whole = response(data, &mut 0, &LIMITS, to);
        let mut scanned = 0;
        let mut dribbled = Ok(Step::More);
        for end in 0..=data.len() {
            dribbled = response(&data[..end], &mut scanned, &LIMITS, to);
            if dribbled != Ok(Step::More) {
                break;
            }
        }
        assert_eq!(dribbled, whole, "bytes one by one are read as the whole is");
        for cut in super::cuts(data.len()) {
            let mut scanned = 0;
            let first = response(&data[..cut], &mut scanned, &LIMITS, to);
            let verdict =
                if first == Ok(Step::More) { response(data, &mut scanned, &LIMITS, to) } else { first };
            assert_eq!(verdict, whole, "cut at {cut}");
        }
        if let Ok(Step::Done(head)) = whole {
            accepted(data, &head, to);
        }
    }
}

fn accepted(data: &[u8], head: &ResponseHead, to: Method) {
    super::request::sound_lines(&data[..head.len], head.fields.of(data));
    assert!((100..600).contains(&head.status) && head.status != 101);
    let bodiless = to == Method::Head || head.status < 200 || [204, 304].contains(&head.status);
    assert_eq!(head.framing == Response::None, bodiless);
    assert!(head.framing != Response::Close || !head.keep_alive, "an end by close ends the connection");

    let minor = u8::from(head.version == Version::Http11);
    let mut again = format!("HTTP/1.{minor} {} \r\n", head.status).into_bytes();
    for line in fields::lines(head.fields.of(data)) {
        again.extend_from_slice(line.name);
        again.extend_from_slice(b": \t");
        again.extend_from_slice(line.value);
        again.extend_from_slice(b" \r\n");
    }
    again.extend_from_slice(b"\r\n");
    let Ok(Step::Done(second)) = response(&again, &mut 0, &ROOMY, to) else {
        panic!("refused when written again: {}", again.escape_ascii());
    };
    assert_eq!(second.len, again.len());
    assert_eq!(meaning(data, head), meaning(&again, &second));

    let mut passed = b"HTTP/1.1 200 OK\r\n".to_vec();
    fields::pass(head.fields.of(data), head.dropped, head.connection_named, &mut passed);
    passed.extend_from_slice(b"\r\n");
    let Ok(Step::Done(told)) = response(&passed, &mut 0, &ROOMY, Method::Get) else {
        panic!("what travels is no head: {}", passed.escape_ascii());
    };
    assert_eq!((told.len, told.framing), (passed.len(), Response::Close), "what travels frames nothing");
    assert!(!told.has_id && !told.connection_named && told.keep_alive_timeout.is_none());
}

type Parts<'a> = [Option<&'a [u8]>; 3];

fn meaning<'a>(data: &'a [u8], head: &ResponseHead) -> (Parts<'a>, String) {
    // A value of blanks only has no place; it reads as empty wherever it stood.
    let part = |span: ringway::units::Span| span.of(data);
    let parts = [head.content_type.map(part), head.content_encoding.map(part), head.retry_after.map(part)];
    let rest = (
        (head.status, head.version, head.framing, head.keep_alive, head.keep_alive_timeout),
        (head.date, head.event_stream, head.connection_named, head.dropped, head.has_id),
    );
    (parts, format!("{rest:?}"))
}
