//! Streams whose body ends as it should: whether the response in it did.

use crate::answers::{EVERYTHING, ask, request};
use support::PATIENCE;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk};
use support::sse::{DONE, Ending, content, finish, judge, usage};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

fn gateway_for(origin: &Origin) -> Gateway {
    let config =
        Config::new().backend("b1", origin.port, EVERYTHING).model("m", &["b1"], "").key("one", K1, "");
    Gateway::start(&config)
}

/// Plays the body of a stream in events, in bytes or at once, in each framing that has an end of its own.
fn play(talk: &Talk, body: &str, way: usize) -> Next {
    match way {
        0 => {
            talk.stream();
            talk.chunk(body);
            talk.end()
        }
        1 => {
            talk.stream();
            let _ = body.as_bytes().iter().all(|byte| talk.chunk([*byte]));
            talk.end()
        }
        _ => {
            let length = body.len();
            talk.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {length}\r\n\r\n"
            ));
            for event in body.split_inclusive("\n\n") {
                talk.send(event);
                talk.pause(std::time::Duration::from_millis(2));
            }
            Next::Keep
        }
    }
}

fn relayed(path: &str, bodies: &[String], judge: impl Fn(&str, &str)) {
    let origin = Origin::start();
    let gateway = gateway_for(&origin);
    for (index, body) in bodies.iter().enumerate() {
        for way in 0..3 {
            let (case, text) = (format!("{index}-{way}"), body.clone());
            origin.case(&case, move |talk| play(talk, &text, way));
            let message = ask(&gateway, path, &case, "m", true);
            assert_eq!(message.status(), 200, "{case}: {message:?}");
            judge(&message.text(), body);
        }
    }
}

fn choice(index: usize, reason: &str) -> String {
    format!(
        "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"a\"}},\"text\":\"a\",\"finish_reason\":{reason}}}]}}\n\n"
    )
}

fn typed(kind: &str, rest: &str) -> String {
    format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n")
}

/// SDKs take the end of a body for the end of the response: only an error record tells them otherwise.
#[test]
fn a_stream_without_a_finish_reason_is_cut() {
    let empty = content("a").replace("null", "\"\"");
    let word = content("a").replace("null", "\"null\"");
    let call = "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]},\"finish_reason\":null}]}\n\n";
    let bodies = [
        content("a"),
        format!("{}{}", content("a"), usage(3, 1)),
        empty.repeat(3),
        word.repeat(2),
        format!("{}: bye\n\n", content("a")),
        format!("{}{call}", content("a")),
        format!("{}{}{}", choice(0, "null"), choice(1, "null"), choice(0, "\"stop\"")),
        format!("{}{}{}", choice(0, "null"), choice(1, "null"), choice(1, "\"stop\"")),
        format!("{}{}{}", content("a"), finish(), choice(2, "null").replace("2", "12")),
        format!("{}{}", content("a"), content("b").trim_end()),
        format!("{}data: {{\"choices\":[{{\"ind", content("a")),
    ];
    relayed(CHAT, &bodies, |text, body| {
        assert_eq!(judge(text).1, Ending::Failed("backend_stream_truncated".into()), "{body}: {text}");
        let passed = &text[..text.rfind("data: {\"error\"").expect("an error record")];
        assert!(!passed.is_empty() && body.starts_with(passed), "{body}: {text}");
    });
    relayed(COMPLETIONS, &[choice(0, "null").replace("delta", "x")], |text, _| {
        assert!(text.contains("backend_stream_truncated") && !text.contains("[DONE]"), "{text}");
    });
}

#[test]
fn a_finish_reason_in_any_form_is_an_end() {
    let other = |reason: &str| finish().replace("\"finish_reason\":\"stop\"", reason);
    let bodies = [
        format!("{}{}", content("a"), finish()),
        format!("{}{}", content("a"), other("\"finish_reason\":\"eos\"")),
        format!("{}{}", content("a"), other("\"finish_reason\" : \"length\"")),
        format!("{}{}", content("a"), other("\"finish_reason\": \"tool_calls\"")),
        format!("{}{}{}", content("a"), finish(), usage(3, 1)),
        format!("{}{}: bye\n\n", content("a"), finish()),
        format!(
            "{}{}{}{}",
            choice(0, "null"),
            choice(1, "null"),
            choice(1, "\"stop\""),
            choice(0, "\"stop\"")
        ),
        choice(0, "\"stop\"").replace("delta", "x"),
    ];
    // The usage is the answer to a question of the gateway's own.
    let passed = |body: &str| format!("{}{DONE}", body.replace(&usage(3, 1), ""));
    relayed(CHAT, &bodies, |text, body| assert_eq!(text, passed(body)));
    relayed(COMPLETIONS, &bodies, |text, body| assert_eq!(text, passed(body)));
}

/// The backend's own `[DONE]` is its word that this is all.
#[test]
fn a_done_of_the_backend_is_an_end() {
    let bodies =
        [format!("{}{DONE}", content("a")), format!("{}{}{DONE}", choice(0, "null"), choice(1, "null"))];
    relayed(CHAT, &bodies, |text, body| assert_eq!(text, body));
}

/// Choices that the backend never began are not waited for.
#[test]
fn fewer_choices_than_were_asked_for_are_an_end() {
    let origin = Origin::scripted(|talk| play(talk, &format!("{}{}", content("a"), finish()), 0));
    let gateway = gateway_for(&origin);
    let mut client = gateway.connect();
    let asked = request(CHAT, "x", "m", true).replace("\"stream\":true", "\"n\":2,\"stream\":true");
    let length = asked.split("\r\n\r\n").nth(1).expect("a body").len();
    client.send(
        asked
            .replace(&format!("Content-Length: {}", length - 6), &format!("Content-Length: {length}"))
            .as_bytes(),
    );
    let message = client.answer().expect("a stream");
    assert_eq!(judge(&message.text()), ("a".to_owned(), Ending::Finished), "{message:?}");
}

#[test]
fn a_responses_stream_needs_its_last_event() {
    let created =
        typed("response.created", ",\"sequence_number\":0,\"response\":{\"status\":\"in_progress\"}");
    let delta = typed("response.output_text.delta", ",\"sequence_number\":1,\"delta\":\"a\"");
    let cut = [
        format!("{created}{delta}"),
        format!(
            "{created}{delta}{}",
            typed("response.output_text.done", ",\"sequence_number\":2,\"text\":\"a\"")
        ),
        format!("{created}{delta}{}", typed("response.web_search_call.completed", ",\"sequence_number\":2")),
    ];
    relayed(RESPONSES, &cut, |text, body| {
        let ours = text.strip_prefix(body).unwrap_or_else(|| panic!("{text}"));
        assert!(ours.starts_with("event: error\n") && ours.contains("event: response.failed\n"), "{ours}");
        assert!(ours.contains("backend_stream_truncated"), "{ours}");
    });
    let whole: Vec<String> =
        ["response.completed", "response.incomplete", "response.failed", "response.cancelled"]
            .into_iter()
            .map(|last| format!("{created}{delta}{}", typed(last, ",\"sequence_number\":2,\"response\":{}")))
            .collect();
    relayed(RESPONSES, &whole, |text, body| assert_eq!(text, body));
}

#[test]
fn a_messages_stream_needs_its_stop() {
    let start = typed(
        "message_start",
        ",\"message\":{\"stop_reason\":null,\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}",
    );
    let delta =
        typed("content_block_delta", ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}");
    let ended =
        typed("message_delta", ",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}");
    let cut = [
        format!("{start}{delta}"),
        format!("{start}{delta}{}", typed("content_block_stop", ",\"index\":0")),
        format!("{start}{delta}{}", typed("ping", "")),
    ];
    relayed(MESSAGES, &cut, |text, body| {
        let ours = text.strip_prefix(body).unwrap_or_else(|| panic!("{text}"));
        assert!(ours.starts_with("event: error\ndata: {\"type\":\"error\""), "{ours}");
    });
    let stop = typed("message_stop", "");
    let whole = [
        format!("{start}{delta}{ended}{stop}"),
        format!("{start}{delta}{stop}"),
        format!("{start}{delta}{ended}"),
    ];
    relayed(MESSAGES, &whole, |text, body| assert_eq!(text, body));
}

/// An error of the backend's own is the last word; none is put behind it.
#[test]
fn an_error_of_the_backend_is_an_end() {
    let error = "data: {\"error\":{\"message\":\"x\",\"type\":\"server_error\",\"param\":null,\"code\":\"theirs\"}}\n\n";
    relayed(CHAT, &[format!("{}{error}", content("a"))], |text, body| assert_eq!(text, body));
}

/// Roles and comments are no content: while a fallback is left to ask they are held, and a stream that ends behind them has
/// not begun.
#[test]
fn a_stream_that_ends_before_its_content_falls_back() {
    let role = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
    for body in [role.to_owned(), format!(": hi\n\n{role}"), ": only a comment\n\n".to_owned()] {
        let bad = Origin::scripted(move |talk| play(talk, &body, 0));
        let good = Origin::start();
        let config = Config::new()
            .backend("bad", bad.port, EVERYTHING)
            .backend("good", good.port, EVERYTHING)
            .model("m", &["bad"], "fallbacks = [\"spare\"]")
            .model("spare", &["good"], "")
            .key("one", K1, "")
            .tables("[timeouts]\nretry_wait = \"0s\"");
        let gateway = Gateway::start(&config);
        for _ in 0..2 {
            let message = ask(&gateway, CHAT, "x", "m", true);
            assert_eq!(judge(&message.text()).1, Ending::Finished, "{message:?}");
        }
        assert!(!bad.seen().is_empty(), "it was asked");
    }
}

/// The record says what happened, and so do the metrics; the connection of the client goes on.
#[test]
fn a_cut_stream_is_counted_as_one() {
    let origin = Origin::start();
    origin.case("cut", |talk| play(talk, &content("a"), 0));
    let gateway = gateway_for(&origin);
    let mut client = gateway.connect();
    client.send(request(CHAT, "cut", "m", true).as_bytes());
    let cut = client.answer().expect("a stream");
    assert!(cut.text().contains("without a finish reason"), "{cut:?}");
    client.send(request(CHAT, "whole", "m", true).as_bytes());
    assert_eq!(judge(&client.answer().expect("a stream").text()).1, Ending::Finished);
    let counted = || gateway.metric("ringway_faults_total", "backend_stream_truncated");
    assert!(support::eventually(PATIENCE, || counted() == 1.0), "{}", counted());
}

/// Other backends' ways to end too early, and to end well.
#[test]
fn ends_are_told_apart_in_other_forms() {
    let crlf = |text: &str| text.replace('\n', "\r\n");
    let thought = "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"},\"finish_reason\":null}]}\n\n";
    let bare = |text: &str| text.replace("data: ", "data:");
    let cut = [
        crlf(&content("a")),
        bare(&content("a")),
        thought.repeat(2),
        format!("{thought}{}", usage(3, 1)),
        format!("{}data: {{\"choices\":[],\"cost\":\"0\"}}\n\n", content("a")),
        format!("{}{}", content("a"), content("b").replace("null", "false")),
        format!("{}event: done\ndata: {{}}\n\n", content("a")),
        content("\\\"finish_reason\\\":\\\"stop\\\""),
        format!("{}{}", content("a"), finish().replace("finish_reason", "stop_reason")),
    ];
    relayed(CHAT, &cut, |text, body| {
        assert!(text.contains("backend_stream_truncated"), "{body}: {text}");
        assert!(!text.contains("[DONE]"), "{body}: {text}");
    });
    let whole = [
        crlf(&format!("{}{}{DONE}", content("a"), finish())),
        bare(&format!("{}{}{DONE}", content("a"), finish())),
        format!("{}{}{DONE}", content("a"), finish().replace("\"stop\"", "\"error\"")),
        format!("{}{}{DONE}", content("a"), finish().replace("\"finish_reason\":", "\"finish_reason\":\t")),
        format!("{}{}{}{DONE}", content("a"), finish(), content("").replace("null", "\"\"")),
    ];
    relayed(CHAT, &whole, |text, body| assert_eq!(text, body));
    let start = typed("message_start", ",\"message\":{\"stop_reason\":null}");
    let delta = typed(
        "content_block_delta",
        ",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\"}",
    );
    let none = typed("message_delta", ",\"delta\":{\"stop_reason\":null},\"usage\":{\"output_tokens\":2}");
    relayed(MESSAGES, &[format!("{start}{delta}{none}"), crlf(&format!("{start}{delta}"))], |text, body| {
        assert!(text.contains("event: error") && text.len() > body.len(), "{body}: {text}");
    });
}
