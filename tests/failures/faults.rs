//! Faults: backends that die, clients that leave, processes that must end, machines that refuse.
#![allow(clippy::print_stdout)] // which of two allowed outcomes was seen

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::client::{Client, End};
use support::gateway::{Config, Gateway, K1, K2, free_port};
use support::origin::{Next, Origin, Talk};
use support::sse::{self, Ending, content, judge};
use support::{J, PATIENCE, ask, case_request, chat, eventually};

const ASK: &str = r#"{"model":"m","messages":[],"stream":true}"#;
const QUIET: &str = "health = { enabled = false }";

fn two(bad: u16, good: u16) -> Config {
    Config::new()
        .backend("bad", bad, QUIET)
        .backend("good", good, QUIET)
        .model("m", &["bad", "good"], "")
        .key("one", K1, "")
}

#[test]
fn f_01_a_refused_connection_goes_to_the_next_backend() {
    let good = Origin::start();
    let gateway = Gateway::start(&two(free_port(), good.port));
    for turn in 0..20 {
        let nonce = format!("turn-{turn}");
        let answer = ask(&gateway, J, &nonce);
        assert!(answer.status() == 200 && answer.text().contains(&nonce), "{answer:?}");
    }
    let moved = gateway.metric("ringway_retries_failover_total", "");
    assert!(moved >= 1.0, "{moved} requests went to the other backend");
}

#[test]
fn f_02_a_connection_that_hangs_goes_to_the_next_backend() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("binds");
    socket.listen(0).expect("listens");
    let port = socket.local_addr().expect("an address").as_socket().expect("an IP address").port();
    // Fill the backlog: from here on, SYNs are dropped.
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut held = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        held.push(stream);
        assert!(held.len() < 64, "the backlog never fills");
    }
    let good = Origin::start();
    let gateway = Gateway::start(&two(port, good.port).tables("[timeouts]\nconnect = \"300ms\""));
    for turn in 0..6 {
        assert_eq!(ask(&gateway, J, &format!("turn-{turn}")).status(), 200);
    }
}

#[test]
fn f_03_a_backend_that_dies_before_its_head_is_a_502_and_not_tried_again() {
    let origin = Origin::scripted(|_| Next::Close);
    let gateway = Gateway::start(&Config::simple(origin.port));
    assert_eq!(ask(&gateway, J, "dead").status(), 502);
    assert_eq!(origin.with_nonce("dead").len(), 1);
}

#[test]
fn f_04_a_kept_connection_that_dies_is_replaced_unseen() {
    let origin = Origin::scripted(|talk| match talk.index {
        0 => talk.answer("200 OK", "", &support::origin::completion(&talk.nonce())),
        // The second request on a connection finds it closed.
        _ => Next::Close,
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let mut client = gateway.connect();
    for turn in 0..20 {
        let nonce = format!("turn-{turn}");
        client.send(&chat(K1, &nonce, J));
        let answer = client.answer().expect("an answer");
        assert!(answer.status() == 200 && answer.text().contains(&nonce), "{answer:?}");
        assert!(origin.with_nonce(&nonce).len() <= 2);
    }
}

#[test]
fn f_05_a_stream_that_dies_after_its_head_is_never_an_empty_success() {
    let until_close = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let ways = [until_close, chunked].into_iter().flat_map(|head| [(head, Next::Close), (head, Next::Reset)]);
    for (head, next) in ways {
        let origin = Origin::scripted(move |talk| {
            talk.send(head);
            talk.pause(Duration::from_millis(20));
            next
        });
        let gateway = Gateway::start(&Config::simple(origin.port));
        let mut client = gateway.connect();
        client.send(&chat(K1, "x", ASK));
        let outcome = client.finish(&[], Duration::from_secs(2));
        match outcome.answers.first().or(outcome.cut.as_ref()) {
            Some(answer) if answer.status() == 200 => {
                assert!(matches!(judge(&answer.text()).1, Ending::Failed(_)), "{head} {next:?}: {answer:?}");
            }
            Some(answer) => assert_eq!(answer.status(), 502, "{head} {next:?}: {answer:?}"),
            None => assert_ne!(outcome.end, End::Open, "{head} {next:?}"),
        }
    }
}

/// Where, and how, a stream dies: FIN or RST, at a boundary, within an event, within a chunk's size line.
#[test]
fn f_06_a_stream_that_dies_says_so() {
    let origin = Origin::start();
    let gateway = Gateway::start(&Config::simple(origin.port));
    for next in [Next::Close, Next::Reset] {
        for place in ["boundary", "event", "size"] {
            let case = format!("{place}-{next:?}");
            origin.case(&case, move |talk| {
                talk.stream();
                for index in 0..5 {
                    talk.chunk(content(&format!("e{index}")));
                }
                // What has been read must not be lost to a reset that overtakes it.
                talk.pause(Duration::from_millis(50));
                match place {
                    "event" => {
                        let _ = talk.chunk(&content("lost")[..40]);
                    }
                    "size" => {
                        let _ = talk.send("1");
                    }
                    _ => {}
                }
                talk.pause(Duration::from_millis(20));
                next
            });
            for _ in 0..5 {
                let mut client = gateway.connect();
                client.send(&case_request(K1, &case, ASK));
                let answer = client.answer().unwrap_or_else(|error| panic!("{case}: {error}"));
                let (text, ending) = judge(&answer.text());
                assert_eq!(text, "e0e1e2e3e4", "{case}");
                assert_eq!(ending, Ending::Failed("backend_stream_truncated".into()), "{case}: {answer:?}");
                // The gateway is whole: the connection may serve the next request, or is closed cleanly.
                client.send(&chat(K1, "after", J));
                let after = client.answer();
                assert!(after.is_ok() || client.end() != End::Open, "{case}: {after:?}");
            }
        }
    }
}

#[test]
fn f_06_within_an_event_too_long_to_hold_the_transport_ends() {
    let origin = Origin::scripted(|talk| {
        talk.stream();
        talk.chunk(content("good"));
        talk.chunk(format!("data: {{\"x\":\"{}", "a".repeat(256 << 10)));
        talk.pause(Duration::from_millis(50));
        Next::Close
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let mut client = gateway.connect();
    client.send(&chat(K1, "x", ASK));
    let outcome = client.finish(&[], PATIENCE);
    assert!(
        outcome.answers.is_empty(),
        "half an event was made to look whole: {:?}",
        outcome.answers[0].start
    );
    let cut = outcome.cut.expect("a cut answer");
    assert!(cut.text().starts_with(&content("good")));
    assert_ne!(outcome.end, End::Open);
}

#[test]
fn f_07_f_08_silence_has_an_end() {
    let origin = Origin::start();
    origin.case("before", |talk| {
        talk.gone(PATIENCE * 2);
        Next::Close
    });
    origin.case("between", |talk| {
        talk.stream();
        talk.chunk(content("a"));
        talk.gone(PATIENCE * 2);
        Next::Close
    });
    origin.case("comments", |talk| {
        talk.stream();
        talk.chunk(content("a"));
        for _ in 0..8 {
            talk.pause(Duration::from_millis(400));
            talk.chunk(": still here\n\n");
        }
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    let config = Config::simple(origin.port)
        .tables("[timeouts]\nconnect = \"500ms\"\nfirst_token = \"1s\"\nbetween_events = \"1s\"");
    let gateway = Gateway::start(&config);
    let one = |case: &str| {
        let mut client = gateway.connect();
        client.send(&case_request(K1, case, ASK));
        client.answer().unwrap_or_else(|error| panic!("{case}: {error}"))
    };
    assert_eq!(one("before").status(), 504);
    let between = one("between");
    assert_eq!(
        judge(&between.text()),
        ("a".into(), Ending::Failed("backend_idle_timeout".into())),
        "{between:?}"
    );
    assert_eq!(judge(&one("comments").text()).1, Ending::Finished);
    assert!(eventually(PATIENCE, || origin.open() <= 1), "connections of timed-out calls are kept");
}

/// Runs a script that waits for the gateway to go, lets the client go at the right moment, and expects the backend
/// to hear of it.
fn leaves(name: &str, body: &str, wait_for: Option<&str>, script: fn(&Talk)) {
    let told = Arc::new(Mutex::new(Vec::<Duration>::new()));
    let into = Arc::clone(&told);
    let reached = Arc::new(AtomicUsize::new(0));
    let arrivals = Arc::clone(&reached);
    let left = Arc::new(Mutex::new(Instant::now()));
    let left_at = Arc::clone(&left);
    let origin = Origin::scripted(move |talk| {
        if talk.nonce().starts_with("canary") || talk.nonce() == "after" {
            return support::origin::echo(talk);
        }
        script(talk);
        arrivals.fetch_add(1, Ordering::SeqCst);
        if talk.gone(PATIENCE) {
            let since = left_at.lock().expect("not poisoned").elapsed();
            into.lock().expect("not poisoned").push(since);
        }
        Next::Close
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    for turn in 0..10 {
        let mut client = gateway.connect();
        client.send(&chat(K1, &format!("{name}-{turn}"), body));
        if let Some(text) = wait_for {
            client.read_until(text);
        }
        assert!(
            eventually(PATIENCE, || reached.load(Ordering::SeqCst) == turn + 1),
            "{name}: not at the backend"
        );
        *left.lock().expect("not poisoned") = Instant::now();
        if turn % 2 == 0 {
            drop(client)
        } else {
            client.reset()
        }
        let heard = eventually(PATIENCE, || told.lock().expect("not poisoned").len() == turn + 1);
        assert!(heard, "{name}, turn {turn}: the backend was not told that the client left");
    }
    println!("{name}: the backend heard after {:?}", told.lock().expect("not poisoned"));
    assert_eq!(ask(&gateway, J, "after").status(), 200);
}

#[test]
fn f_13_who_leaves_before_the_head_stops_the_backend() {
    leaves("stream before head", ASK, None, |_| {});
}

#[test]
fn f_14_who_leaves_before_the_first_token_stops_the_backend() {
    leaves("before token", ASK, None, |talk| {
        let _ = talk.stream();
    });
}

#[test]
fn f_15_who_leaves_in_the_middle_stops_the_backend() {
    leaves("mid-stream", ASK, Some("first"), |talk| {
        talk.stream();
        talk.chunk(content("first"));
    });
}

#[test]
fn f_16_who_leaves_a_plain_call_stops_the_backend() {
    leaves("plain", J, None, |_| {});
    leaves("plain, head sent", J, None, |talk| {
        talk.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{");
    });
}

#[test]
fn f_17_half_closed_clients_are_gone_or_served_as_configured() {
    for gone in [true, false] {
        let heard = Arc::new(AtomicBool::new(false));
        let hears = Arc::clone(&heard);
        let origin = Origin::scripted(move |talk| {
            talk.stream();
            talk.chunk(content("a"));
            if talk.gone(Duration::from_millis(700)) {
                hears.store(true, Ordering::SeqCst);
                return Next::Close;
            }
            talk.chunk(sse::finish());
            talk.chunk(sse::DONE);
            talk.end()
        });
        let config = Config::simple(origin.port).top(&format!("half_close_is_gone = {gone}"));
        let gateway = Gateway::start(&config);
        let mut client = gateway.connect();
        client.send(&chat(K1, "half", ASK));
        client.half_close();
        let outcome = client.finish(&[], PATIENCE);
        if gone {
            // It may have been gone before the backend was asked.
            let stopped = || heard.load(Ordering::SeqCst) || origin.seen().is_empty();
            assert!(eventually(PATIENCE, stopped), "{outcome:?}");
        } else {
            assert_eq!(outcome.answers.len(), 1, "{outcome:?}");
            assert_eq!(judge(&outcome.answers[0].text()).1, Ending::Finished);
            assert!(!heard.load(Ordering::SeqCst));
        }
    }
}

#[test]
fn f_17b_pipelined_bytes_do_not_hide_that_the_client_left() {
    let heard = Arc::new(AtomicBool::new(false));
    let hears = Arc::clone(&heard);
    let origin = Origin::scripted(move |talk| {
        talk.stream();
        talk.chunk(content("a"));
        hears.store(talk.gone(PATIENCE), Ordering::SeqCst);
        Next::Close
    });
    let mut gateway = Gateway::start(&Config::simple(origin.port));
    let mut client = gateway.connect();
    client.send(&chat(K1, "x", ASK));
    client.read_until("a");
    let _ = client.stream.set_write_timeout(Some(Duration::from_millis(200)));
    client.send(&support::models_head(K1).repeat(16384).into_bytes()[..1 << 20]);
    client.reset();
    assert!(eventually(PATIENCE, || heard.load(Ordering::SeqCst)), "the backend was not told");
    gateway.check_alive();
}

#[test]
fn f_18_who_does_not_read_slows_the_backend_and_then_ends() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let ended = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&ended);
    let most = 4 * support::sockets_hold(); // twice what the two connections take unread
    let origin = Origin::scripted(move |talk| {
        if talk.request.json()["stream"] != true {
            return support::origin::echo(talk);
        }
        talk.stream();
        let event = content(&"x".repeat(16 << 10));
        for _ in 0..most / event.len() {
            if !talk.chunk(&event) {
                ends.store(true, Ordering::SeqCst);
                return Next::Close;
            }
            count.fetch_add(event.len(), Ordering::SeqCst);
        }
        talk.end()
    });
    let config = Config::simple(origin.port).tables("[timeouts]\nwrite_stall = \"2s\"");
    let gateway = Gateway::start(&config);
    assert_eq!(ask(&gateway, J, "warm").status(), 200); // the allocator takes its first pages
    let before = gateway.resident();
    let mut client = Client::connect_narrow(gateway.port);
    client.send(&chat(K1, "slow", ASK));
    client.read_until("xxx");
    let mut last = 0;
    // Stops growing well before the end: what is in flight is socket buffers, and little of ours.
    let stopped = eventually(PATIENCE, || {
        std::thread::sleep(Duration::from_millis(200));
        let now = sent.load(Ordering::SeqCst);
        let same = now == last;
        last = now;
        same
    });
    assert!(stopped && last < most / 2, "{last} bytes were taken for a client that does not read");
    let grown = gateway.resident().saturating_sub(before);
    println!("{last} bytes in flight, {grown} of them resident in the gateway");
    // The stream has tens of MiB.
    assert!(grown < 2 << 20, "{grown} bytes held for one slow client");
    assert!(
        eventually(PATIENCE, || ended.load(Ordering::SeqCst)),
        "a stalled client holds the backend for ever"
    );
    assert_eq!(ask(&gateway, J, "other").status(), 200);
}

#[test]
fn f_19_slow_readers_do_not_slow_others() {
    let origin = Origin::start();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    origin.case("flood", move |talk| {
        talk.stream();
        let event = content(&"x".repeat(16 << 10));
        while talk.chunk(&event) && !talk.stopped() {
            count.fetch_add(1, Ordering::SeqCst);
        }
        Next::Close
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let fast = |count: usize| {
        let started = Instant::now();
        let mut client = gateway.connect();
        for turn in 0..count {
            client.send(&chat(K2, &format!("fast-{turn}"), J));
            assert_eq!(client.answer().expect("an answer").status(), 200);
        }
        started.elapsed()
    };
    let before = fast(300);
    let slow: Vec<Client> = (0..60)
        .map(|_| {
            let mut client = Client::connect_narrow(gateway.port);
            client.send(&case_request(K1, "flood", ASK));
            client
        })
        .collect();
    // Until the sockets are full: from then on the slow ones wait.
    let mut last = 0;
    eventually(Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut last, sent.load(Ordering::SeqCst)) == sent.load(Ordering::SeqCst)
    });
    println!("{} MiB in flight to {} readers", last / 64, slow.len());
    let during = fast(300);
    println!("300 requests took {before:?} alone and {during:?} beside {} stalled readers", slow.len());
    assert!(during < before * 10 + Duration::from_secs(2), "{during:?} instead of {before:?}");
}

#[test]
fn f_46_a_storm_of_leaving_clients_leaves_nothing_behind() {
    let origin = Origin::scripted(|talk| {
        if talk.nonce() == "after" {
            return support::origin::echo(talk);
        }
        talk.stream();
        talk.chunk(content("a"));
        talk.gone(PATIENCE * 2);
        Next::Close
    });
    let mut gateway = Gateway::start(&Config::simple(origin.port));
    assert_eq!(ask(&gateway, J, "after").status(), 200);
    let baseline = gateway.descriptors();
    for round in 0..20 {
        let mut clients: Vec<Client> = (0..200).map(|_| gateway.connect()).collect();
        for client in &mut clients {
            client.send(&chat(K1, "storm", ASK));
        }
        // Some have their head, some do not, some are only connected.
        for client in clients.iter_mut().step_by(3) {
            client.read_until("\"a\"");
        }
        for client in clients {
            client.reset();
        }
        let back = eventually(PATIENCE, || gateway.descriptors() <= baseline + 8);
        assert!(back, "round {round}: {} descriptors, {baseline} before", gateway.descriptors());
    }
    assert!(eventually(PATIENCE, || origin.open() <= 8), "{} connections to the origin", origin.open());
    assert_eq!(ask(&gateway, J, "after").status(), 200);
    gateway.check_alive();
}
