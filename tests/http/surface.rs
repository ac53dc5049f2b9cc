//! What can be reached, by whom, and whom a client can make the gateway reach.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};

use support::gateway::{Config, Gateway, K1, K2};
use support::origin::Origin;
use support::strict::Message;
use support::tls::{Authority, secured};

/// Every path that is forwarded, under each of its names.
const PATHS: [&str; 15] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/responses/compact",
    "/v1/responses/input_tokens",
    "/v1/score",
    "/v1/classify",
    "/v1/pooling",
    "/v1/tokenize",
    "/v1/detokenize",
    "/v1/rerank",
    "/v2/rerank",
    "/v1/messages",
    "/v1/messages/count_tokens",
];

const EVERYTHING: &str = "serves = [\"chat\", \"completions\", \"embeddings\", \"responses\", \"responses_compact\", \
     \"responses_input_tokens\", \"score\", \"classify\", \"pooling\", \"tokenize\", \"detokenize\", \"rerank\", \"messages\", \"count_tokens\"]\n\
     health = { enabled = false }";

fn post(gateway: &Gateway, path: &str, key: &str, lines: &str, body: &str) -> Message {
    let mut client = gateway.connect();
    let length = body.len();
    client.send(
        format!(
            "POST {path} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {key}\r\n{lines}\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .as_bytes(),
    );
    client.answer().expect("an answer")
}

/// S01: bodies, headers and queries that name another host are the backend's to read or nobody's. None of them moves
/// a connection or the credential.
#[test]
fn f_32_no_field_of_a_request_chooses_where_it_goes() {
    let origin = Origin::start();
    let decoy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    decoy.set_nonblocking(true).expect("it can");
    let there = format!("http://{}/v1", decoy.local_addr().expect("an address"));
    let config = Config::new()
        .backend("b1", origin.port, &format!("api_key = {{ env = \"KEY\" }}\n{EVERYTHING}"))
        .variable("KEY", "sk-for-the-backend")
        .model("m", &["b1"], "")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    let members = ["api_base", "base_url", "api_url", "custom_host", "url", "endpoint", "model_url", "proxy"];
    let headers = [
        "X-Portkey-Custom-Host",
        "X-Custom-Host",
        "X-Api-Base",
        "X-Base-Url",
        "X-Forwarded-Host",
        "X-Original-Url",
        "X-Rewrite-Url",
        "Forwarded",
        "X-Target-Url",
    ];
    let mut sent = 0;
    for path in PATHS {
        for member in members {
            let body = format!(r#"{{"model":"m","messages":[],"{member}":"{there}"}}"#);
            assert_eq!(post(&gateway, path, K1, "", &body).status(), 200, "{path} {member}");
            sent += 1;
        }
        for header in headers {
            let line = format!("{header}: {there}\r\n");
            assert_eq!(post(&gateway, path, K1, &line, support::J).status(), 200, "{path} {header}");
            sent += 1;
        }
        // A query goes to the same backend or is refused; here nobody has to know which.
        post(&gateway, &format!("{path}?base_url={there}"), K1, "", support::J);
    }
    // A target and a Host of another place.
    for (target, host) in [(there.as_str(), "gw.test"), ("/v1/chat/completions", &there[7..there.len() - 3])]
    {
        let mut client = gateway.connect();
        let head = format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {K1}\r\n");
        client.send(format!("{head}Content-Length: 27\r\n\r\n{}", support::J).as_bytes());
        let _ = client.answer(); // either is right, as long as it goes nowhere else
    }
    assert!(decoy.accept().is_err(), "the gateway connected to where a client pointed it");
    assert!(origin.seen().len() >= sent, "{} of {sent} requests came", origin.seen().len());
}

/// S08: the data port, the admin port, and nothing else.
#[test]
fn it_listens_where_it_was_told_and_nowhere_else() {
    let origin = Origin::start();
    let config = secured(Config::simple(origin.port), &Authority::new().certify("localhost"));
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.listens_on(), BTreeSet::from([gateway.port, gateway.admin]));
    assert_eq!(gateway.sockets_of("udp") + gateway.sockets_of("udp6"), 0);
}

/// S14: the same rules on every path and alias, with and without a stream.
#[test]
fn no_path_is_without_the_rules() {
    let origin = Origin::start();
    let config = Config::new()
        .backend("b1", origin.port, EVERYTHING)
        .model("m", &["b1"], "")
        .model("other", &["b1"], "aliases = [\"alias\"]")
        .key("one", K1, "models = [\"m\"]")
        .key("two", K2, "requests_per_minute = 1\nrequests_burst = 1")
        .tables("[limits]\nauth_failures_per_minute = 0");
    let gateway = Gateway::start(&config);
    let body =
        |model: &str, stream: bool| format!(r#"{{"model":"{model}","messages":[],"stream":{stream}}}"#);
    assert_eq!(post(&gateway, PATHS[0], K2, "", &body("m", false)).status(), 200, "the only one of a minute");
    let came = origin.seen().len();
    // Base URLs come with and without the version, and with a slash too many.
    let names = |path: &&str| match path.strip_prefix("/v1") {
        Some(short) => vec![(*path).to_owned(), short.to_owned(), format!("{path}/")],
        None => vec![(*path).to_owned()],
    };
    let paths: Vec<String> = PATHS.iter().flat_map(names).collect();
    for path in &paths {
        for stream in [false, true] {
            for (key, model, status) in [
                ("wrong", "m", 401),
                (K1, "other", 403),
                (K1, "alias", 403),
                (K1, "nobody", 404),
                (K2, "m", 429),
            ] {
                let answer = post(&gateway, path, key, "", &body(model, stream));
                assert_eq!(answer.status(), status, "{path} {model} {stream}: {answer:?}");
            }
        }
    }
    assert_eq!(origin.seen().len(), came, "a refused request reached the backend");
    for path in &paths {
        assert_eq!(post(&gateway, path, K1, "", &body("m", false)).status(), 200, "{path} is served at all");
    }
}
