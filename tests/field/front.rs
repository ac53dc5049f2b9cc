//! Requests at the front: which of several credentials counts, and that none of them goes further.

use support::gateway::{Config, Gateway, K1, K2};
use support::origin::Origin;
use support::strict::Message;
use support::{J, PATIENCE, eventually};

/// What SDKs and proxies send beside the key that counts.
const DUMMY: &str = "sk-not-known-here-4f1d";

fn start() -> (Origin, Gateway) {
    let origin = Origin::start();
    let log = "[access_log]\npath = \"stdout\"";
    let gateway = Gateway::start(&Config::simple(origin.port).top("debug_headers = true").tables(log));
    (origin, gateway)
}

fn with(gateway: &Gateway, lines: &[&str]) -> Message {
    let mut client = gateway.connect();
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    client.send(
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: gw.test\r\n{lines}Content-Length: 27\r\n\r\n{J}"
        )
        .as_bytes(),
    );
    client.answer().expect("a response")
}

const NAMES: [&str; 4] = ["Authorization: Bearer", "x-api-key:", "api-key:", "x-goog-api-key:"];

/// A key may come in each of the four lines, beside anything that is not known in any of the others.
#[test]
fn the_known_key_wins_over_unknown_ones() {
    let (origin, gateway) = start();
    let mut count = 0;
    for known in NAMES {
        let line = format!("{known} {K1}");
        assert_eq!(with(&gateway, &[&line]).status(), 200, "{line}");
        count += 1;
        for other in NAMES.iter().filter(|name| **name != known) {
            let dummy = format!("{other} {DUMMY}");
            assert_eq!(with(&gateway, &[&line, &dummy]).status(), 200, "{line}, {dummy}");
            assert_eq!(with(&gateway, &[&dummy, &line]).status(), 200, "{dummy}, {line}");
            count += 2;
        }
    }
    let login = "Authorization: Basic dXNlcjpwYXNzd29yZA==";
    assert_eq!(with(&gateway, &[login, &format!("x-api-key: {K1}")]).status(), 200);
    let all: Vec<String> = NAMES.iter().map(|name| format!("{name} {K1}")).collect();
    assert_eq!(with(&gateway, &all.iter().map(String::as_str).collect::<Vec<_>>()).status(), 200);
    assert_eq!(origin.seen().len(), count + 2);
    for seen in origin.seen() {
        let raw = String::from_utf8_lossy(&seen.raw).to_lowercase();
        for part in [K1, DUMMY, "api-key", "authorization", "dxnlcjpwyxn"] {
            assert!(!raw.contains(&part.to_lowercase()), "{part} reached the backend: {raw}");
        }
    }
    let counted = || gateway.said().lines().filter(|line| line.contains("\"key\":\"one\"")).count();
    assert!(eventually(PATIENCE, || counted() == count + 2), "{}", counted());
    assert!(!gateway.said().contains(DUMMY) && !gateway.said().contains(K1));
}

/// Two keys that are both known name two tenants: neither is chosen.
#[test]
fn two_known_keys_are_refused() {
    let (origin, gateway) = start();
    for (index, one) in NAMES.iter().enumerate() {
        for other in &NAMES[index + 1..] {
            let response = with(&gateway, &[&format!("{one} {K1}"), &format!("{other} {K2}")]);
            assert_eq!(response.status(), 400, "{one} {other}: {response:?}");
            assert!(!response.text().contains(K1) && !response.text().contains(K2));
        }
    }
    let three =
        [&*format!("x-api-key: {K1}"), &format!("api-key: {DUMMY}"), &format!("x-goog-api-key: {K2}")];
    assert_eq!(with(&gateway, &three).status(), 400);
    assert!(origin.seen().is_empty());
}

/// Only unknown ones, in whatever number, are one failure.
#[test]
fn unknown_keys_together_are_a_401() {
    let (origin, gateway) = start();
    for lines in [
        &[&*format!("Authorization: Bearer {DUMMY}"), "x-api-key: other"][..],
        &["api-key: a", "x-goog-api-key: b"],
        &["Authorization: Basic dXNlcjpwYXNz", "x-api-key: dummy"],
        &["x-goog-api-key: "],
        &["api-key: "],
    ] {
        let response = with(&gateway, lines);
        assert_eq!(response.status(), 401, "{lines:?}: {response:?}");
        assert_eq!(response.json()["error"]["code"], "invalid_api_key");
    }
    assert!(origin.seen().is_empty());
}

/// What clients and proxies make of the lines in which a key comes.
#[test]
fn keys_in_other_forms_are_known() {
    let (origin, gateway) = start();
    for lines in [
        &[&*format!("authorization: bearer {K1}")][..],
        &[&format!("AUTHORIZATION: BEARER   {K1}  ")],
        &["Authorization: Bearer", &format!("X-Api-Key:{K1}")],
        &["Authorization: Bearer null", &format!("x-api-key: {K1}")],
        &[
            "Authorization: AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c",
            &format!("api-key: {K1}"),
        ],
        &["x-api-key: ", &format!("Authorization: Bearer {K1}")],
        &["Authorization: Bearer sk-ant-oat01-x", "anthropic-beta: oauth", &format!("x-api-key: {K1}")],
    ] {
        assert_eq!(with(&gateway, lines).status(), 200, "{lines:?}");
    }
    let count = origin.seen().len();
    for lines in [
        &[&*format!("Authorization: Bearer {K1}, Bearer {K1}")][..],
        &[&format!("Authorization: Token {K1}")],
        &[&format!("Authorization: {K1}")],
        &[&format!("X-Api-Key: Bearer {K1}")],
        &[&format!("Proxy-Authorization: Bearer {K1}")],
        &[&format!("Cookie: api-key={K1}")],
    ] {
        let response = with(&gateway, lines);
        assert_eq!(response.status(), 401, "{lines:?}: {response:?}");
        assert!(!response.text().contains(K1), "{response:?}");
    }
    assert_eq!(origin.seen().len(), count);
    assert!(!gateway.said().contains(K1));
}
