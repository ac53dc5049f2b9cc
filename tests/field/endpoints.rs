//! Endpoints beside the generating ones: who serves them, what holds on them, and those that name a response.

use serde_json::Value;

use support::gateway::{Config, Gateway, K1, K2};
use support::origin::{Next, Origin, Talk};
use support::strict::Message;
use support::{PATIENCE, eventually};

/// Path as clients write it, with and without the version, and as a backend of the default kind is asked.
const PATHS: [(&str, &str); 14] = [
    ("/v1/responses/compact", "/v1/responses/compact"),
    ("/responses/compact", "/v1/responses/compact"),
    ("/v1/responses/input_tokens", "/v1/responses/input_tokens"),
    ("/responses/input_tokens", "/v1/responses/input_tokens"),
    ("/v1/tokenize", "/tokenize"),
    ("/tokenize", "/tokenize"),
    ("/v1/detokenize", "/detokenize"),
    ("/detokenize", "/detokenize"),
    ("/v1/pooling", "/pooling"),
    ("/pooling", "/pooling"),
    ("/v1/classify", "/classify"),
    ("/classify", "/classify"),
    ("/v1/score", "/v1/score"),
    ("/score", "/v1/score"),
];

const QUIET: &str = "health = { enabled = false }";

/// Sends a request; the answer. A body that is empty is none.
pub(crate) fn ask(gateway: &Gateway, key: &str, method: &str, target: &str, body: &str) -> Message {
    let mut client = gateway.connect();
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
    };
    client.send(
        format!(
            "{method} {target} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {key}\r\n{length}\r\n{body}"
        )
        .as_bytes(),
    );
    client.answer_to(method == "HEAD", PATIENCE).expect("an answer")
}

fn code(answer: &Message) -> Value {
    answer.json()["error"]["code"].clone()
}

/// Says which request came: method, target and body.
fn mirror(talk: &mut Talk) -> Next {
    let first = talk.request.start.clone();
    let body = serde_json::to_string(&talk.request.text()).expect("JSON");
    let told = format!(
        r#"{{"first":"{first}","body":{body},"usage":{{"prompt_tokens":3,"completion_tokens":0,"total_tokens":3}}}}"#
    );
    talk.answer("200 OK", "Content-Type: application/json\r\n", &told)
}

#[test]
fn each_endpoint_passes_with_and_without_the_version_to_where_its_server_has_it() {
    let origin = Origin::scripted(mirror);
    let config = Config::new()
        .backend("b1", origin.port, QUIET)
        .model("m", &["b1"], "")
        .key("one", K1, "")
        .tables("[access_log]\npath = \"stdout\"");
    let gateway = Gateway::start(&config);
    let body = r#"{ "model":"m", "text":"x" , "text_1":["a"],"unknown":1.50}"#;
    for (path, target) in PATHS {
        let answer = ask(&gateway, K1, "POST", &format!("{path}?beta=true&x="), body);
        assert_eq!(answer.status(), 200, "{path}: {answer:?}");
        let told = answer.json();
        assert_eq!(told["first"], format!("POST {target}?beta=true&x= HTTP/1.1"), "{path}");
        assert_eq!(told["body"], body, "{path}");
        for method in ["GET", "HEAD", "DELETE", "PUT"] {
            let answer = ask(&gateway, K1, method, path, "");
            assert_eq!(answer.status(), 405, "{method} {path}");
            assert_eq!(answer.one("allow"), "POST", "{method} {path}");
        }
    }
    let told = |name: &str| gateway.said().contains(&format!("\"api\":\"{name}\""));
    assert!(eventually(PATIENCE, || told("tokenize") && told("score") && told("responses_compact")));
    let tokens = || gateway.metric("ringway_model_tokens_total", "type=\"input\"");
    assert!(eventually(PATIENCE, || tokens() == 3.0 * PATHS.len() as f64), "usage is counted: {}", tokens());
}

#[test]
fn the_path_at_a_server_depends_on_its_kind_and_url() {
    let origin = Origin::scripted(mirror);
    let url = |path: &str| format!("url = \"http://127.0.0.1:{}{path}\"\n{QUIET}", origin.port);
    let config = Config::new()
        .tables(&format!("[backend.vllm]\nkind = \"vllm\"\n{}", url("/engine/v1")))
        .tables(&format!("[backend.sglang]\nkind = \"sglang\"\n{}", url("")))
        .model("v", &["vllm"], "")
        .model("s", &["sglang"], "");
    let gateway = Gateway::start(&config);
    for (model, path, told) in [
        ("v", "/v1/tokenize", "/engine/tokenize"),
        ("v", "/classify", "/engine/classify"),
        ("v", "/score", "/engine/v1/score"),
        ("s", "/classify", "/v1/classify"),
        ("s", "/v1/detokenize", "/detokenize"),
    ] {
        let answer = ask(&gateway, K1, "POST", path, &format!(r#"{{"model":"{model}"}}"#));
        assert_eq!(answer.json()["first"], format!("POST {told} HTTP/1.1"), "{model} {path}");
    }
    // What a kind does not have is said before anybody is asked.
    let answer = ask(&gateway, K1, "POST", "/pooling", r#"{"model":"s"}"#);
    assert_eq!((answer.status(), code(&answer)), (404, "unknown_url".into()), "{answer:?}");
}

#[test]
fn keys_models_limits_and_failover_hold_on_every_endpoint() {
    let busy = Origin::scripted(|talk| talk.answer("503 Service Unavailable", "", ""));
    let origin = Origin::scripted(mirror);
    let config = Config::new()
        .backend("b1", busy.port, &format!("{QUIET}\nweight = 1000"))
        .backend("b2", origin.port, QUIET)
        .model("m", &["b1", "b2"], "")
        .model("other", &["b2"], "")
        .key("one", K1, "models = [\"m\"]")
        .key("two", K2, "requests_per_minute = 1\nrequests_burst = 1");
    let gateway = Gateway::start(&config);
    assert_eq!(ask(&gateway, K2, "POST", "/tokenize", r#"{"model":"m"}"#).status(), 200);
    for (path, _) in PATHS {
        for (key, body, status) in [
            ("wrong", r#"{"model":"m"}"#, 401),
            (K1, r#"{"model":"other"}"#, 403),
            (K1, r#"{"model":"nobody"}"#, 404),
            (K1, r#"{"text":"no model"}"#, 400),
            (K1, r#"{"model":"m","model":"other"}"#, 400),
            (K2, r#"{"model":"m"}"#, 429),
            (K1, r#"{"model":"m"}"#, 200),
        ] {
            let answer = ask(&gateway, key, "POST", path, body);
            assert_eq!(answer.status(), status, "{path} {body}: {answer:?}");
            assert!(status == 200 || answer.json()["error"]["message"].is_string(), "{answer:?}");
        }
    }
}

#[test]
fn a_stored_response_is_fetched_deleted_and_cancelled_where_only_one_backend_can_have_it() {
    let origin = Origin::scripted(mirror);
    let chats = Origin::scripted(|_| panic!("it serves no responses"));
    let config = Config::new()
        .backend("b1", origin.port, QUIET)
        .backend("chats", chats.port, &format!("serves = [\"chat\"]\n{QUIET}"))
        .model("m", &["b1", "chats"], "")
        .model("same", &["b1"], "")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    for (method, path, body, first) in [
        ("GET", "/v1/responses/resp_1", "", "GET /v1/responses/resp_1 HTTP/1.1"),
        (
            "GET",
            "/responses/resp_1/?include%5B%5D=a%20b",
            "",
            "GET /v1/responses/resp_1?include%5B%5D=a%20b HTTP/1.1",
        ),
        ("DELETE", "/v1/responses/resp_1", "", "DELETE /v1/responses/resp_1 HTTP/1.1"),
        ("DELETE", "/v1/responses/resp_1", "{}", "DELETE /v1/responses/resp_1 HTTP/1.1"),
        ("POST", "/v1/responses/resp_1/cancel", "", "POST /v1/responses/resp_1/cancel HTTP/1.1"),
        ("POST", "/v1/responses/resp_1/cancel", "{\"a\": 1}", "POST /v1/responses/resp_1/cancel HTTP/1.1"),
        (
            "GET",
            "/v1/responses/resp_1/input_items?limit=2",
            "",
            "GET /v1/responses/resp_1/input_items?limit=2 HTTP/1.1",
        ),
        ("GET", "/v1/responses/re%73p:1", "", "GET /v1/responses/resp%3A1 HTTP/1.1"),
    ] {
        let answer = ask(&gateway, K1, method, path, body);
        assert_eq!(answer.status(), 200, "{method} {path}: {answer:?}");
        assert_eq!(answer.json()["first"], first, "{method} {path}");
        assert_eq!(answer.json()["body"], body, "{method} {path}");
    }
    assert!(eventually(PATIENCE, || gateway.metric("ringway_key_requests_total", "2xx") == 8.0));
    // What a response has cost is not charged again for each look at it.
    assert_eq!(gateway.metric("ringway_key_tokens_total", ""), 0.0);
    assert!(origin.faults().is_empty(), "{:?}", origin.faults());
}

#[test]
fn an_id_leads_to_no_other_path_and_other_methods_are_refused() {
    let origin = Origin::scripted(mirror);
    let gateway = Gateway::start(&Config::simple(origin.port));
    for path in [
        "/v1/responses/..",
        "/v1/responses/%2e%2e",
        "/v1/responses/%2E./cancel",
        "/v1/responses/a%2F..%2Fb",
        "/v1/responses/a%5c",
        "/v1/responses/a%00",
        "/v1/responses/a/b",
        "/v1/responses/a/cancel/b",
        "/v1/responses//",
    ] {
        let answer = ask(&gateway, K1, "GET", path, "");
        assert!(matches!(answer.status(), 400 | 404), "{path}: {answer:?}");
    }
    for method in ["PUT", "PATCH", "POST", "HEAD"] {
        let answer = ask(&gateway, K1, method, "/v1/responses/resp_1", "");
        assert_eq!((answer.status(), answer.one("allow")), (405, "GET, DELETE".to_owned()), "{method}");
    }
    assert_eq!(ask(&gateway, "wrong", "GET", "/v1/responses/resp_1", "").status(), 401);
    assert_eq!(origin.seen().len(), 0);
}

#[test]
fn an_unknown_id_is_nobodys_where_several_backends_could_have_it() {
    let (one, two) = (Origin::scripted(mirror), Origin::scripted(mirror));
    let config = Config::new()
        .backend("b1", one.port, QUIET)
        .backend("b2", two.port, QUIET)
        .model("m", &["b1", "b2"], "")
        .model("only", &["b1"], "")
        .key("one", K1, "")
        .key("two", K2, "models = [\"only\"]");
    let gateway = Gateway::start(&config);
    for (method, path) in [
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/input_items"),
    ] {
        let answer = ask(&gateway, K1, method, path, "");
        assert_eq!((answer.status(), code(&answer)), (404, "response_not_found".into()), "{answer:?}");
        let error = &answer.json()["error"];
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().is_some_and(|text| text.contains("resp_1")), "{error}");
    }
    assert_eq!(one.seen().len() + two.seen().len(), 0);
    // A key that may use one of them only has no doubt where to ask.
    assert_eq!(ask(&gateway, K2, "GET", "/v1/responses/resp_1", "").status(), 200);
    drop(one);
    let answer = ask(&gateway, K2, "GET", "/v1/responses/resp_1", "");
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert!(answer.has("retry-after"), "{answer:?}");
}

#[test]
fn a_response_in_work_is_taken_up_again_as_a_stream() {
    let origin = Origin::scripted(|talk| {
        talk.stream();
        talk.chunk("event: response.in_progress\ndata: {\"type\":\"response.in_progress\",\"sequence_number\":7}\n\n");
        talk.chunk("event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n");
        if talk.request.target().contains("starting_after=8") {
            return Next::Close;
        }
        talk.chunk("event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{}}\n\n");
        talk.end()
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let answer = ask(&gateway, K1, "GET", "/v1/responses/resp_1?stream=true&starting_after=6", "");
    assert!(answer.one("content-type").starts_with("text/event-stream"), "{answer:?}");
    assert!(answer.text().ends_with("\"response\":{}}\n\n"), "no [DONE] of another API: {answer:?}");
    assert_eq!(origin.seen()[0].request.target(), "/v1/responses/resp_1?stream=true&starting_after=6");
    // One that is cut ends as a stream of this API does.
    let cut = ask(&gateway, K1, "GET", "/v1/responses/resp_1?stream=true&starting_after=8", "").text();
    assert!(
        cut.contains("event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":9"),
        "{cut}"
    );
}

#[test]
fn the_context_length_stands_in_the_catalogue_under_the_names_that_clients_read() {
    let origin = Origin::start();
    let config = Config::new()
        .backend("b1", origin.port, QUIET)
        .model("long", &["b1"], "context_length = 131_072\naliases = [\"alias\"]")
        .model("unknown", &["b1"], "");
    let gateway = Gateway::start(&config);
    let list = ask(&gateway, K1, "GET", "/v1/models", "").json();
    let alias = ask(&gateway, K1, "GET", "/v1/models/alias", "").json();
    for entry in [&list["data"][0], &alias] {
        for name in ["context_length", "max_model_len", "context_window"] {
            assert_eq!(entry[name], 131_072, "{name} in {entry}");
        }
    }
    assert_eq!(list["data"][1].as_object().expect("an entry").len(), 4, "nothing is guessed: {list}");
}
