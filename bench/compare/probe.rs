//! The load of one window: N connections in a closed loop, every answer checked whole, one line of JSON.
//!
//! `probe json|stream --target ADDRESS --connections N --seconds S --body TEXT [--header 'k: v']...`
//!
//! Options: `--path /v1/chat/completions`; `--warmup S` before the window (1); `--events N` each stream must
//! hold; `--bytes MIN-MAX` of each body; `--once`: a new connection each, one exchange each, the window ends
//! with the last; `--ramp-ms MS` to spread the starts over; `--stall-ms MS` after which an exchange has
//! failed (30000); `--watch FILE`, read as the window opens and closes, so that CPU time and completions
//! belong to exactly the same span.
//!
//! It runs on epoll, one thread, a few microseconds per request. Latency runs from before the write to the end
//! of the body; TTFT to the read that brings the first event; a gap is the time between two events, zero
//! for events that came in one read. Only what completes inside the window counts; a failure counts always.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // a tool's only voice

mod answer;

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use answer::{Answer, Expected};

fn main() {
    let plan = Plan::from_arguments().unwrap_or_else(|error| {
        eprintln!("probe: {error}");
        std::process::exit(2);
    });
    match Run::new(plan).and_then(Run::finish) {
        Ok(line) => println!("{line}"),
        Err(error) => {
            eprintln!("probe: {error}");
            std::process::exit(1);
        }
    }
}

/// What was asked for.
struct Plan {
    is_stream: bool,
    target: SocketAddr,
    connections: usize,
    warmup: Duration,
    window: Duration,
    once: bool,
    ramp: Duration,
    stall: Duration,
    request: Vec<u8>,
    expected: Expected,
    watched: Vec<String>,
}

/// One connection, by its place in `Run::lanes`.
struct Lane {
    /// `None`: not yet opened, or finished (`--once`).
    stream: Option<TcpStream>,
    phase: Phase,
    /// Since the connect or the request began.
    since: Instant,
    /// Bytes of the request not yet taken by the socket.
    unsent: usize,
    /// The connection carried an exchange before this one.
    reused: bool,
    /// A byte of the answer has come.
    answered: bool,
    last_event: Option<Instant>,
    answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Unopened,
    Connecting,
    Busy,
    Finished,
}

/// Everything counted; the histograms are in nanoseconds.
struct Tally {
    completed: u64,
    events: u64,
    failed: u64,
    failures: BTreeMap<String, u64>,
    /// Connections closed by the other side between two exchanges: reopened, no failure.
    retried: u64,
    latency: Histogram<u64>,
    ttft: Histogram<u64>,
    gap: Histogram<u64>,
    body_bytes: (u64, u64),
    event_count: (u32, u32),
}

/// The window and all that runs in it.
struct Run {
    plan: Plan,
    poll: Poll,
    lanes: Vec<Lane>,
    unopened: usize,
    connecting: usize,
    finished: usize,
    /// Inside the window.
    counts: bool,
    tally: Tally,
}

impl Run {
    fn new(plan: Plan) -> io::Result<Self> {
        let now = Instant::now();
        let lane = || Lane {
            stream: None,
            phase: Phase::Unopened,
            since: now,
            unsent: 0,
            reused: false,
            answered: false,
            last_event: None,
            answer: Answer::new(plan.is_stream),
        };
        Ok(Self {
            poll: Poll::new()?,
            lanes: (0..plan.connections).map(|_| lane()).collect(),
            unopened: 0,
            connecting: 0,
            finished: 0,
            counts: plan.once,
            tally: Tally::new(),
            plan,
        })
    }

    fn finish(mut self) -> io::Result<String> {
        let began = Instant::now();
        let mut before = if self.plan.once { self.watch() } else { String::new() };
        let mut window_began = self.plan.once.then_some(began);
        let mut ready: Option<Instant> = None;
        let mut swept = began;
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let now = Instant::now();
            self.open_more(now, now - began);
            let opened = self.unopened == self.lanes.len() && self.connecting == 0;
            if opened && ready.is_none() {
                ready = Some(now);
            }
            if window_began.is_none() && ready.is_some_and(|ready| now - ready >= self.plan.warmup) {
                before = self.watch();
                self.counts = true;
                window_began = Some(Instant::now());
            }
            if now - swept >= SWEEP_INTERVAL {
                swept = now;
                self.fail_stalled(now);
            }
            let over = window_began.is_some_and(|at| now - at >= self.plan.window);
            let overdue = ready.is_none() && now - began > RAMP_MAX;
            if over || overdue || self.finished == self.lanes.len() || self.tally.failed > FAILURES_MAX {
                break;
            }
            let patience = if opened { POLL_MAX } else { POLL_MAX_OPENING };
            match self.poll.poll(&mut events, Some(patience)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                self.turn(event.token().0, event.is_read_closed(), &mut buffer);
            }
        }
        let ended = Instant::now();
        let after = self.watch();
        self.fail_stalled(ended);
        if self.plan.once {
            for lane in 0..self.lanes.len() {
                if self.lanes[lane].phase != Phase::Finished {
                    self.tally.fail("unfinished");
                }
            }
        } else if window_began.is_none() {
            self.tally.fail("window never opened");
        }
        let window = window_began.map_or(Duration::ZERO, |at| ended - at);
        Ok(self.tally.line(&self.plan, window, &before, &after))
    }

    /// Opens the next connections, as many at a time as a listen queue takes.
    fn open_more(&mut self, now: Instant, elapsed: Duration) {
        while self.unopened < self.lanes.len() && self.connecting < CONNECTING_MAX {
            let due = self.plan.ramp.mul_f64(self.unopened as f64 / self.lanes.len() as f64);
            if elapsed < due {
                return;
            }
            self.unopened += 1;
            self.open(self.unopened - 1, now);
        }
    }

    fn open(&mut self, index: usize, now: Instant) {
        let opened = TcpStream::connect(self.plan.target).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(index), interest)?;
            Ok(stream)
        });
        let lane = &mut self.lanes[index];
        lane.since = now;
        lane.reused = false;
        match opened {
            Ok(stream) => {
                lane.stream = Some(stream);
                lane.phase = Phase::Connecting;
                self.connecting += 1;
            }
            Err(error) => {
                lane.phase = Phase::Finished;
                self.finished += 1;
                self.tally.fail(&format!("rig: {}", error.kind()));
            }
        }
    }

    /// Goes on with one connection until it has to wait. `ending`: the other side has closed, so read to the end.
    fn turn(&mut self, index: usize, ending: bool, buffer: &mut [u8]) {
        if self.lanes[index].phase == Phase::Connecting {
            let Some(stream) = &self.lanes[index].stream else {
                return;
            };
            match (stream.take_error(), stream.peer_addr()) {
                (Ok(None), Ok(_)) => {
                    let _ = stream.set_nodelay(true);
                    self.connecting -= 1;
                    self.begin(index);
                }
                (Ok(None), Err(error)) if error.kind() == io::ErrorKind::NotConnected => {}
                _ => {
                    self.close(index, "connect");
                }
            }
            return;
        }
        if self.lanes[index].phase != Phase::Busy {
            return;
        }
        if self.lanes[index].unsent > 0 {
            self.send(index);
        }
        // Edge-triggered: read until a short read, which says that the socket is empty.
        while self.lanes[index].phase == Phase::Busy {
            let Some(stream) = &mut self.lanes[index].stream else {
                return;
            };
            match stream.read(buffer) {
                Ok(0) => self.closed(index),
                Ok(count) => {
                    self.received(index, &buffer[..count]);
                    if count < buffer.len() && !ending {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.closed(index),
            }
        }
    }

    fn begin(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        lane.answer.reset();
        lane.phase = Phase::Busy;
        lane.answered = false;
        lane.last_event = None;
        lane.unsent = self.plan.request.len();
        lane.since = Instant::now();
        self.send(index);
    }

    fn send(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        let Some(stream) = &mut lane.stream else { return };
        let from = self.plan.request.len() - lane.unsent;
        match stream.write(&self.plan.request[from..]) {
            Ok(count) => lane.unsent -= count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.closed(index),
        }
    }

    fn received(&mut self, index: usize, bytes: &[u8]) {
        let now = Instant::now();
        let lane = &mut self.lanes[index];
        lane.answered = true;
        let taken = match lane.answer.take(bytes, &self.plan.expected) {
            Ok(taken) => taken,
            Err(what) => return self.close(index, what),
        };
        if taken.events > 0 {
            let since = lane.last_event.replace(now);
            if self.counts {
                self.tally.events += u64::from(taken.events);
                match since {
                    Some(last) => record(&mut self.tally.gap, now - last, 1),
                    None => record(&mut self.tally.ttft, now - lane.since, 1),
                }
                record(&mut self.tally.gap, Duration::ZERO, taken.events - 1);
            }
        }
        if !taken.done {
            return;
        }
        if self.counts {
            self.tally.completed += 1;
            record(&mut self.tally.latency, now - lane.since, 1);
            let (bytes, events) = (lane.answer.body_bytes(), lane.answer.events());
            let tally = &mut self.tally;
            tally.body_bytes = (tally.body_bytes.0.min(bytes), tally.body_bytes.1.max(bytes));
            tally.event_count = (tally.event_count.0.min(events), tally.event_count.1.max(events));
        }
        lane.reused = true;
        if self.plan.once {
            self.leave(index);
        } else if taken.closes {
            self.tally.retried += 1;
            self.open(index, now);
        } else {
            self.begin(index);
        }
    }

    /// The other side closed: between two exchanges that is its right, inside one it is a failure.
    fn closed(&mut self, index: usize) {
        let lane = &self.lanes[index];
        if lane.reused && !lane.answered {
            self.tally.retried += 1;
            self.open(index, Instant::now());
        } else {
            self.close(index, "closed early");
        }
    }

    /// Counts a failure and starts the connection anew (`--once`: gives it up).
    fn close(&mut self, index: usize, what: &str) {
        self.tally.fail(what);
        self.leave(index);
        if !self.plan.once && self.tally.failed <= FAILURES_MAX {
            self.finished -= 1;
            self.open(index, Instant::now());
        }
    }

    fn leave(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        self.connecting -= usize::from(lane.phase == Phase::Connecting);
        lane.stream = None;
        lane.phase = Phase::Finished;
        self.finished += 1;
    }

    fn fail_stalled(&mut self, now: Instant) {
        for index in 0..self.lanes.len() {
            let age = now.saturating_duration_since(self.lanes[index].since);
            match self.lanes[index].phase {
                Phase::Connecting if age > CONNECT_MAX => self.close(index, "connect timeout"),
                Phase::Busy if age > self.plan.stall => self.close(index, "stalled"),
                _ => {}
            }
        }
    }

    /// The watched files as one JSON object; a file that cannot be read is null.
    fn watch(&self) -> String {
        let texts = self.plan.watched.iter().map(|path| {
            let text = std::fs::read_to_string(path).map_or("null".to_owned(), |text| quoted(&text));
            format!("{}:{text}", quoted(path))
        });
        format!("{{{}}}", texts.collect::<Vec<_>>().join(","))
    }
}

impl Tally {
    fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, NANOS_MAX, 3).expect("fixed bounds are in order");
        Self {
            completed: 0,
            events: 0,
            failed: 0,
            failures: BTreeMap::new(),
            retried: 0,
            latency: histogram(),
            ttft: histogram(),
            gap: histogram(),
            body_bytes: (u64::MAX, 0),
            event_count: (u32::MAX, 0),
        }
    }

    fn fail(&mut self, what: &str) {
        self.failed += 1;
        *self.failures.entry(what.to_owned()).or_default() += 1;
    }

    fn line(&self, plan: &Plan, window: Duration, before: &str, after: &str) -> String {
        let failures: Vec<_> =
            self.failures.iter().map(|(what, count)| format!("{}:{count}", quoted(what))).collect();
        let (bytes_min, bytes_max) = if self.completed > 0 { self.body_bytes } else { (0, 0) };
        let (events_min, events_max) = if self.completed > 0 { self.event_count } else { (0, 0) };
        format!(
            "{{\"connections\":{},\"window_s\":{:.6},\"completed\":{},\"events\":{},\"failed\":{},\"failures\":{{{}}},\
             \"retried\":{},\"latency_us\":{},\"ttft_us\":{},\"gap_us\":{},\"body_bytes\":[{bytes_min},{bytes_max}],\
             \"event_count\":[{events_min},{events_max}],\"before\":{},\"after\":{}}}",
            plan.connections,
            window.as_secs_f64(),
            self.completed,
            self.events,
            self.failed,
            failures.join(","),
            self.retried,
            percentiles(&self.latency),
            percentiles(&self.ttft),
            percentiles(&self.gap),
            if before.is_empty() { "{}" } else { before },
            after,
        )
    }
}

fn record(histogram: &mut Histogram<u64>, span: Duration, count: u32) {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(NANOS_MAX);
    // Zero is below the lowest value the histogram tells apart; it lands in its first cell.
    histogram.saturating_record_n(nanos, u64::from(count));
}

fn percentiles(histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return "null".to_owned();
    }
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
    format!(
        "{{\"count\":{},\"p50\":{:.1},\"p90\":{:.1},\"p99\":{:.1},\"p999\":{:.1},\"max\":{:.1}}}",
        histogram.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        histogram.max() as f64 / 1e3
    )
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            control if control < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(control))),
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

impl Plan {
    fn from_arguments() -> Result<Self, String> {
        let mut words = std::env::args().skip(1);
        let is_stream = match words.next().as_deref() {
            Some("json") => false,
            Some("stream") => true,
            _ => return Err("first argument: json or stream".into()),
        };
        let (mut target, mut path, mut body) = (None, "/v1/chat/completions".to_owned(), String::new());
        let mut headers = String::new();
        let mut plan = Self {
            is_stream,
            target: SocketAddr::from(([127, 0, 0, 1], 0)),
            connections: 1,
            warmup: Duration::from_secs(1),
            window: Duration::from_secs(1),
            once: false,
            ramp: Duration::ZERO,
            stall: Duration::from_secs(30),
            request: Vec::new(),
            expected: Expected { events: None, body_bytes: (1, u64::MAX) },
            watched: Vec::new(),
        };
        while let Some(word) = words.next() {
            if word == "--once" {
                plan.once = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            let bad = |_| format!("{word} {value}: not understood");
            let seconds = || value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            match word.as_str() {
                "--target" => target = Some(value.parse().map_err(|_| bad(()))?),
                "--connections" => plan.connections = value.parse().map_err(|_| bad(()))?,
                "--seconds" => plan.window = seconds().ok_or_else(|| bad(()))?,
                "--warmup" => plan.warmup = seconds().ok_or_else(|| bad(()))?,
                "--ramp-ms" => plan.ramp = Duration::from_millis(value.parse().map_err(|_| bad(()))?),
                "--stall-ms" => plan.stall = Duration::from_millis(value.parse().map_err(|_| bad(()))?),
                "--events" => plan.expected.events = Some(value.parse().map_err(|_| bad(()))?),
                "--bytes" => {
                    let (least, most) = value.split_once('-').ok_or_else(|| bad(()))?;
                    plan.expected.body_bytes =
                        (least.parse().map_err(|_| bad(()))?, most.parse().map_err(|_| bad(()))?);
                }
                "--path" => path = value,
                "--body" => body = value,
                "--header" => headers.push_str(&format!("{value}\r\n")),
                "--watch" => plan.watched.push(value),
                _ => return Err(format!("unknown argument {word}")),
            }
        }
        plan.target = target.ok_or("--target is missing")?;
        plan.request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            plan.target,
            body.len()
        )
        .into_bytes();
        Ok(plan)
    }
}

/// A burst of 64 events comes in one read.
const READ_BYTES: usize = 64 * 1024;
const EVENTS_PER_POLL: usize = 1024;
/// Connects in flight; below the shortest common listen queue (511).
const CONNECTING_MAX: usize = 256;
const CONNECT_MAX: Duration = Duration::from_secs(5);
const RAMP_MAX: Duration = Duration::from_secs(30);
const POLL_MAX: Duration = Duration::from_millis(10);
/// While connections are spread over the ramp.
const POLL_MAX_OPENING: Duration = Duration::from_millis(1);
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// More failures than this end the window: nothing more is to be learned.
const FAILURES_MAX: u64 = 1000;
const NANOS_MAX: u64 = 120_000_000_000;
