//! Certificates as people make them, and the reasons for which a backend cannot be reached.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};

use super::base_urls::check;
use support::folder::Folder;
use support::gateway::{Config, Gateway, K1, Wrapper};
use support::origin::Origin;
use support::tls::{Authority, Certified, Tunnel};
use support::{J, PATIENCE, ask, eventually};

const QUIET: &str = "health = { enabled = false }";

/// What `openssl req -x509` makes with these arguments, in a folder that ends with the test.
fn openssl(name: &str, arguments: &[&str]) -> Certified {
    let folder = Folder::new(name);
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    command.args(arguments).arg("-keyout").arg(&key).arg("-out").arg(&cert);
    let output = command.output().expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
    Certified { cert: read(&cert), key: read(&key) }
}

/// A certificate that is its own issuer and says that it is no authority, with these names and years.
fn self_signed(name: &str, from: i32, until: i32) -> Certified {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("a certificate");
    Certified { cert: cert.pem(), key: key.serialize_pem() }
}

/// The model `m` on an https backend at `host` and `port` that trusts `ca`.
fn config(host: &str, port: u16, ca: &str, more: &str) -> Config {
    let backend = format!("[backend.b1]\nurl = \"https://{host}:{port}\"\nca_file = \"ca.pem\"\n{more}");
    Config::new().key("one", K1, "").file("ca.pem", ca).tables(&backend).model("m", &["b1"], "")
}

/// Asks once; the status, and the reason that the log, the status page and the metrics agree on.
fn reason(gateway: &Gateway) -> (u16, String) {
    let answer = ask(gateway, J, "why");
    let text = answer.text();
    assert!(!text.contains("127.0.0.1") && !text.contains("other error"), "{text}");
    let reason = unreachable(gateway);
    let (_, status) = gateway.ask_admin("/status").expect("a status");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let last = &status["backends"][0]["last_unreachable"];
    assert_eq!(last["reason"].as_str(), Some(&*reason), "{last}");
    let words = format!("backend b1 cannot be reached: {}", last["message"].as_str().expect("words"));
    assert!(eventually(PATIENCE, || gateway.said().contains(&words)), "{words}\n{}", gateway.said());
    (answer.status(), reason)
}

/// The one reason that the metrics have counted.
fn unreachable(gateway: &Gateway) -> String {
    let (_, page) = gateway.ask_admin("/metrics").expect("metrics");
    let name = "ringway_backend_unreachable_total{backend=\"b1\",reason=\"";
    let reasons: Vec<_> =
        page.lines().filter_map(|line| line.strip_prefix(name)?.split('"').next()).collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    reasons[0].to_owned()
}

const SAN: &str = "subjectAltName=IP:127.0.0.1,DNS:localhost";

#[test]
fn a_certificate_that_is_its_own_authority_works() {
    let made: [(&str, Certified); 5] = [
        ("req", openssl("req", &["-subj", "/CN=localhost", "-addext", SAN, "-days", "30"])),
        ("subject", openssl("subject", &["-subj", "/O=Lab/CN=gpu-1", "-addext", SAN])),
        (
            "path length",
            openssl(
                "length",
                &["-subj", "/CN=x", "-addext", SAN, "-addext", "basicConstraints=critical,CA:TRUE,pathlen:0"],
            ),
        ),
        ("no authority", self_signed("127.0.0.1", 2020, 4000)),
        ("pinned", Authority::new().certify("127.0.0.1")),
    ];
    for (name, certified) in made {
        let origin = Origin::start();
        let tunnel = Tunnel::from_tls(origin.port, certified.server());
        let others = Authority::new().pem();
        for ca in [certified.cert.clone(), format!("{others}\n{}", certified.cert)] {
            let gateway = Gateway::start(&config("127.0.0.1", tunnel.port, &ca, QUIET));
            assert_eq!(ask(&gateway, J, "own").status(), 200, "{name}: {}", gateway.said());
            let (status, said) = check(&gateway);
            assert!(status == Some(0) && !said.contains("note:"), "{name}: {said}");
        }
    }
}

/// That a certificate is named does not make another one good, nor itself for another name or time.
#[test]
fn a_named_certificate_is_good_for_its_own_name_and_time_only() {
    let named = openssl("named", &["-subj", "/CN=localhost", "-addext", SAN]);
    let twin = openssl("twin", &["-subj", "/CN=localhost", "-addext", SAN]);
    let other = openssl("other", &["-subj", "/CN=other.test", "-addext", "subjectAltName=DNS:other.test"]);
    let bare = openssl("bare", &["-subj", "/CN=localhost"]);
    let expired = self_signed("127.0.0.1", 2000, 2020);
    let early = self_signed("127.0.0.1", 3000, 4000);
    for (name, shown, ca, expected) in [
        ("another with its subject", &twin, &named.cert, "certificate_invalid"),
        ("one for another name", &other, &other.cert, "certificate_wrong_name"),
        ("one without names", &bare, &bare.cert, "certificate_wrong_name"),
        ("one that has expired", &expired, &expired.cert, "certificate_expired"),
        ("one that is not valid yet", &early, &early.cert, "certificate_not_yet_valid"),
        (
            "one from elsewhere",
            &Authority::new().certify("127.0.0.1"),
            &named.cert,
            "certificate_unknown_issuer",
        ),
    ] {
        let origin = Origin::start();
        let tunnel = Tunnel::from_tls(origin.port, shown.server());
        let gateway = Gateway::start(&config("127.0.0.1", tunnel.port, ca, QUIET));
        assert_eq!(reason(&gateway), (502, expected.to_owned()), "{name}");
        assert!(origin.seen().is_empty(), "{name}: something was sent");
    }
}

#[test]
fn what_is_no_tls_or_no_server_is_named() {
    let ca = Authority::new().pem();
    for (reply, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"[..], "not_tls"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not_tls"),
        (&[21, 3, 3, 0, 2, 2, 40], "tls_alert"), // handshake_failure
        (b"", "closed"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                drain(&mut stream);
                let _ = std::io::Write::write_all(&mut stream, reply);
            }
        });
        let gateway = Gateway::start(&config("127.0.0.1", port, &ca, QUIET));
        assert_eq!(reason(&gateway), (502, expected.to_owned()));
    }

    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let gateway = Gateway::start(&config("127.0.0.1", free, &ca, QUIET));
    assert_eq!(reason(&gateway), (502, "refused".to_owned()));

    let missing = "[backend.b1]\nurl = \"unix:/nowhere/engine.sock\"\nhealth = { enabled = false }";
    let config = Config::new().key("one", K1, "").tables(missing).model("m", &["b1"], "");
    assert_eq!(reason(&Gateway::start(&config)), (502, "no_socket_file".to_owned()));
}

/// Reads what a client hello brings, so that the close that follows is no reset.
fn drain(stream: &mut TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
    while matches!(std::io::Read::read(stream, &mut [0; 4096]), Ok(1..)) {}
}

/// A reason is said once, however often it is met.
#[test]
fn the_log_names_a_reason_once_a_minute() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let gateway = Gateway::start(&Config::simple(free));
    for _ in 0..20 {
        ask(&gateway, J, "again");
    }
    let times = || gateway.said().matches("backend b1 cannot be reached: connection refused").count();
    assert!(eventually(PATIENCE, || times() == 1), "{}", gateway.said());
    let ticks = gateway.metric("ringway_ticks_total", "");
    assert!(eventually(PATIENCE, || gateway.metric("ringway_ticks_total", "") > ticks + 500.0));
    assert_eq!(times(), 1, "{}", gateway.said());
}

/// Without any request, its health probe says why.
#[test]
fn a_probe_names_the_reason() {
    let expired = self_signed("127.0.0.1", 2000, 2020);
    let origin = Origin::start();
    let tunnel = Tunnel::from_tls(origin.port, expired.server());
    let probed = "health = { path = \"/health\", interval = \"200ms\", timeout = \"200ms\" }";
    let gateway = Gateway::start(&config("127.0.0.1", tunnel.port, &expired.cert, probed));
    let down = "backend b1 is down: TLS: its certificate has expired";
    assert!(eventually(PATIENCE, || gateway.said().contains(down)), "{}", gateway.said());
    assert_eq!(unreachable(&gateway), "certificate_expired");
    assert!(eventually(PATIENCE, || gateway
        .said()
        .contains("cannot be reached: its certificate has expired")));
}

#[test]
fn check_says_what_is_wrong_with_a_ca_file() {
    let good = openssl("good", &["-subj", "/CN=localhost", "-addext", SAN]);
    let bare = openssl("nameless", &["-subj", "/CN=localhost"]);
    for (ca, expected) in [
        (bare.cert.clone(), "certificate 1 of 1 has the name localhost in its subject only"),
        (bare.cert.clone(), "subjectAltName=DNS:localhost"),
        (self_signed("localhost", 2000, 2020).cert, "certificate 1 of 1 has expired"),
        (self_signed("localhost", 3000, 4000).cert, "certificate 1 of 1 is not valid yet"),
        (
            format!("{}{}", good.cert, self_signed("localhost", 2000, 2020).cert),
            "certificate 2 of 2 has expired",
        ),
    ] {
        let gateway = Gateway::start(&config("localhost", 1, &ca, QUIET));
        let (status, said) = check(&gateway);
        let note = said.lines().find(|line| line.starts_with("note: backend b1: ca_file ca.pem: "));
        assert!(status == Some(0) && note.is_some_and(|note| note.contains(expected)), "{expected}\n{said}");
    }
    for (ca, expected) in [
        (String::new(), "it is empty"),
        (good.key.clone(), "but a private key"),
        (
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".to_owned(),
            "but a request",
        ),
        (good.cert[..good.cert.len() / 2].to_owned(), "whole PEM from BEGIN to END"),
        ("hello".to_owned(), "expected PEM with BEGIN CERTIFICATE"),
    ] {
        let config = config("localhost", 1, &ca, QUIET);
        let said = Gateway::try_start(&config, Wrapper::Plain).err().expect("it does not start");
        let line = said.lines().find(|line| line.contains("backend.b1.ca_file: ca.pem holds no certificate"));
        assert!(line.is_some_and(|line| line.contains(expected)), "{expected}\n{said}");
    }
}
