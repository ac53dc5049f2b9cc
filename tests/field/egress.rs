//! Backends that are reached through a proxy's tunnel.

mod relay;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;

use super::addresses::{bound, listen, with_name};
use relay::{Relay, says};
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, completion};
use support::tls::{Authority, Tunnel};
use support::{J, PATIENCE, ask, case_request, chat, check_answers_and_streams, eventually, sse};

const QUIET: &str = "health = { enabled = false }";
const OPEN: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// A hosted backend under a name that no resolver knows.
fn hosted(name: &str, more: &str) -> String {
    format!("[backend.{name}]\nurl = \"http://{name}.invalid:8000\"\nhosted = true\n{more}\n{QUIET}")
}

fn config(port: u16) -> Config {
    let config = Config::new().key("one", K1, "").shards("count = 1");
    config.tables(&format!("[egress]\nproxy = \"http://127.0.0.1:{port}\""))
}

/// The model `m` on `b1` behind this proxy.
fn one(port: u16) -> Config {
    config(port).tables(&hosted("b1", "")).model("m", &["b1"], "")
}

fn status(gateway: &Gateway) -> serde_json::Value {
    let page = gateway.ask_admin("/status").expect("a status").1;
    serde_json::from_str(&page).expect("JSON")
}

#[test]
fn a_name_that_only_the_proxy_knows_is_reached_and_the_tunnel_is_kept() {
    let origin = Origin::start();
    let relay = Relay::start(origin.port);
    let credential = "credential = { env = \"PROXY_LOGIN\" }";
    let config = config(relay.port).tables(credential).variable("PROXY_LOGIN", "ringway:open-sesame");
    let gateway = Gateway::start(&config.tables(&hosted("b1", "")).model("m", &["b1"], ""));
    check_answers_and_streams(&mut gateway.connect(), 5);
    let head = "CONNECT b1.invalid:8000 HTTP/1.1\r\nHost: b1.invalid:8000\r\n\
                Proxy-Authorization: Basic cmluZ3dheTpvcGVuLXNlc2FtZQ==\r\n\r\n";
    assert_eq!(relay.heads(), [head], "one tunnel for ten requests");
    assert_eq!(origin.faults(), Vec::<String>::new());
    for seen in origin.seen() {
        assert_eq!(seen.request.one("host"), "b1.invalid:8000");
        let raw = String::from_utf8_lossy(&seen.raw).to_lowercase();
        assert!(!raw.contains("proxy-") && !raw.contains("connect b1"), "{raw}");
    }
    let place = format!("via proxy 127.0.0.1:{}", relay.port);
    let row = status(&gateway)["backends"][0].clone();
    assert_eq!(row["proxy"], format!("127.0.0.1:{}", relay.port), "{row}");
    assert_eq!(row["target"], "b1.invalid:8000");
    assert!(gateway.said().contains(&format!("b1 at b1.invalid:8000 {place}")), "{}", gateway.said());
}

#[test]
fn tls_runs_inside_of_the_tunnel() {
    let (origin, authority) = (Origin::start(), Authority::new());
    let tunnel = Tunnel::from_tls(origin.port, authority.certify("api.invalid").server());
    let relay = Relay::start(tunnel.port);
    let backend =
        format!("[backend.b1]\nurl = \"https://api.invalid\"\nhosted = true\nca_file = \"ca.pem\"\n{QUIET}");
    let config = config(relay.port).file("ca.pem", &authority.pem()).tables(&backend);
    let gateway = Gateway::start(&config.model("m", &["b1"], ""));
    check_answers_and_streams(&mut gateway.connect(), 5);
    assert_eq!(relay.heads(), ["CONNECT api.invalid:443 HTTP/1.1\r\nHost: api.invalid:443\r\n\r\n"]);
    assert_eq!(tunnel.agreed()[0].name.as_deref(), Some("api.invalid"));
    assert_eq!(origin.seen().len(), 10);
}

/// What is wrong inside of the tunnel is the backend's, not the proxy's.
#[test]
fn a_certificate_for_another_name_is_refused_inside_of_the_tunnel() {
    let (origin, authority) = (Origin::start(), Authority::new());
    let tunnel = Tunnel::from_tls(origin.port, authority.certify("other.invalid").server());
    let relay = Relay::start(tunnel.port);
    let backend =
        format!("[backend.b1]\nurl = \"https://api.invalid\"\nhosted = true\nca_file = \"ca.pem\"\n{QUIET}");
    let config = config(relay.port).file("ca.pem", &authority.pem()).tables(&backend);
    let gateway = Gateway::start(&config.model("m", &["b1"], ""));
    assert_eq!(ask(&gateway, J, "name").status(), 502);
    let row = status(&gateway)["backends"][0].clone();
    assert_eq!(row["last_unreachable"]["reason"], "certificate_wrong_name", "{row}");
    assert!(origin.seen().is_empty());
}

#[test]
fn a_proxy_that_opens_no_tunnel_is_named_by_its_reason() {
    const LONG: &[u8] = &[b'a'; 20 * 1024];
    let long: &'static [u8] = [b"HTTP/1.1 200 OK\r\nA: ".as_slice(), LONG].concat().leak();
    #[rustfmt::skip] // one claim per line
    let table: [(&'static [u8], &str, &str); 11] = [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 3\r\n\r\nwho", "proxy_credentials", "the proxy wants other credentials"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n<html>", "proxy_refused", "the proxy refused the tunnel to it"),
        (b"HTTP/1.1 405 Method Not Allowed\r\n\r\n", "proxy_refused", "the proxy refused the tunnel to it"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n", "proxy_refused", "the proxy refused the tunnel to it"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "proxy_failed", "the proxy cannot reach it"),
        (b"HTTP/1.0 503 No\r\n\r\n", "proxy_failed", "the proxy cannot reach it"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not_a_proxy", "what responded is no HTTP proxy"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "not_a_proxy", "what responded is no HTTP proxy"),
        (long, "not_a_proxy", "what responded is no HTTP proxy"),
        (b"", "proxy_closed", "the proxy closed the connection without a response"),
        (b"HTTP/1.1 200 OK\r\n", "proxy_closed", "the proxy closed the connection without a response"),
    ];
    for (bytes, reason, words) in table {
        let relay = Relay::saying(bytes);
        let gateway = Gateway::start(&one(relay.port));
        let response = ask(&gateway, J, "refused");
        assert_eq!(response.status(), 502, "{reason}: {}", response.text());
        let (text, port) = (response.text(), relay.port.to_string());
        assert!(text.contains(words) && !text.contains(&port) && !text.contains("127.0.0.1"), "{text}");
        let row = status(&gateway)["backends"][0].clone();
        assert_eq!(row["last_unreachable"]["reason"], reason, "{row}");
        let label = format!("reason=\"{reason}\"");
        assert!(gateway.metric("ringway_backend_unreachable_total", &label) >= 1.0, "{reason}");
        let line = format!("backend b1 cannot be reached via proxy 127.0.0.1:{port}: {words}");
        assert!(eventually(PATIENCE, || gateway.said().contains(&line)), "{line}\n{}", gateway.said());
    }
}

/// A proxy that says this and no more; whether the gateway has left it.
fn silent(said: &'static str) -> (Relay, Arc<AtomicBool>) {
    let left = Arc::new(AtomicBool::new(false));
    let noticed = Arc::clone(&left);
    let relay = Relay::scripted(0, move |stream| {
        says(stream, said);
        let gone = matches!(std::io::Read::read(stream, &mut [0]), Ok(0) | Err(_));
        noticed.store(gone, Ordering::SeqCst);
        false
    });
    (relay, left)
}

#[test]
fn a_proxy_that_is_silent_or_not_there_costs_no_more_than_the_time_to_connect() {
    for said in ["", "HTTP/1.1 200 OK\r\nA: b\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let (relay, left) = silent(said);
        let gateway = Gateway::start(&one(relay.port).tables("[timeouts]\nconnect = \"500ms\""));
        let started = Instant::now();
        assert_eq!(ask(&gateway, J, "silent").status(), 504, "{said:?}");
        let took = started.elapsed();
        assert!(took > Duration::from_millis(450) && took < Duration::from_secs(5), "{took:?}");
        assert!(eventually(PATIENCE, || left.load(Ordering::SeqCst)), "{said:?}: the connection stays open");
    }
    let (socket, port) = bound(&["127.0.0.1"]);
    let gateway = Gateway::start(&one(port));
    let response = ask(&gateway, J, "nobody");
    assert_eq!(response.status(), 502);
    assert!(response.text().contains("connection refused"), "{}", response.text());
    drop(socket);
}

#[test]
fn a_response_of_the_proxy_is_read_however_it_comes() {
    let origin = Origin::start();
    for text in [
        OPEN,
        "HTTP/1.0 200\r\n\r\n",
        "HTTP/1.1 200 OK\nVia: 1.1 proxy\n\n",
        "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nProxy-Agent: x\r\n\r\n",
    ] {
        let relay = Relay::scripted(origin.port, move |stream| {
            text.as_bytes().iter().all(|byte| {
                std::thread::sleep(Duration::from_millis(1)); // each byte in a segment of its own
                std::io::Write::write_all(stream, &[*byte]).is_ok()
            })
        });
        let gateway = Gateway::start(&one(relay.port));
        check_answers_and_streams(&mut gateway.connect(), 2);
        assert_eq!(relay.heads().len(), 1, "{text:?}");
    }
}

/// They are the backend's first bytes.
#[test]
fn bytes_behind_the_head_of_the_proxy_belong_to_the_tunnel() {
    let body = completion("early");
    let early = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for cut in [0, 1, 20, early.len()] {
        let (first, rest) = (early[..cut].to_owned(), early[cut..].to_owned());
        let relay = Relay::scripted(0, move |stream| {
            says(stream, &format!("{OPEN}{first}"));
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.ends_with(J.as_bytes()) {
                match std::io::Read::read(stream, &mut buffer) {
                    Ok(count @ 1..) => request.extend_from_slice(&buffer[..count]),
                    _ => return false,
                }
            }
            says(stream, &rest);
            let _ = std::io::Read::read(stream, &mut buffer);
            false
        });
        let gateway = Gateway::start(&one(relay.port));
        let response = ask(&gateway, J, "early");
        assert_eq!((response.status(), response.text()), (200, body.clone()), "{cut}");
    }
}

#[test]
fn what_needs_no_proxy_goes_straight() {
    let origin = Origin::start();
    let relay = Relay::saying(b"HTTP/1.1 403 Forbidden\r\n\r\n");
    let backend =
        |more: &str| format!("[backend.b1]\nurl = \"http://127.0.0.1:{}\"\n{more}\n{QUIET}", origin.port);
    for (list, more) in [
        ("[\"127.0.0.0/8\"]", "hosted = true"),
        ("[\"*\"]", "hosted = true"),
        (&*format!("[\"127.0.0.1:{}\"]", origin.port), "hosted = true"),
        ("[]", "hosted = true\nproxy = false"),
        ("[]", "hosted = false"),
        ("[]", ""),
    ] {
        let config = config(relay.port).tables(&format!("no_proxy = {list}")).tables(&backend(more));
        let gateway = Gateway::start(&config.model("m", &["b1"], ""));
        assert_eq!(ask(&gateway, J, "straight").status(), 200, "{list} {more}");
    }
    assert_eq!(relay.heads().len(), 0);
    let other = Relay::start(origin.port);
    for (more, heads) in [("proxy = true", 1), (&*format!("proxy = \"http://localhost:{}\"", other.port), 1)]
    {
        let gateway = Gateway::start(&config(relay.port).tables(&backend(more)).model("m", &["b1"], ""));
        let expected = if more == "proxy = true" { 502 } else { 200 };
        assert_eq!(ask(&gateway, J, "through").status(), expected, "{more}");
        let (code, said) = gateway.command("check");
        assert!(
            code == Some(0) && said.contains(&format!("http://127.0.0.1:{} via proxy ", origin.port)),
            "{said}"
        );
        assert_eq!(relay.heads().len(), heads, "{more}");
    }
    assert_eq!(other.heads().len(), 1);
}

#[test]
fn the_environment_names_the_proxy() {
    let origin = Origin::start();
    let relay = Relay::start(origin.port);
    let place = format!("http://user:p%20w@127.0.0.1:{}", relay.port);
    let config = |variables: &[(&str, &str)]| {
        let mut config = Config::new().key("one", K1, "").tables("[egress]\nproxy = \"environment\"");
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
            let value = variables.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
            config = config.variable(name, value);
        }
        let backend =
            format!("[backend.b1]\nurl = \"http://127.0.0.1:{}\"\nhosted = true\n{QUIET}", origin.port);
        config.tables(&backend).model("m", &["b1"], "")
    };
    for (variables, heads) in [
        (&[("HTTP_PROXY", &*place)][..], 1),
        (&[("http_proxy", &*place)], 1),
        (&[("HTTPS_PROXY", &*place)], 0),
        (&[("HTTP_PROXY", &*place), ("NO_PROXY", "10.0.0.0/8,127.0.0.1")], 0),
        (&[("http_proxy", &*place), ("no_proxy", "localhost .internal")], 1),
        (&[], 0),
    ] {
        let before = relay.heads().len();
        let gateway = Gateway::start(&config(variables));
        assert_eq!(ask(&gateway, J, "environment").status(), 200, "{variables:?}");
        assert_eq!(relay.heads().len() - before, heads, "{variables:?}");
    }
    let credential = "Proxy-Authorization: Basic dXNlcjpwIHc=\r\n";
    assert!(relay.heads().iter().all(|head| head.contains(credential)), "{:?}", relay.heads());
}

#[test]
fn a_client_that_leaves_closes_the_tunnel() {
    let origin = Origin::start();
    let relay = Relay::start(origin.port);
    let gone = Arc::new(AtomicBool::new(false));
    let noticed = Arc::clone(&gone);
    origin.case("leave", move |talk| {
        talk.stream();
        talk.chunk(sse::content("one"));
        noticed.store(talk.gone(PATIENCE), Ordering::SeqCst);
        Next::Close
    });
    let gateway = Gateway::start(&one(relay.port));
    let mut client = gateway.connect();
    client.send(&case_request(K1, "leave", r#"{"model":"m","stream":true}"#));
    client.read_until("one");
    assert_eq!(relay.open(), 1);
    drop(client);
    assert!(eventually(PATIENCE, || gone.load(Ordering::SeqCst) && relay.open() == 0));
}

#[test]
fn a_client_that_leaves_while_the_proxy_is_silent_closes_its_connection() {
    let (relay, left) = silent("");
    let gateway = Gateway::start(&one(relay.port).tables("[timeouts]\nconnect = \"30s\""));
    let mut client = gateway.connect();
    client.send(&chat(K1, "leaves", J));
    assert!(eventually(PATIENCE, || relay.heads().len() == 1));
    drop(client);
    assert!(eventually(PATIENCE, || left.load(Ordering::SeqCst)));
}

#[test]
fn another_backend_responds_where_the_proxy_refuses() {
    let origin = Origin::start();
    let (good, bad) = (Relay::start(origin.port), Relay::saying(b"HTTP/1.1 407 Who\r\n\r\n"));
    let own = format!("proxy = \"http://127.0.0.1:{}\"", bad.port);
    let config = config(good.port).tables(&hosted("b1", "")).tables(&hosted("b2", &own));
    let gateway = Gateway::start(&config.model("m", &["b1", "b2"], ""));
    for turn in 0..8 {
        assert_eq!(ask(&gateway, J, &format!("turn-{turn}")).status(), 200);
    }
    assert!(!bad.heads().is_empty(), "b2 was never tried");
}

#[test]
fn probes_go_through_the_tunnel() {
    let origin = Origin::start();
    let (good, bad) = (Relay::start(origin.port), Relay::saying(b"HTTP/1.1 407 Who\r\n\r\n"));
    let probed = |name: &str, port: u16| {
        format!(
            "[backend.{name}]\nurl = \"http://{name}.invalid\"\nproxy = \"http://127.0.0.1:{port}\"\n\
             health = {{ enabled = true, path = \"/health\", interval = \"1s\", failures = 1 }}"
        )
    };
    let config =
        Config::new().key("one", K1, "").tables(&probed("b1", good.port)).tables(&probed("b2", bad.port));
    let gateway = Gateway::start(&config.model("m", &["b1", "b2"], ""));
    let health = |row: usize| status(&gateway)["backends"][row]["health"].clone();
    assert!(eventually(PATIENCE, || health(0) == "up" && health(1) == "down"), "{}", gateway.said());
    let row = status(&gateway)["backends"][1].clone();
    let words = format!("proxy 127.0.0.1:{}: the proxy wants other credentials (status 407)", bad.port);
    assert_eq!(row["last_probe_failure"], words, "{row}");
    assert_eq!(row["last_unreachable"]["reason"], "proxy_credentials", "{row}");
    assert!(good.heads()[0].starts_with("CONNECT b1.invalid:80 HTTP/1.1\r\n"));
}

#[test]
fn a_reload_leaves_the_tunnels_of_the_old_proxy() {
    let origin = Origin::start();
    let (old, new) = (Relay::start(origin.port), Relay::start(origin.port));
    let gateway = Gateway::start(&one(old.port).tables("[timeouts]\nbackend_idle = \"1m\""));
    assert_eq!(ask(&gateway, J, "before").status(), 200);
    let with_login = |login: &str| {
        let config = config(new.port).tables("credential = { file = \"login\" }").file("login", login);
        config.tables(&hosted("b1", "")).model("m", &["b1"], "")
    };
    for (config, counts) in [
        (one(old.port), (1, 0)),
        (one(new.port), (1, 1)),
        (one(new.port).model("n", &["b1"], ""), (1, 1)),
        (with_login("user:one"), (1, 2)),
        (with_login("user:two"), (1, 3)),
        (one(old.port), (2, 3)),
    ] {
        gateway.rewrite(&config.tables("[timeouts]\nbackend_idle = \"1m\""));
        assert_eq!(gateway.reload().0, 200, "{}", gateway.said());
        assert!(eventually(PATIENCE, || {
            ask(&gateway, J, "after").status() == 200 && (old.heads().len(), new.heads().len()) == counts
        }));
    }
}

/// The addresses of the proxy race, and one that is no proxy is gone round.
#[test]
fn all_addresses_of_the_proxy_are_tried() {
    const TWO: [&str; 3] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
    with_name("egress", &TWO, CloneFlags::empty(), || {
        let origin = Origin::start();
        let (mut sockets, port) = bound(&TWO);
        let good = Relay::on(listen(sockets.remove(2)), origin.port, |stream| says(stream, OPEN));
        let bad = Relay::on(listen(sockets.remove(1)), 0, |_| false);
        let backend = hosted("b1", &format!("proxy = \"http://engine.test:{port}\""));
        let config = Config::new().key("one", K1, "").shards("count = 1").tables(&backend);
        let gateway = Gateway::start(&config.model("m", &["b1"], ""));
        for turn in 0..6 {
            assert_eq!(ask(&gateway, J, &format!("turn-{turn}")).status(), 200);
        }
        assert!(!good.heads().is_empty());
        assert!(bad.heads().len() < 6, "one that is no proxy comes last for a while");
    });
}
