//! Header lines: none is lost, and those that travel are those the rules let through, by a list kept here.

use ringway::wire::Step;
use ringway::wire::fields::{self, Dropped, Line};
use ringway::wire::head::{HeadLimits, Method, request, response};

const LIMITS: HeadLimits = HeadLimits { bytes: 1 << 14, lines: 100, target_bytes: 64 };

/// What speaks about one connection only (RFC 9110 section 7.6.1), and how the message is framed.
const NEITHER_WAY: &[&str] = &[
    "connection",
    "close",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "content-length",
    "host",
    "authorization",
    "x-api-key",
    "api-key",
    "cookie",
    "openai-organization",
    "openai-project",
    "anthropic-organization-id",
    "x-request-id",
    "request-id",
];
const NOT_TO_BACKEND: &[&str] = &["expect", "accept-encoding", "content-encoding", "forwarded", "x-real-ip"];
const NOT_TO_CLIENT: &[&str] =
    &["set-cookie", "alt-svc", "strict-transport-security", "ratelimit", "retry-after-ms"];

/// Whether a line of this name travels to the backend, or to the client.
fn travels(name: &[u8], to_backend: bool) -> bool {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let ours = name.get(..10).is_some_and(|front| front.replace('_', "-") == "x-ringway-");
    let (list, fronts): (_, &[&str]) = match to_backend {
        true => (NOT_TO_BACKEND, &["x-forwarded-", "cf-"]),
        false => (NOT_TO_CLIENT, &["x-ratelimit-", "anthropic-ratelimit-", "ratelimit-", "cf-"]),
    };
    !ours
        && !NEITHER_WAY.contains(&name.as_str())
        && !list.contains(&name.as_str())
        && !fronts.iter().any(|front| name.starts_with(front))
}

pub(crate) fn run(data: &[u8]) {
    let raw: Vec<u8> = fields::lines(data).flat_map(|line| line.raw.to_vec()).collect();
    assert_eq!(raw, data, "no byte is lost");
    let mut passed = Vec::new();
    fields::pass(data, Dropped::default(), false, &mut passed);
    assert_eq!(passed, data, "what is not dropped passes as it is");
    passed.clear();
    fields::pass(data, Dropped::default(), true, &mut passed);
    assert_eq!(passed, unnamed(data, |_| true), "what Connection lists does not pass");

    for line in fields::lines(data) {
        let field = fields::classify(line.name);
        assert_eq!(field, fields::classify(&line.name.to_ascii_uppercase()), "names have no case");
        assert_eq!(fields::to_backend(field), travels(line.name, true), "{}", line.name.escape_ascii());
        assert_eq!(fields::to_client(field), travels(line.name, false), "{}", line.name.escape_ascii());
    }

    let head = |first: &str| [first.as_bytes(), data, b"\r\n\r\n"].concat();
    let bytes = head("POST / HTTP/1.1\r\nHost: h\r\n");
    if let Ok(Step::Done(head)) = request(&bytes, &mut 0, &LIMITS) {
        let lines = head.fields.of(&bytes);
        let mut passed = Vec::new();
        fields::pass(lines, head.dropped, head.connection_named, &mut passed);
        assert_eq!(passed, unnamed(lines, |line| travels(line.name, true)));
    }
    let bytes = head("HTTP/1.1 200 OK\r\n");
    if let Ok(Step::Done(head)) = response(&bytes, &mut 0, &LIMITS, Method::Post) {
        let lines = head.fields.of(&bytes);
        let mut passed = Vec::new();
        fields::pass(lines, head.dropped, head.connection_named, &mut passed);
        assert_eq!(passed, unnamed(lines, |line| travels(line.name, false)));
    }
}

/// The lines that are kept and that no `Connection` line lists.
fn unnamed(lines: &[u8], keep: impl Fn(&Line<'_>) -> bool) -> Vec<u8> {
    let lower = |text: &[u8]| text.to_ascii_lowercase();
    let mut named = Vec::new();
    for line in fields::lines(lines).filter(|line| lower(line.name) == b"connection") {
        for name in line.value.split(|&byte| byte == b',') {
            let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
            let start = name.iter().position(|byte| !blank(byte)).unwrap_or(name.len());
            let end = name.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
            named.push(lower(&name[start..end]));
        }
    }
    named.retain(|name| !name.is_empty());
    let kept = fields::lines(lines).filter(|line| keep(line) && !named.contains(&lower(line.name)));
    kept.flat_map(|line| line.raw.to_vec()).collect()
}
