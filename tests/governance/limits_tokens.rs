//! Limits per key hold under concurrency, and what was taken too much comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use support::client::Client;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin};
use support::strict::Message;
use support::{PATIENCE, chat, chat_head, eventually, nonce, sse};

fn start(origin: &Origin, key: &str) -> Gateway {
    let more = "kind = \"vllm\"\nhealth = { enabled = false }";
    Gateway::start(
        &Config::new().backend("b1", origin.port, more).model("m", &["b1"], "").key("one", K1, key),
    )
}

fn ask(gateway: &Gateway, body: &str) -> Message {
    let mut client = gateway.connect();
    client.send(&chat(K1, &nonce(), body));
    client.answer().expect("an answer")
}

/// The smallest request that names its cap.
fn capped(tokens: u64) -> String {
    format!(r#"{{"model":"m","max_tokens":{tokens}}}"#)
}

/// Releases requests at once, each on a connection of its own, and counts the answers by status.
fn storm(gateway: &Gateway, count: usize, body: &str) -> (usize, usize, Vec<u16>) {
    let barrier = Arc::new(Barrier::new(count));
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let (barrier, mut client) = (Arc::clone(&barrier), gateway.connect());
            let bytes = chat(K1, &nonce(), body);
            let thread = std::thread::Builder::new().stack_size(256 << 10);
            let thread = thread.spawn(move || {
                barrier.wait();
                client.send(&bytes);
                client.answer_to(false, Duration::from_secs(60)).map_or(0, |answer| answer.status())
            });
            thread.expect("a thread")
        })
        .collect();
    let statuses: Vec<u16> = threads.into_iter().map(|thread| thread.join().expect("a client")).collect();
    let count = |status| statuses.iter().filter(|seen| **seen == status).count();
    let other = statuses.iter().copied().filter(|status| ![200, 429].contains(status)).collect();
    (count(200), count(429), other)
}

/// 512 requests at once on a key with tokens for one: one passes, on all shards together.
#[test]
fn tokens_for_one_admit_one_of_512() {
    let hold = Arc::new(AtomicBool::new(false));
    let release = Arc::clone(&hold);
    let origin = Origin::scripted(move |talk| {
        talk.wait_for(&release);
        let body =
            r#"{"choices":[],"usage":{"prompt_tokens":50,"completion_tokens":1950,"total_tokens":2000}}"#;
        talk.answer("200 OK", "Content-Type: application/json\r\n", body)
    });
    // One reservation is 1000 for the answer and a few for the prompt; the bucket holds one and not two.
    let gateway = start(&origin, "tokens_per_minute = 60\ntokens_burst = 1500");
    let (passed, refused, other) = std::thread::scope(|scope| {
        // The one that passes ends when all others have had their refusals.
        scope.spawn(|| {
            eventually(PATIENCE * 3, || gateway.metric("ringway_faults_total", "") >= 511.0);
            hold.store(true, Ordering::SeqCst);
        });
        storm(&gateway, 512, &capped(1000))
    });
    assert_eq!((passed, refused, other), (1, 511, vec![]));
    assert_eq!(origin.seen().len(), 1);
}

/// The same for requests per minute.
#[test]
fn requests_for_three_admit_three_of_128() {
    let origin = Origin::start();
    let gateway = start(&origin, "requests_per_minute = 1\nrequests_burst = 3");
    assert_eq!(storm(&gateway, 128, &capped(1)), (3, 125, vec![]));
    let answer = ask(&gateway, &capped(1));
    assert_eq!(answer.status(), 429);
    assert!(
        answer.one("retry-after").parse::<u64>().is_ok_and(|wait| (1..=60).contains(&wait)),
        "{answer:?}"
    );
    assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded", "{answer:?}");
}

/// One request after another never meets itself: what it held is back before its answer is whole.
#[test]
fn one_slot_is_enough_for_one_client() {
    let origin = Origin::start();
    let gateway = start(&origin, "in_flight_max = 1\ntokens_per_minute = 1\ntokens_burst = 100000");
    for turn in 0..300 {
        let body = match turn % 3 {
            0 => capped(95_000 / 2),
            1 => r#"{"model":"m","stream":true}"#.to_owned(),
            _ => r#"{"model":"nobody"}"#.to_owned(),
        };
        let answer = ask(&gateway, &body);
        assert!([200, 404].contains(&answer.status()), "turn {turn}: {answer:?}");
    }
}

/// Requests in flight: a slot is taken before the backend hears of it, and given back on every exit.
#[test]
fn slots_are_taken_and_given_back() {
    let hold = Arc::new(AtomicBool::new(false));
    let release = Arc::clone(&hold);
    let origin = Origin::scripted(move |talk| {
        talk.wait_for(&release);
        talk.answer("200 OK", "", "{}")
    });
    let gateway = start(&origin, "in_flight_max = 2");
    let mut first: Vec<Client> = (0..2).map(|_| gateway.connect()).collect();
    for client in &mut first {
        client.send(&chat(K1, &nonce(), &capped(1)));
    }
    assert!(eventually(PATIENCE, || origin.seen().len() == 2));
    let answer = ask(&gateway, &capped(1));
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.json()["error"]["code"], "too_many_in_flight");
    // One client goes away: its slot is free without any answer.
    first.pop();
    let mut third = gateway.connect();
    let taken = eventually(PATIENCE, || {
        third.send(&chat(K1, &nonce(), &capped(1)));
        // Refused at once, or waiting at the origin.
        let sent = origin.seen().len() == 3;
        if !sent {
            third.read_some(Duration::from_millis(20));
            third = gateway.connect();
        }
        sent || origin.seen().len() >= 3
    });
    assert!(taken, "the slot of a client that went is not given back");
    hold.store(true, Ordering::SeqCst);
    assert_eq!(first[0].answer().expect("an answer").status(), 200);
    assert!(eventually(PATIENCE, || ask(&gateway, &capped(1)).status() == 200));
}

/// H1, H2: the reserve becomes the truth: what was not used comes back, what was used beyond is charged.
#[test]
fn the_reserve_is_settled_to_the_truth() {
    let origin = Origin::start();
    let gateway = start(&origin, "tokens_per_minute = 60\ntokens_burst = 1000");
    // Each reserves some 900 and uses 5: without settling, the second would be refused.
    for turn in 0..20 {
        let answer = ask(&gateway, &capped(880));
        assert_eq!(answer.status(), 200, "turn {turn}: {answer:?}");
    }
    // No cap named: the first request is admitted whatever the limit (H2).
    assert_eq!(ask(&gateway, r#"{"model":"m"}"#).status(), 200);
    // A cap that is larger than the limit is no cost: a slice of it is reserved.
    assert_eq!(ask(&gateway, &capped(100_000)).status(), 200);
    // A text that can never fit is told so, and not to come again.
    let answer = ask(&gateway, &format!(r#"{{"model":"m","prompt":"{}"}}"#, "a word ".repeat(1000)));
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.json()["error"]["code"], "request_exceeds_limit", "{answer:?}");
    assert_eq!(answer.one("x-should-retry"), "false", "{answer:?}");
    // An answer that used more than was reserved is charged in full.
    origin.set(|talk| {
        let body =
            r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5000,"total_tokens":5010}}"#;
        talk.answer("200 OK", "Content-Type: application/json\r\n", body)
    });
    assert_eq!(ask(&gateway, &capped(10)).status(), 200);
    let answer = ask(&gateway, &capped(10));
    assert_eq!(answer.status(), 429, "5010 tokens were used of 1000: {answer:?}");
    assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
}

/// A cap of zero, which some servers take for no bound, makes a request no cheaper than one without a cap.
#[test]
fn a_cap_of_zero_reserves_as_much_as_none() {
    let caps = ["", ",\"max_tokens\":0", ",\"max_tokens\":9,\"max_completion_tokens\":0"];
    for cap in caps {
        let hold = Arc::new(AtomicBool::new(false));
        let release = Arc::clone(&hold);
        let origin = Origin::scripted(move |talk| {
            talk.wait_for(&release);
            talk.answer("200 OK", "", "{}")
        });
        // One reservation is the slice of 256 and a few for the prompt; the bucket holds one and not two.
        let gateway = start(&origin, "tokens_per_minute = 1\ntokens_burst = 400");
        let body = format!(r#"{{"model":"m","stream":true{cap}}}"#);
        let mut first = gateway.connect();
        first.send(&chat(K1, &nonce(), &body));
        assert!(eventually(PATIENCE, || origin.seen().len() == 1), "{body}");
        assert_eq!(ask(&gateway, &body).status(), 429, "{body}");
        hold.store(true, Ordering::SeqCst);
    }
}

/// H3: nothing is charged for what no backend did.
#[test]
fn failures_cost_nothing() {
    let origin = Origin::start();
    let gateway = start(&origin, "tokens_per_minute = 60\ntokens_burst = 1000");
    let refused = "{\"error\":{\"message\":\"no\",\"type\":\"invalid_request_error\",\"code\":400}}";
    origin.case("400", move |talk| {
        talk.answer("400 Bad Request", "Content-Type: application/json\r\n", refused)
    });
    origin.case("closed", |_| Next::Close);
    for turn in 0..6 {
        for case in ["400", "closed"] {
            let mut client = gateway.connect();
            let body = capped(900);
            let head = chat_head(K1, &nonce());
            client.send(
                format!("{head}X-Case: {case}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
            );
            let status = client.answer().expect("an answer").status();
            assert!([400, 502].contains(&status), "turn {turn}, {case}: {status}");
        }
    }
    assert_eq!(ask(&gateway, &capped(900)).status(), 200);
}

/// The usage of a stream that we asked for ourselves is charged, although the client never sees it.
#[test]
fn streams_are_settled_by_their_usage() {
    let origin = Origin::scripted(|talk| {
        talk.stream();
        talk.chunk(sse::content("a"));
        talk.chunk(sse::finish());
        talk.chunk(sse::usage(100, 900));
        talk.chunk(sse::DONE);
        talk.end()
    });
    let gateway = start(&origin, "tokens_per_minute = 1\ntokens_burst = 1500");
    let body = r#"{"model":"m","stream":true,"max_tokens":10}"#;
    assert_eq!(ask(&gateway, body).status(), 200);
    let probe =
        |tokens| ask(&gateway, &format!(r#"{{"model":"m","stream":true,"max_tokens":{tokens}}}"#)).status();
    assert!(
        eventually(PATIENCE, || probe(900) == 429),
        "1000 tokens of 1500 were used, 900 more were granted"
    );
    assert_eq!(probe(400), 200);
}

/// A client that leaves in the middle is charged what came, not the reserve, and not nothing.
#[test]
fn who_leaves_is_charged_what_came() {
    let gone = Arc::new(AtomicBool::new(false));
    let noticed = Arc::clone(&gone);
    let origin = Origin::scripted(move |talk| {
        if talk.request.json()["stream"] != true {
            return talk.answer(
                "200 OK",
                "",
                "{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}",
            );
        }
        talk.stream();
        for index in 0..200 {
            talk.chunk(sse::content(&format!("word{index}")));
        }
        noticed.store(talk.gone(PATIENCE), Ordering::SeqCst);
        Next::Close
    });
    let gateway = start(&origin, "tokens_per_minute = 1\ntokens_burst = 2000");
    let mut client = gateway.connect();
    client.send(&chat(K1, "leaver", r#"{"model":"m","stream":true,"max_tokens":1900}"#));
    client.read_until("word199");
    drop(client);
    assert!(eventually(PATIENCE, || gone.load(Ordering::SeqCst)), "the backend was not told");
    // The reserve of 1900 has gone back: 1000 fit. But at least 100 of the 200 words were charged: 1950 do not fit.
    assert!(eventually(PATIENCE, || ask(&gateway, &capped(1000)).status() == 200), "the reserve is kept");
    assert_eq!(ask(&gateway, &capped(1950)).status(), 429, "200 words cost nothing");
}
