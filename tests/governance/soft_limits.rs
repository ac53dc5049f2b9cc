//! What happens before a limit refuses, and limits that refuse nothing.

use std::time::{Duration, Instant};

use support::gateway::{Config, Gateway, K1, K2};
use support::origin::Origin;
use support::strict::Message;
use support::{PATIENCE, chat, eventually, nonce};

/// An origin whose responses cost 100 tokens.
fn origin() -> Origin {
    Origin::scripted(|talk| {
        let usage = r#"{"prompt_tokens":90,"completion_tokens":10,"total_tokens":100}"#;
        talk.answer(
            "200 OK",
            "Content-Type: application/json\r\n",
            &format!(r#"{{"choices":[],"usage":{usage}}}"#),
        )
    })
}

fn start(origin: &Origin, one: &str, two: &str) -> Gateway {
    let more = "kind = \"vllm\"\nhealth = { enabled = false }";
    Gateway::start(
        &Config::new()
            .backend("b1", origin.port, more)
            .model("big", &["b1"], "")
            .model("small", &["b1"], "")
            .key("one", K1, one)
            .key("two", K2, two),
    )
}

fn ask(gateway: &Gateway, key: &str, tokens: u64) -> Message {
    let mut client = gateway.connect();
    client.send(&chat(key, &nonce(), &format!(r#"{{"model":"big","max_tokens":{tokens}}}"#)));
    client.answer().expect("a response")
}

fn model_of_last(origin: &Origin) -> String {
    origin.seen().last().expect("a request").request.json()["model"].as_str().unwrap_or_default().to_owned()
}

/// Warn, then wait, then a cheaper model, and only then a refusal; each named in a header.
#[test]
fn a_budget_warns_throttles_and_downgrades_before_it_refuses() {
    let origin = origin();
    let soft = r#"[{ at = 0.2, action = "warn" }, { at = 0.3, action = "throttle", wait = "300ms" }, { at = 0.4, action = "downgrade", model = "small" }]"#;
    let one = format!("budgets = [{{ tokens = 500, per = \"month\", soft = {soft} }}]");
    let gateway = start(&origin, &one, &format!("models = [\"big\"]\n{one}"));
    let response = ask(&gateway, K1, 10);
    assert_eq!((response.status(), response.has("x-ringway-limit")), (200, false), "{response:?}");
    // Used: 100 of 500, then 200 (throttled at 150), then 300 (downgraded at 200).
    let response = ask(&gateway, K1, 10);
    assert_eq!(
        response.one("x-ringway-limit"),
        "warning: key 'one' has used 20% of 500 tokens per month (UTC)"
    );
    assert_eq!(model_of_last(&origin), "big");
    let response = ask(&gateway, K1, 10);
    assert!(
        response.one("x-ringway-limit").starts_with("downgraded: key 'one' has used 40%"),
        "{response:?}"
    );
    assert_eq!((response.status(), model_of_last(&origin)), (200, "small".to_owned()));
    assert_eq!(ask(&gateway, K1, 10).status(), 200);
    assert_eq!(ask(&gateway, K1, 10).status(), 200);
    assert_eq!(ask(&gateway, K1, 10).status(), 429, "used up");
    // A key that may not use the cheaper model goes on with its own.
    for _ in 0..3 {
        assert_eq!(ask(&gateway, K2, 10).status(), 200);
    }
    assert_eq!(model_of_last(&origin), "big");
    assert_eq!(gateway.metric("ringway_soft_limits_total", "") as u64, 7);
}

/// A throttled request waits before it is sent, and no longer than it has to.
#[test]
fn a_throttled_request_waits_before_its_call() {
    let origin = origin();
    let soft = r#"[{ at = 0.1, action = "throttle", wait = "400ms" }]"#;
    let gateway =
        start(&origin, &format!("budgets = [{{ tokens = 1000, per = \"month\", soft = {soft} }}]"), "");
    assert_eq!(ask(&gateway, K1, 10).status(), 200);
    let started = Instant::now();
    let response = ask(&gateway, K1, 10);
    assert_eq!(response.status(), 200, "{response:?}");
    assert!(response.one("x-ringway-limit").starts_with("throttled: key 'one' has used 10%"), "{response:?}");
    assert!(started.elapsed() >= Duration::from_millis(390), "{:?}", started.elapsed());
    let soft = gateway.metric("ringway_soft_limits_total", "");
    let other = ask(&gateway, K2, 10);
    assert_eq!(other.status(), 200);
    assert_eq!(other.one("x-ringway-limit"), "", "another key waits, too");
    assert_eq!(gateway.metric("ringway_soft_limits_total", ""), soft);
    // A client that leaves while it waits gives back what it had taken.
    let mut client = gateway.connect();
    client.send(&chat(K1, "leaver", r#"{"model":"big","max_tokens":500}"#));
    drop(client);
    assert!(eventually(PATIENCE, || ask(&gateway, K1, 600).status() == 200));
    assert!(origin.with_nonce("leaver").is_empty());
}

/// A limit in the shadow refuses nothing and stops nothing, and says what it would have refused; what is used counts as ever.
#[test]
fn a_limit_in_the_shadow_refuses_nothing_and_counts() {
    let origin = origin();
    let one = "requests_per_minute = 1\nrequests_burst = 2\ntokens_per_minute = 1\ntokens_burst = 300\nin_flight_max = 5\n\
        shadow = [\"requests_per_minute\", \"tokens_per_minute\"]\n\
        budgets = [{ tokens = 250, per = \"month\", shadow = true }]";
    let gateway = start(&origin, one, "");
    for turn in 0..5 {
        assert_eq!(ask(&gateway, K1, 10).status(), 200, "{turn}");
    }
    let would = |limit: &str| gateway.metric("ringway_limit_shadow_refusals_total", limit) as u64;
    assert_eq!(would("limit=\"requests_per_minute\""), 3);
    assert_eq!(would("limit=\"250 tokens per month (UTC), in the shadow\""), 2);
    assert!((1..=3).contains(&would("limit=\"tokens_per_minute\"")), "{}", would("tokens_per_minute"));
    let explain = gateway.ask_admin("/api/v1/explain?key=one").expect("a response").1;
    for part in ["requests_per_minute: would have refused 3", "500 tokens used, would have refused 2"] {
        assert!(explain.contains(part), "{explain}");
    }
}
