//! The admin listener over a running coordinator, on real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::coordinator::Ended;
use crate::coordinator::fixture::{self, house};
use crate::error::FaultKind;
use crate::observe::Record;
use crate::observe::record::tests::sample;
use crate::plan::cells::Health;
use crate::policy::auth::credential::{self, Token};
use crate::policy::routing::breaker::Cause;
use crate::units::{BackendId, DeploymentId, Nanos};

#[test]
fn readiness_follows_shards_backends_and_the_end() {
    let house = house(|plan, _| plan.timeouts.accept_after_term = Nanos(60_000_000_000));
    assert_eq!(house.get("/readyz"), (503, "shards are starting\n".to_owned()));
    let presence = house.enter();
    assert_eq!(house.get("/readyz"), (200, "ready\n".to_owned()));

    let backend = house.plan.backends.cells(BackendId::new(0));
    backend.set_health(Health::Down);
    assert_eq!(house.get("/readyz"), (503, "no model has a usable backend\n".to_owned()));
    backend.set_health(Health::Up);
    let deployment = house.plan.deployments.cells(DeploymentId::new(0));
    deployment.breaker.hold(Nanos::NEVER, Cause::Limit);
    assert_eq!(house.get("/readyz").0, 503);
    assert_eq!(house.get("/healthz"), (200, "ok\n".to_owned()));

    house.coordinator.stop();
    fixture::until_blocking("readiness fails", || house.get("/readyz").1 == "draining\n");
    assert!(!house.control.stop_accepting(), "readiness fails before the listeners close");
    assert_eq!(house.end(presence), Ended::Drained);
}

#[test]
fn unknown_paths_and_methods_are_refused() {
    let house = house(|_, _| {});
    let presence = house.enter();
    for path in [
        "/admin",
        "/api/v1/nothing",
        "/assets/nothing.js",
        "/metrics/",
        "/v1/models",
        "/../status",
        "/debug/pprof",
    ] {
        assert_eq!(house.get(path).0, 404, "{path}");
    }
    let mut stream = TcpStream::connect(house.coordinator.admin().unwrap()).unwrap();
    write!(stream, "POST /status HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 405 "), "{response}");
    house.end(presence);
}

#[test]
fn with_a_token_only_the_two_health_paths_are_open() {
    let token = Token::new(credential::digest(b"rt-0123456789abcdef01234567"));
    let house = house(|_, settings| settings.admin_token = Some(token));
    let presence = house.enter();
    let ask = |method: &str, path: &str, line: &str| {
        let mut stream = TcpStream::connect(house.coordinator.admin().unwrap()).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{line}content-length: 0\r\n\r\n")
            .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response.to_lowercase()
    };
    for (method, path, open, closed) in [
        ("GET", "/healthz", "200", "200"),
        ("GET", "/readyz", "200", "200"),
        ("POST", "/healthz", "405", "405"),
        ("GET", "/metrics", "401", "200"),
        ("HEAD", "/status", "401", "200"),
        ("DELETE", "/status", "401", "405"),
        ("POST", "/reload", "401", "422"),
        ("GET", "/nothing", "401", "404"),
        ("GET", "/healthz/../status", "401", "404"),
        ("GET", "//status", "401", "404"),
    ] {
        let refused = ask(method, path, "");
        assert!(refused.starts_with(&format!("http/1.1 {open} ")), "{method} {path}: {refused}");
        assert_eq!(refused.contains("\r\nwww-authenticate: bearer\r\n"), open == "401", "{refused}");
        let answered = ask(method, path, "authorization: Bearer rt-0123456789abcdef01234567\r\n");
        assert!(answered.starts_with(&format!("http/1.1 {closed} ")), "{method} {path}: {answered}");
    }
    house.end(presence);
}

#[test]
fn too_many_wrong_tokens_are_told_to_wait_and_counted() {
    let token = Token::new(credential::digest(b"rt-0123456789abcdef01234567"));
    let house = house(|_, settings| settings.admin_token = Some(token));
    let presence = house.enter();
    // A source regains one in a second: none of these takes that long, all of them might.
    let responses: Vec<_> = (0..200).map(|_| house.get_all("/status")).collect();
    assert!(responses[..10].iter().all(|response| response.0 == 401), "{:?}", &responses[..10]);
    let (_, head, body) = responses.iter().find(|response| response.0 == 429).unwrap();
    assert!(head.contains("\r\nretry-after: 1\r\n") && !head.contains("www-authenticate"), "{head}");
    assert!(body.contains("too many"), "{body}");

    let mut stream = TcpStream::connect(house.coordinator.admin().unwrap()).unwrap();
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer rt-0123456789abcdef01234567\r\n\r\n"
    )
    .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    for status in [401, 429] {
        let count = responses.iter().filter(|response| response.0 == status).count();
        let line = format!("ringway_admin_refused_total{{status=\"{status}\"}} {count}");
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    house.end(presence);
}

#[test]
fn metrics_show_what_shards_settled() {
    let mut house = house(|_, _| {});
    let presence = house.enter();
    house.outbox.settle(&sample());
    house.outbox.settle(&Record { status: 429, fault: Some(FaultKind::TokensExceeded), ..sample() });
    house.outbox.settle(&Record { status: 429, fault: Some(FaultKind::RequestsExceeded), ..sample() });
    house.outbox.flush();
    let (status, head, page) = house.get_all("/metrics");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"));
    for line in [
        "ringway_build_info{version=\"0.0.0-test\",driver=\"none (test)\"} 1",
        "ringway_shards_running 1",
        "ringway_connections_active{shard=\"0\"} 0",
        "ringway_requests_total{class=\"2xx\"} 1",
        "ringway_model_requests_total{model=\"llama\",class=\"4xx\"} 2",
        "ringway_backend_tokens_total{backend=\"gpu-0\",type=\"cached_input\"} 192",
        "ringway_key_tokens_total{key=\"team \\\"blue\\\"\\n\",type=\"output\"} 33",
        "ringway_faults_total{code=\"rate_limit_exceeded\",side=\"client\"} 2",
        "gen_ai_server_time_to_first_token_seconds_bucket{gen_ai_request_model=\"llama\",le=\"0.08\"} 0",
        "gen_ai_server_time_to_first_token_seconds_bucket{gen_ai_request_model=\"llama\",le=\"0.1\"} 3",
        "gen_ai_server_request_duration_seconds_count{gen_ai_request_model=\"llama\"} 3",
        "gen_ai_server_time_per_output_token_seconds_bucket{gen_ai_request_model=\"llama\",le=\"0.1\"} 3",
        "gen_ai_client_token_usage_sum{gen_ai_request_model=\"llama\",gen_ai_token_type=\"input\"} 300",
        "ringway_overhead_seconds_bucket{le=\"0.00002\"} 3",
        "ringway_backend_up{backend=\"gpu-0\"} 1",
        "ringway_backend_breaker{backend=\"gpu-0\"} 0",
        "ringway_backend_in_flight{backend=\"gpu-0\"} 0",
        "ringway_deployment_breaker{backend=\"gpu-0\",model=\"llama\"} 0",
        "ringway_deployment_pause_seconds{backend=\"gpu-0\",model=\"llama\"} 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    assert!(page.contains("\nprocess_resident_memory_bytes "));
    assert!(page.contains("\nprocess_cpu_seconds_total "));
    assert!(page.contains("\nprocess_open_fds "));
    house.end(presence);
}

#[test]
fn every_series_is_unique_and_follows_its_type() {
    let mut house = house(|_, _| {});
    let presence = house.enter();
    house.outbox.settle(&sample());
    house.outbox.flush();
    let (_, page) = house.get("/metrics");
    let mut seen = std::collections::HashSet::new();
    let mut family = "";
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(seen.insert(name), "{name} is declared twice");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{rest}");
            family = name;
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} is not under {family}");
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(seen.insert(series) || series == family, "{series} twice");
            value.parse::<f64>().unwrap();
        }
    }
    house.end(presence);
}

#[test]
fn status_names_everything_and_shows_no_secret() {
    let mut house = house(|_, _| {});
    let presence = house.enter();
    house.outbox.settle(&sample());
    house.outbox.flush();
    let (code, page) = house.get("/status");
    assert_eq!(code, 200);
    let status: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(status["ready"], true);
    assert_eq!(status["driver"], "none (test)");
    assert_eq!(status["shards"][0]["core"], 3);
    assert_eq!(status["models"][0]["pool"][0], "gpu-0");
    assert_eq!(status["models"][0]["aliases"][0], "gpt-4o");
    assert_eq!(status["models"][0]["duration"]["count"], 1);
    assert_eq!(status["backends"][0]["addresses"][0], "192.0.2.1:8000");
    assert_eq!(status["backends"][0]["health"], "unknown");
    assert_eq!(status["backends"][0]["breaker"], "closed");
    let deployment = &status["deployments"][0];
    assert_eq!((&deployment["backend"], &deployment["model"]), (&"gpu-0".into(), &"llama".into()));
    assert_eq!(deployment["breaker"], "closed");
    assert!(deployment["blocked_by"].is_null() && deployment["blocked_seconds"].is_null());
    assert_eq!(status["keys"][0]["name"], "team \"blue\"\n");
    assert_eq!(status["keys"][0]["requests"]["remaining"], 10);
    assert!(status["keys"][0]["tokens"].is_null());
    for secret in ["s3cret", "5a5a", "90,90", "digest", "authorization"] {
        assert!(!page.contains(secret), "{secret}");
    }
    house.end(presence);
}

#[test]
fn silent_scrapers_do_not_stop_the_others() {
    let house = house(|_, _| {});
    let presence = house.enter();
    let _silent: Vec<_> =
        (0..32).map(|_| TcpStream::connect(house.coordinator.admin().unwrap()).unwrap()).collect();
    assert_eq!(house.get("/healthz").0, 200);
    house.end(presence);
}
