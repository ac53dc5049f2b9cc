//! A proxy that opens tunnels by script.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What it responds to CONNECT. True: a tunnel to the backend follows.
type Script = dyn Fn(&mut TcpStream) -> bool + Send + Sync;

/// A proxy whose tunnels all lead to one loopback port, whatever was asked for. It ends with the process.
pub(super) struct Relay {
    /// Where it listens.
    pub(super) port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    open: Arc<AtomicUsize>,
}

impl Relay {
    /// One that opens every tunnel.
    pub(super) fn start(to: u16) -> Self {
        Self::scripted(to, |stream| says(stream, "HTTP/1.1 200 Connection established\r\n\r\n"))
    }

    /// One that says this in place of a tunnel, and closes.
    pub(super) fn saying(bytes: &'static [u8]) -> Self {
        Self::scripted(0, move |stream| {
            let _ = stream.write_all(bytes);
            false
        })
    }

    pub(super) fn scripted(to: u16, script: impl Fn(&mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"), to, script)
    }

    /// The same on a listener of one's own.
    pub(super) fn on(
        listener: TcpListener,
        to: u16,
        script: impl Fn(&mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let port = listener.local_addr().expect("an address").port();
        let (heads, open) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (told, counted, script) = (Arc::clone(&heads), Arc::clone(&open), Arc::new(script));
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (told, counted, script) = (Arc::clone(&told), Arc::clone(&counted), Arc::clone(&script));
                std::thread::spawn(move || serve(stream, to, &told, &counted, &*script));
            }
        });
        Self { port, heads, open }
    }

    /// The head of every request so far.
    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("not poisoned").clone()
    }

    /// Tunnels that are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

/// Says something and goes on.
pub(super) fn says(stream: &mut TcpStream, text: &str) -> bool {
    stream.write_all(text.as_bytes()).is_ok()
}

fn serve(mut near: TcpStream, to: u16, heads: &Mutex<Vec<String>>, open: &AtomicUsize, script: &Script) {
    let _ = near.set_nodelay(true);
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match near.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    heads.lock().expect("not poisoned").push(String::from_utf8_lossy(&head).into_owned());
    if !script(&mut near) {
        return;
    }
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else { return };
    let _ = far.set_nodelay(true);
    open.fetch_add(1, Ordering::SeqCst);
    let (from, into) = (near.try_clone().expect("a socket"), far.try_clone().expect("a socket"));
    let there = std::thread::spawn(move || pipe(from, into));
    pipe(far, near);
    let _ = there.join();
    open.fetch_sub(1, Ordering::SeqCst);
}

fn pipe(mut from: TcpStream, mut into: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if into.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = into.shutdown(Shutdown::Both);
}
