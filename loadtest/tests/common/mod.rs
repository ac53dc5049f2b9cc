//! What the tests on real sockets share: a blocking client that reads bytes as they are.
#![allow(dead_code)] // each test file uses its part

use loadtest::address::Address;
use loadtest::gpusim;
use loadtest::http::{Chunked, Framing, Head};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A simulator that is fast enough for tests.
pub(crate) fn options() -> gpusim::Options {
    gpusim::Options {
        step_ms: 1.0,
        stream_step_us: 1.0,
        output_tokens: 8.0,
        output_spread: 0.0,
        ..Default::default()
    }
}

pub(crate) fn start(options: gpusim::Options) -> gpusim::Running {
    gpusim::start(&any_port(), options).unwrap()
}

pub(crate) fn any_port() -> Address {
    Address::Tcp(([127, 0, 0, 1], 0).into())
}

/// An answer as bytes.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) head: String,
    /// The body without its framing.
    pub(crate) body: String,
    /// Whether the body ended by its framing.
    pub(crate) whole: bool,
    /// Whether the connection was reset.
    pub(crate) reset: bool,
    /// How many chunks or reads the wire shows is not looked at; this is the body with its framing.
    pub(crate) wire: Vec<u8>,
}

impl Raw {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Payloads of the `data:` lines.
    pub(crate) fn data(&self) -> Vec<&str> {
        self.body.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect()
    }

    /// Values of the `event:` lines.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.body.lines().filter_map(|line| line.strip_prefix("event:")).map(str::trim).collect()
    }

    /// Payloads that are JSON.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let payloads = self.data().into_iter().filter(|data| *data != "[DONE]");
        payloads.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    /// All generated text of a chat stream.
    pub(crate) fn text(&self) -> String {
        let deltas = self.chunks();
        deltas.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
    }
}

pub(crate) fn connect(address: &Address) -> TcpStream {
    let Address::Tcp(address) = address else { panic!("not TCP") };
    let socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    // Only a test that fails waits this long.
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

pub(crate) fn send(socket: &mut TcpStream, method: &str, path: &str, fields: &str, body: &str) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: t\r\n{fields}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).unwrap();
}

/// Reads one answer to its end, or to the end of the connection.
pub(crate) fn receive(socket: &mut TcpStream) -> Raw {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let (mut ended, mut reset) = (false, false);
    loop {
        if let Some(raw) = parse(&bytes, ended, reset) {
            return raw;
        }
        match socket.read(&mut buffer) {
            Ok(0) => ended = true,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                (ended, reset) = (true, true)
            }
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
}

fn parse(bytes: &[u8], ended: bool, reset: bool) -> Option<Raw> {
    let Some(head) = Head::find(bytes).unwrap() else {
        assert!(!ended || reset, "closed before a head");
        return ended.then(|| Raw {
            status: 0,
            head: String::new(),
            body: String::new(),
            whole: false,
            reset,
            wire: Vec::new(),
        });
    };
    let rest = &bytes[head.size..];
    let mut body = Vec::new();
    let whole = match head.framing().unwrap() {
        Framing::Length(length) => {
            body.extend_from_slice(&rest[..rest.len().min(length as usize)]);
            rest.len() >= length as usize
        }
        Framing::Chunked => {
            let mut chunked = Chunked::default();
            chunked.take(rest, |data| body.extend_from_slice(data)).unwrap();
            chunked.is_done()
        }
        Framing::Absent => ended,
    };
    (whole || ended).then(|| Raw {
        status: head.status().unwrap(),
        head: String::from_utf8(bytes[..head.size].to_vec()).unwrap(),
        body: String::from_utf8(body).unwrap(),
        whole,
        reset,
        wire: rest.to_vec(),
    })
}

pub(crate) fn post(address: &Address, path: &str, body: &str) -> Raw {
    post_with(address, path, "", body)
}

pub(crate) fn post_with(address: &Address, path: &str, fields: &str, body: &str) -> Raw {
    let mut socket = connect(address);
    send(&mut socket, "POST", path, fields, body);
    receive(&mut socket)
}

pub(crate) fn get(address: &Address, path: &str) -> Raw {
    let mut socket = connect(address);
    send(&mut socket, "GET", path, "", "");
    receive(&mut socket)
}

pub(crate) fn state(address: &Address) -> Value {
    get(address, "/sim/state").json()
}

/// Asks for the state until it is as wanted; a wrong state fails after the deadline only.
pub(crate) fn until_state(address: &Address, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let state = state(address);
        if wanted(&state) {
            return state;
        }
        assert!(std::time::Instant::now() < deadline, "still {state}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
