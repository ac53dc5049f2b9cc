//! The API over a running coordinator, on real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::coordinator::fixture::{House, house, until_blocking};
use crate::error::FaultKind;
use crate::observe::Record;
use crate::observe::record::tests::sample;
use crate::plan::cells::Health;
use crate::policy::auth::credential::{self, Token};
use crate::units::BackendId;

const TOKEN: &str = "rt-0123456789abcdef01234567";

fn connect(house: &House) -> TcpStream {
    let stream = TcpStream::connect(house.coordinator.admin().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Status, head in lower case, and body.
fn ask(house: &House, method: &str, path: &str, lines: &str, body: &str) -> (u16, String, Value) {
    let mut stream = connect(house);
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{lines}content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let body = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
    (head[9..12].parse().unwrap(), head.to_lowercase(), body)
}

fn get(house: &House, path: &str) -> (u16, Value) {
    let (status, _, body) = ask(house, "GET", path, "", "");
    (status, body)
}

fn with_token() -> House {
    house(|_, settings| settings.admin_token = Some(Token::new(credential::digest(TOKEN.as_bytes()))))
}

#[test]
fn the_overview_says_what_is_wrong_and_since_when() {
    let house = house(|_, _| {});
    let presence = house.enter();
    let (status, overview) = get(&house, "/api/v1/overview");
    assert_eq!((status, &overview["state"]), (200, &json!("ok")));
    assert_eq!(overview["sentence"], "1 backend serves 1 model.");
    assert!(overview["ttft_p50"].is_null() && overview["error_share"].is_null(), "unknown is not zero");
    house.plan.backends.cells(BackendId::new(0)).set_health(Health::Down);
    let (_, overview) = get(&house, "/api/v1/overview");
    assert_eq!(overview["state"], "down");
    assert!(overview["sentence"].as_str().unwrap().contains("gpu-0 down (it fails its probe)"), "{overview}");
    assert_eq!(overview["counts"]["backends_ok"], 0);
    house.end(presence);
}

#[test]
fn a_backend_is_drained_and_put_back_by_name() {
    let house = house(|_, _| {});
    let presence = house.enter();
    let cells = house.plan.backends.cells(BackendId::new(0));
    let (status, _, body) = ask(&house, "POST", "/api/v1/backends/gpu-0/drain", "", "");
    assert_eq!((status, &body["state"]), (200, &json!("drained")));
    assert_eq!((cells.health(), cells.is_drained()), (Health::Down, true));
    assert_eq!(ask(&house, "POST", "/api/v1/backends/gpu-0/drain", "", "").0, 200, "twice is once");
    let (status, _, body) = ask(&house, "POST", "/api/v1/backends/gpu-0/undrain", "", "");
    assert_eq!((status, &body["state"]), (200, &json!("ok")));
    assert!(!cells.is_drained());
    let (status, _, body) = ask(&house, "POST", "/api/v1/backends/gpu-9/drain", "", "");
    assert_eq!((status, &body["error"]["code"]), (404, &json!("not_found")));
    assert_eq!(get(&house, "/api/v1/backends/gpu-0/drain").0, 405, "a link drains nothing");
    let (_, audit) = get(&house, "/api/v1/audit");
    let actions: Vec<&Value> =
        audit["actions"].as_array().unwrap().iter().map(|one| &one["action"]).collect();
    assert_eq!(actions, ["undrain", "drain", "drain"]);
    house.end(presence);
}

#[test]
fn a_refused_request_is_found_and_explained() {
    let mut house = house(|_, _| {});
    let presence = house.enter();
    house.outbox.settle(&sample());
    house.outbox.settle(&Record {
        status: 429,
        fault: Some(FaultKind::RequestsExceeded),
        backend: None,
        ..sample()
    });
    until_blocking("both have been taken", || {
        get(&house, "/api/v1/requests").1["requests"].as_array().is_some_and(|rows| rows.len() == 2)
    });
    let (_, failed) = get(&house, "/api/v1/requests?status=429&key=team*");
    assert_eq!(failed["requests"].as_array().unwrap().len(), 1);
    let number = &failed["requests"][0]["number"];
    let (status, one) = get(&house, &format!("/api/v1/requests/{number}"));
    assert_eq!(
        (status, &one["reason"], &one["side"]),
        (200, &json!("rate_limit_exceeded"), &json!("client"))
    );
    let what = one["explain"]["what"].as_str().unwrap();
    assert!(what.contains("used up its requests: 60 per minute"), "{what}");
    assert_eq!(get(&house, "/api/v1/requests/none").0, 404);
    assert_eq!(get(&house, "/api/v1/requests?stat=429").0, 400, "a filter that is not known is no filter");
    assert_eq!(get(&house, "/api/v1/requests?status=5xx").1["requests"], json!([]));
    house.end(presence);
}

#[test]
fn what_a_key_may_do_names_the_line_that_says_so() {
    let house = house(|_, _| {});
    let presence = house.enter();
    let name = "team%20%22blue%22%0A";
    let (status, policy) = get(&house, &format!("/api/v1/explain?key={name}&model=gpt-4o"));
    assert_eq!((status, &policy["allowed"]), (200, &json!(true)), "{policy}");
    let line = &policy["lines"][0];
    assert_eq!(line["value"], "60 requests per minute, at most 10 at once");
    assert!(line["origin"].as_str().unwrap().starts_with("[key."), "{line}");
    let (_, policy) = get(&house, &format!("/api/v1/explain?key={name}&model=none"));
    assert_eq!(
        (&policy["allowed"], &policy["reason"]),
        (&json!(false), &json!("no model is named \"none\""))
    );
    assert_eq!(get(&house, &format!("/api/v1/keys/{name}")).1["limits"][0]["max"], 10);
    assert_eq!(get(&house, "/api/v1/keys?q=BLUE&limit=1").1["keys"].as_array().unwrap().len(), 1);
    house.end(presence);
}

#[test]
fn a_session_is_opened_by_the_token_and_its_writes_need_its_csrf_token() {
    let house = with_token();
    let presence = house.enter();
    let sign_in =
        |token: &str| ask(&house, "POST", "/api/v1/session", "", &json!({ "token": token }).to_string());
    assert_eq!(sign_in("wrong").0, 401);
    let (status, head, _) = sign_in(TOKEN);
    assert_eq!(status, 204);
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("; httponly; samesite=strict; max-age=43200"), "{cookie}");
    let cookie = format!("cookie: {}\r\n", cookie.split(';').next().unwrap());
    let (status, _, session) = ask(&house, "GET", "/api/v1/session", &cookie, "");
    assert_eq!((status, &session["who"]), (200, &json!("session")));
    let drain = |lines: &str| ask(&house, "POST", "/api/v1/backends/gpu-0/drain", lines, "").0;
    let csrf = format!("{cookie}x-csrf-token: {}\r\n", session["csrf"].as_str().unwrap());
    assert_eq!(drain(&cookie), 403);
    assert_eq!(drain(&format!("{cookie}x-csrf-token: 00\r\n")), 403);
    assert_eq!(drain(&format!("{csrf}origin: https://evil.example\r\n")), 403);
    assert_eq!(drain(&csrf), 200);
    assert_eq!(ask(&house, "DELETE", "/api/v1/session", &csrf, "").0, 204);
    assert_eq!(ask(&house, "GET", "/api/v1/session", &cookie, "").0, 401);
    // The page itself shows no data and asks nobody who they are.
    assert!([200, 302].contains(&ask(&house, "GET", "/", "", "").0));
    assert_eq!(ask(&house, "GET", "/plain", "", "").0, 401);
    house.end(presence);
}

#[test]
fn a_live_stream_begins_with_a_snapshot_and_goes_on_every_second() {
    let house = house(|_, _| {});
    let presence = house.enter();
    let mut stream = connect(&house);
    write!(stream, "GET /api/v1/live HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let events = BufReader::new(stream).lines().map_while(Result::ok);
    let mut names = events.filter_map(|line| line.strip_prefix("event: ").map(str::to_owned));
    let first: Vec<String> = names.by_ref().take(3).collect();
    assert_eq!(first, ["snapshot", "tick", "tick"]);
    house.end(presence);
}

#[test]
fn every_response_tells_browsers_what_they_must_not_do() {
    let house = house(|_, _| {});
    let presence = house.enter();
    for path in ["/", "/plain", "/api/v1/overview", "/api/v1/none", "/healthz", "/metrics"] {
        let (_, head, _) = ask(&house, "GET", path, "", "");
        for line in
            ["x-content-type-options: nosniff", "referrer-policy: no-referrer", "frame-ancestors 'none'"]
        {
            assert!(head.contains(line), "{path}: {head}");
        }
        assert!(!head.contains("unsafe"), "{head}");
    }
    house.end(presence);
}

#[test]
fn a_try_needs_a_plain_listener_and_a_path() {
    let house = house(|_, _| {});
    let presence = house.enter();
    let body = r#"{"path":"/v1/chat/completions","body":{}}"#;
    let (status, _, refused) = ask(&house, "POST", "/api/v1/try", "", body);
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("no_plain_listener")));
    assert_eq!(ask(&house, "POST", "/api/v1/try", "", "{}").0, 400);
    house.end(presence);
}
