//! Content rules whose verdict another process gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::client::Client;
use support::gateway::free_port;
use support::gateway::{Config, Gateway, K1, K2};
use support::origin::{Next, Origin, Talk};
use support::strict::Message;
use support::{PATIENCE, eventually};

/// A model `m` whose requests are checked by a guard, and a model `free` whose are not.
fn start(origin: &Origin, guard: u16, external: &str, rule: &str) -> Gateway {
    start_for(origin, guard, &["m"], external, rule)
}

fn start_for(origin: &Origin, guard: u16, models: &[&str], external: &str, rule: &str) -> Gateway {
    let quiet = "kind = \"vllm\"\nhealth = { enabled = false }";
    let serves = "kind = \"vllm\"\nserves = [\"chat\", \"completions\", \"messages\", \"responses\"]\nhealth = { enabled = false }";
    let config = Config::new()
        .shards("count = 1")
        .backend("b1", origin.port, serves)
        .backend("guard", guard, &format!("{quiet}\nin_flight_max = 100"))
        .model("m", &["b1"], "")
        .model("free", &["b1"], "")
        .key("one", K1, "")
        .key("two", K2, "")
        .tables(&format!("[guard.judge]\naction = \"refuse\"\nmodels = {models:?}\nexternal = {{ backend = \"guard\", {external} }}\n{rule}"));
    Gateway::start(&config)
}

fn send(gateway: &Gateway, model: &str, text: &str) -> Client {
    let mut client = gateway.connect();
    let body = json!({"model": model, "messages": [{"role": "user", "content": text}]}).to_string();
    client.send(&support::chat(K1, "external", &body));
    client
}

fn ask(gateway: &Gateway, model: &str, text: &str) -> Message {
    send(gateway, model, text).answer().expect("a response")
}

fn code(message: &Message) -> (u16, Value) {
    (message.status(), message.json()["error"]["code"].clone())
}

/// A webhook that refuses texts with the word bad, and counts.
fn webhook() -> (Origin, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let origin = Origin::scripted(move |talk: &mut Talk| {
        count.fetch_add(1, Ordering::SeqCst);
        let body = talk.request.json();
        let texts = body["texts"].as_array().cloned().unwrap_or_default();
        let is_bad = texts.iter().any(|text| text["text"].as_str().is_some_and(|text| text.contains("bad")));
        let verdict =
            if is_bad { r#"{"verdict":"refuse","reason":"it is bad"}"# } else { r#"{"verdict":"allow"}"# };
        talk.answer("200 OK", "Content-Type: application/json\r\n", verdict)
    });
    (origin, calls)
}

#[test]
fn a_webhook_decides_before_a_backend_sees_the_request() {
    let (origin, (guard, calls)) = (Origin::start(), webhook());
    let gateway = start(&origin, guard.port, "form = \"webhook\", path = \"/check\"", "");
    assert_eq!(ask(&gateway, "m", "fine").status(), 200);
    let sent = guard.seen().pop().expect("a call").request;
    assert_eq!(sent.target(), "/check");
    let sent = sent.json();
    assert_eq!((&sent["guard"], &sent["model"], &sent["key"]), (&json!("judge"), &json!("m"), &json!("one")));
    assert_eq!(sent["texts"], json!([{"where": "input", "text": "fine"}]));
    let seen = origin.seen().len();
    let refused = ask(&gateway, "m", "bad \"quoted\"");
    assert_eq!(code(&refused), (400, json!("content_policy_violation")));
    assert!(refused.text().contains("it is bad"), "{}", refused.text());
    assert_eq!(origin.seen().len(), seen, "a refused request reached a backend");
    assert_eq!(ask(&gateway, "free", "bad").status(), 200);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert!((gateway.metric("ringway_guard_total", "refused") - 1.0).abs() < 0.1);
    let matched = || {
        std::process::Command::new(support::binary())
            .args(["guard", "matches", "--json", "--config"])
            .arg(gateway.folder().join("ringway.toml"))
            .output()
            .expect("it runs")
            .stdout
    };
    assert!(eventually(PATIENCE, || String::from_utf8_lossy(&matched()).contains("\"judge\"")));
}

#[test]
fn every_endpoint_and_a_stream_get_the_same_verdict() {
    let (origin, (guard, _)) = (Origin::start(), webhook());
    let gateway =
        start(&origin, guard.port, "form = \"webhook\"", "where = [\"input\", \"system\", \"tools\"]");
    let user = json!([{"role": "user", "content": "bad"}]);
    for (path, body) in [
        ("/v1/chat/completions", json!({"model": "m", "messages": user})),
        ("/v1/chat/completions", json!({"model": "m", "stream": true, "messages": user})),
        ("/v1/chat/completions", json!({"model": "m", "messages": [{"role": "system", "content": "bad"}]})),
        (
            "/v1/chat/completions",
            json!({"model": "m", "messages": [{"role": "tool", "tool_call_id": "1", "content": "bad"}]}),
        ),
        ("/v1/messages", json!({"model": "m", "max_tokens": 9, "messages": user})),
        ("/v1/messages", json!({"model": "m", "max_tokens": 9, "stream": true, "messages": user})),
        ("/v1/responses", json!({"model": "m", "input": "bad"})),
        ("/v1/responses", json!({"model": "m", "stream": true, "input": user})),
        ("/v1/completions", json!({"model": "m", "prompt": "so bad"})),
    ]
    .map(|(path, body)| (path, body.to_string()))
    .into_iter()
    .chain([("/v1/completions", r#"{"model":"m","prompt":"so b\u0061d"}"#.to_owned())])
    {
        let mut client = gateway.connect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {K1}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.send(format!("{head}{body}").as_bytes());
        let response = client.answer().expect("a response");
        let is_ours = response.text().contains("the content rule 'judge' does not allow this: it is bad");
        assert_eq!((response.status(), is_ours), (400, true), "{path} {body}: {}", response.text());
    }
    assert!(origin.seen().is_empty());
}

#[test]
fn moderations_and_judges_are_asked_in_their_own_forms() {
    let origin = Origin::start();
    let guard = Origin::scripted(|talk| {
        let body = talk.request.json();
        let (moderates, said) = (talk.request.target() == "/v1/moderations", body.to_string());
        let is_bad = said.contains("bad");
        let chat = json!({"choices": [{"message": {"role": "assistant", "content": if is_bad { "unsafe\nviolence" } else { "safe" }}}]});
        let moderation = json!({"results": [{"flagged": is_bad, "categories": {"violence": is_bad}}]});
        let body = if moderates { moderation } else { chat };
        talk.answer("200 OK", "Content-Type: application/json\r\n", &body.to_string())
    });
    for (external, reason) in [
        ("form = \"moderations\", model = \"omni\"", "violence"),
        ("form = \"judge\", model = \"llama-guard\", prompt = \"Judge: {text}\"", "violence"),
    ] {
        let gateway = start(&origin, guard.port, external, "");
        assert_eq!(ask(&gateway, "m", "fine").status(), 200, "{external}");
        let refused = ask(&gateway, "m", "bad");
        assert_eq!(code(&refused), (400, json!("content_policy_violation")), "{external}");
        assert!(refused.text().contains(reason), "{}", refused.text());
    }
}

#[test]
fn without_a_verdict_the_request_is_refused_or_passes_as_configured() {
    let origin = Origin::start();
    let guard = Origin::scripted(|talk| {
        let text = talk.request.json()["texts"][0]["text"].as_str().unwrap_or_default().to_owned();
        let json = |body: &str| ("200 OK", body.to_owned());
        let (status, body) = match text.as_str() {
            "slow" => {
                talk.pause(Duration::from_millis(900));
                json(r#"{"verdict":"allow"}"#)
            }
            "close" => return Next::Close,
            "text" => json("everything is fine"),
            "both" => json(r#"{"verdict":"allow","verdict":"refuse"}"#),
            "other" => json(r#"{"verdict":"maybe"}"#),
            "empty" => json(""),
            "large" => json(&format!("{{\"verdict\":\"allow\",\"x\":\"{}\"}}", "x".repeat(200_000))),
            "error" => ("500 Internal Server Error", r#"{"verdict":"allow"}"#.to_owned()),
            _ => json(r#"{"verdict":"allow"}"#),
        };
        talk.answer(status, "Content-Type: application/json\r\n", &body)
    });
    for (on_failure, expected) in [("refuse", 503), ("pass", 200)] {
        for text in ["slow", "close", "text", "both", "other", "empty", "large", "error"] {
            let external = format!("form = \"webhook\", timeout = \"300ms\", on_failure = \"{on_failure}\"");
            let gateway = start(&origin, guard.port, &external, "");
            let seen = origin.seen().len();
            let response = ask(&gateway, "m", text);
            assert_eq!(response.status(), expected, "{on_failure} {text}: {}", response.text());
            if expected == 503 {
                assert_eq!(response.json()["error"]["code"], "guard_unavailable");
                assert_eq!(origin.seen().len(), seen, "{text}");
            }
            assert_eq!(ask(&gateway, "m", "fine").status(), 200, "after {text}");
            assert!((gateway.metric("ringway_guard_total", "failed") - 1.0).abs() < 0.1, "{text}");
        }
    }
}

#[test]
fn a_dead_guard_costs_no_time_once_its_breaker_is_open_and_others_are_unmoved() {
    let origin = Origin::start();
    let gateway = start(&origin, free_port(), "form = \"webhook\", timeout = \"2s\"", "");
    for _ in 0..8 {
        assert_eq!(code(&ask(&gateway, "m", "hello")), (503, json!("guard_unavailable")));
    }
    assert!(ask(&gateway, "m", "hello").text().contains("left alone"));
    assert_eq!(ask(&gateway, "free", "hello").status(), 200);
}

#[test]
fn a_silent_guard_is_waited_for_until_its_breaker_is_open_and_not_asked_after_that() {
    let origin = Origin::start();
    let silent = Origin::scripted(|talk| {
        talk.gone(PATIENCE);
        Next::Close
    });
    let gateway = start(&origin, silent.port, "form = \"webhook\", timeout = \"250ms\"", "");
    let refusal = || ask(&gateway, "m", "hello").text();
    assert!(eventually(PATIENCE, || refusal().contains("left alone")));
    let asked = silent.seen().len();
    assert!(asked >= 5, "{asked}");
    for _ in 0..5 {
        assert!(refusal().contains("left alone"));
    }
    assert_eq!(silent.seen().len(), asked, "it was asked although its breaker is open");
    assert_eq!(ask(&gateway, "free", "hello").status(), 200);
}

#[test]
fn a_hundred_requests_wait_for_a_slow_guard_and_those_of_others_do_not() {
    let origin = Origin::start();
    let go = Arc::new(AtomicBool::new(false));
    let ready = Arc::clone(&go);
    let guard = Origin::scripted(move |talk| {
        talk.wait_for(&ready);
        talk.answer("200 OK", "Content-Type: application/json\r\n", r#"{"verdict":"allow"}"#)
    });
    let gateway = start(&origin, guard.port, "form = \"webhook\", timeout = \"20s\"", "");
    let waiting: Vec<Client> =
        (0..100).map(|number| send(&gateway, "m", &format!("text {number}"))).collect();
    assert!(eventually(PATIENCE, || gateway.metric("ringway_exchanges_active", "") > 99.5));
    let asked = Instant::now();
    for _ in 0..20 {
        assert_eq!(ask(&gateway, "free", "hello").status(), 200);
    }
    assert!(asked.elapsed() < PATIENCE / 2, "{:?}", asked.elapsed());
    // The guard's in_flight_max is its bound: one more has no verdict, at once.
    assert!(eventually(PATIENCE, || guard.seen().len() == 100));
    assert_eq!(code(&ask(&gateway, "m", "one more")), (503, json!("guard_unavailable")));
    go.store(true, Ordering::SeqCst);
    for mut client in waiting {
        assert_eq!(client.answer().expect("a response").status(), 200);
    }
}

#[test]
fn a_verdict_is_kept_for_the_same_texts_and_a_shadow_guard_refuses_nothing() {
    let (origin, (guard, calls)) = (Origin::start(), webhook());
    let gateway = start(&origin, guard.port, "form = \"webhook\", keep = \"1m\"", "");
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "m", "bad").status(), 400);
        assert_eq!(ask(&gateway, "m", "fine").status(), 200);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    let gateway = start(&origin, guard.port, "form = \"webhook\"", "shadow = true");
    assert_eq!(ask(&gateway, "m", "bad").status(), 200);
    assert!((gateway.metric("ringway_guard_total", "shadowed") - 1.0).abs() < 0.1);
}

#[test]
fn a_guard_that_closes_its_kept_connections_is_asked_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let guard = Origin::scripted(move |talk| {
        // Keeps the first connection, and closes it when it is used again.
        if count.fetch_add(1, Ordering::SeqCst) == 1 {
            return Next::Close;
        }
        talk.answer("200 OK", "Content-Type: application/json\r\n", r#"{"verdict":"allow"}"#)
    });
    let origin = Origin::start();
    let gateway = start(&origin, guard.port, "form = \"webhook\"", "");
    assert_eq!(ask(&gateway, "m", "one").status(), 200);
    assert_eq!(ask(&gateway, "m", "two").status(), 200);
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[test]
fn a_client_that_leaves_while_a_guard_is_asked_leaves_nothing_behind() {
    let origin = Origin::start();
    let left = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&left);
    let guard = Origin::scripted(move |talk| {
        if talk.request.json()["texts"][0]["text"] == "again" {
            return talk.answer("200 OK", "Content-Type: application/json\r\n", r#"{"verdict":"allow"}"#);
        }
        count.fetch_add(usize::from(talk.gone(PATIENCE)), Ordering::SeqCst);
        Next::Close
    });
    let gateway = start(&origin, guard.port, "form = \"webhook\", timeout = \"20s\"", "");
    // As many as would leave the guard alone if they counted as its failures, and as it may have in flight.
    for number in 1..=6 {
        let client = send(&gateway, "m", "hello");
        assert!(eventually(PATIENCE, || guard.seen().len() == number));
        client.reset();
    }
    assert!(eventually(PATIENCE, || gateway.metric("ringway_exchanges_active", "") < 0.5));
    assert!(eventually(PATIENCE, || left.load(Ordering::SeqCst) == 6), "a call of the guard goes on");
    assert!(gateway.metric("ringway_backend_in_flight", "guard") < 0.5);
    assert!(origin.seen().is_empty());
    assert_eq!(ask(&gateway, "m", "again").status(), 200);
}

#[test]
fn a_verdict_that_may_depend_on_the_caller_is_kept_for_that_caller() {
    let origin = Origin::start();
    let guard = Origin::scripted(|talk| {
        let body = talk.request.json();
        let refuses = body["key"] == "one" && body["model"] == "m";
        let verdict = if refuses { r#"{"verdict":"refuse"}"# } else { r#"{"verdict":"allow"}"# };
        talk.answer("200 OK", "Content-Type: application/json\r\n", verdict)
    });
    let external = "form = \"webhook\", keep = \"1m\"";
    let gateway = start_for(&origin, guard.port, &["m", "free"], external, "");
    for _ in 0..2 {
        for (key, model, status) in [(K1, "m", 400), (K2, "m", 200), (K1, "free", 200)] {
            let mut client = gateway.connect();
            let body = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
            client.send(&support::chat(key, "external", &body.to_string()));
            assert_eq!(client.answer().expect("a response").status(), status, "{key} {model}");
        }
    }
}

#[test]
fn guards_of_one_request_are_asked_at_once() {
    let origin = Origin::start();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    // Each of the three responds when all of them have been asked.
    let guard = Origin::scripted(move |talk| {
        count.fetch_add(1, Ordering::SeqCst);
        eventually(PATIENCE, || count.load(Ordering::SeqCst) >= 3);
        talk.answer("200 OK", "Content-Type: application/json\r\n", r#"{"verdict":"allow"}"#)
    });
    let more = ["second", "third"].map(|name| {
        format!("[guard.{name}]\naction = \"refuse\"\nmodels = [\"m\"]\nexternal = {{ backend = \"guard\", form = \"webhook\", timeout = \"20s\" }}")
    });
    let gateway = start(&origin, guard.port, "form = \"webhook\", timeout = \"20s\"", &more.join("\n"));
    assert_eq!(ask(&gateway, "m", "hello").status(), 200);
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[test]
fn the_strictest_of_several_verdicts_decides_and_a_refusal_is_not_waited_behind() {
    let origin = Origin::start();
    let go = Arc::new(AtomicBool::new(false));
    let ready = Arc::clone(&go);
    let guard = Origin::scripted(move |talk| {
        let body = talk.request.json();
        let text = body["texts"][0]["text"].as_str().unwrap_or_default().to_owned();
        let does = text
            .split(' ')
            .find_map(|one| one.strip_prefix(&format!("{}=", body["guard"].as_str().unwrap_or_default())));
        let verdict = match does {
            Some("refuse") => r#"{"verdict":"refuse","reason":"so it is"}"#,
            Some("close") => return Next::Close,
            Some("wait") => {
                talk.wait_for(&ready);
                r#"{"verdict":"allow"}"#
            }
            _ => r#"{"verdict":"allow"}"#,
        };
        talk.answer("200 OK", "Content-Type: application/json\r\n", verdict)
    });
    let more = |name: &str, failure: &str| {
        format!(
            "[guard.{name}]\naction = \"refuse\"\nmodels = [\"m\"]\nexternal = {{ backend = \"guard\", form = \"webhook\", timeout = \"20s\", on_failure = \"{failure}\" }}"
        )
    };
    let rules = format!("{}\n{}", more("open", "pass"), more("second", "refuse"));
    let gateway = start(&origin, guard.port, "form = \"webhook\", timeout = \"20s\"", &rules);
    for (text, expected) in [
        ("judge=close second=refuse", "content_policy_violation"),
        ("judge=refuse second=close", "content_policy_violation"),
        ("judge=wait second=refuse", "content_policy_violation"),
        ("judge=close", "guard_unavailable"),
        ("second=close open=refuse", "content_policy_violation"),
        ("open=close", ""),
        ("open=refuse", "content_policy_violation"),
    ] {
        let response = ask(&gateway, "m", text);
        let code = response.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
        assert_eq!(code, expected, "{text}: {}", response.text());
    }
    go.store(true, Ordering::SeqCst);
}

/// A key that has used up half of its budget is served by a cheaper model.
#[test]
fn a_request_that_a_soft_limit_sends_elsewhere_is_checked_by_the_guards_of_the_model_it_asked_for() {
    let origin = Origin::scripted(|talk| {
        let usage = r#"{"prompt_tokens":90,"completion_tokens":10,"total_tokens":100}"#;
        let body = format!(r#"{{"choices":[],"usage":{usage}}}"#);
        talk.answer("200 OK", "Content-Type: application/json\r\n", &body)
    });
    let (guard, _) = webhook();
    let quiet = "kind = \"vllm\"\nhealth = { enabled = false }";
    let soft = r#"budgets = [{ tokens = 1000, per = "month", soft = [{ at = 0.05, action = "downgrade", model = "small" }] }]"#;
    let config = Config::new()
        .shards("count = 1")
        .backend("b1", origin.port, quiet)
        .backend("guard", guard.port, quiet)
        .model("big", &["b1"], "")
        .model("small", &["b1"], "")
        .key("one", K1, soft)
        .tables("[cache]\nenabled = true\n[guard.judge]\naction = \"refuse\"\nmodels = [\"big\"]\nexternal = { backend = \"guard\", form = \"webhook\" }");
    let gateway = Gateway::start(&config);
    let ask = |model: &str, text: &str| {
        let mut client = gateway.connect();
        let body = json!({"model": model, "max_tokens": 10, "messages": [{"role": "user", "content": text}]});
        client.send(&support::chat(K1, "soft", &body.to_string()));
        client.answer().expect("a response")
    };
    assert_eq!(ask("big", "fine").status(), 200);
    // The cheaper model alone has no guard, and its response is kept.
    assert_eq!(ask("small", "a bad one").status(), 200);
    let downgraded = ask("big", "fine too");
    assert!(downgraded.one("x-ringway-limit").starts_with("downgraded"), "{downgraded:?}");
    assert_eq!(origin.seen().last().expect("a request").request.json()["model"], "small");
    let seen = origin.seen().len();
    for text in ["bad", "a bad one"] {
        assert_eq!(code(&ask("big", text)), (400, json!("content_policy_violation")), "{text}");
    }
    assert_eq!(origin.seen().len(), seen);
}
