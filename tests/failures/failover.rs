//! One fallback model behind a provider that picks its fault by the model's name: the sixteen cases of failoverbench
//! v0.1, a tenth of its times (but for `Retry-After`, which counts in seconds). As there, one backend serves all models,
//! the spare one included: what one of them does says nothing about the others.
//!
//! A case passes with the whole answer; where the benchmark asks only for safety, with an error that cannot be taken
//! for one. The provider notes when each attempt came.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::client::Outcome;
use support::gateway::{Config, Gateway, K1, K2};
use support::origin::{Next, Origin, Talk};
use support::sse::{self, Ending, content, judge};
use support::{PATIENCE, chat};

/// Models with a fault.
const FAULTS: [&str; 17] = [
    "s01",
    "s02",
    "s03",
    "s04",
    "s05",
    "s06",
    "s07",
    "s08",
    "s09",
    "s10",
    "s11",
    "s12",
    "s13",
    "s14",
    "s15",
    "s16",
    "role-then-cut",
];
/// The model that always answers.
const SPARE: &str = "fb-ok";
/// Words of a whole answer.
const WORDS: usize = 60;

/// The provider: how often each model was asked, and when.
struct Wall {
    origin: Origin,
    log: Arc<Mutex<Vec<(String, Instant)>>>,
    started: Instant,
}

impl Wall {
    fn start() -> Self {
        let log: Arc<Mutex<Vec<(String, Instant)>>> = Arc::default();
        let (own, started) = (Arc::clone(&log), Instant::now());
        let origin = Origin::scripted(move |talk| {
            let model = model_of(talk);
            let attempt = {
                let mut log = own.lock().expect("not poisoned");
                log.push((model.clone(), Instant::now()));
                log.iter().filter(|(other, _)| *other == model).count()
            };
            fault(talk, &model, attempt, started)
        });
        Self { origin, log, started }
    }

    /// When this model was asked.
    fn attempts(&self, model: &str) -> Vec<Instant> {
        let log = self.log.lock().expect("not poisoned");
        log.iter().filter(|(other, _)| other == model).map(|(_, at)| *at).collect()
    }

    fn config(&self) -> Config {
        self.config_with("")
    }

    /// The same, where every model says `more`.
    fn config_with(&self, more: &str) -> Config {
        let quiet = "health = { enabled = false }";
        let mut config = Config::new()
            .backend("wall", self.origin.port, quiet)
            .model(SPARE, &["wall"], more)
            .key("one", K1, "")
            .key("two", K2, "models = [\"fb-s*\"]")
            .tables(
                "[timeouts]\nconnect = \"500ms\"\nfirst_token = \"1200ms\"\nbetween_events = \"1500ms\"\n\
                 retry_wait = \"3s\"",
            );
        for name in FAULTS {
            let model = format!("fb-{name}");
            config = config.model(&model, &["wall"], &format!("fallbacks = [\"{SPARE}\"]\n{more}"));
        }
        config
    }
}

/// The model that a request names.
fn model_of(talk: &Talk) -> String {
    let body: serde_json::Value = serde_json::from_str(&talk.request.text()).expect("a JSON body");
    body["model"].as_str().expect("a model").to_owned()
}

/// Words of an answer from the first on; false if the gateway has gone.
fn words(talk: &Talk, model: &str, count: std::ops::Range<usize>) -> bool {
    count.into_iter().all(|index| {
        talk.pause(Duration::from_millis(2));
        talk.chunk(named(&content(&format!("w{index} ")), model))
    })
}

/// An event of the harness in the name of this model.
fn named(event: &str, model: &str) -> String {
    event.replace("\"m\"", &format!("\"{model}\""))
}

/// All words, or those that follow what an assistant's last message says.
fn whole(talk: &Talk, model: &str) -> Next {
    let body: serde_json::Value = serde_json::from_str(&talk.request.text()).expect("a JSON body");
    let last = body["messages"].as_array().and_then(|messages| messages.last());
    let said = last.and_then(|last| last["content"].as_str()).unwrap_or_default();
    let said = if body["continue_final_message"] == true { said.split_inclusive(' ').count() } else { 0 };
    talk.stream();
    words(talk, model, said..WORDS);
    talk.chunk(named(&sse::finish(), model));
    talk.chunk(named(&sse::usage((7 + said) as u64, (WORDS - said) as u64), model));
    talk.chunk(sse::DONE);
    talk.end()
}

fn refusal(talk: &Talk, status: &str, fields: &str, code: &str) -> Next {
    let body = format!(
        "{{\"error\":{{\"message\":\"said by the wall\",\"type\":\"server_error\",\"param\":null,\"code\":\"{code}\"}}}}"
    );
    talk.answer(status, &format!("Content-Type: application/json\r\n{fields}"), &body)
}

/// What the provider does with the attempt of this number, from 1.
fn fault(talk: &Talk, model: &str, attempt: usize, started: Instant) -> Next {
    match model.strip_prefix("fb-").unwrap_or(model) {
        "s01" if attempt == 1 => {
            refusal(talk, "429 Too Many Requests", "Retry-After: 2\r\n", "rate_limit_exceeded")
        }
        "s02" => refusal(talk, "429 Too Many Requests", "", "rate_limit_exceeded"),
        "s03" if attempt == 1 => refusal(talk, "500 Internal Server Error", "", "server_error"),
        "s04" | "s16" => refusal(talk, "503 Service Unavailable", "", "server_error"),
        "s05" if attempt == 1 => Next::Reset,
        "s06" => {
            talk.pause(Duration::from_secs(12));
            Next::Close
        }
        "s07" => {
            talk.stream();
            talk.pause(Duration::from_secs(2));
            words(talk, model, 0..WORDS);
            Next::Close
        }
        "s08" | "s14" => {
            talk.stream();
            words(talk, model, 0..40);
            Next::Close
        }
        "s09" => {
            talk.stream();
            words(talk, model, 0..20);
            talk.pause(Duration::from_secs(3));
            Next::Close
        }
        "s10" => {
            talk.stream();
            words(talk, model, 0..10);
            talk.chunk("data: {\"choices\":[{\"delta\":{\"content\":\"br\n\n");
            words(talk, model, 10..WORDS);
            talk.chunk(sse::finish());
            talk.chunk(sse::DONE);
            talk.end()
        }
        "s11" => {
            talk.stream();
            words(talk, model, 0..WORDS);
            talk.chunk(named(&sse::finish(), model));
            talk.chunk(named(&sse::usage(7, WORDS as u64), model));
            talk.end()
        }
        "s12" => refusal(talk, "400 Bad Request", "", "context_length_exceeded"),
        "s13" => refusal(talk, "400 Bad Request", "", "content_policy_violation"),
        "s15" if started.elapsed() < OUTAGE => refusal(talk, "503 Service Unavailable", "", "server_error"),
        "role-then-cut" => {
            talk.stream();
            talk.chunk(": a comment\n\n");
            talk.chunk(
                "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
            );
            talk.pause(Duration::from_millis(50));
            Next::Close
        }
        _ => whole(talk, model),
    }
}

/// How long the provider of S15 is away.
const OUTAGE: Duration = Duration::from_secs(6);

/// One request as the benchmark's client makes it.
fn ask(gateway: &Gateway, model: &str, key: &str) -> Outcome {
    let body = format!(
        "{{\"model\":\"{model}\",\"messages\":[],\"stream\":true,\"stream_options\":{{\"include_usage\":true}}}}"
    );
    let request = chat(key, model, &body);
    let mut client = gateway.connect();
    let close = String::from_utf8(request).expect("text").replacen("\r\n", "\r\nConnection: close\r\n", 1);
    client.send(close.as_bytes());
    client.finish(&[], PATIENCE)
}

fn all_words(count: usize) -> String {
    (0..count).map(|index| format!("w{index} ")).collect()
}

/// The answer has every word and a proper end; it names this model.
fn check_whole(outcome: &Outcome, model: &str) {
    let answer = outcome.answers.first().unwrap_or_else(|| panic!("no whole answer: {outcome:?}"));
    assert_eq!(answer.status(), 200, "{answer:?}");
    let text = answer.text();
    assert_eq!(judge(&text), (all_words(WORDS), Ending::Finished), "{text}");
    assert_eq!(
        text.matches(&format!("\"model\":\"{model}\"")).count(),
        WORDS + 2,
        "who answers is told: {text}"
    );
    assert!(text.contains("\"completion_tokens\":60"), "usage: {text}");
}

/// The gateway is well: the spare model answers.
fn check_well(gateway: &Gateway) {
    check_whole(&ask(gateway, SPARE, K1), SPARE);
}

/// The model has this many attempts behind it, and the spare answered whole in its place.
fn falls_over(gateway: &Gateway, wall: &Wall, model: &str, attempts: usize) {
    check_whole(&ask(gateway, model, K1), SPARE);
    assert_eq!(wall.attempts(model).len(), attempts, "{model}");
    check_well(gateway);
}

#[test]
fn s01_a_pause_that_was_asked_for_is_kept_and_then_the_same_backend_answers() {
    let wall = Wall::start();
    let gateway = Gateway::start(&wall.config());
    check_whole(&ask(&gateway, "fb-s01", K1), "fb-s01");
    let attempts = wall.attempts("fb-s01");
    assert_eq!(attempts.len(), 2);
    assert!(attempts[1] - attempts[0] >= Duration::from_millis(1_990), "{attempts:?}");
    assert!(gateway.metric("ringway_retries_waited_total", "") >= 1.0);
}

#[test]
fn s02_s04_s16_a_backend_that_stays_busy_is_asked_a_few_times_and_then_its_fallback() {
    let wall = Wall::start();
    let gateway = Gateway::start(&wall.config());
    for model in ["fb-s02", "fb-s04", "fb-s16"] {
        falls_over(&gateway, &wall, model, 3);
        let attempts = wall.attempts(model);
        assert!(
            attempts[2] - attempts[0] >= Duration::from_millis(1_990),
            "a second's pause each: {attempts:?}"
        );
    }
    assert!((gateway.metric("ringway_fallbacks_total", "") - 3.0).abs() < 0.1);
}

#[test]
fn s03_a_failure_is_tried_again_on_the_same_backend() {
    let wall = Wall::start();
    let gateway = Gateway::start(&wall.config());
    check_whole(&ask(&gateway, "fb-s03", K1), "fb-s03");
    assert_eq!(wall.attempts("fb-s03").len(), 2);
}

/// As the benchmark runs them: one gateway, one case after the other, a healthy request after each.
#[test]
fn every_case_passes_behind_one_backend_after_all_the_others() {
    let wall = Wall::start();
    let gateway = Gateway::start(&wall.config());
    let cut = [("s08", 40), ("s09", 20), ("s14", 40)];
    for name in FAULTS.iter().copied().filter(|name| *name != "s15") {
        let model = format!("fb-{name}");
        let outcome = ask(&gateway, &model, K1);
        let answer = outcome.answers.first().or(outcome.cut.as_ref());
        let answer = answer.unwrap_or_else(|| panic!("{name}: {outcome:?}"));
        match name {
            "s01" | "s03" | "s11" => check_whole(&outcome, &model),
            "s08" | "s09" | "s14" => {
                let count = cut.iter().find(|(case, _)| *case == name).expect("one of them").1;
                let (text, ending) = judge(&answer.text());
                assert_eq!(text, all_words(count), "{name}");
                assert!(matches!(ending, Ending::Failed(_)), "{name}: {ending:?}");
            }
            // On a kept connection, which may have been closed before: the same model is asked once more.
            "s05" if wall.attempts(&model).len() == 2 => check_whole(&outcome, &model),
            "s10" => assert!(answer.text().contains("[DONE]"), "{answer:?}"),
            "s13" => assert_eq!(answer.status(), 400, "{answer:?}"),
            _ => check_whole(&outcome, SPARE),
        }
        check_well(&gateway);
    }
    assert_eq!(gateway.metric("ringway_backend_breaker", ""), 0.0, "the backend was blamed");
}

/// With `resume` the streams that break off go on at the fallback: whole, under the name of the model that began them.
#[test]
fn every_case_passes_where_models_resume() {
    let wall = Wall::start();
    let gateway = Gateway::start(&wall.config_with("resume = true"));
    for name in FAULTS.iter().copied().filter(|name| *name != "s15") {
        let model = format!("fb-{name}");
        let outcome = ask(&gateway, &model, K1);
        let answer = outcome.answers.first().unwrap_or_else(|| panic!("{name}: {outcome:?}"));
        match name {
            "s01" | "s03" | "s08" | "s09" | "s11" | "s14" => check_whole(&outcome, &model),
            "s05" if wall.attempts(&model).len() == 2 => check_whole(&outcome, &model),
            "s10" => assert!(answer.text().contains("[DONE]"), "{answer:?}"),
            "s13" => assert_eq!(answer.status(), 400, "{answer:?}"),
            _ => check_whole(&outcome, SPARE),
        }
        check_well(&gateway);
    }
    assert_eq!(gateway.metric("ringway_streams_resumed_total", ""), 3.0);
    assert_eq!(gateway.metric("ringway_backend_breaker", ""), 0.0, "the backend was blamed");
}

#[test]
fn s05_a_reset_before_any_byte_falls_over() {
    let wall = Wall::start();
    let gateway = Gateway::start(&wall.config());
    falls_over(&gateway, &wall, "fb-s05", 1);
}

#[test]
fn s06_s07_who_is_silent_or_slow_to_the_first_token_is_asked_once() {
    let wall = Wall::start();
    let gateway = Gateway::start(&wall.config());
    for model in ["fb-s06", "fb-s07"] {
        let asked = Instant::now();
        falls_over(&gateway, &wall, model, 1);
        assert!(asked.elapsed() >= Duration::from_millis(1_190), "{model} had its time to the first token");
    }
}

#[test]
fn s08_s09_s14_a_stream_that_dies_in_the_middle_says_so() {
    let wall = Wall::start();
    let gateway = Gateway::start(&wall.config());
    for (model, count, code) in [
        ("fb-s08", 40, "backend_stream_truncated"),
        ("fb-s09", 20, "backend_idle_timeout"),
        ("fb-s14", 40, "backend_stream_truncated"),
    ] {
        let outcome = ask(&gateway, model, K1);
        let answer = outcome.answers.first().or(outcome.cut.as_ref()).expect("an answer");
        assert_eq!(judge(&answer.text()), (all_words(count), Ending::Failed(code.into())), "{model}");
        assert_eq!(wall.attempts(model).len(), 1, "{model}");
    }
    check_well(&gateway);
}

#[test]
fn s10_an_event_that_is_no_json_passes_as_it_came() {
    let wall = Wall::start();
    let gateway = Gateway::start(&wall.config());
    let outcome = ask(&gateway, "fb-s10", K1);
    let text = outcome.answers.first().expect("a whole answer").text();
    let broken = "data: {\"choices\":[{\"delta\":{\"content\":\"br\n\n";
    assert!(text.contains(broken), "{text}");
    assert_eq!(judge(&text.replace(broken, "")), (all_words(WORDS), Ending::Finished));
    check_well(&gateway);
}

#[test]
fn s11_an_answer_without_done_ends_at_once_and_has_its_usage() {
    let wall = Wall::start();
    let gateway = Gateway::start(&wall.config());
    check_whole(&ask(&gateway, "fb-s11", K1), "fb-s11");
}

#[test]
fn s12_a_prompt_that_does_not_fit_goes_to_the_fallback_and_is_not_sent_again() {
    let wall = Wall::start();
    let gateway = Gateway::start(&wall.config());
    falls_over(&gateway, &wall, "fb-s12", 1);
    // No failure of the backend: it is asked again at once.
    falls_over(&gateway, &wall, "fb-s12", 2);
}

#[test]
fn s13_a_refusal_of_the_content_is_the_answer() {
    let wall = Wall::start();
    let gateway = Gateway::start(&wall.config());
    let outcome = ask(&gateway, "fb-s13", K1);
    let answer = outcome.answers.first().expect("an answer");
    assert_eq!(answer.status(), 400);
    assert!(answer.text().contains("content_policy_violation") && answer.text().contains("said by the wall"));
    assert_eq!(wall.attempts("fb-s13").len(), 1);
    assert_eq!(wall.attempts(SPARE).len(), 0);
}

#[test]
fn s15_everybody_is_answered_while_a_backend_is_away_and_it_is_asked_again_after() {
    let wall = Wall::start();
    let gateway = Gateway::start(&wall.config().tables("[model.\"fb-s15\".timeouts]\nretry_wait = \"0s\""));
    for turn in 0..20 {
        let next = wall.started + Duration::from_millis(400) * turn;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let model = if wall.started.elapsed() < OUTAGE { SPARE } else { "fb-s15" };
        let outcome = ask(&gateway, "fb-s15", K1);
        let text = outcome.answers.first().unwrap_or_else(|| panic!("turn {turn}: {outcome:?}")).text();
        assert_eq!(judge(&text).0, all_words(WORDS), "turn {turn}, {model}");
        assert!(wall.attempts("fb-s15").len() as u32 <= turn + 1, "at most one attempt per request");
    }
    let recovered = support::eventually(Duration::from_secs(3), || {
        let outcome = ask(&gateway, "fb-s15", K1);
        outcome.answers.first().is_some_and(|answer| answer.text().contains("\"model\":\"fb-s15\""))
    });
    assert!(recovered, "the backend is back, and was not asked");
}

#[test]
fn roles_and_comments_are_no_content() {
    let wall = Wall::start();
    let gateway = Gateway::start(&wall.config());
    falls_over(&gateway, &wall, "fb-role-then-cut", 1);
}

#[test]
fn a_key_is_not_served_by_a_model_that_it_may_not_use() {
    let wall = Wall::start();
    let gateway = Gateway::start(&wall.config());
    let outcome = ask(&gateway, "fb-s12", K2);
    let answer = outcome.answers.first().expect("an answer");
    assert_eq!(answer.status(), 400, "{answer:?}");
    assert!(answer.text().contains("said by the wall"), "the backend's own words: {answer:?}");
    assert_eq!(wall.attempts(SPARE).len(), 0);
}

/// Without a stream: a body that is cut, and one that never comes.
#[test]
fn a_body_that_does_not_come_whole_falls_over() {
    let origin = Origin::scripted(|talk| {
        let json = "Content-Type: application/json\r\n";
        match model_of(talk).as_str() {
            "cut" => {
                talk.send(format!(
                    "HTTP/1.1 200 OK\r\n{json}Content-Length: 100\r\n\r\n{{\"choices\":[{{\"mess"
                ));
                talk.pause(Duration::from_millis(20));
                Next::Close
            }
            "silent" => {
                talk.send(format!("HTTP/1.1 200 OK\r\n{json}Content-Length: 100\r\n\r\n"));
                talk.pause(Duration::from_secs(3));
                Next::Close
            }
            model => talk.answer("200 OK", json, &format!("{{\"model\":\"{model}\",\"choices\":[]}}")),
        }
    });
    let quiet = "health = { enabled = false }";
    let mut config = Config::new()
        .backend("spare", origin.port, quiet)
        .model(SPARE, &["spare"], "")
        .key("one", K1, "")
        .top("debug_headers = true")
        .tables("[timeouts]\nconnect = \"500ms\"\nfirst_token = \"1s\"");
    for name in ["cut", "silent"] {
        config = config.backend(name, origin.port, quiet).model(name, &[name], "fallbacks = [\"fb-ok\"]");
    }
    let gateway = Gateway::start(&config);
    for name in ["cut", "silent"] {
        let answer = support::ask(&gateway, &format!("{{\"model\":\"{name}\",\"messages\":[]}}"), name);
        assert_eq!(answer.status(), 200, "{name}: {answer:?}");
        assert_eq!(answer.text(), "{\"model\":\"fb-ok\",\"choices\":[]}", "{name}");
        assert_eq!(answer.one("x-ringway-fallback"), "fb-ok", "{name}");
    }
}
