//! Requests are held back while every backend has enough prompts to prefill.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::client::Client;
use support::gateway::{Config, Gateway, K1, Wrapper};
use support::origin::{Next, Origin, Talk};
use support::{PATIENCE, chat, eventually};

const QUIET: &str = "health = { enabled = false }\npending_tokens_max = 1_000";

/// An engine whose first tokens come one by one.
struct Engine {
    origin: Origin,
    asked: Arc<AtomicUsize>,
    /// Requests that may have their first token, in the order in which they came.
    first: Arc<AtomicUsize>,
    /// Requests that may end.
    last: Arc<AtomicUsize>,
}

impl Engine {
    fn start() -> Self {
        let [asked, first, last] = std::array::from_fn(|_| Arc::<AtomicUsize>::default());
        let (counted, begin, end) = (asked.clone(), first.clone(), last.clone());
        let origin = Origin::scripted(move |talk| {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            if !wait(talk, &begin, number) {
                return Next::Close;
            }
            talk.stream();
            talk.chunk(event("well", "null"));
            if !wait(talk, &end, number) {
                return Next::Close;
            }
            talk.chunk(event("", "\"stop\""));
            talk.chunk("data: [DONE]\n\n");
            talk.end()
        });
        Self { origin, asked, first, last }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Until more than `number` requests may go on; false if the gateway has closed.
fn wait(talk: &mut Talk, count: &AtomicUsize, number: usize) -> bool {
    while count.load(Ordering::SeqCst) <= number && !talk.stopped() {
        if talk.gone(std::time::Duration::from_millis(10)) {
            return false;
        }
    }
    true
}

fn event(text: &str, finish: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\
         \"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":{finish}}}]}}\n\n"
    )
}

fn ask(gateway: &Gateway, number: usize) -> Client {
    let text = format!("prompt {number} has its own words. ").repeat(160); // more than 1,000 tokens
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}],"stream":true}}"#);
    let mut client = gateway.connect();
    client.send(&chat(K1, "n", &body));
    client
}

#[test]
fn a_prompt_waits_at_the_gateway_until_the_one_before_it_has_its_first_token() {
    let engine = Engine::start();
    let config = Config::new()
        .shards("count = 1")
        .backend("b", engine.origin.port, QUIET)
        .model("m", &["b"], "")
        .key("k", K1, "");
    let gateway = Gateway::start(&config);
    let mut clients = vec![ask(&gateway, 0)];
    assert!(eventually(PATIENCE, || engine.asked() == 1), "a prompt of any size goes to an idle backend");
    clients.extend((1..3).map(|number| ask(&gateway, number)));
    let waiting = |count: f64| eventually(PATIENCE, || gateway.metric("ringway_queue_waiting", "") == count);
    assert!(waiting(2.0), "the others wait");
    assert_eq!(engine.asked(), 1);
    engine.first.store(1, Ordering::SeqCst);
    assert!(eventually(PATIENCE, || engine.asked() == 2), "its stream still runs, its prompt does not wait");
    assert!(waiting(1.0));
    engine.first.store(9, Ordering::SeqCst);
    engine.last.store(9, Ordering::SeqCst);
    for client in &mut clients {
        assert!(client.answer().expect("a stream").text().contains("[DONE]"));
    }
    assert_eq!(gateway.metric("ringway_backend_pending_tokens", ""), 0.0);
}

#[test]
fn a_prompt_goes_to_a_backend_with_room_and_one_that_waits_too_long_is_refused() {
    let engines = [Engine::start(), Engine::start()];
    let config = Config::new()
        .shards("count = 1")
        .tables("[timeouts]\nqueue_timeout = \"200ms\"")
        .backend("b0", engines[0].origin.port, QUIET)
        .backend("b1", engines[1].origin.port, QUIET)
        .model("m", &["b0", "b1"], "")
        .key("k", K1, "");
    let gateway = Gateway::start(&config);
    let _held: Vec<Client> = (0..2)
        .map(|number| {
            let client = ask(&gateway, number);
            let asked = || engines[0].asked() + engines[1].asked() == number + 1;
            assert!(eventually(PATIENCE, asked), "it is sent");
            client
        })
        .collect();
    assert_eq!((engines[0].asked(), engines[1].asked()), (1, 1));
    let refused = ask(&gateway, 2).answer().expect("a response");
    assert!(refused.status() >= 429 && refused.has("retry-after"), "{refused:?}");
    assert_eq!((engines[0].asked(), engines[1].asked()), (1, 1), "it was sent nowhere");
}

#[test]
fn no_room_at_all_is_no_bound() {
    let lines = "pending_tokens_max = 0";
    let config = Config::new().backend("one", 1, lines).model("m", &["one"], "").key("k", K1, "");
    let refused = Gateway::try_start(&config, Wrapper::Plain).err().expect("a refusal");
    assert!(refused.contains("pending_tokens_max"), "{refused}");
}
