//! A new process takes the place of an old one: nobody who connects is refused or reset, and what runs ends where it
//! began.
#![allow(clippy::print_stdout)] // how many requests there were

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use support::client::Client;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Origin, completion};
use support::sse::{self, Ending, content, judge};
use support::{J, PATIENCE, chat, eventually};

const ASK: &str = r#"{"model":"m","messages":[],"stream":true}"#;

/// The process that answers on the admin listener.
fn started(gateway: &Gateway) -> f64 {
    gateway.metric("process_start_time_seconds", "")
}

fn upgrade(gateway: &mut Gateway) {
    let (code, said) = gateway.to_admin("POST", "/upgrade").expect("an answer");
    assert_eq!(code, 200, "{said}\n{}", gateway.said());
    let answer: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    gateway.follow(answer["pid"].as_u64().expect("a process number") as u32);
}

/// Of its own memory; none where the machine has no huge pages for anybody.
fn huge_kib(gateway: &Gateway) -> u64 {
    let smaps =
        std::fs::read_to_string(format!("/proc/{}/smaps_rollup", gateway.pid())).expect("a running process");
    let line =
        smaps.lines().find_map(|line| line.strip_prefix("AnonHugePages:")).expect("a line of huge pages");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn the_next_process_begins_with_huge_pages_like_the_first() {
    let origin = Origin::start();
    let mut gateway = Gateway::start(&Config::simple(origin.port).shards("count = 2"));
    let first = huge_kib(&gateway);
    upgrade(&mut gateway);
    let next = huge_kib(&gateway);
    assert!(next * 2 >= first, "{next} KiB, and {first} before");
}

#[test]
fn f_30_upgrades_refuse_nobody_and_reset_nobody() {
    let origin = Origin::start();
    let mut gateway = Gateway::start(&Config::simple(origin.port).shards("count = 2"));
    let port = gateway.port;
    let (over, served) = (AtomicBool::new(false), AtomicU64::new(0));
    let upgrades = if support::is_campaign() { 100 } else { 25 };
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (over, served) = (&over, &served);
            scope.spawn(move || {
                // Half of them connect anew for every request, half keep their connection as long as they are let.
                let keeps = worker % 2 == 0;
                let mut client = Client::connect(port);
                let mut turn = 0;
                while !over.load(Ordering::SeqCst) {
                    let nonce = format!("w{worker}-{turn}");
                    client.send(&chat(K1, &nonce, J));
                    let answer = client.answer().unwrap_or_else(|error| panic!("{nonce}: {error}"));
                    assert_eq!((answer.status(), answer.text()), (200, completion(&nonce)));
                    if !keeps || answer.one("connection") == "close" {
                        client = Client::connect(port);
                    }
                    served.fetch_add(1, Ordering::SeqCst);
                    turn += 1;
                }
            });
        }
        for _ in 0..upgrades {
            let before = served.load(Ordering::SeqCst);
            upgrade(&mut gateway);
            assert!(eventually(PATIENCE, || served.load(Ordering::SeqCst) > before + 20), "the load goes on");
        }
        over.store(true, Ordering::SeqCst);
    });
    println!("{upgrades} upgrades, {} requests served", served.load(Ordering::SeqCst));
    let told = || gateway.said().matches("serves from now on").count() == upgrades;
    assert!(eventually(PATIENCE, told), "{}", gateway.said());
}

#[test]
fn f_30_streams_end_in_the_process_they_began_in() {
    let release = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&release);
    let origin = Origin::scripted(move |talk| {
        if talk.request.json()["stream"] != true {
            return support::origin::echo(talk);
        }
        talk.stream();
        talk.chunk(content("a"));
        talk.wait_for(&released);
        talk.chunk(content("b"));
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    let mut gateway = Gateway::start(&Config::simple(origin.port));
    let mut streams: Vec<Client> = (0..20).map(|_| gateway.connect()).collect();
    for client in &mut streams {
        client.send(&chat(K1, "held", ASK));
        client.read_until("\"a\"");
    }
    let first = started(&gateway);
    std::thread::sleep(Duration::from_millis(1_100)); // starts are told in seconds
    upgrade(&mut gateway);
    assert!(eventually(PATIENCE, || started(&gateway) > first), "the new process has the admin listener");
    for turn in 0..20 {
        assert_eq!(support::ask(&gateway, J, &format!("turn-{turn}")).status(), 200);
    }
    release.store(true, Ordering::SeqCst);
    for client in &mut streams {
        assert_eq!(judge(&client.answer().expect("the rest").text()), ("ab".into(), Ending::Finished));
    }
    assert!(eventually(PATIENCE, || gateway.first_has_ended()), "the old process ends with its last stream");
}

#[test]
fn the_commands_ask_the_gateway_that_runs() {
    let origin = Origin::start();
    let mut gateway = Gateway::start(&Config::simple(origin.port));
    let (code, said) = gateway.command("reload");
    assert!(code == Some(0) && said.contains("\"generation\":2"), "{said}");
    let (code, said) = gateway.command("upgrade");
    let answer: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{code:?} {said}"));
    gateway.follow(answer["pid"].as_u64().expect("a process number") as u32);
    assert_eq!(support::ask(&gateway, J, "after").status(), 200);
    gateway.rewrite_text("listen = ");
    let (code, said) = gateway.command("reload");
    assert!(code == Some(1) && said.contains("ringway.toml:1:"), "{code:?} {said}");
}

#[test]
fn f_30_a_program_that_does_not_start_changes_nothing() {
    let origin = Origin::start();
    let config = Config::simple(origin.port);
    let gateway = Gateway::start(&config);
    gateway.rewrite_text("this is no configuration");
    let (code, said) = gateway.to_admin("POST", "/upgrade").expect("an answer");
    assert!(code == 422 && said.contains("does not serve"), "{code} {said}");
    assert!(eventually(PATIENCE, || gateway.said().contains("not replaced")), "{}", gateway.said());
    for turn in 0..20 {
        assert_eq!(support::ask(&gateway, J, &format!("turn-{turn}")).status(), 200);
    }
    gateway.rewrite(&config);
    assert_eq!(gateway.reload().0, 200, "and it may still be told another configuration");
}
