//! What a failure says about whom: pauses and breakers by deployment, and by backend where the transport fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::gateway::{Config, Gateway, K1, free_port};
use support::origin::{Next, Origin, Talk, completion};
use support::strict::Message;
use support::{PATIENCE, ask, chat_head, eventually};

pub(super) const QUIET: &str = "health = { enabled = false }";
pub(super) const JSON: &str = "Content-Type: application/json\r\n";

/// The smallest request for a model.
pub(super) fn body(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[]}}"#)
}

/// The model that a request names.
pub(super) fn model_of(talk: &Talk) -> String {
    talk.request.json()["model"].as_str().expect("a model").to_owned()
}

/// A request for a model in Anthropic's dialect.
pub(super) fn messages(gateway: &Gateway, model: &str) -> Message {
    let body = format!(r#"{{"model":"{model}","max_tokens":1,"messages":[]}}"#);
    let head = chat_head(K1, "messages").replace("/v1/chat/completions", "/v1/messages");
    let mut client = gateway.connect();
    client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    client.answer().expect("an answer")
}

/// One backend with two models, of which only `b` is well; counts how often each was asked.
struct Two {
    origin: Origin,
    asked: Arc<[AtomicUsize; 2]>,
}

impl Two {
    fn start(fault: impl Fn(&mut Talk) -> Next + Send + Sync + 'static) -> Self {
        let asked: Arc<[AtomicUsize; 2]> = Arc::default();
        let counts = Arc::clone(&asked);
        let origin = Origin::scripted(move |talk| {
            let is_a = model_of(talk) == "name-a";
            counts[usize::from(!is_a)].fetch_add(1, Ordering::SeqCst);
            match is_a {
                true => fault(talk),
                false => talk.answer("200 OK", JSON, &completion("well")),
            }
        });
        Self { origin, asked }
    }

    fn config(&self, more: &str) -> Config {
        Config::new()
            .backend("b1", self.origin.port, &format!("{more}\n{QUIET}"))
            .model("spare", &["b1"], "")
            .tables("[model.a]\nbackends = [{ name = \"b1\", model = \"name-a\" }]\nfallbacks = [\"spare\"]")
            .tables("[model.alone]\nbackends = [{ name = \"b1\", model = \"name-a\" }]")
            .tables("[model.b]\nbackends = [{ name = \"b1\", model = \"name-b\" }]")
            .key("one", K1, "")
    }

    fn asked(&self) -> [usize; 2] {
        [0, 1].map(|index| self.asked[index].load(Ordering::SeqCst))
    }
}

fn limited(talk: &mut Talk) -> Next {
    talk.answer("429 Too Many Requests", &format!("{JSON}Retry-After: 60\r\n"), "{}")
}

#[test]
fn what_one_model_answers_says_nothing_about_the_others_of_its_backend() {
    type Fault = fn(&mut Talk) -> Next;
    let faults: [(&str, usize, Fault); 8] = [
        ("a pause that was asked for", 1, limited),
        ("a plain 429", 1, |talk| talk.answer("429 Too Many Requests", JSON, "{}")),
        ("a plain 503", 1, |talk| talk.answer("503 Service Unavailable", "", "")),
        ("failures", 5, |talk| talk.answer("500 Internal Server Error", JSON, "{\"error\":{}}")),
        ("overload", 5, |talk| talk.answer("529 Overloaded", JSON, "{\"error\":{}}")),
        ("a key that is not for it", 5, |talk| talk.answer("403 Forbidden", JSON, "{\"error\":{}}")),
        ("resets", 5, |_| Next::Reset),
        ("streams that end before their first token", 5, |talk| {
            talk.stream();
            talk.chunk(": nothing\n\n");
            Next::Close
        }),
    ];
    for (name, times, fault) in faults {
        let two = Two::start(fault);
        let gateway = Gateway::start(&two.config(""));
        for turn in 0..times {
            ask(&gateway, &body("a").replace("[]", "[],\"stream\":true"), &format!("{name} {turn}"));
        }
        let open = || gateway.metric("ringway_deployment_breaker", "model=\"name-a\"") > 0.0;
        assert!(eventually(PATIENCE, open), "{name}: it has its own breaker");
        assert_eq!(gateway.metric("ringway_deployment_breaker", "model=\"name-b\""), 0.0, "{name}");
        let before = two.asked();
        for turn in 0..3 {
            let answer = ask(&gateway, &body("b"), name);
            assert_eq!((answer.status(), answer.text()), (200, completion("well")), "{name}, turn {turn}");
        }
        assert_eq!(two.asked()[1], before[1] + 3, "{name}: nobody answers in its place");
        assert_eq!(gateway.metric("ringway_backend_breaker", ""), 0.0, "{name}");
    }
}

/// `a` and `alone` are two public names for one deployment.
#[test]
fn a_deployment_has_one_state_by_whichever_model_it_is_reached() {
    let two = Two::start(limited);
    let gateway = Gateway::start(&two.config(""));
    assert_eq!(ask(&gateway, &body("a"), "first").status(), 200, "its fallback answers");
    assert_eq!(two.asked()[0], 1);
    for turn in 0..3 {
        let answer = ask(&gateway, &body("alone"), &format!("turn {turn}"));
        assert_eq!(answer.status(), 429, "{answer:?}");
        let wait: u64 = answer.one("retry-after").parse().expect("seconds");
        assert!((50..=60).contains(&wait), "{answer:?}");
    }
    assert_eq!(two.asked()[0], 1, "it is asked in its pause");
}

#[test]
fn an_operator_can_say_that_limits_are_those_of_an_account() {
    let two = Two::start(limited);
    let gateway = Gateway::start(&two.config("limit_scope = \"backend\""));
    assert_eq!(ask(&gateway, &body("a"), "first").status(), 429, "its fallback is paused, too");
    assert_eq!(ask(&gateway, &body("b"), "other").status(), 429);
    assert_eq!(two.asked(), [1, 0]);

    // Other failures are still those of the model.
    let two = Two::start(|talk| talk.answer("503 Service Unavailable", "Retry-After: 60\r\n", ""));
    let gateway = Gateway::start(&two.config("limit_scope = \"backend\""));
    assert_eq!(ask(&gateway, &body("alone"), "first").status(), 503);
    assert_eq!(ask(&gateway, &body("b"), "other").status(), 200);
}

#[test]
fn a_pause_of_an_account_ends_for_all_its_models() {
    let two =
        Two::start(|talk| talk.answer("429 Too Many Requests", &format!("{JSON}Retry-After: 1\r\n"), "{}"));
    let gateway = Gateway::start(&two.config("limit_scope = \"backend\""));
    ask(&gateway, &body("alone"), "first");
    assert_eq!(ask(&gateway, &body("b"), "paused").status(), 429);
    assert!(eventually(PATIENCE, || ask(&gateway, &body("b"), "later").status() == 200));
    for turn in 0..5 {
        assert_eq!(ask(&gateway, &body("b"), &format!("after {turn}")).status(), 200);
    }
}

/// A backend that cannot be reached is left out by all its models, not by the one that found out.
#[test]
fn what_the_transport_says_is_about_all_models_of_the_backend() {
    let well = Origin::start();
    let config = Config::new()
        .backend("dead", free_port(), QUIET)
        .backend("well", well.port, QUIET)
        .model("a", &["dead", "well"], "")
        .model("b", &["dead", "well"], "")
        .model("c", &["dead"], "fallbacks = [\"b\"]")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    // One shard or several: the state is shared. The lone member is asked until it is left out.
    for turn in 0..5 {
        assert_eq!(ask(&gateway, &body("c"), &format!("turn {turn}")).status(), 200);
    }
    assert_eq!(gateway.metric("ringway_backend_breaker", "backend=\"dead\""), 2.0);
    let failures = gateway.metric("ringway_backend_dial_failures_total", "");
    for turn in 0..20 {
        assert_eq!(ask(&gateway, &body(["a", "b"][turn % 2]), &format!("turn {turn}")).status(), 200);
    }
    let more = gateway.metric("ringway_backend_dial_failures_total", "") - failures;
    assert!(more <= 3.0, "it was dialled {more} times by other models");
    assert_eq!(gateway.metric("ringway_deployment_breaker", "backend=\"dead\""), 0.0);
}

#[test]
fn a_reload_keeps_the_state_of_the_deployments_that_stay() {
    let two = Two::start(limited);
    let gateway = Gateway::start(&two.config(""));
    assert_eq!(ask(&gateway, &body("alone"), "first").status(), 429);
    gateway.rewrite(&two.config("").model("another", &["b1"], "").model("0-before", &["b1"], ""));
    assert_eq!(gateway.reload().0, 200);
    assert_eq!(ask(&gateway, &body("alone"), "second").status(), 429);
    assert_eq!(two.asked()[0], 1, "it is asked in its pause");
    assert_eq!(ask(&gateway, &body("another"), "third").status(), 200);
    assert_eq!(ask(&gateway, &body("b"), "fourth").status(), 200);
}

#[test]
fn an_operator_sees_which_deployment_is_paused_why_and_for_how_long() {
    let two = Two::start(limited);
    let gateway = Gateway::start(&two.config(""));
    ask(&gateway, &body("alone"), "first");
    let status: serde_json::Value =
        serde_json::from_str(&gateway.ask_admin("/status").expect("a status").1).expect("JSON");
    let of = |model: &str| {
        let rows = status["deployments"].as_array().expect("a list");
        rows.iter().find(|row| row["model"] == model).unwrap_or_else(|| panic!("{status}")).clone()
    };
    let paused = of("name-a");
    assert_eq!((&paused["backend"], &paused["breaker"]), (&"b1".into(), &"open".into()), "{paused}");
    assert_eq!(paused["blocked_by"], "limit");
    assert!((50.0..=60.1).contains(&paused["blocked_seconds"].as_f64().expect("seconds")), "{paused}");
    assert!(of("name-b")["blocked_by"].is_null() && of("spare")["breaker"] == "closed");
    assert_eq!(status["backends"][0]["breaker"], "closed");
    let pause = |model: &str| gateway.metric("ringway_deployment_pause_seconds", model);
    assert!((50.0..=60.1).contains(&pause("model=\"name-a\"")) && pause("model=\"name-b\"") == 0.0);
}

/// Nobody else to ask: what did not ask for a pause is asked again.
#[test]
fn a_lone_deployment_has_a_chance_at_every_retry_of_an_sdk() {
    for (status, code) in [
        ("503 Service Unavailable", 503),
        ("429 Too Many Requests", 429),
        ("500 Internal Server Error", 500),
        ("529 Overloaded", 529),
    ] {
        let ill = Arc::new(AtomicUsize::new(7));
        let left = Arc::clone(&ill);
        let two = Two::start(move |talk| match left.load(Ordering::SeqCst) {
            0 => talk.answer("200 OK", JSON, &completion("again")),
            count => {
                left.store(count - 1, Ordering::SeqCst);
                talk.answer(status, JSON, "{\"error\":{\"message\":\"not now\"}}")
            }
        });
        let gateway = Gateway::start(&two.config(""));
        // Failures enough to open its breaker, as fast as they come.
        let mut seen = Vec::new();
        while ill.load(Ordering::SeqCst) > 0 {
            let answer = ask(&gateway, &body("alone"), status);
            assert!(answer.status() == code || answer.status() == 503, "{status}: {answer:?}");
            assert!(answer.json()["error"].is_object(), "{status}: {answer:?}");
            seen.push(Instant::now());
        }
        let last = *seen.last().expect("some");
        let back = eventually(PATIENCE, || ask(&gateway, &body("alone"), "retry").status() == 200);
        assert!(back && last.elapsed() < Duration::from_millis(900), "{status}: {:?}", last.elapsed());
    }
}

/// 429 only if the backends said so; else 503, while they are paused as well, each with the time that is left.
#[test]
fn a_client_is_told_503_when_the_backends_said_503_and_429_when_they_said_429() {
    let (limit, away) = ("429 Too Many Requests", "503 Service Unavailable");
    for (statuses, expected) in [
        ([away, away], 503),
        ([limit, limit], 429),
        ([limit, away], 503),
        ([away, "500 Internal Server Error"], 503),
    ] {
        let origins = statuses.map(|status| {
            Origin::scripted(move |talk| {
                talk.answer(status, "Content-Type: text/plain\r\nRetry-After: 20\r\n", "not now")
            })
        });
        let config = Config::new()
            .backend("one", origins[0].port, &format!("serves = [\"chat\", \"messages\"]\n{QUIET}"))
            .backend("other", origins[1].port, &format!("serves = [\"chat\", \"messages\"]\n{QUIET}"))
            .model("m", &["one", "other"], "")
            .key("one", K1, "");
        let gateway = Gateway::start(&config);
        ask(&gateway, &body("m"), "first");
        let asked: usize = origins.iter().map(|origin| origin.seen().len()).sum();
        assert_eq!(asked, 2, "{statuses:?}");
        for turn in 0..2 {
            let answer = ask(&gateway, &body("m"), &format!("turn {turn}"));
            assert_eq!(answer.status(), expected, "{statuses:?}: {answer:?}");
            assert!(answer.json()["error"]["message"].is_string(), "{answer:?}");
            let wait: u64 = answer.one("retry-after").parse().expect("seconds");
            assert!((15..=20).contains(&wait), "{statuses:?}: {answer:?}");
            let answer = messages(&gateway, "m");
            assert_eq!((answer.status(), &answer.json()["error"]["type"]), (529, &"overloaded_error".into()));
            assert!(answer.has("retry-after"), "{answer:?}");
        }
        let asked: usize = origins.iter().map(|origin| origin.seen().len()).sum();
        assert_eq!(asked, 2, "{statuses:?}: asked in its pause");
    }
}

#[test]
fn one_plain_503_is_a_503_in_the_clients_dialect() {
    let origin = Origin::scripted(|talk| talk.answer("503 Service Unavailable", "", "<html>busy</html>"));
    let config = Config::new()
        .backend("b1", origin.port, &format!("serves = [\"chat\", \"messages\"]\n{QUIET}"))
        .model("m", &["b1"], "")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    for turn in 1..=3 {
        let answer = ask(&gateway, &body("m"), "x");
        assert_eq!(answer.status(), 503, "{answer:?}");
        assert_eq!(answer.json()["error"]["code"], "backend_overloaded", "{answer:?}");
        assert!(answer.has("retry-after") && answer.one("x-should-retry") == "true", "{answer:?}");
        let answer = messages(&gateway, "m");
        assert_eq!((answer.status(), &answer.json()["error"]["type"]), (529, &"overloaded_error".into()));
        assert!(answer.has("retry-after"), "{answer:?}");
        assert_eq!(origin.seen().len(), 2 * turn, "it did not ask for a pause");
    }
}

/// However a backend says for how long it wants to be left alone, it is; the client hears what is left of it.
#[test]
fn a_pause_is_kept_in_whatever_form_it_was_asked_for() {
    let date = |seconds: u64| {
        let at = std::time::SystemTime::now() + Duration::from_secs(seconds);
        httpdate::fmt_http_date(at)
    };
    let unix =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let lines = [
        (format!("Retry-After: {}", date(90)), 80..=90),
        ("Retry-After: 20".to_owned(), 18..=20),
        ("Retry-After: 20.5".to_owned(), 18..=21),
        ("retry-after-ms: 30000".to_owned(), 28..=30),
        ("x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 1m20s".to_owned(), 75..=80),
        (format!("x-ratelimit-reset: {}", unix + 60), 50..=60),
        // A clock that is years behind, whose own date says so.
        (
            "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sunday, 06-Nov-94 08:50:07 GMT".to_owned(),
            28..=30,
        ),
        (
            "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nanthropic-ratelimit-requests-reset: 1994-11-06T08:50:07Z"
                .to_owned(),
            28..=30,
        ),
        // No more than five minutes are believed.
        ("Retry-After: 999999999".to_owned(), 295..=300),
    ];
    for (line, left) in lines {
        let fields = format!("{JSON}{line}\r\n");
        let two = Two::start(move |talk| talk.answer("429 Too Many Requests", &fields, "{}"));
        let gateway = Gateway::start(&two.config(""));
        for turn in 0..2 {
            let answer = ask(&gateway, &body("alone"), "x");
            assert_eq!(answer.status(), 429, "{line}: {answer:?}");
            let wait: u64 = answer.one("retry-after").parse().expect("seconds");
            assert!(left.contains(&wait), "{line}, turn {turn}: {answer:?}");
        }
        assert_eq!(two.asked()[0], 1, "{line}: asked in its pause");
    }
}

/// What means nothing is no pause.
#[test]
fn a_pause_that_cannot_be_read_is_none() {
    for line in [
        "Retry-After: -5",
        "Retry-After: soon",
        "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT",
        "Retry-After:",
        "x-ratelimit-reset-tokens: never",
        "retry-after-ms: 1e12",
    ] {
        let fields = format!("{JSON}{line}\r\n");
        let two = Two::start(move |talk| talk.answer("429 Too Many Requests", &fields, "{}"));
        let gateway = Gateway::start(&two.config(""));
        for _ in 0..2 {
            let answer = ask(&gateway, &body("alone"), "x");
            assert_eq!(
                (answer.status(), answer.one("retry-after").as_str()),
                (429, "1"),
                "{line}: {answer:?}"
            );
        }
        assert_eq!(two.asked()[0], 2, "{line}");
    }
}
