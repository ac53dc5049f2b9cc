//! A short request on warm connections takes nothing from the allocator, on either driver.
//!
//! The shard runs inside this process under an allocator that counts what its thread takes; backend and client are
//! threads of the test and are not counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringway::config::{self, Process};
use ringway::net::listen::{self, Spill};
use ringway::net::runtime::{Driver, ShardRuntime};
use ringway::observe::journal::{SEGMENT_BYTES, Segment};
use ringway::observe::{self, Journal, Rows, Totals};
use ringway::plan::Control;
use ringway::shard::ShardParts;
use ringway::units::{Nanos, ShardId};

/// Counts what threads take that ask to be counted.
struct Counting;

static TAKEN: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        TAKEN.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// For a step that hangs.
const PATIENCE: Duration = Duration::from_secs(20);
const ANSWER: &str = r#"{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;
const BODY: &str = r#"{"model":"public","messages":[{"role":"user","content":"hi"}],"max_tokens":4}"#;
const KEY: &str = "sk-rw-bench-0123456789abcdef0123456789abcdef";
const DIGEST: &str = "55f271aba1499e9bc826cc4472f58b749dc89750216a7f9008d2c9ce8cc24034";

/// Answers every request on one connection after the other.
fn backend(listener: TcpListener) {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    for stream in listener.incoming().take(1) {
        let mut stream = stream.expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut block = [0; 4096];
        // The gateway sends each of these small requests in one segment.
        while let Ok(1..) = stream.read(&mut block) {
            stream.write_all(answer.as_bytes()).expect("the gateway reads");
        }
    }
}

/// Sends one request and reads its answer to the end; its status line.
fn exchange(stream: &mut TcpStream, request: &[u8], block: &mut [u8]) -> String {
    stream.write_all(request).expect("the gateway reads");
    let mut filled = 0;
    loop {
        let count = stream.read(&mut block[filled..]).expect("an answer");
        assert!(count > 0, "the gateway closed");
        filled += count;
        let text = std::str::from_utf8(&block[..filled]).expect("text");
        if text.ends_with(ANSWER) {
            return text.lines().next().unwrap_or_default().to_owned();
        }
    }
}

/// Two turns of the second, and some.
const WARM_UP: Duration = Duration::from_millis(2_200);

/// A journal with room for every exchange of the test, so that appending to it is measured, too.
fn journal() -> Journal {
    let (journal, lane) = observe::journal::channel();
    let name = format!("ringway-allocations-{}-{:?}", std::process::id(), thread::current().id());
    let path = std::env::temp_dir().join(name);
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
    std::fs::remove_file(&path).expect("it stays open");
    file.set_len(SEGMENT_BYTES as u64).expect("room");
    assert!(lane.prepare(Segment::new(&file, 0).expect("a mapping")).is_ok());
    journal
}

fn run(driver: Driver) {
    let behind = TcpListener::bind("127.0.0.1:0").expect("a port");
    let backend_port = behind.local_addr().expect("an address").port();
    let backend = thread::spawn(move || backend(behind));

    let text = format!(
        "listen = \"127.0.0.1:0\"\n[shards]\ncores = [0]\n[backend.one]\nurl = \"http://127.0.0.1:{backend_port}\"\n\
         kind = \"vllm\"\n[model.public]\nbackends = [{{ name = \"one\", model = \"own\" }}]\n\
         [key.test]\nsha256 = \"{DIGEST}\"\nrequests_per_minute = 1_000_000\ntokens_per_minute = 1_000_000_000\n\
         in_flight_max = 100\n"
    );
    let written = config::read(Path::new("test.toml"), &text).expect("a configuration");
    let compiled = config::compile(&written, &Process).unwrap_or_else(|problems| panic!("{problems}"));
    let plan = Arc::new(compiled.plan);
    ringway::coordinator::resolve::initial(&plan, Duration::from_secs(1));
    let listener = listen::bind(plan.listeners[0].address).expect("a port");
    let address = listener.local_addr().expect("an address");
    let (spill, mut wakeups) = Spill::new(1).expect("a socket pair");
    let rows = Rows { keys: 1, models: 1, backends: 1 };
    let (outbox, inbox) = observe::channel(ShardId::new(0), rows, None);
    let control = Arc::new(Control::new(1));
    let wakeup = wakeups.pop().expect("a wake-up socket");
    let parts = ShardParts {
        id: ShardId::new(0),
        plan,
        listeners: vec![(0, listener)],
        spill,
        wakeup,
        mailbox: Arc::default(),
        outbox,
        control: Arc::clone(&control),
    };
    let gateway = thread::spawn(move || {
        let (mut runtime, _) = ShardRuntime::build(256, Some(driver)).expect("a runtime");
        let shard = runtime.run(async { parts.listen() }).expect("a listener and a timer");
        journal().install();
        COUNTED.set(true);
        let result = runtime.run(shard.run());
        COUNTED.set(false);
        result
    });

    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut block = vec![0; 16 * 1024];
    // Two sets of histograms take turns, a second each, and each makes its own for a model when it first sees it.
    let mut totals = Totals::new(1);
    let started = Instant::now();
    while started.elapsed() < WARM_UP {
        assert_eq!(exchange(&mut stream, request.as_bytes(), &mut block), "HTTP/1.1 200 OK");
        inbox.merge_into(&mut totals, Some);
    }
    let before = TAKEN.load(Ordering::Relaxed);
    for _ in 0..100 {
        exchange(&mut stream, request.as_bytes(), &mut block);
    }
    let taken = TAKEN.load(Ordering::Relaxed) - before;

    drop(stream);
    control.stop(Nanos(0));
    gateway.join().expect("no panic").expect("an orderly end");
    backend.join().expect("no panic");
    assert!(before > 0, "nothing is counted at all");
    assert_eq!(taken, 0, "allocations in 100 warm requests on {}", driver.name());
}

#[test]
fn a_warm_short_request_allocates_nothing() {
    // One after the other: the counter is one for the process.
    run(Driver::Epoll);
    run(Driver::IoUring);
}
