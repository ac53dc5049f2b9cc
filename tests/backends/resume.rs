//! A stream that its backend cuts goes on at another one, where the model says `resume`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use support::client::{Client, Outcome};
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk};
use support::sse::{self, Ending, judge};
use support::{PATIENCE, chat, eventually};

/// Words of a whole response.
const WORDS: usize = 12;
const PROMPT_TOKENS: usize = 7;
const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":50,"stream":true,"stream_options":{"include_usage":true}}"#;

/// What a response does at its so manieth event.
type Fault = fn(&Talk, usize) -> Option<Next>;

/// Engines that go on where an assistant's last message ends.
struct Engines {
    gateway: Gateway,
    /// The bodies of all requests.
    asked: Arc<Mutex<Vec<Value>>>,
    /// The client has the first five words.
    has_begun: Arc<AtomicBool>,
    _origins: Vec<Origin>,
}

impl Engines {
    /// So many, with a fault of each response, in the order in which they are asked; the last one is that of all others.
    fn start(count: usize, faults: &'static [Fault], more: &str) -> Self {
        Self::with(count, faults, |config, names| config.model("m", names, more))
    }

    fn with(count: usize, faults: &'static [Fault], models: impl FnOnce(Config, &[&str]) -> Config) -> Self {
        let asked = Arc::<Mutex<Vec<Value>>>::default();
        let (turn, has_begun) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let origins: Vec<Origin> = (0..count)
            .map(|_| {
                let (asked, turn, begun) = (Arc::clone(&asked), Arc::clone(&turn), Arc::clone(&has_begun));
                Origin::scripted(move |talk| {
                    let body: Value = serde_json::from_str(&talk.request.text()).expect("JSON");
                    asked.lock().expect("not poisoned").push(body.clone());
                    let turn = turn.fetch_add(1, Ordering::SeqCst);
                    respond(talk, (&body, turn, &begun), faults[turn.min(faults.len() - 1)])
                })
            })
            .collect();
        let names: Vec<String> = (0..count).map(|index| format!("b{index}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut config = Config::new().shards("count = 1").key("k", K1, "");
        for (name, origin) in names.iter().zip(&origins) {
            config = config.backend(name, origin.port, "serves = [\"chat\"]\nhealth = { enabled = false }");
        }
        let config = models(config, &names).tables("[timeouts]\nbetween_events = \"300ms\"");
        Self { gateway: Gateway::start(&config), asked, has_begun, _origins: origins }
    }

    fn ask(&self, body: &str) -> Outcome {
        self.finish(self.client(body))
    }

    /// The faults come when the client has read what came before them.
    fn finish(&self, mut client: Client) -> Outcome {
        client.read_until("w4 ");
        self.has_begun.store(true, Ordering::SeqCst);
        client.finish(&[], PATIENCE)
    }

    fn client(&self, body: &str) -> Client {
        let mut client = self.gateway.connect();
        let request = String::from_utf8(chat(K1, "n", body)).expect("text");
        client.send(request.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes());
        client
    }

    fn asked(&self) -> Vec<Value> {
        self.asked.lock().expect("not poisoned").clone()
    }

    fn resumed(&self) -> f64 {
        self.gateway.metric("ringway_streams_resumed_total", "")
    }
}

fn event(turn: usize, delta: &Value, finish: &Value) -> String {
    let chunk = json!({"id": format!("c{turn}"), "object": "chat.completion.chunk", "created": turn, "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    format!("data: {chunk}\n\n")
}

/// The rest of what is to be said, behind what an assistant's last message says already.
fn respond(talk: &Talk, (body, turn, begun): (&Value, usize, &AtomicBool), fault: Fault) -> Next {
    let last = body["messages"].as_array().and_then(|messages| messages.last());
    let said = last.filter(|last| last["role"] == "assistant" && body["continue_final_message"] == true);
    let said = said.map_or("", |last| last["content"].as_str().expect("text")).split_inclusive(' ').count();
    talk.stream();
    talk.chunk(event(turn, &json!({"role": "assistant", "content": ""}), &Value::Null));
    for (position, word) in (said..WORDS).enumerate() {
        if turn == 0 && position == 5 {
            talk.wait_for(begun);
        }
        if let Some(next) = fault(talk, position) {
            return next;
        }
        talk.chunk(event(turn, &json!({"content": format!("w{word} ")}), &Value::Null));
    }
    talk.chunk(event(turn, &json!({}), &json!("stop")));
    if body["stream_options"]["include_usage"] == true {
        let usage = sse::usage((PROMPT_TOKENS + said) as u64, (WORDS - said) as u64);
        let own = usage
            .replace("\"chatcmpl-1\"", &format!("\"c{turn}\""))
            .replace("\"created\":1", &format!("\"created\":{turn}"));
        talk.chunk(own);
    }
    talk.chunk(sse::DONE);
    talk.end()
}

fn whole(_: &Talk, _: usize) -> Option<Next> {
    None
}

fn cut(_: &Talk, position: usize) -> Option<Next> {
    (position == 5).then_some(Next::Close)
}

fn ends_without_an_end(talk: &Talk, position: usize) -> Option<Next> {
    (position == 5).then(|| talk.end())
}

fn silent(talk: &Talk, position: usize) -> Option<Next> {
    (position == 5).then(|| {
        talk.gone(PATIENCE);
        Next::Close
    })
}

fn fails(talk: &Talk, position: usize) -> Option<Next> {
    (position == 5).then(|| {
        talk.chunk(
            "data: {\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"code\":500}}\n\n",
        );
        talk.chunk(sse::DONE);
        talk.end()
    })
}

fn cuts_an_event(talk: &Talk, position: usize) -> Option<Next> {
    (position == 5).then(|| {
        talk.chunk("data: {\"id\":\"c0\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half a wo");
        Next::Close
    })
}

fn breaks_its_chunks(talk: &Talk, position: usize) -> Option<Next> {
    (position == 5).then(|| {
        talk.send("no size\r\n");
        Next::Close
    })
}

fn says_nothing(_: &Talk, position: usize) -> Option<Next> {
    (position == 0).then_some(Next::Close)
}

fn all_words() -> String {
    (0..WORDS).map(|word| format!("w{word} ")).collect()
}

/// One response: every word once, one id, one beginning, one end, and what it has cost.
fn check_one(outcome: &Outcome, input: usize) {
    let answer = outcome.answers.first().unwrap_or_else(|| panic!("no whole response: {outcome:?}"));
    let text = answer.text();
    assert_eq!(judge(&text), (all_words(), Ending::Finished), "{text}");
    let events = sse::read(&text).expect("events");
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).expect("JSON")).collect();
    let (first, last) = (&chunks[0], &chunks[chunks.len() - 1]);
    for chunk in &chunks {
        for member in ["id", "created", "model"] {
            assert_eq!(chunk[member], first[member], "{member} in {text}");
        }
    }
    assert_eq!(text.matches("\"role\":\"assistant\"").count(), 1, "{text}");
    let usage = &last["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"]),
        (&json!(input), &json!(WORDS)),
        "{text}"
    );
}

#[test]
fn a_stream_goes_on_at_another_backend_however_the_first_one_cut_it() {
    let faults: [(&str, &'static [Fault]); 7] = [
        ("cut", &[cut, whole]),
        ("no end of its own", &[ends_without_an_end, whole]),
        ("silent", &[silent, whole]),
        ("an error in the stream", &[fails, whole]),
        ("half an event", &[cuts_an_event, whole]),
        ("broken chunks", &[breaks_its_chunks, whole]),
        ("twice", &[cut, cut, whole]),
    ];
    for (name, faults) in faults {
        let engines = Engines::start(2, faults, "resume = true");
        check_one(&engines.ask(BODY), PROMPT_TOKENS);
        let (asked, turns) = (engines.asked(), faults.len());
        assert_eq!(asked.len(), turns, "{name}: {asked:?}");
        assert_eq!(engines.resumed(), (turns - 1) as f64, "{name}");
        let said: String = (0..5 * (turns - 1)).map(|word| format!("w{word} ")).collect();
        let last = &asked[turns - 1];
        assert_eq!(last["messages"][1], json!({"role": "assistant", "content": said}), "{name}");
        assert_eq!(last["max_tokens"], 50 - 5 * (turns - 1), "{name}");
        let tokens =
            |kind: &str| engines.gateway.metric("ringway_key_tokens_total", &format!("type=\"{kind}\""));
        let counted = || (tokens("input"), tokens("output")) == (PROMPT_TOKENS as f64, WORDS as f64);
        assert!(eventually(PATIENCE, counted), "{name}: every token is counted once");
        let free = || engines.gateway.metric("ringway_backend_in_flight", "") == 0.0;
        assert!(eventually(PATIENCE, free), "{name}: a slot is still taken");
    }
}

#[test]
fn a_stream_that_was_cut_before_its_first_word_is_asked_for_once_more() {
    let engines = Engines::start(2, &[says_nothing, whole], "resume = true");
    check_one(&engines.ask(BODY), PROMPT_TOKENS);
    assert_eq!(engines.asked()[1].get("continue_final_message"), None);
}

#[test]
fn a_lone_backend_is_asked_again_and_a_fallback_before_it() {
    let engines = Engines::start(1, &[cut, whole], "resume = true");
    check_one(&engines.ask(BODY), PROMPT_TOKENS);
    let engines = Engines::with(2, &[cut, whole], |config, names| {
        config
            .model("m", &names[..1], "resume = true\nfallbacks = [\"plain\", \"spare\"]")
            .model("plain", &names[1..], "")
            .model("spare", &names[1..], "resume = true")
    });
    check_one(&engines.ask(BODY), PROMPT_TOKENS);
    let asked: Vec<Value> = engines.asked().iter().map(|body| body["model"].clone()).collect();
    assert_eq!(asked, ["m", "spare"], "a fallback without `resume` cannot go on");
}

/// Whatever dialect the client speaks: the stream of the backends goes on, and is translated as one.
#[test]
fn a_translated_stream_goes_on() {
    let system = r#""contents":[{"role":"user","parts":[{"text":"hi"}]}]"#;
    let cases = [
        (
            "/v1/messages",
            r#"{"model":"m","max_tokens":50,"messages":[{"role":"user","content":"hi"}],"stream":true}"#
                .to_owned(),
            ["message_start", "content_block_start", "content_block_stop", "message_stop"],
        ),
        (
            "/v1/responses",
            r#"{"model":"m","input":"hi","stream":true}"#.to_owned(),
            [
                "response.created",
                "response.output_item.added",
                "response.output_text.done",
                "response.completed",
            ],
        ),
        (
            "/v1beta/models/m:streamGenerateContent?alt=sse",
            format!("{{{system}}}"),
            ["\"finishReason\"", "\"promptTokenCount\":7", "\"candidatesTokenCount\":12", "\"STOP\""],
        ),
        (
            "/api/chat",
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#.to_owned(),
            ["\"done\":true", "\"prompt_eval_count\":7", "\"eval_count\":12", "\"done_reason\":\"stop\""],
        ),
    ];
    let faults: [&'static [Fault]; 5] = [
        &[cut, whole],
        &[ends_without_an_end, whole],
        &[fails, whole],
        &[cuts_an_event, whole],
        &[cut, cut, whole],
    ];
    for (path, body, once) in &cases {
        for (number, faults) in faults.into_iter().enumerate() {
            let engines = Engines::start(2, faults, "resume = true");
            let mut client = engines.gateway.connect();
            let bytes = body.len();
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {K1}\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n{body}"
            );
            client.send(head.as_bytes());
            let outcome = engines.finish(client);
            let answer = outcome.answers.first().unwrap_or_else(|| panic!("{path} {number}: {outcome:?}"));
            let text = answer.text();
            let mut at = 0;
            for word in 0..WORDS {
                let here = text[at..].find(&format!("w{word} "));
                at += here.unwrap_or_else(|| panic!("{path} {number}: word {word} of {text}"));
            }
            for (piece, count) in once.iter().map(|piece| (piece, text.matches(piece).count())) {
                // The name of an event stands in its line and in its data.
                assert!(
                    count == 1 || count == 2 && piece.contains(['_', '.']),
                    "{path} {number}: {count} {piece} in {text}"
                );
            }
            assert!(
                !text.contains("\"error\":{") && !text.contains("event: error"),
                "{path} {number}: {text}"
            );
            assert_eq!(engines.resumed(), (faults.len() - 1) as f64, "{path} {number}");
            let last = engines.asked().pop().expect("a request");
            let said: String = (0..5 * (faults.len() - 1)).map(|word| format!("w{word} ")).collect();
            let messages = last["messages"].as_array().expect("messages");
            assert_eq!(
                messages.last(),
                Some(&json!({"role": "assistant", "content": said})),
                "{path} {number}"
            );
        }
    }
}

/// Wherever a client's response is not to be gone on with, it ends as it always did.
#[test]
fn what_cannot_go_on_ends_with_an_error_record() {
    fn calls(talk: &Talk, position: usize) -> Option<Next> {
        (position == 5).then(|| {
            let call =
                json!({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{"}}]});
            talk.chunk(event(0, &call, &Value::Null));
            Next::Close
        })
    }
    let json_wanted =
        BODY.replace("\"max_tokens\"", "\"response_format\":{\"type\":\"json_object\"},\"max_tokens\"");
    let cases: [(&str, &'static [Fault], &str, &str); 4] = [
        ("off", &[cut, whole], "", BODY),
        ("a call of a tool", &[calls, whole], "resume = true", BODY),
        ("a grammar", &[cut, whole], "resume = true", &json_wanted),
        ("always cut", &[cut, says_nothing], "resume = true", BODY),
    ];
    for (name, faults, more, body) in cases {
        let engines = Engines::start(2, faults, more);
        let outcome = engines.ask(body);
        let answer = outcome.answers.first().or(outcome.cut.as_ref()).expect("a response");
        let (text, ending) = judge(&answer.text());
        let said: String = (0..5).map(|word| format!("w{word} ")).collect();
        assert_eq!((text, ending), (said, Ending::Failed("backend_stream_truncated".into())), "{name}");
        let bound = if name == "always cut" { 4 } else { 1 };
        assert!(engines.asked().len() <= bound, "{name}: {:?}", engines.asked());
    }
}

#[test]
fn a_client_that_leaves_in_between_stops_it() {
    fn hangs(talk: &Talk, position: usize) -> Option<Next> {
        (position == 0).then(|| {
            talk.gone(Duration::from_secs(20));
            Next::Close
        })
    }
    let engines = Engines::with(2, &[cut, hangs], |config, names| {
        config.model("m", names, "resume = true\ntimeouts = { between_events = \"10s\" }")
    });
    let mut client = engines.client(BODY);
    client.read_until("w4 ");
    engines.has_begun.store(true, Ordering::SeqCst);
    assert!(eventually(PATIENCE, || engines.asked().len() == 2));
    drop(client);
    let free = || engines.gateway.metric("ringway_backend_in_flight", "") == 0.0;
    assert!(eventually(PATIENCE, free), "the second backend works on");
}

/// The tokens of the whole response are those of the limit.
#[test]
fn a_limit_counts_both_parts_of_a_response() {
    let engines = Engines::with(2, &[cut, whole], |config, names| {
        config.model("m", names, "resume = true").key(
            "limited",
            support::gateway::K2,
            "tokens_per_minute = 1_000",
        )
    });
    let mut client = engines.gateway.connect();
    let body = BODY.replace("\"max_tokens\":50,", "\"max_tokens\":500,");
    let request = String::from_utf8(chat(support::gateway::K2, "n", &body)).expect("text");
    client.send(request.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes());
    check_one(&engines.finish(client), PROMPT_TOKENS);
    let status: Value =
        serde_json::from_str(&engines.gateway.ask_admin("/status").expect("status").1).expect("JSON");
    let keys = status["keys"].as_array().expect("keys");
    let left =
        keys.iter().find(|key| key["name"] == "limited").expect("the key")["tokens"]["remaining"].as_u64();
    // A thousand a minute come back at 17 a second.
    assert!(left.is_some_and(|left| (981..1_000).contains(&left)), "{left:?} are left");
}
