//! Responses whose verdict another process gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::guard_matrix::{self, every, says};
use super::guards::rows;
use support::gateway::{Config, Gateway, K1, K2};
use support::origin::{Next, Origin, Talk, completion};
use support::sse::{self, Ending, content, judge};
use support::strict::Message;
use support::{PATIENCE, eventually};

const RULE: &str = "[guard.judge]\naction = \"refuse\"\nwhere = [\"output\"]\nexternal = { backend = \"guard\", form = \"webhook\", timeout = \"20s\" }";

/// Refuses what is villainous, and keeps what it was sent.
fn webhook() -> Origin {
    Origin::scripted(|talk| {
        let is_bad = talk.request.text().contains("villainous plan");
        let verdict =
            if is_bad { r#"{"verdict":"refuse","reason":"it is bad"}"# } else { r#"{"verdict":"allow"}"# };
        talk.answer("200 OK", "Content-Type: application/json\r\n", verdict)
    })
}

fn start(origin: &Origin, guard: u16, tables: &str) -> Gateway {
    let quiet = "kind = \"vllm\"\nhealth = { enabled = false }";
    let config = Config::new()
        .shards("count = 1")
        .backend("b1", origin.port, quiet)
        .backend("b2", origin.port, quiet)
        .backend("guard", guard, quiet)
        .model("m", &["b1"], "")
        .model("other", &["b2"], "")
        .key("one", K1, "")
        .key("two", K2, "");
    Gateway::start(&config.tables(tables))
}

fn ask(gateway: &Gateway, stream: bool) -> Message {
    let body = json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "tell me"}]});
    guard_matrix::ask(gateway, K1, "/v1/chat/completions", &body)
}

fn texts(guard: &Origin) -> Vec<Value> {
    guard.seen().iter().map(|seen| seen.request.json()["texts"].clone()).collect()
}

#[test]
fn every_endpoint_gets_the_same_verdict_on_its_response_from_another_process() {
    for (pieces, is_bad) in [(&["a villai", "nous ", "plan"][..], true), (&["a fine ", "plan"][..], false)] {
        let (origin, guard) = (Origin::scripted(says(pieces)), webhook());
        let gateway = guard_matrix::start(&origin, guard.port, RULE);
        let plain = guard_matrix::start(&origin, guard.port, "");
        for (client, stream) in every() {
            let (path, body) = ((client.path)(stream), (client.body)("tell me", stream));
            let calls = guard.seen().len();
            let response = guard_matrix::ask(&gateway, K1, path, &body);
            let text = response.text();
            let told = guard.seen().pop().expect("a call").request.json()["texts"].clone();
            let first = json!({"where": "output", "text": pieces.concat()});
            assert_eq!(told[0], first, "{path} {stream}");
            assert_eq!(guard.seen().len(), calls + 1, "{path} {stream}");
            if !is_bad {
                let same = guard_matrix::ask(&plain, K1, path, &body);
                assert_eq!(response.status(), 200, "{path} {stream}: {text}");
                let length = |text: &str| text.len(); // ids and times differ
                assert_eq!(length(&text), length(&same.text()), "{path} {stream}: {text}\n{}", same.text());
                continue;
            }
            assert!(
                text.contains("the content rule 'judge' does not allow this: it is bad"),
                "{path} {stream}: {text}"
            );
            assert_eq!(response.status(), if stream { 200 } else { 400 }, "{path} {stream}: {text}");
            // What has passed of a stream has passed; its own end has not.
            assert!(stream || !text.contains("nous"), "{path}: {text}");
            for end in [
                "[DONE]",
                "message_stop",
                "\"stop\"",
                "end_turn",
                "response.completed",
                "\"STOP\"",
                "\"done\":true",
            ] {
                assert!(!text.contains(end), "{path} {stream}: {text}");
            }
        }
    }
}

#[test]
fn a_stream_passes_while_it_comes_and_only_its_end_waits_for_the_verdict() {
    let go = Arc::new(AtomicBool::new(false));
    let ready = Arc::clone(&go);
    let origin = Origin::scripted(says(&["one ", "two ", "three"]));
    let guard = Origin::scripted(move |talk| {
        talk.wait_for(&ready);
        talk.answer("200 OK", "Content-Type: application/json\r\n", r#"{"verdict":"allow"}"#)
    });
    let gateway = start(&origin, guard.port, RULE);
    let mut client = gateway.connect();
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "tell me"}]});
    client.send(&support::chat(K1, "passes", &body.to_string()));
    let partial = client.read_until("three").text();
    assert!(!partial.contains("finish_reason\":\"stop") && !partial.contains("[DONE]"), "{partial}");
    assert!(eventually(PATIENCE, || guard.seen().len() == 1));
    go.store(true, Ordering::SeqCst);
    assert_eq!(
        judge(&client.answer().expect("a response").text()),
        ("one two three".into(), Ending::Finished)
    );
    assert_eq!(texts(&guard), [json!([{"where": "output", "text": "one two three"}])]);
}

#[test]
fn without_a_verdict_a_response_is_refused_or_passes_as_configured() {
    let origin = Origin::scripted(says(&["one ", "two"]));
    let guard = Origin::scripted(|_: &mut Talk| Next::Close);
    for (failure, status, ending) in
        [("refuse", 503, Ending::Failed("guard_unavailable".into())), ("pass", 200, Ending::Finished)]
    {
        let rule = RULE.replace("timeout = \"20s\"", &format!("on_failure = \"{failure}\""));
        let gateway = start(&origin, guard.port, &rule);
        assert_eq!(ask(&gateway, false).status(), status, "{failure}");
        assert_eq!(judge(&ask(&gateway, true).text()), ("one two".into(), ending), "{failure}");
    }
}

#[test]
fn a_stream_that_is_cut_is_not_asked_about_and_a_silent_guard_is_waited_for_in_time() {
    let cut = Origin::scripted(|talk| {
        talk.stream();
        talk.chunk(content("half"));
        Next::Close
    });
    let guard = webhook();
    let gateway = start(&cut, guard.port, RULE);
    let text = ask(&gateway, true).text();
    assert_eq!(judge(&text), ("half".into(), Ending::Failed("backend_stream_truncated".into())), "{text}");
    assert!(guard.seen().is_empty());

    let silent = Origin::scripted(|talk| {
        talk.gone(PATIENCE);
        Next::Close
    });
    let origin = Origin::scripted(says(&["one ", "two"]));
    let gateway = start(&origin, silent.port, &RULE.replace("20s", "200ms"));
    let text = ask(&gateway, true).text();
    assert_eq!(judge(&text), ("one two".into(), Ending::Failed("guard_unavailable".into())), "{text}");
    assert_eq!(ask(&gateway, false).status(), 503);
}

#[test]
fn a_client_that_leaves_while_the_end_waits_leaves_nothing_behind() {
    let left = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&left);
    let origin = Origin::scripted(says(&["one"]));
    let guard = Origin::scripted(move |talk| {
        count.fetch_add(usize::from(talk.gone(PATIENCE)), Ordering::SeqCst);
        Next::Close
    });
    let gateway = start(&origin, guard.port, RULE);
    let mut client = gateway.connect();
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "tell me"}]});
    client.send(&support::chat(K1, "leaves", &body.to_string()));
    client.read_until("one");
    assert!(eventually(PATIENCE, || !guard.seen().is_empty()));
    client.reset();
    assert!(eventually(PATIENCE, || left.load(Ordering::SeqCst) == 1), "the call of the guard goes on");
    assert!(eventually(PATIENCE, || gateway.metric("ringway_exchanges_active", "") < 0.5));
}

#[test]
fn what_a_local_rule_has_masked_is_what_the_guard_reads_and_a_fallback_is_read_too() {
    let origin = Origin::scripted(|talk| match talk.request.json()["model"] == "m" {
        true => {
            talk.answer("503 Service Unavailable", "Content-Type: application/json\r\n", "{\"error\":{}}")
        }
        false => says(&["card 4111 1111", " 1111 1111, ", "a villainous plan"])(talk),
    });
    let guard = webhook();
    let mask = "[guard.cards]\ndetect = [\"payment_card\"]\nwhere = [\"output\"]\naction = \"mask\"\nmodels = [\"other\"]";
    let rule = RULE.replace("where", "models = [\"m\"]\nwhere");
    let quiet = "kind = \"vllm\"\nhealth = { enabled = false }";
    let config = Config::new()
        .shards("count = 1")
        .backend("b1", origin.port, quiet)
        .backend("b2", origin.port, quiet)
        .backend("guard", guard.port, quiet)
        .model("m", &["b1"], "fallbacks = [\"other\"]")
        .model("other", &["b2"], "")
        .key("one", K1, "");
    let gateway = Gateway::start(&config.tables(&format!("{rule}\n{mask}")));
    for stream in [false, true] {
        let response = ask(&gateway, stream);
        assert!(response.text().contains("content rule 'judge'"), "{stream}: {}", response.text());
        let told = texts(&guard).pop().expect("a call");
        assert_eq!(told[0]["text"], "card <CARD_1>, a villainous plan", "{stream}");
    }
}

#[test]
fn a_stream_in_one_read_and_one_that_ends_by_a_close_wait_as_well() {
    for says_length in [true, false] {
        for (text, ending) in [
            ("a villainous plan", Ending::Failed("content_policy_violation".into())),
            ("a fine plan", Ending::Finished),
        ] {
            let origin = Origin::scripted(move |talk| {
                let body = [content(text), sse::finish(), sse::DONE.to_owned()].concat();
                let length =
                    if says_length { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
                talk.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{length}\r\n{body}"
                ));
                talk.pause(Duration::from_millis(5));
                if says_length { Next::Keep } else { Next::Close }
            });
            let guard = webhook();
            let gateway = start(&origin, guard.port, RULE);
            let response = ask(&gateway, true).text();
            assert_eq!(judge(&response), (text.to_owned(), ending), "{says_length}: {response}");
        }
    }
}

#[test]
fn what_a_refused_response_has_cost_is_in_the_ledger() {
    let origin = Origin::scripted(|talk| {
        if talk.request.json()["stream"] != true {
            let body = completion("a villainous plan");
            return talk.answer("200 OK", "Content-Type: application/json\r\n", &body);
        }
        talk.stream();
        for event in [content("a villainous plan"), sse::finish(), sse::usage(3, 2), sse::DONE.to_owned()] {
            talk.chunk(event);
        }
        talk.end()
    });
    let guard = webhook();
    let local = "[guard.local]\nwords = [\"villainous\"]\nwhere = [\"output\"]\naction = \"refuse\"";
    for (rule, streams) in [(RULE, &[true, false][..]), (local, &[false])] {
        let gateway = start(&origin, guard.port, rule);
        for stream in streams {
            assert!(ask(&gateway, *stream).text().contains("content_policy_violation"));
        }
        let cost = || {
            let rows = rows(&gateway, &["requests"]);
            rows.iter()
                .map(|row| (row["input_tokens"].clone(), row["output_tokens"].clone()))
                .collect::<Vec<_>>()
        };
        let expected = vec![(json!(3), json!(2)); streams.len()];
        assert!(eventually(PATIENCE, || cost() == expected), "{:?}", cost());
    }
}
