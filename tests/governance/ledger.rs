//! The ledger has every exchange whose response a client received, once, with the backend's tokens: also after a kill.
#![allow(clippy::print_stdout)] // the seed, and how many there were

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::chance::Chance;
use support::client::Client;
use support::folder::Folder;
use support::gateway::{Config, Gateway, K1, K2};
use support::origin::{Next, Origin, Talk};
use support::{PATIENCE, eventually, is_campaign};

/// Tokens by the id of their request: input, cached, output.
type Truth = Arc<Mutex<BTreeMap<String, [u64; 3]>>>;

/// An origin that answers and streams with tokens that differ from request to request, and writes down which.
fn origin(truth: &Truth) -> Origin {
    let (truth, next) = (Arc::clone(truth), AtomicU64::new(0));
    Origin::scripted(move |talk: &mut Talk| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let [input, cached, output] = [number % 89 + 10, number % 7, number % 13 + 1];
        let id = talk.request.one("x-request-id");
        truth.lock().expect("not poisoned").insert(id, [input, cached, output]);
        let usage = format!(
            r#""usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{cached}}}}}"#,
            input + output
        );
        let object = |kind: &str, choice: &str| {
            format!(
                r#"{{"id":"same","object":"{kind}","created":1,"model":"m","choices":[{choice}],{usage}}}"#
            )
        };
        if String::from_utf8_lossy(&talk.request.body).contains(r#""stream":true"#) {
            let delta = r#"{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}"#;
            let event = object("chat.completion.chunk", delta);
            let whole =
                talk.stream() && talk.chunk(format!("data: {event}\n\n")) && talk.chunk("data: [DONE]\n\n");
            return if whole { talk.end() } else { Next::Close };
        }
        let message = r#"{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}"#;
        talk.answer("200 OK", "Content-Type: application/json\r\n", &object("chat.completion", message))
    })
}

fn config(origin: &Origin, directory: &Path) -> Config {
    let more = "kind = \"vllm\"\nhealth = { enabled = false }";
    Config::new()
        .backend("b1", origin.port, more)
        .model("m", &["b1"], "")
        .key("one", K1, "")
        .model("other", &["b1"], "")
        .key("two", K2, "models = [\"other\"]")
        .tables(&format!("[store]\ndirectory = {directory:?}"))
}

fn request(key: &str, id: &str, stream: bool) -> Vec<u8> {
    let body = format!(r#"{{"model":"m","messages":[],"stream":{stream}}}"#);
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {key}\r\nX-Request-Id: {id}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Runs a command on the gateway's file: status, output, complaints.
fn run(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(support::binary());
    command.args(arguments).arg("--config").arg(gateway.folder().join("ringway.toml")).stdin(Stdio::null());
    let output = command.output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The member of a flat JSON object, without its quotes.
fn member(line: &str, name: &str) -> String {
    let after = line.split(&format!("\"{name}\":")).nth(1).unwrap_or_else(|| panic!("no {name} in {line}"));
    match after.strip_prefix('"') {
        Some(text) => text.split('"').next().unwrap_or_default().to_owned(),
        None => after.split([',', '}']).next().unwrap_or_default().to_owned(),
    }
}

/// Every row of the ledger: its id, and its tokens where the backend finished.
fn rows(gateway: &Gateway) -> Vec<(String, Option<[u64; 3]>)> {
    let (status, out, said) = run(gateway, &["usage", "--rows", "--json"]);
    assert_eq!((status, said.as_str()), (Some(0), ""));
    let tokens = |line: &str| {
        let count = |name| member(line, name).parse().ok();
        Some([count("input_tokens")?, count("cached_tokens")?, count("output_tokens")?])
    };
    out.lines().map(|line| (member(line, "request_id"), tokens(line))).collect()
}

#[test]
fn usage_is_shown_by_row_and_by_sum_with_the_gateway_up_and_down() {
    let (truth, directory) = (Truth::default(), Folder::new("shown"));
    let origin = origin(&truth);
    let mut gateway = Gateway::start(&config(&origin, directory.path()));
    let mut client = gateway.connect();
    for (number, stream) in [(0, false), (1, true), (2, false)] {
        client.send(&request(K1, &format!("row-{number}"), stream));
        assert_eq!(client.answer().expect("a response").status(), 200);
    }
    client.send(&request(K2, "refused", false));
    assert_eq!(client.answer().expect("a refusal").status(), 403);
    client.send(&request("no-such-key-0123456789abcdef", "stranger", false));
    assert_eq!(client.answer().expect("a refusal").status(), 401);

    let (_, out, _) = run(&gateway, &["usage", "--rows", "--json"]);
    assert_eq!(out.lines().count(), 4, "nobody without a key leaves a row: {out}");
    for line in out.lines().filter(|line| !line.contains("refused")) {
        let id = member(line, "request_id");
        let tokens = ["input_tokens", "cached_tokens", "output_tokens"].map(|name| member(line, name));
        assert_eq!(tokens, truth.lock().unwrap()[&id].map(|count| count.to_string()), "{line}");
        let names = ["key", "model", "backend", "api", "estimated", "status"].map(|name| member(line, name));
        assert_eq!(names, ["one", "m", "b1", "chat", "false", "200"], "{line}");
    }
    let (_, sums, _) = run(&gateway, &["usage", "--by", "model", "--json"]);
    let sum = |at: usize| truth.lock().unwrap().values().map(|tokens| tokens[at]).sum::<u64>().to_string();
    let whole = [sum(0), sum(1), sum(2)];
    for page in [&sums, &run(&gateway, &["usage", "--by", "day", "--json", "--since", "1h"]).1] {
        assert_eq!(
            ["input_tokens", "cached_tokens", "output_tokens"].map(|name| member(page, name)),
            whole,
            "{page}"
        );
    }
    let (status, page) = gateway.ask_admin("/api/v1/ledger/usage?by=model&backend=b1").expect("a response");
    assert_eq!((status, member(&page, "output_tokens")), (200, whole[2].clone()), "{page}");
    let (_, page) = gateway.ask_admin("/api/v1/ledger/requests?limit=3").expect("a response");
    assert_eq!(page.matches("request_id").count(), 3, "{page}");
    let (_, page) = gateway
        .ask_admin(&format!("/api/v1/ledger/requests?after={}", member(&page, "next")))
        .expect("a response");
    assert_eq!((page.matches("request_id").count(), member(&page, "next")), (1, "null".to_owned()), "{page}");
    for bad in ["usage", "usage?by=colour", "usage?by=key&colour=red", "requests?after=x"] {
        assert_eq!(gateway.ask_admin(&format!("/api/v1/ledger/{bad}")).expect("a response").0, 400, "{bad}");
    }
    gateway.signal("HUP");
    assert!(eventually(PATIENCE, || gateway.said().contains("reloaded")));
    assert_eq!(gateway.reload().0, 200);
    let input = gateway.metric("ringway_key_tokens_total", "type=\"input\"");
    assert_eq!(input.to_string(), whole[0], "what the metrics say");

    // Money is derived when it is read: a price that is written now prices what was used before.
    let money = || {
        let (_, sums, _) = run(&gateway, &["usage", "--by", "model", "--json"]);
        (member(&sums, "money"), member(&sums, "unpriced_tokens"))
    };
    let tokens = truth.lock().unwrap().values().map(|[input, _, output]| input + output).sum::<u64>();
    assert_eq!(money(), ("null".to_owned(), tokens.to_string()));
    let text = std::fs::read_to_string(gateway.folder().join("ringway.toml")).expect("its file");
    gateway.rewrite_text(&format!(
        "{text}\n[price.m]\ninput_per_million = 2.0\ncached_per_million = 1.0\noutput_per_million = 10.0\n"
    ));
    let price = |[input, cached, output]: &[u64; 3]| 2 * (input - cached) + cached + 10 * output;
    let cost: u64 = truth.lock().unwrap().values().map(price).sum();
    assert_eq!(money(), ((cost as f64 / 1e6).to_string(), "0".to_owned()));

    let (_, out, _) = run(&gateway, &["usage", "--rows", "--json"]);
    gateway.signal("TERM");
    assert_eq!(gateway.wait(PATIENCE).and_then(|status| status.code()), Some(0));
    assert_eq!(run(&gateway, &["usage", "--rows", "--json"]).1, out, "the same with the gateway down");
    let (_, text, _) = run(&gateway, &["usage"]);
    assert!(text.starts_with("KEY") && text.lines().count() == 3, "{text}");
    let (_, csv, _) = run(&gateway, &["usage", "--csv", "--by", "backend"]);
    assert!(csv.contains(&format!("b1,3,0,{},{},0,{},", whole[0], whole[1], whole[2])), "{csv}");
    let (_, failed, _) = run(&gateway, &["requests", "--failed", "--json"]);
    assert_eq!((member(&failed, "fault").as_str(), failed.lines().count()), ("model_not_allowed", 1));
    let (_, audit, _) = run(&gateway, &["audit", "--json"]);
    let entries: Vec<_> = audit.lines().map(|line| [member(line, "actor"), member(line, "action")]).collect();
    for entry in [
        ["process", "start"],
        ["SIGHUP", "reload"],
        ["loopback", "reload"],
        ["two", "refuse"],
        ["process", "stop"],
    ] {
        assert!(entries.iter().any(|found| found == &entry), "{entry:?}: {audit}");
    }
    let (status, verified, _) = run(&gateway, &["audit", "--verify"]);
    assert!(status == Some(0) && verified.starts_with("5 entries, none changed"), "{verified}");
}

#[test]
fn a_kill_under_load_loses_no_response_that_a_client_received_and_counts_none_twice() {
    let (truth, directory) = (Truth::default(), Folder::new("kills"));
    let origin = origin(&truth);
    let config = config(&origin, directory.path());
    let seed = std::env::var("RINGWAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(21);
    println!("seed {seed}");
    let mut chance = Chance(seed);
    let kills = if is_campaign() { 100 } else { 4 };
    let received = Arc::new(Mutex::new(Vec::new()));
    for kill in 0..kills {
        let mut gateway = Gateway::start(&config);
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let (port, received) = (gateway.port, Arc::clone(&received));
                std::thread::spawn(move || load(port, &format!("k{kill}-c{number}"), &received))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(50 + chance.below(250) as u64));
        gateway.signal("KILL");
        gateway.wait(PATIENCE);
        clients.into_iter().for_each(|client| client.join().expect("a client"));
    }
    let gateway = Gateway::start(&config);
    let received = received.lock().expect("not poisoned");
    assert!(received.len() > kills * 4, "there was load: {}", received.len());
    let found = rows(&gateway);
    let truth = truth.lock().expect("not poisoned");
    let mut ledger = BTreeMap::new();
    for (id, tokens) in found {
        assert!(truth.contains_key(&id), "{id} was never at the backend");
        assert_eq!(ledger.insert(id.clone(), tokens), None, "{id} is there twice");
    }
    for id in received.iter() {
        let tokens = ledger.get(id).unwrap_or_else(|| panic!("{id} was received and is not in the ledger"));
        assert_eq!(*tokens, Some(truth[id]), "{id}");
    }
    // Sums by key, model and backend are those of the rows.
    let input: u64 = ledger.values().flatten().map(|tokens| tokens[0]).sum();
    for by in ["key", "model", "backend", "api", "day", "hour", "total"] {
        let (_, out, _) = run(&gateway, &["usage", "--by", by, "--json"]);
        let sum: u64 = out.lines().map(|line| member(line, "input_tokens").parse::<u64>().unwrap()).sum();
        assert_eq!(sum, input, "{by}: {out}");
    }
    println!("{} responses received over {kills} kills, {} rows", received.len(), ledger.len());
}

/// Asks until the gateway is gone; notes the ids of whole responses.
fn load(port: u16, name: &str, received: &Mutex<Vec<String>>) {
    let Ok(mut client) = Client::try_connect(port) else { return };
    for number in 0.. {
        let id = format!("{name}-{number}");
        if !client.send(&request(K1, &id, number % 2 == 0)) {
            return;
        }
        match client.answer() {
            Ok(response) if response.status() == 200 && response.text().contains("\"usage\"") => {
                received.lock().expect("not poisoned").push(id);
            }
            _ => return,
        }
    }
}

#[test]
fn upgrades_and_an_orderly_end_lose_nothing_and_count_nothing_twice() {
    let (truth, directory) = (Truth::default(), Folder::new("upgrades"));
    let origin = origin(&truth);
    let mut gateway = Gateway::start(&config(&origin, directory.path()).shards("count = 2"));
    let (port, over, received) = (gateway.port, AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (over, received) = (&over, &received);
            scope.spawn(move || {
                for number in 0.. {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let id = format!("u{worker}-{number}");
                    let mut client = Client::connect(port);
                    client.send(&request(K1, &id, number % 2 == 0));
                    assert_eq!(client.answer().expect("a response").status(), 200);
                    received.lock().expect("not poisoned").push(id);
                }
            });
        }
        for _ in 0..3 {
            let before = received.lock().expect("not poisoned").len();
            assert!(eventually(PATIENCE, || received.lock().expect("not poisoned").len() > before + 5));
            let (status, said) = gateway.to_admin("POST", "/upgrade").expect("a response");
            assert_eq!(status, 200, "{said}");
            gateway.follow(member(&said, "pid").parse().expect("a process number"));
        }
        over.store(true, Ordering::SeqCst);
    });
    gateway.signal("TERM");
    let left = || std::fs::read_dir(directory.path().join("journal")).map_or(0, Iterator::count);
    assert!(eventually(PATIENCE, || left() == 0), "every process has moved its own journals");
    let mut found: Vec<String> = rows(&gateway).into_iter().map(|(id, _)| id).collect();
    let mut received = received.into_inner().expect("not poisoned");
    found.sort();
    received.sort();
    assert_eq!(found, received);
}

#[test]
fn a_damaged_journal_is_reported_and_loses_the_damaged_record_only() {
    let (truth, directory) = (Truth::default(), Folder::new("damaged"));
    let origin = origin(&truth);
    let config = config(&origin, directory.path()).shards("count = 1");
    // A folder in the place of the database: the records stay in the journal.
    std::fs::create_dir_all(directory.path().join("ledger.db")).expect("a folder");
    let mut gateway = Gateway::start(&config);
    let mut client = gateway.connect();
    for number in 0..5 {
        client.send(&request(K1, &format!("d-{number}"), false));
        assert_eq!(client.answer().expect("a response").status(), 200);
    }
    gateway.signal("KILL");
    gateway.wait(PATIENCE);
    std::fs::remove_dir(directory.path().join("ledger.db")).expect("it is empty");
    let run = std::fs::read_dir(directory.path().join("journal"))
        .expect("it")
        .next()
        .expect("a run")
        .expect("it")
        .path();
    let segment = run.join("0-0000000000.seg");
    let mut bytes = std::fs::read(&segment).expect("a segment");
    let at = bytes.windows(3).position(|window| window == b"d-3").expect("the record");
    bytes[at + 1] ^= 0x40;
    std::fs::write(&segment, bytes).expect("written");
    let gateway = Gateway::start(&config);
    assert!(eventually(PATIENCE, || gateway.metric("ringway_ledger_recovered_rows_total", "") == 4.0));
    assert!(gateway.said().contains("bytes of a journal hold no valid record"), "{}", gateway.said());
    let mut ids: Vec<String> = rows(&gateway).into_iter().map(|(id, _)| id).collect();
    ids.sort();
    assert_eq!(ids, ["d-0", "d-1", "d-2", "d-4"]);
}

#[test]
fn a_store_that_is_away_costs_no_request_and_catches_up_by_itself() {
    let (truth, directory) = (Truth::default(), Folder::new("away"));
    let origin = origin(&truth);
    // A folder in the place of the database: it cannot be opened.
    std::fs::create_dir_all(directory.path().join("ledger.db")).expect("a folder");
    let mut gateway = Gateway::start(&config(&origin, directory.path()));
    let mut client = gateway.connect();
    for number in 0..5 {
        client.send(&request(K1, &format!("away-{number}"), false));
        assert_eq!(client.answer().expect("a response").status(), 200);
    }
    assert!(eventually(PATIENCE, || gateway.said().contains("the store does not work")));
    assert_eq!(gateway.metric("ringway_ledger_store_up", ""), 0.0);
    assert_eq!(gateway.ask_admin("/readyz").expect("a response").0, 200);
    std::fs::remove_dir(directory.path().join("ledger.db")).expect("it is empty");
    assert!(eventually(PATIENCE, || gateway.metric("ringway_ledger_rows_total", "") == 5.0));
    assert_eq!(rows(&gateway).len(), 5);
    gateway.check_alive();
}

#[test]
fn a_directory_that_cannot_be_written_to_stops_a_start_only_if_it_was_chosen() {
    let origin = Origin::start();
    let refused =
        Gateway::try_start(&config(&origin, Path::new("/proc/ringway")), support::gateway::Wrapper::Plain);
    let said = refused.err().expect("it does not start");
    assert!(said.contains("[store] directory /proc/ringway: "), "{said}");
    let (state, more) = ("STATE_DIRECTORY", "kind = \"vllm\"\nhealth = { enabled = false }");
    let config = Config::new().backend("b1", origin.port, more).model("m", &["b1"], "").key("one", K1, "");
    let gateway = Gateway::start(&config.variable(state, "/proc/ringway"));
    assert!(gateway.said().contains("note: usage is not kept: /proc/ringway cannot be written to"));
}
