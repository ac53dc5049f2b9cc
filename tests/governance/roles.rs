//! Admin tokens with roles: every route of the admin listener for every role, and the commands that create and revoke them.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::client::{Client, End};
use support::folder::files_below;
use support::gateway::{Config, Gateway, K1};
use support::origin::Origin;
use support::{J, PATIENCE, eventually};

const OWNER: &str = "rt-6c1f0e9b3a7d4f2288d05e61";

fn gateway(origin: &Origin) -> Gateway {
    let config = Config::new()
        .admin("token = { env = \"T\" }")
        .variable("T", OWNER)
        .backend("b1", origin.port, "health = { enabled = false }")
        .model("m", &["b1"], "")
        .key("one", K1, "")
        .tables("[team.mine]\n[team.other]\n[key.file]\nteam = \"mine\"\nsha256 = \"00000000000000000000000000000000000000000000000000000000000000aa\"\n[store]\ndirectory = \"data\"");
    Gateway::start(&config)
}

fn ask(gateway: &Gateway, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let line = format!("Authorization: Bearer {token}\r\n");
    let message = gateway.write_admin(method, path, &line, &text).expect("an answer");
    (message.status(), serde_json::from_str(&message.text()).unwrap_or_default())
}

fn token(gateway: &Gateway, by: &str, name: &str, role: &str, team: Option<&str>) -> Result<String, u16> {
    let body = json!({ "name": name, "role": role, "team": team });
    match ask(gateway, "POST", "/api/v1/tokens", by, &body) {
        (201, made) => Ok(made["secret"].as_str().expect("a secret").to_owned()),
        (status, _) => Err(status),
    }
}

/// Which of owner, admin, viewer, viewer of a team and auditor a route lets in.
fn expected(method: &str, path: &str) -> [bool; 5] {
    let (read_team, read_all, read_audit) =
        ([true; 5], [true, false, true, false, true], [true, false, false, false, true]);
    let (write_team, owner) = ([true, true, false, false, false], [true, false, false, false, false]);
    match (method, path) {
        ("get" | "delete", "/api/v1/session") | ("post", "/api/v1/try") | ("get", "/api/v1/openapi.json") => {
            [true; 5]
        }
        (
            "get",
            "/api/v1/keys"
            | "/api/v1/keys/{name}"
            | "/api/v1/teams"
            | "/api/v1/teams/{name}"
            | "/api/v1/budgets"
            | "/api/v1/explain",
        ) => read_team,
        ("get", "/api/v1/ledger/usage" | "/api/v1/ledger/requests" | "/key/info" | "/spend/logs") => {
            read_team
        }
        ("post", "/key/generate" | "/key/delete") => write_team,
        ("get", "/api/v1/ledger/audit" | "/api/v1/audit" | "/api/v1/tokens") => read_audit,
        ("post", "/api/v1/keys" | "/api/v1/keys/{name}/rotate" | "/api/v1/tokens") => write_team,
        ("patch" | "delete", "/api/v1/keys/{name}") | ("put" | "delete", "/api/v1/budgets") => write_team,
        ("delete", "/api/v1/tokens/{name}") => write_team,
        ("get", _) | ("post", "/api/v1/route/explain") => read_all,
        _ => owner,
    }
}

#[test]
fn every_route_lets_in_the_roles_that_it_is_for_and_no_other() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let make = |name: &str, role: &str, team| token(&gateway, OWNER, name, role, team).expect("a token");
    let roles = [
        OWNER.to_owned(),
        make("a", "admin", Some("mine")),
        make("v", "viewer", None),
        make("vt", "viewer", Some("mine")),
        make("au", "auditor", None),
    ];
    let document = ask(&gateway, "GET", "/api/v1/openapi.json", OWNER, &Value::Null).1;
    let mut routes: BTreeMap<(String, String), [bool; 5]> = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            routes.insert((method.clone(), path.clone()), expected(method, path));
        }
    }
    assert!(routes.len() > 35, "{}", routes.len());
    let outside = [
        ("get", "/plain"),
        ("get", "/metrics"),
        ("get", "/status"),
        ("get", "/api/v1/openapi.json"),
        ("post", "/reload"),
        ("post", "/upgrade"),
    ];
    for (method, path) in outside {
        routes.insert((method.to_owned(), path.to_owned()), expected(method, path));
    }
    for ((method, path), may) in routes {
        let named = path.replace("{name}", "nobody").replace("{id}", "0");
        let query = match &*path {
            "/api/v1/explain" => "?key=nobody",
            "/api/v1/ledger/usage" => "?by=total",
            _ => "",
        };
        for (role, may) in roles.iter().zip(may) {
            let is_long = path.ends_with("/live") || path == "/upgrade" || path.ends_with("/reload");
            if may && is_long {
                continue; // does not end, or ends the process
            }
            let (status, body) =
                ask(&gateway, &method.to_uppercase(), &format!("{named}{query}"), role, &Value::Null);
            let is_refused = status == 403 || status == 401;
            assert_eq!(
                is_refused,
                !may,
                "{method} {path} as {}: {status} {body}",
                roles.iter().position(|one| one == role).unwrap_or(9)
            );
        }
    }
    // Nothing lets anybody in who has no token, or one that is not known.
    for path in ["/api/v1/keys", "/api/v1/tokens", "/metrics", "/api/v1/nothing"] {
        assert_eq!(gateway.send_admin("GET", path, "").expect("an answer").status(), 401, "{path}");
        assert_eq!(ask(&gateway, "GET", path, "rw-admin-AAAAAAAA-none", &Value::Null).0, 401, "{path}");
    }
}

#[test]
fn an_admin_of_a_team_sees_and_changes_its_team_and_delegates_no_more_than_that() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let admin = token(&gateway, OWNER, "anna", "admin", Some("mine")).expect("a token");
    assert_eq!(
        ask(&gateway, "POST", "/api/v1/keys", OWNER, &json!({ "name": "theirs", "team": "other" })).0,
        201
    );
    let (status, made) = ask(&gateway, "POST", "/api/v1/keys", &admin, &json!({ "name": "own" }));
    assert_eq!((status, &made["team"]), (201, &json!("mine")), "{made}");
    let names = |path: &str, list: &str| -> Vec<String> {
        let rows = ask(&gateway, "GET", path, &admin, &Value::Null).1[list].clone();
        rows.as_array()
            .expect("rows")
            .iter()
            .map(|row| row["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(names("/api/v1/keys", "keys"), ["file", "own"]);
    assert_eq!(names("/api/v1/teams", "teams"), ["mine"]);
    for (method, path, body, expected) in [
        ("GET", "/api/v1/keys/theirs", Value::Null, 404),
        ("GET", "/api/v1/keys/one", Value::Null, 404),
        ("GET", "/api/v1/teams/other", Value::Null, 404),
        ("GET", "/api/v1/explain?key=theirs", Value::Null, 404),
        ("GET", "/api/v1/ledger/usage?by=key&team=other", Value::Null, 403),
        ("GET", "/api/v1/ledger/usage?by=key", Value::Null, 200),
        ("GET", "/api/v1/ledger/requests?team=other", Value::Null, 403),
        ("PATCH", "/api/v1/keys/theirs", json!({ "tags": [] }), 404),
        ("PATCH", "/api/v1/keys/own", json!({ "team": "other" }), 403),
        ("PATCH", "/api/v1/keys/own", json!({ "team": null }), 403),
        ("POST", "/api/v1/keys/theirs/rotate", Value::Null, 404),
        ("DELETE", "/api/v1/keys/theirs", Value::Null, 404),
        ("POST", "/api/v1/keys", json!({ "name": "more", "team": "other" }), 403),
        ("PUT", "/api/v1/budgets", json!({ "team": "mine", "tokens": 5, "per": "day" }), 409),
        ("PATCH", "/api/v1/keys/one", json!({ "tags": [] }), 404),
        ("PATCH", "/api/v1/keys/file", json!({ "tags": [] }), 409),
        ("PUT", "/api/v1/budgets", json!({ "key": "own", "tokens": 5_000, "per": "day" }), 200),
        ("POST", "/api/v1/teams", json!({ "name": "more" }), 403),
    ] {
        let (status, body) = ask(&gateway, method, path, &admin, &body);
        assert_eq!(status, expected, "{method} {path}: {body}");
    }
    // Their tokens are for their team, and an owner or an auditor is of none.
    assert_eq!(token(&gateway, &admin, "x", "owner", None), Err(400));
    assert_eq!(token(&gateway, &admin, "x", "auditor", None), Err(400));
    assert_eq!(token(&gateway, &admin, "x", "admin", Some("other")), Err(403));
    let viewer = token(&gateway, &admin, "ben", "viewer", Some("mine")).expect("a token");
    assert_eq!(ask(&gateway, "GET", "/api/v1/keys", &viewer, &Value::Null).1["total"], 2);
    assert_eq!(ask(&gateway, "DELETE", "/api/v1/keys/own", &viewer, &Value::Null).0, 403);
    // Their own names are in the log.
    let log = ask(&gateway, "GET", "/api/v1/ledger/audit?limit=200", OWNER, &Value::Null).1;
    let by = |subject: &str| {
        log["entries"].as_array().unwrap().iter().find(|entry| entry["subject"] == subject).cloned()
    };
    assert_eq!(by("key own").unwrap()["actor"], "token:anna");
    assert_eq!(by("admin token ben").unwrap()["actor"], "token:anna");
}

#[test]
fn a_token_ends_with_its_revocation_and_so_do_the_sessions_that_it_opened() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let viewer = token(&gateway, OWNER, "ben", "viewer", None).expect("a token");
    let signed = gateway
        .write_admin("POST", "/api/v1/session", "", &json!({ "token": viewer }).to_string())
        .expect("an answer");
    assert_eq!(signed.status(), 204);
    let cookie = signed.one("set-cookie").split(';').next().unwrap_or_default().to_owned();
    let session = |method: &str, path: &str, lines: &str| {
        gateway.send_admin(method, path, &format!("Cookie: {cookie}\r\n{lines}")).expect("an answer")
    };
    let told: Value = serde_json::from_str(&session("GET", "/api/v1/session", "").text()).expect("JSON");
    assert_eq!((&told["role"], &told["name"]), (&json!("viewer"), &json!("ben")), "{told}");
    let csrf = format!("x-csrf-token: {}\r\n", told["csrf"].as_str().expect("a token of the page"));
    assert_eq!(session("POST", "/api/v1/backends/b1/drain", &csrf).status(), 403, "a viewer drains nothing");
    assert_eq!(ask(&gateway, "DELETE", "/api/v1/tokens/ben", OWNER, &Value::Null).0, 200);
    assert_eq!(ask(&gateway, "GET", "/api/v1/keys", &viewer, &Value::Null).0, 401);
    assert_eq!(session("GET", "/api/v1/keys", "").status(), 401);
    let ended = json!({ "name": "short", "role": "viewer", "expires": "2020-01-01T00:00:00Z" });
    let (_, made) = ask(&gateway, "POST", "/api/v1/tokens", OWNER, &ended);
    assert_eq!(ask(&gateway, "GET", "/api/v1/keys", made["secret"].as_str().unwrap(), &Value::Null).0, 401);
    let listed = ask(&gateway, "GET", "/api/v1/tokens", OWNER, &Value::Null).1.to_string();
    assert!(!listed.contains(&viewer[18..]) && listed.contains("\"ben\""), "{listed}");
}

#[test]
fn where_no_token_is_asked_for_a_revoked_one_makes_nobody_an_owner() {
    let origin = Origin::start();
    let config = Config::simple(origin.port).tables("[store]\ndirectory = \"data\"");
    let gateway = Gateway::start(&config);
    let body = json!({ "name": "ben", "role": "viewer" }).to_string();
    let made = gateway.write_admin("POST", "/api/v1/tokens", "", &body).expect("an answer");
    let made: Value = serde_json::from_str(&made.text()).expect("JSON");
    let secret = made["secret"].as_str().expect("a secret");
    assert_eq!(ask(&gateway, "POST", "/api/v1/backends/b1/drain", secret, &Value::Null).0, 403);
    assert_eq!(gateway.send_admin("DELETE", "/api/v1/tokens/ben", "").expect("an answer").status(), 200);
    assert_eq!(ask(&gateway, "GET", "/api/v1/keys", secret, &Value::Null).0, 401);
}

fn run(gateway: &Gateway, line: &[&str], token: &str) -> Output {
    let file = gateway.folder().join("ringway.toml");
    let mut command = Command::new(support::binary());
    command.args(line).arg("--config").arg(file).env("RINGWAY_ADMIN_TOKEN", token);
    command.output().expect("the binary runs")
}

#[test]
fn the_commands_create_change_rotate_and_revoke() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let run = |line: &str| {
        let output = run(&gateway, &line.split(' ').collect::<Vec<_>>(), OWNER);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let serves = |key: &str| {
        let mut client = gateway.connect();
        client.send(&support::chat(key, &support::nonce(), J));
        client.answer().expect("an answer").status()
    };
    let (code, secret, said) =
        run("key create ci --model m --tag a --metadata owner=me --requests-per-minute 600");
    assert_eq!((code, said.as_str()), (Some(0), "The key ci, shown only now:"));
    assert_eq!(serves(&secret), 200);
    assert_eq!(run("key create ci").0, Some(1));
    assert!(run("key create ci").2.contains("there is a key ci already"));
    let (_, table, _) = run("key list");
    assert!(
        table.lines().next().is_some_and(|head| head.starts_with("NAME"))
            && table.contains("requests_per_minute"),
        "{table}"
    );
    let (_, one, _) = run("key show ci");
    assert!(one.contains("state") && one.contains("store") && !one.contains(&secret[15..]), "{one}");
    let (_, json, _) = run("key set ci --clear requests_per_minute --json");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["written"], json!({ "models": ["m"], "tags": ["a"], "metadata": { "owner": "me" } }));
    assert!(run("key set ci").2.contains("nothing to change"));
    let (_, second, said) = run("key rotate ci --overlap 1h");
    assert!(said.contains("The secret before stays valid until 20"), "{said}");
    assert_eq!([serves(&secret), serves(&second)], [200, 200]);
    assert_eq!(run("team create research --in-flight-max 5").0, Some(0));
    let (_, budgets, _) = run("budget set --team research --tokens 5000 --per day --zone Europe/Berlin");
    assert!(budgets.contains("Europe/Berlin") && budgets.contains("5000"), "{budgets}");
    assert_eq!(
        run("budget remove --team research --tokens 1 --per day --zone Europe/Berlin").1,
        "there are no budgets"
    );
    assert_eq!(run("team remove research").1, "team research is removed");
    assert_eq!(run("key revoke ci").1, "key ci is revoked");
    assert!(eventually(PATIENCE, || serves(&second) == 401));
    assert!(run("backend drain b1").1.contains("backend b1: drained"));
    assert!(run("backend undrain b1").1.contains("backend b1: ok"));
    let (_, token, _) = run("token create anna --role admin --team mine");
    assert!(token.starts_with("rw-admin-"), "{token}");
    assert!(run("token list").1.contains("anna"));
    assert_eq!(run("key list --admin 127.0.0.1:1").0, Some(2), "either a file or an address");
    let mut alone = Command::new(support::binary());
    let nobody = alone.args(["key", "list", "--admin", "127.0.0.1:1"]).output().expect("the binary runs");
    assert_eq!(nobody.status.code(), Some(3));
    let refused = Command::new(support::binary())
        .args(["key", "list", "--config"])
        .arg(gateway.folder().join("ringway.toml"))
        .output();
    let refused = refused.expect("the binary runs");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("RINGWAY_ADMIN_TOKEN"), "{refused:?}");
}

/// A live stream of the admin listener, read up to its first event.
fn live(gateway: &Gateway, lines: &str) -> Client {
    let mut stream = Client::connect(gateway.admin);
    stream.send(format!("GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n").as_bytes());
    stream.read_until("event: snapshot");
    stream
}

#[test]
fn a_live_stream_ends_with_the_token_or_the_session_that_opened_it() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let revoked = token(&gateway, OWNER, "ben", "viewer", None).expect("a token");
    let at = std::time::SystemTime::now() + std::time::Duration::from_secs(6);
    let at = at.duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    let at = jiff::Timestamp::from_second(at as i64).expect("a time").to_string();
    let body = json!({ "name": "short", "role": "viewer", "expires": at });
    let (_, short) = ask(&gateway, "POST", "/api/v1/tokens", OWNER, &body);
    let signed = gateway
        .write_admin("POST", "/api/v1/session", "", &json!({ "token": OWNER }).to_string())
        .expect("an answer");
    let cookie = signed.one("set-cookie").split(';').next().unwrap_or_default().to_owned();
    let cookie = format!("Cookie: {cookie}\r\n");
    let told = gateway.send_admin("GET", "/api/v1/session", &cookie).expect("an answer").text();
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let mut by_revoked = live(&gateway, &bearer(&revoked));
    let mut by_expired = live(&gateway, &bearer(short["secret"].as_str().expect("a secret")));
    let mut by_session = live(&gateway, &cookie);
    let mut by_owner = live(&gateway, &bearer(OWNER));
    assert_eq!(ask(&gateway, "DELETE", "/api/v1/tokens/ben", OWNER, &Value::Null).0, 200);
    let csrf = format!("{cookie}x-csrf-token: {}\r\n", told["csrf"].as_str().expect("a token of the page"));
    assert_eq!(gateway.send_admin("DELETE", "/api/v1/session", &csrf).expect("an answer").status(), 204);
    for (whose, stream) in
        [("revoked", &mut by_revoked), ("session", &mut by_session), ("expired", &mut by_expired)]
    {
        assert_eq!(stream.drain(PATIENCE), End::Fin, "{whose}");
    }
    by_owner.read_until("event: tick");
}

#[test]
fn a_token_ends_with_the_one_that_made_it_and_expires_no_later() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let body = json!({ "name": "anna", "role": "admin", "team": "mine", "expires": "2099-01-01T00:00:00Z" });
    let (_, made) = ask(&gateway, "POST", "/api/v1/tokens", OWNER, &body);
    let anna = made["secret"].as_str().expect("a secret").to_owned();
    let late = json!({ "name": "late", "role": "viewer", "team": "mine", "expires": "2099-01-01T00:00:01Z" });
    let (status, told) = ask(&gateway, "POST", "/api/v1/tokens", &anna, &late);
    assert_eq!(status, 400);
    assert!(told.to_string().contains("2099-01-01T00:00:00Z at the latest"), "{told}");
    let ben = json!({ "name": "ben", "role": "admin", "team": "mine" });
    let (_, made) = ask(&gateway, "POST", "/api/v1/tokens", &anna, &ben);
    assert_eq!((&made["expires"], &made["made_by"]), (&json!("2099-01-01T00:00:00Z"), &json!("anna")));
    let ben = made["secret"].as_str().expect("a secret").to_owned();
    assert_eq!(ask(&gateway, "GET", "/api/v1/keys", &ben, &Value::Null).0, 200);
    assert_eq!(ask(&gateway, "DELETE", "/api/v1/tokens/anna", OWNER, &Value::Null).0, 200);
    assert_eq!(ask(&gateway, "GET", "/api/v1/keys", &ben, &Value::Null).0, 401);
    let listed = ask(&gateway, "GET", "/api/v1/tokens", OWNER, &Value::Null).1;
    let states: Vec<&Value> =
        listed["tokens"].as_array().expect("tokens").iter().map(|token| &token["state"]).collect();
    assert_eq!(states, ["revoked", "revoked"]);
}

#[test]
fn an_admin_token_is_no_api_key_and_is_written_nowhere() {
    let origin = Origin::start();
    let config = Config::simple(origin.port).admin("token = { env = \"T\" }").variable("T", OWNER).tables(
        "[store]\ndirectory = \"data\"\n[access_log]\npath = \"./access.jsonl\"\n[log]\nlevel = \"debug\"",
    );
    let gateway = Gateway::start(&config);
    let token = token(&gateway, OWNER, "anna", "owner", None).expect("a token");
    for line in ["Authorization: Bearer ", "x-api-key: ", "api-key: ", "x-goog-api-key: "] {
        let mut client = gateway.connect();
        client.send(
            format!("GET /v1/models HTTP/1.1\r\nHost: x\r\n{line}{token}\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        );
        let answer = client.answer().expect("an answer");
        assert_eq!(answer.status(), 401, "{line}");
        assert!(answer.text().contains("this is an admin token"), "{}", answer.text());
    }
    let mut client = gateway.connect();
    client.send(
        format!("GET /v1/models?key={token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    assert_eq!(client.answer().expect("an answer").status(), 401);
    assert_eq!(ask(&gateway, "GET", "/api/v1/keys", &token, &Value::Null).0, 200);
    let log = || std::fs::read_to_string(gateway.folder().join("access.jsonl")).unwrap_or_default();
    assert!(eventually(PATIENCE, || log().lines().count() >= 5), "{}", log());
    let secret = token.rsplit('-').next().expect("a secret").as_bytes();
    let is_in = |bytes: &[u8]| bytes.windows(secret.len()).any(|part| part == secret);
    let files = files_below(gateway.folder());
    for file in &files {
        assert!(!is_in(&std::fs::read(file).unwrap_or_default()), "{}", file.display());
    }
    assert!(files.len() >= 3, "the configuration, the log and the store: {files:?}");
    assert!(!is_in(gateway.said().as_bytes()), "{}", gateway.said());
    for path in ["/status", "/metrics", "/api/v1/audit", "/api/v1/ledger/audit", "/api/v1/tokens"] {
        assert!(!is_in(ask_text(&gateway, path).as_bytes()), "{path}");
    }
}

fn ask_text(gateway: &Gateway, path: &str) -> String {
    let line = format!("Authorization: Bearer {OWNER}\r\n");
    gateway.send_admin("GET", path, &line).expect("an answer").text()
}

#[test]
fn a_change_of_nothing_is_refused_with_what_was_expected() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    for (rows, name) in [("keys", "own"), ("teams", "research")] {
        assert_eq!(ask(&gateway, "POST", &format!("/api/v1/{rows}"), OWNER, &json!({ "name": name })).0, 201);
        let (status, told) = ask(&gateway, "PATCH", &format!("/api/v1/{rows}/{name}"), OWNER, &json!({}));
        assert_eq!(status, 400, "{told}");
        assert!(told.to_string().contains("expected those that change"), "{told}");
    }
    let run = |line: &str| run(&gateway, &line.split(' ').collect::<Vec<_>>(), OWNER);
    let set = run("team set research");
    assert!(String::from_utf8_lossy(&set.stderr).contains("nothing to change"), "{set:?}");
    // What does not exist yet has nothing to be taken away.
    for row in ["team", "key"] {
        let made = run(&format!("{row} create x --clear models"));
        assert_eq!(made.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&made.stderr).contains("unexpected argument '--clear'"), "{made:?}");
    }
}
