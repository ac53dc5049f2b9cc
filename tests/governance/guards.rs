//! Content rules on requests and responses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use support::client::End;
use support::folder::files_below;
use support::gateway::{Config, Gateway, K1, K2};
use support::origin::{Next, Origin, Talk, completion};
use support::sse::{self, Ending, content, judge};
use support::strict::Message;
use support::{PATIENCE, eventually};

const CARD: &str = "4111 1111 1111 1111";
const CARDS: &str = "[guard.cards]\ndetect = [\"payment_card\"]\nwhere = [\"input\", \"output\", \"tools\", \"system\"]\naction = \"mask\"";

/// Models `m` and `other` before one backend that serves everything that clients ask here.
fn start(origin: &Origin, tables: &str) -> Gateway {
    Gateway::start(&config(origin, tables))
}

fn config(origin: &Origin, tables: &str) -> Config {
    let serves = "[\"chat\", \"completions\", \"messages\", \"responses\", \"embeddings\"]";
    let backend = format!("kind = \"vllm\"\nserves = {serves}\nhealth = {{ enabled = false }}");
    Config::new()
        .backend("b1", origin.port, &backend)
        .model("m", &["b1"], "")
        .model("other", &["b1"], "")
        .key("one", K1, "")
        .key("two", K2, "")
        .tables(tables)
}

fn ask_as(gateway: &Gateway, key: &str, path: &str, body: &str) -> Message {
    let mut client = gateway.connect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {key}\r\nanthropic-version: 2023-06-01\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(format!("{head}{body}").as_bytes());
    client.answer().expect("a response")
}

fn ask(gateway: &Gateway, path: &str, body: &Value) -> Message {
    ask_as(gateway, K1, path, &body.to_string())
}

fn chat(text: &str, stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]})
}

/// Says `pieces` as a stream, one event each, or as one completion.
fn says(pieces: &'static [&'static str]) -> impl Fn(&mut Talk) -> Next + Send + Sync {
    move |talk| {
        if talk.request.json()["stream"] != true {
            let body = completion(&pieces.concat());
            return talk.answer("200 OK", "Content-Type: application/json\r\n", &body);
        }
        talk.stream();
        for piece in pieces {
            talk.chunk(content(piece));
            talk.pause(Duration::from_millis(2));
        }
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    }
}

#[test]
fn a_request_is_masked_on_every_endpoint_before_the_backend_sees_it() {
    let origin = Origin::start();
    let gateway = start(&origin, CARDS);
    let user = json!([{"role": "user", "content": format!("pay {CARD} now")}]);
    for (path, body) in [
        ("/v1/chat/completions", json!({"model": "m", "messages": user})),
        ("/v1/messages", json!({"model": "m", "max_tokens": 9, "messages": user})),
        ("/v1/responses", json!({"model": "m", "input": format!("pay {CARD} now")})),
        ("/v1/completions", json!({"model": "m", "prompt": format!("pay {CARD} now")})),
        ("/v1/embeddings", json!({"model": "m", "input": ["a", format!("pay {CARD} now")]})),
    ] {
        ask(&gateway, path, &body);
        let seen = origin.seen().pop().expect("a request");
        let sent = String::from_utf8_lossy(&seen.request.body).into_owned();
        assert_eq!(sent, body.to_string().replace(CARD, "<CARD_1>"), "{path}");
    }
    assert!(gateway.metric("ringway_guard_total", "masked") >= 5.0);
}

#[test]
fn a_large_request_is_masked_too() {
    let origin = Origin::start();
    let gateway = start(&origin, CARDS);
    let body = chat(&format!("{} {CARD}", "long ".repeat(60_000)), false);
    ask(&gateway, "/v1/chat/completions", &body);
    let seen = origin.seen().pop().expect("a request");
    assert_eq!(String::from_utf8_lossy(&seen.request.body), body.to_string().replace(CARD, "<CARD_1>"));
}

#[test]
fn a_refusal_reaches_no_backend_and_speaks_the_clients_dialect() {
    let origin = Origin::start();
    let gateway = start(&origin, "[guard.orion]\nwords = [\"project orion\"]\naction = \"refuse\"");
    let response = ask(&gateway, "/v1/chat/completions", &chat("tell me of PROJECT  Orion", false));
    assert_eq!(
        (response.status(), &response.json()["error"]["code"]),
        (400, &json!("content_policy_violation"))
    );
    assert!(response.json()["error"]["message"].as_str().is_some_and(|text| text.contains("'orion'")));
    let messages =
        json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "project orion"}]});
    let response = ask(&gateway, "/v1/messages", &messages);
    assert_eq!((response.status(), &response.json()["type"]), (400, &json!("error")));
    assert!(origin.seen().is_empty());
    assert!((gateway.metric("ringway_guard_total", "refused") - 2.0).abs() < 0.1);
    // An escape hides nothing.
    let hidden = r#"{"model":"m","messages":[{"role":"user","content":"pro\u006aect orion"}]}"#;
    assert_eq!(ask_as(&gateway, K1, "/v1/chat/completions", hidden).status(), 400);
    assert_eq!(ask(&gateway, "/v1/chat/completions", &chat("of orion, a project", false)).status(), 200);
}

#[test]
fn a_request_is_routed_to_another_model_whose_rules_follow() {
    let origin = Origin::start();
    let rules = "[guard.cheap]\nwords = [\"small talk\"]\naction = { route = \"other\" }\nmodels = [\"m\"]\n\
                 [guard.cards]\ndetect = [\"payment_card\"]\naction = \"mask\"\nmodels = [\"other\"]";
    let gateway = start(&origin, rules);
    ask(&gateway, "/v1/chat/completions", &chat(&format!("small talk about {CARD}"), false));
    let sent = origin.seen().pop().expect("a request").request.json();
    assert_eq!(
        (&sent["model"], &sent["messages"][0]["content"]),
        (&json!("other"), &json!("small talk about <CARD_1>"))
    );
}

#[test]
fn rules_that_send_a_request_round_in_circles_refuse_it() {
    let origin = Origin::start();
    let rules = "[guard.a]\nwords = [\"x\"]\naction = { route = \"other\" }\nmodels = [\"m\"]\n\
                 [guard.b]\nwords = [\"x\"]\naction = { route = \"m\" }\nmodels = [\"other\"]";
    let gateway = start(&origin, rules);
    let response = ask(&gateway, "/v1/chat/completions", &chat("x", false));
    assert_eq!(
        (response.status(), &response.json()["error"]["code"]),
        (400, &json!("content_policy_violation"))
    );
    assert!(origin.seen().is_empty());
}

#[test]
fn a_stream_is_masked_wherever_its_match_is_split() {
    let origin = Origin::scripted(says(&["My c", "ard 41", "11 1111", " 1111 11", "11", ", valid"]));
    let gateway = start(&origin, CARDS);
    let response = ask(&gateway, "/v1/chat/completions", &chat("card?", true));
    let text = response.text();
    assert_eq!(judge(&text), ("My card <CARD_1>, valid".into(), Ending::Finished), "{text}");
}

#[test]
fn a_stream_without_a_match_is_the_same_to_the_byte() {
    let origin = Origin::scripted(says(&["4111 11", "11 is no card, 41", " neither \\\"", "é"]));
    let gateway = start(&origin, CARDS);
    let plain = start(&origin, "");
    let body = chat("card?", true);
    let guarded = ask(&gateway, "/v1/chat/completions", &body).text();
    assert_eq!(guarded, ask(&plain, "/v1/chat/completions", &body).text());
}

#[test]
fn a_stopped_stream_ends_with_an_error_and_leaves_the_backend() {
    let left = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&left);
    let origin = Origin::scripted(move |talk| {
        talk.stream();
        for piece in ["it is ", "project ", "ori", "on, you know"] {
            talk.chunk(content(piece));
            talk.pause(Duration::from_millis(20));
        }
        seen.store(talk.gone(PATIENCE), Ordering::SeqCst);
        Next::Close
    });
    let gateway =
        start(&origin, "[guard.orion]\nwords = [\"project orion\"]\nwhere = [\"output\"]\naction = \"stop\"");
    let text = ask(&gateway, "/v1/chat/completions", &chat("what is it?", true)).text();
    assert_eq!(judge(&text), ("it is ".into(), Ending::Failed("content_policy_violation".into())), "{text}");
    assert!(!text.contains("project") && !text.contains("[DONE]"), "{text}");
    assert!(eventually(PATIENCE, || left.load(Ordering::SeqCst)), "the backend's connection stayed open");
}

#[test]
fn a_plain_response_is_masked_or_stopped() {
    let origin = Origin::scripted(says(&["card ", CARD, " of project orion"]));
    let stop = "[guard.orion]\nwords = [\"project orion\"]\nwhere = [\"output\"]\naction = \"stop\"\nkeys = [\"two\"]";
    let gateway = start(&origin, &format!("{CARDS}\n{stop}"));
    let body = chat("card?", false).to_string();
    let response = ask_as(&gateway, K1, "/v1/chat/completions", &body);
    let said = &response.json()["choices"][0]["message"]["content"];
    assert_eq!((response.status(), said), (200, &json!("card <CARD_1> of project orion")));
    let response = ask_as(&gateway, K2, "/v1/chat/completions", &body);
    assert_eq!(
        (response.status(), &response.json()["error"]["code"]),
        (400, &json!("content_policy_violation"))
    );
    assert!(
        !response.text().contains("project") && !response.text().contains("card "),
        "{}",
        response.text()
    );
}

#[test]
fn a_translated_stream_is_masked_in_the_clients_dialect() {
    let origin = Origin::scripted(says(&["card 4111 1111", " 1111 1111 ok"]));
    let backend = "kind = \"openai\"\nserves = [\"chat\"]\nhealth = { enabled = false }";
    let config = Config::new().backend("b1", origin.port, backend).model("m", &["b1"], "").key("one", K1, "");
    let gateway = Gateway::start(&config.tables(CARDS));
    let body = json!({"model": "m", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "card?"}]});
    let text = ask(&gateway, "/v1/messages", &body).text();
    assert!(text.contains("<CARD_1>") && text.contains("message_stop") && !text.contains("1111"), "{text}");
}

#[test]
fn a_fallback_is_no_way_around_its_own_rules() {
    let origin = Origin::scripted(|talk| match talk.request.json()["model"] == "m" {
        true => {
            talk.answer("503 Service Unavailable", "Content-Type: application/json\r\n", "{\"error\":{}}")
        }
        false => talk.answer("200 OK", "Content-Type: application/json\r\n", &completion("hi")),
    });
    let backend = "kind = \"vllm\"\nhealth = { enabled = false }";
    let config = Config::new()
        .backend("b1", origin.port, backend)
        .model("m", &["b1"], "fallbacks = [\"hosted\"]")
        .model("hosted", &["b1"], "")
        .key("one", K1, "");
    let rules = "[guard.cards]\ndetect = [\"payment_card\"]\naction = \"mask\"\nmodels = [\"hosted\"]";
    let gateway = Gateway::start(&config.tables(rules));
    assert_eq!(ask(&gateway, "/v1/chat/completions", &chat("hello", false)).status(), 200);
    assert_eq!(ask(&gateway, "/v1/chat/completions", &chat(CARD, false)).status(), 503);
    let leaked = |seen: &support::origin::Seen| {
        seen.request.json()["model"] == "hosted"
            && String::from_utf8_lossy(&seen.request.body).contains("1111")
    };
    assert!(!origin.seen().iter().any(leaked));
}

#[test]
fn a_response_of_a_fallback_is_no_way_around_the_fallbacks_rules() {
    let origin = Origin::scripted(|talk| {
        let body = r#"{"id":"resp_1","object":"response","status":"completed","output":[]}"#;
        talk.answer("200 OK", "Content-Type: application/json\r\n", body)
    });
    let backend = "kind = \"vllm\"\nhealth = { enabled = false }";
    let config = Config::new()
        .backend("b1", origin.port, backend)
        .backend("b2", origin.port, backend)
        .model("m", &["b1"], "fallbacks = [\"hosted\"]")
        .model("hosted", &["b2"], "")
        .key("one", K1, "");
    let rules = "[ids]\nalways = true\n[guard.orion]\nwords = [\"orion\"]\naction = \"refuse\"\nmodels = [\"hosted\"]";
    let gateway = Gateway::start(&config.tables(rules));
    let id = ask(&gateway, "/v1/responses", &json!({"model": "hosted", "input": "hi"})).json()["id"].clone();
    let follow = |text: &str| {
        ask(&gateway, "/v1/responses", &json!({"model": "m", "previous_response_id": id, "input": text}))
            .status()
    };
    assert_eq!(follow("hello"), 200);
    assert_eq!(origin.seen().len(), 2);
    assert_eq!(follow("tell of orion"), 404);
    assert_eq!(origin.seen().len(), 2);
}

#[test]
fn a_rule_in_shadow_mode_only_counts() {
    let origin = Origin::scripted(says(&["card ", CARD]));
    let gateway = start(&origin, &format!("{CARDS}\nshadow = true"));
    let response = ask(&gateway, "/v1/chat/completions", &chat(CARD, false));
    assert_eq!(response.json()["choices"][0]["message"]["content"], format!("card {CARD}"));
    assert!(String::from_utf8_lossy(&origin.seen()[0].request.body).contains(CARD));
    assert!((gateway.metric("ringway_guard_total", "shadowed") - 2.0).abs() < 0.1);
    assert!(gateway.metric("ringway_guard_total", "masked") < 0.1);
}

#[test]
fn a_client_that_keeps_its_connection_is_served_after_each_outcome() {
    let origin = Origin::start();
    let rules = format!("{CARDS}\n[guard.orion]\nwords = [\"orion\"]\naction = \"refuse\"");
    let gateway = start(&origin, &rules);
    let mut client = gateway.connect();
    for (text, status) in [(CARD, 200), ("orion", 400), ("plain", 200), (CARD, 200)] {
        client.send(&support::chat(K1, "keeps", &chat(text, false).to_string()));
        assert_eq!(client.answer().expect("a response").status(), status, "{text}");
    }
    assert_eq!(client.end(), End::Open);
}

#[test]
fn what_is_held_back_is_sent_after_a_silence_of_the_stream() {
    let read = Arc::new(AtomicBool::new(false));
    let goes_on = Arc::clone(&read);
    let origin = Origin::scripted(move |talk| {
        talk.stream();
        talk.chunk(content("it costs 4111"));
        assert!(talk.wait_for(&goes_on), "the text waited for the next event");
        talk.chunk(content(" dollars, card 4111 1111"));
        talk.chunk(content(" 1111 1111"));
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    let gateway = start(&origin, &format!("{CARDS}\n[timeouts]\nguard_hold = \"100ms\""));
    let mut client = gateway.connect();
    client.send(&support::chat(K1, "hold", &chat("price?", true).to_string()));
    client.read_until("it costs 4111");
    read.store(true, Ordering::SeqCst);
    let text = client.answer().expect("a response").text();
    assert_eq!(judge(&text), ("it costs 4111 dollars, card <CARD_1>".into(), Ending::Finished), "{text}");
    assert!((gateway.metric("ringway_guard_releases_total", "") - 1.0).abs() < 0.1);
}

#[test]
fn a_rule_is_for_the_keys_with_its_tags() {
    let origin = Origin::start();
    let backend = "kind = \"vllm\"\nhealth = { enabled = false }";
    let config = Config::new()
        .backend("b1", origin.port, backend)
        .model("m", &["b1"], "")
        .key("one", K1, "tags = [\"trial\", \"eu\"]")
        .key("two", K2, "tags = [\"prod\"]");
    let rule = "[guard.orion]\nwords = [\"orion\"]\naction = \"refuse\"\ntags = [\"e*\"]";
    let gateway = Gateway::start(&config.tables(rule));
    let body = chat("orion", false).to_string();
    assert_eq!(ask_as(&gateway, K1, "/v1/chat/completions", &body).status(), 400);
    assert_eq!(ask_as(&gateway, K2, "/v1/chat/completions", &body).status(), 200);
}

/// The rows that a command prints as JSON.
pub(super) fn rows(gateway: &Gateway, arguments: &[&str]) -> Vec<Value> {
    let mut command = std::process::Command::new(support::binary());
    command.args(arguments).arg("--json").arg("--config").arg(gateway.folder().join("ringway.toml"));
    let output = command.output().expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn every_match_is_in_the_ledger_and_its_text_is_nowhere() {
    let origin = Origin::scripted(says(&["your card ", "4111 1111", " 1111 1111"]));
    let rules = format!(
        "{CARDS}\n[guard.orion]\nwords = [\"orion\"]\naction = \"refuse\"\n[guard.seen]\nwords = [\"hello\"]\n\
         action = \"refuse\"\nshadow = true"
    );
    let gateway = start(&origin, &rules);
    ask(&gateway, "/v1/chat/completions", &chat(&format!("hello {CARD} and {CARD}"), true));
    ask(&gateway, "/v1/chat/completions", &chat("orion", false));
    ask(&gateway, "/v1/chat/completions", &chat("nothing", false));
    let found = || rows(&gateway, &["guard", "matches"]);
    assert!(eventually(PATIENCE, || found().len() == 5), "{:?}", found());
    let found = found();
    let seen: Vec<String> = found
        .iter()
        .map(|row| {
            format!("{} {} {} {}", row["rule"], row["where"], row["action"], row["count"]).replace('"', "")
        })
        .collect();
    for row in ["cards input mask 2", "seen input shadow 1", "orion input refuse 1"] {
        assert_eq!(seen.iter().filter(|one| *one == row).count(), 1, "{row}: {seen:?}");
    }
    assert_eq!(seen.iter().filter(|row| *row == "cards output mask 1").count(), 2, "{seen:?}");
    let cards: Vec<&Value> =
        found.iter().filter(|row| row["rule"] == "cards").map(|row| &row["hash"]).collect();
    assert!(cards.iter().all(|hash| *hash == cards[0]), "one text, one hash: {cards:?}");
    assert_eq!(rows(&gateway, &["guard", "matches", "--hash", cards[0].as_str().expect("text")]).len(), 3);
    assert_eq!(rows(&gateway, &["guard", "matches", "--rule", "orion"]).len(), 1);
    let requests = rows(&gateway, &["requests"]);
    let marked: Vec<&str> = requests.iter().filter_map(|row| row["guards"].as_str()).collect();
    assert!(
        marked.contains(&"cards mask, seen shadow") || marked.contains(&"seen shadow, cards mask"),
        "{marked:?}"
    );
    assert!(marked.contains(&"orion refuse"), "{marked:?}");
    for file in files_below(gateway.folder()) {
        let bytes = std::fs::read(&file).expect("a file");
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("4111 1111"), "the match is in {}", file.display());
    }
}

/// Says what the last message says, in pieces of three bytes.
fn repeats(talk: &mut Talk) -> Next {
    let body = talk.request.json();
    let said = body["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
    if body["stream"] != true {
        return talk.answer(
            "200 OK",
            "Content-Type: application/json\r\n",
            &completion(&said.replace('"', "\\\"")),
        );
    }
    talk.stream();
    for piece in said.as_bytes().chunks(3) {
        talk.chunk(content(&String::from_utf8_lossy(piece)));
    }
    talk.chunk(sse::finish());
    talk.chunk(sse::DONE);
    talk.end()
}

#[test]
fn what_a_label_stands_for_is_put_back_in_the_response_and_only_there() {
    let origin = Origin::scripted(repeats);
    let rule =
        "[guard.people]\ndetect = [\"email\"]\naction = \"mask\"\nrestore = true\n[cache]\nenabled = true";
    // One shard has one cache, in which a response for another request would be found.
    let gateway = Gateway::start(&config(&origin, rule).shards("count = 1"));
    let said = "ask ann@example.org, bob@example.org, ann@example.org and <EMAIL_3>, <EMAIL_1";
    for stream in [true, false] {
        let response = ask(&gateway, "/v1/chat/completions", &chat(said, stream));
        let sent = origin.seen().pop().expect("a request").request.json();
        let expected = "ask <EMAIL_1>, <EMAIL_2>, <EMAIL_1> and <EMAIL_3>, <EMAIL_1";
        assert_eq!(sent["messages"][0]["content"], expected, "the backend sees labels");
        let text = match stream {
            true => judge(&response.text()).0,
            false => {
                response.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
            }
        };
        assert_eq!(text, said);
    }
    // Another request that looks the same to the backend gets its own texts back.
    let other = ask(&gateway, "/v1/chat/completions", &chat("ask eve@example.org", true));
    let another = ask(&gateway, "/v1/chat/completions", &chat("ask joe@example.org", true));
    assert_eq!(judge(&other.text()).0, "ask eve@example.org");
    assert_eq!(judge(&another.text()).0, "ask joe@example.org");
    // What only the client says of a label is no key to anything.
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": "<EMAIL_1> ann@example.org"},
        {"role": "tool", "tool_call_id": "1", "content": "<EMAIL_1>"},
    ]});
    ask(&gateway, "/v1/chat/completions", &body);
    let sent = origin.seen().pop().expect("a request").request.body;
    assert!(!String::from_utf8_lossy(&sent).contains("ann@"), "{}", String::from_utf8_lossy(&sent));
}

#[test]
fn what_a_request_is_made_of_is_refused_or_clamped_before_the_backend() {
    let origin = Origin::start();
    let rules = "[guard.shape]\naction = \"refuse\"\nrequest = { tools_max = 2, tools_deny = [\"shell*\"], images_max = 1, audio_max = 0, \
                 image_hosts = [\"*.example.com\"], body_max = \"4KiB\", clamp = { max_tokens = 64, temperature = 1 } }";
    let gateway = start(&origin, rules);
    let with = |key: &str, value: Value| {
        let mut body = chat("hello", false);
        body[key] = value;
        body
    };
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let image =
        |url: &str| json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
    for (body, reason) in [
        (with("tools", json!([tool("shell_run")])), "the tool 'shell_run' is not allowed"),
        (with("tools", json!([tool("a"), tool("b"), tool("c")])), "3 tools"),
        (with("messages", image("http://169.254.169.254/x")), "169.254.169.254"),
        (
            with(
                "messages",
                json!([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA"}}]}]),
            ),
            "1 recordings",
        ),
        (chat(&"long ".repeat(1000), false), "the body has"),
    ] {
        let response = ask(&gateway, "/v1/chat/completions", &body);
        assert_eq!((response.status(), response.text().contains(reason)), (400, true), "{}", response.text());
    }
    assert!(origin.seen().is_empty());
    ask(&gateway, "/v1/chat/completions", &with("tools", json!([tool("search")])));
    ask(&gateway, "/v1/chat/completions", &with("messages", image("https://cdn.example.com/a.png")));
    assert_eq!(origin.seen().len(), 2);
    let mut body = with("max_tokens", json!(9000));
    body["temperature"] = json!(1.9);
    ask(&gateway, "/v1/chat/completions", &body);
    let sent = origin.seen().pop().expect("a request").request.json();
    assert_eq!((&sent["max_tokens"], &sent["temperature"]), (&json!(64), &json!(1)));
    assert!((gateway.metric("ringway_guard_total", "refused") - 5.0).abs() < 0.1);
}
