//! Heartbeats before the first event: a client that waits hears of it, and everything that may still happen does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::client::{Client, End};
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk, completion};
use support::sse::{self, DONE, Ending, content, finish, judge};
use support::{PATIENCE, eventually};

const STREAM: &str = r#"{"model":"m","messages":[],"stream":true}"#;
const JSON: &str = "Content-Type: application/json\r\n";
const COMMENT: &str = ": ping\n\n";
const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
const KEEPALIVE: &str = "event: keepalive\ndata: {\"type\":\"keepalive\",\"sequence_number\":0}\n\n";
/// Some heartbeats long.
const SILENCE: Duration = Duration::from_millis(600);

const QUIET: &str = "kind = \"vllm\"\nserves = [\"chat\", \"completions\", \"embeddings\", \"responses\", \"messages\"]\n\
                     health = { enabled = false }";

/// Two backends: `m` has the first, `pool` both of them, `safe` the first and the second as a fallback.
fn gateway_for(one: &Origin, two: &Origin, timeouts: &str) -> Gateway {
    Gateway::start(&config_for(one, two, timeouts))
}

fn config_for(one: &Origin, two: &Origin, timeouts: &str) -> Config {
    Config::new()
        .backend("one", one.port, QUIET)
        .backend("two", two.port, &format!("{QUIET}\nweight = 1"))
        .backend("narrow", one.port, &format!("{QUIET}\nin_flight_max = 1"))
        .model("m", &["one"], "")
        .model("safe", &["one"], "fallbacks = [\"spare\"]")
        .model("spare", &["two"], "")
        .model("narrow", &["narrow"], "")
        .key("one", K1, "in_flight_max = 8")
        .top("debug_headers = true")
        .tables(&format!("[timeouts]\nconnect = \"200ms\"\nheartbeat = \"100ms\"\n{timeouts}"))
}

fn post(path: &str, case: &str, lines: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {K1}\r\nContent-Type: application/json\r\n\
         X-Case: {case}\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn chat(case: &str, body: &str) -> Vec<u8> {
    post("/v1/chat/completions", case, "", body)
}

fn of_model(model: &str) -> String {
    STREAM.replace("\"m\"", &format!("\"{model}\""))
}

/// The body of an answer to a chat stream, which has to begin with heartbeats.
fn waited(gateway: &Gateway, case: &str, body: &str) -> String {
    let mut client = gateway.connect();
    client.send(&chat(case, body));
    let answer = client.answer().unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(answer.status(), 200, "{case}: {answer:?}");
    let text = answer.text();
    assert!(text.starts_with(COMMENT), "{case}: {text}");
    text
}

fn head(talk: &Talk) -> bool {
    talk.send(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-From: backend\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
}

fn words(talk: &Talk, text: &str) -> Next {
    talk.chunk(sse::stream_of(text, 1).concat());
    talk.end()
}

/// A backend of which every endpoint is silent until it is let go, then sends a head of its own and these pieces.
fn held(release: &Arc<AtomicBool>, pieces: &[&str]) -> impl Fn(&mut Talk) -> Next + Send + Sync + 'static {
    let (release, pieces) =
        (Arc::clone(release), pieces.iter().map(|piece| (*piece).to_owned()).collect::<Vec<_>>());
    move |talk: &mut Talk| {
        if !talk.wait_for(&release) {
            return Next::Close;
        }
        head(talk);
        for piece in &pieces {
            talk.chunk(piece);
        }
        talk.end()
    }
}

/// The kinds of streams: path, body, heartbeat, events.
fn kinds() -> [(&'static str, &'static str, &'static str, Vec<String>); 4] {
    let text = r#"data: {"id":"c","object":"text_completion","choices":[{"index":0,"text":"a","finish_reason":"stop"}]}"#;
    let named = |name: &str, rest: &str| format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n");
    [
        ("/v1/chat/completions", STREAM, COMMENT, vec![content("a"), finish(), DONE.into()]),
        (
            "/v1/completions",
            r#"{"model":"m","prompt":"x","stream":true}"#,
            COMMENT,
            vec![format!("{text}\n\n"), DONE.into()],
        ),
        (
            "/v1/messages",
            r#"{"model":"m","max_tokens":5,"messages":[],"stream":true}"#,
            PING,
            vec![
                named("message_start", r#","message":{"usage":{"input_tokens":1,"output_tokens":1}}"#),
                named("message_stop", ""),
            ],
        ),
        (
            "/v1/responses",
            r#"{"model":"m","input":"x","stream":true}"#,
            KEEPALIVE,
            vec![
                named("response.created", r#","sequence_number":0,"response":{}"#),
                named("response.completed", r#","sequence_number":1,"response":{"status":"completed"}"#),
            ],
        ),
    ]
}

/// In every dialect the head is the gateway's own, heartbeats come while the backend is silent, and the backend's events
/// follow as they are.
#[test]
fn a_client_hears_something_before_the_first_event() {
    let origin = Origin::start();
    let gateway = gateway_for(&origin, &origin, "");
    for (path, body, beat, events) in kinds() {
        let release = Arc::new(AtomicBool::new(false));
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        origin.case(path, held(&release, &events));
        let mut client = gateway.connect();
        client.send(&post(path, path, "", body));
        client.read_until(&beat.repeat(2));
        release.store(true, Ordering::SeqCst);
        let answer = client.answer().unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.one("content-type"), "text/event-stream", "{path}");
        for own in ["date", "x-request-id"] {
            assert!(!answer.one(own).is_empty(), "{path}: no {own}: {answer:?}");
        }
        for other in ["x-from", "x-ringway-backend"] {
            assert_eq!(answer.one(other), "", "{path}: {answer:?}");
        }
        let text = answer.text();
        assert!(text.starts_with(&beat.repeat(2)) && text.ends_with(&events.concat()), "{path}: {text}");
        assert_eq!(text.replace(beat, ""), events.concat(), "{path}");
        assert_eq!(answer.one("connection"), "", "{path}: {answer:?}");
        client.send(&post(path, "none", "", &body.replace(",\"stream\":true", "")));
        assert_eq!(client.answer().expect("the connection goes on").status(), 200, "{path}");
    }
    assert!(gateway.metric("ringway_heartbeats_total", "") >= 8.0);
}

/// Codex waits for events, not for bytes: on this path a silence between two of them is filled with events, too.
#[test]
fn responses_get_events_in_the_middle_of_a_stream() {
    let origin = Origin::start();
    let gateway = gateway_for(&origin, &origin, "");
    let [.., (path, body, _, [created, completed])] = kinds().map(|(path, body, beat, events)| {
        let ends = [events[0].clone(), events[events.len() - 1].clone()];
        (path, body, beat, ends)
    });
    let delta = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":0,\"delta\":\"a\"}\n\n";
    // What carries nothing is held until the first text.
    let events = Arc::new([created + delta, completed]);
    let own = Arc::clone(&events);
    origin.case("silence", move |talk| {
        head(talk);
        for event in own.iter() {
            talk.chunk(event);
            talk.pause(SILENCE);
        }
        talk.end()
    });
    let mut client = gateway.connect();
    client.send(&post(path, "silence", "", body));
    let text = client.answer().expect("a stream").text();
    let beat = KEEPALIVE.replace(":0}", ":1}");
    assert!(text.starts_with(&(events[0].clone() + &beat + &beat)), "{text}");
    assert_eq!(text.replace(&beat, ""), events.concat(), "{text}");
}

/// Whatever the request waits for, and whoever answers in the end.
#[test]
fn the_request_goes_its_way_while_the_client_is_told_to_wait() {
    let (one, two) = (Origin::start(), Origin::start());
    two.set(|talk| {
        talk.stream();
        words(talk, "two")
    });
    one.case("never", |talk| {
        talk.gone(PATIENCE);
        Next::Close
    });
    one.case("preamble", |talk| {
        head(talk);
        talk.chunk(
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        );
        talk.gone(PATIENCE);
        Next::Close
    });
    one.case("fails", |talk| {
        talk.pause(SILENCE);
        talk.answer("500 Internal Server Error", JSON, r#"{"error":{"message":"x"}}"#)
    });
    one.case("closes", |talk| {
        talk.pause(SILENCE);
        Next::Close
    });
    one.case("begins with an error", |talk| {
        talk.pause(SILENCE);
        head(talk);
        talk.chunk("data: {\"error\":{\"message\":\"x\"}}\n\n");
        talk.end()
    });
    let gateway = gateway_for(&one, &two, "first_token = \"700ms\"");
    for case in ["never", "preamble", "fails", "closes"] {
        let text = waited(&gateway, case, &of_model("safe"));
        assert_eq!(judge(&text), ("two-0 ".into(), Ending::Finished), "{case}: {text}");
        assert!(!text.contains("assistant"), "content of two backends: {text}");
    }
    let gateway = gateway_for(&one, &two, "");
    let text = waited(&gateway, "begins with an error", &of_model("safe"));
    assert_eq!(judge(&text), ("two-0 ".into(), Ending::Finished), "{text}");
    // A pause that the backend asks for, which has the client wait for longer than the attempts take.
    let asked = AtomicUsize::new(0);
    one.case("busy", move |talk| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => talk.answer("429 Too Many Requests", &format!("{JSON}Retry-After: 1\r\n"), "{}"),
        _ => {
            talk.stream();
            words(talk, "later")
        }
    });
    let gateway = gateway_for(&one, &two, "retry_wait = \"3s\"");
    let text = waited(&gateway, "busy", STREAM);
    assert_eq!(judge(&text), ("later-0 ".into(), Ending::Finished), "{text}");
}

/// A slot of a backend that has as much as it may.
#[test]
fn who_waits_in_the_queue_is_told_so() {
    let origin = Origin::start();
    let release = Arc::new(AtomicBool::new(false));
    origin.case("slot", held(&release, &[&content("a"), &finish(), DONE]));
    let gateway = gateway_for(&origin, &origin, "queue_timeout = \"5s\"");
    let short = gateway_for(&origin, &origin, "queue_timeout = \"500ms\"");
    let mut first: Vec<Client> = [&gateway, &short]
        .map(|gateway| {
            let mut client = gateway.connect();
            client.send(&chat("slot", &of_model("narrow")));
            client.read_until(COMMENT);
            client
        })
        .into();
    let text = waited(&short, "slot", &of_model("narrow"));
    assert_eq!(judge(&text), (String::new(), Ending::Failed("queue_timeout".into())), "{text}");
    let mut second = gateway.connect();
    second.send(&chat("slot", &of_model("narrow")));
    second.read_until(&COMMENT.repeat(2));
    release.store(true, Ordering::SeqCst);
    for client in first.iter_mut().chain([&mut second]) {
        let text = client.answer().expect("a stream").text();
        assert_eq!(judge(&text), ("a".into(), Ending::Finished), "{text}");
    }
}

/// The head is out, so the status is: what fails is a record that clients raise on, and the connection goes on.
#[test]
fn what_fails_after_the_head_is_an_error_record() {
    let origin = Origin::start();
    let answers: [(&str, &str, &str, &str); 8] = [
        (
            "400",
            JSON,
            r#"{"error":{"message":"said by it","type":"t","param":"p","code":"its_code"}}"#,
            "its_code",
        ),
        ("422", JSON, r#"{"detail":"said by it"}"#, "request_rejected"),
        ("404", "Content-Type: text/html\r\n", "<html>", "backend_refused"),
        ("500", JSON, r#"{"error":{"message":"said by it","code":"its_code"}}"#, "its_code"),
        ("401", JSON, r#"{"error":{"message":"your key"}}"#, "backend_auth_failed"),
        ("302", "Location: /x\r\n", "", "backend_malformed"),
        ("200", "Content-Type: text/plain\r\n", "no stream", "backend_error"),
        ("201", JSON, r#"{"id":"x"}"#, "backend_malformed"),
    ];
    for (status, fields, body, _) in answers {
        origin.case(status, move |talk| {
            talk.pause(SILENCE);
            talk.answer(&format!("{status} X"), fields, body)
        });
    }
    origin.case("closes", |talk| {
        talk.pause(SILENCE);
        Next::Close
    });
    origin.case("never", |talk| {
        talk.gone(PATIENCE);
        Next::Close
    });
    origin.case("cut", |talk| {
        talk.pause(SILENCE);
        head(talk);
        talk.chunk(content("a"));
        talk.pause(SILENCE);
        Next::Close
    });
    let mut config = config_for(&origin, &origin, "first_token = \"2s\"");
    for (case, ..) in answers {
        config = config.backend(case, origin.port, QUIET).model(case, &[case], "");
    }
    let gateway = Gateway::start(&config.tables("[access_log]\npath = \"stdout\""));
    let mut client = gateway.connect();
    let mut one = |case: &str, model: &str, code: &str| {
        client.send(&chat(case, &of_model(model)));
        let answer = client.answer().unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(
            (answer.status(), answer.one("content-type").as_str()),
            (200, "text/event-stream"),
            "{case}"
        );
        let text = answer.text();
        assert!(text.starts_with(COMMENT), "{case}: {text}");
        assert_eq!(judge(&text).1, Ending::Failed(code.into()), "{case}: {text}");
        text
    };
    for (case, _, body, code) in answers {
        let text = one(case, case, code);
        assert_eq!(text.contains("said by it"), body.contains("said by it"), "{case}: {text}");
        assert!(!text.contains("your key"), "{text}");
    }
    one("closes", "m", "backend_closed");
    one("never", "m", "backend_timeout");
    assert!(one("cut", "m", "backend_stream_truncated").contains("\"content\":\"a\""));
    let lines = || -> Vec<serde_json::Value> {
        gateway.said().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    assert!(eventually(PATIENCE, || lines().len() == 11), "one line each: {}", gateway.said());
    for line in lines() {
        assert!(line["status"] == 200 && line["error"].is_string(), "{line}");
    }
}

/// The errors of the other dialects.
#[test]
fn each_dialect_has_its_own_error_record() {
    let origin = Origin::start();
    origin.case("never", |talk| {
        talk.gone(PATIENCE);
        Next::Close
    });
    origin.case("too long", |talk| {
        talk.pause(SILENCE);
        talk.answer("400 Bad Request", JSON, r#"{"error":{"message":"m","code":"context_length_exceeded"}}"#)
    });
    let gateway = gateway_for(&origin, &origin, "first_token = \"500ms\"");
    let patient = gateway_for(&origin, &origin, "");
    let ask = |gateway: &Gateway, path: &str, case: &str, body: &str| {
        let mut client = gateway.connect();
        client.send(&post(path, case, "", body));
        client.answer().unwrap_or_else(|error| panic!("{path}: {error}")).text()
    };
    let [.., (messages, messages_body, ..), (responses, responses_body, ..)] = kinds();
    let text = ask(&gateway, messages, "never", messages_body);
    assert!(text.starts_with(PING) && text.contains("event: error\ndata: {\"type\":\"error\""), "{text}");
    assert!(text.contains("\"timeout_error\"") && text.ends_with("}\n\n"), "{text}");
    let text = ask(&gateway, responses, "never", responses_body);
    assert!(text.starts_with(KEEPALIVE) && text.contains("event: response.failed\n"), "{text}");
    assert!(text.contains("backend_timeout") && !text.contains("[DONE]"), "{text}");
    let text = ask(&patient, responses, "too long", responses_body);
    assert!(
        text.contains("event: response.failed\n") && text.contains("\"context_length_exceeded\""),
        "{text}"
    );
}

/// A whole body is made the stream that was asked for, without its own head.
#[test]
fn a_whole_body_becomes_the_rest_of_the_stream() {
    let origin = Origin::start();
    origin.case("whole", |talk| {
        talk.pause(SILENCE);
        talk.answer("200 OK", &format!("{JSON}X-From: backend\r\n"), &completion("whole"))
    });
    let gateway = gateway_for(&origin, &origin, "");
    let text = waited(&gateway, "whole", STREAM);
    assert_eq!(judge(&text), ("whole".into(), Ending::Finished), "{text}");
    assert!(!text.contains("HTTP/1.1") && !text.contains("X-From"), "{text}");
}

/// Clients that close, and those that know no chunks.
#[test]
fn the_framing_is_what_the_client_reads() {
    let origin = Origin::start();
    origin.case("slow", |talk| {
        talk.pause(SILENCE);
        talk.stream();
        words(talk, "a")
    });
    origin.case("fails", |talk| {
        talk.pause(SILENCE);
        Next::Close
    });
    let gateway = gateway_for(&origin, &origin, "");
    for (case, ending) in [
        ("slow", ("a-0 ".to_owned(), Ending::Finished)),
        ("fails", (String::new(), Ending::Failed("backend_closed".into()))),
    ] {
        let close = post("/v1/chat/completions", case, "Connection: close\r\n", STREAM);
        let old = String::from_utf8(chat(case, STREAM)).expect("text").replace("HTTP/1.1", "HTTP/1.0");
        let kept = old.replacen("\r\n", "\r\nConnection: keep-alive\r\n", 1);
        for request in [close, old.into_bytes(), kept.into_bytes()] {
            let is_old = request.starts_with(b"POST /v1/chat/completions HTTP/1.0");
            let mut client = gateway.connect();
            client.send(&request);
            let outcome = client.finish(&[], PATIENCE);
            assert_eq!(outcome.end, End::Fin, "{case}: {outcome:?}");
            let answer = &outcome.answers[0];
            assert_eq!(answer.one("connection"), "close", "{case}: {answer:?}");
            assert_eq!(answer.one("transfer-encoding").is_empty(), is_old, "{case}: {answer:?}");
            assert!(answer.text().starts_with(COMMENT), "{case}: {answer:?}");
            assert_eq!(judge(&answer.text()), ending, "{case}: {answer:?}");
        }
    }
}

/// What is no stream has no place for a heartbeat, and who is answered in time sees the backend's own head.
#[test]
fn everybody_else_gets_the_response_as_it_is() {
    let origin = Origin::start();
    origin.case("slow", |talk| {
        talk.pause(SILENCE);
        talk.answer("200 OK", &format!("{JSON}X-From: backend\r\n"), "{}")
    });
    origin.case("at once", |talk| {
        head(talk);
        words(talk, "a")
    });
    origin.case("refuses", |talk| talk.answer("400 Bad Request", JSON, r#"{"error":{"message":"m"}}"#));
    let gateway = gateway_for(&origin, &origin, "");
    for (path, body) in [
        ("/v1/chat/completions", r#"{"model":"m","messages":[]}"#),
        ("/v1/embeddings", r#"{"model":"m","input":"x","stream":true}"#),
        ("/v1/responses", r#"{"model":"m","input":"x","stream":false}"#),
    ] {
        let mut client = gateway.connect();
        client.send(&post(path, "slow", "", body));
        let answer = client.answer().expect("an answer");
        assert_eq!(
            (answer.text().as_str(), answer.one("x-from").as_str()),
            ("{}", "backend"),
            "{path}: {answer:?}"
        );
    }
    assert_eq!(gateway.metric("ringway_heartbeats_total", ""), 0.0);
    let mut client = gateway.connect();
    client.send(&chat("at once", STREAM));
    let answer = client.answer().expect("a stream");
    assert_eq!(answer.one("x-from"), "backend", "{answer:?}");
    client.send(&chat("refuses", STREAM));
    assert_eq!(client.answer().expect("an answer").status(), 400);
}

/// A client that has been told to wait and leaves all the same stops the backend at once.
#[test]
fn a_client_that_leaves_while_it_waits_stops_the_backend() {
    let origin = Origin::start();
    let gone = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&gone);
    origin.case("held", move |talk| {
        heard.store(talk.gone(PATIENCE), Ordering::SeqCst);
        Next::Close
    });
    let gateway = gateway_for(&origin, &origin, "");
    let mut client = gateway.connect();
    client.send(&chat("held", STREAM));
    client.read_until(&COMMENT.repeat(2));
    drop(client);
    let started = Instant::now();
    assert!(eventually(PATIENCE, || gone.load(Ordering::SeqCst)), "the backend works on");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(eventually(PATIENCE, || gateway.metric("ringway_exchanges_active", "") < 0.5), "not settled");
}
