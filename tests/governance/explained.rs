//! What the gateway says beforehand is what it does: whether a key's request is let in, and where a request goes.

use std::process::Command;

use serde_json::{Value, json};
use support::gateway::{Config, Gateway, K1, free_port};
use support::origin::{Origin, completion};
use support::{PATIENCE, chat, eventually, nonce};

const QUIET: &str = "health = { enabled = false }";

fn ask(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Value {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let answer = gateway.write_admin(method, path, "", &text).expect("an answer");
    serde_json::from_str(&answer.text()).unwrap_or_default()
}

/// The status of a small request, and its error's code.
fn serves(gateway: &Gateway, key: &str, model: &str) -> (u16, String) {
    let mut client = gateway.connect();
    client.send(&chat(key, &nonce(), &format!(r#"{{"model":"{model}","messages":[],"max_tokens":16}}"#)));
    let answer = client.answer().expect("an answer");
    (answer.status(), answer.text())
}

#[test]
fn allowed_is_what_a_request_would_meet() {
    // More than any of the limits below has, so that one request uses each of them up.
    let used = r#"{"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"well"}}],"usage":{"prompt_tokens":5,"completion_tokens":295,"total_tokens":300}}"#;
    let origin = Origin::scripted(move |talk| talk.answer("200 OK", "", used));
    let dead = free_port();
    let keys: [(&str, &str); 11] = [
        ("free", ""),
        ("once", "requests_per_minute = 1\nrequests_burst = 1"),
        ("shadowed", "requests_per_minute = 1\nrequests_burst = 1\nshadow = [\"requests_per_minute\"]"),
        ("few", "tokens_per_minute = 1\ntokens_burst = 300"),
        ("spent", "budgets = [{ tokens = 25, per = \"month\" }]"),
        ("spent-shadow", "budgets = [{ tokens = 25, per = \"month\", shadow = true }]"),
        ("ended", "expires = \"2020-01-01T00:00:00Z\""),
        ("embeds", "apis = [\"embeddings\"]"),
        ("other", "models = [\"lost\"]"),
        ("of-team", "team = \"small\""),
        ("of-spent-team", "team = \"poor\""),
    ];
    let secret = |name: &str| format!("sk-explained-{name}-0123456789abcdef");
    let mut config = Config::new()
        .backend("b1", origin.port, QUIET)
        .backend("b2", origin.port, QUIET)
        .backend("gone", dead, QUIET)
        .model("m", &["b1"], "")
        .model("lost", &["gone"], "")
        .model("saved", &["gone"], "fallbacks = [\"m\"]")
        .model("away", &["b2"], "")
        .tables("[team.small]\nrequests_per_minute = 1\nrequests_burst = 1")
        .tables("[team.poor]\nbudgets = [{ tokens = 25, per = \"month\" }]")
        .tables("[store]\ndirectory = \"data\"");
    for (name, lines) in keys {
        config = config.key(name, &secret(name), lines);
    }
    let gateway = Gateway::start(&config);
    ask(&gateway, "POST", "/api/v1/backends/b2/drain", &Value::Null);
    // Until its breaker is open nobody knows that a backend is gone.
    let told = |key: &str, model: &str| {
        ask(&gateway, "GET", &format!("/api/v1/explain?key={key}&model={model}"), &Value::Null)
    };
    assert!(eventually(PATIENCE, || {
        serves(&gateway, &secret("free"), "lost");
        told("free", "lost")["allowed"] == false
    }));
    let made = ask(&gateway, "POST", "/api/v1/keys", &json!({ "name": "stored", "requests_per_minute": 1 }));
    let stored = made["secret"].as_str().expect("a secret").to_owned();
    let names: Vec<(&str, String)> = keys.iter().map(|(name, _)| (*name, secret(name))).collect();
    for (name, secret) in names.into_iter().chain([("stored", stored)]) {
        let mut seen = Vec::new();
        for model in ["m", "m", "saved", "lost", "away", "nobody"] {
            let told = told(name, model);
            let (status, text) = serves(&gateway, &secret, model);
            assert_eq!(told["allowed"], status == 200, "{name} {model}: {told} but {status}: {text}");
            assert_eq!(told["allowed"] == false, told["reason"].is_string(), "{told}");
            seen.push(status);
        }
        if name == "free" {
            assert_eq!(seen, [200, 200, 200, 503, 503, 404]);
        }
    }
    // Where it is changed depends on where it is kept.
    let fix_of = |key: &str| {
        let rows = ask(&gateway, "GET", &format!("/api/v1/requests?key={key}&status=429"), &Value::Null);
        let number = rows["requests"][0]["number"].to_string();
        ask(&gateway, "GET", &format!("/api/v1/requests/{number}"), &Value::Null)["explain"]["fix"]
            .to_string()
    };
    for (key, part) in [
        ("once", "requests_per_minute of [key.once] in the configuration"),
        ("stored", "`ringway key set stored --member requests_per_minute=VALUE`"),
        ("of-team", "requests_per_minute of [team.small] in the configuration"),
    ] {
        assert!(eventually(PATIENCE, || fix_of(key).contains(part)), "{key}: {}", fix_of(key));
    }
}

/// A gateway whose models route by what a request looks like.
fn routed() -> (Gateway, Vec<Origin>) {
    let names = ["small", "large", "gold", "safe", "tools", "own", "spare"];
    let origins: Vec<Origin> = names
        .iter()
        .map(|_| Origin::scripted(|talk| talk.answer("200 OK", "", &completion("well"))))
        .collect();
    let mut config = Config::new().top("debug_headers = true");
    for (name, origin) in names.iter().zip(&origins) {
        config = config.backend(name, origin.port, QUIET).model(name, &[name], "");
    }
    config = config.backend("drained", free_port(), QUIET).backend("unreached", free_port(), QUIET);
    config = config
        .model(
            "auto",
            &["small"],
            "aliases = [\"nick\"]\nroute = [{ to = \"large\", prompt_tokens_min = 500 }, { to = \"gold\", header = \"x-tier: gold\" }, \
             { to = \"tools\", tools = true }, { to = \"own\", keys = [\"two\"] }]",
        )
        .model("guarded", &["small"], "")
        .model("pair", &["drained", "spare"], "")
        .model("stand-in", &["drained"], "fallbacks = [\"spare\"]")
        .model("vendor/*", &["small"], "")
        .tables(
            "[guard.private]\nwords = [\"hush\"]\nmodels = [\"guarded\"]\naction = { route = \"safe\" }\n\
             [guard.never]\nwords = [\"forbidden\"]\nmodels = [\"guarded\"]\naction = \"refuse\"",
        )
        .key("one", K1, "")
        .key("two", "sk-explained-two-0123456789abcdef", "")
        .key("narrow", "sk-explained-narrow-0123456789abcdef", "models = [\"auto\", \"small\", \"gold\"]");
    let gateway = Gateway::start(&config);
    ask(&gateway, "POST", "/api/v1/backends/drained/drain", &Value::Null);
    (gateway, origins)
}

#[test]
fn a_route_that_is_explained_is_the_route_that_is_taken() {
    let (gateway, _origins) = routed();
    let long = "a long prompt ".repeat(400);
    let says = |model: &str, text: &str| json!({ "model": model, "messages": [{ "role": "user", "content": text }] });
    let mut with_tools = says("auto", "hi");
    with_tools["tools"] = json!([{ "type": "function", "function": { "name": "f", "parameters": {} } }]);
    let requests = [
        says("auto", "hi"),
        says("auto", &long),
        with_tools,
        says("nick", "hi"),
        says("nick", &long),
        says("guarded", "hi"),
        says("guarded", "hush now"),
        says("guarded", "forbidden"),
        says("pair", "hi"),
        says("stand-in", "hi"),
        says("vendor/x", "hi"),
        says("large", "hi"),
    ];
    let keys = [
        ("one", K1),
        ("two", "sk-explained-two-0123456789abcdef"),
        ("narrow", "sk-explained-narrow-0123456789abcdef"),
    ];
    let mut taken = Vec::new();
    for request in &requests {
        for (key, secret) in keys {
            for tier in ["", "gold"] {
                let question = json!({ "key": key, "headers": { "x-tier": tier }, "request": request });
                let told = ask(&gateway, "POST", "/api/v1/route/explain", &question);
                let body = request.to_string();
                let mut client = gateway.connect();
                let head = format!(
                    "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\nX-Tier: {tier}\r\n\
                     Content-Length: {}\r\n\r\n",
                    body.len()
                );
                client.send((head + &body).as_bytes());
                let answer = client.answer().expect("an answer");
                let went = Some(answer.one("x-ringway-backend")).filter(|_| answer.status() == 200);
                let chosen = told["chosen"].as_str().filter(|_| told["refused"].is_null());
                assert_eq!(
                    chosen,
                    went.as_deref().map(|text| text.trim()),
                    "{request} {key} {tier:?}: {told}"
                );
                taken.extend(went);
            }
        }
    }
    taken.sort();
    taken.dedup();
    assert_eq!(taken, ["gold", "large", "own", "safe", "small", "spare", "tools"], "each rule was met");
    // The command prints the same.
    let file = gateway.folder().join("prompt.json");
    std::fs::write(&file, requests[0].to_string()).expect("a file");
    let mut command = Command::new(support::binary());
    command.args(["route", "explain", "--key", "one", "--header", "x-tier: gold", "--config"]);
    let output = command.arg(gateway.folder().join("ringway.toml")).arg(&file).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("model gold for auto") && text.contains("chosen: gold"), "{text}{output:?}");
}
