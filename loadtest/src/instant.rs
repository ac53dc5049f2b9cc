//! The instant server: prebuilt answers from an event loop of its own, so that a proxy is what is measured.
//!
//! One thread is one loop: epoll through `mio`, a minimal reader of requests, a timer wheel for paced streams.
//! Nothing is allocated or formatted per answer; an answer is a shared run of bytes and a place in it.

mod answers;
mod conversation;
mod wheel;

use crate::address::Address;
use crate::listen::{Listener, listen};
use answers::Answers;
use conversation::{Conversation, Counts, Need, Socket};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wheel::{Due, Wheel};

/// What the instant server answers when a request does not say.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Content events in a stream (header `x-sim-events` wins).
    #[arg(long, default_value_t = 64)]
    pub events: u32,
    /// Time between them in ms, 0 for all at once (header `x-sim-pace-ms` wins).
    #[arg(long, default_value_t = 0)]
    pub pace_ms: u32,
    /// Threads, each with its own loop; the kernel spreads the connections.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { events: 64, pace_ms: 0, threads: 1 }
    }
}

/// Running loops; dropping it stops them and closes their connections.
#[derive(Debug)]
pub struct Running {
    /// Where they listen, with the port the kernel chose.
    pub address: Address,
    stop: Arc<AtomicBool>,
    wakers: Vec<Waker>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// The base URL of loops that listen on TCP.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for waker in &self.wakers {
            // A loop that is gone needs no waking.
            let _ = waker.wake();
        }
        for thread in self.threads.drain(..) {
            // A panic of that thread has printed itself.
            let _ = thread.join();
        }
    }
}

/// Starts the loops; they answer as soon as this returns.
///
/// # Errors
/// The address cannot be listened on.
pub fn start(address: &Address, model: &str, options: &Options) -> io::Result<Running> {
    let threads = options.threads.max(1);
    let (first, address) = listen(address, threads > 1)?;
    let mut listeners = vec![first];
    while listeners.len() < threads {
        let next = match &listeners[0] {
            Listener::Tcp(_) => listen(&address, true)?.0,
            Listener::Unix(listener) => Listener::Unix(listener.try_clone()?),
        };
        listeners.push(next);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let counts: Arc<[Counts]> = (0..threads).map(|_| Counts::default()).collect();
    let mut running = Running { address, stop: stop.clone(), wakers: Vec::new(), threads: Vec::new() };
    for (thread, listener) in listeners.into_iter().enumerate() {
        let poll = Poll::new()?;
        running.wakers.push(Waker::new(poll.registry(), WAKER)?);
        let (model, options, counts, stop) =
            (model.to_owned(), options.clone(), counts.clone(), stop.clone());
        let (ready, is_ready) = mpsc::channel();
        let name = format!("instant-{thread}");
        running.threads.push(std::thread::Builder::new().name(name).spawn(move || {
            // Answers are shared within one thread only, so they are made in it.
            let answers = Answers::new(&model, options.events, options.pace_ms, counts, thread);
            match Loop::new(poll, listener, answers, stop) {
                Ok(mut server) => {
                    // The starter waits for this, so it is there.
                    let _ = ready.send(Ok(()));
                    server.run();
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })?);
        is_ready.recv().map_err(io::Error::other)??;
    }
    Ok(running)
}

/// One thread's loop.
struct Loop {
    poll: Poll,
    listener: Acceptor,
    timer: OwnedFd,
    start: Instant,
    wheel: Wheel,
    /// By token; a free place is `None` and in `free`.
    conversations: Vec<Option<Conversation>>,
    free: Vec<usize>,
    answers: Answers,
    stop: Arc<AtomicBool>,
    /// The last accept failed for want of descriptors; tried again when one is free.
    starved: bool,
}

enum Acceptor {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

impl Loop {
    fn new(poll: Poll, listener: Listener, answers: Answers, stop: Arc<AtomicBool>) -> io::Result<Self> {
        let registry = poll.registry();
        let listener = match listener {
            Listener::Tcp(listener) => {
                let mut listener = mio::net::TcpListener::from_std(listener);
                registry.register(&mut listener, LISTENER, Interest::READABLE)?;
                Acceptor::Tcp(listener)
            }
            Listener::Unix(listener) => {
                let mut listener = mio::net::UnixListener::from_std(listener);
                registry.register(&mut listener, LISTENER, Interest::READABLE)?;
                Acceptor::Unix(listener)
            }
        };
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            timer,
            start: Instant::now(),
            wheel: Wheel::default(),
            conversations: Vec::new(),
            free: Vec::new(),
            answers,
            stop,
            starved: false,
        })
    }

    fn run(&mut self) {
        let mut events = Events::with_capacity(1024);
        while !self.stop.load(Ordering::Relaxed) {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
                Ok(()) => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER | TIMER => {}
                    Token(index) => self.step(index, event.is_readable() || event.is_read_closed()),
                }
            }
            self.pace();
        }
    }

    fn accept(&mut self) {
        self.starved = false;
        loop {
            let accepted = match &self.listener {
                Acceptor::Tcp(listener) => listener.accept().map(|(socket, _)| {
                    // Refused only on a socket that is already dead.
                    let _ = socket.set_nodelay(true);
                    Socket::Tcp(socket)
                }),
                Acceptor::Unix(listener) => listener.accept().map(|(socket, _)| Socket::Unix(socket)),
            };
            let mut socket = match accepted {
                Ok(socket) => socket,
                Err(error) => {
                    self.starved = error.kind() != io::ErrorKind::WouldBlock;
                    return;
                }
            };
            let index = self.free.pop().unwrap_or_else(|| {
                self.conversations.push(None);
                self.conversations.len() - 1
            });
            let interest = Interest::READABLE | Interest::WRITABLE;
            if socket.register(self.poll.registry(), Token(index), interest).is_err() {
                self.free.push(index);
                continue;
            }
            self.conversations[index] = Some(Conversation::new(socket));
        }
    }

    /// Reads if there is something, answers what can be answered, and closes or sets a timer as needed.
    fn step(&mut self, index: usize, readable: bool) {
        let Some(Some(conversation)) = self.conversations.get_mut(index) else {
            return;
        };
        match conversation.step(readable, &mut self.answers) {
            Need::Nothing => {}
            Need::Pacing(pace) => {
                let now = now(self.start);
                if self.wheel.is_empty() {
                    self.wheel.skip_to(now);
                }
                let due = now + u64::from(pace) * TICKS_PER_MS;
                self.wheel.add(Due { at: due, index });
                conversation.timers += 1;
                self.arm();
            }
            Need::Close => self.close(index),
        }
    }

    fn close(&mut self, index: usize) {
        if let Some(conversation) = self.conversations[index].as_mut()
            && conversation.timers > 0
        {
            // Its timer is still in the wheel and would find the next conversation here: wait for it.
            conversation.shut();
            return;
        }
        self.conversations[index] = None;
        self.free.push(index);
        if self.starved {
            self.accept();
        }
    }

    /// Sends what is due on paced streams.
    fn pace(&mut self) {
        if self.wheel.is_empty() {
            return;
        }
        let now = now(self.start);
        let mut fired = false;
        while let Some(due) = self.wheel.next_due(now) {
            fired = true;
            let Some(conversation) = self.conversations[due.index].as_mut() else {
                continue;
            };
            match conversation.tick(&mut self.answers) {
                Need::Nothing => {}
                Need::Pacing(pace) => {
                    // From when it was due, so that lateness does not add up.
                    self.wheel.add(Due { at: due.at + u64::from(pace) * TICKS_PER_MS, ..due });
                    conversation.timers += 1;
                }
                Need::Close => self.close(due.index),
            }
        }
        if fired {
            self.arm();
        }
    }

    /// Sets the timer to the wheel's next tick.
    fn arm(&mut self) {
        let Some(at) = self.wheel.next_tick() else { return };
        if self.wheel.armed == Some(at) {
            return;
        }
        self.wheel.armed = Some(at);
        let at = TICK * u32::try_from(at.saturating_sub(now(self.start))).unwrap_or(u32::MAX);
        let wait = at.max(Duration::from_nanos(1));
        let value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // Refused only for times that are out of range, which this one is not.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
    }
}

/// Ticks since `start`.
fn now(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX)
}

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const TIMER: Token = Token(usize::MAX - 2);
/// The wheel's grain. A poll timeout has whole milliseconds only, too coarse beside the delay a proxy adds.
const TICK: Duration = Duration::from_micros(100);
const TICKS_PER_MS: u64 = 10;
