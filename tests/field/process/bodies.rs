//! Bodies of every size around the borders where another way begins: what the backend gets is what the client sent, but
//! for what has to change.

use super::memory::body_of;
use super::sink::{Manner, Sink};
use support::gateway::{Config, Gateway, K1};
use support::{J, chat, chat_head};

const KIB: usize = 1 << 10;
/// Around one read, the block that is sent whole, and the mapping that is grown in place.
const SIZES: [usize; 14] = [
    16 * KIB,
    64 * KIB - 700,
    64 * KIB - 300,
    64 * KIB - 1,
    64 * KIB,
    64 * KIB + 1,
    100 * KIB,
    256 * KIB - 40,
    256 * KIB,
    256 * KIB + 1,
    300 * KIB,
    1024 * KIB + 7,
    3000 * KIB,
    9000 * KIB,
];

fn renaming(sink: &Sink) -> Gateway {
    let quiet = "health = { enabled = false }";
    let config = Config::new().key("one", K1, "").backend("b1", sink.port, quiet);
    Gateway::start(&config.tables("[model.m]\nbackends = [{ name = \"b1\", model = \"the-real-one\" }]"))
}

fn plain(sink: &Sink) -> Gateway {
    Gateway::start(&Config::simple(sink.port))
}

fn in_chunks(body: &[u8], bytes: usize) -> Vec<u8> {
    let mut all = format!("{}Transfer-Encoding: chunked\r\n\r\n", chat_head(K1, "chunks")).into_bytes();
    for chunk in body.chunks(bytes) {
        all.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        all.extend_from_slice(chunk);
        all.extend_from_slice(b"\r\n");
    }
    all.extend_from_slice(b"0\r\n\r\n");
    all
}

#[test]
fn every_size_arrives_as_it_was_sent() {
    let sink = Sink::start(Manner::Prompt).keeping();
    let gateway = plain(&sink);
    let mut client = gateway.connect(); // one connection: what one leaves behind, the next would find
    for bytes in SIZES {
        let body = body_of(bytes);
        client.send(&chat(K1, "plain", std::str::from_utf8(&body).expect("text")));
        assert_eq!(client.answer().expect("an answer").status(), 200, "{bytes}");
        client.send(&in_chunks(&body, 5000));
        assert_eq!(client.answer().expect("an answer").status(), 200, "{bytes} in chunks");
        let got = sink.bodies();
        assert!(
            got.len().is_multiple_of(2) && got[got.len() - 2..].iter().all(|got| *got == body),
            "{bytes}"
        );
    }
}

/// A body whose model stands first, in the middle or last, or which wants a stream; and the one the backend shall get.
fn edited(bytes: usize, variant: usize) -> (String, String) {
    let text = "x".repeat(bytes / 2);
    let shape = |model: &str, usage: &str| match variant {
        0 => format!(r#"{{"model":{model},"messages":["{text}","{text}"]}}"#),
        1 => format!(r#"{{"messages":["{text}"],"model" : {model} ,"user":"{text}"}}"#),
        2 => format!(r#"{{"messages":["{text}","{text}"],"model":{model}}}"#),
        3 => format!(r#"{{"stream":true,"user":"{text}","model":{model},"messages":["{text}"]{usage}}}"#),
        _ => format!(
            r#"{{"stream_options":{{"include_usage":{}}},"stream":true,"user":"{text}","model":{model},"messages":["{text}"]}}"#,
            if usage.is_empty() { "false" } else { "true" }
        ),
    };
    (shape("\"m\"", ""), shape("\"the-real-one\"", r#","stream_options":{"include_usage":true}"#))
}

#[test]
fn what_changes_in_a_large_body_changes_nothing_else() {
    let sink = Sink::start(Manner::Prompt).keeping();
    let gateway = renaming(&sink);
    let mut client = gateway.connect();
    for bytes in [KIB, 64 * KIB, 300 * KIB, 2000 * KIB] {
        for variant in 0..5 {
            let (sent, wanted) = edited(bytes, variant);
            client.send(&chat(K1, "edited", &sent));
            assert_eq!(client.answer().expect("an answer").status(), 200, "{bytes}, variant {variant}");
            let got = sink.bodies().pop().expect("a body");
            assert!(got == wanted.as_bytes(), "{bytes}, variant {variant}");
        }
    }
}

/// The bodies that another backend refused first are whole at the second.
#[test]
fn a_body_that_was_refused_is_sent_again_whole() {
    for manner in [Manner::Busy, Manner::BusyEarly] {
        let (busy, prompt) = (Sink::start(manner), Sink::start(Manner::Prompt).keeping());
        let quiet = "health = { enabled = false }";
        let config = Config::new().key("one", K1, "");
        let config = config.backend("b0", busy.port, quiet).backend("b1", prompt.port, quiet);
        let pool = "backends = [{ name = \"b0\", model = \"first\", weight = 1000 }, { name = \"b1\", model = \"second\" }]";
        let gateway = Gateway::start(&config.tables(&format!("[model.m]\n{pool}")));
        for bytes in [300 * KIB, 5000 * KIB, 20_000 * KIB] {
            let body = String::from_utf8(body_of(bytes)).expect("text");
            let mut client = gateway.connect();
            client.send(&chat(K1, "again", &body));
            assert_eq!(client.answer().expect("an answer").status(), 200, "{bytes}");
            let got = prompt.bodies().pop().expect("a body");
            assert!(got == body.replacen("\"m\"", "\"second\"", 1).into_bytes(), "{bytes}");
        }
        assert!(busy.heads() > 0, "{manner:?}: nobody was asked first");
    }
}

#[test]
fn what_is_sent_behind_a_large_body_is_the_next_request() {
    let sink = Sink::start(Manner::Prompt).keeping();
    let gateway = plain(&sink);
    let body = body_of(700 * KIB);
    for chunked in [false, true] {
        let mut client = gateway.connect();
        let mut all = match chunked {
            false => chat(K1, "first", std::str::from_utf8(&body).expect("text")),
            true => in_chunks(&body, 60_000),
        };
        all.extend(chat(K1, "second", J));
        all.extend(in_chunks(&body, 999));
        all.extend(chat(K1, "fourth", J));
        client.send(&all);
        for turn in 0..4 {
            assert_eq!(client.answer().expect("an answer").status(), 200, "turn {turn}, chunked {chunked}");
        }
        let got = sink.bodies();
        let got = &got[got.len() - 4..];
        assert!(got[0] == body && got[1] == J.as_bytes() && got[2] == body && got[3] == J.as_bytes());
    }
}

/// A body in chunks over the limit is refused although no length said so, and one that is broken late is, too.
#[test]
fn chunks_that_break_a_rule_late_are_refused() {
    let sink = Sink::start(Manner::Prompt);
    let gateway = Gateway::start(&Config::simple(sink.port).top("[limits]\nbody = \"1MiB\""));
    let mut client = gateway.connect();
    client.send(&in_chunks(&body_of(1024 * KIB), 10_000));
    assert_eq!(client.answer().expect("an answer").status(), 200, "exactly the limit");
    client.send(&in_chunks(&body_of(1024 * KIB + 1), 10_000));
    assert_eq!(client.answer().expect("an answer").status(), 413);
    let mut client = gateway.connect();
    let mut broken = in_chunks(&body_of(800 * KIB), 10_000);
    let end = broken.len() - 5;
    broken.truncate(end);
    broken.extend_from_slice(b"zz\r\n");
    client.send(&broken);
    assert_eq!(client.answer().expect("an answer").status(), 400);
    assert_eq!(sink.whole(), 1);
}
