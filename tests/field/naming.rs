//! How clients name models: by a pattern of the operator's, in the path as Azure's SDK does, below the prefix of a dialect; and
//! keys in the query.

use std::time::Duration;

use serde_json::{Value, json};

use support::eventually;
use support::gateway::{Config, Gateway, K1};
use support::origin::{self, Origin, Talk};
use support::strict::Message;

const QUIET: &str = "health = { enabled = false }";
const HI: &str = r#""messages":[{"role":"user","content":"Hi"}]"#;

/// Sends a body to a target with these header lines.
fn post(gateway: &Gateway, target: &str, lines: &str, body: &str) -> Message {
    let mut client = gateway.connect();
    let head = format!("POST {target} HTTP/1.1\r\nHost: h\r\n{lines}Content-Type: application/json\r\n");
    client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    client.answer().expect("a response")
}

fn bearer() -> String {
    format!("Authorization: Bearer {K1}\r\n")
}

/// Asks for a model by chat completions; the status.
fn ask(gateway: &Gateway, model: &str) -> u16 {
    let body = format!("{{\"model\":{},{HI}}}", json!(model));
    post(gateway, "/v1/chat/completions", &bearer(), &body).status()
}

/// What the origin was asked for since the last look: the target and the body.
fn seen(origin: &Origin) -> (String, Value) {
    let seen = origin.take(|_| true);
    assert_eq!(seen.len(), 1, "one request");
    (seen[0].request.target().to_owned(), seen[0].request.json())
}

fn patterns(origin: &Origin) -> Gateway {
    let config = Config::new()
        .backend("b1", origin.port, QUIET)
        .tables(
            "[model.\"open/*\"]\nbackends = [\"b1\"]\n\
             [model.\"open/own-*\"]\nbackends = [{ name = \"b1\", model = \"accounts/x/*\" }]\n\
             [model.\"open/exact\"]\nbackends = [{ name = \"b1\", model = \"the-one\" }]\n\
             [model.\"here/*\"]\nbackends = [\"b1\"]\nfallbacks = [\"open/exact\"]\n",
        )
        .key("one", K1, "");
    Gateway::start(&config)
}

#[test]
fn what_stands_for_the_star_goes_to_the_backend() {
    let origin = Origin::start();
    let gateway = patterns(&origin);
    for (asked, heard) in [
        ("open/gpt-4o", "gpt-4o"),
        ("open/org/name:tag", "org/name:tag"),
        ("open/own-a", "accounts/x/a"),
        ("open/exact", "the-one"),
        ("open/\u{e9}\"", "\u{e9}\""),
    ] {
        assert_eq!(ask(&gateway, asked), 200, "{asked}");
        assert_eq!(seen(&origin).1["model"], heard, "{asked}");
    }
    for unknown in ["open/", "other/x", "ope"] {
        assert_eq!(ask(&gateway, unknown), 404, "{unknown}");
    }
    assert_eq!(ask(&gateway, "open/counted"), 200);
    let counted = || gateway.metric("ringway_model_requests_total", "model=\"open/*\"") >= 3.0;
    assert!(eventually(Duration::from_secs(5), counted), "under the pattern");
    assert_eq!(gateway.metric("ringway_model_requests_total", "model=\"open/counted\""), 0.0);
}

#[test]
fn a_pattern_is_not_listed_but_its_models_are_shown() {
    let origin = Origin::start();
    let gateway = patterns(&origin);
    let get = |target: &str| {
        let mut client = gateway.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n{}\r\n", bearer()).as_bytes());
        client.answer().expect("a response")
    };
    let list = get("/v1/models").json();
    let names: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["open/exact"]);
    let one = get("/v1/models/open/gpt-4o");
    assert_eq!((one.status(), one.json()["id"].as_str()), (200, Some("open/gpt-4o")));
    assert_eq!(get("/v1/models/other").status(), 404);
}

#[test]
fn a_limit_of_one_name_is_no_limit_of_the_others() {
    let origin = Origin::scripted(|talk: &mut Talk| {
        let model = talk.request.json()["model"].as_str().unwrap_or_default().to_owned();
        match model.as_str() {
            "busy" => talk.answer(
                "429 Too Many Requests",
                "Retry-After: 30\r\n",
                "{\"error\":{\"message\":\"slow\"}}",
            ),
            _ => origin::echo(talk),
        }
    });
    let gateway = patterns(&origin);
    assert_eq!(ask(&gateway, "open/busy"), 429);
    origin.take(|_| true);
    assert_eq!(ask(&gateway, "open/busy"), 429);
    assert!(origin.take(|_| true).is_empty(), "it is not asked again before its time");
    assert_eq!(ask(&gateway, "open/calm"), 200);
    assert_eq!(seen(&origin).1["model"], "calm");
    assert_eq!(ask(&gateway, "here/busy"), 200, "the fallback of a pattern");
    assert!(origin.take(|_| true).iter().any(|seen| seen.request.json()["model"] == "the-one"));
}

#[test]
fn a_translated_response_has_the_name_that_was_asked_for() {
    let origin = Origin::start();
    let gateway = patterns(&origin);
    let body = format!("{{\"model\":\"open/m\",\"max_tokens\":9,{HI}}}");
    let response =
        post(&gateway, "/v1/messages", &format!("anthropic-version: 2023-06-01\r\n{}", bearer()), &body);
    assert_eq!(response.status(), 200, "{}", response.text());
    assert_eq!(response.json()["type"], "message");
    let (target, sent) = seen(&origin);
    assert_eq!((target.as_str(), sent["model"].as_str()), ("/v1/chat/completions", Some("m")));
}

#[test]
fn azures_sdk_is_a_client() {
    let origin = Origin::start();
    let config = Config::new()
        .backend("b1", origin.port, QUIET)
        .model("m", &["b1"], "")
        .tables("[model.renamed]\nbackends = [{ name = \"b1\", model = \"own\" }]")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    let key = format!("api-key: {K1}\r\n");
    for (deployment, body, model) in [
        ("m", format!("{{{HI}}}"), "m"),
        ("m", format!("{{{HI},\"stream_options\":null}}"), "m"),
        ("m", format!("{{\"model\":\"other\",{HI}}}"), "m"),
        ("renamed", format!("{{{HI}}}"), "own"),
        ("renamed", format!("{{{HI},\"model\":\"renamed\"}}"), "own"),
    ] {
        let target = format!("/openai/deployments/{deployment}/chat/completions?api-version=2024-10-21");
        let response = post(&gateway, &target, &key, &body);
        assert_eq!(response.status(), 200, "{body}: {}", response.text());
        let (target, sent) = seen(&origin);
        assert_eq!(
            (target.as_str(), sent["model"].as_str()),
            ("/v1/chat/completions", Some(model)),
            "{body}"
        );
        assert_eq!(sent["messages"][0]["content"], "Hi");
    }
    let streamed = format!("{{{HI},\"stream\":true}}");
    let response = post(&gateway, "/openai/deployments/m/chat/completions", &key, &streamed);
    assert_eq!((response.status(), response.text().contains("[DONE]")), (200, true));
    assert_eq!(seen(&origin).1["stream_options"]["include_usage"], true);
    let unknown = post(&gateway, "/openai/deployments/none/chat/completions", &key, &format!("{{{HI}}}"));
    assert_eq!(unknown.status(), 404);
    let empty = post(&gateway, "/openai/deployments/m/chat/completions", &key, "{}");
    assert_eq!(empty.status(), 400);
}

#[test]
fn base_urls_of_gateways_that_were_dropped_in_go_on_working() {
    let origin = Origin::start();
    let config = Config::new().backend("b1", origin.port, QUIET).model("m", &["b1"], "").key("one", K1, "");
    let gateway = Gateway::start(&config);
    let body = format!("{{\"model\":\"m\",\"max_tokens\":9,{HI}}}");
    for target in [
        "/openai/v1/chat/completions",
        "/openai/chat/completions",
        "/anthropic/v1/messages",
        "/anthropic/messages?beta=true",
    ] {
        assert_eq!(post(&gateway, target, &bearer(), &body).status(), 200, "{target}");
    }
    let wrong = post(&gateway, "/anthropic/v1/chat/completions", &bearer(), &body);
    assert_eq!(
        (wrong.status(), wrong.json()["type"].as_str()),
        (404, Some("error")),
        "in the prefix's dialect"
    );
}

#[test]
fn a_key_in_the_query_counts_and_is_told_to_nobody() {
    let origin = Origin::start();
    let config = Config::new()
        .backend("b1", origin.port, QUIET)
        .model("m", &["b1"], "")
        .tables("[access_log]\npath = \"stdout\"")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    let body = format!("{{\"model\":\"m\",{HI}}}");
    let target = format!("/v1/chat/completions?a=1&key={K1}");
    assert_eq!(post(&gateway, &target, "", &body).status(), 200);
    assert_eq!(seen(&origin).0, "/v1/chat/completions?a=1");
    assert_eq!(post(&gateway, "/v1/chat/completions?key=wrong", "", &body).status(), 401);
    assert!(origin.take(|_| true).is_empty());
    let said = gateway.said();
    assert!(!said.contains(K1) && !said.contains("wrong"), "{said}");
}

#[test]
fn azures_older_urls_name_the_deployment_in_the_path() {
    let origin = Origin::start();
    let base = format!("http://127.0.0.1:{}/openai?api-version=2024-10-21", origin.port);
    let backend = format!("[backend.b1]\nkind = \"azure\"\napi_base = \"{base}\"\n{QUIET}\n");
    let config = Config::new()
        .tables(&backend)
        .tables("[model.m]\nbackends = [{ name = \"b1\", model = \"my deployment\" }]\n[model.\"az/*\"]\nbackends = [\"b1\"]")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    let by_path = "/openai/deployments/m/chat/completions?api-version=2023-05-15";
    let chat = "/v1/chat/completions";
    for (target, model, deployment) in
        [(chat, "m", "my%20deployment"), (by_path, "m", "my%20deployment"), (chat, "az/gpt-4o", "gpt-4o")]
    {
        let body = format!("{{\"model\":\"{model}\",{HI}}}");
        assert_eq!(post(&gateway, target, &bearer(), &body).status(), 200, "{target}");
        let expected = format!("/openai/deployments/{deployment}/chat/completions?api-version=2024-10-21");
        assert_eq!(seen(&origin).0, expected, "{target} {model}");
    }
}
