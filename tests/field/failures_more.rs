//! More of what a failure says about whom: adapters behind one backend, pauses in other words, a member that does not have the
//! model.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::failures::{JSON, QUIET, body, model_of};
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk, completion};
use support::{PATIENCE, ask, eventually};

type Fault = fn(&mut Talk) -> Next;

/// Kinds of trouble that one adapter of a server can have, in one backend with four names; the others are well.
#[test]
fn one_adapter_of_many_fails_alone() {
    let faults: [(&str, Fault); 6] = [
        ("not loaded", |talk| talk.answer("404 Not Found", JSON, r#"{"detail":"model not loaded"}"#)),
        ("an account without credit", |talk| talk.answer("402 Payment Required", JSON, "{\"error\":{}}")),
        ("a 429 in a 200", |talk| {
            talk.answer("200 OK", &format!("{JSON}Retry-After: 60\r\n"), r#"{"error":{"code":429}}"#)
        }),
        ("a page of a proxy", |talk| talk.answer("520 Whatever", "Content-Type: text/html\r\n", "<html>")),
        ("a limit with a reset", |talk| {
            talk.answer(
                "429 Too Many Requests",
                &format!("{JSON}x-ratelimit-reset-requests: 1m30s\r\nx-ratelimit-remaining-requests: 0\r\n"),
                "{}",
            )
        }),
        ("half a head", |talk| {
            talk.send("HTTP/1.1 200 OK\r\nContent-");
            Next::Close
        }),
    ];
    for (name, fault) in faults {
        let origin = Origin::scripted(move |talk| match model_of(talk) == "ill" {
            true => fault(talk),
            false => talk.answer("200 OK", JSON, &completion(&model_of(talk))),
        });
        let names = ["ill", "well-1", "well-2", "well-3"];
        let config = names.iter().fold(
            Config::new().backend("b1", origin.port, QUIET).key("one", K1, ""),
            |config, name| {
                config
                    .tables(&format!("[model.{name}]\nbackends = [{{ name = \"b1\", model = \"{name}\" }}]"))
            },
        );
        let gateway = Gateway::start(&config);
        for turn in 0..7 {
            let answer = ask(&gateway, &body("ill"), name);
            assert!(answer.status() >= 400, "{name} {turn}: {answer:?}");
            assert!(answer.json().is_object(), "{name} {turn}: {answer:?}");
            for well in &names[1..] {
                assert_eq!(ask(&gateway, &body(well), name).text(), completion(well), "{name} {turn}");
            }
        }
    }
}

/// In a pool of three with one that is well, every first request of a client gets its response.
#[test]
fn a_pool_with_one_sound_member_answers() {
    let faults: [(&str, Fault); 5] = [
        ("507", |talk| talk.answer("507 Insufficient Storage", "", "")),
        ("404 with a page", |talk| talk.answer("404 Not Found", "Content-Type: text/html\r\n", "<html>")),
        ("error in a 200", |talk| talk.answer("200 OK", JSON, r#"{"code":"1305","msg":"busy"}"#)),
        ("empty 200", |talk| talk.answer("200 OK", JSON, "")),
        ("503 in a 200", |talk| {
            talk.answer("200 OK", JSON, r#"{"error":{"status":"UNAVAILABLE","message":"x"}}"#)
        }),
    ];
    for (name, fault) in faults {
        let (one, two) = (Origin::scripted(fault), Origin::scripted(fault));
        let well = Origin::scripted(|talk| talk.answer("200 OK", JSON, &completion("well")));
        let config = Config::new()
            .backend("one", one.port, QUIET)
            .backend("two", two.port, QUIET)
            .backend("well", well.port, QUIET)
            .model("m", &["one", "two", "well"], "")
            .key("one", K1, "");
        let gateway = Gateway::start(&config);
        for turn in 0..8 {
            let answer = ask(&gateway, &body("m"), name);
            assert_eq!((answer.status(), answer.text()), (200, completion("well")), "{name} {turn}");
        }
    }
}

/// What asks for a pause in the words of other providers.
#[test]
fn pauses_in_other_words_are_kept_and_told() {
    for (lines, left) in [
        ("retry-after-ms: 45000\r\nretry-after: 1\r\n", 40..=45),
        ("Retry-After: 0.75m\r\n", 40..=45),
        ("anthropic-ratelimit-unified-reset: 9999999999\r\n", 290..=300),
        ("x-ratelimit-reset-after: 45\r\n", 40..=45),
        ("X-RateLimit-Reset: 45s\r\nX-RateLimit-Remaining: 0\r\n", 40..=45),
        ("RateLimit-Reset: 45\r\n", 40..=45),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let fields = format!("{JSON}{lines}");
        let origin = Origin::scripted(move |talk| {
            count.fetch_add(1, Ordering::SeqCst);
            talk.answer("429 Too Many Requests", &fields, "{}")
        });
        let gateway = Gateway::start(&Config::simple(origin.port));
        for turn in 0..2 {
            let answer = ask(&gateway, &body("m"), "x");
            assert_eq!(answer.status(), 429, "{lines}: {answer:?}");
            let wait: u64 = answer.one("retry-after").parse().expect("seconds");
            assert!(left.contains(&wait), "{lines}, turn {turn}: {answer:?}");
        }
        assert!(eventually(PATIENCE, || asked.load(Ordering::SeqCst) == 1), "{lines}: asked in its pause");
    }
}
