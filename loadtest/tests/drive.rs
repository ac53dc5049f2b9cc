//! The driver against the simulators: what it counts is what they did.

mod common;

use common::{any_port, options, start, state};
use loadtest::drive::report::Report;
use loadtest::drive::{Options, html, run};
use loadtest::gpusim;
use loadtest::instant;

fn base(url: String) -> Options {
    Options { url, warmup: 0.0, duration: 0.5, drain: 20.0, output_tokens: 8, ..Default::default() }
}

fn drive(options: &Options) -> Report {
    let report = run(options, |_| {}).unwrap();
    assert_eq!(report.sent, report.good + report.failed);
    report
}

#[test]
fn open_loop_counts_what_the_server_counted() {
    let sim = start(options());
    let report = drive(&Options { rate: Some(100.0), ..base(sim.url()) });
    let state = state(&sim.address);
    assert!(report.sent > 10, "{report:?}");
    assert_eq!((report.failed, report.without_done), (0, 0));
    assert_eq!(state["completed"], report.good);
    assert_eq!(state["tokens"], report.tokens);
    assert_eq!((report.tokens, report.completion_tokens), (8 * report.good, 8 * report.good));
    assert_eq!(report.events, report.good * (1 + 8 + 1 + 1), "role, tokens, finish, usage");
    assert_eq!((report.ttft.count, report.inter_token.count), (report.good, 7 * report.good));
    assert!(report.ttft.p50 <= report.end_to_end.p50);
}

#[test]
fn one_seed_sends_the_same_number_of_requests() {
    let sim = start(options());
    let sent = |constant| drive(&Options { rate: Some(80.0), constant, ..base(sim.url()) }).sent;
    assert_eq!(sent(false), sent(false));
    assert_eq!(sent(true), 39, "the first after one gap, none at the very end");
}

#[test]
fn closed_loops_and_sessions_end_and_add_up() {
    let sim = start(options());
    let loops = drive(&Options { connections: Some(4), no_stream: true, ..base(sim.url()) });
    assert!(loops.good > 4 && loops.failed == 0, "{loops:?}");
    assert_eq!((loops.tokens, loops.completion_tokens), (0, 8 * loops.good));
    let talk = Options { sessions: Some(5), think: 0.02, turns: 3, prompt_tokens: 100, ..base(sim.url()) };
    let talk = drive(&talk);
    assert!(talk.good >= 5 && talk.failed == 0, "{talk:?}");
    assert!(talk.cached_tokens > 0, "a later turn begins as the earlier one did");
}

#[test]
fn trace_is_replayed_to_its_lengths() {
    let path = std::env::temp_dir().join(format!("trace-{}.jsonl", std::process::id()));
    let lines = r#"{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]}
{"timestamp": 100, "input_length": 1100, "output_length": 3, "hash_ids": [0, 1, 3]}
{"timestamp": 90000, "input_length": 10, "output_length": 3, "hash_ids": [9]}
"#;
    std::fs::write(&path, lines).unwrap();
    let sim = start(gpusim::Options { prefill_rate: 1e6, ..options() });
    let report = drive(&Options { trace: Some(path.clone()), ignore_eos: true, ..base(sim.url()) });
    assert_eq!((report.sent, report.good, report.completion_tokens), (2, 2, 8));
    assert_eq!(report.cached_tokens, 1024, "two blocks of 512 tokens are shared");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn failures_are_told_apart() {
    let kinds = [
        ("cut-after:3", "cut"),
        ("reset-after:3", "cut"),
        ("cut-mid-event:2", "cut"),
        ("error-event-after:2", "error record"),
        ("error-first-record", "error record"),
        ("status:429", "status 429"),
        ("html-502", "status 502"),
        ("hang-mid-stream:1", "timeout"),
        ("hang-before-head", "timeout"),
    ];
    let sim = start(options());
    for (fault, kind) in kinds {
        let headers = vec![format!("x-sim-fault: {fault}")];
        let options =
            Options { connections: Some(2), duration: 0.1, timeout: 0.3, headers, ..base(sim.url()) };
        let report = drive(&options);
        assert!(report.good == 0 && report.failed > 0, "{fault}: {report:?}");
        assert_eq!(report.failures.keys().collect::<Vec<_>>(), [kind], "{fault}");
    }
    drop(sim);
    let gone = drive(&Options { rate: Some(50.0), duration: 0.1, ..base("http://127.0.0.1:9".to_owned()) });
    assert!(gone.failures.keys().all(|kind| kind.starts_with("connect")), "{gone:?}");
}

#[test]
fn stream_without_done_is_noted_and_no_failure() {
    let quirks =
        vec!["no-done".parse().unwrap(), "crlf-events".parse().unwrap(), "no-space".parse().unwrap()];
    let sim = start(gpusim::Options { quirks, ..options() });
    let report = drive(&Options { connections: Some(1), duration: 0.1, ..base(sim.url()) });
    assert!(report.good > 0);
    assert_eq!((report.without_done, report.failed, report.tokens), (report.good, 0, 8 * report.good));
}

#[test]
fn stall_of_the_server_counts_for_all_requests_planned_in_it() {
    // One request at a time, 50 ms each, at four times the rate that can be served: the queue grows all the time.
    let sim = start(gpusim::Options { max_running: 1, step_ms: 50.0, output_tokens: 1.0, ..options() });
    let report = drive(&Options { rate: Some(80.0), constant: true, no_stream: true, ..base(sim.url()) });
    assert_eq!(report.failed, 0);
    let served = report.sent as f64 * 50.0;
    assert!(report.end_to_end.max > served - 600.0, "the last waits for all before it: {report:?}");
}

#[test]
fn held_streams_stay_open_and_a_broken_one_is_counted() {
    let server = instant::start(&any_port(), "m", &instant::Options::default()).unwrap();
    let headers = vec!["x-sim-pace-ms: 10".to_owned(), "x-sim-events: 2000".to_owned()];
    let hold = Options { hold: Some(50), ramp: 0.1, sources: 3, headers, ..base(server.url()) };
    let report = drive(&hold);
    let held = report.held.clone().unwrap();
    assert_eq!((held.open_max, held.open_at_end, held.dropped, held.renewed), (50, 50, 0, 0));
    assert!(report.tokens > 0 && report.inter_token.count > 0, "{report:?}");
    let sim = start(options());
    let headers = vec!["x-sim-fault: cut-after:2".to_owned()];
    let broken = drive(&Options { hold: Some(3), ramp: 0.0, duration: 0.2, headers, ..base(sim.url()) });
    assert!(broken.held.unwrap().dropped >= 3);
}

#[test]
fn page_is_self_contained_and_escapes() {
    let sim = start(options());
    let report = drive(&Options { rate: Some(50.0), duration: 0.3, ..base(sim.url()) });
    let page = html::page(&Report { url: "<x>&".to_owned(), ..report });
    assert!(page.contains("&lt;x&gt;&amp;") && page.contains("<polyline"));
    for outside in ["<script", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}
