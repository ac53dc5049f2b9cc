//! A backend made of a raw TCP server: it records every byte, reads requests strictly, and answers by script.
//!
//! A request with `X-Case: NAME` is answered by the script of that name; every other one by the origin's own script,
//! which is [`echo`] unless the test says otherwise.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::eventually;
use crate::sse;
use crate::strict::{self, Message, Step};

/// Answers one request. What it returns decides about the connection.
pub type Script = dyn Fn(&mut Talk) -> Next + Send + Sync;

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// The next request may come.
    Keep,
    /// FIN.
    Close,
    /// RST.
    Reset,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The connection it came on, by number.
    pub line: usize,
    /// The request.
    pub request: Message,
    /// Its bytes as they came.
    pub raw: Vec<u8>,
}

impl Seen {
    /// The nonce, empty if it has none.
    pub fn nonce(&self) -> String {
        self.request.one("x-nonce")
    }
}

/// One connection from the gateway.
pub struct Line {
    /// Its number, in order of arrival.
    pub id: usize,
    /// Every byte that came.
    pub bytes: Mutex<Vec<u8>>,
    /// Whole requests read from it.
    pub requests: AtomicUsize,
    /// The gateway has ended it.
    pub ended: AtomicBool,
    stream: Mutex<Option<Arc<TcpStream>>>,
}

impl Line {
    fn stream(&self) -> std::io::Result<Arc<TcpStream>> {
        let stream = self.stream.lock().expect("not poisoned").clone();
        stream.ok_or_else(|| ErrorKind::NotConnected.into())
    }

    /// FIN, in both directions.
    fn shut(&self) {
        if let Ok(stream) = self.stream() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// RST: the last owner of the descriptor drops it with nothing to linger for.
    fn reset(&self) {
        if let Some(stream) = self.stream.lock().expect("not poisoned").take() {
            let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
        }
    }
}

struct Shared {
    seen: Mutex<Vec<Seen>>,
    lines: Mutex<Vec<Arc<Line>>>,
    faults: Mutex<Vec<String>>,
    scripts: Mutex<HashMap<String, Arc<Script>>>,
    default: Mutex<Arc<Script>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stop: AtomicBool,
}

/// A scripted backend on a loopback port.
pub struct Origin {
    /// Where it listens.
    pub port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// What a script has in its hands.
pub struct Talk {
    /// The request to answer.
    pub request: Message,
    /// Which request of its connection it is, from 0.
    pub index: usize,
    line: Arc<Line>,
    shared: Arc<Shared>,
}

impl Origin {
    /// An origin that echoes nonces.
    pub fn start() -> Self {
        Self::scripted(echo)
    }

    /// An origin with its own script.
    pub fn scripted(script: impl Fn(&mut Talk) -> Next + Send + Sync + 'static) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); // the kernel chooses: nobody can take it in between
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("an option");
        socket.bind(&address.into()).expect("a port");
        // Longer than the standard library's 128: a thousand connections may come at once.
        socket.listen(4096).expect("a listener");
        Self::on(socket.into(), script)
    }

    /// An origin on a listener that is already there.
    pub fn on(listener: TcpListener, script: impl Fn(&mut Talk) -> Next + Send + Sync + 'static) -> Self {
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            lines: Mutex::default(),
            faults: Mutex::default(),
            scripts: Mutex::default(),
            default: Mutex::new(Arc::new(script)),
            threads: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        listener.set_nonblocking(true).expect("non-blocking accept");
        let own = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || accept(&listener, &own));
        Self { port, shared, accepting: Some(accepting) }
    }

    /// Names a script for `X-Case: name`.
    pub fn case(&self, name: &str, script: impl Fn(&mut Talk) -> Next + Send + Sync + 'static) {
        self.shared.scripts.lock().expect("not poisoned").insert(name.to_owned(), Arc::new(script));
    }

    /// Replaces the origin's own script.
    pub fn set(&self, script: impl Fn(&mut Talk) -> Next + Send + Sync + 'static) {
        *self.shared.default.lock().expect("not poisoned") = Arc::new(script);
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("not poisoned").clone()
    }

    /// The requests so far with this nonce.
    pub fn with_nonce(&self, nonce: &str) -> Vec<Seen> {
        let seen = self.shared.seen.lock().expect("not poisoned");
        seen.iter().filter(|seen| seen.nonce() == nonce).cloned().collect()
    }

    /// Takes the requests that `mine` names; the others stay.
    pub fn take(&self, mine: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let mut seen = self.shared.seen.lock().expect("not poisoned");
        let (taken, rest) = seen.drain(..).partition(|seen| mine(seen));
        *seen = rest;
        taken
    }

    /// All connections so far.
    pub fn lines(&self) -> Vec<Arc<Line>> {
        self.shared.lines.lock().expect("not poisoned").clone()
    }

    /// Connections the gateway holds open.
    pub fn open(&self) -> usize {
        self.lines().iter().filter(|line| !line.ended.load(Ordering::SeqCst)).count()
    }

    /// What the strict reader refused, and half requests at the end of a connection.
    pub fn faults(&self) -> Vec<String> {
        self.shared.faults.lock().expect("not poisoned").clone()
    }
}

/// An origin that streams until it is told to end, and echoes at once where no stream is asked for.
pub fn patient() -> (Origin, Arc<AtomicBool>) {
    let end = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&end);
    let origin = Origin::scripted(move |talk| {
        if !talk.request.text().contains("stream") {
            return echo(talk);
        }
        talk.stream();
        talk.chunk(sse::content("first "));
        while !told.load(Ordering::SeqCst) && !talk.stopped() {
            talk.pause(Duration::from_millis(20));
            if !talk.chunk(": still here\n\n") {
                return Next::Close;
            }
        }
        talk.chunk(sse::content("last"));
        talk.chunk(sse::finish());
        talk.chunk(sse::DONE);
        talk.end()
    });
    (origin, end)
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for line in self.lines() {
            line.shut();
        }
        let threads = std::mem::take(&mut *self.shared.threads.lock().expect("not poisoned"));
        let ends: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
        let panics: Vec<String> =
            ends.into_iter().filter_map(|end| end.err().map(|panic| words(&*panic))).collect();
        // What a script asserts is part of its test. A test that fails already has said why.
        if !panics.is_empty() && !std::thread::panicking() {
            panic!("a script of the origin panicked: {}", panics.join("; "));
        }
    }
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text").to_owned()
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut id = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        stream.set_nonblocking(false).expect("blocking");
        stream.set_nodelay(true).expect("no delay");
        stream.set_write_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let line = Arc::new(Line {
            id,
            bytes: Mutex::default(),
            requests: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            stream: Mutex::new(Some(Arc::new(stream))),
        });
        id += 1;
        shared.lines.lock().expect("not poisoned").push(Arc::clone(&line));
        let own = Arc::clone(shared);
        let thread = std::thread::Builder::new().stack_size(256 << 10);
        let thread = thread.spawn(move || serve(&line, &own)).expect("a thread");
        shared.threads.lock().expect("not poisoned").push(thread);
    }
}

fn serve(line: &Arc<Line>, shared: &Arc<Shared>) {
    let mut held = Vec::new();
    let mut index = 0;
    loop {
        match strict::request(&held) {
            Err(error) => {
                let text = format!("line {}: {error} in {}", line.id, held.escape_ascii());
                shared.faults.lock().expect("not poisoned").push(text);
                break;
            }
            Ok(Step::Done(request, taken)) => {
                let raw: Vec<u8> = held.drain(..taken).collect();
                crate::capture::keep(&request, &raw);
                line.requests.fetch_add(1, Ordering::SeqCst);
                let case = request.one("x-case");
                if request.target() != "/health" {
                    let seen = Seen { line: line.id, request: request.clone(), raw };
                    shared.seen.lock().expect("not poisoned").push(seen);
                }
                let named = shared.scripts.lock().expect("not poisoned").get(&case).cloned();
                let script = named.unwrap_or_else(|| shared.default.lock().expect("not poisoned").clone());
                let mut talk = Talk { request, index, line: Arc::clone(line), shared: Arc::clone(shared) };
                index += 1;
                match script(&mut talk) {
                    Next::Keep => {}
                    Next::Close => break,
                    Next::Reset => {
                        line.reset();
                        return;
                    }
                }
            }
            Ok(Step::Head | Step::Body(_)) => {
                if !read_more(line, &mut held) {
                    break;
                }
            }
        }
    }
    line.shut();
}

/// Reads once; false at the end.
fn read_more(line: &Line, held: &mut Vec<u8>) -> bool {
    let mut block = [0; 64 << 10];
    let Ok(stream) = line.stream() else { return false };
    loop {
        match (&*stream).read(&mut block) {
            Ok(0) => {}
            Ok(count) => {
                held.extend_from_slice(&block[..count]);
                line.bytes.lock().expect("not poisoned").extend_from_slice(&block[..count]);
                return true;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => {}
        }
        line.ended.store(true, Ordering::SeqCst);
        return false;
    }
}

impl Talk {
    /// The nonce of the request.
    pub fn nonce(&self) -> String {
        self.request.one("x-nonce")
    }

    /// Writes; false if the gateway has closed, or takes nothing for a minute.
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> bool {
        self.line.stream().is_ok_and(|stream| (&*stream).write_all(bytes.as_ref()).is_ok())
    }

    /// Sends a whole answer with a length.
    pub fn answer(&self, status: &str, fields: &str, body: &str) -> Next {
        let length = body.len();
        self.send(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n{body}"));
        Next::Keep
    }

    /// Sends the head of a stream in chunks.
    pub fn stream(&self) -> bool {
        self.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    }

    /// Sends one chunk.
    pub fn chunk(&self, data: impl AsRef<[u8]>) -> bool {
        let data = data.as_ref();
        let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
        chunk.extend_from_slice(data);
        chunk.extend_from_slice(b"\r\n");
        self.send(chunk)
    }

    /// Ends a body in chunks.
    pub fn end(&self) -> Next {
        self.send("0\r\n\r\n");
        Next::Keep
    }

    /// Waits until the gateway ends this connection; bytes that come meanwhile are recorded and dropped.
    pub fn gone(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let Ok(stream) = self.line.stream() else {
            return true;
        };
        let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
        let mut block = [0; 4096];
        let gone = loop {
            match (&*stream).read(&mut block) {
                Ok(0) => break true,
                Ok(count) => {
                    self.line.bytes.lock().expect("not poisoned").extend_from_slice(&block[..count]);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
            if Instant::now() > until || self.stopped() {
                break false;
            }
        };
        let _ = stream.set_read_timeout(None);
        if gone {
            self.line.ended.store(true, Ordering::SeqCst);
        }
        gone
    }

    /// Waits until `ready`, the test's end, or a minute. Looks rarely: a thousand of these may wait at once.
    pub fn wait_for(&self, ready: &AtomicBool) -> bool {
        let until = Instant::now() + Duration::from_secs(60);
        while !ready.load(Ordering::SeqCst) && !self.stopped() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        ready.load(Ordering::SeqCst)
    }

    /// Lets time pass: part of what is being simulated, never a way to wait for something.
    pub fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        eventually(time, || Instant::now() >= until || self.stopped());
    }

    /// Whether the test is over.
    pub fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::SeqCst)
    }
}

/// Answers with a chat completion that says the nonce, or a stream that does if the request wants one.
pub fn echo(talk: &mut Talk) -> Next {
    if talk.request.target() == "/health" {
        return talk.answer("200 OK", "", "");
    }
    let nonce = talk.nonce();
    if talk.request.json()["stream"] == true {
        talk.stream();
        for event in sse::stream_of(&nonce, 3) {
            if !talk.chunk(event) {
                return Next::Close;
            }
        }
        return talk.end();
    }
    talk.answer("200 OK", "Content-Type: application/json\r\n", &completion(&nonce))
}

/// Tokens that a [`completion`] has used.
pub const TOKENS: usize = 5;

/// A chat completion that says `text` and has used 3 + 2 tokens.
pub fn completion(text: &str) -> String {
    format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}}}"#
    )
}
