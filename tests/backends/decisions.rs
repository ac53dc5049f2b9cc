//! How a backend or a model is chosen, and who may see why.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use support::gateway::{Config, Gateway, K1, K2, Wrapper};
use support::origin::{Origin, completion};
use support::strict::Message;
use support::{PATIENCE, eventually};

const QUIET: &str = "health = { enabled = false }";

/// Two backends that respond at once, each with its name; those of `held` wait while it is set.
struct Pair {
    origins: Vec<Origin>,
    counts: Vec<Arc<AtomicUsize>>,
    held: Arc<AtomicBool>,
}

impl Pair {
    fn start() -> Self {
        let held = Arc::<AtomicBool>::default();
        let counts: Vec<Arc<AtomicUsize>> = (0..2).map(|_| Arc::default()).collect();
        let origin = |(index, count): (usize, &Arc<AtomicUsize>)| {
            let (count, held) = (Arc::clone(count), Arc::clone(&held));
            Origin::scripted(move |talk| {
                count.fetch_add(1, Ordering::SeqCst);
                while held.load(Ordering::SeqCst) && !talk.stopped() && talk.request.has("x-hold") {
                    talk.pause(std::time::Duration::from_millis(5));
                }
                talk.answer("200 OK", "", &completion(&format!("b{index}")))
            })
        };
        let origins = counts.iter().enumerate().map(origin).collect();
        Self { origins, counts, held }
    }

    fn config(&self) -> Config {
        let config = Config::new().key("ops", K1, "trace = true").key("app", K2, "").shards("count = 1");
        let config = config.backend("b0", self.origins[0].port, QUIET);
        config.backend("b1", self.origins[1].port, QUIET)
    }

    fn seen(&self) -> usize {
        self.counts.iter().map(|count| count.load(Ordering::SeqCst)).sum()
    }
}

/// Sends a body of chat with these header lines.
fn send(gateway: &Gateway, key: &str, lines: &str, body: &str) -> Message {
    let mut client = gateway.connect();
    client.send(&request(key, lines, body));
    client.answer().expect("a response")
}

fn request(key: &str, lines: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{lines}\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A chat of one message.
fn chat(model: &str, text: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{text}"}}]}}"#)
}

fn text_of(message: &Message) -> String {
    message.json()["choices"][0]["message"]["content"].as_str().unwrap_or("").to_owned()
}

const ASKS: &str = "x-ringway-trace: 1\r\n";

#[test]
fn a_trace_shows_each_backends_cost_to_a_key_that_may_ask() {
    let pair = Pair::start();
    let gateway = Gateway::start(&pair.config().model("m", &["b0", "b1"], ""));
    let body = chat("m", &"a story that is told once more. ".repeat(40));
    send(&gateway, K1, "", &body);
    let message = send(&gateway, K1, ASKS, &body);
    let (trace, backend) = (message.one("x-ringway-trace"), message.one("x-ringway-backend"));
    assert_eq!(backend, text_of(&message), "the backend that responded");
    assert!(trace.starts_with(&format!("chosen={backend} model=m policy=cost tokens=")), "{trace}");
    let member = trace.split("; ").find(|part| part.starts_with(&backend)).expect("its part");
    assert!(!member.contains("matched=0 "), "it has the prompt: {trace}");
    let other = trace.split("; ").skip(1).find(|part| !part.starts_with(&backend)).expect("the other one");
    assert!(other.contains("matched=0 ") && other.contains("cost="), "{trace}");
    let cost = |part: &str| -> f64 {
        let value = part.split("cost=").nth(1).and_then(|rest| rest.split(' ').next());
        value.and_then(|value| value.parse().ok()).expect("a number")
    };
    assert!(cost(member) < cost(other), "{trace}");

    for (key, lines) in [(K1, ""), (K2, ASKS)] {
        let message = send(&gateway, key, lines, &body);
        assert!(!message.has("x-ringway-trace") && !message.has("x-ringway-backend"), "{message:?}");
    }
    gateway.rewrite(&pair.config().top("debug_headers = true").model("m", &["b0", "b1"], ""));
    assert_eq!(gateway.reload().0, 200);
    let message = send(&gateway, K2, ASKS, &body);
    assert!(message.has("x-ringway-trace") && message.has("x-ringway-backend"), "{message:?}");
}

#[test]
fn a_trace_shows_why_a_backend_is_no_candidate_and_what_a_retry_chose() {
    let broken = Origin::scripted(|talk| talk.answer("500 Internal Server Error", "", "{}"));
    let pair = Pair::start();
    let config = pair.config().backend("a", broken.port, QUIET).model("m", &["a", "b0"], "");
    let gateway = Gateway::start(&config);
    let retried = (0..20).find_map(|turn| {
        let message = send(&gateway, K1, ASKS, &chat("m", &format!("{turn} ").repeat(300)));
        (message.one("x-ringway-attempts") == "2").then(|| message.one("x-ringway-trace"))
    });
    let trace = retried.expect("a retry");
    assert!(trace.starts_with("chosen=b0 ") && trace.contains("; a unavailable cost="), "{trace}");
}

#[test]
fn a_route_is_explained_for_a_prompt_without_a_request_to_a_backend() {
    let pair = Pair::start();
    let gateway = Gateway::start(&pair.config().model("m", &["b0", "b1"], ""));
    let words = "a story that is told once more. ".repeat(60);
    let served = text_of(&send(&gateway, K1, "", &chat("m", &words)));
    let other = if served == "b0" { "b1" } else { "b0" };
    let file = gateway.folder().join("prompt.json");
    std::fs::write(&file, chat("m", &words)).expect("a file");
    let explain = |arguments: &[&str]| {
        let mut command = Command::new(support::binary());
        command.args(["route", "explain"]).arg(&file).args(arguments);
        let output =
            command.arg("--config").arg(gateway.folder().join("ringway.toml")).output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let line =
        |text: &str, name: &str| text.lines().find(|line| line.contains(name)).unwrap_or("").to_owned();
    let before = pair.seen();
    // The coordinator reads placements every 20 ms; until then only the shard knows them.
    let ask = || -> serde_json::Value {
        let (done, json) = explain(&["--json"]);
        assert!(done, "{json}");
        serde_json::from_str(&json).expect("JSON")
    };
    let member = |answer: &serde_json::Value, name: &str| {
        let members = answer["members"].as_array().expect("members");
        members.iter().find(|member| member["backend"] == name).expect("the member").clone()
    };
    assert!(eventually(PATIENCE, || member(&ask(), &served)["matched_tokens"].as_u64() > Some(300)));
    let answer = ask();
    let member = |name: &str| member(&answer, name);
    assert_eq!((&answer["chosen"], &answer["policy"]), (&served.as_str().into(), &"cost".into()));
    let (_, text) = explain(&[]);
    assert!(text.contains(&format!("chosen: {served}")) && text.contains(&format!("* {served} ")), "{text}");
    assert_eq!(member(other)["matched_tokens"], 0);
    assert!(member(other)["cost"].as_f64() > member(&served)["cost"].as_f64());
    assert_eq!(pair.seen(), before, "nothing was sent");

    assert_eq!(
        gateway.to_admin("POST", &format!("/api/v1/backends/{served}/drain")).map(|row| row.0),
        Some(200)
    );
    let (_, text) = explain(&[]);
    assert!(text.contains(&format!("chosen: {other}")) && line(&text, &served).contains("drained"), "{text}");
    let (done, text) = explain(&["--model", "absent"]);
    assert!(!done && text.contains("there is no model and no alias"), "{text}");
    std::fs::write(&file, "just words").expect("a file");
    let (done, text) = explain(&["--model", "m"]);
    assert!(done && text.contains("chosen: "), "{text}");
}

#[test]
fn what_backends_had_in_their_caches_is_counted_beside_what_was_expected() {
    let origin = Origin::scripted(|talk| {
        let body = completion("well").replace(
            r#""usage":{"prompt_tokens":3"#,
            r#""usage":{"prompt_tokens":1000,"prompt_tokens_details":{"cached_tokens":600}"#,
        );
        talk.answer("200 OK", "", &body)
    });
    let config = Config::new().key("k", K1, "").shards("count = 1");
    let config = config.backend("b0", origin.port, QUIET).backend("b1", origin.port, QUIET);
    let gateway = Gateway::start(&config.model("m", &["b0", "b1"], ""));
    let body = chat("m", &"a story that is told once more. ".repeat(100));
    for _ in 0..2 {
        assert_eq!(send(&gateway, K1, "", &body).status(), 200);
    }
    let count = |name: &str| gateway.metric(&format!("ringway_prefix_tokens_{name}_total"), "");
    assert_eq!((count("reported"), count("cached")), (2_000.0, 1_200.0));
    let expected = count("expected");
    assert!((900.0..=1_000.0).contains(&expected), "nearly all of the second one: {expected}");
}

#[test]
fn a_session_stays_with_its_backend_whatever_its_text_until_that_costs_too_much() {
    let pair = Pair::start();
    let gateway = Gateway::start(&pair.config().model("m", &["b0", "b1"], ""));
    let turn = |session: &str, turn: usize| {
        let text = format!("turn {turn} of {session} shares nothing with the others. ").repeat(60);
        let lines = format!("Session-Id: {session}\r\n");
        text_of(&send(&gateway, K1, &lines, &chat("m", &text)))
    };
    let sessions: Vec<String> = (0..12).map(|number| format!("s{number}")).collect();
    let first: Vec<String> = sessions.iter().map(|session| turn(session, 0)).collect();
    assert!(first.iter().any(|backend| *backend != first[0]), "idle backends share the sessions: {first:?}");
    for number in 1..4 {
        let next: Vec<String> = sessions.iter().map(|session| turn(session, number)).collect();
        assert_eq!(next, first, "turn {number}");
    }

    // A long prompt waits at the session's backend: its tokens are more than a session is worth.
    pair.held.store(true, Ordering::SeqCst);
    let (session, busy) = (&sessions[0], first[0].clone());
    let before = pair.seen();
    let mut long = gateway.connect();
    let text = format!("a very long text of {session}. ").repeat(4_000);
    long.send(&request(K1, &format!("Session-Id: {session}\r\nx-hold: 1\r\n"), &chat("m", &text)));
    assert!(eventually(PATIENCE, || pair.seen() > before), "it waits");
    let moved = turn(session, 9);
    pair.held.store(false, Ordering::SeqCst);
    assert_eq!(
        text_of(&long.answer().expect("a response")),
        busy,
        "the long one went to the session's backend"
    );
    assert_ne!(moved, busy, "the next one does not wait behind it");
}

#[test]
fn requests_are_sent_to_another_model_by_what_they_look_like() {
    let pair = Pair::start();
    let rules = r#"
[[model."auto".route]]
to = "big"
prompt_tokens_min = 1_000
[[model."auto".route]]
to = "big"
tools = true
[[model."auto".route]]
to = "large"
images = true
[[model."auto".route]]
to = "big"
header = "X-Tier: gold"
[[model."auto".route]]
to = "big"
keys = ["app"]
"#;
    let config = pair.config().model("auto", &["b0"], rules).model("big", &["b1"], "aliases = [\"large\"]");
    let gateway = Gateway::start(&config);
    let to = |key: &str, lines: &str, body: &str| text_of(&send(&gateway, key, lines, body));
    assert_eq!(to(K1, "", &chat("auto", "hi")), "b0", "no rule fits");
    assert_eq!(to(K1, "", &chat("auto", &"long ".repeat(2_000))), "b1");
    let with = |more: &str| chat("auto", "hi").replacen('{', &format!("{{{more},"), 1);
    assert_eq!(to(K1, "", &with(r#""tools":[{"type":"function","function":{"name":"f"}}]"#)), "b1");
    assert_eq!(to(K1, "", &with(r#""tools":[]"#)), "b0");
    let image = r#"{"model":"auto","messages":[{"role":"user","content":[{"type" : "image_url","image_url":{"url":"http://x/y.png"}}]}]}"#;
    assert_eq!(to(K1, "", image), "b1");
    assert_eq!(to(K1, "", &chat("auto", r#"say {\"type\":\"image_url\"}"#)), "b0", "a text about images");
    assert_eq!(to(K1, "x-tier: gold\r\n", &chat("auto", "hi")), "b1");
    assert_eq!(to(K1, "x-tier: silver\r\n", &chat("auto", "hi")), "b0");
    assert_eq!(to(K2, "", &chat("auto", "hi")), "b1");
    let sent = pair.origins[1].seen();
    assert!(
        sent.iter().all(|seen| seen.request.json()["model"] == "big"),
        "backends are told the model that serves"
    );
    assert_eq!(gateway.metric("ringway_model_routed_total", "auto"), 5.0);
}

#[test]
fn a_rule_leads_nowhere_that_the_key_may_not_go_and_wrong_rules_are_refused() {
    let pair = Pair::start();
    let rule = "\n[[model.\"auto\".route]]\nto = \"big\"\n";
    let config = Config::new()
        .key("ops", K1, "")
        .key("app", K2, "models = [\"auto\"]")
        .backend("b0", pair.origins[0].port, QUIET)
        .backend("b1", pair.origins[1].port, QUIET)
        .model("auto", &["b0"], rule)
        .model("big", &["b1"], "");
    let gateway = Gateway::start(&config);
    assert_eq!(text_of(&send(&gateway, K1, "", &chat("auto", "hi"))), "b1");
    assert_eq!(text_of(&send(&gateway, K2, "", &chat("auto", "hi"))), "b0", "it may not use the other model");

    for (rule, words) in [
        ("to = \"none\"", "there is no [model.\"none\"] and no such alias"),
        ("to = \"auto\"", "is the model itself"),
        ("to = \"big\"\nkeys = [\"nobody\"]", "fits no key"),
        ("to = \"big\"\nheader = \"a b: c\"", "expected \"name: value\""),
        ("to = \"big\"\npercent = 101.0", "expected 0 to 100"),
        ("to = \"big\"\nprompt_tokens_min = 9\nprompt_tokens_max = 8", "expected at most prompt_tokens_max"),
    ] {
        let config = pair.config().model("auto", &["b0"], &format!("\n[[model.\"auto\".route]]\n{rule}\n"));
        let refused = Gateway::try_start(&config.model("big", &["b1"], ""), Wrapper::Plain).err();
        assert!(refused.as_ref().is_some_and(|text| text.contains(words)), "{rule}: {refused:?}");
    }
}

#[test]
fn a_canary_takes_its_share_and_keeps_sessions_together() {
    let pair = Pair::start();
    let rule = "\n[[model.\"auto\".route]]\nto = \"new\"\npercent = 25.0\n";
    let gateway = Gateway::start(&pair.config().model("auto", &["b0"], rule).model("new", &["b1"], ""));
    let count = 240;
    let of_session = |session: usize| {
        text_of(&send(&gateway, K1, &format!("x-session-id: user-{session}\r\n"), &chat("auto", "hi")))
    };
    let first: Vec<String> = (0..count).map(of_session).collect();
    let share = first.iter().filter(|backend| *backend == "b1").count();
    assert!((30..=95).contains(&share), "{share} of {count}");
    let again: Vec<String> = (0..20).map(of_session).collect();
    assert_eq!(again, first[..20]);
    let free = (0..count).filter(|_| text_of(&send(&gateway, K1, "", &chat("auto", "hi"))) == "b1").count();
    assert!((30..=95).contains(&free), "{free} of {count} without a session");
}

/// The number under a name in the row of `/status` that begins with a deployment of this backend.
fn learned(gateway: &Gateway, backend: &str, name: &str) -> Option<f64> {
    let status: serde_json::Value = serde_json::from_str(&gateway.ask_admin("/status")?.1).ok()?;
    let rows = status["deployments"].as_array()?.clone();
    rows.iter().find(|row| row["backend"] == backend)?[name].as_f64()
}

#[test]
fn the_speed_of_each_engine_is_learned_and_long_prompts_go_to_the_fast_one() {
    let count = |count: &Arc<AtomicUsize>, milliseconds: u64| {
        let count = Arc::clone(count);
        Origin::scripted(move |talk| {
            count.fetch_add(1, Ordering::SeqCst);
            talk.pause(std::time::Duration::from_millis(milliseconds));
            talk.stream();
            talk.chunk("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n");
            talk.chunk("data: [DONE]\n\n");
            talk.end()
        })
    };
    let counts: [Arc<AtomicUsize>; 2] = std::array::from_fn(|_| Arc::default());
    let origins = [count(&counts[0], 60), count(&counts[1], 240)];
    let config = |policy: &str| {
        let config = Config::new().key("k", K1, "").shards("count = 1");
        let config = config.backend("fast", origins[0].port, QUIET).backend("slow", origins[1].port, QUIET);
        config.model("m", &["fast", "slow"], policy)
    };
    let gateway = Gateway::start(&config("policy = \"round_robin\""));
    let ask = |number: usize| {
        let text = format!("prompt {number} is its own. ").repeat(80);
        let body = chat("m", &text).replacen('{', "{\"stream\":true,", 1);
        assert_eq!(send(&gateway, K1, "", &body).status(), 200);
    };
    assert_eq!(learned(&gateway, "slow", "prefill_seconds_per_token"), None);
    (0..40).for_each(ask);
    let is_learned = || learned(&gateway, "slow", "prefill_factor").is_some_and(|factor| factor > 2.0);
    assert!(eventually(PATIENCE, is_learned), "{:?}", learned(&gateway, "slow", "prefill_factor"));
    assert_eq!(learned(&gateway, "fast", "prefill_factor"), Some(1.0));
    gateway.rewrite(&config(""));
    assert_eq!(gateway.reload().0, 200);
    let before = counts[1].load(Ordering::SeqCst);
    (100..110).for_each(ask);
    assert_eq!(counts[1].load(Ordering::SeqCst), before, "an idle fast engine gets them all");
}
