//! Backends that ask the gateway for a certificate of its own.

use super::base_urls::check;
use support::gateway::{Config, Gateway, K1, Wrapper};
use support::origin::Origin;
use support::tls::{Authority, Certified, Tunnel, demanding};
use support::{J, PATIENCE, ask, eventually};

const SHOWN: &str = "cert_file = \"client.pem\"\nkey_file = \"client-key.pem\"";

fn config(port: u16, ca: &Authority, client: &Certified, more: &str) -> Config {
    let backend = format!(
        "[backend.b1]\nurl = \"https://127.0.0.1:{port}\"\nca_file = \"ca.pem\"\n{more}\nhealth = {{ enabled = false }}"
    );
    let config = Config::new().key("one", K1, "").file("ca.pem", &ca.pem()).tables(&backend);
    let config = config.file("client.pem", &client.cert).file("client-key.pem", &client.key);
    config.model("m", &["b1"], "")
}

#[test]
fn a_certificate_is_shown_to_a_backend_that_asks_for_one() {
    let (servers, clients, origin) = (Authority::new(), Authority::new(), Origin::start());
    let tunnel = Tunnel::from_tls(origin.port, demanding(&servers.certify("127.0.0.1"), &clients));
    let client = clients.certify("gateway.test");
    let gateway = Gateway::start(&config(tunnel.port, &servers, &client, SHOWN));
    assert_eq!(ask(&gateway, J, "shown").status(), 200, "{}", gateway.said());
    for (name, client, shown) in [
        ("none", clients.certify("gateway.test"), ""),
        ("of another authority", Authority::new().certify("gateway.test"), SHOWN),
        ("expired", clients.certify_until("gateway.test", 2020), SHOWN),
    ] {
        let gateway = Gateway::start(&config(tunnel.port, &servers, &client, shown));
        let refused = ask(&gateway, J, "refused");
        assert_eq!(
            (refused.status(), &refused.json()["error"]["code"]),
            (502, &"backend_tls_failed".into()),
            "{name}"
        );
        assert!(refused.text().contains("client certificate"), "{name}: {refused:?}");
        let status = gateway.ask_admin("/status").expect("a status").1;
        assert!(status.contains("client_certificate_refused"), "{name}: {status}");
    }
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_renewed_certificate_is_used_after_a_reload() {
    let (servers, clients, origin) = (Authority::new(), Authority::new(), Origin::start());
    let tunnel = Tunnel::from_tls(origin.port, demanding(&servers.certify("127.0.0.1"), &clients));
    let old = config(tunnel.port, &servers, &clients.certify_until("gateway.test", 2020), SHOWN);
    let renewed = config(tunnel.port, &servers, &clients.certify("gateway.test"), SHOWN);
    let gateway = Gateway::start(&old);
    assert!(
        gateway.said().contains("cert_file client.pem: certificate 1 of 1 has expired"),
        "{}",
        gateway.said()
    );
    assert_eq!(ask(&gateway, J, "before").status(), 502);
    gateway.rewrite(&renewed);
    let (status, said) = gateway.reload();
    assert_eq!(status, 200, "{said}");
    assert!(eventually(PATIENCE, || ask(&gateway, J, "after").status() == 200));
}

#[test]
fn a_file_that_changes_is_noticed() {
    let (servers, clients, origin) = (Authority::new(), Authority::new(), Origin::start());
    let tunnel = Tunnel::from_tls(origin.port, demanding(&servers.certify("127.0.0.1"), &clients));
    let watched =
        |client: &Certified| config(tunnel.port, &servers, client, SHOWN).tables("[reload]\nwatch = true");
    let gateway = Gateway::start(&watched(&clients.certify_until("gateway.test", 2020)));
    assert_eq!(ask(&gateway, J, "before").status(), 502);
    let renewed = clients.certify("gateway.test");
    std::fs::write(gateway.folder().join("client-key.pem"), &renewed.key).expect("a file");
    std::fs::write(gateway.folder().join("client.pem"), &renewed.cert).expect("a file");
    assert!(eventually(PATIENCE, || ask(&gateway, J, "after").status() == 200), "{}", gateway.said());
}

#[test]
fn what_cannot_be_shown_is_refused_by_name() {
    let (ca, other) = (Authority::new(), Authority::new().certify("gateway.test"));
    let client = ca.certify("gateway.test");
    let with = |cert: &str, key: &str| Certified { cert: cert.to_owned(), key: key.to_owned() };
    for (client, more, expected) in [
        (
            with(&client.cert, &client.key),
            "cert_file = \"client.pem\"",
            "backend.b1.cert_file: has no key_file",
        ),
        (
            with(&client.cert, &client.key),
            "key_file = \"client-key.pem\"",
            "backend.b1.key_file: has no cert_file",
        ),
        (with(&client.cert, &other.key), SHOWN, "backend.b1.cert_file: cannot be used with its key_file"),
        (with(&client.cert, "hello"), SHOWN, "backend.b1.key_file: client-key.pem holds no private key"),
        (
            with(&client.key, &client.key),
            SHOWN,
            "backend.b1.cert_file: client.pem holds no certificate but a private key",
        ),
    ] {
        let said =
            Gateway::try_start(&config(1, &ca, &client, more), Wrapper::Plain).err().expect("no start");
        let secret = client.key.lines().nth(1).unwrap_or("\0");
        assert!(said.contains(expected) && !said.contains(secret), "{expected}\n{said}");
    }
    let (status, said) = check(&Gateway::start(&config(1, &ca, &client, SHOWN)));
    assert!(status == Some(0) && !said.contains("note:"), "{said}");
}
