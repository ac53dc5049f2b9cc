//! Where a body ends: as a slow reader decides, written from RFC 9112 section 6 with the strictness of this gateway.
//!
//! Stricter than the RFC, in the reader too: one line of each field, a length without sign, list or leading zero, and of
//! the codings `chunked` alone; a coding in HTTP/1.0 and both fields in one request are refused.

use ringway::error::FaultKind;
use ringway::wire::Step;
use ringway::wire::framing::{Request, Response};
use ringway::wire::head::{HeadLimits, Method, request, response};

const LIMITS: HeadLimits = HeadLimits { bytes: 1 << 14, lines: 100, target_bytes: 64 };

/// What the lines say about the body.
struct Said {
    lengths: Vec<String>,
    codings: Vec<String>,
    disguised: bool,
    /// A line that says something else that may be refused.
    others: bool,
    lines: usize,
}

/// Reads lines by their text; `None` if one is no field line.
fn read(data: &[u8]) -> Option<Said> {
    let mut said =
        Said { lengths: Vec::new(), codings: Vec::new(), disguised: false, others: false, lines: 0 };
    // Latin-1, so that every byte is one character.
    let text: String = data.iter().map(|&byte| char::from(byte)).collect();
    for line in text.split("\r\n").filter(|_| !text.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let is_token = |byte: char| byte.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(byte);
        if name.is_empty() || !name.chars().all(is_token) {
            return None;
        }
        if value.bytes().any(|byte| byte != b'\t' && (byte < b' ' || byte == 0x7f)) {
            return None;
        }
        let value = value.trim_matches([' ', '\t']).to_owned();
        let dashed = name.to_ascii_lowercase().replace('_', "-");
        let framing = dashed == "content-length" || dashed == "transfer-encoding";
        said.disguised |= framing && name.contains('_');
        said.lines += 1;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => said.lengths.push(value),
            "transfer-encoding" => said.codings.push(value),
            "x" | "y" | "accept" | "user-agent" => {}
            _ => said.others |= !framing,
        }
    }
    Some(said)
}

/// The one length, if the lines agree on it; `Err` if they are refused.
fn length(said: &Said) -> Result<Option<u64>, ()> {
    match said.lengths.as_slice() {
        [] => Ok(None),
        [one] => {
            let plain =
                one.bytes().all(|byte| byte.is_ascii_digit()) && (one == "0" || !one.starts_with('0'));
            one.parse().ok().filter(|_| plain).map(Some).ok_or(())
        }
        _ => Err(()),
    }
}

/// Whether it is chunked; `Err` says whether the refusal is of a coding that is well-formed and unknown.
fn coding(said: &Said) -> Result<bool, bool> {
    let value = match said.codings.as_slice() {
        [] => return Ok(false),
        [one] => one.to_ascii_lowercase(),
        _ => return Err(false),
    };
    let names: Vec<&str> = value.split(',').map(|name| name.trim_matches([' ', '\t'])).collect();
    let is_token = |byte: char| byte.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(byte);
    if names.iter().any(|name| name.is_empty() || !name.chars().all(is_token)) {
        return Err(false);
    }
    let chunked = names.iter().filter(|name| **name == "chunked").count();
    match chunked {
        0 => Err(true),
        1 if names.len() == 1 => Ok(true),
        1 if names.last() == Some(&"chunked") => Err(true),
        _ => Err(false),
    }
}

pub(crate) fn run(data: &[u8]) {
    let data = data.strip_suffix(b"\r\n").unwrap_or(data);
    let end: &[u8] = if data.is_empty() { b"\r\n" } else { b"\r\n\r\n" };
    let said = read(data);
    for minor in [1, 0] {
        let first = format!("POST / HTTP/1.{minor}\r\nHost: h\r\n");
        check_request(&[first.as_bytes(), data, end].concat(), said.as_ref(), minor);
        for status in [200, 204, 304, 100] {
            let bytes = [format!("HTTP/1.{minor} {status} x\r\n").as_bytes(), data, end].concat();
            for to in [Method::Get, Method::Head] {
                check_response(&bytes, said.as_ref(), minor, status, to);
            }
        }
    }
}

fn check_request(bytes: &[u8], said: Option<&Said>, minor: u8) {
    let verdict = match request(bytes, &mut 0, &LIMITS) {
        // A blank line among the lines: what is behind it is not of this head.
        Ok(Step::Done(head)) if head.len < bytes.len() => return,
        Ok(Step::Done(head)) => Ok(head.framing),
        Ok(Step::More) => panic!("a whole head is not seen"),
        Err(fault) => Err(fault.kind),
    };
    let Some(said) = said else {
        return assert!(verdict.is_err(), "no field line, and accepted");
    };
    if said.lines >= LIMITS.lines {
        return;
    }
    let expected = match (length(said), coding(said)) {
        _ if said.disguised => Err(FaultKind::HeadMalformed),
        (Err(()), _) => Err(FaultKind::HeadMalformed),
        (_, Err(false)) => Err(FaultKind::HeadMalformed),
        (Ok(Some(_)), Ok(true) | Err(_)) => Err(FaultKind::HeadMalformed),
        (_, Ok(true) | Err(true)) if minor == 0 => Err(FaultKind::HeadMalformed),
        (_, Err(true)) => Err(FaultKind::NotImplemented),
        (_, Ok(true)) => Ok(Request::Chunked),
        (Ok(Some(length)), _) => Ok(Request::Length(length)),
        (Ok(None), _) => Ok(Request::None),
    };
    match said.others {
        false => assert_eq!(verdict, expected),
        true => assert!(verdict.is_err() || verdict == expected, "{verdict:?}, expected {expected:?}"),
    }
}

fn check_response(bytes: &[u8], said: Option<&Said>, minor: u8, status: u16, to: Method) {
    let head = match response(bytes, &mut 0, &LIMITS, to) {
        Ok(Step::Done(head)) if head.len < bytes.len() => return,
        Ok(Step::Done(head)) => Some(head),
        Ok(Step::More) => panic!("a whole head is not seen"),
        Err(fault) => {
            assert_eq!(fault.kind, FaultKind::BackendMalformed, "a backend's flaw is its own");
            None
        }
    };
    let Some(said) = said else {
        return assert!(head.is_none(), "no field line, and accepted");
    };
    if said.lines > LIMITS.lines {
        return;
    }
    let none = to == Method::Head || status < 200 || status == 204 || status == 304;
    let expected = match (length(said), coding(said)) {
        (Err(()), _) | (_, Err(_)) => None,
        (_, Ok(true)) if minor == 0 => None,
        _ if none => Some(Response::None),
        (_, Ok(true)) => Some(Response::Chunked),
        (Ok(Some(length)), _) => Some(Response::Length(length)),
        (Ok(None), _) => Some(Response::Close),
    };
    // No other field of an answer is refused for what it says.
    assert_eq!(head.map(|head| head.framing), expected);
    let both = !said.lengths.is_empty() && !said.codings.is_empty();
    if let Some(head) = head.filter(|_| both) {
        assert!(!head.keep_alive, "two framings spoil the connection");
    }
}
