//! The response cache and the sharing of responses in flight.
#![allow(clippy::print_stdout)] // how long a hit takes

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::client::Client;
use support::gateway::{Config, Gateway, K1, K2};
use support::origin::{Next, Origin, Talk, completion};
use support::sse::{self, Ending, content, judge};
use support::strict::Message;
use support::{PATIENCE, eventually};

const K3: &str = "rw-test-key-three-00112233445566";
const ON: &str = "[cache]\nenabled = true\n";

fn start(origin: &Origin, tables: &str) -> Gateway {
    let serves = "[\"chat\", \"completions\", \"messages\", \"responses\", \"embeddings\"]";
    let backend = format!("kind = \"vllm\"\nserves = {serves}\nhealth = {{ enabled = false }}");
    let config = Config::new()
        .shards("count = 1")
        .backend("b1", origin.port, &backend)
        .model("m", &["b1"], "")
        .model("other", &["b1"], "")
        .tables("[team.red]\n[team.blue]")
        .key("one", K1, "team = \"red\"")
        .key("two", K2, "team = \"blue\"")
        .key("three", K3, "team = \"red\"");
    Gateway::start(&config.tables(tables))
}

fn request(key: &str, path: &str, lines: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {key}\r\n{lines}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    format!("{head}{body}").into_bytes()
}

fn ask(gateway: &Gateway, key: &str, path: &str, lines: &str, body: &Value) -> Message {
    let mut client = gateway.connect();
    client.send(&request(key, path, lines, &body.to_string()));
    client.answer().expect("a response")
}

fn chat(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hello"}]})
}

const CHAT: &str = "/v1/chat/completions";

/// Counts its calls, and says which one it is.
fn counting() -> (Origin, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let origin = Origin::scripted(move |talk: &mut Talk| {
        let call = count.fetch_add(1, Ordering::SeqCst);
        if talk.request.json()["stream"] != true {
            let body = completion(&format!("response {call}"));
            return talk.answer("200 OK", "Content-Type: application/json\r\n", &body);
        }
        talk.stream();
        for piece in ["stream ", &call.to_string(), ", \\u00e9", " end"] {
            talk.chunk(content(piece));
            talk.pause(Duration::from_millis(2));
        }
        talk.chunk(sse::finish());
        talk.chunk(sse::usage(10, 5));
        talk.chunk(sse::DONE);
        talk.end()
    });
    (origin, calls)
}

fn part(message: &Message) -> String {
    if message.has("x-ringway-cache") { message.one("x-ringway-cache") } else { String::new() }
}

#[test]
fn an_identical_request_gets_the_same_bytes_without_a_backend() {
    let (origin, calls) = counting();
    let gateway = start(&origin, ON);
    for (path, body) in [
        (CHAT, chat(true)),
        (CHAT, chat(false)),
        ("/v1/embeddings", json!({"model": "m", "input": "x"})),
        (
            "/v1/messages",
            json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}),
        ),
    ] {
        let first = ask(&gateway, K1, path, "", &body);
        let before = calls.load(Ordering::SeqCst);
        let second = ask(&gateway, K1, path, "User-Agent: other\r\nTraceparent: 7\r\n", &body);
        assert_eq!((part(&first), part(&second)), ("miss".into(), "hit".into()), "{path}");
        assert_eq!((second.status(), second.text()), (200, first.text()), "{path}");
        assert_eq!(second.one("content-type"), first.one("content-type"), "{path}");
        assert!(second.has("age"));
        assert_ne!(second.one("x-request-id"), first.one("x-request-id"));
        assert_eq!(calls.load(Ordering::SeqCst), before, "{path}");
    }
    assert!((gateway.metric("ringway_cache_hits_total", "") - 4.0).abs() < 0.1);
    assert!(gateway.metric("ringway_cache_tokens_saved_total", "") >= 15.0);
}

#[test]
fn without_the_table_nothing_is_kept_and_nothing_is_said() {
    let (origin, calls) = counting();
    let gateway = start(&origin, "");
    for _ in 0..2 {
        assert_eq!(part(&ask(&gateway, K1, CHAT, "", &chat(false))), "");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn whatever_may_change_the_response_is_another_request() {
    let (origin, calls) = counting();
    let gateway = start(&origin, ON);
    let base = json!({"model": "m", "temperature": 0, "messages": [{"role": "user", "content": "hello"}]});
    let mut bodies = vec![base.clone()];
    for (key, value) in [
        ("model", json!("other")),
        ("temperature", json!(1)),
        ("temperature", json!(0.5)),
        ("seed", json!(1)),
        ("top_p", json!(0.5)),
        ("max_tokens", json!(5)),
        ("n", json!(2)),
        ("stream", json!(true)),
        ("user", json!("someone")),
        ("response_format", json!({"type": "json_object"})),
        ("tools", json!([{"type": "function", "function": {"name": "f"}}])),
        ("messages", json!([{"role": "system", "content": "hello"}])),
        ("messages", json!([{"role": "user", "content": "hello "}])),
        ("metadata", json!({"a": "b"})),
    ] {
        let mut body = base.clone();
        body[key] = value;
        bodies.push(body);
    }
    for (index, body) in bodies.iter().enumerate() {
        assert_eq!(part(&ask(&gateway, K1, CHAT, "", body)), "miss", "{index}: {body}");
    }
    for lines in ["X-Tenant: a\r\n", "X-Tenant: b\r\n", "OpenAI-Beta: x\r\n"] {
        assert_eq!(part(&ask(&gateway, K1, CHAT, lines, &base)), "miss", "{lines}");
    }
    assert_eq!(part(&ask(&gateway, K1, "/v1/chat/completions?trace=1", "", &base)), "miss");
    assert_eq!(calls.load(Ordering::SeqCst), bodies.len() + 4);
    // The order of members and blanks are no difference.
    let other = r#"{ "messages" : [ {"content":"hello", "role":"user"} ], "temperature" : 0, "model": "m" }"#;
    let mut client = gateway.connect();
    client.send(&request(K1, CHAT, "", other));
    assert_eq!(part(&client.answer().expect("a response")), "hit");
}

#[test]
fn no_response_crosses_keys_or_teams_unless_the_scope_says_so() {
    let (origin, _) = counting();
    for (scope, of_two, of_three) in [("key", "miss", "miss"), ("team", "miss", "hit"), ("all", "hit", "hit")]
    {
        let gateway = start(&origin, &format!("{ON}scope = \"{scope}\""));
        for body in [chat(false), chat(true)] {
            let own = ask(&gateway, K1, CHAT, "", &body);
            for (key, expected) in [(K2, of_two), (K3, of_three)] {
                let other = ask(&gateway, key, CHAT, "", &body);
                assert_eq!(part(&other), expected, "{scope} {body}");
                assert_eq!(other.text() == own.text(), expected == "hit", "{scope} {body}");
            }
        }
    }
}

#[test]
fn a_key_whose_rules_differ_gets_no_response_that_passed_other_rules() {
    let origin = Origin::scripted(|talk| {
        let body = completion("call 4111 1111 1111 1111");
        talk.answer("200 OK", "Content-Type: application/json\r\n", &body)
    });
    let rule = "[guard.cards]\ndetect = [\"payment_card\"]\nwhere = [\"output\"]\naction = \"mask\"\nkeys = [\"two\"]";
    let gateway = start(&origin, &format!("{ON}scope = \"all\"\n{rule}"));
    assert!(ask(&gateway, K1, CHAT, "", &chat(false)).text().contains("4111"));
    let masked = ask(&gateway, K2, CHAT, "", &chat(false));
    assert!(!masked.text().contains("4111"), "{}", masked.text());
    let again = ask(&gateway, K2, CHAT, "", &chat(false));
    assert_eq!((part(&again), again.text()), ("hit".into(), masked.text()));
    assert_eq!(part(&ask(&gateway, K3, CHAT, "", &chat(false))), "hit");
}

#[test]
fn a_client_decides_by_cache_control() {
    let (origin, calls) = counting();
    let gateway = start(&origin, ON);
    let ask = |lines: &str| ask(&gateway, K1, CHAT, lines, &chat(false));
    let missing = ask("Cache-Control: only-if-cached\r\n");
    assert_eq!((missing.status(), missing.json()["error"]["code"].clone()), (504, json!("not_cached")));
    assert_eq!(part(&ask("Cache-Control: no-store\r\n")), "");
    assert_eq!(part(&ask("")), "miss");
    assert_eq!(part(&ask("Cache-Control: no-cache\r\n")), "miss");
    let newest = ask("");
    assert_eq!((part(&newest), newest.text().contains("response 2")), ("hit".into(), true));
    assert_eq!(part(&ask("Cache-Control: only-if-cached, max-age=60\r\n")), "hit");
    assert_eq!(part(&ask("Cache-Control: max-age=0\r\n")), "miss");
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[test]
fn a_response_is_used_for_its_time_and_only_of_models_that_are_listed() {
    let (origin, _) = counting();
    let gateway =
        start(&origin, &format!("{ON}ttl = \"150ms\"\nmodels = [\"m\"]\ndeterministic_only = true"));
    let mut body = chat(false);
    assert_eq!(part(&ask(&gateway, K1, CHAT, "", &body)), "", "any temperature");
    body["temperature"] = json!(0);
    let asked = Instant::now();
    assert_eq!(part(&ask(&gateway, K1, CHAT, "", &body)), "miss");
    let second = part(&ask(&gateway, K1, CHAT, "", &body));
    assert!(second == "hit" || asked.elapsed() > Duration::from_millis(140), "{second}");
    let renewed = || part(&ask(&gateway, K1, CHAT, "", &body)) == "miss";
    assert!(eventually(PATIENCE, renewed), "a response was used beyond its time");
    body["model"] = json!("other");
    assert_eq!(part(&ask(&gateway, K1, CHAT, "", &body)), "");
}

#[test]
fn errors_and_cut_streams_are_not_kept() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let origin = Origin::scripted(move |talk| {
        match (count.fetch_add(1, Ordering::SeqCst), talk.request.json()["stream"] == true) {
            (0, _) => talk.answer(
                "400 Bad Request",
                "Content-Type: application/json\r\n",
                "{\"error\":{\"message\":\"no\"}}",
            ),
            (1, true) => {
                talk.stream();
                talk.chunk(content("half"));
                Next::Close
            }
            (_, true) => {
                talk.stream();
                talk.chunk(content("whole"));
                talk.chunk(sse::finish());
                talk.chunk(sse::DONE);
                talk.end()
            }
            _ => talk.answer("200 OK", "Content-Type: application/json\r\n", &completion("hi")),
        }
    });
    let gateway = start(&origin, ON);
    assert_eq!(ask(&gateway, K1, CHAT, "", &chat(true)).status(), 400);
    let (_, ending) = judge(&ask(&gateway, K1, CHAT, "", &chat(true)).text());
    assert_eq!(ending, Ending::Failed("backend_stream_truncated".into()));
    let whole = ask(&gateway, K1, CHAT, "", &chat(true));
    assert_eq!((part(&whole), judge(&whole.text())), ("miss".into(), ("whole".into(), Ending::Finished)));
    assert_eq!(part(&ask(&gateway, K1, CHAT, "", &chat(true))), "hit");
}

/// An origin whose streams wait in the middle until they are let go.
fn waiting(text: &'static [&'static str]) -> (Origin, Arc<AtomicUsize>, Arc<std::sync::atomic::AtomicBool>) {
    let (calls, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let (count, ready) = (Arc::clone(&calls), Arc::clone(&go));
    let origin = Origin::scripted(move |talk| {
        count.fetch_add(1, Ordering::SeqCst);
        talk.stream();
        talk.chunk(content(text[0]));
        talk.wait_for(&ready);
        for piece in &text[1..] {
            talk.chunk(content(piece));
        }
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    (origin, calls, go)
}

fn asking(gateway: &Gateway, body: &Value) -> Client {
    let mut client = gateway.connect();
    client.send(&request(K1, CHAT, "", &body.to_string()));
    client
}

#[test]
fn identical_requests_in_flight_share_one_stream_as_it_comes() {
    let (origin, calls, go) = waiting(&["first", " second", " third"]);
    let gateway = start(&origin, ON);
    let mut leader = asking(&gateway, &chat(true));
    leader.read_until("first");
    let mut followers: Vec<Client> = (0..5).map(|_| asking(&gateway, &chat(true))).collect();
    for follower in &mut followers {
        follower.read_until("first"); // while the leader's stream is still running
    }
    go.store(true, Ordering::SeqCst);
    let own = leader.answer().expect("a response").text();
    for mut follower in followers {
        let shared = follower.answer().expect("a response");
        assert_eq!((part(&shared), shared.text()), ("shared".into(), own.clone()));
    }
    assert_eq!(judge(&own), ("first second third".into(), Ending::Finished));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert!((gateway.metric("ringway_cache_shared_total", "") - 5.0).abs() < 0.1);
}

#[test]
fn a_leader_that_leaves_in_mid_stream_leaves_its_followers_an_error_and_no_end() {
    let (origin, _, go) = waiting(&["first", " second"]);
    let gateway = start(&origin, ON);
    let mut leader = asking(&gateway, &chat(true));
    leader.read_until("first");
    let mut follower = asking(&gateway, &chat(true));
    follower.read_until("first");
    leader.reset();
    let text = follower.answer().expect("a response").text();
    assert_eq!(judge(&text), ("first".into(), Ending::Failed("backend_stream_truncated".into())), "{text}");
    go.store(true, Ordering::SeqCst);
    let again = ask(&gateway, K1, CHAT, "", &chat(true));
    assert_eq!((part(&again), judge(&again.text()).1), ("miss".into(), Ending::Finished));
}

#[test]
fn a_leader_that_fails_before_its_first_event_leaves_its_followers_a_request_of_their_own() {
    let calls = Arc::new(AtomicUsize::new(0));
    let go = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (count, ready) = (Arc::clone(&calls), Arc::clone(&go));
    let origin = Origin::scripted(move |talk| {
        let call = count.fetch_add(1, Ordering::SeqCst);
        talk.wait_for(&ready);
        if call == 0 {
            return talk.answer(
                "400 Bad Request",
                "Content-Type: application/json\r\n",
                "{\"error\":{\"message\":\"no\"}}",
            );
        }
        talk.answer("200 OK", "Content-Type: application/json\r\n", &completion("fine"))
    });
    let gateway = start(&origin, ON);
    let mut leader = asking(&gateway, &chat(false));
    assert!(eventually(PATIENCE, || calls.load(Ordering::SeqCst) == 1));
    let followers: Vec<Client> = (0..4).map(|_| asking(&gateway, &chat(false))).collect();
    assert!(eventually(PATIENCE, || gateway.metric("ringway_exchanges_active", "") > 4.5));
    assert_eq!(calls.load(Ordering::SeqCst), 1, "the others wait");
    go.store(true, Ordering::SeqCst);
    assert_eq!(leader.answer().expect("a response").status(), 400);
    for mut follower in followers {
        let response = follower.answer().expect("a response");
        assert_eq!(response.status(), 200);
        assert!(response.text().contains("fine"));
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2, "one of them asked, and the others waited for that one");
}

#[test]
fn a_follower_that_leaves_disturbs_nobody() {
    let (origin, calls, go) = waiting(&["first", " second"]);
    let gateway = start(&origin, ON);
    let mut leader = asking(&gateway, &chat(true));
    leader.read_until("first");
    let mut stays = asking(&gateway, &chat(true));
    stays.read_until("first");
    let mut leaves = asking(&gateway, &chat(true));
    leaves.read_until("first");
    leaves.reset();
    assert!(eventually(PATIENCE, || gateway.metric("ringway_exchanges_active", "") < 2.5));
    go.store(true, Ordering::SeqCst);
    for mut client in [leader, stays] {
        assert_eq!(judge(&client.answer().expect("a response").text()).1, Ending::Finished);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn a_reload_forgets_what_was_kept() {
    let (origin, calls) = counting();
    let gateway = start(&origin, ON);
    assert_eq!(part(&ask(&gateway, K1, CHAT, "", &chat(false))), "miss");
    assert_eq!(part(&ask(&gateway, K1, CHAT, "", &chat(false))), "hit");
    assert_eq!(gateway.reload().0, 200);
    assert!(eventually(PATIENCE, || part(&ask(&gateway, K1, CHAT, "", &chat(false))) == "miss"));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn many_hits_on_one_connection_are_quick() {
    let (origin, _) = counting();
    let gateway = start(&origin, ON);
    ask(&gateway, K1, CHAT, "", &chat(true));
    let mut client = gateway.connect();
    let bytes = request(K1, CHAT, "", &chat(true).to_string());
    let mut times: Vec<Duration> = (0..2000)
        .map(|_| {
            let asked = Instant::now();
            client.send(&bytes);
            assert_eq!(part(&client.answer().expect("a response")), "hit");
            asked.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("median {:?}, p99 {:?}", times[1000], times[1980]);
    // Far above what it takes, for a machine that is busy with other tests.
    assert!(times[1000] < Duration::from_millis(20), "median {:?}", times[1000]);
}

#[test]
fn a_key_whose_requests_a_guard_is_asked_about_gets_no_response_that_it_was_not_asked_about() {
    let origin = Origin::scripted(|talk| {
        let answer = if talk.request.target() == "/guard" {
            r#"{"verdict":"refuse"}"#.to_owned()
        } else {
            completion("hi")
        };
        talk.answer("200 OK", "Content-Type: application/json\r\n", &answer)
    });
    let rule = "[guard.judge]\naction = \"refuse\"\nkeys = [\"two\"]\nexternal = { backend = \"b1\", form = \"webhook\", path = \"/guard\" }";
    let gateway = start(&origin, &format!("{ON}scope = \"all\"\n{rule}"));
    assert_eq!(part(&ask(&gateway, K1, CHAT, "", &chat(false))), "miss");
    assert_eq!(ask(&gateway, K2, CHAT, "", &chat(false)).status(), 400);
    assert_eq!(part(&ask(&gateway, K3, CHAT, "", &chat(false))), "hit");
}

#[test]
fn a_stream_that_nobody_asked_for_is_not_kept() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let origin = Origin::scripted(move |talk| {
        count.fetch_add(1, Ordering::SeqCst);
        talk.stream();
        talk.chunk(content("hi"));
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    let gateway = start(&origin, ON);
    for call in 1..=2 {
        assert_eq!(part(&ask(&gateway, K1, CHAT, "", &chat(false))), "miss");
        assert_eq!(calls.load(Ordering::SeqCst), call);
    }
    assert_eq!(part(&ask(&gateway, K1, CHAT, "", &chat(true))), "miss");
    assert_eq!(part(&ask(&gateway, K1, CHAT, "", &chat(true))), "hit");
}

#[test]
fn a_stream_that_fails_before_its_first_byte_leaves_its_followers_a_request_of_their_own() {
    let calls = Arc::new(AtomicUsize::new(0));
    let go = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (count, ready) = (Arc::clone(&calls), Arc::clone(&go));
    let origin = Origin::scripted(move |talk| {
        let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
        talk.stream();
        talk.chunk(content("project "));
        if is_first {
            talk.wait_for(&ready);
            return Next::Close;
        }
        talk.chunk(content("manager"));
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    // What has come may become a match, so that nothing of it passes.
    let rule = "[guard.orion]\nwords = [\"project orion\"]\nwhere = [\"output\"]\naction = \"stop\"\n[timeouts]\nguard_hold = \"20s\"";
    let gateway = start(&origin, &format!("{ON}{rule}"));
    let mut leader = asking(&gateway, &chat(true));
    leader.answer_to(false, Duration::from_millis(300)).expect_err("only a head");
    let followers: Vec<Client> = (0..3).map(|_| asking(&gateway, &chat(true))).collect();
    assert!(eventually(PATIENCE, || gateway.metric("ringway_exchanges_active", "") > 3.5));
    go.store(true, Ordering::SeqCst);
    let cut = leader.answer().expect("a response").text();
    assert_eq!(judge(&cut).1, Ending::Failed("backend_stream_truncated".into()), "{cut}");
    for mut follower in followers {
        let text = follower.answer().expect("a response").text();
        assert_eq!(judge(&text), ("project manager".into(), Ending::Finished), "{text}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}
