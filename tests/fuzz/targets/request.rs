//! Request heads: the same verdict for every cut, and what is accepted means the same when it is written again.

use ringway::wire::Step;
use ringway::wire::fields;
use ringway::wire::framing::Request;
use ringway::wire::head::{HeadLimits, RequestHead, request};

/// Small enough that inputs meet them.
const LIMITS: HeadLimits = HeadLimits { bytes: 2048, lines: 40, target_bytes: 256 };
/// What is written again may be longer by lines of its own.
const ROOMY: HeadLimits = HeadLimits { bytes: 8192, lines: 60, target_bytes: 512 };

pub(crate) fn run(data: &[u8]) {
    let whole = request(data, &mut 0, &LIMITS);
    let mut scanned = 0;
    let mut dribbled = Ok(Step::More);
    for end in 0..=data.len() {
        dribbled = request(&data[..end], &mut scanned, &LIMITS);
        if dribbled != Ok(Step::More) {
            break;
        }
    }
    assert_eq!(dribbled, whole, "bytes one by one are read as the whole is");
    for cut in super::cuts(data.len()) {
        let mut scanned = 0;
        let first = request(&data[..cut], &mut scanned, &LIMITS);
        let verdict = if first == Ok(Step::More) { request(data, &mut scanned, &LIMITS) } else { first };
        assert_eq!(verdict, whole, "cut at {cut}");
    }
    if let Ok(Step::Done(head)) = whole {
        accepted(data, &head);
    }
}

fn accepted(data: &[u8], head: &RequestHead) {
    let text = &data[..head.len];
    sound_lines(text, head.fields.of(data));
    assert!(head.len <= LIMITS.bytes && head.target.len() <= LIMITS.target_bytes);

    // The same head, each part written by us.
    let mut again = format!("{} ", head.method.name()).into_bytes();
    again.extend_from_slice(head.target.of(data));
    again.extend_from_slice(format!(" HTTP/1.{}\r\n", u8::from(is_11(head))).as_bytes());
    for line in fields::lines(head.fields.of(data)) {
        again.extend_from_slice(line.name);
        again.extend_from_slice(b":");
        again.extend_from_slice(line.value);
        again.extend_from_slice(b"\r\n");
    }
    again.extend_from_slice(b"\r\n");
    let Ok(Step::Done(second)) = request(&again, &mut 0, &ROOMY) else {
        panic!("refused when written again: {}", again.escape_ascii());
    };
    assert_eq!(second.len, again.len());
    assert_eq!(meaning(data, head), meaning(&again, &second));

    // What travels frames nothing, names no host and carries no credential.
    let mut passed = b"POST /v1/x HTTP/1.1\r\nHost: backend\r\n".to_vec();
    fields::pass(head.fields.of(data), head.dropped, head.connection_named, &mut passed);
    passed.extend_from_slice(b"\r\n");
    let Ok(Step::Done(sent)) = request(&passed, &mut 0, &ROOMY) else {
        panic!("what travels is no head: {}", passed.escape_ascii());
    };
    assert_eq!((sent.len, sent.framing), (passed.len(), Request::None));
    assert_eq!(sent.host.of(&passed), b"backend");
    assert!(sent.keep_alive && !sent.connection_named && !sent.expect_continue);
    assert_eq!((sent.authorization, sent.api_keys), (None, [None; 3]));
}

fn is_11(head: &RequestHead) -> bool {
    head.version == ringway::wire::head::Version::Http11
}

type Parts<'a> = [Option<&'a [u8]>; 10];

/// Everything a head says, without where it says it.
fn meaning<'a>(data: &'a [u8], head: &RequestHead) -> (Parts<'a>, String) {
    let part = |span: ringway::units::Span| span.of(data);
    let parts = [
        Some(part(head.target)),
        Some(part(head.path)),
        Some(part(head.query)),
        Some(part(head.host)),
        head.authorization.map(part),
        head.api_keys[0].map(part),
        head.api_keys[1].map(part),
        head.api_keys[2].map(part),
        head.content_type.map(part),
        head.content_encoding.map(part),
    ];
    let rest = (
        (head.method, head.version, head.framing, head.keep_alive),
        (head.expect_continue, head.connection_named, head.dropped, head.via),
    );
    (parts, format!("{rest:?}"))
}

/// No reader can find another line, or another end, in an accepted head.
pub(super) fn sound_lines(text: &[u8], lines: &[u8]) {
    assert!(text.ends_with(b"\r\n\r\n"));
    let bare = |at: usize| match text[at] {
        b'\r' => text.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || text[at - 1] != b'\r',
        byte => byte == 0,
    };
    assert!(!(0..text.len()).any(bare), "a bare CR, a bare LF or a NUL was accepted");
    let mut raw = 0;
    for line in fields::lines(lines) {
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        assert!(!line.name.is_empty() && line.name.iter().all(is_token), "the name is a token");
        assert!(!line.value.iter().any(|&byte| super::is_control(byte)), "a value holds a control byte");
        assert!(!line.value.starts_with(b" ") && !line.value.ends_with(b" "), "a value is trimmed");
        raw += line.raw.len();
    }
    assert_eq!(raw, lines.len(), "every byte belongs to a line");
}
