//! A backend for large bodies: it reads in bulk, keeps what came, and may stop reading or answering for a while.
#![allow(unreachable_pub)] // like the harness

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::eventually;
use support::origin::completion;

/// What it does with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// Reads the head, and nothing of the body until it is released.
    Deaf,
    /// Reads all of it, and does not answer until it is released.
    Mute,
    /// Reads all of it and says that it is busy.
    Busy,
    /// Says so after the head, and reads no more.
    BusyEarly,
    /// Answers.
    Prompt,
}

/// The backend.
pub struct Sink {
    /// Where it listens.
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    manner: Manner,
    heads: AtomicUsize,
    whole: AtomicUsize,
    released: AtomicBool,
    bodies: Mutex<Vec<Vec<u8>>>,
    keeps: AtomicBool,
}

impl Sink {
    /// Starts one.
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            manner,
            heads: AtomicUsize::new(0),
            whole: AtomicUsize::new(0),
            released: AtomicBool::new(false),
            bodies: Mutex::default(),
            keeps: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let own = Arc::clone(&own);
                std::thread::spawn(move || own.serve(stream));
            }
        });
        Self { port, shared }
    }

    /// Keeps bodies from now on.
    pub fn keeping(self) -> Self {
        self.shared.keeps.store(true, Ordering::SeqCst);
        self
    }

    /// Heads of requests so far.
    pub fn heads(&self) -> usize {
        self.shared.heads.load(Ordering::SeqCst)
    }

    /// Whole requests so far.
    pub fn whole(&self) -> usize {
        self.shared.whole.load(Ordering::SeqCst)
    }

    /// Whole bodies so far.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.shared.bodies.lock().expect("not poisoned").clone()
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.shared.released.store(true, Ordering::SeqCst);
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.release();
    }
}

impl Shared {
    fn wait(&self) {
        eventually(Duration::from_secs(120), || self.released.load(Ordering::SeqCst));
    }

    fn serve(&self, mut stream: TcpStream) {
        while self.one(&mut stream).is_some() {}
    }

    /// One request; `None` when the connection is over.
    fn one(&self, stream: &mut TcpStream) -> Option<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).ok()?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        let length: usize = length.trim().parse().ok()?;
        self.heads.fetch_add(1, Ordering::SeqCst);
        match self.manner {
            Manner::Deaf => self.wait(),
            Manner::BusyEarly => {
                self.busy(stream, "Connection: close\r\n")?;
                self.wait();
                return None;
            }
            _ => {}
        }
        self.read(stream, length)?;
        self.whole.fetch_add(1, Ordering::SeqCst);
        match self.manner {
            Manner::Mute => self.wait(),
            Manner::Busy => return self.busy(stream, ""),
            _ => {}
        }
        let body = completion("taken");
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length";
        stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).ok()
    }

    fn busy(&self, stream: &mut TcpStream, more: &str) -> Option<()> {
        let head = format!("HTTP/1.1 503 Service Unavailable\r\n{more}Content-Length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).ok()
    }

    fn read(&self, stream: &mut TcpStream, length: usize) -> Option<()> {
        let mut kept = Vec::new();
        let mut part = vec![0; 256 << 10];
        let mut left = length;
        while left > 0 {
            let most = left.min(part.len());
            let count = stream.read(&mut part[..most]).ok().filter(|count| *count > 0)?;
            left -= count;
            if self.keeps.load(Ordering::SeqCst) {
                kept.extend_from_slice(&part[..count]);
            }
        }
        if self.keeps.load(Ordering::SeqCst) {
            self.bodies.lock().expect("not poisoned").push(kept);
        }
        Some(())
    }
}
