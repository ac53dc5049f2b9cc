use serde_json::json;

use super::*;

fn reading() -> Value {
    json!({
        "version": "0.1.0", "node": "gw-1", "uptime_seconds": 7_325.0, "state": "degraded",
        "sentence": "1 of 2 backends out: gpu-b down (connection refused).",
        "requests_per_second": 1_204.4, "in_flight": 87, "queued": 3, "input_tokens_per_second": 310_000.0,
        "output_tokens_per_second": 92_000.0, "ttft_p50": 0.182, "ttft_p99": 0.94, "error_share": 0.003,
        "refused_share": null, "window_seconds": 60,
        "backends": [
            { "name": "gpu-a", "state": "ok", "in_flight": 80, "requests_per_second": 1_200.0, "ttft_p50": 0.18, "ttft_p99": 0.9, "output_tokens_per_second": 91_000.0, "error_share": 0.0 },
            { "name": "gpu-b\u{1b}[31m", "state": "down", "in_flight": 0, "requests_per_second": 0.0, "ttft_p50": null, "ttft_p99": null, "output_tokens_per_second": 0.0, "error_share": null },
        ],
        "models": [{ "name": "llama", "usable": true, "waiting": 3, "requests_per_second": 1_204.4 }],
        "limits": [{ "key": "ci", "name": "requests_per_minute", "used": 30, "max": 30, "free_in_seconds": 59.0 }],
        "failures": [{ "at_unix_ms": 3_661_000, "status": 429, "reason": "rate_limit_exceeded", "side": "client", "key": "ci", "id": "a" }],
    })
}

fn view() -> View {
    let mut view = View::new("127.0.0.1:9090".to_owned());
    view.take(Ok(reading()));
    view
}

#[test]
fn one_screen_of_80_by_24_says_what_matters() {
    let text = view().text(80, 24);
    assert_eq!(text.lines().count(), 24);
    assert!(text.lines().all(|line| line.chars().count() <= 80));
    for part in [
        "ringway 0.1.0 on gw-1, up 2 h 2 min",
        "DEGRADED 1 of 2 backends out: gpu-b down (connection refused).",
        "1204 req/s  87 in flight  3 waiting   tok/s in 310.0k out 92.0k",
        "ttft p50 182ms p99 940ms   errors 0.3%   refused -",
        "gpu-a",
        "180ms",
        "01:01:01  429 rate_limit_exceeded",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "a name is no command to the terminal");
}

#[test]
fn a_small_screen_and_no_reading_draw_without_a_panic() {
    for (width, height) in [(1, 1), (20, 5), (40, 10), (200, 60)] {
        view().text(width, height);
        View::new(String::new()).text(width, height);
        let mut view = view();
        view.press(KeyCode::Enter);
        view.text(width, height);
    }
}

#[test]
fn a_letter_sorts_and_once_more_the_other_way() {
    let mut view = view();
    let names = |view: &View| view.rows(&PANES[0]).iter().map(|row| text(&row["name"])).collect::<Vec<_>>();
    assert_eq!(names(&view)[0], "gpu-a");
    view.press(KeyCode::Char('n'));
    view.press(KeyCode::Char('n'));
    assert!(names(&view)[0].starts_with("gpu-b"));
    view.press(KeyCode::Char('r'));
    assert_eq!(names(&view)[0], "gpu-a", "the largest number first");
}

#[test]
fn a_filter_keeps_what_it_names_until_it_is_dropped() {
    let mut view = view();
    for key in ['/', 'd', 'o', 'w', 'n'] {
        view.press(KeyCode::Char(key));
    }
    assert_eq!(view.rows(&PANES[0]).len(), 1);
    assert!(!view.press(KeyCode::Char('q')), "typed, not obeyed");
    view.press(KeyCode::Esc);
    assert_eq!(view.rows(&PANES[0]).len(), 2);
    assert!(view.press(KeyCode::Char('q')));
}

#[test]
fn the_last_reading_stays_when_the_gateway_is_gone() {
    let mut view = view();
    view.take(Err("connection refused".to_owned()));
    let text = view.text(80, 24);
    assert!(
        text.contains("NO CONNECTION to 127.0.0.1:9090: connection refused") && text.contains("gpu-a"),
        "{text}"
    );
}

#[test]
fn every_pane_and_the_details_show_their_rows() {
    let mut view = view();
    for (key, part) in
        [('2', "llama"), ('3', "requests_per_minute"), ('4', "rate_limit_exceeded"), ('1', "gpu-a")]
    {
        view.press(KeyCode::Char(key));
        assert!(view.text(80, 24).contains(part), "{part}");
    }
    view.press(KeyCode::Enter);
    assert!(view.text(80, 24).contains("output tokens per second"));
}
