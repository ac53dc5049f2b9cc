//! Request bodies that come compressed, and ids that clients give their requests.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use support::gateway::{Config, Gateway, K1};
use support::origin::Origin;
use support::strict::Message;
use support::{J, PATIENCE, eventually};

fn start(tables: &str) -> (Origin, Gateway) {
    let origin = Origin::start();
    let more = "serves = [\"chat\", \"responses\", \"messages\"]\nhealth = { enabled = false }";
    let config = Config::new().backend("b1", origin.port, more).key("one", K1, "tokens_per_minute = 1000000");
    let model = "[model.m]\nbackends = [{ name = \"b1\", model = \"its-own-name\" }]";
    let gateway = Gateway::start(&config.tables(model).tables(tables));
    (origin, gateway)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn bare(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(text: &[u8]) -> Vec<u8> {
    compress_to_vec(text, CompressionLevel::Fastest)
}

fn head(path: &str, lines: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {K1}\r\nContent-Type: application/json\r\n{lines}"
    )
    .into_bytes()
}

fn coded(path: &str, coding: &str, body: &[u8]) -> Vec<u8> {
    let lines = format!("Content-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head(path, &lines), body.to_vec()].concat()
}

fn in_chunks(path: &str, coding: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = head(path, &format!("Content-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n\r\n"));
    for chunk in body.chunks(1000) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn send(gateway: &Gateway, bytes: &[u8]) -> Message {
    let mut client = gateway.connect();
    client.send(bytes);
    client.answer().expect("a response")
}

/// Words that compress as those of a chat do.
fn words(count: usize) -> String {
    (0..count).map(|index| format!("word{} ", index.wrapping_mul(7919) % 1000)).collect()
}

/// Agents send zstd, proxies and SDKs gzip: a backend gets the plain body, with its length and its own name for the model.
#[test]
fn compressed_bodies_reach_the_backend_plain() {
    let (origin, gateway) = start("");
    let mut client = gateway.connect();
    let mut expected = Vec::new();
    for count in [1, 100, 200_000] {
        let text = words(count);
        for (path, body) in [
            (
                "/v1/chat/completions",
                format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#),
            ),
            ("/v1/responses", format!(r#"{{"model":"m","input":"{text}"}}"#)),
            (
                "/v1/messages",
                format!(
                    r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"{text}"}}]}}"#
                ),
            ),
        ] {
            let bytes = body.as_bytes();
            for request in [
                coded(path, "gzip", &gzip(bytes)),
                coded(path, "X-GZIP", &gzip(bytes)),
                coded(path, "deflate", &zlib(bytes)),
                coded(path, "deflate", &bare(bytes)),
                coded(path, "zstd", &zstd(bytes)),
                coded(path, "identity", bytes),
                in_chunks(path, "zstd", &zstd(bytes)),
                in_chunks(path, "gzip", &gzip(bytes)),
            ] {
                client.send(&request); // all on one connection
                let response = client.answer().expect("a response");
                assert_eq!(response.status(), 200, "{path} {count}: {response:?}");
                expected.push(body.replace("\"m\"", "\"its-own-name\""));
            }
        }
    }
    let seen = origin.seen();
    assert_eq!(seen.len(), expected.len());
    for (seen, body) in seen.iter().zip(&expected) {
        assert!(!seen.request.has("content-encoding"), "{:?}", seen.request.one("content-encoding"));
        assert_eq!(seen.request.one("content-length"), body.len().to_string());
        assert!(seen.request.text() == *body, "{} bytes", body.len());
    }
}

/// What a body is worth is counted after it was decoded: 1.6 MB of words are more than its 100 KB look like.
#[test]
fn what_is_reserved_is_for_the_decoded_body() {
    let (_origin, gateway) = start("");
    let body = format!(r#"{{"model":"m","messages":"{}"}}"#, words(200_000));
    let request = coded("/v1/chat/completions", "gzip", &gzip(body.as_bytes()));
    let remaining =
        send(&gateway, &request).one("x-ratelimit-remaining-tokens").parse::<u64>().expect("a number");
    assert!(remaining < 1_000_000 - 300_000, "{remaining}");
}

/// A few bytes may stand for gigabytes: what comes out is bounded by the limit for bodies, and by how much it grows.
#[test]
fn bombs_are_refused_and_cost_no_memory() {
    let (origin, mut gateway) = start("[limits]\nbody = \"8MiB\"");
    assert_eq!(send(&gateway, &coded("/v1/chat/completions", "gzip", &gzip(J.as_bytes()))).status(), 200);
    let before = gateway.resident();
    let even = vec![b' '; 64 << 20];
    let long = format!(r#"{{"model":"m","messages":"{}"}}"#, words(2_000_000));
    let nested = gzip(&gzip(&even));
    for (coding, body, status) in [
        ("gzip", gzip(&even), 413),
        ("deflate", zlib(&even), 413),
        ("zstd", zstd(&even), 413),
        ("gzip", gzip(long.as_bytes()), 413),
        ("zstd", zstd(long.as_bytes()), 413),
        ("gzip", nested.clone(), 400),
        ("gzip, gzip", nested, 415),
    ] {
        for request in
            [coded("/v1/chat/completions", coding, &body), in_chunks("/v1/chat/completions", coding, &body)]
        {
            let response = send(&gateway, &request);
            assert_eq!(response.status(), status, "{coding}: {response:?}");
        }
    }
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 128 << 20, "{grown} bytes more");
    gateway.check_alive();
    assert_eq!(origin.seen().len(), 1);
}

/// The body was read to its end, so the connection goes on.
#[test]
fn a_body_that_is_not_what_it_says_is_refused() {
    let (origin, gateway) = start("");
    let mut client = gateway.connect();
    let whole = gzip(J.as_bytes());
    let spoilt: Vec<u8> = whole
        .iter()
        .enumerate()
        .map(|(at, byte)| if at == whole.len() - 6 { !byte } else { *byte })
        .collect();
    for (coding, body) in [
        ("gzip", J.as_bytes().to_vec()),
        ("zstd", J.as_bytes().to_vec()),
        ("deflate", J.as_bytes().to_vec()),
        ("gzip", whole[..whole.len() - 4].to_vec()),
        ("gzip", spoilt),
        ("gzip", [whole.clone(), b"more".to_vec()].concat()),
        ("zstd", whole.clone()),
        ("gzip", gzip(b"{")),
        ("gzip", gzip(b"")),
    ] {
        client.send(&coded("/v1/chat/completions", coding, &body));
        let response = client.answer().expect("a response");
        assert_eq!(response.status(), 400, "{coding}: {response:?}");
        assert_eq!(response.json()["error"]["code"], "invalid_body", "{response:?}");
    }
    client.send(&coded("/v1/chat/completions", "gzip", &whole));
    assert_eq!(client.answer().expect("a response").status(), 200);
    for coding in ["br", "compress", "gzip, br", "snappy"] {
        let response = send(&gateway, &coded("/v1/chat/completions", coding, &whole));
        assert_eq!(response.status(), 415, "{coding}: {response:?}");
        assert_eq!(response.one("accept-encoding"), "zstd, gzip, deflate", "{response:?}");
    }
    assert_eq!(origin.seen().len(), 1);
}

/// An id that a client gives its request is the one by which it is found everywhere.
#[test]
fn a_clients_request_id_is_kept() {
    let (origin, gateway) = start("[access_log]\npath = \"stdout\"");
    let longest = "x".repeat(128);
    let ids = ["550e8400-e29b-41d4-a716-446655440000", "a", "trace:01/2=3", &longest];
    for id in ids {
        for (path, name) in [
            ("/v1/chat/completions", "x-request-id"),
            ("/v1/messages", "request-id"),
            ("/v1/messages", "x-request-id"),
        ] {
            let lines = format!("X-Request-Id: {id}\r\nContent-Length: 27\r\n\r\n{J}");
            let response = send(&gateway, &head(path, &lines));
            assert_eq!((response.status(), response.one(name).as_str()), (200, id), "{path}");
        }
        let wrong = format!(
            "POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Request-Id: {id}\r\nContent-Length: 0\r\n\r\n"
        );
        let refused = send(&gateway, wrong.as_bytes());
        assert_eq!((refused.status(), refused.one("request-id").as_str()), (401, id), "{refused:?}");
        assert_eq!(refused.json()["request_id"], id, "{refused:?}");
        let logged = || gateway.said().matches(&format!("\"request_id\":\"{id}\"")).count();
        assert!(eventually(PATIENCE, || logged() == 4), "{id}: {}", gateway.said());
    }
    assert!(origin.seen().iter().all(|seen| ids.contains(&&*seen.request.one("x-request-id"))));
    for id in ["", "a b", "a\"b", "{\"a\":1}", "\u{fc}", &"x".repeat(129)] {
        let lines = format!("X-Request-Id: {id}\r\nContent-Length: 27\r\n\r\n{J}");
        let response = send(&gateway, &head("/v1/chat/completions", &lines));
        assert_eq!(response.one("x-request-id").len(), 32, "{id}: {response:?}");
    }
}
