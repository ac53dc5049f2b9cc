//! Deadlines: the time to the first token is for streams; a response that is no stream has one of its own.

use std::time::{Duration, Instant};

use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk, completion};
use support::sse::{self, DONE, Ending, content, finish, judge};
use support::strict::Message;
use support::{PATIENCE, eventually};

const PLAIN: &str = r#"{"model":"m","messages":[]}"#;
const STREAM: &str = r#"{"model":"m","messages":[],"stream":true}"#;
const JSON: &str = "Content-Type: application/json\r\n";
/// Longer than the first token may take here, and shorter than a response may.
const THINKS: Duration = Duration::from_millis(1_200);

/// The model `m` with a fallback that answers at once, and `alone` without one, on the same backend.
fn gateway_for(origin: &Origin, spare: &Origin, timeouts: &str) -> Gateway {
    let quiet = "kind = \"vllm\"\nserves = [\"chat\", \"completions\", \"embeddings\", \"responses\", \"rerank\", \"messages\", \
                 \"count_tokens\"]\nhealth = { enabled = false }";
    let mut config =
        Config::new().backend("s", spare.port, quiet).model("spare", &["s"], "").key("one", K1, "");
    for (model, more) in [
        ("m", "fallbacks = [\"spare\"]"),
        ("alone", ""),
        ("own", "fallbacks = [\"spare\"]\ntimeouts = { response = \"700ms\" }"),
        ("dead", "fallbacks = [\"spare\"]\ntimeouts = { first_byte = \"700ms\" }"),
    ] {
        config = config.backend(model, origin.port, quiet).model(model, &[model], more); // each with a breaker of its own
    }
    let config = config.tables(&format!("[timeouts]\nconnect = \"200ms\"\n{timeouts}"));
    Gateway::start(&config)
}

/// A fallback that says so, in the way that was asked for.
fn spare() -> Origin {
    Origin::scripted(|talk| match talk.request.json()["stream"] == true {
        true => {
            talk.stream();
            talk.chunk(sse::stream_of("spare", 1).concat());
            talk.end()
        }
        false => talk.answer("200 OK", JSON, &completion("spare")),
    })
}

fn post(gateway: &Gateway, path: &str, case: &str, body: &str) -> Message {
    let mut client = gateway.connect();
    client.send(
        format!(
            "POST {path} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {K1}\r\nContent-Type: application/json\r\n\
             X-Case: {case}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
    client.answer().unwrap_or_else(|error| panic!("{path} {case}: {error}"))
}

fn chat(gateway: &Gateway, case: &str, body: &str) -> Message {
    post(gateway, "/v1/chat/completions", case, body)
}

fn of_model(body: &str, model: &str) -> String {
    body.replace("\"m\"", &format!("\"{model}\""))
}

/// Nothing until the gateway has gone.
fn silent(talk: &Talk) -> Next {
    talk.gone(PATIENCE);
    Next::Close
}

/// The first piece, and the rest after a while.
fn in_pieces(talk: &Talk, fields: &str, body: &str, pieces: usize, pause: Duration) -> Next {
    talk.send(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len()));
    for piece in body.as_bytes().chunks(body.len().div_ceil(pieces)) {
        if talk.gone(pause) || !talk.send(piece) {
            return Next::Close;
        }
    }
    Next::Keep
}

/// Whatever is no stream is computed first and sent then, on every endpoint; some never stream, whatever they are asked.
#[test]
fn a_plain_response_is_not_bound_by_the_first_token() {
    let (origin, spare) = (Origin::start(), spare());
    origin.case("thinks", |talk| {
        talk.pause(THINKS);
        talk.answer("200 OK", JSON, r#"{"from":"the backend"}"#)
    });
    let gateway = gateway_for(&origin, &spare, "first_token = \"500ms\"");
    let asked = [
        ("/v1/chat/completions", PLAIN),
        ("/v1/chat/completions", r#"{"model":"m","messages":[],"stream":false}"#),
        ("/v1/completions", r#"{"model":"m","prompt":"x"}"#),
        ("/v1/responses", r#"{"model":"m","input":"x"}"#),
        ("/v1/messages", r#"{"model":"m","max_tokens":5,"messages":[]}"#),
        ("/v1/messages/count_tokens", r#"{"model":"m","messages":[]}"#),
        ("/v1/embeddings", r#"{"model":"m","input":"x"}"#),
        ("/v1/embeddings", r#"{"model":"m","input":"x","stream":true}"#),
        ("/v1/rerank", r#"{"model":"m","query":"x","documents":["y"]}"#),
        ("/v1/rerank", r#"{"model":"m","query":"x","documents":["y"],"stream":true}"#),
    ];
    std::thread::scope(|scope| {
        for (path, body) in asked {
            let gateway = &gateway;
            scope.spawn(move || {
                let answer = post(gateway, path, "thinks", body);
                assert_eq!(answer.text(), r#"{"from":"the backend"}"#, "{path} {body}: {answer:?}");
            });
        }
    });
    assert!(spare.seen().is_empty(), "a fallback was asked");
}

/// A stream still has to begin in time, with a fallback and without one.
#[test]
fn a_stream_is_bound_by_its_first_token() {
    let (origin, spare) = (Origin::start(), spare());
    origin.case("silent", |talk| silent(talk));
    origin.case("head", |talk| {
        talk.stream();
        silent(talk)
    });
    let gateway = gateway_for(&origin, &spare, "first_token = \"500ms\"");
    for case in ["silent", "head"] {
        let (text, ending) = judge(&chat(&gateway, case, STREAM).text());
        assert_eq!((text.as_str(), ending), ("spare-0 ", Ending::Finished), "{case}");
        let alone = chat(&gateway, case, &of_model(STREAM, "alone"));
        assert_eq!(alone.status(), 504, "{case}: {alone:?}");
    }
}

/// From the request sent to the last byte: however it is late, and for one model alone.
#[test]
fn a_plain_response_has_a_deadline_of_its_own() {
    let (origin, spare) = (Origin::start(), spare());
    origin.case("silent", |talk| silent(talk));
    origin.case("head", |talk| {
        talk.send(format!("HTTP/1.1 200 OK\r\n{JSON}Content-Length: 100\r\n\r\n"));
        silent(talk)
    });
    origin.case("drips", |talk| {
        in_pieces(talk, JSON, &completion("a long one"), 40, Duration::from_millis(100))
    });
    let gateway = gateway_for(&origin, &spare, "first_token = \"500ms\"\nresponse = \"1s\"");
    for case in ["silent", "head", "drips"] {
        for model in ["m", "own"] {
            let answer = chat(&gateway, case, &of_model(PLAIN, model));
            assert_eq!(answer.text(), completion("spare"), "{case}, {model}: {answer:?}");
        }
    }
    let started = Instant::now();
    let alone = chat(&gateway, "silent", &of_model(PLAIN, "alone"));
    assert_eq!(alone.status(), 504, "{alone:?}");
    assert!(alone.text().contains("backend_timeout"), "{alone:?}");
    assert!(started.elapsed() >= Duration::from_millis(950), "too early: {:?}", started.elapsed());
    // Its head alone has not gone out.
    assert_eq!(chat(&gateway, "head", &of_model(PLAIN, "alone")).status(), 504);
    // With a part of its body it has: the client sees that it is cut.
    let mut client = gateway.connect();
    client.send(&support::case_request(K1, "drips", &of_model(PLAIN, "alone")));
    let outcome = client.finish(&[], PATIENCE);
    assert!(outcome.answers.is_empty() && outcome.cut.is_some(), "{outcome:?}");
    assert!(eventually(PATIENCE, || origin.open() == 0), "a connection of a late response is kept");
}

/// After its head a plain response may not go silent, and as long as it does not it may take its time.
#[test]
fn between_events_applies_to_a_plain_response_after_its_head() {
    let (origin, spare) = (Origin::start(), spare());
    origin.case("head", |talk| {
        talk.send(format!("HTTP/1.1 200 OK\r\n{JSON}Content-Length: 100\r\n\r\n"));
        silent(talk)
    });
    origin.case("drips", |talk| {
        in_pieces(talk, JSON, &completion("a long one"), 10, Duration::from_millis(150))
    });
    let gateway = gateway_for(&origin, &spare, "first_token = \"500ms\"\nbetween_events = \"900ms\"");
    let started = Instant::now();
    assert_eq!(chat(&gateway, "head", PLAIN).text(), completion("spare"));
    assert!(started.elapsed() >= Duration::from_millis(850), "too early: {:?}", started.elapsed());
    for model in ["m", "alone"] {
        assert_eq!(chat(&gateway, "drips", &of_model(PLAIN, model)).text(), completion("a long one"));
    }
}

/// What comes decides: a plain body for a client that asked for a stream, and a stream for one that did not.
#[test]
fn a_backend_that_ignores_stream_has_the_deadlines_of_what_it_sends() {
    let (origin, spare) = (Origin::start(), spare());
    origin.case("plain", |talk| in_pieces(talk, JSON, &completion("whole"), 8, Duration::from_millis(200)));
    origin.case("stream", |talk| {
        talk.pause(THINKS);
        talk.stream();
        for event in [content("a").as_str(), &finish(), DONE] {
            talk.pause(Duration::from_millis(100));
            talk.chunk(event);
        }
        talk.end()
    });
    origin.case("stuck", |talk| {
        talk.stream();
        silent(talk)
    });
    let gateway = gateway_for(&origin, &spare, "first_token = \"700ms\"\nbetween_events = \"900ms\"");
    for model in ["m", "alone"] {
        let answer = chat(&gateway, "plain", &of_model(STREAM, model));
        assert_eq!(judge(&answer.text()), ("whole".into(), Ending::Finished), "{model}: {answer:?}");
        let answer = chat(&gateway, "stream", &of_model(PLAIN, model));
        assert_eq!(judge(&answer.text()), ("a".into(), Ending::Finished), "{model}: {answer:?}");
    }
    assert_eq!(chat(&gateway, "stuck", PLAIN).text(), completion("spare"), "a stream nobody asked for");
}

/// A backend that takes requests and never says a word is found before a response is late, plain or streamed.
#[test]
fn first_byte_finds_a_dead_backend() {
    let (origin, spare) = (Origin::start(), spare());
    origin.case("silent", |talk| silent(talk));
    origin.case("interim", |talk| {
        talk.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Proc");
        talk.pause(Duration::from_millis(100));
        talk.send("essing\r\n\r\n");
        silent(talk)
    });
    origin.case("slow", |talk| {
        talk.send("HTTP/1.1 200 OK\r\n");
        talk.pause(THINKS);
        let body = completion("late");
        talk.send(format!("{JSON}Content-Length: {}\r\n\r\n{body}", body.len()));
        Next::Keep
    });
    let gateway = gateway_for(&origin, &spare, "");
    let global = gateway_for(&origin, &spare, "first_byte = \"700ms\"");
    for (gateway, model) in [(&gateway, "dead"), (&global, "m")] {
        for case in ["silent", "interim"] {
            let started = Instant::now();
            let answer = chat(gateway, case, &of_model(PLAIN, model));
            assert_eq!(answer.text(), completion("spare"), "{case}, {model}: {answer:?}");
            let (text, ending) = judge(&chat(gateway, case, &of_model(STREAM, model)).text());
            assert_eq!((text.as_str(), ending), ("spare-0 ", Ending::Finished), "{case}, {model}");
            assert!(started.elapsed() >= Duration::from_millis(1_300), "too early: {:?}", started.elapsed());
        }
        let answer = chat(gateway, "slow", &of_model(PLAIN, model));
        assert_eq!(answer.text(), completion("late"), "{model}: {answer:?}");
    }
    assert_eq!(chat(&global, "silent", &of_model(PLAIN, "alone")).status(), 504);
}
