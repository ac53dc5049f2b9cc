//! Limits on tokens and budgets while responses run: nothing is asked for in advance that may never be used, and nothing passes
//! that is not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use support::client::Client;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk};
use support::{PATIENCE, chat, eventually, nonce, sse};

/// One token by the default estimate.
const WORD: &str = "word";

fn start(origin: &Origin, key: &str) -> Gateway {
    let more =
        "kind = \"vllm\"\nserves = [\"chat\", \"messages\", \"responses\"]\nhealth = { enabled = false }";
    let tables = "[price.\"*\"]\ninput_per_million = 1.0\noutput_per_million = 1.0";
    Gateway::start(
        &Config::new()
            .backend("b1", origin.port, more)
            .model("m", &["b1"], "")
            .tables(tables)
            .key("one", K1, key)
            .shards("count = 2"),
    )
}

fn budget(tokens: u64) -> String {
    format!("budgets = [{{ tokens = {tokens}, per = \"month\" }}]")
}

fn used(gateway: &Gateway) -> (u64, u64) {
    let mut client = gateway.connect();
    client.send(format!("GET /v1/key HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {K1}\r\n\r\n").as_bytes());
    let key = client.answer().expect("a response").json();
    let of = |name: &str| key["budgets"][0][name].as_u64().expect("a number");
    (of("used"), of("reserved"))
}

/// Nothing is taken, nothing runs.
fn is_quiet(gateway: &Gateway, used_now: impl Fn(u64) -> bool) -> bool {
    eventually(PATIENCE, || {
        let (used, reserved) = used(gateway);
        reserved == 0 && used_now(used)
    })
}

fn post(path: &str, body: &str) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nX-Nonce: {}\r\n", nonce());
    let head = format!("{head}Authorization: Bearer {K1}\r\nContent-Type: application/json\r\n");
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A stream of so many words in one dialect, each in an event of its own.
fn words(path: &str, count: usize) -> Vec<String> {
    let event = match path {
        "/v1/chat/completions" => sse::content(WORD),
        "/v1/messages" => format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{WORD}\"}}}}\n\n"
        ),
        _ => format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"sequence_number\":4,\"delta\":\"{WORD}\"}}\n\n"
        ),
    };
    vec![event; count]
}

/// Report 7: a budget of 100 and a backend that streams 10,000 tokens. The client gets at most 100, then an error record of its own
/// dialect; the backend is closed at once, and what was used is what passed. Paced and in one burst, in every dialect.
#[test]
fn a_stream_is_stopped_at_the_last_token_of_a_budget() {
    for burst in [false, true] {
        for (path, code) in [
            ("/v1/chat/completions", "\"code\":\"insufficient_quota\""),
            ("/v1/messages", "\"type\":\"billing_error\""),
            ("/v1/responses", "response.failed"),
        ] {
            let closed = Arc::new(AtomicU64::new(0));
            let noted = Arc::clone(&closed);
            let origin = Origin::scripted(move |talk: &mut Talk| {
                talk.stream();
                let events = words(path, 10_000);
                if burst {
                    talk.chunk(events.concat());
                } else {
                    events.iter().take(200).all(|event| talk.chunk(event));
                }
                let since = Instant::now();
                talk.gone(PATIENCE);
                noted.store(since.elapsed().as_millis() as u64 + 1, Ordering::SeqCst);
                Next::Close
            });
            let gateway = start(&origin, &budget(100));
            let mut client = gateway.connect();
            let messages = r#"[{"role":"user","content":"x"}]"#;
            let body = match path {
                "/v1/responses" => r#"{"model":"m","stream":true,"input":"x"}"#.to_owned(),
                _ => format!(r#"{{"model":"m","stream":true,"max_tokens":1000000,"messages":{messages}}}"#),
            };
            client.send(&post(path, &body));
            let response = client.answer().expect("a whole body").text();
            let passed = response.matches(&format!("\"{WORD}\"")).count();
            assert!((60..=100).contains(&passed), "{path}, burst {burst}: {passed} of 100 tokens");
            assert!(response.contains(code), "{path}: {}", &response[response.len() - 400..]);
            assert!(!response.contains("[DONE]") && !response.contains("finish_reason\":\"stop"), "{path}");
            assert!(
                eventually(PATIENCE, || closed.load(Ordering::SeqCst) > 0),
                "{path}: the backend goes on"
            );
            assert!(closed.load(Ordering::SeqCst) < 1_000, "{path}: closed after {closed:?} ms");
            assert!(is_quiet(&gateway, |used| used <= 100 && used > passed as u64), "{:?}", used(&gateway));
            assert_eq!(gateway.metric("ringway_streams_stopped_total", "") as u64, 1);
            // Nothing is left: the next one is refused before its call.
            client.send(&chat(K1, &nonce(), r#"{"model":"m","stream":true}"#));
            let status = client.answer().expect("a response").status();
            assert!(status == 429 || used(&gateway).0 < 90, "{path}: {status}");
        }
    }
}

/// Report 2: neither a missing cap nor a huge one is a reason to refuse a second request, or to let it past.
#[test]
fn a_missing_or_huge_cap_blocks_nobody_and_lets_nobody_past() {
    let hold = Arc::new(AtomicBool::new(false));
    let release = Arc::clone(&hold);
    let origin = Origin::scripted(move |talk: &mut Talk| {
        talk.stream();
        talk.chunk(sse::content(WORD));
        talk.wait_for(&release);
        talk.chunk(sse::finish());
        talk.chunk(sse::usage(10, 1));
        talk.chunk(sse::DONE);
        talk.end()
    });
    let gateway = start(&origin, &budget(10_000));
    let bodies = [r#"{"model":"m","stream":true}"#, r#"{"model":"m","stream":true,"max_tokens":1000000000}"#];
    let mut clients: Vec<Client> = (0..20).map(|_| gateway.connect()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.send(&chat(K1, &nonce(), bodies[index % 2]));
        client.read_until(WORD);
    }
    hold.store(true, Ordering::SeqCst);
    for client in &mut clients {
        assert!(client.answer().expect("a whole body").text().contains("[DONE]"));
    }
    assert!(is_quiet(&gateway, |used| used == 20 * 11), "{:?}", used(&gateway));
}

/// At the line the oldest goes on with what the youngest had not used, also where that one is silent and on another shard.
#[test]
fn the_youngest_is_stopped_and_the_oldest_goes_on() {
    let go_on = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&go_on);
    let origin = Origin::scripted(move |talk: &mut Talk| {
        talk.stream();
        if talk.request.json()["max_tokens"] == 1_000_001 {
            talk.chunk(sse::content(&WORD.repeat(560)));
            talk.gone(PATIENCE);
            return Next::Close;
        }
        talk.chunk(sse::content(WORD));
        talk.wait_for(&gate);
        words("/v1/chat/completions", 300).iter().all(|event| talk.chunk(event));
        talk.chunk(sse::finish());
        talk.chunk(sse::usage(20, 301));
        talk.chunk(sse::DONE);
        talk.end()
    });
    for _ in 0..4 {
        go_on.store(false, Ordering::SeqCst);
        // The old one has taken 256 and its prompt of 13, the young one 560 that it said, 256 more and its prompt: all but two.
        let gateway = start(&origin, &budget(1_100));
        let [mut old, mut young] = [gateway.connect(), gateway.connect()];
        old.send(&chat(K1, "old", r#"{"model":"m","stream":true,"max_tokens":1000000}"#));
        old.read_until(WORD);
        young.send(&chat(K1, "young", r#"{"model":"m","stream":true,"max_tokens":1000001}"#));
        young.read_until(WORD);
        assert_eq!(used(&gateway), (0, 1_098));
        go_on.store(true, Ordering::SeqCst);
        let response = young.answer().expect("a whole body").text();
        assert!(response.contains("budget exceeded while the response ran: key 'one'"), "{response}");
        let response = old.answer().expect("a whole body").text();
        assert_eq!(response.matches(&format!("\"{WORD}\"")).count(), 301);
        assert!(response.contains("[DONE]"), "the oldest was stopped too");
        assert!(is_quiet(&gateway, |used| used == 321 + 573), "{:?}", used(&gateway));
        assert_eq!(gateway.metric("ringway_streams_held_total", "") as u64, 1);
    }
}

/// A response that is no stream cannot be stopped in the middle: where less is left than its model makes, its cap is half of that, so
/// that others still pass.
#[test]
fn a_plain_response_is_capped_at_what_is_left() {
    let origin = Origin::scripted(|talk: &mut Talk| {
        let cap = talk.request.json()["max_tokens"].as_u64().unwrap_or(50_000);
        let usage = format!(r#"{{"prompt_tokens":1,"completion_tokens":{cap},"total_tokens":{}}}"#, cap + 1);
        talk.answer(
            "200 OK",
            "Content-Type: application/json\r\n",
            &format!(r#"{{"choices":[],"usage":{usage}}}"#),
        )
    });
    let gateway = start(&origin, &budget(3_000));
    let ask = |body: &str| {
        let mut client = gateway.connect();
        client.send(&chat(K1, &nonce(), body));
        client.answer().expect("a response")
    };
    assert_eq!(ask(r#"{"model":"m","max_tokens":90}"#).status(), 200);
    let body = r#"{"model":"m","max_tokens":1000000,"temperature":0.5}"#;
    assert_eq!(ask(body).status(), 200);
    let sent = origin.seen();
    let (first, last) = (sent[0].request.json(), sent[1].request.json());
    assert_eq!(first["max_tokens"], 90, "it fits");
    let cap = last["max_tokens"].as_u64().expect("a number");
    assert!((1_400..1_450).contains(&cap), "{last}");
    assert_eq!(last["temperature"], 0.5);
    assert!(is_quiet(&gateway, |used| used <= 3_000), "{:?}", used(&gateway));
    let last = (0..20).map(|_| ask(r#"{"model":"m"}"#)).find(|response| response.status() != 200);
    let response = last.expect("the budget has an end");
    assert!(is_quiet(&gateway, |used| (2_900..=3_000).contains(&used)), "{:?}", used(&gateway));
    assert_eq!((response.status(), response.one("x-should-retry").as_str()), (429, "false"), "{response:?}");
    // With more left than the model makes, the body passes byte for byte.
    let gateway = start(&origin, &budget(1_000_000));
    let mut client = gateway.connect();
    client.send(&chat(K1, "untouched", r#"{"model":"m" , "n" :1}"#));
    assert_eq!(client.answer().expect("a response").status(), 200);
    assert_eq!(origin.with_nonce("untouched")[0].request.body, br#"{"model":"m" , "n" :1}"#);
}

/// Report 7: a backend that counts nothing is charged by what passed, and the charge is flagged as an estimate; so is a stream that is
/// cut before its first token, by its prompt.
#[test]
fn without_a_count_the_text_is_charged() {
    let long = "text ".repeat(400);
    let said = long.clone();
    let origin = Origin::scripted(move |talk: &mut Talk| {
        if talk.request.json()["stream"] != true {
            let body = format!(
                r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"{said}"}},"finish_reason":"stop"}}]}}"#
            );
            return talk.answer("200 OK", "Content-Type: application/json\r\n", &body);
        }
        talk.stream();
        if talk.request.json()["max_tokens"] == 7 {
            talk.chunk(
                "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
            );
            return Next::Close;
        }
        talk.chunk(sse::content(&said));
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    for (body, tokens) in [
        (r#"{"model":"m","max_tokens":1000}"#, 500..540),
        (r#"{"model":"m","max_tokens":1000,"stream":true}"#, 500..540),
        (r#"{"model":"m","max_tokens":7,"stream":true}"#, 5..30),
    ] {
        let gateway = start(&origin, &budget(10_000));
        let mut client = gateway.connect();
        client.send(&chat(K1, &nonce(), body));
        let _ = client.answer();
        assert!(is_quiet(&gateway, |used| tokens.contains(&used)), "{body}: {:?}", used(&gateway));
    }
}

/// The ratio of bytes to tokens follows the backend's own counts: a limit holds in its tokens, not in ours.
#[test]
fn text_is_counted_by_the_backends_own_ratio() {
    let origin = Origin::scripted(|talk: &mut Talk| {
        talk.stream();
        if talk.request.json()["max_tokens"] == 400 {
            // Two bytes a token.
            talk.chunk(sse::content(&"ab".repeat(400)));
            talk.chunk(sse::finish());
            talk.chunk(sse::usage(10, 400));
            talk.chunk(sse::DONE);
            return talk.end();
        }
        (0..10_000).all(|_| talk.chunk(sse::content("ab")));
        talk.gone(PATIENCE);
        Next::Close
    });
    let gateway = start(&origin, &budget(1_000));
    let mut client = gateway.connect();
    client.send(&chat(K1, &nonce(), r#"{"model":"m","stream":true,"max_tokens":400}"#));
    assert!(client.answer().expect("a whole body").text().contains("[DONE]"));
    assert!(is_quiet(&gateway, |used| used == 410));
    client.send(&chat(K1, &nonce(), r#"{"model":"m","stream":true}"#));
    let response = client.answer().expect("a whole body").text();
    let passed = response.matches("\"ab\"").count();
    assert!((540..=590).contains(&passed), "{passed} tokens of 590");
}

/// Limits per minute hold while responses run, too; the bucket is empty then, not in debt.
#[test]
fn a_stream_is_stopped_at_the_last_token_of_its_minute() {
    let origin = Origin::scripted(|talk: &mut Talk| {
        talk.stream();
        words("/v1/chat/completions", 4_000).iter().all(|event| talk.chunk(event));
        talk.gone(PATIENCE);
        Next::Close
    });
    let gateway = start(&origin, "tokens_per_minute = 60\ntokens_burst = 1000");
    let mut client = gateway.connect();
    client.send(&chat(K1, &nonce(), r#"{"model":"m","stream":true}"#));
    let response = client.answer().expect("a whole body").text();
    let passed = response.matches(&format!("\"{WORD}\"")).count();
    assert!((950..=1_030).contains(&passed), "{passed} of 1000");
    assert!(
        response.contains("rate limit exceeded while the response ran: 60 tokens per minute for key 'one'")
    );
    assert!(response.contains("\"code\":\"rate_limit_exceeded\""), "{response}");
}

/// A response of 20 and 10 tokens in one dialect, streamed or not.
fn counted(path: &str, stream: bool) -> String {
    match (path, stream) {
        ("/v1/chat/completions", true) => {
            [sse::content(WORD), sse::finish(), sse::usage(20, 10), sse::DONE.to_owned()].concat()
        }
        ("/v1/chat/completions", false) => {
            r#"{"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":10,"total_tokens":30}}"#.to_owned()
        }
        ("/v1/messages", true) => [
            r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"usage":{"input_tokens":20,"output_tokens":1}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"word"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":10}}"#,
            r#"{"type":"message_stop"}"#,
        ]
        .iter()
        .map(|data| {
            let name = data.split('"').nth(3).unwrap_or_default();
            format!("event: {name}\ndata: {data}\n\n")
        })
        .collect(),
        ("/v1/messages", false) => {
            r#"{"type":"message","role":"assistant","content":[],"stop_reason":"end_turn","usage":{"input_tokens":20,"output_tokens":10}}"#.to_owned()
        }
        (_, true) => {
            let response = r#"{"id":"r","status":"completed","output":[],"usage":{"input_tokens":20,"output_tokens":10,"total_tokens":30}}"#;
            format!(
                "event: response.completed\ndata: {{\"type\":\"response.completed\",\"sequence_number\":1,\"response\":{response}}}\n\n"
            )
        }
        (_, false) => {
            r#"{"id":"r","object":"response","status":"completed","output":[],"usage":{"input_tokens":20,"output_tokens":10,"total_tokens":30}}"#.to_owned()
        }
    }
}

const ROUTES: [&str; 3] = ["/v1/chat/completions", "/v1/messages", "/v1/responses"];

fn body_of(path: &str, stream: bool) -> String {
    match path {
        "/v1/responses" => {
            format!(r#"{{"model":"m","stream":{stream},"max_output_tokens":100,"input":"x"}}"#)
        }
        _ => format!(
            r#"{{"model":"m","stream":{stream},"max_tokens":100,"messages":[{{"role":"user","content":"x"}}]}}"#
        ),
    }
}

/// Report 16: the same response costs the same, streamed or not, on every route.
#[test]
fn the_same_response_costs_the_same_streamed_or_not() {
    let origin = Origin::scripted(|talk: &mut Talk| {
        let (path, stream) = (talk.request.target().to_owned(), talk.request.json()["stream"] == true);
        if stream {
            talk.stream();
            talk.chunk(counted(&path, true));
            return talk.end();
        }
        talk.answer("200 OK", "Content-Type: application/json\r\n", &counted(&path, false))
    });
    let gateway = start(&origin, &budget(10_000));
    let mut expected = 0;
    for path in ROUTES {
        for stream in [true, false] {
            let mut client = gateway.connect();
            client.send(&post(path, &body_of(path, stream)));
            assert_eq!(client.answer().expect("a response").status(), 200, "{path}");
            expected += 30;
            assert!(is_quiet(&gateway, |used| used == expected), "{path}, {stream}: {:?}", used(&gateway));
        }
    }
}

/// Report 3: whatever way exchanges end, on whatever route, nothing stays reserved or in flight.
#[test]
fn after_any_ending_on_any_route_nothing_stays_reserved() {
    let origin = Origin::start();
    for path in ROUTES {
        origin.case(&format!("cut{path}"), move |talk| {
            talk.stream();
            talk.chunk(words(path, 5).concat());
            Next::Reset
        });
        origin.case(&format!("left{path}"), move |talk| {
            talk.stream();
            talk.chunk(words(path, 5).concat());
            talk.gone(PATIENCE);
            Next::Close
        });
        origin.case(&format!("silent{path}"), move |talk| {
            talk.stream();
            talk.chunk(words(path, 5).concat());
            talk.gone(PATIENCE);
            Next::Close
        });
        origin.case(&format!("headless{path}"), |_| Next::Close);
        origin.case(&format!("failed{path}"), |talk| {
            let error = r#"{"error":{"message":"no","type":"server_error","code":500}}"#;
            talk.answer("500 Oops", "Content-Type: application/json\r\n", error)
        });
    }
    let more =
        "kind = \"vllm\"\nserves = [\"chat\", \"messages\", \"responses\"]\nhealth = { enabled = false }";
    let key = format!("in_flight_max = 200\n{}", budget(1_000_000));
    let gateway = Gateway::start(
        &Config::new()
            .backend("b1", origin.port, more)
            .model("m", &["b1"], "")
            .tables("[timeouts]\nbetween_events = \"300ms\"")
            .key("one", K1, &key),
    );
    for turn in 0..3 {
        let mut left = Vec::new();
        for case in ["left", "cut", "silent", "headless", "failed"] {
            for path in ROUTES {
                let mut client = gateway.connect();
                let request = String::from_utf8(post(path, &body_of(path, true))).expect("text");
                let request = request.replacen("\r\n", &format!("\r\nX-Case: {case}{path}\r\n"), 1);
                client.send(request.as_bytes());
                match case {
                    // Later a breaker may be open: a refusal is one more ending.
                    "left" => assert!(eventually(PATIENCE, || {
                        client.read_some(std::time::Duration::from_millis(10));
                        let said = String::from_utf8_lossy(&client.buffer).into_owned();
                        said.contains(WORD) || turn > 0 && said.starts_with("HTTP/1.1 5")
                    })),
                    _ => left.push(client),
                }
            }
        }
        for mut client in left {
            let _ = client.answer(); // a whole one or a cut one
        }
        assert!(is_quiet(&gateway, |_| true), "turn {turn}: {:?}", used(&gateway));
    }
    let mut client = gateway.connect();
    client.send(format!("GET /v1/key HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {K1}\r\n\r\n").as_bytes());
    let key = client.answer().expect("a response").json();
    assert_eq!(key["limits"][0]["used"], 0, "{key}");
}
