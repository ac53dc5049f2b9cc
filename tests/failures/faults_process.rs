//! Faults around the process: memory that runs out, time that stands still, operators and logs that block.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::client::Client;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, completion};
use support::sse::{self, Ending, content, judge};
use support::{J, PATIENCE, ask, chat, chat_head, eventually};

const ASK: &str = r#"{"model":"m","messages":[],"stream":true}"#;

/// Streams that have begun and go on until they are told to end.
fn streams(origin: &Origin, gateway: &Gateway, count: usize) -> (Vec<Client>, Arc<AtomicBool>) {
    let release = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&release);
    origin.set(move |talk| {
        if talk.request.json()["stream"] != true {
            return support::origin::echo(talk);
        }
        talk.stream();
        talk.chunk(content("a"));
        talk.wait_for(&released);
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    let mut clients: Vec<Client> = (0..count).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send(&chat(K1, "held", ASK));
        client.read_until("\"a\"");
    }
    (clients, release)
}

fn all_end_well(clients: &mut [Client], release: &AtomicBool) {
    release.store(true, Ordering::SeqCst);
    for client in clients {
        assert_eq!(judge(&client.answer().expect("the rest").text()), ("a".into(), Ending::Finished));
    }
}

#[test]
fn f_39_short_of_memory_new_requests_are_refused_and_streams_go_on() {
    let origin = Origin::start();
    let gateway = Gateway::start(&Config::simple(origin.port).tables("[limits]\nmemory = \"16MiB\""));
    let (mut clients, release) = streams(&origin, &gateway, 1);
    // What an idle gateway takes may be more than the bound: then the stream alone makes it short. Bodies that are held
    // do so everywhere; those behind the bound are refused.
    let text = "x".repeat(4 << 20);
    let mut held: Vec<Client> = (0..8).map(|_| gateway.connect()).collect();
    for client in &mut held {
        let head = chat_head(K1, "held");
        client.send(format!("{head}Content-Length: 9000000\r\n\r\n{{\"text\":\"{text}").as_bytes());
    }
    let refused = eventually(PATIENCE, || {
        let answer = ask(&gateway, J, "refused");
        answer.status() == 503
            && answer.text().contains("overloaded")
            && !answer.one("retry-after").is_empty()
    });
    assert!(refused, "{} bytes in use, and nothing is refused", gateway.resident_all());
    assert!(gateway.metric("ringway_shedding", "") > 0.5);
    all_end_well(&mut clients, &release);
    drop(held);
    let takes = eventually(PATIENCE, || ask(&gateway, J, "after").status() == 200);
    assert!(takes, "nothing is in work, so nothing is refused");
}

#[test]
fn f_41_a_process_that_stood_still_blames_nobody() {
    let origin = Origin::start();
    let config = Config::simple(origin.port)
        .tables("[timeouts]\nconnect = \"500ms\"\nfirst_token = \"1500ms\"\nbetween_events = \"1500ms\"");
    let gateway = Gateway::start(&config);
    let (mut clients, release) = streams(&origin, &gateway, 20);
    gateway.signal("STOP");
    std::thread::sleep(Duration::from_secs(3));
    gateway.signal("CONT");
    std::thread::sleep(Duration::from_millis(300));
    all_end_well(&mut clients, &release);
    assert!(gateway.metric("ringway_shard_stalls_total", "") < 0.5, "no shard stood still alone");
    assert_eq!(ask(&gateway, J, "after").status(), 200);
}

#[test]
fn f_43_operators_that_never_finish_cost_only_each_other() {
    let origin = Origin::start();
    let gateway = Gateway::start(&Config::simple(origin.port));
    let mut slow: Vec<Client> = (0..150).map(|_| Client::connect(gateway.admin)).collect();
    for client in &mut slow {
        client.send(b"GET /metrics HTTP/1.1\r\nHost: ");
    }
    for turn in 0..50 {
        assert_eq!(ask(&gateway, J, &format!("turn-{turn}")).text(), completion(&format!("turn-{turn}")));
    }
    drop(slow);
    let serves = eventually(PATIENCE, || gateway.ask_admin("/healthz").is_some_and(|answer| answer.0 == 200));
    assert!(serves, "the admin listener is free again");
}

/// Needs the failpoint of debug builds: `x-ringway-failpoint: block`.
#[test]
fn f_45_a_shard_that_stands_still_is_told_and_the_others_serve() {
    let origin = Origin::start();
    let gateway = Gateway::start(&Config::simple(origin.port).shards("count = 2"));
    // The kernel draws a shard for each, so that both have some; which is which shows by who is held up.
    let mut clients: Vec<Client> = (0..24).map(|_| gateway.connect()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.send(&chat(K1, &format!("warm-{index}"), J));
        assert_eq!(client.answer().expect("an answer").status(), 200);
    }
    let mut blocking = gateway.connect();
    let head = chat_head(K1, "block");
    blocking.send(format!("{head}x-ringway-failpoint: block\r\nContent-Length: 27\r\n\r\n{J}").as_bytes());
    std::thread::sleep(Duration::from_millis(200));
    for (index, client) in clients.iter_mut().enumerate() {
        client.send(&chat(K1, &format!("during-{index}"), J));
    }
    // Those on the other shard come at once, those on the blocked one when it moves again.
    std::thread::sleep(Duration::from_millis(500));
    let at_once = clients
        .iter_mut()
        .filter_map(|client| client.answer_to(false, Duration::from_millis(20)).ok())
        .count();
    assert!(at_once >= 1, "every shard stood still");
    let told = eventually(PATIENCE, || gateway.metric("ringway_shard_stalls_total", "") > 0.5);
    assert!(told, "nobody noticed");
    assert!(eventually(PATIENCE, || gateway.said().contains("has stood still")), "{}", gateway.said());
    assert_eq!(blocking.answer().expect("an answer at last").status(), 200);
    assert!(eventually(PATIENCE, || gateway.said().contains("moves again")), "{}", gateway.said());
}

#[test]
fn f_49_a_log_that_nobody_reads_drops_lines_and_stops_nothing() {
    let origin = Origin::scripted(|_| Next::Close);
    let fifo = std::env::temp_dir().join(format!("ringway-f49-{}", std::process::id()));
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
    assert!(made.success());
    let log = format!("[limits]\nauth_failures_per_minute = 0\n[access_log]\npath = \"{}\"", fifo.display());
    let gateway = Gateway::start(&Config::simple(origin.port).shards("count = 1").tables(&log));
    let refused = format!("{}Content-Length: 0\r\n\r\n", chat_head("rw-unknown-key", "x")).repeat(100);
    let mut client = gateway.connect();
    let dropped = eventually(Duration::from_secs(60), || {
        client.stream.write_all(refused.as_bytes()).expect("it reads on");
        for _ in 0..100 {
            assert_eq!(client.answer().expect("it answers on").status(), 401);
        }
        gateway.metric("ringway_records_dropped_total", "") > 0.0
    });
    std::fs::remove_file(&fifo).expect("the fifo is ours");
    assert!(dropped, "no line was dropped, so some must wait without a bound");
}
