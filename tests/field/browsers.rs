//! Browsers: what web pages may ask, and what they may not make a browser ask in its user's name.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use support::gateway::{Config, Gateway, K1};
use support::origin::Origin;
use support::strict::{self, Message, Step};
use support::{J, PATIENCE, sse};

const PAGE: &str = "https://app.example";
const EVIL: &str = "https://evil.example";
const CORS: &str = "[cors]\norigins = [\"https://App.example:443\", \"http://localhost:3000\"]";

/// What a backend says to web pages by itself.
const THEIRS: &str = "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: false\r\n\
                      Access-Control-Expose-Headers: x-theirs\r\nX-Theirs: 1\r\nContent-Type: application/json\r\n";

fn start(tables: &str) -> (Origin, Gateway) {
    let origin = Origin::start();
    origin.case("theirs", |talk| talk.answer("200 OK", THEIRS, "{}"));
    let gateway = Gateway::start(&Config::simple(origin.port).tables(tables));
    (origin, gateway)
}

fn send(gateway: &Gateway, text: &str) -> Message {
    let mut client = gateway.connect();
    client.send(text.as_bytes());
    client.answer().expect("a response")
}

fn chat(key: &str, origin: &str, more: &str, body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gw.test\r\nOrigin: {origin}\r\nAuthorization: Bearer {key}\r\n{more}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn preflight(path: &str, origin: &str, headers: &str) -> String {
    format!(
        "OPTIONS {path} HTTP/1.1\r\nHost: gw.test\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\
         Access-Control-Request-Headers: {headers}\r\n\r\n"
    )
}

fn check_listed(response: &Message, origin: &str) {
    assert_eq!(response.all("access-control-allow-origin"), [origin.as_bytes()], "{response:?}");
    assert_eq!(response.one("access-control-allow-credentials"), "true", "{response:?}");
    assert!(response.all("vary").contains(&&b"Origin"[..]), "{response:?}");
    let exposed = response.one("access-control-expose-headers");
    for name in [
        "x-request-id",
        "retry-after",
        "x-ratelimit-remaining-tokens",
        "x-ringway-backend",
        "x-ringway-dropped",
    ] {
        assert!(exposed.contains(name), "{name}: {response:?}");
    }
}

fn check_closed(response: &Message) {
    let names =
        ["access-control-allow-origin", "access-control-allow-credentials", "access-control-allow-methods"];
    assert!(names.iter().all(|name| !response.has(name)), "{response:?}");
}

/// A browser asks without a credential, so none is asked for.
#[test]
fn a_preflight_of_a_listed_page_is_answered_before_authentication() {
    let (origin, gateway) = start(CORS);
    for path in ["/v1/chat/completions", "/v1/messages", "/v1/models", "/v1/embeddings", "/nowhere"] {
        for page in [PAGE, "http://localhost:3000"] {
            let headers = "authorization,content-type, x-stainless-os";
            let response = send(&gateway, &preflight(path, page, headers));
            assert_eq!(response.status(), 204, "{path}: {response:?}");
            check_listed(&response, page);
            assert!(response.one("access-control-allow-methods").contains("POST"), "{response:?}");
            assert_eq!(response.one("access-control-allow-headers"), headers);
            assert!(!response.has("content-length") && response.text().is_empty(), "{response:?}");
        }
    }
    // On one connection with the request that it is for.
    let mut client = gateway.connect();
    client.send(preflight("/v1/chat/completions", PAGE, "authorization").as_bytes());
    assert_eq!(client.answer().expect("a response").status(), 204);
    client.send(chat(K1, PAGE, "", J).as_bytes());
    let response = client.answer().expect("a response");
    assert_eq!(response.status(), 200);
    check_listed(&response, PAGE);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn other_pages_are_not_let_in() {
    let (_origin, gateway) = start(CORS);
    for page in [
        EVIL,
        "null",
        "http://app.example",
        "https://app.example:8443",
        "https://app.example.evil.example",
        "https://xapp.example",
        "",
    ] {
        let response = send(&gateway, &preflight("/v1/chat/completions", page, "authorization"));
        assert_eq!(response.status(), 403, "{page}: {response:?}");
        assert_eq!(response.json()["error"]["code"], "origin_not_allowed");
        check_closed(&response);
        assert!(response.has("vary"), "{response:?}");
        // With a key it is no page's secret that is used: the browser keeps the response to itself.
        let response = send(&gateway, &chat(K1, page, "", J));
        assert_eq!(response.status(), 200, "{page}");
        check_closed(&response);
    }
    // Names that would break a line are not repeated.
    let response = send(&gateway, &preflight("/v1/chat/completions", PAGE, "a, b<c>"));
    assert!(response.status() == 204 && !response.has("access-control-allow-headers"), "{response:?}");
}

/// A page could not tell why it is refused, were it not for these lines.
#[test]
fn refusals_and_streams_can_be_read_by_the_page() {
    let (origin, gateway) = start(&format!("{CORS}\n[limits]\nbody = \"4KiB\"\nbody_buffer = \"4KiB\""));
    origin.set(|talk| {
        if talk.request.json()["stream"] != true {
            return talk.answer("503 Service Unavailable", THEIRS, "{}");
        }
        talk.send(
            "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        talk.chunk(sse::content("a"));
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    let get = format!(
        "GET /nowhere HTTP/1.1\r\nHost: gw.test\r\nOrigin: {PAGE}\r\nAuthorization: Bearer {K1}\r\n\r\n"
    );
    let long = format!(r#"{{"model":"m","messages":"{}"}}"#, "a".repeat(5000));
    let put = get.replace("GET", "PUT").replace("nowhere", "v1/chat/completions");
    for (text, statuses) in [
        (chat("wrong", PAGE, "", J), [401, 401]),
        (get, [404, 404]),
        (put, [405, 405]),
        (chat(K1, PAGE, "", &long), [413, 413]),
        (chat(K1, PAGE, "Content-Encoding: br\r\n", J), [415, 415]),
        (chat(K1, PAGE, "", "{"), [400, 400]),
        (chat(K1, PAGE, "", r#"{"model":"nobody"}"#), [404, 404]),
        (chat(K1, PAGE, "", r#"{"model":"m","stream":true}"#), [200, 200]),
        (chat(K1, PAGE, "", J), [429, 503]),
    ] {
        let response = send(&gateway, &text);
        assert!(statuses.contains(&response.status()), "{statuses:?}: {response:?}");
        check_listed(&response, PAGE);
    }
}

#[test]
fn lines_of_the_backend_are_replaced_where_cors_is_on() {
    let (_origin, gateway) = start(CORS);
    let response = send(&gateway, &chat(K1, PAGE, "X-Case: theirs\r\n", J));
    check_listed(&response, PAGE);
    assert_eq!(response.one("x-theirs"), "1");
    let response = send(&gateway, &chat(K1, EVIL, "X-Case: theirs\r\n", J));
    assert_eq!(response.status(), 200);
    check_closed(&response);
}

#[test]
fn cors_is_off_by_default() {
    let (origin, gateway) = start("");
    let response = send(&gateway, &preflight("/v1/chat/completions", PAGE, "authorization"));
    assert_eq!(response.status(), 405, "{response:?}");
    check_closed(&response);
    assert!(!response.has("vary"));
    let response = send(&gateway, &chat(K1, PAGE, "X-Case: theirs\r\n", J));
    assert_eq!(response.one("access-control-allow-origin"), "*", "a backend's line passes: {response:?}");
    let sent = origin.seen().pop().expect("a request");
    assert!(!sent.request.has("origin"), "a page is the gateway's client, not the backend's");
}

/// Any page, but none with what its browser would add by itself.
#[test]
fn a_star_never_comes_with_credentials() {
    let (_origin, gateway) = start("[cors]\norigins = [\"*\", \"https://app.example\"]");
    for text in
        [preflight("/v1/models", EVIL, "authorization"), chat(K1, EVIL, "", J), chat("wrong", "null", "", J)]
    {
        let response = send(&gateway, &text);
        assert_eq!(response.all("access-control-allow-origin"), [b"*"], "{response:?}");
        assert!(!response.has("access-control-allow-credentials"), "{response:?}");
        assert!(response.has("vary"));
    }
    check_listed(&send(&gateway, &chat(K1, PAGE, "", J)), PAGE);
    let unread = send(&gateway, "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n");
    assert_eq!(
        (unread.status(), unread.one("access-control-allow-origin").as_str()),
        (400, "*"),
        "{unread:?}"
    );
}

/// Of a gateway without keys, reaching it is all it takes: so a page is refused.
#[test]
fn an_open_gateway_is_closed_to_pages() {
    let origin = Origin::start();
    let open = || {
        let quiet = "health = { enabled = false }";
        Config::new().backend("b1", origin.port, quiet).model("m", &["b1"], "")
    };
    let gateway = Gateway::start(&open());
    let own = format!("127.0.0.1:{}", gateway.port);
    for page in [EVIL, "null", "http://127.0.0.1:1", "http://gw.test", "vscode-webview://x"] {
        let response = send(&gateway, &chat("", page, "", J));
        assert_eq!(response.status(), 403, "{page}: {response:?}");
        assert_eq!(response.json()["error"]["code"], "origin_not_allowed", "{response:?}");
    }
    assert!(origin.seen().is_empty());
    let messages = chat("", EVIL, "", J).replace("chat/completions", "messages");
    assert_eq!(send(&gateway, &messages).json()["error"]["type"], "permission_error");
    let own_page = chat("", &format!("http://{own}"), "", J).replace("gw.test", &own);
    assert_eq!(send(&gateway, &own_page).status(), 200);
    let program = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: anything.example\r\nContent-Length: 27\r\n\r\n{J}"
    );
    assert_eq!(send(&gateway, &program).status(), 200, "no browser, no question");
    let listed = Gateway::start(&open().tables(CORS));
    assert_eq!(send(&listed, &chat("", PAGE, "", J)).status(), 200);
    assert_eq!(send(&listed, &chat("", EVIL, "", J)).status(), 403);
}

/// A request to the admin listener with these lines and no others.
fn admin(gateway: &Gateway, line: &str, lines: &str) -> u16 {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.admin)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(format!("{line}\r\n{lines}\r\n").as_bytes()).expect("it reads");
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    match strict::answer(&bytes, false, true) {
        Ok(Step::Done(message, _)) => message.status(),
        other => panic!("{line}: {other:?}"),
    }
}

const POST: &str = "POST /reload HTTP/1.1";
const STATUS: &str = "GET /status HTTP/1.1";

/// DNS rebinding: a page points its own name to loopback and reads what is there.
#[test]
fn the_admin_listener_knows_its_own_names() {
    let origin = Origin::start();
    let gateway = Gateway::start(&Config::simple(origin.port).admin("hosts = [\"Ops.example\"]"));
    let port = gateway.admin;
    for host in ["127.0.0.1", "LOCALHOST", "localhost.", "[::1]", "10.0.0.5", "ops.example", "OPS.EXAMPLE."] {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            let length = "Content-Length: 0\r\n";
            assert_eq!(admin(&gateway, STATUS, &format!("Host: {host}\r\n")), 200, "{host}");
            assert_eq!(admin(&gateway, POST, &format!("Host: {host}\r\n{length}")), 200, "{host}");
        }
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "x.ops.example",
        "ops.example.evil",
        "[::1].evil.example",
        "evil.example:127",
        "",
    ] {
        for line in [STATUS, POST, "POST /upgrade HTTP/1.1", "GET /metrics HTTP/1.1", "GET / HTTP/1.1"] {
            assert_eq!(
                admin(&gateway, line, &format!("Host: {host}\r\nContent-Length: 0\r\n")),
                403,
                "{line} {host}"
            );
        }
        for path in ["/healthz", "/readyz"] {
            assert_eq!(
                admin(&gateway, &format!("GET {path} HTTP/1.1"), &format!("Host: {host}\r\n")),
                200,
                "{path}"
            );
        }
    }
    assert_eq!(admin(&gateway, "GET http://evil.example/status HTTP/1.1", "Host: 127.0.0.1\r\n"), 403);
    assert_eq!(admin(&gateway, "GET /status HTTP/1.0", ""), 200, "no browser leaves Host out");
    assert!(gateway.metric("ringway_admin_refused_total", "403") >= 40.0);
}

/// A page can send what it likes to loopback; its browser says whose page it is.
#[test]
fn the_admin_listener_is_closed_to_other_pages() {
    let origin = Origin::start();
    let token = "rt-6c1f0e9b3a7d4f2288d05e61";
    let config = |lines: &str| Config::simple(origin.port).admin(lines).variable("T", token);
    let gateway = Gateway::start(&config("hosts = [\"ops.example\"]"));
    let own = format!("127.0.0.1:{}", gateway.admin);
    let host = format!("Host: {own}\r\nContent-Length: 0\r\n");
    for lines in [
        format!("Origin: {EVIL}\r\n"),
        "Origin: null\r\n".to_owned(),
        "Origin: http://127.0.0.1:1\r\n".to_owned(),
        format!("Origin: http://{own}.evil.example\r\n"),
        "Sec-Fetch-Site: cross-site\r\n".to_owned(),
    ] {
        for line in [STATUS, POST, "POST /upgrade HTTP/1.1"] {
            assert_eq!(admin(&gateway, line, &format!("{host}{lines}")), 403, "{line} {lines}");
        }
        assert_eq!(admin(&gateway, "GET /healthz HTTP/1.1", &format!("{host}{lines}")), 200, "{lines}");
    }
    for lines in [
        format!("Origin: http://{own}\r\nSec-Fetch-Site: same-origin\r\n"),
        "Origin: https://ops.example\r\n".to_owned(),
    ] {
        assert_eq!(admin(&gateway, POST, &format!("{host}{lines}")), 200, "{lines}");
    }
    // A token is no browser's to add: with it, any name will do; without, a reload cannot be had either.
    let closed = Gateway::start(&config("token = { env = \"T\" }"));
    let foreign = format!("Host: evil.example\r\nOrigin: {EVIL}\r\nContent-Length: 0\r\n");
    assert_eq!(admin(&closed, POST, &foreign), 401);
    assert_eq!(admin(&closed, POST, &format!("{foreign}Authorization: Bearer {token}\r\n")), 200);
}

/// Forms of a Host and of an Origin by which pages have reached local servers before.
#[test]
fn other_forms_of_foreign_pages_do_not_drive_the_admin_listener() {
    let (_origin, gateway) = start("");
    let raw = |text: String| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.admin)).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(text.as_bytes()).expect("sent");
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    for (method, path) in [("POST", "/reload"), ("POST", "/upgrade"), ("GET", "/status"), ("GET", "/metrics")]
    {
        for lines in [
            "Host: localhost.evil.example\r\n",
            "Host: 127.0.0.1.evil.example\r\n",
            "Host: evil.example:80\r\n",
            "Host: 127.0.0.1@evil.example\r\n",
            "Host: 127.0.0.1\r\nHost: evil.example\r\n",
            "Host:\r\n",
            "Host: 127.0.0.1\r\nOrigin: null\r\n",
            "Host: localhost\r\nOrigin: http://localhost.evil.example\r\n",
            "Host: localhost\r\nOrigin: https://evil.example\r\nSec-Fetch-Site: same-origin\r\n",
            "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
        ] {
            let text = raw(format!(
                "{method} {path} HTTP/1.1\r\n{lines}Content-Length: 0\r\nConnection: close\r\n\r\n"
            ));
            assert!(text.starts_with("HTTP/1.1 4"), "{method} {path} {lines:?}: {text}");
        }
        if method == "GET" {
            for host in ["127.0.0.1", "localhost:1", "[::1]", "LOCALHOST", "127.0.0.1:9"] {
                let text =
                    raw(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
                assert!(text.starts_with("HTTP/1.1 200"), "{method} {path} {host}: {text}");
            }
        }
    }
    let text = raw("POST http://127.0.0.1/reload HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned());
    assert!(!text.contains("evil"), "{text}");
}
