//! Faults of what is around the process: names that move, a clock that jumps, ports that run out.
//!
//! Some want namespaces of their own, which only root may make on many machines; elsewhere they say that they were skipped.
#![allow(clippy::print_stdout)] // why a test was skipped

use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sched::{CloneFlags, unshare};
use support::client::Client;
use support::folder::Folder;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Origin, completion};
use support::sse::{self, Ending, content, judge};
use support::{J, PATIENCE, ask, chat, eventually};

const ASK: &str = r#"{"model":"m","messages":[],"stream":true}"#;
const QUIET: &str = "health = { enabled = false }";

/// Whether a command ends well.
fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).status().is_ok_and(|status| status.success())
}

/// Runs `test` on a thread that has a namespace of its own, and so has whatever it starts.
fn apart(kind: CloneFlags, test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || match unshare(kind) {
        Ok(()) => test(),
        Err(error) => println!("skipped: no namespace of its own: {error}"),
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What the server of names answers.
#[derive(Clone, Copy)]
enum Names {
    /// One address.
    At([u8; 4]),
    /// The name has no address.
    Nothing,
    /// There is no such name.
    Unknown,
    /// Nothing, ever.
    Silence,
}

/// A server of names for this thread and what it starts, which needs namespaces of its own for files and network.
struct NameServer(Arc<Mutex<Names>>);

impl NameServer {
    fn start(folder: &Path, names: Names) -> Self {
        let (hosts, resolv) = (folder.join("hosts"), folder.join("resolv.conf"));
        fs::write(&hosts, "").expect("a file");
        fs::write(&resolv, "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n").expect("a file");
        assert!(runs("mount", &["--make-rprivate", "/"]));
        for (ours, theirs) in [(&hosts, "/etc/hosts"), (&resolv, "/etc/resolv.conf")] {
            assert!(runs("mount", &["--bind", ours.to_str().expect("a name in UTF-8"), theirs]));
        }
        let (names, socket) =
            (Arc::new(Mutex::new(names)), UdpSocket::bind("127.0.0.1:53").expect("its port"));
        let answers = Arc::clone(&names);
        // It ends with the test's process: nobody else is in this network.
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((bytes, asker)) = socket.recv_from(&mut question) {
                let names = *answers.lock().expect("not poisoned");
                if let Some(answer) = answer(&question[..bytes], names) {
                    let _ = socket.send_to(&answer, asker); // who has gone hears nothing
                }
            }
        });
        Self(names)
    }

    fn set(&self, names: Names) {
        *self.0.lock().expect("not poisoned") = names;
    }
}

/// The answer to a question of one name (RFC 1035 section 4).
fn answer(question: &[u8], names: Names) -> Option<Vec<u8>> {
    let end = 12 + question.get(12..)?.iter().position(|byte| *byte == 0)? + 5; // behind its type and class
    let wants_v4 = question.get(end - 4..end - 2)? == [0, 1];
    let (code, address) = match names {
        Names::At(address) => (0, wants_v4.then_some(address)),
        Names::Nothing => (0, None),
        Names::Unknown => (3, None),
        Names::Silence => return None,
    };
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    answer.extend(&question[12..end]);
    if let Some(address) = address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address);
    }
    Some(answer)
}

/// A network of one's own has a loopback, but it is down.
fn raise_loopback() {
    const UP: &str = "import fcntl, socket, struct\n\
        fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 0x41))";
    assert!(runs("python3", &["-c", UP]));
}

/// What the origins of [`two_places`] answer.
const FIRST: &str = "{\"from\":\"first\"}";
const SECOND: &str = "{\"from\":\"second\"}";

/// The same port on two addresses, each with an origin that says which it is.
fn two_places() -> (Origin, Origin, u16) {
    for _ in 0..100 {
        let first = TcpListener::bind("127.0.0.2:0").expect("loopback");
        let port = first.local_addr().expect("an address").port();
        if let Ok(second) = TcpListener::bind(("127.0.0.3", port)) {
            let says =
                |word: &'static str| move |talk: &mut support::origin::Talk| talk.answer("200 OK", "", word);
            return (Origin::on(first, says(FIRST)), Origin::on(second, says(SECOND)), port);
        }
    }
    panic!("no port is free on both addresses");
}

fn named(port: u16) -> Config {
    Config::new()
        .tables(&format!(
            "[dns]\ninterval = \"100ms\"\n[backend.b1]\nurl = \"http://engine.test:{port}\"\n{QUIET}"
        ))
        .model("m", &["b1"], "")
        .key("one", K1, "")
}

#[test]
fn f_31_a_name_that_moves_is_followed_and_one_that_is_gone_stays_where_it_was() {
    apart(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET, || {
        raise_loopback();
        let folder = Folder::new("names");
        let server = NameServer::start(folder.path(), Names::At([127, 0, 0, 2]));
        let (first, _second, port) = two_places();
        let gateway = Gateway::start(&named(port));
        let mut client = gateway.connect();
        let mut answer = || {
            client.send(&chat(K1, "x", J));
            let answer = client.answer().expect("an answer");
            assert_eq!(answer.status(), 200, "{}", answer.text());
            answer.text()
        };
        assert_eq!(answer(), FIRST);

        // Never idle for a second, the old connection would be used for ever.
        server.set(Names::At([127, 0, 0, 3]));
        assert!(eventually(PATIENCE, || answer() == SECOND), "the new address is used");
        assert!(eventually(PATIENCE, || first.open() == 0), "no connection to the old one is kept");

        for names in [Names::Unknown, Names::Nothing] {
            server.set(names);
            let failures = || gateway.metric("ringway_resolve_failures_total", "");
            let before = failures();
            assert!(eventually(PATIENCE, || failures() > before + 1.5), "the name is asked for, in vain");
            assert_eq!(answer(), SECOND, "the last good address stands");
        }
    });
}

#[test]
fn f_31_a_resolver_that_hangs_holds_up_nobody() {
    apart(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET, || {
        raise_loopback();
        let folder = Folder::new("silence");
        let server = NameServer::start(folder.path(), Names::At([127, 0, 0, 2]));
        let (_first, _second, port) = two_places();
        let gateway = Gateway::start(&named(port));
        assert_eq!(ask(&gateway, J, "x").text(), FIRST);

        server.set(Names::Silence);
        let failures = || gateway.metric("ringway_resolve_failures_total", "");
        let before = failures();
        let hung = || {
            assert_eq!(ask(&gateway, J, "x").text(), FIRST, "while the resolver hangs");
            failures() > before + 0.5
        };
        assert!(eventually(Duration::from_secs(30), hung), "in the end it is given up");
        server.set(Names::At([127, 0, 0, 3]));
        assert!(eventually(PATIENCE, || ask(&gateway, J, "x").text() == SECOND), "and asked again");
    });
}

/// A library that adds the seconds written in a file to the wall clock of the program it is loaded into.
fn jumping_clock(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let (source, library, seconds) =
        (folder.join("clock.c"), folder.join("clock.so"), folder.join("seconds"));
    fs::write(&source, CLOCK.replace("SECONDS_FILE", seconds.to_str()?)).ok()?;
    fs::write(&seconds, "0").ok()?;
    runs("cc", &["-shared", "-fPIC", "-O1", "-o", library.to_str()?, source.to_str()?, "-ldl"])
        .then_some((library, seconds))
}

const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) {
        char text[32] = {0};
        int file = open("SECONDS_FILE", O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            if (read(file, text, sizeof text - 1) > 0)
                now->tv_sec += atol(text);
            close(file);
        }
    }
    return result;
}
"#;

fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

#[test]
fn f_40_a_wall_clock_that_jumps_moves_no_limit_and_no_deadline() {
    let folder = Folder::new("clock");
    let Some((library, seconds)) = jumping_clock(folder.path()) else {
        return println!("skipped: no C compiler");
    };
    let log = folder.path().join("access.jsonl");
    let (release, origin) = (Arc::new(AtomicBool::new(false)), Origin::start());
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
    let limited = "rw-test-key-limited-0123456789abcdef";
    let config = Config::simple(origin.port)
        .key("limited", limited, "requests_per_minute = 1\nrequests_burst = 2")
        .tables(&format!("[access_log]\npath = \"{}\"", log.display()))
        .variable("LD_PRELOAD", library.to_str().expect("a name in UTF-8"));
    let gateway = Gateway::start(&config);
    let mut held = gateway.connect();
    held.send(&chat(K1, "held", ASK));
    held.read_until("\"a\"");
    let mut kept = gateway.connect();
    let mut send = |key: &str| {
        // A refused request ends its connection.
        let mut anew = gateway.connect();
        let client = if key == K1 { &mut kept } else { &mut anew };
        client.send(&chat(key, "x", J));
        client.answer().expect("an answer").status()
    };
    assert_eq!([send(limited), send(limited), send(limited)], [200, 200, 429]);
    let hour = 3_600_i64;
    for jump in [hour, -hour, 24 * hour, -24 * hour, -1, 0] {
        fs::write(&seconds, jump.to_string()).expect("the same file");
        let jumped = || {
            let date = ask(&gateway, J, "date").one("date").to_owned();
            let date = httpdate::parse_http_date(&date).expect("a date").duration_since(UNIX_EPOCH);
            let told = date.expect("after 1970").as_secs() as i64 - unix_seconds();
            (told - jump).abs() <= 2
        };
        assert!(eventually(PATIENCE, jumped), "{jump} s: the clock is seen to jump");
        assert_eq!(send(limited), 429, "{jump} s: the bucket is as empty as before");
        assert_eq!(send(K1), 200, "{jump} s: the kept connection is still there");
    }
    release.store(true, Ordering::SeqCst);
    assert_eq!(judge(&held.answer().expect("the rest").text()), ("a".into(), Ending::Finished));
    let logged = || fs::read_to_string(&log).unwrap_or_default();
    assert!(eventually(PATIENCE, || logged().matches("\"stream\":true").count() == 1), "{}", logged());
    for line in logged().lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let took = line["duration_ms"].as_f64().expect("a number");
        assert!((0.0..120_000.0).contains(&took), "durations know nothing of it: {line}");
    }
}

#[test]
fn f_50_without_a_free_port_a_request_is_refused_quickly_and_the_core_rests() {
    apart(CloneFlags::CLONE_NEWNET, || {
        raise_loopback();
        let release = Arc::new(AtomicBool::new(false));
        let released = Arc::clone(&release);
        let origin = Origin::scripted(move |talk| {
            talk.wait_for(&released);
            support::origin::echo(talk)
        });
        let gateway = Gateway::start(&Config::simple(origin.port).shards("count = 1"));
        // Its own clients come from elsewhere; from 127.0.0.1 to the origin there are eight ports.
        let mut clients: Vec<Client> = (0..16).map(|_| gateway.connect()).collect();
        File::create("/proc/sys/net/ipv4/ip_local_port_range")
            .and_then(|mut range| range.write_all(b"61000 61007"))
            .expect("a range of our own");
        for (turn, client) in clients.iter_mut().enumerate() {
            client.send(&chat(K1, &format!("n{turn}"), J));
            if turn < 8 {
                assert!(eventually(PATIENCE, || origin.open() == turn + 1), "{turn} are with the backend");
            }
        }
        let (with_backend, without) = clients.split_at_mut(8);
        let started = Instant::now();
        for client in without.iter_mut() {
            let answer = client.answer().expect("an answer");
            assert_eq!(
                (answer.status(), answer.one("retry-after")),
                (503, "1".to_owned()),
                "{}",
                answer.text()
            );
            assert!(answer.text().contains("out_of_sockets"), "{}", answer.text());
        }
        assert!(started.elapsed() < PATIENCE, "nobody waits for a port");
        let (cpu, wait) = (gateway.cpu(), Duration::from_millis(1_000));
        std::thread::sleep(wait);
        let spent = gateway.cpu() - cpu;
        assert!(spent < wait / 4, "{spent:?} of {wait:?} without work to do");
        release.store(true, Ordering::SeqCst);
        for (turn, client) in with_backend.iter_mut().enumerate() {
            let answer = client.answer().expect("an answer");
            assert_eq!((answer.status(), answer.text()), (200, completion(&format!("n{turn}"))));
        }
        for client in without {
            client.send(&chat(K1, "again", J));
            assert_eq!(client.answer().expect("an answer").status(), 200, "kept connections need no port");
        }
    });
}
