//! Responses that later requests refer to: each backend knows its own ids only.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::endpoints::ask;
use support::gateway::{Config, Gateway, K1, K2};
use support::origin::{Next, Origin, Talk};
use support::strict::Message;
use support::{PATIENCE, eventually};

const QUIET: &str = "health = { enabled = false }";
const PATH: &str = "/v1/responses";

/// A backend that knows its own responses only, as engines do: it makes one per request, and says 404 to other ids.
fn keeper(name: &'static str) -> Origin {
    let known: Mutex<HashMap<String, Value>> = Mutex::default();
    Origin::scripted(move |talk| keep(talk, name, &mut known.lock().expect("not poisoned")))
}

fn keep(talk: &mut Talk, name: &str, known: &mut HashMap<String, Value>) -> Next {
    let target = talk.request.target().split('?').next().unwrap_or_default().to_owned();
    let body = talk.request.json();
    let unknown = |talk: &mut Talk| {
        let fields = "Content-Type: application/json\r\n";
        talk.answer("404 Not Found", fields, r#"{"error":{"message":"no such response","code":404}}"#)
    };
    if let Some(rest) = target.strip_prefix("/v1/responses/") {
        let (id, end) = rest.split_once('/').unwrap_or((rest, ""));
        let Some(response) = known.get(id) else { return unknown(talk) };
        let told = match (talk.request.start.starts_with("DELETE"), end) {
            (true, _) => json!({"id": id, "object": "response", "deleted": true}),
            (_, "input_items") => json!({"object": "list", "data": [{"id": "msg_1"}], "by": name}),
            _ => response.clone(),
        };
        return talk.answer("200 OK", "Content-Type: application/json\r\n", &told.to_string());
    }
    let previous = body["previous_response_id"].as_str().map(str::to_owned);
    if previous.as_ref().is_some_and(|id| !known.contains_key(id)) {
        return unknown(talk);
    }
    let id = format!("resp_{name}_{}", known.len());
    let response = json!({"id": id, "object": "response", "status": "completed", "by": name,
        "previous_response_id": previous, "output": [{"type": "message", "id": "msg_1", "role": "assistant",
        "status": "completed", "content": [{"type": "output_text", "text": "hi", "annotations": []}]}],
        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}});
    known.insert(id.clone(), response.clone());
    if body["stream"] != true || talk.request.has("x-plain") {
        let text = format!("{{ \"x\": 1.50, {}", &response.to_string()[1..]);
        return talk.answer("200 OK", "Content-Type: application/json; charset=utf-8\r\n", &text);
    }
    talk.stream();
    let mut sequence = 0;
    let mut event = |kind: &str, more: Value| {
        let mut data = json!({"type": kind, "sequence_number": sequence});
        data.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        sequence += 1;
        format!("event: {kind}\ndata: {data}\n\n")
    };
    let begun = json!({"response": {"id": id, "previous_response_id": previous, "output": []}});
    let padding = "p".repeat(if body["long"] == true { 200_000 } else { 0 });
    let ended = json!({"response": {"id": id, "status": "completed", "zzz": padding, "usage": {"input_tokens": 1, "output_tokens": 1}}});
    let text = [
        event("response.created", begun.clone()),
        event("response.in_progress", begun),
        event(
            "response.output_text.delta",
            json!({"item_id": "msg_1", "delta": format!("\"response\":{{\"id\":\"{id}\"}}")}),
        ),
        event("response.custom", json!({"response_id": id})),
        event("response.completed", ended),
    ]
    .concat();
    // In pieces that end anywhere.
    let size = body["cut"].as_u64().map_or(text.len(), |size| size as usize);
    for piece in text.as_bytes().chunks(size) {
        talk.chunk(piece);
    }
    talk.end()
}

fn pool(backends: &[(&str, u16)]) -> Config {
    let names: Vec<&str> = backends.iter().map(|(name, _)| *name).collect();
    let config =
        backends.iter().fold(Config::new(), |config, (name, port)| config.backend(name, *port, QUIET));
    config.model("m", &names, "").key("one", K1, "").key("two", K2, "")
}

fn two() -> ((Origin, Origin), Config) {
    let (a, b) = (keeper("a"), keeper("b"));
    let config = pool(&[("a", a.port), ("b", b.port)]);
    ((a, b), config)
}

fn create(gateway: &Gateway, key: &str, more: Value) -> Message {
    let mut body = json!({"model": "m", "input": "x"});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    ask(gateway, key, "POST", PATH, &body.to_string())
}

fn created(gateway: &Gateway, key: &str, more: Value) -> Value {
    let answer = create(gateway, key, more);
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.json()
}

fn id(response: &Value) -> String {
    response["id"].as_str().expect("an id").to_owned()
}

fn not_found(answer: &Message) {
    assert_eq!(answer.status(), 404, "{answer:?}");
    assert!(answer.json()["error"]["message"].is_string(), "{answer:?}");
}

#[test]
fn a_follow_up_goes_to_the_backend_that_made_the_response() {
    let (_origins, config) = two();
    let gateway = Gateway::start(&config);
    let mut makers = HashMap::<String, String>::new();
    for _ in 0..8 {
        let first = created(&gateway, K1, json!({}));
        makers.insert(first["by"].to_string(), id(&first));
        let mut last = first.clone();
        for _ in 0..6 {
            let next = created(&gateway, K1, json!({"previous_response_id": last["id"]}));
            assert_eq!(next["by"], first["by"], "another backend was asked");
            assert_eq!(next["previous_response_id"], last["id"], "the id that the client knows");
            assert_eq!(next["output"][0]["id"], "msg_1", "ids of items are the backend's");
            last = next;
        }
    }
    assert_eq!(makers.len(), 2, "both backends make responses");
    // And every way to name one in the path.
    for (maker, id) in makers {
        for (method, path) in [
            ("GET", format!("{PATH}/{id}?include%5B%5D=x")),
            ("POST", format!("/responses/{id}/cancel")),
            ("DELETE", format!("{PATH}/{id}/")),
        ] {
            let told = ask(&gateway, K1, method, &path, "").json();
            assert_eq!(told["id"], id, "{method} {path}: {told}");
            let by = told["by"].to_string();
            assert!(method == "DELETE" || by == maker, "{method} {path}: {told}");
        }
        let items = ask(&gateway, K1, "GET", &format!("{PATH}/{id}/input_items"), "").json();
        assert_eq!(items["by"].to_string(), maker);
    }
}

#[test]
fn only_the_ids_of_a_response_change_in_it() {
    let ((a, b), config) = two();
    let gateway = Gateway::start(&config);
    let answer = create(&gateway, K1, json!({}));
    let wire = id(&answer.json());
    assert!(wire.starts_with("resp_") && wire.len() < 160, "{wire}");
    let own = format!("resp_{}_0", answer.json()["by"].as_str().expect("a name"));
    assert_eq!(answer.one("content-type"), "application/json; charset=utf-8");
    assert!(answer.text().starts_with("{ \"x\": 1.50, "), "{answer:?}");
    assert!(!answer.text().contains(&own), "{answer:?}");
    // The request that follows, but for its id, byte for byte.
    let body = format!("{{ \"model\" :\"m\",\"previous_response_id\" :\"{wire}\", \"n\": 1, \"y\":1.50}}");
    assert_eq!(ask(&gateway, K1, "POST", PATH, &body).status(), 200);
    let seen: Vec<String> =
        [&a, &b].iter().flat_map(|origin| origin.seen()).map(|seen| seen.request.text()).collect();
    assert!(seen.contains(&body.replace(&wire, &own)), "{seen:?}");
}

#[test]
fn streams_tell_the_id_that_leads_back_wherever_they_are_cut() {
    let (_origins, config) = two();
    let gateway = Gateway::start(&config);
    for cut in [1, 7, 64, 333, 1_000_000] {
        let first = created(&gateway, K1, json!({}));
        let answer =
            create(&gateway, K1, json!({"stream": true, "cut": cut, "previous_response_id": first["id"]}));
        let events: Vec<Value> = answer
            .text()
            .split("\n\n")
            .filter_map(|event| serde_json::from_str(event.split_once("data: ")?.1).ok())
            .collect();
        assert_eq!(events.len(), 5, "cut {cut}: {answer:?}");
        let id = &events[0]["response"]["id"];
        assert_eq!(&events[1]["response"]["id"], id);
        assert_eq!(&events[3]["response_id"], id);
        assert_eq!(&events[4]["response"]["id"], id);
        assert_eq!(events[0]["response"]["previous_response_id"], first["id"]);
        // What the model says is what it says.
        assert!(
            events[2]["delta"]
                .as_str()
                .is_some_and(|text| text.contains("resp_") && !text.contains("resp_rw"))
        );
        let next = created(&gateway, K1, json!({"previous_response_id": id}));
        assert_eq!(next["by"], first["by"], "cut {cut}");
    }
}

#[test]
fn the_end_of_a_stream_that_is_too_long_to_be_held_tells_it_too() {
    let (_origins, config) = two();
    let gateway = Gateway::start(&config);
    let text = create(&gateway, K1, json!({"stream": true, "long": true, "cut": 5000})).text();
    let told: Vec<&str> =
        text.split("\"id\":\"").skip(1).map(|rest| rest.split('"').next().unwrap_or("")).collect();
    assert_eq!(told.len(), 3, "created, in progress, completed");
    assert!(told.iter().all(|id| *id == told[0] && id.starts_with("resp_rw")), "{told:?}");
    assert!(text.contains(&"p".repeat(200_000)), "the rest is whole");
    assert!(text.ends_with("\n\n"));
}

#[test]
fn a_stream_made_of_a_whole_response_tells_it_too() {
    let (_origins, config) = two();
    let gateway = Gateway::start(&config);
    let body = r#"{"model":"m","stream":true}"#;
    let mut client = gateway.connect();
    let length = body.len();
    client.send(format!("POST {PATH} HTTP/1.1\r\nHost: a\r\nX-Plain: 1\r\nAuthorization: Bearer {K1}\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes());
    let text = client.answer().expect("a stream").text();
    assert!(text.contains("event: response.completed"), "{text}");
    assert!(!text.contains("\"resp_a_") && !text.contains("\"resp_b_"), "{text}");
    let id = text.split("\"id\":\"resp_").nth(1).and_then(|rest| rest.split('"').next()).expect("an id");
    created(&gateway, K1, json!({"previous_response_id": format!("resp_{id}")}));
}

#[test]
fn an_id_that_is_not_the_clients_own_is_unknown() {
    let ((a, b), config) = two();
    let gateway = Gateway::start(&config);
    let mine = id(&created(&gateway, K1, json!({})));
    let mut others = vec![
        "resp_nobody".to_owned(),
        "resp_rw1AAAA".to_owned(),
        "é".to_owned(),
        mine[..mine.len() - 1].to_owned(),
    ];
    for at in [8, 30, mine.len() - 1] {
        let mut changed = mine.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        others.push(String::from_utf8(changed).expect("ASCII"));
    }
    for (key, id) in others.iter().map(|id| (K1, id)).chain([(K2, &mine)]) {
        not_found(&create(&gateway, key, json!({"previous_response_id": id})));
        if id.is_ascii() {
            for method in ["GET", "DELETE"] {
                not_found(&ask(&gateway, key, method, &format!("{PATH}/{id}"), ""));
            }
            not_found(&ask(&gateway, key, "POST", &format!("{PATH}/{id}/cancel"), ""));
        }
    }
    // The one that key two tried is nowhere to be read in what it holds, and no backend saw its own id of it.
    let asked = [&a, &b]
        .iter()
        .flat_map(|origin| origin.seen())
        .filter(|seen| seen.request.text().contains("resp_a_0") || seen.request.text().contains("resp_b_0"))
        .count();
    assert_eq!(asked, 0);
    assert_eq!(ask(&gateway, K1, "GET", &format!("{PATH}/{mine}"), "").status(), 200);
    // Null, numbers and duplicates: the backend's to read, or nobody's.
    assert_eq!(create(&gateway, K1, json!({"previous_response_id": null})).status(), 200);
    let twice = format!(r#"{{"model":"m","previous_response_id":"{mine}","previous_response_id":"x"}}"#);
    assert_eq!(ask(&gateway, K1, "POST", PATH, &twice).status(), 400);
}

#[test]
fn a_backend_that_is_down_or_gone_is_not_replaced_by_another() {
    let (a, b) = (keeper("a"), keeper("b"));
    let spare = keeper("spare");
    let names =
        |config: Config| config.model("m", &["a", "b"], "fallbacks = [\"f\"]").model("f", &["spare"], "");
    let backends = Config::new()
        .backend("a", a.port, QUIET)
        .backend("b", b.port, QUIET)
        .backend("spare", spare.port, QUIET);
    let gateway = Gateway::start(&names(backends).key("one", K1, ""));
    let of = |name: &str| {
        let mut ids = std::iter::repeat_with(|| created(&gateway, K1, json!({})));
        id(&ids.find(|response| response["by"] == name).expect("its turn comes"))
    };
    let (of_a, of_b) = (of("a"), of("b"));
    let (came, spared) = (b.seen().len(), spare.seen().len());
    drop(a);
    for _ in 0..8 {
        let answer = create(&gateway, K1, json!({"previous_response_id": of_a}));
        assert_eq!(answer.status(), 503, "{answer:?}");
        assert!(answer.has("retry-after") && answer.json()["error"]["message"].is_string());
        assert_eq!(ask(&gateway, K1, "GET", &format!("{PATH}/{of_a}"), "").status(), 503);
    }
    assert_eq!((b.seen().len(), spare.seen().len()), (came, spared), "somebody else was asked");
    assert_eq!(create(&gateway, K1, json!({"previous_response_id": of_b})).json()["by"], "b");
    // Taken out of the configuration.
    let config = Config::new().backend("b", b.port, QUIET).backend("spare", spare.port, QUIET);
    gateway.rewrite(&config.model("m", &["b", "spare"], "").key("one", K1, ""));
    assert_eq!(gateway.reload().0, 200);
    not_found(&create(&gateway, K1, json!({"previous_response_id": of_a})));
    not_found(&ask(&gateway, K1, "GET", &format!("{PATH}/{of_a}"), ""));
    assert_eq!(create(&gateway, K1, json!({"previous_response_id": of_b})).json()["by"], "b");
}

#[test]
fn what_a_fallback_made_is_asked_of_the_fallback() {
    let busy = Origin::scripted(|talk| talk.answer("503 Service Unavailable", "", ""));
    let spare = keeper("spare");
    let config = Config::new()
        .backend("a", busy.port, QUIET)
        .backend("spare", spare.port, QUIET)
        .model("m", &["a"], "fallbacks = [\"f\"]")
        .model("f", &["spare"], "")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    let first = created(&gateway, K1, json!({}));
    let asked = busy.seen().len();
    assert_eq!(created(&gateway, K1, json!({"previous_response_id": first["id"]}))["by"], "spare");
    assert_eq!(busy.seen().len(), asked, "the model's own backend cannot know it");
}

#[test]
fn one_backend_alone_keeps_its_ids_unless_the_operator_says_otherwise() {
    let a = keeper("a");
    let gateway = Gateway::start(&pool(&[("a", a.port)]));
    assert_eq!(created(&gateway, K1, json!({}))["id"], "resp_a_0");
    assert_eq!(created(&gateway, K1, json!({"previous_response_id": "resp_a_0"}))["by"], "a");
    assert!(!gateway.folder().join("ringway.ids-secret").exists(), "no secret is needed");
    let gateway = Gateway::start(&pool(&[("a", a.port)]).tables("[ids]\nalways = true"));
    let mine = id(&created(&gateway, K1, json!({})));
    assert_eq!(created(&gateway, K1, json!({"previous_response_id": mine}))["by"], "a");
    not_found(&ask(&gateway, K2, "GET", &format!("{PATH}/{mine}"), ""));
    // Ids from the time before are the backend's own, and go to it.
    assert_eq!(ask(&gateway, K1, "GET", &format!("{PATH}/resp_a_0"), "").status(), 200);
}

#[test]
fn an_id_that_may_be_of_several_backends_is_refused_with_what_the_operator_can_do() {
    let (a, b) = (keeper("a"), keeper("b"));
    let config = Config::new()
        .backend("a", a.port, QUIET)
        .backend("b", b.port, QUIET)
        .model("m", &["a"], "")
        .model("n", &["b"], "")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    let made = id(&created(&gateway, K1, json!({})));
    let refused = ask(&gateway, K1, "GET", &format!("{PATH}/{made}"), "");
    let message = refused.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(refused.status(), 404, "{message}");
    assert!(message.contains("'[ids] always = true'") && message.contains(&made), "{message}");
    let gateway = Gateway::start(&config.tables("[ids]\nalways = true"));
    let made = id(&created(&gateway, K1, json!({})));
    assert_eq!(ask(&gateway, K1, "GET", &format!("{PATH}/{made}"), "").status(), 200);
}

#[test]
fn ids_hold_through_reloads_upgrades_restarts_and_a_new_key() {
    let ((_a, _b), config) = two();
    let mut gateway = Gateway::start(&config);
    let secret = gateway.folder().join("ringway.ids-secret");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&secret).expect("the secret is kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = std::fs::read_to_string(&secret).expect("text");
    let firsts: Vec<Value> = (0..6).map(|_| created(&gateway, K1, json!({}))).collect();
    let holds = |gateway: &Gateway, key: &str| {
        for first in &firsts {
            let next = created(gateway, key, json!({"previous_response_id": first["id"]}));
            assert_eq!((&next["by"], &next["previous_response_id"]), (&first["by"], &first["id"]));
        }
    };
    assert_eq!(gateway.reload().0, 200);
    holds(&gateway, K1);
    let (status, told) = gateway.to_admin("POST", "/upgrade").expect("an answer");
    assert_eq!(status, 200, "{told}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    gateway.follow(told["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a process"));
    assert!(eventually(PATIENCE, || gateway.first_has_ended()));
    holds(&gateway, K1);
    // The key named one is replaced by another of that name; its ids stay its own.
    let text = std::fs::read_to_string(gateway.folder().join("ringway.toml")).expect("a configuration");
    let digest = support::config::digest_hex;
    gateway.rewrite_text(&text.replace(&digest(K1), &digest("rw-the-next-key-0123456789abcdef")));
    assert_eq!(gateway.reload().0, 200);
    holds(&gateway, "rw-the-next-key-0123456789abcdef");
    assert_eq!(std::fs::read_to_string(&secret).expect("text"), kept);
    assert!(!gateway.said().contains(&kept), "the secret is never said");
}

#[test]
fn gateways_with_one_secret_know_each_others_ids() {
    let (_origins, config) = two();
    let config = config
        .tables("[ids]\nsecret = { env = \"IDS\" }")
        .variable("IDS", "shared-0123456789abcdef0123456789");
    let (one, two) = (Gateway::start(&config), Gateway::start(&config));
    let other = Gateway::start(&config.clone().variable("IDS", "another-0123456789abcdef0123456789"));
    for _ in 0..6 {
        let first = created(&one, K1, json!({}));
        let next = created(&two, K1, json!({"previous_response_id": first["id"]}));
        assert_eq!(next["by"], first["by"]);
        not_found(&ask(&other, K1, "GET", &format!("{PATH}/{}", id(&first)), ""));
    }
    assert!(!one.folder().join("ringway.ids-secret").exists());
}

/// A new secret replaces the one before it: ids that clients have from before still lead back, and new ones are of the new.
#[test]
fn a_secret_is_replaced_without_losing_the_ids_before() {
    let (_origins, config) = two();
    let config = config
        .variable("OLD", "before-0123456789abcdef0123456789")
        .variable("NEW", "after-0123456789abcdef0123456789");
    let old = Gateway::start(&config.clone().tables("[ids]\nsecret = { env = \"OLD\" }"));
    let new = Gateway::start(
        &config.clone().tables("[ids]\nsecret = { env = \"NEW\" }\nprevious_secret = { env = \"OLD\" }"),
    );
    for _ in 0..6 {
        let first = created(&old, K1, json!({}));
        let next = created(&new, K1, json!({"previous_response_id": first["id"]}));
        assert_eq!(next["by"], first["by"]);
        assert_eq!(ask(&new, K1, "GET", &format!("{PATH}/{}", id(&first)), "").json()["by"], first["by"]);
        not_found(&ask(&new, K2, "GET", &format!("{PATH}/{}", id(&first)), ""));
        not_found(&ask(&old, K1, "GET", &format!("{PATH}/{}", id(&next)), ""));
    }
    let alone = config.tables("[ids]\nprevious_secret = { env = \"OLD\" }");
    let said = Gateway::try_start(&alone, support::gateway::Wrapper::Plain).err().expect("no start");
    assert!(said.contains("ids.previous_secret: has no secret beside it"), "{said}");
}

/// Every way to name a response in a body or a path.
#[test]
fn follow_ups_of_other_forms_lead_back_too() {
    let (_origins, config) = two();
    let gateway = Gateway::start(&config);
    for _ in 0..6 {
        let first = created(&gateway, K1, json!({}));
        let own = id(&first);
        let escaped = own.replacen('_', "\\u005f", 1);
        for body in [
            format!(r#"{{"model":"m","previous_response_id":"{escaped}"}}"#),
            format!(
                r#"{{"previous_response_id" : "{own}" ,"input":[{{"previous_response_id":"x"}}], "model":"m"}}"#
            ),
        ] {
            let next = ask(&gateway, K1, "POST", PATH, &body);
            assert_eq!(next.json()["by"], first["by"], "{body}: {next:?}");
        }
        let path = format!("{PATH}/{}", own.replacen('_', "%5F", 1));
        assert_eq!(ask(&gateway, K1, "GET", &path, "").json()["by"], first["by"], "{path}");
        let stream = format!("{PATH}/{own}?stream=false&starting_after=1");
        assert_eq!(ask(&gateway, K1, "GET", &stream, "").json()["by"], first["by"], "{stream}");
    }
}
