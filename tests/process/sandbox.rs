//! S27: the gateway does all it does with no more than the systemd unit allows it. Without systemd running, that is
//! its list of system calls, its families of sockets, no new namespaces, no memory both writable and executable, no
//! capability and no core; not its view of files and processes.
#![allow(clippy::print_stdout)] // why a test was skipped

use std::process::{Command, Stdio};
use std::time::Duration;

use rustls::version::TLS13;
use support::gateway::{Config, Gateway, SANDBOX, Wrapper};
use support::origin::Origin;
use support::tls::{Authority, Tunnel, secured};
use support::{J, PATIENCE, chat, check_answers_and_streams, eventually};

/// Whether a command ends well in the sandbox.
fn passes(command: &[&str]) -> bool {
    let mut sandboxed = Command::new(SANDBOX[0]);
    sandboxed.args(&SANDBOX[1..]).args(command).stdout(Stdio::null()).stderr(Stdio::null());
    sandboxed.status().is_ok_and(|status| status.success())
}

/// The sandbox needs python3, a C compiler and systemd-analyze, and knows the numbers of one machine's calls.
fn is_here() -> bool {
    let analyze = Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status();
    let here = cfg!(target_arch = "x86_64") && analyze.is_ok_and(|status| status.success());
    if !here {
        println!("skipped: no systemd-analyze, or another kind of machine");
    }
    here
}

#[test]
fn the_sandbox_holds() {
    if !is_here() {
        return;
    }
    assert!(passes(&["/bin/true"]));
    for command in [
        &["/usr/bin/unshare", "-U", "/bin/true"][..],
        &["/bin/chown", "0", "/dev/null"],
        &["/bin/mount", "-t", "tmpfs", "none", "/mnt"],
    ] {
        assert!(!passes(command), "{command:?}");
    }
}

#[test]
fn it_serves_reloads_and_ends_with_what_the_unit_allows() {
    if !is_here() {
        return;
    }
    let (origin, authority) = (Origin::start(), Authority::new());
    for driver in ["io_uring", "epoll"] {
        let config = Config::simple(origin.port)
            .top(&format!("driver = \"{driver}\""))
            .shards("count = 2\nbusy_poll = \"50us\"")
            .tables("[access_log]\npath = \"stdout\"\n[backend.named]\nurl = \"http://localhost:1\"");
        let config = secured(config, &authority.certify("localhost"));
        let mut gateway = Gateway::start_in(&config, Wrapper::Sandboxed);
        assert_eq!(gateway.status_line("Seccomp"), "2", "{driver}");
        assert_eq!(gateway.status_line("NoNewPrivs"), "1");
        assert_eq!(gateway.status_line("CapEff"), "0000000000000000");

        let tunnel = Tunnel::into_tls(gateway.port, authority.client(&TLS13));
        for _ in 0..4 {
            let mut client = support::client::Client::connect(tunnel.port);
            check_answers_and_streams(&mut client, 8);
            client.send(&chat("wrong", "x", J));
            assert_eq!(client.answer().expect("an answer").status(), 401);
        }
        gateway.rewrite(&config.clone().model("more", &["b1"], ""));
        assert_eq!(gateway.reload().0, 200, "{driver}");
        for path in ["/status", "/metrics", "/healthz"] {
            assert_eq!(gateway.ask_admin(path).expect("an answer").0, 200, "{driver} {path}");
        }
        let logged = || gateway.said().matches("\"api\":\"chat\"").count() >= 64;
        assert!(eventually(PATIENCE, logged), "{driver}: {}", gateway.said());
        gateway.check_alive();
        gateway.signal("TERM");
        let ended = gateway.wait(Duration::from_secs(60));
        assert!(ended.is_some_and(|status| status.success()), "{driver}: {ended:?}\n{}", gateway.said());
    }
}
