//! Heartbeats before the first event through TLS, through a drain, and past the end of a key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::PATIENCE;
use support::client::Client;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin};
use support::sse::{Ending, judge, stream_of};
use support::tls::{Authority, Tunnel, secured};

const STREAM: &str = r#"{"model":"m","messages":[],"stream":true}"#;
const BEAT: &str = "[timeouts]\nheartbeat = \"100ms\"";

/// A backend that is silent until it is let go.
fn silent(release: &Arc<AtomicBool>) -> Origin {
    let release = Arc::clone(release);
    Origin::scripted(move |talk| {
        if !talk.wait_for(&release) {
            return Next::Close;
        }
        talk.stream();
        talk.chunk(stream_of("late", 1).concat());
        talk.end()
    })
}

fn text_of(mut client: Client) -> String {
    client.answer().expect("a stream").text()
}

fn begun(mut client: Client) -> Client {
    client.send(&support::chat(K1, "x", STREAM));
    client.read_until(": ping\n\n: ping");
    client
}

#[test]
fn early_heartbeats_go_through_tls() {
    let (release, authority) = (Arc::new(AtomicBool::new(false)), Authority::new());
    let origin = silent(&release);
    let config = secured(Config::simple(origin.port).tables(BEAT), &authority.certify("localhost"));
    let gateway = Gateway::start(&config);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        release.store(false, Ordering::SeqCst);
        let tunnel = Tunnel::into_tls(gateway.port, authority.client(version));
        let client = begun(Client::connect(tunnel.port));
        release.store(true, Ordering::SeqCst);
        let text = text_of(client);
        assert_eq!(judge(&text), ("late-0 ".to_owned(), Ending::Finished), "{text}");
    }
}

#[test]
fn early_heartbeats_go_on_through_a_drain() {
    let release = Arc::new(AtomicBool::new(false));
    let origin = silent(&release);
    let mut gateway = Gateway::start(&Config::simple(origin.port).tables(BEAT));
    let mut client = begun(gateway.connect());
    gateway.signal("TERM");
    assert!(support::eventually(PATIENCE, || Client::try_connect(gateway.port).is_err()));
    client.read_until(": ping\n\n: ping\n\n: ping\n\n: ping");
    release.store(true, Ordering::SeqCst);
    let text = text_of(client);
    assert_eq!(judge(&text), ("late-0 ".to_owned(), Ending::Finished), "{text}");
    assert_eq!(gateway.wait(PATIENCE).and_then(|status| status.code()), Some(0));
}

#[test]
fn a_key_that_is_revoked_meanwhile_ends_the_stream_by_name() {
    let release = Arc::new(AtomicBool::new(false));
    let origin = silent(&release);
    let config = || Config::new().backend("b1", origin.port, "").model("m", &["b1"], "").tables(BEAT);
    let gateway = Gateway::start(&config().key("one", K1, ""));
    let client = begun(gateway.connect());
    gateway.rewrite(&config().key("other", support::gateway::K2, ""));
    assert_eq!(gateway.reload().0, 200);
    let text = text_of(client);
    assert_eq!(judge(&text), (String::new(), Ending::Failed("api_key_revoked".into())), "{text}");
}
