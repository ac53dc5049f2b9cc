//! Callers with JSON Web Tokens: whom they count as, what is refused, and what happens to the keys of their issuer meanwhile.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::gateway::{Config, Gateway, K1};
use support::jwt::{Signer, key_set};
use support::origin::{Next, Origin};
use support::strict::Message;
use support::{J, PATIENCE, chat, eventually, nonce};

/// An identity provider: its OpenID configuration, and a key set that a test may change.
struct Provider {
    origin: Origin,
    set: Arc<Mutex<Reply>>,
    reads: Arc<AtomicUsize>,
}

/// What it says when its keys are asked for.
#[derive(Clone)]
enum Reply {
    Set(String),
    Status(&'static str),
    Silence,
}

impl Provider {
    fn start(signers: &[&Signer]) -> Self {
        let set = Arc::new(Mutex::new(Reply::Set(key_set(signers))));
        let reads = Arc::new(AtomicUsize::new(0));
        let (own, count) = (Arc::clone(&set), Arc::clone(&reads));
        let origin = Origin::scripted(move |talk| {
            let host = talk.request.one("host");
            if talk.request.target() == "/realm/.well-known/openid-configuration" {
                let text = format!(r#"{{"issuer":"http://{host}/realm","jwks_uri":"http://{host}/keys"}}"#);
                return talk.answer("200 OK", "Content-Type: application/json\r\n", &text);
            }
            count.fetch_add(1, Ordering::SeqCst);
            let reply = own.lock().expect("not poisoned").clone();
            match reply {
                Reply::Set(text) => talk.answer("200 OK", "Content-Type: application/json\r\n", &text),
                Reply::Status(status) => talk.answer(status, "", "no keys today"),
                Reply::Silence => {
                    talk.pause(Duration::from_secs(1));
                    Next::Close
                }
            }
        });
        Self { origin, set, reads }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/realm", self.origin.port)
    }

    fn reply(&self, reply: Reply) {
        *self.set.lock().expect("not poisoned") = reply;
    }

    fn claims(&self, more: &str) -> String {
        format!(r#"{{"iss":"{}","aud":["x","ringway"],"exp":{}{more}}}"#, self.url(), now() + 600)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn config(url: &str, backend: u16, more: &str) -> Config {
    Config::new()
        .backend(
            "b1",
            backend,
            "kind = \"vllm\"\nserves = [\"chat\", \"messages\"]\nhealth = { enabled = false }",
        )
        .model("m", &["b1"], "")
        .model("secret", &["b1"], "")
        .key("one", K1, "")
        .shards("count = 2")
        .tables("[limits]\nauth_failures_per_minute = 0")
        .tables(&format!(
            "[team.search]\nmodels = [\"m\"]\n[issuer.corp]\nurl = \"{url}\"\naudience = [\"ringway\"]\n\
             algorithms = [\"RS256\", \"ES256\", \"EdDSA\"]\nrefresh = \"1s\"\nrefresh_min = \"1s\"\n{more}"
        ))
}

/// Teams by the claim `groups`.
const MAPPED: &str = "claims = { team = \"groups\" }\nteams = { \"eng-search\" = \"search\" }";

fn post(path: &str, lines: &str, body: &str) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nX-Nonce: {}\r\n{lines}", nonce());
    format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn send(gateway: &Gateway, bytes: &[u8]) -> Message {
    let mut client = gateway.connect();
    client.send(bytes);
    client.answer().expect("a response")
}

fn ask(gateway: &Gateway, token: &str) -> Message {
    send(gateway, &chat(token, &nonce(), J))
}

fn is_usable(gateway: &Gateway) -> bool {
    eventually(PATIENCE, || status(gateway)["usable"] == true)
}

fn status(gateway: &Gateway) -> serde_json::Value {
    let page = gateway.ask_admin("/status").expect("a response").1;
    serde_json::from_str::<serde_json::Value>(&page).expect("JSON")["issuers"][0].clone()
}

fn rows(gateway: &Gateway) -> Vec<serde_json::Value> {
    let output = Command::new(support::binary())
        .args(["usage", "--rows", "--json", "--config"])
        .arg(gateway.folder().join("ringway.toml"))
        .output()
        .expect("the command runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Report 30: a token is taken wherever a key is, its claims say which team and which user it counts for.
#[test]
fn a_token_is_taken_where_a_key_is_and_counts_for_its_team_and_user() {
    let signers = [Signer::rsa("r"), Signer::ec("e"), Signer::ed("d")];
    let provider = Provider::start(&signers.each_ref());
    let origin = Origin::start();
    let gateway = Gateway::start(&config(&provider.url(), origin.port, MAPPED));
    assert!(is_usable(&gateway), "{}", status(&gateway));
    let messages = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;
    for (round, signer) in signers.iter().enumerate() {
        let token =
            signer.token(&provider.claims(&format!(r#","sub":"u-{round}","groups":["a","eng-search"]"#)));
        let forged = J.replace('}', r#","user":"boss"}"#);
        assert_eq!(send(&gateway, &chat(&token, &nonce(), &forged)).status(), 200);
        for line in [format!("x-api-key: {token}\r\n"), format!("authorization: bearer {token}\r\n")] {
            let response = send(&gateway, &post("/v1/messages", &line, messages));
            assert_eq!(response.status(), 200, "{}", response.text());
        }
        let other = r#"{"model":"secret","messages":[]}"#;
        assert_eq!(send(&gateway, &chat(&token, &nonce(), other)).status(), 403, "its team may not");
        let own = send(
            &gateway,
            format!("GET /v1/key HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes(),
        );
        assert_eq!(
            (own.json()["name"].as_str(), own.json()["team"].as_str()),
            (Some("corp.search"), Some("search"))
        );
        let list = send(
            &gateway,
            format!("GET /v1/models HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes(),
        );
        assert!(list.text().contains("\"m\"") && !list.text().contains("secret"), "{}", list.text());
    }
    let found = || {
        let mut found: Vec<String> = rows(&gateway)
            .iter()
            .filter(|row| row["backend"] == "b1")
            .map(|row| {
                [&row["key"], &row["team"], &row["user"]].map(|name| name.as_str().unwrap_or("-")).join(" ")
            })
            .collect();
        found.sort();
        found
    };
    let expected: Vec<String> =
        (0..3).flat_map(|user| vec![format!("corp.search search u-{user}"); 3]).collect();
    assert!(eventually(PATIENCE, || found() == expected), "{:?}", rows(&gateway));
    // Nothing of a token goes to a backend.
    assert!(origin.seen().iter().all(|seen| !String::from_utf8_lossy(&seen.raw).contains("eyJ")));
    let [verified, recognised] = ["ringway_jwts_verified_total", "ringway_jwts_recognised_total"];
    assert!(gateway.metric(verified, "") >= 3.0 && gateway.metric(verified, "") <= 6.0, "once a shard");
    assert!(gateway.metric(recognised, "") >= 12.0);
}

#[test]
fn what_is_not_valid_is_refused_in_words_without_the_token() {
    let (signer, foreign) = (Signer::ed("d"), Signer::ed("d"));
    let provider = Provider::start(&[&signer]);
    let origin = Origin::start();
    let gateway =
        Gateway::start(&config(&provider.url(), origin.port, &format!("{MAPPED}\nclock_skew = \"0s\"")));
    assert!(is_usable(&gateway));
    let more = r#","sub":"u","groups":"eng-search""#;
    let good = provider.claims(more);
    let kid = |kid: &str| signer.sign(&format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#), &good);
    let cases = [
        (foreign.token(&good), "signature"),
        (signer.token(&good.replace("\"ringway\"", "\"other\"")), "audience"),
        (signer.token(&good.replace("/realm", "/other")), "issuer"),
        (signer.token(&provider.claims(r#","groups":"eng-search""#)), "sub"),
        (signer.token(&provider.claims(r#","sub":"u","groups":["x"]"#)), "team"),
        (signer.token(&provider.claims(r#","sub":"u""#)), "team"),
        (signer.sign(r#"{"alg":"none"}"#, &good), "algorithm"),
        (signer.sign(r#"{"alg":"HS256","kid":"d"}"#, &good), "algorithm"),
        (kid("other"), "key id"),
        (signer.token(&provider.claims(&format!("{more},\"nbf\":{}", now() + 100))), "not valid yet"),
        (
            signer.token(&format!(
                r#"{{"iss":"{}","aud":"ringway","exp":{}{more}}}"#,
                provider.url(),
                now() - 1
            )),
            "expired",
        ),
        (signer.token(&provider.claims(&format!("{more},\"x\":\"{}\"", "x".repeat(9_000)))), "8 KiB"),
    ];
    for (token, part) in &cases {
        for (path, line) in
            [("/v1/chat/completions", "authorization: Bearer "), ("/v1/messages", "x-api-key: ")]
        {
            let response = send(&gateway, &post(path, &format!("{line}{token}\r\n"), J));
            assert_eq!(response.status(), 401, "{part}: {}", response.text());
            let message = response.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
            assert!(message.contains(part), "{part}: {message}");
            assert!(
                token
                    .split('.')
                    .filter(|piece| piece.len() > 8)
                    .all(|piece| !response.text().contains(piece))
            );
            assert_eq!(response.has("retry-after"), *part == "key id");
        }
    }
    assert!(origin.seen().is_empty(), "nothing reaches a backend");
    let said = gateway.said();
    let log = gateway.ask_admin("/metrics").expect("metrics").1;
    for (token, _) in &cases {
        let signature = token.rsplit('.').next().unwrap_or_default();
        assert!(signature.len() < 8 || !said.contains(signature) && !log.contains(signature));
    }
    // Two tokens in one request: which one pays must not depend on their order. A key goes before a token.
    let (one, other) =
        (signer.token(&good), signer.token(&provider.claims(r#","sub":"v","groups":"eng-search""#)));
    let lines = format!("authorization: Bearer {one}\r\nx-api-key: {other}\r\n");
    assert_eq!(send(&gateway, &post("/v1/chat/completions", &lines, J)).status(), 400);
    let lines = format!("authorization: Bearer {one}\r\nx-api-key: {K1}\r\n");
    assert_eq!(send(&gateway, &post("/v1/chat/completions", &lines, J)).status(), 200);
    // A token that was verified before ends when it ends.
    let short =
        signer.token(&format!(r#"{{"iss":"{}","aud":"ringway","exp":{}{more}}}"#, provider.url(), now() + 3));
    assert_eq!(ask(&gateway, &short).status(), 200);
    // Each shard has its own tick: one may still take it when another has refused it.
    let has_expired = || {
        let response = ask(&gateway, &short);
        response.status() == 401 && response.text().contains("expired")
    };
    assert!(eventually(PATIENCE, has_expired), "it is still good");
}

/// A key is added, used at once, and the one before taken away, while callers of both kinds go on.
#[test]
fn keys_are_rotated_under_load() {
    let (old, new) = (Signer::ec("old"), Signer::rsa("new"));
    let provider = Provider::start(&[&old]);
    let origin = Origin::start();
    let gateway = Arc::new(Gateway::start(&config(&provider.url(), origin.port, MAPPED)));
    assert!(is_usable(&gateway));
    let claims = provider.claims(r#","sub":"u","groups":"eng-search""#);
    let (by_old, by_new) = (old.token(&claims), new.token(&claims));
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = [K1.to_owned(), by_old.clone()]
        .into_iter()
        .map(|credential| {
            let (gateway, stop) = (Arc::clone(&gateway), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut served = 0;
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(ask(&gateway, &credential).status(), 200);
                    served += 1;
                }
                served
            })
        })
        .collect();
    assert_eq!(ask(&gateway, &by_new).status(), 401, "its key is not known yet");
    provider.reply(Reply::Set(key_set(&[&old, &new])));
    assert!(eventually(PATIENCE, || ask(&gateway, &by_new).status() == 200));
    stop.store(true, Ordering::SeqCst);
    for thread in load {
        assert!(thread.join().expect("every request was served") > 0);
    }
    provider.reply(Reply::Set(key_set(&[&new])));
    assert!(
        eventually(PATIENCE, || ask(&gateway, &by_old).status() == 401),
        "a token that was verified before"
    );
    assert_eq!((ask(&gateway, &by_new).status(), ask(&gateway, K1).status()), (200, 200));
    // However many tokens of unknown keys come, the provider is asked once a second.
    let (before, started) = (provider.reads.load(Ordering::SeqCst), std::time::Instant::now());
    (0..100).for_each(|_| assert_eq!(ask(&gateway, &by_old).status(), 401));
    let allowed = started.elapsed().as_secs() as usize + 2;
    assert!(provider.reads.load(Ordering::SeqCst) - before <= allowed);
}

/// An error, silence, and what is no key set change nothing; they are counted and shown.
#[test]
fn the_last_key_set_stays_while_the_issuer_is_broken() {
    let signer = Signer::ed("d");
    let provider = Provider::start(&[&signer]);
    let origin = Origin::start();
    let gateway = Gateway::start(&config(&provider.url(), origin.port, MAPPED));
    assert!(is_usable(&gateway));
    let token =
        |user: usize| signer.token(&provider.claims(&format!(r#","sub":"u-{user}","groups":"eng-search""#)));
    let broken = [
        Reply::Status("500 Internal Server Error"),
        Reply::Status("302 Found"),
        Reply::Set("<html>".to_owned()),
        Reply::Set(r#"{"keys":[]}"#.to_owned()),
        Reply::Set("x".repeat(300_000)),
        Reply::Silence,
    ];
    let failures = || status(&gateway)["read_failures"].as_u64().unwrap_or(0);
    for (round, reply) in broken.into_iter().enumerate() {
        let before = failures();
        provider.reply(reply);
        assert!(eventually(PATIENCE, || failures() > before), "{round}: {}", status(&gateway));
        assert_eq!(ask(&gateway, &token(round)).status(), 200, "{round}: a token that was not seen before");
        assert!(status(&gateway)["last_failure"].is_string() && status(&gateway)["usable"] == true);
    }
    assert!(gateway.metric("ringway_issuer_reads_total", "outcome=\"failed\"") >= 6.0);
    assert!(gateway.said().contains("issuer corp: its keys cannot be read: "), "{}", gateway.said());
    provider.reply(Reply::Set(key_set(&[&signer])));
    assert!(eventually(PATIENCE, || status(&gateway)["last_failure"].is_null()));
}

#[test]
fn without_its_issuer_the_gateway_serves_keys_and_says_so() {
    let signer = Signer::ed("d");
    let provider = Provider::start(&[&signer]);
    provider.reply(Reply::Status("503 Service Unavailable"));
    let origin = Origin::start();
    let gateway = Gateway::start(&config(&provider.url(), origin.port, MAPPED));
    let token = signer.token(&provider.claims(r#","sub":"u","groups":"eng-search""#));
    assert_eq!(ask(&gateway, K1).status(), 200);
    let refused = ask(&gateway, &token);
    assert_eq!(
        (refused.status(), refused.json()["error"]["code"].as_str()),
        (503, Some("issuer_unavailable"))
    );
    assert!(refused.has("retry-after"));
    assert_eq!(gateway.ask_admin("/readyz").expect("a response").0, 200);
    assert!(eventually(PATIENCE, || status(&gateway)["last_failure"].is_string()));
    assert_eq!(status(&gateway)["usable"], false);
    provider.reply(Reply::Set(key_set(&[&signer])));
    assert!(eventually(PATIENCE, || ask(&gateway, &token).status() == 200));
}

/// Limits of the issuer's row, and of each user; two gateways' worth of tokens of one user are one user.
#[test]
fn tokens_count_against_the_limits_of_their_row_and_of_their_user() {
    let signer = Signer::ed("d");
    let provider = Provider::start(&[&signer]);
    let origin = Origin::start();
    let more = "team = \"search\"\nrequests_per_minute = 6\n[end_users]\nrequests_per_minute = 2";
    let gateway = Gateway::start(&config(&provider.url(), origin.port, more));
    assert!(is_usable(&gateway));
    let token =
        |user: &str, id: usize| signer.token(&provider.claims(&format!(r#","sub":"{user}","jti":"{id}""#)));
    let statuses: Vec<u16> = (0..3).map(|id| ask(&gateway, &token("anna", id)).status()).collect();
    assert_eq!(statuses, [200, 200, 429], "whichever token of hers");
    let statuses: Vec<u16> =
        ["b", "b", "c", "c", "d"].map(|user| ask(&gateway, &token(user, 0)).status()).to_vec();
    assert_eq!(statuses, [200, 200, 200, 200, 429]);
    let refused = ask(&gateway, &token("e", 0));
    assert!(refused.text().contains("key 'corp'"), "{}", refused.text());
    assert_eq!(ask(&gateway, K1).status(), 200);
    let file = gateway.folder().join("ringway.toml");
    let explain =
        Command::new(support::binary()).args(["explain", "corp", "m", "--config"]).arg(&file).output();
    let page = String::from_utf8_lossy(&explain.expect("the command runs").stdout).into_owned();
    let text = std::fs::read_to_string(&file).expect("the file");
    let line = text.lines().position(|line| line == "requests_per_minute = 6").expect("it was written") + 1;
    assert!(
        page.lines().any(|row| row.starts_with("key corp: 6 requests") && row.ends_with(&format!(":{line}"))),
        "{page}"
    );
    // The issuer goes, and its tokens with it; what stays are the keys.
    gateway.rewrite(&Config::simple(origin.port));
    assert_eq!(gateway.reload().0, 200);
    assert!(eventually(PATIENCE, || ask(&gateway, &token("f", 0)).status() == 401));
}
