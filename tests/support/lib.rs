//! The harness of the whole-system tests: a gateway, origins behind it, clients in front of it, and judges.
//!
//! Black box: nothing here imports the gateway's code. Every wait is bounded by [`PATIENCE`] or a stated time; no
//! judgement depends on how fast the machine is. A package of its own, so that it is compiled once for all test programs.
#![allow(clippy::print_stdout)] // tests say on stdout what they skipped

pub mod canary;
pub mod capture;
pub mod chance;
pub mod client;
pub mod config;
pub mod folder;
pub mod gateway;
pub mod jwt;
pub mod origin;
pub mod redis;
pub mod sse;
pub mod strict;
pub mod table;
#[cfg(test)]
mod tests;
pub mod tls;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take that should happen at once. Generous: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The smallest request body, 27 bytes.
pub const J: &str = r#"{"model":"m","messages":[]}"#;

/// The built gateway: the one that `RINGWAY_BIN` names, else the one that cargo builds beside every test program.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("RINGWAY_BIN").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let own = std::env::current_exe().expect("the path of this program"); // target/PROFILE/deps/NAME-HASH
    own.ancestors().nth(2).expect("the folder of the profile").join("ringway")
}

/// Whether this run is a campaign: the long form of tests that have one.
pub fn is_campaign() -> bool {
    std::env::var_os("RINGWAY_CAMPAIGN").is_some()
}

/// Polls until `done` says so; false if it has not within `patience`.
pub fn eventually(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    loop {
        if done() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The bytes that a connection over loopback takes at most before its other side reads: the two buffers at their
/// largest (the last figures of the kernel's `tcp_wmem` and `tcp_rmem`).
pub fn sockets_hold() -> usize {
    ["tcp_wmem", "tcp_rmem"]
        .iter()
        .map(|name| {
            let text =
                std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).expect("the kernel's figures");
            text.split_whitespace().last().and_then(|most| most.parse::<usize>().ok()).expect("three figures")
        })
        .sum()
}

/// A text of 12 bytes that no other call of this process returns.
pub fn nonce() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("n{:011}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The head of a chat request up to the blank line, with a nonce.
pub fn chat_head(key: &str, nonce: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nX-Nonce: {nonce}\r\n"
    )
}

/// A whole chat request.
pub fn chat(key: &str, nonce: &str, body: &str) -> Vec<u8> {
    format!("{}Content-Length: {}\r\n\r\n{body}", chat_head(key, nonce), body.len()).into_bytes()
}

/// The answer to a chat request over a connection of its own.
pub fn ask(gateway: &gateway::Gateway, body: &str, nonce: &str) -> strict::Message {
    let mut client = gateway.connect();
    client.send(&chat(gateway::K1, nonce, body));
    client.answer().unwrap_or_else(|error| panic!("{nonce}: {error}"))
}

/// Asks `turns` times for an answer and for a stream on one connection to an echoing origin; all have to be whole.
pub fn check_answers_and_streams(client: &mut client::Client, turns: usize) {
    for turn in 0..turns {
        let nonce = format!("whole-{turn}");
        client.send(&chat(gateway::K1, &nonce, J));
        assert_eq!(client.answer().expect("an answer").text(), origin::completion(&nonce));
        let body = r#"{"model":"m","messages":[],"stream":true}"#;
        client.send(&chat(gateway::K1, &format!("stream-{turn}"), body));
        let stream = client.answer().expect("a stream");
        let text = format!("stream-{turn}-0 stream-{turn}-1 stream-{turn}-2 ");
        assert_eq!(sse::judge(&stream.text()), (text, sse::Ending::Finished), "{stream:?}");
    }
}

/// A chat request that asks the origin for its script of that name.
pub fn case_request(key: &str, case: &str, body: &str) -> Vec<u8> {
    let head = chat_head(key, case);
    format!("{head}X-Case: {case}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The head of a request for the list of models up to the blank line.
pub fn models_head(key: &str) -> String {
    format!("GET /v1/models HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {key}\r\n")
}
