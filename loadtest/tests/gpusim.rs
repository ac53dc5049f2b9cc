//! The simulator on real sockets: shapes, quirks, faults, aborts.

mod common;

use common::{connect, get, options, post, post_with, receive, send, start, state, until_state};
use loadtest::gpusim::Options;
use loadtest::gpusim::quirk::Quirk;
use serde_json::{Value, json};
use std::io::Read;

const CHAT: &str = "/v1/chat/completions";
const WHOLE: &str = r#"{"model":"mock-model","messages":[{"role":"user","content":"hello"}]}"#;
const STREAM: &str = r#"{"model":"mock-model","messages":[{"role":"user","content":"hello"}],"stream":true}"#;
const STREAM_USAGE: &str = r#"{"model":"mock-model","messages":[{"role":"user","content":"hello"}],"stream":true,
    "stream_options":{"include_usage":true}}"#;

fn with(quirk: Quirk) -> Options {
    Options { quirks: vec![quirk], ..options() }
}

#[test]
fn stream_has_role_tokens_finish_usage_and_done() {
    let sim = start(options());
    let raw = post(&sim.address, CHAT, STREAM_USAGE);
    let chunks = raw.chunks();
    assert!(raw.whole && raw.head.contains("text/event-stream"), "{raw:?}");
    assert_eq!(chunks.len(), 1 + 8 + 1 + 1);
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(chunks[9]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks[10]["choices"], json!([]));
    assert_eq!(chunks[10]["usage"]["completion_tokens"], 8);
    assert_eq!(raw.data().last(), Some(&"[DONE]"));
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
    assert_eq!(raw.text().matches(' ').count() + raw.text().matches('.').count(), 8);
}

#[test]
fn usage_comes_only_when_asked_and_everywhere_when_asked_for_that() {
    let sim = start(options());
    assert!(post(&sim.address, CHAT, STREAM).chunks().iter().all(|chunk| chunk.get("usage").is_none()));
    let asked = STREAM_USAGE.replace("true}}", r#"true,"continuous_usage_stats":true}}"#);
    let chunks = post(&sim.address, CHAT, &asked).chunks();
    let counts: Vec<u64> =
        chunks.iter().map(|chunk| chunk["usage"]["completion_tokens"].as_u64().unwrap()).collect();
    assert_eq!(counts, [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8]);
}

#[test]
fn whole_answer_counts_tokens_and_limit() {
    let sim = start(options());
    let body = WHOLE.replace("\"messages\"", r#""max_tokens":3,"messages""#);
    let answer = post(&sim.address, CHAT, &body).json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 3);
}

#[test]
fn prefix_hit_shows_in_usage_and_metrics() {
    let sim = start(options());
    let body = WHOLE.replace("hello", &"hello ".repeat(200));
    let cached =
        || post(&sim.address, CHAT, &body).json()["usage"]["prompt_tokens_details"]["cached_tokens"].clone();
    assert_eq!((cached(), cached()), (json!(0), json!(256)));
    let metrics = get(&sim.address, "/metrics").body;
    let hits = "vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"mock-model\"} 256";
    assert!(metrics.contains(hits), "{metrics}");
}

#[test]
fn tool_choice_gives_a_tool_call_whose_arguments_are_json() {
    let sim = start(options());
    let tool =
        r#""tool_choice":"required","tools":[{"type":"function","function":{"name":"look"}}],"messages""#;
    let chunks = post(&sim.address, CHAT, &STREAM.replace("\"messages\"", tool)).chunks();
    let calls: Vec<&Value> =
        chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/delta/tool_calls/0/function")).collect();
    assert_eq!(calls[0]["name"], "look");
    let arguments: String = calls.iter().filter_map(|call| call["arguments"].as_str()).collect();
    assert!(serde_json::from_str::<Value>(&arguments).unwrap()["text"].is_string(), "{arguments}");
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn messages_stream_has_anthropics_events_and_no_done() {
    let sim = start(options());
    let body =
        r#"{"model":"mock-model","max_tokens":2,"messages":[{"role":"user","content":"x"}],"stream":true}"#;
    let raw = post(&sim.address, "/v1/messages", body);
    let names = raw.names();
    assert_eq!(names[..3], ["message_start", "content_block_start", "ping"]);
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    assert!(!raw.body.contains("[DONE]"));
    let chunks = raw.chunks();
    assert!(chunks.iter().zip(&names).all(|(chunk, name)| chunk["type"] == *name));
    assert_eq!(chunks[chunks.len() - 2]["usage"]["output_tokens"], 2);
    assert_eq!(chunks[chunks.len() - 2]["delta"]["stop_reason"], "max_tokens");
}

#[test]
fn googles_api_has_its_model_in_the_path_and_no_end_but_a_reason() {
    let sim = start(options());
    let body = r#"{"contents":[{"parts":[{"text":"x"}]}],"generationConfig":{"maxOutputTokens":3}}"#;
    let raw = post(&sim.address, "/v1beta/models/mock-model:streamGenerateContent?alt=sse", body);
    let chunks = raw.chunks();
    assert_eq!(chunks.len(), 3 + 1, "{raw:?}");
    let last = &chunks[3];
    assert_eq!(last["candidates"][0]["finishReason"], "MAX_TOKENS");
    assert_eq!(last["usageMetadata"]["candidatesTokenCount"], 3);
    assert!(!raw.body.contains("[DONE]") && chunks[0]["candidates"][0].get("finishReason").is_none());
    let tool = r#"{"contents":[],"tools":[{"functionDeclarations":[{"name":"look"}]}],
        "toolConfig":{"functionCallingConfig":{"mode":"ANY"}}}"#;
    let whole = post(&sim.address, "/v1beta/models/mock%2Dmodel:generateContent", tool).json();
    let call = &whole["candidates"][0]["content"]["parts"][0];
    assert_eq!((&call["functionCall"]["name"], &call["thoughtSignature"]), (&json!("look"), &json!("c2ln")));
}

#[test]
fn responses_stream_is_numbered_and_ends_with_usage() {
    let sim = start(options());
    let raw = post(&sim.address, "/v1/responses", r#"{"model":"mock-model","input":"x","stream":true}"#);
    let chunks = raw.chunks();
    let numbers: Vec<u64> = chunks.iter().map(|chunk| chunk["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..chunks.len() as u64).collect::<Vec<_>>());
    let last = chunks.last().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["usage"]["output_tokens"]),
        (&json!("response.completed"), &json!(8))
    );
    assert_eq!((raw.names()[0], *raw.names().last().unwrap()), ("response.created", "response.completed"));
}

#[test]
fn completions_embeddings_and_rerank_answer_in_their_shapes() {
    let sim = start(options());
    let completion =
        post(&sim.address, "/v1/completions", r#"{"model":"mock-model","prompt":[1,2,3]}"#).json();
    assert_eq!(
        (&completion["object"], &completion["usage"]["prompt_tokens"]),
        (&json!("text_completion"), &json!(3))
    );
    let embed = |more: &str| {
        let body = format!(r#"{{"model":"mock-model","input":["a","b"],"dimensions":4{more}}}"#);
        post(&sim.address, "/v1/embeddings", &body).json()
    };
    let (floats, packed) = (embed(""), embed(r#","encoding_format":"base64""#));
    assert_eq!(floats["data"][1]["embedding"].as_array().unwrap().len(), 4);
    assert_eq!(packed["data"][1]["embedding"].as_str().unwrap().len(), 24, "16 bytes in base64");
    assert_eq!(floats["usage"]["prompt_tokens"], 2);
    let body = r#"{"model":"mock-model","query":"q","documents":["a","b","c"],"top_n":2}"#;
    let results = post(&sim.address, "/rerank", body).json()["results"].clone();
    assert_eq!(results.as_array().unwrap().len(), 2);
    assert!(results[0]["relevance_score"].as_f64() >= results[1]["relevance_score"].as_f64());
}

#[test]
fn bad_requests_get_their_status() {
    let sim = start(options());
    let status = |path, body: &str| post(&sim.address, path, body).status;
    assert_eq!(status(CHAT, "{"), 400);
    assert_eq!(status(CHAT, r#"{"model":"other","messages":[]}"#), 404);
    assert_eq!(status(CHAT, r#"{"model":"mock-model"}"#), 400);
    let options_without_stream = WHOLE.replace("\"messages\"", r#""stream_options":{},"messages""#);
    assert_eq!(status(CHAT, &options_without_stream), 400);
    assert_eq!((status("/v1/nothing", "{}"), get(&sim.address, CHAT).status), (404, 405));
}

#[test]
fn connection_is_kept_and_pipelined_requests_are_answered_in_order() {
    let sim = start(options());
    let mut socket = connect(&sim.address);
    for _ in 0..2 {
        send(&mut socket, "POST", CHAT, "", WHOLE);
        assert_eq!(receive(&mut socket).status, 200);
    }
    assert_eq!(state(&sim.address)["connections"], 2);
}

#[test]
fn quirks_change_what_they_say_and_nothing_else() {
    let stream = |quirk: Quirk, body: &str| {
        let sim = start(with(quirk));
        let raw = post(&sim.address, CHAT, body);
        assert!(raw.whole);
        raw
    };
    let plain = stream(Quirk::CloseIdle(std::time::Duration::from_secs(60)), STREAM_USAGE);
    assert!(!stream(Quirk::NoDone, STREAM).body.contains("[DONE]"));
    let in_finish = stream(Quirk::UsageInFinish, STREAM).chunks();
    assert_eq!(in_finish.last().unwrap()["usage"]["completion_tokens"], 8);
    assert!(!stream(Quirk::IgnoreStreamOptions, STREAM_USAGE).body.contains("\"usage\""));
    assert_eq!(stream(Quirk::ModelSuffix, STREAM).chunks()[0]["model"], "mock-model@main");
    assert!(stream(Quirk::MixedCaseHeaders, STREAM).head.contains("\r\nTransfer-Encoding: chunked\r\n"));
    let crlf = stream(Quirk::CrlfEvents, STREAM_USAGE);
    assert!(crlf.body.contains("\r\n\r\ndata: {"));
    assert!(stream(Quirk::NoSpace, STREAM).body.contains("data:{"));
    assert!(stream(Quirk::KeepaliveComments, STREAM).body.contains("\n: keep-alive\n\ndata: "));
    for same in [crlf, stream(Quirk::SplitWrites, STREAM_USAGE), stream(Quirk::SeparateHead, STREAM_USAGE)] {
        assert_eq!(same.text(), plain.text(), "the same seed says the same words");
    }
    let sim = start(with(Quirk::Models500));
    assert_eq!((get(&sim.address, "/v1/models").status, get(&sim.address, "/health").status), (500, 200));
}

#[test]
fn idle_connection_is_closed_when_asked() {
    let sim = start(with(Quirk::CloseIdle(std::time::Duration::from_millis(20))));
    let mut socket = connect(&sim.address);
    send(&mut socket, "POST", CHAT, "", WHOLE);
    assert_eq!(receive(&mut socket).status, 200);
    assert_eq!(socket.read(&mut [0]).unwrap(), 0);
}

#[test]
fn refusing_faults_answer_with_an_error() {
    let sim = start(options());
    let limited = post_with(&sim.address, CHAT, "x-sim-fault: status:429:7\r\n", WHOLE);
    assert_eq!(limited.status, 429);
    assert!(limited.head.contains("retry-after: 7"));
    let suffix = WHOLE.replace("mock-model", "mock-model#status:500");
    assert_eq!(post(&sim.address, CHAT, &suffix).status, 500);
    let html = post_with(&sim.address, CHAT, "x-sim-fault: html-502\r\n", WHOLE);
    assert!(html.status == 502 && html.body.starts_with("<html>"));
    let state = state(&sim.address);
    assert_eq!((&state["received"], &state["refused"]), (&json!(3), &json!(3)));
}

#[test]
fn breaking_faults_break_where_they_say() {
    let sim = start(options());
    let stream = |fault: &str| post_with(&sim.address, CHAT, &format!("x-sim-fault: {fault}\r\n"), STREAM);
    let cut = stream("cut-after:3");
    assert_eq!((cut.data().len(), cut.whole, cut.reset), (3, false, false));
    let cut = stream("cut-mid-event:3");
    assert!(!cut.whole && cut.wire.len() > stream("cut-after:3").wire.len());
    assert!(stream("reset-after:3").reset);
    let error = stream("error-event-after:3");
    assert!(error.whole && error.data().len() == 5 && error.chunks()[3]["error"]["code"] == 500, "{error:?}");
    let error = stream("error-first-record");
    assert!(error.status == 200 && error.chunks()[0]["error"].is_object());
    assert!(stream("slow:0").whole);
    let half = post_with(&sim.address, CHAT, "x-sim-fault: cut-after:0\r\n", WHOLE);
    assert!(half.status == 200 && !half.whole);
    let no_usage = post_with(&sim.address, CHAT, "x-sim-fault: no-usage\r\n", STREAM_USAGE);
    assert!(no_usage.whole && !no_usage.body.contains("usage"));
    let state = until_state(&sim.address, |state| state["running"] == 0);
    let sum: u64 =
        ["completed", "refused", "faulted", "aborted"].iter().map(|n| state[n].as_u64().unwrap()).sum();
    assert_eq!(state["received"], sum, "{state}");
}

#[test]
fn leaving_client_aborts_and_frees_kv_memory() {
    let sim = start(options());
    for (more, fault) in
        [("", ""), (r#""stream":true,"#, ""), (r#""stream":true,"#, "x-sim-fault: hang-mid-stream:2\r\n")]
    {
        let before = state(&sim.address)["aborted"].as_u64().unwrap();
        let body = format!(
            r#"{{{more}"model":"mock-model","max_tokens":100000,"ignore_eos":true,"messages":[{{"role":"user","content":"x"}}]}}"#
        );
        let mut socket = connect(&sim.address);
        send(&mut socket, "POST", CHAT, fault, &body);
        until_state(&sim.address, |state| state["running"] == 1);
        drop(socket);
        until_state(&sim.address, |state| {
            state["aborted"] == before + 1 && state["running"] == 0 && state["kv_usage"] == 0.0
        });
    }
}

#[test]
fn hang_before_head_says_nothing_until_the_client_goes() {
    let sim = start(options());
    let mut socket = connect(&sim.address);
    send(&mut socket, "POST", CHAT, "x-sim-fault: hang-before-head\r\n", WHOLE);
    until_state(&sim.address, |state| state["received"] == 1);
    socket.set_nonblocking(true).unwrap();
    assert_eq!(socket.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(socket);
    until_state(&sim.address, |state| state["aborted"] == 1);
}

#[test]
fn unix_socket_answers_too() {
    let path = std::env::temp_dir().join(format!("gpusim-{}.sock", std::process::id()));
    let address = loadtest::address::Address::Unix(path.clone());
    let sim = loadtest::gpusim::start(&address, options()).unwrap();
    let mut socket = std::os::unix::net::UnixStream::connect(&path).unwrap();
    use std::io::Write;
    socket.write_all(b"GET /health HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
    drop(sim);
    std::fs::remove_file(path).unwrap();
}
