//! A name with several addresses: all of them serve, and one that does not is gone round.
//!
//! Names are lines of a hosts file, which takes a namespace of its own; elsewhere the tests say that they were skipped.
#![allow(clippy::print_stdout)] // why a test was skipped

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};

use support::client::Client;
use support::gateway::{Config, Gateway, K1};
use support::origin::{Next, Origin, Talk};
use support::strict::Message;
use support::tls::{Authority, Tunnel};
use support::{J, PATIENCE, chat, eventually};

const QUIET: &str = "health = { enabled = false }";

/// Runs `test` where the name `engine.test` has these addresses, in this order.
pub(super) fn with_name(
    test_name: &str,
    addresses: &[&str],
    kind: CloneFlags,
    test: impl FnOnce() + Send + 'static,
) {
    let lines: String = addresses.iter().map(|address| format!("{address} engine.test\n")).collect();
    let file = std::env::temp_dir().join(format!("ringway-hosts-{}-{test_name}", std::process::id()));
    fs::write(&file, format!("127.0.0.1 localhost\n{lines}")).expect("a hosts file");
    let hosts = file.clone();
    let thread = std::thread::spawn(move || match unshare(kind | CloneFlags::CLONE_NEWNS) {
        Ok(()) => {
            runs("mount", &["--make-rprivate", "/"]);
            runs("mount", &["--bind", hosts.to_str().expect("UTF-8"), "/etc/hosts"]);
            test();
        }
        Err(error) => println!("skipped: no namespace of its own: {error}"),
    });
    let result = thread.join();
    let _ = fs::remove_file(&file);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn runs(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {arguments:?}");
}

/// One port that is free on all of these addresses, bound but not listened on.
pub(super) fn bound(addresses: &[&str]) -> (Vec<Socket>, u16) {
    for _ in 0..100 {
        let mut port = 0;
        let mut sockets = Vec::new();
        for address in addresses {
            let address = SocketAddr::new(address.parse::<IpAddr>().expect("an address"), port);
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
            if socket.bind(&address.into()).is_ok() {
                let local = socket.local_addr().expect("an address");
                port = local.as_socket().expect("TCP").port();
                sockets.push(socket);
            }
        }
        if sockets.len() == addresses.len() {
            return (sockets, port);
        }
    }
    panic!("no port is free on all addresses");
}

pub(super) fn listen(socket: Socket) -> TcpListener {
    socket.listen(128).expect("it listens");
    socket.into()
}

/// An origin that answers with its name.
fn origin(socket: Socket, name: &str) -> Origin {
    let said = format!("{{\"from\":\"{name}\"}}");
    Origin::on(listen(socket), move |talk: &mut Talk| -> Next { talk.answer("200 OK", "", &said) })
}

/// An address whose connections neither open nor fail: its queue is full. Lasts as long as what is returned.
fn hang(socket: &Socket) -> Vec<Socket> {
    socket.listen(0).expect("it listens");
    let address = socket.local_addr().expect("an address");
    let fill = || {
        let client = Socket::new(address.domain(), Type::STREAM, None).expect("a socket");
        client.set_nonblocking(true).expect("non-blocking");
        let _ = client.connect(&address);
        client
    };
    let filling = (0..4).map(|_| fill()).collect();
    let to = address.as_socket().expect("TCP");
    assert!(TcpStream::connect_timeout(&to, Duration::from_millis(300)).is_err(), "its queue is not full");
    filling
}

fn config(port: u16, more: &str) -> Config {
    let backend = format!("[backend.b1]\nurl = \"http://engine.test:{port}\"\n{QUIET}");
    let timeouts = format!("[timeouts]\nconnect = \"2s\"\n{more}");
    Config::new().tables(&backend).tables(&timeouts).model("m", &["b1"], "").key("one", K1, "")
}

fn ask(client: &mut Client) -> Message {
    client.send(&chat(K1, "turn", J));
    client.answer().expect("an answer")
}

/// Who answered how many of `count` requests, one after the other.
fn shares(gateway: &Gateway, count: usize) -> BTreeMap<String, usize> {
    let mut client = gateway.connect();
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        let answer = ask(&mut client);
        assert_eq!(answer.status(), 200, "{answer:?}");
        *shares.entry(answer.json()["from"].as_str().expect("a name").to_owned()).or_default() += 1;
    }
    shares
}

const THREE: [&str; 3] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];

#[test]
fn all_addresses_of_a_name_serve() {
    with_name("all", &THREE, CloneFlags::empty(), || {
        let (sockets, port) = bound(&THREE);
        let origins: Vec<_> =
            sockets.into_iter().zip(THREE).map(|(socket, name)| origin(socket, name)).collect();
        let gateway = Gateway::start(&config(port, "").shards("count = 1"));
        let shares = shares(&gateway, 30);
        assert_eq!(shares.values().copied().collect::<Vec<_>>(), [10, 10, 10], "{shares:?}");
        let lines: usize = origins.iter().map(|origin| origin.lines().len()).sum();
        assert_eq!(lines, 3, "connections are kept, one to each");
        let mut clients: Vec<_> = (0..30).map(|_| gateway.connect()).collect();
        clients.iter_mut().for_each(|client| assert!(client.send(&chat(K1, "at once", J))));
        clients.iter_mut().for_each(|client| assert_eq!(client.answer().expect("an answer").status(), 200));
        for origin in &origins {
            assert_eq!(origin.seen().len(), 20, "thirty at once, ten each");
        }
    });
}

#[test]
fn an_address_that_refuses_is_gone_round_and_comes_back() {
    with_name("refuses", &THREE, CloneFlags::empty(), || {
        for (dead, dead_name) in THREE.into_iter().enumerate() {
            let (sockets, port) = bound(&THREE);
            let mut silent = None;
            let mut origins = Vec::new();
            for (at, (socket, name)) in sockets.into_iter().zip(THREE).enumerate() {
                if at == dead { silent = Some(socket) } else { origins.push(origin(socket, name)) }
            }
            let gateway = Gateway::start(&config(port, ""));
            let shares_now = shares(&gateway, 12);
            assert!(shares_now.len() == 2 && !shares_now.contains_key(dead_name), "{shares_now:?}");
            let _back = origin(silent.expect("one of them"), dead_name);
            let returned = || shares(&gateway, 6).contains_key(dead_name);
            assert!(eventually(PATIENCE, returned), "an address is given up for good");
        }
    });
}

#[test]
fn an_address_that_does_not_accept_costs_no_more_than_a_moment() {
    with_name("hangs", &THREE, CloneFlags::empty(), || {
        for (alive, alive_name) in THREE.into_iter().enumerate() {
            let (sockets, port) = bound(&THREE);
            let (mut filling, mut held, mut origins) = (Vec::new(), Vec::new(), Vec::new());
            for (at, (socket, name)) in sockets.into_iter().zip(THREE).enumerate() {
                if at == alive {
                    origins.push(origin(socket, name));
                } else {
                    filling.extend(hang(&socket));
                    held.push(socket);
                }
            }
            let gateway = Gateway::start(&config(port, "").shards("count = 1"));
            let started = Instant::now();
            assert_eq!(shares(&gateway, 1).len(), 1, "within the time to connect");
            assert!(started.elapsed() < Duration::from_millis(1_500), "{:?}", started.elapsed());
            let started = Instant::now();
            assert_eq!(shares(&gateway, 5).into_keys().collect::<Vec<_>>(), [alive_name]);
            assert!(
                started.elapsed() < Duration::from_millis(1_000),
                "each waits anew: {:?}",
                started.elapsed()
            );
            assert!(eventually(PATIENCE, || connecting(port) == 0), "attempts that lost go on");
        }
    });
}

/// Connections of this machine to `port` that are being opened (proc(5)): `SYN_SENT` is 02.
fn connecting(port: u16) -> usize {
    let table = fs::read_to_string("/proc/thread-self/net/tcp").expect("a table");
    let ours = |line: &&str| {
        let mut columns = line.split_whitespace().skip(2);
        columns.next().is_some_and(|remote| remote.ends_with(&format!(":{port:04X}")))
            && columns.next() == Some("02")
    };
    // Those that fill the queue belong to this process; a gateway's have an inode that we do not hold.
    let held = held_inodes();
    table.lines().skip(1).filter(ours).filter(|line| !held.iter().any(|inode| line.contains(inode))).count()
}

/// The sockets of this process, as the kernel numbers them.
fn held_inodes() -> Vec<String> {
    let descriptors = fs::read_dir("/proc/self/fd").expect("a folder").flatten();
    let links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    let names = links.filter_map(|link| link.to_str().map(str::to_owned));
    names
        .filter_map(|name| Some(format!(" {} ", name.strip_prefix("socket:[")?.strip_suffix(']')?)))
        .collect()
}

#[test]
fn nobody_who_accepts_is_told_within_the_time_to_connect() {
    with_name("nobody", &THREE, CloneFlags::empty(), || {
        let (sockets, port) = bound(&THREE);
        let gateway = Gateway::start(&config(port, ""));
        assert_eq!(ask(&mut gateway.connect()).status(), 502, "all of them refuse");
        let _filling: Vec<_> = sockets.iter().map(hang).collect();
        let gateway = Gateway::start(&config(port, ""));
        let started = Instant::now();
        assert_eq!(ask(&mut gateway.connect()).status(), 504, "all of them hang");
        let took = started.elapsed();
        assert!(took > Duration::from_millis(1_800) && took < Duration::from_secs(6), "{took:?}");
    });
}

/// A family that leads nowhere, by refusal and by having no route.
#[test]
fn a_family_that_is_unreachable_is_gone_round() {
    const MIXED: [&str; 5] = ["2001:db8::1", "::1", "192.0.2.1", "127.0.0.1", "2001:db8::2"];
    with_name("families", &MIXED, CloneFlags::CLONE_NEWNET, || {
        const UP: &str = "import fcntl, socket, struct\n\
            fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 0x41))";
        runs("python3", &["-c", UP]);
        for alive in ["127.0.0.1", "::1"] {
            let (mut sockets, port) = bound(&[alive]);
            let _origin = origin(sockets.remove(0), alive);
            let gateway = Gateway::start(&config(port, ""));
            for _ in 0..3 {
                assert_eq!(shares(&gateway, 8), BTreeMap::from([(alive.to_owned(), 8)]));
            }
        }
    });
}

/// One address whose certificate does not fit, among others: TLS is part of reaching it.
#[test]
fn an_address_whose_tls_fails_is_gone_round() {
    with_name("tls", &["127.0.0.1", "127.0.0.2"], CloneFlags::empty(), || {
        let (sockets, port) = bound(&["127.0.0.1", "127.0.0.2"]);
        let authority = Authority::new();
        let origin = Origin::start();
        let mut tunnels = Vec::new();
        for (socket, name) in sockets.into_iter().zip(["engine.test", "other.test"]) {
            tunnels.push(Tunnel::from_tls_on(listen(socket), origin.port, authority.certify(name).server()));
        }
        let backend =
            format!("[backend.b1]\nurl = \"https://engine.test:{port}\"\nca_file = \"ca.pem\"\n{QUIET}");
        let config = Config::new().file("ca.pem", &authority.pem()).tables(&backend);
        let gateway = Gateway::start(&config.model("m", &["b1"], "").key("one", K1, ""));
        for _ in 0..12 {
            assert_eq!(ask(&mut gateway.connect()).status(), 200);
        }
        assert_eq!(origin.seen().len(), 12);
    });
}

/// Handshakes are dear, so kept TLS connections are used again; but no address is used for ever.
#[test]
fn kept_tls_connections_are_spread_too() {
    with_name("kept", &THREE, CloneFlags::empty(), || {
        let (sockets, port) = bound(&THREE);
        let authority = Authority::new();
        let origin = Origin::start();
        let certified = authority.certify("engine.test");
        let tunnels: Vec<_> = sockets
            .into_iter()
            .map(|socket| Tunnel::from_tls_on(listen(socket), origin.port, certified.server()))
            .collect();
        let backend =
            format!("[backend.b1]\nurl = \"https://engine.test:{port}\"\nca_file = \"ca.pem\"\n{QUIET}");
        let config = Config::new().file("ca.pem", &authority.pem()).tables(&backend).shards("count = 1");
        let gateway = Gateway::start(&config.model("m", &["b1"], "").key("one", K1, ""));
        let mut client = gateway.connect();
        for _ in 0..200 {
            assert_eq!(ask(&mut client).status(), 200);
        }
        let handshakes: Vec<_> = tunnels.iter().map(|tunnel| tunnel.agreed().len()).collect();
        assert!(handshakes.iter().all(|count| *count > 0), "{handshakes:?}");
        assert!(handshakes.iter().sum::<usize>() < 40, "{handshakes:?}");
    });
}

/// An address that accepts and never speaks TLS, among others: the next one has its turn within the time to connect.
#[test]
fn an_address_that_is_silent_in_tls_is_gone_round() {
    with_name("silent-tls", &THREE, CloneFlags::empty(), || {
        let (sockets, port) = bound(&THREE);
        let authority = Authority::new();
        let origin = Origin::start();
        let certified = authority.certify("engine.test");
        let mut sockets = sockets.into_iter();
        let _silent: Vec<TcpListener> = sockets.by_ref().take(2).map(listen).collect();
        let _tunnel =
            Tunnel::from_tls_on(listen(sockets.next().expect("a third")), origin.port, certified.server());
        let backend =
            format!("[backend.b1]\nurl = \"https://engine.test:{port}\"\nca_file = \"ca.pem\"\n{QUIET}");
        let config = Config::new().file("ca.pem", &authority.pem()).tables(&backend).shards("count = 1");
        let config = config.tables("[timeouts]\nconnect = \"3s\"").model("m", &["b1"], "").key("one", K1, "");
        let gateway = Gateway::start(&config);
        for _ in 0..6 {
            assert_eq!(ask(&mut gateway.connect()).status(), 200, "{}", gateway.said());
        }
        assert_eq!(origin.seen().len(), 6);
    });
}
