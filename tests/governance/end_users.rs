//! End users: who may name them, what each may use, and what the record of usage says.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use support::gateway::{Config, Gateway, K1, K2};
use support::origin::Origin;
use support::strict::Message;
use support::{PATIENCE, eventually, nonce};

fn start(origin: &Origin, end_users: &str, key: &str) -> Gateway {
    let more =
        "kind = \"vllm\"\nserves = [\"chat\", \"messages\", \"responses\"]\nhealth = { enabled = false }";
    Gateway::start(
        &Config::new()
            .backend("b1", origin.port, more)
            .model("m", &["b1"], "")
            .tables(&format!("[end_users]\nheader = \"x-end-user\"\n{end_users}"))
            .key("one", K1, &format!("names_users = true\n{key}"))
            .key("two", K2, "")
            .shards("count = 2"),
    )
}

fn post(key: &str, path: &str, fields: &str, body: &str) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nX-Nonce: {}\r\n{fields}", nonce());
    let head = format!("{head}Authorization: Bearer {key}\r\nContent-Type: application/json\r\n");
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn ask(gateway: &Gateway, key: &str, path: &str, fields: &str, body: &str) -> Message {
    let mut client = gateway.connect();
    client.send(&post(key, path, fields, body));
    client.answer().expect("a response")
}

fn of(user: &str) -> String {
    format!(r#"{{"model":"m","max_tokens":10,"user":"{user}"}}"#)
}

const CHAT: &str = "/v1/chat/completions";

/// The lines of `ringway usage --by user`, by user: their requests.
fn usage(gateway: &Gateway) -> Vec<(String, u64)> {
    let output = Command::new(support::binary())
        .args(["usage", "--by", "user", "--json", "--config"])
        .arg(gateway.folder().join("ringway.toml"))
        .output()
        .expect("the command runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let line = |line: serde_json::Value| {
        (line["user"].as_str().unwrap_or_default().to_owned(), line["requests"].as_u64().unwrap_or(0))
    };
    let mut lines: Vec<_> = lines.map(line).collect();
    lines.sort();
    lines
}

/// Report 29: the end user comes from a header, `safety_identifier`, `user` or `metadata.user_id`, only from keys that may say so, and
/// is bounded; what has none is a line of its own.
#[test]
fn the_record_of_usage_has_the_end_users_that_keys_may_name() {
    let origin = Origin::start();
    let gateway = start(&origin, "", "");
    let messages = r#""messages":[{"role":"user","content":"x"}],"max_tokens":9"#;
    for (key, path, fields, body, status) in [
        (K1, CHAT, "", of("u-1"), 200),
        (K1, CHAT, "", r#"{"model":"m","user":"u-1","safety_identifier":"s-1"}"#.to_owned(), 200),
        (K1, CHAT, "X-End-User: h-1\r\n", of("u-1"), 200),
        (
            K1,
            "/v1/messages",
            "",
            format!(r#"{{"model":"m","metadata":{{"user_id":"a-\u0031"}},{messages}}}"#),
            200,
        ),
        (K1, CHAT, "", of(""), 200),
        (K1, CHAT, "", r#"{"model":"m","user":7}"#.to_owned(), 200),
        (K2, CHAT, "X-End-User: h-1\r\n", of("u-1"), 200),
        (K1, CHAT, "", of(&"x".repeat(255)), 200),
        (K1, CHAT, "", of(&"x".repeat(256)), 400),
        (K1, CHAT, "", of("a\\nb"), 400),
    ] {
        assert_eq!(ask(&gateway, key, path, fields, &body).status(), status, "{fields}{body}");
    }
    // The body passes as it is.
    assert_eq!(origin.seen()[1].request.json()["safety_identifier"], "s-1");
    let expected = [("", 5), ("a-1", 1), ("h-1", 1), ("s-1", 1), ("u-1", 1), (&"x".repeat(255), 1)];
    let expected = expected.map(|(user, requests)| (user.to_owned(), requests));
    assert!(eventually(PATIENCE, || usage(&gateway) == expected), "{:?}", usage(&gateway));
    let metrics = gateway.ask_admin("/metrics").expect("metrics").1;
    assert!(!metrics.contains("u-1") && !metrics.contains("s-1"), "no line per end user");
}

/// Reports 1 and 9: the limits of an end user hold from the first request on, on every route, and leave others alone.
#[test]
fn each_end_user_has_its_own_limits_from_its_first_request_on() {
    let hold = Arc::new(AtomicBool::new(false));
    let release = Arc::clone(&hold);
    let origin = Origin::scripted(move |talk| {
        talk.wait_for(&release);
        let usage = r#"{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}"#;
        talk.answer(
            "200 OK",
            "Content-Type: application/json\r\n",
            &format!(r#"{{"choices":[],"usage":{usage}}}"#),
        )
    });
    let gateway = start(&origin, "budgets = [{ tokens = 3000, per = \"day\" }]", "");
    for (round, user) in ["new-1", "new-2", "new-3"].into_iter().enumerate() {
        hold.store(false, Ordering::SeqCst);
        let (barrier, seen) = (Arc::new(Barrier::new(64)), origin.seen().len());
        let body = format!(r#"{{"model":"m","max_tokens":900,"user":"{user}"}}"#);
        let threads: Vec<_> = (0..64)
            .map(|_| {
                let (barrier, mut client) = (Arc::clone(&barrier), gateway.connect());
                let bytes = post(K1, CHAT, "", &body);
                std::thread::spawn(move || {
                    barrier.wait();
                    client.send(&bytes);
                    client.answer().map_or(0, |response| response.status())
                })
            })
            .collect();
        let refused = || threads.iter().filter(|thread| thread.is_finished()).count();
        assert!(eventually(PATIENCE, || refused() + origin.seen().len() - seen >= 64));
        hold.store(true, Ordering::SeqCst);
        let statuses: Vec<u16> = threads.into_iter().map(|thread| thread.join().expect("a client")).collect();
        assert_eq!(
            statuses.iter().filter(|status| **status == 200).count(),
            3,
            "round {round}: {statuses:?}"
        );
    }
    // Used up by one: refused on every route, in the words of each dialect; others go on.
    let big = r#"{"model":"m","max_tokens":2960,"user":"new-1"}"#;
    let response = ask(&gateway, K1, CHAT, "", big);
    assert_eq!(
        (response.status(), response.json()["error"]["code"].as_str()),
        (429, Some("insufficient_quota"))
    );
    let said = response.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(said.contains("this end user has used 60 of 3000 tokens per day"), "{said}");
    let messages = r#"{"model":"m","max_tokens":2960,"metadata":{"user_id":"new-1"},"messages":[]}"#;
    assert_eq!(ask(&gateway, K1, "/v1/messages", "", messages).status(), 402);
    let responses = r#"{"model":"m","max_output_tokens":2960,"user":"new-1","input":"x"}"#;
    assert_eq!(ask(&gateway, K1, "/v1/responses", "", responses).status(), 429);
    let other = r#"{"model":"m","max_tokens":2960,"user":"new-4"}"#;
    assert_eq!(ask(&gateway, K1, CHAT, "", other).status(), 200);
    assert_eq!(ask(&gateway, K2, CHAT, "", big).status(), 200, "a key that may not name end users has none");
}

/// Report 5: a request that one limit refuses takes nothing from the others; the end user's own requests are given back, too.
#[test]
fn a_refused_request_takes_nothing_of_the_end_user_or_of_the_key() {
    let origin = Origin::start();
    let gateway = start(
        &origin,
        "requests_per_minute = 1\nrequests_burst = 2",
        "requests_per_minute = 1\nrequests_burst = 5\nmodels = [\"m\"]",
    );
    for user in ["a", "a"] {
        assert_eq!(ask(&gateway, K1, CHAT, "", &of(user)).status(), 200);
    }
    for _ in 0..10 {
        let response = ask(&gateway, K1, CHAT, "", &of("a"));
        assert_eq!(response.status(), 429);
        let said = response.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(said.contains("1 requests per minute for end user 'a'"), "{said}");
        assert_eq!(response.one("x-should-retry"), "true");
    }
    // Three of the key's five are left.
    for (user, status) in [("b", 200), ("c", 200), ("d", 200), ("e", 429)] {
        assert_eq!(ask(&gateway, K1, CHAT, "", &of(user)).status(), status, "{user}");
    }
}

/// Names that clients choose cost no more memory than there are places, and nothing of one that is forgotten is left.
#[test]
fn as_many_end_users_are_kept_as_there_are_places() {
    let origin = Origin::start();
    let gateway =
        start(&origin, "kept = 8\nin_flight_max = 1\nrequests_per_minute = 1\nrequests_burst = 1", "");
    for index in 0..100 {
        assert_eq!(ask(&gateway, K1, CHAT, "", &of(&format!("u-{index}"))).status(), 200, "{index}");
    }
    assert_eq!(gateway.metric("ringway_end_users", "") as u64, 8);
    assert_eq!(gateway.metric("ringway_end_users_forgotten_total", "") as u64, 92);
    assert_eq!(ask(&gateway, K1, CHAT, "", &of("u-99")).status(), 429, "it is known");
    assert_eq!(ask(&gateway, K1, CHAT, "", &of("u-0")).status(), 200, "it was forgotten");
}
