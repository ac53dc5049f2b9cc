//! One verdict, whatever the endpoint, the dialect, the model's backend, and with a stream or without.

use serde_json::{Value, json};

use support::gateway::{Config, Gateway, K1, K2};
use support::origin::{Next, Origin, Talk, completion};
use support::sse::{self, content};
use support::strict::Message;

const CARD: &str = "4111 1111 1111 1111";

/// An endpoint: its path with and without a stream, and a request that says something there.
pub(super) struct Client {
    pub(super) path: fn(bool) -> &'static str,
    pub(super) body: fn(&str, bool) -> Value,
    /// The path names the model.
    is_in_path: bool,
}

const CLIENTS: [Client; 7] = [
    Client {
        path: |_| "/v1/chat/completions",
        body: |text, stream| json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]}),
        is_in_path: false,
    },
    Client {
        path: |_| "/v1/completions",
        body: |text, stream| json!({"model": "m", "stream": stream, "prompt": text}),
        is_in_path: false,
    },
    Client {
        path: |_| "/v1/messages",
        body: |text, stream| {
            let content = json!([{"type": "text", "text": text}]);
            json!({"model": "m", "max_tokens": 99, "stream": stream, "messages": [{"role": "user", "content": content}]})
        },
        is_in_path: false,
    },
    Client {
        path: |_| "/v1/responses",
        body: |text, stream| json!({"model": "m", "stream": stream, "input": [{"role": "user", "content": text}]}),
        is_in_path: false,
    },
    Client {
        path: |stream| match stream {
            true => "/v1beta/models/m:streamGenerateContent?alt=sse",
            false => "/v1beta/models/m:generateContent",
        },
        body: |text, _| json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}),
        is_in_path: true,
    },
    Client {
        path: |_| "/api/chat",
        body: |text, stream| json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]}),
        is_in_path: false,
    },
    Client {
        path: |_| "/api/generate",
        body: |text, stream| json!({"model": "m", "stream": stream, "prompt": text}),
        is_in_path: false,
    },
];

pub(super) fn every() -> impl Iterator<Item = (&'static Client, bool)> {
    CLIENTS.iter().flat_map(|client| [(client, true), (client, false)])
}

pub(super) fn start(origin: &Origin, guard: u16, rules: &str) -> Gateway {
    let backend = "kind = \"openai\"\nserves = [\"chat\", \"completions\"]\nhealth = { enabled = false }";
    let config = Config::new()
        .shards("count = 1")
        .backend("b1", origin.port, backend)
        .backend("guard", guard, "kind = \"vllm\"\nhealth = { enabled = false }")
        .model("m", &["b1"], "")
        .model("other", &["b1"], "")
        .key("one", K1, "")
        .key("two", K2, "");
    Gateway::start(&config.tables(rules))
}

pub(super) fn ask(gateway: &Gateway, key: &str, path: &str, body: &Value) -> Message {
    let mut client = gateway.connect();
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(format!("{head}{body}").as_bytes());
    client.answer().unwrap_or_else(|error| panic!("{path} {body}: {error}"))
}

pub(super) fn says(pieces: &'static [&'static str]) -> impl Fn(&mut Talk) -> Next + Send + Sync {
    move |talk| {
        if talk.request.json()["stream"] != true {
            let body = completion(&pieces.concat());
            return talk.answer("200 OK", "Content-Type: application/json\r\n", &body);
        }
        talk.stream();
        for piece in pieces {
            talk.chunk(content(piece));
        }
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    }
}

#[test]
fn every_endpoint_gets_the_same_verdict_on_its_request() {
    let origin = Origin::scripted(says(&["hi"]));
    let guard = Origin::scripted(|talk| {
        let is_bad = String::from_utf8_lossy(&talk.request.body).contains("villainous");
        let verdict = if is_bad { r#"{"verdict":"refuse"}"# } else { r#"{"verdict":"allow"}"# };
        talk.answer("200 OK", "Content-Type: application/json\r\n", verdict)
    });
    let rules = "[guard.cards]\ndetect = [\"payment_card\"]\naction = \"mask\"\nmodels = [\"m\"]\n\
        [guard.orion]\nwords = [\"project orion\"]\naction = \"refuse\"\n\
        [guard.chatter]\nwords = [\"small talk\"]\naction = { route = \"other\" }\nmodels = [\"m\"]\n\
        [guard.size]\nrequest = { body_max = \"2KiB\" }\naction = \"refuse\"\n\
        [guard.only]\nwords = [\"counted\"]\naction = \"refuse\"\nshadow = true\n\
        [guard.judge]\nexternal = { backend = \"guard\", form = \"webhook\" }\naction = \"refuse\"";
    let gateway = start(&origin, guard.port, rules);
    for (client, stream) in every() {
        let path = (client.path)(stream);
        let of = |text: &str| {
            let before = origin.seen().len();
            let response = ask(&gateway, K1, path, &(client.body)(text, stream));
            let seen = origin.seen();
            let sent = seen.get(before).map(|seen| String::from_utf8_lossy(&seen.request.body).into_owned());
            (response.status(), sent)
        };
        let (status, sent) = of(&format!("pay {CARD} now"));
        let sent = sent.expect("a request at the backend");
        assert!(
            status == 200 && sent.contains("pay <CARD_1> now") && !sent.contains("4111"),
            "{path} {stream}: {sent}"
        );
        for refused in ["tell of Project Orion", "a villainous plan", &"long ".repeat(1000)] {
            assert_eq!(of(refused), (400, None), "{path} {stream}: {}", &refused[..10]);
        }
        match (of("only small talk"), client.is_in_path) {
            ((200, Some(sent)), false) => {
                assert!(sent.contains("\"model\":\"other\""), "{path} {stream}: {sent}")
            }
            ((400, None), true) => {}
            other => panic!("{path} {stream}: {other:?}"),
        }
        assert!(matches!(of("this is counted"), (200, Some(_))), "{path} {stream}");
        assert!(matches!(of("nothing at all"), (200, Some(_))), "{path} {stream}");
    }
}

#[test]
fn every_endpoint_gets_the_same_verdict_on_its_response() {
    let origin = Origin::scripted(says(&[
        "the card ",
        "4111 11",
        "11 1111 ",
        "1111 is of project",
        " ori",
        "on, yes",
    ]));
    let rules = "[guard.cards]\ndetect = [\"payment_card\"]\nwhere = [\"output\"]\naction = \"mask\"\n\
        [guard.orion]\nwords = [\"project orion\"]\nwhere = [\"output\"]\naction = \"stop\"\nkeys = [\"two\"]";
    let gateway = start(&origin, origin.port, rules);
    for (client, stream) in every() {
        // The backend's chat chunks are not what clients of completions read; the rules read them all the same.
        let path = (client.path)(stream);
        let body = (client.body)("tell me", stream);
        let masked = ask(&gateway, K1, path, &body);
        let text = masked.text();
        assert_eq!(masked.status(), 200, "{path} {stream}: {text}");
        assert!(
            text.contains("<CARD_1>") || text.contains("\\u003cCARD_1\\u003e"),
            "{path} {stream}: {text}"
        );
        assert!(!text.contains("4111") && !text.contains("1111"), "{path} {stream}: {text}");
        assert!(text.contains("yes"), "{path} {stream}: {text}");
        let stopped = ask(&gateway, K2, path, &body);
        let text = stopped.text();
        assert!(
            !text.contains("project") && !text.contains("4111") && !text.contains("yes"),
            "{path} {stream}: {text}"
        );
        // A stream that is stopped in what came first has not begun.
        let is_whole = stopped.status() == 400;
        assert!(is_whole || stream && stopped.status() == 200, "{path} {stream}: {text}");
        assert!(text.contains("content rule"), "{path} {stream}: {text}");
    }
}

#[test]
fn every_endpoint_is_served_from_the_cache_and_none_from_that_of_another() {
    let origin = Origin::scripted(says(&["hello", " there"]));
    let gateway = start(&origin, origin.port, "[cache]\nenabled = true");
    let mut calls = 0;
    for (client, stream) in every() {
        let path = (client.path)(stream);
        let mut body = (client.body)("hello", stream);
        if path.starts_with("/v1/responses") {
            body["store"] = json!(false);
        }
        let first = ask(&gateway, K1, path, &body);
        assert_eq!(first.one("x-ringway-cache"), "miss", "{path} {stream}");
        calls += 1;
        let second = ask(&gateway, K1, path, &body);
        assert_eq!(
            (second.one("x-ringway-cache"), second.text()),
            ("hit".to_owned(), first.text()),
            "{path} {stream}"
        );
        assert_eq!(second.one("content-type"), first.one("content-type"), "{path} {stream}");
        assert_eq!(ask(&gateway, K2, path, &body).one("x-ringway-cache"), "miss", "{path} {stream}");
        calls += 1;
        assert_eq!(origin.seen().len(), calls, "{path} {stream}");
    }
}
