//! What clients are told when something fails: status, shape and fields, in the dialect of their path.
#![allow(clippy::print_stdout)] // which of two allowed outcomes was seen

use support::config::digest_hex;
use support::gateway::{Config, Gateway, K1, K2};
use support::origin::{Next, Origin};
use support::strict::Message;
use support::{J, chat, chat_head, models_head};

fn start() -> (Origin, Gateway) {
    let origin = Origin::start();
    let gateway = Gateway::start(&Config::simple(origin.port));
    (origin, gateway)
}

fn send(gateway: &Gateway, bytes: &[u8]) -> Message {
    let mut client = gateway.connect();
    client.send(bytes);
    client.answer().expect("an answer")
}

fn case(gateway: &Gateway, name: &str) -> Message {
    let head = chat_head(K1, name);
    send(gateway, format!("{head}X-Case: {name}\r\nContent-Length: 27\r\n\r\n{J}").as_bytes())
}

/// A request in the Anthropic dialect.
fn messages(key: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /v1/messages HTTP/1.1\r\nHost: gw.test\r\nx-api-key: {key}\r\nanthropic-version: 2023-06-01\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A request for the list of models, without a body.
fn models(key: &str) -> Vec<u8> {
    format!("{}\r\n", models_head(key)).into_bytes()
}

fn openai(answer: &Message, status: u16, kind: &str, code: &str) {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert!(answer.one("content-type").starts_with("application/json"), "{answer:?}");
    assert!(!answer.one("x-request-id").is_empty(), "{answer:?}");
    assert!(!answer.one("date").is_empty(), "{answer:?}");
    let error = &answer.json()["error"];
    assert!(error["message"].as_str().is_some_and(|text| text.len() > 5), "{answer:?}");
    assert!(kind.is_empty() || error["type"] == kind, "{answer:?}");
    assert_eq!(error["code"], code, "{answer:?}");
    assert!(error.get("param").is_some(), "{answer:?}");
    assert_eq!(support::table::leak(&answer.text()), None, "{answer:?}");
}

fn anthropic(answer: &Message, status: u16, kind: &str) {
    assert_eq!(answer.status(), status, "{answer:?}");
    let json = answer.json();
    assert_eq!(json["type"], "error", "{answer:?}");
    assert_eq!(json["error"]["type"], kind, "{answer:?}");
    assert!(json["error"]["message"].is_string(), "{answer:?}");
    assert!(!answer.one("request-id").is_empty(), "{answer:?}");
}

/// B1, N01; S04: the digest that stands in the configuration is no key.
#[test]
fn a_wrong_key_is_a_401_in_each_dialect() {
    let (origin, gateway) = start();
    let answer = send(&gateway, &chat("wrong", "x", J));
    openai(&answer, 401, "invalid_request_error", "invalid_api_key");
    assert!(answer.has("www-authenticate") && !answer.has("proxy-authenticate"), "{answer:?}");
    let none =
        format!("POST /v1/chat/completions HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 27\r\n\r\n{J}");
    openai(&send(&gateway, none.as_bytes()), 401, "invalid_request_error", "invalid_api_key");
    let digest = send(&gateway, &chat(&digest_hex(K1), "x", J));
    openai(&digest, 401, "invalid_request_error", "invalid_api_key");
    anthropic(&send(&gateway, &messages("wrong", J)), 401, "authentication_error");
    assert!(origin.seen().is_empty());
}

/// S29: told to wait, each on a connection that ends; and nobody else pays for it.
#[test]
fn too_many_wrong_keys_from_an_address_are_told_to_wait() {
    let origin = Origin::start();
    let limit = "[limits]\nauth_failures_per_minute = 1";
    let gateway = Gateway::start(&Config::simple(origin.port).shards("count = 1").tables(limit));
    let wrong = || send(&gateway, &models("wrong"));
    openai(&wrong(), 401, "invalid_request_error", "invalid_api_key");
    let limited = wrong();
    openai(&limited, 429, "invalid_request_error", "too_many_invalid_keys");
    let wait: u64 = limited.one("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{limited:?}");
    assert_eq!(
        (limited.one("connection").as_str(), limited.one("x-should-retry").as_str()),
        ("close", "false")
    );
    assert!(!limited.has("www-authenticate"), "{limited:?}");
    anthropic(&send(&gateway, &messages("wrong", J)), 429, "rate_limit_error");

    // A key that holds is served from the same address, before, between and after.
    let mut client = gateway.connect();
    for turn in 0..20 {
        assert_eq!(wrong().status(), 429, "turn {turn}");
        client.send(&chat(K1, "good", J));
        assert_eq!(client.answer().expect("an answer").status(), 200, "turn {turn}");
    }
    // Two keys in one request that both hold are malformed, however often.
    let two = format!(
        "GET /v1/models HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {K1}\r\nx-api-key: {K2}\r\n\r\n"
    );
    assert_eq!(send(&gateway, two.as_bytes()).status(), 400);
    let counted = || gateway.metric("ringway_faults_total", "\"too_many_invalid_keys\"");
    assert!(support::eventually(support::PATIENCE, || counted() >= 20.0), "{}", counted());
}

#[test]
fn without_a_bound_wrong_keys_are_401_for_ever() {
    let origin = Origin::start();
    let limit = "[limits]\nauth_failures_per_minute = 0";
    let gateway = Gateway::start(&Config::simple(origin.port).tables(limit));
    let mut client = gateway.connect();
    for turn in 0..100 {
        client.send(&models("wrong"));
        assert_eq!(client.answer().expect("an answer").status(), 401, "turn {turn}");
    }
}

/// B2.
#[test]
fn an_unknown_model_is_a_404_in_each_dialect() {
    let (_origin, gateway) = start();
    let body = r#"{"model":"nobody","messages":[]}"#;
    let answer = send(&gateway, &chat(K1, "x", body));
    openai(&answer, 404, "invalid_request_error", "model_not_found");
    anthropic(&send(&gateway, &messages(K1, body)), 404, "not_found_error");
}

/// B3: and the connection stays usable.
#[test]
fn malformed_json_is_a_400_in_each_dialect() {
    let (origin, gateway) = start();
    let mut client = gateway.connect();
    for body in ["{", "[]", "{\"model\":1}", "{\"messages\":[]}", "nothing", "{\"model\":\"m\",}"] {
        client.send(&chat(K1, "x", body));
        let answer = client.answer().expect("an answer");
        openai(&answer, 400, "invalid_request_error", "invalid_body");
    }
    client.send(&chat(K1, "good", J));
    assert_eq!(client.answer().expect("an answer").status(), 200);
    anthropic(&send(&gateway, &messages(K1, "{")), 400, "invalid_request_error");
    assert_eq!(origin.seen().len(), 1);
}

/// B4: a backend's HTML does not reach the client.
#[test]
fn a_backends_page_is_not_shown() {
    let (origin, gateway) = start();
    origin.case("html", |talk| {
        talk.answer("502 Bad Gateway", "Content-Type: text/html\r\n", "<html>nginx at 10.0.0.7</html>")
    });
    let answer = case(&gateway, "html");
    assert!((500..600).contains(&answer.status()), "{answer:?}");
    assert!(answer.json()["error"].is_object() && !answer.text().contains("nginx"), "{answer:?}");
}

const JSON: &str = "Content-Type: application/json\r\n";

/// An error is held until it is whole, so that one that is cut is not shown; but not for ever.
#[test]
fn an_error_is_shown_whole_or_as_a_fault_of_the_backend() {
    let (origin, gateway) = start();
    let long = format!(r#"{{"error":{{"message":"{}"}}}}"#, "x".repeat(1 << 20));
    let told = long.clone();
    origin.case("long", move |talk| talk.answer("400 Bad Request", JSON, &told));
    origin.case("cut", |talk| {
        talk.send(format!("HTTP/1.1 400 Bad Request\r\n{JSON}Content-Length: 90\r\n\r\n{{\"error\":"));
        Next::Close
    });
    let answer = case(&gateway, "long");
    assert_eq!((answer.status(), answer.text()), (400, long));
    let answer = case(&gateway, "cut");
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert_eq!(answer.json()["error"]["code"], "backend_stream_truncated", "{answer:?}");
}

/// B5, N08.
#[test]
fn a_rate_limit_says_when_to_come_back() {
    let origin = Origin::start();
    let more = "health = { enabled = false }";
    let limited = "requests_per_minute = 6\nrequests_burst = 1";
    let config =
        Config::new().backend("b1", origin.port, more).model("m", &["b1"], "").key("one", K1, limited);
    let gateway = Gateway::start(&config);
    let mut client = gateway.connect();
    client.send(&chat(K1, "first", J));
    let first = client.answer().expect("an answer");
    assert_eq!(first.status(), 200);
    assert!(
        first.has("x-ratelimit-limit-requests") && first.has("x-ratelimit-remaining-requests"),
        "{first:?}"
    );
    client.send(&chat(K1, "second", J));
    let answer = client.answer().expect("an answer on the same connection");
    openai(&answer, 429, "requests", "rate_limit_exceeded");
    let seconds: f64 = answer.one("retry-after").parse().expect("seconds");
    let millis: f64 = answer.one("retry-after-ms").parse().expect("milliseconds");
    assert!(
        (1.0..=10.0).contains(&seconds) && millis <= seconds * 1000.0 && millis > (seconds - 1.1) * 1000.0,
        "{answer:?}"
    );
    anthropic(&send(&gateway, &messages(K1, J)), 429, "rate_limit_error");
}

/// B7, f_11: a backend at its limit is passed over, and its cool-down is kept.
#[test]
fn a_busy_backend_is_passed_over() {
    let busy = Origin::scripted(|talk| talk.answer("429 Too Many Requests", "Retry-After: 600\r\n", "{}"));
    let good = Origin::start();
    let config = Config::new()
        .backend("busy", busy.port, "health = { enabled = false }")
        .backend("good", good.port, "health = { enabled = false }")
        .model("m", &["busy", "good"], "")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    for turn in 0..20 {
        let answer = send(&gateway, &chat(K1, &format!("turn-{turn}"), J));
        assert_eq!(answer.status(), 200, "turn {turn}: {answer:?}");
    }
    assert!((1..=2).contains(&busy.seen().len()), "{} requests in its cool-down", busy.seen().len());
}

/// B8: when all are at their limit, the client is told for how long.
#[test]
fn all_busy_is_a_429_with_the_least_wait() {
    let (a, b) = (
        Origin::scripted(|talk| talk.answer("429 Too Many Requests", "Retry-After: 30\r\n", "{}")),
        Origin::scripted(|talk| talk.answer("429 Too Many Requests", "Retry-After: 20\r\n", "{}")),
    );
    let config = Config::new()
        .backend("a", a.port, "health = { enabled = false }")
        .backend("b", b.port, "health = { enabled = false }")
        .model("m", &["a", "b"], "")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    for turn in 0..3 {
        let answer = send(&gateway, &chat(K1, &format!("turn-{turn}"), J));
        assert_eq!(answer.status(), 429, "turn {turn}: {answer:?}");
        let wait: u64 =
            answer.one("retry-after").parse().unwrap_or_else(|_| panic!("turn {turn}: {answer:?}"));
        assert!((1..=21).contains(&wait), "turn {turn}: {answer:?}"); // a millisecond over 20 s is rounded up
    }
}

/// B9, B10, B11: what a backend says of itself, and of the request.
#[test]
fn a_backends_status_is_mapped_by_whose_fault_it_is() {
    let (origin, gateway) = start();
    origin.case("denied", |talk| {
        talk.answer(
            "401 Unauthorized",
            "Content-Type: application/json\r\n",
            "{\"error\":{\"message\":\"bad provider key\"}}",
        )
    });
    let ours = "{\"error\":{\"message\":\"context too long: 9000 > 8192\",\"type\":\"BadRequestError\",\"param\":null,\"code\":400}}";
    origin.case("refused", move |talk| {
        talk.answer("400 Bad Request", "Content-Type: application/json\r\n", ours)
    });
    origin.case("unknown", move |talk| {
        talk.answer("422 Unprocessable Entity", "Content-Type: application/json\r\n", ours)
    });
    let answer = case(&gateway, "denied");
    openai(&answer, 502, "", "backend_auth_failed");
    assert!(!answer.text().contains("provider key"), "{answer:?}");
    for (name, status) in [("refused", 400), ("unknown", 422)] {
        let answer = case(&gateway, name);
        assert_eq!((answer.status(), answer.text().as_str()), (status, ours), "{answer:?}");
        assert_eq!(origin.with_nonce(name).len(), 1, "{name} was tried again");
    }
}

/// B12: fields for the backend pass.
#[test]
fn idempotency_keys_pass() {
    let (origin, gateway) = start();
    let head = chat_head(K1, "idem");
    send(
        &gateway,
        format!("{head}Idempotency-Key: abc\r\nx-stainless-retry-count: 1\r\nContent-Length: 27\r\n\r\n{J}")
            .as_bytes(),
    );
    assert_eq!(origin.with_nonce("idem")[0].request.one("idempotency-key"), "abc");
}

/// B15, N02; unknown paths; the operator's paths are not here.
#[test]
fn methods_and_paths() {
    let (_origin, gateway) = start();
    let get = |method: &str, path: &str| {
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {K1}\r\nContent-Length: 0\r\n\r\n"
        );
        send(&gateway, text.as_bytes())
    };
    let answer = get("GET", "/v1/chat/completions");
    openai(&answer, 405, "invalid_request_error", "method_not_allowed");
    assert!(answer.one("allow").contains("POST"), "{answer:?}");
    let answer = get("DELETE", "/v1/models");
    assert_eq!(answer.status(), 405);
    assert!(answer.one("allow").contains("GET"), "{answer:?}");
    for path in ["/v1/nothing", "/", "/metrics", "/status", "/readyz", "/v1/models/nobody"] {
        let answer = get("GET", path);
        assert_eq!(answer.status(), 404, "{path}: {answer:?}");
        assert!(answer.json()["error"].is_object(), "{answer:?}");
    }
}

/// A18, A19: the list of models in both dialects, and one of them by name.
#[test]
fn models_are_listed_here() {
    let origin = Origin::start();
    let config = Config::new()
        .backend("b1", origin.port, "health = { enabled = false }")
        .model("org/name", &["b1"], "aliases = [\"short\"]")
        .model("hidden", &["b1"], "")
        .key("one", K1, "models = [\"org/*\"]");
    let gateway = Gateway::start(&config);
    let get = |path: &str, more: &str| {
        let text =
            format!("GET {path} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {K1}\r\n{more}\r\n");
        send(&gateway, text.as_bytes())
    };
    let list = get("/v1/models", "");
    assert_eq!(list.json()["object"], "list", "{list:?}");
    assert!(list.text().contains("org/name") && !list.text().contains("hidden"), "{list:?}");
    assert!(!list.one("x-request-id").is_empty());
    let list = get("/v1/models", "anthropic-version: 2023-06-01\r\n");
    assert!(list.json()["data"][0]["type"] == "model" && list.json().get("has_more").is_some(), "{list:?}");
    for path in ["/v1/models/org/name", "/v1/models/org%2Fname"] {
        assert_eq!(get(path, "").json()["id"], "org/name", "{path}");
    }
    assert!(origin.seen().is_empty());
}

/// B14 and the request id: every answer has one, no two are the same, and the backend's own is not taken.
#[test]
fn every_answer_has_its_own_id() {
    let (origin, gateway) = start();
    origin.case("named", |talk| {
        talk.answer("200 OK", "X-Request-Id: theirs\r\nContent-Type: application/json\r\n", "{}")
    });
    let mut ids = std::collections::BTreeSet::new();
    for turn in 0..50 {
        let answer = match turn % 4 {
            0 => send(&gateway, &chat(K1, "x", J)),
            1 => send(&gateway, &chat("wrong", "x", J)),
            2 => case(&gateway, "named"),
            _ => send(&gateway, b"GET / HTTP/1.1\nHost: x\n\n"),
        };
        let id = answer.one("x-request-id");
        assert!(!id.is_empty() && id != "theirs", "{answer:?}");
        assert!(ids.insert(id), "{answer:?}");
        assert!(answer.has("date"), "{answer:?}");
    }
}

/// F-23, N08: all backends down is said at once, with advice.
#[test]
fn nobody_there_is_a_5xx_with_advice() {
    let port = support::gateway::free_port();
    let gateway = Gateway::start(&Config::simple(port));
    for turn in 0..12 {
        let answer = send(&gateway, &chat(K1, "x", J));
        assert!([502, 503].contains(&answer.status()), "turn {turn}: {answer:?}");
        assert!(answer.json()["error"]["code"].is_string(), "{answer:?}");
        if answer.status() == 503 {
            assert!(answer.one("retry-after").parse::<u64>().is_ok_and(|wait| wait >= 1), "{answer:?}");
        }
        assert_eq!(support::table::leak(&answer.text()), None, "{answer:?}");
    }
}

/// The dialect of a failed backend call on /v1/messages.
#[test]
fn backend_failures_on_messages_are_in_its_dialect() {
    let origin = Origin::scripted(|_| Next::Close);
    let config = Config::new()
        .backend("b1", origin.port, "kind = \"anthropic\"\nhealth = { enabled = false }")
        .model("m", &["b1"], "")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    let answer = send(&gateway, &messages(K1, r#"{"model":"m","max_tokens":1,"messages":[]}"#));
    assert!((500..600).contains(&answer.status()), "{answer:?}");
    anthropic(&answer, answer.status(), "api_error");
}

/// O6: every refusal is counted under its code, and costs the key nothing.
#[test]
fn refusals_are_counted_by_code() {
    let (_origin, gateway) = start();
    let limited = [
        (chat("wrong", "x", J), "invalid_api_key"),
        (chat(K1, "x", "{"), "invalid_body"),
        (chat(K1, "x", r#"{"model":"nobody"}"#), "model_not_found"),
        (b"GET / HTTP/1.1\nHost: x\n\n".to_vec(), "malformed_request"),
    ];
    for (bytes, code) in limited {
        let count = || gateway.metric("ringway_faults_total", &format!("\"{code}\""));
        let before = count();
        for _ in 0..3 {
            send(&gateway, &bytes);
        }
        let counted = support::eventually(support::PATIENCE, || count() >= before + 3.0);
        assert!(counted, "{code}: {before} and then {}", count());
    }
    let tokens = gateway.metric("ringway_key_tokens_total", "");
    assert_eq!(tokens, 0.0, "refusals were charged");
}
