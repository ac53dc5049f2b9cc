//! Keys and teams that are created, changed, rotated and revoked while the gateway serves.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::folder::{Folder, files_below};
use support::gateway::{Config, Gateway, K1};
use support::origin::{Origin, patient};
use support::sse::{Ending, judge};
use support::{J, PATIENCE, chat, eventually};

const STREAM: &str = r#"{"model":"m","messages":[],"stream":true}"#;

/// Status and body of a request to the admin API.
fn ask(gateway: &Gateway, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let message = gateway.write_admin(method, path, "", &text).expect("an answer");
    (message.status(), serde_json::from_str(&message.text()).expect("JSON"))
}

fn read(gateway: &Gateway, path: &str) -> Value {
    let (status, body) = ask(gateway, "GET", path, &Value::Null);
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// Creates a key; its secret.
fn create(gateway: &Gateway, body: &Value) -> String {
    let (status, made) = ask(gateway, "POST", "/api/v1/keys", body);
    assert_eq!(status, 201, "{made}");
    made["secret"].as_str().expect("a secret").to_owned()
}

/// The status of a request with this key, over a connection of its own.
fn status(gateway: &Gateway, key: &str, body: &str) -> u16 {
    let mut client = gateway.connect();
    client.send(&chat(key, &support::nonce(), body));
    client.answer().expect("an answer").status()
}

fn config(origin: &Origin, folder: &str) -> Config {
    Config::new()
        .backend("b1", origin.port, "health = { enabled = false }")
        .model("m", &["b1"], "")
        .model("other", &["b1"], "")
        .key("one", K1, "")
        .shards("count = 2")
        .tables(&format!("[team.file]\nrequests_per_minute = 1000\n[store]\ndirectory = \"{folder}\""))
}

#[test]
fn a_created_key_serves_on_every_shard_at_once_and_its_secret_is_in_one_response_only() {
    let (origin, folder) = (Origin::start(), Folder::new("create"));
    let gateway = Gateway::start(&config(&origin, folder.text()));
    let body =
        json!({ "name": "ci", "models": ["m"], "tags": ["build"], "metadata": { "owner": "a@example.com" } });
    let secret = create(&gateway, &body);
    assert!(secret.starts_with("sk-rw-") && secret.len() == 6 + 8 + 1 + 43, "{secret}");
    for _ in 0..16 {
        assert_eq!(status(&gateway, &secret, J), 200, "a connection lands on any shard");
    }
    assert_eq!(status(&gateway, &secret, r#"{"model":"other","messages":[]}"#), 403);
    let key = read(&gateway, "/api/v1/keys/ci");
    assert_eq!((&key["source"], &key["metadata"]["owner"]), (&json!("store"), &json!("a@example.com")));
    assert_eq!(key["public_id"].as_str().unwrap(), &secret[6..14]);

    let hidden = &secret[15..];
    let digest = support::config::digest_hex(&secret);
    let mut seen = vec![gateway.said()];
    for path in [
        "/api/v1/keys",
        "/api/v1/keys/ci",
        "/api/v1/ledger/audit",
        "/api/v1/audit",
        "/status",
        "/metrics",
        "/plain",
    ] {
        seen.push(gateway.ask_admin(path).expect("an answer").1);
    }
    for text in &seen {
        for part in (0..hidden.len() - 8).map(|at| &hidden[at..at + 8]).chain([&digest[..16]]) {
            assert!(!text.contains(part), "a part of the secret is in {text}");
        }
    }
    for file in files_below(folder.path()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let found = bytes.windows(hidden.len()).any(|window| window == hidden.as_bytes());
        assert!(!found, "the secret is in {}", file.display());
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_place_and_what_was_expected_and_changes_nothing() {
    let (origin, folder) = (Origin::start(), Folder::new("wrong"));
    let gateway = Gateway::start(&config(&origin, folder.text()));
    create(&gateway, &json!({ "name": "taken" }));
    for (method, path, body, code, part) in [
        ("POST", "/api/v1/keys", json!({ "models": ["m"] }), 400, "name: is missing; expected 1 to 128"),
        ("POST", "/api/v1/keys", json!({ "name": "a b" }), 400, "name: \"a b\" is no name; expected"),
        (
            "POST",
            "/api/v1/keys",
            json!({ "name": "k", "modelz": ["m"] }),
            400,
            "unknown field `modelz`, expected one of",
        ),
        (
            "POST",
            "/api/v1/keys",
            json!({ "name": "k", "models": ["gpt-*"] }),
            400,
            "key.k.models[0]: \"gpt-*\" fits no model",
        ),
        ("POST", "/api/v1/keys", json!({ "name": "k", "models": [] }), 400, "key.k.models: is empty"),
        (
            "POST",
            "/api/v1/keys",
            json!({ "name": "k", "team": "nobody" }),
            400,
            "key.k.team: there is no [team.nobody]",
        ),
        (
            "POST",
            "/api/v1/keys",
            json!({ "name": "k", "sha256": "00" }),
            400,
            "sha256: is not for the caller to choose",
        ),
        (
            "POST",
            "/api/v1/keys",
            json!({ "name": "k", "requests_per_minute": 0 }),
            400,
            "key.k.requests_per_minute: is 0; expected 1 to",
        ),
        (
            "POST",
            "/api/v1/keys",
            json!({ "name": "k", "expires": "tomorrow" }),
            400,
            "key.k.expires: expected an instant",
        ),
        (
            "POST",
            "/api/v1/keys",
            json!({ "name": "k", "budgets": [{ "per": "day" }] }),
            400,
            "expected exactly one of tokens and money",
        ),
        (
            "POST",
            "/api/v1/keys",
            json!({ "name": "k", "budgets": [{ "money": 5.0, "per": "day" }] }),
            400,
            "has no price",
        ),
        ("POST", "/api/v1/keys", json!({ "name": "k", "metadata": { "a\nb": "c" } }), 400, "is no name"),
        ("POST", "/api/v1/keys", json!([1]), 400, "the body: "),
        ("POST", "/api/v1/keys", json!({ "name": "taken" }), 409, "there is a key taken already"),
        (
            "POST",
            "/api/v1/keys",
            json!({ "name": "one" }),
            409,
            "there is a key one in the configuration file already (",
        ),
        ("PATCH", "/api/v1/keys/one", json!({ "tags": [] }), 409, "change it there and reload"),
        ("DELETE", "/api/v1/keys/one", Value::Null, 409, "key one is in the configuration file ("),
        ("POST", "/api/v1/keys/one/rotate", Value::Null, 409, "key one is in the configuration file ("),
        ("PATCH", "/api/v1/keys/none", json!({ "tags": [] }), 404, "there is no key none"),
        ("DELETE", "/api/v1/keys/none", Value::Null, 404, "there is no key none"),
        ("PATCH", "/api/v1/keys/taken", json!({ "models": ["x"] }), 400, "key.taken.models[0]"),
        (
            "POST",
            "/api/v1/keys/taken/rotate",
            json!({ "overlap_seconds": 99_999_999 }),
            400,
            "expected 0 to 2592000",
        ),
        ("POST", "/api/v1/keys/taken/rotate", json!({ "overlap": 1 }), 400, "unknown field `overlap`"),
        ("DELETE", "/api/v1/teams/file", Value::Null, 409, "team file is in the configuration file ("),
    ] {
        let (status, refused) = ask(&gateway, method, path, &body);
        let text = refused["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(status, code, "{method} {path} {body}: {refused}");
        assert!(text.contains(part), "{method} {path} {body}: {text}");
    }
    assert_eq!(read(&gateway, "/api/v1/keys")["total"], 2);
    let entries = read(&gateway, "/api/v1/ledger/audit?limit=200");
    let changes =
        entries["entries"].as_array().unwrap().iter().filter(|entry| entry["subject"] == "key taken");
    assert_eq!(changes.count(), 1, "what was refused is no change");
}

#[test]
fn a_patch_changes_what_it_names_and_null_takes_it_away() {
    let (origin, folder) = (Origin::start(), Folder::new("patch"));
    let gateway = Gateway::start(&config(&origin, folder.text()));
    let secret =
        create(&gateway, &json!({ "name": "k", "models": ["m"], "tags": ["a"], "requests_per_minute": 2 }));
    let other = r#"{"model":"other","messages":[]}"#;
    assert_eq!([status(&gateway, &secret, J), status(&gateway, &secret, J)], [200, 200]);
    assert_eq!(status(&gateway, &secret, J), 429);
    let (code, changed) = ask(&gateway, "PATCH", "/api/v1/keys/k", &json!({ "requests_per_minute": 6_000 }));
    assert_eq!(code, 200, "{changed}");
    assert_eq!(changed["written"], json!({ "models": ["m"], "tags": ["a"], "requests_per_minute": 6_000 }));
    assert_eq!(status(&gateway, &secret, other), 403, "models stay as they were");
    ask(&gateway, "PATCH", "/api/v1/keys/k", &json!({ "models": null, "requests_per_minute": null }));
    assert_eq!([status(&gateway, &secret, J), status(&gateway, &secret, other)], [200, 200]);
    assert_eq!(read(&gateway, "/api/v1/keys/k")["written"], json!({ "tags": ["a"] }));
}

#[test]
fn during_the_overlap_both_secrets_serve_as_one_key_and_at_its_end_the_old_one_is_refused() {
    let (origin, folder) = (Origin::start(), Folder::new("rotate"));
    let gateway = Gateway::start(&config(&origin, folder.text()));
    let first = create(&gateway, &json!({ "name": "k" }));
    let rotate = |seconds: u64| {
        let (code, rotated) =
            ask(&gateway, "POST", "/api/v1/keys/k/rotate", &json!({ "overlap_seconds": seconds }));
        assert_eq!(code, 200, "{rotated}");
        rotated["secret"].as_str().expect("a secret").to_owned()
    };
    let second = rotate(3_600);
    assert_eq!(first[..15], second[..15], "the public id stays");
    assert_eq!([status(&gateway, &first, J), status(&gateway, &second, J)], [200, 200]);
    assert_eq!(read(&gateway, "/api/v1/keys/k")["requests"], 2, "both count for one key");
    let third = rotate(1);
    let rotated = Instant::now();
    assert_eq!(status(&gateway, &first, J), 401, "two secrets are valid at most");
    assert_eq!([status(&gateway, &second, J), status(&gateway, &third, J)], [200, 200]);
    assert!(eventually(PATIENCE, || status(&gateway, &second, J) == 401), "the overlap ends");
    assert!(rotated.elapsed() >= Duration::from_millis(900), "not before its end");
    let fourth = rotate(0);
    assert_eq!([status(&gateway, &third, J), status(&gateway, &fourth, J)], [401, 200]);
}

#[test]
fn revocation_ends_streams_and_what_was_created_survives_a_kill() {
    let ((origin, _end), folder) = (patient(), Folder::new("revoke"));
    let config = config(&origin, folder.text());
    let mut gateway = Gateway::start(&config);
    let (code, _) = ask(&gateway, "POST", "/api/v1/teams", &json!({ "name": "search", "models": ["m"] }));
    assert_eq!(code, 201);
    let gone = create(&gateway, &json!({ "name": "gone", "team": "search" }));
    let kept = create(&gateway, &json!({ "name": "kept", "team": "search", "requests_per_minute": 600 }));
    let mut streams: Vec<_> = (0..4).map(|_| gateway.connect()).collect();
    for client in &mut streams {
        client.send(&chat(&gone, &support::nonce(), STREAM));
        client.read_until("first");
    }
    let revoked = Instant::now();
    assert_eq!(ask(&gateway, "DELETE", "/api/v1/keys/gone", &Value::Null).0, 200);
    assert_eq!(status(&gateway, &gone, J), 401);
    for mut client in streams {
        let answer = client.answer().expect("an end");
        assert_eq!(judge(&answer.text()), ("first ".to_owned(), Ending::Failed("api_key_revoked".into())));
    }
    assert!(revoked.elapsed() < Duration::from_secs(5), "{:?}", revoked.elapsed());
    assert_eq!(read(&gateway, "/api/v1/keys/gone")["state"], "revoked");
    let (code, again) = ask(&gateway, "POST", "/api/v1/keys", &json!({ "name": "gone" }));
    assert_eq!(code, 409, "a name stays with what it used: {again}");
    let (code, busy) = ask(&gateway, "DELETE", "/api/v1/teams/search", &Value::Null);
    assert_eq!(
        (code, busy["error"]["message"].as_str().unwrap().contains("still has kept")),
        (409, true),
        "{busy}"
    );

    gateway.signal("KILL");
    gateway.wait(PATIENCE);
    drop(gateway);
    gateway = Gateway::start(&config);
    assert_eq!([status(&gateway, &kept, J), status(&gateway, &gone, J)], [200, 401]);
    assert_eq!(status(&gateway, &kept, r#"{"model":"other","messages":[]}"#), 403, "its team may not");
    let key = read(&gateway, "/api/v1/keys/kept");
    assert_eq!((&key["team"], &key["written"]["requests_per_minute"]), (&json!("search"), &json!(600)));
}

#[test]
fn every_change_is_an_entry_of_the_chained_log_with_who_what_before_after_and_from_where() {
    let (origin, folder) = (Origin::start(), Folder::new("audit"));
    let gateway = Gateway::start(&config(&origin, folder.text()));
    create(&gateway, &json!({ "name": "k", "tags": ["a"] }));
    ask(&gateway, "PATCH", "/api/v1/keys/k", &json!({ "tags": ["b"] }));
    ask(&gateway, "PUT", "/api/v1/budgets", &json!({ "key": "k", "tokens": 5_000, "per": "day" }));
    ask(&gateway, "POST", "/api/v1/keys/k/rotate", &Value::Null);
    ask(&gateway, "DELETE", "/api/v1/keys/k", &Value::Null);
    let log = read(&gateway, "/api/v1/ledger/audit?limit=200");
    let entries: Vec<&Value> =
        log["entries"].as_array().unwrap().iter().rev().filter(|entry| entry["subject"] == "key k").collect();
    let actions: Vec<&str> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["create", "update", "set_budget", "rotate", "revoke"]);
    for entry in &entries {
        assert_eq!((&entry["actor"], &entry["origin"]), (&json!("loopback"), &json!("127.0.0.1")), "{entry}");
    }
    let told = |entry: &Value, side: &str| {
        serde_json::from_str::<Value>(entry[side].as_str().unwrap()).unwrap_or_default()
    };
    assert_eq!(
        (told(entries[1], "before")["tags"][0].clone(), told(entries[1], "after")["tags"][0].clone()),
        (json!("a"), json!("b"))
    );
    assert_eq!(told(entries[2], "after")["budgets"], json!([{ "tokens": 5_000, "per": "day" }]));
    assert!(told(entries[3], "after")["previous_secret_valid_until_ms"].is_u64());
    assert!(told(entries[4], "after")["revoked_ms"].is_u64());
    let file = gateway.folder().join("ringway.toml");
    let verified =
        Command::new(support::binary()).args(["audit", "--verify"]).arg(file).output().expect("it runs");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

#[test]
fn a_budget_that_is_set_holds_and_another_amount_is_the_same_budget() {
    let (origin, folder) = (Origin::start(), Folder::new("budget"));
    let gateway = Gateway::start(&config(&origin, folder.text()));
    let secret = create(&gateway, &json!({ "name": "k" }));
    let set = |tokens: u64| {
        let (code, set) =
            ask(&gateway, "PUT", "/api/v1/budgets", &json!({ "key": "k", "tokens": tokens, "per": "day" }));
        assert_eq!(code, 200, "{set}");
        set["budgets"].clone()
    };
    assert_eq!(set(100_000)[0]["max"], 100_000.0);
    assert_eq!(status(&gateway, &secret, J), 200);
    let used = read(&gateway, "/api/v1/budgets?key=k")["budgets"][0]["used"].as_f64().unwrap();
    assert!(used > 0.0);
    let budgets = set(1);
    assert_eq!(budgets.as_array().unwrap().len(), 1, "put in the place of the other: {budgets}");
    assert_eq!(budgets[0]["used"].as_f64(), Some(used), "what was used stays");
    assert_eq!(status(&gateway, &secret, J), 429);
    let (code, left) =
        ask(&gateway, "DELETE", "/api/v1/budgets", &json!({ "key": "k", "tokens": 1, "per": "day" }));
    assert_eq!((code, &left["total"]), (200, &json!(0)));
    assert_eq!(status(&gateway, &secret, J), 200);
    let (code, none) =
        ask(&gateway, "DELETE", "/api/v1/budgets", &json!({ "key": "k", "tokens": 1, "per": "week" }));
    assert_eq!((code, &none["error"]["code"]), (404, &json!("not_found")), "{none}");
}

#[test]
fn keys_are_changed_although_the_file_is_broken_and_a_reload_keeps_them() {
    let (origin, folder) = (Origin::start(), Folder::new("file"));
    let good = config(&origin, folder.text());
    let gateway = Gateway::start(&good);
    let first = create(&gateway, &json!({ "name": "first", "models": ["m", "other"] }));
    gateway.rewrite_text("listen = ");
    assert_eq!(gateway.reload().0, 422);
    let second = create(&gateway, &json!({ "name": "second" }));
    assert_eq!(ask(&gateway, "DELETE", "/api/v1/keys/first", &Value::Null).0, 200);
    assert_eq!([status(&gateway, &first, J), status(&gateway, &second, J)], [401, 200]);
    gateway.rewrite(&good);
    assert_eq!(gateway.reload().0, 200);
    assert_eq!([status(&gateway, &first, J), status(&gateway, &second, J)], [401, 200]);
    // A key of the same name in the file would be two keys.
    gateway.rewrite(&config(&origin, folder.text()).key("second", "sk-rw-other-0123456789", ""));
    let (code, said) = gateway.reload();
    assert!(code == 422 && said.contains("key.second: is in the store too"), "{said}");
    assert_eq!(status(&gateway, &second, J), 200);
}

#[test]
fn a_model_that_goes_takes_no_other_model_from_a_key() {
    let (origin, folder) = (Origin::start(), Folder::new("model"));
    let gateway = Gateway::start(&config(&origin, folder.text()));
    let secret = create(&gateway, &json!({ "name": "k", "models": ["m", "other"] }));
    let fewer = Config::new()
        .backend("b1", origin.port, "health = { enabled = false }")
        .model("m", &["b1"], "")
        .key("one", K1, "")
        .shards("count = 2")
        .tables(&format!("[team.file]\n[store]\ndirectory = \"{}\"", folder.text()));
    gateway.rewrite(&fewer);
    let (code, said) = gateway.reload();
    assert_eq!(code, 200, "{said}");
    assert!(said.contains("key.k of the store: \\\"other\\\" fits no model"), "{said}");
    assert_eq!(
        [status(&gateway, &secret, J), status(&gateway, &secret, r#"{"model":"other","messages":[]}"#)],
        [200, 404]
    );
}

#[test]
fn the_first_key_closes_an_open_gateway_and_its_revocation_does_not_open_it() {
    let (origin, folder) = (Origin::start(), Folder::new("open"));
    let open = Config::new()
        .backend("b1", origin.port, "health = { enabled = false }")
        .model("m", &["b1"], "")
        .tables(&format!("[store]\ndirectory = \"{}\"", folder.text()));
    let mut gateway = Gateway::start(&open);
    assert_eq!(status(&gateway, "sk-anything", J), 200);
    let secret = create(&gateway, &json!({ "name": "k" }));
    assert_eq!([status(&gateway, "sk-anything", J), status(&gateway, &secret, J)], [401, 200]);
    ask(&gateway, "DELETE", "/api/v1/keys/k", &Value::Null);
    assert_eq!(status(&gateway, &secret, J), 401);
    drop(gateway);
    gateway = Gateway::start(&open);
    assert_eq!(status(&gateway, "sk-anything", J), 401);
}

#[test]
fn a_key_is_required_where_the_file_says_so() {
    let (origin, folder) = (Origin::start(), Folder::new("required"));
    let config = Config::new()
        .top("require_keys = true")
        .backend("b1", origin.port, "health = { enabled = false }")
        .model("m", &["b1"], "")
        .tables(&format!("[store]\ndirectory = \"{}\"", folder.text()));
    let gateway = Gateway::start(&config);
    assert_eq!(status(&gateway, "sk-anything", J), 401);
    let secret = create(&gateway, &json!({ "name": "k" }));
    assert_eq!(status(&gateway, &secret, J), 200);
}

#[test]
fn two_gateways_on_one_store_know_each_others_keys_within_a_second() {
    let (origin, folder) = (Origin::start(), Folder::new("two"));
    let config = config(&origin, folder.text());
    let (here, there) = (Gateway::start(&config), Gateway::start(&config));
    let secret = create(&here, &json!({ "name": "k" }));
    let created = Instant::now();
    assert!(eventually(PATIENCE, || status(&there, &secret, J) == 200), "the other gateway knows it");
    // 400 ms between two looks; the rest is what a loaded machine adds.
    assert!(created.elapsed() < Duration::from_secs(5), "{:?}", created.elapsed());
    assert_eq!(ask(&there, "DELETE", "/api/v1/keys/k", &Value::Null).0, 200);
    assert!(eventually(PATIENCE, || status(&here, &secret, J) == 401), "and that it is revoked");
    // Both write: no change is lost.
    for round in 0..4 {
        create(&here, &json!({ "name": format!("here-{round}") }));
        create(&there, &json!({ "name": format!("there-{round}") }));
    }
    assert!(eventually(PATIENCE, || [&here, &there]
        .iter()
        .all(|one| read(one, "/api/v1/keys")["total"] == 10)));
}

#[test]
fn scripts_written_for_litellm_create_look_up_and_delete_keys() {
    let (origin, folder) = (Origin::start(), Folder::new("litellm"));
    let gateway = Gateway::start(&config(&origin, folder.text()));
    let body = json!({ "key_alias": "job", "models": ["m"], "rpm_limit": 600, "duration": "30d", "metadata": { "owner": "me" } });
    let (code, made) = ask(&gateway, "POST", "/key/generate", &body);
    assert_eq!((code, &made["key_alias"], &made["rpm_limit"]), (200, &json!("job"), &json!(600)), "{made}");
    let secret = made["key"].as_str().expect("a key").to_owned();
    assert_eq!(
        [status(&gateway, &secret, J), status(&gateway, &secret, r#"{"model":"other","messages":[]}"#)],
        [200, 403]
    );
    for key in [secret.clone(), support::config::digest_hex(&secret), "job".to_owned()] {
        let told = read(&gateway, &format!("/key/info?key={key}"));
        assert_eq!((&told["key"], &told["info"]["models"]), (&json!("job"), &json!(["m"])), "{told}");
        assert!(!told.to_string().contains(&secret[15..]), "{told}");
    }
    let logged = || read(&gateway, &format!("/spend/logs?api_key={secret}"));
    assert!(eventually(PATIENCE, || logged().as_array().is_some_and(|rows| rows.len() == 2)), "{}", logged());
    assert_eq!(logged()[0]["api_key"], "job");
    let spend = || read(&gateway, "/key/info?key=job")["info"]["spend"].clone();
    assert!(eventually(PATIENCE, || spend().is_null()), "unpriced is not zero: {}", spend());
    assert_eq!(read(&gateway, "/model/info")["data"][0]["model_name"], "m");
    let (code, refused) = ask(&gateway, "POST", "/key/generate", &json!({ "soft_budget": 5 }));
    assert_eq!(
        (code, refused["error"]["message"].as_str().unwrap().contains("soft_budget: has no counterpart")),
        (400, true)
    );
    assert_eq!(
        ask(&gateway, "POST", "/key/delete", &json!({ "keys": [secret] })).1,
        json!({ "deleted_keys": [secret] })
    );
    assert_eq!(status(&gateway, &secret, J), 401);
    assert_eq!(ask(&gateway, "POST", "/key/delete", &json!({ "keys": ["sk-unknown"] })).0, 404);
}
