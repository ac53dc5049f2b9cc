//! A second backend is asked for a stream when the first does not begin to respond.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use support::client::Client;
use support::gateway::{Config, Gateway, K1, Wrapper};
use support::origin::{Next, Origin, Talk};
use support::{PATIENCE, chat, eventually};

const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
const HEDGE: &str = "hedge = { after = \"100ms\", factor = 1.0 }";

/// What the backend does that is asked first, and what the one does that is asked second.
struct Script {
    first: fn(&mut Talk, &State) -> Next,
    second: fn(&mut Talk, &State) -> Next,
}

#[derive(Default)]
struct State {
    asked: AtomicUsize,
    /// The first may go on.
    released: AtomicBool,
    /// Requests whose connection the gateway closed.
    cancelled: AtomicUsize,
}

struct Pair {
    gateway: Gateway,
    state: Arc<State>,
    _origins: Vec<Origin>,
}

impl Pair {
    fn start(script: Script, more: &str) -> Self {
        let (state, script) = (Arc::<State>::default(), Arc::new(script));
        let origins: Vec<Origin> = (0..2)
            .map(|_| {
                let (state, script) = (state.clone(), script.clone());
                Origin::scripted(move |talk| match state.asked.fetch_add(1, Ordering::SeqCst) {
                    0 => (script.first)(talk, &state),
                    _ => (script.second)(talk, &state),
                })
            })
            .collect();
        let quiet = "health = { enabled = false }";
        let config = Config::new()
            .top("debug_headers = true")
            .shards("count = 1")
            .backend("b0", origins[0].port, quiet)
            .backend("b1", origins[1].port, quiet)
            .model("m", &["b0", "b1"], more)
            .key("k", K1, "");
        Self { gateway: Gateway::start(&config), state, _origins: origins }
    }

    fn ask(&self, body: &str) -> Client {
        let mut client = self.gateway.connect();
        client.send(&chat(K1, "n", body));
        client
    }

    /// Hedges, and those that won.
    fn counts(&self) -> (f64, f64) {
        let count = |name: &str| self.gateway.metric(name, "");
        (count("ringway_hedges_total"), count("ringway_hedges_won_total"))
    }

    fn check_free(&self) {
        let free = || {
            self.gateway.metric("ringway_backend_in_flight", "") == 0.0
                && self.gateway.metric("ringway_backend_pending_tokens", "") == 0.0
        };
        assert!(eventually(PATIENCE, free), "slots or tokens are still taken");
    }
}

fn stream(talk: &mut Talk, text: &str) -> Next {
    let event = |delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\
             \"delta\":{{{delta}}},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    talk.stream();
    talk.chunk(event(&format!("\"content\":\"{text}\""), "null"));
    talk.chunk(event("", "\"stop\""));
    talk.chunk("data: [DONE]\n\n");
    talk.end()
}

/// Says nothing until it is released or its connection is closed, which is counted.
fn hang(talk: &mut Talk, state: &State) -> Next {
    while !state.released.load(Ordering::SeqCst) && !talk.stopped() {
        if talk.gone(Duration::from_millis(10)) {
            state.cancelled.fetch_add(1, Ordering::SeqCst);
            return Next::Close;
        }
    }
    stream(talk, "first")
}

#[test]
fn the_second_backend_serves_a_stream_that_the_first_does_not_begin() {
    let pair = Pair::start(Script { first: hang, second: |talk, _| stream(talk, "second") }, HEDGE);
    let message = pair.ask(BODY).answer().expect("a stream");
    assert!(message.text().contains("second") && message.text().contains("[DONE]"), "{message:?}");
    assert_eq!(message.one("x-ringway-attempts"), "2");
    assert_eq!(pair.counts(), (1.0, 1.0));
    let cancelled = || pair.state.cancelled.load(Ordering::SeqCst) == 1;
    assert!(eventually(PATIENCE, cancelled), "the first one's connection is closed");
    assert_eq!(pair.gateway.metric("ringway_requests_total", ""), 1.0, "one exchange");
    let of = |backend: &str| pair.gateway.metric("ringway_backend_requests_total", backend);
    assert_eq!(
        of(&format!("\"{}\"", message.one("x-ringway-backend"))),
        1.0,
        "on the account of who served it"
    );
    pair.check_free();
}

#[test]
fn the_first_backend_wins_if_it_begins_before_the_second() {
    let second = |talk: &mut Talk, state: &State| {
        state.released.store(true, Ordering::SeqCst);
        while !talk.stopped() {
            if talk.gone(Duration::from_millis(10)) {
                state.cancelled.fetch_add(1, Ordering::SeqCst);
                break;
            }
        }
        Next::Close
    };
    let pair = Pair::start(Script { first: hang, second }, HEDGE);
    let message = pair.ask(BODY).answer().expect("a stream");
    assert!(message.text().contains("first"), "{message:?}");
    assert_eq!((message.one("x-ringway-attempts"), pair.counts()), ("1".to_owned(), (1.0, 0.0)));
    let cancelled = || pair.state.cancelled.load(Ordering::SeqCst) == 1;
    assert!(eventually(PATIENCE, cancelled), "the second one's connection is closed");
    pair.check_free();
}

#[test]
fn a_second_backend_that_fails_is_no_failure_of_the_request() {
    let refuses = |talk: &mut Talk, state: &State| {
        state.released.store(true, Ordering::SeqCst);
        talk.answer("429 Too Many Requests", "Retry-After: 1\r\n", "{}")
    };
    let breaks = |_: &mut Talk, state: &State| {
        state.released.store(true, Ordering::SeqCst);
        Next::Reset
    };
    for second in [refuses as fn(&mut Talk, &State) -> Next, breaks] {
        let pair = Pair::start(Script { first: hang, second }, HEDGE);
        let message = pair.ask(BODY).answer().expect("a stream");
        assert!(message.status() == 200 && message.text().contains("first"), "{message:?}");
        assert_eq!(pair.counts(), (1.0, 0.0));
        pair.check_free();
    }
}

#[test]
fn a_client_that_leaves_stops_both() {
    let pair = Pair::start(Script { first: hang, second: hang }, HEDGE);
    let client = pair.ask(BODY);
    assert!(eventually(PATIENCE, || pair.state.asked.load(Ordering::SeqCst) == 2), "both are asked");
    client.reset();
    let cancelled = || pair.state.cancelled.load(Ordering::SeqCst) == 2;
    assert!(eventually(PATIENCE, cancelled), "both connections are closed");
    pair.check_free();
}

#[test]
fn both_failing_is_one_failure_and_only_streams_are_hedged() {
    let fails = |talk: &mut Talk, state: &State| {
        state.released.store(true, Ordering::SeqCst);
        talk.answer("500 Internal Server Error", "", "{}")
    };
    let first = |talk: &mut Talk, state: &State| {
        while !state.released.load(Ordering::SeqCst) && !talk.stopped() {
            talk.pause(Duration::from_millis(5));
        }
        talk.answer("500 Internal Server Error", "", "{}")
    };
    let pair = Pair::start(Script { first, second: fails }, HEDGE);
    let message = pair.ask(BODY).answer().expect("a response");
    assert!(message.status() >= 500, "{message:?}");
    pair.check_free();

    let whole = |talk: &mut Talk, _: &State| {
        talk.pause(Duration::from_millis(400));
        talk.answer("200 OK", "", &support::origin::completion("well"))
    };
    let pair = Pair::start(Script { first: whole, second: whole }, HEDGE);
    let body = BODY.replace("true", "false");
    assert_eq!(pair.ask(&body).answer().expect("a response").status(), 200);
    assert_eq!(pair.counts(), (0.0, 0.0), "the time to a whole response says nothing");

    let without = Pair::start(Script { first: whole, second: whole }, "");
    let _ = without.ask(BODY).answer();
    assert_eq!(without.counts(), (0.0, 0.0), "off unless it is configured");
}

#[test]
fn hedges_are_drawn_from_the_retry_budget() {
    let slow = |talk: &mut Talk, state: &State| {
        while !state.released.load(Ordering::SeqCst) && !talk.stopped() {
            talk.pause(Duration::from_millis(5));
        }
        stream(talk, "slow")
    };
    let pair =
        Pair::start(Script { first: slow, second: slow }, "hedge = { after = \"20ms\", factor = 1.0 }");
    let mut clients: Vec<Client> = (0..40).map(|_| pair.ask(BODY)).collect();
    let over = || pair.gateway.metric("ringway_retries_over_budget_total", "") >= 20.0;
    assert!(eventually(PATIENCE, over), "most of them find the budget empty");
    let hedges = pair.counts().0;
    assert!((5.0..=20.0).contains(&hedges), "{hedges} of 40");
    pair.state.released.store(true, Ordering::SeqCst);
    for client in &mut clients {
        assert_eq!(client.answer().expect("a stream").status(), 200);
    }
    pair.check_free();
}

#[test]
fn a_model_with_one_backend_cannot_hedge() {
    for (lines, words) in [
        ("hedge = {}", "has no second backend"),
        ("hedge = { after = \"0s\" }", "hedge.after"),
        ("hedge = { factor = 0.5 }", "hedge.factor"),
    ] {
        let config = Config::new().backend("one", 1, "").model("m", &["one"], lines).key("k", K1, "");
        let refused = Gateway::try_start(&config, Wrapper::Plain).err().expect("a refusal");
        assert!(refused.contains(words), "{refused}");
    }
}

/// A first backend that dies while the second works is no reason to stop the second.
#[test]
fn the_second_backend_serves_when_the_first_one_dies_meanwhile() {
    let script = Script {
        first: |talk, state| {
            eventually(PATIENCE, || state.asked.load(Ordering::SeqCst) > 1);
            talk.pause(Duration::from_millis(50));
            Next::Close
        },
        second: |talk, _| {
            talk.pause(Duration::from_millis(300));
            stream(talk, "second")
        },
    };
    let pair = Pair::start(script, HEDGE);
    let message = pair.ask(BODY).answer().expect("a stream");
    assert!(message.text().contains("second") && message.text().contains("[DONE]"), "{message:?}");
    assert_eq!(pair.state.asked.load(Ordering::SeqCst), 2, "nobody is asked a third time");
    pair.check_free();
}

/// What the second one says of the request or of its own limit is what it would be for a first one: ten of them open no breaker.
#[test]
fn a_second_backend_that_refuses_the_request_has_not_failed() {
    let refuse = |talk: &mut Talk, state: &State| {
        let next = talk.answer(
            "400 Bad Request",
            "Content-Type: application/json\r\n",
            r#"{"error":{"message":"no"}}"#,
        );
        while !talk.gone(Duration::from_millis(10)) && !talk.stopped() {}
        state.cancelled.fetch_add(1, Ordering::SeqCst);
        next
    };
    let pair = Pair::start(Script { first: hang, second: refuse }, HEDGE);
    // Nobody succeeds in between, and five failures of either would take it out of service.
    for round in 1..=10 {
        let client = pair.ask(BODY);
        let both = || pair.state.asked.load(Ordering::SeqCst) == 2;
        assert!(eventually(PATIENCE, both), "nobody was asked a second time in round {round}");
        let heard = || pair.state.cancelled.load(Ordering::SeqCst) == 1;
        assert!(eventually(PATIENCE, heard), "the gateway has not heard the second in round {round}");
        drop(client);
        pair.check_free();
        let both_closed = || pair.state.cancelled.load(Ordering::SeqCst) == 2;
        assert!(eventually(PATIENCE, both_closed), "the first was not stopped in round {round}");
        pair.state.asked.store(0, Ordering::SeqCst);
        pair.state.cancelled.store(0, Ordering::SeqCst);
    }
    assert_eq!(pair.gateway.metric("ringway_deployment_breaker", ""), 0.0);
}
