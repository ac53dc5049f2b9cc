//! Requests with one to three edits made from a seed: whatever they become, the gateway answers in sound HTTP or closes,
//! its backend sees sound requests only, and nobody else notices.
//!
//! Behind each request lies another one with a key that is not known and a mark: wherever the edits move the border
//! between the two, the mark must never reach the backend. `RINGWAY_CAMPAIGN=1` makes 100,000 inputs, the test a thousand;
//! a failure names its seed, and `RINGWAY_SEED` starts from another.
#![allow(clippy::print_stdout)] // how many inputs there were, and what became of them

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use support::canary::Canaries;
use support::chance::Chance;
use support::client::Client;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Origin, Seen, completion};
use support::{chat_head, models_head};

/// Connections at once.
const WORKERS: u64 = 48;
/// What the backend must never see.
const MARK: &str = "x-evil";

/// A sound request; its body, if it has one, names the nonce.
fn base(chance: &mut Chance, nonce: &str) -> Vec<u8> {
    let body = format!(r#"{{"model":"m","messages":[],"user":"{nonce}"}}"#);
    let head = chat_head(K1, nonce);
    let text = match chance.below(6) {
        0 => format!("{}\r\n", models_head(K1)),
        1 => format!("{head}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        2 | 3 => {
            let (one, two) = body.split_at(1 + chance.below(body.len() - 1));
            let (first, second) = (one.len(), two.len());
            format!(
                "{head}Transfer-Encoding: chunked\r\n\r\n{first:x};a=b\r\n{one}\r\n{second:X}\r\n{two}\r\n0\r\nX-T: 1\r\n\r\n"
            )
        }
        _ => format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
    };
    text.into_bytes()
}

/// The request behind, which nobody may forward.
fn behind(nonce: &str) -> Vec<u8> {
    let body = format!(r#"{{"model":"m","messages":[],"user":"{nonce}"}}"#);
    let head = chat_head("rw-a-key-that-is-not-known", nonce);
    format!("{head}{MARK}: 1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Tokens that parsers differ about.
#[rustfmt::skip]
const TOKENS: &[&str] = &[
    "\r\n", "\n", "\r", "\r\n\r\n", " ", "\t", ":", ";", ",", "\0", "\x0b", "\x7f", "0", "1", "9", "+", "-", "0x", "_", "\"",
    "{", "}", "[", "\\", "/", "..", "//", "%00", "?", "#", "*", "@", "Content-Length: 0\r\n", "Content-Length: 5\r\n",
    "content-length:1\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: identity\r\n", "transfer-encoding:\tchunked\r\n",
    "Transfer_Encoding: chunked\r\n", "Connection: close\r\n", "Connection: content-length\r\n", "Host: a\r\n", " folded\r\n",
    "Authorization: Bearer x\r\n", "Expect: 100-continue\r\n", "Upgrade: h2c\r\n", "0\r\n\r\n", "ffffffffffffffff\r\n", "HTTP/1.0",
    "HTTP/2.0", "HTTP/1.1", "GET ", "POST ", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\u{feff}", "\u{2028}", "\"model\":\"x\",",
    "\"stream\":true,", "\"n\":99999999999,", "\"model\":{},",
];

/// One to three edits; most of them where the framing is.
fn edit(bytes: &mut Vec<u8>, chance: &mut Chance) {
    for _ in 0..1 + chance.below(3) {
        let at = chance.below(bytes.len());
        match chance.below(8) {
            0 => bytes[at] ^= 1 << chance.below(8),
            1 => bytes[at] = chance.word() as u8,
            2 | 3 => {
                let token = chance.one(TOKENS).bytes();
                bytes.splice(at..at, token);
            }
            4 => {
                let end = (at + 1 + chance.below(8)).min(bytes.len());
                bytes.drain(at..end);
            }
            5 => {
                let end = (at + 1 + chance.below(60)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(end..end, copy);
            }
            6 => {
                // A token at the end of a line, or at its beginning.
                let line = memchr::memchr(b'\n', &bytes[at..]).map_or(at, |found| at + found + 1);
                let place = if chance.below(2) == 0 { line.saturating_sub(2) } else { line };
                bytes.splice(place..place, chance.one(TOKENS).bytes());
            }
            _ => bytes.truncate(at.max(1)),
        }
        if bytes.is_empty() {
            return bytes.push(b'x');
        }
    }
}

/// What became of an input, in a word.
fn run(gateway: &Gateway, seed: u64, nonce: &str) -> String {
    let mut chance = Chance(seed);
    let mut bytes = base(&mut chance, nonce);
    edit(&mut bytes, &mut chance);
    bytes.extend(behind(nonce));
    let mut client = Client::connect(gateway.port);
    if chance.below(3) == 0 {
        let (one, two) = bytes.split_at(chance.below(bytes.len()));
        client.send(one);
        std::thread::sleep(Duration::from_millis(1));
        client.send(two);
    } else {
        client.send(&bytes);
    }
    let outcome = client.finish(&[], Duration::from_secs(10));
    let told = || format!("seed {seed}: {}\n{outcome:?}", bytes.escape_ascii());
    assert!(outcome.error.is_none(), "answers that are no HTTP: {}", told());
    assert!(outcome.cut.is_none(), "an answer that ends early: {}", told());
    assert_ne!(outcome.end, support::client::End::Open, "the connection hangs: {}", told());
    for answer in &outcome.answers {
        let fits =
            matches!(answer.status(), 200 | 400..=405 | 408 | 411 | 413..=415 | 417 | 429 | 431 | 501 | 505);
        assert!(fits, "{}", told());
    }
    assert!(outcome.answers.len() <= 4, "more answers than requests: {}", told());
    outcome.answers.first().map_or("closed".to_owned(), |answer| answer.status().to_string())
}

#[test]
fn edited_requests_are_answered_or_refused_and_move_no_border() {
    let first: u64 = std::env::var("RINGWAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let count = if support::is_campaign() { 100_000 } else { 1_000 };
    let origin = Origin::scripted(|talk| match talk.request.all("x-nonce").len() {
        1 => support::origin::echo(talk),
        _ => talk.answer("200 OK", "Content-Type: application/json\r\n", &completion("whoever")),
    });
    let quick = "[timeouts]\nhead = \"300ms\"\nbody = \"300ms\"\nkeep_alive = \"300ms\"\n[limits]\nauth_failures_per_minute = 0";
    let mut gateway = Gateway::start(&Config::simple(origin.port).tables(quick));
    let canaries = Canaries::start(&gateway);
    let next = AtomicU64::new(first);
    let outcomes = Mutex::new(BTreeMap::<String, u64>::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + count {
                        return;
                    }
                    let nonce = format!("n{seed:011}");
                    let became = run(&gateway, seed, &nonce);
                    *outcomes.lock().expect("not poisoned").entry(became).or_default() += 1;
                    // What the backend saw of it: taken away, so that a campaign does not pile up.
                    let names_it = |seen: &Seen| {
                        let lines = seen.request.all("x-nonce");
                        lines.contains(&nonce.as_bytes()) || seen.request.text().contains(&nonce)
                    };
                    for seen in origin.take(names_it) {
                        assert!(!seen.request.has(MARK), "seed {seed}: the border moved: {:?}", seen.request);
                        // Text that is no UTF-8 passes as it is.
                        let body: serde_json::Value =
                            serde_json::from_str(&seen.request.text()).unwrap_or_default();
                        assert!(body.is_object(), "seed {seed}: no JSON went on: {:?}", seen.request);
                    }
                }
            });
        }
    });
    let complaints = canaries.finish();
    assert!(complaints.is_empty(), "other clients noticed: {complaints:?}");
    assert!(origin.faults().is_empty(), "the backend saw no HTTP: {:?}", origin.faults());
    assert!(origin.seen().iter().all(|seen| !seen.request.has(MARK)), "the border moved");
    println!("{count} inputs from seed {first}: {:?}", outcomes.into_inner().expect("not poisoned"));
    gateway.check_alive();
}
