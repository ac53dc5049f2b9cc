//! The floor: an HTTP/1.1 relay on monoio with two head parses and no features.
//!
//! A gateway's distance from here is what its own code costs, less what it moves in a better way: writes go through
//! the ring here, and straight to the socket in `ringway::net::stream`. One thread, one task per client connection,
//! which owns one kept backend connection; what one read brings is one write. Nothing is rewritten, retried,
//! limited in time or counted.
//! It refuses, by closing, what a floor need not carry: a chunked request body, `Expect`, `Upgrade`, bytes
//! sent ahead of the answer, a head above 16 KiB, and an answer that ends with its connection.
//!
//! `bare-relay --listen 127.0.0.1:8084 --backend 127.0.0.1:9001`; pin it from outside (`taskset -c 1`).
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // a tool's only voice

use std::io;
use std::net::SocketAddr;

use monoio::buf::{IoBufMut as _, SliceMut};
use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use monoio::net::{ListenerOpts, TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc; // the gateway's, so that only the code differs

fn main() {
    let (listen, backend) = arguments().unwrap_or_else(|error| {
        eprintln!("bare-relay: {error}; usage: bare-relay --listen ADDRESS --backend ADDRESS");
        std::process::exit(2);
    });
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .uring_builder(ring)
        .with_entries(RING_ENTRIES)
        .build()
        .unwrap_or_else(|error| {
            eprintln!("bare-relay: no ring (io_uring of Linux 6.1 or newer is needed): {error}");
            std::process::exit(1);
        });
    let error = runtime.block_on(accept(listen, backend));
    eprintln!("bare-relay: {error}");
    std::process::exit(1);
}

/// Accepts for ever; returns only what stops it.
async fn accept(listen: SocketAddr, backend: SocketAddr) -> io::Error {
    let listener = match TcpListener::bind_with_config(listen, &ListenerOpts::new().backlog(BACKLOG)) {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    println!(
        "bare-relay: {listen} -> {backend}, io_uring SINGLE_ISSUER DEFER_TASKRUN, {RING_ENTRIES} entries"
    );
    loop {
        match listener.accept().await {
            // A broken connection is that connection's own affair: both sides close, nobody is told.
            Ok((client, _)) => drop(monoio::spawn(async move {
                let _ = serve(client, backend).await;
            })),
            Err(error) => return error,
        }
    }
}

/// Relays exchanges until either side closes or breaks a rule.
async fn serve(mut client: TcpStream, address: SocketAddr) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut backend = TcpStream::connect_addr(address).await?;
    backend.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let request;
        (request, buffer) = read_head(&mut client, buffer, request_head).await?;
        let Some(request) = request else { return Ok(()) };
        buffer = relay(&mut client, &mut backend, buffer, request).await?;
        loop {
            let answer;
            (answer, buffer) =
                read_head(&mut backend, buffer, |bytes| response_head(bytes, request.is_head)).await?;
            let Some(answer) = answer else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            buffer = relay(&mut backend, &mut client, buffer, answer).await?;
            if !answer.interim {
                if request.close || answer.close {
                    return Ok(());
                }
                break;
            }
        }
    }
}

/// Reads one whole head, and whatever of its body came with it. `None`: the sender closed between messages.
async fn read_head(
    from: &mut TcpStream,
    mut buffer: Vec<u8>,
    parse: impl Fn(&[u8]) -> io::Result<Option<Head>>,
) -> io::Result<(Option<Head>, Vec<u8>)> {
    buffer.clear();
    loop {
        let filled = buffer.len();
        if filled == BUFFER_BYTES {
            return Err(refused("head above the buffer"));
        }
        let (read, slice): (io::Result<usize>, SliceMut<Vec<u8>>) =
            from.read(buffer.slice_mut(filled..BUFFER_BYTES)).await;
        buffer = slice.into_inner();
        match read? {
            0 if filled == 0 => return Ok((None, buffer)),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
        if let Some(head) = parse(&buffer)? {
            return Ok((Some(head), buffer));
        }
    }
}

/// Passes on the head in `buffer` and the body behind it, each read as one write.
async fn relay(
    from: &mut TcpStream,
    to: &mut TcpStream,
    mut buffer: Vec<u8>,
    head: Head,
) -> io::Result<Vec<u8>> {
    let mut body = head.body;
    let mut ended = body.step(&buffer[head.bytes..])?;
    loop {
        let (written, sent) = to.write_all(buffer).await;
        written?;
        buffer = sent;
        if ended {
            return Ok(buffer);
        }
        buffer.clear();
        let (read, filled) = from.read(buffer).await;
        if read? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer = filled;
        ended = body.step(&buffer)?;
    }
}

/// What the relay needs to know of a head.
#[derive(Clone, Copy)]
struct Head {
    /// Length of the head with its empty line.
    bytes: usize,
    body: Body,
    close: bool,
    is_head: bool,
    interim: bool,
}

fn request_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(length) = request.parse(bytes).map_err(|_| refused("request head"))?
    else {
        return Ok(None);
    };
    let framing = Framing::of(request.headers)?;
    if framing.chunked || framing.refused {
        return Err(refused("chunked request body, Expect or Upgrade"));
    }
    Ok(Some(Head {
        bytes: length,
        body: Body::Sized(framing.length.unwrap_or(0)),
        close: framing.close || (request.version == Some(0) && !framing.keep_alive),
        is_head: request.method == Some("HEAD"),
        interim: false,
    }))
}

fn response_head(bytes: &[u8], to_head: bool) -> io::Result<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = response.parse(bytes).map_err(|_| refused("response head"))?
    else {
        return Ok(None);
    };
    let framing = Framing::of(response.headers)?;
    let status = response.code.unwrap_or(0);
    let interim = (100..200).contains(&status);
    // RFC 9112 section 6.3: these never carry a body, whatever the fields say.
    let body = if interim || status == 204 || status == 304 || to_head {
        Body::Sized(0)
    } else if framing.chunked {
        Body::Chunked(Chunk::Size { size: 0, digits: 0 })
    } else {
        Body::Sized(framing.length.ok_or_else(|| refused("an answer that ends with its connection"))?)
    };
    if status == 101 || interim && length != bytes.len() {
        return Err(refused("upgrade, or an interim answer joined to the next"));
    }
    let close = framing.close || (response.version == Some(0) && !framing.keep_alive);
    Ok(Some(Head { bytes: length, body, close, is_head: false, interim }))
}

/// The fields that decide where a message ends and whether its connection stays.
#[derive(Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    refused: bool,
}

impl Framing {
    fn of(fields: &[httparse::Header<'_>]) -> io::Result<Self> {
        let mut framing = Self::default();
        for field in fields {
            // Lengths first: of a dozen fields one or two are compared as text.
            match field.name.len() {
                14 if field.name.eq_ignore_ascii_case("content-length") => {
                    let length = decimal(field.value).ok_or_else(|| refused("content-length"))?;
                    if framing.length.replace(length).is_some_and(|earlier| earlier != length) {
                        return Err(refused("two lengths"));
                    }
                }
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    if framing.chunked || !field.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                        return Err(refused("transfer-encoding"));
                    }
                    framing.chunked = true;
                }
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    for option in field.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                        framing.close |= option.eq_ignore_ascii_case(b"close");
                        framing.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                6 if field.name.eq_ignore_ascii_case("expect") => framing.refused = true,
                7 if field.name.eq_ignore_ascii_case("upgrade") => framing.refused = true,
                _ => {}
            }
        }
        if framing.chunked && framing.length.is_some() {
            return Err(refused("both framings"));
        }
        Ok(framing)
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter()
        .try_fold(0, |value: u64, byte| byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0')))
}

/// What is still to come of a body.
#[derive(Clone, Copy)]
enum Body {
    Sized(u64),
    Chunked(Chunk),
}

impl Body {
    /// Takes the next bytes as they came; true once the body has ended. Bytes behind the end are an error:
    /// nobody may send ahead here.
    fn step(&mut self, bytes: &[u8]) -> io::Result<bool> {
        match self {
            Self::Sized(left) => {
                *left =
                    left.checked_sub(bytes.len() as u64).ok_or_else(|| refused("bytes behind the body"))?;
                Ok(*left == 0)
            }
            Self::Chunked(chunk) => chunk.step(bytes),
        }
    }
}

/// Where in the chunked coding (RFC 9112 section 7.1) the next byte stands.
#[derive(Clone, Copy)]
enum Chunk {
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At a trailer line; `empty` until it holds a byte.
    Trailer {
        empty: bool,
    },
    TrailerLf {
        empty: bool,
    },
    End,
}

impl Chunk {
    fn step(&mut self, mut bytes: &[u8]) -> io::Result<bool> {
        while let Some((&byte, rest)) = bytes.split_first() {
            *self = match (*self, byte) {
                (Self::Data { left }, _) => {
                    let skipped = left.min(bytes.len() as u64);
                    bytes = &bytes[skipped as usize..];
                    *self = if skipped == left { Self::DataCr } else { Self::Data { left: left - skipped } };
                    continue;
                }
                (Self::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 15 => {
                    let digit = char::from(byte).to_digit(16).unwrap_or(0);
                    Self::Size { size: size * 16 + u64::from(digit), digits: digits + 1 }
                }
                (Self::Size { size, digits: 1.. }, b'\r') => Self::SizeLf { size },
                (Self::Size { size, digits: 1.. }, b';') => Self::Extension { size },
                (Self::Extension { size }, b'\r') => Self::SizeLf { size },
                (Self::Extension { size }, _) => Self::Extension { size },
                (Self::SizeLf { size: 0 }, b'\n') => Self::Trailer { empty: true },
                (Self::SizeLf { size }, b'\n') => Self::Data { left: size },
                (Self::DataCr, b'\r') => Self::DataLf,
                (Self::DataLf, b'\n') => Self::Size { size: 0, digits: 0 },
                (Self::Trailer { empty }, b'\r') => Self::TrailerLf { empty },
                (Self::Trailer { .. }, _) => Self::Trailer { empty: false },
                (Self::TrailerLf { empty: true }, b'\n') => Self::End,
                (Self::TrailerLf { empty: false }, b'\n') => Self::Trailer { empty: true },
                _ => return Err(refused("chunked coding")),
            };
            bytes = rest;
        }
        Ok(matches!(self, Self::End))
    }
}

fn refused(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn arguments() -> Result<(SocketAddr, SocketAddr), String> {
    let (mut listen, mut backend) = (None, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let address = value.parse().map_err(|_| format!("{value} is not an address"))?;
        match word.as_str() {
            "--listen" => listen = Some(address),
            "--backend" => backend = Some(address),
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    Ok((listen.ok_or("--listen is missing")?, backend.ok_or("--backend is missing")?))
}

/// One read from either side; a burst of 64 events of 210 bytes fits.
const BUFFER_BYTES: usize = 16 * 1024;
const RING_ENTRIES: u32 = 4096;
const BACKLOG: i32 = 4096;
const FIELDS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked() -> Body {
        Body::Chunked(Chunk::Size { size: 0, digits: 0 })
    }

    const COIN: &[u8] = b"4;x=1\r\nWiki\r\n5\r\npedia\r\n0\r\nTrailer: 1\r\n\r\n";

    #[test]
    fn chunked_body_ends_at_its_last_byte_whatever_the_split() {
        for split in 0..COIN.len() {
            let mut body = chunked();
            assert!(!body.step(&COIN[..split]).unwrap(), "ended early at {split}");
            assert!(body.step(&COIN[split..]).unwrap(), "no end after a split at {split}");
        }
    }

    #[test]
    fn bytes_behind_a_body_are_refused() {
        assert!(chunked().step(b"0\r\n\r\nX").is_err());
        assert!(Body::Sized(2).step(b"abc").is_err());
    }

    #[test]
    fn broken_chunks_are_refused() {
        for bad in [&b"\r\n"[..], b"g\r\n", b"1\r\nab", b"1\n", b"1\r\na\n", b"1111111111111111\r\n"] {
            assert!(chunked().step(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn split_head_waits_for_the_rest() {
        let head = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n";
        for split in 0..head.len() {
            assert!(request_head(&head[..split]).unwrap().is_none());
        }
        assert_eq!(request_head(head).unwrap().unwrap().bytes, head.len());
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length: +1\r\n",
            "Expect: 100-continue\r\n",
        ] {
            assert!(request_head(format!("POST / HTTP/1.1\r\n{fields}\r\n").as_bytes()).is_err(), "{fields}");
        }
        let both = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(response_head(both, false).is_err());
    }
}
