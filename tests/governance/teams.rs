//! Teams, ends of keys and budgets: what public reports say goes wrong, by their number in `docs/governance.md`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

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
    for count in [1, 8, 64] {
        let passed = storm(&gateway, &origin, &hold, &[K1], count, &capped(980));
        assert_eq!(passed, count.min(7), "{count} at once on one key");
        let passed = storm(&gateway, &origin, &hold, &[K2], count, &capped(980));
        assert_eq!(passed, count.min(3), "{count} at once on a key with a smaller budget of its own");
        let passed = storm(&gateway, &origin, &hold, &[K1, K2], count, &capped(980));
        assert_eq!(passed, count.min(7), "{count} at once on both keys");
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
    for part in ["key 'one' has used 5000 of 1000 tokens per day (UTC)", "it resets at 20", "T00:00:00+00:00"]
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
