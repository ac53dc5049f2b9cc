//! Base URLs as providers print them: with a version of their own, with a query, with a slash too many.

use std::process::Command;

use support::client::Client;
use support::gateway::{Config, Gateway, K1, Wrapper};
use support::origin::Origin;
use support::{J, chat};

const QUIET: &str = "health = { enabled = false }";

/// A gateway whose model `m` is served under `base`, written with the key `key`.
fn start(origin: &Origin, key: &str, base: &str, more: &str) -> Gateway {
    Gateway::start(&config(origin, key, base, more))
}

fn config(origin: &Origin, key: &str, base: &str, more: &str) -> Config {
    let url = format!("http://127.0.0.1:{}{base}", origin.port);
    let backend = format!("[backend.b1]\n{key} = \"{url}\"\n{more}");
    Config::new().key("one", K1, "").tables(&backend).model("m", &["b1"], "")
}

/// What `ringway check` says of the file that a gateway was started with.
pub(crate) fn check(gateway: &Gateway) -> (Option<i32>, String) {
    let file = gateway.folder().join("ringway.toml");
    let output = Command::new(support::binary()).arg("check").arg(file).output();
    let output = output.expect("the binary runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Sends `body` to `target`; what the origin was asked for.
fn asked(gateway: &Gateway, origin: &Origin, target: &str, lines: &str) -> String {
    let mut client: Client = gateway.connect();
    let head = format!("POST {target} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {K1}\r\n{lines}");
    client.send(format!("{head}Content-Length: {}\r\n\r\n{J}", J.len()).as_bytes());
    let answer = client.answer().expect("an answer");
    assert_eq!(answer.status(), 200, "{answer:?}");
    let seen = origin.take(|_| true);
    assert_eq!(seen.len(), 1);
    seen[0].request.target().to_owned()
}

#[test]
fn only_the_endpoints_own_part_follows_an_api_base() {
    for (base, expected) in [
        ("/api/paas/v4", "/api/paas/v4/chat/completions"),
        ("/api/paas/v4/", "/api/paas/v4/chat/completions"),
        ("/v1beta/openai", "/v1beta/openai/chat/completions"),
        ("/v1beta/openai//", "/v1beta/openai/chat/completions"),
        ("/api/v3", "/api/v3/chat/completions"),
        ("/v1", "/v1/chat/completions"),
        ("/compatible-mode/v1/", "/compatible-mode/v1/chat/completions"),
        ("/v1/0a1b2c/my%20gateway/compat", "/v1/0a1b2c/my%20gateway/compat/chat/completions"),
        ("", "/chat/completions"),
        ("/", "/chat/completions"),
    ] {
        let origin = Origin::start();
        let gateway = start(&origin, "api_base", base, QUIET);
        assert_eq!(asked(&gateway, &origin, "/v1/chat/completions", ""), expected, "{base}");
        let beta = asked(&gateway, &origin, "/v1/chat/completions?beta=true", "");
        assert_eq!(beta, format!("{expected}?beta=true"), "{base}");
    }
}

#[test]
fn every_endpoint_lies_under_the_api_base() {
    let origin = Origin::start();
    let serves =
        "serves = [\"chat\", \"completions\", \"embeddings\", \"messages\", \"count_tokens\", \"rerank\"]";
    let gateway = start(&origin, "api_base", "/api/v3", &format!("{serves}\n{QUIET}"));
    for end in ["/completions", "/embeddings", "/messages", "/messages/count_tokens", "/rerank"] {
        let version = "anthropic-version: 2023-06-01\r\n";
        let target = asked(&gateway, &origin, &format!("/v1{end}"), version);
        assert_eq!(target, format!("/api/v3{end}"));
    }
}

#[test]
fn the_query_of_an_api_base_goes_with_every_request() {
    let origin = Origin::start();
    let base = "/openai/deployments/gpt-4o?api-version=2024-10-21";
    let gateway = start(&origin, "api_base", base, QUIET);
    let path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    for (query, expected) in [
        ("", ""),
        ("?", ""),
        ("?beta=true", "&beta=true"),
        ("?api-version=2023-05-15", ""),
        ("?Api-Version=2023-05-15&a=b&c", "&a=b&c"),
        ("?x=api-version=1", "&x=api-version=1"),
    ] {
        let target = asked(&gateway, &origin, &format!("/v1/chat/completions{query}"), "");
        assert_eq!(target, format!("{path}{expected}"), "{query}");
    }
}

/// Azure reads its key from a header of its own.
#[test]
fn the_header_of_the_credential_can_be_chosen() {
    let origin = Origin::start();
    for header in ["api-key", "x-api-key"] {
        let more = format!("api_key = {{ file = \"key\" }}\napi_key_header = \"{header}\"\n{QUIET}");
        let config =
            config(&origin, "api_base", "/d?api-version=1", &more).file("key", "azure-key-0123456789");
        let gateway = Gateway::start(&config);
        let mut client = gateway.connect();
        client.send(&chat(K1, header, J));
        assert_eq!(client.answer().expect("an answer").status(), 200);
        let seen = origin.take(|_| true);
        assert_eq!(seen[0].request.one(header), "azure-key-0123456789");
        assert!(!seen[0].request.has("authorization"), "{:?}", seen[0].request);
    }
}

#[test]
fn a_servers_url_gets_one_version() {
    for (base, expected) in [
        ("", "/v1/chat/completions"),
        ("/", "/v1/chat/completions"),
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/v1//", "/v1/chat/completions"),
        ("/engine/v1/", "/engine/v1/chat/completions"),
        ("/engine", "/engine/v1/chat/completions"),
    ] {
        let origin = Origin::start();
        let gateway = start(&origin, "url", base, QUIET);
        assert_eq!(asked(&gateway, &origin, "/v1/chat/completions", ""), expected, "{base}");
        assert_eq!(asked(&gateway, &origin, "/chat/completions", ""), expected, "{base}");
    }
}

#[test]
fn check_prints_every_url_and_no_secret() {
    let origin = Origin::start();
    let base = "/openai/deployments/x/?api-version=1&subscription-key=s3cret-in-a-query";
    let gateway = start(&origin, "api_base", base, &format!("serves = [\"chat\", \"embeddings\"]\n{QUIET}"));
    let (status, said) = check(&gateway);
    assert_eq!(status, Some(0), "{said}");
    for end in ["chat/completions", "embeddings"] {
        let path = "/openai/deployments/x";
        let url =
            format!("POST http://127.0.0.1:{}{path}/{end}?api-version=1&subscription-key=***", origin.port);
        assert!(said.contains(&url), "{url}\n{said}");
    }
    assert!(!said.contains("s3cret") && !said.contains("/completions/"), "{said}");
}

#[test]
fn check_says_where_a_version_of_its_own_leads() {
    let origin = Origin::start();
    for base in ["/api/paas/v4", "/v1beta/openai/", "/openai/v1/deployments/x"] {
        let gateway = start(&origin, "url", base, QUIET);
        let (_, said) = check(&gateway);
        let note = said.lines().find(|line| line.starts_with("note: backend b1")).unwrap_or_default();
        assert!(note.contains("/v1/...") && note.contains("api_base"), "{base}\n{said}");
    }
}

#[test]
fn what_is_no_base_url_is_refused_with_what_is_expected() {
    for (lines, expected) in [
        ("url = \"http://h\"\napi_base = \"http://h/v4\"", "backend.b1.api_base: is there beside url"),
        ("kind = \"vllm\"", "backend.b1.url: is missing"),
        ("api_base = \"http://user:s3cret@h/v4\"", "write api_key ="),
        ("api_base = \"http://h/v4#top\"", "backend.b1.api_base: has a fragment"),
        ("api_base = \"http://h/v4/chat/completions\"", "backend.b1.api_base: names an endpoint"),
        ("url = \"http://h/v1/embeddings\"", "backend.b1.url: names an endpoint"),
        ("url = \"http://h/openai?api-version=1\"", "write api_base instead of url"),
        ("api_base = \"http://h/v1/{account_id}/openai\"", "has to encode"),
        ("api_base = \"http://h/a/../v4\"", "with . or .."),
        ("api_base = \"http://h/v4?a=b c\"", "holds a space"),
    ] {
        let config = Config::new().key("one", K1, "").tables(&format!("[backend.b1]\n{lines}")).model(
            "m",
            &["b1"],
            "",
        );
        let said = Gateway::try_start(&config, Wrapper::Plain).err().expect("it does not start");
        let said = said.split("--- with").next().unwrap_or_default();
        assert!(said.contains(expected) && !said.contains("s3cret"), "{expected}\n{said}");
    }
}
