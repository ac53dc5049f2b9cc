//! Which backend of a pool gets a request: by its prompt, and by the policy of the pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk, completion};
use support::{PATIENCE, eventually};

const QUIET: &str = "health = { enabled = false }";

/// Backends that count what they got, and a gateway before them; `policy`: lines of the model.
struct Pool {
    counts: Vec<Arc<AtomicUsize>>,
    gateway: Gateway,
    _origins: Vec<Origin>,
}

impl Pool {
    fn start(size: usize, policy: &str, broken: &Arc<AtomicBool>) -> Self {
        let counts: Vec<Arc<AtomicUsize>> = (0..size).map(|_| Arc::default()).collect();
        let origin = |(index, count): (usize, &Arc<AtomicUsize>)| {
            let (count, broken) = (Arc::clone(count), Arc::clone(broken));
            Origin::scripted(move |talk| {
                count.fetch_add(1, Ordering::SeqCst);
                if index == 0 && broken.load(Ordering::SeqCst) {
                    return talk.answer("500 Internal Server Error", "", "{\"error\":{\"message\":\"no\"}}");
                }
                talk.answer("200 OK", "", &completion("well"))
            })
        };
        let origins: Vec<Origin> = counts.iter().enumerate().map(origin).collect();
        let names: Vec<String> = (0..size).map(|index| format!("b{index}")).collect();
        let mut config = Config::new().key("one", K1, "").shards("count = 1");
        for (name, origin) in names.iter().zip(&origins) {
            config = config.backend(name, origin.port, QUIET);
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let gateway = Gateway::start(&config.model("m", &names, policy));
        Self { counts, gateway, _origins: origins }
    }

    /// Sends a body of chat, and tells which backend got it, the last one if several did.
    fn ask(&self, body: &str) -> usize {
        let before = self.seen();
        let mut client = self.gateway.connect();
        client.send(&request(body));
        assert_eq!(client.answer().expect("a response").status(), 200);
        let after = self.seen();
        let got: Vec<usize> = (0..before.len()).filter(|index| after[*index] > before[*index]).collect();
        // With the first one broken it is asked first, and another one responds.
        *got.last().expect("somebody got it")
    }

    fn seen(&self) -> Vec<usize> {
        self.counts.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }
}

/// A request of chat.
fn request(body: &str) -> Vec<u8> {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {K1}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A conversation: a text of its own, and so many turns after the first.
fn body(conversation: usize, turns: usize) -> String {
    let text = |part: usize| format!("conversation {conversation} says {part}. ").repeat(40);
    let mut messages = vec![format!(r#"{{"role":"system","content":"{}"}}"#, text(0))];
    for turn in 1..=turns {
        messages.push(format!(r#"{{"role":"user","content":"{}"}}"#, text(2 * turn)));
        messages.push(format!(r#"{{"role":"assistant","content":"{}"}}"#, text(2 * turn + 1)));
    }
    format!(r#"{{"messages":[{}],"model":"m"}}"#, messages.join(","))
}

#[test]
fn a_longer_turn_goes_where_the_shorter_one_went() {
    let pool = Pool::start(4, "", &Arc::default());
    let first: Vec<usize> = (0..12).map(|conversation| pool.ask(&body(conversation, 1))).collect();
    assert!((1..4).any(|index| first[index] != first[0]), "idle backends share the conversations: {first:?}");
    for turns in 2..5 {
        let next: Vec<usize> = (0..12).map(|conversation| pool.ask(&body(conversation, turns))).collect();
        assert_eq!(next, first, "turn {turns}");
    }
    let matched = pool.gateway.metric("ringway_prefix_tokens_matched_total", "");
    let tokens = pool.gateway.metric("ringway_prefix_tokens_total", "");
    assert!(matched > 0.5 * tokens && matched < tokens, "{matched} of {tokens}");
    assert_eq!(pool.gateway.metric("ringway_prefix_notes_lost_total", ""), 0.0);
}

#[test]
fn a_placement_is_remembered_after_the_shard_has_forgotten_it() {
    let pool = Pool::start(4, "", &Arc::default());
    let first: Vec<usize> = (0..8).map(|conversation| pool.ask(&body(conversation, 1))).collect();
    std::thread::sleep(std::time::Duration::from_millis(1_500)); // the shard's own memory lasts one second
    let next: Vec<usize> = (0..8).map(|conversation| pool.ask(&body(conversation, 2))).collect();
    assert_eq!(next, first);
}

#[test]
fn a_conversation_stays_with_the_backend_that_took_it_over() {
    let broken = Arc::new(AtomicBool::new(true));
    let pool = Pool::start(2, "", &broken);
    for conversation in 0..6 {
        assert_eq!(pool.ask(&body(conversation, 1)), 1, "the first one is broken");
    }
    broken.store(false, Ordering::SeqCst);
    for conversation in 0..6 {
        assert_eq!(pool.ask(&body(conversation, 2)), 1, "a prompt that was refused is in no cache");
    }
}

#[test]
fn round_robin_takes_turns_whatever_the_prompt() {
    let pool = Pool::start(3, "policy = \"round_robin\"", &Arc::default());
    let got: Vec<usize> = (0..9).map(|_| pool.ask(&body(1, 1))).collect();
    assert_eq!(got[..3], got[3..6]);
    assert_eq!(pool.seen(), [3, 3, 3]);
    assert_eq!(pool.gateway.metric("ringway_prefix_tokens_total", ""), 0.0, "nothing is hashed");
}

#[test]
fn rendezvous_keeps_a_conversation_by_its_text_or_by_its_key() {
    let pool = Pool::start(4, "policy = \"rendezvous\"", &Arc::default());
    for conversation in 0..5 {
        let first = pool.ask(&body(conversation, 1));
        assert!((2..4).all(|turns| pool.ask(&body(conversation, turns)) == first));
    }
    let keyed = |conversation: usize, key: &str| {
        body(conversation, 1).replacen('{', &format!(r#"{{"prompt_cache_key":"{key}","#), 1)
    };
    let first = pool.ask(&keyed(0, "session"));
    assert!((1..6).all(|conversation| pool.ask(&keyed(conversation, "session")) == first));
    let others = (0..12).any(|key| pool.ask(&keyed(0, &format!("s{key}"))) != first);
    assert!(others, "other keys go elsewhere");
}

#[test]
fn an_unknown_policy_is_refused_with_the_known_ones() {
    let origin = Origin::scripted(|_| Next::Close);
    let config = Config::new()
        .backend("b", origin.port, QUIET)
        .model("m", &["b"], "policy = \"fastest\"")
        .key("one", K1, "");
    let refused = Gateway::try_start(&config, support::gateway::Wrapper::Plain).err().expect("a refusal");
    assert!(refused.contains("no such policy") && refused.contains("least_request"), "{refused}");
}

/// How an engine of the storm treats its requests, by what they ask for.
fn weather(talk: &mut Talk, number: usize) -> Next {
    let event = |text: &str, finish: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    match number % 16 {
        7 => talk.answer("500 Internal Server Error", "", "{\"error\":{\"message\":\"no\"}}"),
        1 => talk.answer("429 Too Many Requests", "retry-after-ms: 1\r\n", "{}"),
        2 => Next::Reset,
        3 => {
            talk.stream();
            talk.chunk(event("cut", "null"));
            Next::Reset
        }
        0 | 4 | 8 | 12 => {
            // Later than a hedge.
            talk.pause(Duration::from_millis(200));
            talk.stream();
            talk.chunk(event("late", "\"stop\""));
            talk.chunk("data: [DONE]\n\n");
            talk.end()
        }
        5 | 10 => talk.answer("200 OK", "", &completion("whole")),
        _ => {
            talk.stream();
            talk.chunk(event("well", "null"));
            talk.chunk(event("", "\"stop\""));
            talk.chunk("data: [DONE]\n\n");
            talk.end()
        }
    }
}

/// Six threads of clients, some of which leave early, before three engines of all moods and a gateway that is reloaded.
#[test]
fn after_a_storm_every_slot_is_free() {
    let origins: Vec<Origin> = (0..3)
        .map(|_| {
            let number = AtomicUsize::new(0);
            Origin::scripted(move |talk| weather(talk, number.fetch_add(1, Ordering::SeqCst)))
        })
        .collect();
    let config = |hedge: &str| {
        let mut config = Config::new().key("one", K1, "").shards("count = 2");
        for (index, origin) in origins.iter().enumerate() {
            let more = format!("{QUIET}\nin_flight_max = {}", 2 + index);
            config = config.backend(&format!("b{index}"), origin.port, &more);
        }
        config.model("m", &["b0", "b1", "b2"], &format!("hedge = {{ after = \"{hedge}\", factor = 1.0 }}"))
    };
    let gateway = Gateway::start(&config("20ms"));
    // The first request of each engine is late: this one has a second attempt, whatever breakers say in the storm.
    let mut first = gateway.connect();
    first.send(&request(&body(9, 1).replacen('{', "{\"stream\":true,", 1)));
    assert_eq!(first.answer().expect("a stream").status(), 200);
    std::thread::scope(|scope| {
        for thread in 0..6_usize {
            let (gateway, config) = (&gateway, &config);
            scope.spawn(move || {
                for turn in 0..40_usize {
                    let mut client = gateway.connect();
                    let stream = if turn % 4 == 0 { "false" } else { "true" };
                    let body =
                        body(thread, 1 + turn % 3).replacen('{', &format!("{{\"stream\":{stream},"), 1);
                    client.send(&request(&body));
                    match (thread + turn) % 4 {
                        0 => client.reset(),
                        1 => {
                            client.read_some(Duration::from_millis(10));
                            client.reset();
                        }
                        _ => _ = client.answer(),
                    }
                    if thread == 0 && turn % 10 == 5 {
                        gateway.rewrite(&config(if turn > 20 { "20ms" } else { "30ms" }));
                        assert_eq!(gateway.reload().0, 200);
                    }
                }
            });
        }
    });
    let gauges = [
        "ringway_backend_in_flight",
        "ringway_backend_pending_tokens",
        "ringway_backend_kv_tokens",
        "ringway_exchanges_active",
        "ringway_streams_active",
        "ringway_queue_waiting",
    ];
    let taken = || -> Vec<_> {
        gauges
            .into_iter()
            .map(|name| (name, gateway.metric(name, "")))
            .filter(|gauge| gauge.1 != 0.0)
            .collect()
    };
    assert!(eventually(PATIENCE, || taken().is_empty()), "still taken: {:?}", taken());
    assert!(gateway.metric("ringway_hedges_total", "") > 0.0, "there were second attempts");
}
