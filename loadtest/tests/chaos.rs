//! The fault proxy on real sockets: each fault by what the two sides see.

use loadtest::chaos::{Bytes, Chaos, Ended, Record, Spec, draw};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A proxy before a listener of the test's own.
struct Bench {
    target: TcpListener,
    proxy: Chaos,
    records: Receiver<Record>,
}

impl Bench {
    fn new(faults: &[&str]) -> Self {
        Self::with(faults, |_| {})
    }

    fn with(faults: &[&str], change: impl FnOnce(&mut Spec)) -> Self {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let faults = faults.iter().map(|text| text.parse().unwrap()).collect();
        let mut spec = Spec::new(target.local_addr().unwrap(), faults);
        change(&mut spec);
        let (log, records) = channel();
        // A test that is over does not listen.
        let proxy = Chaos::start(spec, move |record| drop(log.send(record))).unwrap();
        Self { target, proxy, records }
    }

    /// Both ends of a new connection: the client's, then the target's.
    fn pair(&self) -> (TcpStream, TcpStream) {
        let client = dial(self.proxy.address);
        (client, patient(self.target.accept().unwrap().0))
    }

    /// The record of the connection that ends next.
    fn record(&self) -> Record {
        self.records.recv_timeout(PATIENCE).unwrap()
    }
}

fn dial(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(address).unwrap())
}

/// A socket that fails rather than waits for ever.
fn patient(socket: TcpStream) -> TcpStream {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// All bytes to the end, and whether that is a FIN.
fn rest(socket: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    match socket.read_to_end(&mut bytes) {
        Ok(_) => (bytes, true),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => (bytes, false),
        Err(error) => panic!("{error} after {} bytes", bytes.len()),
    }
}

fn exactly(socket: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    socket.read_exact(&mut bytes).unwrap();
    bytes
}

/// Bytes of which no short range comes twice.
fn sample(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 31 + index / 251) as u8).collect()
}

/// Sends all of `bytes` and a FIN, from a thread: more than the buffers hold may be on its way.
fn send(socket: &TcpStream, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
    let mut socket = socket.try_clone().unwrap();
    std::thread::spawn(move || {
        // A receiver that is gone is what some tests are about.
        let _ = socket.write_all(&bytes);
        let _ = socket.shutdown(Shutdown::Write);
    })
}

fn reset(socket: TcpStream) {
    SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn without_faults_bytes_and_ends_pass_in_both_directions() {
    let bench = Bench::new(&[]);
    let (mut client, mut target) = bench.pair();
    let (question, answer) = (sample(300_000), sample(2_000_000));
    let asking = send(&client, question.clone());
    // The client's FIN has passed, and the way back is still open.
    assert_eq!(rest(&mut target), (question, true));
    let answering = send(&target, answer.clone());
    assert_eq!(rest(&mut client), (answer, true));
    asking.join().unwrap();
    answering.join().unwrap();
    let record = bench.record();
    let all = |count| Bytes { read: count, written: count };
    assert_eq!((record.connection, record.ended), (1, Ended::Closed));
    assert_eq!((record.up, record.down), (all(300_000), all(2_000_000)));
    assert!(record.faults.is_empty());
}

#[test]
fn reset_of_either_side_reaches_the_other_behind_its_bytes() {
    let bench = Bench::new(&[]);
    let (mut client, mut target) = bench.pair();
    // The proxy has seen that it is connected.
    client.write_all(b"so?").unwrap();
    exactly(&mut target, 3);
    // More than one read.
    target.write_all(&sample(60_000)).unwrap();
    reset(target);
    assert_eq!(rest(&mut client), (sample(60_000), false));
    assert_eq!(bench.record().ended, Ended::TargetGone);
    let (client, mut target) = bench.pair();
    reset(client);
    assert_eq!(rest(&mut target), (Vec::new(), false));
    assert_eq!(bench.record().ended, Ended::ClientGone);
}

#[test]
fn reset_is_passed_on_to_a_side_that_takes_nothing() {
    let bench = Bench::new(&[]);
    let (client, target) = bench.pair();
    client.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    // Until the buffers on the way are full.
    while { &client }.write(&sample(65_536)).is_ok() {}
    reset(client);
    assert_eq!(bench.record().ended, Ended::ClientGone);
    drop(target);
}

#[test]
fn target_that_refuses_is_a_reset_for_the_client() {
    // Bound and not listening: nobody else gets the port meanwhile.
    let closed = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    closed.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let target = closed.local_addr().unwrap().as_socket().unwrap();
    let bench = Bench::with(&[], |spec| spec.target = target);
    assert_eq!(rest(&mut dial(bench.proxy.address)), (Vec::new(), false));
    assert_eq!(bench.record().ended, Ended::Unreachable);
}

#[test]
fn cut_is_a_fin_at_its_byte_for_either_receiver() {
    let bench = Bench::new(&["cut down at=1000"]);
    let (mut client, mut target) = bench.pair();
    // More than the client will see, and something that the proxy will not have read: still no RST.
    client.write_all(b"hello").unwrap();
    let sending = send(&target, sample(100_000));
    assert_eq!(rest(&mut client), (sample(1000), true));
    drop(client);
    let (hello, fin) = rest(&mut target);
    assert!(fin && b"hello".starts_with(&hello[..]), "{hello:?}");
    sending.join().unwrap();
    let record = bench.record();
    assert_eq!((record.ended, record.down.written), (Ended::Cut, 1000));
    assert_eq!(record.faults[0].to_string(), "cut down at=1000");

    let bench = Bench::new(&["cut up at=0"]);
    let (mut client, mut target) = bench.pair();
    assert_eq!((rest(&mut client), rest(&mut target)), ((Vec::new(), true), (Vec::new(), true)));
}

#[test]
fn reset_is_a_rst_at_its_byte_for_both_sides() {
    let bench = Bench::new(&["reset down at=500"]);
    let (mut client, mut target) = bench.pair();
    target.write_all(&sample(800)).unwrap();
    assert_eq!(rest(&mut client), (sample(500), false));
    assert!(!rest(&mut target).1);
    let record = bench.record();
    assert_eq!((record.ended, record.down.written), (Ended::Reset, 500));
}

#[test]
fn reset_at_0_comes_before_the_target_is_dialled() {
    let bench = Bench::new(&["reset"]);
    assert_eq!(rest(&mut dial(bench.proxy.address)), (Vec::new(), false));
    assert_eq!(bench.record().ended, Ended::Reset);
    bench.target.set_nonblocking(true).unwrap();
    assert_eq!(bench.target.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn half_close_ends_one_direction_and_the_other_goes_on() {
    let bench = Bench::new(&["half-close down at=300"]);
    let (mut client, mut target) = bench.pair();
    let sending = send(&target, sample(100_000));
    assert_eq!(rest(&mut client), (sample(300), true));
    // What follows is taken from the sender all the same.
    sending.join().unwrap();
    client.write_all(&sample(5000)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut target), (sample(5000), true));
    let record = bench.record();
    assert_eq!((record.ended, record.up.written), (Ended::Closed, 5000));
    assert_eq!(record.down, Bytes { read: 100_000, written: 300 });
}

#[test]
fn early_fin_overtakes_the_bytes_that_wait() {
    // Nothing is passed on within the test's time, and reading goes on meanwhile.
    let bench = Bench::new(&["latency up 600s", "early-fin up at=899999"]);
    let (mut client, mut target) = bench.pair();
    client.write_all(&sample(900_000)).unwrap();
    assert_eq!(rest(&mut target), (Vec::new(), true));
    // The way back is open.
    target.write_all(b"what?").unwrap();
    assert_eq!(exactly(&mut client, 5), b"what?");
    drop((client, target));
    let record = bench.record();
    assert_eq!(record.up, Bytes { read: 900_000, written: 0 });
}

#[test]
fn early_fin_waits_for_its_bytes() {
    let bench = Bench::new(&["early-fin up at=1000"]);
    let (mut client, mut target) = bench.pair();
    client.write_all(&sample(1000)).unwrap();
    assert_eq!(exactly(&mut target, 1000), sample(1000));
    client.write_all(b"x").unwrap();
    assert_eq!(rest(&mut target), (Vec::new(), true));
}

#[test]
fn stall_holds_what_follows_its_byte_and_goes_on() {
    let bench = Bench::new(&["stall down at=100 for=300ms"]);
    let (mut client, target) = bench.pair();
    let begin = Instant::now();
    let sending = send(&target, sample(50_000));
    assert_eq!(exactly(&mut client, 100), sample(100));
    assert_eq!(rest(&mut client), (sample(50_000)[100..].to_vec(), true));
    assert!(begin.elapsed() >= Duration::from_millis(300));
    sending.join().unwrap();
}

#[test]
fn freeze_takes_nothing_more_while_the_other_direction_goes_on() {
    let bench = Bench::new(&["freeze up at=10"]);
    let (mut client, mut target) = bench.pair();
    client.write_all(&sample(1000)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(exactly(&mut target, 10), sample(10));
    let sending = send(&target, sample(1_000_000));
    assert_eq!(rest(&mut client), (sample(1_000_000), true));
    sending.join().unwrap();
    target.set_nonblocking(true).unwrap();
    assert_eq!(target.read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let summary = bench.proxy.stop();
    assert_eq!(summary.ended[&Ended::Stopped], 1);
    assert_eq!(summary.up, Bytes { read: 10, written: 10 });
}

#[test]
fn frozen_sender_that_resets_and_a_freeze_with_a_term_end_the_connection() {
    let bench = Bench::new(&["freeze both"]);
    let (client, mut target) = bench.pair();
    (&client).write_all(b"unread").unwrap();
    reset(client);
    assert!(!rest(&mut target).1);
    assert_eq!(bench.record().ended, Ended::ClientGone);

    let bench = Bench::new(&["freeze both for=20ms"]);
    let (mut client, mut target) = bench.pair();
    assert_eq!((rest(&mut client), rest(&mut target)), ((Vec::new(), false), (Vec::new(), false)));
    assert_eq!(bench.record().ended, Ended::Reset);
}

#[test]
fn bandwidth_takes_its_time() {
    let bench = Bench::new(&["bandwidth down 100000"]);
    let (mut client, target) = bench.pair();
    let begin = Instant::now();
    let sending = send(&target, sample(30_000));
    assert_eq!(rest(&mut client), (sample(30_000), true));
    // All but the last write of 2,000 bytes has been waited for.
    assert!(begin.elapsed() >= Duration::from_millis(270), "{:?}", begin.elapsed());
    sending.join().unwrap();
}

#[test]
fn slices_come_one_by_one_and_whole() {
    let bench = Bench::new(&["slice down 1..4 pause=2ms"]);
    let (mut client, target) = bench.pair();
    let begin = Instant::now();
    let sending = send(&target, sample(200));
    assert_eq!(rest(&mut client), (sample(200), true));
    // 200 bytes are 50 pieces at least.
    assert!(begin.elapsed() >= Duration::from_millis(98), "{:?}", begin.elapsed());
    sending.join().unwrap();
}

#[test]
fn first_slice_is_no_larger_than_drawn() {
    let bench = Bench::new(&["slice down 3 pause=600s"]);
    let (mut client, mut target) = bench.pair();
    target.write_all(&sample(200)).unwrap();
    let mut buffer = [0; 200];
    assert_eq!(client.read(&mut buffer).unwrap(), 3);
}

#[test]
fn latency_delays_each_direction_and_keeps_the_order() {
    let bench = Bench::new(&["latency both 60ms jitter=40ms"]);
    let (mut client, mut target) = bench.pair();
    let begin = Instant::now();
    for byte in 0..20 {
        client.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(3));
    }
    let heard = exactly(&mut target, 20);
    assert_eq!(heard, (0..20).collect::<Vec<u8>>());
    target.write_all(&heard).unwrap();
    assert_eq!(exactly(&mut client, 20), heard);
    assert!(begin.elapsed() >= Duration::from_millis(120), "{:?}", begin.elapsed());
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut target), (Vec::new(), true));
}

#[test]
fn duplicate_sends_its_range_twice_and_the_counts_say_so() {
    let bench = Bench::new(&["duplicate down at=10 size=5"]);
    let (mut client, mut target) = bench.pair();
    // Over several reads: the range is put together from them.
    for part in sample(100).chunks(7) {
        target.write_all(part).unwrap();
    }
    target.shutdown(Shutdown::Write).unwrap();
    let (plain, mut wanted) = (sample(100), sample(15));
    wanted.extend_from_slice(&plain[10..]);
    assert_eq!(rest(&mut client), (wanted, true));
    drop((client, target));
    assert_eq!(bench.record().down, Bytes { read: 100, written: 105 });
}

#[test]
fn later_positions_count_the_sender_bytes_only() {
    let bench = Bench::new(&["duplicate down at=0 size=50", "cut down at=60"]);
    let (mut client, mut target) = bench.pair();
    target.write_all(&sample(100)).unwrap();
    assert_eq!(rest(&mut client), ([sample(50), sample(60)].concat(), true));
}

#[test]
fn large_duplicate_over_a_long_stream() {
    let bench = Bench::new(&["duplicate up at=500000 size=65536"]);
    let (client, mut target) = bench.pair();
    let plain = sample(1_000_000);
    let sending = send(&client, plain.clone());
    let wanted = [&plain[..565_536], &plain[500_000..]].concat();
    let (heard, fin) = rest(&mut target);
    assert!(fin && heard == wanted, "{} bytes of {}", heard.len(), wanted.len());
    sending.join().unwrap();
}

#[test]
fn refusal_closes_the_port_and_opens_it_again() {
    let faults = ["refuse for=200ms p=0.5"];
    let parsed = faults.map(|text| text.parse().unwrap());
    let refused = |seed, number| !draw(&parsed, seed, number).is_empty();
    let seed = (0..).find(|seed| refused(*seed, 1) && !refused(*seed, 2) && !refused(*seed, 3)).unwrap();
    let bench = Bench::with(&faults, |spec| spec.seed = seed);
    let begin = Instant::now();
    let mut refusals = 0;
    let client = loop {
        match TcpStream::connect(bench.proxy.address) {
            Ok(client) => break patient(client),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        }
        refusals += 1;
        assert!(begin.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    };
    let (mut client, mut target) = (client, bench.target.accept().unwrap().0);
    assert!(refusals > 0);
    target.write_all(b"open").unwrap();
    assert_eq!(exactly(&mut client, 4), b"open");
    let record = bench.record();
    assert_eq!((record.connection, record.ended), (1, Ended::Refused));
    assert_eq!(record.faults[0].to_string(), "refuse for=200ms");
}

#[test]
fn closed_port_is_not_given_to_others() {
    let bench = Bench::new(&["refuse for=600s"]);
    let plain = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let error = plain.bind(&bench.proxy.address.into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let error = TcpStream::connect(bench.proxy.address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// What connections 1 to 40 drew and came to, one after the other.
fn run(seed: u64) -> Vec<Record> {
    let faults =
        ["cut down at=1..900 p=0.3", "reset down at=1..900 p=0.3", "duplicate down at=0 size=1..99 p=0.5"];
    let bench = Bench::with(&faults, |spec| spec.seed = seed);
    let mut records = Vec::new();
    for _ in 0..40 {
        let (mut client, mut target) = bench.pair();
        target.write_all(&sample(1000)).unwrap();
        target.shutdown(Shutdown::Write).unwrap();
        let (heard, fin) = rest(&mut client);
        drop((client, target));
        let mut record = bench.record();
        assert_eq!((heard.len() as u64, fin), (record.down.written, record.ended != Ended::Reset));
        // How much was read at once is the kernel's to say.
        record.down.read = 0;
        records.push(record);
    }
    records
}

#[test]
fn one_seed_gives_one_run() {
    let records = run(7);
    assert_eq!(records, run(7));
    assert_ne!(records, run(8));
    for ended in [Ended::Cut, Ended::Reset, Ended::Closed] {
        assert!(records.iter().any(|record| record.ended == ended), "no {ended:?}");
    }
}

#[test]
fn one_connection_of_a_run_can_be_seen_again() {
    let wanted = run(7)[24].clone();
    let faults =
        ["cut down at=1..900 p=0.3", "reset down at=1..900 p=0.3", "duplicate down at=0 size=1..99 p=0.5"];
    let bench = Bench::with(&faults, |spec| (spec.seed, spec.first) = (7, 25));
    let (mut client, mut target) = bench.pair();
    target.write_all(&sample(1000)).unwrap();
    target.shutdown(Shutdown::Write).unwrap();
    rest(&mut client);
    drop((client, target));
    let record = bench.record();
    assert_eq!((record.connection, &record.faults, record.ended), (25, &wanted.faults, wanted.ended));
    assert_eq!(record.down.written, wanted.down.written);
}

#[test]
fn many_connections_are_open_at_once() {
    let bench = Bench::new(&["latency both 1ms"]);
    let pairs: Vec<_> = (0..150).map(|_| bench.pair()).collect();
    for (index, (client, _)) in pairs.iter().enumerate() {
        { client }.write_all(&(index as u64).to_be_bytes()).unwrap();
    }
    let mut heard: Vec<u64> = pairs
        .iter()
        .map(|(_, target)| {
            let mut bytes = [0; 8];
            { target }.read_exact(&mut bytes).unwrap();
            u64::from_be_bytes(bytes)
        })
        .collect();
    heard.sort_unstable();
    assert_eq!(heard, (0..150).collect::<Vec<_>>());
    let summary = bench.proxy.stop();
    assert_eq!((summary.ended[&Ended::Stopped], summary.up.written), (150, 1200));
    // Stopped is closed: every client hears of it.
    assert!(pairs.into_iter().all(|(mut client, _)| rest(&mut client).0.is_empty()));
}

#[test]
fn address_in_use_is_an_error() {
    let taken = Socket::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = taken.local_addr().unwrap().as_socket().unwrap();
    let spec = Spec { listen: address, ..Spec::new(address, Vec::new()) };
    let error = Chaos::start(spec, |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

/// The command, running; a test that fails leaves none behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is what most tests leave.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The command, its standard output, and where it listens.
fn command(arguments: &[&str]) -> (Running, BufReader<ChildStdout>, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["chaos", "--listen", "127.0.0.1:0"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let address = line.strip_prefix("chaos listens on ").unwrap().split(' ').next().unwrap();
    (Running(child), out, address.parse().unwrap())
}

#[test]
fn command_logs_each_connection_and_sums_up_when_terminated() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let target_address = target.local_addr().unwrap().to_string();
    let log = std::env::temp_dir().join(format!("loadtest-chaos-{}.jsonl", std::process::id()));
    let arguments =
        ["--target", &target_address, "--seed", "7", "--first", "3", "--log", log.to_str().unwrap()];
    let faults = ["--fault", "cut down at=5", "--fault", "latency up 1ms jitter=2ms"];
    let (mut child, mut out, address) = command(&[&arguments[..], &faults].concat());
    let mut client = dial(address);
    let mut accepted = patient(target.accept().unwrap().0);
    accepted.write_all(b"1234567").unwrap();
    assert_eq!(rest(&mut client), (b"12345".to_vec(), true));
    drop((client, accepted));
    let begin = Instant::now();
    while std::fs::metadata(&log).unwrap().len() == 0 {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(2));
    }
    let id = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let mut told = String::new();
    out.read_to_string(&mut told).unwrap();
    assert!(child.0.wait().unwrap().success());
    assert_eq!(told, "chaos: 1 connections, 1 cut; bytes read and written: up 0 0, down 7 5\n");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    let wanted = r#"{"connection":3,"faults":["cut down at=5","latency up 1ms jitter=2ms"],"#.to_owned()
        + r#""up":{"read":0,"written":0},"down":{"read":7,"written":5},"ended":"cut"}"#;
    assert_eq!(text, wanted + "\n");
}

#[test]
fn command_says_which_fault_is_wrong_and_its_form() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["chaos", "--fault", "reset", "--fault", "cut down at=x"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    for part in [r#"fault "cut down at=x""#, r#""x" is neither"#, "cut [up|down|both] at=N|A..B [p=SHARE]"] {
        assert!(error.contains(part), "{error}");
    }
}

/// How long a test waits for what must come; never for what must not.
const PATIENCE: Duration = Duration::from_secs(60);
