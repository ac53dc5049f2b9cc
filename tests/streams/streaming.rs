//! Streams pass untouched, and how they end is never a matter of opinion.
#![allow(clippy::print_stdout)] // which of two allowed outcomes was seen

use std::time::Duration;

use support::client::Outcome;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk};
use support::sse::{self, DONE, Ending, content, finish, judge, usage};
use support::strict::Message;
use support::{PATIENCE, chat, chat_head, nonce};

const ASK: &str = r#"{"model":"m","messages":[],"stream":true}"#;
const ASK_USAGE: &str =
    r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;

/// How a script's bytes are cut into writes, each its own chunk.
#[derive(Clone, Copy, Debug)]
enum Pieces {
    Whole,
    Bytes,
    Halves(usize),
}

fn send(talk: &Talk, bytes: &[u8], pieces: Pieces) {
    match pieces {
        Pieces::Whole => {
            talk.chunk(bytes);
        }
        Pieces::Bytes => {
            let _ = bytes.iter().all(|byte| talk.chunk([*byte]));
        }
        Pieces::Halves(at) => {
            let at = at.min(bytes.len() - 1).max(1);
            talk.chunk(&bytes[..at]);
            talk.pause(Duration::from_millis(2));
            talk.chunk(&bytes[at..]);
        }
    }
}

fn gateway_for(origin: &Origin, kind: &str) -> Gateway {
    let more = format!("kind = \"{kind}\"\nhealth = {{ enabled = false }}");
    Gateway::start(
        &Config::new().backend("b1", origin.port, &more).model("m", &["b1"], "").key("one", K1, ""),
    )
}

fn ask(gateway: &Gateway, case: &str, body: &str) -> Outcome {
    let mut client = gateway.connect();
    let head = chat_head(K1, &nonce());
    client.send(
        format!("{head}X-Case: {case}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .as_bytes(),
    );
    client.finish(&[], PATIENCE)
}

fn whole(outcome: Outcome) -> Message {
    assert!(outcome.error.is_none() && outcome.cut.is_none(), "{outcome:?}");
    outcome.answers.into_iter().next().expect("an answer")
}

/// Runs a body through the gateway in every manner of cutting it and gives the bodies that reached the client.
fn relayed(kind: &str, body: &[u8], request: &str) -> Vec<Message> {
    let origin = Origin::start();
    let gateway = gateway_for(&origin, kind);
    let step = body.len().div_ceil(60).max(1);
    let mut manners = vec![Pieces::Whole, Pieces::Bytes];
    manners.extend((1..body.len()).step_by(step).map(Pieces::Halves));
    let mut messages = Vec::new();
    for (index, manner) in manners.into_iter().enumerate() {
        let bytes = body.to_vec();
        let case = format!("case-{index}");
        origin.case(&case, move |talk| {
            talk.stream();
            send(talk, &bytes, manner);
            talk.end()
        });
        let message = whole(ask(&gateway, &case, request));
        assert_eq!(message.status(), 200, "{manner:?}: {message:?}");
        assert!(message.one("content-type").starts_with("text/event-stream"), "{message:?}");
        assert!(!message.has("content-length") && !message.has("content-encoding"), "{message:?}");
        messages.push(message);
    }
    messages
}

fn identical(kind: &str, body: &str, request: &str) {
    for message in relayed(kind, body.as_bytes(), request) {
        assert_eq!(message.text(), body);
    }
}

/// A2, A5, C2, C3, C17, A13, A14: every byte of a good stream passes, however it came.
#[test]
fn streams_are_identical() {
    identical("openai-compatible", &sse::stream_of("hello", 2).concat(), ASK);
    let odd = format!(
        ": keep-alive\n\ndata:{{\"id\":\"1\",\"choices\":[{{\"index\":0,\"delta\":{{\"reasoning_content\":\"a\",\"obfuscation\":\"x\"}},\"finish_reason\":null}}]}}\n\n{}{}{}{DONE}",
        content("\u{2028}\u{85}\u{1f600}\u{0c}"),
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"x\\\":1}\"}},{\"index\":1,\"function\":{\"arguments\":\"{}\"}}]},\"finish_reason\":null}]}\n\n",
        finish(),
    );
    identical("openai-compatible", &odd, ASK);
}

/// A7: a client that asks for usage gets it once, before the end, whichever kind of backend.
#[test]
fn usage_that_was_asked_for_passes() {
    let body = format!("{}{}{}{DONE}", content("a"), finish(), usage(3, 1));
    identical("vllm", &body, ASK_USAGE);
    identical("openai-compatible", &body, ASK_USAGE);
}

/// A7: usage that only we asked for does not reach the client, and nothing else is lost with it.
#[test]
fn usage_that_we_asked_for_is_dropped() {
    let body = format!("{}{}{}{DONE}", content("a"), finish(), usage(3, 1));
    let without = format!("{}{}{DONE}", content("a"), finish());
    for message in relayed("vllm", body.as_bytes(), ASK) {
        assert_eq!(message.text(), without);
    }
}

/// The backend is asked for usage where it can give it, and the client's other members stay as they are.
#[test]
fn usage_is_asked_for_without_touching_the_rest() {
    let origin = Origin::start();
    let gateway = gateway_for(&origin, "vllm");
    let body = r#"{"stream":true, "b":12345678901234567890,"model":"m","a":"\u00e9","chat_template_kwargs":{"x":[1, 2]}}"#;
    whole(ask(&gateway, "", body));
    let seen = origin.seen().pop().expect("a request");
    let json = seen.request.json();
    assert_eq!(json["stream_options"]["include_usage"], true, "{:?}", seen.request);
    let text = seen.request.text();
    for part in [r#""b":12345678901234567890"#, r#""a":"\u00e9""#, r#""chat_template_kwargs":{"x":[1, 2]}"#] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

/// A3: unknown members, big numbers, order and escapes reach the backend byte for byte; A4: only the name changes.
#[test]
fn requests_pass_byte_for_byte_but_for_the_model() {
    let origin = Origin::start();
    let config = Config::new()
        .backend("b1", origin.port, "health = { enabled = false }")
        .tables("[model.\"a/b:c\"]\nbackends = [{ name = \"b1\", model = \"real\" }]")
        .model("m", &["b1"], "aliases = [\"alias\"]")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    let rest =
        r#","z":12345678901234567890, "a":"\u00e9\/","messages":[{"content":"\ud83d\ude00 e"}] ,"user":"x"}"#;
    for (asked, sent) in [
        (r#""m""#, r#""m""#),
        (r#""a/b:c""#, r#""real""#),
        (r#""a\/b\u003ac""#, r#""real""#),
        (r#""alias""#, r#""m""#),
    ] {
        origin.take(|_| true);
        let message = whole(ask(&gateway, "", &format!("{{\"model\" : {asked}{rest}")));
        assert_eq!(message.status(), 200, "{message:?}");
        assert_eq!(origin.seen()[0].request.text(), format!("{{\"model\" : {sent}{rest}"));
    }
}

/// A8: usage on a chunk that has a choice stays; A9: a first chunk without choices is not usage; A11, A12.
#[test]
fn only_the_usage_chunk_is_dropped() {
    let tgi = format!(
        "{}data: {{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}}}\n\n{DONE}",
        content("a")
    );
    identical("vllm", &tgi, ASK);
    let azure = format!(
        "data: {{\"choices\":[],\"prompt_filter_results\":[{{\"prompt_index\":0}}]}}\n\n{}",
        sse::stream_of("a", 1).concat()
    );
    identical("vllm", &azure, ASK);
    let nulls = sse::stream_of("a", 2).concat().replace("\"created\":1", "\"created\":1,\"usage\":null");
    identical("vllm", &nulls, ASK);
    let two = "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"B\"},\"finish_reason\":null}]}\n\n";
    let two_ends = "data: {\"choices\":[{\"index\":1,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
    identical("vllm", &format!("{}{two}{}{two_ends}{DONE}", content("A"), finish()), ASK);
}

/// C1: events that end in CRLF or CR pass, or are normalised: the same records either way.
#[test]
fn other_line_ends_pass() {
    for end in ["\r\n", "\r"] {
        let body = sse::stream_of("hello", 2).concat().replace('\n', end);
        for message in relayed("openai-compatible", body.as_bytes(), ASK) {
            let text = message.text().replace("\r\n", "\n").replace('\r', "\n");
            let (said, ending) = judge(&text);
            assert_eq!(
                (said.as_str(), ending),
                ("hello-0 hello-1 ", Ending::Finished),
                "{end:?}: {message:?}"
            );
        }
    }
}

/// C5: one record in several `data:` lines is still that record.
#[test]
fn a_record_in_several_lines_passes() {
    let body = format!(
        "data: {{\"choices\":\ndata: [{{\"index\":0,\"delta\":{{\"content\":\"x\"}},\"finish_reason\":null}}]}}\n\n{}{DONE}",
        finish()
    );
    for message in relayed("openai-compatible", body.as_bytes(), ASK) {
        assert_eq!(judge(&message.text()), ("x".to_owned(), Ending::Finished), "{message:?}");
    }
}

/// C6: a stream that ended well but for its `[DONE]` gets one; C7: one that did not end well never does.
#[test]
fn only_a_finished_stream_gets_its_end() {
    let finished = format!("{}{}", content("a"), finish());
    for message in relayed("openai-compatible", finished.as_bytes(), ASK) {
        assert_eq!(message.text(), format!("{finished}{DONE}"));
    }
    let unfinished = format!("{}{}", content("a"), content("b"));
    for message in relayed("openai-compatible", unfinished.as_bytes(), ASK) {
        let (text, ending) = judge(&message.text());
        assert_eq!(text, "ab");
        // No finish was said and none is invented; that the body ended well is all that is known.
        println!("a stream without a finish ends as {ending:?}");
        assert_ne!(ending, Ending::Finished, "{message:?}");
    }
    // A last event without its blank line is still one event, and not joined with ours.
    for message in relayed("openai-compatible", finished.trim_end().as_bytes(), ASK) {
        assert_eq!(judge(&message.text()).1, Ending::Finished, "{message:?}");
    }
    let done = format!("{finished}data: [DONE]");
    for message in relayed("openai-compatible", done.as_bytes(), ASK) {
        assert_eq!(message.text().trim_end(), done);
    }
}

/// C8: a body that ends before its length or its last chunk is a cut stream, even if it had said `[DONE]`... which it
/// then had: what the client got is whole. Before that it is an error.
#[test]
fn a_cut_body_is_an_error_record() {
    let origin = Origin::start();
    let gateway = gateway_for(&origin, "openai-compatible");
    let body = format!("{}{}", content("a"), content("b"));
    for (case, length) in [("chunks", false), ("length", true)] {
        let bytes = body.clone();
        origin.case(case, move |talk| {
            if length {
                let size = bytes.len() + 100;
                talk.send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {size}\r\n\r\n{bytes}"));
            } else {
                talk.stream();
                talk.chunk(&bytes);
            }
            Next::Close
        });
        let message = whole(ask(&gateway, case, ASK));
        let (text, ending) = judge(&message.text());
        assert_eq!(text, "ab");
        assert_eq!(ending, Ending::Failed("backend_stream_truncated".into()), "{message:?}");
    }
}

/// C9: an error as the first record becomes a status, or another backend's answer.
#[test]
fn an_error_as_the_first_record_is_a_status() {
    let origin = Origin::start();
    let gateway = gateway_for(&origin, "openai-compatible");
    let error = "data: {\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n";
    for (case, before) in [("first", ""), ("comment", ": hi\n\n")] {
        let body = format!("{before}{error}{DONE}");
        origin.case(case, move |talk| {
            talk.stream();
            talk.chunk(&body);
            talk.end()
        });
        let message = whole(ask(&gateway, case, ASK));
        assert!((500..600).contains(&message.status()), "{case}: {message:?}");
        assert!(message.json()["error"].is_object(), "{case}: {message:?}");
    }
}

/// C9: the other backend of the pool answers, and the client sees nothing of the first.
#[test]
fn an_error_as_the_first_record_fails_over() {
    let bad = Origin::scripted(|talk| {
        talk.stream();
        talk.chunk("data: {\"error\":{\"message\":\"overloaded\",\"code\":503}}\n\n");
        talk.end()
    });
    let good = Origin::start();
    let config = Config::new()
        .backend("bad", bad.port, "health = { enabled = false }")
        .backend("good", good.port, "health = { enabled = false }")
        .model("m", &["bad", "good"], "")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    for turn in 0..10 {
        let message = whole(ask(&gateway, "", ASK));
        assert_eq!(message.status(), 200, "turn {turn}: {message:?}");
        assert_eq!(judge(&message.text()).1, Ending::Finished);
    }
    println!("{} of 10 went to the bad one first", bad.seen().len());
}

/// An error in the middle of a stream passes as the last thing the client hears.
#[test]
fn an_error_record_passes_and_ends_the_stream() {
    let error = "data: {\"error\":{\"message\":\"gone\",\"type\":\"server_error\",\"param\":null,\"code\":\"x\"}}\n\n";
    for body in [format!("{}{error}", content("a")), format!("{}{error}{DONE}", content("a"))] {
        for message in relayed("openai-compatible", body.as_bytes(), ASK) {
            let text = message.text();
            assert!(text.starts_with(&content("a")) && text.contains("\"error\""), "{message:?}");
            assert!(text.matches("\"error\"").count() == 1, "{message:?}");
        }
    }
}

/// C11: what comes after `[DONE]` reaches nobody.
#[test]
fn bytes_after_the_end_are_dropped() {
    let stream = sse::stream_of("a", 1).concat();
    for rest in [content("late"), "rubbish".to_owned()] {
        for message in relayed("openai-compatible", format!("{stream}{rest}").as_bytes(), ASK) {
            assert_eq!(message.text(), stream);
        }
    }
}

/// C12: a record of 8 MiB in one line passes.
#[test]
fn a_long_record_passes() {
    let long = content(&"x".repeat(8 << 20));
    let body = format!("{}{long}{}{DONE}", content("a"), finish());
    let origin = Origin::start();
    let gateway = gateway_for(&origin, "openai-compatible");
    let sent = body.clone();
    origin.case("long", move |talk| {
        talk.stream();
        talk.chunk(&sent);
        talk.end()
    });
    let message = whole(ask(&gateway, "long", ASK));
    assert!(message.body == body.as_bytes(), "{} bytes of {}", message.body.len(), body.len());
}

/// C16: the type decides what a stream is, in any spelling; a JSON answer to a stream request passes as JSON.
#[test]
fn the_content_type_decides() {
    let origin = Origin::start();
    let gateway = gateway_for(&origin, "openai-compatible");
    let stream = format!("{}{}", content("a"), finish());
    for (index, kind) in
        ["text/event-stream; charset=utf-8", "Text/Event-Stream", "text/event-stream;charset=UTF-8"]
            .into_iter()
            .enumerate()
    {
        let (body, case) = (stream.clone(), format!("type-{index}"));
        origin.case(&case, move |talk| {
            talk.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
            ));
            talk.chunk(&body);
            talk.end()
        });
        // A `[DONE]` that was added shows that it was taken for a stream.
        assert_eq!(whole(ask(&gateway, &case, ASK)).text(), format!("{stream}{DONE}"), "{kind}");
    }
    let json = support::origin::completion("x");
    let body = json.clone();
    origin.case("json", move |talk| talk.answer("200 OK", "Content-Type: application/json\r\n", &body));
    let message = whole(ask(&gateway, "json", ASK));
    println!("JSON to a stream request: {}", message.one("content-type"));
    assert!(message.text() == json || judge(&message.text()).1 == Ending::Finished, "{message:?}");
}

/// L25: comments and odd lines beside data pass byte for byte; a BOM, which costs SDKs the first event, does not, nor does a
/// comment of its own behind an id, which openai-python takes for an event without data.
#[test]
fn odd_lines_pass() {
    let said = format!("id: 7\nretry: 100\n{}{}{}", content("a"), content("b"), finish());
    let body = format!("\u{feff}: comment\n\n{said}: end\n\n{DONE}");
    for message in relayed("openai-compatible", body.as_bytes(), ASK) {
        assert_eq!(message.text(), format!(": comment\n\n{said}{DONE}"));
    }
}

/// L27: a coding nobody asked for passes byte for byte, for the client knows it. One event and `[DONE]`, in gzip.
#[test]
fn a_coded_stream_passes() {
    const CODED: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\x1d\xcc\x31\x0a\x80\x30\x0c\x46\xe1\xbd\xa7\x90\x7f\xee\xe0\x9c\x59\x57\x3d\x40\x11\x09\x36\xd2\x82\xa4\x62\x33\x08\xd2\xbb\x2b\xae\xef\x83\x17\xd9\x98\xba\x07\x5b\x2a\x79\x93\x0a\x0a\x0f\xb2\x46\xb9\x41\xbd\x47\x94\xc3\x18\xf4\x71\x51\x13\x35\x10\x18\xcd\x63\xcf\x9a\x6b\x5a\x2f\xe1\x5a\xf4\x8b\xd5\xca\x89\xb6\x34\xe7\xe2\xff\x0b\xc3\x3c\x8d\x8b\x73\x2f\x1f\x86\xee\xcb\x5e\0\0\0";
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n";
    let origin = Origin::start();
    let gateway = gateway_for(&origin, "openai-compatible");
    for pieces in [Pieces::Whole, Pieces::Bytes, Pieces::Halves(50)] {
        origin.case("coded", move |talk| {
            talk.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
            send(talk, CODED, pieces);
            talk.end()
        });
        let message = whole(ask(&gateway, "coded", ASK));
        assert_eq!(message.one("content-encoding"), "gzip", "{pieces:?}");
        assert_eq!(message.body.escape_ascii().to_string(), CODED.escape_ascii().to_string(), "{pieces:?}");
        assert!(origin.take(|_| true).iter().all(|seen| seen.request.one("accept-encoding") == "identity"));
    }
    // It cannot be read, so what it used is estimated, and marked so.
    let estimated = || gateway.metric("ringway_key_estimated_total", "");
    assert!(support::eventually(PATIENCE, || estimated() == 3.0), "{} of 3", estimated());
    assert!(gateway.metric("ringway_key_tokens_total", "") >= 3.0);
}

/// An event reaches the client when it comes, not when the next one does.
#[test]
fn events_are_not_held_back() {
    let origin = Origin::scripted(|talk| {
        talk.stream();
        talk.chunk(content("one"));
        // The next event comes only once the test has seen this one: it never would if the gateway held it.
        talk.gone(PATIENCE * 2);
        Next::Close
    });
    let gateway = gateway_for(&origin, "openai-compatible");
    let mut client = gateway.connect();
    client.send(&chat(K1, "live", ASK));
    client.read_until("one");
}

/// Responses and completions streams pass through untouched, unknown events included (A12, A20).
#[test]
fn other_apis_pass_too() {
    let origin = Origin::start();
    let gateway = gateway_for(&origin, "vllm");
    let completions = "data: {\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let responses = "event: response.created\ndata: {\"type\":\"response.created\"}\n\nevent: keepalive\ndata: {\"type\":\"keepalive\"}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":1,\"output_tokens\":2,\"total_tokens\":3}}}\n\n";
    for (path, body) in [("/v1/completions", completions), ("/v1/responses", responses)] {
        let bytes = body.to_owned();
        origin.case(path, move |talk| {
            talk.stream();
            send(talk, bytes.as_bytes(), Pieces::Bytes);
            talk.end()
        });
        let mut client = gateway.connect();
        let head = chat_head(K1, "other").replace("/v1/chat/completions", path);
        client.send(format!("{head}X-Case: {path}\r\nContent-Length: {}\r\n\r\n{ASK}", ASK.len()).as_bytes());
        let answer = client.answer().expect("an answer");
        assert_eq!((answer.status(), answer.text().as_str()), (200, body), "{path}");
    }
}
