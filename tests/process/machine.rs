//! Faults of the process and its machine: signals, descriptors, rings, panics.

#![allow(clippy::print_stdout)] // which of two allowed outcomes was seen

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::client::Client;
use support::gateway::{Config, Gateway, K1, Wrapper};
use support::origin::{Next, Origin};
use support::sse::{self, Ending, content, judge};
use support::{J, PATIENCE, ask, case_request, chat, chat_head, eventually};

const ASK: &str = r#"{"model":"m","messages":[],"stream":true}"#;

#[test]
fn f_28_sigterm_lets_streams_finish_and_exits_0() {
    let release = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&release);
    let origin = Origin::scripted(move |talk| {
        if talk.nonce() == "late" {
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
    let mut clients: Vec<Client> = (0..100).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send(&chat(K1, "drain", ASK));
    }
    for client in &mut clients {
        client.read_until("\"a\"");
    }
    gateway.signal("TERM");
    let unready =
        eventually(PATIENCE, || gateway.ask_admin("/readyz").is_none_or(|(status, _)| status == 503));
    assert!(unready, "still ready after SIGTERM");
    let refused = eventually(PATIENCE, || match Client::try_connect(gateway.port) {
        Err(_) => true,
        Ok(mut client) => {
            client.send(&chat(K1, "late", J));
            client.answer().map_or(true, |answer| answer.status() == 503)
        }
    });
    assert!(refused, "new requests are taken while draining");
    assert!(gateway.ended().is_none(), "it ended with streams running");
    release.store(true, Ordering::SeqCst);
    for client in &mut clients {
        let answer = client.answer().expect("the rest of the stream");
        assert_eq!(judge(&answer.text()), ("ab".to_owned(), Ending::Finished));
    }
    let status = gateway.wait(PATIENCE).expect("it ends once the streams have");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn f_28_the_drain_limit_ends_the_rest_with_an_error() {
    let origin = Origin::scripted(|talk| {
        talk.stream();
        talk.chunk(content("a"));
        talk.gone(PATIENCE * 2);
        Next::Close
    });
    let mut gateway = Gateway::start(&Config::simple(origin.port).tables("[timeouts]\ndrain = \"1s\""));
    let mut clients: Vec<Client> = (0..20).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send(&chat(K1, "drain", ASK));
        client.read_until("\"a\"");
    }
    gateway.signal("TERM");
    for client in clients {
        let outcome = client.finish(&[], PATIENCE);
        let answer = outcome.answers.first().unwrap_or_else(|| panic!("{outcome:?}"));
        let (text, ending) = judge(&answer.text());
        assert_eq!(text, "a");
        assert!(matches!(ending, Ending::Failed(_)), "{answer:?}");
    }
    assert_eq!(gateway.wait(PATIENCE).and_then(|status| status.code()), Some(0));
}

#[test]
fn f_29_a_second_signal_does_not_wait() {
    let origin = Origin::scripted(|talk| {
        talk.stream();
        talk.chunk(content("a"));
        talk.gone(PATIENCE * 2);
        Next::Close
    });
    let mut gateway = Gateway::start(&Config::simple(origin.port).tables("[timeouts]\ndrain = \"60s\""));
    let mut client = gateway.connect();
    client.send(&chat(K1, "drain", ASK));
    client.read_until("\"a\"");
    gateway.signal("TERM");
    assert!(eventually(PATIENCE, || gateway.ask_admin("/readyz").is_none_or(|(status, _)| status == 503)));
    gateway.signal("TERM");
    assert!(gateway.wait(PATIENCE).is_some(), "the second signal was not heard");
}

#[test]
fn f_36_running_out_of_descriptors_neither_spins_nor_kills() {
    let origin = Origin::start();
    let config = Config::simple(origin.port).shards("count = 1");
    let mut gateway = Gateway::start_in(&config, Wrapper::OpenFiles(128));
    let mut held = Vec::new();
    for _ in 0..400 {
        // The kernel's backlog takes what the gateway cannot.
        let Ok(client) = Client::try_connect(gateway.port) else { break };
        held.push(client);
    }
    let before = gateway.cpu();
    std::thread::sleep(Duration::from_secs(2));
    let spent = gateway.cpu() - before;
    println!(
        "{} connections held, {} descriptors, {spent:?} of CPU in 2 s",
        held.len(),
        gateway.descriptors()
    );
    assert!(spent < Duration::from_millis(600), "{spent:?} of CPU with no descriptors left");
    gateway.check_alive();
    drop(held);
    let recovered = eventually(PATIENCE, || {
        let Ok(mut client) = Client::try_connect(gateway.port) else { return false };
        client.send(&chat(K1, "again", J));
        client.answer().is_ok_and(|answer| answer.status() == 200)
    });
    assert!(recovered, "it does not recover by itself");
}

/// Found on sixteen cores: a runtime that has no descriptor left for itself panics.
#[test]
fn f_36_too_few_descriptors_to_start_with_are_told() {
    let config = Config::simple(Origin::start().port);
    let said = Gateway::try_start(&config, Wrapper::OpenFiles(64)).err().expect("it does not start");
    assert!(said.contains("may open 64 files") && said.contains("LimitNOFILE"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

fn has_strace() -> bool {
    let found = std::process::Command::new("strace").arg("-V").output().is_ok();
    if !found {
        println!("skipped: no strace on this machine");
    }
    found
}

fn streams_work(gateway: &Gateway) {
    let mut client = gateway.connect();
    for turn in 0..5 {
        client.send(&chat(K1, &format!("turn-{turn}"), ASK));
        let answer = client.answer().expect("an answer");
        assert_eq!(judge(&answer.text()).1, Ending::Finished);
    }
}

#[test]
fn f_37_without_io_uring_epoll_serves() {
    let origin = Origin::start();
    let gateway = Gateway::start(&Config::simple(origin.port).top("driver = \"epoll\""));
    streams_work(&gateway);
    assert!(gateway.said().contains("epoll"), "the driver is not named: {}", gateway.said());
    if has_strace() {
        for error in ["EPERM", "ENOSYS"] {
            let config = Config::simple(origin.port).top("driver = \"auto\"");
            let gateway = Gateway::start_in(&config, Wrapper::RingRefused(error, 1));
            streams_work(&gateway);
            assert!(gateway.said().contains("epoll"), "{error}: the driver is not named: {}", gateway.said());
        }
    }
}

#[test]
fn f_38_a_ring_that_cannot_be_built_ends_in_epoll() {
    if has_strace() {
        for from in [1, 2, 3] {
            let origin = Origin::start();
            let config = Config::simple(origin.port).top("driver = \"auto\"");
            let gateway = Gateway::start_in(&config, Wrapper::RingRefused("ENOMEM", from));
            streams_work(&gateway);
        }
    }
}

#[test]
fn f_38_a_tiny_ring_carries_a_thousand_streams() {
    let release = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&release);
    let origin = Origin::scripted(move |talk| {
        talk.stream();
        talk.chunk(content("a"));
        talk.wait_for(&released);
        for index in 0..20 {
            talk.chunk(content(&format!("{index}.")));
        }
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    let config =
        Config::simple(origin.port).shards("ring_entries = 64").tables("[timeouts]\nbackend_idle = \"1s\"");
    let mut gateway = Gateway::start(&config);
    let started = Instant::now();
    let mut clients: Vec<Client> = (0..1000).map(|_| gateway.connect()).collect();
    println!("connected after {:?}", started.elapsed());
    for client in &mut clients {
        client.send(&chat(K1, "tiny", ASK));
    }
    for client in &mut clients {
        client.read_until("\"a\"");
    }
    println!("a thousand streams opened after {:?}", started.elapsed());
    release.store(true, Ordering::SeqCst);
    let expected: String =
        std::iter::once("a".to_owned()).chain((0..20).map(|index| format!("{index}."))).collect();
    for client in &mut clients {
        let answer = client.answer_to(false, Duration::from_secs(30)).expect("the whole stream");
        assert_eq!(judge(&answer.text()), (expected.clone(), Ending::Finished));
    }
    println!("and ended after {:?}", started.elapsed());
    gateway.check_alive();
}

/// Needs the failpoint of debug builds: `x-ringway-failpoint: panic`.
#[test]
fn f_44_a_panic_fails_one_exchange_only() {
    let origin = Origin::start();
    let release = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&release);
    origin.case("held", move |talk| {
        talk.stream();
        talk.chunk(content("a"));
        talk.wait_for(&released);
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    let mut gateway = Gateway::start(&Config::simple(origin.port));
    gateway.panics_expected = true;
    let mut streams: Vec<Client> = (0..20).map(|_| gateway.connect()).collect();
    for client in &mut streams {
        client.send(&case_request(K1, "held", ASK));
        client.read_until("\"a\"");
    }
    let threads = gateway.threads();
    for turn in 0..20 {
        let mut client = gateway.connect();
        let head = chat_head(K1, "panic");
        client.send(format!("{head}x-ringway-failpoint: panic\r\nContent-Length: 27\r\n\r\n{J}").as_bytes());
        let answer = client.answer();
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 500), "turn {turn}");
    }
    assert_eq!(gateway.threads(), threads);
    release.store(true, Ordering::SeqCst);
    for client in &mut streams {
        assert_eq!(judge(&client.answer().expect("the rest").text()), ("a".into(), Ending::Finished));
    }
    assert_eq!(ask(&gateway, J, "after").status(), 200);
}
