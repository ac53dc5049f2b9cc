//! Request targets: what is routed is what is written, and no reader can resolve it to another path.

use ringway::dialect::{Api, route};
use ringway::wire::Step;
use ringway::wire::head::{HeadLimits, request};

const LIMITS: HeadLimits = HeadLimits { bytes: 1 << 14, lines: 10, target_bytes: 1 << 13 };

pub(crate) fn run(data: &[u8]) {
    for method in ["GET", "OPTIONS"] {
        // HTTP/1.0: the host may be the target's own.
        let bytes = [method.as_bytes(), b" ", data, b" HTTP/1.0\r\n\r\n"].concat();
        let accepted = match request(&bytes, &mut 0, &LIMITS) {
            Ok(Step::Done(head)) if head.len == bytes.len() => Some(head),
            _ => None,
        };
        if let Some(head) = accepted {
            assert_eq!(head.target.of(&bytes), data, "the target is all of it");
            check(data, head.path.of(&bytes), head.query.of(&bytes), head.host.of(&bytes), method);
        }
        let is_plain = data.len() > 1
            && data[0] == b'/'
            && data[1..].split(|&byte| byte == b'/').all(|part| {
                !part.is_empty() && part.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            });
        assert!(!is_plain || accepted.is_some(), "a plain path is refused");
    }
}

fn check(target: &[u8], path: &[u8], query: &[u8], host: &[u8], method: &str) {
    let text = std::str::from_utf8(target).expect("an accepted target is ASCII");
    if text == "*" {
        return assert_eq!((path, method), (&b"*"[..], "OPTIONS"));
    }
    let rest = match text.strip_prefix('/') {
        Some(_) => {
            assert!(host.is_empty());
            text.to_owned()
        }
        None => {
            let (scheme, rest) = text.split_once("://").expect("a target without a path names its scheme");
            assert!(["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()));
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            assert_eq!(&rest.as_bytes()[..end], host);
            check_host(&rest[..end]);
            rest[end..].to_owned()
        }
    };
    let (before, behind) = rest.split_once('?').unwrap_or((&rest, ""));
    assert_eq!(path, if before.is_empty() { b"/" } else { before.as_bytes() });
    assert_eq!(query, behind.as_bytes());
    assert!(rest.bytes().all(|byte| byte > b' ' && byte < 0x7f && !b"\"#<>[\\]^`{|}".contains(&byte)));

    // A backend that decodes and then resolves comes to the path that was routed.
    let path = std::str::from_utf8(path).expect("a path is ASCII");
    let names_model = path.starts_with("/v1/models/") || path.starts_with("/models/");
    let decoded = decode(path);
    assert!(!decoded.iter().any(|&byte| byte < b' ' || byte == 0x7f || byte == b'\\'));
    if !names_model {
        let segments: Vec<&[u8]> = decoded[1..].split(|&byte| byte == b'/').collect();
        for (index, segment) in segments.iter().enumerate() {
            let name = segment.split(|&byte| byte == b';').next().unwrap_or_default();
            assert!(name != b"." && name != b"..", "a dot segment");
            assert!(!segment.is_empty() || index + 1 == segments.len(), "an empty segment");
        }
    }

    // Only the paths of the list name an endpoint, with and without `/v1`, and with one slash behind.
    if let Ok(api) = route(b"POST", path.as_bytes()).or_else(|_| route(b"GET", path.as_bytes())) {
        let bare = path.strip_suffix('/').unwrap_or(path);
        let known = api.path().trim_start_matches("/v1");
        let bare = bare.strip_prefix("/v1").unwrap_or(bare);
        match api {
            Api::ModelById => assert!(bare.starts_with("/models/")),
            Api::Rerank => assert!(bare == "/rerank" || bare == "/v2/rerank"),
            _ => assert_eq!(bare, known),
        }
    }
    if let Some(id) = ringway::dialect::route::model_id(path.as_bytes()) {
        let bare = path.strip_suffix('/').unwrap_or(path);
        let bare = bare.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(bare);
        let written = bare.strip_prefix("/models/").expect("only this path names a model");
        assert_eq!(id.as_bytes(), decode(written));
    }
}

fn check_host(host: &str) {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| match port.parse::<u16>() {
        Ok(port) => {
            assert_ne!(port, 0);
            name
        }
        Err(_) => host,
    });
    let is_literal = name.starts_with('[') && name.ends_with(']');
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    assert!(is_literal || (!name.is_empty() && name.bytes().all(is_name)), "{host}");
}

fn decode(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        decoded.push(u8::from_str_radix(&part[..2], 16).expect("an accepted encoding is two hex digits"));
        decoded.extend_from_slice(&part.as_bytes()[2..]);
    }
    decoded
}
