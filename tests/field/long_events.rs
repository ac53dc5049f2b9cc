//! Events that are longer than what is held: what they say counts all the same.

use crate::answers::EVERYTHING;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin};
use support::sse::DONE;
use support::strict::Message;
use support::{self, PATIENCE};

const PATHS: [&str; 4] = ["/v1/responses", "/v1/chat/completions", "/v1/completions", "/v1/messages"];

fn config(origin: &Origin, limit: &str) -> Config {
    Config::new().backend("b1", origin.port, EVERYTHING).model("m", &["b1"], "").key("one", K1, limit)
}

fn ask(gateway: &Gateway, path: &str, case: &str) -> Message {
    let body = "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"max_tokens\":9,\"max_output_tokens\":9}";
    let head = support::chat_head(K1, case).replace("/v1/chat/completions", path);
    let mut client = gateway.connect();
    client.send(format!("{head}X-Case: {case}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    client.answer().unwrap_or_else(|error| panic!("{path} {case}: {error}"))
}

/// A whole stream with 75,000 tokens of input in its last event but one, which is `bytes` long.
fn stream(path: &str, bytes: usize) -> String {
    let long = "a \\\"usage\\\":{} word, ".repeat(bytes / 18);
    match path {
        "/v1/responses" => format!(
            "event: response.created\ndata: {{\"type\":\"response.created\",\"sequence_number\":0}}\n\n\
             event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{{\"status\":\"completed\",\"error\":null,\
             \"tools\":[{{\"type\":\"function\",\"description\":\"{long}\"}}],\"usage\":{{\"input_tokens\":75000,\"output_tokens\":9,\
             \"total_tokens\":75009}}}},\"sequence_number\":1}}\n\n"
        ),
        "/v1/messages" => format!(
            "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"stop_reason\":null}}}}\n\n\
             event: message_delta\ndata: {{\"type\":\"message_delta\",\"x\":\"{long}\",\"delta\":{{\"stop_reason\":\"end_turn\"}},\
             \"usage\":{{\"input_tokens\":75000,\"output_tokens\":9}}}}\n\n\
             event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n"
        ),
        _ => format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"a\"}},\"text\":\"a\",\"finish_reason\":null}}]}}\n\n\
             data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{long}\"}},\"text\":\"a\",\"finish_reason\":\"stop\"}}],\
             \"usage\":{{\"prompt_tokens\":75000,\"completion_tokens\":9,\"total_tokens\":75009}}}}\n\n"
        ),
    }
}

fn case(origin: &Origin, name: &str, body: &str, piece: usize, closes: bool) {
    let body = body.to_owned();
    origin.case(name, move |talk| {
        if closes {
            talk.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
        } else {
            talk.stream();
        }
        for piece in body.as_bytes().chunks(piece) {
            let sent = if closes { talk.send(piece) } else { talk.chunk(piece) };
            if !sent {
                return Next::Close;
            }
            talk.pause(std::time::Duration::from_millis(1));
        }
        if closes { Next::Close } else { talk.end() }
    });
}

/// Whole, and ended, however long its events are and wherever they are cut; with all of their tokens.
#[test]
fn a_long_event_is_read_as_it_passes() {
    let origin = Origin::start();
    let gateway = Gateway::start(&config(&origin, ""));
    let mut asked = 0;
    for path in PATHS {
        let takes_done = path.ends_with("completions");
        for (bytes, piece) in [(300, 40), (90_000, 9_000), (100_000, 16_384), (300_000, 7_001)] {
            for closes in [false, true] {
                let (name, body) = (format!("{path}-{bytes}-{closes}"), stream(path, bytes));
                case(&origin, &name, &body, piece, closes);
                let text = ask(&gateway, path, &name).text();
                let rest = text.strip_prefix(&body).unwrap_or_else(|| panic!("{name}: {} bytes", text.len()));
                assert_eq!(rest, if takes_done { DONE } else { "" }, "{name}");
                asked += 1;
            }
        }
    }
    let tokens = || gateway.metric("gen_ai_client_token_usage_sum", "input");
    let expected = f64::from(asked) * 75_000.0;
    assert!(support::eventually(PATIENCE, || tokens() == expected), "{} of {expected}", tokens());
    assert_eq!(gateway.metric("ringway_key_estimated_total", ""), 0.0);
    assert!(gateway.metric("ringway_events_in_pieces_total", "") >= 24.0);
    assert_eq!(gateway.metric("ringway_faults_total", ""), 0.0);
}

/// A limit of 10,000 tokens a minute is used up by one response of 75,000, whichever way it is told.
#[test]
fn no_limit_is_passed_by_a_long_event() {
    let origin = Origin::start();
    for path in PATHS {
        let gateway = Gateway::start(&config(&origin, "tokens_per_minute = 10_000"));
        case(&origin, "long", &stream(path, 100_000), 16_384, false);
        assert_eq!(ask(&gateway, path, "long").status(), 200, "{path}");
        assert_eq!(ask(&gateway, path, "long").status(), 429, "{path}");
    }
}

/// A long event that is an error is the end, and one that is cut is cut.
#[test]
fn a_long_error_and_a_long_cut_are_told_apart() {
    let origin = Origin::start();
    let gateway = Gateway::start(&config(&origin, ""));
    let long = "x".repeat(100_000);
    let first =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
    let error = format!("{first}data: {{\"error\":{{\"message\":\"{long}\",\"code\":null}}}}\n\n");
    case(&origin, "error", &error, 9_000, false);
    assert!(ask(&gateway, PATHS[1], "error").text() == error, "nothing is put behind an error");
    let open = format!(
        "{first}data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{long}\"}},\"finish_reason\":null}}]}}\n\n"
    );
    case(&origin, "open", &open, 9_000, false);
    let text = ask(&gateway, PATHS[1], "open").text();
    let ours = text.strip_prefix(&open).expect("what came");
    assert!(ours.contains("backend_stream_truncated"), "{ours}");
}
