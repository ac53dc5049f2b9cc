//! Teams, ends of keys and budgets: what public reports say goes wrong, by their number in `docs/governance.md`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use support::folder::Folder;
use support::gateway::{Config, Gateway, K1, K2};
use support::origin::{Next, Origin};
use support::strict::Message;
use support::{PATIENCE, chat, chat_head, eventually, nonce};

fn start(origin: &Origin, tables: &str, one: &str, two: &str) -> Gateway {
    Gateway::start(&config(origin, tables, one, two))
}

fn config(origin: &Origin, tables: &str, one: &str, two: &str) -> Config {
    Config::new()
        .backend("b1", origin.port, "kind = \"vllm\"\nserves = [\"chat\", \"messages\", \"responses\", \"count_tokens\", \"embeddings\"]\nhealth = { enabled = false }")
        .model("m", &["b1"], "")
        .model("other", &["b1"], "")
        .tables(tables)
        .key("one", K1, one)
        .key("two", K2, two)
}

fn ask(gateway: &Gateway, key: &str, body: &str) -> Message {
    let mut client = gateway.connect();
    client.send(&chat(key, &nonce(), body));
    client.answer().expect("a response")
}

fn capped(tokens: u64) -> String {
    format!(r#"{{"model":"m","max_tokens":{tokens}}}"#)
}

fn code(response: &Message) -> String {
    response.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// Releases so many requests at once, on keys in turn, while the origin holds those that reach it; back comes how many passed.
fn storm(
    gateway: &Gateway,
    origin: &Origin,
    hold: &AtomicBool,
    keys: &[&str],
    count: usize,
    body: &str,
) -> usize {
    hold.store(false, Ordering::SeqCst);
    let seen = origin.seen().len();
    let barrier = Arc::new(Barrier::new(count));
    let threads: Vec<_> = (0..count)
        .map(|index| {
            let (barrier, mut client) = (Arc::clone(&barrier), gateway.connect());
            let bytes = chat(keys[index % keys.len()], &nonce(), body);
            std::thread::spawn(move || {
                barrier.wait();
                client.send(&bytes);
                client.answer_to(false, Duration::from_secs(60)).map_or(0, |response| response.status())
            })
        })
        .collect();
    // All that are refused are refused before the first that passed ends.
    let refused = || threads.iter().filter(|thread| thread.is_finished()).count();
    assert!(eventually(Duration::from_secs(30), || refused() + origin.seen().len() - seen >= count));
    hold.store(true, Ordering::SeqCst);
    let statuses: Vec<u16> = threads.into_iter().map(|thread| thread.join().expect("a client")).collect();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    statuses.iter().filter(|status| **status == 200).count()
}

/// An origin that holds its responses, which say that they cost this many tokens.
fn held_origin(tokens: u64) -> (Origin, Arc<AtomicBool>) {
    let hold = Arc::new(AtomicBool::new(true));
    let release = Arc::clone(&hold);
    let origin = Origin::scripted(move |talk| {
        talk.wait_for(&release);
        let usage = format!(r#"{{"prompt_tokens":{tokens},"completion_tokens":0,"total_tokens":{tokens}}}"#);
        talk.answer(
            "200 OK",
            "Content-Type: application/json\r\n",
            &format!(r#"{{"choices":[],"usage":{usage}}}"#),
        )
    });
    (origin, hold)
}

/// Report 1: of N requests at once on budgets that fit k, exactly k reach the backend, on one key and on two of a team.
#[test]
fn of_many_at_once_exactly_as_many_reach_the_backend_as_the_budget_fits() {
    let (origin, hold) = held_origin(0);
    let team = "[team.t]\nbudgets = [{ tokens = 7000, per = \"day\" }]";
    let gateway = start(
        &origin,
        team,
        "team = \"t\"",
        "team = \"t\"\nbudgets = [{ tokens = 3000, per = \"month\", zone = \"Europe/Berlin\" }]",
    );
    // Each reserves its cap and a prompt of some ten tokens.
    for count in [1, 8, 64, 512] {
        let passed = storm(&gateway, &origin, &hold, &[K1], count, &capped(980));
        assert_eq!(passed, count.min(7), "{count} at once on one key");
        let passed = storm(&gateway, &origin, &hold, &[K2], count, &capped(980));
        assert_eq!(passed, count.min(3), "{count} at once on a key with a smaller budget of its own");
        let passed = storm(&gateway, &origin, &hold, &[K1, K2], count, &capped(980));
        assert_eq!(passed, count.min(7), "{count} at once on both keys");
    }
}

/// Report 1, for tokens per minute, over all shards.
#[test]
fn of_many_at_once_exactly_as_many_pass_as_there_are_tokens_in_the_minute() {
    let (origin, hold) = held_origin(0);
    let gateway = start(&origin, "", "tokens_per_minute = 1\ntokens_burst = 7000", "");
    for count in [1, 8, 64, 512] {
        let passed = storm(&gateway, &origin, &hold, &[K1], count, &capped(980));
        assert_eq!(passed, count.min(7), "{count} at once");
    }
}

/// Report 1, for the other limits of a team.
#[test]
fn of_many_at_once_exactly_as_many_pass_as_a_team_may() {
    let (origin, hold) = held_origin(1);
    let team = "[team.t]\nin_flight_max = 5\nrequests_per_minute = 1\nrequests_burst = 12";
    let gateway = start(&origin, team, "team = \"t\"", "team = \"t\"\nin_flight_max = 2");
    assert_eq!(storm(&gateway, &origin, &hold, &[K2], 8, &capped(1)), 2);
    assert_eq!(storm(&gateway, &origin, &hold, &[K1, K2], 64, &capped(1)), 5);
    // Those that were refused took none of the team's minute: 5 of 12 are left.
    assert_eq!(storm(&gateway, &origin, &hold, &[K1], 64, &capped(1)), 5);
    assert_eq!(storm(&gateway, &origin, &hold, &[K2], 1, &capped(1)), 0);
}

/// Report 2: a request without a cap, or with an absurd one, is neither refused for its size nor pins the budget.
#[test]
fn a_large_cap_and_no_cap_leave_room_for_others() {
    let (origin, hold) = held_origin(5);
    let gateway = start(&origin, "", "budgets = [{ tokens = 2000, per = \"day\" }]", "");
    assert_eq!(storm(&gateway, &origin, &hold, &[K1], 4, r#"{"model":"m"}"#), 4);
    assert_eq!(storm(&gateway, &origin, &hold, &[K1], 4, &capped(1_000_000_000)), 4);
    // Real use is 40 of 2,000 tokens; a cap that fits is taken whole.
    assert_eq!(storm(&gateway, &origin, &hold, &[K1], 4, &capped(900)), 2);
}

/// Reports 3 and 4: whatever way exchanges end, nothing stays taken.
#[test]
fn after_any_ending_nothing_stays_taken() {
    let origin = Origin::start();
    let error = "{\"error\":{\"message\":\"no\",\"type\":\"server_error\",\"code\":500}}";
    origin.case("500", move |talk| talk.answer("500 Oops", "Content-Type: application/json\r\n", error));
    origin.case("closed", |_| Next::Close);
    let limits = "in_flight_max = 1\nbudgets = [{ tokens = 1000, per = \"day\" }, { tokens = 1000, per = \"hour\", rolling = true }]";
    let gateway = start(&origin, "", limits, "");
    for turn in 0..6 {
        for case in ["500", "closed"] {
            let mut client = gateway.connect();
            let (head, body) = (chat_head(K1, &nonce()), capped(900));
            client.send(
                format!("{head}X-Case: {case}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
            );
            let status = client.answer().expect("a response").status();
            assert!((500..=504).contains(&status), "turn {turn}, {case}: {status}");
        }
    }
    assert!(eventually(PATIENCE, || ask(&gateway, K1, &capped(900)).status() == 200));
}

/// Report 5: a request refused by one limit takes nothing of another.
#[test]
fn a_refused_request_takes_nothing_of_another_limit() {
    let (origin, hold) = held_origin(5);
    let one = "requests_per_minute = 1\nrequests_burst = 2\nin_flight_max = 1\nbudgets = [{ tokens = 500, per = \"day\" }]";
    let gateway = start(&origin, "", one, "");
    // One runs, the other is refused for the slot; then one is refused by its budget; then another passes.
    assert_eq!(storm(&gateway, &origin, &hold, &[K1], 2, &capped(10)), 1);
    let text = format!(r#"{{"model":"m","prompt":"{}"}}"#, "a word ".repeat(600));
    let response = ask(&gateway, K1, &text);
    assert_eq!((response.status(), code(&response).as_str()), (429, "request_exceeds_limit"));
    assert_eq!(ask(&gateway, K1, &capped(10)).status(), 200);
    assert_eq!(code(&ask(&gateway, K1, &capped(10))), "rate_limit_exceeded");
}

/// Reports 7 and 11: a response that costs more than was reserved is charged, and nothing passes after it.
#[test]
fn what_a_response_used_beyond_its_reservation_is_charged() {
    let (origin, _) = held_origin(5_000);
    let gateway = start(&origin, "", "budgets = [{ tokens = 1000, per = \"day\" }]", "");
    assert_eq!(ask(&gateway, K1, &capped(10)).status(), 200);
    let response = ask(&gateway, K1, &capped(10));
    assert_eq!(response.status(), 429, "{response:?}");
    assert_eq!(code(&response), "insufficient_quota");
    assert_eq!(response.json()["error"]["type"], "insufficient_quota");
    assert_eq!(response.one("x-should-retry"), "false");
    let message = response.json()["error"]["message"].as_str().unwrap().to_owned();
    for part in ["key 'one' has used 5000 of 1000 tokens per day (UTC)", "it resets at 20", "00:00:00+00:00"]
    {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(ask(&gateway, K2, &capped(10)).status(), 200, "another key has its own");
}

/// A budget of money is charged by the price of each class of token; Anthropic's clients hear of it in their own words.
#[test]
fn money_is_charged_by_class_and_refused_in_the_clients_dialect() {
    let origin = Origin::scripted(|talk| {
        let usage = r#"{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100,"prompt_tokens_details":{"cached_tokens":600}}"#;
        let body = format!(
            r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"x"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
        );
        talk.answer("200 OK", "Content-Type: application/json\r\n", &body)
    });
    // 400 x 2.5 + 600 x 1.25 + 100 x 10 per million: 0.00275 for each request.
    let price = "[price.m]\ninput_per_million = 2.5\noutput_per_million = 10.0\ncached_per_million = 1.25";
    let one = "models = [\"m\"]\nbudgets = [{ money = 0.0055, per = \"month\" }]";
    let gateway = start(&origin, price, one, "");
    assert_eq!(ask(&gateway, K1, &capped(10)).status(), 200);
    assert_eq!(ask(&gateway, K1, &capped(10)).status(), 200);
    let response = ask(&gateway, K1, &capped(10));
    assert_eq!(response.status(), 429, "{response:?}");
    let message = response.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("has used 0.0055 of 0.0055 per month (UTC)"), "{message}");

    let mut client = gateway.connect();
    let body = r#"{"model":"m","max_tokens":10,"messages":[{"role":"user","content":"x"}]}"#;
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: h\r\nx-api-key: {K1}\r\nanthropic-version: 2023-06-01\r\n"
    );
    client.send(
        format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .as_bytes(),
    );
    let response = client.answer().expect("a response");
    assert_eq!(response.status(), 402, "{response:?}");
    assert_eq!(response.json()["error"]["type"], "billing_error");
    assert_eq!(response.one("x-should-retry"), "false");
}

/// A key that has expired is refused by its name; one whose team may not use a model or an endpoint, as one that may not itself.
#[test]
fn keys_end_and_teams_say_what_they_may() {
    let origin = Origin::start();
    let team = "[team.t]\nmodels = [\"m\"]\napis = [\"embeddings\", \"chat\"]";
    let gateway = start(
        &origin,
        team,
        "expires = \"2026-01-01T00:00:00Z\"",
        "team = \"t\"\nexpires = \"2199-01-01T00:00:00Z\"",
    );
    let response = ask(&gateway, K1, &capped(1));
    assert_eq!((response.status(), code(&response).as_str()), (401, "api_key_expired"));
    let message = response.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "the API key 'one' expired at 2026-01-01T00:00:00Z");
    assert_eq!(ask(&gateway, K2, &capped(1)).status(), 200);
    assert_eq!(ask(&gateway, K2, r#"{"model":"other"}"#).status(), 403);
    let seen = origin.seen().len();
    let mut client = gateway.connect();
    let body = r#"{"model":"m","input":"x"}"#;
    let head = format!("POST /v1/responses HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {K2}\r\n");
    client.send(
        format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .as_bytes(),
    );
    let response = client.answer().expect("a response");
    assert_eq!((response.status(), code(&response).as_str()), (403, "endpoint_not_allowed"));
    assert_eq!(origin.seen().len(), seen, "the backend hears of none of it");
}

/// Report 21: a reload leaves what was used as it was, with another amount too.
#[test]
fn a_reload_leaves_what_was_used_as_it_was() {
    let (origin, _) = held_origin(600);
    let gateway = start(&origin, "", "budgets = [{ tokens = 1000, per = \"day\" }]", "");
    assert_eq!(ask(&gateway, K1, &capped(10)).status(), 200);
    gateway.rewrite(&config(&origin, "", "budgets = [{ tokens = 1200, per = \"day\" }]", ""));
    assert_eq!(gateway.reload().0, 200);
    assert_eq!(ask(&gateway, K1, &capped(10)).status(), 200);
    assert_eq!(code(&ask(&gateway, K1, &capped(10))), "insufficient_quota");
}

/// Report 31: a key sees its own limits, its team's, what is used of them and when each window ends; and nothing of others.
#[test]
fn a_key_sees_its_own_limits_and_what_is_left() {
    let origin = Origin::scripted(|talk| {
        let usage = r#"{"prompt_tokens":30,"completion_tokens":10,"total_tokens":40}"#;
        talk.answer(
            "200 OK",
            "Content-Type: application/json\r\n",
            &format!(r#"{{"choices":[],"usage":{usage}}}"#),
        )
    });
    let team = "[team.t]\nmodels = [\"m\"]\nbudgets = [{ money = 2.0, per = \"month\", zone = \"Europe/Berlin\" }]\n[price.\"*\"]\ninput_per_million = 1000.0\noutput_per_million = 2000.0";
    let one = "team = \"t\"\ntags = [\"ci\"]\nrequests_per_minute = 1\nrequests_burst = 1\nin_flight_max = 3\nbudgets = [{ tokens = 100, per = \"hour\", rolling = true }]";
    let gateway = start(&origin, team, one, "team = \"t\"");
    let look = |key: &str| {
        let mut client = gateway.connect();
        client.send(
            format!("GET /v1/key HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n\r\n").as_bytes(),
        );
        client.answer().expect("a response")
    };
    assert_eq!(ask(&gateway, K1, &capped(10)).status(), 200);
    // It takes nothing of the key's one request a minute.
    for _ in 0..3 {
        let response = look(K1);
        assert_eq!(response.status(), 200, "{response:?}");
        let key = response.json();
        assert_eq!((key["name"].as_str(), key["team"].as_str()), (Some("one"), Some("t")), "{key}");
        assert_eq!(
            (&key["models"][0], key["models"].as_array().map(Vec::len)),
            (&"m".into(), Some(1)),
            "{key}"
        );
        assert_eq!(
            (key["limits"][0]["limit"].as_str(), key["limits"][0]["remaining"].as_u64()),
            (Some("requests_per_minute"), Some(0))
        );
        assert_eq!(
            (key["limits"][1]["limit"].as_str(), key["limits"][1]["used"].as_u64()),
            (Some("in_flight_max"), Some(0)),
            "{key}"
        );
        let [tokens, money] = [&key["budgets"][0], &key["budgets"][1]];
        assert_eq!(
            (tokens["used"].as_u64(), tokens["remaining"].as_u64(), tokens["reserved"].as_u64()),
            (Some(40), Some(60), Some(0)),
            "{key}"
        );
        // 30 x 0.001 + 10 x 0.002.
        assert_eq!(
            (money["used"].as_f64(), money["remaining"].as_f64(), &money["of"]),
            (Some(0.05), Some(1.95), &"team".into()),
            "{key}"
        );
        for budget in [tokens, money] {
            assert!(budget["start"].as_str() < budget["reset"].as_str(), "{key}");
        }
    }
    let other = look(K2).text();
    assert!(other.contains("\"used\":0.05") && !other.contains("\"one\""), "{other}");
    assert_eq!(look("no such key").status(), 401);
}

/// Reports 12 and 21: what was used counts after a restart and after a kill, in the budgets of keys and of teams.
#[test]
fn what_was_used_counts_after_a_restart_and_after_a_kill() {
    let (origin, _) = held_origin(400);
    let folder = Folder::new("budgets");
    let directory = folder.path();
    let tables = format!(
        "[store]\ndirectory = {directory:?}\n[team.t]\nbudgets = [{{ tokens = 2000, per = \"month\" }}]"
    );
    let key = "team = \"t\"\nbudgets = [{ tokens = 1000, per = \"month\" }]";
    let config = config(&origin, &tables, key, key);
    let used = |gateway: &Gateway| {
        let mut client = gateway.connect();
        client.send(
            format!("GET /v1/key HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {K1}\r\n\r\n").as_bytes(),
        );
        let key = client.answer().expect("a response").json();
        [0, 1].map(|budget| key["budgets"][budget]["used"].as_u64().expect("a number"))
    };
    let mut gateway = Gateway::start(&config);
    assert_eq!(ask(&gateway, K1, &capped(10)).status(), 200);
    assert_eq!(used(&gateway), [400, 400]);
    gateway.signal("TERM");
    assert!(gateway.wait(PATIENCE).is_some());
    let mut gateway = Gateway::start(&config);
    assert_eq!(used(&gateway), [400, 400], "after a restart");
    assert_eq!(ask(&gateway, K2, &capped(10)).status(), 200);
    assert_eq!(used(&gateway), [400, 800]);
    gateway.signal("KILL");
    assert!(gateway.wait(PATIENCE).is_some());
    let gateway = Gateway::start(&config);
    assert!(eventually(PATIENCE, || used(&gateway) == [400, 800]), "after a kill: {:?}", used(&gateway));
    assert_eq!(ask(&gateway, K1, &capped(10)).status(), 200);
    assert_eq!(used(&gateway), [800, 1_200]);
    let response = ask(&gateway, K1, &capped(300));
    assert_eq!((response.status(), code(&response).as_str()), (429, "insufficient_quota"));
    drop(gateway);
}

/// Report 8: every limit that applies is named, with the line that it comes from.
#[test]
fn explain_names_every_limit_and_where_it_comes_from() {
    let origin = Origin::start();
    let team = "[team.t]\nmodels = [\"m\"]\nin_flight_max = 50\nbudgets = [{ tokens = 5000, per = \"day\" }]\n[price.m]\ninput_per_million = 2.5\noutput_per_million = 10.0";
    let gateway = start(&origin, team, "team = \"t\"\nrequests_per_minute = 60", "");
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ringway"))
            .args(arguments)
            .args(["--config".as_ref(), gateway.folder().join("ringway.toml").as_os_str()])
            .output()
            .expect("the command runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), said)
    };
    let (status, page, said) = run(&["explain", "one", "m"]);
    assert_eq!(status, Some(0), "{said}");
    let file = std::fs::read_to_string(gateway.folder().join("ringway.toml")).expect("the file");
    for (part, written) in [
        ("may use the model m", "models = [\"m\"]"),
        ("key one: 60 requests per minute, 60 at once", "requests_per_minute = 60"),
        ("team t: 50 requests in flight", "in_flight_max = 50"),
        ("team t: budget of 5000 tokens per day (UTC)", "budgets = ["),
    ] {
        let line = page.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {page}"));
        let number = file.lines().position(|line| line.contains(written)).expect("it was written") + 1;
        assert!(line.ends_with(&format!(":{number}")), "{line}: line {number}");
    }
    assert!(
        page.contains(
            "price at backend b1, per million tokens: input 2.50, cached 2.50, cache write 2.50, output 10.00"
        ),
        "{page}"
    );
    let (_, page, _) = run(&["explain", "one", "other"]);
    assert!(page.contains("may NOT use the model other"), "{page}");
    for wrong in [["explain", "nobody", "m"], ["explain", "one", "nothing"]] {
        let (status, _, said) = run(&wrong);
        assert!(status == Some(1) && said.contains("there is no"), "{said}");
    }
}
