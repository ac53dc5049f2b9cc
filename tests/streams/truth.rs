//! Streams that are cut anywhere: what arrives is what was written, to the byte, and nothing that was cut looks whole.
//!
//! The backend writes a stream made from a seed, in pieces made from it, and ends it where the seed says: whole, by a FIN
//! or by a RST, in the middle of an event, of a chunk or of a size line. `RINGWAY_CAMPAIGN=1` runs 10,000 of them, the
//! test a thousand; a failure names its seed, and `RINGWAY_SEED` starts from another.
#![allow(clippy::print_stdout)] // how many streams there were

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use support::chance::Chance;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk};
use support::sse;
use support::{PATIENCE, chat};

/// Streams at once. Each has a backend of its own, and a whole answer after every cut, so that no breaker opens.
const WORKERS: usize = 8;

/// What one stream is, and where it ends.
#[derive(Debug)]
struct Case {
    /// Everything the backend would write as payload.
    payload: Vec<u8>,
    /// In chunks, or until the connection closes.
    chunked: bool,
    /// The bytes of the answer, framing included, that are written before it ends; all of them if it is whole.
    wire: Vec<u8>,
    cut: Option<usize>,
    reset: bool,
    /// Seed of the sizes and pauses of the writes.
    pieces: u64,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let mut payload = String::new();
        for index in 0..1 + chance.below(40) {
            let size = match chance.below(10) {
                0 => chance.below(9_000),
                1..3 => chance.below(400),
                _ => chance.below(12),
            };
            payload.push_str(&sse::content(&format!("{index} {}", "x".repeat(size))));
            if chance.below(12) == 0 {
                payload.push_str(": a comment\n\n");
            }
        }
        payload.push_str(&sse::finish());
        payload.push_str(&sse::usage(3, 40));
        payload.push_str(sse::DONE);
        let payload = payload.into_bytes();
        let chunked = chance.below(4) > 0;
        let mut wire = Vec::new();
        if chunked {
            let mut rest = &payload[..];
            while !rest.is_empty() {
                let (chunk, behind) = rest.split_at((1 + chance.below(3_000)).min(rest.len()));
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
                rest = behind;
            }
            wire.extend_from_slice(b"0\r\n\r\n");
        } else {
            wire.clone_from(&payload);
        }
        let cut = (chance.below(8) > 0).then(|| chance.below(wire.len()));
        Self { payload, chunked, cut, reset: chance.below(2) == 0, pieces: chance.word(), wire }
    }

    fn play(&self, talk: &Talk) -> Next {
        let framing = if self.chunked { "Transfer-Encoding: chunked" } else { "Connection: close" };
        talk.send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n\r\n"));
        let mut rest = &self.wire[..self.cut.unwrap_or(self.wire.len())];
        let mut chance = Chance(self.pieces);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((1 + chance.below(5_000)).min(rest.len()));
            if !talk.send(piece) {
                return Next::Close;
            }
            if chance.below(6) == 0 {
                talk.pause(Duration::from_millis(1));
            }
            rest = behind;
        }
        match (self.cut, self.reset) {
            (Some(_), true) => Next::Reset,
            (None, _) if self.chunked => Next::Keep,
            _ => Next::Close,
        }
    }

    /// Whether the client should get a proper end.
    fn is_whole(&self) -> bool {
        self.cut.is_none() || self.ends_by_close()
    }

    /// Without chunks a close is an end if the finish reason has come before it, and nothing is cut: the last event may
    /// lack its blank line. After a reset what was written may be lost.
    fn ends_by_close(&self) -> bool {
        let finish = sse::finish();
        let behind = memchr::memmem::find(&self.payload, finish.as_bytes()).expect("a finish") + finish.len();
        let is_end = |cut: usize| {
            let sent = &self.payload[..cut];
            cut >= behind && (sent.ends_with(b"\n") || sent.ends_with(b"}}") || sent.ends_with(b"[DONE]"))
        };
        !self.chunked && !self.reset && self.cut.is_some_and(is_end)
    }
}

fn check(seed: u64, case: &Case, outcome: &support::client::Outcome) {
    let told = || format!("seed {seed}: cut {:?} of {}, reset {}", case.cut, case.wire.len(), case.reset);
    let (answer, ended) = match (outcome.answers.first(), &outcome.cut) {
        (Some(answer), _) => (answer, true),
        (None, Some(cut)) => (cut, false),
        // Cut before the first event: refused in words, or the connection is simply gone.
        (None, None) => {
            assert!(!case.is_whole(), "{}: nothing came of a whole stream: {outcome:?}", told());
            return;
        }
    };
    if answer.status() != 200 {
        assert!(answer.status() == 502 && !case.is_whole(), "{}: {answer:?}", told());
        return;
    }
    if case.is_whole() {
        let sent = &case.payload[..case.cut.unwrap_or(case.payload.len())];
        assert!(
            ended && answer.body.starts_with(sent),
            "{}: not whole: {} after {}",
            told(),
            answer.body[answer.body.len().saturating_sub(250)..].escape_ascii(),
            sent[sent.len().saturating_sub(200)..].escape_ascii()
        );
        let added = std::str::from_utf8(&answer.body[sent.len()..]).expect("text");
        let fits = added.is_empty() || case.cut.is_some() && added.trim_start() == sse::DONE;
        assert!(fits, "{}: {added:?}", told());
        return;
    }
    // A proper end needs an error as the last word, in words of ours, at an event boundary.
    let delivered = match ended {
        true => {
            let at = memchr::memmem::rfind(&answer.body, b"data: {\"error\":{");
            let at = at.unwrap_or_else(|| panic!("{}: an end without an error", told()));
            let (delivered, error) = answer.body.split_at(at);
            assert!(
                error.ends_with(b"}}\n\n") && delivered.is_empty() | delivered.ends_with(b"\n\n"),
                "{}",
                told()
            );
            delivered
        }
        false => &answer.body,
    };
    assert!(case.payload.starts_with(delivered), "{}: bytes that nobody wrote", told());
    let body = answer.text();
    assert!(!body.ends_with(sse::DONE), "{}: a cut stream looks finished", told());
}

#[test]
fn what_arrives_is_what_was_written_and_no_cut_looks_whole() {
    let first: u64 = std::env::var("RINGWAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let count = if support::is_campaign() { 10_000 } else { 1_000 };
    let origin = Origin::scripted(|talk| match talk.nonce().parse() {
        Ok(seed) => Case::new(seed).play(talk),
        Err(_) => support::origin::echo(talk),
    });
    let config = (0..WORKERS).fold(Config::new().key("one", K1, ""), |config, worker| {
        let name = format!("m{worker}");
        config.backend(&name, origin.port, "health = { enabled = false }").model(&name, &[&name], "")
    });
    let mut gateway = Gateway::start(&config);
    let next = AtomicU64::new(first);
    let cuts = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (gateway, next, cuts) = (&gateway, &next, &cuts);
            let plain = format!("{{\"model\":\"m{worker}\",\"messages\":[]}}");
            let stream =
                plain.replace("[]", "[],\"stream\":true,\"stream_options\":{\"include_usage\":true}");
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + count {
                        return;
                    }
                    let mut client = gateway.connect();
                    let text = String::from_utf8(chat(K1, &seed.to_string(), &stream)).expect("text");
                    client.send(text.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes());
                    let case = Case::new(seed);
                    cuts.fetch_add(u64::from(!case.is_whole()), Ordering::SeqCst);
                    check(seed, &case, &client.finish(&[], PATIENCE));
                    assert_eq!(support::ask(gateway, &plain, "after").status(), 200, "after seed {seed}");
                }
            });
        }
    });
    println!("{count} streams from seed {first}, {} of them cut", cuts.load(Ordering::SeqCst));
    gateway.check_alive();
}
