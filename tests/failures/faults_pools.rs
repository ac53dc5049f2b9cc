//! Faults of whole pools: backends that babble, crawl, flap, lie, or are all away at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::gateway::{Config, Gateway, K1, free_port};
use support::origin::{Next, Origin, completion};
use support::sse::{self, Ending, content, judge};
use support::{J, PATIENCE, ask, case_request, chat, eventually};

const ASK: &str = r#"{"model":"m","messages":[],"stream":true}"#;
const QUIET: &str = "health = { enabled = false }";
const JSON: &str = "Content-Type: application/json\r\n";

fn two(one: u16, other: u16) -> Config {
    Config::new()
        .backend("one", one, QUIET)
        .backend("other", other, QUIET)
        .model("m", &["one", "other"], "")
        .key("one", K1, "")
}

#[test]
fn f_09_a_backend_that_drips_is_forwarded_as_it_comes() {
    let (whole, told) = (sse::stream_of("drip", 3).concat(), Arc::new(AtomicUsize::new(0)));
    let (text, count) = (whole.clone(), Arc::clone(&told));
    let origin = Origin::scripted(move |talk| {
        talk.stream();
        for byte in text.as_bytes() {
            if !talk.chunk([*byte]) {
                return Next::Close;
            }
            count.fetch_add(1, Ordering::SeqCst);
            talk.pause(Duration::from_millis(1));
        }
        talk.end()
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let mut client = gateway.connect();
    client.send(&chat(K1, "drip", ASK));
    client.read_until("drip-0");
    assert!(told.load(Ordering::SeqCst) < whole.len(), "the first event came before the last was written");
    assert_eq!(client.answer().expect("the whole stream").text(), whole);
    let before = gateway.resident();
    assert!(before < 64 << 20, "{before} bytes for one stream");
}

#[test]
fn f_10_garbage_is_passed_or_refused_and_harms_nobody() {
    let origin = Origin::start();
    origin.case("not-http", |talk| {
        talk.send("\x16\x03\x01 this is no HTTP\r\n\r\n");
        Next::Close
    });
    origin.case("page", |talk| talk.answer("200 OK", "Content-Type: text/html\r\n", "<html>hello</html>"));
    origin.case("half-json", |talk| talk.answer("200 OK", JSON, "{\"choices\":[{\"message\":"));
    origin.case("binary-events", |talk| {
        talk.stream();
        talk.chunk(content("first"));
        talk.chunk(b"data: \xff\xfe\x00\x01\n\n");
        talk.chunk(b"event: \x80\ndata\n\n: \xc3\x28\n\n");
        talk.chunk(content("fine"));
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    origin.case("endless-line", |talk| {
        talk.stream();
        talk.chunk("data: ");
        for _ in 0..64 {
            talk.chunk("x".repeat(16 << 10));
        }
        talk.chunk("\n\n");
        talk.chunk(sse::DONE);
        talk.end()
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let one = |case: &str, body: &str| {
        let mut client = gateway.connect();
        client.send(&case_request(K1, case, body));
        client.answer().unwrap_or_else(|error| panic!("{case}: {error}"))
    };
    assert_eq!(one("not-http", J).status(), 502);
    assert_eq!(one("page", J).status(), 502);
    assert_eq!(one("half-json", J).text(), "{\"choices\":[{\"message\":");
    let binary = one("binary-events", ASK);
    let odd = b"data: \xff\xfe\x00\x01\n\n: \xc3\x28\n\n"; // a record without data would make SDKs raise
    assert!(binary.body.starts_with(&[content("first").as_bytes(), odd].concat()));
    assert!(binary.body.ends_with(sse::DONE.as_bytes()));
    assert_eq!(one("endless-line", ASK).body.len(), 6 + (64 * (16 << 10)) + 2 + sse::DONE.len());
    assert_eq!(ask(&gateway, J, "after").text(), completion("after"));
}

#[test]
fn f_11_a_busy_backend_rests_for_as_long_as_it_asked() {
    let (busy, well) = (
        Origin::scripted(|talk| talk.answer("503 Service Unavailable", "Retry-After: 2\r\n", "busy")),
        Origin::start(),
    );
    let gateway = Gateway::start(&two(busy.port, well.port));
    let started = Instant::now();
    let mut asked = 0;
    while started.elapsed() < Duration::from_millis(1_500) {
        let answer = ask(&gateway, J, &format!("turn-{asked}"));
        assert_eq!(answer.status(), 200, "the other backend answers");
        asked += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(asked > 20 && busy.seen().len() <= 1, "asked {} times while it rests", busy.seen().len());
    busy.set(support::origin::echo);
    let back = eventually(PATIENCE, || {
        ask(&gateway, J, "later");
        busy.seen().len() > 2
    });
    assert!(back, "it is asked again after its rest");
}

#[test]
fn f_12_an_error_inside_a_200_is_a_failure_of_the_backend() {
    let error =
        "data: {\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"code\":500}}\n\n";
    let origin = Origin::start();
    origin.case("late", move |talk| {
        talk.stream();
        talk.chunk(content("a"));
        talk.chunk(error);
        talk.end()
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let mut client = gateway.connect();
    client.send(&case_request(K1, "late", ASK));
    let answer = client.answer().expect("what came, and the error");
    assert_eq!(answer.text(), content("a") + error, "passed as it came, nothing added");
    assert!(eventually(PATIENCE, || gateway.metric("ringway_faults_total", "backend_error") >= 1.0));

    // Before any content it goes to another backend.
    let bad = Origin::scripted(move |talk| {
        talk.stream();
        talk.chunk(error);
        talk.end()
    });
    let gateway = Gateway::start(&two(bad.port, origin.port));
    for turn in 0..10 {
        let mut client = gateway.connect();
        client.send(&chat(K1, &format!("turn-{turn}"), ASK));
        let answer = client.answer().expect("a stream");
        assert_eq!(judge(&answer.text()).1, Ending::Finished, "turn {turn}: {answer:?}");
    }
}

/// A backend a hundred times slower than its peer gets few requests, and the fleet hardly notices it.
#[test]
fn f_21_a_gray_backend_is_drained() {
    let slow = Origin::scripted(|talk| {
        talk.stream();
        talk.pause(Duration::from_millis(400));
        talk.chunk(content("slow"));
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    let quick = Origin::scripted(|talk| {
        talk.stream();
        talk.pause(Duration::from_millis(4));
        talk.chunk(content("quick"));
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    let gateway = Gateway::start(&two(slow.port, quick.port));
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = gateway.connect();
                for turn in 0..60 {
                    client.send(&chat(K1, &format!("w{worker}-{turn}"), ASK));
                    assert_eq!(client.answer().expect("a stream").status(), 200);
                }
            });
        }
    });
    let (slow, quick) = (slow.seen().len(), quick.seen().len());
    assert!(slow * 5 < quick, "{slow} requests to the slow backend, {quick} to the quick one");
}

#[test]
fn f_22_a_flapping_backend_costs_at_most_an_error_a_flap() {
    let up = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&up);
    let origin = Origin::scripted(move |talk| match state.load(Ordering::SeqCst) {
        true => support::origin::echo(talk),
        false => Next::Reset,
    });
    let gateway = Gateway::start(&Config::simple(origin.port));
    let (mut flaps, mut errors, mut served) = (0, 0, 0);
    for phase in 0..4 {
        up.store(phase % 2 == 0, Ordering::SeqCst);
        flaps += u32::from(phase % 2 == 1);
        let until = Instant::now() + Duration::from_millis(800);
        while Instant::now() < until {
            match ask(&gateway, J, "flap").status() {
                200 => served += 1,
                502 => errors += 1,
                503 => {} // the breaker is open: nobody had to wait for the backend
                other => panic!("status {other}"),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    // Five failures in a row open the breaker; a probe each time it is half open, which it is twice a second at least:
    // there is nobody else to ask.
    assert!(served > 50 && errors <= 9 * flaps, "{errors} errors in {flaps} flaps, {served} served");
    up.store(true, Ordering::SeqCst);
    assert!(eventually(PATIENCE, || ask(&gateway, J, "back").status() == 200), "it comes back by itself");
}

#[test]
fn f_23_when_all_are_away_the_answer_is_quick_and_nobody_storms() {
    let refused = [free_port(), free_port()];
    let gateway = Gateway::start(&two(refused[0], refused[1]));
    let (requests, mut quickest) = (300_u64, Duration::MAX);
    for turn in 0..requests {
        let asked = Instant::now();
        let answer = ask(&gateway, J, &format!("turn-{turn}"));
        quickest = quickest.min(asked.elapsed());
        assert!(matches!(answer.status(), 502 | 503), "{answer:?}");
        assert!(answer.status() == 502 || !answer.one("retry-after").is_empty(), "{answer:?}");
    }
    let dials = gateway.metric("ringway_backend_dials_total", "") as u64;
    assert!(dials <= requests + requests / 10 + 10, "{dials} attempts for {requests} requests");
    assert!(quickest < Duration::from_millis(100), "{quickest:?}");
}

#[test]
fn f_24_a_health_path_that_lies_does_not_keep_a_failing_backend_in_service() {
    let served = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&served);
    let liar = Origin::scripted(move |talk| {
        if talk.request.target() == "/health" {
            return talk.answer("200 OK", "", "");
        }
        count.fetch_add(1, Ordering::SeqCst);
        talk.answer("500 Internal Server Error", JSON, "{\"error\":{\"message\":\"broken\"}}")
    });
    let well = Origin::start();
    let probed = "kind = \"vllm\"\nhealth = { interval = \"100ms\", timeout = \"100ms\" }";
    let gateway = Gateway::start(
        &Config::new()
            .backend("liar", liar.port, probed)
            .backend("well", well.port, probed)
            .model("m", &["liar", "well"], "")
            .key("one", K1, ""),
    );
    let mut asked = 0;
    let until = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < until {
        assert_eq!(ask(&gateway, J, &format!("turn-{asked}")).status(), 200);
        asked += 1;
    }
    let failed = served.load(Ordering::SeqCst);
    assert!(asked > 50 && failed <= 10, "asked {failed} times of {asked}, though it only fails");
}

/// Usage that no engine can mean must not break a limit, and none is no free lunch.
#[test]
fn f_48_absurd_usage_is_bounded() {
    let origin = Origin::start();
    for (case, usage) in [
        ("huge", r#"{"prompt_tokens":1000000000000000,"completion_tokens":99999999999999999999}"#),
        ("negative", r#"{"prompt_tokens":-5,"completion_tokens":-7}"#),
        ("text", r#"{"prompt_tokens":"many","completion_tokens":[]}"#),
        ("null", "null"),
    ] {
        origin.case(case, move |talk| {
            talk.answer("200 OK", JSON, &format!(r#"{{"id":"x","choices":[],"usage":{usage}}}"#))
        });
    }
    let config = Config::new().backend("b1", origin.port, QUIET).model("m", &["b1"], "").key(
        "one",
        K1,
        "tokens_per_minute = 600000",
    );
    let gateway = Gateway::start(&config);
    for case in ["negative", "text", "null", "huge"] {
        let mut client = gateway.connect();
        client.send(&case_request(K1, case, J));
        let answer = client.answer().unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(answer.status(), 200, "{case}");
    }
    let tokens = gateway.metric("ringway_tokens_total", "");
    assert!((0.0..1e16).contains(&tokens), "{tokens} tokens counted");
    // What was said to be used has been charged at most once over, so the key is in debt, not in credit.
    let after = ask(&gateway, J, "after").status();
    assert!(matches!(after, 200 | 429), "{after}");
}

/// Whoever is paged finds in the journal which backend went, why, and that it came back: once each.
#[test]
fn a_backend_that_goes_and_comes_back_is_told_of_as_loudly_as_wanted() {
    let ill = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&ill);
    let origin = Origin::scripted(move |talk| match state.load(Ordering::SeqCst) {
        true => talk.answer("503 Service Unavailable", "", ""),
        false => support::origin::echo(talk),
    });
    let config = |level: &str| {
        Config::new()
            .backend(
                "b1",
                origin.port,
                "kind = \"vllm\"\nhealth = { interval = \"100ms\", timeout = \"100ms\" }",
            )
            .model("m", &["b1"], "")
            .key("one", K1, "")
            .tables(&format!("[log]\nlevel = \"{level}\""))
    };
    let gateway = Gateway::start(&config("info"));
    let is = |state: f64| {
        let there = || (gateway.metric("ringway_backend_up", "") - state).abs() < 0.1;
        assert!(eventually(PATIENCE, there), "{}", gateway.said());
    };
    let times = |words: &str| gateway.said().matches(words).count();
    for turn in 1..=2 {
        is(1.0);
        assert!(eventually(PATIENCE, || times("backend b1 is up") == turn), "{}", gateway.said());
        ill.store(true, Ordering::SeqCst);
        is(0.0);
        assert!(eventually(PATIENCE, || times("backend b1 is down: ") == turn), "{}", gateway.said());
        ill.store(false, Ordering::SeqCst);
    }
    is(1.0);
    assert_eq!(times("failed a probe"), 0);
    gateway.rewrite(&config("debug"));
    assert_eq!(gateway.reload().0, 200);
    ill.store(true, Ordering::SeqCst);
    assert!(eventually(PATIENCE, || times("failed a probe") > 0), "{}", gateway.said());
    gateway.rewrite(&config("error"));
    assert_eq!(gateway.reload().0, 200);
    let (up, reloaded) = (times("backend b1 is up"), times("reloaded"));
    ill.store(false, Ordering::SeqCst);
    is(1.0);
    assert_eq!((times("backend b1 is up"), times("reloaded")), (up, reloaded), "{}", gateway.said());
}
