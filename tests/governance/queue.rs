//! More requests than the backends may have in flight: who waits, whose turn it is, and when waiting ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use support::client::Client;
use support::gateway::{Config, Gateway, K1, K2};
use support::origin::{Next, Origin, completion};
use support::{J, PATIENCE, chat, eventually};

const ONE_AT_ONCE: &str = "in_flight_max = 1\nhealth = { enabled = false }";
const TWO_AT_ONCE: &str = "in_flight_max = 2\nhealth = { enabled = false }";

/// An origin that takes its time, and notes how many requests it has at once.
struct Slow {
    origin: Origin,
    most: Arc<AtomicUsize>,
}

fn slow(time: Duration) -> Slow {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let own = Arc::clone(&most);
    let origin = Origin::scripted(move |talk| {
        own.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        talk.pause(time);
        now.fetch_sub(1, Ordering::SeqCst);
        support::origin::echo(talk)
    });
    Slow { origin, most }
}

fn config(port: u16, more: &str) -> Config {
    with_slots(port, TWO_AT_ONCE, more)
}

fn with_slots(port: u16, slots: &str, more: &str) -> Config {
    Config::new()
        .backend("b1", port, slots)
        .model("m", &["b1"], "")
        .key("one", K1, "")
        .key("two", K2, "")
        .tables(more)
}

fn send(gateway: &Gateway, key: &str, nonce: &str) -> Client {
    let mut client = gateway.connect();
    client.send(&chat(key, nonce, J));
    client
}

/// As many requests as this wait now.
fn waits(gateway: &Gateway, count: f64) {
    let there = eventually(PATIENCE, || (gateway.metric("ringway_queue_waiting", "") - count).abs() < 0.1);
    assert!(there, "{} wait", gateway.metric("ringway_queue_waiting", ""));
}

#[test]
fn f_20_everybody_is_served_in_turn_and_the_bound_holds_on_every_shard() {
    let slow = slow(Duration::from_millis(15));
    let gateway = Gateway::start(&config(slow.origin.port, "").shards("count = 2"));
    let clients: Vec<_> =
        (0..100).map(|index| (index, send(&gateway, K1, &format!("turn-{index}")))).collect();
    for (index, mut client) in clients {
        let answer = client.answer().unwrap_or_else(|error| panic!("turn-{index}: {error}"));
        assert_eq!(answer.text(), completion(&format!("turn-{index}")));
    }
    assert_eq!(slow.most.load(Ordering::SeqCst), 2, "both slots, and never more");
    assert!(gateway.metric("ringway_queue_entered_total", "") >= 50.0);
    waits(&gateway, 0.0);
}

/// An origin that answers nobody before it is told to.
fn gated() -> (Origin, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let origin = Origin::scripted(move |talk| {
        while !gate.load(Ordering::SeqCst) && !talk.stopped() {
            talk.pause(Duration::from_millis(10));
        }
        support::origin::echo(talk)
    });
    (origin, open)
}

/// With one slot the backend sees requests in the order of their turns.
#[test]
fn keys_take_turns() {
    let (origin, open) = gated();
    let gateway = Gateway::start(&with_slots(origin.port, ONE_AT_ONCE, "").shards("count = 1"));
    let mut clients: Vec<_> = (0..30).map(|index| send(&gateway, K1, &format!("many-{index}"))).collect();
    waits(&gateway, 29.0);
    clients.extend((0..3).map(|index| send(&gateway, K2, &format!("few-{index}"))));
    waits(&gateway, 32.0);
    open.store(true, Ordering::SeqCst);
    for client in &mut clients {
        assert_eq!(client.answer().expect("an answer").status(), 200);
    }
    let order: Vec<String> = origin.seen().iter().map(|seen| seen.nonce()).collect();
    let few: Vec<usize> =
        order.iter().enumerate().filter_map(|(at, nonce)| nonce.starts_with("few").then_some(at)).collect();
    assert_eq!(few, [2, 4, 6], "{order:?}");
}

#[test]
fn a_full_queue_refuses_at_once_and_waiting_has_an_end() {
    let (origin, open) = gated();
    let more = "[limits]\nqueue = 3\n[timeouts]\nqueue_timeout = \"1s\"";
    let gateway = Gateway::start(&config(origin.port, more).shards("count = 2"));
    let mut served: Vec<_> = (0..2).map(|index| send(&gateway, K1, &format!("served-{index}"))).collect();
    assert!(eventually(PATIENCE, || origin.seen().len() == 2));
    let mut waiting: Vec<_> = (0..3).map(|index| send(&gateway, K1, &format!("waiting-{index}"))).collect();
    assert!(eventually(PATIENCE, || gateway.metric("ringway_queue_entered_total", "") >= 3.0));
    let refused = send(&gateway, K1, "refused").answer().expect("an answer");
    assert_eq!(refused.status(), 429, "{refused:?}");
    assert!(!refused.one("retry-after").is_empty());
    for client in &mut waiting {
        let answer = client.answer().expect("an answer");
        assert!(answer.status() == 503 && answer.text().contains("queue_timeout"), "{answer:?}");
        assert!(!answer.one("retry-after").is_empty());
    }
    open.store(true, Ordering::SeqCst);
    for client in &mut served {
        assert_eq!(client.answer().expect("an answer").status(), 200);
    }
    assert_eq!(send(&gateway, K1, "after").answer().expect("an answer").status(), 200);
    assert_eq!(origin.seen().len(), 3, "who was refused never reached the backend");
}

#[test]
fn who_leaves_the_queue_makes_room_and_costs_no_turn() {
    let (origin, open) = gated();
    let gateway = Gateway::start(&config(origin.port, "[limits]\nqueue = 4").shards("count = 1"));
    let mut served: Vec<_> = (0..2).map(|index| send(&gateway, K1, &format!("served-{index}"))).collect();
    assert!(eventually(PATIENCE, || origin.seen().len() == 2));
    let leaving: Vec<_> = (0..4).map(|index| send(&gateway, K1, &format!("leaving-{index}"))).collect();
    waits(&gateway, 4.0);
    drop(leaving);
    waits(&gateway, 0.0);
    let mut late = send(&gateway, K1, "late");
    waits(&gateway, 1.0);
    open.store(true, Ordering::SeqCst);
    for client in served.iter_mut().chain([&mut late]) {
        assert_eq!(client.answer().expect("an answer").status(), 200);
    }
    assert_eq!(origin.seen().len(), 3);
}

#[test]
fn a_full_model_holds_up_no_other() {
    let (slow, quick) = (
        Origin::scripted(|talk| {
            talk.gone(PATIENCE);
            Next::Close
        }),
        Origin::start(),
    );
    let gateway = Gateway::start(
        &config(slow.port, "").shards("count = 1").backend("b2", quick.port, TWO_AT_ONCE).model(
            "quick",
            &["b2"],
            "",
        ),
    );
    let _stuck: Vec<_> = (0..40).map(|index| send(&gateway, K1, &format!("stuck-{index}"))).collect();
    waits(&gateway, 38.0);
    for turn in 0..20 {
        let answer = support::ask(&gateway, r#"{"model":"quick","messages":[]}"#, &format!("quick-{turn}"));
        assert_eq!(answer.status(), 200, "{turn}");
    }
}

/// A model with a fallback does not wait: that is what the fallback is for.
#[test]
fn a_full_model_with_a_fallback_overflows_at_once() {
    let (stuck, spare) = (
        Origin::scripted(|talk| {
            talk.gone(PATIENCE);
            Next::Close
        }),
        Origin::start(),
    );
    let gateway = Gateway::start(
        &Config::new()
            .backend("own", stuck.port, TWO_AT_ONCE)
            .backend("spare", spare.port, "health = { enabled = false }")
            .model("m", &["own"], "fallbacks = [\"cloud\"]")
            .model("cloud", &["spare"], "")
            .key("one", K1, ""),
    );
    let _stuck: Vec<_> = (0..2).map(|index| send(&gateway, K1, &format!("stuck-{index}"))).collect();
    assert!(eventually(PATIENCE, || stuck.seen().len() == 2));
    assert_eq!(support::ask(&gateway, J, "over").status(), 200);
    assert_eq!(stuck.seen().len(), 2);
    assert!(gateway.metric("ringway_fallbacks_total", "") >= 1.0);
}

/// A refusal that is kept to be told holds no slot: the request would wait for one that is its own.
#[test]
fn a_backend_that_failed_is_asked_again_in_its_only_slot() {
    let asked = AtomicUsize::new(0);
    let origin = Origin::scripted(move |talk| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => talk.answer(
            "500 Oops",
            "Content-Type: application/json\r\n",
            "{\"error\":{\"message\":\"once\"}}",
        ),
        _ => support::origin::echo(talk),
    });
    let gateway = Gateway::start(&with_slots(origin.port, ONE_AT_ONCE, "[timeouts]\nretry_wait = \"3s\""));
    let answer = support::ask(&gateway, J, "twice");
    assert_eq!((answer.status(), answer.text()), (200, completion("twice")));
    assert_eq!(origin.seen().len(), 2);
}
