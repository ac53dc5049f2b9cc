//! Ollama's own API on the client's side.

use super::ollama::*;
use super::*;

#[test]
fn an_ollama_client_streams_from_a_chat_backend() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "");
    let response = ask(
        &gateway,
        "/api/chat",
        &ollama(json!({"keep_alive": 0, "options": {"num_predict": 32, "seed": 7}})),
    );
    assert_eq!((response.status(), response.one("content-type").as_str()), (200, "application/x-ndjson"));
    assert_eq!(response.one("x-ringway-dropped"), "keep_alive");
    let lines = lines(&response.text());
    let text: String = lines.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    assert_eq!(text, "Hello \u{e9}");
    let call = lines.iter().find(|line| !line["message"]["tool_calls"].is_null()).expect("a call");
    assert_eq!(
        call["message"]["tool_calls"][0]["function"],
        json!({"index": 0, "name": "ls", "arguments": {}})
    );
    let last = lines.last().expect("lines");
    assert_eq!((&last["done"], &last["done_reason"]), (&json!(true), &json!("stop")));
    assert_eq!((&last["prompt_eval_count"], &last["eval_count"]), (&json!(9), &json!(4)));
    let sent = origin.seen()[0].request.json();
    assert_eq!(
        (&sent["max_completion_tokens"], &sent["seed"], &sent["stream"]),
        (&json!(32), &json!(7), &json!(true))
    );
    counted(&gateway, 13.0);
    let whole = ask(&gateway, "/api/chat", &ollama(json!({"stream": false}))).json();
    assert_eq!(
        (&whole["message"]["content"], &whole["done"], &whole["eval_count"]),
        (&json!("Hello"), &json!(true), &json!(4))
    );
    assert_eq!(whole["message"]["tool_calls"][0]["function"]["arguments"], json!({"at": "/"}));
}

#[test]
fn an_ollama_client_streams_from_anthropic() {
    let origin = Origin::scripted(messages_backend);
    let gateway = before_messages(&origin);
    let mut client = gateway.connect();
    client.send(&post(
        "/ollama/api/chat",
        "anthropic-version: 2023-06-01\r\n",
        &ollama(json!({})).to_string(),
    ));
    let response = client.answer().expect("a response");
    let lines = lines(&response.text());
    let text: String = lines.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    assert_eq!((text.as_str(), &lines.last().expect("lines")["prompt_eval_count"]), ("Hello", &json!(15)));
}

#[test]
fn a_prompt_is_completed_by_a_chat_backend() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "");
    let body = json!({"model": "m:latest", "system": "Be exact.", "prompt": "Hi"});
    let response = ask(&gateway, "/api/generate", &body);
    assert_eq!(response.status(), 200, "{}", response.text());
    let lines = lines(&response.text());
    let text: String = lines.iter().filter_map(|line| line["response"].as_str()).collect();
    assert_eq!(text, "Hello \u{e9}");
    assert_eq!(lines.last().expect("lines")["context"], json!([]));
    assert_eq!(origin.seen()[0].request.json()["model"], "m", "a name without its tag is the model's");
}

#[test]
fn the_gateway_says_itself_what_ollamas_clients_probe_for() {
    let origin = Origin::scripted(chat_backend);
    let backend = format!("kind = \"openai\"\nserves = [\"chat\"]\n{QUIET}");
    let config = Config::new()
        .backend("b1", origin.port, &backend)
        .model("m", &["b1"], "context_length = 8192")
        .key("one", K1, "");
    let gateway = Gateway::start(&config);
    let get = |method: &str, path: &str| {
        let mut client = gateway.connect();
        client.send(
            format!("{method} {path} HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {K1}\r\n\r\n")
                .as_bytes(),
        );
        client.answer_to(method == "HEAD", support::PATIENCE).expect("a response")
    };
    let tags = get("GET", "/api/tags").json();
    let tag = &tags["models"][0];
    assert_eq!((&tag["name"], &tag["model"]), (&json!("m"), &json!("m")));
    for member in ["modified_at", "size", "digest", "details"] {
        assert!(!tag[member].is_null(), "{member}: {tag}");
    }
    assert!(
        tag["details"]["families"].is_array()
            && tag["digest"].as_str().is_some_and(|digest| digest.len() == 64)
    );
    for (method, path) in
        [("HEAD", "/ollama"), ("GET", "/ollama/"), ("HEAD", "/ollama/api/tags"), ("GET", "/api/ps")]
    {
        assert_eq!(get(method, path).status(), 200, "{method} {path}");
    }
    assert_eq!(get("GET", "/ollama/").text(), "Ollama is running");
    let version = get("GET", "/ollama/api/version").json();
    let parts: Vec<u32> = version["version"]
        .as_str()
        .expect("a version")
        .split('.')
        .map(|part| part.parse().expect("a number"))
        .collect();
    assert!(parts.len() == 3 && parts > vec![0, 6, 4], "{version}: some clients refuse an older one");
    for body in [json!({"model": "m"}), json!({"name": "m:latest", "verbose": true})] {
        let shown = ask(&gateway, "/ollama/api/show", &body).json();
        let architecture = shown["model_info"]["general.architecture"].as_str().expect("an architecture");
        assert_eq!(shown["model_info"][format!("{architecture}.context_length")], 8192);
        assert!(shown["capabilities"].as_array().is_some_and(|all| all.contains(&json!("tools"))), "{shown}");
    }
    let unknown = ask(&gateway, "/api/show", &json!({"model": "x"}));
    assert_eq!((unknown.status(), unknown.json()["error"].is_string()), (404, true));
    assert_eq!(ask(&gateway, "/api/show", &json!({})).status(), 400);
    assert!(origin.seen().is_empty(), "no backend is asked");
}

#[test]
fn vectors_of_any_backend_come_in_ollamas_form() {
    let origin = Origin::scripted(|talk| {
        assert_eq!(talk.request.target(), "/v1/embeddings");
        assert_eq!(
            talk.request.json()["input"],
            json!(["a", "b"][..talk.request.json()["input"].as_array().map_or(0, Vec::len)])
        );
        let count = talk.request.json()["input"].as_array().map_or(0, Vec::len);
        let data: Vec<Value> = (0..count)
            .map(|at| json!({"object": "embedding", "index": at, "embedding": [at, 0.5]}))
            .collect();
        let body = json!({"object": "list", "data": data, "model": "e", "usage": {"prompt_tokens": 7, "total_tokens": 7}});
        talk.answer("200 OK", "Content-Type: application/json\r\n", &body.to_string())
    });
    let backend = format!("kind = \"openai\"\nserves = [\"embeddings\"]\n{QUIET}");
    let config =
        Config::new().backend("b1", origin.port, &backend).model("m", &["b1"], "").key("one", K1, "");
    let gateway = Gateway::start(&config);
    let response = ask(&gateway, "/api/embed", &json!({"model": "m", "input": ["a", "b"], "truncate": true}));
    assert_eq!((response.status(), response.one("x-ringway-dropped").as_str()), (200, "truncate"));
    let told = response.json();
    assert_eq!((&told["embeddings"], &told["prompt_eval_count"]), (&json!([[0, 0.5], [1, 0.5]]), &json!(7)));
    counted(&gateway, 7.0);
    let told = ask(&gateway, "/ollama/api/embeddings", &json!({"model": "m:latest", "prompt": "a"})).json();
    assert_eq!(told, json!({"embedding": [0, 0.5]}));
}

#[test]
fn a_request_without_a_prompt_loads_the_model_and_asks_nobody() {
    let origin = Origin::scripted(chat_backend);
    let gateway = before_chat(&origin, "");
    for (path, body, reason) in [
        ("/api/chat", json!({"model": "m"}), "load"),
        ("/api/generate", json!({"model": "m", "stream": false, "keep_alive": "5m"}), "load"),
        ("/api/generate", json!({"model": "m", "keep_alive": 0}), "unload"),
    ] {
        let response = ask(&gateway, path, &body);
        let label = if body["stream"] == false { "application/json" } else { "application/x-ndjson" };
        assert_eq!((response.status(), response.one("content-type").as_str()), (200, label), "{path}");
        let told = response.json();
        assert_eq!(
            (&told["done"], &told["done_reason"], &told["model"]),
            (&json!(true), &json!(reason), &json!("m"))
        );
    }
    assert!(origin.seen().is_empty());
    let origin = Origin::scripted(|talk| {
        talk.answer(
            "200 OK",
            "Content-Type: application/json\r\n",
            "{\"model\":\"m\",\"done\":true,\"done_reason\":\"load\"}",
        )
    });
    let gateway = before_ollama(&origin);
    assert_eq!(ask(&gateway, "/api/generate", &json!({"model": "m"})).json()["done_reason"], "load");
    assert_eq!(origin.seen().len(), 1, "Ollama itself has such requests");
}
