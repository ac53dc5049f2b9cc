//! Requests that come back: a gateway in front of a gateway is fine, a circle of them ends.

use std::path::PathBuf;
use std::time::Duration;

use support::gateway::{Config, Gateway, K1};
use support::origin::Origin;
use support::tls::Tunnel;
use support::{J, PATIENCE, chat, chat_head, eventually};

const QUIET: &str = "health = { enabled = false }";

/// H25: a request that names us ten times in `Via` has gone round, however its lines are written.
#[test]
fn a_request_that_passed_here_ten_times_is_refused() {
    let origin = Origin::start();
    let gateway = Gateway::start(&Config::simple(origin.port));
    let line = |count: usize| format!("Via: {}\r\n", vec!["1.1 ringway"; count].join(", "));
    let cases = [
        ("none", String::new(), true),
        ("strangers", format!("Via: {}\r\n", vec!["1.1 other"; 30].join(", ")), true),
        ("nine", line(9), true),
        ("ten", line(10), false),
        ("ten lines", "via: 1.1 ringway\r\n".repeat(10), false),
        ("ten among others", format!("{}VIA: 1.0 fred, 1.1 ringway (x)\r\n{}", line(4), line(5)), false),
        ("fifty", line(50), false),
    ];
    let mut client = gateway.connect();
    for (name, via, passes) in cases {
        client.send(format!("{}{via}Content-Length: 27\r\n\r\n{J}", chat_head(K1, name)).as_bytes());
        let answer = client.answer().expect("an answer on a connection that stays");
        let seen = origin.with_nonce(name);
        if !passes {
            assert_eq!(answer.status(), 400, "{name}: {answer:?}");
            assert!(answer.json()["error"]["message"].as_str().is_some_and(|text| text.contains("loop")));
            assert!(seen.is_empty(), "{name} went on");
            continue;
        }
        assert_eq!(answer.status(), 200, "{name}: {answer:?}");
        // Lines that were there stay before our own.
        let lines = seen[0].request.all("via");
        assert_eq!(lines.last(), Some(&&b"1.1 ringway"[..]), "{name}");
        assert_eq!(lines.len(), via.matches("ia: ").count() + 1, "{name}");
    }
    assert_eq!(gateway.metric("ringway_backend_breaker", "\"b1\""), 0.0, "the backend was blamed");
}

/// M06: two gateways, each the other's backend.
#[test]
fn a_circle_of_gateways_ends() {
    let place: PathBuf = std::env::temp_dir().join(format!("ringway-{}-circle.sock", std::process::id()));
    let _ = std::fs::remove_file(&place);
    let first = format!("[backend.next]\nurl = \"unix:{}\"\n{QUIET}", place.display());
    let first = Gateway::start(&Config::new().tables(&first).model("m", &["next"], ""));
    let second = Config::new().backend("next", first.port, QUIET).model("m", &["next"], "");
    let second = Gateway::start(&second);
    let tunnel = Tunnel::from_file(&place, second.port);
    let gateways = [first, second];
    for (turn, body) in [J, r#"{"model":"m","stream":true}"#, J].into_iter().enumerate() {
        let mut client = gateways[turn % 2].connect();
        client.send(&chat(K1, "round", body));
        let answer = client.answer().expect("an end");
        assert_eq!(answer.status(), 400, "turn {turn}: {answer:?}");
        assert!(answer.text().contains("loop"), "{answer:?}");
    }
    let total = |name: &str| gateways.iter().map(|gateway| gateway.metric(name, "")).sum::<f64>();
    // Eleven exchanges each: the client's own, and ten that had passed a gateway.
    let settled = eventually(PATIENCE, || total("ringway_requests_total") == 33.0);
    assert!(settled, "{} exchanges", total("ringway_requests_total"));
    assert!(eventually(PATIENCE, || total("ringway_exchanges_active") == 0.0), "somebody still works");
    assert_eq!(total("ringway_retries_failover_total") + total("ringway_backend_breaker"), 0.0);
    let before: Duration = gateways.iter().map(Gateway::cpu).sum();
    std::thread::sleep(Duration::from_millis(300));
    let spent = gateways.iter().map(Gateway::cpu).sum::<Duration>() - before;
    assert!(spent < Duration::from_millis(200), "{spent:?} of CPU after the end");
    drop(tunnel);
    let _ = std::fs::remove_file(place);
}
