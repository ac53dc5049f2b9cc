//! The operator's listener: who may ask it, and what the gateway says when nobody could be kept out.

use std::process::{Command, Output};

use support::folder::Folder;
use support::gateway::{Config, Gateway, K1};
use support::origin::Origin;
use support::{J, PATIENCE, ask, eventually};

const TOKEN: &str = "rt-6c1f0e9b3a7d4f2288d05e61";
const OTHER: &str = "rt-0d9e8f7a6b5c4d3e2f1a0b9c";

/// The status of a request with this token.
fn with(gateway: &Gateway, method: &str, path: &str, token: &str) -> u16 {
    let line = format!("Authorization: Bearer {token}\r\n");
    gateway.send_admin(method, path, &line).expect("an answer").status()
}

/// `ringway check` on this text.
fn check(text: &str) -> Output {
    let folder = Folder::new("check");
    let file = folder.file("ringway.toml", text);
    let mut command = Command::new(support::binary());
    let output = command.arg("check").arg(&file).env("WEAK", "changeme").env("GOOD", TOKEN).output();
    output.expect("the binary runs")
}

/// S08, S09.
#[test]
fn nothing_but_health_is_told_without_the_token() {
    let origin = Origin::start();
    let config = Config::simple(origin.port).admin("token = { env = \"T\" }").variable("T", TOKEN);
    let gateway = Gateway::start(&config);
    assert!(gateway.said().contains("with a token"), "{}", gateway.said());
    assert_eq!(gateway.ask_admin("/healthz").expect("an answer").0, 200);
    for (method, path) in [
        ("GET", "/metrics"),
        ("GET", "/status"),
        ("POST", "/reload"),
        ("GET", "/plain"),
        ("GET", "/api/v1/overview"),
    ] {
        let refused = gateway.send_admin(method, path, "").expect("an answer");
        assert_eq!((refused.status(), refused.one("www-authenticate").as_str()), (401, "Bearer"), "{path}");
    }
    // A client's key opens nothing here. Ten may fail at once; these are seven.
    assert_eq!(with(&gateway, "GET", "/status", OTHER), 401);
    assert_eq!(with(&gateway, "GET", "/status", K1), 401);
    assert_eq!(with(&gateway, "GET", "/status", TOKEN), 200);
    assert_eq!(with(&gateway, "POST", "/reload", TOKEN), 200);
    // And the token is no client's key.
    let mut client = gateway.connect();
    client.send(&support::chat(TOKEN, "x", J));
    assert_eq!(client.answer().expect("an answer").status(), 401);
    assert_eq!(ask(&gateway, J, "served").status(), 200);
}

/// S18.
#[test]
fn searches_are_bounded() {
    let origin = Origin::start();
    let gateway = Gateway::start(&Config::simple(origin.port).tables("[store]\ndirectory = \"data\""));
    let mut client = gateway.connect();
    for turn in 0..210 {
        client.send(&support::chat(K1, &format!("turn-{turn}"), J));
        assert_eq!(client.answer().expect("an answer").status(), 200);
    }
    let rows = |path: &str| {
        let page = gateway.ask_admin(path).expect("an answer");
        let page: serde_json::Value = serde_json::from_str(&page.1).expect("JSON");
        (page["requests"].as_array().map_or(0, Vec::len), page["next"].is_null())
    };
    for path in ["/api/v1/requests?limit=100000", "/api/v1/ledger/requests?limit=100000"] {
        assert!(eventually(PATIENCE, || rows(path) == (200, false)), "{path}: {:?}", rows(path));
    }
    for path in ["/api/v1/requests?stat=429", "/api/v1/ledger/requests?where=1", "/api/v1/keys?order=name"] {
        assert_eq!(gateway.ask_admin(path).expect("an answer").0, 400, "{path}");
    }
    // What stands in a filter is a value, whatever it says.
    let (status, page) =
        gateway.ask_admin("/api/v1/ledger/requests?key=%27%20or%201%3D1%20--").expect("an answer");
    assert!(status == 200 && page.contains("\"requests\":[]"), "{status} {page}");
}

#[test]
fn a_token_is_replaced_by_a_reload() {
    let origin = Origin::start();
    let config = |file: &str| {
        Config::simple(origin.port).admin("token = { file = \"token\" }").file("token", &format!("{file}\n"))
    };
    let gateway = Gateway::start(&config(TOKEN));
    gateway.rewrite(&config("changeme"));
    assert_eq!(with(&gateway, "POST", "/reload", TOKEN), 422, "a weak one is refused");
    assert_eq!(with(&gateway, "GET", "/status", TOKEN), 200, "and the old one stays");
    gateway.rewrite(&config(OTHER));
    assert_eq!(with(&gateway, "POST", "/reload", TOKEN), 200);
    assert_eq!(with(&gateway, "GET", "/status", TOKEN), 401);
    assert_eq!(with(&gateway, "GET", "/status", OTHER), 200);
}

/// S09: no gateway is started whose admin plane others could read, or whose token is a guess.
#[test]
fn an_open_admin_plane_and_a_weak_token_do_not_start() {
    let base =
        "listen = \"127.0.0.1:1\"\n[backend.b]\nurl = \"http://b\"\n[model.m]\nbackends = [\"b\"]\n[admin]\n";
    for (lines, line, expected) in [
        ("listen = \"0.0.0.0:2\"", 7, "admin.listen: other machines can reach 0.0.0.0:2"),
        ("listen = \"[::]:2\"", 7, "admin.listen: other machines can reach [::]:2"),
        ("token = \"changeme\"", 7, "admin.token: expected { env = \"NAME\" }"),
        ("token = { env = \"WEAK\" }", 7, "admin.token: the environment variable WEAK is one that everybody"),
        ("token = { env = \"NONE\" }", 7, "admin.token: the environment variable NONE is not set"),
        ("token = { file = \"none\" }", 7, "admin.token: cannot read"),
    ] {
        let output = check(&format!("{base}{lines}\n"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{lines}: {said}");
        assert!(said.contains(&format!("ringway.toml:{line}: {expected}")), "{expected}\n{said}");
        assert!(!said.contains("changeme"), "{said}");
    }
    let output = check(&format!("{base}listen = \"0.0.0.0:2\"\ntoken = {{ env = \"GOOD\" }}\n"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("admin 0.0.0.0:2, with a token"), "{said}");
    assert!(said.contains("note: the admin listener on 0.0.0.0:2 speaks plain HTTP"), "{said}");
}
