//! What large bodies cost in memory while a backend takes its time with them.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::sink::{Manner, Sink};
use support::gateway::{Config, Gateway, K1};
use support::tls::{Authority, Tunnel};
use support::{J, ask, chat_head, client, eventually};

const MIB: usize = 1 << 20;
/// Beside the bodies: buffers of connections, of which the kernel counts whole pages, and what the machine adds.
const SLACK: usize = 3 * MIB / 2;
const LONG: Duration = Duration::from_secs(120);

/// A chat request's body of so many bytes, its text different everywhere.
pub(super) fn body_of(bytes: usize) -> Vec<u8> {
    let mut body = br#"{"model":"m","messages":[{"role":"user","content":""#.to_vec();
    let end = br#""}]}"#;
    let mut word = 0x9e37_79b9_7f4a_7c15_u64 ^ bytes as u64;
    while body.len() + end.len() < bytes {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        body.push(b'a' + (word >> 59) as u8 % 26);
    }
    body.extend_from_slice(end);
    body
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    Length,
    /// Chunks of so many bytes.
    Chunks(usize),
}

/// Sends one request on a connection of its own; ends with the status of its answer.
fn send(gateway: &Gateway, body: Arc<Vec<u8>>, framing: Framing) -> JoinHandle<u16> {
    let mut client = gateway.connect();
    let _ = client.stream.set_write_timeout(Some(LONG));
    std::thread::spawn(move || {
        let head = chat_head(K1, "large");
        match framing {
            Framing::Length => {
                client.send(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                client.send(&body);
            }
            Framing::Chunks(bytes) => {
                client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes());
                send_chunks(&mut client.stream, &body, bytes);
            }
        }
        client.answer_to(false, LONG).expect("an answer").status()
    })
}

fn send_chunks(stream: &mut TcpStream, body: &[u8], bytes: usize) {
    let mut all = Vec::with_capacity(body.len() + body.len() / bytes * 16);
    for chunk in body.chunks(bytes) {
        all.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        all.extend_from_slice(chunk);
        all.extend_from_slice(b"\r\n");
    }
    all.extend_from_slice(b"0\r\n\r\n");
    let _ = stream.write_all(&all);
}

/// The most that was resident since [`forget_peak`].
fn peak(gateway: &Gateway) -> usize {
    let kib = gateway.status_line("VmHWM");
    kib.split_whitespace().next().and_then(|kib| kib.parse::<usize>().ok()).expect("a peak") * 1024
}

fn forget_peak(gateway: &Gateway) {
    std::fs::write(format!("/proc/{}/clear_refs", gateway.pid()), "5").expect("the peak can be reset");
}

/// One small exchange per client at once, so that what they always need is there.
fn warm(gateway: &Gateway) {
    for _ in 0..4 {
        assert_eq!(ask(gateway, J, "warm").status(), 200);
    }
}

/// The most bytes that were held for each byte of `count` bodies of `bytes`, all there at once; `there` says when.
fn held(
    gateway: &Gateway,
    (count, bytes): (usize, usize),
    framing: Framing,
    there: impl Fn() -> bool,
    release: impl Fn(),
) -> f64 {
    let body = Arc::new(body_of(bytes));
    let before = gateway.resident_all();
    forget_peak(gateway);
    let clients: Vec<_> = (0..count).map(|_| send(gateway, Arc::clone(&body), framing)).collect();
    assert!(eventually(LONG, there), "{count} x {bytes} never were there");
    let (most, now) = (peak(gateway) - before, gateway.resident_all() - before);
    release();
    for client in clients {
        assert_eq!(client.join().expect("a client"), 200);
    }
    let all = (count * bytes) as f64;
    let each = most.saturating_sub(SLACK) as f64 / all;
    assert!(now <= most, "at rest {now}, at the peak {most}");
    each
}

/// A gateway before backends that answer small requests at once only if `prompt` is among them.
fn gateway_before(sinks: &[&Sink]) -> Gateway {
    let quiet = "health = { enabled = false }";
    let mut config = Config::new().key("one", K1, "").top("[limits]\nbody = \"32MiB\"\nattempts = 4");
    let names: Vec<String> = (0..sinks.len()).map(|index| format!("b{index}")).collect();
    for (name, sink) in names.iter().zip(sinks) {
        config = config.backend(name, sink.port, quiet);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Gateway::start(&config.model("m", &names, "").model("warm", &names, ""))
}

/// A backend that pauses gets all bodies; each is held once.
fn paused(manner: Manner, (count, bytes): (usize, usize), framing: Framing, most: f64) {
    let sink = Sink::start(manner);
    let gateway = gateway_before(&[&sink]);
    let there = || if manner == Manner::Deaf { sink.heads() == count } else { sink.whole() == count };
    let each = held(&gateway, (count, bytes), framing, there, || sink.release());
    assert!(each <= most, "{each:.3} bytes for each byte of {count} x {bytes}, {framing:?}, {manner:?}");
}

#[test]
fn four_large_bodies_are_held_once_while_the_backend_reads_nothing() {
    paused(Manner::Deaf, (4, 25 * MIB), Framing::Length, 1.1);
}

#[test]
fn four_large_bodies_are_held_once_while_the_backend_thinks() {
    paused(Manner::Mute, (4, 25 * MIB), Framing::Length, 1.1);
}

#[test]
fn bodies_of_other_sizes_are_held_once() {
    for (count, bytes) in [(16, MIB), (6, 8 * MIB), (3, 30 * MIB), (5, 17 * MIB + 12_345)] {
        paused(Manner::Deaf, (count, bytes), Framing::Length, 1.1);
    }
}

#[test]
fn bodies_in_chunks_are_held_once_too() {
    paused(Manner::Deaf, (4, 25 * MIB), Framing::Chunks(64 << 10), 1.1);
    paused(Manner::Mute, (3, 9 * MIB), Framing::Chunks(1000), 1.1);
    paused(Manner::Deaf, (8, 2 * MIB), Framing::Chunks(7), 1.5);
    paused(Manner::Deaf, (8, 2 * MIB), Framing::Chunks(1), 1.5);
}

#[test]
fn a_body_is_held_once_while_others_refuse_it() {
    let (busy, early, late) =
        (Sink::start(Manner::Busy), Sink::start(Manner::BusyEarly), Sink::start(Manner::Mute));
    let gateway = gateway_before(&[&busy, &early, &late]);
    let there = || late.whole() == 3;
    let each = held(&gateway, (3, 20 * MIB), Framing::Length, there, || late.release());
    assert!(busy.whole() + early.heads() > 0, "nobody refused");
    assert!(each <= 1.1, "{each:.3} bytes for each byte");
}

#[test]
fn a_body_for_a_secured_backend_is_held_once_too() {
    let (sink, authority) = (Sink::start(Manner::Mute), Authority::new());
    let tunnel = Tunnel::from_tls(sink.port, authority.certify("127.0.0.1").server());
    let more = "ca_file = \"ca.pem\"\nhealth = { enabled = false }";
    let config = Config::new().key("one", K1, "").file("ca.pem", &authority.pem());
    let config = config.tables(&format!("[backend.b1]\nurl = \"https://127.0.0.1:{}\"\n{more}", tunnel.port));
    let gateway = Gateway::start(&config.model("m", &["b1"], ""));
    let there = || sink.whole() == 4;
    let each = held(&gateway, (4, 20 * MIB), Framing::Length, there, || sink.release());
    assert!(each <= 1.1, "{each:.3} bytes for each byte");
}

#[test]
fn rounds_of_large_bodies_leave_nothing_behind() {
    let sink = Sink::start(Manner::Prompt);
    let gateway = gateway_before(&[&sink]);
    warm(&gateway);
    let body = Arc::new(body_of(25 * MIB));
    let before = gateway.resident_all();
    for round in 0..5 {
        let framing = if round % 2 == 0 { Framing::Length } else { Framing::Chunks(30_000) };
        let clients: Vec<_> = (0..4).map(|_| send(&gateway, Arc::clone(&body), framing)).collect();
        for client in clients {
            assert_eq!(client.join().expect("a client"), 200);
        }
        let given_back = eventually(LONG, || gateway.resident_all() <= before + 2 * SLACK);
        assert!(given_back, "round {round}: {} MiB more", (gateway.resident_all() - before) / MIB);
    }
}

#[test]
fn a_promise_of_a_large_body_costs_nothing() {
    let sink = Sink::start(Manner::Prompt);
    let gateway = gateway_before(&[&sink]);
    warm(&gateway);
    let before = gateway.resident_all();
    let head = format!("{}Content-Length: {}\r\n\r\n", chat_head(K1, "promise"), 30 * MIB);
    let mut clients: Vec<client::Client> = (0..20).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send(head.as_bytes());
        client.send(&body_of(40_000));
    }
    let came = || gateway.metric("ringway_bytes_from_clients_total", "") >= 20.0 * 40_000.0;
    assert!(eventually(LONG, came), "{:?}", gateway.ask_admin("/metrics"));
    let more = gateway.resident_all().saturating_sub(before);
    assert!(more <= 20 * 64 * 1024 + SLACK, "{more} bytes for 20 promises");
}
